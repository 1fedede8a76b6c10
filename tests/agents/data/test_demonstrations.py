"""Demonstrations by hand: what rows hold, choosing episodes, bad input, files."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.agents.data import Demonstrations, from_episodes, from_imitation
from cairn.runs import CheckpointError

BOX, TWO = spaces.Box(-10.0, 10.0, (1,), np.float32), spaces.Discrete(2, start=3)


def make(sizes=(2, 3, 1), rewards=None, **more):
    """Episode e has the states 10 e / 10, (10 e + 1) / 10, ... and the actions 3, 4, 3, ..."""
    steps = sum(sizes)
    states = torch.cat([torch.arange(n + 1.0) / 10 + e for e, n in enumerate(sizes)])[:, None]
    ends = torch.zeros(2, steps, dtype=torch.bool)
    last = torch.tensor(sizes).cumsum(0) - 1
    ends[0, last[:-1]], ends[1, last[-1]] = True, True
    parts = {
        "states": states,
        "action": torch.arange(steps) % 2 + 3,
        "reward": torch.tensor(rewards if rewards is not None else [1.0] * steps),
        "terminated": ends[0],
        "truncated": ends[1],
        "lengths": sizes,
    }
    return Demonstrations(BOX, TWO, **(parts | more))


def test_rows_by_hand():
    demos = make()
    assert (len(demos), demos.episodes, demos.returns.tolist()) == (6, 3, [2.0, 3.0, 1.0])
    x = demos.stretch()
    assert x.obs[:, 0].tolist() == pytest.approx([0, 0.1, 1.0, 1.1, 1.2, 2.0])
    assert x.next_obs[:, 0].tolist() == pytest.approx([0.1, 0.2, 1.1, 1.2, 1.3, 2.1])
    assert x.start.tolist() == [True, False, True, False, False, True]
    assert x.t.tolist() == [0, 1, 0, 1, 2, 0] and x.episode.tolist() == [0, 0, 1, 1, 1, 2]
    assert x.terminated.tolist() == [False, True, False, False, True, False]
    assert x.truncated.tolist() == [False] * 5 + [True]
    assert demos.first_states()[:, 0].tolist() == [0.0, 1.0, 2.0]
    picked = demos.rows(torch.tensor([4, 0]))
    assert picked.obs[:, 0].tolist() == pytest.approx([1.2, 0.0]) and picked.action.tolist() == [3, 3]


def test_sampling_draws_every_row_and_follows_its_generator():
    demos = make()
    draw = [demos.sample(200, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(draw[0].obs, draw[1].obs) and len(draw[0].obs.unique()) == 6


def test_selecting_keeps_whole_episodes():
    some = make().select([2, 0])
    assert some.states[:, 0].tolist() == pytest.approx([2.0, 2.1, 0.0, 0.1, 0.2])
    assert some.lengths.tolist() == [1, 2] and some.truncated.tolist() == [True, False, False]
    assert torch.equal(make().select(torch.tensor([False, True, False])).states, make().select([1]).states)


def test_quality_goes_by_return_then_by_length():
    demos = make((2, 3, 1, 2), rewards=[0, 1, 1, 1, 0, 5, 0.5, 0.5])  # returns 1, 2, 5, 1
    low, high = demos.split(2)
    assert low.returns.tolist() == [1.0, 1.0] and high.returns.tolist() == [2.0, 5.0]
    thirds = make((3, 1, 2), rewards=[1.0, 0, 0, 1.0, 0, 1.0]).split(3)
    assert [part.lengths.tolist() for part in thirds] == [[3], [2], [1]]
    with pytest.raises(ValueError, match="3 episodes cannot be split into 4"):
        make().split(4)


def test_take_draws_without_replacement():
    demos = make((1, 2, 3, 4, 5))
    taken = demos.take(4, seed=2)
    assert len(set(taken.lengths.tolist())) == 4 and torch.equal(demos.take(4, seed=2).states, taken.states)
    with pytest.raises(ValueError, match="6 episodes asked of 5"):
        demos.take(6)


def test_joining():
    both = Demonstrations.cat([make(), make((4,))])
    assert both.lengths.tolist() == [2, 3, 1, 4] and len(both) == 10
    other = Demonstrations(BOX, spaces.Discrete(7), torch.zeros(2, 1), torch.zeros(1, dtype=torch.int64), torch.ones(1),
                           torch.ones(1), torch.zeros(1), [1])  # fmt: skip
    with pytest.raises(ValueError, match="another environment"):
        Demonstrations.cat([make(), other])


def nan_state():
    states = make().states.clone()
    states[4] = float("nan")
    return states


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lengths": ()}, "no demonstrations"),
        ({"lengths": (2, 3)}, "at least 1 step"),
        ({"lengths": (2, 0, 4)}, "at least 1 step"),
        ({"lengths": (3, 2, 1)}, "row 1 ends an episode and is not the last"),
        ({"states": nan_state()}, "observation 0 of row 4 is NaN"),
        ({"reward": torch.tensor([0, 0, float("inf"), 0, 0, 0])}, "reward of row 2 is NaN or infinite"),
        ({"action": torch.tensor([3, 4, 3, 5, 3, 3])}, "actions: row 3 is 5, which is not in Discrete"),
        ({"action": torch.tensor([3, 4, 3, 2, 3, 3])}, "actions: row 3 is 2"),
        ({"states": make().states[:-1]}, "states has 8 rows, and .* need 9"),
        ({"states": torch.zeros(9, 2)}, "observations have the shape"),
        ({"states": torch.zeros(9, 1, dtype=torch.float64)}, "observations are torch.float64"),
        ({"terminated": torch.zeros(6)}, "neither terminated nor was truncated: it is cut"),
    ],
)
def test_bad_input_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        make(**more)


def test_files_give_back_what_was_saved(tmp_path):
    demos = make(about={"env": "here"})
    demos.save(tmp_path / "d")
    back = Demonstrations.load(tmp_path / "d")
    assert back.about == {"env": "here"} and back.observation_space == BOX and back.action_space == TWO
    for name in ("states", "action", "reward", "terminated", "truncated", "lengths"):
        assert torch.equal(getattr(back, name), getattr(demos, name))
    with pytest.raises(FileExistsError):
        demos.save(tmp_path / "d")


def test_a_damaged_or_foreign_folder_is_refused(tmp_path):
    from cairn.runs import write_checkpoint

    write_checkpoint(tmp_path / "other", {"format": "something"}, {})
    with pytest.raises(CheckpointError, match="no demonstrations but a 'something'"):
        Demonstrations.load(tmp_path / "other")
    make().save(tmp_path / "d")
    from cairn.runs import read_checkpoint

    meta, state = read_checkpoint(tmp_path / "d")
    write_checkpoint(tmp_path / "bad", meta, {**state, "lengths": torch.tensor([6])})
    with pytest.raises(CheckpointError, match="damaged"):
        Demonstrations.load(tmp_path / "bad")
    meta["observation_space"] = {"space": "os.system"}
    write_checkpoint(tmp_path / "evil", meta, state)
    with pytest.raises(CheckpointError, match="damaged"):
        Demonstrations.load(tmp_path / "evil")


def test_episodes_as_lists_and_imitations_trajectories():
    rows = [{"observations": [[0.0], [0.5], [1.0]], "actions": [3, 4], "rewards": [0, 1], "terminations": [0, 1],
             "truncations": [0, 0]}]  # fmt: skip
    demos = from_episodes(rows, BOX, TWO)
    assert demos.action.tolist() == [3, 4] and demos.terminated.tolist() == [False, True]

    class Trajectory:
        obs, acts, terminal = np.array([[0.0], [0.5], [1.0]], np.float32), np.array([3, 4]), False

    cut = from_imitation([Trajectory()], BOX, TWO)
    assert cut.truncated.tolist() == [False, True] and cut.reward.tolist() == [0.0, 0.0]
    for broken, message in (
        ({**rows[0], "observations": [[0.0], [0.5]]}, "is its last one missing"),
        ({**rows[0], "actions": [3.5, 4]}, "actions are fractions"),
        ({k: v for k, v in rows[0].items() if k != "rewards"}, "has no 'rewards'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_episodes([broken], BOX, TWO)
    with pytest.raises(ValueError, match="empty"):
        from_episodes([], BOX, TWO)
