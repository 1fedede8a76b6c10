"""LavaGap: a strip of lava (or wall) with one gap."""

# mypy: disable-error-code="untyped-decorator"

from typing import Any

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import EMPTY_CELL, GOAL_CELL, World, put, rand_int, set_agent, vert_wall, wall_rect


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make strip and gap; the param is the obstacle's cell."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    set_agent(w, i, 1, 1, 0)
    put(w, i, w.width - 2, w.height - 2, GOAL_CELL)
    x = rand_int(w, i, 2, w.width - 2)
    y = rand_int(w, i, 1, w.height - 1)
    vert_wall(w, i, x, 1, w.height - 2, w.params[0])
    put(w, i, x, y, EMPTY_CELL)


def plan(env: Any) -> Plan | None:
    """Read the obstacle off upstream's instance."""
    obstacle = env.obstacle_type().encode()
    if obstacle[0] not in (L.WALL, L.LAVA) or min(env.width, env.height) < 5:
        return None
    return Plan((L.pack(*obstacle),), (env.mission,))


FAMILY = Family("lavagap", generate, plan)
