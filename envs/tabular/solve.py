"""Exact solutions of finite MDPs: values, optimal policies, occupancies, returns and regret.

All functions take an ``MDP``, one or a batch ``[*B]``, and policies as probabilities ``[*B, S, A]``. Nothing here
samples. The soft (maximum-entropy) solutions are in ``soft.py``, averages over time in ``average.py``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .mdp import MDP, check_policy


class Optimum(NamedTuple):
    """What the solvers of control return."""

    values: Tensor
    """V*, ``[*B, S]``."""
    q: Tensor
    """Q*, ``[*B, S, A]``."""
    policy: Tensor
    """One optimal policy, deterministic, ``[*B, S, A]``: the first of the best actions."""


def backup(mdp: MDP, values: Tensor) -> Tensor:
    """Q(s, a) = r(s, a) + gamma E[V(s')], ``[*B, S, A]``."""
    return mdp.expected_reward() + mdp.discount * mdp.expect(values)


def greedy(q: Tensor) -> Tensor:
    """The deterministic policy of the first best action, ``[*B, S, A]``."""
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).to(q.dtype)


def best_actions(q: Tensor, tolerance: float = 1e-9) -> Tensor:
    """Bool ``[*B, S, A]``: the actions whose value is within ``tolerance`` of the best (relative to |Q|, above 1)."""
    top = q.amax(-1, keepdim=True)
    return q >= top - tolerance * top.abs().clamp_min(1.0)


def uniform(mdp: MDP) -> Tensor:
    """The policy that takes every action with the same probability, ``[*B, S, A]``."""
    shape = (*mdp.batch, mdp.states, mdp.actions)
    return torch.full(shape, 1.0 / mdp.actions, dtype=torch.float64, device=mdp.device)


def epsilon_greedy(policy: Tensor, epsilon: float) -> Tensor:
    """``policy`` with probability 1 - epsilon, any action with probability epsilon."""
    return (1 - epsilon) * policy + epsilon / policy.shape[-1]


def policy_evaluation(mdp: MDP, policy: Tensor) -> Tensor:
    """V of a policy, by solving (I - gamma P_pi) V = r_pi; differentiable in the reward and the policy.

    Returns:
        ``[*B, S]``; 0 in terminal states.

    Raises:
        ValueError: The discount is 1 and the policy may never end (the equation has no solution).
    """
    chain, reward = mdp.under(policy)
    return _resolvent(mdp, chain, reward[..., None]).squeeze(-1)


def q_of_policy(mdp: MDP, policy: Tensor) -> Tensor:
    """Q of a policy, ``[*B, S, A]``."""
    return backup(mdp, policy_evaluation(mdp, policy))


def value_iteration(mdp: MDP, tolerance: float = 1e-12, max_iterations: int = 100_000) -> Optimum:
    """Optimal values by repeated backups, until they are within ``tolerance`` of the fixed point.

    The last step gamma / (1 - gamma) * |change| bounds the error; where gamma is 1 the change itself has to vanish.

    Raises:
        RuntimeError: It did not converge in ``max_iterations`` (with discount 1, some policy's return is unbounded).
    """
    values = torch.zeros(*mdp.batch, mdp.states, dtype=torch.float64, device=mdp.device)
    rate = mdp.discount / (1 - mdp.discount) if mdp.discount < 1 else 1.0
    with torch.no_grad():
        reward = mdp.expected_reward()
        scale = max(1.0, float(reward.abs().max()))
        for _ in range(max_iterations):
            new = (reward + mdp.discount * mdp.expect(values)).amax(-1)
            change = float((new - values).abs().max())
            values = new
            # Below the spacing of float64 at the values' size, no further backup can be told from noise.
            if rate * change <= tolerance * scale or change <= 1e-15 * float(values.abs().max()):
                q = reward + mdp.discount * mdp.expect(values)
                return Optimum(q.amax(-1), q, greedy(q))
    raise RuntimeError(
        f"value iteration changed by {change:.3g} after {max_iterations} steps. With discount 1 the values exist only "
        "if every profitable policy ends: give the MDP a discount, or a terminal state"
    )


def policy_iteration(mdp: MDP, max_iterations: int = 1000) -> Optimum:
    """Optimal values to rounding, by evaluating exactly and improving until no action is better.

    Raises:
        ValueError: Discount 1 and a policy on the way that never ends.
        RuntimeError: More than ``max_iterations`` improvements.
    """
    with torch.no_grad():
        policy = greedy(mdp.expected_reward())
        for _ in range(max_iterations):
            values = policy_evaluation(mdp, policy)
            q = backup(mdp, values)
            # Keep the present action where it is among the best: rounding must not make two equal ones alternate.
            keep = (best_actions(q) & policy.bool()).any(-1, keepdim=True)
            better = torch.where(keep, policy, greedy(q))
            if torch.equal(better, policy):
                return Optimum(values, q, greedy(torch.where(best_actions(q), 1.0, 0.0).to(torch.float64)))
            policy = better
    raise RuntimeError(f"policy iteration was still improving after {max_iterations} policies")


def backward_induction(mdp: MDP, horizon: int) -> Optimum:
    """The optimum over the next ``horizon`` steps, for each number of steps gone.

    Returns:
        ``values [horizon + 1, *B, S]`` (the last is 0), ``q`` and ``policy`` ``[horizon, *B, S, A]``.
    """
    _check_horizon(horizon)
    values = [torch.zeros(*mdp.batch, mdp.states, dtype=torch.float64, device=mdp.device)]
    qs = []
    for _ in range(horizon):
        qs.append(backup(mdp, values[-1]))
        values.append(qs[-1].amax(-1))
    q = torch.stack(qs[::-1])
    return Optimum(torch.stack(values[::-1]), q, greedy(q))


def occupancy(mdp: MDP, policy: Tensor, *, normalise: bool = False) -> Tensor:
    """Discounted visits of states and actions, rho(s, a) = sum_t gamma^t P(s_t = s, a_t = a), ``[*B, S, A]``.

    Sum over actions for the states' occupancies. Visits after the end, in terminal states, are not counted.

    Args:
        mdp: The MDP.
        policy: ``[*B, S, A]``.
        normalise: Scale it to sum to 1.
    """
    chain, _ = mdp.under(policy)
    system = torch.eye(mdp.states, dtype=torch.float64, device=mdp.device) - mdp.discount * _alive(mdp, chain)
    alive = torch.where(mdp.terminal, 0.0, mdp.start)
    visits = _solve(system.transpose(-1, -2), alive[..., None]).squeeze(-1)
    rho = torch.where(mdp.terminal, 0.0, visits)[..., None] * policy
    return rho / rho.sum((-2, -1), keepdim=True) if normalise else rho


def visits(mdp: MDP, policy: Tensor, horizon: int) -> Tensor:
    """P(s_t = s, a_t = a) for t = 0 ... horizon - 1, undiscounted, ``[horizon, *B, S, A]``.

    Args:
        mdp: The MDP.
        policy: ``[*B, S, A]``, or ``[horizon, *B, S, A]`` for one that changes with time.
        horizon: Number of steps.
    """
    _check_horizon(horizon)
    at = torch.where(mdp.terminal, 0.0, mdp.start)
    steps = []
    for t in range(horizon):
        now = policy[t] if policy.ndim > len(mdp.batch) + 2 else policy
        check_policy(now, mdp)
        steps.append(at[..., None] * now)
        at = torch.where(mdp.terminal, 0.0, mdp.push(steps[-1]))
    return torch.stack(steps)


def policy_return(mdp: MDP, policy: Tensor) -> Tensor:
    """J = E[sum_t gamma^t r_t] from the start distribution, ``[*B]``."""
    return (mdp.start * policy_evaluation(mdp, policy)).sum(-1)


def regret(mdp: MDP, policy: Tensor, *, normalise: bool = False) -> Tensor:
    """J* - J(policy), ``[*B]``, at least 0 up to rounding.

    Args:
        mdp: The MDP.
        policy: ``[*B, S, A]``.
        normalise: Divide by J* - min J, so that the worst policy has regret 1 (0 where all policies are equal).
    """
    best = (mdp.start * value_iteration(mdp).values).sum(-1)
    lost = best - policy_return(mdp, policy)
    if not normalise:
        return lost
    worst = -(mdp.start * value_iteration(mdp.with_reward(-mdp.reward)).values).sum(-1)
    span = best - worst
    flat = span <= 1e-12 * best.abs().clamp_min(1.0)
    return torch.where(flat, 0.0, lost / torch.where(flat, 1.0, span))


def reward_per_step(mdp: MDP, policy: Tensor, horizon: int) -> Tensor:
    """E[(sum of rewards) / (number of steps)] of an episode that is cut after ``horizon`` steps, ``[*B]``.

    The score of Icarte et al., "Reward Machines" (JAIR 2022), is this of a learner over this of the optimum.
    """
    _check_horizon(horizon)
    check_policy(policy, mdp)
    mass = torch.where(mdp.terminal, 0.0, mdp.start)
    gained = torch.zeros_like(mass)  # E[reward so far; still going, in s]
    total = torch.zeros(mdp.batch, dtype=torch.float64, device=mdp.device)
    for step in range(1, horizon + 1):
        flow = mass[..., None] * policy
        gained = mdp.push(gained[..., None] * policy) + _push_reward(mdp, flow)
        mass = mdp.push(flow)
        over = mdp.terminal if step < horizon else torch.ones_like(mdp.terminal)
        total = total + torch.where(over, gained, 0.0).sum(-1) / step
        gained, mass = torch.where(over, 0.0, gained), torch.where(over, 0.0, mass)
        if float(mass.sum()) < 1e-15:
            break
    return total


def _push_reward(mdp: MDP, flow: Tensor) -> Tensor:
    """The mean reward paid on entering each state, ``[*B, S]``, where ``flow [*B, S, A]`` moves."""
    paid = flow[..., None] * mdp.prob * mdp.reward
    if mdp.successors is None:
        return paid.sum((-3, -2))
    out = torch.zeros(*paid.shape[:-3], mdp.states, dtype=paid.dtype, device=paid.device)
    return out.scatter_add(-1, mdp.successors.expand(paid.shape).flatten(-3), paid.flatten(-3))


def _resolvent(mdp: MDP, chain: Tensor, right: Tensor) -> Tensor:
    """(I - gamma P)^-1 right, terminal states having value 0."""
    eye = torch.eye(mdp.states, dtype=torch.float64, device=mdp.device)
    return _solve(eye - mdp.discount * _alive(mdp, chain), torch.where(mdp.terminal[..., None], 0.0, right))


def _alive(mdp: MDP, chain: Tensor) -> Tensor:
    """The chain without its steps into terminal states and out of them: what is left goes on."""
    return torch.where(mdp.terminal[..., None] | mdp.terminal[..., None, :], 0.0, chain)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    solution: Tensor
    solution, info = torch.linalg.solve_ex(matrix, right)
    # A singular system may pass as solvable by rounding, with values near 1 / machine epsilon.
    if bool((info != 0).any()) or not bool((solution.detach().abs() < 1e14).all()):
        raise ValueError(
            "the policy's value is infinite: with discount 1 it may go on for ever from some state. Give the MDP a "
            "discount below 1, or use average.gain_bias for its reward per step"
        )
    return solution


def _check_horizon(horizon: int) -> None:
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise ValueError(f"horizon={horizon!r}: it is a number of steps, at least 1")
