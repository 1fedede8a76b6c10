"""The policy that remembers: windows equal steps, episodes begin empty, a cut one is worth what it knew."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.memory import Memories, MemoryPolicy
from cairn.agents.training import acting
from cairn.envs import from_gymnasium
from cairn.shaping import Task

H = 8
SMALL: dict[str, Any] = {
    "n_steps": 16, "batch_size": 24, "n_epochs": 2, "seed": 0, "device": "cpu", "policy_kwargs": {"memory": H},
}  # fmt: skip


class Recall(gym.Env[Any, Any]):
    """A cue of two is shown first, then `wait` blank steps, then the question: name the cue, or fail."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, wait: int = 2, cap: int = 99) -> None:
        self.wait, self.cap = wait, cap

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        asked = self.t == self.wait
        self.t += 1
        right = float(asked and action == self.cue)
        obs = np.array([0, self.t == self.wait], np.float32)
        return obs, right, asked, not asked and self.t >= self.cap, {"is_success": bool(right)}


def recalls(lanes: int = 3, wait: int = 2, cap: int = 99) -> Any:
    return from_gymnasium(lambda lane: Recall(wait, cap), lanes)


def policy(space: Any = None, **kwargs: Any) -> MemoryPolicy:
    torch.manual_seed(0)
    observations = spaces.Box(-1, 1, (3,), np.float32)
    return MemoryPolicy(observations, space or spaces.Discrete(4), lambda _: 1e-3, memory=H, channels=2, **kwargs)


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.Box(-1, 1, (2,), np.float32)], ids=["discrete", "box"])
def test_a_window_equals_its_steps_across_the_ends_of_episodes(space: Any) -> None:
    net = policy(space)
    obs, state, start = torch.randn(7, 5, 3), torch.randn(5, H), torch.rand(7, 5) < 0.3
    start[0, 0], start[0, 1] = True, False
    now, stepped = state, []
    for t in range(7):
        noise = torch.rand(5) if isinstance(space, spaces.Discrete) else torch.randn(5, 2)
        *done, now = net.step(obs[t], now, start[t], noise=noise)
        stepped.append(done)
    actions, values, log_probs = (torch.cat(parts) for parts in zip(*stepped))
    value, log_prob, entropy = net.evaluate_window(obs.flatten(0, 1), actions, state, start)
    assert entropy is not None and entropy.shape == (35,)
    torch.testing.assert_close(value, values, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(log_prob, log_probs, atol=1e-6, rtol=1e-5)


def test_nothing_is_known_of_the_episode_before() -> None:
    net = policy()
    obs, state = torch.randn(6, 2, 3), torch.randn(2, H).requires_grad_()
    start = torch.zeros(6, 2, dtype=torch.bool)
    start[3, 0] = True
    seen = obs.clone().requires_grad_()
    value, *_ = net.evaluate_window(seen.flatten(0, 1), torch.zeros(12, dtype=torch.int64), state, start)
    late = value.reshape(6, 2, 2)[4].sum(-1)
    for lane, forgets in enumerate((True, False)):
        by_seen, by_state = torch.autograd.grad(late[lane], (seen, state), retain_graph=True)
        assert by_seen[3:5, lane].any() and not by_seen[5].any() and not by_seen[:, 1 - lane].any()
        assert bool(by_seen[:3, lane].any()) != forgets and bool(by_state[lane].any()) != forgets


class AtEnd(BaseCallback):
    def __init__(self, check: Any) -> None:
        super().__init__()
        self.check, self.count = check, 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.check(self.model)
        self.count += 1


@pytest.mark.parametrize("window", [None, 4])
def test_what_was_lived_is_what_is_judged(window: int | None) -> None:
    def check(model: Any) -> None:
        rollout, memories = model.rollout, model._memories
        windows = model._windows()
        assert windows.shape == (3 * 16 // (window or 16), window or 16)
        assert sorted(windows.flatten().tolist()) == list(range(48))
        at = windows.t().flatten()
        begun = memories.recall(windows)
        obs, action = rollout.obs[:-1].flatten(0, 1)[at], rollout.action.flatten(0, 1)[at]
        value, log_prob, _ = model.policy.evaluate_window(obs, action, begun["state"], begun["start"])
        torch.testing.assert_close(value, rollout.value.flatten(0, 1)[at], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(log_prob, rollout.log_prob.flatten(0, 1)[at], atol=1e-6, rtol=1e-5)
        done = (rollout.terminated | rollout.truncated).cpu()
        assert torch.equal(memories.start[1:], done)

    model, end = (
        PPO("MlpPolicy", recalls(cap=2, wait=3), **{**SMALL, "policy_kwargs": {"memory": H, "window": window}}),
        AtEnd(check),
    )
    model.learn(4 * 48, callback=end)
    assert end.count == 4


def test_parts_of_the_state_begin_with_times_from_two_steps_to_the_window() -> None:
    """Where nothing else moves it, a step takes one part in so many of the state away."""
    for window, slowest in ((32, 32), (None, 64)):
        net = policy(window=window)
        with torch.no_grad():
            for weight in (net.unit.weight_ih, net.unit.weight_hh):
                weight.zero_()
            left = net.unit(torch.zeros(1, net.features_dim), torch.ones(1, H))[0]
        times = 1 / (1 - left)
        torch.testing.assert_close(times[[0, -1]], torch.tensor([2.0, slowest]), rtol=1e-4, atol=0)
        spaced = torch.full((H - 1,), math.log(slowest - 1) / (H - 1))
        torch.testing.assert_close((times - 1).log().diff(), spaced, rtol=1e-4, atol=1e-5)


def test_a_cut_episode_is_worth_what_its_memory_makes_of_the_true_last_observation() -> None:
    checked = []

    def check(model: Any) -> None:
        rollout, net, memories = model.rollout, model.policy, model._memories
        rows, steps, lanes = rollout.cut_rows()
        # From the first step of each lane's episode, by hand.
        for row, t, n in zip(rows, steps.tolist(), lanes.tolist()):
            first = t
            while first > 0 and not memories.start[first, n]:
                first -= 1
            if not memories.start[first, n]:
                continue
            state = torch.zeros(1, H)
            no = torch.zeros(1, dtype=torch.bool)
            for k in range(first, t + 1):
                state = net.remember(rollout.obs[k, n][None], state, no)
            value = net.value_of(row[None], state, no)[0, 0]
            expected = rollout.reward[t, n] + 0.99 * value - rollout.value[t, n, 0]
            torch.testing.assert_close(model._advantage[t, n, 0], expected, atol=1e-5, rtol=1e-4)
            empty = net.value_of(row[None], torch.zeros(1, H), no)[0, 0]
            checked.append(bool((value - empty).abs() > 1e-4))

    model = PPO("MlpPolicy", recalls(wait=9, cap=4), **SMALL)
    model.learn(48 * 2, callback=AtEnd(torch.no_grad()(check)))
    assert len(checked) > 5 and any(checked)


def test_rows_that_are_no_transitions_are_left_out_and_remembered_by_nobody() -> None:
    # A foreign vector environment spends a step on each reset.
    model = PPO("MlpPolicy", gym.make_vec("CartPole-v1", num_envs=4), **SMALL)
    inner, trained, real = model._judge, [], []
    model._judge = lambda batch: (trained.append(len((judged := inner(batch))[0])), judged)[1]  # type: ignore[method-assign]

    def check(m: Any) -> None:
        valid, start = m.rollout.valid, m._memories.start
        real.append(int(valid.sum()))
        for t, n in (~valid).nonzero().tolist():
            assert start[t, n] and start[t + 1, n]  # the row itself, and the first real one after it

    model.learn(400, callback=AtEnd(check))
    assert sum(trained) == 2 * sum(real) < 2 * 64 * len(real)


def test_a_resumed_run_is_the_same_run() -> None:
    def make() -> PPO:
        return PPO("MlpPolicy", recalls(), reward=Task() * 2.0, **SMALL)

    whole = make().learn(48 * 4)
    half = make().learn(48 * 2)
    state = half.training_state()
    rest = make()
    rest.load_training_state(state)
    rest.learn(48 * 2, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), rest.policy.parameters()):
        assert torch.equal(a, b)
    assert state["memory"]["state"].any() and torch.equal(whole._memories.state, rest._memories.state)  # type: ignore[union-attr]


def test_predict_follows_sb3s_recurrent_policies() -> None:
    model = PPO("MlpPolicy", recalls(), **SMALL).learn(48)
    net = model.policy
    assert isinstance(net, MemoryPolicy)
    obs = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32).clip(-1, 1)
    start = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    state, now = None, torch.zeros(3, H)
    for t in range(4):
        action, state = model.predict(obs[t], state=state, episode_start=start[t], deterministic=True)
        with torch.no_grad():
            expected, _, _, now = net.step(torch.as_tensor(obs[t]), now, torch.as_tensor(start[t]), True)
        assert state is not None and state[0].shape == (1, 3, H)
        assert action.tolist() == expected.tolist()
        np.testing.assert_allclose(state[0][0], now, atol=1e-6)
    one, state = model.predict(obs[0, 0])
    assert np.ndim(one) == 0 and state is not None and state[0].shape == (1, 1, H)
    assert model.predict(obs[1, 0], state=state, episode_start=np.array([False]))[1] is not None


def test_saved_and_loaded(tmp_path: Any) -> None:
    model = PPO("MlpPolicy", recalls(), **SMALL).learn(48)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=recalls())
    assert isinstance(loaded.policy, MemoryPolicy) and loaded.policy.memory == H
    loaded.learn(48)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        PPO("MlpPolicy", recalls(), **{**SMALL, "policy_kwargs": {"memory": H, "window": 5}})
    with pytest.raises(ValueError, match="shares its features"):
        policy(share_features_extractor=False)
    with pytest.raises(ValueError, match="Discrete and Box"):
        policy(spaces.MultiBinary(2))
    with pytest.raises(TypeError, match="memory"):
        policy().evaluate_actions(torch.zeros(2, 3), torch.zeros(2))
    assert not isinstance(
        PPO("MlpPolicy", recalls(), **{**SMALL, "policy_kwargs": {"memory": None}}).policy, MemoryPolicy
    )


