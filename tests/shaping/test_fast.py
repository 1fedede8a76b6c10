"""The compiled loops that bonuses share do what torch does, whatever the number of threads."""

from collections import Counter
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.envs.native import Spread, sharing
from cairn.envs.spaces import Pixels, Symbols, Tokens, tree_leaves
from cairn.shaping import E3B, PseudoCounts, RolloutSeat, Stretch, World
from cairn.shaping.disagreement import Ensemble, variance
from cairn.shaping.hashing import hash_rows
from cairn.shaping.networks import SymbolSum, Whitening, distinct, encoder, mlp
from cairn.shaping.table import CountTable

ROWS = 700
SPACE = gym.spaces.Dict(
    {
        "grid": Symbols((5, 5, 3), (11, 6, 4)),
        "inner": gym.spaces.Dict({"turn": gym.spaces.Discrete(4), "speed": gym.spaces.Box(-1, 1, (2, 2), np.float32)}),
        "map": Symbols((2, 2, 1), (3,)),
        "mission": Tokens(5),
    }
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    g = seeded(seed)
    return {
        "grid": torch.randint(0, 4, (rows, 5, 5, 3), generator=g).to(torch.uint8),
        "inner": {"turn": torch.randint(0, 4, (rows,), generator=g), "speed": torch.randn(rows, 2, 2, generator=g)},
        "map": torch.randint(0, 3, (rows, 2, 2, 1), generator=g).to(torch.uint8),
        "mission": torch.randint(0, 9, (rows, 5), generator=g),
    }


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 127, 128, 129, 1000, 5000])
def test_rows_are_spread_once_each_and_threads_change_nothing(rows: int) -> None:
    body = "\nfor (long long i = from; i < from + count; ++i) out[i] += i;\n"
    loop = Spread("spread test", {"out": "long long*"}, body)
    for threads in (1, 2, 3, 17):
        out = torch.zeros(rows, dtype=torch.int64)
        with sharing(threads):
            loop(rows, out)
        assert torch.equal(out, torch.arange(rows))


def test_how_many_threads_share() -> None:
    seen: list[int] = []

    class Watched(Spread):
        def _program(self, threads: int) -> Any:
            seen.append(threads)
            return super()._program(threads)

    loop = Watched("spread watched", {"out": "long long*"}, "\nout[from] = count;\n")
    out = torch.zeros(1000, dtype=torch.int64)
    with sharing(3):
        with sharing(2):
            loop(1000, out)
        loop(1000, out)
    loop(1000, out)
    assert seen == [2, 3, torch.get_num_threads()]
    assert int(out.sum()) == 1000 and int((out > 0).sum()) == 15


def test_hashes_and_kinds_of_rows(by_torch: Any) -> None:
    g = seeded()
    leaves = [
        torch.randint(0, 3, (ROWS, 7, 7, 3), generator=g).to(torch.uint8),
        torch.randint(-9, 9, (ROWS,), generator=g),
        torch.randn(ROWS, 3, generator=g),
        torch.zeros(ROWS, 2) * -1,
        torch.zeros(ROWS, 0),
        torch.rand(ROWS, 5, generator=g) < 0.5,
        torch.randint(0, 9, (4, ROWS), generator=g).to(torch.int32).t(),
        torch.randn(ROWS, 2, generator=g).double(),
    ]
    compiled, other = by_torch(lambda: hash_rows(leaves))
    assert torch.equal(compiled, other) and len(compiled.unique()) == ROWS
    for some in ([leaves[3]], [leaves[4]], leaves[2:4]):
        assert torch.equal(*by_torch(lambda some=some: hash_rows(some)))
    few = torch.randint(0, 5, (ROWS, 2), generator=g)
    (first, of), (same, also) = by_torch(lambda: distinct([few]))
    assert torch.equal(first, same) and torch.equal(of, also)
    assert len(first) == 25 and torch.equal(few[first][of], few) and (first.diff() > 0).all()


def test_one_table_by_both_loops() -> None:
    """Batches of all sizes, so that compiled and torch's additions meet in one table, which grows in mid-batch."""
    g, table, seen = seeded(3), CountTable(1 << 4), Counter[int]()
    for size in (50, 900, 10, 300, 2000, 40):
        keys = torch.randint(-800, 800, (size,), generator=g)
        nobody = torch.zeros_like(keys)
        asked = torch.randint(-900, 900, (400,), generator=g)
        assert table.get(asked).tolist() == [seen[key or 1] for key in asked.tolist()]
        for key, count in zip(keys.tolist(), table.add(keys, nobody, nobody).tolist()):
            seen[key or 1] += 1
            assert count == seen[key or 1]
        assert table.used == len(seen) and 2 * table.used <= table.size


