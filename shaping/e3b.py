"""E3B: pay for what lies outside the ellipse of the episode's states, seen by features of what actions do.

Henaff, Raileanu, Jiang and Rocktaeschel, "Exploration via elliptical episodic bonuses", NeurIPS 2022.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Tree, kind, tree_map
from .networks import Encoder, Moments, Whitening, mlp
from .rnd import BATCH
from .stretch import Stretch
from .term import Source, Stream, Term, World, node_seed


class E3B(Stream):
    """``phi(s')^T C^-1 phi(s')``, where ``C = ridge * I + sum of phi phi^T`` over the episode's states before ``s'``.

    The features ``phi`` are those of a network that tells from two states which action lay between (section 3.2), so
    that what the agent cannot influence counts for little; ``update`` trains it. The inverse is kept by the formula of
    Sherman and Morrison, one ``[d, d]`` for each lane, and begins anew with each episode, whose first state is in it.
    Features may change in the middle of an episode; what is in the ellipse stays as it was seen.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain bonus.
        ridge: The paper's lambda. It has 0.1 there; with these features 1 did better on DoorKey.
        features: d, the width of ``phi``.
        hidden: Width of the networks' hidden layers.
        learning_rate: Of the inverse model's optimiser (Adam).
        share: Which share of the rows it is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "e3b"
    saved = ("embed", "head", "optimiser", "whitening", "scale", "updates")
    memory = ("ellipse",)

    def __init__(
        self,
        normalise: bool = True,
        ridge: float = 1.0,
        features: int = 32,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        share: float = 0.25,
    ) -> None:
        if not (0 < share <= 1 and 0 < ridge < float("inf") and 0 < learning_rate < float("inf")):
            raise ValueError(
                f"E3B(ridge={ridge}, learning_rate={learning_rate}, share={share}): all are above 0, and a share is at "
                "most 1"
            )
        if min(features, hidden) < 1:
            raise ValueError(f"E3B(features={features}, hidden={hidden}): widths are above 0")
        self.normalised, self.ridge, self.features, self.hidden = bool(normalise), float(ridge), features, hidden
        self.learning_rate, self.share = float(learning_rate), float(share)
        self.updates, self.seed = 0, 0
        self.embed: nn.Module | None = None
        self.head: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None
        self.whitening: Whitening | None = None
        self.actions: gym.Space[Any] | None = None
        self.scale = Moments()
        self.ellipse = torch.zeros(1, features, features)  # C^-1 of each lane

    def bind(self, world: World) -> None:
        """Build the networks for observations and actions.

        Raises:
            TypeError: The actions are neither categories nor numbers.
        """
        self.whitening, self.actions = Whitening(world.observation_space, world.device), world.action_space
        generator = torch.Generator().manual_seed(world.seed)
        encoder = Encoder(self.whitening.parts, self.hidden, generator)
        outputs = sum(_sizes(world.action_space))
        self.embed = nn.Sequential(encoder, mlp([self.hidden, self.features], generator)).to(world.device)
        self.head = mlp([2 * self.features, self.hidden, outputs], generator).to(world.device)
        parameters = [*self.embed.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(parameters, self.learning_rate)
        self.scale = Moments(device=world.device)
        eye = torch.eye(self.features, device=world.device) / self.ridge
        self.ellipse = eye.repeat(world.lanes, 1, 1)
        self.updates, self.seed = 0, world.seed

    def phi(self, obs: Tree) -> Tensor:
        """Features of a batch ``[B, ...]``: float32 ``[B, d]``; repeats are computed once."""
        assert self.whitening is not None and self.embed is not None
        return self.whitening.of_distinct(self.embed, obs)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row of the next ``[T, N]``. A loop over time: each state changes the ellipse."""
        begins = x.start & x.valid
        flat, rows, first = x.flat(), x.valid.flatten().nonzero()[:, 0], begins.flatten().nonzero()[:, 0]
        features = torch.zeros(2, x.valid.numel(), self.features, device=x.device)
        if len(rows):
            seen = self.phi(tree_map(lambda a, b: torch.cat([a[first], b[rows]]), flat.obs, flat.next_obs))
            features[0, first], features[1, rows] = seen[: len(first)], seen[len(first) :]
        before, after = features.reshape(2, *x.rows, self.features)
        fresh = torch.eye(self.features, device=x.device) / self.ridge
        ellipse, paid = self.ellipse.clone(), []
        for t, some in enumerate(begins.any(1).tolist()):
            if some:
                ellipse = torch.where(begins[t, :, None, None], fresh, ellipse)
                _widen(ellipse, before[t])
            paid.append(_widen(ellipse, after[t]))  # rows that are not valid have features of 0, which change nothing
        self.ellipse = ellipse
        value = torch.stack(paid)
        return value / self.unit() if self.normalised else value

    def unit(self) -> Tensor:
        """The running root mean square; 1 before there is one."""
        square = self.scale.mean**2 + self.scale.square / self.scale.count.clamp(min=1)
        return torch.where(self.scale.count > 0, square.sqrt(), 1.0).clamp(min=1e-8).float()

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn scale and whitening, then train the inverse model on a share of the rows."""
        assert self.whitening is not None and self.embed is not None
        assert self.head is not None and self.optimiser is not None
        x = source.recent
        if not bool(x.valid.any()):
            return {}
        raw = source.values[self] * self.unit() if self.normalised else source.values[self]
        self.scale.add(raw[x.valid])
        flat, rows = x.flat(), x.valid.flatten().nonzero()[:, 0]
        self.whitening.learn(tree_map(lambda v: v[rows], flat.next_obs))
        # Which rows: drawn by a generator of this update alone, so that it need not be saved.
        generator = torch.Generator().manual_seed(node_seed(self.seed, str(self.updates)))
        order = torch.randperm(len(rows), generator=generator)[: max(int(len(rows) * self.share), 1)].to(x.device)
        losses = []
        for batch in torch.split(rows[order], BATCH):
            two = tree_map(lambda a, b, batch=batch: torch.cat([a[batch], b[batch]]), flat.obs, flat.next_obs)
            before, after = self.embed(self.whitening(two)).chunk(2)
            assert isinstance(flat.action, Tensor) and self.actions is not None
            loss = inverse_loss(self.actions, self.head(torch.cat([before, after], 1)), flat.action[batch])
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(loss.detach())
        self.updates += 1
        return {"loss": torch.stack(losses).mean(), "raw": raw[x.valid].mean()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        if state["ellipse"].shape != self.ellipse.shape:
            raise ValueError(
                f"the saved ellipses have shape {list(state['ellipse'].shape)}, and here they have "
                f"{list(self.ellipse.shape)}: another number of environments, or other features"
            )
        super().load(state)

    @classmethod
    def examples(cls) -> list[Term]:
        """With and without a scale."""
        return [cls(), cls(normalise=False, ridge=0.1, features=4, hidden=16)]


def _widen(ellipse: Tensor, features: Tensor) -> Tensor:
    """The bonus of ``features [N, d]``, which are then taken into ``C^-1 [N, d, d]`` in place."""
    reach = torch.bmm(ellipse, features[..., None])[..., 0]
    bonus = (reach * features).sum(1)
    ellipse.baddbmm_(reach[:, :, None], (reach / (1 + bonus[:, None]))[:, None], alpha=-1)
    return bonus


def _sizes(actions: gym.Space[Any]) -> list[int]:
    """Outputs of the inverse model for each part of the action."""
    if isinstance(actions, spaces.Discrete):
        return [int(actions.n)]
    if isinstance(actions, spaces.MultiDiscrete):
        return [int(n) for n in actions.nvec.ravel()]
    if isinstance(actions, spaces.Box) and kind(actions) == "vector":
        return [1] * int(torch.Size(actions.shape).numel())
    raise TypeError(f"E3B learns which action lay between two states, and knows no actions of {actions}")


def inverse_loss(actions: gym.Space[Any], output: Tensor, action: Tensor) -> Tensor:
    """How badly ``output [B, sum of sizes]`` tells ``action [B, ...]``: cross-entropy, or squared error of numbers."""
    action = action.reshape(len(action), -1)
    if isinstance(actions, spaces.Box):
        return F.mse_loss(output, action.float())
    begin = torch.as_tensor(actions.start, device=action.device).reshape(-1)  # type: ignore[attr-defined]
    parts = zip(torch.split(output, _sizes(actions), 1), (action - begin).long().unbind(1))
    return torch.stack([F.cross_entropy(logits, chosen) for logits, chosen in parts]).mean()
