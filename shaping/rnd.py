"""Random network distillation: what a network has not yet learned to predict is new.

Burda, Edwards, Storkey and Klimov, "Exploration by random network distillation", 2018 (ICLR 2019).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.spaces import Tree
from . import fast, fast_lessons
from .adam import Adam
from .fast_learning import Rows, Training
from .learned import Learned, States, positive
from .networks import Whitening, encoder, some_batches
from .stretch import Stretch
from .term import Channel, Term, World
from .trainable import columns, training


class RND(Learned):
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
        share: float = 0.125,
    ) -> None:
        super().__init__(normalise, warmup, share)
        positive(self, features=features, hidden=hidden, learning_rate=learning_rate)
        self.features, self.hidden, self.learning_rate = int(features), int(hidden), float(learning_rate)
        self.gamma = 0.99
        self.target: nn.Module | None = None
        self.predictor: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None
        self.training: Training | None = None
        self.whitening: Whitening | None = None
        self.running = torch.zeros(1)  # discounted sum of the bonus so far, in each lane

    def bind(self, world: World) -> None:
        """Build the networks for the observations.

        Raises:
            TypeError: The observations have nothing that a network can look at.
        """
        super().bind(world)
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        parts, sizes = self.whitening.parts, (self.hidden, self.features)
        self.target = encoder(parts, *sizes, generator).to(world.device).requires_grad_(False)
        self.predictor = encoder(parts, *sizes, generator, layers=2).to(world.device)
        self.optimiser = Adam(self.predictor.parameters(), self.learning_rate, fused=True)
        self.training = training(self.predictor) if torch.device(world.device).type == "cpu" else None
        self.running = torch.zeros(world.lanes, device=world.device)
        self.gamma = 0.99 if world.gamma is None else world.gamma

    def novelty(self, *obs: Tree) -> Tensor:
        """The prediction error of batches ``[B, ...]``, one below the other: float32 ``[B]``."""
        assert self.whitening is not None
        return self.whitening.of_distinct(self.error, *obs)

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

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Learn the whitening, then train the predictor on a share of the rows."""
        assert self.whitening is not None and self.predictor is not None and self.target is not None
        assert self.optimiser is not None
        seen = States(x, self.whitening)
        if self.whitening.learns:
            self.whitening.learn(seen.all())
        batches = some_batches(torch.arange(len(seen), device=x.device), self.share, self.seed, self.updates)
        if self.training is not None and fast.fits(sum(map(len, batches)), x.device):
            with torch.no_grad():
                leaves = self.whitening(seen[torch.cat(batches)])
                given = [self.target(leaves), self.features, len(self.training.layers)]
            rows = Rows(*columns(self.predictor, leaves), [len(batch) for batch in batches], 1)
            return {"loss": self.training.run(fast_lessons.distilling(), self.optimiser, rows, given)[:, 0].mean()}
        losses = []
        for batch in batches:
            leaves = self.whitening(seen[batch])
            with torch.no_grad():
                goal = self.target(leaves)
            loss = (self.predictor(leaves) - goal).square().mean()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())
        return {"loss": torch.stack(losses).mean()}

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
