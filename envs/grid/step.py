"""One step of one lane: upstream's ``MiniGridEnv.step``, without its observation and its clock."""

# mypy: disable-error-code="untyped-decorator"

import warp as wp

from . import layout as L
from .state import CARRYING, DIR, DOOR, EMPTY_CELL, OPAQUE, WALL_CELL, World, X, Y, box_contents, load_cell, store_cell

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
        cell = wp.int32(load_cell(w.cells, i, y * w.width + x))
    return cell


@wp.func
def base_step(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Apply an action by upstream's common rules and return the result's bits (see ``layout``).

    Turning and walking, most of what happens, are without a branch: a processor cannot foresee an action.
    """
    x = front_x(w, i)
    y = front_y(w, i)
    cell = front_cell(w, i)
    kind = cell & 15
    carrying = w.ints[i, CARRYING]
    w.ints[i, DIR] = (w.ints[i, DIR] + wp.where(action == LEFT, 3, 0) + wp.where(action == RIGHT, 1, 0)) & 3
    is_ground = cell == EMPTY_CELL or kind == FLOOR or kind == GOAL or kind == LAVA
    walks = action == FORWARD and (is_ground or (kind == DOOR and (cell & OPAQUE) == 0))
    w.ints[i, X] = wp.where(walks, x, w.ints[i, X])
    w.ints[i, Y] = wp.where(walks, y, w.ints[i, Y])
    result = wp.where(walks and kind == GOAL, TERMINATED | REWARD | REACHED_GOAL, 0)
    result = wp.where(walks and kind == LAVA, TERMINATED | ENTERED_LAVA, result)
    is_hand = action == PICKUP or action == DROP or action == TOGGLE
    if is_hand and ((kind >= DOOR and kind <= BOX) or (cell == EMPTY_CELL and carrying != 0)):
        at = y * w.width + x
        if action == PICKUP:
            if kind != DOOR and cell != EMPTY_CELL and carrying == 0:
                w.ints[i, CARRYING] = cell
                store_cell(w.cells, i, at, EMPTY_CELL)
                result = PICKED
        elif action == DROP:
            if cell == EMPTY_CELL:
                store_cell(w.cells, i, at, carrying)
                w.ints[i, CARRYING] = 0
                result = DROPPED
        elif kind == BOX:
            store_cell(w.cells, i, at, box_contents(cell))
            result = UNBOXED
        elif kind == DOOR:
            state = (cell >> 7) & 3
            bare = cell & 127
            if state == 0:
                store_cell(w.cells, i, at, bare | (1 << 7) | OPAQUE)
                result = CLOSED_DOOR
            elif state == 1:
                store_cell(w.cells, i, at, bare)
                result = OPENED
            elif carrying == (KEY | (bare & 112)):  # a key of the door's colour
                store_cell(w.cells, i, at, bare)
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
