"""Images of a batch, equal to upstream's: the whole grid, one-hot, and pictures to the pixel.

Upstream draws a cell as grid lines, the object, the agent's triangle, the highlight of what the agent sees, at three
times the size, and averages down. The atlas has a tile, drawn by upstream's code, for every look of a cell, the agent's
four directions or none, and highlight or none; a picture is then copied together from it.
"""

# mypy: disable-error-code="untyped-decorator"

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import warp as wp
from torch import Tensor

from . import layout as L
from .arrays import Arrays
from .launches import Programs, Run
from .state import load_cell

KINDS = ("full", "onehot", "rgb", "rgb_full")
ONE_HOT = (11, 6, 3)  # upstream's number of types, colours and states

_LOOKS = 512  # type, colour and state of a cell: its low nine bits
_NOBODY = 4  # in the place of the agent's direction


@cache
def _drawn(tile: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The tiles ``[K * 5 * 2, tile * tile * 3]``, and for each look of a cell its k."""
    from minigrid.core.world_object import WorldObj
    from minigrid.utils import rendering as up

    lines = np.zeros((3 * tile, 3 * tile, 3), np.uint8)
    # Grid.render_tile's own drawing, taken apart: the agent and the highlight are laid over each object at once.
    up.fill_coords(lines, up.point_in_rect(0, 0.031, 0, 1), (100, 100, 100))
    up.fill_coords(lines, up.point_in_rect(0, 1, 0, 0.031), (100, 100, 100))
    triangle = up.point_in_triangle((0.12, 0.19), (0.87, 0.50), (0.12, 0.81))
    agents = []
    for direction in range(4):
        turned = up.rotate_fn(triangle, cx=0.5, cy=0.5, theta=0.5 * math.pi * direction)
        agents.append(up.fill_coords(np.zeros((3 * tile, 3 * tile), np.uint8), turned, 1).astype(bool))
    looks = sorted({int(cell) & (_LOOKS - 1) for cell in L.every_cell()})
    place = np.zeros(_LOOKS, np.int32)
    tiles = np.zeros((len(looks), 5, 2, tile, tile, 3), np.uint8)
    for k, look in enumerate(looks):
        place[look] = k
        base = lines.copy()
        obj: Any = WorldObj.decode(*L.unpack(look))
        if obj is not None:
            obj.render(base)
        for agent in range(5):
            for highlight in range(2):
                image = base.copy()
                if agent != _NOBODY:
                    image[agents[agent]] = (255, 0, 0)
                if highlight:
                    up.highlight_img(image)
                tiles[k, agent, highlight] = up.downsample(image, 3)
    return tiles.reshape(-1, tile * tile * 3), place


@wp.struct
class Seen:
    """What is shown: states, and their partial images."""

    cells: wp.array2d[wp.int16]
    position: wp.array2d[wp.int64]
    direction: wp.array[wp.int64]
    image: wp.array4d[wp.uint8]
    mask: wp.array[wp.bool]  # the lanes that are wanted
    width: wp.int32
    height: wp.int32


@wp.struct
class Atlas:
    """The tiles."""

    place: wp.array[wp.int32]  # by look
    tiles: wp.array2d[wp.uint8]  # [K * 5 * 2, tile * tile * 3]
    tile: wp.int32
    highlight: wp.int32


@wp.func_native(
    """
    const int line = 3 * tile;
    const unsigned char* from = tiles.data + (long long)number * tiles.strides[0];
    unsigned char* to = out.data + (long long)lane * out.strides[0] + (long long)(row * tile * columns + column) * line;
    for (int k = 0; k < tile; ++k, from += line, to += columns * line)
        memcpy(to, from, line);
    """
)
def copy_tile(
    out: wp.array4d[wp.uint8],
    lane: wp.int32,
    row: wp.int32,
    column: wp.int32,
    columns: wp.int32,
    tiles: wp.array2d[wp.uint8],
    number: wp.int32,
    tile: wp.int32,
) -> None:
    """Put a tile at (row, column) of a lane's picture, which is ``columns`` tiles wide."""
    ...


def show_full(s: Seen, a: Atlas, out: wp.array4d[wp.uint8]) -> None:
    """The whole grid with the agent in it."""
    i, k = wp.tid()  # type: ignore[misc]
    if s.mask[i]:
        x = k % s.width
        y = k // s.width
        cell = wp.int32(load_cell(s.cells, i, k))
        if s.position[i, 0] == wp.int64(x) and s.position[i, 1] == wp.int64(y):
            cell = wp.static(L.AGENT) | (wp.int32(s.direction[i]) << 7)  # a red agent; its state is its direction
        out[i, x, y, 0] = wp.uint8(cell & 15)
        out[i, x, y, 1] = wp.uint8((cell >> 4) & 7)
        out[i, x, y, 2] = wp.uint8((cell >> 7) & 3)


def show_one_hot(s: Seen, a: Atlas, out: wp.array4d[wp.uint8]) -> None:
    """The partial image, one-hot."""
    i, k = wp.tid()  # type: ignore[misc]
    if s.mask[i]:
        view = s.image.shape[1]
        x = k // view
        y = k % view
        first = wp.int32(0)
        for part in range(3):
            size = wp.static(ONE_HOT[0])
            if part == 1:
                size = wp.static(ONE_HOT[1])
            elif part == 2:
                size = wp.static(ONE_HOT[2])
            value = wp.int32(s.image[i, x, y, part])
            for n in range(size):
                out[i, x, y, first + n] = wp.uint8(wp.where(n == value, 1, 0))
            first = first + size


def show_rgb(s: Seen, a: Atlas, out: wp.array4d[wp.uint8]) -> None:
    """What the agent sees, in pixels."""
    i, k = wp.tid()  # type: ignore[misc]
    if s.mask[i]:
        view = s.image.shape[1]
        x = k % view
        y = k // view
        kind = wp.int32(s.image[i, x, y, 0])
        look = wp.static(L.EMPTY_CELL)
        lit = wp.int32(0)
        if kind != 0:
            look = kind | (wp.int32(s.image[i, x, y, 1]) << 4) | (wp.int32(s.image[i, x, y, 2]) << 7)
            lit = 1
        agent = wp.static(_NOBODY)
        if y == view - 1 and x == view // 2:
            agent = 3  # it looks up
        copy_tile(out, i, y, x, view, a.tiles, (a.place[look] * 5 + agent) * 2 + lit, a.tile)


def show_rgb_full(s: Seen, a: Atlas, out: wp.array4d[wp.uint8]) -> None:
    """The whole level in pixels, with what the agent sees highlighted where the atlas says so."""
    i, k = wp.tid()  # type: ignore[misc]
    if s.mask[i]:
        x = k % s.width
        y = k // s.width
        direction = wp.int32(s.direction[i])
        dx = x - wp.int32(s.position[i, 0])
        dy = y - wp.int32(s.position[i, 1])
        agent = wp.static(_NOBODY)
        if dx == 0 and dy == 0:
            agent = direction
        lit = wp.int32(0)
        if a.highlight != 0:
            fx = (1 - direction) * ((direction + 1) & 1)
            fy = (2 - direction) * (direction & 1)
            view = s.image.shape[1]
            across = view // 2 + dy * fx - dx * fy
            far = view - 1 - dx * fx - dy * fy
            if across >= 0 and across < view and far >= 0 and far < view:
                if s.image[i, across, far, 0] != wp.uint8(0):
                    lit = 1
        look = wp.int32(load_cell(s.cells, i, k)) & wp.static(_LOOKS - 1)
        copy_tile(out, i, y, x, s.width, a.tiles, (a.place[look] * 5 + agent) * 2 + lit, a.tile)


@cache
def _kernel(kind: str) -> Any:
    shows = {"full": show_full, "onehot": show_one_hot, "rgb": show_rgb, "rgb_full": show_rgb_full}
    options = {"enable_backward": False}
    return wp.kernel(shows[kind], name=f"grid_show_{kind}", module="unique", module_options=options)


def image_shape(arrays: Arrays, kind: str, tile: int) -> tuple[int, int, int]:
    """The shape of one lane's image of a kind, in a batch with this memory.

    Raises:
        ValueError: If the kind or the tile is none.
    """
    if kind not in KINDS:
        raise ValueError(f"observation={kind!r}: it is one of {', '.join(KINDS)}")
    if isinstance(tile, bool) or not isinstance(tile, int) or not 1 <= tile <= 256:
        raise ValueError(f"a tile has from 1 to 256 pixels a side, got {tile!r}")
    return {
        "full": (arrays.width, arrays.height, 3),
        "onehot": (arrays.view, arrays.view, sum(ONE_HOT)),
        "rgb": (arrays.view * tile, arrays.view * tile, 3),
        "rgb_full": (arrays.height * tile, arrays.width * tile, 3),
    }[kind]


class Images:
    """Images of one kind of a batch's lanes: memory, and what fills it.

    Attributes:
        out: uint8 ``[N, ...]``; rows that were not asked for are left as they were.

    Args:
        arrays: The batch's memory.
        programs: What it runs.
        kind: One of ``KINDS``.
        mask: bool ``[N]``: whose images are wanted, read at every run.
        last: Of the last states of ended episodes.
        tile: Pixels of a cell's side.
        highlight: Whether a picture of the whole level shows what the agent sees.
    """

    def __init__(
        self,
        arrays: Arrays,
        programs: Programs,
        kind: str,
        mask: Tensor,
        *,
        last: bool,
        tile: int = 8,
        highlight: bool = True,
    ) -> None:
        shape, device = image_shape(arrays, kind, tile), mask.device
        obs, facts = (arrays.final_obs, arrays.final_facts) if last else (arrays.obs, arrays.facts)
        self.out = torch.zeros(len(mask), *shape, dtype=torch.uint8, device=device)
        self._mask = mask
        atlas = Atlas()
        atlas.tile, atlas.highlight = tile, int(highlight)
        if kind.startswith("rgb"):
            tiles, place = _drawn(tile)
            self._atlas = torch.from_numpy(tiles).to(device), torch.from_numpy(place).to(device)
            atlas.tiles, atlas.place = wp.from_torch(self._atlas[0]), wp.from_torch(self._atlas[1])
        cells = arrays.view**2 if kind in ("onehot", "rgb") else arrays.width * arrays.height
        chunks = []
        for part in programs.chunks:
            seen = Seen()
            seen.width, seen.height = arrays.width, arrays.height
            for name, tensor in {**facts, "image": obs["image"], "mask": mask}.items():
                if name in ("cells", "position", "direction", "image", "mask"):
                    setattr(seen, name, wp.from_torch(tensor[part]))
            lanes = part.stop - part.start
            out = wp.from_torch(self.out[part])
            chunks.append([programs.record(_kernel(kind), (lanes, cells), seen, atlas, out)])
        self._run: Run = programs.program(chunks)

    def __call__(self) -> Tensor:
        """Fill the wanted rows of ``out`` and return it."""
        self._run()
        return self.out
