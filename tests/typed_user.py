"""What a user's type checker says of Cairn's public names; `make types` gives it to mypy, and nothing runs it.

Each wrong line must be caught: an ignore that nothing needs is an error (mypy's warn_unused_ignores, part of strict).
Were an export Any, its wrong line would pass, and the ignore would be left over.
"""

from collections.abc import Callable
from typing import Any, assert_type

import gymnasium as gym
from torch import Tensor

import cairn
from cairn.agents import PPO, SAC
from cairn.envs import BatchEnv, NormalizeObservation, from_gymnasium
from cairn.envs.grid import Levels
from cairn.envs.tabular import MDP, random_mdp, value_iteration
from cairn.shaping import TERMS, NovelD, Potential, RewardMachine, ShapedReward, Stretch, Task
from cairn.shaping.programs import Program
from cairn.shaping.term import Term

# As in the README: nothing to complain of.
env = gym.make("cairn/MiniGrid-DoorKey-8x8-v0")
envs = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=64, device="cpu")
model = PPO("MlpPolicy", envs, reward=Task() + 0.01 * NovelD(), seed=0)
model.learn(400_000, progress_bar=True)
model.save("doorkey")
model = PPO.load("doorkey", env=envs)
action, _ = model.predict(env.reset(seed=1)[0])
shaped = ShapedReward(gym.make("MountainCar-v0"), Task() + Potential(lambda obs: obs[..., 0], gamma=0.99))
model = PPO("MlpPolicy", ShapedReward(envs, Task()))
view = cairn.envs.as_sb3(NormalizeObservation(envs))


def energy(x: Stretch) -> Tensor:
    """A function of a stretch is a term."""
    assert isinstance(x.action, Tensor)
    return -0.1 * x.action.square().sum(-1)


hill = ShapedReward(gym.make("MountainCarContinuous-v0"), Task() + energy)

# What the names are.
assert_type(model, PPO)
assert_type(Task() + 0.01 * NovelD(), Term)
assert_type(from_gymnasium("CartPole-v1", 16), BatchEnv)
assert_type(random_mdp(4, 2), MDP)
assert_type(value_iteration(random_mdp(4, 2)).values, Tensor)
assert_type(TERMS, dict[str, tuple[str, str]])
assert_type(cairn.shaping.Task(), Task)
assert_type(cairn.__version__, str)

# Wrong calls, room by room.
PPO("MlpPolicy", envs, n_stepz=128)  # type: ignore[call-arg]
SAC("MlpPolicy", envs, learning_starts="soon")  # type: ignore[arg-type]
NovelD(hidden="wide")  # type: ignore[arg-type]
Potential(gamma=0.99)  # type: ignore[call-arg]
Task() + "noveld"  # type: ignore[operator]
ShapedReward(3, Task())  # type: ignore[arg-type]
RewardMachine()  # type: ignore[call-arg]
Program(3)  # type: ignore[arg-type]
Levels(number="many")  # type: ignore[call-arg]
NormalizeObservation("cairn/Ant-v5")  # type: ignore[arg-type]
from_gymnasium("CartPole-v1", num_envs="16")  # type: ignore[arg-type]
random_mdp(states="4", actions=2)  # type: ignore[arg-type]
cairn.envs.as_sb3(envs, flatt=True)  # type: ignore[call-arg]
wrong: int = value_iteration(random_mdp(4, 2))  # type: ignore[assignment]

# Misspelt names.
cairn.shapng  # type: ignore[attr-defined]  # noqa: B018
cairn.shaping.NovlD  # type: ignore[attr-defined]  # noqa: B018
cairn.agents.PP0  # type: ignore[attr-defined]  # noqa: B018
from cairn.shaping import Potentiel  # type: ignore[attr-defined]  # noqa: E402, F401

unused: Callable[..., Any] = Potentiel