def test_it_learns_what_only_a_memory_can_know() -> None:
    scores = {}
    for memory in (16, None):
        sizes = {"n_steps": 12, "batch_size": 96, "n_epochs": 4, "learning_rate": 5e-3, "ent_coef": 0.01}
        model = PPO("MlpPolicy", recalls(32), seed=0, device="cpu", policy_kwargs={"memory": memory}, **sizes)
        model.learn(16_000)
        scores[memory] = evaluate_batch(acting(model, True), recalls(100), 200, 1).success
    assert scores[16] == 1.0 and scores[None] is not None and 0.3 < scores[None] < 0.7


def test_memories_carry_over() -> None:
    memories = Memories(2, 3, H, torch.device("cpu"))
    memories.begin()
    assert memories.start[0].all()
    memories.state[2] = 5.0
    memories.add(0, torch.tensor([True, False, False]), None)
    memories.add(1, torch.tensor([False, True, False]), torch.tensor([False, True, True]))
    assert memories.start[2].tolist() == [True, True, False]
    saved = memories.dump()
    memories.open()
    assert memories.start[0].tolist() == [True, True, False] and (memories.state[0] == 5).all()
    other = Memories(2, 3, H, torch.device("cpu"))
    other.load(saved)
    assert torch.equal(other.state[0], memories.state[0]) and torch.equal(other.start[0], memories.start[0])
