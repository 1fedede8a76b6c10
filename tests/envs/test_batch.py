"""The contract's own parts: seeds, the check of actions, masks, wrappers."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from cairn.envs import BatchEnv, BatchWrapper, EpisodeStatistics, TimeLimit, find_wrapper, from_gymnasium, lane_seed
from cairn.envs.batch import check_actions, check_like, check_reset_mask


def test_lane_seed_is_fixed_for_all_machines() -> None:
    # BLAKE2b-64 of "0,0" and "1,2", big end first, without the lowest bit
    assert lane_seed(0, 0) == 411788715114236230
    seeds = {lane_seed(s, i) for s in range(50) for i in range(50)}
    assert len(seeds) == 2500 and all(0 <= s < 2**63 for s in seeds)
    # the trap of seed + i: the lanes of a seed are not those of its neighbour, shifted
    assert not {lane_seed(0, i) for i in range(100)} & {lane_seed(1, i) for i in range(100)}


@pytest.mark.parametrize("seed", [-1, 0.5, True, "7", None])
def test_lane_seed_refuses(seed: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        lane_seed(seed, 0)


BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 2.0], np.float32))


@pytest.mark.parametrize(
    "space, actions, message",
    [
        (spaces.Discrete(3), [0, 1], "shape"),
        (spaces.Discrete(3), [[0], [1], [2]], "shape"),
        (spaces.Discrete(3), [0, 1, 3], "lane 2 is 3"),
        (spaces.Discrete(3), [0, -1, 2], "lane 1 is -1"),
        (spaces.Discrete(3, start=1), [1, 0, 3], "lane 1 is 0"),
        (spaces.Discrete(3), [0.0, 1.0, 2.0], "whole numbers"),
        (spaces.Discrete(2), [True, False, True], "whole numbers"),
        (spaces.Discrete(3), "abc", "one tensor"),
        (spaces.Discrete(3), [None, 1, 2], "one tensor"),
        (BOX, [[0, 0], [0, 0], [0, float("nan")]], "lane 2"),
        (BOX, [[0, 0], [0, float("inf")], [0, 0]], "lane 1"),
        (BOX, [[0.0, -0.5], [0, 0], [0, 0]], "clip the policy's actions"),
        (BOX, [0.0, 0.0, 0.0], "shape"),
        (spaces.MultiDiscrete([2, 3]), [[0, 0], [1, 2], [2, 0]], "lane 2"),
        (spaces.MultiBinary(2), [[0, 1], [0, 2], [0, 0]], "lane 1"),
        (spaces.Box(-np.inf, np.inf, (1,)), [[0.0], [float("inf")], [0]], "lane 1"),
    ],
)
def test_bad_actions_name_the_lane(space: Any, actions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_actions(space, actions, 3)


@pytest.mark.parametrize(
    "space, actions, dtype",
    [
        (spaces.Discrete(3), np.array([0, 1, 2], np.uint8), torch.int64),
        (spaces.Discrete(3), [0, 1, 2], torch.int64),
        (spaces.Discrete(2, start=-1), torch.tensor([-1, 0, 0], dtype=torch.int32), torch.int64),
        (BOX, torch.zeros(3, 2, dtype=torch.float64), torch.float32),
        (BOX, torch.zeros(3, 2, requires_grad=True), torch.float32),
        (spaces.MultiBinary(2), torch.ones(3, 2, dtype=torch.bool), torch.int8),
        (spaces.MultiDiscrete([2, 3]), [[1, 2]] * 3, torch.int64),
    ],
)
def test_good_actions_get_the_space_s_dtype(space: Any, actions: Any, dtype: torch.dtype) -> None:
    tensor = check_actions(space, actions, 3)
    assert tensor.dtype == dtype and not tensor.requires_grad


@given(st.integers(1, 5), st.lists(st.integers(-2, 6), min_size=1, max_size=6))
def test_actions_pass_exactly_when_each_is_in_the_space(n: int, actions: list[int]) -> None:
    space = spaces.Discrete(n)
    if all(space.contains(a) for a in actions):
        assert check_actions(space, actions, len(actions)).tolist() == actions
    else:
        with pytest.raises(ValueError):
            check_actions(space, actions, len(actions))


def test_reset_mask_forms() -> None:
    assert check_reset_mask([True, False], 2).tolist() == [True, False]
    assert check_reset_mask(torch.tensor([True, False]), 2).tolist() == [True, False]
    for bad in ([True], [1, 0], np.zeros((2, 1), bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            check_reset_mask(bad, 2)


def test_declaration() -> None:
    env = from_gymnasium("CartPole-v1", 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.observation_space.shape == (3, 4) and env.action_space == spaces.MultiDiscrete([2, 2, 2])
    assert env.max_steps == 500 and env.device == torch.device("cpu")
    with pytest.raises(ValueError, match="at least one"):
        from_gymnasium("CartPole-v1", 0)
    with pytest.raises(TypeError, match="actions of"):
        BatchEnv(2, spaces.Discrete(2), spaces.Dict({"a": spaces.Discrete(2)}))


def test_frames_need_a_render_mode() -> None:
    env = from_gymnasium("CartPole-v1", 2)
    with pytest.raises(ValueError, match="rgb_array"):
        env.frame_every = 2
    with pytest.raises(ValueError, match="number of steps"):
        env.frame_every = -1
    env.frame_every = 0


def test_wrapper_delegates_everything() -> None:
    inner = from_gymnasium("CartPole-v1", 2, render_mode="rgb_array")
    env = BatchWrapper(BatchWrapper(inner))
    assert env.unwrapped is inner and env.envs is inner.envs
    env.frame_every = 3
    assert inner.frame_every == 3 and env.frame_every == 3
    env.frame_every = 0
    env.reset(seed=0)
    out = env.step([0, 1])
    assert torch.equal(out[0], env.observe()[0])
    assert env.exact_state and env.encode(np.zeros(4, np.float32)).shape == (1, 4)
    assert set(env.state_dict()) == {"env", "own"}
    assert len(env.render() or ()) == 2
    with pytest.raises(ValueError, match="wrapped otherwise"):
        env.load_state_dict(inner.state_dict())
    env.close()
    assert inner.closed
    with pytest.raises(TypeError, match="make_batch"):
        BatchWrapper("CartPole-v1")  # type: ignore[arg-type]


def test_find_wrapper() -> None:
    env = EpisodeStatistics(BatchWrapper(from_gymnasium("CartPole-v1", 1)))
    assert find_wrapper(env, EpisodeStatistics) is env
    assert find_wrapper(env, TimeLimit) is None


def test_check_like() -> None:
    present = {"a": torch.zeros(2), "b": {"c": 1}}
    check_like({"a": torch.ones(2), "b": {"c": 7}}, present, "x")
    for bad in ({}, {"a": torch.ones(3), "b": {"c": 1}}, {"a": [0, 0], "b": {"c": 1}}, {**present, "b": {"c": "1"}}):
        with pytest.raises(ValueError, match="x"):
            check_like(bad, present, "x")
