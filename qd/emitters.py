"""Emitters of SERENE and its relatives: local searches for reward that begin at a rewarded policy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .problem import Problem, together
from .rollout import Evaluated


class Climber(Protocol):
    """How an emitter searches for reward: it is asked for genomes and told what they gave."""

    def ask(self) -> Tensor:
        """The genomes of one step."""
        ...

    def tell(self, found: Evaluated) -> Evaluated:
        """Take in evaluations (usable ones); gives the present population."""
        ...


class Elitist:
    """Six parents with two children each; the best six of the eighteen stay."""

    def __init__(self, problem: Problem, start: Tensor, sigma: float, population: int) -> None:
        self._problem, self._start, self._sigma, self._size = problem, start, sigma, population
        self._parents: Evaluated | None = None

    def ask(self) -> Tensor:
        """The first population around the start, and then children."""
        parents = self._start.expand(self._size, -1)
        if self._parents is not None:
            parents = self._parents.genomes.repeat_interleave(2, 0)
        return self._problem.mutated(parents, self._sigma)

    def tell(self, found: Evaluated) -> Evaluated:
        """The best of parents and children."""
        both = found if self._parents is None else together(self._parents, found)
        if not len(both):
            return both
        self._parents = both.rows(both.objective.argsort(descending=True, stable=True)[: self._size])
        return self._parents


class CMAES:
    """pyribs' CMA-ES on the objective."""

    _es: Any

    def __init__(self, problem: Problem, start: Tensor, sigma: float, population: int) -> None:
        from .pyribs import need_ribs

        need_ribs()
        seed = int(torch.randint(1 << 31, (), generator=problem.generator))
        self._given = {"sigma0": sigma, "solution_dim": problem.size, "batch_size": population, "seed": seed}
        self._start, self._es, self._asked = start, None, 0

    def _begin(self) -> Any:
        """The strategy: matrices of a megabyte or so, and most candidates never get a turn."""
        from ribs.emitters.opt import CMAEvolutionStrategy

        strategy = CMAEvolutionStrategy(**self._given, dtype="float64")
        strategy.reset(self._start.double().numpy())
        return strategy

    def ask(self) -> Tensor:
        """A generation."""
        self._es = self._es or self._begin()
        asked = torch.from_numpy(self._es.ask().copy()).to(torch.float32)
        self._asked = len(asked)
        return asked

    def tell(self, found: Evaluated) -> Evaluated:
        """Move the distribution; a generation with an unusable member is passed over."""
        if len(found) == self._asked:
            paid = found.objective.double().numpy()
            order = found.objective.argsort(descending=True, stable=True).numpy()
            self._es.tell(order, paid[:, None], len(order) // 2)
        return found


CLIMBERS: dict[str, Callable[[Problem, Tensor, float, int], Climber]] = {"elitist": Elitist, "cma": CMAES}


@dataclass
class Emitter:
    """A search for reward that began at a rewarded policy (its ancestor, one row)."""

    ancestor: Evaluated
    climber: Climber
    values: list[Tensor] = field(default_factory=list)
    """The population's objectives after each step."""
    means: list[float] = field(default_factory=list)
    """Their means, of populations that are not empty."""
    point: Tensor | None = None
    """Where the ancestor lies, ``[1, M]``, and in which version of the view."""
    version: int = -1
    record: float | None = None
    """The highest objective it has put into the reward archive."""
    most_novel: float = 0.0
    candidates: list[Evaluated] = field(default_factory=list)
    """Policies that were more novel than all before them: the novelty archive gets some when the emitter ends."""
    steps: int = 0

    def took(self, values: Tensor) -> None:
        """Note the objectives of the population after a step."""
        self.values.append(values)
        if len(values):
            self.means.append(float(values.mean()))

    @property
    def improvement(self) -> float:
        """How much the mean of the last three steps is above that of the first three."""
        means = self.means
        return sum(means[-3:]) / 3 - sum(means[:3]) / 3 if len(means) >= 3 else 0.0

    def stagnates(self, window: int) -> bool:
        """The median or the maximum of the last ``window`` steps' first 20 is not below that of their last 20."""
        if self.steps <= window:
            return False
        head, tail = torch.cat(self.values[-window:][:20]), torch.cat(self.values[-20:])
        if not len(head) or not len(tail):
            return True
        return bool((head.median() >= tail.median()) | (head.max() >= tail.max()))
