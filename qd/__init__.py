"""Quality-diversity and novelty search: many good policies that differ, where rewards are sparse."""

from .._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ALGORITHMS": "table",
        "Constant": "policies",
        "ElitePolicy": "running",
        "Evaluated": "rollout",
        "Evaluator": "rollout",
        "Grid": "grid",
        "Ledger": "rollout",
        "MLP": "policies",
        "Problem": "problem",
        "Search": "search",
        "Trajectories": "rollout",
        "SearchConfig": "config",
        "as_emitter": "pyribs",
        "load_grid": "running",
        "load_policies": "running",
        "novelty": "novelty",
        "run_together": "search",
        "signature": "descriptors",
    },
)