def test_a_table_that_grows_in_mid_batch_keeps_the_batch_and_drops_what_is_over() -> None:
    table = CountTable(1 << 8)
    lanes = torch.zeros(1000, dtype=torch.int64)
    old, new = torch.arange(1, 101), torch.arange(1001, 2001)
    table.add(old, lanes[:100], lanes[:100])
    table.forget(torch.tensor([1]))  # that was epoch 0; the batch is of one that begins in it
    assert (table.add(new, lanes, lanes + 2) == 1).all() and (table.add(new, lanes, lanes + 2) == 2).all()
    assert table.state()["keys"].tolist() == new.tolist() and (table.state()["counts"] == 2).all()
    assert set(table.state()["epochs"].tolist()) == {2}


@pytest.mark.parametrize("sizes", [(128, 64, 1), (48, 7, 2), (20, 16, 3)])
def test_networks(by_torch: Any, sizes: tuple[int, int, int]) -> None:
    hidden, features, layers = sizes
    white = Whitening(SPACE)
    net, obs = encoder(white.parts, hidden, features, seeded(), layers), batch()
    white.learn(obs)
    for p in net.parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p, generator=seeded(5))
    with torch.no_grad():
        compiled, other = by_torch(lambda: net(white(obs)))
        assert compiled.shape == (ROWS, features) and torch.allclose(compiled, other, atol=1e-4, rtol=1e-4)
        for threads in (1, 2, 5):
            with sharing(threads):
                assert torch.equal(net(white(obs)), compiled)
        # Both trees, one below the other, each kind of row once.
        again = batch(ROWS, 1)
        two = white.of_distinct(net, obs, again)
        assert torch.allclose(two, torch.cat([compiled, net(white(again))]), atol=1e-5)
        assert torch.allclose(white.of_distinct(net, {**obs, "mission": obs["mission"] * 0}), compiled, atol=1e-5)


def test_layers_and_ensembles(by_torch: Any) -> None:
    x = torch.randn(ROWS, 39, generator=seeded(2))
    for net in (mlp([39, 128, 33], seeded()), mlp([39, 8], seeded()), Ensemble(3, 39, 20, 17, seeded())):
        for p in net.parameters():
            torch.nn.init.normal_(p, generator=seeded(5))
        ask = partial(variance, net) if isinstance(net, Ensemble) else net
        with torch.no_grad():
            compiled, other = by_torch(lambda ask=ask: ask(x))
        assert compiled.shape == other.shape and torch.allclose(compiled, other, rtol=1e-4, atol=1e-3)
    many = torch.randn(4, ROWS, 39, generator=seeded())
    assert mlp([39, 8], seeded())(many).shape == (4, ROWS, 8)


@pytest.mark.parametrize("sizes", [(128, 64, 1), (48, 7, 2), (20, 16, 3)])
def test_the_gradients_of_networks(by_torch: Any, sizes: tuple[int, int, int]) -> None:
    hidden, features, layers = sizes
    white = Whitening(SPACE)
    net, obs = encoder(white.parts, hidden, features, seeded(), layers), batch()
    head = mlp([features, 24, 5], seeded(1))
    head.once = True
    for p in (*net.parameters(), *head.parameters()):
        if p.dim() == 1:
            torch.nn.init.normal_(p, generator=seeded(5))
    weight = torch.randn(ROWS, 5, generator=seeded(2))
    learned = [*net.parameters(), *head.parameters()]

    def gradients() -> tuple[Tensor, ...]:
        out = head(net(white(obs)))
        return torch.autograd.grad((out.square() * weight).sum(), learned)

    compiled, other = by_torch(gradients)
    assert len(compiled) == len(learned)
    for p, a, b in zip(learned, compiled, other):
        assert a.shape == p.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
    for threads in (1, 2, 5):
        with sharing(threads):
            assert all(torch.equal(a, b) for a, b in zip(gradients(), compiled))


