"""Empty: a room with a goal in the far corner."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from ..family import Family, Plan
from ..state import GOAL_CELL, World, place_agent, put, set_agent, wall_rect


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the room; params are the agent's start x, y and direction, x < 0 for a random place."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    put(w, i, w.width - 2, w.height - 2, GOAL_CELL)
    if w.params[0] >= 0:
        set_agent(w, i, w.params[0], w.params[1], w.params[2])
    else:
        place_agent(w, i, 0, 0, w.width, w.height)


def plan(env: Any) -> Plan:
    """Read the start off upstream's instance."""
    x, y = (-1, -1) if env.agent_start_pos is None else env.agent_start_pos
    return Plan((int(x), int(y), int(env.agent_start_dir)), ("get to the green goal square",))


FAMILY = Family("empty", generate, plan)
