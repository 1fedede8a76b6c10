"""The face of DQN, SAC and TD3: what goes in, rewards and counterfactuals, state, files. Updates: the parity test."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from cairn.agents import DQN, SAC, TD3
from cairn.agents.config import ConfigError, TrainConfig
from cairn.agents.defaults import OffPolicySettings, resolve_off_policy
from cairn.agents.training import evaluate, resume, train
from cairn.envs import from_gymnasium
from cairn.runs import Linear, Run, first_difference, read_checkpoint, write_checkpoint
from cairn.shaping import RND, CounterfactualMachine, EpisodicCount, MachineEnv, RewardMachine, Task

SMALL: dict[str, Any] = {"learning_starts": 20, "batch_size": 8, "buffer_size": 200, "seed": 0, "device": "cpu",
                         "policy_kwargs": {"net_arch": [8]}}  # fmt: skip
EMPTY = "cairn/MiniGrid-Empty-5x5-v0"


def poles(lanes: int = 3) -> Any:
    return from_gymnasium("CartPole-v1", lanes, max_episode_steps=12)


def pendulums(lanes: int = 2) -> Any:
    return from_gymnasium("Pendulum-v1", lanes, max_episode_steps=15)


class Watch(BaseCallback):
    """Calls functions at the moments of a rollout."""

    def __init__(self, **at: Callable[[Any], Any]) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return "step" not in self.at or self.at["step"](self) is not False

    def _on_rollout_start(self) -> None:
        if "start" in self.at:
            self.at["start"](self)


# ---- what goes in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: "CartPole-v1", lambda: gym.make("CartPole-v1"), lambda: gym.make_vec("CartPole-v1", num_envs=3),
             lambda: poles(2), lambda: gym.make_vec(EMPTY, num_envs=2)],
    ids=["id", "env", "VectorEnv", "BatchEnv", "minigrid"],
)  # fmt: skip
def test_any_environment(make: Callable[[], Any]) -> None:
    model = DQN("MlpPolicy", make(), **SMALL)
    assert isinstance(model, BaseAlgorithm)
    assert model.learn(120).num_timesteps >= 120 and model._n_updates > 0


@pytest.mark.parametrize(
    ("cls", "arguments", "hint"),
    [
        (DQN, {"env": "Pendulum-v1"}, "SAC and TD3 are for a Box"),
        (SAC, {"env": "CartPole-v1"}, "DQN is for Discrete"),
        (DQN, {"reward": 1e-3}, "learning_rate=0.001"),
        (DQN, {"replay_buffer_class": object}, "reward="),
        (DQN, {"policy": torch.nn.Linear}, "cairn.agents.DQNPolicy"),
        (DQN, {"reward": Task() + RND()}, "discount of its own"),
        (DQN, {"gamma": 1.5}, "gamma=1.5"),
        (DQN, {"batch_size": 0}, "batch_size=0"),
        (DQN, {"train_freq": (1, "episode")}, "one environment only"),
        (SAC, {"env": "Pendulum-v1", "ent_coef": "much"}, "ent_coef='much'"),
        (TD3, {"env": "Pendulum-v1", "action_noise": "white"}, "action_noise='white'"),
        (DQN, {"buffer_size": 10**13}, "smaller buffer_size"),
    ],
)
def test_mistakes_are_named(cls: Any, arguments: dict[str, Any], hint: str) -> None:
    given = {"policy": "MlpPolicy", "env": poles(2), **SMALL, **arguments}
    if "reward" in arguments:
        given["gamma"] = 0.9
    with pytest.raises((ValueError, TypeError), match=hint):
        cls(**given)


def test_settings_follow_from_the_number_of_environments(capsys: pytest.CaptureFixture[str]) -> None:
    sac, dqn = SAC.one, DQN.one
    assert resolve_off_policy(1, sac) == sac and resolve_off_policy(1, dqn) == dqn
    assert resolve_off_policy(4, dqn)[2:] == (32, 1, 1)
    assert resolve_off_policy(16, dqn)[2:] == (32, 1, 4)
    assert resolve_off_policy(512, dqn)[1:] == (5120, 512, 1, 8)  # 128 minibatches of 32 for 512 transitions
    assert resolve_off_policy(8, sac)[2:] == (256, 1, 8)
    assert resolve_off_policy(1024, sac)[2:] == (4096, 1, 8)
    assert resolve_off_policy(512, dqn, gradient_steps=1, batch_size=7)[2:] == (7, 1, 1)
    DQN("MlpPolicy", poles(16), device="cpu", buffer_size=100, verbose=1)
    assert "For 16 environments: learning_starts=160, batch_size=32, train_freq=1, gradient_steps=4" in (
        capsys.readouterr().out
    )
    assert isinstance(dqn, OffPolicySettings)


class Shifted(gym.Env[Any, Any]):
    """Pays for the action 6 of {5, 6, 7}."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert action in self.action_space
        return np.zeros(1, np.float32), float(action == 6), True, False, {}


