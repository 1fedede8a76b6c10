"""Clipping and Delta: learned step rewards whose sum cannot be driven up by more steps.

Gao et al., "On Designing Effective RL Reward at Training Time for LLM Reasoning", 2024. Clipping:
``r'_t = min(r_t - eta, 0)``. Delta: ``r'_t = r_t - r_{t+1}``, and ``r'_n = r_n`` at the last step, so that the return
from step t is ``r_t`` alone. Either bounds what an episode can earn; one after the other, ``Delta(Clipped(r, eta))``.
"""

from typing import Any

import torch
from torch import Tensor

from .min_form import check_gamma, discount_of, following, rows_like
from .ops import Clip, Task, as_term
from .stretch import Stretch
from .term import Episode, Term, World


class Clipped(Clip):
    """``min(r - eta, 0)``: steps that are good enough cost nothing, and no number of steps earns anything.

    Its kind is that of ``steps``: a pure reward stays one, and is scored anew in replay buffers.

    Args:
        steps: The step reward.
        threshold: eta; a reward of this and above gives 0.
    """

    def __init__(self, steps: Any, threshold: float) -> None:
        self.steps = as_term(steps)
        super().__init__(self.steps - float(threshold), high=0.0)

    @property
    def name(self) -> str:
        """``clipped_`` and the name of the step reward."""
        return f"clipped_{self.steps.name}"

    @property
    def text(self) -> str | None:
        """``clipped(a, 0.5)``."""
        return Term.text.__get__(self)  # type: ignore[no-any-return]

    @classmethod
    def examples(cls) -> list[Term]:
        """Of a pure term, and of a stream."""
        from .counts import EpisodicCount

        return [cls(Task(), 0.25), cls(EpisodicCount(), 0.9)]


class Delta(Episode):
    """``r_t - gamma r_{t+1}``, and ``r_n`` at the episode's last step: it telescopes, from every step on.

    The return from step t is ``r_t``, whatever comes later: a loop of good steps earns nothing. The paper's discount is
    1; with another, ``r_t - r_{t+1}`` would leave a trace of the steps to come, so the agent's own stands here. Known
    when the episode has ended (see ``MinForm`` on short rollouts and wrappers); in a truncated one the agent adds what
    it expects beyond the cut.

    Args:
        steps: The step reward.
        gamma: Left out, the agent's discount; in a wrapper it must be given.

    Raises:
        ValueError: A discount out of range; or (when bound) none is known.
    """

    def __init__(self, steps: Any, gamma: float | None = None) -> None:
        check_gamma("Delta", gamma)
        self.inputs = (as_term(steps),)
        self.given_gamma, self.gamma = gamma, 1.0

    def bind(self, world: World) -> None:
        """Take the agent's discount, where none was given."""
        self.gamma = discount_of("Delta", self.given_gamma, world)

    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        """The differences of the episodes ``[L, E]``."""
        steps = torch.where(rows_like(ep.valid, inputs[0]), inputs[0], 0.0)
        return steps - self.gamma * following(steps)

    @property
    def name(self) -> str:
        """``delta_`` and the name of the step reward."""
        return f"delta_{self.inputs[0].name}"

    @classmethod
    def examples(cls) -> list[Term]:
        """With the agent's discount and the paper's; after clipping; over a stream."""
        from .counts import EpisodicCount

        return [cls(Task()), cls(Clipped(Task(), 0.25), 1.0), cls(EpisodicCount(key="position"))]
