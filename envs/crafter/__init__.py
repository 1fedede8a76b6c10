"""Crafter (extra ``crafter``): an open world to gather, build and survive in, with facts for reward programs."""

from ..._lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"SYMBOLS": "symbols", "CrafterEnv": "single"})
