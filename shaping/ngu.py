"""NGU: pseudo-counts of the episode, more where the state is new to the whole of training.

Badia et al., "Never give up: learning directed exploration strategies", ICLR 2020.
"""

import torch
from torch import Tensor

from .learned import Learned, valid_rows
from .pseudo_counts import PseudoCounts
from .rnd import RND
from .stretch import Stretch
from .term import Op, Source, Term


class LifelongNovelty(RND):
    """``min(max(1 + (err - mean) / deviation, 1), most)``, where err is RND's error (section 2, equation 1).

    Mean and deviation are those of the errors so far; only ``update`` changes them. Other settings are those of
    ``RND``. It is 1 before the warm-up is over, and in the main channel.

    Args:
        most: The paper's L, 5.
        warmup: As in ``RND``, like the rest.
        features: The same.
        hidden: The same.
        learning_rate: The same.
        share: The same.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "lifelong_novelty"
    channel = None
    every = 8

    def __init__(
        self,
        most: float = 5.0,
        warmup: int = 1,
        features: int = 64,
        hidden: int = 128,
        learning_rate: float = 1e-3,
        share: float = 0.125,
    ) -> None:
        if not 1 <= most < float("inf"):
            raise ValueError(f"LifelongNovelty(most={most}): the largest factor is at least 1, and finite")
        super().__init__(False, warmup, features, hidden, learning_rate, share)
        self.most = float(most)

    measure = Learned.measure

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The factor of each row."""
        out = torch.ones(x.shape, device=x.device)
        if self.updates < self.warmup or not bool(self.scale.count):
            return out
        error = self.raw(valid_rows(x))
        factor = 1 + (error - self.scale.mean.float()) / self.scale.deviation.clamp(min=1e-8).float()
        return out.masked_scatter(x.valid, factor.clamp(1, self.most))

    def known(self, source: Source) -> None:
        """Factors do not tell the errors, which are worked out anew, of one row in eight."""

    @classmethod
    def examples(cls) -> list[Term]:
        """At work from the first row on, as far as it can be."""
        return [cls(warmup=0), cls(2.0, warmup=0, features=8, hidden=16)]


class NGU(Op):
    """``PseudoCounts * LifelongNovelty``: the episodic bonus times the lifelong factor, 1 to 5 (equation 1).

    Two nodes multiplied: the first is a stream, the second pure. The paper's mixture of policies with different weights
    of the bonus belongs to its agent, and is not here.

    Args:
        normalise: As in ``PseudoCounts``, like the next four.
        warmup: Of both.
        k: As in ``PseudoCounts``, like the next two.
        epsilon: The same.
        capacity: The same.
        most: As in ``LifelongNovelty``.
        share: Which share of the rows the networks are trained on.
    """

    text_name = "ngu"

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 1,
        k: int = 10,
        epsilon: float = 1e-3,
        capacity: int = 512,
        most: float = 5.0,
        share: float = 0.0625,
    ) -> None:
        counts = PseudoCounts(normalise, warmup, k, epsilon, capacity=capacity, share=share)
        self.set_inputs(counts, LifelongNovelty(most, warmup, share=share))

    def apply(self, *inputs: Tensor) -> Tensor:
        """Bonus times factor."""
        return inputs[0] * inputs[1]

    @property
    def name(self) -> str:
        """One name for both."""
        return type(self).text_name

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on."""
        return [cls(warmup=0), cls(normalise=False, warmup=0, k=2, capacity=3)]
