"""Playground: nine rooms with doors, twelve objects, no mission."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from ..family import Family, Plan
from ..state import (
    KEY,
    WALL_CELL,
    World,
    below,
    door,
    horz_wall,
    place,
    place_agent,
    put,
    rand_color,
    rand_int,
    thing,
    vert_wall,
    wall_rect,
)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make rooms, agent and objects."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    room_w = w.width // 3
    room_h = w.height // 3
    for row in range(3):
        for column in range(3):
            left = column * room_w
            top = row * room_h
            if column < 2:
                vert_wall(w, i, left + room_w, top, room_h, WALL_CELL)
                y = rand_int(w, i, top + 1, top + room_h - 1)
                color = rand_color(w, i)
                put(w, i, left + room_w, y, door(color, 1))
            if row < 2:
                horz_wall(w, i, left, top + room_h, room_w, WALL_CELL)
                x = rand_int(w, i, left + 1, left + room_w - 1)
                color = rand_color(w, i)
                put(w, i, x, top + room_h, door(color, 1))
    place_agent(w, i, 0, 0, w.width, w.height)
    for _k in range(12):
        kind = KEY + below(w, i, 3)
        color = rand_color(w, i)
        place(w, i, thing(kind, color), 0, 0, w.width, w.height)


def plan(env: Any) -> Plan:
    """Nothing varies."""
    return Plan((), ("",))


FAMILY = Family("playground", generate, plan)
