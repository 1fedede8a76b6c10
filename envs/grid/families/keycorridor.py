"""KeyCorridor: an object behind a locked door on the right of a corridor, the key in a room on its left."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import CARRYING, KEY, MISSION, World, rand_color, rand_int, thing
from ..step import PICKUP, REWARD, TERMINATED
from .roomgrid import (
    OWN,
    add_door,
    begin_rooms,
    connect_all,
    place_agent_in_room,
    place_in_room,
    remove_wall,
    room_plan,
)

_KIND = wp.constant(OWN)  # w.params[_KIND] is the kind of the object to pick up


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make corridor, locked room, object, key, agent, doors."""
    begin_rooms(w, i)
    rows = w.params[1]
    for row in range(1, rows):
        remove_wall(w, i, 1, row, 3)
    row = rand_int(w, i, 0, rows)
    door_color = rand_color(w, i)
    add_door(w, i, 2, row, 2, door_color, 1)
    color = rand_color(w, i)
    place_in_room(w, i, 2, row, thing(w.params[_KIND], color))
    key_row = rand_int(w, i, 0, rows)
    place_in_room(w, i, 0, key_row, thing(KEY, door_color))
    place_agent_in_room(w, i, 1, rows // 2)
    connect_all(w, i)
    w.ints[i, MISSION] = color


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """Success is to carry the object: no other in the level is of its kind."""
    out = result
    if action == PICKUP and (w.ints[i, CARRYING] & 15) == w.params[_KIND]:
        out = out | TERMINATED | REWARD
    return out


def plan(env: Any) -> Plan | None:
    """Read the sizes and the object's kind off upstream's instance."""
    kinds = {"ball": L.BALL, "box": L.BOX}  # not a key: it could look like the key of the door
    if env.obj_type not in kinds or env.num_cols != 3:
        return None
    missions = [f"pick up the {color} {env.obj_type}" for color in L.COLORS]
    return room_plan(env, (kinds[env.obj_type],), missions)


FAMILY = Family("keycorridor", generate, plan, after=after)
