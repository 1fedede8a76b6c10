"""Episode statistics, the time limit, the observation normaliser."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.envs import EpisodeStatistics, NormalizeObservation, TimeLimit, from_gymnasium
from cairn.envs.spaces import Symbols


class Count(gym.Env[Any, Any]):
    """Observes (steps, lane's number); the reward is the step's number; action 1 wins, 2 truncates."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-99, 99, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, lane: int = 0, render_mode: str | None = None) -> None:
        self.lane, self.render_mode, self.t = lane, render_mode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.array([0, self.lane], np.float32), {}

    def step(self, action: int) -> Any:
        self.t += 1
        won = action == 1
        return np.array([self.t, self.lane], np.float32), float(self.t), won, action == 2, {"is_success": won}

    def render(self) -> Any:
        return np.full((2, 2, 3), self.t, np.uint8)


def batch(n: int, **kwargs: Any) -> Any:
    return from_gymnasium(lambda lane: Count(lane, **kwargs), n, facts=lambda env: {"t": env.t})


def test_statistics_by_hand() -> None:
    env = EpisodeStatistics(batch(3))
    env.reset(seed=0)
    env.step([0, 0, 0])
    info = env.step([0, 1, 2])[4]
    assert info["_episode"].tolist() == [False, True, True]
    assert info["episode"]["r"].tolist() == [3.0, 3.0, 3.0] and info["episode"]["r"].dtype == torch.float64  # 1 + 2
    assert info["episode"]["l"].tolist() == [2, 2, 2] and info["episode"]["success"].tolist() == [False, True, False]
    info = env.step([1, 1, 0])[4]
    assert info["episode"]["r"].tolist() == [6.0, 1.0, 1.0] and info["episode"]["l"].tolist() == [3, 1, 1]
    assert info["_episode"].tolist() == [True, True, False]
    env.reset(options={"reset_mask": np.array([False, False, True])})
    assert env.step([1, 1, 1])[4]["episode"]["l"].tolist() == [1, 1, 1]
    env.step([0, 0, 0])
    env.reset()
    assert env.step([1, 1, 1])[4]["episode"]["l"].tolist() == [1, 1, 1]


def test_statistics_are_not_written_over() -> None:
    env = EpisodeStatistics(batch(1))
    env.reset(seed=0)
    episode = env.step([1])[4]["episode"]
    env.step([0])
    assert episode["r"].tolist() == [1.0]


def test_statistics_in_the_state() -> None:
    env, other = EpisodeStatistics(batch(2)), EpisodeStatistics(batch(2))
    env.reset(seed=0)
    env.step([0, 0])
    state = copy.deepcopy(env.state_dict())
    env.step([0, 0])  # the saved tensors are copies
    other.load_state_dict(state)
    assert other.step([1, 1])[4]["episode"]["r"].tolist() == [3.0, 3.0]
    state["own"]["return"] = torch.zeros(5, dtype=torch.float64)
    with pytest.raises(ValueError, match="EpisodeStatistics.return"):
        other.load_state_dict(state)
    assert other.step([1, 1])[4]["episode"]["r"].tolist() == [1.0, 1.0]  # and nothing had changed


def test_time_limit_by_hand() -> None:
    env = EpisodeStatistics(TimeLimit(batch(3), 3))
    assert env.max_steps == 3
    env.reset(seed=0)
    env.step([0, 1, 0])  # lane 1 wins at once
    _, _, terminated, truncated, _ = env.step([0, 0, 0])
    assert not (terminated | truncated).any()
    obs, reward, terminated, truncated, info = env.step([0, 0, 1])  # lane 0's time is up; lane 2 wins in the same step
    assert terminated.tolist() == [False, False, True] and truncated.tolist() == [True, False, True]
    assert obs.tolist() == [[0, 0], [2, 1], [0, 2]] and reward.tolist() == [3, 2, 3]
    assert info["_final_obs"].tolist() == [True, False, True]
    assert info["final_obs"][[0, 2]].tolist() == [[3, 0], [3, 2]]
    assert info["facts"]["t"].tolist() == [0, 2, 0] and info["final_facts"]["t"][[0, 2]].tolist() == [3, 3]
    assert info["final_facts"]["success"][[0, 2]].tolist() == [False, True]
    assert info["episode"]["l"].tolist() == [3, 2, 3] and info["_episode"].tolist() == [True, False, True]
    *_, truncated, info = env.step([0, 0, 0])
    assert truncated.tolist() == [False, True, False] and info["final_obs"][1].tolist() == [3, 1]


def test_time_limit_frames() -> None:
    env = TimeLimit(batch(2, render_mode="rgb_array"), 2)
    env.frame_every = 1
    env.reset(seed=0)
    env.step([0, 1])
    info = env.step([0, 0])[4]  # lane 0's time is up
    assert info["_final_frame"].tolist() == [True, False] and info["final_frame"][0].unique().tolist() == [2]
    assert info["_frame"].tolist() == [True, True]
    assert [int(frame.unique()) for frame in info["frame"]] == [0, 1]


def test_time_limit_equals_gymnasium_s() -> None:
    limit = 17
    ours = TimeLimit(from_gymnasium("CartPole-v1", 3), limit)
    theirs = from_gymnasium(lambda: gym.make("CartPole-v1", max_episode_steps=limit), 3)
    a, b = ours.reset(seed=1)[0], theirs.reset(seed=1)[0]
    assert torch.equal(a, b) and ours.max_steps == theirs.max_steps == limit
    for _ in range(80):
        actions = torch.randint(0, 2, (3,))
        x, y = ours.step(actions), theirs.step(actions)
        assert all(torch.equal(p, q) for p, q in zip(x[:4], y[:4]))
        mask = x[4]["_final_obs"]
        assert torch.equal(mask, y[4]["_final_obs"])
        assert torch.equal(x[4]["final_obs"][mask], y[4]["final_obs"][mask])


def test_time_limit_state_and_refusals() -> None:
    env, other = TimeLimit(batch(1), 4), TimeLimit(batch(1), 4)
    env.reset(seed=0)
    for _ in range(3):
        env.step([0])
    other.load_state_dict(env.state_dict())
    assert other.step([0])[3].item()
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="positive number of steps"):
            TimeLimit(batch(1), bad)  # type: ignore[arg-type]


