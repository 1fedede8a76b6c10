"""FourRooms: four rooms around a cross of walls with four gaps, agent and goal anywhere."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from ..family import Family, Plan
from ..state import (
    EMPTY_CELL,
    GOAL_CELL,
    WALL_CELL,
    World,
    below,
    horz_wall,
    place,
    place_agent,
    put,
    rand_int,
    set_agent,
    vert_wall,
    wall_rect,
)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the rooms; params are the agent's x, y and the goal's x, y, less than 0 for random places."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    room_w = w.width // 2
    room_h = w.height // 2
    for row in range(2):
        for column in range(2):
            left = column * room_w
            top = row * room_h
            if column == 0:
                vert_wall(w, i, left + room_w, top, room_h, WALL_CELL)
                y = rand_int(w, i, top + 1, top + room_h)
                put(w, i, left + room_w, y, EMPTY_CELL)
            if row == 0:
                horz_wall(w, i, left, top + room_h, room_w, WALL_CELL)
                x = rand_int(w, i, left + 1, left + room_w)
                put(w, i, x, top + room_h, EMPTY_CELL)
    if w.params[0] >= 0:
        put(w, i, w.params[0], w.params[1], EMPTY_CELL)
        set_agent(w, i, w.params[0], w.params[1], below(w, i, 4))
    else:
        place_agent(w, i, 0, 0, w.width, w.height)
    if w.params[2] >= 0:
        put(w, i, w.params[2], w.params[3], GOAL_CELL)
    else:
        place(w, i, GOAL_CELL, 0, 0, w.width, w.height)


def plan(env: Any) -> Plan:
    """Read the fixed places, if any, off upstream's instance."""
    places = [(-1, -1) if p is None else p for p in (env._agent_default_pos, env._goal_default_pos)]
    return Plan(tuple(int(v) for p in places for v in p), ("reach the goal",))


FAMILY = Family("fourrooms", generate, plan)
