"""Quality-diversity and novelty search: many good policies that differ, where rewards are sparse."""

from .._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ALGORITHMS": "table",
        "Constant": "policies",
        "Evaluated": "rollout",
        "Evaluator": "rollout",
        "Grid": "grid",
        "Ledger": "rollout",
        "MLP": "policies",
        "Problem": "problem",
        "Search": "search",
        "Trajectories": "rollout",
        "as_emitter": "pyribs",
        "novelty": "novelty",
        "run_together": "search",
        "signature": "descriptors",
    },
)
