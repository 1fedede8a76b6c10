"""Several rewards at once, exactly: the returns that policies can have, and the best by each way of weighing them.

Roijers, Vamplew, Whiteson and Dazeley, "A survey of multi-objective sequential decision-making" (2013). Rewards are a
batch ``[K]`` of one MDP: ``mdp.with_reward(torch.stack([r_1, ..., r_K]))``.
"""

from itertools import combinations, product
from typing import NamedTuple

import torch
from torch import Tensor

from .mdp import MDP
from .solve import best_actions, occupancy, policy_evaluation, value_iteration

MOST_POLICIES, MOST_CORNERS = 1 << 16, 60


class Choice(NamedTuple):
    """The best policy by some way of weighing."""

    policy: Tensor
    """``[S, A]``; stationary, and stochastic where mixing is better."""
    returns: Tensor
    """J_k, ``[K]``."""
    value: float
    """Of the objective."""


def returns(mdp: MDP, policy: Tensor) -> Tensor:
    """J_k of policies ``[*P, S, A]`` under the K rewards of ``mdp``: ``[*P, K]``."""
    _check(mdp)
    values = policy_evaluation(_stacked(mdp, policy), policy[..., None, :, :])
    return (mdp.start * values).sum(-1)


def deterministic_policies(mdp: MDP) -> Tensor:
    """All of them, ``[P, S, A]``; in terminal states, where nothing is done, the first action.

    Raises:
        ValueError: There are more than 65,536.
    """
    terminal = mdp.terminal.reshape(-1, mdp.states)[0]
    free = (~terminal).nonzero()[:, 0]
    many = mdp.actions ** len(free)
    if many > MOST_POLICIES:
        raise ValueError(f"{mdp.actions}^{len(free)} deterministic policies; at most {MOST_POLICIES} are listed")
    choices = torch.zeros(many, mdp.states, dtype=torch.int64)
    choices[:, free] = torch.tensor(list(product(range(mdp.actions), repeat=len(free)))).reshape(many, len(free))
    return torch.nn.functional.one_hot(choices, mdp.actions).double()


def best_linear(mdp: MDP, weights: Tensor) -> Choice:
    """The largest sum of w_k J_k, w ``[K]``: one reward is as good."""
    _check(mdp)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    policy = value_iteration(mdp[0].with_reward((weights[:, None, None, None] * mdp.reward).sum(0))).policy
    got = returns(mdp, policy)
    return Choice(policy, got, float(weights @ got))


def best_lexicographic(mdp: MDP, tolerance: float = 1e-9) -> Choice:
    """The first return as large as can be; among the policies that have it, the second; and so on.

    Each reward is maximised with the actions that the ones before leave (Gabor, Kalmar and Szepesvari, "Multi-criteria
    reinforcement learning", 1998). ``value`` is the last return.
    """
    _check(mdp)
    allowed = torch.ones(mdp.states, mdp.actions, dtype=torch.bool)
    for k in range(mdp.batch[0]):
        one = mdp[k]
        values = torch.zeros(one.states, dtype=torch.float64)
        reward = one.expected_reward()
        for _ in range(100_000):
            q = torch.where(allowed, reward + one.discount * one.expect(values), -torch.inf)
            values, before = q.amax(-1), values
            if float((values - before).abs().max()) <= 1e-13 * max(1.0, float(values.abs().max())):
                break
        allowed &= best_actions(q, tolerance)
    policy = torch.nn.functional.one_hot(allowed.to(torch.uint8).argmax(-1), mdp.actions).double()
    got = returns(mdp, policy)
    return Choice(policy, got, float(got[-1]))


