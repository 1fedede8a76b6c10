"""The conformance tests have teeth: broken batches are caught, each by the promise it breaks."""

from typing import Any

import numpy as np
import pytest
import torch

from cairn.envs import (
    BatchEnv,
    BatchWrapper,
    EpisodeStatistics,
    NormalizeObservation,
    TimeLimit,
    check_batch_env,
    from_gymnasium,
    from_vector,
)
from cairn.envs.check import ConformanceError


class Broken(BatchWrapper):
    """Passes everything on, but for one thing."""

    def change(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        return obs, reward, terminated, truncated, info

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return self.change(obs, reward, terminated, truncated, dict(info))


class DoubleReward(Broken):
    def change(self, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward.double(), *rest


class NanReward(Broken):
    def change(self, obs: Any, reward: Any, *rest: Any) -> Any:
        return obs, reward * float("nan"), *rest


class OutsideItsSpace(Broken):
    def change(self, obs: Any, *rest: Any) -> Any:
        return obs + 1000, *rest


class MergedEnds(Broken):
    def change(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        info["_final_obs"] = terminated
        return obs, reward, terminated, truncated, info


class NoFinalObs(Broken):
    def change(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        del info["final_obs"]
        return obs, reward, terminated, truncated, info


class FactsComeAndGo(Broken):
    def change(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        info["facts"] = {"new": reward}
        return obs, reward, terminated, truncated, info


class InfoOfArrays(Broken):
    def change(self, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        return obs, reward, terminated.numpy(), truncated, info


class EndsLate(Broken):
    def __init__(self, env: BatchEnv) -> None:
        super().__init__(env)
        self.max_steps = 3


class Crowded(Broken):
    """Lanes see how many they are."""

    def change(self, obs: Any, *rest: Any) -> Any:
        return obs * (1 + 1e-3 * self.num_envs), *rest


class TakesAnything(Broken):
    def step(self, actions: Any) -> Any:
        tensor = torch.as_tensor(actions).reshape(-1)[: self.num_envs].nan_to_num().long().clamp(0, 1)
        return self.env.step(torch.nn.functional.pad(tensor, (0, self.num_envs - len(tensor))))


class TraceOfRefusals(Broken):
    def step(self, actions: Any) -> Any:
        try:
            return self.env.step(actions)
        except ValueError:
            self.env.step(torch.zeros(self.num_envs, dtype=torch.int64))
            raise


class ResetsAll(Broken):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.env.reset(seed=seed)


class ForgetsOnLoad(Broken):
    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.env.step(torch.zeros(self.num_envs, dtype=torch.int64))


class SavesObjects(Broken):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "own": {"rng": np.random.default_rng(0)}}


class LoadsAnything(Broken):
    def load_state_dict(self, state: Any) -> None:
        if "env" in state:
            super().load_state_dict(state)


class StartsUnasked(Broken):
    def step(self, actions: Any) -> Any:
        if not self.env._started:  # type: ignore[attr-defined]
            self.env.reset(seed=0)
        return super().step(actions)


class EncodesOneTooMany(Broken):
    def encode(self, obs: Any) -> Any:
        out = self.env.encode(obs)
        return torch.cat([out, out])


BROKEN = {
    DoubleReward: "reward has dtype",
    NanReward: "reward is finite",
    OutsideItsSpace: "is not in",
    MergedEnds: r"terminated \| truncated",
    NoFinalObs: "final_obs",
    FactsComeAndGo: "facts keep",
    InfoOfArrays: "terminated is a tensor",
    EndsLate: "max_steps=3",
    Crowded: "the same with 2 lanes as with 5",
    TakesAnything: "raise ValueError",
    TraceOfRefusals: "leave no trace",
    ResetsAll: "leaves the other lanes alone",
    ForgetsOnLoad: "restores everything",
    SavesObjects: "which a checkpoint cannot hold",
    LoadsAnything: "foreign state",
    StartsUnasked: "before the first reset",
    EncodesOneTooMany: "encode of 1",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.__name__)
def test_broken_batches_are_caught(broken: Any) -> None:
    def make(n: int) -> BatchEnv:
        env = broken(TimeLimit(from_gymnasium("CartPole-v1", n), 8))
        if broken is StartsUnasked:
            env.env = env.env.env
        return env  # type: ignore[no-any-return]

    with pytest.raises(ConformanceError, match=BROKEN[broken]):
        check_batch_env(make)


def test_whole_batches_pass() -> None:
    def normal(n: int) -> BatchEnv:
        env = NormalizeObservation(EpisodeStatistics(TimeLimit(from_gymnasium("CartPole-v1", n), 6)))
        env.training = False
        return env

    check_batch_env(normal)
    check_batch_env("CartPole-v1")
    check_batch_env("Pendulum-v1")
    check_batch_env("FrozenLake-v1")
    check_batch_env(from_gymnasium("CartPole-v1", 3))


def test_vector_environments_pass() -> None:
    import gymnasium as gym

    check_batch_env(lambda n: from_vector(gym.make_vec("CartPole-v1", n, vectorization_mode="sync")))
    check_batch_env(from_vector(gym.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point")), steps=60)


def test_an_error_is_an_assertion() -> None:
    assert issubclass(ConformanceError, AssertionError)
