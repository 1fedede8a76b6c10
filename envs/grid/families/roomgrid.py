"""RoomGrid: rooms of one size in rows and columns, doors between them. Upstream's base class, for the families on it.

The first three params are room size, rows and columns (``room_plan``); a family's own begin at ``OWN``. A lane's number
``w.ints[i, AUX + k]`` holds room k = row * columns + column: in bits 0-3 whether it has a door (or no wall) to the
right, below, to the left, above; in bit 4 whether it is locked; in bits 8-15 the y of its right door, in 16-23 the x
of its lower door. A family's own numbers begin at ``w.ints[i, AUX + rooms(w)]``.
"""

# mypy: disable-error-code="untyped-decorator"

from collections.abc import Sequence
from typing import Any

import warp as wp

from ..family import Plan
from ..state import (
    AUX,
    EMPTY_CELL,
    EVENTS,
    KEY,
    UNMADE,
    World,
    X,
    Y,
    below,
    door,
    find_place,
    place_agent,
    put,
    rand_color,
    rand_int,
    set_agent,
    wall_rect,
)
from ..step import front_cell

OWN = 3

_LOCKED_ROOM = wp.constant(16)
_TRIES = wp.constant(1000)
_MOST_TRIES = wp.constant(5000)
_OPAQUE_WALL = wp.constant(2)


def room_plan(env: Any, params: Sequence[int] = (), missions: Sequence[str] = ("",), aux: int = 0) -> Plan | None:
    """The plan of a family on RoomGrid: its own params from ``OWN`` on, its own numbers after the rooms'."""
    rooms = env.num_rows * env.num_cols
    if rooms > 30 or env.width > 255 or env.height > 255:  # find_reach keeps a bit for each room
        return None
    return Plan((env.room_size, env.num_rows, env.num_cols, *params), tuple(missions), rooms + aux)


@wp.func
def rooms(w: World) -> wp.int32:
    """How many rooms there are."""
    return w.params[1] * w.params[2]


