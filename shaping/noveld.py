"""NovelD: pay for stepping from what is known into what is new, once an episode.

Zhang, Xu, Wang, Wu, Keutzer, Gonzalez and Tian, "NovelD: a simple yet effective exploration criterion", NeurIPS 2021.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .counts import EpisodicCount
from .learned import Learned
from .rnd import RND
from .stretch import Stretch
from .term import Op, Term


class NoveltyGain(RND):
    """``max(nov(s') - alpha * nov(s), 0)``, where ``nov`` is the square root of RND's error (equation 1).

    It is divided by its running root mean square, so that a weight means the same in all tasks, and its settings are
    those of ``RND``. Unlike RND it goes into the main channel, as in the paper.

    Args:
        alpha: How much of the novelty left behind is taken off.
        normalise: Divide by the root mean square; False leaves the plain gain.
        warmup: As in ``RND``, like the rest.
        features: The same.
        hidden: The same.
        learning_rate: The same.
        share: The same.

    Raises:
        ValueError: A setting is out of its range.
    """

    text_name = "novelty_gain"
    channel = None

    def __init__(
        self,
        alpha: float = 0.5,
        normalise: bool = True,
        warmup: int = 1,
        features: int = 64,
        hidden: int = 128,
        learning_rate: float = 1e-3,
        share: float = 0.125,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"{type(self).__name__}(alpha={alpha}): alpha is between 0 and 1")
        super().__init__(normalise, warmup, features, hidden, learning_rate, share)
        self.alpha = float(alpha)

    measure, unit = Learned.measure, Learned.unit

    def raw(self, x: Stretch) -> Tensor:
        """The gain of flat rows ``[B]``."""
        before, after = self.novelty(x.obs, x.next_obs).sqrt().chunk(2)
        return (after - self.alpha * before).clamp(min=0)

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on."""
        return [cls(warmup=0), cls(0.9, normalise=False, warmup=0, features=8, hidden=16)]


class NovelD(Op):
    """``max(nov(s') - alpha * nov(s), 0)`` at the first visit of ``s'`` in its episode (equations 1 and 2).

    Two nodes multiplied: ``NoveltyGain``, which is pure, and ``EpisodicCount(mode="first")``, a stream. A replay buffer
    keeps the first visits and scores the gain anew, so that what was new once does not stay so.

    Args:
        key: What a visit is of, as in ``EpisodicCount``; None is the whole observation.
        alpha: How much of the novelty left behind is taken off.
        normalise: As in ``NoveltyGain``, like the rest.
        warmup: The same.
        features: The same.
        hidden: The same.
        learning_rate: The same.
        share: The same.
    """

    text_name = "noveld"

    def __init__(
        self,
        key: str | Sequence[str] | Callable[[Any], Tensor] | None = None,
        alpha: float = 0.5,
        normalise: bool = True,
        warmup: int = 1,
        features: int = 64,
        hidden: int = 128,
        learning_rate: float = 1e-3,
        share: float = 0.125,
    ) -> None:
        gain = NoveltyGain(alpha, normalise, warmup, features, hidden, learning_rate, share)
        self.set_inputs(gain, EpisodicCount(key, "first"))

    def apply(self, *inputs: Tensor) -> Tensor:
        """Gain times first visit."""
        return inputs[0] * inputs[1]

    @property
    def name(self) -> str:
        """One name for both."""
        return type(self).text_name

    @classmethod
    def examples(cls) -> list[Term]:
        """By observation and by a fact; paid from the first row on."""
        return [cls(warmup=0), cls("position", 0.9, normalise=False, warmup=0, features=8, hidden=16)]
