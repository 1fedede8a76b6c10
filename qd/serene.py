"""SERENE and CMA-NS: novelty search finds rewards, emitters that are born there raise them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .novelty import fronts, novelty
from .problem import Asking, Growing, Problem, together
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
    candidates: list[Tensor] = field(default_factory=list)
    """Measures that were more novel than all before them: the novelty archive gets some when the emitter ends."""
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


def serene(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5, chunk: int = 1000, emitter: str = "elitist", emitter_population: int = 6, bootstrap: int = 5,
) -> Asking:  # fmt: skip
    """SERENE: chunks of novelty search and of reward search by emitters, in turn.

    Every policy with a positive return enters the reward archive and may become an emitter, once; its step size is a
    third of the distance to the next genome. In each exploiting chunk the candidates, most novel first, take a few
    steps, and those that improve become emitters, until a third of the chunk is left. Then one emitter after the other
    is drawn from the Pareto front of novelty and improvement, and runs until it stagnates or the chunk ends.

    Source: Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021). The candidates of a
    chunk take their steps side by side here: none looks at another's. With ``emitter="cma"`` it is CMA-NS.

    Args:
        problem: What to search.
        population: Parents of the novelty search.
        offspring: Children of each.
        sigma: Standard deviation of mutation.
        neighbours: k of novelty.
        archived: Offspring that enter the novelty archive each generation.
        chunk: Evaluations of each turn.
        emitter: ``"elitist"``, or ``"cma"`` for CMA-ES (needs pyribs).
        emitter_population: Parents of an emitter.
        bootstrap: Steps of a candidate.
    """
    if emitter not in CLIMBERS:
        raise ValueError(f"emitter={emitter!r}: one of {', '.join(CLIMBERS)}")
    window = 20 * problem.size // emitter_population + 120
    made = CLIMBERS[emitter]
    parents = (yield problem.first(population)).usable()
    while not len(parents):
        parents = (yield problem.first(population)).usable()
    used = torch.zeros(len(parents), dtype=torch.bool)  # has been a candidate
    archive, paid = Growing(parents.measures.shape[1]), Growing(parents.measures.shape[1])
    waiting: list[Emitter] = []
    running: list[Emitter] = []

    def enter(e: Emitter, now: Evaluated) -> None:
        """Put what beats the emitter's record into the reward archive."""
        if e.record is None:
            top = now.objective.argmax() if len(now) else torch.tensor(0)
            better = now.rows(top[None]) if len(now) and bool(now.objective[top] > 0) else None
        else:
            better = now.rows(now.objective > e.record)
        if better is not None and len(better):
            paid.add(better.measures)
            e.record = max(float(better.objective.max()), e.record or 0.0)

    budget = chunk - population
    while True:
        # ---- explore ----
        while budget > 0:
            young = (yield problem.mutated(parents.genomes.repeat_interleave(offspring, 0), sigma)).usable()
            budget -= len(parents) * offspring
            both = together(parents, young)
            used = torch.cat([used, torch.zeros(len(young), dtype=torch.bool)])
            fresh = ((both.objective > 0) & ~used).nonzero()[:, 0]
            for i in fresh.tolist():
                away = (both.genomes - both.genomes[i]).norm(dim=-1)
                away[i] = torch.inf
                step = float(away.min()) / 3 or sigma
                waiting.append(
                    Emitter(both.rows(slice(i, i + 1)), made(problem, both.genomes[i], step, emitter_population))
                )
            paid.add(both.measures[fresh])
            used[fresh] = True
            reference = torch.cat([both.measures, archive.rows, paid.rows])
            novel = novelty(both.measures, reference, neighbours, own=True)
            archive.add(young.measures[problem.some(archived, len(young))])
            stay = novel.argsort(descending=True, stable=True)[:population]
            parents, used = both.rows(stay), used[stay]
        # ---- exploit: candidates ----
        budget = chunk
        if waiting:
            points = torch.cat([e.ancestor.measures for e in waiting])
            order = novelty(points, paid.rows, neighbours).argsort(descending=True, stable=True).tolist()
            cost = (
                emitter_population * (1 + 2 * bootstrap)
                if emitter == "elitist"
                else emitter_population * (1 + bootstrap)
            )
            count = max(0, -(-(budget - chunk // 3) // cost))
            tried = [waiting[i] for i in order[:count]]
            waiting = [waiting[i] for i in sorted(order[count:])]
            for turn in range(bootstrap + 1):
                asked = [e.climber.ask() for e in tried]
                found = yield torch.cat(asked)
                budget -= len(found)
                at = 0
                for e, part in zip(tried, asked):
                    now = e.climber.tell(found.rows(slice(at, at + len(part))).usable())
                    at += len(part)
                    e.values.append(now.objective)
                    if turn:
                        e.steps += 1
                        enter(e, now)
            running += [e for e in tried if e.improvement > 0]
        # ---- exploit: emitters ----
        reference = torch.cat([both.measures, archive.rows, paid.rows])
        while running and budget > 0:
            points = torch.cat([e.ancestor.measures for e in running])
            merits = torch.stack(
                [novelty(points, paid.rows, neighbours), torch.tensor([e.improvement for e in running])], -1
            )
            front = (fronts(merits) == 0).nonzero()[:, 0]
            e = running[int(front[problem.some(1, len(front))])]
            e.most_novel = max(e.most_novel, float(novelty(e.ancestor.measures, reference, neighbours)))
            while budget > 0:
                asked_now = e.climber.ask()
                budget -= len(asked_now)
                now = e.climber.tell((yield asked_now).usable())
                e.values.append(now.objective)
                e.steps += 1
                enter(e, now)
                if len(now):
                    fresh_novelty = novelty(now.measures, reference, neighbours)
                    e.candidates.append(now.measures[fresh_novelty > e.most_novel])
                    e.most_novel = max(e.most_novel, float(fresh_novelty.max()))
                if e.stagnates(window):
                    buffered = torch.cat(e.candidates) if e.candidates else now.measures[:0]
                    archive.add(buffered[problem.some(archived, len(buffered))])
                    paid.add(e.ancestor.measures)
                    running = [other for other in running if other is not e]
                    break
        budget = chunk


def cma_ns(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5, chunk: int = 1000, emitter_population: int = 6, bootstrap: int = 5,
) -> Asking:  # fmt: skip
    """CMA-NS: ``serene`` with CMA-ES emitters. Its source is SERENE's code, where it is a baseline."""
    return serene(
        problem, population=population, offspring=offspring, sigma=sigma, neighbours=neighbours, archived=archived,
        chunk=chunk, emitter="cma", emitter_population=emitter_population, bootstrap=bootstrap,
    )  # fmt: skip
