"""Environments: one at a time through ``gym.make``, many at once as a ``BatchEnv`` through ``gym.make_vec``."""

from .._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "BatchEnv": "batch",
        "BatchWrapper": "batch",
        "DelayedReward": "delayed",
        "EpisodeStatistics": "wrappers",
        "EpisodicReward": "delayed",
        "NormalizeObservation": "wrappers",
        "TimeLimit": "wrappers",
        "as_sb3": "bridges",
        "check_batch_env": "check",
        "find_wrapper": "batch",
        "flat_single": "bridges",
        "from_gymnasium": "bridges",
        "from_sb3": "bridges",
        "from_vector": "bridges",
        "lane_seed": "batch",
        "make_batch": "bridges",
        "minigrid_facts": "single_env",
    },
)
