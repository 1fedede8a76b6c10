"""Wrappers of a BatchEnv: episode statistics, normalised observations, a time limit."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .batch import BatchEnv, BatchWrapper, check_reset_mask
from .kinds import kind
from .spaces import children, tree_map


class EpisodeStatistics(BatchWrapper):
    """Return, length and success of every episode that ends.

    ``info["episode"]`` has ``r`` float64 [N], the undiscounted sum of rewards, ``l`` int64 [N], the number of steps,
    and ``success`` bool [N] where the environment knows it; ``info["_episode"]`` bool [N] marks the lanes where an
    episode ended. Rows outside the mask hold the running values.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._return = torch.zeros(self.num_envs, dtype=torch.float64, device=self.device)
        self._length = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, and their statistics."""
        out = self.env.reset(seed=seed, options=options)
        rows = _reset_rows(options, self)
        self._return[rows] = 0.0
        self._length[rows] = 0
        return out

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and count."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        valid = info.get("valid")
        self._return += reward if valid is None else reward * valid
        self._length += 1 if valid is None else valid
        ended = terminated | truncated
        episode = {"r": self._return.clone(), "l": self._length.clone()}
        if "success" in info.get("final_facts", {}):
            episode["success"] = info["final_facts"]["success"]
        self._return.masked_fill_(ended, 0.0)
        self._length.masked_fill_(ended, 0)
        return obs, reward, terminated, truncated, {**info, "episode": episode, "_episode": ended}

    def _own_state(self) -> dict[str, Any]:
        return {"return": self._return.clone(), "length": self._length.clone()}

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self._return.copy_(state["return"])
        self._length.copy_(state["length"])


class TimeLimit(BatchWrapper):
    """Truncate episodes after ``max_steps`` steps.

    Put it next to the environment, inside of ``EpisodeStatistics``: what is inside of it does not see its ends.

    Raises:
        ValueError: ``max_steps`` is not a positive whole number.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], max_steps: int) -> None:
        super().__init__(env)
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"max_steps={max_steps!r}: a time limit is a positive number of steps")
        if not self.env.always_valid:
            raise ValueError(f"{env} cannot reset some of its lanes, which a time limit has to")
        self._limit = max_steps
        self.max_steps = max_steps if self.max_steps is None else min(max_steps, self.max_steps)
        self._age = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        out = self.env.reset(seed=seed, options=options)
        self._age[_reset_rows(options, self)] = 0
        return out

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and reset the lanes whose time is up within the same step."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._age += 1
        late = self._age >= self._limit
        over = late & ~terminated & ~truncated  # those that the inner environment has not reset itself
        truncated = truncated | late  # as Gymnasium's TimeLimit: an episode may end for both reasons at once
        self._age.masked_fill_(terminated | truncated, 0)
        if not bool(over.any()):
            return obs, reward, terminated, truncated, info
        # The inner environment may write its next observations over these, so they are copied before it resets.
        last = tree_map(torch.clone, obs)
        facts = tree_map(torch.clone, info.get("facts", {}))
        info = dict(info)
        if self.frame_every:
            self._final_frames(info, over)
        info["final_obs"] = tree_map(lambda old, now: _rows(over, now, old), info["final_obs"], last)
        info["final_facts"] = tree_map(lambda old, now: _rows(over, now, old), dict(info.get("final_facts", {})), facts)
        info["_final_obs"] = info["_final_obs"] | over
        begun, begun_info = self.env.reset(options={"reset_mask": over})
        obs = tree_map(lambda now, old: _rows(over, now, old), begun, last)
        info["facts"] = tree_map(lambda now, old: _rows(over, now, old), dict(begun_info.get("facts", {})), facts)
        if self.frame_every:
            info["frame"] = _rows(over, begun_info["frame"], info["frame"])
            info["_frame"] = info["_frame"] | over
        return obs, reward, terminated, truncated, info

    def _final_frames(self, info: dict[str, Any], over: Tensor) -> None:
        """Add the last pictures of the lanes whose time is up."""
        pictures = self.env.render()
        assert pictures is not None
        now = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(self.device)
        old = info["final_frame"]
        info["final_frame"] = _rows(over, now, old if old.shape == now.shape else torch.zeros_like(now))
        info["_final_frame"] = info["_final_frame"] | over

    def _own_state(self) -> dict[str, Any]:
        return {"age": self._age.clone()}

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self._age.copy_(state["age"])


