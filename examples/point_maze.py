"""Find the way through a U-shaped maze whose only reward is at its far end: PPO with and without a potential.

Pushing at random hardly ever gets there. The potential is the way that was gone along the corridor; it changes no
optimal policy (Ng, Harada and Russell, 1999). ``--plain`` leaves it out.
"""

import argparse

import gymnasium as gym
import torch
from torch import Tensor

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import Potential, Task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1e5, help="environment steps to train for")
parser.add_argument("--plain", action="store_true", help="the sparse reward alone")
args = parser.parse_args()


def closeness(obs: Tensor) -> Tensor:
    """Metres gone of the way of 6: right along the upper corridor, down, and left along the lower one; times five."""
    x, y = obs[..., 0], obs[..., 1]
    upper, middle, lower = (1 - x) + 4, (y + 1) + 2, x + 1
    return 5 * (6 - torch.where(y > 0.5, upper, torch.where(y > -0.5, middle, lower)))


# Start and goal are the two ends of the maze; an episode ends at the goal, or after 300 steps.
envs = gym.make_vec("cairn/PointMaze_UMaze_Single-v3", num_envs=64, device="cpu", dtype="float32")
reward = Task() if args.plain else Task() + Potential(closeness)
model = PPO("MlpPolicy", envs, reward=reward, n_steps=64, batch_size=512, n_epochs=6, gamma=0.99, learning_rate=3e-4,
            seed=0)  # fmt: skip
model.learn(int(args.steps), progress_bar=True)

obs, info = envs.reset(seed=1)
reached = torch.zeros(64, dtype=torch.bool)
ended = reached.clone()
for _ in range(300):
    action, _ = model.predict(obs, deterministic=True)
    obs, _, terminated, truncated, info = envs.step(action)
    reached |= terminated & ~ended  # each lane's first episode counts
    ended |= terminated | truncated
print(f"{int(reached.sum())} of 64 reach the goal")
envs.close()
