"""Recorded episodes are whole and true."""

from pathlib import Path

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.shaping.language.search import Recorded, record

from . import made

ID = "cairn/MiniGrid-Empty-5x5-v0"


@pytest.fixture(scope="module")
def seen() -> Recorded:
    return record(gym.make_vec(ID, num_envs=16, device="cpu"), seed=3)


def test_each_episode_is_whole(seen: Recorded) -> None:
    assert len(seen) == 16 and seen.knows_success
    assert bool(seen.success.any()) and not bool(seen.success.all())
    for e in range(16):
        rows = seen.rows(e)
        assert rows.t.tolist() == list(range(len(rows.t)))
        assert rows.start.tolist() == [True] + [False] * (len(rows.t) - 1)
        assert rows.done.tolist() == [False] * (len(rows.t) - 1) + [True]
        assert bool(rows.terminated[-1]) == bool(seen.success[e])
        assert float(rows.reward.sum()) == pytest.approx(float(seen.returns[e]))
        # One step's end is the next one's beginning, and the last is the episode's own and not the next one's first.
        assert torch.equal(rows.next_facts["position"][:-1], rows.facts["position"][1:])
        assert torch.equal(rows.next_obs["image"][:-1], rows.obs["image"][1:])
        if seen.success[e]:
            assert rows.next_facts["position"][-1].tolist() == [3, 3]
            assert not torch.equal(rows.next_obs["image"][-1], rows.obs["image"][0])


def test_the_same_seed_gives_the_same_and_torchs_stream_is_left_alone(seen: Recorded) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = record(gym.make_vec(ID, num_envs=16, device="cpu"), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.x.action, seen.x.action) and torch.equal(again.success, seen.success)


def test_fewer_episodes_are_the_first_lanes(seen: Recorded) -> None:
    few = record(gym.make_vec(ID, num_envs=16, device="cpu"), episodes=3, seed=3)
    assert len(few) == 3
    assert all(torch.equal(few.rows(e).action, seen.rows(e).action) for e in range(3))


def test_without_success_the_tasks_reward_counts() -> None:
    seen = record(gym.make_vec("cairn/HalfCheetah-v5", num_envs=2, device="cpu"), seed=0)
    assert not seen.knows_success and torch.equal(seen.score, seen.returns)
    assert len(seen.rows(0).t) == 1000 and bool(seen.rows(0).truncated[-1])


def test_it_goes_through_a_file(seen: Recorded, tmp_path: Path) -> None:
    seen.save(tmp_path / "deep" / "episodes.safetensors")
    again = Recorded.load(tmp_path / "deep" / "episodes.safetensors")
    assert torch.equal(again.x.next_obs["image"], seen.x.next_obs["image"])
    assert torch.equal(again.x.next_facts["carrying"], seen.x.next_facts["carrying"])
    assert torch.equal(again.returns, seen.returns) and again.knows_success


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.safetensors"
    with pytest.raises(ValueError, match="no recorded episodes|no safetensors"):
        Recorded.load(path)
    path.write_bytes(b"junk" * 10)
    with pytest.raises(ValueError, match="safetensors"):
        Recorded.load(path)


def test_joining_and_picking_number_episodes_anew() -> None:
    one, other = made.recorded([(0, 1, 2, 3)]), made.recorded([(0, 0), (2, 3)])
    both = Recorded.cat([one, other])
    assert both.x.episode.tolist() == [0, 0, 0, 1, 2] and both.success.tolist() == [True, False, True]
    assert one.x.episode.tolist() == [0, 0, 0] and other.x.episode.tolist() == [0, 1]  # as they were
    last = both.pick(torch.tensor([2, 0]))
    assert last.x.episode.tolist() == [0, 1, 1, 1] and last.x.obs[:, 0].tolist() == [2.0, 0.0, 1.0, 2.0]
    assert both.total(both.x.reward).tolist() == [1.0, 0.0, 1.0]
