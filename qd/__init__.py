"""Quality-diversity and novelty search: many good policies that differ, where rewards are sparse."""

from .._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "ALGORITHMS": "table",
        "AutoEncoder": "models",
        "CNN": "policies",
        "Constant": "policies",
        "DescriptorModel": "models",
        "DistributedEvaluator": "distributed",
        "ElitePolicy": "running",
        "Evaluated": "rollout",
        "Evaluator": "rollout",
        "Grid": "grid",
        "Ledger": "rollout",
        "ImageDescriptor": "images",
        "LearnedElites": "feedback",
        "MLP": "policies",
        "PCA": "models",
        "Policy": "policies",
        "Problem": "problem",
        "Search": "search",
        "SeedGenomes": "seeds",
        "Trajectories": "rollout",
        "Transitions": "rollout",
        "TripletDescriptor": "models",
        "SearchConfig": "config",
        "as_emitter": "pyribs",
        "load_grid": "running",
        "load_policies": "running",
        "run_together": "search",
        "signature": "descriptors",
        "truth": "feedback",
    },
)
