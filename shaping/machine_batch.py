"""A batch whose task is a reward machine's; ``MachineEnv(batch, machine)`` makes it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ..envs.batch import BatchEnv, BatchWrapper
from ..envs.spaces import encode, tree_map
from .machine_space import KEY, with_state
from .stretch import Tree


class MachineBatch(BatchWrapper):
    """N environments whose task is a reward machine's, and whose observations show its state.

    As ``MachineEnv``, on tensors: the environment's own reward is in ``info["env_reward"]``; a final state of the
    machine terminates, and the lane is reset in the same step. ``info["facts"]`` and ``final_facts`` have ``machine``,
    ``letter`` and ``env_terminated`` besides the environment's own.

    Args:
        env: The batch.
        machine: The task: a ``RewardMachine``, or what steps and is shown like one (``CountingMachine``).
        facts: Function of ``info["facts"]`` to more facts ``[N, ...]`` for the labels, or None.
    """

    def __init__(
        self, env: BatchEnv, machine: Any, facts: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    ) -> None:
        super().__init__(env)
        if not env.always_valid:
            raise ValueError(f"{env} cannot reset some of its lanes, which the machine's ends have to")
        self.machine, self.more_facts = machine, facts
        self.single_observation_space = with_state(env.single_observation_space, len(machine))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.now = machine.starts[0].to(self.device).repeat(self.num_envs)
        self.episode = torch.full((self.num_envs,), -1, dtype=torch.int64, device=self.device)
        # Moved to the device once, not at every step.
        self._target, self._reward = machine.target.to(self.device), machine.reward.to(self.device)
        self._final, self._starts = machine.final.to(self.device), machine.starts.to(self.device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in the machine's first state; a seed begins with the first of several machines."""
        obs, info = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        rows = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        rows = rows if mask is None else torch.as_tensor(mask, device=self.device)
        if seed is not None:
            self.episode = torch.where(rows, -1, self.episode)
        self._begin(rows)
        zero = torch.zeros_like(self.now)
        return self._show(obs, self.now), {**info, "facts": self._with(info.get("facts", {}), self.now, zero, zero > 0)}

    def _begin(self, rows: Tensor) -> None:
        self.episode = self.episode + rows
        self.now = torch.where(rows, self._starts[self.episode.clamp(min=0) % len(self._starts)], self.now)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step the environments, then the machine.

        Raises:
            FactError: A label reads a fact that there is not.
        """
        obs, task, terminated, truncated, info = self.env.step(actions)
        ended = info["_final_obs"]
        facts, final_facts = info.get("facts", {}), info.get("final_facts", {})
        last = tree_map(lambda old, now: _rows(ended, old, now), info["final_obs"], obs)
        seen = {k: _rows(ended, final_facts[k], v) if k in final_facts else v.clone() for k, v in facts.items()}
        if self.more_facts is not None:
            seen.update(self.more_facts(seen))
        letter = self.machine.letters(seen if self.machine.on == "facts" else last).to(self.device)
        reward, after = self._reward[self.now, letter], self._target[self.now, letter]
        over = self._final[after]
        over_now = over & ~ended  # those that the environment has not reset itself
        final = self._with(seen, after, letter, terminated)
        self.now = after
        self._begin(over | ended)
        info = dict(info)
        info["final_obs"], info["_final_obs"] = self._show(last, after), ended | over
        info["final_facts"], info["env_reward"] = final, task
        if bool(over_now.any()):
            if self.frame_every:
                self._final_frames(info, over_now)
            kept = tree_map(torch.clone, obs)  # the environment may write its next observations over these
            facts = tree_map(torch.clone, dict(facts))
            begun, begun_info = self.env.reset(options={"reset_mask": over_now})
            obs = tree_map(lambda new, old: _rows(over_now, new, old), begun, kept)
            facts = {k: _rows(over_now, begun_info["facts"][k], v) for k, v in facts.items()}
            if self.frame_every:
                info["frame"] = _rows(over_now, begun_info["frame"], info["frame"])
                info["_frame"] = info["_frame"] | over_now
        fresh = over | ended
        now = self._with(facts, self.now, torch.where(fresh, 0, letter), terminated & ~fresh)
        if self.more_facts is not None:
            now.update(self.more_facts(now))
        info["facts"] = now
        return self._show(obs, self.now), reward, terminated | over, truncated & ~over, info

    def _final_frames(self, info: dict[str, Any], over: Tensor) -> None:
        """Add the last pictures of the lanes that the machine ends."""
        pictures = self.env.render()
        assert pictures is not None
        now = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(self.device)
        old = info["final_frame"]
        info["final_frame"] = _rows(over, now, old if old.shape == now.shape else torch.zeros_like(now))
        info["_final_frame"] = info["_final_frame"] | over

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts, without a step (the last letter is forgotten)."""
        obs, info = self.env.observe()
        zero = torch.zeros_like(self.now)
        return self._show(obs, self.now), {**info, "facts": self._with(info.get("facts", {}), self.now, zero, zero > 0)}

    def encode(self, obs: Any) -> Any:
        """Turn observations of the single ``MachineEnv`` into a batch."""
        return encode(self.single_observation_space, obs, self.device)

    def _with(self, facts: Mapping[str, Tensor], state: Tensor, letter: Tensor, ended: Tensor) -> dict[str, Tensor]:
        return {**facts, "machine": state, "letter": letter, "env_terminated": ended}

    def _show(self, obs: Tree, state: Tensor) -> Tree:
        size = len(self.machine)
        space = self.env.single_observation_space
        if isinstance(space, spaces.Discrete) and isinstance(obs, Tensor):
            return (obs - int(space.start)) * size + state
        hot = torch.nn.functional.one_hot(state, size).float()
        return {**obs, KEY: hot} if isinstance(obs, dict) else torch.cat([obs, hot.to(obs.dtype)], -1)

    def _own_state(self) -> dict[str, Any]:
        return {"machine": self.now.clone(), "episode": self.episode.clone()}

    def _check_own(self, state: Mapping[str, Any]) -> None:
        super()._check_own(state)
        if bool(((state["machine"] < 0) | (state["machine"] >= len(self.machine))).any()):
            raise ValueError(f"the saved states go beyond the machine's {len(self.machine)}")

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self.now = state["machine"].to(self.device).clone()
        self.episode = state["episode"].to(self.device).clone()


def _rows(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` where the mask ``[N]`` holds, else ``b``, both ``[N, ...]``."""
    return torch.where(mask.reshape(-1, *[1] * (a.dim() - 1)), a, b)
