"""Disagreement: pay where forecasts that were trained alike contradict each other.

Pathak, Gandhi and Gupta, "Self-supervised exploration via disagreement", ICML 2019.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import fast, fast_ensembles, fast_lessons, fast_networks
from .adam import Adam
from .dynamics import action_sizes, encode_actions
from .fast_learning import Layer, Rows, Training
from .learned import Learned, positive, rows_of, two_ends
from .networks import PIECE, Whitening, distinct, encoder, linear, some_batches
from .stretch import Stretch
from .term import Term, World


class Ensemble(nn.Module):
    """K networks of one hidden layer side by side, ``[B, inputs]`` to ``[K, B, outputs]``."""

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()

        def weights(a: int, b: int) -> nn.Parameter:
            return nn.Parameter(torch.stack([linear(a, b, generator).weight.detach().T for _ in range(members)]))

        self.first, self.last = weights(inputs, hidden), weights(hidden, outputs)
        self.first_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.last_bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """All members' answers."""
        hidden = F.relu(torch.baddbmm(self.first_bias, x.expand(len(self.first), *x.shape), self.first))
        return torch.baddbmm(self.last_bias, hidden, self.last)

    def learned(self) -> Training | None:
        """The parameters for the loops of ``fast_lessons``; None where they are too many."""
        (inputs, hidden), outputs = self.first.shape[1:], self.last.shape[2]
        if max(inputs, hidden, outputs) > fast_networks.WIDEST:
            return None
        pairs = (self.first, self.first_bias, hidden), (self.last, self.last_bias, outputs)
        return Training([Layer(*pair, member) for member in range(len(self.first)) for pair in pairs])


class Disagreement(Learned):
    """``E_k ||f_k(s, a) - E_k f_k(s, a)||^2``: the variance of an ensemble's forecasts of the next state (equation 1).

    What cannot be forecast (noise) is averaged away by all members alike, and pays nothing in the end. The features are
    those of a fixed random network, as in the authors' code, which also leaves a fifth of the rows out for each member.
    The bonus is for a state and an action, whatever came of them.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain one.
        warmup: How many updates must have taken place before anything is paid.
        members: How many forecasts; 5 in the paper.
        features: Width of the features.
        hidden: Width of the hidden layers.
        learning_rate: Adam's.
        share: Which share of the rows the ensemble is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "disagreement"
    saved = (*Learned.saved, "whitening", "embed", "ensemble", "optimiser")
    keep = 0.8  # the chance of a row to count in a member's loss

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 1,
        members: int = 5,
        features: int = 32,
        hidden: int = 64,
        learning_rate: float = 1e-3,
        share: float = 0.125,
    ) -> None:
        super().__init__(normalise, warmup, share)
        positive(self, features=features, hidden=hidden, learning_rate=learning_rate)
        if members < 2:
            raise ValueError(f"Disagreement(members={members}): at least two can disagree")
        self.members, self.features, self.hidden = int(members), int(features), int(hidden)
        self.learning_rate = float(learning_rate)
        self.whitening: Whitening | None = None
        self.embed: nn.Module | None = None
        self.ensemble: nn.Module | None = None
        self.training: Training | None = None
        self.optimiser: torch.optim.Optimizer | None = None

    def bind(self, world: World) -> None:
        """Build the networks for observations and actions.

        Raises:
            TypeError: The actions are neither categories nor numbers.
        """
        super().bind(world)
        self.actions = world.action_space
        self.whitening = Whitening(world.observation_space, world.device)
        generator = torch.Generator().manual_seed(world.seed)
        self.embed = encoder(self.whitening.parts, self.hidden, self.features, generator).to(world.device)
        self.embed.requires_grad_(False)
        wide = self.features + sum(action_sizes(world.action_space))
        ensemble = Ensemble(self.members, wide, self.hidden, self.features, generator).to(world.device)
        self.ensemble, self.optimiser = ensemble, Adam(ensemble.parameters(), self.learning_rate, fused=True)
        self.training = ensemble.learned() if torch.device(world.device).type == "cpu" else None

    def raw(self, x: Stretch) -> Tensor:
        """The variance of flat rows ``[B]``, summed over the features."""
        assert self.whitening is not None and self.embed is not None and self.ensemble is not None
        assert isinstance(x.action, Tensor)
        features, kinds = self.whitening.of_kinds(self.embed, x.obs)
        first, of = distinct([kinds, x.action])  # asked once for rows with the same state and action
        action = encode_actions(self.actions, x.action.index_select(0, first))
        asked = torch.cat([features.index_select(0, kinds.index_select(0, first)), action], 1)
        return torch.cat([variance(self.ensemble, some) for some in torch.split(asked, 4 * PIECE)])[of]

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Learn the whitening, and train each member on most of a share of the rows."""
        assert self.whitening is not None and self.embed is not None
        assert self.ensemble is not None and self.optimiser is not None
        flat, rows = x.flat(), x.valid.flatten().nonzero()[:, 0]
        ends = self.whitening.looked_at(flat.obs), self.whitening.looked_at(flat.next_obs)
        if self.whitening.learns:
            self.whitening.learn(rows_of(ends[1], rows))
        generator = torch.Generator().manual_seed(self.seed ^ self.updates)
        batches = some_batches(rows, self.share, self.seed, self.updates)
        if self.training is not None and fast.fits(sum(map(len, batches)), x.device):
            every = torch.cat(batches)
            with torch.no_grad():
                before, after = self.embed(self.whitening(two_ends(*ends, every))).chunk(2)
                asked = torch.cat([before, encode_actions(self.actions, rows_of(flat.action, every))], 1)
            lengths = [len(batch) for batch in batches]
            drawn = [torch.rand(self.members, length, generator=generator) for length in lengths]
            counts = (torch.cat(drawn, 1) < self.keep).float()
            seen, given = Rows(None, asked, lengths, 1), [after.contiguous(), counts, self.features, self.members]
            return {"loss": self.training.run(fast_lessons.ensemble(), self.optimiser, seen, given)[:, 0].mean()}
        losses = []
        for batch in batches:
            before, after = self.embed(self.whitening(two_ends(*ends, batch))).chunk(2)
            action = encode_actions(self.actions, rows_of(flat.action, batch))
            guesses = self.ensemble(torch.cat([before, action], 1))
            error = (guesses - after).square().mean(2)
            counts = (torch.rand(error.shape, generator=generator) < self.keep).to(error)
            loss = (error * counts).mean(1).sum()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(error.detach().mean())
        return {"loss": torch.stack(losses).mean()}

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on."""
        return [cls(warmup=0), cls(normalise=False, warmup=0, members=3, features=4, hidden=16)]


def variance(ensemble: nn.Module, x: Tensor) -> Tensor:
    """Of the members' answers ``[K, B, outputs]`` to ``x [B, inputs]``, summed over the outputs: ``[B]``."""
    if isinstance(ensemble, Ensemble):
        first, last = (ensemble.first, ensemble.first_bias), (ensemble.last, ensemble.last_bias)
        if fast_networks.asks(len(x), x.device, *first[0].shape[1:], last[0].shape[2]):
            members = zip(*first, *last)
            return fast_ensembles.disagreement(x, [[(a.t(), b[0]), (c.t(), d[0])] for a, b, c, d in members])
    guesses = ensemble(x)
    # As torch's `var` without correction, which is much slower along the first axis.
    out: Tensor = (guesses - guesses.mean(0)).square().mean(0).sum(1)
    return out
