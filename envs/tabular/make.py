"""What ``gym.make`` and ``gym.make_vec`` call for the ids of ``ids.py``."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from ..batch import BatchEnv
from . import labelled, worlds
from .line import LineKey, LineKeyBatch
from .scene import Scene
from .single import TabularEnv
from .vector import TabularBatch


def _random(seed: int = 0, max_steps: int = 100, **kwargs: Any) -> Scene:
    """One random MDP, with episodes of ``max_steps``."""
    return Scene(worlds.random_mdp(seed=seed, **kwargs), max_steps)


SCENES: dict[str, Callable[..., Scene]] = {
    "chain": worlds.chain,
    "room": worlds.room,
    "line_key": worlds.line_key,
    "four_rooms": worlds.four_rooms,
    "random": _random,
    "office": labelled.office,
    "craft": labelled.craft,
}


def build(world: str, **kwargs: Any) -> Scene:
    """Build a world by its name in ``SCENES``.

    Args:
        world: The name.
        kwargs: Arguments of its function.

    Raises:
        ValueError: The name is unknown.
    """
    if world not in SCENES:
        raise ValueError(f"no tabular world is called {world!r}; there are {', '.join(SCENES)}")
    return SCENES[world](**kwargs)


def make(
    world: str, *, render_mode: str | None = None, max_episode_steps: int | None = None, **kwargs: Any
) -> gym.Env[Any, Any]:
    """Make one environment.

    Args:
        world: A name in ``SCENES``, or ``"line_k"`` for the continuous line.
        render_mode: ``"ansi"``, ``"rgb_array"`` or None.
        max_episode_steps: Truncate after so many steps, where that is before the world's own cap.
        kwargs: Arguments of the world.

    Raises:
        ValueError: The world is unknown, or an argument is out of range.
    """
    if world == "line_k":
        return LineKey(render_mode=render_mode, max_episode_steps=max_episode_steps, **kwargs)
    return TabularEnv(build(world, **kwargs), render_mode=render_mode, max_episode_steps=max_episode_steps)


def make_vec(
    world: str,
    num_envs: int,
    *,
    device: str = "cpu",
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> BatchEnv:
    """Make ``num_envs`` environments as a batch; lane i is the single environment after ``reset(seed, lane i)``.

    Args:
        world: As for ``make``.
        num_envs: N.
        device: A torch device.
        render_mode: As for ``make``.
        max_episode_steps: As for ``make``.
        kwargs: Arguments of the world.
    """
    common: dict[str, Any] = {"device": device, "render_mode": render_mode, "max_episode_steps": max_episode_steps}
    if world == "line_k":
        return LineKeyBatch(num_envs, **common, **kwargs)
    return TabularBatch(build(world, **kwargs), num_envs, **common)
