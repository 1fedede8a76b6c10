"""The table of ``cairn/`` ids and its registration with Gymnasium."""

import gymnasium

from .grid.ids import GRID_IDS


def register_all() -> None:
    """Register every ``cairn/`` id; calling it again changes nothing."""
    for upstream in GRID_IDS:
        if f"cairn/{upstream}" not in gymnasium.registry:
            gymnasium.register(
                f"cairn/{upstream}",
                entry_point="cairn.envs.grid.single:make",
                vector_entry_point="cairn.envs.grid.vector:make_vec",
                kwargs={"upstream": upstream},
            )
