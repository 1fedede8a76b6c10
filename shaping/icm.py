"""ICM: pay for what a forecast of the next state, in features of what actions do, did not see coming.

Pathak, Agrawal, Efros and Darrell, "Curiosity-driven exploration by self-supervised prediction", ICML 2017.
"""

from torch import Tensor

from .dynamics import Dynamics
from .learned import Learned, positive
from .stretch import Stretch
from .term import Term, World


class DynamicsBonus(Learned):
    """A learned bonus with a model of what actions do, settings included; ``ICM`` and ``Impact`` are such.

    Args:
        normalise: Divide by the running root mean square of the bonus; False leaves the plain one.
        warmup: How many updates must have taken place before anything is paid.
        features: Width of ``phi``.
        hidden: Width of the networks' hidden layers.
        learning_rate: Adam's.
        share: Which share of the rows the networks are trained on.
        beta: Weight of the forecast's loss against that of the inverse model (equation 7 of Pathak et al.).

    Raises:
        ValueError: A setting is out of its range.
    """

    saved = (*Learned.saved, "dynamics")

    def __init__(
        self,
        normalise: bool = True,
        warmup: int = 1,
        features: int = 32,
        hidden: int = 128,
        learning_rate: float = 3e-4,
        share: float = 0.125,
        beta: float = 0.2,
    ) -> None:
        super().__init__(normalise, warmup, share)
        positive(self, features=features, hidden=hidden, learning_rate=learning_rate)
        if not 0 < beta < 1:
            raise ValueError(f"{type(self).__name__}(beta={beta}): between 0 and 1")
        self.settings = (int(features), int(hidden), float(learning_rate), float(beta))
        self.dynamics: Dynamics | None = None

    def bind(self, world: World) -> None:
        """Build the networks for observations and actions.

        Raises:
            TypeError: The actions are neither categories nor numbers.
        """
        super().bind(world)
        self.dynamics = Dynamics(world, *self.settings)

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Train features, inverse model and forecast."""
        assert self.dynamics is not None
        return self.dynamics.learn(x, self.share, self.updates)

    @classmethod
    def examples(cls) -> list[Term]:
        """Paid from the first row on, so that there is something to test."""
        return [cls(warmup=0), cls(normalise=False, warmup=0, features=4, hidden=16)]


class ICM(DynamicsBonus):
    """``1/2 ||phi_hat(s') - phi(s')||^2``: how far the forecast from (s, a) was off (equation 6).

    The paper's factor eta is the weight in the expression. Features, inverse model and forecast are trained together,
    ``beta`` 0.2 as in the paper; settings are those of ``DynamicsBonus``.
    """

    text_name = "icm"

    def raw(self, x: Stretch) -> Tensor:
        """The forecast's error on flat rows ``[B]``."""
        assert self.dynamics is not None
        return self.dynamics.surprise(x)
