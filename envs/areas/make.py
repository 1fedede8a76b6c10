"""What ``gym.make`` and ``gym.make_vec`` call for the ids of ``ids.py``."""

from typing import Any

import gymnasium as gym

from .arm import ArmBatch
from .base import AreaBatch
from .curling import CurlingBatch
from .maze import HardMazeBatch
from .repertoire import RepertoireBatch
from .single import AreaEnv

WORLDS: dict[str, type[AreaBatch]] = {
    "arm": ArmBatch,
    "repertoire": RepertoireBatch,
    "maze": HardMazeBatch,
    "curling": CurlingBatch,
}


def make_vec(world: str, num_envs: int, **kwargs: Any) -> AreaBatch:
    """Make ``num_envs`` environments as a batch.

    Args:
        world: A name in ``WORLDS``.
        num_envs: N.
        kwargs: ``device``, ``render_mode``, ``max_episode_steps``, ``pixels`` and the world's own arguments.

    Raises:
        ValueError: The world is unknown, or an argument is out of range.
    """
    if world not in WORLDS:
        raise ValueError(f"no world with areas is called {world!r}; there are {', '.join(WORLDS)}")
    return WORLDS[world](num_envs, **kwargs)


def make(world: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make one environment: a batch of one behind Gymnasium's face; arguments as for ``make_vec``."""
    return AreaEnv(make_vec(world, 1, **kwargs))
