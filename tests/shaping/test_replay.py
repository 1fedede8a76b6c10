"""The seat in a replay buffer of Stable-Baselines3."""

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

import cairn
from cairn.shaping import (
    CounterfactualMachine,
    EpisodicCount,
    Gated,
    MachineEnv,
    Potential,
    RewardMachine,
    RolloutSeat,
    ShapedReplayBuffer,
    ShapedReward,
    Stretch,
    Task,
    World,
    as_reward,
    linear,
)  # fmt: skip
from cairn.shaping.laws import walk
from cairn.shaping.reward import RewardError
from cairn.shaping.term import Pure, Source

_spec = importlib.util.spec_from_file_location("machines_of_the_tests", Path(__file__).with_name("test_machines.py"))
assert _spec is not None and _spec.loader is not None
machines: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(machines)


def give(buffer: ShapedReplayBuffer, x: Stretch, t: int) -> None:
    """Add row ``t`` of ``x [T, N]`` as Stable-Baselines3 does."""
    infos = [
        {
            "TimeLimit.truncated": bool(x.truncated[t, i]),
            "facts": {name: fact[t, i].numpy() for name, fact in x.next_facts.items()},
            "facts_before": {name: fact[t, i].numpy() for name, fact in x.facts.items()},
        }
        for i in range(x.rows[1])
    ]
    obs: Any = x.obs
    after: Any = x.next_obs
    buffer.add(obs[t].numpy(), after[t].numpy(), x.action[t].numpy(), x.reward[t].numpy(), x.done[t].numpy(), infos)


def filled(reward: Any, x: Stretch, size: int = 1000, **kwargs: Any) -> ShapedReplayBuffer:
    """A buffer that has been given ``x [T, N]`` as Stable-Baselines3 gives it."""
    space = spaces.Box(-4, 4, (3,), np.float32)
    lanes = x.rows[1]
    buffer = ShapedReplayBuffer(size, space, spaces.Discrete(5), "cpu", lanes, reward=reward, gamma=0.9, **kwargs)
    for t in range(x.rows[0]):
        give(buffer, x, t)
    return buffer


