"""Delayed and episodic reward: the same task, its reward paid later.

Nothing about the task changes but when it pays: every k steps (Oh et al., "Self-Imitation Learning", 2018, section 5.3:
delayed MuJoCo, k = 20), or once when the episode ends (Gangwani et al., "Learning Guidance Rewards with
Trajectory-space Smoothing", 2020). The undiscounted return of an episode stays the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from .batch import BatchWrapper, check_reset_mask


class DelayedReward(BatchWrapper):
    """Pay the sum of rewards every ``every`` steps of an episode, and the rest when it ends.

    ``info["undelayed_reward"]`` float32 ``[N]`` is what the environment paid for the step. Sums are kept in float64.
    The time since the last payment is not observed, so the task is no longer Markov in its observations, as in the
    papers.

    Args:
        env: The batch.
        every: k, in steps; None for the episode's end alone.

    Raises:
        ValueError: ``every`` is not a positive whole number.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], every: int | None) -> None:
        super().__init__(env)
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"every={every!r}: rewards are paid every so many steps, at least 1")
        self.every = every
        self._owed = torch.zeros(self.num_envs, dtype=torch.float64, device=self.device)
        self._age = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; what their lanes were owed is gone with the old ones."""
        out = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        rows = slice(None) if mask is None else torch.from_numpy(check_reset_mask(mask, self.num_envs)).to(self.device)
        self._owed[rows] = 0.0
        self._age[rows] = 0
        return out

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and pay where it is due."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        valid = info.get("valid")
        self._owed += reward if valid is None else reward * valid
        self._age += 1 if valid is None else valid
        ended = terminated | truncated
        due = ended if self.every is None else ended | (self._age % self.every == 0)
        paid = torch.where(due, self._owed, 0.0).to(reward.dtype)
        self._owed.masked_fill_(due, 0.0)
        self._age.masked_fill_(ended, 0)
        return obs, paid, terminated, truncated, {**info, "undelayed_reward": reward}

    def _own_state(self) -> dict[str, Any]:
        return {"every": 0 if self.every is None else self.every, "owed": self._owed.clone(), "age": self._age.clone()}

    def _check_own(self, state: Mapping[str, Any]) -> None:
        super()._check_own(state)
        if state["every"] != (self.every or 0):
            raise ValueError(f"the state was saved with every={state['every'] or None}, and this has {self.every}")

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self._owed.copy_(state["owed"])
        self._age.copy_(state["age"])


class EpisodicReward(DelayedReward):
    """Pay the whole return of an episode with its last step, and nothing before."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env, None)
