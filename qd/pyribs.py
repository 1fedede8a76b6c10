"""What pyribs does: MAP-Elites and CMA-ME on its archives and emitters, and our searches as one of its emitters.

Its ``Scheduler`` is not used: emitters are fixed when it is made, and one result that is not finite stops it for good.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from .problem import Asking, Problem
from .rollout import Evaluated


def need_ribs() -> None:
    """Raise ImportError, and say what to install, where pyribs is missing."""
    if find_spec("ribs") is None:
        raise ImportError("this needs pyribs: pip install 'cairn-rl[qd]' (or pip install 'ribs>=0.12,<0.13')")


def _archive(problem: Problem, bins: int) -> Any:
    from ribs.archives import GridArchive

    ranges = list(zip(problem.low.tolist(), problem.high.tolist()))
    return GridArchive(solution_dim=problem.size, dims=[bins] * len(ranges), ranges=ranges, seed=problem.seed)


def drive(archive: Any, emitters: list[Any]) -> Asking:
    """Ask pyribs' emitters, add to the archive, tell the emitters.

    A result that is not finite is not shown to the archive, which would refuse the batch. Its emitter is told that
    nothing was added, and an objective and value below the batch's worst: rankers put it last, and an evolution
    strategy still gets as many results as it asked for.
    """
    while True:
        asked = [emitter.ask() for emitter in emitters]
        found = yield torch.from_numpy(np.concatenate(asked)).to(torch.float32)
        good = found.valid.numpy()
        solutions = np.concatenate(asked)
        objective = found.objective.numpy().astype(np.float64)
        measures = found.measures.numpy().astype(np.float64)
        status, value = np.zeros(len(good), np.int32), np.zeros(len(good))
        if good.any():
            info = archive.add(solutions[good], objective[good], measures[good])
            status[good], value[good] = info["status"], info["value"]
            objective[~good], value[~good] = objective[good].min() - 1, value[good].min() - 1
            measures[~good] = measures[good][:1]
        else:
            objective[:], measures[:] = 0.0, 0.0
        at = 0
        for emitter, part in zip(emitters, asked):
            rows = slice(at, at + len(part))
            at += len(part)
            if archive.empty:  # nothing to restart from
                continue
            emitter.tell(part, objective[rows], measures[rows], {"status": status[rows], "value": value[rows]})


def map_elites(
    problem: Problem, *, population: int = 100, bins: int = 50, sigma: float = 0.05, line: float = 0.0
) -> Asking:
    """MAP-Elites: parents drawn evenly from the archive's cells, with normal noise.

    Sources: Mouret and Clune, "Illuminating Search Spaces by Mapping Elites" (2015); the line operator: Vassiliades and
    Mouret, "Discovering the Elite Hypervolume by Leveraging Interspecies Correlation" (2018).

    Args:
        problem: What to search.
        population: Genomes asked at once, the first ones too.
        bins: Cells along each measure.
        sigma: Standard deviation of the noise.
        line: That along the line to another elite; 0 for none.
    """
    need_ribs()
    from ribs.emitters import GaussianEmitter, IsoLineEmitter

    archive = _archive(problem, bins)
    common: dict[str, Any] = {
        "initial_solutions": problem.first(population).double().numpy(), "batch_size": population,
        "seed": problem.seed, "bounds": [(-problem.limit, problem.limit)] * problem.size,
    }  # fmt: skip
    if line:
        emitter = IsoLineEmitter(archive, iso_sigma=sigma, line_sigma=line, **common)
    else:
        emitter = GaussianEmitter(archive, sigma=sigma, **common)
    return drive(archive, [emitter])


def cma_me(
    problem: Problem, *, emitters: int = 5, population: int = 36, bins: int = 50, sigma: float = 0.5,
    ranker: str = "2imp",
) -> Asking:  # fmt: skip
    """CMA-ME: CMA-ES emitters that follow what improves the archive and begin anew at an elite when nothing does.

    Source: Fontaine et al., "Covariance Matrix Adaptation for the Rapid Illumination of Behavior Space" (GECCO 2020).
    Genomes are not cut to the limit: pyribs draws anew until every number is within, which in hundreds of dimensions
    may take for ever.

    Args:
        problem: What to search.
        emitters: How many.
        population: Genomes that each asks at once.
        bins: Cells along each measure.
        sigma: The first step size.
        ranker: pyribs' name of what is followed: ``"2imp"`` improvement, ``"2obj"`` objective, ``"2rd"`` a random
            direction.
    """
    need_ribs()
    from ribs.emitters import EvolutionStrategyEmitter

    archive = _archive(problem, bins)
    starts = problem.first(emitters).double().numpy()
    made = [
        EvolutionStrategyEmitter(
            archive, x0=x0, sigma0=sigma, ranker=ranker, batch_size=population, restart_rule="no_improvement",
            seed=problem.seed + 1 + i,
        )
        for i, x0 in enumerate(starts)
    ]  # fmt: skip
    return drive(archive, made)


def as_emitter(archive: Any, asking: Asking) -> Any:
    """One of our searches as a ``ribs.emitters.EmitterBase``, to be mixed with pyribs' own on one archive.

    Args:
        archive: The archive that its scheduler adds to.
        asking: The search, such as ``novelty_search(problem)``.

    Raises:
        ImportError: pyribs is not installed.
    """
    need_ribs()
    from ribs.emitters import EmitterBase

    class SearchEmitter(EmitterBase):  # type: ignore[misc]  # the class exists where pyribs does
        """A search that yields genomes, behind pyribs' ``ask`` and ``tell``."""

        def __init__(self) -> None:
            super().__init__(
                archive, solution_dim=archive.solution_dim, bounds=None, lower_bounds=None, upper_bounds=None
            )
            self._asked = next(asking)

        def ask(self) -> Any:
            return self._asked.double().numpy()

        def tell(self, solution: Any, objective: Any, measures: Any, add_info: Any, **fields: Any) -> None:
            points = torch.as_tensor(np.asarray(measures), dtype=torch.float32)
            paid = torch.as_tensor(np.asarray(objective), dtype=torch.float32)
            none = torch.full((len(points),), -1)
            good = torch.isfinite(paid) & torch.isfinite(points).all(-1)
            self._asked = asking.send(Evaluated(self._asked, paid, points, none, torch.zeros_like(none), good))

    return SearchEmitter()
