from collections import Counter

import gymnasium as gym
import pytest
import torch

from cairn.shaping import Count, EpisodicCount, RolloutSeat, Stretch, Task, World
from cairn.shaping.hashing import hash_rows, mix
from cairn.shaping.laws import walk, with_junk
from cairn.shaping.stretch import FactError
from cairn.shaping.table import CountTable


def reference(x: Stretch) -> torch.Tensor:
    """Visits of the next position in its episode, one row at a time."""
    out = torch.zeros(x.rows, dtype=torch.int64)
    for lane in range(x.rows[1]):
        seen: Counter[tuple[int, ...]] = Counter()
        for t in range(x.rows[0]):
            if not x.valid[t, lane]:
                continue
            if x.start[t, lane]:
                seen = Counter([tuple(x.facts["position"][t, lane].tolist())])
            place = tuple(x.next_facts["position"][t, lane].tolist())
            seen[place] += 1
            out[t, lane] = seen[place]
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cuts", [[], [7], list(range(1, 24))])
def test_visits_equal_a_loop(seed: int, cuts: list[int]) -> None:
    world, x = walk(seed)
    for stretch in (x, with_junk(x, seed)[0]):
        term = EpisodicCount(key="position")
        term.bind(world)
        bounds = [0, *cuts, stretch.rows[0]]
        visits = torch.cat([term.visits(stretch[a:b]) for a, b in zip(bounds, bounds[1:])])
        assert torch.equal(visits, reference(stretch))


def test_modes_and_the_first_state() -> None:
    # Positions 0 -> 1 -> 0 -> 1: the start counts as a visit of 0.
    where = torch.tensor([0, 1, 0, 1])[:, None]
    flags = torch.zeros(3, 1, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    x = Stretch.make(
        obs=where[:-1].float(), next_obs=where[1:].float(), reward=torch.zeros(3, 1), terminated=flags, start=start
    )
    world = World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2))
    first, root = EpisodicCount(mode="first"), EpisodicCount()
    assert RolloutSeat(first, world)(x, 0)[0].flatten().tolist() == [1.0, 0.0, 0.0]
    assert torch.allclose(RolloutSeat(root, world)(x, 0)[0].flatten(), torch.tensor([1.0, 2**-0.5, 2**-0.5]))


def test_keys() -> None:
    world, x = walk(0)

    def visits(key: object) -> torch.Tensor:
        term = EpisodicCount(key=key)  # type: ignore[arg-type]
        term.bind(world)
        return term.visits(x)

    both = visits(("position", "carrying"))
    # The grid is drawn from both facts, so that the observation's hash tells the same states apart.
    assert torch.equal(both, visits(None))
    assert torch.equal(visits("position"), visits(lambda obs: obs["image"][..., 0].flatten(1).argmax(1)))
    assert (visits("position") >= both).all() and not torch.equal(visits("position"), both)


def test_wrong_keys_are_explained() -> None:
    world, x = walk(0)
    with pytest.raises(FactError, match="did you mean 'position'"):
        RolloutSeat(EpisodicCount(key="postion"), world)(x, 0)
    with pytest.raises(ValueError, match="function of a batch"):
        RolloutSeat(EpisodicCount(key=lambda obs: torch.zeros(3)), world)(x, 0)
    with pytest.raises(TypeError, match="names of facts"):
        EpisodicCount(key=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'sqrt' or 'first'"):
        EpisodicCount(mode="log")


def test_memory_of_what_is_over_is_given_back() -> None:
    """Ten thousand distinct states in short episodes do not make the table grow with them."""
    term = EpisodicCount()
    term.bind(World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), lanes=8))
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        obs = torch.rand(17, 8, generator=generator)
        start = torch.zeros(16, 8, dtype=torch.bool)
        start[0] = True
        done = start.flip(0)
        x = Stretch.make(obs=obs[:-1], next_obs=obs[1:], reward=torch.zeros(16, 8), terminated=done, start=start)
        assert (term.visits(x) == 1).all()
    assert term.table.size == 1 << 12
    state = term.state()
    assert len(state["table"]["keys"]) == 17 * 8


def test_state_does_not_depend_on_the_tables_layout() -> None:
    keys = mix(torch.arange(1, 3001))
    lanes = torch.zeros_like(keys)
    one, other = CountTable(), CountTable(1 << 6)
    one.add(keys, lanes, lanes)
    for chunk in keys.flip(0).split(7):
        other.add(chunk, lanes[: len(chunk)], lanes[: len(chunk)])
    assert one.size != 1 << 12 and all(torch.equal(one.state()[k], other.state()[k]) for k in one.state())
    resumed = CountTable()
    resumed.load(one.state())
    assert (resumed.add(keys, lanes, lanes) == 2).all()


def test_table_counts_as_a_counter_does() -> None:
    generator = torch.Generator().manual_seed(3)
    table, seen = CountTable(1 << 4), Counter[int]()
    for _ in range(30):
        keys = torch.randint(-60, 60, (50,), generator=generator)
        counts = table.add(keys, torch.zeros_like(keys), torch.zeros_like(keys)).tolist()
        for key, count in zip(keys.tolist(), counts):
            key = key or 1  # 0 marks an empty slot, and is taken for 1
            seen[key] += 1
            assert count == seen[key]


