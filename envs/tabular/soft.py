"""Maximum-entropy control, exactly: soft value iteration (Ziebart, "Modeling Purposeful Adaptive Behavior", 2010)."""

from typing import NamedTuple

import torch
from torch import Tensor

from .mdp import MDP
from .solve import backup


class SoftOptimum(NamedTuple):
    """What the soft solvers return: V = tau log sum_a exp(Q / tau) and pi = exp((Q - V) / tau)."""

    values: Tensor
    """``[*B, S]``, or ``[horizon + 1, *B, S]``."""
    q: Tensor
    """``[*B, S, A]``, or ``[horizon, *B, S, A]``."""
    policy: Tensor
    """Shaped as ``q``."""
    log_policy: Tensor
    """Its logarithm, exact where the probability underflows."""


def soft_value_iteration(
    mdp: MDP,
    temperature: float = 1.0,
    *,
    horizon: int | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
) -> SoftOptimum:
    """The policy that maximises reward plus ``temperature`` times entropy; differentiable in the reward.

    Args:
        mdp: The MDP. Terminal states have value 0: no entropy is earned after the end.
        temperature: tau, above 0.
        horizon: Finite horizon: policies for each step gone, discounted by ``mdp.discount`` (1 is usual here). None:
            the discounted fixed point, which with discount 1 exists only where every episode ends.
        tolerance: Of the fixed point, relative to the largest reward.
        max_iterations: Of the fixed point. The gradient goes through one more backup (the implicit gradient needs more:
            use ``horizon``, or differentiate the occupancy).

    Raises:
        ValueError: The temperature is not above 0, or the horizon is below 1.
        RuntimeError: No convergence; with discount 1, entropy earned for ever makes the values infinite.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: it is above 0; value_iteration is the limit at 0")
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon={horizon!r}: it is a number of steps, at least 1")
    values = torch.zeros(*mdp.batch, mdp.states, dtype=torch.float64, device=mdp.device)
    if horizon is not None:
        vs, qs = [values], []
        for _ in range(horizon):
            qs.append(backup(mdp, vs[-1]))
            vs.append(_soft_max(mdp, qs[-1], temperature))
        return _result(torch.stack(vs[::-1]), torch.stack(qs[::-1]), temperature)

    rate = mdp.discount / (1 - mdp.discount) if mdp.discount < 1 else 1.0
    with torch.no_grad():
        scale = max(1.0, float(mdp.expected_reward().abs().max()))
        for _ in range(max_iterations):
            new = _soft_max(mdp, backup(mdp, values), temperature)
            change = float((new - values).abs().max())
            values = new
            if rate * change <= tolerance * scale or change <= 1e-15 * float(values.abs().max()):
                break
        else:
            raise RuntimeError(
                f"soft value iteration changed by {change:.3g} after {max_iterations} steps: with discount 1, a policy "
                "that need not end earns entropy for ever. Give the MDP a discount below 1, or a horizon"
            )
    q = backup(mdp, values)
    return _result(_soft_max(mdp, q, temperature), q, temperature)


def _soft_max(mdp: MDP, q: Tensor, temperature: float) -> Tensor:
    return torch.where(mdp.terminal, 0.0, temperature * torch.logsumexp(q / temperature, -1))


def _result(values: Tensor, q: Tensor, temperature: float) -> SoftOptimum:
    log_policy = torch.log_softmax(q / temperature, -1)
    return SoftOptimum(values, q, log_policy.exp(), log_policy)
