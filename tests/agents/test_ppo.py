"""PPO's face: what goes in, what comes out, callbacks, state, files. That it learns is in test_ppo_learns.py."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecEnv

from cairn.agents import PPO, ActorCriticPolicy
from cairn.agents.base import ProgressBar
from cairn.agents.progress import Bar, Lines
from cairn.envs import as_sb3, from_gymnasium
from cairn.runs import CheckpointError, Linear, read_checkpoint, write_checkpoint
from cairn.shaping import EpisodicCount, Task

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
EMPTY = "cairn/MiniGrid-Empty-5x5-v0"


def poles(lanes: int = 3, cap: int = 12) -> Any:
    """CartPoles that are cut after ``cap`` steps: both kinds of end occur."""
    return from_gymnasium("CartPole-v1", lanes, max_episode_steps=cap)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


def same(a: Any, b: Any) -> bool:
    """Bitwise equality of two state trees."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a.cpu(), b.cpu()) and a.dtype == b.dtype
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b


class Watch(BaseCallback):
    """Calls functions of the model at the moments of a rollout."""

    def __init__(self, **at: Callable[[Any], Any]) -> None:
        super().__init__()
        self.at = at

    def _call(self, moment: str) -> Any:
        return self.at[moment](self) if moment in self.at else None

    def _on_step(self) -> bool:
        return self._call("step") is not False

    def _on_rollout_start(self) -> None:
        self._call("start")

    def _on_rollout_end(self) -> None:
        self._call("end")


# ---- what goes in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: "CartPole-v1",
        lambda: gym.make("Pendulum-v1"),
        lambda: gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2),
        lambda: gym.make_vec("CartPole-v1", num_envs=3),
        lambda: make_vec_env("CartPole-v1", n_envs=2),
        lambda: poles(2),
    ],
    ids=["id", "env", "SyncVectorEnv", "VectorEnv", "VecEnv", "BatchEnv"],
)
def test_any_environment(make: Callable[[], Any]) -> None:
    model = PPO("MlpPolicy", make(), **SMALL)
    assert isinstance(model, BaseAlgorithm)
    if model.batch.always_valid:
        assert isinstance(model.get_env(), VecEnv)
    else:  # Stable-Baselines3 cannot leave rows out, we can
        with pytest.raises(ValueError, match="NEXT_STEP"):
            model.get_env()
    assert model.learn(100).num_timesteps >= 100


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"])
def test_any_policy_name_on_any_space(policy: str) -> None:
    for env in (poles(2), gym.make_vec(EMPTY, num_envs=2)):
        PPO(policy, env, **SMALL).learn(32)


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        ({"policy": "LstmPolicy"}, ValueError, "MlpPolicy"),
        ({"policy": torch.nn.Linear}, TypeError, "derive it from cairn.agents.ActorCriticPolicy"),
        ({"reward": 3e-4}, TypeError, "learning_rate=0.0003"),
        ({"rollout_buffer_class": object}, TypeError, "reward="),
        ({"batch_size": 1}, ValueError, "at least two"),
        ({"use_sde": True}, ValueError, "continuous"),
        ({"env": 7}, TypeError, "id"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type[Exception], hint: str) -> None:
    with pytest.raises(error, match=hint):
        PPO(**{"policy": "MlpPolicy", "env": poles(2), **SMALL, **arguments})


def test_sizes_are_resolved_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model = PPO("MlpPolicy", poles(16), device="cpu", verbose=1)
    assert (model.n_steps, model.batch_size, model.n_epochs) == (128, 256, 4)
    assert "For 16 environments: n_steps=128, batch_size=256, n_epochs=4" in capsys.readouterr().out
    for lanes, sizes in ((127, (128, 2032, 4)), (128, (128, 1024, 2)), (1024, (16, 1024, 2))):
        model = PPO("MlpPolicy", gym.make_vec(EMPTY, num_envs=lanes), device="cpu")
        assert (model.n_steps, model.batch_size, model.n_epochs) == sizes


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
    model = PPO("MlpPolicy", from_gymnasium(Shifted, 4), **{**SMALL, "learning_rate": 1e-2}).learn(600)
    assert model.predict(np.zeros(1, np.float32), deterministic=True)[0] == 6
    x: list[Any] = []
    PPO("MlpPolicy", from_gymnasium(Shifted, 4), reward=lambda s: x.append(s) or s.reward, **SMALL).learn(64)
    assert x[0].action.min() >= 5  # rewards see what was executed


