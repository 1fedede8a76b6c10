"""The rank gate: before anything is trained, a candidate must place recorded successes above recorded failures."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .recorded import Recorded


@dataclass(frozen=True)
class Gate:
    """What the gate saw.

    Attributes:
        rank: The share of pairs (a better episode, a worse one) that the candidate's return orders rightly, ties a
            half; None where there is no pair.
        parts: The same by each component alone.
        pairs: How many.
        better, worse: Mean return of the better and of the worse episodes of all pairs.
        passed: Whether the candidate may be trained.
    """

    rank: float | None
    parts: dict[str, float]
    pairs: int
    better: float
    worse: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """What ``to_json`` gave."""
        return cls(**tree)

    def __str__(self) -> str:
        """In words, for a prompt."""
        if self.rank is None:
            return "No recorded episode is better than another, so the ranking could not be tried."
        lines = [
            f"Of {self.pairs} pairs of a better and a worse recorded episode, the reward's return is higher for the "
            f"better one in {self.rank:.0%} (mean return {self.better:.4g} against {self.worse:.4g})."
        ]
        lines += [f"- by the part {name!r} alone: {share:.0%}" for name, share in self.parts.items()]
        return "\n".join(lines)


def ranked(returns: Tensor, score: Tensor) -> tuple[float | None, int]:
    """The share of pairs of episodes that ``returns`` orders as ``score`` does (ties in ``returns`` count a half).

    With two scores this is the area under the ROC curve (Hanley & McNeil 1982).

    Args:
        returns: ``[E]``, what the candidate says.
        score: ``[E]``, what the task says; pairs of equal score are none.

    Returns:
        The share, None without pairs, and the number of pairs.
    """
    above = score[:, None] > score
    pairs = int(above.sum())
    if not pairs:
        return None, 0
    gap = returns.double()[:, None] - returns.double()
    right = (gap > 0).double() + 0.5 * (gap == 0).double()
    return float(right[above].mean()), pairs


def rank_gate(
    recorded: Recorded, value: Tensor, parts: dict[str, Tensor], threshold: float = 0.75, gamma: float = 0.99
) -> Gate:
    """Ask whether a candidate prefers what the task prefers.

    The idea is CARD's trajectory preference evaluation ("A Large Language Model-Driven Reward Code Design Framework via
    Dynamic Feedback for Reinforcement Learning", 2024); ours counts pairs.

    Args:
        recorded: Episodes, good and bad.
        value: What the agent would be paid for each transition ``[B]``, the task's own reward included if it is.
        parts: Each component's value ``[B]``.
        threshold: The share of pairs that must be right.
        gamma: Discount of the returns.
    """
    score = recorded.score
    returns = recorded.total(value, gamma)
    rank, pairs = ranked(returns, score)
    shares = {name: ranked(recorded.total(part, gamma), score)[0] for name, part in parts.items()}
    above = score[:, None] > score
    better, worse = above.sum(1).double(), above.sum(0).double()

    def mean(weight: Tensor) -> float:
        return float((returns.double() * weight).sum() / weight.sum().clamp(min=1))

    passed = rank is None or (rank >= threshold and bool(torch.isfinite(returns).all()))
    told = {name: share for name, share in shares.items() if share is not None}
    return Gate(rank, told, pairs, mean(better), mean(worse), passed)