def test_actions_count_from_their_start() -> None:
    settings = {**SMALL, "learning_rate": 1e-2}
    model = DQN("MlpPolicy", from_gymnasium(Shifted, 4), **settings).learn(800)
    assert model.predict(np.zeros(1, np.float32), deterministic=True)[0] == 6
    model.exploration_rate = 1.0
    obs = torch.zeros(300, 1)
    assert set(model.predict(obs)[0].tolist()) == {5, 6, 7} == set(model.predict(obs.numpy())[0].tolist())


def test_each_environment_explores_by_a_draw_of_its_own() -> None:
    model = DQN("MlpPolicy", poles(1000), **SMALL)
    model.exploration_rate, model.num_timesteps = 0.5, 10**6
    obs = torch.zeros(1000, 4)
    same = (model._choose(obs) == model.q_net(obs).argmax(1, keepdim=True)).float().mean()
    assert 0.68 < float(same) < 0.82  # half are drawn, and half of these fall on the best


def test_callbacks_see_what_happened() -> None:
    gathered, lasted, seen = [0.0] * 3, [0] * 3, []

    def look(callback: Any) -> None:
        scope = callback.locals
        for i, row in enumerate(scope["infos"]):
            gathered[i] += float(scope["rewards"][i])
            lasted[i] += 1
            assert ("episode" in row) == bool(scope["dones"][i])
            if "episode" in row:
                assert row["episode"] == {"r": gathered[i], "l": lasted[i]}
                assert row["TimeLimit.truncated"] == (lasted[i] == 12 and abs(row["terminal_observation"][2]) < 0.2095)
                seen.append(gathered[i])
                gathered[i], lasted[i] = 0.0, 0

    model = DQN("MlpPolicy", poles(3), **SMALL).learn(200, callback=Watch(step=look))
    assert len(seen) > 10 and sorted(e["r"] for e in model.ep_info_buffer) == sorted(seen)  # type: ignore[union-attr]


# ---- counterfactuals ---------------------------------------------------------------------------------------


