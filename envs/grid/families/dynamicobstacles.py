"""Dynamic-Obstacles: balls that move at random; to run into one, or into a wall, costs 1 and ends the episode."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import (
    AUX,
    EMPTY_CELL,
    EVENTS,
    GOAL_CELL,
    UNMADE,
    World,
    find_place,
    place_agent,
    put,
    set_agent,
    wall_rect,
)
from ..step import COLLIDED, FORWARD, GOAL, PENALTY, TERMINATED, front_cell

_BALL = wp.constant(L.pack(L.BALL, L.BLUE))
_TRIES = wp.constant(100)


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the room; params are the agent's start x, y, direction (x < 0: random) and the number of obstacles."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    put(w, i, w.width - 2, w.height - 2, GOAL_CELL)
    if w.params[0] >= 0:
        set_agent(w, i, w.params[0], w.params[1], w.params[2])
    else:
        place_agent(w, i, 0, 0, w.width, w.height)
    for k in range(w.params[3]):
        at = find_place(w, i, 0, 0, w.width, w.height, 0, _TRIES)
        if at >= 0:
            w.cells[i, at] = wp.int16(_BALL)
        else:  # upstream raises RecursionError
            w.ints[i, EVENTS] = UNMADE
        w.ints[i, AUX + k] = at


@wp.func
def before(w: World, i: wp.int32, action: wp.int32) -> wp.int32:
    """Remember whether something is ahead, then move each obstacle to a random free cell around it, if one is found."""
    ahead = front_cell(w, i)
    blocked = wp.int32(0)
    if ahead != EMPTY_CELL and (ahead & 15) != GOAL:
        blocked = 1
    for k in range(w.params[3]):
        old = w.ints[i, AUX + k]
        if old >= 0 and old < w.width * w.height:
            at = find_place(w, i, old % w.width - 1, old // w.width - 1, 3, 3, 0, _TRIES)
            if at >= 0:
                w.cells[i, at] = wp.int16(_BALL)
                w.cells[i, old] = wp.int16(EMPTY_CELL)
                w.ints[i, AUX + k] = at
    return blocked


@wp.func
def after(w: World, i: wp.int32, action: wp.int32, memo: wp.int32, result: wp.int32) -> wp.int32:
    """Forward with something ahead is a collision, wherever that something has gone since."""
    out = result
    if action == FORWARD and memo != 0:
        out = out | TERMINATED | PENALTY | COLLIDED
    return out


def plan(env: Any) -> Plan | None:
    """Read start and number off upstream's instance."""
    if not 0 <= env.n_obstacles <= 64:
        return None
    x, y = (-1, -1) if env.agent_start_pos is None else env.agent_start_pos
    return Plan((int(x), int(y), int(env.agent_start_dir), env.n_obstacles), (env.mission,), env.n_obstacles)


FAMILY = Family("dynamicobstacles", generate, plan, before=before, after=after)
