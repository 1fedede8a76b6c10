"""MAP-Elites in a descriptor space that is learned on the way: AURORA, and QDHF from judgments of similarity."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .grid import Grid
from .models import DescriptorModel, TripletDescriptor
from .problem import Asking, Problem, together
from .rollout import Evaluated

Judge = Callable[[Evaluated, Evaluated, Evaluated], Tensor]
"""Reference, first and second, J rows each, to bool ``[J]``: the first is more like the reference. ``truth`` is one; a
person who is shown the three may be another."""


def truth(noise: float = 0.0, seed: int = 0) -> Judge:
    """A judge who knows the true measures, and errs in a share ``noise`` of its answers."""
    if not 0 <= noise <= 1:
        raise ValueError(f"noise={noise}: it is the share of wrong answers, 0 to 1")
    generator = torch.Generator().manual_seed(seed)

    def judge(reference: Evaluated, first: Evaluated, second: Evaluated) -> Tensor:
        a, b = ((reference.measures - other.measures).norm(dim=-1) for other in (first, second))
        wrong = torch.rand(len(reference), generator=generator) < noise
        nearer: Tensor = (a < b) ^ wrong
        return nearer

    return judge


def question(
    model: TripletDescriptor, rows: Evaluated, features: Tensor, judge: Judge, count: int, generator: torch.Generator
) -> None:
    """Draw ``count`` triplets of different rows, have them judged, and tell the model.

    Raises:
        ValueError: There are fewer than three rows.
    """
    if len(rows) < 3:
        raise ValueError(f"a judgment compares three different solutions, and there are {len(rows)}")
    picks = torch.rand(count, len(rows), generator=generator).topk(3).indices
    one, two, three = picks.unbind(1)
    nearer = judge(rows.rows(one), rows.rows(two), rows.rows(three))
    model.judge(features[one], features[two], features[three], nearer)


class LearnedElites:
    """MAP-Elites on an archive whose measures a model makes from features.

    After each iteration of ``updates`` the model is fitted to what the archive holds (and the newest generation), all
    of that is encoded anew, and a new archive, its bounds the least and greatest points, takes the old one's place.
    With a ``TripletDescriptor`` a judge is asked first: that is QDHF; with other models it is AURORA with an
    incremental archive. Without updates the model stays as it is given (QDHF-Base, AURORA pretrained).

    Sources: Ding et al., "Quality Diversity through Human Feedback" (ICML 2024); Grillotti and Cully, "Unsupervised
    Behaviour Discovery with Quality-Diversity Optimisation" (2022).

    Args:
        problem: What to search.
        features: From evaluations to features ``[P, F]``.
        model: The descriptor.
        updates: The iterations, from 1, after which it is fitted.
        judge: Who compares, for a ``TripletDescriptor`` with updates.
        judgments: How many in all, spread evenly over the updates.
        batch: Genomes of an iteration.
        sigma: Standard deviation of mutation.
        bins: Cells along each measure.
        bounds: Least and greatest points of the first archive, ``[M]`` each, where they are known beforehand; None for
            those of the first generation. Archives after an update have bounds of their own.
        first: Genomes of the first iteration, ``[P, D]``. A model that is fitted then learns from these: let them
            differ. None: noise of ``sigma`` around zero, as in all later iterations around elites.

    Attributes:
        grid: The archive; None before the first iteration is over.
        rebuilt: How often a new archive took the old one's place.
    """

    def __init__(
        self, problem: Problem, features: Callable[[Evaluated], Tensor], model: DescriptorModel, *,
        updates: Sequence[int] = (), judge: Judge | None = None, judgments: int = 1000, batch: int = 100,
        sigma: float = 0.1, bins: int = 50, bounds: tuple[Tensor, Tensor] | None = None, first: Tensor | None = None,
    ) -> None:  # fmt: skip
        if updates and isinstance(model, TripletDescriptor) and judge is None:
            raise ValueError("a TripletDescriptor learns from judgments: say who gives them with judge=")
        self.problem, self.features, self.model = problem, features, model
        self.updates, self.judge, self.judgments = tuple(updates), judge, judgments
        self.batch, self.sigma, self.bins, self.bounds, self.first = batch, sigma, bins, bounds, first
        self.grid: Grid | None = None
        self.rebuilt = 0
        self._kept: Evaluated | None = None  # the archive's elites with their true measures

    def asking(self) -> Asking:
        """The search; run it as any other."""
        problem, iteration = self.problem, 0
        while True:
            iteration += 1
            if iteration == 1 and self.first is not None:
                genomes = self.first
            elif self._kept is None:
                genomes = problem.mutated(torch.zeros(self.batch, problem.size), self.sigma)
            else:
                pick = torch.randint(len(self._kept), (self.batch,), generator=problem.generator)
                genomes = problem.mutated(self._kept.genomes[pick], self.sigma)
            found = (yield genomes).usable()
            if not len(found):
                continue
            pool = found if self._kept is None else together(self._kept, found)
            if iteration in self.updates:
                self._update(pool)
                self.grid = self.bounds = None
            if self.grid is None:
                self._rebuild(pool)
            else:
                self._add(self.grid, found)

    def _update(self, pool: Evaluated) -> None:
        features = self.features(pool)
        if isinstance(self.model, TripletDescriptor):
            assert self.judge is not None
            count = self.judgments // len(self.updates)
            question(self.model, pool, features, self.judge, count, self.problem.generator)
        self.model.fit(features)

    def _rebuild(self, pool: Evaluated) -> None:
        points = self.model.encode(self.features(pool))
        low, high = self.bounds or (points.amin(0), points.amax(0))
        grid = Grid(low, torch.maximum(high, low + 1e-6), self.bins, genome=pool.genomes.shape[1])
        self._kept = None
        self._add(grid, pool)
        self.grid, self.rebuilt = grid, self.rebuilt + 1

    def _add(self, grid: Grid, found: Evaluated) -> None:
        """Put evaluations into an archive of the model's points, and keep the elites' evaluations beside it."""
        points = self.model.encode(self.features(found))
        took = grid.add(Evaluated(found.genomes, found.objective, points, found.area, found.length, found.valid))
        if self._kept is None:
            self._cell, self._kept = grid.index(points[took]), found.rows(took)
            return
        cell = torch.cat([self._cell, grid.index(points[took])])
        rows = together(self._kept, found.rows(took))
        # The newest of a cell is its elite.
        last = torch.full((grid.cells,), -1)
        last = last.scatter_reduce(0, cell, torch.arange(len(cell)), "amax")
        stay = last[last >= 0]
        self._cell, self._kept = cell[stay], rows.rows(stay)

    @property
    def elites(self) -> Evaluated:
        """The archive's solutions as they were evaluated, with their true measures.

        Raises:
            RuntimeError: There are none yet.
        """
        if self._kept is None:
            raise RuntimeError("nothing has been evaluated yet")
        return self._kept
