"""One update equals Stable-Baselines3's PPO: same weights, same experience, same minibatches, same parameters after."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from cairn.agents import PPO
from cairn.agents.collecting import PHASES
from cairn.agents.defaults import resolve
from cairn.envs import from_gymnasium

LANES, STEPS = 3, 16

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-10, 10, (3,), np.float32),
    "dict": spaces.Dict(
        {
            "near": spaces.Box(-10, 10, (2,), np.float32),
            "far": spaces.Box(-10, 10, (1,), np.float32),
            "phase": spaces.Discrete(4),
        }
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-0.5, 0.5, (2,), np.float32),
    "multidiscrete": spaces.MultiDiscrete([2, 3]),
    "multibinary": spaces.MultiBinary(3),
}


class Clockwork(gym.Env[Any, Any]):
    """No chance in it: what happens follows from the actions and the lane. Every other episode is truncated."""

    def __init__(self, lane: int, observation: str, action: str) -> None:
        self.lane, self.kind, self.episode = lane, observation, -1
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def observe(self) -> Any:
        if self.kind == "box":
            return self.x.astype(np.float32)
        near, far = self.x[:2].astype(np.float32), self.x[2:].astype(np.float32)
        return {"near": near, "far": far, "phase": self.clock % 4}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:  # the first one; a bridge may have looked at an observation before
            self.episode = -1
        self.episode, self.clock = self.episode + 1, 0
        self.x = np.array([self.lane, self.episode, 1.0]) / 3
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        push = float(np.sum(np.asarray(action, np.float64)))
        self.x = 0.9 * self.x + 0.2 * np.sin(self.x[::-1] + push + self.clock)
        ends = self.clock >= 3 + (self.episode + 2 * self.lane) % 4
        cut = (self.episode + self.lane) % 2 == 1
        return self.observe(), float(np.sin(3 * self.x.sum()) + push), ends and not cut, ends and cut, {}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")  # SB3's, about the odd one we want
@pytest.mark.parametrize(
    ("observation", "action", "options"),
    [
        ("box", "discrete", {}),
        ("box", "box", {}),
        ("dict", "discrete", {}),
        ("dict", "box", {}),
        ("box", "multidiscrete", {}),
        ("box", "multibinary", {}),
        ("box", "discrete", {"clip_range_vf": 0.1, "normalize_advantage": False, "ent_coef": 0.05}),
        ("dict", "box", {"target_kl": 1e-4, "n_epochs": 5, "learning_rate": 3e-3}),
        ("box", "discrete", {"batch_size": 20, "max_grad_norm": 0.01, "gamma": 0.8, "gae_lambda": 0.5}),
        ("box", "box", {"use_sde": True}),
        ("box", "box", {"policy_kwargs": {"share_features_extractor": False, "log_std_init": -1.0}}),
    ],
)
def test_one_update_equals_sb3(
    observation: str, action: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_kwargs = {"net_arch": {"pi": [16, 8], "vf": [12]}, **options.get("policy_kwargs", {})}
    settings: dict[str, Any] = {"n_steps": STEPS, "batch_size": 12, "n_epochs": 3, "learning_rate": 1e-2,
                                "ent_coef": 0.01, "seed": 0, "device": "cpu"}  # fmt: skip
    settings |= {**options, "policy_kwargs": policy_kwargs}
    name = "MultiInputPolicy" if observation == "dict" else "MlpPolicy"

    makers = [lambda lane=lane: Clockwork(lane, observation, action) for lane in range(LANES)]
    reference = sb3.PPO(name, DummyVecEnv(makers), **settings)
    before = {key: tensor.clone() for key, tensor in reference.policy.state_dict().items()}
    np.random.seed(1)
    reference.learn(STEPS * LANES)
    buffer = reference.rollout_buffer
    shape = (LANES, STEPS, *(reference.action_space.shape or ()))
    lived = torch.as_tensor(np.asarray(buffer.actions).reshape(shape)).swapaxes(0, 1)
    if action == "multibinary":  # sampled as floats, kept by SB3 as whole numbers
        lived = lived.float()

    model = PPO(name, from_gymnasium(lambda lane: Clockwork(lane, observation, action), LANES), **settings)
    model.policy.load_state_dict(before)
    taken = iter(lived)

    def replay(obs: Any, noise: Any = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        actions = next(taken)
        value, log_prob, _ = model.policy.evaluate_actions(obs, actions)
        return actions, value, log_prob

    def order(rows: int) -> torch.Tensor:
        lane_major = torch.as_tensor(np.random.permutation(rows))
        return lane_major % STEPS * LANES + lane_major // STEPS

    monkeypatch.setattr(model.policy, "forward", replay)
    monkeypatch.setattr(model, "_permutation", order)
    np.random.seed(1)
    model.learn(STEPS * LANES)

    assert bool(model.rollout.truncated.any()) and bool(model.rollout.terminated.any())
    for ours, theirs in ((model._advantage, buffer.advantages), (model._target, buffer.returns)):
        expected = torch.as_tensor(theirs).reshape(LANES, STEPS).T
        torch.testing.assert_close(ours.sum(-1), expected, rtol=1e-5, atol=1e-5)
    after = reference.policy.state_dict()
    assert not torch.allclose(after["value_net.weight"], before["value_net.weight"], atol=1e-3)
    for key, tensor in model.policy.state_dict().items():
        torch.testing.assert_close(tensor, after[key], rtol=0, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
    assert model._n_updates == reference._n_updates
    for key, number in reference.logger.name_to_value.items():
        if key.startswith("train/"):
            assert model.logger.name_to_value[key] == pytest.approx(number, rel=1e-3, abs=1e-5), key


class Keys(KVWriter):
    """Notes what is logged."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.seen |= set(key_values)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_logger_keys_equal_sb3s(env: str) -> None:
    seen = []
    for cls in (sb3.PPO, PPO):
        model, keys = cls("MlpPolicy", gym.make(env), n_steps=256, seed=0, device="cpu"), Keys()
        model.set_logger(Logger(folder=None, output_formats=[keys]))
        model.learn(512)
        seen.append(keys.seen)
    ours = {f"time/{phase}" for phase in PHASES}
    assert seen[0] == seen[1] - ours and ours <= seen[1]
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/approx_kl"} <= seen[1]


def test_one_environment_gets_sb3s_settings() -> None:
    reference = sb3.PPO("MlpPolicy", gym.make("CartPole-v1"), device="cpu")
    ours = resolve(1, continuous=True)
    for name in ("n_steps", "batch_size", "n_epochs", "learning_rate", "ent_coef"):
        assert getattr(ours, name) == getattr(reference, name), name
