"""Descriptors: functions of masked trajectories to points."""

from collections.abc import Callable

import torch
from torch import Tensor

from .rollout import Trajectories


def last_observation(columns: slice | list[int] | None = None) -> Callable[[Trajectories], Tensor]:
    """Where the episode ended, as observed: the true last observation, or some columns of it."""

    def describe(x: Trajectories) -> Tensor:
        rows = torch.arange(x.obs.shape[1], device=x.obs.device)
        flat = x.obs[x.length, rows].reshape(len(rows), -1)
        return flat if columns is None else flat[:, columns]

    return describe


def fact(name: str) -> Callable[[Trajectories], Tensor]:
    """A fact of the last state, flattened.

    Raises:
        ValueError: When called: the environment does not tell it.
    """

    def describe(x: Trajectories) -> Tensor:
        if name not in x.facts:
            raise ValueError(f"the environment tells no fact {name!r}; it tells {', '.join(x.facts) or 'none'}")
        return x.facts[name].reshape(len(x.length), -1)

    return describe


def share(of: Callable[[Tensor], Tensor]) -> Callable[[Trajectories], Tensor]:
    """In which share of the steps something holds: ``of`` maps observations ``[T, P, ...]`` to ``[T, P, M]``."""

    def describe(x: Trajectories) -> Tensor:
        held = of(x.obs[1:]).to(torch.float32) * x.valid[..., None]
        return held.sum(0) / x.length.clamp_min(1)[:, None]

    return describe


def signature(path: Tensor, valid: Tensor | None = None, order: int = 2, time: bool = False) -> Tensor:
    """The signature transform of piecewise linear paths, levels 1 to ``order`` one after the other.

    A segment's signature is the tensor exponential of its increment, and paths are joined by Chen's identity
    ``S(ab)^n = sum_k S(a)^k (x) S(b)^(n-k)``. (Chen, "Integration of Paths", 1958; as a descriptor: Paolo, "Learning in
    Sparse Rewards Settings through Quality-Diversity Algorithms", 2021.)

    Args:
        path: ``[T + 1, P, D]``.
        valid: bool ``[T, P]``; a step that is not valid does not move. None: all are.
        order: 1 to 3.
        time: Add a coordinate that grows by 1 / T each valid step, which makes the signature unique.

    Returns:
        ``[P, D + D^2 + ...]``; the words of a level in lexicographic order.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order={order!r}: the signature is taken up to level 1, 2 or 3")
    steps = path[1:] - path[:-1]
    if time:
        steps = torch.cat([steps, torch.full_like(steps[..., :1], 1.0 / max(len(steps), 1))], -1)
    if valid is not None:
        steps = steps * valid[..., None]
    _, count, wide = steps.shape
    one = torch.zeros(count, wide, dtype=steps.dtype, device=steps.device)
    two, three = one.new_zeros(count, wide, wide), one.new_zeros(count, wide, wide, wide)
    for d in steps:  # time is the one axis that cannot be batched: level 3 needs level 2 up to there
        dd = d[:, :, None] * d[:, None]
        if order > 2:
            three = three + two[..., None] * d[:, None, None] + one[:, :, None, None] * dd[:, None] / 2
            three = three + dd[..., None] * d[:, None, None] / 6
        if order > 1:
            two = two + one[:, :, None] * d[:, None] + dd / 2
        one = one + d
    return torch.cat([level.flatten(1) for level in (one, two, three)[:order]], -1)


def path_signature(
    columns: slice | list[int] | None = None, order: int = 2, time: bool = False
) -> Callable[[Trajectories], Tensor]:
    """The signature of the path of observations, or of some of their columns."""

    def describe(x: Trajectories) -> Tensor:
        flat = x.obs.reshape(*x.obs.shape[:2], -1)
        return signature(flat if columns is None else flat[..., columns], x.valid, order, time)

    return describe
