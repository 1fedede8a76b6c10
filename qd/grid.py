"""The grid of outcomes: the best policy found in each cell, whatever searched for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..envs.batch import check_like
from .rollout import Evaluated


class Grid:
    """Elites in cells of equal size.

    Points beyond the bounds count for the nearest cell, as in pyribs' ``GridArchive``, and ``outside`` counts them. A
    newcomer takes a cell when its objective is higher, not when it is equal; of several at once the first wins.

    Args:
        low: Least measures, M numbers.
        high: Greatest.
        bins: Cells along each measure.
        genome: Numbers of a solution.
        areas: How many reward areas there are.
    """

    def __init__(self, low: Tensor, high: Tensor, bins: int = 50, *, genome: int, areas: int = 0) -> None:
        self.low, self.high = low.to("cpu", torch.float32), high.to("cpu", torch.float32)
        if self.low.ndim != 1 or self.low.shape != self.high.shape or not bool((self.low < self.high).all()):
            raise ValueError(f"a grid needs bounds with low < high, got {low.tolist()} and {high.tolist()}")
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1 or bins ** len(self.low) > 10**7:
            raise ValueError(f"bins={bins!r}: cells along each of {len(self.low)} measures, 10 million at most in all")
        if genome * bins ** len(self.low) > 1 << 28:
            raise ValueError(
                f"a grid of {bins}^{len(self.low)} cells with {genome} numbers each is too large: take fewer bins"
            )
        self.bins = bins
        self.cells = bins ** len(self.low)
        self.genomes = torch.zeros(self.cells, genome)
        self.objective = torch.full((self.cells,), -torch.inf)
        self.measures = torch.zeros(self.cells, len(self.low))
        self.best_in_area = torch.zeros(areas)
        """The highest objective that ended in each reward area."""
        self.outside = 0

    @property
    def occupied(self) -> Tensor:
        """Bool ``[cells]``."""
        return self.objective > -torch.inf

    def index(self, measures: Tensor) -> Tensor:
        """The cell of points ``[P, M]``, int64 ``[P]``; the last measure varies fastest."""
        along = ((measures - self.low) / (self.high - self.low) * self.bins).floor().clamp(0, self.bins - 1)
        index = torch.zeros(len(measures), dtype=torch.int64)
        for column in along.to(torch.int64).T:
            index = index * self.bins + column
        return index

    def add(self, found: Evaluated) -> Tensor:
        """Take in evaluations; invalid rows are passed over. Says which rows took a cell, bool ``[P]``."""
        good = found.valid.nonzero()[:, 0].cpu()
        took = torch.zeros(len(found), dtype=torch.bool)
        measures, objective = found.measures.cpu()[good], found.objective.cpu()[good]
        self.outside += int(((measures < self.low) | (measures > self.high)).any(-1).sum())
        for area in range(len(self.best_in_area)):
            here = objective[found.area.cpu()[good] == area]
            if len(here):
                self.best_in_area[area] = torch.maximum(self.best_in_area[area], here.max())
        if not len(good):
            return took
        cell = self.index(measures)
        order = objective.argsort(descending=True, stable=True)
        order = order[cell[order].argsort(stable=True)]  # by cell, the best first, the first of equals first
        first = torch.ones(len(order), dtype=torch.bool)
        first[1:] = cell[order][1:] != cell[order][:-1]
        winners = order[first]
        winners = winners[objective[winners] > self.objective[cell[winners]]]
        at = cell[winners]
        self.genomes[at] = found.genomes.cpu()[good[winners]]
        self.objective[at], self.measures[at] = objective[winners], measures[winners]
        took[good[winners]] = True
        return took

    def scores(self) -> dict[str, float]:
        """``coverage`` (share of cells), ``qd_score`` (sum of the elites' objectives, offset 0), ``best``, areas."""
        there = self.occupied
        out = {
            "coverage": float(there.float().mean()),
            "qd_score": float(self.objective[there].sum(dtype=torch.float64)),
            "best": float(self.objective.max()),
        }
        return {**out, **{f"area_{i}": float(v) for i, v in enumerate(self.best_in_area)}}

    def elites(self) -> dict[str, Tensor]:
        """``cell``, ``genomes``, ``objective`` and ``measures`` of the occupied cells."""
        cell = self.occupied.nonzero()[:, 0]
        return {
            "cell": cell,
            "genomes": self.genomes[cell],
            "objective": self.objective[cell],
            "measures": self.measures[cell],
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        return {
            "low": self.low,
            "high": self.high,
            "bins": self.bins,
            "best_in_area": self.best_in_area.clone(),
            "outside": self.outside,
            **self.elites(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Grid":
        """A grid from ``state_dict``'s result, which may come from a file that anyone wrote.

        Raises:
            ValueError: It does not hang together: names, shapes, cells that do not fit the measures.
        """
        like = cls(torch.zeros(1), torch.ones(1), 1, genome=1).state_dict()
        if not isinstance(state, Mapping) or set(state) != set(like):
            raise ValueError(f"this is no saved grid: it needs {', '.join(like)}")
        tensors = {name: state[name] for name in like if isinstance(like[name], Tensor)}
        check_like({"bins": state["bins"], "outside": state["outside"]}, {"bins": 1, "outside": 0}, "grid")
        if not all(
            isinstance(v, Tensor) and v.dtype == like[k].dtype and v.ndim == like[k].ndim for k, v in tensors.items()
        ):
            raise ValueError("the saved grid's tensors are not of the right types or numbers of axes")
        cell, count = state["cell"], len(state["cell"])
        made = cls(state["low"], state["high"], state["bins"], genome=state["genomes"].shape[1])
        if (
            state["measures"].shape != (count, len(made.low))
            or not len(state["genomes"]) == len(state["objective"]) == count
        ):
            raise ValueError(f"the saved grid names {count} cells, and has another number of elites")
        if not bool(torch.isfinite(state["objective"]).all()) or not torch.equal(made.index(state["measures"]), cell):
            raise ValueError("the saved grid's elites do not lie in their cells")
        if count and len(cell.unique()) != count:
            raise ValueError("the saved grid names a cell twice")
        made.genomes[cell], made.measures[cell] = state["genomes"], state["measures"]
        made.objective[cell], made.best_in_area = state["objective"], state["best_in_area"].clone()
        made.outside = state["outside"]
        return made

    def to_pyribs(self) -> Any:
        """The same elites as a ``ribs.archives.GridArchive``.

        Raises:
            ImportError: pyribs is not installed.
        """
        from .pyribs import need_ribs

        need_ribs()
        from ribs.archives import GridArchive

        dims = [self.bins] * len(self.low)
        archive = GridArchive(
            solution_dim=self.genomes.shape[1], dims=dims, ranges=list(zip(self.low.tolist(), self.high.tolist()))
        )
        rows = self.elites()
        if len(rows["cell"]):
            archive.add(rows["genomes"].double().numpy(), rows["objective"].numpy(), rows["measures"].numpy())
        return archive
