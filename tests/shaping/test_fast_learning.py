"""What bonuses learn in compiled loops is what torch learns, whatever the number of threads; so are their values."""

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.envs.native import sharing
from cairn.envs.spaces import Symbols
from cairn.shaping import (
    E3B,
    ICM,
    RE3,
    RND,
    Disagreement,
    EpisodicCount,
    Impact,
    NoveltyGain,
    PseudoCounts,
    RolloutSeat,
    SelfScaled,
    Stretch,
    Task,
    World,
    fast_neighbours,
)

LANES, STEPS = 180, 6
SPACES: dict[str, gym.Space[Any]] = {
    "both": gym.spaces.Dict(
        {"grid": Symbols((5, 5, 3), (11, 6, 4)), "speed": gym.spaces.Box(-1, 1, (2, 2), np.float32)}
    ),
    "grid": Symbols((5, 5, 3), (11, 6, 4)),
    "speed": gym.spaces.Box(-1, 1, (2, 2), np.float32),
}
ACTIONS = {
    "one": gym.spaces.Discrete(5, start=2),
    "several": gym.spaces.MultiDiscrete([3, 4]),
    "numbers": gym.spaces.Box(-1, 1, (3,), np.float32),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def world(space: str, actions: str) -> World:
    return World(SPACES[space], ACTIONS[actions], lanes=LANES, seed=3)


def lived(space: str, actions: str, seed: int = 0) -> Stretch:
    """Random experience in which some states come again, and some rows are not valid."""
    g, rows = seeded(seed), (STEPS, LANES)
    grids = torch.randint(0, 4, (40, 5, 5, 3), generator=g).to(torch.uint8)

    def obs() -> Any:
        which = torch.randint(0, 40, rows, generator=g)
        tree = {"grid": grids[which], "speed": (which % 3)[..., None, None].expand(*rows, 2, 2).float()}
        return tree if space == "both" else tree[space]

    action = {
        "one": torch.randint(2, 7, rows, generator=g),
        "several": torch.randint(0, 3, (*rows, 2), generator=g),
        "numbers": torch.randint(-1, 2, (*rows, 3), generator=g).float(),
    }[actions]
    ends, valid = torch.rand(rows, generator=g) < 0.1, torch.rand(rows, generator=g) < 0.9
    start = torch.cat([torch.ones_like(ends[:1]), ends[:-1]])
    return Stretch.make(
        obs=obs(), next_obs=obs(), action=action, reward=torch.randn(rows, generator=g), terminated=ends, start=start,
        valid=valid,
    )  # fmt: skip


def learner(term: Any) -> Any:
    """What holds the networks of a term."""
    return getattr(term, "dynamics", term)


def learned(term: Any) -> dict[str, Tensor]:
    """All parameters of a term and their moments."""
    holder = learner(term)
    modules = [getattr(holder, name, None) for name in ("predictor", "ensemble", "inverse", "forecast")]
    modules += [holder.embed] if holder is not term else []
    parameters = [p for module in modules if module is not None for p in module.parameters()]
    out = {f"{k} value": p.detach() for k, p in enumerate(parameters)}
    for k, p in enumerate(parameters):
        out.update({f"{k} {name}": value for name, value in holder.optimiser.state[p].items()})
    return out


LEARNERS = {
    "icm": lambda: ICM(share=0.6),
    "icm, odd sizes": lambda: ICM(share=0.6, features=7, hidden=48),
    "e3b": lambda: E3B(share=0.6),
    "rnd": lambda: RND(share=0.6),
    "rnd, odd sizes": lambda: RND(share=0.6, features=20, hidden=32),
    "disagreement": lambda: Disagreement(share=0.6),
    "disagreement, odd sizes": lambda: Disagreement(members=3, share=0.6, features=9, hidden=20),
}


def taught(name: str, space: str, actions: str, updates: int = 3) -> tuple[Any, list[dict[str, Tensor]]]:
    term: Any = LEARNERS[name]()
    term.bind(world(space, actions))
    assert learner(term).training is not None
    logs = []
    for update in range(updates):
        x = lived(space, actions, update)
        logs.append(term.dynamics.learn(x, term.share, update) if name == "e3b" else term.learn(x))
        term.updates += 1
    return term, logs


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize(("space", "actions"), [("both", "one"), ("grid", "several"), ("speed", "numbers")])
def test_networks_learn_as_with_torch(by_torch: Any, name: str, space: str, actions: str) -> None:
    (one, logs), (other, same) = by_torch(lambda: taught(name, space, actions))
    for a, b in zip(logs, same):
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[key], b[key], rtol=1e-3) for key in a)
    values, others = learned(one), learned(other)
    assert values.keys() == others.keys() and len(values) > 10
    rate = learner(one).optimiser.param_groups[0]["lr"]
    for key, a in values.items():
        b = others[key]
        if key.endswith("step"):
            assert torch.equal(a, b) and float(a) == 6  # batches of at most 512 of about 580 rows, three times
            continue
        # Where a gradient is nearly 0, Adam follows its sign, which may be rounding.
        apart = (a - b).abs()
        assert float(apart.max()) < (2.5 * rate if "value" in key else 1e-3 * float(b.abs().max()) + 1e-9), key
        assert float(apart.mean()) < 1e-3 * (rate if "value" in key else float(b.abs().mean()) + 1e-9), key


