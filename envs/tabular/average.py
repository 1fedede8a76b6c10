"""Reward per step in the long run: gain and bias (Puterman, "Markov Decision Processes", 1994, chapter 8)."""

from typing import NamedTuple

import torch
from torch import Tensor

from .mdp import MDP
from .solve import greedy


class Average(NamedTuple):
    """The long run of a policy, or of the best one."""

    gain: Tensor
    """rho, reward per step, ``[*B]``."""
    bias: Tensor
    """h(s), by how much starting in s beats the long run's mean: rho + h = r + P h, ``[*B, S]``."""
    policy: Tensor
    """``[*B, S, A]``."""


def recurrent_classes(chain: Tensor) -> Tensor:
    """How many recurrent classes each chain ``[*B, S, S]`` has, int64 ``[*B]``."""
    states = chain.shape[-1]
    reach = ((chain > 0) | torch.eye(states, dtype=torch.bool, device=chain.device)).to(torch.float32)
    for _ in range(max(1, (states - 1).bit_length())):  # squaring doubles the length of the paths seen
        reach = ((reach @ reach) > 0).to(torch.float32)
    forth = reach > 0
    both = forth & forth.transpose(-1, -2)
    recurrent = (~forth | both).all(-1)  # whatever is reached leads back
    first = both.to(torch.uint8).argmax(-1) == torch.arange(states, device=chain.device)
    return (recurrent & first).sum(-1)


def gain_bias(mdp: MDP, policy: Tensor) -> Average:
    """Reward per step of a policy and the bias of each state; the discount plays no part.

    Terminal states count as they stand: for ever, without reward. ``mdp.continuing()`` starts anew instead. The bias is
    the one whose mean under the stationary distribution is 0 (the differential return of each state).

    Raises:
        ValueError: The policy's chain has more than one recurrent class, so that the gain depends on the start.
    """
    chain, reward = mdp.under(policy)
    classes = recurrent_classes(chain)
    if bool((classes != 1).any()):
        which = f" (number {(classes != 1).nonzero()[0].tolist()} of the batch)" if mdp.batch else ""
        raise ValueError(
            f"under this policy the chain{which} has {int(classes.max())} recurrent classes: its long run depends on "
            "where it starts, so there is no single gain. Where these are terminal states, use mdp.continuing(); else "
            "evaluate each class as an MDP of its own"
        )
    eye = torch.eye(mdp.states, dtype=torch.float64, device=mdp.device)
    # mu (I - P) = 0 and mu 1 = 1 together: I - P + 1 1' is regular for a unichain.
    ones = torch.ones_like(reward)
    stationary = torch.linalg.solve((eye - chain + 1.0).transpose(-1, -2), ones)
    gain = (stationary * reward).sum(-1)
    # (I - P + 1 mu') h = r - rho has the solution with mu' h = 0.
    fundamental = eye - chain + ones[..., :, None] * stationary[..., None, :]
    bias = torch.linalg.solve(fundamental, reward - gain[..., None])
    return Average(gain, bias, policy.expand(*mdp.batch, mdp.states, mdp.actions))


def best_average(mdp: MDP, tolerance: float = 1e-10, max_iterations: int = 200_000) -> Average:
    """The largest reward per step and a policy that has it, by relative value iteration.

    Half of each step is spent standing still, which makes every chain aperiodic and halves the gain (Puterman 1994,
    section 8.5.4); the results are of the MDP as given. The bias is 0 in state 0 here.

    Raises:
        RuntimeError: The values still spread after ``max_iterations``: from some states a better long run can be had
            than from others (the MDP is multichain).
    """
    values = torch.zeros(*mdp.batch, mdp.states, dtype=torch.float64, device=mdp.device)
    with torch.no_grad():
        reward = mdp.expected_reward()
        for _ in range(max_iterations):
            q = reward + mdp.expect(values)
            step = 0.5 * (q.amax(-1) - values)
            low, high = step.amin(-1), step.amax(-1)
            values = values + step
            values = values - values[..., :1]
            if float((high - low).max()) <= tolerance:
                gain = low + high  # twice the mean, since half the time nothing happens
                return Average(gain, values, greedy(reward + mdp.expect(values)))
    raise RuntimeError(
        f"relative value iteration still spreads by {float((high - low).max()):.3g} after {max_iterations} steps: the "
        "best reward per step depends on the state (multichain). Where terminal states are the cause, use "
        "mdp.continuing()"
    )


def long_run(mdp: MDP, policy: Tensor) -> Tensor:
    """Reward per step in the long run from each state, ``[*B, S]``, whatever the chain: it may fall into several parts.

    Terminal states count as they stand: for ever, without reward. A formula's probability of being satisfied is the
    long run of a machine's MDP whose accepting state pays 1 for ever.

    The chain is squared until its powers, made aperiodic by standing still half of the time, no longer change; that
    leaves the long run as it is (Puterman 1994, section 8.5.4).
    """
    chain, reward = mdp.under(policy)
    power = 0.5 * (chain + torch.eye(mdp.states, dtype=torch.float64, device=mdp.device))
    for _ in range(200):
        power, before = power @ power, power
        power = power / power.sum(-1, keepdim=True)  # rounding would grow with the exponent
        if float((power - before).abs().max()) < 1e-14:
            break
    return (power @ reward[..., None]).squeeze(-1)
