"""The NumPy view in DISABLED mode, and Gymnasium's own vector wrappers on it."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import vector as wrappers

import cairn  # noqa: F401
from cairn.envs import EpisodeStatistics, from_gymnasium, lane_seed, make_batch


def pair(n: int) -> tuple[Any, Any]:
    ours = from_gymnasium("CartPole-v1", n).numpy()
    theirs: Any = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * n, autoreset_mode=AutoresetMode.DISABLED)
    return ours, theirs


def drive(ours: Any, theirs: Any, steps: int = 100) -> int:
    n = ours.num_envs
    a = ours.reset(seed=0)[0]
    b = theirs.reset(seed=[lane_seed(0, i) for i in range(n)])[0]
    np.testing.assert_array_equal(a, b)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(steps):
        actions = rng.integers(0, 2, n)
        x, y = ours.step(actions), theirs.step(actions)
        for p, q in zip(x[:4], y[:4]):
            assert isinstance(p, np.ndarray)
            np.testing.assert_allclose(p, q, rtol=1e-6)  # their rewards are float64
        ended = x[2] | x[3]
        if ended.any():
            ends += int(ended.sum())
            a = ours.reset(options={"reset_mask": ended.copy()})[0]
            b = theirs.reset(options={"reset_mask": ended.copy()})[0]
            np.testing.assert_array_equal(a, b)
    return ends


def test_equals_gymnasium_s_sync_vector_env() -> None:
    ours, theirs = pair(4)
    assert isinstance(ours, VectorEnv) and ours.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert drive(ours, theirs) > 5


def test_an_ended_lane_must_be_reset() -> None:
    env = from_gymnasium("CartPole-v1", 2).numpy()
    with pytest.raises(RuntimeError, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    ended = np.zeros(2, bool)
    while not ended.any():
        _, _, terminated, truncated, _ = env.step(np.zeros(2, np.int64))
        ended = terminated | truncated
    with pytest.raises(RuntimeError, match="have ended"):
        env.step(np.zeros(2, np.int64))
    env.reset(options={"reset_mask": ended})
    env.step(np.zeros(2, np.int64))


def test_a_mask_may_reset_lanes_that_go_on() -> None:
    env = from_gymnasium("CartPole-v1", 3).numpy()
    env.reset(seed=0)
    for _ in range(3):
        before = env.step(np.ones(3, np.int64))[0]
    obs, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert np.array_equal(obs[[0, 2]], before[[0, 2]]) and np.abs(obs[1]).max() <= 0.05
    seeded, _ = env.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    assert np.array_equal(seeded[0], env.batch.unwrapped.reset(seed=0)[0][0].numpy())  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="one seed"):
        env.reset(seed=[1, 2, 3])  # type: ignore[arg-type]


def test_info_is_of_the_state_that_is_shown() -> None:
    env = EpisodeStatistics(make_batch("cairn/MiniGrid-Empty-5x5-v0", 2)).numpy()
    _, info = env.reset(seed=0)
    assert info["facts"]["position"].tolist() == [[1, 1], [1, 1]]
    for action in (2, 2, 1, 2, 2):
        obs, reward, terminated, _, info = env.step(np.array([action, 6]))
    assert terminated.tolist() == [True, False] and reward[0] == pytest.approx(0.955)
    assert info["facts"]["position"].tolist() == [[3, 3], [1, 1]] and info["facts"]["success"].tolist() == [True, False]
    assert info["episode"]["l"][0] == 5 and info["_episode"].tolist() == [True, False]
    assert obs["direction"].tolist() == [1, 0]
    obs, info = env.reset(options={"reset_mask": terminated})
    assert obs["direction"].tolist() == [0, 0] and info["facts"]["position"].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "wrap",
    [
        wrappers.RecordEpisodeStatistics,
        lambda env: wrappers.ClipReward(env, max_reward=0.5),
        wrappers.NormalizeReward,
        wrappers.FlattenObservation,
        lambda env: wrappers.RescaleObservation(env, np.float32(-1), np.float32(1)),
        lambda env: wrappers.TransformReward(env, lambda r: r * 2),
        wrappers.DictInfoToList,
    ],
    ids="statistics clip normalize flatten rescale transform infos".split(),
)
def test_gymnasium_s_vector_wrappers(wrap: Any) -> None:
    env = wrap(from_gymnasium("MountainCar-v0", 2).numpy())
    env.reset(seed=0)
    for _ in range(3):
        obs, reward, *_ = env.step(np.array([0, 2]))
    assert np.isfinite(obs).all() and reward.shape == (2,)
    env.close()


def test_gymnasium_s_episode_statistics_are_right() -> None:
    env = wrappers.RecordEpisodeStatistics(from_gymnasium("CartPole-v1", 3).numpy())
    env.reset(seed=1)
    ends = 0
    for _ in range(60):
        _, _, terminated, truncated, info = env.step(np.random.randint(0, 2, 3))
        ended = terminated | truncated
        if ended.any():
            ends += 1
            assert info["episode"]["l"][ended].tolist() == info["episode"]["r"][ended].tolist()  # one for each step
            env.reset(options={"reset_mask": ended})
    assert ends > 3


def test_render_and_close() -> None:
    batch = from_gymnasium("CartPole-v1", 1, render_mode="rgb_array")
    env = batch.numpy()
    env.reset(seed=0)
    assert np.asarray(env.render()[0]).shape == (400, 600, 3)  # type: ignore[index]
    env.close()
    assert batch.closed
