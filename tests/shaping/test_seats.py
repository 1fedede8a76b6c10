"""The seats in environments, and that all seats pay the same for the same experience."""

import copy
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import cairn
from cairn.envs.batch import BatchEnv
from cairn.shaping import (
    Channel,
    EpisodicCount,
    Gated,
    MachineReward,
    Potential,
    RolloutSeat,
    ShapedReward,
    Stretch,
    Task,
    World,
    as_reward,
)  # fmt: skip
from cairn.shaping.reward import RewardError
from cairn.shaping.seats_env import ShapedBatch
from cairn.shaping.term import Pure, Source


class Corridor(gym.Env[Any, Any]):
    """Walk on a line of five cells; the right end pays 1 and ends; slips make lanes differ."""

    observation_space = spaces.Dict({"cell": spaces.Discrete(5), "near": spaces.Box(0, 1, (1,), np.float32)})
    action_space = spaces.Discrete(2)

    def __init__(self, limit: int = 9) -> None:
        self.limit = limit

    def _obs(self) -> dict[str, Any]:
        return {"cell": np.int64(self.cell), "near": np.array([self.cell / 4], np.float32)}

    def _info(self) -> dict[str, Any]:
        return {"facts": {"distance": np.float32(4 - self.cell), "position": np.array([self.cell, 0])}}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell, self.age = int(self.np_random.integers(0, 3)), 0
        return self._obs(), self._info()

    def step(self, action: int) -> Any:
        if self.np_random.random() < 0.2:
            action = 1 - action
        self.cell, self.age = max(self.cell + 2 * int(action) - 1, 0), self.age + 1
        done = self.cell == 4
        return self._obs(), float(done), done, self.age >= self.limit and not done, self._info()


def facts(env: Any) -> dict[str, Any]:
    return dict(env._info()["facts"])


def batch(lanes: int = 3) -> BatchEnv:
    return cairn.envs.from_gymnasium(Corridor, lanes, facts=facts)


def expression() -> Any:
    return (
        Task() + Potential("distance", 0.9) + 0.1 * EpisodicCount(key="position") * Task().clip(-1, 1)
        + 0.2 * EpisodicCount() + (Gated(EpisodicCount(), 0.5, pay="end") * 0.5).clip(0, 2) + Gated(Task() + 0.1, 1.0)
    )  # fmt: skip


def lived(env: BatchEnv, actions: Tensor) -> Stretch:
    """Record ``actions [T, N]`` as an agent's rollout does."""
    obs, info = env.reset(seed=7)
    facts, rows = info["facts"], []
    start = torch.ones(env.num_envs, dtype=torch.bool)
    episode, t = torch.zeros(env.num_envs, dtype=torch.int64), torch.zeros(env.num_envs, dtype=torch.int64)
    where = torch.where

    def true(done: Tensor, last: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: where(done.reshape(-1, *[1] * (v.dim() - 1)), last[k], v) for k, v in now.items()}

    for action in actions:
        new, reward, terminated, truncated, info = env.step(action)
        done = terminated | truncated
        row = Stretch.make(
            obs=obs,
            action=action,
            reward=reward,
            start=start,
            terminated=terminated,
            truncated=truncated,
            next_obs=true(done, info["final_obs"], new),
            facts=facts,
            next_facts=true(done, info["final_facts"], info["facts"]),
            episode=episode,
            t=t,
            lane=torch.arange(env.num_envs),
        )
        rows.append(row.map(lambda v: v.clone()[None]))
        obs, facts, start, episode, t = new, info["facts"], done, episode + done, where(done, 0, t + 1)
    return Stretch.cat(rows)


def episode_sums(x: Stretch, reward: Tensor) -> list[float]:
    sums = []
    for lane in range(x.rows[1]):
        for episode in range(int(x.episode[:, lane].max()) + 1):
            mine = x.episode[:, lane] == episode
            if (x.done[:, lane] & mine).any():
                sums.append(float(reward[mine, lane].sum()))
    return sums


@pytest.fixture
def actions() -> Tensor:
    return torch.randint(0, 2, (40, 3), generator=torch.Generator().manual_seed(1))


