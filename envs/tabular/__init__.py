"""Tabular worlds: finite MDPs with exact solvers, and small worlds as Gymnasium environments and batches."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "MDP": "mdp",
        "Scene": "scene",
        "TabularBatch": "vector",
        "TabularEnv": "single",
        "Task": "tasks",
        "best_average": "average",
        "best_chebyshev": "objectives",
        "best_lexicographic": "objectives",
        "best_linear": "objectives",
        "best_max_min": "objectives",
        "chain": "worlds",
        "craft": "labelled",
        "four_rooms": "worlds",
        "gain_bias": "average",
        "grid": "worlds",
        "line_key": "worlds",
        "long_run": "average",
        "occupancy": "solve",
        "office": "labelled",
        "policy_evaluation": "solve",
        "policy_iteration": "solve",
        "policy_return": "solve",
        "random_mdp": "worlds",
        "regret": "solve",
        "room": "worlds",
        "build": "make",
        "soft_value_iteration": "soft",
        "value_iteration": "solve",
        "with_tasks": "tasks",
    },
)
