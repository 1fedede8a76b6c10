"""LockedRoom: six rooms on a hallway, one of them locked and holding the goal, its key in another."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import (
    GOAL_CELL,
    KEY,
    MISSION,
    WALL_CELL,
    World,
    below,
    door,
    draw_named_color,
    horz_wall,
    place_agent,
    put,
    rand_int,
    thing,
    vert_wall,
    wall_rect,
)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the rooms, their doors, goal, key and agent."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    left = w.width // 2 - 2
    right = w.width // 2 + 2
    vert_wall(w, i, left, 0, w.height, WALL_CELL)
    vert_wall(w, i, right, 0, w.height, WALL_CELL)
    pitch = w.height // 3
    for n in range(3):
        horz_wall(w, i, 0, n * pitch, left, WALL_CELL)
        horz_wall(w, i, right, n * pitch, w.width - right, WALL_CELL)
    # Rooms alternate left and right, from top to bottom; all are left + 1 wide and pitch + 1 high.
    locked = below(w, i, 6)
    goal_x = rand_int(w, i, (locked & 1) * right + 1, (locked & 1) * right + left)
    goal_y = rand_int(w, i, (locked >> 1) * pitch + 1, (locked >> 1) * pitch + pitch)
    put(w, i, goal_x, goal_y, GOAL_CELL)
    free = wp.int32(63)
    colors = wp.int32(0)
    for room in range(6):
        name = draw_named_color(w, i, free)
        free = free & ~(1 << (name >> 3))
        color = name & 7
        colors = colors | (color << (3 * room))
        state = wp.int32(1)
        if room == locked:
            state = 2
        put(w, i, left + (room & 1) * (right - left), (room >> 1) * pitch + 3, door(color, state))
    key_room = below(w, i, 6)
    while key_room == locked:
        key_room = below(w, i, 6)
    key_x = rand_int(w, i, (key_room & 1) * right + 1, (key_room & 1) * right + left)
    key_y = rand_int(w, i, (key_room >> 1) * pitch + 1, (key_room >> 1) * pitch + pitch)
    locked_color = (colors >> (3 * locked)) & 7
    put(w, i, key_x, key_y, thing(KEY, locked_color))
    place_agent(w, i, left, 0, right - left, w.height)
    w.ints[i, MISSION] = locked_color * 6 + ((colors >> (3 * key_room)) & 7)


def plan(env: Any) -> Plan | None:
    """Nothing but the size varies."""
    if env.width < 11:  # rooms without an inside, or doors outside of the grid
        return None
    missions = [
        f"get the {locked} key from the {room} room, unlock the {locked} door and go to the goal"
        for locked in L.COLORS
        for room in L.COLORS
    ]
    return Plan((), tuple(missions))


FAMILY = Family("lockedroom", generate, plan)
