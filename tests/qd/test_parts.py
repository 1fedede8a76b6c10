"""Novelty, Pareto ranks, the grid and the signature: hand-computed cases, plain loops, pyribs."""

import itertools

import numpy as np
import pytest
import torch

from cairn.qd import Evaluated, Grid, signature
from cairn.qd.novelty import best, crowding, fronts, local_competition, nearest, novelty
from cairn.qd.problem import Growing
from cairn.runs import CheckpointError, read_checkpoint, write_checkpoint


def test_novelty_by_hand():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert novelty(line, line, 2, own=True).tolist() == [2.0, 1.5, 2.5, 5.0]
    assert novelty(line[:1], line, 2).tolist() == [0.5]  # not one of them: its double counts
    assert novelty(line[:2], line[:2], 15, own=True).tolist() == [1.0, 1.0]
    assert novelty(line[:1], line[:1], own=True).tolist() == [float("inf")]


def test_near_neighbours_keep_their_digits():
    points = 1000.0 + 1e-3 * torch.arange(5.0)[:, None]
    assert novelty(points, points, 1, own=True).tolist() == pytest.approx([1e-3] * 5, rel=0.2)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("count", "size", "width", "k"), [(1, 2, 1, 1), (37, 37, 2, 15), (48, 900, 2, 15), (5, 70, 10, 70)]
)
def test_neighbours_beside_all_distances(count, size, width, k, own):
    """The compiled loop against torch's table of distances, in single precision and in double, which it does not do."""
    reference = torch.rand(size, width, generator=torch.Generator().manual_seed(size))
    points = reference[:count] if own else torch.rand(count, width, generator=torch.Generator().manual_seed(1))
    away, number = nearest(points, reference, k, own=own)
    wanted, which = nearest(points.double(), reference.double(), k, own=own)
    assert away.shape == number.shape == wanted.shape == (count, min(k, size - own))
    assert torch.allclose(away.double(), wanted, rtol=1e-5, atol=1e-7) and torch.equal(number, which)
    table = (points[:, None] - reference).norm(dim=-1)
    assert torch.allclose(table.gather(1, number), away, rtol=1e-5)
    assert not own or not (number == torch.arange(count)[:, None]).any()


def test_equal_neighbours_come_in_their_order():
    points = torch.zeros(20, 2)
    away, number = nearest(points, points, 3, own=True)
    assert not away.any() and number[:5].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]


def test_local_competition_by_hand():
    line, paid = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([5.0, 1.0, 2.0, 0.0])
    assert local_competition(line, paid, line, paid, 2, own=True).tolist() == [2.0, 0.0, 1.0, 0.0]
    even = torch.tensor([5.0, 5.0, 2.0, 0.0])
    assert local_competition(line, even, line, even, 2, own=True).tolist() == [1.0, 1.0, 0.0, 0.0]  # an equal is no win


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("many", [3, 6, 1000])
def test_fronts_beside_a_plain_loop(many, columns):
    values = torch.randint(0, many, (60, columns), generator=torch.Generator().manual_seed(0)).float()
    values[:3, 0] = torch.inf  # the novelty of what has no neighbours
    rows, want, level = values.tolist(), {}, 0
    while len(want) < 60:
        left = [i for i in range(60) if i not in want]
        free = [
            i for i in left
            if not any(all(a >= b for a, b in zip(rows[j], rows[i])) and rows[j] != rows[i] for j in left)
        ]  # fmt: skip
        want |= dict.fromkeys(free, level)
        level += 1
    assert fronts(values).tolist() == [want[i] for i in range(60)]


def test_crowding_and_choice_by_hand():
    front = torch.tensor([[0.0, 10.0], [1.0, 9.0], [5.0, 5.0], [10.0, 0.0]])
    gaps = crowding(front)
    assert gaps[0] == gaps[3] == float("inf")
    assert gaps[1:3].tolist() == pytest.approx([0.5 + 0.5, 0.9 + 0.9])
    behind = torch.tensor([[0.5, 0.5]])
    assert best(torch.cat([behind, front]), 3).tolist() == [1, 4, 3]
    assert best(torch.cat([behind, front]), 4).tolist() == [1, 2, 3, 4]  # a front for which there is just room
    assert best(torch.cat([behind, front]), 5).tolist() == [1, 2, 3, 4, 0]
    assert best(torch.cat([behind, front]), 9).tolist() == [1, 2, 3, 4, 0]


def test_rows_that_grow():
    grown, rows = Growing(2), torch.arange(600.0).reshape(300, 2)
    for part in rows.split(7):
        grown.add(part)
    assert torch.equal(grown.rows, rows) and len(grown) == 300


def found(count, seed=0, width=3):
    g = torch.Generator().manual_seed(seed)
    measures = 2.4 * torch.rand(count, 2, generator=g) - 0.2
    objective = torch.randint(-5, 5, (count,), generator=g).float()
    area = torch.randint(-1, 2, (count,), generator=g)
    genomes = torch.randn(count, width, generator=g)
    valid = torch.rand(count, generator=g) > 0.1
    measures[~valid], objective[~valid] = torch.nan, torch.nan
    return Evaluated(genomes, objective, measures, area, torch.ones_like(area), valid)


