"""MiniGrid, one environment at a time and in batches."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__, {"GridBatch": "engine", "GridView": "views", "Levels": "levels", "upstream": "levels"}
)
