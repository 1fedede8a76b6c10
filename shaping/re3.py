"""RE3: pay for states that lie far from what has been seen lately, by features of a fixed random network.

Seo, Chen, Shin, Lee, Abbeel and Lee, "State entropy maximization with random encoders for efficient exploration",
ICML 2021.
"""

import torch
from torch import Tensor, nn

from . import fast, fast_neighbours
from .learned import Learned, States, positive
from .networks import Whitening, encoder
from .stretch import Stretch
from .term import Term, World, node_seed

PAIRS = 1 << 21  # distances worked out at once


class RE3(Learned):
    """``log(1 + ||y - y_k||)``: the distance of the next state's features to its k-th nearest neighbour (equation 5).

    Neighbours are sought among a random sample of the states of the last updates, so that the same state is paid the
    same until the next update. (The authors seek them in the replay buffer, and on-policy in the last 10,000 states or
    so; a state that is in its own sample has itself for a neighbour, where they look one further.) Nothing is trained;
    the mean of the log distances estimates the entropy of the states.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain one.
        warmup: How many updates must have taken place before anything is paid: the first fills the sample, the second
            finds the scale.
        k: Which neighbour; 3 in the paper.
        capacity: How many states are kept.
        features: Width of the features.
        hidden: Width of the encoder's hidden layer.
        share: Which share of the rows of an update goes into the sample, ``capacity`` at most.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "re3"
    saved = (*Learned.saved, "whitening", "embed", "sample", "filled")

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 2,
        k: int = 3,
        capacity: int = 1024,
        features: int = 32,
        hidden: int = 128,
        share: float = 0.1,
    ) -> None:
        super().__init__(normalise, warmup, share)
        positive(self, features=features, hidden=hidden, k=k)
        if capacity < k:
            raise ValueError(f"RE3(k={k}, capacity={capacity}): the {k}-th neighbour of fewer states")
        self.k, self.capacity, self.features, self.hidden = int(k), int(capacity), int(features), int(hidden)
        self.whitening: Whitening | None = None
        self.embed: nn.Module | None = None
        self.sample = torch.zeros(self.capacity, self.features)
        self.filled = 0  # how many states have gone into the sample; the next goes to place filled % capacity

    def bind(self, world: World) -> None:
        """Build the encoder for the observations."""
        super().bind(world)
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        self.embed = encoder(self.whitening.parts, self.hidden, self.features, generator).to(world.device)
        self.embed.requires_grad_(False)
        self.sample, self.filled = torch.zeros(self.capacity, self.features, device=world.device), 0

    def raw(self, x: Stretch) -> Tensor:
        """The log distance of flat rows ``[B]``; 0 while there are fewer than k states to compare with."""
        assert self.whitening is not None
        return self.whitening.of_distinct(self.distance, x.next_obs)

    def measure(self, raw: Tensor, valid: Tensor) -> None:
        """Take the log distances into the scale, once there are any."""
        if self.filled >= self.k:
            super().measure(raw, valid)

    def distance(self, leaves: list[Tensor]) -> Tensor:
        """The same of what ``whitening`` gave."""
        assert self.embed is not None
        y, known = self.embed(leaves), self.sample[: self.filled]
        if len(known) < self.k:
            return torch.zeros(len(y), device=y.device)
        if fast.fits(len(y), y.device) and self.k <= fast_neighbours.FEW and not torch.is_grad_enabled():
            return fast_neighbours.kth(y, known, self.k).log1p()
        near = []
        for some in torch.split(y, max(PAIRS // len(known), 1)):
            which = torch.cdist(some, known).topk(self.k, largest=False, sorted=False).indices
            # That is by matrix products, which round badly where states are alike: once more, of these few.
            near.append((some[:, None] - known[which]).square().sum(2).amax(1).sqrt())
        return torch.cat(near).log1p()

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Learn the whitening, and put a random share of the states into the sample, over the oldest."""
        assert self.whitening is not None and self.embed is not None
        seen = States(x, self.whitening)
        if self.whitening.learns:
            self.whitening.learn(seen.all())
        rows = len(seen)
        generator = torch.Generator().manual_seed(node_seed(self.seed, str(self.updates)))
        most = min(max(int(rows * self.share), 1), self.capacity)
        chosen = torch.randperm(rows, generator=generator)[:most].to(x.device)
        with torch.no_grad():
            y = self.embed(self.whitening(seen[chosen]))
        places = (torch.arange(len(y), device=x.device) + self.filled) % self.capacity
        self.sample = self.sample.index_copy(0, places, y)
        self.filled += len(y)
        return {}

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on, though there is nothing to compare with before the first update."""
        return [cls(warmup=0), cls(normalise=False, k=1, capacity=16, features=4, hidden=16, share=0.5)]
