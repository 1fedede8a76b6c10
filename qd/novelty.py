"""Novelty, local competition and Pareto ranks, on tensors."""

import torch
from torch import Tensor


def distances(points: Tensor, reference: Tensor, own: bool) -> Tensor:
    """Euclidean, ``[A, R]``; with ``own`` point i is ``reference[i]``, and infinitely far from itself."""
    # The form by a matrix product is faster and loses half the digits, near neighbours' above all.
    away = torch.cdist(points, reference, compute_mode="donot_use_mm_for_euclid_dist")
    if own:
        away.fill_diagonal_(torch.inf)
    return away


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
    return distances(points, reference, own).topk(min(k, there), largest=False).values.mean(-1)


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
    near = distances(points, reference, own).topk(min(k, there), largest=False).indices
    return (others[near] < objective[:, None]).sum(-1).to(torch.float32)


def fronts(values: Tensor) -> Tensor:
    """The Pareto front, from 0, that each row of ``values [A, K]`` is in; larger is better. int64 ``[A]``.

    Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002).
    """
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
    rank, kept, room = fronts(values), list[Tensor](), count
    for level in range(int(rank.max()) + 1):
        members = (rank == level).nonzero()[:, 0]
        if len(members) > room:
            members = members[crowding(values[members]).argsort(descending=True, stable=True)[:room]]
        kept.append(members)
        room -= len(members)
        if not room:
            break
    return torch.cat(kept)
