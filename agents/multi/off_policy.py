"""What off-policy agents for teams share: the team as one row, a buffer with every agent's reward, acting for all."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ...envs.batch import BatchEnv
from ...envs.bridges import make_batch
from ...envs.multi.team import Joint, OneHot, require_team
from ..off_policy import OffPolicyAlgorithm
from ..replay import Ended, ReplayBuffer


class TeamReplay(ReplayBuffer):
    """A replay buffer that keeps what every agent was paid; minibatches have rewards ``[B, 1, A]``.

    With a reward expression, which scores the team's rows, they are ``[B, 1]``, for all agents the same.

    L ``learners`` side by side draw from their own lanes: a minibatch is the first one's rows, then the second's, ...
    """

    learners = 1
    _each = 0  # rows of one learner in a minibatch; 0: all there are

    def keep_agents(self, members: int) -> None:
        """Make room for the rewards of A agents."""
        self.lived["agent_reward"] = self._room(torch.zeros(0, members))

    def add(
        self, obs: Any, reward: Tensor, terminated: Tensor, truncated: Tensor, info: Mapping[str, Any]
    ) -> Ended | None:
        """Keep what a step gave; the episodes' returns are means over the agents."""
        own = info["agent_reward"]
        self.lived["agent_reward"][self.row].copy_(own)
        return super().add(obs, own.mean(-1), terminated, truncated, info)

    def batches(self, count: int, batch_size: int) -> Iterator[Any]:
        """Draw ``count`` minibatches with ``batch_size`` rows for each learner; see ``ReplayBuffer``."""
        self._each = batch_size
        yield from super().batches(count, batch_size * self.learners)
        self._each = 0

    def _numbers(self, n: int, count: int) -> Tensor:
        if self.learners == 1:
            return super()._numbers(n, count)
        own = self.lanes // self.learners
        drawn = torch.randint(count // self.learners, (n,), generator=self.generator)
        whose = torch.arange(n) // (self._each or n // self.learners) % self.learners
        return drawn // own * self.lanes + whose * own + drawn % own

    @torch.no_grad()
    def sample(self, batch_size: int, env: None = None) -> Any:
        """Draw a minibatch."""
        if self.seat is not None:
            return super().sample(batch_size)
        at, lane = self.draw(batch_size)
        obs, action = self.seen["obs"][at, lane], self.lived["action"][at, lane]
        terminated, own = self.lived["terminated"][at, lane], self.lived["agent_reward"][at, lane]
        return self._samples(obs, action, self.after(at, lane)["obs"], terminated, own)

    def rows(self, at: Tensor, lane: Tensor) -> Any:
        """Kept transitions as rewards see them: the agents' rewards are no part of these."""
        own = self.lived.pop("agent_reward")
        try:
            return super().rows(at, lane)
        finally:
            self.lived["agent_reward"] = own


class OffPolicyTeam(OffPolicyAlgorithm):
    """An ``OffPolicyAlgorithm`` whose row is a team's: observations ``[A, D]``, actions ``[A, d]``.

    Discrete actions are one-hots. Its policy has ``each``, the width d.
    """

    policy: Any
    replay_buffer: TeamReplay
    chooses: ClassVar[bool] = True  # whether actions may be discrete
    acts: ClassVar[bool] = True  # whether they may be vectors
    discrete: bool = False
    _first_action: int = 0

    def _joint(self, env: Any) -> Any:
        """The team as one row; what cannot be is refused."""
        if env is None or isinstance(env, Joint):
            return env
        batch = make_batch(env)
        team = require_team(batch, type(self).__name__)
        seen, acts = team.agent_observation_space, team.agent_action_space
        if team.agents_leave:
            raise ValueError(
                f"{type(self).__name__} needs teams that stay whole, and agents may leave {batch}: IPPO and MAPPO "
                "leave out the rows of those who have left"
            )
        kinds = tuple(kind for kind, can in ((spaces.Box, self.acts), (spaces.Discrete, self.chooses)) if can)
        if not isinstance(acts, kinds) or not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            ways = " or ".join({spaces.Box: "act in a Box", spaces.Discrete: "choose"}[kind] for kind in kinds)
            hint = "many worlds take continuous=True; " * (not self.chooses)
            raise ValueError(
                f"{type(self).__name__} is for agents that observe vectors and {ways}; these observe {seen} and act in "
                f"{acts} ({hint}IPPO and MAPPO take any actions)"
            )
        return Joint(batch) if isinstance(acts, spaces.Box) else OneHot(batch)

    def _adopt(self, batch: BatchEnv) -> None:
        super()._adopt(batch)
        assert isinstance(batch, Joint)
        self.names, self.discrete = batch.team.agents, isinstance(batch, OneHot)
        self._first_action = batch.start if isinstance(batch, OneHot) else 0

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train on another batch of teams with the same spaces, and as many of them."""
        super().set_env(self._joint(env), force_reset)

    def _make_room(self) -> None:
        super()._make_room()
        seed = int(torch.randint(1 << 62, ())) if self.seed is None else self.seed
        self.replay_buffer = replay = TeamReplay(
            self.observation_space, self.action_space, self.buffer_size, self.n_envs, self.device, gamma=self.gamma,
            seed=seed, seat=self.seat,
        )  # fmt: skip
        replay.keep_agents(len(self.names))
        if self.discrete:
            self.action_noise = None

    def _choose(self, obs: Any) -> Tensor:
        if self.discrete and self.num_timesteps < self.learning_starts:
            rows = self.n_envs * len(self.names)
            drawn = F.one_hot(torch.randint(self.policy.each, (rows,), device=self.device), self.policy.each)
            return (2.0 * drawn - 1).reshape(self.n_envs, -1)
        return super()._choose(obs)

    def act_team(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions ``[B, A, ...]`` for teams that observe ``[B, A, D]``, as the environment takes them."""
        actions: Tensor = self.policy.act(torch.as_tensor(obs, device=self.device), deterministic)
        return actions.argmax(-1) + self._first_action if self.discrete else actions

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Choose an action for each agent of a team ``[A, D]``, or of several ``[B, A, D]``."""
        actions, state = super().predict(observation, state, episode_start, deterministic)
        return (actions.argmax(-1) + self._first_action if self.discrete else actions), state

    def _saved_config(self) -> dict[str, Any]:
        return {**super()._saved_config(), "discrete": self.discrete, "first_action": self._first_action}

    def _recall(self, meta: dict[str, Any]) -> None:
        super()._recall(meta)
        self.discrete, self._first_action = bool(meta["discrete"]), int(meta["first_action"])
