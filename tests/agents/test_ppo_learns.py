"""PPO learns: balance, pictures, dicts, symbols, two values at once. Small tasks, thresholds far above chance."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.agents import PPO
from cairn.envs import from_gymnasium
from cairn.shaping import Task


def test_cartpole() -> None:
    model = PPO("MlpPolicy", from_gymnasium("CartPole-v1", 8), seed=0, n_epochs=8, device="cpu").learn(28_000)
    assert model.recent()["rollout/ep_rew_mean"] > 100  # an untrained policy gets 20


class Guess(gym.Env[Any, Any]):
    """Eight questions an episode; 1 for each right answer, and the next question does not depend on it."""

    answers = 4

    def __init__(self) -> None:
        self.action_space = spaces.Discrete(self.answers)

    def ask(self) -> Any:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.asked = 0
        return self.ask(), {}

    def step(self, action: Any) -> Any:
        right, self.asked = float(action == self.answer), self.asked + 1
        return self.ask(), right, self.asked == 8, False, {}


class Corner(Guess):
    """Pixels: in which quarter of the noise is the bright patch?"""

    observation_space = spaces.Box(0, 255, (16, 16, 1), np.uint8)

    def ask(self) -> Any:
        self.answer = int(self.np_random.integers(4))
        picture = self.np_random.integers(0, 100, (16, 16, 1), np.uint8)
        row, column = 8 * (self.answer // 2), 8 * (self.answer % 2)
        row, column = row + int(self.np_random.integers(5)), column + int(self.np_random.integers(5))
        picture[row : row + 4, column : column + 4] = 255
        return picture


class Sum(Guess):
    """Dict: the answer needs all of its parts."""

    answers = 3
    observation_space = spaces.Dict(
        {
            "colour": spaces.Discrete(3),
            "side": spaces.Box(-1, 1, (1,), np.float32),
            "word": spaces.Text(4, min_length=2, charset="no"),
        }
    )

    def ask(self) -> Any:
        colour, side, word = (int(n) for n in self.np_random.integers(0, (3, 2, 2)))
        self.answer = colour if word else 2 * side
        return {"colour": colour, "side": np.array([side - 0.5], np.float32), "word": ("no", "on")[word]}


@pytest.mark.parametrize(("task", "steps"), [(Corner, 12_000), (Sum, 24_000)])
def test_pixels_and_dicts(task: type[Guess], steps: int) -> None:
    model = PPO("MlpPolicy", from_gymnasium(task, 16), seed=0, n_steps=32, batch_size=64, device="cpu").learn(steps)
    # Of 8. Guessing gets 2 and 2.7, and two of the dict's three parts at most 6.
    assert model.recent()["rollout/ep_rew_mean"] > 7


def test_symbols() -> None:
    envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=16)
    model = PPO("MlpPolicy", envs, seed=0, n_steps=64, device="cpu").learn(16_000)
    assert model.recent()["rollout/success_rate"] > 0.95 and model.recent()["rollout/ep_rew_mean"] > 0.85


class Steady(gym.Env[Any, Any]):
    """1 a step for ten steps, and nothing to see or to do."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, cut: bool) -> None:
        self.cut = cut

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = 10
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        over = self.left == 0
        return np.ones(1, np.float32), 1.0, over and not self.cut, over and self.cut, {}


def test_values_tell_a_cut_from_an_end_and_a_channel_from_another() -> None:
    """V = 1 / (1 - gamma) where the stream of rewards never ends: 5 at .8 and 2 at .5."""
    values = {}
    for cut in (True, False):
        reward = Task() + Task().into("endless", gamma=0.5, episodic=False)
        envs = from_gymnasium(Steady, 8, cut=cut)
        model = PPO("MlpPolicy", envs, reward, learning_rate=1e-2, gamma=0.8, n_steps=32, seed=0).learn(10_000)
        with torch.no_grad():
            values[cut] = model.policy.predict_values(torch.ones(1, 1))[0].tolist()
    assert values[True] == pytest.approx([5.0, 2.0], rel=0.03)
    assert values[False][0] < 4.2  # the mean over ten steps of (1 - .8^k) / .2 is 3.2
    assert values[False][1] == pytest.approx(2.0, rel=0.03)


def test_continuous_actions() -> None:
    """Reach the middle of what is allowed: the reward falls with the distance."""

    class Aim(Steady):
        def step(self, action: Any) -> Any:
            obs, _, *rest = super().step(action)
            return obs, -abs(float(action[0]) - 0.5), *rest

    model = PPO("MlpPolicy", from_gymnasium(lambda: Aim(False), 8), seed=0, n_steps=32, learning_rate=3e-3).learn(
        10_000
    )
    assert float(model.predict(np.ones(1, np.float32), deterministic=True)[0][0]) == pytest.approx(0.5, abs=0.1)
