"""Random network distillation: what a network has not yet learned to predict is new.

Burda, Edwards, Storkey and Klimov, "Exploration by random network distillation", 2018 (ICLR 2019).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.spaces import Tree, tree_leaves, tree_map
from .networks import Encoder, Moments, Whitening, mlp
from .stretch import Stretch
from .term import Channel, Pure, Source, Term, World, node_seed

BATCH = 512  # rows of a step of the predictor


class RND(Pure):
    """``||f_hat(s') - f(s')||^2``: the error of a trained network at predicting a fixed random one.

    Numbers and pixels are whitened first; networks, whitening and scale change only in ``update``, which trains the
    predictor once on a share of the rows since the last time. The bonus is divided by the running deviation of its own
    discounted returns, which go on through episode ends (section 2.4). By default it goes into a channel of its own,
    ``"curiosity"``, with discount 0.99 and no ends (section 2.3); ``RND().into("main")`` puts it elsewhere.

    Args:
        normalise: Divide by the deviation of the returns; False leaves the plain error.
        warmup: How many updates must have taken place before anything is paid: whitening and scale are learned there.
        features: Width of the networks' output.
        hidden: Width of their hidden layers; the predictor has one more than the target.
        learning_rate: Of the predictor's optimiser (Adam).
        share: Which share of the rows the predictor is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "rnd"
    channel: Channel | None = Channel("curiosity", 0.99, False)
    saved = ("target", "predictor", "optimiser", "whitening", "scale", "running", "updates")

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 1,
        features: int = 64,
        hidden: int = 128,
        learning_rate: float = 1e-3,
        share: float = 0.25,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"{type(self).__name__}(share={share}): a share of the rows is above 0 and at most 1")
        if min(features, hidden) < 1 or warmup < 0 or not 0 < learning_rate < float("inf"):
            raise ValueError(
                f"{type(self).__name__}(warmup={warmup}, features={features}, hidden={hidden}, "
                f"learning_rate={learning_rate}): widths and the learning rate are above 0, warmup is not below 0"
            )
        self.normalise_returns, self.warmup, self.share = bool(normalise), int(warmup), float(share)
        self.features, self.hidden, self.learning_rate = int(features), int(hidden), float(learning_rate)
        self.updates, self.gamma, self.seed = 0, 0.99, 0
        self.target: nn.Module | None = None
        self.predictor: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None
        self.whitening: Whitening | None = None
        self.scale = Moments()
        self.running = torch.zeros(1)  # discounted sum of the bonus so far, in each lane

    def bind(self, world: World) -> None:
        """Build the networks for the observations.

        Raises:
            TypeError: The observations have nothing that a network can look at.
        """
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        wide = [self.hidden, self.features]
        self.target = nn.Sequential(Encoder(self.whitening.parts, self.hidden, generator), mlp(wide, generator))
        wide = [self.hidden, self.hidden, self.features]
        self.predictor = nn.Sequential(Encoder(self.whitening.parts, self.hidden, generator), mlp(wide, generator))
        self.target.to(world.device).requires_grad_(False)
        self.predictor.to(world.device)
        self.optimiser = torch.optim.Adam(self.predictor.parameters(), self.learning_rate)
        self.scale, self.running = Moments(device=world.device), torch.zeros(world.lanes, device=world.device)
        self.gamma = 0.99 if world.gamma is None else world.gamma
        self.updates, self.seed = 0, world.seed

    def novelty(self, obs: Tree) -> Tensor:
        """The prediction error of a batch ``[B, ...]``: float32 ``[B]``."""
        assert self.whitening is not None
        return self.whitening.of_distinct(self.error, obs)

    def error(self, leaves: list[Tensor]) -> Tensor:
        """The same of what ``whitening`` gave."""
        assert self.predictor is not None and self.target is not None
        out: Tensor = (self.predictor(leaves) - self.target(leaves)).square().sum(1)
        return out

    def raw(self, x: Stretch) -> Tensor:
        """The bonus of flat, valid rows ``[B]`` before it is scaled."""
        return self.novelty(x.next_obs)

    def unit(self) -> Tensor:
        """What the raw bonus is divided by."""
        return self.scale.deviation.clamp(min=1e-8).float()

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row, 0 before the warm-up is over."""
        out = torch.zeros(x.shape, device=x.device)
        if self.updates < self.warmup:
            return out
        value = self.raw(_plain(x))
        return out.masked_scatter(x.valid, value / self.unit() if self.normalise_returns else value)

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn the scale and the whitening, then train the predictor on a share of the rows."""
        assert self.whitening is not None and self.predictor is not None and self.target is not None
        assert self.optimiser is not None
        x = source.recent
        if not bool(x.valid.any()):
            return {}
        with torch.no_grad():
            known = source.values.get(self) if self.updates >= self.warmup else None
            raw = torch.zeros(x.shape, device=x.device)
            if known is None:
                raw = raw.masked_scatter(x.valid, self.raw(_plain(x)))
            else:
                raw = known * self.unit() if self.normalise_returns else known
            self.measure(raw, x.valid)
            seen = _seen(x)
            self.whitening.learn(seen)
        # Which rows: drawn by a generator of this update alone, so that it need not be saved.
        generator = torch.Generator().manual_seed(node_seed(self.seed, str(self.updates)))
        rows = len(tree_leaves(seen)[0])
        order = torch.randperm(rows, generator=generator)[: max(int(rows * self.share), 1)].to(x.device)
        losses = []
        for batch in torch.split(order, BATCH):
            leaves = self.whitening(tree_map(lambda v, batch=batch: v[batch], seen))
            with torch.no_grad():
                goal = self.target(leaves)
            loss = (self.predictor(leaves) - goal).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())
        self.updates += 1
        return {"loss": torch.stack(losses).mean(), "raw": raw.sum() / x.valid.sum().clamp(min=1)}

    def measure(self, raw: Tensor, valid: Tensor) -> None:
        """Take the raw bonus ``[T, N]`` into the statistics of its returns."""
        returns = torch.empty_like(raw)
        running = self.running
        for t in range(len(raw)):
            running = torch.where(valid[t], self.gamma * running + raw[t], running)
            returns[t] = running
        self.running = running
        self.scale.add(returns[valid])

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave; in a seat with other lanes the returns begin anew."""
        here = self.running
        super().load(state)
        if self.running.shape != here.shape:
            self.running = here

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on, so that there is something to test."""
        return [cls(warmup=0), cls(normalise=False, warmup=0, features=8, hidden=16)]


def _plain(x: Stretch) -> Stretch:
    """The valid rows of any stretch, flat: junk must not reach a network."""
    flat = x.flat()
    return flat if bool(x.valid.all()) else flat[flat.valid]


def _seen(x: Stretch) -> Tree:
    """All observations of a stretch once: those after each step, and the first of each episode."""
    lead = len(x.rows)
    valid, first = x.valid.flatten(), (x.valid & x.start).flatten()

    def both(before: Tensor, after: Tensor) -> Tensor:
        before, after = (v.reshape(-1, *v.shape[lead:]) for v in (before, after))
        return torch.cat([after[valid], before[first]])

    tree: Tree = tree_map(both, x.obs, x.next_obs)
    return tree
