"""Min-form credit: an episode is worth what its worst step is worth.

PURE, "Stop Summation: Min-Form Credit Assignment Is All Process Reward Model Needs for Reasoning", 2025. In a sum, a
step reward that is wrong here and there pays for every repetition; a minimum cannot be raised by more steps. The value
function is ``V(s_t) = min_{i >= t} r_i``. The paper puts it into any agent by transforming the step rewards,

    r*_t = w_t r_t,    w_t = exp(-r_t / T) / sum_i exp(-r_i / T),

over the episode (T = 0.1), and leaves sums and discount 1 as they are: as T goes to 0, the return from step t is the
episode's minimum up to the step w where it stands, and 0 after it.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .ops import as_term
from .stretch import Stretch
from .term import Episode, Term, World


class MinForm(Episode):
    """Step rewards rewritten so that their sum over the episode is the (soft) minimum of them.

    Known when the episode has ended. An agent that depends on it trains on whole episodes
    (``PPO(..., whole_episodes=True)``): what is for a step before the rollout comes at the episode's last one, as all
    of it does in a wrapper, and the steps of an episode that is still open have nothing yet.

    Args:
        steps: The step reward, a learned one usually.
        temperature: T. 0 is the hard minimum: all of it at the worst step, the last such step where several are equally
            bad, so that every step up to it sees the minimum ahead. A soft minimum lies between the minimum and the
            mean.
        of: ``"episode"`` is the paper's transform, above. ``"future"`` makes the value function exact at every step:
            with ``m_t`` the (soft) minimum of the rewards from t on, ``r*_t = m_t - gamma m_{t+1}``, and ``m_n`` at the
            last, so that the discounted return from step t is ``m_t``. In a truncated episode the agent adds to either
            what it expects beyond the cut.
        gamma: For ``of="future"``: left out, the agent's discount; in a wrapper it must be given. 1 is the paper's.

    Raises:
        ValueError: A setting is out of range; or (when bound) no discount is known.
    """

    def __init__(self, steps: Any, temperature: float = 0.1, of: str = "episode", gamma: float | None = None) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ValueError(f"MinForm(temperature={temperature}): it is 0, the hard minimum, or above")
        if of not in ("episode", "future"):
            raise ValueError(f"MinForm(of={of!r}): it is the minimum of the whole 'episode' or of the 'future'")
        if gamma is not None and of == "episode":
            raise ValueError('MinForm(gamma=...) goes with of="future"; the minimum of an episode has no discount')
        check_gamma("MinForm", gamma)
        self.inputs = (as_term(steps),)
        self.temperature, self.of, self.given_gamma = float(temperature), of, gamma
        self.gamma = 1.0

    def bind(self, world: World) -> None:
        """Take the agent's discount, where one is used and none was given."""
        if self.of == "future":
            self.gamma = discount_of("MinForm", self.given_gamma, world)

    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        """The transformed rewards of the episodes ``[L, E]``."""
        valid = rows_like(ep.valid, inputs[0])
        steps = torch.where(valid, inputs[0], 0.0)
        if self.of == "future":
            worst = torch.where(valid, self._future(steps, valid), 0.0)
            return worst - self.gamma * following(worst)
        if self.temperature > 0:
            return torch.softmax((-steps / self.temperature).masked_fill(~valid, -torch.inf), 0) * steps
        # Counted from the end, the first smallest row is the last.
        backwards = steps.masked_fill(~valid, torch.inf).flip(0).argmin(0, keepdim=True)
        at = len(steps) - 1 - backwards
        return torch.zeros_like(steps).scatter(0, at, steps.gather(0, at))

    def _future(self, steps: Tensor, valid: Tensor) -> Tensor:
        """m_t, the (soft) minimum of the rewards from t on."""
        if self.temperature == 0:
            return steps.masked_fill(~valid, torch.inf).flip(0).cummin(0).values.flip(0)
        least = steps.masked_fill(~valid, torch.inf).amin(0)
        above = (steps - least).double()  # from 0 on: its logarithm exists, or is that of nothing
        weight = (-above / self.temperature).masked_fill(~valid, -torch.inf)
        total = weight.flip(0).logcumsumexp(0).flip(0)
        shares = (weight + above.log()).masked_fill(~valid, -torch.inf).flip(0).logcumsumexp(0).flip(0)
        return least + torch.where(valid, (shares - total).exp(), 0.0).to(steps)

    @property
    def name(self) -> str:
        """``min_`` and the name of the step reward."""
        return f"min_{self.inputs[0].name}"

    @classmethod
    def examples(cls) -> list[Term]:
        """Soft and hard, of the episode and of the future; over a stream."""
        from .counts import EpisodicCount
        from .ops import Task

        return [
            cls(Task()),
            cls(Task() - 0.1, 0.0),
            cls(EpisodicCount(key="position"), 0.5, of="future"),
            cls(Task(), 0.0, of="future", gamma=1.0),
        ]


def check_gamma(name: str, gamma: float | None) -> None:
    """Raise ValueError where a given discount is none."""
    if gamma is not None and not 0 <= gamma <= 1:
        raise ValueError(f"{name}(gamma={gamma}): a discount is between 0 and 1")


def discount_of(name: str, given: float | None, world: World) -> float:
    """The given discount, or else the agent's.

    Raises:
        ValueError: Nobody has said one.
    """
    gamma = world.gamma if given is None else given
    if gamma is None:
        raise ValueError(
            f"{name} needs the agent's discount, and nobody has said it here: give it gamma=0.99 (that of the agent; 1 "
            "is the paper's), or write ShapedReward(env, ..., gamma=0.99)"
        )
    return gamma


def rows_like(mask: Tensor, value: Tensor) -> Tensor:
    """A mask ``[L, E]`` as wide as ``value [L, E, ...]``: a team's rewards have the agents last."""
    return mask.reshape(*mask.shape, *[1] * (value.dim() - mask.dim())).expand(value.shape)


def following(value: Tensor) -> Tensor:
    """Each row's next one, ``[L, E]``; 0 after the last."""
    return torch.cat([value[1:], torch.zeros_like(value[:1])])
