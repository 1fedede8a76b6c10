"""A model's memory is freed with its last user: nothing waits for Python's cycle collector, which counts no bytes."""

import gc
import io
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import pytest
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from cairn.agents import DQN, IPPO, PPO, SAC
from cairn.agents.data import Demonstrations, collect
from cairn.agents.data.controllers import scripted
from cairn.agents.imitation import BC, GAIL
from cairn.agents.progress import Bar
from cairn.envs import from_gymnasium
from cairn.shaping import RND, Task

EMPTY = "cairn/MiniGrid-Empty-5x5-v0"
PASS: dict[str, Any] = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
KEEP: dict[str, Any] = {"learning_starts": 8, "batch_size": 8, "buffer_size": 1000, "seed": 0, "device": "cpu"}


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def grid(lanes: int = 4, **kwargs: Any) -> Any:
    return gym.make_vec(EMPTY, num_envs=lanes, **kwargs)


def watched(model: Any) -> dict[str, weakref.ref[Any]]:
    parts = {"model": model, "policy": model.policy, "batch": model.batch}
    names = ("rollout", "replay_buffer", "seat", "_compiled", "_mind", "_memories", "_view")
    parts |= {name: getattr(model, name) for name in names if getattr(model, name, None) is not None}
    if "rollout" in parts:
        parts["action"] = model.rollout.action
    return {name: weakref.ref(part) for name, part in parts.items()}


def alive(refs: dict[str, weakref.ref[Any]]) -> list[str]:
    return [name for name, ref in refs.items() if ref() is not None]


def balanced() -> Demonstrations:
    return collect(scripted("CartPole-v1"), from_gymnasium("CartPole-v1", 1), 1, seed=0)


MODELS: dict[str, Callable[[], Any]] = {
    "grid": lambda: PPO("MlpPolicy", grid(), **PASS),
    "pictures": lambda: PPO("MlpPolicy", grid(observation="rgb"), **PASS),
    "fixed levels": lambda: PPO("MlpPolicy", grid(levels=3), **PASS),
    "reward": lambda: PPO("MlpPolicy", grid(), reward="task + 0.01*noveld", **PASS),
    "memory": lambda: PPO("MlpPolicy", grid(), policy_kwargs={"memory": 64}, **PASS),
    "one environment": lambda: PPO("MlpPolicy", "CartPole-v1", **PASS),
    "a team": lambda: IPPO("MlpPolicy", gym.make_vec("cairn/SimpleSpread-v0", num_envs=2), **PASS),
    "replay": lambda: DQN("MlpPolicy", "CartPole-v1", **KEEP),
    "replay, reward": lambda: DQN("MlpPolicy", grid(), reward=Task() + 0.01 * RND().into("main"), **KEEP),
    "demonstrations": lambda: BC("MlpPolicy", "CartPole-v1", balanced(), seed=0, device="cpu"),
    "discriminator": lambda: GAIL("MlpPolicy", "CartPole-v1", balanced(), **PASS),
    "actor and critic": lambda: SAC("MlpPolicy", "Pendulum-v1", **KEEP),
}


@pytest.mark.parametrize("name", MODELS)
def test_by_reference_counts_alone(name: str) -> None:
    model = MODELS[name]()
    model.learn(64)
    refs = watched(model)
    assert len(alive(refs)) == len(refs) >= 3
    del model
    assert alive(refs) == []


class Reader(BaseCallback):
    """Keeps what it is told, as callbacks do."""

    def _on_step(self) -> bool:
        return "rewards" in self.locals and self.locals["self"] is self.model


def test_callbacks_and_the_bar_let_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("cairn.agents.base.reporter", lambda: Bar(console))
    model = PPO("MlpPolicy", grid(), **PASS)
    reader = Reader()
    model.learn(64, callback=[reader, Reader()], progress_bar=True)
    assert model.num_timesteps == 64  # it was told
    assert model.get_env() is not None
    refs = watched(model)
    del model
    assert "rollout" in alive(refs)  # a callback that somebody keeps holds its model, as in Stable-Baselines3
    del reader
    assert alive(refs) == []


def test_many_models_one_after_another() -> None:
    """What a benchmark of seventy models does: each one's rollout makes room for the next one's."""
    refs = []
    for seed in range(3):
        model = PPO("MlpPolicy", grid(), reward=Task() + 0.01 * RND().into("main"), **{**PASS, "seed": seed})
        model.learn(32)
        refs.append(weakref.ref(model.rollout.action))
        assert sum(ref() is not None for ref in refs) <= 2  # the one before, until its name is taken
