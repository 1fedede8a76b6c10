"""The shared stream in Python: a reference, its distribution, its face."""

import copy
import json

import numpy as np
import pytest

from cairn.envs.grid.stream import GAMMA, Stream, episode_key, lane_key, mix64


def test_splitmix64_reference():
    # The first outputs of SplitMix64 from state 1234567, as Rosetta Code and the reference C code give them.
    stream = Stream(1234567)
    assert [stream.bits() for _ in range(5)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_pinned_numbers():
    # Levels are named by their keys in papers and checkpoints: these must never change.
    assert lane_key(0, 0) == 0x2980F7175E0BF63E
    assert episode_key(0, 0, 0) == 0xC2030088B666E22F
    assert episode_key(1, 2, 3) == 0x12A9CF1065B975DA
    rng = Stream.of(1, 2, 3)
    assert [rng.integers(1000) for _ in range(6)] == [567, 608, 880, 340, 908, 384]


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 10, 25])
def test_uniform(n):
    rng = Stream.of(11, 2, n)
    counts = np.bincount([rng.below(n) for _ in range(6000)], minlength=n)
    chi2 = ((counts - 6000 / n) ** 2 / (6000 / n)).sum()
    assert chi2 < (n - 1) + 5 * np.sqrt(2 * (n - 1)) + 1e-9  # mean n - 1, variance 2 (n - 1)
    assert rng.counter == 6000


@pytest.mark.parametrize("which", ["seed", "lane", "episode"])
def test_first_draws_of_neighbouring_keys_are_uniform(which):
    keys = [{which: i} for i in range(6000)]
    draws = np.array([Stream.of(**{"seed": 0, **k}).below(8) for k in keys])
    pairs = np.bincount(draws[:-1] * 8 + draws[1:], minlength=64)
    expected = 5999 / 64
    assert ((pairs - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(126)


def test_keys_are_distinct():
    keys = {episode_key(s, lane, e) for s in range(30) for lane in range(30) for e in range(30)}
    assert len(keys) == 27_000


def test_rejection_makes_it_exact():
    # n just above 2**31: the draws below 2**32 mod n = 2**31 - 1 must be thrown away, so half of them are.
    n = 2**31 + 1
    rng = Stream.of(5)
    values = [rng.below(n) for _ in range(2000)]
    assert 3600 < rng.counter < 4400
    assert abs(np.mean(values) / n - 0.5) < 0.03
    # The rule itself, by hand, from the raw bits.
    raw, again = Stream.of(5), Stream.of(5)
    for _ in range(50):
        value = again.below(n)
        while True:
            product = (raw.bits() >> 32) * n
            if product % 2**32 >= 2**32 % n:
                break
        assert value == product >> 32
    assert again.counter == raw.counter


def test_wide_ranges():
    rng = Stream.of(1)
    values = [rng.integers(-(2**63), 2**63) for _ in range(500)]
    assert min(values) < -(2**61) and max(values) > 2**61
    with pytest.raises(ValueError, match="wider"):
        rng.integers(-(2**64), 2)


@pytest.mark.parametrize("args", [(0,), (5, 5), (5, 4)])
def test_empty_range(args):
    with pytest.raises(ValueError, match="low >= high"):
        Stream.of(0).integers(*args)


def test_one_answer_still_takes_a_draw():
    rng = Stream.of(0)
    assert rng.integers(3, 4) == 3 and rng.counter == 1


def test_shuffle_is_fisher_yates_from_the_end():
    rng, copycat = Stream.of(9), Stream.of(9)
    items = list("abcdefg")
    expected = items.copy()
    for i in range(6, 0, -1):
        j = copycat.below(i + 1)
        expected[i], expected[j] = expected[j], expected[i]
    rng.shuffle(items)
    assert items == expected
    array = np.arange(14).reshape(7, 2)
    Stream.of(9).shuffle(array)
    assert ["abcdefg"[a // 2] for a in array[:, 0]] == expected


def test_permutations_are_uniform():
    rng = Stream.of(4)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(2400):
        order = tuple(int(v) for v in rng.permutation(4))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((c - 100) ** 2 / 100 for c in counts.values()) < 23 + 5 * np.sqrt(46)


def test_choice():
    rng, copycat = Stream.of(2), Stream.of(2)
    assert rng.choice(range(10, 15)) == 10 + copycat.below(5)
    assert sorted(rng.choice(5, size=5, replace=False)) == [0, 1, 2, 3, 4]
    picks = [rng.choice(3, p=[0.5, 0.0, 0.5]) for _ in range(400)]
    assert set(picks) == {0, 2} and 150 < picks.count(0) < 250
    with pytest.raises(ValueError, match="empty"):
        rng.choice([])
    with pytest.raises(ValueError, match="without replacement"):
        rng.choice(3, size=4, replace=False)
    with pytest.raises(ValueError, match="sum to"):
        rng.choice(3, p=[0.5, 0.5, 0.5])


def test_floats():
    rng = Stream.of(3)
    values = rng.random(4000)
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.03
    assert ((values * 2**53) % 1 == 0).all()
    assert 2 <= rng.uniform(2, 5) < 5 and rng.uniform(0, 1, size=(2, 3)).shape == (2, 3)


def test_state_copies_and_refuses():
    rng = Stream.of(6)
    rng.integers(0, 10, size=3)
    twin = copy.deepcopy(rng)
    state = json.loads(json.dumps(rng.bit_generator.state))
    expected = [rng.below(100) for _ in range(4)]
    assert [twin.below(100) for _ in range(4)] == expected
    other = Stream(0)
    other.bit_generator.state = state
    assert [other.below(100) for _ in range(4)] == expected
    with pytest.raises(ValueError, match="not a state"):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state
    with pytest.raises(ValueError, match="whole numbers"):
        rng.bit_generator.state = {"bit_generator": "cairn.Stream", "key": -1, "counter": 0}


def test_mix64_is_one_to_one_on_a_sample():
    assert len({mix64(i * GAMMA % 2**64) for i in range(10_000)}) == 10_000