class Line(gym.Env[Any, Any]):
    """A row of cells, the agent begins in the middle; the environment itself pays and ends nothing."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.cell = 6
        return np.array([self.cell / 12], np.float32), {"facts": {"cell": self.cell}}

    def step(self, action: int) -> Any:
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), 12)
        return np.array([self.cell / 12], np.float32), 7.0, False, False, {"facts": {"cell": self.cell}}


def there_and_back() -> RewardMachine:
    """To the right end, then to the left end."""
    labels: dict[str, Any] = {"right": lambda facts: facts["cell"] == 12, "left": lambda facts: facts["cell"] == 0}
    edges = [("out", "right", "back", 0.0), ("back", "left & !right", "home", 1.0)]
    return RewardMachine(edges, labels, final=["home"])


def line() -> Any:
    return gym.wrappers.TimeLimit(MachineEnv(Line(), there_and_back()), 48)


def test_counterfactual_rows_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SMALL, "learning_starts": 2000, "buffer_size": 3000}  # a random walk reaches both ends
    experience = CounterfactualMachine(there_and_back())
    model = DQN("MlpPolicy", from_gymnasium(line, 3), experience=experience, **settings).learn(2000)
    replay = model.replay_buffer
    at, lane = replay.draw(900)
    assert replay.seat is not None
    monkeypatch.setattr(replay, "draw", lambda n: (at, lane))
    batch, x = replay.sample(900), replay.rows(at, lane)
    assert isinstance(x.obs, torch.Tensor) and isinstance(x.next_obs, torch.Tensor)
    cell, after = (obs[:, 0] for obs in (x.obs, x.next_obs))
    assert len(batch.rewards) == 1800  # "home" is final: no step is made from it
    right, left = after > 0.99, after < 0.01
    for k, (target, paid, ends) in enumerate(((right.long(), 0 * after, left & False), (1 + left.long(), left, left))):
        part = slice(900 * k, 900 * (k + 1))
        assert torch.equal(batch.observations[part, 0], cell) and torch.equal(batch.next_observations[part, 0], after)
        assert (batch.observations[part, 1:].argmax(1) == k).all()
        assert torch.equal(batch.next_observations[part, 1:].argmax(1), target)
        assert torch.equal(batch.rewards[part, 0], paid.float())
        assert torch.equal(batch.dones[part, 0].bool(), ends)
        assert torch.equal(batch.actions[part, 0], x.action)
    assert bool(right.any()) and bool(left.any())


def solved(seed: int, counterfactual: bool) -> bool:
    machine = there_and_back()
    model = DQN(
        "MlpPolicy", from_gymnasium(line, 4), learning_rate=5e-3, buffer_size=5000, learning_starts=100, batch_size=32,
        gamma=0.9, train_freq=1, gradient_steps=1, target_update_interval=100, exploration_fraction=0.5,
        exploration_final_eps=0.1, policy_kwargs={"net_arch": [32]}, seed=seed, device="cpu",
        experience=CounterfactualMachine(machine) if counterfactual else None,
    )  # fmt: skip
    model.learn(1600)
    env, paid, over = line(), 0.0, False
    obs, _ = env.reset()
    while not over:
        obs, reward, terminated, truncated, _ = env.step(int(model.predict(obs, deterministic=True)[0]))
        paid, over = paid + float(reward), terminated or truncated
    return paid > 0


def test_dqn_learns_a_machine_sooner_with_counterfactuals() -> None:
    with_them, without = ([solved(seed, c) for seed in range(3)] for c in (True, False))
    assert sum(with_them) > sum(without) and sum(with_them) >= 2, (with_them, without)


def test_n_steps_and_counterfactuals_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="no next steps"):
        DQN("MlpPolicy", from_gymnasium(line, 2), experience=CounterfactualMachine(there_and_back()), n_steps=3)


# ---- state -------------------------------------------------------------------------------------------------

RUNS: dict[str, Callable[[], Any]] = {
    "dqn": lambda: DQN("MlpPolicy", poles(3), learning_rate=Linear(1e-3), target_update_interval=40, **SMALL),
    "one": lambda: DQN("MlpPolicy", poles(1), n_steps=3, train_freq=[1, "episode"], gradient_steps=-1, **SMALL),
    "reward": lambda: DQN("MlpPolicy", poles(3), Task() + 0.1 * EpisodicCount() + 0.1 * RND().into("main"),
                          reward_freq=7, **SMALL),
    "minigrid": lambda: DQN("MlpPolicy", gym.make_vec(EMPTY, num_envs=2), "task + gated(episodic_count, 0.5)", **SMALL),
    "crm": lambda: DQN("MlpPolicy", from_gymnasium(line, 2), experience=CounterfactualMachine(there_and_back()),
                       **SMALL),
    "sac": lambda: SAC("MlpPolicy", pendulums(), use_sde=True, **SMALL),
    "sac_noise": lambda: SAC("MlpPolicy", pendulums(), action_noise=0.1, ent_coef=0.1, **SMALL),
    "td3": lambda: TD3("MlpPolicy", pendulums(), action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1)),
                       **SMALL),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    """Saved through the checkpoint writer, in the midst of episodes, with the ring full; and the same seed twice."""
    total, middle, whole = 420, tmp_path / "middle", RUNS[kind]()

    def save(callback: Any) -> None:
        if callback.model.num_timesteps >= 250 and not middle.exists():
            write_checkpoint(middle, {}, callback.model.training_state())

    whole.learn(total, callback=Watch(start=save))
    _, state = read_checkpoint(middle)
    torch.manual_seed(99)
    np.random.seed(99)
    resumed = RUNS[kind]()
    resumed.load_training_state(state)
    assert whole._n_updates > 0
    resumed.learn(total - resumed.num_timesteps, reset_num_timesteps=False)
    assert first_difference(resumed.training_state(), whole.training_state()) is None


def test_the_state_is_refused_in_the_middle_of_an_update() -> None:
    refused = []

    def ask(callback: Any) -> None:
        with pytest.raises(RuntimeError, match="on_rollout_start"):
            callback.model.training_state()
        refused.append(True)

    DQN("MlpPolicy", poles(2), **SMALL).learn(30, callback=Watch(step=ask)).training_state()
    assert refused


def test_states_and_lanes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="pass the same reward"):
        RUNS["dqn"]().load_training_state(RUNS["reward"]().training_state())
    model = RUNS["dqn"]()
    with pytest.raises(ValueError, match="3 lanes"):
        model.set_env(poles(5))
    model.set_env(poles(3))
    model.learn(60)


# ---- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dqn", "sac", "sac_noise", "td3", "reward"])
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = RUNS[kind]().learn(100)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    for name, part in model.get_parameters().items():
        assert first_difference(_plain(part), _plain(loaded.get_parameters()[name])) is None, name
    obs = model.observation_space.sample()
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    again = type(model).load(tmp_path / "model", env=model.batch)
    assert again.learn(60)._n_updates > 0 and again._config.get("action_noise") == model._config.get("action_noise")


def _plain(tree: Any) -> Any:
    if isinstance(tree, list | tuple):
        return [_plain(v) for v in tree]
    return {str(k): _plain(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def test_an_experience_map_must_be_handed_over_again(tmp_path: Path) -> None:
    RUNS["crm"]().save(tmp_path / "model")
    with pytest.raises(ValueError, match="CounterfactualMachine.*experience="):
        DQN.load(tmp_path / "model", env=from_gymnasium(line, 2))
    kept = CounterfactualMachine(there_and_back())
    DQN.load(tmp_path / "model", env=from_gymnasium(line, 2), experience=kept).learn(40)


AGENT = {"learning_starts": 20, "batch_size": 8, "buffer_size": 300, "policy_kwargs": {"net_arch": [8]}}


@pytest.mark.parametrize(("agent", "env"), [("dqn", EMPTY), ("sac", "Pendulum-v1"), ("td3", "Pendulum-v1")])
def test_a_run_goes_on_to_the_same_bits(agent: str, env: str, tmp_path: Path) -> None:
    # A schedule would follow the number of steps asked for, which differs between the two.
    noise: dict[str, dict[str, Any]] = {"td3": {"action_noise": 0.1}, "dqn": {"exploration_initial_eps": 0.05}}
    config = TrainConfig(
        env=env, agent=agent, steps=400, num_envs=2, agent_args={**AGENT, **noise.get(agent, {})}, threads=1,
        env_args={"max_episode_steps": 21},
    )  # fmt: skip
    train(replace(config, run=str(tmp_path / "whole")))
    train(replace(config, run=str(tmp_path / "cut"), steps=222))
    torch.rand(17)
    resume(tmp_path / "cut", steps=400)
    states, rows = [], []
    for name in ("whole", "cut"):
        run = Run.open(tmp_path / name)
        latest = run.latest()
        assert latest is not None
        states.append(latest[2]["model"])
        rows.append([{k: v for k, v in row.items() if not k.startswith("time/")} for row in run.metrics()])
    assert first_difference(*states) is None
    assert rows[0] == rows[1] and len(rows[0]) < 60 and any("train/n_updates" in row for row in rows[0])
    assert evaluate(tmp_path / "cut", 2).episodes == 2
    kept = json.loads((tmp_path / "cut" / "config.json").read_text())["config"]["train"]["agent_args"]
    assert kept["train_freq"] == (2 if agent == "dqn" else 1)  # DQN: every 4 steps of one environment, here of two
    assert kept["buffer_size"] == 300 and kept["gradient_steps"] >= 1


def test_a_hostile_run_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(env=EMPTY, agent="dqn", steps=60, num_envs=2, agent_args=AGENT, run=str(tmp_path / "r"))
    train(config)
    path = tmp_path / "r" / "config.json"
    text = path.read_text()
    for change in ('"buffer_size": 300000000000000', '"replay_buffer_class": "os:system"'):
        path.write_text(text.replace('"buffer_size": 300', change))
        assert path.read_text() != text
        for call in (resume, evaluate):
            with pytest.raises(ConfigError):
                call(tmp_path / "r")
