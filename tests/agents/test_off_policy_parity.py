"""One update equals Stable-Baselines3's DQN, SAC and TD3: same weights, same experience, same rows, same noise."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

from cairn.agents import DQN, SAC, TD3
from cairn.envs import from_gymnasium

LANES, STEPS, ROWS, BATCH, UPDATES = 3, 20, 14, 24, 6

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-10, 10, (3,), np.float32),
    "dict": spaces.Dict({"near": spaces.Box(-10, 10, (2,), np.float32), "phase": spaces.Discrete(4)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(np.array([-0.5, -2], np.float32), np.array([0.5, 1], np.float32)),
}


class Clockwork(gym.Env[Any, Any]):
    """No chance in it: what happens follows from the actions and the lane. Every other episode is truncated."""

    def __init__(self, lane: int, observation: str, action: str) -> None:
        self.lane, self.kind, self.episode = lane, observation, -1
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def observe(self) -> Any:
        x = self.x.astype(np.float32)
        return x if self.kind == "box" else {"near": x[:2], "phase": self.clock % 4}

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


def drawn(full: bool) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Steps (since the beginning) and lanes of each minibatch."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(STEPS - ROWS if full else 0, STEPS, BATCH), rng.integers(0, LANES, BATCH)


DQNS: list[tuple[str, dict[str, Any]]] = [
    ("box", {}),
    ("dict", {}),
    ("box", {"tau": 0.3, "max_grad_norm": 0.01, "gamma": 0.7, "policy_kwargs": {"activation_fn": torch.nn.Tanh}}),
    ("box", {"n_steps": 3, "gamma": 0.9}),
    ("box", {"learning_rate": 1e-2, "policy_kwargs": {"optimizer_class": torch.optim.RMSprop}}),
]
SACS: list[tuple[str, dict[str, Any]]] = [
    ("box", {}),
    ("dict", {}),
    ("box", {"ent_coef": 0.2, "target_update_interval": 2, "tau": 0.4, "gamma": 0.7}),
    ("box", {"ent_coef": "auto_0.1", "target_entropy": -0.5, "n_steps": 3}),
    ("box", {"use_sde": True}),
    ("box", {"policy_kwargs": {"n_critics": 3, "share_features_extractor": True}}),
]
TD3S: list[tuple[str, dict[str, Any]]] = [
    ("box", {}),
    ("dict", {}),
    ("box", {"policy_delay": 3, "target_policy_noise": 0.5, "target_noise_clip": 0.1, "tau": 0.3}),
    ("box", {"n_steps": 4, "gamma": 0.8}),
]
CASES = [("DQN", *case) for case in DQNS] + [("SAC", *case) for case in SACS] + [("TD3", *case) for case in TD3S]


@pytest.mark.parametrize("full", [False, True], ids=["part", "full"])
@pytest.mark.parametrize(("algorithm", "observation", "options"), CASES)
def test_updates_equal_sb3s(
    algorithm: str, observation: str, options: dict[str, Any], full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = "discrete" if algorithm == "DQN" else "box"
    name = "MultiInputPolicy" if observation == "dict" else "MlpPolicy"
    policy_kwargs = {"net_arch": [16, 8], **options.get("policy_kwargs", {})}
    size = LANES * (ROWS if full else 50)
    settings: dict[str, Any] = {"learning_rate": 3e-3, "buffer_size": size, "learning_starts": LANES * STEPS,
                                "train_freq": 1, "batch_size": BATCH, "seed": 0, "device": "cpu"}  # fmt: skip
    settings |= {**options, "policy_kwargs": policy_kwargs}
    if algorithm == "DQN":
        settings["target_update_interval"] = 30 * LANES  # in the midst of the updates below
    theirs, ours = getattr(sb3, algorithm), {"DQN": DQN, "SAC": SAC, "TD3": TD3}[algorithm]

    makers = [lambda lane=lane: Clockwork(lane, observation, action) for lane in range(LANES)]
    reference: Any = theirs(name, DummyVecEnv(makers), **settings)
    reference.learn(STEPS * LANES)
    model: Any = ours(name, from_gymnasium(lambda lane: Clockwork(lane, observation, action), LANES), **settings)
    model.policy.load_state_dict(reference.policy.state_dict())

    kept, batch, replay = reference.replay_buffer, model.batch, model.replay_buffer
    replay_lived(model, reference, action)
    assert replay.count() == kept.size() * LANES == (ROWS if full else STEPS) * LANES

    for way in (reference, model):
        rows = drawn(full)

        def pick(n: int, rows: Any = rows) -> tuple[Any, Any]:
            return next(rows)

        if way is model:

            def ours_draw(n: int, pick: Any = pick) -> tuple[torch.Tensor, torch.Tensor]:
                picked = [pick(BATCH) for _ in range(n // BATCH)]
                steps, lanes = (np.concatenate(part) for part in zip(*picked))
                return torch.as_tensor(steps % replay.ring), torch.as_tensor(lanes)

            monkeypatch.setattr(replay, "draw", ours_draw)
        else:
            monkeypatch.setattr(kept, "sample", theirs_sample(kept, pick))
        way._n_updates = way._n_calls = 0
        way._current_progress_remaining = 0.5
        torch.manual_seed(5)
        way.set_logger(Logger(folder=None, output_formats=[]))
        for _ in range(UPDATES // 2):
            way.train(2, BATCH)
            if algorithm == "DQN":
                for _ in range(10):
                    way._on_step()
    for key, tensor in model.policy.state_dict().items():
        torch.testing.assert_close(
            tensor, reference.policy.state_dict()[key], rtol=0, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
        )
    moved = [not torch.equal(p, q) for p, q in zip(model.policy.parameters(), fresh(ours, name, batch, settings))]
    assert any(moved)
    if algorithm == "SAC" and model.ent_coef_optimizer is not None:
        torch.testing.assert_close(model.log_ent_coef, reference.log_ent_coef, rtol=0, atol=1e-5)
    assert model._n_updates == reference._n_updates == UPDATES
    for key, number in reference.logger.name_to_value.items():
        if key.startswith("train/") and key not in ("train/n_updates", "train/learning_rate"):
            assert float(model._losses[key]) == pytest.approx(number, rel=1e-3, abs=1e-5), key


def fresh(cls: Any, name: str, batch: Any, settings: dict[str, Any]) -> list[torch.Tensor]:
    return list(cls(name, batch, **settings).policy.parameters())


def replay_lived(model: Any, reference: Any, action: str) -> None:
    """Fill both replay buffers with the same steps, each in its own way; SB3's through its own ``add``."""
    replay, rng = model.replay_buffer, np.random.default_rng(7)
    lanes = [Clockwork(lane, "box" if isinstance(model.observation_space, spaces.Box) else "dict", action)
             for lane in range(LANES)]  # fmt: skip
    kept = reference.replay_buffer
    kept.reset()
    kept.pos, kept.full = 0, False
    model._setup_learn(1)
    before = [env.reset(seed=0)[0] for env in lanes]
    for _ in range(STEPS):
        if action == "discrete":
            scaled = rng.integers(0, 3, (LANES, 1))
            executed: Any = scaled[:, 0]
        else:
            scaled = rng.uniform(-1, 1, (LANES, 2)).astype(np.float32)
            executed = reference.policy.unscale_action(scaled)
        out = [env.step(a) for env, a in zip(lanes, executed)]
        dones = np.array([o[2] or o[3] for o in out])
        infos = [{"TimeLimit.truncated": o[3] and not o[2]} for o in out]
        kept.add(stack(before), stack([o[0] for o in out]), scaled, np.array([o[1] for o in out]), dones, infos)
        before = [env.reset()[0] if done else o[0] for env, done, o in zip(lanes, dones, out)]
        replay.act(torch.as_tensor(scaled))
        replay.add(*model.batch.step(torch.as_tensor(executed)))


