"""SERENE and CMA-NS: novelty search finds rewards, emitters that are born there raise them."""

import torch
from torch import Tensor

from .emitters import CLIMBERS, Emitter
from .novelty import fronts, novelty
from .problem import Asking, Problem, together
from .rollout import Evaluated
from .views import Given, Memory, Placed, View


def alternate(
    problem: Problem, view: View, *, population: int, offspring: int, sigma: float, neighbours: int, archived: int,
    chunk: int, emitter: str, emitter_population: int, bootstrap: int,
) -> Asking:  # fmt: skip
    """What SERENE and STAX share: chunks of exploring by novelty as ``view`` sees it, and of exploiting by emitters."""
    if emitter not in CLIMBERS:
        raise ValueError(f"emitter={emitter!r}: one of {', '.join(CLIMBERS)}")
    if chunk <= population:
        raise ValueError(f"chunk={chunk}: a chunk has room for more than the first population of {population}")
    window = 20 * problem.size // emitter_population + 120
    made = CLIMBERS[emitter]
    parents = (yield problem.first(population)).usable()
    while not len(parents):
        parents = (yield problem.first(population)).usable()
    used = torch.zeros(len(parents), dtype=torch.bool)  # has been a candidate
    archive, paid, chunks = Memory(view), Memory(view), 0
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
            paid.add(better)
            e.record = max(float(better.objective.max()), e.record or 0.0)

    def lie(emitters: list[Emitter]) -> Tensor:
        """Where ancestors lie; those that lay elsewhere when the view was another are placed anew."""
        old = [e for e in emitters if e.version != view.version]
        if old:
            for e, point in zip(old, view.points(together(*(e.ancestor for e in old)))):
                e.point, e.version = point[None].clone(), view.version
        return torch.cat([e.point for e in emitters if e.point is not None])

    budget, known = chunk - population, Placed(view)
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
                climber = made(problem, both.genomes[i].clone(), step, emitter_population)
                waiting.append(Emitter(both.rows(torch.tensor([i])), climber))  # a view would keep all
            paid.add(both.rows(fresh))
            used[fresh] = True
            points = known.points(parents, young)
            novel = novelty(points, torch.cat([points, archive.points, paid.points]), neighbours, own=True)
            archive.add(young.rows(problem.some(archived, len(young))))
            stay = view.rank(both, novel, problem).argsort(descending=True, stable=True)[:population]
            parents, used = both.rows(stay), used[stay]
            known.keep(points[stay])
        chunks += 1
        if view.learn(chunks, [archive.raw, paid.raw, view.raw(both)]):
            for e in running:
                e.most_novel = 0.0  # in the old space
        # ---- exploit: candidates ----
        budget = chunk
        if waiting:
            points = lie(waiting)
            order = novelty(points, paid.points, neighbours).argsort(descending=True, stable=True).tolist()
            cost = emitter_population * (1 + bootstrap * (2 if emitter == "elitist" else 1))
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
                    e.took(now.objective)
                    if turn:
                        e.steps += 1
                        enter(e, now)
            running += [e for e in tried if e.improvement > 0]
        # ---- exploit: emitters ----
        reference = torch.cat([view.points(both), archive.points, paid.points])
        while running and budget > 0:
            points = lie(running)
            gains = torch.tensor([e.improvement for e in running])
            merits = torch.stack([novelty(points, paid.points, neighbours), gains], -1)
            front = (fronts(merits) == 0).nonzero()[:, 0]
            e = running[int(front[problem.some(1, len(front))])]
            e.most_novel = max(e.most_novel, float(novelty(lie([e]), reference, neighbours)))
            while budget > 0:
                asked_now = e.climber.ask()
                budget -= len(asked_now)
                now = e.climber.tell((yield asked_now).usable())
                e.took(now.objective)
                e.steps += 1
                enter(e, now)
                if len(now):
                    fresh_novelty = novelty(view.points(now), reference, neighbours)
                    e.candidates.append(now.rows(fresh_novelty > e.most_novel))
                    e.most_novel = max(e.most_novel, float(fresh_novelty.max()))
                if e.stagnates(window):
                    if e.candidates:
                        buffered = together(*e.candidates)
                        archive.add(buffered.rows(problem.some(archived, len(buffered))))
                    paid.add(e.ancestor)
                    running = [other for other in running if other is not e]
                    break
        budget = chunk


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
    return alternate(
        problem, Given(), population=population, offspring=offspring, sigma=sigma, neighbours=neighbours,
        archived=archived, chunk=chunk, emitter=emitter, emitter_population=emitter_population, bootstrap=bootstrap,
    )  # fmt: skip


def cma_ns(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5, chunk: int = 1000, emitter_population: int = 6, bootstrap: int = 5,
) -> Asking:  # fmt: skip
    """CMA-NS: ``serene`` with CMA-ES emitters. Its source is SERENE's code, where it is a baseline."""
    return serene(
        problem, population=population, offspring=offspring, sigma=sigma, neighbours=neighbours, archived=archived,
        chunk=chunk, emitter="cma", emitter_population=emitter_population, bootstrap=bootstrap,
    )  # fmt: skip
