"""Fetch: keys and balls in a room; the mission names the one to pick up."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import AUX, CARRYING, KEY, MISSION, World, below, place, place_agent, rand_color, thing, wall_rect
from ..step import FAILED, REWARD, TERMINATED

_SYNTAX = ("get a", "go get a", "fetch a", "go fetch a", "you must fetch a")


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the room; the param is the number of objects, and the lane's own number is the one to fetch."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    for k in range(w.params[0]):
        kind = KEY + below(w, i, 2)
        color = rand_color(w, i)
        place(w, i, thing(kind, color), 0, 0, w.width, w.height)
        w.ints[i, AUX + 1 + k] = thing(kind, color)
    place_agent(w, i, 0, 0, w.width, w.height)
    target = w.ints[i, AUX + 1 + below(w, i, w.params[0])]
    w.ints[i, AUX] = target
    syntax = below(w, i, 5)
    w.ints[i, MISSION] = (syntax * 2 + (target & 15) - KEY) * 6 + (target >> 4)


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """To carry anything ends the episode, the right kind and colour with success."""
    out = result
    if w.ints[i, CARRYING] != 0:
        if w.ints[i, CARRYING] == w.ints[i, AUX]:
            out = out | TERMINATED | REWARD
        else:
            out = (out & ~REWARD) | TERMINATED | FAILED
    return out


def plan(env: Any) -> Plan | None:
    """Read the number of objects off upstream's instance."""
    if not 0 < env.numObjs <= 64:
        return None
    missions = [f"{s} {color} {kind}" for s in _SYNTAX for kind in ("key", "ball") for color in L.COLORS]
    return Plan((env.numObjs,), tuple(missions), 1 + env.numObjs)


FAMILY = Family("fetch", generate, plan, after=after)
