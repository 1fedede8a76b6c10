"""How PPO lives a rollout: acts, keeps what the environments give, and works out rewards and advantages."""

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from torch import Tensor

from ..envs.native import sharing
from ..envs.spaces import tree_map
from ..shaping.seats import RolloutSeat
from ..shaping.term import Channel
from . import functional as fn
from .base import BatchAlgorithm, fetch
from .compiled import Compiled
from .compiled_memory import CompiledMemory
from .memory import Memories, MemoryPolicy
from .policies import ActorCriticPolicy
from .rollout import Rollout
from .workers import Clock, Workers, cut

PHASES = ("environment", "inference", "rewards", "learning", "waiting")
"""What a learner spends its time on; the log has each one's share as ``time/<name>``."""


class Collecting(BatchAlgorithm):
    """The half of :class:`cairn.agents.PPO` that lives rollouts; what it needs is built there."""

    rollout: Rollout
    policy: ActorCriticPolicy
    seat: RolloutSeat | None
    channels: tuple[Channel, ...]
    n_steps: int
    gamma: float
    gae_lambda: float
    _compiled: Compiled | None
    _mind: CompiledMemory | None
    _memories: Memories | None
    _drawing: Callable[[int], None] | None
    _workers: Workers
    _clock: Clock
    whole_episodes: bool
    _rows_used: Tensor | None  # rows that are learned from, bool [T, N]; None for all
    _pending: bool  # a rollout waits for its update
    _gamma: Tensor  # of each channel, [K]
    _episodic: Tensor  # bool [K]
    _advantage: Tensor  # [T, N, K]
    _target: Tensor

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        self.rollout.begin(obs, info)
        if self._memories is not None:
            self._memories.begin()
        self._last_obs = self.rollout.at(0)

    def _spent(self, phase: str) -> None:
        """Put the time since the last lap down to a phase, less what the caller waited for other threads."""
        self._clock.lap(phase)
        self._clock.move(self._workers.waited, phase, "waiting")
        self._workers.waited = 0.0

    def collect_rollouts(self, callback: BaseCallback) -> bool:
        """Live ``n_steps`` steps in every environment, and work out rewards and advantages; False if told to stop."""
        batch, rollout, policy = self.batch, self.rollout, self.policy
        assert batch is not None
        policy.set_training_mode(False)
        self._pending = False
        callback.on_rollout_start()
        rollout.open(self._workers.threads)
        if self._memories is not None:
            self._memories.open()
        if self._mind is not None:
            self._mind.begin()
        listening = not isinstance(callback, ConvertCallback) or callback.callback is not None
        if self.use_sde:
            policy.reset_noise(self.n_envs)
        if self._compiled is not None:
            self._compiled.begin()
        noise = policy.noise(self.n_steps, self.n_envs)
        self._drawing = None
        if self._compiled is not None:
            assert noise is not None
            seen, drawn = tree_map(lambda buffer: buffer[:-1], rollout.obs), (rollout.action, rollout.log_prob)
            self._drawing = self._compiled.acting(seen, noise, *drawn, rollout.value, self._workers.threads)
        parts = [slice(0, self.n_envs)] if noise is None else self._cut(self.n_envs, 128 if self._compiled else 256)
        self._clock.lap()
        for t in range(self.n_steps):
            if self.use_sde and self.sde_sample_freq > 0 and t % self.sde_sample_freq == 0:
                policy.reset_noise(self.n_envs)
            self._infer(t, parts, noise)
            actions = policy.executed(rollout.action[t])
            self._spent("inference")
            obs, rewards, terminated, truncated, info = batch.step(actions.to(batch.device))
            rollout.add(t, obs, rewards, terminated, truncated, info)
            if self._memories is not None:
                self._memories.add(t, terminated | truncated, None if rollout.valid is None else rollout.valid[t])
            self._spent("environment")
            self.num_timesteps += self.n_envs
            if listening:
                dones = (terminated | truncated).cpu().numpy()
                scope = {
                    "self": self,
                    "n_steps": t,
                    "env": batch,
                    "new_obs": obs,
                    "actions": actions,
                    "dones": dones,
                    "rewards": rewards.cpu().numpy(),
                    "infos": rollout.infos(t, info),
                }
                callback.update_locals(scope)
                if not callback.on_step():
                    self._finish(whole=t + 1 == self.n_steps)
                    self._pending = False
                    return False
        self._clock.lap()
        self._finish(whole=True)
        self._spent("rewards")
        callback.update_locals({"rollout": rollout})
        callback.on_rollout_end()
        return True

    def _cut(self, rows: int, least: int) -> list[slice]:
        """The parts that rows are worked through in: all at once on a GPU, or where a row's result needs the others."""
        whole = self.device.type != "cpu" or not self.policy.separable
        return [slice(0, rows)] if whole else cut(rows, least)

    def _infer(self, t: int, parts: list[slice], noise: Tensor | None) -> None:
        """Choose the actions of step ``t``."""
        rollout, policy, compiled, memories = self.rollout, self.policy, self._compiled, self._memories
        if self._drawing is not None:
            self._drawing(t)
            return

        def act(lanes: slice) -> None:
            # Inference tensors stay in here: the environment may keep what it is given.
            with torch.inference_mode():
                obs = rollout.at(t, lanes)
                if memories is not None:
                    assert isinstance(policy, MemoryPolicy) and noise is not None
                    now = memories.state[t, lanes], memories.start[t, lanes]
                    action, value, log_prob, state = (self._mind or policy).step(obs, *now, noise=noise[t, lanes])
                    memories.state[t + 1, lanes] = state
                elif noise is None:
                    action, value, log_prob = policy(obs)
                elif compiled is None:
                    action, value, log_prob = policy(obs, noise=noise[t, lanes])
                else:
                    action, value, log_prob = compiled.act(obs, noise[t, lanes])
                rollout.act(t, action, value, log_prob, lanes)

        self._workers.map(act, parts)

    @torch.no_grad()
    def _finish(self, whole: bool) -> None:
        """Turn what was lived into rewards, advantages and statistics; a rollout cut short is not learned from."""
        rollout, policy = self.rollout, self.policy
        reward, self._rows_used = rollout.reward[..., None], rollout.valid
        if self.seat is not None:
            x = rollout.stretch(policy.executed(rollout.action))
            if self.whole_episodes:
                self._rows_used = self.seat.whole(x)
            with sharing(self._workers.threads):
                reward, logs = self.seat(x, self.num_timesteps, lent=True)
                logs = {**logs, **self.seat.update(self.num_timesteps)}
            for name, number in fetch(logs).items():
                self.logger.record_mean(name, number)
        if whole:
            final = torch.zeros_like(rollout.value)
            cut = rollout.cut_rows()
            if cut is not None:
                rows, steps, lanes = cut
                final[steps, lanes] = self._values(rows, steps, lanes)
            last = self._values(rollout.at(self.n_steps), self.n_steps - 1)
            ends = rollout.terminated, rollout.truncated
            follow = fn.follow_values(rollout.value, last, final, *ends, self._episodic, rollout.valid)
            chain = ~((ends[0] | ends[1])[..., None] & self._episodic)
            self._advantage = fn.gae(reward, rollout.value, follow, chain, self._gamma, self.gae_lambda, rollout.valid)
            self._target = self._advantage + rollout.value
        ended = rollout.close()
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        self.ep_info_buffer.extend({"r": r, "l": n} for r, n in zip(ended.total.tolist(), ended.length.tolist()))
        if rollout.knows_success:
            self.ep_success_buffer.extend(rollout.success[ended.step, ended.lane].tolist())
        self._note_ends(ended)
        self._last_obs, self._pending = rollout.at(rollout.row), True

    def _values(self, obs: Any, step: int | Tensor, lanes: slice | Tensor = slice(None)) -> Tensor:
        """Values ``[B, K]`` of an observation tree that these steps of these lanes led to."""
        if self._memories is not None:
            assert isinstance(self.policy, MemoryPolicy)
            state = self._memories.state[step + 1, lanes]
            # The last observation of an episode that was cut still belongs to it; where a lane is now may be a start.
            start = (
                self._memories.start[step + 1, lanes] if isinstance(step, int) else state.new_zeros(len(state)).bool()
            )
            return self.policy.value_of(obs, state, start)
        return self.policy.predict_values(obs) if self._compiled is None else self._compiled.values(obs)

    def _note_ends(self, ended: fn.Ends) -> None:
        """Hear of the episodes that ended in the rollout, before the log is written."""
