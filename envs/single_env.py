"""Questions to a single Gymnasium environment: what it observes, how long it may last, what it can tell."""

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from .kinds import Tokens, declare


def is_minigrid(env: gym.Env[Any, Any]) -> bool:
    """Whether the unwrapped environment is one of MiniGrid's (without importing minigrid to ask)."""
    module = sys.modules.get("minigrid.minigrid_env")
    return module is not None and isinstance(env.unwrapped, module.MiniGridEnv)


def single_space(env: gym.Env[Any, Any]) -> gym.Space[Any]:
    """The single observation space that a batch of such environments declares."""
    pictures = any("RGBImg" in name for name in wrapper_names(env))
    return declare(env.observation_space, symbols=is_minigrid(env) and not pictures)


def minigrid_facts(env: Any) -> dict[str, Any]:
    """MiniGrid's facts: ``position`` int64 [2], ``direction`` (0 right, 1 down, 2 left, 3 up), ``carrying``.

    ``carrying`` is int64 [2], type and colour of the carried object as in the encoding; (-1, -1) when there is none.
    """
    held = env.carrying
    return {
        "position": env.agent_pos,
        "direction": env.agent_dir,
        "carrying": (-1, -1) if held is None else held.encode()[:2],
    }


def writers(upstream: gym.Space[Any], space: gym.Space[Any], buffer: Any, path: tuple[Any, ...] = ()) -> Any:
    """For each leaf: where it is in an upstream observation, its buffer, and the encoder where it is text."""
    if isinstance(space, spaces.Dict):
        for name, child in space.spaces.items():
            is_tuple = isinstance(upstream, spaces.Tuple)
            key: Any = int(name) if is_tuple else name
            yield from writers(upstream[key], child, buffer[name], (*path, key))  # type: ignore[index]
        return
    text = cached_encoder(space) if isinstance(space, Tokens) and not isinstance(upstream, Tokens) else None
    yield path, buffer, text


def cached_encoder(space: Tokens) -> Callable[[str], np.ndarray[Any, Any]]:
    """``space.encode`` with a memory: an episode says the same sentence at every step."""
    known: dict[str, np.ndarray[Any, Any]] = {}

    def encode(text: str) -> np.ndarray[Any, Any]:
        row = known.get(text)
        if row is None:
            if len(known) > 4096:
                known.clear()
            row = known[text] = space.encode(text)
        return row

    return encode


def wrapper_names(env: gym.Env[Any, Any]) -> list[str]:
    """Class names of the wrappers around an environment, outermost first."""
    names = []
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return names


def episode_cap(env: gym.Env[Any, Any]) -> int | None:
    """The least cap on an episode's length that the environment or a TimeLimit around it has."""
    caps = [getattr(env.unwrapped, "max_steps", None)] if is_minigrid(env) else []
    caps.append(getattr(env.spec, "max_episode_steps", None))
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            caps.append(env._max_episode_steps)
        env = env.env
    known = [int(cap) for cap in caps if cap is not None and cap > 0]
    return min(known) if known else None


def sample_action(space: gym.Space[Any]) -> Any:
    """Draw an action in the type in which a batch gives them: a Discrete one is an ``int``."""
    action = space.sample()
    return int(action) if isinstance(space, spaces.Discrete) else action


def seeded_copy(space: gym.Space[Any]) -> gym.Space[Any]:
    """A copy of a space with a fixed seed, so that its own generator stays untouched."""
    copy = deepcopy(space)
    copy.seed(0)
    return copy


def forms(buffers: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, str]:
    """Dtype and shape of each fact, for messages."""
    return {name: f"{buffer.dtype}{list(buffer.shape[1:])}" for name, buffer in buffers.items()}