def test_time_limit_beyond_the_environment_s_own_changes_nothing() -> None:
    env = TimeLimit(from_gymnasium("CartPole-v1", 1), 9999)
    assert env.max_steps == 500


def test_normaliser_equals_numpy_over_all_that_was_seen() -> None:
    env = NormalizeObservation(from_gymnasium("CartPole-v1", 3))
    inner = env.env
    raw = [inner.reset(seed=2)[0]]
    actions = torch.randint(0, 2, (50, 3), generator=torch.Generator().manual_seed(0))
    finals: list[Any] = []
    for row in actions:
        obs, *_, info = inner.step(row)
        raw.append(obs)
        finals.append(info["final_obs"])
    env.reset(seed=2)
    for row in actions:
        obs, *_, info = env.step(row)
    seen = torch.cat(raw).double()
    stats = env.statistics()["stats"]
    assert stats["count"].item() == 51 * 3
    torch.testing.assert_close(stats["mean"], seen.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats["var"], seen.var(0, unbiased=False), rtol=1e-12, atol=1e-12)
    wanted = ((raw[-1] - seen.mean(0)) / (seen.var(0, unbiased=False) + 1e-8).sqrt()).clamp(-10, 10).float()
    torch.testing.assert_close(obs, wanted)
    torch.testing.assert_close(info["final_obs"], env.normalize(finals[-1]))
    torch.testing.assert_close(env.observe()[0], wanted)
    torch.testing.assert_close(env.encode(raw[-1].numpy()), wanted)
    assert env.statistics()["stats"]["count"].item() == 51 * 3  # none of these counted
    assert obs.dtype == torch.float32 and env.single_observation_space == spaces.Box(-10, 10, (4,), np.float32)


def test_normaliser_frozen_and_by_mask() -> None:
    env = NormalizeObservation(batch(3))
    env.reset(seed=0)
    env.step([0, 0, 0])
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env.statistics()["stats"]["count"].item() == 7  # 3 + 3 + 1
    env.training = False
    before = env.statistics()
    env.step([0, 0, 0])
    env.reset()
    assert all(torch.equal(before["stats"][k], env.statistics()["stats"][k]) for k in before["stats"])


def test_normaliser_passes_what_is_no_vector() -> None:
    env = NormalizeObservation(from_gymnasium("MiniGrid-Empty-5x5-v0", 2))
    raw, _ = env.env.reset(seed=0)
    obs, _ = env.reset(seed=0)
    assert all(torch.equal(obs[name], raw[name]) for name in raw)
    assert isinstance(env.single_observation_space["image"], Symbols)  # type: ignore[index]


def test_normaliser_of_a_dict_whose_key_is_called_count() -> None:
    class Named(Count):
        observation_space = spaces.Dict({"count": spaces.Box(-9, 9, (2,), np.float32), "k": spaces.Discrete(3)})  # type: ignore[assignment]

        def reset(self, **kwargs: Any) -> Any:
            return {"count": super().reset(**kwargs)[0], "k": 1}, {}

        def step(self, action: int) -> Any:
            obs, *rest = super().step(action)
            return {"count": obs, "k": 2}, *rest

    env = NormalizeObservation(from_gymnasium(Named, 2))
    env.reset(seed=0)
    obs = env.step([0, 0])[0]
    assert obs["k"].tolist() == [2, 2] and obs["count"][:, 0].tolist() == pytest.approx([1.0, 1.0])  # of 0 0 1 1
    assert env.statistics()["stats"]["count"]["count"].item() == 4


def test_normaliser_state() -> None:
    env, other = NormalizeObservation(batch(2)), NormalizeObservation(batch(2))
    env.reset(seed=0)
    for _ in range(5):
        env.step([0, 0])
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    assert torch.equal(env.step([0, 0])[0], other.step([0, 0])[0])
    fresh = NormalizeObservation(batch(2))
    fresh.load_statistics(env.statistics())
    assert torch.equal(fresh.normalize(torch.ones(1, 2)), env.normalize(torch.ones(1, 2)))
    with pytest.raises(ValueError, match="NormalizeObservation"):
        fresh.load_statistics(NormalizeObservation(from_gymnasium("CartPole-v1", 1)).statistics())
