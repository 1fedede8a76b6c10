"""One step of one lane: upstream's ``MiniGridEnv.step``, without its observation and its clock."""

# mypy: disable-error-code="untyped-decorator"

import warp as wp

from . import layout as L
from .state import CARRYING, DIR, DOOR, EMPTY_CELL, OPAQUE, WALL_CELL, World, X, Y, box_contents

LEFT, RIGHT, FORWARD = wp.constant(L.LEFT), wp.constant(L.RIGHT), wp.constant(L.FORWARD)
PICKUP, DROP, TOGGLE, DONE = wp.constant(L.PICKUP), wp.constant(L.DROP), wp.constant(L.TOGGLE), wp.constant(L.DONE)
FLOOR, GOAL, LAVA = wp.constant(L.FLOOR), wp.constant(L.GOAL), wp.constant(L.LAVA)
KEY, BALL, BOX = wp.constant(L.KEY), wp.constant(L.BALL), wp.constant(L.BOX)
PICKED, DROPPED, UNBOXED = wp.constant(L.PICKED), wp.constant(L.DROPPED), wp.constant(L.UNBOXED)
OPENED, CLOSED_DOOR, UNLOCKED = wp.constant(L.OPENED), wp.constant(L.CLOSED_DOOR), wp.constant(L.UNLOCKED)
REACHED_GOAL, ENTERED_LAVA = wp.constant(L.REACHED_GOAL), wp.constant(L.ENTERED_LAVA)
COLLIDED, FAILED = wp.constant(L.COLLIDED), wp.constant(L.FAILED)
TERMINATED, REWARD, PENALTY = wp.constant(L.TERMINATED), wp.constant(L.REWARD), wp.constant(L.PENALTY)


@wp.func
def front_x(w: World, i: wp.int32) -> wp.int32:
    """The x in front of the agent."""
    direction = w.ints[i, DIR]
    return w.ints[i, X] + (1 - direction) * ((direction + 1) & 1)


@wp.func
def front_y(w: World, i: wp.int32) -> wp.int32:
    """The y in front of the agent."""
    direction = w.ints[i, DIR]
    return w.ints[i, Y] + (2 - direction) * (direction & 1)


@wp.func
def front_cell(w: World, i: wp.int32) -> wp.int32:
    """The cell in front of the agent; beyond the grid's edge, a wall."""
    x = front_x(w, i)
    y = front_y(w, i)
    cell = WALL_CELL
    if x >= 0 and x < w.width and y >= 0 and y < w.height:
        cell = wp.int32(w.cells[i, y * w.width + x])
    return cell


@wp.func
def base_step(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Apply an action by upstream's common rules and return the result's bits (see ``layout``)."""
    x = front_x(w, i)
    y = front_y(w, i)
    cell = front_cell(w, i)
    kind = cell & 15
    at = y * w.width + x
    result = wp.int32(0)
    if action == LEFT:
        w.ints[i, DIR] = (w.ints[i, DIR] + 3) & 3
    elif action == RIGHT:
        w.ints[i, DIR] = (w.ints[i, DIR] + 1) & 3
    elif action == FORWARD:
        is_ground = cell == EMPTY_CELL or kind == FLOOR or kind == GOAL or kind == LAVA
        if is_ground or (kind == DOOR and (cell & OPAQUE) == 0):
            w.ints[i, X] = x
            w.ints[i, Y] = y
        if kind == GOAL:
            result = TERMINATED | REWARD | REACHED_GOAL
        elif kind == LAVA:
            result = TERMINATED | ENTERED_LAVA
    elif action == PICKUP:
        if (kind == KEY or kind == BALL or kind == BOX) and w.ints[i, CARRYING] == 0:
            w.ints[i, CARRYING] = cell
            w.cells[i, at] = wp.int16(EMPTY_CELL)
            result = PICKED
    elif action == DROP:
        if cell == EMPTY_CELL and w.ints[i, CARRYING] != 0:
            w.cells[i, at] = wp.int16(w.ints[i, CARRYING])
            w.ints[i, CARRYING] = 0
            result = DROPPED
    elif action == TOGGLE:
        if kind == BOX:
            w.cells[i, at] = wp.int16(box_contents(cell))
            result = UNBOXED
        elif kind == DOOR:
            state = (cell >> 7) & 3
            bare = cell & 127
            if state == 0:
                w.cells[i, at] = wp.int16(bare | (1 << 7) | OPAQUE)
                result = CLOSED_DOOR
            elif state == 1:
                w.cells[i, at] = wp.int16(bare)
                result = OPENED
            elif w.ints[i, CARRYING] == (KEY | (bare & 112)):  # a key of the door's colour
                w.cells[i, at] = wp.int16(bare)
                result = OPENED | UNLOCKED
    return result


# What a family does where it adds nothing of its own.


@wp.func
def same_action(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """The action that the common rules get: the one given."""
    return action


@wp.func
def nothing_before(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Before the common rules: nothing to do or to remember."""
    return 0


@wp.func
def same_result(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """After the common rules: their result stands."""
    return result
