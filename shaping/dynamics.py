"""What actions do, learned: features that tell which action lay between two states, and a forecast of the next ones.

Pathak, Agrawal, Efros and Darrell, "Curiosity-driven exploration by self-supervised prediction", ICML 2017. Every term
that needs such features (ICM, RIDE, E3B, the pseudo-counts of NGU) has one of these, and nothing of it twice.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Tree, kind
from . import fast, fast_lessons
from .adam import Adam
from .fast_learning import Rows, Training
from .learned import rows_of, two_ends
from .networks import Layers, Whitening, distinct, encoder, mlp, some_batches
from .state import pack, unpack
from .stretch import Stretch
from .term import World
from .trainable import columns, training


class Dynamics:
    """Features ``phi``, a network that tells the action from two of them, and one that forecasts the next.

    The loss is ``(1 - beta) * L_I + beta * L_F`` (equation 7), with ``L_I`` the cross-entropy of the action (squared
    error of numbers) and ``L_F = 1/2 ||phi_hat(s') - phi(s')||^2`` (equation 5).

    Args:
        world: Spaces, device and seed.
        features: Width of ``phi``.
        hidden: Width of the hidden layers.
        learning_rate: Adam's.
        beta: Weight of the forecast; 0 leaves it out, and there is none.
    """

    def __init__(
        self,
        world: World,
        features: int = 32,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        beta: float = 0.0,
    ) -> None:
        self.actions, self.beta, self.seed, self.features = world.action_space, beta, world.seed, features
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        wide = sum(action_sizes(world.action_space))
        self.embed: nn.Module = encoder(self.whitening.parts, hidden, features, generator).to(world.device)
        self.inverse: Layers = mlp([2 * features, hidden, wide], generator).to(world.device)
        self.forecast: Layers | None = None
        self.inverse.once = True
        modules = [self.embed, self.inverse]
        if beta:
            self.forecast = mlp([features + wide, hidden, features], generator).to(world.device)
            self.forecast.once = True
            modules.append(self.forecast)
        self.optimiser = Adam([p for m in modules for p in m.parameters()], learning_rate, fused=True)
        self.training: Training | None = None
        if torch.device(world.device).type == "cpu":
            self.training = training(self.embed, self.inverse, *([] if self.forecast is None else [self.forecast]))

    def phi(self, *obs: Tree) -> Tensor:
        """Features of batches ``[B, ...]``, one below the other: ``[B, features]``; repeats are computed once."""
        return self.whitening.of_distinct(self.embed, *obs)

    def looked_at(self, x: Stretch) -> tuple[Tree, Tree]:
        """The observations of a stretch without what is not looked at."""
        return self.whitening.looked_at(x.obs), self.whitening.looked_at(x.next_obs)

    def kinds(self, x: Stretch) -> tuple[Tensor, Tensor, Tensor]:
        """Features of each kind of state ``[U, features]``, and each flat row's kinds before and after, ``[B]``."""
        features, of = self.whitening.of_kinds(self.embed, x.obs, x.next_obs)
        before, after = of.chunk(2)
        return features, before, after

    def surprise(self, x: Stretch) -> Tensor:
        """``error`` of flat rows ``[B]``; the forecast is made once for rows with the same state and action."""
        assert self.forecast is not None and isinstance(x.action, Tensor)
        features, before, after = self.kinds(x)
        first, of = distinct([before, x.action])
        action = encode_actions(self.actions, x.action.index_select(0, first))
        guess = self.forecast(torch.cat([features.index_select(0, before.index_select(0, first)), action], 1))
        return 0.5 * fast.apart(guess, of, features, after)

    def along(self, x: Stretch) -> Tensor:
        """Features of a stretch ``[T, N]`` for a stream: ``[2, T, N, features]``.

        First those of the states that an episode begins with, then those after each step; 0 where there is none.
        """
        flat, rows = x.flat(), x.valid.flatten().nonzero()[:, 0]
        first = (x.start & x.valid).flatten().nonzero()[:, 0]
        if not len(rows):
            return torch.zeros(2, *x.rows, self.features, device=x.device)
        before, after = self.looked_at(flat)
        whole = len(rows) == x.valid.numel()
        states = [after if whole else rows_of(after, rows)]
        if len(first):
            states.insert(0, rows_of(before, first))
        features, of = self.whitening.of_kinds(self.embed, *states)
        out = features.new_empty(2, x.valid.numel(), features.shape[1])
        out[0] = 0
        out[0, first] = features[of[: len(first)]]
        if whole:
            out[1] = features.index_select(0, of[len(first) :])
        else:
            out[1] = 0
            out[1, rows] = features[of[len(first) :]]
        return out.reshape(2, *x.rows, -1)

    def error(self, before: Tensor, after: Tensor, action: Any) -> Tensor:
        """``1/2 ||phi_hat(s') - phi(s')||^2`` of each row, ``[B]``."""
        assert self.forecast is not None
        guess = self.forecast(torch.cat([before, encode_actions(self.actions, action)], 1))
        out: Tensor = 0.5 * (guess - after).square().sum(1)
        return out

    def learn(self, x: Stretch, share: float, update: int) -> dict[str, Tensor]:
        """Learn the whitening, and train on a share of the rows of ``x [T, N]``; returns the losses."""
        flat, rows = x.flat(), x.valid.flatten().nonzero()[:, 0]
        ends = self.looked_at(flat)
        self.whitening.learn(ends[1] if len(rows) == x.valid.numel() else rows_of(ends[1], rows))
        batches = some_batches(rows, share, self.seed, update)
        if self.training is not None and fast.fits(sum(map(len, batches)), x.device):
            inverse, forward = self._learn_compiled(flat, ends, batches).mean(0)
            return {"loss": inverse, "forecast": forward} if self.beta else {"loss": inverse}
        losses = []
        for batch in batches:
            before, after = self.embed(self.whitening(two_ends(*ends, batch))).chunk(2)
            action = rows_of(flat.action, batch)
            inverse = inverse_loss(self.actions, self.inverse(torch.cat([before, after], 1)), action)
            forward = self.error(before, after, action).mean() if self.beta else torch.zeros_like(inverse)
            loss = (1 - self.beta) * inverse + self.beta * forward
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(torch.stack([inverse, forward]).detach())
        inverse, forward = torch.stack(losses).mean(0)
        return {"loss": inverse, "forecast": forward} if self.beta else {"loss": inverse}

    def _learn_compiled(self, flat: Stretch, ends: tuple[Tree, Tree], batches: Sequence[Tensor]) -> Tensor:
        """Train on batches of the rows of ``flat``; returns the losses of each, ``[batches, 2]``."""
        assert self.training is not None and isinstance(flat.action, Tensor)
        rows = torch.cat(list(batches))
        with torch.no_grad():
            seen = columns(self.embed, self.whitening(two_ends(*ends, rows)))
            taken, chosen, number = flat.action.index_select(0, rows), None, None
            if isinstance(self.actions, spaces.Box):
                number = _flat(taken).float().contiguous()
            else:
                chosen = _categories(self.actions, taken).contiguous()
        sizes = action_sizes(self.actions)
        weights = torch.tensor([1 - self.beta, self.beta])
        layers = len(self.training.layers) - (4 if self.beta else 2)
        given = [
            chosen, number, torch.tensor(sizes), weights, 0 if chosen is None else len(sizes), sum(sizes),
            self.features, layers, int(self.beta > 0),
        ]  # fmt: skip
        lesson, lengths = fast_lessons.dynamics(), [len(batch) for batch in batches]
        return self.training.run(lesson, self.optimiser, Rows(*seen, lengths, 2), given)

    def state(self) -> dict[str, Any]:
        """Networks, optimiser and whitening."""
        return {name: pack(getattr(self, name)) for name in self._parts()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        for name in self._parts():
            setattr(self, name, unpack(getattr(self, name), state[name]))

    def _parts(self) -> tuple[str, ...]:
        parts = ("whitening", "embed", "inverse", "optimiser")
        return (*parts, "forecast") if self.beta else parts


def action_sizes(actions: gym.Space[Any]) -> list[int]:
    """How many numbers stand for each part of an action.

    Raises:
        TypeError: The actions are neither categories nor numbers.
    """
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    if isinstance(actions, spaces.MultiDiscrete):
        return [int(n) for n in actions.nvec.ravel()]
    if isinstance(actions, spaces.MultiBinary):
        return [2] * int(torch.Size(actions.shape).numel())
    if isinstance(actions, spaces.Box) and kind(actions) == "vector":
        return [1] * int(torch.Size(actions.shape).numel())
    raise TypeError(f"this bonus learns what actions do, and knows no actions of {actions}")


def _flat(action: Tensor) -> Tensor:
    return action.reshape(len(action), prod(action.shape[1:]))


def _categories(actions: gym.Space[Any], action: Tensor) -> Tensor:
    """Categories from 0 on, ``[B, parts]``."""
    begin = torch.as_tensor(getattr(actions, "start", 0), device=action.device).reshape(-1)
    return (_flat(action) - begin).long()


def encode_actions(actions: gym.Space[Any], action: Any) -> Tensor:
    """Actions ``[B, ...]`` as numbers: categories one-hot, side by side."""
    if isinstance(actions, spaces.Box):
        return _flat(action).float()
    parts = zip(action_sizes(actions), _categories(actions, action).unbind(1))
    return torch.cat([F.one_hot(chosen, size) for size, chosen in parts], 1).float()


def inverse_loss(actions: gym.Space[Any], output: Tensor, action: Any) -> Tensor:
    """How badly ``output [B, sum of sizes]`` tells ``action [B, ...]``: cross-entropy, or squared error of numbers."""
    if isinstance(actions, spaces.Box):
        return F.mse_loss(output, _flat(action).float())
    parts = zip(torch.split(output, action_sizes(actions), 1), _categories(actions, action).unbind(1))
    return torch.stack([F.cross_entropy(logits, chosen) for logits, chosen in parts]).mean()