class NormalizeObservation(BatchWrapper):
    """Shift and scale every vector part of the observation to mean 0 and variance 1, by running statistics.

    Symbols, pixels, text and categories pass as they are. Each observation that ``reset`` and ``step`` return counts
    once (final observations are normalised, and not counted), by the parallel update of Chan, Golub and LeVeque,
    "Algorithms for computing the sample variance" (1983), in float64. ``training = False`` freezes the statistics, for
    evaluation. They are in ``state_dict`` (``own``), and ``statistics()`` gives them alone, to be saved with a
    policy. ``encode`` normalises too, without counting.

    Args:
        env: The batch.
        clip: Normalised values are cut to [-clip, clip].
        epsilon: Added to the variance.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__(env)
        self.training = True
        self.clip, self.epsilon = float(clip), float(epsilon)
        self._stats: Any = _fresh_stats(env.single_observation_space, self.device)
        self.single_observation_space = _normal_space(env.single_observation_space, self.clip)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; the first observations of these count."""
        obs, info = self.env.reset(seed=seed, options=options)
        rows = _reset_rows(options, self)
        self._count(self._stats, obs, rows)
        return self.normalize(obs), info

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, count, normalise."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        self._count(self._stats, obs, slice(None))
        info = {**info, "final_obs": self.normalize(info["final_obs"])}
        return self.normalize(obs), reward, terminated, truncated, info

    def normalize(self, obs: Any) -> Any:
        """Normalise a batch ``[B, ...]`` by the present statistics, without counting it."""
        return self._normal(self._stats, obs)

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation, normalised and not counted again."""
        obs, info = self.env.observe()
        return self.normalize(obs), info

    def encode(self, obs: Any) -> Any:
        """Turn observations of the single environment into a normalised batch."""
        return self.normalize(self.env.encode(obs))

    def statistics(self) -> dict[str, Any]:
        """A copy of the statistics: for each vector part ``mean``, ``var`` (float64) and ``count``."""
        return {"stats": tree_map(torch.clone, self._stats)}

    def load_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Take statistics of another wrapper of the same observation space; ValueError where they do not fit."""
        self._check_own(statistics)
        self._load_own(statistics)

    def _count(self, stats: Any, obs: Any, rows: Any) -> None:
        if not self.training or not stats:
            return
        if not isinstance(stats.get("count"), Tensor):
            for name, child in stats.items():
                self._count(child, obs[name], rows)
            return
        batch = obs[rows].to(torch.float64)
        n = batch.shape[0]
        if n == 0:
            return
        mean, total = batch.mean(0), stats["count"] + n
        delta = mean - stats["mean"]
        square = stats["var"] * stats["count"] + batch.var(0, unbiased=False) * n
        stats["mean"] = stats["mean"] + delta * (n / total)
        stats["var"] = (square + delta**2 * (stats["count"] * n / total)) / total
        stats["count"] = total

    def _normal(self, stats: Any, obs: Any) -> Any:
        if not stats:
            return obs
        if not isinstance(stats.get("count"), Tensor):
            return {name: self._normal(stats[name], child) for name, child in obs.items()}
        scaled = (obs - stats["mean"]) / torch.sqrt(stats["var"] + self.epsilon)
        return scaled.clamp(-self.clip, self.clip).float()

    def _own_state(self) -> dict[str, Any]:
        return self.statistics()

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self._stats = tree_map(lambda tensor: tensor.to(self.device).clone(), state["stats"])


def _fresh_stats(space: gym.Space[Any], device: torch.device) -> Any:
    """Statistics of every vector part; an empty dict for the others."""
    parts = children(space)
    if parts is not None:
        return {name: _fresh_stats(child, device) for name, child in parts.items()}
    if kind(space) != "vector":
        return {}
    zero = torch.zeros(space.shape or (), dtype=torch.float64, device=device)
    return {"mean": zero, "var": torch.ones_like(zero), "count": torch.zeros((), dtype=torch.float64, device=device)}


def _normal_space(space: gym.Space[Any], clip: float) -> gym.Space[Any]:
    parts = children(space)
    if parts is not None:
        return spaces.Dict({name: _normal_space(child, clip) for name, child in parts.items()})
    return spaces.Box(-clip, clip, space.shape, np.float32) if kind(space) == "vector" else space


def _reset_rows(options: Mapping[str, Any] | None, env: BatchEnv) -> Any:
    """The rows that a reset was about."""
    mask = (options or {}).get("reset_mask")
    return slice(None) if mask is None else torch.from_numpy(check_reset_mask(mask, env.num_envs)).to(env.device)


def _rows(mask: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    """``there`` in the rows of ``mask``, ``elsewhere`` in the others."""
    return torch.where(mask.reshape(-1, *[1] * (there.dim() - 1)), there, elsewhere)
