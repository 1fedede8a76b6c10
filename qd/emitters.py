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

    def __init__(self, problem: Problem, start: Tensor, sigma: float, population: int) -> None:
        from .pyribs import need_ribs

        need_ribs()
        from ribs.emitters.opt import CMAEvolutionStrategy

        seed = int(torch.randint(1 << 31, (), generator=problem.generator))
        self._es: Any = CMAEvolutionStrategy(
            sigma0=sigma, solution_dim=problem.size, batch_size=population, seed=seed, dtype="float64"
        )
        self._es.reset(start.double().numpy())
        self._asked = 0

    def ask(self) -> Tensor:
        """A generation."""
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
    record: float | None = None
    """The highest objective it has put into the reward archive."""
    most_novel: float = 0.0
    candidates: list[Evaluated] = field(default_factory=list)
    """Policies that were more novel than all before them: the novelty archive gets some when the emitter ends."""
    steps: int = 0

    @property
    def improvement(self) -> float:
        """How much the mean of the last three steps is above that of the first three."""
        means = [float(v.mean()) for v in self.values if len(v)]
        return sum(means[-3:]) / 3 - sum(means[:3]) / 3 if len(means) >= 3 else 0.0

    def stagnates(self, window: int) -> bool:
        """The median or the maximum of the last ``window`` steps' first 20 is not below that of their last 20."""
        if self.steps <= window:
            return False
        head, tail = torch.cat(self.values[-window:][:20]), torch.cat(self.values[-20:])
        if not len(head) or not len(tail):
            return True
        return bool((head.median() >= tail.median()) | (head.max() >= tail.max()))