def test_all_seats_pay_the_same(actions: Tensor) -> None:
    x = lived(batch(), actions)
    assert x.terminated.any() and x.truncated.any()
    plain = batch()
    world = World(plain.single_observation_space, plain.single_action_space, lanes=3, max_steps=9, gamma=0.9)
    rollout = RolloutSeat(as_reward(expression()), world)
    whole = rollout(x, 0)[0][..., 0]
    pieces = RolloutSeat(as_reward(expression()), world)
    cut = torch.cat([pieces(x[a : a + 8], 0)[0] for a in range(0, 40, 8)])[..., 0]

    env = ShapedReward(batch(), expression(), gamma=0.9)
    assert isinstance(env, ShapedBatch)
    env.reset(seed=7)
    stepped, sums = [], []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        stepped.append(reward)
        assert torch.allclose(sum(info["reward_terms"].values()), reward, atol=1e-6)
        for lane in (terminated | truncated).nonzero()[:, 0].tolist():
            sums.append((lane, float(sum(v[lane] for k, v in info["reward_sums"].items() if k != "raw"))))
    step_by_step = torch.stack(stepped)
    reference = episode_sums(x, whole)
    assert len(reference) > 6
    assert episode_sums(x, cut) == pytest.approx(reference, abs=1e-4)
    assert episode_sums(x, step_by_step) == pytest.approx(reference, abs=1e-4)
    assert [s for _, s in sorted(sums, key=lambda p: p[0])] == pytest.approx(reference, abs=1e-4)

    # One lane in the Gymnasium wrapper is lane 0 of the batch, step for step.
    single = ShapedReward(Corridor(), expression(), gamma=0.9)
    from cairn.envs.batch import lane_seed

    single.reset(seed=lane_seed(7, 0))
    for t, action in enumerate(actions[:, 0].tolist()):
        _, reward, terminated, truncated, info = single.step(action)
        assert reward == pytest.approx(float(step_by_step[t, 0]), abs=1e-5)
        assert sum(info["reward"].values()) == pytest.approx(reward, abs=1e-5)
        if terminated or truncated:
            assert info["reward_sums"]["raw"] == float(terminated)
            single.reset()


def test_a_batch_resumes_in_mid_episode_bit_for_bit(actions: Tensor) -> None:
    def run(env: Any, rows: Tensor) -> list[Tensor]:
        return [env.step(a)[1] for a in rows]

    env = ShapedReward(batch(), expression(), gamma=0.9)
    env.reset(seed=7)
    run(env, actions[:17])
    state = env.state_dict()
    rest = run(env, actions[17:])
    other = ShapedReward(batch(), expression(), gamma=0.9)
    other.reset(seed=0)
    run(other, actions[:5])
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(run(other, actions[17:]), rest))


def test_the_wrapper_resumes_and_is_copied(actions: Tensor) -> None:
    env = ShapedReward(Corridor(), expression(), gamma=0.9)
    env.reset(seed=3)
    for action in actions[:4, 0].tolist():
        env.step(action)
    twin, state = copy.deepcopy(env), env.state_dict()
    after = [env.step(a)[1] for a in (1, 1, 0)]
    assert [twin.step(a)[1] for a in (1, 1, 0)] == after
    third = copy.deepcopy(twin)
    third.load_state_dict(state)
    assert third.seat.steps == 4


def test_a_partial_reset_begins_episodes_in_its_lanes_only() -> None:
    env = ShapedReward(batch(), EpisodicCount(key="position", mode="first") + 10 * Gated(Task() + 1, 0.0))
    env.reset(seed=0)
    env.step(torch.tensor([0, 0, 0]))
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert env.seat.start.tolist() == [True, False, False]
    env.step(torch.tensor([0, 0, 0]))
    assert env.seat.t.tolist() == [1, 2, 2] and env.seat.episode.tolist() == [1, 0, 0]
    assert env.seat.ledger.open.tolist() == [1, 2, 2]


def test_designs_example() -> None:
    def height(obs: Tensor) -> Tensor:
        return torch.sin(3 * obs[..., 0])

    env = ShapedReward(gym.make("MountainCar-v0"), Task() + Potential(height, gamma=0.99))
    obs, _ = env.reset(seed=0)
    for action in (0, 2, 2):
        new, reward, *_ = env.step(action)
        assert reward == pytest.approx(-1 + 0.99 * np.sin(3 * new[0]) - np.sin(3 * obs[0]), abs=1e-5)
        obs = new
    again = gym.make(env.spec)
    assert isinstance(again, ShapedReward)
    with pytest.raises(ValueError, match="gamma=0.99"):
        ShapedReward(gym.make("MountainCar-v0"), Task() + Potential(height))


