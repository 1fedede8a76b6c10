"""Random search, novelty search, NSLC and NSGA-II: one population, and what survives in it.

Settings are those of Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .novelty import best, local_competition, novelty
from .problem import Asking, Growing, Problem, together
from .rollout import Evaluated

Survive = Callable[[Evaluated, Tensor, Tensor, Tensor], Tensor]
"""From the union of parents and offspring, their novelty, and the archive's measures and objectives to the numbers of
those that stay."""


def random_search(problem: Problem, *, population: int = 200) -> Asking:
    """Genomes drawn anew each time: standard normal, cut to the limit."""
    while True:
        yield problem.first(population)


def evolve(
    problem: Problem, survive: Survive, *, population: int, offspring: int, sigma: float, neighbours: int, archived: int
) -> Asking:
    """The generations that novelty search and its relatives share.

    Novelty is among parents, offspring and archive. Then ``archived`` of the offspring, drawn at random, enter the
    archive, and parents and offspring compete for the places of the population.
    """
    for name, value in {"population": population, "offspring": offspring, "neighbours": neighbours}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: it is at least 1")
    parents = (yield problem.first(population)).usable()
    while not len(parents):  # nothing that was tried could be used
        parents = (yield problem.first(population)).usable()
    archive, paid = Growing(parents.measures.shape[1]), Growing(1)
    while True:
        genomes = problem.mutated(parents.genomes.repeat_interleave(offspring, 0), sigma)
        young = (yield genomes).usable()
        both = together(parents, young)
        reference = torch.cat([both.measures, archive.rows])
        novel = novelty(both.measures, reference, neighbours, own=True)
        stay = survive(both, novel, archive.rows, paid.rows[:, 0])
        chosen = problem.some(archived, len(young))
        archive.add(young.measures[chosen])
        paid.add(young.objective[chosen, None])
        parents = both.rows(stay)


def novelty_search(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5,
) -> Asking:  # fmt: skip
    """Novelty search: the most novel survive.

    Source: Lehman and Stanley, "Abandoning Objectives: Evolution through the Search for Novelty Alone" (2011).

    Args:
        problem: What to search.
        population: How many parents.
        offspring: Children of each.
        sigma: Standard deviation of mutation.
        neighbours: k of novelty.
        archived: Offspring that enter the archive each generation.
    """

    def survive(both: Evaluated, novel: Tensor, archive: Tensor, paid: Tensor) -> Tensor:
        return novel.argsort(descending=True, stable=True)[:population]

    return evolve(
        problem, survive, population=population, offspring=offspring, sigma=sigma, neighbours=neighbours,
        archived=archived,
    )  # fmt: skip


def nsga2(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5,
) -> Asking:  # fmt: skip
    """NSGA-II on novelty and reward: the best fronts survive, the loneliest of the last one.

    Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002).
    """

    def survive(both: Evaluated, novel: Tensor, archive: Tensor, paid: Tensor) -> Tensor:
        return best(torch.stack([novel, both.objective], -1), population)

    return evolve(
        problem, survive, population=population, offspring=offspring, sigma=sigma, neighbours=neighbours,
        archived=archived,
    )  # fmt: skip


def nslc(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5,
) -> Asking:  # fmt: skip
    """Novelty search with local competition: NSGA-II's survival on novelty and on neighbours outdone.

    Source: Lehman and Stanley, "Evolving a Diversity of Virtual Creatures through Novelty Search and Local Competition"
    (2011).
    """

    def survive(both: Evaluated, novel: Tensor, archive: Tensor, paid: Tensor) -> Tensor:
        reference = torch.cat([both.measures, archive])
        others = torch.cat([both.objective, paid])
        wins = local_competition(both.measures, both.objective, reference, others, neighbours, own=True)
        return best(torch.stack([novel, wins], -1), population)

    return evolve(
        problem, survive, population=population, offspring=offspring, sigma=sigma, neighbours=neighbours,
        archived=archived,
    )  # fmt: skip
