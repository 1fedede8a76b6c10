"""RIDE: pay for changing much in the world, less at every further visit of an episode.

Raileanu and Rocktaeschel, "RIDE: Rewarding impact-driven exploration for procedurally-generated environments", ICLR
2020.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from . import fast
from .counts import EpisodicCount
from .icm import DynamicsBonus
from .stretch import Stretch
from .term import Op, Term


class Impact(DynamicsBonus):
    """``||phi(s') - phi(s)||``: how far a step moved the features of what actions do.

    The features are trained as ICM's, by an inverse model and a forecast together (section 4.1); the loss weighs the
    forecast by ``beta`` 0.2, where the authors' code has 10 for it and 0.1 for the inverse model. Settings are those of
    ``DynamicsBonus``.
    """

    text_name = "impact"

    def raw(self, x: Stretch) -> Tensor:
        """The distance of flat rows ``[B]``."""
        assert self.dynamics is not None
        features, before, after = self.dynamics.kinds(x)
        return fast.apart(features, after, features, before).sqrt()


class RIDE(Op):
    """``||phi(s') - phi(s)|| / sqrt(N_ep(s'))``: impact over the root of the next state's visits this episode.

    Equation 3 of the paper. Two nodes multiplied: ``Impact``, which is pure, and ``EpisodicCount``, a stream.

    Args:
        key: What a visit is of, as in ``EpisodicCount``; None is the whole observation.
        normalise: As in ``Impact``, like the rest.
        warmup: The same.
        features: The same.
        hidden: The same.
        learning_rate: The same.
        share: The same.
        beta: The same.
    """

    text_name = "ride"

    def __init__(
        self,
        key: str | Sequence[str] | Callable[[Any], Tensor] | None = None,
        normalise: bool = True,
        warmup: int = 1,
        features: int = 32,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        share: float = 0.125,
        beta: float = 0.2,
    ) -> None:
        impact = Impact(normalise, warmup, features, hidden, learning_rate, share, beta)
        self.set_inputs(impact, EpisodicCount(key))

    def apply(self, *inputs: Tensor) -> Tensor:
        """Impact times the inverse root of the visits."""
        return inputs[0] * inputs[1]

    @property
    def name(self) -> str:
        """One name for both."""
        return type(self).text_name

    @classmethod
    def examples(cls) -> list[Term]:
        """By observation and by a fact; paid from the first row on."""
        return [cls(warmup=0), cls("position", normalise=False, warmup=0, features=4, hidden=16)]
