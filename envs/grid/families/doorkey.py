"""DoorKey: a key on the left, a locked door in the wall, the goal on the right."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import GOAL_CELL, WALL_CELL, World, door, place, place_agent, put, rand_int, vert_wall, wall_rect

_KEY = wp.constant(L.pack(L.KEY, L.YELLOW))


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the two rooms, the agent, the door and the key."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    put(w, i, w.width - 2, w.height - 2, GOAL_CELL)
    split = rand_int(w, i, 2, w.width - 2)
    vert_wall(w, i, split, 0, w.height, WALL_CELL)
    place_agent(w, i, 0, 0, split, w.height)
    y = rand_int(w, i, 1, w.height - 2)
    put(w, i, split, y, door(wp.static(L.YELLOW), wp.static(L.LOCKED)))
    place(w, i, _KEY, 0, 0, split, w.height)


def plan(env: Any) -> Plan:
    """Size is all there is to it."""
    return Plan((), ("use the key to open the door and then get to the goal",))


FAMILY = Family("doorkey", generate, plan)
