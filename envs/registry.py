"""The table of ``cairn/`` ids and its registration with Gymnasium."""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .areas.ids import AREA_IDS
from .crafter.ids import CRAFTER_IDS
from .grid.ids import BABYAI_IDS, GRID_IDS
from .multi.ids import BRIDGED_IDS, MULTI_IDS
from .physics.ids import PHYSICS_IDS
from .tabular.ids import TABULAR_IDS

# A row: id, entry points of one environment and of a batch, arguments of both, and the time limit in steps where the
# environment has none of its own. Nothing that a row names is imported before somebody makes one.
Row = tuple[str, str, str, dict[str, Any], int | None]

_GRID = ("cairn.envs.grid.single:make", "cairn.envs.grid.vector:make_vec")

TABLE: tuple[Row, ...] = (
    *((f"cairn/{upstream}", *_GRID, {"upstream": upstream}, None) for upstream in GRID_IDS + BABYAI_IDS),
    *PHYSICS_IDS,
    *((*row, None) for row in TABULAR_IDS),
    *((*row, None) for row in AREA_IDS),
    *((*row, None) for row in MULTI_IDS + BRIDGED_IDS),
    *CRAFTER_IDS,
)


def register_all() -> None:
    """Register every ``cairn/`` id; calling it again changes nothing.

    What ``gymnasium.register`` makes (a test compares), put into its registry: it holds each new id against all others,
    which at hundreds of ids took most of the time of ``import cairn``.
    """
    for name, entry_point, vector_entry_point, kwargs, max_episode_steps in TABLE:
        if name not in gymnasium.registry:
            gymnasium.registry[name] = EnvSpec(
                name,
                entry_point=entry_point,
                vector_entry_point=vector_entry_point,
                kwargs=dict(kwargs),
                max_episode_steps=max_episode_steps,
            )