def every_row(buffer: ShapedReplayBuffer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sample each held row once, in order."""
    size, lanes = buffer.size(), buffer.n_envs
    rows = torch.arange(size).repeat_interleave(lanes), torch.arange(lanes).repeat(size)
    monkeypatch.setattr(buffer, "draw", lambda n: rows)
    return buffer.sample(size * lanes)


def expression() -> Any:
    return (
        Task() + Potential("distance") + EpisodicCount(key="position") * Task() + 0.1 * EpisodicCount(mode="first")
        + Gated(EpisodicCount(), 0.5) * 0.5 + Gated(Task() + 0.1, 1.0, pay="end")
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_replay_pays_what_a_rollout_pays(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(seed, dict_obs=False)
    expected = RolloutSeat(as_reward(expression()), world)(x, 0)[0]
    batch = every_row(filled(expression(), x), monkeypatch)
    # Written back to their own steps, late values are all in place; open episodes have none in either seat.
    assert torch.allclose(batch.rewards, expected.reshape(-1, 1), atol=1e-6)
    assert torch.equal(batch.dones.bool().flatten(), x.terminated.flatten())
    assert torch.equal(batch.observations, x.obs.flatten(0, 1))
    assert torch.equal(batch.next_observations, x.next_obs.flatten(0, 1))
    assert torch.equal(batch.actions.flatten(), x.action.flatten())


def test_a_full_ring_keeps_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(1, dict_obs=False)
    expected = RolloutSeat(as_reward(expression()), world)(x, 0)[0]
    buffer = filled(expression(), x, size=10 * 5)
    assert buffer.full and buffer.pos == 24 % 10
    batch = every_row(buffer, monkeypatch)
    order = torch.tensor([t for slot in range(10) for t in range(14, 24) if t % 10 == slot])
    assert torch.allclose(batch.rewards, expected[order].reshape(-1, 1), atol=1e-6)


def test_what_is_settled_for_rows_that_are_gone_is_dropped() -> None:
    space = spaces.Box(0, 9, (1,), np.float32)
    buffer = ShapedReplayBuffer(3, space, spaces.Discrete(2), reward=Gated(Task() + 1, 0.0))
    for t in range(6):  # five steps of an episode, of which three are held, and one of the next
        done = np.array([t == 4])
        buffer.add(np.array([[t]]), np.array([[t + 1]]), np.array([0]), np.array([t]), done, [{}])
    assert buffer.late is not None and buffer.late[:, 0, 0].tolist() == [4.0, 5.0, 0.0]


class Novelty(Pure):
    """Falls at every update, as prediction errors do."""

    saved = ("left",)

    def __init__(self) -> None:
        self.left = torch.ones(())

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward * 0 + self.left

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        assert source.sample(7).rows == (7,)
        self.left = self.left * 0.5
        return {"left": self.left}


def test_leaves_are_stored_and_not_summands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pure novelty times a first visit is stored as the visit; the novelty is the present one."""
    _, x = walk(0, dict_obs=False)
    buffer = filled(Novelty() * EpisodicCount(mode="first"), x, update_every=6)
    assert buffer.logs["reward/novelty/left"] == 0.5**4
    rewards = every_row(buffer, monkeypatch).rewards
    assert set(rewards.flatten().tolist()) == {0.0, 0.5**4}
    assert len(buffer.stored) == 1


def test_slow_pure_terms_may_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Slow(Pure):
        stored = True

        def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
            calls.append(1)
            return x.reward * 3

    _, x = walk(0, dict_obs=False)
    buffer = filled(Slow(), x)
    lived = len(calls)
    assert torch.allclose(every_row(buffer, monkeypatch).rewards.flatten(), x.reward.flatten() * 3)
    assert len(calls) == lived == 24


def test_schedules_weigh_at_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x = walk(0, dict_obs=False)
    buffer = filled(linear(1.0, 0.0, 240) * Task(), x)
    assert buffer.steps == 120
    assert torch.allclose(every_row(buffer, monkeypatch).rewards.flatten(), x.reward.flatten() * 0.5)


def test_a_buffer_resumes_in_mid_episode_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x = walk(2, dict_obs=False)
    whole = filled(expression(), x)
    half = filled(expression(), x[:11])
    other = filled(expression(), x[:3])
    other.load(half.state())
    for t in range(11, 24):
        give(other, x, t)
    assert torch.equal(every_row(other, monkeypatch).rewards, every_row(whole, monkeypatch).rewards)


def test_actions_are_the_executed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def effort(x: Stretch) -> Tensor:
        seen.append(x.action)
        return x.reward

    env = gym.make("Pendulum-v1")
    model = sb3.SAC(
        "MlpPolicy", env, learning_starts=50, buffer_size=100, replay_buffer_class=ShapedReplayBuffer,
        replay_buffer_kwargs={"reward": effort}, policy_kwargs={"net_arch": [8]}, seed=0,
    )  # fmt: skip
    model.learn(40)
    buffer: Any = model.replay_buffer
    lived = torch.cat(seen)[:, 0]  # torques are up to 2, and kept as up to 1
    assert buffer.columns["action"].abs().max() <= 1 < lived.abs().max() <= 2
    batch = every_row(buffer, monkeypatch)
    assert torch.allclose(batch.actions * 2, lived, atol=1e-6) and torch.allclose(seen[-1], lived, atol=1e-6)


def test_a_reset_from_outside_begins_an_episode() -> None:
    """A second call of learn resets the environments without an end."""
    space = spaces.Box(0, 9, (1,), np.float32)
    buffer = ShapedReplayBuffer(10, space, spaces.Discrete(2), reward=Gated(Task() + 1, 0.0))
    for before, after in ((0, 1), (1, 2), (5, 6), (6, 7)):
        buffer.add(
            np.array([[before]]), np.array([[after]]), np.array([0]), np.array([0.0]), np.array([before == 6]), [{}]
        )
    assert buffer.columns["start"][:4, 0].tolist() == [True, False, True, False]
    assert buffer.late is not None and buffer.late[:4, 0, 0].tolist() == [0, 0, 1, 1]
    buffer.reset()
    assert buffer.size() == 0


def test_bad_input() -> None:
    space, action = spaces.Box(0, 1, (1,)), spaces.Discrete(2)
    with pytest.raises(ValueError, match="optimize_memory_usage"):
        ShapedReplayBuffer(10, space, action, optimize_memory_usage=True)
    with pytest.raises(ValueError, match="gamma"):
        ShapedReplayBuffer(10, space, action, reward=Potential("distance"))
    _, x = walk(0, dict_obs=False)
    with pytest.raises(RewardError, match="environment 0, episode 0, step 0"):
        filled(lambda x: x.reward / 0 - torch.inf, x)
    buffer = filled(Task(), x)
    normalised = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    with pytest.raises(ValueError, match="norm_reward=False"):
        buffer.sample(4, normalised)


def test_dqn_on_a_batch_with_dict_observations() -> None:
    """`sb3.DQN` on `cairn.envs.as_sb3`, flat (MiniGrid's Dict) and in the batch's own space."""

    class Named(machines.Line):
        observation_space = spaces.Dict({"cell": spaces.Discrete(7), "place": spaces.Box(0, 1, (1,), np.float32)})

        def _obs(self) -> Any:
            return {"cell": np.int64(self.cell), "place": np.array([self.cell / 6], np.float32)}

    def limited() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(Named(), 9)

    for flat, policy, env in ((True, "MlpPolicy", "MiniGrid-Empty-5x5-v0"), (False, "MultiInputPolicy", limited)):
        envs = cairn.envs.from_gymnasium(env, 2)
        model = sb3.DQN(
            policy, cairn.envs.as_sb3(envs, flat=flat), learning_starts=20, train_freq=8, buffer_size=200,
            replay_buffer_class=ShapedReplayBuffer, policy_kwargs={"net_arch": [8]},
            replay_buffer_kwargs={"reward": "task + 0.1*episodic_count + gated(0.1*episodic_count, 0.5)"},
        )  # fmt: skip
        model.learn(200)
        assert isinstance(model.replay_buffer, ShapedReplayBuffer) and model.replay_buffer.full


LAST, STEPS = 12, 1500


def crm_agent(seed: int, counterfactual: bool) -> float:
    """Train on "to the right end, then to the left end", and return the share of greedy episodes that do it."""
    machine: RewardMachine = machines.there_and_back(last=LAST)

    def make() -> gym.Env[Any, Any]:
        return gym.wrappers.TimeLimit(MachineEnv(machines.Line(LAST), machine), 4 * LAST)

    model = sb3.DQN(
        "MlpPolicy", make(), learning_rate=5e-3, buffer_size=5000, learning_starts=100, batch_size=32, gamma=0.9,
        train_freq=4, gradient_steps=1, target_update_interval=100, exploration_fraction=0.5,
        exploration_final_eps=0.1, policy_kwargs={"net_arch": [32]}, seed=seed,
        replay_buffer_class=ShapedReplayBuffer,
        replay_buffer_kwargs={"experience": CounterfactualMachine(machine) if counterfactual else None},
    )  # fmt: skip
    model.learn(STEPS)
    env, won = make(), 0
    for _ in range(5):
        obs, _ = env.reset()
        over = False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(int(model.predict(obs, deterministic=True)[0]))
            over = terminated or truncated
            won += reward > 0
    return won / 5


def test_dqn_learns_a_two_state_machine_with_counterfactual_experience() -> None:
    """In this few steps it takes the counterfactuals: without them seeds 0, 1 and 2 of 0 to 3 fail."""
    assert [crm_agent(seed, counterfactual=True) for seed in range(2)] == [1.0, 1.0]
    assert crm_agent(0, counterfactual=False) == 0.0


def test_counterfactuals_are_scored_and_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pure terms see the made-up rows; a stream's value is that of the row it came from."""
    machine: RewardMachine = machines.there_and_back()
    env = MachineEnv(machines.Line(), machine)
    inside = lambda obs: obs[:, 1]  # noqa: E731  the first state of the machine
    reward = Task() + Potential(inside) + 0.25 * EpisodicCount(key=lambda obs: obs[:, 0], mode="first")
    buffer = ShapedReplayBuffer(
        100,
        env.observation_space,
        env.action_space,
        reward=reward,
        gamma=0.5,
        experience=CounterfactualMachine(machine),
    )
    obs, _ = env.reset(seed=0)
    for action in (1, 1, 1, 0):
        new, r, terminated, _, info = env.step(action)
        buffer.add(obs[None], new[None], np.array([action]), np.array([r]), np.array([terminated]), [info])
        obs = new
    batch = every_row(buffer, monkeypatch)
    assert batch.observations.shape == (8, 4)
    # State "out": two steps inside (.5 - 1), then to "back" (0 - 1), the last lived in "back", here in "out" (.5 - 1).
    # State "back": nothing. New cells at the first three steps; the fourth goes back.
    new_cell = [0.25, 0.25, 0.25, 0.0]
    assert batch.rewards.flatten().tolist() == pytest.approx([-0.5 + 0.25, -0.5 + 0.25, -1.0 + 0.25, -0.5] + new_cell)


def test_the_wrapper_and_the_buffer_agree_in_dqn() -> None:
    """The same seed, the reward in the wrapper or in the buffer: the same network."""

    def trained(in_buffer: bool) -> Tensor:
        text = "2*task - 0.5"
        env = gym.make("CartPole-v1")
        kwargs: dict[str, Any] = {"replay_buffer_class": ShapedReplayBuffer}
        if in_buffer:
            kwargs["replay_buffer_kwargs"] = {"reward": text}
        else:
            env = ShapedReward(env, text)
        model = sb3.DQN(
            "MlpPolicy", env, learning_starts=50, buffer_size=500, seed=0, policy_kwargs={"net_arch": [8]}, **kwargs
        )
        model.learn(200)
        return torch.cat([p.detach().flatten() for p in model.policy.parameters()])

    assert torch.equal(trained(True), trained(False))


def test_a_model_is_saved_and_loaded_with_its_reward(tmp_path: Path) -> None:
    model = sb3.DQN(
        "MlpPolicy",
        gym.make("CartPole-v1"),
        learning_starts=10,
        buffer_size=100,
        policy_kwargs={"net_arch": [8]},
        replay_buffer_class=ShapedReplayBuffer,
        replay_buffer_kwargs={"reward": Task() + EpisodicCount() + Novelty(), "update_every": 10},
    )
    model.learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    again = sb3.DQN.load(tmp_path / "model", env=gym.make("CartPole-v1"))
    fresh: Any = again.replay_buffer
    assert fresh.seat.reward.order[2].left == 0.5**4 and fresh.size() == 0  # learned, and bound anew
    again.load_replay_buffer(tmp_path / "buffer")
    again.learn(20, reset_num_timesteps=False)
    kept: Any = again.replay_buffer
    assert kept.clock == 60 and kept.seat.reward.order[2].left == 0.5**6


def test_facts_of_a_batch_come_with_its_infos() -> None:
    """Infos that carry tensors for the whole batch are read as they are."""

    class Infos(list[Any]):
        facts = {"distance": torch.tensor([1.0, 2.0])}
        next_facts = {"distance": torch.tensor([3.0, 5.0])}

    space = spaces.Box(0, 1, (1,), np.float32)
    buffer = ShapedReplayBuffer(10, space, spaces.Discrete(2), n_envs=2, reward=Potential("distance", 0.5))
    nothing = np.zeros((2, 1), np.float32)
    buffer.add(nothing, nothing, np.zeros(2), np.zeros(2), np.zeros(2, bool), Infos([{}, {}]))
    assert set(buffer.sample(16).rewards.flatten().tolist()) == {0.5}


def test_world_of_the_buffer() -> None:
    seen: list[World] = []

    class Asks(Pure):
        def bind(self, world: World) -> None:
            seen.append(world)

        def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
            return x.reward

    ShapedReplayBuffer(10, spaces.Box(0, 1, (1,)), spaces.Discrete(2), n_envs=3, reward=Asks(), gamma=0.8, max_steps=7)
    assert (seen[0].lanes, seen[0].gamma, seen[0].max_steps) == (3, 0.8, 7)
