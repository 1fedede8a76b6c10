"""More facts, for who asks: where things are, doors, rooms, a hash of the state. Each costs a pass over the cells.

``facts=`` of a batch takes any of these names:

- ``objects``: int64 ``[N, 5, 6, 2]``, (x, y) of the first door, key, ball, box and goal (in this order) of each colour
  (``layout.COLORS``), row by row from the top; -1 and -1 where there is none in the grid (or it is carried).
- ``doors``: int64 ``[N, 6]``, the state of the first door of each colour: 0 open, 1 closed, 2 locked, -1 for none.
- ``room``: int64 ``[N]``, the agent's room: what walls and doors enclose, numbered by first cell, row by row from the
  top; -1 in a doorway. What gaps in walls join is one room (FourRooms is one, Empty is one).
- ``hash``: int64 ``[N]``, 64 bits of grid (boxes' contents included), agent, what it carries, and mission; not of the
  clock, nor of the random stream. Equal states have equal hashes, in every batch, on every device.
"""

# mypy: disable-error-code="untyped-decorator"

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from . import layout as L
from .state import CARRYING, DIR, DOOR, MISSION, X, Y, mix64

NAMES = ("objects", "doors", "room", "hash")
_SHAPES: dict[str, tuple[int, ...]] = {"objects": (5, 6, 2), "doors": (6,), "room": (), "hash": ()}
_WALL = wp.constant(L.WALL)
_LAST_KIND = wp.constant(L.GOAL)
_OBJECTS, _DOORS, _ROOM, _HASH = (wp.constant(1 << k) for k in range(4))
_SALT = wp.constant(wp.uint64(0x452821E638D01377))


@wp.struct
class More:
    """The facts of all lanes; arrays that nobody asked for have no rows."""

    objects: wp.array4d[wp.int64]
    doors: wp.array2d[wp.int64]
    room: wp.array[wp.int64]
    hash: wp.array[wp.int64]


def check_names(facts: Iterable[str]) -> tuple[str, ...]:
    """The names, in the order of ``NAMES``.

    Raises:
        ValueError: If one is unknown.
    """
    given = (facts,) if isinstance(facts, str) else tuple(facts)
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise ValueError(f"facts={unknown}: the facts to ask for are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in given)


def arrays(names: Iterable[str], lanes: int, device: torch.device) -> dict[str, Tensor]:
    """Room for the facts of some names."""
    return {name: torch.zeros(lanes, *_SHAPES[name], dtype=torch.int64, device=device) for name in names}


def struct(tensors: dict[str, Tensor], part: slice) -> Any:
    """Warp's struct over the rows of one share."""
    more = More()
    for name, tensor in tensors.items():
        setattr(more, name, wp.from_torch(tensor[part]))
    return more


def wanted(names: Iterable[str]) -> int:
    """The names as bits, for the kernel."""
    return sum(1 << NAMES.index(name) for name in names)


def label_rooms(
    cells: wp.array2d[wp.int16], rooms: wp.array2d[wp.int16], mask: wp.array[wp.bool], width: wp.int32
) -> None:
    """Number the rooms of masked lanes: ``rooms[i, k]`` is -1 - room, or 0 for walls and doors."""
    i = wp.tid()
    if mask[i]:
        count = cells.shape[1]
        for k in range(count):
            kind = wp.int32(cells[i, k]) & 15
            rooms[i, k] = wp.int16(k + 1)
            if kind == _WALL or kind == DOOR:
                rooms[i, k] = wp.int16(0)
        # The least number spreads among neighbours, forwards and backwards, until nothing changes.
        changed = wp.int32(1)
        while changed != 0:
            changed = wp.int32(0)
            for n in range(2 * count):
                k = n
                if n >= count:
                    k = 2 * count - 1 - n
                least = wp.int32(rooms[i, k])
                if least > 0:
                    for side in range(4):
                        other = k + (1 - side) * ((side + 1) & 1) + (2 - side) * (side & 1) * width
                        x = k % width + (1 - side) * ((side + 1) & 1)
                        if other >= 0 and other < count and x >= 0 and x < width:
                            there = wp.int32(rooms[i, other])
                            if there > 0 and there < least:
                                least = there
                    if least != wp.int32(rooms[i, k]):
                        rooms[i, k] = wp.int16(least)
                        changed = wp.int32(1)
        number = wp.int32(0)
        for k in range(count):
            root = wp.int32(rooms[i, k])
            if root == k + 1:
                number = number + 1
                rooms[i, k] = wp.int16(-number)
            elif root > 0:
                rooms[i, k] = rooms[i, root - 1]


def find_facts(
    cells: wp.array2d[wp.int16],
    ints: wp.array2d[wp.int32],
    rooms: wp.array2d[wp.int16],
    mask: wp.array[wp.bool],
    width: wp.int32,
    names: wp.int32,
    out: More,
) -> None:
    """Write the facts of masked lanes."""
    i = wp.tid()
    if mask[i]:
        count = cells.shape[1]
        if (names & _OBJECTS) != 0:
            for kind in range(5):
                for color in range(6):
                    out.objects[i, kind, color, 0] = wp.int64(-1)
                    out.objects[i, kind, color, 1] = wp.int64(-1)
        if (names & _DOORS) != 0:
            for color in range(6):
                out.doors[i, color] = wp.int64(-1)
        h = mix64(_SALT)  # of a function: a constant could not change in a loop
        for k in range(count):
            cell = wp.int32(cells[i, k])
            kind = cell & 15
            color = (cell >> 4) & 7
            if (names & _HASH) != 0:
                h = mix64(h ^ wp.uint64(cell))
            if kind >= DOOR and kind <= _LAST_KIND:
                if (names & _OBJECTS) != 0 and out.objects[i, kind - DOOR, color, 0] < wp.int64(0):
                    out.objects[i, kind - DOOR, color, 0] = wp.int64(k % width)
                    out.objects[i, kind - DOOR, color, 1] = wp.int64(k // width)
                if (names & _DOORS) != 0 and kind == DOOR and out.doors[i, color] < wp.int64(0):
                    out.doors[i, color] = wp.int64((cell >> 7) & 3)
        x = ints[i, X]
        y = ints[i, Y]
        if (names & _ROOM) != 0:
            out.room[i] = wp.int64(-1 - wp.int32(rooms[i, y * width + x]))
        if (names & _HASH) != 0:
            h = mix64(h ^ wp.uint64(y * width + x))
            h = mix64(h ^ wp.uint64(ints[i, DIR]))
            h = mix64(h ^ wp.uint64(ints[i, CARRYING]))
            out.hash[i] = wp.int64(mix64(h ^ wp.uint64(ints[i, MISSION])))


@cache
def kernels() -> tuple[Any, Any]:
    """The kernels ``label_rooms`` and ``find_facts``; Warp compiles them when recorded."""
    options = {"enable_backward": False, "fuse_fp": False}
    return tuple(
        wp.kernel(f, name=f"grid_{f.__name__}", module="unique", module_options=options)
        for f in (label_rooms, find_facts)
    )
