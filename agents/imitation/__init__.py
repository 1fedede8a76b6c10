"""Imitation and inverse reinforcement learning: acting as demonstrated, and finding out what for."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "AIRL": "adversarial",
        "AdversarialSAC": "adversarial",
        "AdversarialTD3": "adversarial",
        "BC": "bc",
        "DAgger": "dagger",
        "DemoPPO": "beside",
        "GAIL": "adversarial",
        "IQLearn": "iq_learn",
        "IQLearnSAC": "iq_learn",
        "InverseReward": "iq_learn",
        "MixturePolicy": "mixture",
        "TableReward": "mce",
        "empirical_occupancy": "mce",
        "feature_table": "mce",
        "mce_irl": "mce",
    },
)