class Wide(BaseFeaturesExtractor):
    """Somebody's extractor, written for Stable-Baselines3."""

    def __init__(self, observation_space: gym.Space[Any], features_dim: int = 6) -> None:
        super().__init__(observation_space, features_dim)
        self.shape = observation_space.shape
        self.layer = torch.nn.Linear(int(np.prod(observation_space.shape or ())), features_dim)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        assert observations.shape[1:] == self.shape and observations.max() <= 1
        return torch.relu(self.layer(observations.flatten(1)))


class Picture(Shifted):
    observation_space = spaces.Box(0, 255, (40, 36, 3), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        gym.Env.reset(self, seed=seed)
        return np.full((40, 36, 3), 255, np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.full((40, 36, 3), 255, np.uint8), 1.0, True, False, {}


@pytest.mark.parametrize("extractor", [Wide, NatureCNN])
def test_extractors_for_sb3_get_pictures_as_it_gives_them(extractor: type) -> None:
    kwargs = {"features_extractor_class": extractor, "net_arch": [8]}
    model = PPO("CnnPolicy", from_gymnasium(Picture, 2), policy_kwargs=kwargs, **SMALL).learn(32)
    assert model.policy.features_extractor._observation_space.shape == (3, 40, 36)
    assert model.predict(np.zeros((40, 36, 3), np.uint8))[0].shape == ()


# ---- predict -----------------------------------------------------------------------------------------------


def test_predict_takes_what_either_environment_gives() -> None:
    envs, env = gym.make_vec(EMPTY, num_envs=4), gym.make(EMPTY)
    model = PPO("MlpPolicy", envs, **SMALL)
    obs, _ = env.reset(seed=0)
    assert isinstance(obs["mission"], str)
    action, state = model.predict(obs)
    assert isinstance(action, np.ndarray) and action.shape == () and state is None
    env.step(action)

    batch, _ = envs.reset(seed=1)
    actions, _ = model.predict(batch, deterministic=True)
    assert isinstance(actions, torch.Tensor) and actions.shape == (4,)
    arrays = {key: leaf.numpy() for key, leaf in batch.items()}
    from_arrays, _ = model.predict(arrays, deterministic=True)
    assert isinstance(from_arrays, np.ndarray) and from_arrays.tolist() == actions.tolist()
    several = {key: np.stack([obs[key]] * 3) for key in ("image", "direction")} | {"mission": [obs["mission"]] * 3}
    assert model.predict(several)[0].shape == (3,)
    with pytest.raises(ValueError, match="flat=False"):
        model.predict(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="mission"):
        model.predict({key: leaf for key, leaf in arrays.items() if key != "mission"})


def test_predict_is_the_same_for_one_and_for_many() -> None:
    model = PPO("MlpPolicy", poles(5), **SMALL).learn(100)
    obs, _ = poles(5).reset(seed=3)
    together, _ = model.predict(obs, deterministic=True)
    alone = [int(model.predict(row.numpy(), deterministic=True)[0]) for row in obs]
    assert together.tolist() == alone


def test_predict_keeps_to_the_bounds() -> None:
    model = PPO("MlpPolicy", gym.make("Pendulum-v1"), policy_kwargs={"log_std_init": 3.0}, **SMALL)
    obs = model.batch.reset(seed=0)[0]
    actions = torch.cat([model.predict(obs)[0] for _ in range(50)])
    assert float(actions.abs().max()) == 2.0


def test_sb3s_evaluation() -> None:
    model = PPO("MlpPolicy", poles(3), **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Monitor
        mean, _ = evaluate_policy(model, gym.make("CartPole-v1"), 3)
        assert mean > 5
        model = PPO("MlpPolicy", gym.make_vec(EMPTY, num_envs=4), **SMALL)
        returns, lengths = evaluate_policy(
            model, as_sb3(gym.make_vec(EMPTY, num_envs=2), flat=False), 4, return_episode_rewards=True
        )
    assert len(returns) == 4 and all(0 <= r < 1 for r in returns) and max(lengths) <= 100


@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
@pytest.mark.parametrize("name", [EMPTY, "cairn/BabyAI-GoToLocal-v0"])
def test_sb3s_evaluation_of_one_minigrid_environment(name: str) -> None:
    """Its mission is a text, which upstream's environment cannot be evaluated for; it arrives whole."""
    model, env, texts = PPO("MlpPolicy", gym.make_vec(name, num_envs=2), **SMALL), gym.make(name), []

    def look(scope: dict[str, Any], _: Any) -> None:
        texts.append((scope["observations"]["mission"].tolist(), env.unwrapped.mission))  # type: ignore[attr-defined]

    returns, lengths = evaluate_policy(model, env, 2, callback=look, return_episode_rewards=True)
    assert len(returns) == 2 and len(texts) == sum(lengths)
    assert all(shown == [text] and len(text) > 5 for (shown, _), (_, text) in zip(texts[1:], texts))


# ---- callbacks ---------------------------------------------------------------------------------------------


def test_callbacks_see_what_happened() -> None:
    batch = poles(3)
    gathered, lasted, seen = [0.0] * 3, [0] * 3, []
    previous: list[Any] = [None]

    def look(callback: Any) -> None:
        scope, info = callback.locals, previous[0]
        assert len(scope["infos"]) == 3 and scope["dones"].shape == (3,) and callback.training_env is callback.model.env
        for i, row in enumerate(scope["infos"]):
            gathered[i] += float(scope["rewards"][i])
            lasted[i] += 1
            assert ("episode" in row) == bool(scope["dones"][i])
            if "episode" in row:
                assert row["episode"] == {"r": gathered[i], "l": lasted[i]}
                assert row["TimeLimit.truncated"] == (lasted[i] == 12 and abs(row["terminal_observation"][2]) < 0.2095)
                assert not np.allclose(row["terminal_observation"], scope["new_obs"][i])
                seen.append(gathered[i])
                gathered[i], lasted[i] = 0.0, 0
        assert info is None or callback.num_timesteps == info + 3
        previous[0] = callback.num_timesteps

    model = PPO("MlpPolicy", batch, **SMALL)
    model.learn(200, callback=Watch(step=look))
    assert len(seen) > 10 and max(seen) == 12
    assert sorted(episode["r"] for episode in model.ep_info_buffer) == sorted(seen)


def test_sb3s_callbacks(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", poles(2), **SMALL)
    stop = StopTrainingOnRewardThreshold(5.0)
    check = CheckpointCallback(20, str(tmp_path), "pole")
    trial = EvalCallback(make_vec_env("CartPole-v1"), stop, eval_freq=30, best_model_save_path=str(tmp_path), verbose=0)
    with pytest.warns(UserWarning, match="not of the same type"):
        model.learn(10_000, callback=[check, trial])
    assert model.num_timesteps == 60  # every policy balances for 5 steps, so the first trial ends it
    obs = np.zeros(4, np.float32)
    for name in ("pole_40_steps.zip", "best_model", "best_model.zip"):
        assert PPO.load(tmp_path / name).predict(obs, deterministic=True)[0] in (0, 1)


def test_success_and_summands_are_logged() -> None:
    model = PPO("MlpPolicy", gym.make_vec(EMPTY, num_envs=8), reward=Task() + 0.1 * EpisodicCount(), **SMALL)
    row: dict[str, float] = {}
    model.learn(2000, log_interval=None, callback=Watch(end=lambda c: row.update(c.logger.name_to_value)))
    assert row["reward/episodic_count"] > 0 and "reward/task" in row
    recent = model.recent()
    # The task's own return, whatever the terms add; only arrival pays here.
    assert 0 < recent["rollout/ep_rew_mean"] < 1 and recent["rollout/success_rate"] > 0


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    model = PPO("MlpPolicy", poles(2), **SMALL)
    model.learn(128, callback=[ProgressBar(Lines(every=0.0))])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("128 of 128 steps") and "return" in last and "/s" in last


def test_an_interrupted_progress_bar_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("cairn.agents.base.reporter", lambda: Bar(console))

    def interrupt(callback: Any) -> None:
        raise KeyboardInterrupt

    model = PPO("MlpPolicy", poles(2), **SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=Watch(step=interrupt), progress_bar=True)
    model.learn(64, progress_bar=True)  # a second live display would be refused
    assert "64 steps" in console.file.getvalue()  # type: ignore[attr-defined]


def test_parameters_come_and_go_as_in_sb3() -> None:
    one, two = (PPO("MlpPolicy", poles(2), **{**SMALL, "seed": seed}) for seed in (0, 1))
    two.set_parameters(one.get_parameters())
    assert same(weights(one), weights(two)) and set(one.get_parameters()) == {"policy", "policy.optimizer"}


# ---- rewards and advantages --------------------------------------------------------------------------------


def test_advantages_of_two_channels_from_first_principles() -> None:
    """In plain loops, from the network's opinion of every true next observation."""
    bonus = Task() * 0.0 + _position().into("bonus", gamma=0.7, episodic=False)
    model = PPO("MlpPolicy", poles(3, cap=11), reward=Task() + bonus, gae_lambda=0.8, **SMALL)
    assert [channel.name for channel in model.channels] == [
        "main",
        "bonus",
    ] and model.policy.value_net.out_features == 2
    checked = []

    def check(callback: Any) -> None:
        rollout, policy = model.rollout, model.policy
        x = rollout.next_obs
        done = rollout.terminated | rollout.truncated
        with torch.no_grad():
            here, true, there = (policy.predict_values(o.flatten(0, 1)).reshape(16, 3, 2) for o in (
                rollout.obs[:-1], x, rollout.obs[1:]))  # fmt: skip
        rewards = torch.stack([rollout.reward, rollout.obs[:-1, :, 0]], -1)
        for n in range(3):
            for k, gamma in enumerate((0.99, 0.7)):
                following = 0.0
                for t in reversed(range(16)):
                    ends = bool(done[t, n]) and k == 0
                    next_value = (
                        (0.0 if rollout.terminated[t, n] else float(true[t, n, k])) if ends else float(there[t, n, k])
                    )
                    delta = float(rewards[t, n, k]) + gamma * next_value - float(here[t, n, k])
                    following = delta + (0.0 if ends else gamma * 0.8 * following)
                    assert float(model._advantage[t, n, k]) == pytest.approx(following, abs=1e-4)
        checked.append(bool(rollout.truncated.any()) and bool(rollout.terminated.any()))

    model.learn(16 * 3 * 4, callback=Watch(end=check))
    assert any(checked)


def _position() -> Any:
    from cairn.shaping.ops import as_term

    return as_term(lambda x: x.obs[..., 0])


def test_rows_that_are_no_transitions_are_left_out() -> None:
    """A foreign vector environment spends a step on each reset; nothing is learned from it."""
    model = PPO("MlpPolicy", gym.make_vec("CartPole-v1", num_envs=4), **SMALL)
    trained, real = [], []
    inner = model._loss
    model._loss = lambda batch, *rest: (trained.append(len(batch["action"])), inner(batch, *rest))[1]  # type: ignore[method-assign]
    model.learn(400, callback=Watch(end=lambda c: real.append(int(model.rollout.valid.sum()))))
    assert sum(trained) == 2 * sum(real) < 2 * 16 * 4 * len(real)
    assert all(episode["r"] == episode["l"] for episode in model.ep_info_buffer)  # one a step, none for a reset


def test_an_endless_channel_steps_over_rows_that_are_no_transitions() -> None:
    model = PPO("MlpPolicy", gym.make_vec("CartPole-v1", num_envs=4), Task().into("endless", episodic=False), **SMALL)
    gaps = []

    def check(callback: Any) -> None:
        rollout = model.rollout
        with torch.no_grad():
            last = model.policy.predict_values(rollout.obs[-1])
        for n in range(4):
            real = [t for t in range(16) if rollout.valid[t, n]]
            gaps.append(16 - len(real))
            values = [float(rollout.value[t, n, 0]) for t in real] + [float(last[n, 0])]
            following = 0.0
            for i, t in reversed(list(enumerate(real))):
                delta = float(rollout.reward[t, n]) + 0.99 * values[i + 1] - values[i]
                following = delta + 0.99 * 0.95 * following
                assert float(model._advantage[t, n, 0]) == pytest.approx(following, abs=1e-4)

    model.learn(400, callback=Watch(end=check))
    assert sum(gaps) > 5


def test_stretch_tells_starts_episodes_and_steps() -> None:
    seen: list[Any] = []
    model = PPO("MlpPolicy", poles(3), reward=lambda x: seen.append(x.map(torch.clone)) or x.reward, **SMALL)
    model.learn(16 * 3 * 3)
    clock, number = [0] * 3, [0] * 3
    for x in seen:
        for t in range(16):
            for n in range(3):
                assert (int(x.t[t, n]), int(x.episode[t, n]), int(x.lane[t, n])) == (clock[n], number[n], n)
                assert bool(x.start[t, n]) == (clock[n] == 0)
                clock[n] += 1
                if x.done[t, n]:
                    clock[n], number[n] = 0, number[n] + 1
        inside = ~x.done[:-1]
        assert torch.equal(x.next_obs[:-1][inside], x.obs[1:][inside])
        assert not torch.isclose(x.next_obs[:-1][~inside], x.obs[1:][~inside]).all()
    assert max(number) > 2


# ---- state -------------------------------------------------------------------------------------------------

RUNS: dict[str, Callable[[], Any]] = {
    "plain": lambda: PPO("MlpPolicy", poles(3), learning_rate=Linear(1e-3), **SMALL),
    "next_step": lambda: PPO("MlpPolicy", gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3), **SMALL),
    "reward": lambda: PPO("MlpPolicy", poles(3), reward=Task() + 0.1 * EpisodicCount(), **SMALL),
    "continuous": lambda: PPO("MlpPolicy", from_gymnasium("Pendulum-v1", 2), use_sde=True, **SMALL),
    "minigrid": lambda: PPO("MlpPolicy", gym.make_vec(EMPTY, num_envs=2), reward="task + 0.1*episodic_count", **SMALL),
}


@pytest.mark.parametrize("kind", [kind for kind in RUNS if kind != "next_step"])
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    total, half, middle = 16 * 3 * 8, 16 * 3 * 4, tmp_path / "middle"
    whole = RUNS[kind]()

    def save(callback: Any) -> None:
        if callback.model.num_timesteps >= half and not middle.exists():
            write_checkpoint(middle, {}, callback.model.training_state())

    whole.learn(total, callback=Watch(start=save))
    _, state = read_checkpoint(middle)
    torch.manual_seed(99)
    np.random.seed(99)
    resumed = RUNS[kind]()
    resumed.load_training_state(state)
    done = resumed.num_timesteps
    assert done >= half
    resumed.learn(total - done, reset_num_timesteps=False)
    assert same(resumed.training_state(), whole.training_state())


@pytest.mark.parametrize("kind", RUNS)
def test_same_seed_same_bits(kind: str) -> None:
    one, two = (weights(RUNS[kind]().learn(200)) for _ in range(2))
    assert same(one, two)


def test_seeds_differ() -> None:
    one, two = (weights(PPO("MlpPolicy", poles(2), **{**SMALL, "seed": seed})) for seed in (0, 1))
    assert not same(one, two)


def test_the_state_is_refused_in_the_middle_of_an_update() -> None:
    refused = []

    def ask(callback: Any) -> None:
        with pytest.raises(RuntimeError, match="on_rollout_start"):
            callback.model.training_state()
        refused.append(True)

    model = PPO("MlpPolicy", poles(2), **SMALL)
    model.learn(64, callback=Watch(step=ask, end=ask))
    assert len(refused) == 34
    model.training_state()


@pytest.mark.parametrize("kind", ["plain", "reward"])
@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_going_on_after_being_stopped_midway(kind: str, how: str) -> None:
    model = RUNS[kind]()

    def halt(callback: Any) -> bool:
        if callback.num_timesteps >= 3 * 21 and how == "interrupt":
            raise KeyboardInterrupt
        return bool(callback.num_timesteps < 3 * 21)

    if how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            model.learn(1000, callback=Watch(step=halt))
    else:
        model.learn(1000, callback=Watch(step=halt))
        model.training_state()
    assert model.num_timesteps == 63
    now = model.batch.observe()[0].clone()
    first: list[Any] = []
    model.learn(96, reset_num_timesteps=False, callback=Watch(end=lambda c: first.append(model.rollout.obs[0].clone())))
    assert torch.equal(first[0], now)


def test_a_state_of_another_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="pass the same reward"):
        RUNS["plain"]().load_training_state(RUNS["reward"]().training_state())


def test_environments_can_be_exchanged() -> None:
    model = PPO("MlpPolicy", poles(3), **SMALL).learn(48)
    model.set_env(poles(5))
    assert model.learn(100, reset_num_timesteps=False).rollout.lanes == 5
    with pytest.raises(ValueError, match="acts in|observes"):
        model.set_env(gym.make("Pendulum-v1"))
    bound = RUNS["reward"]()
    with pytest.raises(ValueError, match="3 lanes"):
        bound.set_env(poles(5))
    bound.set_env(poles(3))
    bound.learn(48)


# ---- files -------------------------------------------------------------------------------------------------


class Custom(ActorCriticPolicy):
    """Somebody's policy."""


def test_saved_and_loaded_without_environments(tmp_path: Path) -> None:
    kwargs = {"net_arch": {"pi": [8], "vf": [8, 8]}, "activation_fn": torch.nn.ReLU}
    model = PPO("MlpPolicy", poles(3), policy_kwargs=kwargs, clip_range_vf=0.3, **SMALL).learn(100)
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")  # an older one is replaced
    loaded = PPO.load(tmp_path / "model")
    assert same(weights(model), weights(loaded))
    assert isinstance(loaded.policy.mlp_extractor.policy_net[1], torch.nn.ReLU)
    assert loaded.clip_range_vf is not None and loaded.clip_range_vf(1.0) == 0.3 and loaded.num_timesteps == 144
    with pytest.raises(ValueError, match="set_env"):
        loaded.learn(10)
    loaded.set_env(poles(2))
    loaded.learn(64)


def test_a_loaded_model_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", poles(3), **SMALL).learn(100)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=poles(3))
    fresh = {"seed": 5}
    for m in (model, loaded):
        m.set_env(poles(3))
        m.set_random_seed(fresh["seed"])
        m.learn(96)
    assert same(weights(model), weights(loaded))  # the optimiser's moments came along


def test_rewards_come_back_by_their_text_or_from_you(tmp_path: Path) -> None:
    written = PPO("MlpPolicy", poles(2), reward=Task() + 0.5 * EpisodicCount().into("bonus"), **SMALL).learn(32)
    written.save(tmp_path / "written")
    loaded = PPO.load(tmp_path / "written", env=poles(2))
    assert str(loaded.reward) == str(written.reward) and loaded.policy.value_net.out_features == 2
    loaded.learn(32)
    assert PPO.load(tmp_path / "written").predict(np.zeros(4, np.float32))[0] in (0, 1)

    def mine(x: Any) -> torch.Tensor:
        return x.reward + 1

    PPO("MlpPolicy", poles(2), reward=mine, **SMALL).save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"mine.*reward="):
        PPO.load(tmp_path / "own", env=poles(2))
    PPO.load(tmp_path / "own", env=poles(2), reward=mine).learn(32)
    with pytest.raises(ValueError, match="value head"):
        PPO.load(tmp_path / "written", env=poles(2), reward=mine)


def test_objects_of_yours_come_back_through_custom_objects(tmp_path: Path) -> None:
    def rate(progress: float) -> float:
        return 1e-3 * progress

    kwargs = {"features_extractor_class": Wide}
    model = PPO(Custom, from_gymnasium(Picture, 2), learning_rate=rate, policy_kwargs=kwargs, **SMALL)
    model.save(tmp_path / "model")
    for missing in ("Custom", "rate", "Wide"):
        given = {name: thing for name, thing in (("Custom", Custom), ("rate", rate), ("Wide", Wide)) if name != missing}
        with pytest.raises(CheckpointError, match=f"{missing}.*custom_objects"):
            PPO.load(tmp_path / "model", custom_objects=given)
    loaded = PPO.load(tmp_path / "model", custom_objects={"Custom": Custom, "rate": rate, "Wide": Wide})
    assert type(loaded.policy) is Custom and same(weights(loaded), weights(model))
    renewed = PPO.load(tmp_path / "model", custom_objects={"Custom": Custom, "Wide": Wide, "learning_rate": 0.5})
    assert renewed.lr_schedule(1.0) == 0.5


def test_a_model_for_other_spaces_is_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", poles(2), **SMALL).save(tmp_path / "model")
    with pytest.raises(ValueError, match="observation_space"):
        PPO.load(tmp_path / "model", env=gym.make("Pendulum-v1"))
    with pytest.raises(CheckpointError):
        PPO.load(tmp_path)
