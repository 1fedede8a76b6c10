"""The ways into and out of BatchEnv: Gymnasium's environments, its vector environments, Stable-Baselines3."""

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import torch

from .batch import BatchEnv
from .gymnasium_batch import Facts, GymnasiumBatch
from .single_env import minigrid_facts
from .vector_batch import from_vector

if TYPE_CHECKING:
    from .sb3 import as_sb3, flat_single, from_sb3

__all__ = ["as_sb3", "flat_single", "from_gymnasium", "from_sb3", "from_vector", "make_batch", "minigrid_facts"]


def __getattr__(name: str) -> Any:
    """Import Stable-Baselines3 (1.5 s) for those who cross that bridge only."""
    if name in ("as_sb3", "flat_single", "from_sb3"):
        from . import sb3

        return getattr(sb3, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


Maker = str | Callable[..., gym.Env[Any, Any]]


def from_gymnasium(
    id_or_callable: Maker,
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    facts: Facts | None = None,
    **kwargs: Any,
) -> BatchEnv:
    """Batch N single environments of Gymnasium, stepping one after the other in this process.

    Args:
        id_or_callable: What ``gym.make`` takes, or a function that makes a new environment at every call. A function
            with one required argument is given the lane (0 to N - 1).
        num_envs: N.
        device: Where the tensors go.
        facts: Function of the unwrapped environment to a dict of numbers and arrays; MiniGrid's are built in.
        kwargs: Passed to ``gym.make`` or to the function (``render_mode="rgb_array"``, say).

    Returns:
        The batch. Its state can be saved and restored exactly where the environment draws from its own generator
        only (``exact_state`` tells).

    Raises:
        ValueError: The environments differ, or are one and the same object.
        TypeError: A space that tensors cannot carry, or an environment instead of a function that makes them.
    """
    return GymnasiumBatch(_maker(id_or_callable, kwargs), num_envs, device=device, facts=facts)


def _maker(what: Maker, kwargs: dict[str, Any]) -> Callable[[int], gym.Env[Any, Any]]:
    if isinstance(what, str):
        if what.startswith(("MiniGrid-", "BabyAI-")):
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on stdout otherwise
            import minigrid  # noqa: F401  (registers the ids)
        # The passive checker costs as much as a small environment's step, and check_env does its work once.
        return lambda lane: gym.make(what, disable_env_checker=True, **kwargs)
    if isinstance(what, gym.Env):
        raise TypeError(
            "from_gymnasium makes its own environments: give it an id or a function, such as lambda: MyEnv(); "
            "make_batch(env) turns a single one into a batch of one"
        )
    if not callable(what):
        raise TypeError(f"expected an id or a function that makes an environment, and got {what!r}")
    return (lambda lane: what(lane, **kwargs)) if _wants_lane(what, kwargs) else (lambda lane: what(**kwargs))


def _wants_lane(function: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function has a required positional argument that ``kwargs`` does not give."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional and p.default is p.empty and p.name not in kwargs for p in parameters)


def make_batch(
    what: Any, num_envs: int | None = None, *, device: torch.device | str = "cpu", **kwargs: Any
) -> BatchEnv:
    """Make a BatchEnv of whatever an agent may be given.

    Args:
        what: A BatchEnv (returned as it is), an id, a ``gym.Env`` (a batch of one), a function that makes one, a
            Gymnasium ``VectorEnv`` or a Stable-Baselines3 ``VecEnv``.
        num_envs: N, for an id or a function; 1 when left out.
        device: Where the tensors go; a BatchEnv keeps its own.
        kwargs: For an id or a function: passed on.

    Raises:
        TypeError: None of these.
        ValueError: ``num_envs`` contradicts what the object has.
    """
    if isinstance(what, str):
        what = what.removeprefix("cairn:")
        spec = gym.spec(what) if what in gym.registry else None
        if spec is not None and spec.vector_entry_point is not None and what.startswith("cairn/"):
            made = gym.make_vec(what, num_envs or 1, device=str(device), **kwargs)
            assert isinstance(made, BatchEnv)
            return made
        return from_gymnasium(what, num_envs or 1, device=device, **kwargs)
    if isinstance(what, gym.Env):
        batch: BatchEnv = GymnasiumBatch(lambda lane: what, 1, device=device, **kwargs)
    elif isinstance(what, BatchEnv):
        batch = what
    elif isinstance(what, gym.vector.VectorEnv):
        batch = from_vector(what, device=device)
    elif hasattr(what, "step_async") and hasattr(what, "env_is_wrapped"):
        from .sb3 import from_sb3

        batch = from_sb3(what, device=device)
    elif callable(what):
        return from_gymnasium(what, num_envs or 1, device=device, **kwargs)
    else:
        raise TypeError(
            f"{type(what).__name__} is no environment: give an id, a gym.Env, a function that makes one, a VectorEnv, "
            "a Stable-Baselines3 VecEnv or a BatchEnv"
        )
    if num_envs is not None and num_envs != batch.num_envs:
        raise ValueError(f"num_envs={num_envs}, but the environment given has {batch.num_envs} already")
    return batch
