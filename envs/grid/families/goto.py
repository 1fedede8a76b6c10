"""GoToDoor and GoToObject: go next to what the mission names, and say done."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import (
    AUX,
    KEY,
    MISSION,
    World,
    X,
    Y,
    below,
    door,
    place,
    place_agent,
    put,
    rand_color,
    rand_int,
    thing,
    wall_rect,
)
from ..step import DONE, FAILED, REWARD, TERMINATED, TOGGLE


@wp.func
def generate_doors(w: World, i: wp.int32) -> None:
    """Make a room of random size with a door in each wall; the lane's own numbers are the target's x and y."""
    width = rand_int(w, i, 5, w.width + 1)
    height = rand_int(w, i, 5, w.height + 1)
    wall_rect(w, i, 0, 0, width, height)
    above = rand_int(w, i, 2, width - 2)
    below_x = rand_int(w, i, 2, width - 2)
    left = rand_int(w, i, 2, height - 2)
    right = rand_int(w, i, 2, height - 2)
    taken = wp.int32(0)
    colors = wp.int32(0)
    count = wp.int32(0)
    while count < 4:
        color = rand_color(w, i)
        if ((taken >> color) & 1) == 0:
            taken = taken | (1 << color)
            colors = colors | (color << (3 * count))
            count = count + 1
    put(w, i, above, 0, door(colors & 7, 1))
    put(w, i, below_x, height - 1, door((colors >> 3) & 7, 1))
    put(w, i, 0, left, door((colors >> 6) & 7, 1))
    put(w, i, width - 1, right, door((colors >> 9) & 7, 1))
    place_agent(w, i, 0, 0, width, height)
    target = below(w, i, 4)
    x = above
    y = wp.int32(0)
    if target == 1:
        x = below_x
        y = height - 1
    elif target == 2:
        x = 0
        y = left
    elif target == 3:
        x = width - 1
        y = right
    w.ints[i, AUX] = x
    w.ints[i, AUX + 1] = y
    w.ints[i, MISSION] = (colors >> (3 * target)) & 7


@wp.func
def generate_objects(w: World, i: wp.int32) -> None:
    """Make a room with different objects, as many as the param says; own numbers are the target's x and y, then all."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    taken = wp.int32(0)  # a bit for each kind and colour
    count = wp.int32(0)
    while count < w.params[0]:
        kind = below(w, i, 3)
        color = rand_color(w, i)
        what = kind * 6 + color
        if ((taken >> what) & 1) == 0:
            taken = taken | (1 << what)
            at = place(w, i, thing(KEY + kind, color), 0, 0, w.width, w.height)
            w.ints[i, AUX + 2 + count] = at * 32 + what
            count = count + 1
    place_agent(w, i, 0, 0, w.width, w.height)
    target = w.ints[i, AUX + 2 + below(w, i, count)]
    w.ints[i, AUX] = (target >> 5) % w.width
    w.ints[i, AUX + 1] = (target >> 5) // w.width
    w.ints[i, MISSION] = target & 31


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """Toggle and done end the episode; done beside the target's place is success."""
    out = result
    if action == TOGGLE:
        out = out | TERMINATED | FAILED
    elif action == DONE:
        away = wp.abs(w.ints[i, X] - w.ints[i, AUX]) + wp.abs(w.ints[i, Y] - w.ints[i, AUX + 1])
        if away == 1:
            out = out | TERMINATED | REWARD
        else:
            out = out | TERMINATED | FAILED
    return out


def plan_doors(env: Any) -> Plan:
    """The missions name the door's colour."""
    return Plan((), tuple(f"go to the {color} door" for color in L.COLORS), 2)


def plan_objects(env: Any) -> Plan | None:
    """Read the number of objects off upstream's instance."""
    if not 0 < env.numObjs <= 18:
        return None
    missions = [f"go to the {color} {kind}" for kind in ("key", "ball", "box") for color in L.COLORS]
    return Plan((env.numObjs,), tuple(missions), 2 + env.numObjs)


DOORS = Family("gotodoor", generate_doors, plan_doors, after=after)
OBJECTS = Family("gotoobject", generate_objects, plan_objects, after=after)
