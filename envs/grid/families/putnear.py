"""PutNear: pick up one object and drop it near another."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import (
    AUX,
    CARRYING,
    EMPTY_CELL,
    KEY,
    MISSION,
    World,
    below,
    get,
    place_agent,
    put,
    rand_color,
    rand_int,
    thing,
    wall_rect,
)
from ..step import DROP, DROPPED, FAILED, PICKUP, REWARD, TERMINATED, front_x, front_y

_OBJECTS = wp.constant(2)  # the lane's own numbers: the cell to move, the target's place, then kind and place of all


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the room with different objects that do not touch; the param is how many."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    taken = wp.int32(0)
    count = wp.int32(0)
    while count < w.params[0]:
        kind = below(w, i, 3)
        color = rand_color(w, i)
        what = kind * 6 + color
        if ((taken >> what) & 1) == 0:
            taken = taken | (1 << what)
            looking = wp.int32(1)
            while looking != 0:
                x = rand_int(w, i, 0, w.width)
                y = rand_int(w, i, 0, w.height)
                near = wp.int32(0)
                for k in range(count):
                    at = w.ints[i, AUX + _OBJECTS + k] >> 5
                    if wp.abs(at % w.width - x) <= 1 and wp.abs(at // w.width - y) <= 1:
                        near = 1
                if near == 0 and get(w, i, x, y) == EMPTY_CELL:
                    put(w, i, x, y, thing(KEY + kind, color))
                    w.ints[i, AUX + _OBJECTS + count] = (y * w.width + x) * 32 + what
                    looking = 0
            count = count + 1
    place_agent(w, i, 0, 0, w.width, w.height)
    moved = below(w, i, count)
    target = below(w, i, count)
    while target == moved:
        target = below(w, i, count)
    what = w.ints[i, AUX + _OBJECTS + moved] & 31
    goal = w.ints[i, AUX + _OBJECTS + target]
    w.ints[i, AUX] = thing(KEY + what // 6, what % 6)
    w.ints[i, AUX + 1] = goal >> 5
    w.ints[i, MISSION] = what * 18 + (goal & 31)


@wp.func
def before(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Remember what is carried."""
    return w.ints[i, CARRYING]


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """To pick up the wrong object or to drop anything ends the episode; dropped near the target's place is success."""
    out = result
    held = w.ints[i, CARRYING]
    if action == PICKUP and held != 0 and held != w.ints[i, AUX]:
        out = out | TERMINATED | FAILED
    if action == DROP and memo != 0:
        out = out | TERMINATED
        target = w.ints[i, AUX + 1]
        dx = wp.abs(front_x(w, i) - target % w.width)
        dy = wp.abs(front_y(w, i) - target // w.width)
        if (result & DROPPED) != 0 and dx <= 1 and dy <= 1:
            out = out | REWARD
        else:
            out = out | FAILED
    return out


def plan(env: Any) -> Plan | None:
    """Read the number of objects off upstream's instance."""
    if not 1 < env.numObjs <= 18:
        return None
    things = [f"{color} {kind}" for kind in ("key", "ball", "box") for color in L.COLORS]
    missions = [f"put the {moved} near the {target}" for moved in things for target in things]
    return Plan((env.numObjs,), tuple(missions), 2 + env.numObjs)


FAMILY = Family("putnear", generate, plan, before=before, after=after)
