"""Pseudo-counts: how often about the same state has been seen this episode, by its nearest neighbours.

Badia, Sprechmann, Vitvitskyi, Guo, Piot, Kapturowski, Tieleman, Arjovsky, Pritzel, Bolt and Blundell, "Never give up:
learning directed exploration strategies", ICLR 2020. This is the episodic half of NGU, which toolkits call
pseudo-counts (RLeXplore). The density model of Bellemare et al. ("Unifying count-based exploration and intrinsic
motivation", 2016), from which the name comes, is not here: ``Count`` with a key function counts in its stead.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import fast_neighbours
from .dynamics import Dynamics
from .learned import positive
from .networks import Moments
from .stretch import Stretch
from .term import Source, Stream, Term, World

NUMBERS = 1 << 22  # distances worked out at once


class PseudoCounts(Stream):
    """``1 / (sqrt(sum of K(phi(s'), phi_i)) + c)`` over the k nearest states of the episode (equation 2, algorithm 1).

    ``K(x, y) = epsilon / (d + epsilon)``, where d is the squared distance over the running mean of the squared
    distances to the k nearest, less ``cluster`` and at least 0 (equation 3). A state seen n times before, n up to k,
    earns about ``1 / sqrt(n)``. Where ``sqrt(sum of K)`` + c is above ``most``, nothing is paid (with the paper's 8
    that takes k above 63). The features are those of what actions do (section 2), and stay as they were seen.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain bonus.
        warmup: How many updates must have taken place before anything is paid: the running mean is learned there.
        k: How many neighbours; 10 in the paper, as are the next four.
        epsilon: Of the kernel; 0.001 in the paper's text. (Its table, and code after it, have 0.0001.)
        cluster: Distances (relative) up to this are none; 0.008.
        c: Keeps the bonus finite; 0.001.
        most: The largest similarity that is paid for; 8.
        capacity: How many states of an episode are remembered, the last ones; 30,000 in the paper.
        features: Width of the features.
        hidden: Width of the networks' hidden layers.
        learning_rate: Of the inverse model's optimiser (Adam).
        share: Which share of the rows it is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "pseudo_counts"
    saved = ("dynamics", "scale", "updates", "spread")
    memory = ("bank", "size", "seen")

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 1,
        k: int = 10,
        epsilon: float = 1e-3,
        cluster: float = 0.008,
        c: float = 1e-3,
        most: float = 8.0,
        capacity: int = 512,
        features: int = 16,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        share: float = 0.125,
    ) -> None:
        positive(self, k=k, epsilon=epsilon, c=c, most=most, capacity=capacity, features=features, hidden=hidden,
                 learning_rate=learning_rate, share=share)  # fmt: skip
        if not (share <= 1 and warmup >= 0 and cluster >= 0):
            raise ValueError(
                f"PseudoCounts(warmup={warmup}, cluster={cluster}, share={share}): not below 0; share up to 1"
            )
        self.normalised, self.warmup, self.share = bool(normalise), int(warmup), float(share)
        self.k, self.epsilon, self.cluster, self.c, self.most = int(k), epsilon, cluster, c, most
        self.capacity, self.features, self.hidden = int(capacity), int(features), int(hidden)
        self.learning_rate = float(learning_rate)
        self.updates, self.scale = 0, Moments()
        self.dynamics: Dynamics | None = None
        self.spread = torch.ones((), dtype=torch.float64)  # the paper's d_m^2
        self.seen = torch.zeros(2, dtype=torch.float64)  # sum and number of distances since the last update
        self.bank = torch.zeros(1, 1, features)  # what each lane has seen in its episode, state i at i % room
        self.size = torch.zeros(1, dtype=torch.int64)

    def bind(self, world: World) -> None:
        """Build the networks, and make room for an episode in each lane.

        Raises:
            TypeError: The actions are neither categories nor numbers.
        """
        room = self.capacity if world.max_steps is None else min(self.capacity, world.max_steps + 1)
        self.dynamics = Dynamics(world, self.features, self.hidden, self.learning_rate)
        self.updates, self.scale = 0, Moments(device=world.device)
        self.spread = torch.ones((), dtype=torch.float64, device=world.device)
        self.seen = torch.zeros(2, dtype=torch.float64, device=world.device)
        self.bank = torch.zeros(world.lanes, room, self.features, device=world.device)
        self.size = torch.zeros(world.lanes, dtype=torch.int64, device=world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row of the next ``[T, N]``, 0 before the warm-up is over."""
        near = self.nearest(x)
        if x.device.type == "cpu":
            numbers = torch.tensor([float(self.spread.clamp(min=1e-12)), self.cluster, self.epsilon, self.c, self.most])
            value, seen = fast_neighbours.bonus(near, numbers)
        else:
            found = near.isfinite()
            value, seen = self.bonus(near), torch.stack([near[found].sum(dtype=torch.float64), found.sum()])
        self.seen = self.seen + seen
        if self.updates < self.warmup:
            return torch.zeros(x.rows, device=x.device)
        return value / self.unit() if self.normalised else value

    def bonus(self, near: Tensor) -> Tensor:
        """From squared distances to the nearest ``[..., k]``, infinite where there are fewer, to the plain bonus."""
        far = (near / self.spread.clamp(min=1e-12).float() - self.cluster).clamp(min=0)
        similarity = (self.epsilon / (far + self.epsilon)).sum(-1).sqrt() + self.c
        paid = near.isfinite().any(-1) & (similarity <= self.most)
        return torch.where(paid, 1 / similarity, 0.0)

    def nearest(self, x: Stretch) -> Tensor:
        """Squared distances from each row's next state to the k nearest before it, ``[T, N, k]``; then remember all.

        States come two to a step: an episode's first where one begins, and the next. What is of another episode, or
        later, or too long ago, counts as infinitely far.
        """
        assert self.dynamics is not None
        begins, features = x.start & x.valid, self.dynamics.along(x)
        if x.device.type != "cpu":
            return self._nearest_torch(begins, x.valid, features)
        steps, lanes = x.rows
        out = torch.empty(steps, lanes, self.k)
        flags = begins.contiguous(), x.valid.contiguous()
        fast_neighbours.search(self.features)(
            lanes, self.bank, self.size, features, *flags, out, steps, lanes, self.bank.shape[1], self.k
        )
        return out

    def _nearest_torch(self, begins: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        """The same on other devices."""
        steps, lanes = valid.shape
        here = torch.stack([begins, valid], 1).flatten(0, 1)  # [2T, N]
        new = torch.stack([begins, torch.zeros_like(begins)], 1).flatten(0, 1)
        states = features.permute(2, 1, 0, 3).reshape(lanes, 2 * steps, self.features)
        epoch, total = new.cumsum(0), here.cumsum(0)
        base = torch.where(new, total - 1, -self.size).cummax(0).values
        order = (total - 1 - base).T  # each state's number in its episode, [N, 2T]
        here, epoch = here.T, epoch.T
        out = self._among_all(states, order, epoch, here)
        self._remember(states, order, here & (epoch == epoch[:, -1:]), epoch[:, -1])
        return torch.where(valid[..., None], out.transpose(0, 1), torch.inf)

    def _among_all(self, states: Tensor, order: Tensor, epoch: Tensor, here: Tensor) -> Tensor:
        """The distances ``[N, T, k]``: everything is compared with everything at once."""
        lanes, steps, room = len(states), states.shape[1] // 2, self.bank.shape[1]
        slots = torch.arange(min(room, int(self.size.max())), device=states.device)
        latest = self.size[:, None] - 1
        number = latest - (latest - slots) % room  # of the state in each place of the bank; below 0: none
        out = torch.full((lanes, steps, self.k), torch.inf, device=states.device)
        whole = len(slots) + 2 * steps
        for some in torch.split(torch.arange(lanes, device=states.device), max(NUMBERS // (steps * whole), 1)):
            asked, when, mine = states[some, 1::2], order[some, 1::2, None], epoch[some, 1::2, None]
            known = torch.cat([self.bank[some, : len(slots)], states[some]], 1)
            numbers = torch.cat([number[some], order[some]], 1)[:, None]
            of = torch.cat([torch.zeros_like(number[some]), epoch[some]], 1)[:, None]
            there = torch.cat([number[some] >= 0, here[some]], 1)[:, None]
            squares = asked.square().sum(2)[..., None] + known.square().sum(2)[:, None]
            far = torch.baddbmm(squares, asked, known.mT, alpha=-2).clamp(min=0)
            visible = there & (of == mine) & (numbers < when) & (when - numbers <= room)
            far = far.masked_fill(~visible, torch.inf)
            k = min(self.k, whole)
            far, which = far.topk(k, largest=False, sorted=False)
            # That form of the square rounds badly between states that are alike: once more, of these few.
            few = known[torch.arange(len(some), device=states.device)[:, None, None], which]
            exact = (asked[:, :, None] - few).square().sum(3)
            out[some, :, :k] = torch.where(far.isfinite(), exact, torch.inf)
        return out

    def _remember(self, states: Tensor, order: Tensor, last: Tensor, epochs: Tensor) -> None:
        """Put the states of each lane's last episode into the bank, the last ones where there are too many."""
        room = self.bank.shape[1]
        count = torch.where(epochs == 0, self.size, 0) + last.sum(1)
        keep = last & (order >= count[:, None] - room)
        lane, place = keep.nonzero(as_tuple=True)
        self.bank = self.bank.index_put((lane, order[lane, place] % room), states[lane, place])
        self.size = count

    def unit(self) -> Tensor:
        """What the plain bonus is divided by."""
        return self.scale.root_mean_square

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn the scale and the running mean of distances, then train the inverse model on a share of the rows."""
        assert self.dynamics is not None
        x = source.recent
        if not bool(x.valid.any()):
            return {}
        raw = source.values[self] * self.unit() if self.normalised else source.values[self]
        if self.updates >= self.warmup:
            self.scale.add(raw[x.valid])
        mean = self.seen[0] / self.seen[1].clamp(min=1)
        # A moving average, since the features move too; the first mean is taken whole.
        weight = torch.where(self.seen[1] > 0, 1.0 if self.updates == 0 else 0.1, 0.0)
        self.spread = self.spread + weight * (mean - self.spread)
        self.seen = torch.zeros_like(self.seen)
        logs = self.dynamics.learn(x, self.share, self.updates)
        self.updates += 1
        return {**logs, "raw": raw[x.valid].mean(), "spread": self.spread}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        if state["bank"].shape != self.bank.shape:
            raise ValueError(
                f"the saved states have shape {list(state['bank'].shape)}, and here they have "
                f"{list(self.bank.shape)}: another number of environments, other episodes or features"
            )
        super().load(state)

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on; and with so little room that states are forgotten."""
        return [cls(warmup=0), cls(normalise=False, warmup=0, k=2, capacity=3, features=4, hidden=16)]
