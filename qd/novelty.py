"""Novelty, local competition and Pareto ranks, on tensors."""

from bisect import bisect_right
from functools import cache

import torch
from torch import Tensor

from ..envs.native import Native


def nearest(points: Tensor, reference: Tensor, k: int, *, own: bool = False) -> tuple[Tensor, Tensor]:
    """The k nearest of ``reference [R, M]`` to each of ``points [A, M]``: ascending distances and numbers ``[A, k]``.

    With ``own`` point i is ``reference[i]``, and not its own neighbour. Where there are fewer than k, all are given.
    """
    k = min(k, len(reference) - (1 if own else 0))
    if points.device.type != "cpu" or points.dtype != torch.float32 or reference.dtype != torch.float32:
        # The form by a matrix product is faster and loses half the digits, near neighbours' above all.
        away = torch.cdist(points, reference, compute_mode="donot_use_mm_for_euclid_dist")
        if own:
            away.fill_diagonal_(torch.inf)
        found = away.topk(k, largest=False)
        return found.values, found.indices
    count, width = points.shape
    blocks = -(-count // LANES)
    padded = torch.zeros(blocks * LANES, width)
    padded[:count] = points
    across = padded.reshape(blocks, LANES, width).transpose(1, 2).contiguous()
    away, number = torch.empty(count, k), torch.empty(count, k, dtype=torch.int64)
    _nearest()(across, reference.contiguous(), away, number, count, len(reference), width, k, int(own))
    return away.sqrt_(), number


LANES = 16


@cache
def _nearest() -> Native:
    arguments = {
        "points": "const float*", "reference": "const float*", "away": "float*", "number": "long long*",
        **dict.fromkeys(("count", "size", "width", "k", "own"), "long long"),
    }  # fmt: skip
    return Native("nearest neighbours", arguments, _NEAREST)


# Sixteen points side by side against one of the reference after the other; few of these are nearer than the k-th so
# far, and those are put in order. Of equals the first comes first. Distances are squared ones.
_NEAREST = """
const int LANES = 16;
typedef float vec __attribute__((vector_size(64), aligned(4)));
for (long long first = 0; first < count; first += LANES) {
    _Pragma("clang fp contract(fast)")
    const int filled = count - first < LANES ? (int)(count - first) : LANES;
    const vec* point = (const vec*)(points + first * width);
    vec farthest{};
    for (int l = 0; l < filled; ++l)
        farthest[l] = __builtin_huge_valf();
    for (int l = 0; l < filled; ++l)
        for (long long n = 0; n < k; ++n) {
            away[(first + l) * k + n] = __builtin_huge_valf();
            number[(first + l) * k + n] = 0;
        }
    for (long long r = 0; r < size; ++r) {
        vec sum{};
        for (long long m = 0; m < width; ++m) {
            const vec gap = point[m] - reference[r * width + m];
            sum += gap * gap;
        }
        const auto nearer = sum < farthest;
        if (!__builtin_reduce_or(nearer))
            continue;
        for (int l = 0; l < filled; ++l) {
            if (!nearer[l] || (own && r == first + l))
                continue;
            float* row = away + (first + l) * k;
            long long *name = number + (first + l) * k, n = k - 1;
            for (; n > 0 && row[n - 1] > sum[l]; --n) {
                row[n] = row[n - 1];
                name[n] = name[n - 1];
            }
            row[n] = sum[l];
            name[n] = r;
            farthest[l] = row[k - 1];
        }
    }
}
"""


def novelty(points: Tensor, reference: Tensor, k: int = 15, *, own: bool = False) -> Tensor:
    """The mean distance of points ``[A, M]`` to their k nearest neighbours in ``reference [R, M]``, ``[A]``.

    Source: Lehman and Stanley, "Abandoning Objectives: Evolution through the Search for Novelty Alone" (2011). There
    the reference is the archive with the present population: pyribs' novelty leaves the latter out.

    Args:
        points: Whose novelty.
        reference: Among whom.
        k: How many neighbours; all, where there are fewer.
        own: The points are the reference's first rows, and are not their own neighbours.
    """
    there = len(reference) - (1 if own else 0)
    if there < 1:
        return torch.full((len(points),), torch.inf, device=points.device)
    return nearest(points, reference, k, own=own)[0].mean(-1)


def local_competition(
    points: Tensor, objective: Tensor, reference: Tensor, others: Tensor, k: int = 15, *, own: bool = False
) -> Tensor:
    """How many of the k nearest neighbours have a lower objective, ``[A]``.

    Source: Lehman and Stanley, "Evolving a Diversity of Virtual Creatures through Novelty Search and Local Competition"
    (2011).
    """
    there = len(reference) - (1 if own else 0)
    if there < 1:
        return torch.zeros(len(points), device=points.device)
    near = nearest(points, reference, k, own=own)[1]
    return (others[near] < objective[:, None]).sum(-1).to(torch.float32)


def fronts(values: Tensor) -> Tensor:
    """The Pareto front, from 0, that each row of ``values [A, K]`` is in; larger is better. int64 ``[A]``.

    Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002).
    """
    if values.shape[1] == 2:
        return _fronts_of_two(values)
    at_least = (values[:, None] >= values[None]).all(-1)
    dominates = at_least & ~at_least.T
    rank = torch.full((len(values),), -1, dtype=torch.int64, device=values.device)
    level = 0
    while bool((rank < 0).any()):
        open_ = rank < 0
        free = open_ & ~(dominates & open_[:, None]).any(0)
        rank[free] = level
        level += 1
    return rank


def _fronts_of_two(values: Tensor) -> Tensor:
    """The same for two objectives, in one pass over the rows, the best by the first objective first.

    A row comes after all that dominate it, and of a front seen so far only the highest second objective matters: it is
    lower from front to front, so that the first front that does not dominate the row is found by bisection.
    """
    rows: list[list[float]] = values.tolist()
    ends: list[float] = []  # minus the highest second objective of each front
    rank, before, last = [0] * len(rows), None, 0
    for i in sorted(range(len(rows)), key=rows.__getitem__, reverse=True):
        row = rows[i]
        if row != before:  # equal rows do not dominate each other
            last = bisect_right(ends, -row[1])
            ends[last : last + 1] = [-row[1]]
        rank[i], before = last, row
    return torch.tensor(rank, device=values.device)


def crowding(values: Tensor) -> Tensor:
    """The crowding distance of one front's rows ``[A, K]``: infinite at the ends of each objective. ``[A]``."""
    total = torch.zeros(len(values), dtype=values.dtype, device=values.device)
    for column in values.T:
        order = column.argsort(stable=True)
        ranked = column[order]
        span = ranked[-1] - ranked[0]
        gap = torch.full_like(ranked, torch.inf)
        gap[1:-1] = (ranked[2:] - ranked[:-2]) / span.clamp_min(1e-12)
        total[order] += gap
    return total


def best(values: Tensor, count: int) -> Tensor:
    """The numbers of the ``count`` rows that NSGA-II keeps: by front, and by crowding within the last one."""
    rank = fronts(values)
    order = rank.argsort(stable=True)
    if count >= len(order):
        return order
    last = rank[order[count]]  # the front in which room runs out, or the one after it
    kept = order[rank[order] < last]
    members = order[rank[order] == last]
    members = members[crowding(values[members]).argsort(descending=True, stable=True)[: count - len(kept)]]
    return torch.cat([kept, members])
