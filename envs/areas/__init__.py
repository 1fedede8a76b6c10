"""Worlds for quality-diversity and novelty search: an outcome in the plane, and reward in a few areas of it."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "AreaBatch": "base",
        "AreaEnv": "single",
        "ArmBatch": "arm",
        "CurlingBatch": "curling",
        "HardMazeBatch": "maze",
        "RepertoireBatch": "repertoire",
    },
)