@pytest.mark.parametrize("name", ["icm", "rnd", "disagreement"])
def test_threads_a_copy_and_what_was_saved_learn_the_same_bits(name: str) -> None:
    one, _ = taught(name, "both", "one", 1)
    copy, (again, _) = deepcopy(one), taught(name, "both", "one", 0)
    again.load(one.state())
    before = {key: value.clone() for key, value in learned(one).items()}
    x = lived("both", "one", 1)
    with sharing(3):
        copy.learn(x)
    assert all(torch.equal(value, learned(one)[key]) for key, value in before.items())
    for term in (one, again):
        term.learn(x)
    after = learned(one)
    assert not torch.equal(after["0 value"], before["0 value"])
    for term in (copy, again):
        assert all(torch.equal(value, after[key]) for key, value in learned(term).items())


def test_what_fits_no_register_stays_with_torch() -> None:
    for term in (ICM(hidden=20), RND(hidden=20), Disagreement(hidden=300)):
        term.bind(world("both", "one"))
        assert learner(term).training is None
        term.learn(lived("both", "one"))
        assert learned(term)["0 step"] > 0


@pytest.mark.parametrize("kind", [ICM, Impact, RND, NoveltyGain, Disagreement])
@pytest.mark.parametrize("actions", list(ACTIONS))
def test_bonuses_of_rows_that_come_again(by_torch: Any, kind: Any, actions: str) -> None:
    term = kind()
    term.bind(world("both", actions))
    x = lived("both", actions).flat()
    with torch.no_grad():
        compiled, other = by_torch(lambda: term.raw(x))
        assert compiled.shape == x.rows and torch.allclose(compiled, other, rtol=1e-4, atol=1e-4)
        alone = torch.cat([term.raw(x[k : k + 1]) for k in range(20)])
        assert torch.allclose(compiled[:20], alone, rtol=1e-4, atol=1e-3)
        with sharing(3):
            assert torch.equal(term.raw(x), compiled)
    assert len(compiled.unique()) > 20