def stack(rows: list[Any]) -> Any:
    if isinstance(rows[0], dict):
        return {key: np.stack([np.asarray(row[key]).reshape(-1) for row in rows]) for key in rows[0]}
    return np.stack(rows)


def theirs_sample(kept: Any, pick: Any) -> Any:
    """SB3's ``sample`` with rows and lanes of our choice: its own ``_get_samples`` asks NumPy for the lanes."""

    def sample(n: int, env: Any = None) -> Any:
        steps, lanes = pick(n)
        real = np.random.randint
        np.random.randint = lambda *a, **k: lanes  # type: ignore[assignment]
        try:
            return kept._get_samples(steps % kept.buffer_size, env=env)
        finally:
            np.random.randint = real  # type: ignore[assignment]

    return sample


# ---- around the update -------------------------------------------------------------------------------------


class Keys(KVWriter):
    """Notes what is logged."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.seen |= set(key_values)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("algorithm", ["DQN", "SAC", "TD3"])
def test_logger_keys_equal_sb3s(algorithm: str) -> None:
    seen = []
    env = "CartPole-v1" if algorithm == "DQN" else "Pendulum-v1"
    small = {"policy_kwargs": {"net_arch": [8]}, "batch_size": 8, "buffer_size": 1000, "seed": 0, "device": "cpu"}
    extra = {"use_sde": True} if algorithm == "SAC" else {}
    for cls in (getattr(sb3, algorithm), {"DQN": DQN, "SAC": SAC, "TD3": TD3}[algorithm]):
        model, keys = cls("MlpPolicy", gym.make(env, max_episode_steps=40), **small, **extra), Keys()
        model.set_logger(Logger(folder=None, output_formats=[keys]))
        model.learn(400)
        seen.append(keys.seen)
    assert seen[0] == seen[1]
    assert {"rollout/ep_rew_mean", "time/fps", "train/n_updates"} <= seen[1]


@pytest.mark.parametrize("algorithm", ["DQN", "SAC", "TD3"])
def test_one_environment_gets_sb3s_settings(algorithm: str) -> None:
    env = "CartPole-v1" if algorithm == "DQN" else "Pendulum-v1"
    theirs = getattr(sb3, algorithm)("MlpPolicy", gym.make(env), device="cpu", buffer_size=1_000_000)
    ours: Any = {"DQN": DQN, "SAC": SAC, "TD3": TD3}[algorithm]("MlpPolicy", gym.make(env), device="cpu")
    names = [
        "buffer_size",
        "learning_starts",
        "batch_size",
        "gradient_steps",
        "learning_rate",
        "tau",
        "gamma",
        "n_steps",
    ]
    names += {"DQN": ["target_update_interval", "exploration_fraction", "exploration_initial_eps",
                      "exploration_final_eps", "max_grad_norm"],
              "SAC": ["target_update_interval", "ent_coef", "target_entropy"],
              "TD3": ["policy_delay", "target_policy_noise", "target_noise_clip"]}[algorithm]  # fmt: skip
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.train_freq == theirs.train_freq
    assert [tuple(p.shape) for p in ours.policy.parameters()] == [tuple(p.shape) for p in theirs.policy.parameters()]


@pytest.mark.parametrize(
    "made",
    [
        lambda: NormalActionNoise(np.array([0.1, -0.1]), np.array([0.2, 0.0])),
        lambda: OrnsteinUhlenbeckActionNoise(np.array([0.1, -0.1]), np.array([0.2, 0.3]), initial_noise=np.ones(2)),
    ],
    ids=["normal", "ou"],
)
def test_noise_equals_sb3s(made: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from cairn.agents.noise import Noise as Ours
    from cairn.agents.noise import noise_settings

    theirs, settings = made(), noise_settings(made())
    assert settings is not None and noise_settings(settings) == settings
    ours = Ours(settings, 2, 2, torch.device("cpu"))
    draws = np.random.default_rng(0).normal(size=(6, 2))
    source = iter(draws)
    monkeypatch.setattr(np.random, "normal", lambda *a, **k: a[0] + a[1] * next(source) if a else next(source))
    expected = [theirs() for _ in range(6)]
    source = iter(draws)
    monkeypatch.setattr(torch, "randn", lambda *a, **k: torch.as_tensor(next(source), dtype=torch.float32).expand(2, 2))
    got = [ours() for _ in range(6)]
    for a, b in zip(got, expected):
        assert torch.allclose(a[1], torch.as_tensor(b, dtype=torch.float32), atol=1e-6)
    ours.reset(torch.tensor([1]))
    if settings["kind"] == "ou":
        assert ours.at[1].tolist() == [1, 1] and ours.at[0].tolist() != [1, 1]
