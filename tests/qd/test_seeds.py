"""Genomes as seeds: exact decoding, and the genetic algorithms on them."""

import pytest
import torch

from cairn.qd import Evaluated, Problem, SeedGenomes
from cairn.qd.seeds import ga, ga_ns


def test_four_million_parameters_decode_to_the_same_bits():
    genomes = SeedGenomes(4_000_000, 0.002)
    code = (7, 2**32 - 1, 0, 123456789)
    weights = genomes.first(7)
    for seed in code[1:]:
        weights = genomes.mutated(weights, seed)
    assert torch.equal(genomes.decode(code), weights)
    assert genomes.compression(code) == 1_000_000  # 16 MB in 16 bytes
    assert not torch.equal(genomes.decode(code[:-1]), weights)
    assert (weights - genomes.first(7)).std().item() == pytest.approx(0.002 * 3**0.5, rel=0.01)


def test_codes_are_checked():
    with pytest.raises(ValueError, match="first weights"):
        SeedGenomes(3, 0.1).decode(())
    with pytest.raises(ValueError, match="no seed"):
        SeedGenomes(3, 0.1).decode((2**32,))


def problem():
    return Problem(4, -torch.ones(2), torch.ones(2), seed=5)


def evaluated(genomes, objective, measures=None):
    none = torch.full((len(genomes),), -1)
    points = torch.zeros(len(genomes), 2) if measures is None else measures
    return Evaluated(genomes, objective, points, none, none, torch.isfinite(objective))


def test_children_come_from_the_best_and_the_best_stays():
    search = ga(problem(), population=20, parents=2, sigma=0.01)
    first = next(search)
    objective = -torch.arange(20.0)
    objective[[3, 8]] = torch.tensor([5.0, 9.0])
    objective[0] = torch.nan
    second = search.send(evaluated(first, objective))
    assert torch.equal(second[0], first[8])
    away = torch.cdist(second[1:], first[[3, 8]])
    assert away.min(-1).values.max() < 0.1 and away.argmin(-1).unique().tolist() == [0, 1]


def test_every_genome_is_its_code():
    search = ga(problem(), population=6, parents=3)
    genomes, asked = SeedGenomes(4, 0.1), next(search)
    for turn in range(4):
        asked = search.send(evaluated(asked, -asked.square().sum(-1) + turn))
    codes = search.gi_frame.f_locals["codes"]
    assert max(map(len, codes)) > 2
    assert all(torch.equal(genomes.decode(code), row) for code, row in zip(codes, asked))


def test_the_novel_are_selected_and_the_archive_remembers():
    search = ga_ns(problem(), population=5, parents=1, sigma=0.01, neighbours=1, archived=1.0)
    first = next(search)
    spots = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.9, 0.9], [0.0, 0.1]])
    second = search.send(evaluated(first, torch.zeros(5), spots))
    assert torch.equal(second[0], first[3])
    spots = torch.tensor([[0.9, 0.9], [0.91, 0.9], [0.5, 0.0], [0.9, 0.91], [0.0, 0.0]])
    third = search.send(evaluated(second, torch.zeros(5), spots))  # back at (0, 0) is old, (0.5, 0) is new
    assert torch.equal(third[0], second[2])
    with pytest.raises(ValueError, match="novelty"):
        ga_ns(problem(), neighbours=0)
    with pytest.raises(ValueError, match="parents"):
        next(ga(problem(), population=3, parents=4))
