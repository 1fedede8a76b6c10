"""Regularisation as a term: entropy, and the divergence from a policy that is to be kept near."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .stretch import Stretch
from .term import Pure, Term

Prior = Callable[[Stretch], Tensor]


class Regulariser(Pure):
    """``-temperature * (log pi(a|s) - log prior(a|s))``, of the policy that acted.

    Its mean over the policy's actions is ``-temperature * KL(pi || prior)``; without a prior, the entropy times
    ``temperature`` (Geist, Scherrer and Pietquin, "A theory of regularized Markov decision processes", 2019). As a
    reward it also counts the entropy of the states to come, where PPO's ``ent_coef`` counts only the present one's.

    Args:
        temperature: tau, above 0.
        prior: Function of a stretch to the log-probability ``[*]`` of ``x.action`` under the policy to keep near, or
            None for entropy (a constant apart, the uniform policy).

    Raises:
        ValueError: The temperature is not above 0.
    """

    needs = frozenset({"log_prob"})
    stored = True

    def __init__(self, temperature: float, prior: Prior | None = None) -> None:
        if not 0 < temperature < float("inf"):
            raise ValueError(f"Regulariser(temperature={temperature}): it is above 0, and finite")
        self.temperature, self.prior = float(temperature), prior

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """From the log-probability that was recorded when it acted, ``x.extra["log_prob"]``."""
        ratio: Tensor = x.extra["log_prob"]
        if self.prior is not None:
            ratio = ratio - torch.as_tensor(self.prior(x)).to(ratio)
        return (-self.temperature * ratio).float()

    @classmethod
    def examples(cls) -> list[Term]:
        """Entropy, and a prior."""

        def uniform(x: Any) -> Tensor:
            return torch.full(x.shape, -1.6)

        return [cls(0.1), cls(0.5, uniform)]
