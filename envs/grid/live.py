"""A live environment of upstream's class as one row of a batch's arrays: import of a state, and packs of levels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import layout as L
from .family import Family, Plan

Row = tuple[npt.NDArray[np.int16], npt.NDArray[np.int32]]


def pack_object(obj: Any) -> int:
    """One of upstream's objects (or None) as a packed cell.

    Raises:
        ValueError: If a box holds what a cell has no room for.
    """
    if obj is None:
        return L.EMPTY_CELL
    kind, color, state = obj.encode()
    contents = getattr(obj, "contains", None)
    return L.pack(kind, color, state, 0 if contents is None else pack_object(contents))


def _place(env: Any, position: Any) -> int:
    return int(position[1]) * int(env.width) + int(position[0])


def _where(env: Any, obj: Any) -> int:
    """Where the very same object lies: upstream does not tell an object that it puts into a wall where that is."""
    return next(k for k, other in enumerate(env.grid.grid) if other is obj)


def _thing(kind: str, color: str) -> int:
    return L.TYPES.index(kind) | L.COLORS.index(color) << 4


def _rooms(env: Any) -> list[int]:
    """The numbers of ``families.roomgrid``, read off upstream's rooms."""
    numbers = []
    for room in (room for row in env.room_grid for room in row):
        number = sum(1 << side for side in range(4) if room.doors[side]) | (16 if room.locked else 0)
        right, lower = room.door_pos[0], room.door_pos[1]
        numbers.append(number | (int(right[1]) << 8 if right else 0) | (int(lower[0]) << 16 if lower else 0))
    return numbers


# The lane's own numbers that a family's rule reads after the level is made, by family.
_NUMBERS: dict[str, Callable[[Any], list[int]]] = {
    "dynamicobstacles": lambda env: [_place(env, ball.cur_pos) for ball in env.obstacles],
    "fetch": lambda env: [_thing(env.targetType, env.targetColor)],
    "gotodoor": lambda env: [int(v) for v in env.target_pos],
    "gotoobject": lambda env: [int(v) for v in env.target_pos],
    "keycorridor": _rooms,
    "memory": lambda env: [int(env.success_pos[0]), int(env.success_pos[1]), int(env.failure_pos[1])],
    "obstructedmaze": _rooms,
    "putnear": lambda env: [_thing(env.move_type, env.moveColor), _place(env, env.target_pos)],
    "redbluedoors": lambda env: [_where(env, env.red_door), _where(env, env.blue_door)],
    "unlock": _rooms,
}


def read(env: Any, family: Family, plan: Plan) -> Row:
    """The cells ``[H * W]`` and the numbers ``[AUX + plan.aux]`` of an environment after its reset.

    The number of its episode is left at 0: it is the batch's.

    Raises:
        ValueError: If the environment has no level yet, or one that the engine cannot hold.
    """
    if env.agent_pos is None or env.agent_dir is None or int(env.agent_dir) < 0:
        raise ValueError("the environment has no level yet: call its reset() first")
    if env.mission not in plan.missions:
        raise ValueError(f"the environment's mission {env.mission!r} is not one that this batch has")
    cells = np.array([pack_object(obj) for obj in env.grid.grid], np.int16)
    ints = np.zeros(L.AUX + plan.aux, np.int32)
    ints[L.X], ints[L.Y], ints[L.DIR] = int(env.agent_pos[0]), int(env.agent_pos[1]), int(env.agent_dir)
    ints[L.CARRYING] = 0 if env.carrying is None else pack_object(env.carrying)
    ints[L.STEPS], ints[L.MISSION] = int(env.step_count), plan.missions.index(env.mission)
    own = _NUMBERS[family.name](env) if family.name in _NUMBERS else []
    if len(own) > plan.aux:
        raise ValueError(f"the environment has {len(own)} numbers of its own, and this batch has room for {plan.aux}")
    ints[L.AUX : L.AUX + len(own)] = own
    return cells, ints
