"""Shape the reward of any Gymnasium environment for any agent: here MountainCar, for Stable-Baselines3's DQN.

A potential adds gamma * potential(next state) - potential(state): it tells the way without changing which policy is
best (Ng, Harada and Russell, 1999).
"""

import argparse

import gymnasium as gym
import stable_baselines3 as sb3
from torch import Tensor

from cairn.shaping import Potential, ShapedReward, Task


def energy(obs: Tensor) -> Tensor:
    """Height and speed together, 0 at rest on the hill: swinging up to it is the way out."""
    position, velocity = obs[..., 0], obs[..., 1]
    return 10 * ((3 * position).sin() - 1) + 2500 * velocity**2


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=2e4, help="environment steps to train for")
args = parser.parse_args()

# The potential's discount is the agent's: with another one the shaped task would not be the same task.
env = ShapedReward(gym.make("MountainCar-v0"), Task() + Potential(energy, gamma=0.99))
model = sb3.DQN("MlpPolicy", env, gamma=0.99, learning_rate=1e-3, batch_size=128, train_freq=4, gradient_steps=2,
                learning_starts=1000, target_update_interval=500, exploration_fraction=0.3,
                policy_kwargs={"net_arch": [128, 128]}, seed=0)  # fmt: skip
model.learn(int(args.steps))
returns, _ = sb3.common.evaluation.evaluate_policy(
    model, sb3.common.monitor.Monitor(gym.make("MountainCar-v0")), 10, return_episode_rewards=True
)
print(f"return on the task itself: {sum(returns) / 10:.0f} (the worst is -200)")
