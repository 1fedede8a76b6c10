"""The parts of EXPLORS as terms: a reward that the learner makes for itself, and a bonus for rare states.

Devidze, Kamalaruban and Singla, "Exploration-Guided Reward Shaping for Reinforcement Learning under Sparse Rewards",
NeurIPS 2022. ``task + self_reward + exploration_bonus`` is EXPLORS; without the bonus it is SelfRS, without the
self-made reward ExploB. The published tabular experiment, with its schedule, is ``cairn.agents.explors``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from .adam import Adam
from .counts import EpisodicCount
from .networks import Encoder, mlp, parts_of, plain
from .stretch import Stretch
from .table import CountTable
from .term import Pure, Source, Term, World, node_seed
from .value_potential import BATCH, rows_of

_LANE = -0x61C8864680B583EB  # odd: lanes get keys of their own


class ExplorationBonus(EpisodicCount):
    """``B(s') = scale / sqrt((scale / cap)^2 + N(s'))``, N(s) being how often its lane has left s, in all episodes.

    0 where the task ended. It is at most ``cap``, and falls as ``scale / sqrt(N)``.

    Args:
        key: What tells states apart, as in ``EpisodicCount``; the paper's LineK has cells of a tenth of the line.
        scale: lambda.
        cap: B_max.
    """

    memory = ("table",)

    def __init__(
        self,
        key: str | Sequence[str] | Callable[[Any], Tensor] | None = None,
        scale: float = 1.0,
        cap: float = 1.0,
    ) -> None:
        super().__init__(key)
        if scale <= 0 or cap <= 0:
            raise ValueError(f"ExplorationBonus(scale={scale}, cap={cap}): both are above 0")
        self.scale, self.cap = float(scale), float(cap)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row of the next ``[T, N]``; a step's own departure counts from the next one on."""
        steps, lanes = x.rows[:2]
        rows = x.valid.flatten().nonzero()[:, 0]
        flat, lane = x.flat()[rows], rows % lanes
        keys = torch.zeros(2, steps * lanes, dtype=torch.int64, device=x.device)
        for i in range(2 if len(rows) else 0):
            keys[i, rows] = self.hashes(flat, of_next=i == 0) + lane * _LANE
        keys = torch.where(keys == 0, 1, keys).reshape(2, steps, lanes)
        visits = torch.zeros(x.rows, dtype=torch.int64, device=x.device)
        for t in range(steps):
            at = x.valid[t].nonzero()[:, 0]
            zero = torch.zeros_like(at)
            # Asking is counting no times.
            visits[t, at] = self.table._count(keys[0, t, at], zero, at, zero)
            self.table._count(keys[1, t, at], zero + 1, at, zero)
        bonus = self.scale / ((self.scale / self.cap) ** 2 + visits).sqrt()
        return torch.where(x.terminated, 0.0, bonus)

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back the counts."""
        Term.load(self, state)

    def bind(self, world: World) -> None:
        """Begin with no counts."""
        self.table = CountTable(device=world.device)

    @classmethod
    def examples(cls) -> list[Term]:
        """By the whole observation, and by a fact."""
        return [cls(), cls(key="position", scale=0.5, cap=2.0)]


class SelfReward(Pure):
    """``R_phi(s, a)``, which a learner makes for itself from the task's returns (SelfRS, the core of EXPLORS).

    ``update`` ascends the mean of ``pi(a|s) (G - V(s)) (R_phi(s, a) - E_b R_phi(s, b))`` over the last episodes,
    G being the task's discounted return from there and V a critic that is fitted to it: it pays for what was better
    than expected. ``R_phi`` is ``scale * tanh`` of a network, 0 for the first ``warmup`` updates (the paper waits for
    5,000 episodes). Needs a seat that has the policy (``cairn.agents.PPO``) and one numbered action.

    Args:
        scale: The most it pays.
        learning_rate: Of phi, by Adam.
        critic_rate: Of V.
        buffer: Episodes that it learns from.
        hidden: Width of the networks.
        warmup: Updates before anything is paid.
    """

    saved = ("reward", "critic", "reward_optimiser", "critic_optimiser", "updates")

    def __init__(
        self,
        scale: float = 0.1,
        learning_rate: float = 1e-3,
        critic_rate: float = 5e-3,
        buffer: int = 10,
        hidden: int = 256,
        warmup: int = 1,
    ) -> None:
        if min(scale, learning_rate, critic_rate) <= 0 or min(buffer, hidden) < 1 or warmup < 0:
            raise ValueError(
                f"SelfReward(scale={scale}, learning_rate={learning_rate}, critic_rate={critic_rate}, buffer={buffer}, "
                f"hidden={hidden}, warmup={warmup}): all above 0, and warmup at least 0"
            )
        self.scale, self.learning_rate, self.critic_rate = float(scale), float(learning_rate), float(critic_rate)
        self.wants_episodes, self.hidden, self.warmup, self.updates = int(buffer), int(hidden), int(warmup), 0
        self.reward: nn.Module | None = None
        self.critic: nn.Module | None = None
        self.reward_optimiser: torch.optim.Optimizer | None = None
        self.critic_optimiser: torch.optim.Optimizer | None = None

    def bind(self, world: World) -> None:
        """Build the networks.

        Raises:
            TypeError: The action is not one number.
        """
        if not isinstance(world.action_space, spaces.Discrete):
            raise TypeError(f"SelfReward pays for one numbered action, and the environment takes {world.action_space}")
        self.world, self.first = world, int(world.action_space.start)
        self.gamma = 0.99 if world.gamma is None else world.gamma
        self.parts = parts_of(world.observation_space)

        def network(name: str, outputs: int) -> nn.Module:
            generator = torch.Generator().manual_seed(node_seed(world.seed, name))
            encoder = Encoder(self.parts, self.hidden, generator)
            return nn.Sequential(encoder, mlp([self.hidden, outputs], generator)).to(world.device)

        self.reward, self.critic = network("reward", int(world.action_space.n)), network("critic", 1)
        self.reward_optimiser = Adam(self.reward.parameters(), self.learning_rate)
        self.critic_optimiser = Adam(self.critic.parameters(), self.critic_rate)
        self.updates = 0

    def made(self, x: Stretch) -> Tensor:
        """``R_phi`` of all actions in the valid rows, ``[B, A]``."""
        assert self.reward is not None
        return self.scale * torch.tanh(self.reward(plain(self.parts, rows_of(x, x.obs))))

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``R_phi(s, a)``."""
        out = torch.zeros(x.shape, device=x.device)
        if self.updates < self.warmup or not bool(x.valid.any()):
            return out
        assert isinstance(x.action, Tensor)
        action = x.action.reshape(x.rows)[x.valid].long() - self.first
        return out.masked_scatter(x.valid, self.made(x).gather(1, action[:, None])[:, 0])

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """One step of phi and some of V on the last episodes.

        Raises:
            ValueError: The seat has no policy to ask.
        """
        if self.world.ask is None:
            raise ValueError("SelfReward learns from the policy's probabilities, and this seat has no policy: give it "
                             "to cairn.agents.PPO as reward=")  # fmt: skip
        assert self.reward is not None and self.critic is not None
        assert self.reward_optimiser is not None and self.critic_optimiser is not None
        try:
            ep = source.episodes(self.wants_episodes)
        except RuntimeError:  # none has ended yet
            return {}
        gain = torch.zeros(ep.shape, device=ep.device)
        following = torch.zeros(ep.rows[1], device=ep.device)
        for t in reversed(range(ep.rows[0])):
            following = torch.where(ep.valid[t], ep.reward[t] + self.gamma * following, following)
            gain[t] = following
        gain, seen = gain[ep.valid], plain(self.parts, rows_of(ep, ep.obs))
        assert isinstance(ep.action, Tensor)
        action = ep.action.reshape(ep.rows)[ep.valid].long()[:, None] - self.first
        with torch.no_grad():
            probs = self.world.ask.probs(ep.flat()[ep.valid.flatten()])
            ahead = gain - self.critic(seen)[:, 0]
        made = self.made(ep)
        better = made.gather(1, action)[:, 0] - (probs * made).sum(1)
        value = (probs.gather(1, action)[:, 0] * ahead * better).mean()
        self.reward_optimiser.zero_grad()
        (-value).backward()
        self.reward_optimiser.step()
        loss = gain.new_zeros(())
        for rows in torch.split(torch.arange(len(gain), device=gain.device), BATCH):
            loss = (self.critic([leaf[rows] for leaf in seen])[:, 0] - gain[rows]).square().mean()
            self.critic_optimiser.zero_grad()
            loss.backward()
            self.critic_optimiser.step()
        self.updates += 1
        return {"informativeness": value.detach(), "critic_loss": loss.detach()}

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on, so that there is something to test."""
        return [cls(hidden=16, warmup=0)]