def test_hashes() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 11, (5000, 7, 7, 3), dtype=torch.uint8, generator=generator)
    hashes = hash_rows([image])
    assert len(hashes.unique()) == 5000
    assert torch.equal(hashes, torch.cat([hash_rows([part]) for part in image.split(77)]))
    # One changed byte, in any place, changes about half of the bits.
    for place in range(147):
        other = image[:1].clone().flatten()
        other[place] ^= 1 << (place % 8)
        bits = bin(int(hash_rows([other.reshape(1, 7, 7, 3)]) ^ hashes[0]) & (2**64 - 1)).count("1")
        assert 12 < bits < 52
    # Two bytes that are the top ones of their words, where a plain multilinear hash is weak.
    tops = torch.zeros(256 * 256, 16, dtype=torch.uint8)
    tops[:, 7], tops[:, 15] = torch.arange(65536) % 256, torch.arange(65536) // 256
    assert len(hash_rows([tops]).unique()) == 65536
    assert hash_rows([torch.tensor([[0.0]])]) == hash_rows([torch.tensor([[-0.0]])])
    assert hash_rows([torch.zeros(1, 3)]) != hash_rows([torch.zeros(1, 3), torch.ones(1, 1)])
    assert hash_rows([torch.tensor([True]), torch.tensor([2])]).shape == (1,)
    odd = torch.arange(17, dtype=torch.uint8)[1:].reshape(2, 8)  # does not begin at a word
    assert torch.equal(hash_rows([odd]), hash_rows([odd.clone()]))
    assert mix(torch.arange(4096)).unique().numel() == 4096


def test_lanes_of_one_time_do_not_see_each_other() -> None:
    flags = torch.zeros(1, 3, dtype=torch.bool)
    x = Stretch.make(
        obs=torch.zeros(1, 3), next_obs=torch.ones(1, 3), reward=torch.zeros(1, 3), terminated=flags, start=~flags
    )
    seat = RolloutSeat(
        Task() + EpisodicCount(mode="first"), World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), lanes=3)
    )
    assert seat(x, 0)[0].flatten().tolist() == [1.0, 1.0, 1.0]


def line(*where: float, lanes: int = 1) -> Stretch:
    """Steps along a line in every lane, one episode."""
    place = torch.tensor(where)[:, None].expand(-1, lanes)
    flags = torch.zeros(len(where) - 1, lanes, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(flags.shape), terminated=flags, start=start
    )


def test_global_counts_by_hand() -> None:
    """Two lanes from 0 to 1, to 2, to 1: of 0, 1 and 2 they have seen 2, 4 and 2."""
    seat = RolloutSeat(Count(), World(gym.spaces.Box(0, 9, ()), gym.spaces.Discrete(2), lanes=2))
    assert (seat(line(0, 1, 2, 1, lanes=2), 0)[0] == 1).all(), "nothing is counted before the first update"
    assert seat.update(0)["reward/count/states"] == 3
    paid = seat(line(1, 0, 1, 2, 7, lanes=2), 0)[0][..., 0]
    assert torch.allclose(paid[:, 0], torch.tensor([3.0, 5.0, 3.0, 1.0]).rsqrt()) and torch.equal(
        paid[:, 0], paid[:, 1]
    )
    assert torch.equal(seat(line(1, 0, lanes=2), 0)[0][..., 0], paid[:1]), "paying does not count"


def test_global_counts_equal_a_counter() -> None:
    world, _ = walk(0)
    term = Count("position")
    seat, seen = RolloutSeat(term, world), Counter[tuple[int, ...]]()
    term.table = CountTable(1 << 4)  # small, so that it must grow
    for seed in range(12):
        x = with_junk(walk(seed)[1], seed)[0]
        paid = seat(x, 0)[0][..., 0]
        rows = x.valid.nonzero().tolist()
        for t, lane in rows:
            n = seen[tuple(x.next_facts["position"][t, lane].tolist())]
            assert float(paid[t, lane]) == pytest.approx((n + 1) ** -0.5, rel=1e-6)
        seat.update(0)
        for t, lane in rows:
            seen[tuple(x.next_facts["position"][t, lane].tolist())] += 1
            if x.start[t, lane]:
                seen[tuple(x.facts["position"][t, lane].tolist())] += 1


def test_a_table_is_asked_without_being_changed() -> None:
    generator = torch.Generator().manual_seed(5)
    table, seen = CountTable(1 << 5), Counter[int]()
    for _ in range(40):
        keys = torch.randint(-900, 900, (70,), generator=generator)
        asked = torch.randint(-900, 900, (300,), generator=generator)
        before = table.state()
        assert table.get(asked).tolist() == [seen[key or 1] for key in asked.tolist()]
        assert all(torch.equal(table.state()[k], v) for k, v in before.items())
        table.add(keys, torch.zeros_like(keys), torch.zeros_like(keys))
        seen.update(key or 1 for key in keys.tolist())
