"""DistShift: two strips of lava, of which the second moves between training and test."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from ..family import Family, Plan
from ..state import GOAL_CELL, LAVA_CELL, World, place_agent, put, set_agent, wall_rect


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make the strips; params are the agent's start x, y and direction (x < 0: random), the second strip's row."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    put(w, i, w.width - 2, 1, GOAL_CELL)
    for k in range(w.width - 6):
        put(w, i, 3 + k, 1, LAVA_CELL)
        put(w, i, 3 + k, w.params[3], LAVA_CELL)
    if w.params[0] >= 0:
        set_agent(w, i, w.params[0], w.params[1], w.params[2])
    else:
        place_agent(w, i, 0, 0, w.width, w.height)


def plan(env: Any) -> Plan:
    """Read the start and the strip off upstream's instance."""
    x, y = (-1, -1) if env.agent_start_pos is None else env.agent_start_pos
    return Plan((int(x), int(y), int(env.agent_start_dir), int(env.strip2_row)), (env.mission,))


FAMILY = Family("distshift", generate, plan)
