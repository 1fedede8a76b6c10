"""IQ-Learn's objective: from Q-values to a reward and a loss.

Garg, Chakraborty, Cundy, Song, Geist and Ermon, "IQ-Learn: inverse soft-Q learning for imitation", NeurIPS 2021. With
V(s) the soft value of Q, the reward that Q stands for is r = Q(s, a) - gamma (1 - d) V(s'), and
``J(Q) = E_expert[phi(r)] - (1 - gamma) E_0[V(s_0)]`` is maximised; phi is concave, and belongs to a divergence of the
visits. The second part may be estimated on any policy's states as ``E[V(s) - gamma (1 - d) V(s')]``.

With phi the identity and the expert's own states, a row's loss is ``-(Q - V) = -temperature log pi(a | s)``, the
likelihood, and the chi-square part adds the squared inverse temporal difference: likelihood with a TD regulariser
(Wulfmeier et al., "Imitating language via scalable inverse reinforcement learning", 2024).

An episode that ends goes on in a state without end, which has a reward like any other (Al-Hafez, Tateo, Arenz, Zhao and
Peters, "LS-IQ: implicit reward regularization for inverse reinforcement learning", 2023): with the chi-square part it
is known in closed form, and so is what no value can be beyond.
"""

from math import inf

import torch
from torch import Tensor

DIVERGENCES = ("chi2", "kl", "js", "hellinger", "tv")
VALUES = ("expert", "all", "own", "start")


def slope(r: Tensor, divergence: str) -> Tensor:
    """phi'(r), by which a row's reward is weighted; 1 for chi2 (whose square is added apart) and tv.

    kl: ``exp(-r)``; js: ``exp(-r) / (2 - exp(-r))``, held below the pole; hellinger: ``1 / (1 + r)^2``, above its own.

    Raises:
        ValueError: The name is unknown.
    """
    if divergence in ("chi2", "tv"):
        return torch.ones_like(r)
    if divergence == "kl":
        return torch.exp(-r.clamp(min=-10))
    if divergence == "js":
        shrunk = torch.exp(-r.clamp(min=-0.6))
        return shrunk / (2 - shrunk)
    if divergence == "hellinger":
        return 1 / (1 + r.clamp(min=-0.9)) ** 2
    raise ValueError(f"divergence={divergence!r}: one of {', '.join(DIVERGENCES)}")


def rest_reward(
    shown: Tensor | float, own: Tensor | float, values: str, alpha: float, regularise_all: bool
) -> Tensor | float:
    """The reward r of the state after an end that minimises ``iq_loss`` with chi2: there is one action, and Q = V.

    A share ``shown`` of the demonstrations' rows end there and a share ``own`` of the learner's. Of these rows' part of
    the loss, (given - gained) Q + weight r^2 / (4 alpha), the derivative by Q is 0 at
    r = 2 alpha (gained - given) / weight: with values "all" 2 alpha (shown - own) / (shown + own).

    Args:
        shown: In [0, 1].
        own: In [0, 1].
        values: As ``iq_loss``'s, and so are the rest.
        alpha: Of the chi-square part.
        regularise_all: Likewise.
    """
    given = {"all": (shown + own) / 2, "expert": shown, "own": own, "start": 0.0}[values]
    weight = (shown + own) / 2 if regularise_all else shown
    return 2 * alpha * (shown - given) / (weight + 1e-12)


def value_bound(values: str, alpha: float, gamma: float) -> float:
    """What no value of the optimum exceeds: the greatest |r| of ``rest_reward`` for ever; infinite for "expert"."""
    return {"all": 2.0, "own": 4.0, "start": 4.0, "expert": inf}[values] * alpha / (1 - gamma) if gamma < 1 else inf


def what_follows(
    ahead: Tensor, terminated: Tensor, gamma: float, rest: Tensor | float = 0.0, bound: float = inf
) -> Tensor:
    """What a step leads to, discounted, ``[B]``: V(s') held within the bound, or the state after an end."""
    follows: Tensor = gamma * ((1 - terminated) * ahead.clamp(-bound, bound) + terminated * rest)
    return follows


def iq_loss(
    q: Tensor,
    value: Tensor,
    ahead: Tensor,
    terminated: Tensor,
    expert: Tensor,
    gamma: float,
    *,
    divergence: str = "chi2",
    values: str = "all",
    start: Tensor | None = None,
    alpha: float = 0.5,
    regularise_all: bool = True,
    rest: Tensor | float = 0.0,
    bound: float = inf,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a minibatch, all arguments ``[B]``, and its parts.

    Of several critics at once, ``[B, C]`` (``terminated [B, 1]``, ``expert [B]``), it is the mean.

    Args:
        q: Q(s, a), with gradient.
        value: V(s), with gradient.
        ahead: V(s'); its gradient, where it has one, is used.
        terminated: 1.0 where the task ended (a cut goes on).
        expert: Bool: rows of the demonstrations; there is at least one.
        gamma: Discount.
        divergence: One of ``DIVERGENCES``.
        values: Where the second part is estimated: on the "expert"'s states, one's "own", "all", or at the "start".
        start: V at first states of demonstrations, ``[E]``, for "start".
        alpha: Of the chi-square part, ``r^2 / (4 alpha)``.
        regularise_all: That part over all rows (online) or the expert's alone (offline).
        rest: Value of the state after an end.
        bound: V(s') is held within [-bound, bound].

    Raises:
        ValueError: A name is unknown.
    """
    follow = what_follows(ahead, terminated, gamma, rest, bound)
    reward = q - follow
    of_expert = reward[expert]
    gained = (slope(of_expert.detach(), divergence) * of_expert).mean()
    if values == "start":
        if start is None:
            raise ValueError("values='start' needs the values of first states")
        given = (1 - gamma) * start.mean()
    elif values in ("expert", "all", "own"):
        step = value - follow
        given = (step if values == "all" else step[expert if values == "expert" else ~expert]).mean()
    else:
        raise ValueError(f"values={values!r}: one of {', '.join(VALUES)}")
    loss = given - gained
    parts = {"reward_expert": of_expert.detach().mean(), "value": given.detach()}
    if divergence == "chi2":
        square = (reward if regularise_all else of_expert).square().mean() / (4 * alpha)
        loss, parts["chi2"] = loss + square, square.detach()
    return loss, parts