def test_a_gradient_of_a_gradient_is_taken_by_torch() -> None:
    net, x = mlp([4, 8, 1], seeded()), torch.randn(ROWS, 4, generator=seeded(), requires_grad=True)
    (by_x,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    assert by_x.square().sum().requires_grad


def test_pictures_stay_with_torch() -> None:
    space = gym.spaces.Dict({"camera": Pixels((9, 12, 3)), "grid": Symbols((5, 5, 3), (11, 6, 4))})
    white = Whitening(space)
    net = encoder(white.parts, 16, 4, seeded())
    obs = {"camera": torch.randint(0, 256, (300, 9, 12, 3)).to(torch.uint8), "grid": batch(300)["grid"]}
    with torch.no_grad():
        assert torch.allclose(net(white(obs))[:9], net(white({k: v[:9] for k, v in obs.items()})), atol=1e-5)


@pytest.mark.parametrize("width", [16, 128, 20])
def test_sums_of_symbols_and_their_gradients(by_torch: Any, width: int) -> None:
    net, grid = SymbolSum(SPACE["grid"], width, seeded()), batch()["grid"]  # type: ignore[arg-type]
    weight = torch.randn(ROWS, width, generator=seeded(1))

    def gradients() -> tuple[Tensor, ...]:
        out = net(grid)
        return out.detach(), *torch.autograd.grad((out.square() * weight).sum(), net.table)

    compiled, other = by_torch(gradients)
    for a, b in zip(compiled, other):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
    assert (compiled[1][0] == 0).all()
    with sharing(3):
        assert all(torch.equal(a, b) for a, b in zip(gradients(), compiled))


def plane(lanes: int, steps: int, seed: int = 0) -> tuple[World, Stretch]:
    """Walks on a plane with episodes that begin, and rows that are not valid."""
    g = seeded(seed)
    place = torch.randint(-2, 3, (steps + 1, lanes, 3), generator=g).float()
    start = torch.rand(steps, lanes, generator=g) < 0.05
    start[0] = True
    no = torch.zeros_like(start)
    x = Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(start.shape), terminated=no, start=start,
        valid=torch.rand(steps, lanes, generator=g) < 0.9,
    )  # fmt: skip
    return World(gym.spaces.Box(-5, 5, (3,), np.float32), gym.spaces.Discrete(2), lanes=lanes, seed=2), x


@pytest.mark.parametrize("threads", [1, 3])
def test_ellipses_are_those_of_torch(threads: int) -> None:
    world, x = plane(70, 30)
    one, other = (E3B(normalise=False, features=5) for _ in range(2))
    seats = RolloutSeat(one, world), RolloutSeat(other, world)
    other._walk = other._walk_torch  # type: ignore[method-assign]
    with sharing(threads):
        for rows in (slice(0, 12), slice(12, 30)):
            paid = [seat(x[rows], 0)[0] for seat in seats]
            assert torch.allclose(*paid, rtol=1e-4, atol=1e-5)
    assert torch.allclose(one.ellipse, other.ellipse, atol=1e-4)


@pytest.mark.parametrize("room", [7, 100])
@pytest.mark.parametrize("cuts", [[], [5, 6, 90], [70]])
def test_neighbours_are_those_of_torch(room: int, cuts: list[int]) -> None:
    """Over more steps than are looked at together, and in a lane where an episode is joined in the middle."""
    world, x = plane(40, 150)
    x.start[:, 3] = False
    terms = [PseudoCounts(k=4, capacity=room, features=3) for _ in range(2)]
    for term in terms:
        term.bind(world)
    bounds = [0, *cuts, 150]
    for a, b in zip(bounds, bounds[1:]):
        part = x[a:b]
        with torch.no_grad(), sharing(2):
            near = terms[0].nearest(part)
            assert terms[1].dynamics is not None
            other = terms[1]._nearest_torch(part.start & part.valid, part.valid, terms[1].dynamics.along(part))
        near, other = near.sort(-1).values, other.sort(-1).values
        assert torch.equal(near.isinf(), other.isinf())
        assert torch.allclose(near[near.isfinite()], other[other.isfinite()], rtol=1e-4, atol=1e-5)
        assert torch.equal(terms[0].size, terms[1].size)
        kept = torch.arange(room) < terms[0].size[:, None]
        assert torch.allclose(terms[0].bank[kept], terms[1].bank[kept])


def test_a_rollout_that_is_lent_is_not_copied() -> None:
    world, x = plane(4, 6)
    for lent in (True, False):
        seat = RolloutSeat(PseudoCounts(features=3), world)
        seat(x, 0, lent=lent)
        assert seat.source is not None
        assert (seat.source.recent.reward is x.reward) is lent


@pytest.mark.parametrize("reward", ["task + 0.1*ngu + 0.1*noveld", "task + 0.1*e3b + 0.1*icm + 0.1*count"])
def test_the_number_of_threads_changes_no_bit_of_a_run(reward: str) -> None:
    """A learner's threads share the bonuses' loops: rewards and what the terms have learned are the same."""
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=320, device="cpu")
            model = PPO("MlpPolicy", envs, reward=reward, seed=0, n_steps=8)
            model.learn(3 * 8 * 320)
            assert model.seat is not None
            runs.append({"policy": model.policy.state_dict(), "seat": model.seat.state()})
    finally:
        torch.set_num_threads(before)
    one, other = (tree_leaves(as_dicts(run)) for run in runs)
    assert len(one) == len(other) > 50
    for a, b in zip(one, other):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def as_dicts(tree: Any) -> Any:
    """Lists as dicts, which trees know."""
    if isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    return {name: as_dicts(part) for name, part in tree.items()} if isinstance(tree, dict) else tree