@wp.func
def begin_rooms(w: World, i: wp.int32) -> None:
    """Upstream's ``RoomGrid._gen_grid``: walls, the places of doors to come, the agent in the middle."""
    size = w.params[0]
    rows = w.params[1]
    columns = w.params[2]
    for row in range(rows):
        for column in range(columns):
            wall_rect(w, i, column * (size - 1), row * (size - 1), size, size)
    for row in range(rows):
        for column in range(columns):
            x = column * (size - 1)
            y = row * (size - 1)
            room = wp.int32(0)
            if column < columns - 1:
                door_y = rand_int(w, i, y + 1, y + size - 1)
                room = room | (door_y << 8)
            if row < rows - 1:
                door_x = rand_int(w, i, x + 1, x + size - 1)
                room = room | (door_x << 16)
            w.ints[i, AUX + row * columns + column] = room
    set_agent(w, i, (columns // 2) * (size - 1) + size // 2, (rows // 2) * (size - 1) + size // 2, 0)


@wp.func
def neighbor(w: World, column: wp.int32, row: wp.int32, side: wp.int32) -> wp.int32:
    """The number of the room on a side (0 right, 1 below, 2 left, 3 above), or -1."""
    columns = w.params[2]
    other = wp.int32(-1)
    if side == 0 and column < columns - 1:
        other = row * columns + column + 1
    elif side == 1 and row < w.params[1] - 1:
        other = (row + 1) * columns + column
    elif side == 2 and column > 0:
        other = row * columns + column - 1
    elif side == 3 and row > 0:
        other = (row - 1) * columns + column
    return other


@wp.func
def door_x(w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32) -> wp.int32:
    """The x of a room's door on a side."""
    size = w.params[0]
    k = row * w.params[2] + column
    x = column * (size - 1)
    if side == 0:
        x = x + size - 1
    elif side == 1:
        x = (w.ints[i, AUX + k] >> 16) & 255
    elif side == 3:
        x = (w.ints[i, AUX + k - w.params[2]] >> 16) & 255
    return x


@wp.func
def door_y(w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32) -> wp.int32:
    """The y of a room's door on a side."""
    size = w.params[0]
    k = row * w.params[2] + column
    y = row * (size - 1)
    if side == 1:
        y = y + size - 1
    elif side == 0:
        y = (w.ints[i, AUX + k] >> 8) & 255
    elif side == 2:
        y = (w.ints[i, AUX + k - 1] >> 8) & 255
    return y


@wp.func
def join(w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32) -> None:
    """Note that a room and its neighbour on a side are joined."""
    k = row * w.params[2] + column
    other = neighbor(w, column, row, side)
    w.ints[i, AUX + k] = w.ints[i, AUX + k] | (1 << side)
    w.ints[i, AUX + other] = w.ints[i, AUX + other] | (1 << ((side + 2) & 3))


@wp.func
def add_door(
    w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32, color: wp.int32, locked: wp.int32
) -> None:
    """Upstream's ``add_door`` with side, colour and lock given (where upstream draws them, draw them in that order)."""
    k = row * w.params[2] + column
    room = w.ints[i, AUX + k] & ~_LOCKED_ROOM
    state = wp.int32(1)
    if locked != 0:
        room = room | _LOCKED_ROOM
        state = 2
    w.ints[i, AUX + k] = room
    put(w, i, door_x(w, i, column, row, side), door_y(w, i, column, row, side), door(color, state))
    join(w, i, column, row, side)


@wp.func
def remove_wall(w: World, i: wp.int32, column: wp.int32, row: wp.int32, side: wp.int32) -> None:
    """Upstream's ``remove_wall``."""
    size = w.params[0]
    x = column * (size - 1)
    y = row * (size - 1)
    for k in range(1, size - 1):
        if side == 0:
            put(w, i, x + size - 1, y + k, EMPTY_CELL)
        elif side == 1:
            put(w, i, x + k, y + size - 1, EMPTY_CELL)
        elif side == 2:
            put(w, i, x, y + k, EMPTY_CELL)
        else:
            put(w, i, x + k, y, EMPTY_CELL)
    join(w, i, column, row, side)


@wp.func
def place_in_room(w: World, i: wp.int32, column: wp.int32, row: wp.int32, cell: wp.int32) -> wp.int32:
    """Upstream's ``place_in_room``: put a cell at a random free place that is not beside the agent; where, or -1."""
    size = w.params[0]
    at = find_place(w, i, column * (size - 1), row * (size - 1), size, size, 2, _TRIES)
    if at >= 0:
        w.cells[i, at] = wp.int16(cell)
    else:  # upstream raises RecursionError
        w.ints[i, EVENTS] = w.ints[i, EVENTS] | UNMADE
    return at


@wp.func
def rand_kind(w: World, i: wp.int32) -> wp.int32:
    """Upstream's random kind of object: of key, ball and box."""
    return KEY + below(w, i, 3)


@wp.func
def place_agent_in_room(w: World, i: wp.int32, column: wp.int32, row: wp.int32) -> None:
    """Upstream's ``RoomGrid.place_agent``: as often as it takes for the agent not to face an object."""
    size = w.params[0]
    facing = wp.int32(1)
    while facing != 0:
        place_agent(w, i, column * (size - 1), row * (size - 1), size, size)
        ahead = front_cell(w, i)
        if ahead == EMPTY_CELL or (ahead & 15) == _OPAQUE_WALL:
            facing = 0


@wp.func
def find_reach(w: World, i: wp.int32) -> wp.int32:
    """The rooms that can be reached from the agent's, as bits."""
    size = w.params[0] - 1
    columns = w.params[2]
    reach = wp.int32(1) << (w.ints[i, Y] // size * columns + w.ints[i, X] // size)
    grown = wp.int32(0)
    while grown != reach:
        grown = reach
        for row in range(w.params[1]):
            for column in range(columns):
                k = row * columns + column
                if ((reach >> k) & 1) != 0:
                    for side in range(4):
                        if ((w.ints[i, AUX + k] >> side) & 1) != 0:
                            reach = reach | (1 << neighbor(w, column, row, side))
    return reach


@wp.func
def connect_all(w: World, i: wp.int32) -> None:
    """Upstream's ``connect_all``: add unlocked doors of random colours until every room can be reached."""
    everything = (wp.int32(1) << rooms(w)) - 1
    tries = wp.int32(0)
    reach = find_reach(w, i)
    while tries <= _MOST_TRIES and reach != everything:
        tries = tries + 1
        column = rand_int(w, i, 0, w.params[2])
        row = rand_int(w, i, 0, w.params[1])
        side = rand_int(w, i, 0, 4)
        other = neighbor(w, column, row, side)
        room = w.ints[i, AUX + row * w.params[2] + column]
        if other >= 0 and ((room >> side) & 1) == 0:
            if ((room | w.ints[i, AUX + other]) & _LOCKED_ROOM) == 0:
                color = rand_color(w, i)
                add_door(w, i, column, row, side, color, 0)
                reach = find_reach(w, i)
    if tries > _MOST_TRIES:  # upstream raises RecursionError
        w.ints[i, EVENTS] = w.ints[i, EVENTS] | UNMADE
