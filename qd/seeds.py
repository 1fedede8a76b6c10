"""Genomes as lists of seeds, and the genetic algorithms that make them: GA, and GA-NS, which selects by novelty.

Source: Such et al., "Deep Neuroevolution: Genetic Algorithms Are a Competitive Alternative for Training Deep Neural
Networks for Reinforcement Learning" (2017).
"""

import torch
from torch import Tensor

from .novelty import novelty
from .problem import Asking, Growing, Problem

Code = tuple[int, ...]
"""The seed of the first weights, and one for each mutation since; each is below 2^32, four bytes."""


class SeedGenomes:
    """What a list of seeds stands for: first weights, and a normal step for each mutation, added in order.

    Noise is drawn by PyTorch's generator on the CPU from the seed alone, so a code means the same weights, bit for bit,
    wherever it is decoded by the same version of PyTorch; and decoding gives the bits that step by step mutation gave.

    Args:
        size: D, numbers of a genome.
        sigma: Standard deviation of a mutation.
        scale: That of the first weights.
    """

    def __init__(self, size: int, sigma: float, scale: float = 1.0) -> None:
        self.size, self.sigma, self.scale = size, sigma, scale

    def _noise(self, seed: int) -> Tensor:
        if not 0 <= seed < 1 << 32:
            raise ValueError(f"{seed} is no seed: it is a whole number from 0 to 2^32 - 1")
        return torch.randn(self.size, generator=torch.Generator().manual_seed(seed))

    def first(self, seed: int) -> Tensor:
        """The weights of the code ``(seed,)``, ``[D]``."""
        return self.scale * self._noise(seed)

    def mutated(self, weights: Tensor, seed: int) -> Tensor:
        """The weights of a child: one more seed at the end of its parent's code."""
        return weights + self.sigma * self._noise(seed)

    def decode(self, code: Code) -> Tensor:
        """The weights of a code, ``[D]``.

        Raises:
            ValueError: It is empty, or a number in it is no seed.
        """
        if not code:
            raise ValueError("a code has at least the seed of the first weights")
        weights = self.first(code[0])
        for seed in code[1:]:
            weights = self.mutated(weights, seed)
        return weights

    def compression(self, code: Code) -> float:
        """Bytes of the weights (float32) over bytes of the code."""
        return self.size / len(code)


def ga(
    problem: Problem, *, population: int = 1000, parents: int = 20, sigma: float = 0.1, neighbours: int = 0,
    archived: float = 0.01,
) -> Asking:  # fmt: skip
    """A genetic algorithm without crossover: children of the best ``parents``, and the best one itself.

    The best is asked for once more each generation with its children, as a member of the population; there are no more
    evaluations of it, for the worlds that this is meant for have no chance in them.

    Args:
        problem: What to search; genomes are not cut to its limit, so that codes stay exact.
        population: Genomes of a generation.
        parents: T, how many may have children.
        sigma: Standard deviation of a mutation.
        neighbours: k, for selection by novelty among the population and an archive; 0 for selection by objective.
        archived: With novelty: the chance of each to enter the archive.
    """
    if not 1 <= parents <= population:
        raise ValueError(f"parents={parents}: from 1 to the population of {population}")
    genomes = SeedGenomes(problem.size, sigma)
    codes: list[Code] = [(seed,) for seed in _seeds(problem, population)]
    weights = torch.stack([genomes.first(code[0]) for code in codes])
    archive: Growing | None = None
    while True:
        found = yield weights
        good = found.valid.nonzero()[:, 0]
        if len(good):
            merit = found.objective[good]
            if neighbours:
                points = found.measures[good]
                archive = archive or Growing(points.shape[1])
                merit = novelty(points, torch.cat([points, archive.rows]), neighbours, own=True)
                archive.add(points[torch.rand(len(points), generator=problem.generator) < archived])
            best = good[merit.argsort(descending=True, stable=True)[:parents]].tolist()
        else:
            best = list(range(parents))
        pick = torch.randint(len(best), (population - 1,), generator=problem.generator).tolist()
        born = [(best[i], seed) for i, seed in zip(pick, _seeds(problem, population - 1))]
        rows = [weights[best[0]], *(genomes.mutated(weights[mother], seed) for mother, seed in born)]
        codes = [codes[best[0]], *((*codes[mother], seed) for mother, seed in born)]
        weights = torch.stack(rows)


def ga_ns(
    problem: Problem, *, population: int = 1000, parents: int = 20, sigma: float = 0.1, neighbours: int = 25,
    archived: float = 0.01,
) -> Asking:  # fmt: skip
    """GA-NS: ``ga`` that selects by novelty."""
    if neighbours < 1:
        raise ValueError(f"neighbours={neighbours}: novelty needs at least one")
    return ga(problem, population=population, parents=parents, sigma=sigma, neighbours=neighbours, archived=archived)


def _seeds(problem: Problem, count: int) -> list[int]:
    drawn: list[int] = torch.randint(1 << 32, (count,), generator=problem.generator).tolist()
    return drawn