def best_chebyshev(mdp: MDP, weights: Tensor, utopia: Tensor) -> Choice:
    """The least greatest distance below a point of returns that is wished for: max over pi of min_k -w_k |z_k - J_k|.

    With ``utopia`` above all returns, as it should be, this is min_k w_k (J_k - z_k), concave; the best point is a
    mixture of at most K deterministic policies, whose corners are all tried.

    Args:
        mdp: With K rewards.
        weights: ``[K]``, above 0.
        utopia: z, ``[K]``.

    Raises:
        ValueError: A return is above the point that is wished for, or the world is too large to list.
    """
    _check(mdp)
    weights, utopia = torch.as_tensor(weights).double(), torch.as_tensor(utopia).double()
    policies = deterministic_policies(mdp)
    points = torch.cat([returns(mdp, part) for part in torch.split(policies, 256)])
    if bool((points > utopia + 1e-9).any()):
        raise ValueError(f"utopia={utopia.tolist()} is below a return, {points.amax(0).tolist()}: nothing is beyond it")
    share, which = _max_min(weights * (points - utopia))
    mixed = sum(p * occupancy(mdp[0], policies[i]) for p, i in zip(share, which))
    assert isinstance(mixed, Tensor)
    mass = mixed.sum(-1, keepdim=True)
    policy = torch.where(mass > 1e-14, mixed / mass.clamp_min(1e-300), policies[which[0]])
    got = returns(mdp, policy)
    return Choice(policy, got, float((weights * (got - utopia)).min()))


def best_max_min(mdp: MDP) -> Choice:
    """The largest least return: max over pi of min_k J_k."""
    _check(mdp)
    top = torch.stack([value_iteration(mdp[k]).values for k in range(mdp.batch[0])])
    utopia = (mdp.start * top).sum(-1).max().expand(mdp.batch[0])
    choice = best_chebyshev(mdp, torch.ones(mdp.batch[0]), utopia)
    return choice._replace(value=float(choice.returns.min()))


def _max_min(points: Tensor) -> tuple[list[float], list[int]]:
    """The mixture of points ``[P, K]`` with the largest least coordinate: shares, and which points."""
    kept = [i for i in range(len(points)) if not _dominated(points, i)]
    if len(kept) > MOST_CORNERS:
        raise ValueError(f"{len(kept)} policies are best in some way; at most {MOST_CORNERS} are mixed")
    best = max(kept, key=lambda i: float(points[i].min()))
    shares, which, value = [1.0], [best], float(points[best].min())
    for size in range(2, points.shape[1] + 1):
        for some in combinations(kept, size):
            for axes in combinations(range(points.shape[1]), size):
                # The shares p at which these coordinates of the mixture are equal: A' p - v 1 = 0, sum p = 1.
                system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
                system[:size, :size], system[:size, size] = points[list(some)][:, list(axes)].T, -1.0
                system[size, :size] = 1.0
                right = torch.zeros(size + 1, dtype=torch.float64)
                right[size] = 1.0
                solution, info = torch.linalg.solve_ex(system, right)
                p = solution[:size]
                if int(info) == 0 and bool((p >= -1e-12).all()):
                    least = float((p @ points[list(some)]).min())
                    if least > value + 1e-12:
                        shares, which, value = p.clamp(min=0).tolist(), list(some), least
    return shares, which


def _dominated(points: Tensor, i: int) -> bool:
    """By a point at least as good everywhere and better somewhere, or an equal one before."""
    at_least = (points >= points[i] - 1e-12).all(1)
    better = (points > points[i] + 1e-12).any(1)
    return bool((at_least & better).any() or at_least[:i].any())


def _check(mdp: MDP) -> None:
    if len(mdp.batch) != 1:
        raise ValueError("several rewards are a batch [K] of one MDP: mdp.with_reward(torch.stack([r_1, ..., r_K]))")


def _stacked(mdp: MDP, policy: Tensor) -> MDP:
    lead = policy.shape[:-2]
    if not lead:
        return mdp
    shape = (*[1] * len(lead), *mdp.reward.shape)
    return mdp.with_reward(mdp.reward.reshape(shape).expand(*lead, *mdp.reward.shape))
