"""Gated reward accumulation: step rewards that count only where the outcome is good enough.

G-RA, "Stabilizing Long-term Multi-turn Reinforcement Learning with Gated Rewards", 2025:
``R = R_out + 1[R_out >= delta] * sum_t r_t``.
"""

from typing import Any

import torch
from torch import Tensor

from .ops import Task, as_term
from .stretch import Stretch
from .term import Episode, Term


class Gated(Episode):
    """Step rewards held back until the episode's outcome is known, and paid only where it reaches a threshold.

    ``Task() + Gated(hints, 0.5)`` is the paper's return: the outcome, and the hints' sum behind the gate.

    Args:
        steps: The term that is held back.
        threshold: delta; the gate opens where the outcome is at least this.
        outcome: The term whose sum over the episode is the outcome; the task's own reward, unless said otherwise.
        pay: ``"steps"`` writes each reward back to its step; ``"end"`` pays the sum at the episode's last step.
    """

    def __init__(self, steps: Any, threshold: float = 0.5, outcome: Any = None, pay: str = "steps") -> None:
        if pay not in ("steps", "end"):
            raise ValueError(f"Gated(pay={pay!r}): it pays at the 'steps' or at the 'end'")
        self.inputs = (as_term(steps), Task() if outcome is None else as_term(outcome))
        self.threshold, self.pay = float(threshold), pay

    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        """The step rewards of the episodes ``[L, E]`` whose gate is open."""
        steps, outcome = (torch.where(ep.valid, value, 0.0) for value in inputs)
        paid = steps * (outcome.sum(0) >= self.threshold)
        if self.pay == "steps":
            return paid
        last = ep.valid & ~torch.cat([ep.valid[1:], torch.zeros_like(ep.valid[:1])])
        return torch.where(last, paid.sum(0), 0.0)

    @property
    def name(self) -> str:
        """``gated_`` and the name of what is held back."""
        return f"gated_{self.inputs[0].name}"

    @classmethod
    def examples(cls) -> list[Term]:
        """Both ways of paying; over a stream."""
        from .counts import EpisodicCount

        return [cls(0.25, 0.5), cls(Task() - 0.1, 0.0, pay="end"), cls(EpisodicCount(key="position"), 1.0, pay="end")]
