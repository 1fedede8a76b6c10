"""RedBlueDoors: open the red door, then the blue one."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import AUX, OPAQUE, World, door, peek, place_agent, put, rand_int, wall_rect
from ..step import FAILED, REWARD, TERMINATED

_RED, _BLUE, _CLOSED = wp.constant(L.RED), wp.constant(L.BLUE), wp.constant(L.CLOSED)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the room between two doors; the lane's own numbers are the places of the red and the blue door."""
    size = w.height
    wall_rect(w, i, 0, 0, 2 * size, size)
    wall_rect(w, i, size // 2, 0, size, size)
    place_agent(w, i, size // 2, 0, size, size)
    red = rand_int(w, i, 1, size - 1)
    put(w, i, size // 2, red, door(_RED, _CLOSED))
    blue = rand_int(w, i, 1, size - 1)
    put(w, i, size // 2 + size - 1, blue, door(_BLUE, _CLOSED))
    w.ints[i, AUX] = red * w.width + size // 2
    w.ints[i, AUX + 1] = blue * w.width + size // 2 + size - 1


@wp.func
def is_open(w: World, i: wp.int32, which: wp.int32) -> wp.int32:
    """Whether the red (0) or the blue (1) door is open."""
    cell = peek(w, i, w.ints[i, AUX + which])
    is_open = wp.int32(1)
    if (cell & OPAQUE) != 0:
        is_open = 0
    return is_open


@wp.func
def before(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Remember which doors are open."""
    return is_open(w, i, 0) + 2 * is_open(w, i, 1)


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """The blue door's opening ends the episode, with success where the red one was open before."""
    out = result
    if is_open(w, i, 1) != 0:
        out = out | TERMINATED
        if (memo & 1) != 0:
            out = out | REWARD
        else:
            out = (out & ~REWARD) | FAILED
    elif is_open(w, i, 0) != 0 and (memo & 2) != 0:
        out = (out & ~REWARD) | TERMINATED | FAILED
    return out


def plan(env: Any) -> Plan:
    """Size is all there is to it."""
    return Plan((), (env.mission,), 2)


FAMILY = Family("redbluedoors", generate, plan, before=before, after=after)
