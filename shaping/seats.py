"""Where a reward sits: what every seat shares, and the seat in an on-policy rollout.

The order is the same everywhere: collect, evaluate, update, train. The seats in environments are in
``seats_env.py``, the one in a replay buffer in ``seats_replay.py``.
"""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor

from .ledger import Ledger, Settled
from .reward import Reward, as_reward
from .source import Recent
from .stretch import Stretch
from .term import MAIN, Channel, Term, World


class Seat:
    """A reward bound to one stream of experience, with its open episodes and what its terms learn from.

    Args:
        reward: The compiled reward; no other seat may have it.
        world: Spaces, lanes, discount, seed, device.
    """

    def __init__(self, reward: Any, world: World) -> None:
        self.reward: Reward = as_reward(reward)
        self.reward.bind(world)
        self.world = world
        self.ledger = Ledger(self.reward, world.lanes, world.max_steps) if any(self.reward.late) else None
        self.source = Recent(self.reward, world.seed) if self.reward.learns else None

    @torch.no_grad()
    def collect(self, x: Stretch, *, keep: bool = True) -> tuple[dict[Term, Tensor], Tensor, Settled | None]:
        """Evaluate the next rows ``[T, N]``.

        Returns:
            Values by node, the summands' parts ``[T, N, K]`` (late ones 0), and what was settled for episodes that
            ended.
        """
        values = self.reward.evaluate(x)
        settled = self.ledger.push(x, values) if self.ledger is not None else None
        if self.source is not None and keep:
            self.source.add(x, values, settled)
        return values, self.reward.parts(x, values), settled

    def update(self, step: int) -> dict[str, Tensor]:
        """Let the terms learn from what was collected since the last time; returns what to log."""
        if self.source is None or not self.source.pieces:
            return {}
        with torch.enable_grad():
            logs = self.reward.update(self.source, step)
        self.source.clear()
        return logs

    def state(self) -> dict[str, Any]:
        """Everything that the next rewards depend on: terms, open episodes, what is to be learned from."""
        return {
            "reward": self.reward.state(),
            "ledger": None if self.ledger is None else self.ledger.state(),
            "source": None if self.source is None else self.source.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave.

        Raises:
            ValueError: It belongs to another reward.
        """
        self.reward.load(state["reward"])
        if self.ledger is not None:
            self.ledger.load(state["ledger"])
        if self.source is not None:
            self.source.load(state["source"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The seat with all that it holds, its reward still bound: the copy goes on by itself."""
        new = object.__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update({k: deepcopy(v, memo) for k, v in self.__dict__.items()})
        new.reward.keep_bound(new.world)
        return new


class RolloutSeat(Seat):
    """The seat in an on-policy agent: ``seat(x, step)`` for each rollout, then ``seat.update(step)``, then train.

    Attributes:
        channels: The C channels, in the order of the last axis of the rewards; ``gamma`` None is the agent's.
    """

    @property
    def channels(self) -> tuple[Channel, ...]:
        """One value head each."""
        return self.reward.channels

    @torch.no_grad()
    def __call__(self, x: Stretch, step: int, lent: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The rewards of a rollout ``[T, N]``.

        Late values are written back to the steps they belong to; those of steps before this rollout are displaced to
        the episode's last step.

        Args:
            x: The rollout.
            step: Environment steps so far.
            lent: Its tensors stay as they are until ``update`` has been called; otherwise they are copied.

        Returns:
            float32 ``[T, N, C]``, and scalars to log: ``reward/<name>``, the mean share of each summand per step, and
            ``reward/<name>/displaced``, the share of a late summand that came after its steps had left the rollout.
        """
        if self.source is not None and not (lent and not self.reward.wants_episodes):
            x = x.map(torch.clone)  # the agent reuses its buffers
        _, parts, settled = self.collect(x)
        logs: dict[str, Tensor] = {}
        if settled is not None:
            late, displaced = settled.spread(*x.rows[:2])
            parts = parts + late
            for k, summand in enumerate(self.reward.summands):
                if self.reward.late[k]:
                    logs[f"reward/{summand.name}/displaced"] = displaced[k]
        count = x.valid.sum().clamp(min=1)
        for name, share in self.reward.shares(parts, step).items():
            logs[f"reward/{name}"] = share.sum() / count
        return self.reward.combine(parts, step), logs

    @staticmethod
    def whole(x: Stretch) -> Tensor:
        """Which rows of ``[T, N]`` belong to episodes that began and ended within it, bool ``[T, N]``.

        Credit assignment by late terms is exact on these rows alone; an agent that depends on it trains on them.
        """
        done, start = x.done & x.valid, x.start & x.valid
        ends_later = done.flip(0).cumsum(0).flip(0) > 0
        began = start.cumsum(0) > 0
        # A start after this row and before the next end means that the episode was broken off.
        next_start = _next_index(torch.cat([start[1:], torch.zeros_like(start[:1])]))
        return x.valid & began & ends_later & (_next_index(done) <= next_start)


def _next_index(mark: Tensor) -> Tensor:
    """For each row of ``[T, N]``, the index of the next marked row, itself included; T where there is none."""
    steps = mark.shape[0]
    index = torch.where(mark, torch.arange(steps, device=mark.device)[:, None], steps)
    return index.flip(0).cummin(0).values.flip(0)


def one_head(reward: Reward, where: str) -> None:
    """Say once that a seat with a single reward adds the channels up."""
    if len(reward.channels) > 1 or reward.channels[0].name != MAIN.name:
        names = ", ".join(c.name for c in reward.channels)
        warnings.warn(
            f"{where} has one reward for each step, so the channels ({names}) are added up and share its discount; "
            "cairn.agents.PPO gives each its own value head",
            stacklevel=3,
        )