def grid(bins=5, width=3, areas=2):
    return Grid(torch.zeros(2), torch.full((2,), 2.0), bins, genome=width, areas=areas)


def test_the_grid_is_a_sequential_archive():
    made, elites, areas, outside = grid(), {}, [0.0, 0.0], 0
    for seed in range(6):
        batch = found(200, seed)
        took = made.add(batch)
        before = dict(elites)
        for i in range(200):
            if not batch.valid[i]:
                continue
            x, y = batch.measures[i].tolist()
            outside += not (0 <= x <= 2 and 0 <= y <= 2)
            cell = min(max(int(x // 0.4), 0), 4) * 5 + min(max(int(y // 0.4), 0), 4)
            if cell not in elites or batch.objective[i] > elites[cell][0]:
                elites[cell] = (batch.objective[i].item(), seed, i)
            if batch.area[i] >= 0:
                areas[batch.area[i]] = max(areas[batch.area[i]], batch.objective[i].item())
        new = {v[2] for k, v in elites.items() if before.get(k) != v}
        assert set(took.nonzero()[:, 0].tolist()) == new
    assert made.occupied.sum() == len(elites) and made.outside == outside
    for cell, (paid, seed, i) in elites.items():
        assert made.objective[cell] == paid
        assert torch.equal(made.genomes[cell], found(200, seed).genomes[i])
    scores = made.scores()
    assert scores["coverage"] == len(elites) / 25
    assert scores["qd_score"] == sum(v[0] for v in elites.values())
    assert [scores["area_0"], scores["area_1"]] == areas


def test_the_grid_beside_pyribs():
    archives = pytest.importorskip("ribs.archives")
    theirs = archives.GridArchive(solution_dim=3, dims=[7, 7], ranges=[(0, 2), (0, 2)])
    ours = grid(7)
    for seed in range(4):
        batch = found(100, seed)
        ours.add(batch)
        good = batch.usable()
        theirs.add(good.genomes.numpy(), good.objective.numpy(), good.measures.numpy())
    assert theirs.stats.num_elites == ours.occupied.sum()
    assert theirs.stats.qd_score == pytest.approx(ours.scores()["qd_score"])
    back = ours.to_pyribs().data(return_type="dict")
    for name in ("solution", "objective", "measures"):
        mine = theirs.data(return_type="dict")
        order, other = np.argsort(mine["index"]), np.argsort(back["index"])
        if name == "objective":
            assert np.allclose(mine[name][order], back[name][other])


def test_a_saved_grid_comes_back_and_a_broken_one_does_not(tmp_path):
    made = grid()
    made.add(found(100))
    write_checkpoint(tmp_path / "archive", {"kind": "grid"}, made.state_dict())
    state = read_checkpoint(tmp_path / "archive")[1]
    back = Grid.from_state(state)
    for name, value in back.state_dict().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(made.state_dict()[name])), name
    for name, wrong, says in (
        ("cell", state["cell"].flip(0), "cells"),
        ("objective", state["objective"][:-1], "number of elites"),
        ("measures", state["measures"] * torch.nan, "cells"),
        ("bins", 10**9, "cells along"),
        ("bins", "many", "bins"),
        ("genomes", state["genomes"].double(), "types"),
    ):
        with pytest.raises(ValueError, match=says):
            Grid.from_state({**state, name: wrong})
    with pytest.raises(ValueError, match="no saved grid"):
        Grid.from_state({"low": 1})
    (tmp_path / "archive" / "tensors.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "archive")


def test_the_signature_by_hand():
    straight = torch.tensor([[0.0, 0.0], [1.0, 1.5], [2.0, 3.0]])[:, None]
    assert signature(straight, order=3)[0].tolist() == pytest.approx(
        [2, 3] + [2, 3, 3, 4.5] + [8 / 6, 2, 2, 3, 2, 3, 3, 4.5]
    )
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])[:, None]  # right, then up
    assert signature(corner)[0].tolist() == [1, 1, 0.5, 1, 0, 0.5]
    stopped = signature(corner, torch.tensor([[True], [False]]))
    assert stopped[0].tolist() == [1, 0, 0.5, 0, 0, 0]
    timed = signature(corner, order=1, time=True)
    assert timed[0].tolist() == pytest.approx([1, 1, 1])


def test_the_signature_obeys_the_shuffle_product():
    path = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s = signature(path, order=3)
    one, two, three = s[:, :3], s[:, 3:12].reshape(4, 3, 3), s[:, 12:].reshape(4, 3, 3, 3)
    for i, j, k in itertools.product(range(3), repeat=3):
        assert torch.allclose(one[:, i] * one[:, j], two[:, i, j] + two[:, j, i])
        assert torch.allclose(one[:, i] * two[:, j, k], three[:, i, j, k] + three[:, j, i, k] + three[:, j, k, i])
    with pytest.raises(ValueError, match="order"):
        signature(path, order=4)
