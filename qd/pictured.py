"""TAXONS and STAX: novelty search by what the end looks like, and with emitters where there is reward."""

import torch
from torch import Tensor

from .images import ImageDescriptor
from .novelty import novelty
from .problem import Asking, Problem, together
from .serene import alternate
from .views import Memory, Pictures, Placed


def taxons(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5, width: int = 10, every: int = 30, epochs: int = 5,
) -> Asking:  # fmt: skip
    """TAXONS: novelty or surprise of the last picture, in the space of an autoencoder that learns meanwhile.

    Each generation a coin falls between novelty and surprise (novelty alone until the first fit); by it survive the
    best of parents and offspring, and the best ``archived`` of the offspring enter the archive. After ``every``
    generations the autoencoder learns from the pictures seen since and from the archive's, and the archive is placed
    anew.

    Source: Paolo et al., "Unsupervised Learning and Exploration of Reachable Outcome Space" (ICRA 2020); parents have
    ``offspring`` children as in STAX's code, where the paper's have one.

    Args:
        problem: What to search.
        population: How many parents.
        offspring: Children of each.
        sigma: Standard deviation of mutation.
        neighbours: k of novelty.
        archived: Offspring that enter the archive each generation.
        width: Numbers of a descriptor.
        every: Generations between fits.
        epochs: Passes of a fit.
    """
    view = Pictures(ImageDescriptor(width, epochs=epochs, held_out=0.0, seed=_seed(problem)))
    parents = (yield problem.first(population)).usable()
    while not len(parents):
        parents = (yield problem.first(population)).usable()
    archive, known, fresh, generation = Memory(view), Placed(view), [view.raw(parents)], 0
    while True:
        young = (yield problem.mutated(parents.genomes.repeat_interleave(offspring, 0), sigma)).usable()
        generation += 1
        both = together(parents, young)
        points = known.points(parents, young)
        novel = novelty(points, torch.cat([points, archive.points]), neighbours, own=True)
        merit = view.rank(both, novel, problem)
        archive.add(young.rows(merit[len(parents) :].argsort(descending=True, stable=True)[:archived]))
        stay = merit.argsort(descending=True, stable=True)[:population]
        parents = both.rows(stay)
        known.keep(points[stay])
        fresh.append(view.raw(young))
        if generation % every == 0:
            view.model.fit(torch.cat([*fresh, archive.raw]))
            fresh = []


def stax(
    problem: Problem, *, population: int = 100, offspring: int = 2, sigma: float = 0.05, neighbours: int = 15,
    archived: int = 5, chunk: int = 1000, emitter_population: int = 6, bootstrap: int = 5, width: int = 10,
    epochs: int = 100,
) -> Asking:  # fmt: skip
    """STAX: SERENE whose novelty is of pictures, in the space of an autoencoder that learns meanwhile.

    Source: Paolo et al., "Discovering and Exploiting Sparse Rewards in a Learned Behavior Space" (2021), with one
    picture, the last, of each episode.
    """
    model = ImageDescriptor(width, epochs=epochs, seed=_seed(problem))
    return alternate(
        problem, Pictures(model), population=population, offspring=offspring, sigma=sigma, neighbours=neighbours,
        archived=archived, chunk=chunk, emitter="elitist", emitter_population=emitter_population, bootstrap=bootstrap,
    )  # fmt: skip


def _seed(problem: Problem) -> int:
    drawn: Tensor = torch.randint(1 << 31, (), generator=problem.generator)
    return int(drawn)
