"""Pictures of a batch, equal to upstream's to the pixel: gathered from an atlas of tiles that upstream's code draws.

Upstream draws a cell as grid lines, the object, the agent's triangle, the highlight of what the agent sees, at three
times the size, and averages down. The atlas has a tile for every look of a cell, the agent's four directions or none,
and highlight or none; a picture is then a gather.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import layout as L

_LOOKS = 512  # type, colour and state of a cell: its low nine bits
_NOBODY = 4  # in the place of the agent's direction


@cache
def _drawn(tile: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The tiles ``[K * 5 * 2, tile, tile, 3]``, and for each look of a cell its k."""
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
    place = np.zeros(_LOOKS, np.int64)
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
    return tiles.reshape(-1, tile, tile, 3), place


class Painter:
    """Draws the lanes of one batch.

    Args:
        width: Of the level, in cells.
        height: Of the level.
        view: Of the agent's view.
        tile: Pixels of a cell's side.
        device: Where cells and pictures are.
    """

    def __init__(self, width: int, height: int, view: int, tile: int, device: torch.device) -> None:
        if isinstance(tile, bool) or not isinstance(tile, int) or not 1 <= tile <= 256:
            raise ValueError(f"a tile has from 1 to 256 pixels a side, got {tile!r}")
        self.width, self.height, self.view, self.tile = width, height, view, tile
        tiles, place = _drawn(tile)
        self.tiles, self.place = torch.from_numpy(tiles).to(device), torch.from_numpy(place).to(device)
        # Where each cell of the view [vi, vj] lies from the agent, by direction: ahead (fx, fy), right (-fy, fx).
        ahead = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], device=device)
        right = torch.stack([-ahead[:, 1], ahead[:, 0]], 1)
        vi, vj = (torch.arange(view, device=device) for _ in range(2))
        forward = (view - 1 - vj)[None, None, :, None] * ahead[:, None, None, :]
        self.offsets = forward + (vi - view // 2)[None, :, None, None] * right[:, None, None, :]

    def _gather(self, looks: Tensor, agents: Tensor, lit: Tensor, width: int, height: int) -> Tensor:
        """Pictures ``[M, H * tile, W * tile, 3]`` of looks, agents and lights ``[M, H * W]``."""
        ids = (self.place[looks] * 5 + agents) * 2 + lit
        tile = self.tile
        picture = self.tiles[ids].reshape(len(ids), height, width, tile, tile, 3)
        return picture.permute(0, 1, 3, 2, 4, 5).reshape(len(ids), height * tile, width * tile, 3)

    def full(self, cells: Tensor, position: Tensor, direction: Tensor, image: Tensor, highlight: bool) -> Tensor:
        """Upstream's ``get_full_render`` of packed cells ``[M, H * W]``, agents and partial images ``[M, V, V, 3]``."""
        looks = cells.long() & (_LOOKS - 1)
        agents = torch.full_like(looks, _NOBODY)
        at = position[:, 1] * self.width + position[:, 0]
        agents.scatter_(1, at[:, None], direction[:, None])
        lit = torch.zeros(len(looks), looks.shape[1] + 1, dtype=torch.long, device=looks.device)
        if highlight:
            there = self.offsets[direction] + position[:, None, None, :]
            x, y = there[..., 0], there[..., 1]
            seen = (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height) & (image[..., 0] != 0)
            # What is unseen or beyond the grid lights a cell that nobody draws.
            lit.scatter_(1, torch.where(seen, y * self.width + x, looks.shape[1]).flatten(1), 1)
        return self._gather(looks, agents, lit[:, :-1], self.width, self.height)

    def partial(self, image: Tensor) -> Tensor:
        """Upstream's ``get_pov_render`` of partial images ``[M, V, V, 3]``."""
        image = image.long().transpose(1, 2).flatten(1, 2)  # rows from far to near, as a picture has them
        seen = image[..., 0] != 0
        looks = torch.where(seen, image[..., 0] | image[..., 1] << 4 | image[..., 2] << 7, L.EMPTY_CELL)
        agents = torch.full_like(looks, _NOBODY)
        agents[:, (self.view - 1) * self.view + self.view // 2] = 3  # the agent looks up
        return self._gather(looks, agents, seen.long(), self.view, self.view)
