"""Memory: an object in the first room, and at the hallway's end the way to the same object."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import AUX, WALL_CELL, World, X, Y, below, horz_wall, put, rand_int, set_agent, vert_wall, wall_rect
from ..step import FAILED, PICKUP, REWARD, TERMINATED, TOGGLE

_KEY = wp.constant(L.pack(L.KEY, L.GREEN))
_BALL = wp.constant(L.pack(L.BALL, L.GREEN))


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make room and hallway; the param is 1 for a random length, own numbers are x and the y of right and wrong."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    middle = w.height // 2
    end = w.width - 3
    if w.params[0] != 0:
        end = rand_int(w, i, 4, w.width - 2)
    horz_wall(w, i, 1, middle - 2, 4, WALL_CELL)
    horz_wall(w, i, 1, middle + 2, 4, WALL_CELL)
    put(w, i, 4, middle - 1, WALL_CELL)
    put(w, i, 4, middle + 1, WALL_CELL)
    horz_wall(w, i, 5, middle - 1, end - 5, WALL_CELL)
    horz_wall(w, i, 5, middle + 1, end - 5, WALL_CELL)
    for y in range(w.height):
        if y != middle:
            put(w, i, end, y, WALL_CELL)
    vert_wall(w, i, end + 2, 0, w.height, WALL_CELL)
    x = rand_int(w, i, 1, end + 1)
    set_agent(w, i, x, middle, 0)
    first = _KEY
    if below(w, i, 2) == 1:
        first = _BALL
    put(w, i, 1, middle - 1, first)
    above = _BALL
    under = _KEY
    if below(w, i, 2) == 1:
        above = _KEY
        under = _BALL
    put(w, i, end + 1, middle - 2, above)
    put(w, i, end + 1, middle + 2, under)
    right = middle + 1
    if first == above:
        right = middle - 1
    w.ints[i, AUX] = end + 1
    w.ints[i, AUX + 1] = right
    w.ints[i, AUX + 2] = 2 * middle - right


@wp.func
def remap(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Upstream turns pickup into toggle here."""
    act = action
    if action == PICKUP:
        act = TOGGLE
    return act


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """The cell beside either object ends the episode."""
    out = result
    if w.ints[i, X] == w.ints[i, AUX]:
        if w.ints[i, Y] == w.ints[i, AUX + 1]:
            out = out | TERMINATED | REWARD
        elif w.ints[i, Y] == w.ints[i, AUX + 2]:
            out = (out & ~REWARD) | TERMINATED | FAILED
    return out


def plan(env: Any) -> Plan | None:
    """Read the length's kind off upstream's instance."""
    if env.height % 2 == 0 or env.width < 7:
        return None
    return Plan((int(env.random_length),), (env.mission,), 3)


FAMILY = Family("memory", generate, plan, remap=remap, after=after)
