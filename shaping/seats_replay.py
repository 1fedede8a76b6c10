"""The seat in a replay buffer of Stable-Baselines3.

``sb3.DQN("MlpPolicy", env, replay_buffer_class=ShapedReplayBuffer, replay_buffer_kwargs=dict(reward=...))``
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from ..envs.kinds import declare
from ..envs.spaces import encode, torch_dtype, tree_leaves, tree_map, zeros
from .replay_seat import ReplaySeat
from .state import pack
from .stretch import Stretch, Tree
from .term import ExperienceMap, Term, World


class ShapedReplayBuffer(ReplayBuffer):
    """A replay buffer of NumPy's and Stable-Baselines3's kind with a reward in it, by the rules of ``ReplaySeat``.

    Cairn's own off-policy agents keep theirs in tensors (``cairn.agents.replay``).

    Args:
        buffer_size: Transitions in all.
        observation_space: As Stable-Baselines3 passes it, like all up to ``handle_timeout_termination``.
        action_space: The same.
        device: Of the batches.
        n_envs: The same.
        optimize_memory_usage: Must be False: the true next observations are kept.
        handle_timeout_termination: Whether to bootstrap at truncated ends.
        reward: The expression; None is the task's own reward.
        experience: What makes further transitions from those sampled.
        gamma: The agent's discount, for terms that need it.
        max_steps: Longest episode, where known.
        update_every: Steps of the batch between two updates of the terms that learn.
        seed: For terms that draw random numbers.

    The facts of terms and labels come from the ``infos``: of a batch (``as_sb3``) its attributes ``facts`` and
    ``next_facts``; of single environments ``info["facts"]``, which are those after the step, and
    ``info["facts_before"]``.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        reward: Any = None,
        experience: ExperienceMap | None = None,
        gamma: float | None = None,
        max_steps: int | None = None,
        update_every: int = 1000,
        seed: int = 0,
    ) -> None:
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)
        if optimize_memory_usage:
            raise ValueError("ShapedReplayBuffer keeps the true next observations: optimize_memory_usage must be False")
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage, self.handle_timeout_termination = False, handle_timeout_termination
        self.space = declare(observation_space)
        # Everything is kept on the CPU, as in Stable-Baselines3, and moved when sampled.
        world = World(self.space, action_space, lanes=n_envs, max_steps=max_steps, gamma=gamma, seed=seed)
        self.seat = ReplaySeat(reward, world, self.buffer_size, experience)
        self.seat.learn_from(self)
        self.update_every = update_every
        self.columns: dict[str, Any] = {}
        self.logs: dict[str, Tensor] = {}
        self.begun = torch.ones(n_envs, dtype=torch.bool)
        self.episode = torch.full((n_envs,), -1, dtype=torch.int64)
        self.t = torch.zeros(n_envs, dtype=torch.int64)
        self.last: Tree | None = None

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        """Take one step of all environments, and evaluate what must be evaluated when lived.

        Raises:
            RewardError: A term gave NaN, infinity or a wrong shape.
        """
        x = self._transition(obs, next_obs, action, reward, done, infos)
        assert isinstance(x.action, Tensor)
        self.seat.live(replace(x, action=self._executed(x.action)))
        if not self.columns:
            self._allocate(x)
        at = self.pos
        tree_map(lambda column, v: column[at].copy_(v), self.columns, _columns(x))
        self.begun, self.last = x.done, x.next_obs
        self.t = torch.where(x.done, 0, x.t + 1)
        self.pos = self.clock % self.buffer_size
        self.full = self.full or self.pos == 0
        if self.clock % self.update_every == 0:
            self.logs = self.seat.update(self.steps)

    @property
    def clock(self) -> int:
        """Steps of the batch taken in."""
        return self.seat.clock

    @property
    def late(self) -> Tensor | None:
        """What episode terms have settled for the kept rows, ``[rows, N, K]``."""
        return self.seat.late

    @property
    def stored(self) -> list[Term]:
        """The nodes of the reward whose values are kept."""
        return self.seat.stored

    @property
    def steps(self) -> int:
        """Environment steps taken in."""
        return self.clock * self.n_envs

    def _transition(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> Stretch:
        before, after = encode(self.space, _rows(obs)), encode(self.space, _rows(next_obs))
        ended = torch.from_numpy(np.array(done, dtype=np.bool_))
        cut = torch.tensor([bool(info.get("TimeLimit.truncated", False)) for info in infos]) & ended
        # A lane that does not go on where it was has been reset from outside (a second call of learn).
        broken = torch.zeros_like(ended)
        if self.last is not None:
            for a, b in zip(tree_leaves(before), tree_leaves(self.last)):
                broken |= (a != b).reshape(len(ended), -1).any(1)
        start = self.begun | broken
        self.episode = self.episode + start
        self.t = torch.where(start, 0, self.t)
        facts, next_facts = _facts(infos)
        return Stretch(
            obs=before,
            action=torch.from_numpy(np.array(action)).reshape(self.n_envs, self.action_dim),
            reward=torch.from_numpy(np.array(reward, dtype=np.float32)),
            next_obs=after,
            terminated=ended & ~cut,
            truncated=cut,
            start=start,
            valid=torch.ones_like(ended),
            lane=torch.arange(self.n_envs),
            episode=self.episode.clone(),
            t=self.t.clone(),
            facts=facts,
            next_facts=next_facts,
        )

    def _allocate(self, x: Stretch) -> None:
        size, lanes = self.buffer_size, self.n_envs
        self.columns = tree_map(lambda v: v.new_zeros(size, *v.shape), _columns(x))
        self.columns["obs"] = zeros(self.space, (size, lanes))
        self.columns["next_obs"] = zeros(self.space, (size, lanes))

    def count(self) -> int:
        """How many transitions it holds."""
        return self.size() * self.n_envs

    def pick(self, index: Tensor) -> Stretch:
        """The transitions of these numbers, int64 ``[n]`` below ``count``."""
        return self.rows(index // self.n_envs, index % self.n_envs)

    def rows(self, at: Tensor, lane: Tensor) -> Stretch:
        """Kept transitions ``[B]``, their actions as the environment executed them."""
        columns = tree_map(lambda column: column[at, lane], self.columns)
        columns["action"] = self._executed(columns["action"])
        return Stretch(valid=torch.ones(len(at), dtype=torch.bool), lane=lane, **columns)

    def _executed(self, action: Tensor) -> Tensor:
        """Stable-Baselines3 keeps continuous actions scaled to [-1, 1]."""
        space = self.action_space
        action = action.reshape(len(action), *(space.shape or ()))
        if isinstance(space, spaces.Box):
            low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
            return low + 0.5 * (action + 1.0) * (high - low)
        return action.to(torch_dtype(space))

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw ``n`` rows and lanes with replacement, from NumPy's generator as Stable-Baselines3 does."""
        at = torch.from_numpy(np.random.randint(0, self.size(), size=n))
        return at, torch.from_numpy(np.random.randint(0, self.n_envs, size=n))

    @torch.no_grad()
    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """A batch with the reward of now; with an experience map, of as many rows as it makes of ``batch_size``.

        Raises:
            ValueError: ``env`` normalises rewards, which it knows only raw.
        """
        if env is not None and env.norm_reward:
            raise ValueError(
                "VecNormalize(norm_reward=True) scales by the task's raw reward, which is not what is trained on here; "
                "take norm_reward=False, and term.normalise() where a term needs it"
            )
        at, lane = self.draw(batch_size)
        scaled = self.columns["action"][at, lane]
        x, origin, total = self.seat.pay(self.rows(at, lane), at, lane, self.steps)
        scaled = scaled if origin is None else scaled[origin]
        done = x.terminated if self.handle_timeout_termination else x.done
        return self._samples(x, scaled, done, total[:, None], env)

    def _samples(self, x: Stretch, action: Tensor, done: Tensor, total: Tensor, env: VecNormalize | None) -> Any:
        def shown(obs: Tree) -> Any:
            if env is not None:
                obs = tree_map(torch.from_numpy, env.normalize_obs(tree_map(lambda v: v.numpy(), obs)))
            return tree_map(lambda v: v.to(self.device), obs)

        kind = DictReplayBufferSamples if isinstance(self.observation_space, spaces.Dict) else ReplayBufferSamples
        return kind(
            observations=shown(x.obs),
            actions=action.to(self.device),
            next_observations=shown(x.next_obs),
            dones=done.float().unsqueeze(1).to(self.device),
            rewards=total.to(self.device),
        )

    def reset(self) -> None:
        """Forget the transitions; the terms keep what they know."""
        self.pos, self.full = 0, False
        self.seat.skip()

    def state(self) -> dict[str, Any]:
        """All of it, as a state tree: transitions, values, open episodes, terms."""
        held = self.size()
        return {
            "seat": self.seat.state(),
            "columns": pack(tree_map(lambda v: v[:held], self.columns)),
            "full": self.full,
            "lanes": pack({"begun": self.begun, "episode": self.episode, "t": self.t}),
            "last": None if self.last is None else pack(self.last),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave, into a buffer made with the same arguments."""
        self.seat.load(state["seat"])

        def full(v: Tensor) -> Tensor:
            return torch.cat([v, v.new_zeros(self.buffer_size - len(v), *v.shape[1:])])

        self.columns = tree_map(full, state["columns"])
        self.full = state["full"]
        self.pos = self.clock % self.buffer_size
        self.begun, self.episode, self.t = (state["lanes"][name].clone() for name in ("begun", "episode", "t"))
        self.last = None if state["last"] is None else tree_map(torch.clone, state["last"])


def _columns(x: Stretch) -> dict[str, Any]:
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "start", "episode", "t")
    return {**{name: getattr(x, name) for name in names}, "facts": x.facts, "next_facts": x.next_facts}


def _rows(obs: Any) -> Any:
    return {name: np.asarray(part) for name, part in obs.items()} if isinstance(obs, Mapping) else np.asarray(obs)


def _facts(infos: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Facts before and after a step, where the infos have them."""
    after = getattr(infos, "next_facts", None)
    if after is not None:
        return tree_map(lambda v: v.cpu(), dict(infos.facts)), tree_map(lambda v: v.cpu(), dict(after))

    def stacked(key: str) -> dict[str, Tensor]:
        if not all(key in info for info in infos):
            return {}
        names = infos[0][key]
        return {n: torch.from_numpy(np.stack([np.asarray(info[key][n]) for info in infos])) for n in names}

    return stacked("facts_before"), stacked("facts")