@pytest.mark.parametrize(("k", "room"), [(10, 100), (16, 9), (20, 100)])
def test_more_neighbours_than_a_register_holds(k: int, room: int) -> None:
    term = PseudoCounts(k=k, capacity=room, features=3)
    term.bind(World(SPACES["speed"], ACTIONS["one"], lanes=LANES, seed=3))
    g = seeded(0)
    steps, begins = 150, torch.rand(150, LANES, generator=g) < 0.02
    valid, states = torch.rand(150, LANES, generator=g) < 0.9, torch.randn(2, steps, LANES, 3, generator=g)
    states = (states * valid[None, ..., None]).round(decimals=1)
    begins &= valid
    other = deepcopy(term)
    for a, b in ((0, 70), (70, 150)):
        out = torch.empty(b - a, LANES, k)
        flags = begins[a:b].contiguous(), valid[a:b].contiguous()
        fast_neighbours.search(3)(
            LANES, term.bank, term.size, states[:, a:b].contiguous(), *flags, out, b - a, LANES, room, k
        )
        want = other._nearest_torch(begins[a:b], valid[a:b], states[:, a:b])
        near, want = out.sort(-1).values, want.sort(-1).values
        assert torch.equal(near.isinf(), want.isinf())
        assert torch.allclose(near[near.isfinite()], want[want.isfinite()], rtol=1e-4, atol=1e-5)
        numbers = torch.tensor([0.7, term.cluster, term.epsilon, term.c, 2.0])
        term.most, term.spread = 2.0, torch.tensor(0.7).double()
        paid, seen = fast_neighbours.bonus(out, numbers)
        assert torch.allclose(paid, term.bonus(out), rtol=1e-4) and 0 < int((paid == 0).sum()) < paid.numel()
        found = out[out.isfinite()].double()
        assert int(seen[1]) == len(found) and torch.allclose(seen[0], found.sum())


@pytest.mark.parametrize(("k", "known"), [(1, 16), (3, 1000), (16, 17), (5, 5)])
def test_the_kth_neighbour(k: int, known: int) -> None:
    """Rows that come again count as often as they come."""
    g = seeded(0)
    rows, sample = torch.randn(301, 7, generator=g).round(), torch.randn(known, 7, generator=g).round()
    want = (rows[:, None] - sample).square().sum(2).sqrt().sort(1).values[:, k - 1]
    got = fast_neighbours.kth(rows, sample, k)
    assert torch.allclose(got, want, atol=1e-5)
    with sharing(3):
        assert torch.equal(fast_neighbours.kth(rows, sample, k), got)


def test_re3_is_that_of_torch(by_torch: Any) -> None:
    term = RE3(capacity=300)
    term.bind(world("both", "one"))
    term.learn(lived("both", "one"))
    x = lived("both", "one", 1).flat()
    with torch.no_grad():
        compiled, other = by_torch(lambda: term.raw(x))
    assert torch.allclose(compiled, other, atol=1e-5) and len(compiled.unique()) > 20


def test_visits_and_sums_of_episodes(by_torch: Any) -> None:
    """In a table that grows on the way, with lanes that are not valid and more than one update."""

    def rows() -> list[Tensor]:
        term = SelfScaled(EpisodicCount(), window=50)
        seat = RolloutSeat(Task() + term, World(SPACES["grid"], ACTIONS["one"], lanes=LANES, seed=3))
        out: list[Tensor] = []
        for update in range(8):
            x = lived("grid", "one", update)
            x.start[0] &= torch.rand(LANES, generator=seeded(update)) < 0.5
            paid, _ = seat(x, 0)
            logs = seat.update(0)
            count = term.inputs[0]
            assert isinstance(count, EpisodicCount)
            out += [paid, *(logs[name].float() for name in sorted(logs)), term.open.float(), count.epoch.float()]
            out += [value.float() for value in count.table.state().values()]
        return out

    compiled, other = by_torch(rows)
    assert len(compiled) == len(other)
    for a, b in zip(compiled, other):
        assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    assert compiled[-8 * 2].std() > 0


def test_a_table_keeps_its_spare_slots() -> None:
    """Once it has its size, room is made without asking for memory; counts begin at nothing there."""
    term = EpisodicCount()
    term.bind(World(SPACES["speed"], ACTIONS["one"], lanes=512, seed=3))
    used = set()
    for step in range(60):
        obs = torch.rand(2, 512, 2, 2, generator=seeded(step))
        yes = torch.ones(1, 512, dtype=torch.bool)
        x = Stretch.make(obs=obs[:1], next_obs=obs[1:], reward=torch.zeros(1, 512), terminated=yes, start=yes)
        assert (term.visits(x) == 1).all()
        if step >= 20:
            used.add(term.table.slots.data_ptr())
    assert term.table.size == 1 << 13 and len(used) == 2