def test_minigrid_with_its_text_and_facts() -> None:
    text = 'task + 0.1*episodic_count(key=("position", "carrying")) + 0.1*episodic_count'
    env = ShapedReward(gym.make("cairn/MiniGrid-DoorKey-5x5-v0"), text)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)  # turning moves to no new place, but shows another view
    assert info["reward"] == pytest.approx({"task": 0.0, "episodic_count": 0.1 / 2**0.5, "episodic_count_2": 0.1})
    envs = ShapedReward(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=2), text)
    envs.reset(seed=0)
    assert torch.allclose(envs.step(torch.zeros(2, dtype=torch.int64))[1], torch.full((2,), reward))


def test_sb3_trains_on_a_shaped_environment() -> None:
    import stable_baselines3 as sb3

    env = ShapedReward(gym.make("CartPole-v1"), "task + 0.1*episodic_count")
    sb3.PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1).learn(64)


class Drift(Pure):
    saved = ("mean",)

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward - self.mean

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        assert source.recent.rows[0] == 10
        self.mean = self.mean + source.recent.reward.mean() + source.sample(4).reward.mean()
        return {"mean": self.mean}


def test_updates_in_an_environment_come_every_so_often_and_resume(actions: Tensor) -> None:
    def run(env: Any, rows: Tensor) -> Tensor:
        return torch.stack([env.step(a)[1] for a in rows])

    env = ShapedReward(batch(), Drift() + EpisodicCount().normalise(), update_every=10)
    env.reset(seed=7)
    run(env, actions[:9])
    assert env.seat.reward.order[0].mean == 0
    run(env, actions[9:10])
    assert env.seat.reward.order[0].mean != 0 and "reward/drift/mean" in env.seat.logs
    run(env, actions[10:25])  # in the middle between two updates
    state = env.state_dict()
    rest = run(env, actions[25:])
    other = ShapedReward(batch(), Drift() + EpisodicCount().normalise(), update_every=10)
    other.reset(seed=7)
    other.load_state_dict(state)
    assert torch.equal(run(other, actions[25:]), rest)


def test_one_head_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"channels \(main, curiosity\) are added up"):
        ShapedReward(batch(), Task() + EpisodicCount().into("curiosity"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ShapedReward(batch(), Task() + EpisodicCount())


def test_wrong_use_is_explained() -> None:
    with pytest.raises(TypeError, match="make_batch"):
        ShapedReward(gym.vector.SyncVectorEnv([Corridor]), Task())
    term = EpisodicCount()
    ShapedReward(Corridor(), Task() + term)
    with pytest.raises(RuntimeError, match="already sits"):
        ShapedReward(Corridor(), Task() + term)
    with pytest.raises(ValueError, match="at least 1"):
        ShapedReward(Corridor(), Task(), update_every=0)
    env = ShapedReward(batch(), lambda x: torch.where(x.lane == 2, torch.nan, x.reward))
    env.reset(seed=0)
    with pytest.raises(RewardError, match="environment 2, episode 0, step 0"):
        env.step(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="wrapped otherwise"):
        env.load_state_dict({"env": batch_state(), "own": {}})


def batch_state() -> dict[str, Any]:
    env = batch()
    env.reset(seed=0)
    return env.state_dict()


def test_channels_of_a_rollout_seat() -> None:
    world = World(spaces.Box(0, 1, ()), spaces.Discrete(2), lanes=2)
    seat = RolloutSeat(as_reward(Task() + EpisodicCount().into("curiosity", 0.99, False)), world)
    assert seat.channels == (Channel("main"), Channel("curiosity", 0.99, False))
    flags = torch.zeros(4, 2, dtype=torch.bool)
    x = Stretch.make(obs=flags.float(), next_obs=flags.float(), reward=torch.ones(4, 2), terminated=flags)
    reward, logs = seat(x, 0)
    assert reward.shape == (4, 2, 2) and reward.dtype == torch.float32 and logs["reward/task"] == 1
    assert seat.update(8) == {}


def test_a_machines_reward_in_every_seat(actions: Tensor) -> None:
    def make() -> Any:
        return MachineReward.examples()[0]

    x = lived(batch(), actions)
    plain = batch()
    world = World(plain.single_observation_space, plain.single_action_space, lanes=3)
    rollout = RolloutSeat(as_reward(make()), world)(x, 0)[0][..., 0]
    env = ShapedReward(batch(), make())
    env.reset(seed=7)
    assert torch.equal(torch.stack([env.step(a)[1] for a in actions]), rollout) and rollout.any()
