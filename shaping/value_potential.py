"""A potential that is learned: the value of what the agent has been doing, by temporal differences.

Grzes and Kudenko, "Online learning of shaping rewards in reinforcement learning", 2010: a value function that learns
faster than the agent's own (there on coarser states, here by more passes over the same rows) serves as its potential.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..envs.spaces import tree_map
from .adam import Adam
from .advice import Remembered
from .networks import Encoder, Whitening, mlp
from .stretch import Stretch
from .term import Source, Term, World, node_seed

BATCH = 1024  # rows of one gradient step


class ValuePotential(Remembered):
    """``F = gamma * V_now(s') - V_then(s)``, V being fitted to the task's discounted return by TD(0) in ``update``.

    As V changes with every update, it is remembered from arrival to departure, so the sum telescopes all the same
    (``DynamicPotential``) and the best policy stays.

    Args:
        gamma: As in ``Potential``; also the discount of the returns that V predicts.
        learning_rate: Of Adam.
        epochs: Passes over the rows since the last update.
        hidden: Width of the network's layers.
        warmup: Updates before which the potential is 0.
    """

    saved = ("network", "optimiser", "whitening", "updates")

    def __init__(
        self,
        gamma: float | None = None,
        learning_rate: float = 1e-3,
        epochs: int = 4,
        hidden: int = 64,
        warmup: int = 1,
    ) -> None:
        super().__init__(gamma)
        if epochs < 1 or hidden < 1 or warmup < 0 or not learning_rate > 0:
            raise ValueError(
                f"ValuePotential(learning_rate={learning_rate}, epochs={epochs}, hidden={hidden}, warmup={warmup}): "
                "rate, epochs and hidden are above 0, and warmup at least 0"
            )
        self.learning_rate, self.epochs, self.hidden = float(learning_rate), int(epochs), int(hidden)
        self.warmup, self.updates, self.seed = int(warmup), 0, 0
        self.network: nn.Module | None = None
        self.optimiser: torch.optim.Optimizer | None = None
        self.whitening: Whitening | None = None

    def bind(self, world: World) -> None:
        """Build the network for the observations."""
        super().bind(world)
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        encoder = Encoder(self.whitening.parts, self.hidden, generator)
        self.network = nn.Sequential(encoder, mlp([self.hidden, self.hidden, 1], generator)).to(world.device)
        self.optimiser = Adam(self.network.parameters(), self.learning_rate)
        self.updates, self.seed = 0, world.seed

    def begin(self, x: Stretch) -> Tensor:
        """V(s) as it is now."""
        return self._value(x, x.obs)

    def arrive(self, x: Stretch) -> Tensor:
        """V(s') as it is now."""
        return self._value(x, x.next_obs)

    def _value(self, x: Stretch, obs: Any) -> Tensor:
        out = torch.zeros(x.shape, device=x.device)
        if self.updates < self.warmup or not bool(x.valid.any()):
            return out
        assert self.network is not None and self.whitening is not None
        return out.masked_scatter(x.valid, self.network(self.whitening(rows_of(x, obs)))[:, 0])

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Fit V to ``r + gamma V(s')``, the bootstrap held fixed in each pass, and left out where the task ended."""
        assert self.network is not None and self.whitening is not None and self.optimiser is not None
        x = source.recent
        rows = int(x.valid.sum())
        if not rows:
            return {}
        obs, after = rows_of(x, x.obs), rows_of(x, x.next_obs)
        reward, ends = x.reward[x.valid], x.terminated[x.valid]
        with torch.no_grad():
            self.whitening.learn(after)
        before, later = self.whitening(obs), self.whitening(after)
        generator = torch.Generator().manual_seed(node_seed(self.seed, str(self.updates)))
        loss = reward.new_zeros(())
        for _ in range(self.epochs):
            with torch.no_grad():
                target = reward + float(self.gamma or 0.0) * torch.where(ends, 0.0, self.network(later)[:, 0])
            for batch in torch.split(torch.randperm(rows, generator=generator).to(x.device), BATCH):
                loss = (self.network([leaf[batch] for leaf in before])[:, 0] - target[batch]).square().mean()
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
        self.updates += 1
        return {"loss": loss.detach()}

    @classmethod
    def examples(cls) -> list[Term]:
        """With a potential from the first row on, so that there is something to test."""
        return [cls(warmup=0, hidden=16)]


def rows_of(x: Stretch, tree: Any) -> Any:
    """The valid rows of one of the stretch's columns, flat."""
    lead = len(x.rows)
    return tree_map(lambda v: v.reshape(-1, *v.shape[lead:])[x.valid.flatten()], tree)
