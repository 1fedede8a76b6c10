"""Unlock, UnlockPickup and BlockedUnlockPickup: two rooms, a locked door between them, its key in the first."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import BALL, BOX, CARRYING, KEY, MISSION, OPAQUE, World, peek, put, rand_color, thing
from ..step import PICKUP, REWARD, TERMINATED, TOGGLE
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

_WITH_BOX, _BLOCKED = wp.constant(OWN), wp.constant(OWN + 1)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the rooms; params say whether there is a box to pick up, and a ball before the door."""
    begin_rooms(w, i)
    if w.params[_WITH_BOX] != 0:
        box_color = rand_color(w, i)
        place_in_room(w, i, 1, 0, thing(BOX, box_color))
        w.ints[i, MISSION] = box_color
    door_color = rand_color(w, i)
    add_door(w, i, 0, 0, 0, door_color, 1)
    if w.params[_BLOCKED] != 0:
        ball_color = rand_color(w, i)
        put(w, i, door_x(w, i, 0, 0, 0) - 1, door_y(w, i, 0, 0, 0), thing(BALL, ball_color))
    place_in_room(w, i, 0, 0, thing(KEY, door_color))
    place_agent_in_room(w, i, 0, 0)


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """Success is to carry the one box, or, where there is none, to toggle with the door open afterwards."""
    out = result
    if w.params[_WITH_BOX] != 0:
        if action == PICKUP and (w.ints[i, CARRYING] & 15) == BOX:
            out = out | TERMINATED | REWARD
    elif action == TOGGLE:
        if (peek(w, i, door_y(w, i, 0, 0, 0) * w.width + door_x(w, i, 0, 0, 0)) & OPAQUE) == 0:
            out = out | TERMINATED | REWARD
    return out


def plan(env: Any) -> Plan | None:
    """Which of the three classes it is."""
    kind = [base.__name__ for base in type(env).__mro__]
    with_box = "UnlockEnv" not in kind
    missions = [f"pick up the {color} box" for color in L.COLORS] if with_box else ["open the door"]
    return room_plan(env, (int(with_box), int("BlockedUnlockPickupEnv" in kind)), missions)


FAMILY = Family("unlock", generate, plan, after=after)
