"""Rewards as expressions of terms: potentials, bonuses, machines, gates, learned and written rewards."""

from .._lazy import exports

# Public name -> the file that defines it.
__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "EpisodicCount": "counts",
        "Potential": "potential",
        "Reward": "term",
        "ShapedReward": "seats",
        "Stretch": "term",
        "Task": "term",
    },
)
