"""Several terms as one: linear, Chebyshev, lexicographic and max-min scalarisation, of steps or of whole returns.

Van Moffaert, Drugan and Nowe, "Scalarized multi-objective reinforcement learning" (2013). Applied to terms, an op
weighs the rewards of each step; applied to ``Return`` of terms, the returns of each episode, paid at its end. The
best of expected returns (which may mix policies) is for worlds that can be solved: ``envs.tabular.objectives``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .ops import Scale, Sum, Task, as_term
from .stretch import Stretch
from .term import Addend, Episode, Op, Term


class Return(Episode):
    """The sum of a term over the episode, paid at its last step.

    Args:
        term: What is summed.
        gamma: Discount within the sum; 1 is the plain sum.
    """

    def __init__(self, term: Addend, gamma: float = 1.0) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f"Return(gamma={gamma}): a discount is between 0 and 1")
        self.gamma = float(gamma)
        self.inputs = (as_term(term),)

    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        """The sums, in the last valid row of each episode ``[L, E]``; 0 elsewhere."""
        rows = torch.arange(ep.rows[0], device=ep.device)[:, None]
        weight = self.gamma ** rows.to(inputs[0].dtype)
        total = (torch.where(ep.valid, inputs[0], 0.0) * weight).sum(0)
        last = ep.valid.sum(0) - 1
        return torch.where(rows == last, total, 0.0)

    @classmethod
    def examples(cls) -> list[Term]:
        """Plain and discounted."""
        return [cls(Task()), cls(Task(), 0.9)]


def _terms(terms: Sequence[Addend], numbers: Sequence[float] | None, what: str) -> tuple[list[Term], list[float]]:
    nodes = [as_term(t) for t in terms]
    values = [1.0] * len(nodes) if numbers is None else [float(n) for n in numbers]
    if len(nodes) < 2 or len(values) != len(nodes):
        raise ValueError(f"{what}: {len(nodes)} terms and {len(values)} numbers; at least two terms, a number for each")
    return nodes, values


def linear(terms: Sequence[Addend], weights: Sequence[float]) -> Term:
    """The sum of w_k r_k: what ``+`` and ``*`` say."""
    nodes, values = _terms(terms, weights, "linear")
    return Sum(*(Scale(w, node) for w, node in zip(values, nodes)))


def chebyshev(terms: Sequence[Addend], weights: Sequence[float], utopia: Sequence[float]) -> Term:
    """``-max_k w_k |z_k - r_k|``: as near as can be, in the worst term, to a point z that is wished for.

    Raises:
        ValueError: A weight is not above 0.
    """
    nodes, values = _terms(terms, weights, "chebyshev")
    _, point = _terms(terms, utopia, "chebyshev")
    if min(values) <= 0:
        raise ValueError(f"chebyshev(weights={values}): weights are above 0")

    def farthest(*inputs: Tensor) -> Tensor:
        return -torch.stack([w * (z - r).abs() for w, z, r in zip(values, point, inputs)]).amax(0)

    return Op(farthest, *nodes)


def max_min(terms: Sequence[Addend]) -> Term:
    """``min_k r_k``: to be as large as can be."""
    nodes, _ = _terms(terms, None, "max_min")
    return Op(lambda *inputs: torch.stack(inputs).amin(0), *nodes)


def lexicographic(terms: Sequence[Addend], spans: Sequence[float], steps: Sequence[float]) -> Term:
    """The first term first; the second only among what is equal in the first; and so on, as one number.

    A number can keep that order only where differences have a least size: term k's values differ by ``steps[k]`` or
    more where they differ at all, and by ``spans[k]`` at most. Each weight makes one step of its term worth more than
    all that the terms after it can differ by.

    Args:
        terms: The most important first.
        spans: The largest difference of each term (with ``Return``: of its returns).
        steps: The smallest difference of each term.

    Raises:
        ValueError: A step is not above 0 or above its span, or the weights reach past what float32 can tell apart.
    """
    nodes, span = _terms(terms, spans, "lexicographic")
    _, step = _terms(terms, steps, "lexicographic")
    if any(not 0 < s <= d for s, d in zip(step, span)):
        raise ValueError(f"lexicographic(spans={span}, steps={step}): a step is above 0, and at most the span")
    weights, below = [1.0], span[-1]  # from the last term upwards; below: what all later terms can make up
    for s, d in zip(step[-2::-1], span[-2::-1]):
        weights.insert(0, (below + step[-1]) / s)
        below += weights[0] * d
    if below / step[-1] > 2**23:
        raise ValueError(
            f"lexicographic: the terms together take {below / step[-1]:.3g} of the smallest step, and float32 tells "
            "8e6 apart; coarser steps, smaller spans or fewer terms"
        )
    return linear(nodes, weights)
