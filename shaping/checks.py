"""What stands around a potential and would undo it: another discount, and scaling of the shaped reward."""

import warnings
from collections.abc import Iterator
from typing import Any

from .term import Term

SCALES = frozenset({"NormalizeReward", "TransformReward", "ClipReward"})  # Gymnasium's, and its vector wrappers'


def check_shaping(model_or_env: Any, gamma: float | None = None) -> list[str]:
    """Warn where an agent or a wrapper outside of the potentials breaks what they promise; Cairn's agents ask it.

    Two mistakes pass unseen otherwise, as a wrapper does not know what is outside of it: the agent discounts with
    another gamma than the potential (any F but ``gamma phi(s') - phi(s)`` changes the task), and the shaped reward is
    normalised or clipped (``NormalizeReward``, Stable-Baselines3's ``VecNormalize``), so that it no longer telescopes.

    Args:
        model_or_env: A Stable-Baselines3 model, a Gymnasium, vector or Stable-Baselines3 environment, or a
            ``BatchEnv``.
        gamma: The agent's discount, where there is no model to ask.

    Returns:
        What was warned of; empty where all is well.
    """
    found: list[str] = []
    if gamma is None and isinstance(getattr(model_or_env, "gamma", None), float | int):
        gamma = float(model_or_env.gamma)
    outside: list[str] = []
    for layer in _layers(model_or_env):
        name = type(layer).__name__
        if name in SCALES or (name == "VecNormalize" and getattr(layer, "norm_reward", False)):
            outside.append(name)
        for node in _potentials(layer):
            if outside:
                found.append(
                    f"{', '.join(outside)} stands outside of {node.name}: the sum along an episode no longer "
                    "telescopes, so the best policy may change. Normalise the other terms inside the expression "
                    "(term.normalise()), or wrap the environment before ShapedReward does"
                )
            used = getattr(node, "gamma", None)
            if gamma is not None and used is not None and used != gamma:
                found.append(
                    f"{node.name} shapes with gamma={used} for an agent with gamma={gamma}: the best policy may "
                    f"change. Give ShapedReward(..., gamma={gamma})"
                )
    for text in found:
        warnings.warn(text, stacklevel=3)
    return found


def _layers(outermost: Any) -> Iterator[Any]:
    """An object and what it wraps, from the outside in; of several environments side by side, the first."""
    layer, seen = outermost, set[int]()
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        inner = (
            [vars(layer).get(name) for name in ("env", "venv", "envs", "batch")] if hasattr(layer, "__dict__") else []
        )
        layer = next((v for v in inner if v is not None), None)
        if isinstance(layer, list | tuple):
            layer = layer[0] if layer else None


def _potentials(layer: Any) -> list[Term]:
    reward = getattr(vars(layer).get("seat"), "reward", None) if hasattr(layer, "__dict__") else None
    return [] if reward is None else [node for node in reward.order if node.telescopes]
