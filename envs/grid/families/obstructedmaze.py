"""ObstructedMaze, both versions: a ball behind locked doors; their keys may be in boxes, their ways blocked."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import CARRYING, KEY, World, below, box_with, draw_named_color, put, thing
from ..step import PICKUP, REWARD, TERMINATED
from .roomgrid import (
    OWN,
    add_door,
    begin_rooms,
    door_x,
    door_y,
    place_agent_in_room,
    place_in_room,
    room_plan,
)

_QUARTERS, _BOXED, _BLOCKED = wp.constant(OWN), wp.constant(OWN + 1), wp.constant(OWN + 2)
_COLUMN, _ROW, _KEYS_LAST = wp.constant(OWN + 3), wp.constant(OWN + 4), wp.constant(OWN + 5)
_BALL = wp.constant(L.pack(L.BALL, L.COLORS.index(L.COLOR_NAMES[0])))  # the one to find
_BLOCKER = wp.constant(L.pack(L.BALL, L.COLORS.index(L.COLOR_NAMES[1])))
_BOX_COLOR = wp.constant(L.COLORS.index(L.COLOR_NAMES[2]))


@wp.func
def add_key(w: World, i: wp.int32, column: wp.int32, row: wp.int32, color: wp.int32) -> None:
    """Put a key into a room, boxed where the params say so."""
    cell = thing(KEY, color)
    if w.params[_BOXED] != 0:
        cell = box_with(_BOX_COLOR, cell)
    place_in_room(w, i, column, row, cell)


@wp.func
def add_locked_door(w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32, color: wp.int32) -> None:
    """Lock a side of a room, with a ball before the door where the params say so."""
    add_door(w, i, column, row, side, color, 1)
    if w.params[_BLOCKED] != 0:
        dx = (1 - side) * ((side + 1) & 1)
        dy = (2 - side) * (side & 1)
        put(w, i, door_x(w, i, column, row, side) - dx, door_y(w, i, column, row, side) - dy, _BLOCKER)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the maze; without quarters it is the one of two rooms."""
    begin_rooms(w, i)
    free = wp.int32(63)
    colors = wp.int32(0)
    for k in range(6):
        name = draw_named_color(w, i, free)
        free = free & ~(1 << (name >> 3))
        colors = colors | ((name & 7) << (3 * k))
    if w.params[_QUARTERS] == 0:
        add_locked_door(w, i, 0, 0, 0, colors & 7)
        add_key(w, i, 0, 0, colors & 7)
        place_in_room(w, i, 1, 0, _BALL)
    else:
        for k in range(w.params[_QUARTERS]):
            # Side rooms (2, 1), (1, 2), (0, 1), (1, 0): right, below, left, above of the middle.
            column = 1 + (1 - k) * ((k + 1) & 1)
            row = 1 + (2 - k) * (k & 1)
            add_door(w, i, 1, 1, k, (colors >> (3 * k)) & 7, 0)
            for n in range(2):
                turn = 2 * n - 1
                color = (colors >> (3 * ((k + turn + 6) % 6))) & 7
                add_locked_door(w, i, column, row, (k + turn) & 3, color)
                if w.params[_KEYS_LAST] == 0:
                    add_key(w, i, column, row, color)
            if w.params[_KEYS_LAST] != 0:
                for n in range(2):
                    add_key(w, i, column, row, (colors >> (3 * ((k + 2 * n - 1 + 6) % 6))) & 7)
        corner = below(w, i, w.params[_QUARTERS])  # (2, 0), (2, 2), (0, 2), (0, 0)
        corner_column = wp.int32(2)
        if corner >= 2:
            corner_column = 0
        corner_row = wp.int32(0)
        if corner == 1 or corner == 2:
            corner_row = 2
        place_in_room(w, i, corner_column, corner_row, _BALL)
    place_agent_in_room(w, i, w.params[_COLUMN], w.params[_ROW])


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """Success is to carry the ball of the one colour that no blocker has."""
    out = result
    if action == PICKUP and w.ints[i, CARRYING] == _BALL:
        out = out | TERMINATED | REWARD
    return out


def plan(env: Any) -> Plan | None:
    """Read the class and its arguments off upstream's instance."""
    quarters = int(getattr(env, "num_quarters", 0))
    column, row = getattr(env, "agent_room", (0, 0))
    keys_last = any(base.__name__ == "ObstructedMaze_Full_V1" for base in type(env).__mro__)
    if not 0 <= quarters <= 4 or (quarters == 0 and hasattr(env, "num_quarters")):
        return None
    params = (quarters, int(env.key_in_box), int(env.blocked), int(column), int(row), int(keys_last))
    return room_plan(env, params, ("pick up the blue ball",))


FAMILY = Family("obstructedmaze", generate, plan, after=after)
