"""IQ-Learn's objective: from Q-values to a reward and a loss.

Garg, Chakraborty, Cundy, Song, Geist and Ermon, "IQ-Learn: inverse soft-Q learning for imitation", NeurIPS 2021. With
V(s) the soft value of Q, the reward that Q stands for is r = Q(s, a) - gamma (1 - d) V(s'), and
``J(Q) = E_expert[phi(r)] - (1 - gamma) E_0[V(s_0)]`` is maximised; phi is concave, and belongs to a divergence of the
visits. The second part may be estimated on any policy's states as ``E[V(s) - gamma (1 - d) V(s')]``.

With phi the identity and the expert's own states, a row's loss is ``-(Q - V) = -temperature log pi(a | s)``, the
likelihood, and the chi-square part adds the squared inverse temporal difference: likelihood with a TD regulariser
(Wulfmeier et al., "Imitating language via scalable inverse reinforcement learning", 2024).
"""

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

    Raises:
        ValueError: A name is unknown.
    """
    follow = gamma * (1 - terminated) * ahead
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
