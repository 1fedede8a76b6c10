"""A step reward that is right and yet a trap: 0.1 for each step with the key in hand. PPO keeps the key and stays.

Added up it pays for holding the key, not for the goal that comes after it. The same hint behind a gate, clipped, or as
differences (Delta) cannot be earned by waiting; a gate, though, opens only where the goal is found at all. Printed are
the episodes that end at the goal, and what the plain sum would have paid: where the second goes up and the first down,
the hint has been exploited.
"""

import argparse

import gymnasium as gym
import torch

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import Clipped, Delta, Gated, ShapedReward, Stretch, Task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1e5, help="environment steps to train each for")
args = parser.parse_args()


def hint(x: Stretch) -> torch.Tensor:
    """Whether the agent carries something after the step; facts are tensors [T, N, ...]."""
    return 0.1 * (x.next_facts["carrying"][..., 0] >= 0)


rewards = {
    "the task alone": Task(),
    "and the hint": Task() + hint,
    "and the hint behind a gate": Task() + Gated(hint, 0.9),  # within 28 of 250 steps: 1 - 0.9 t / 250
    "and the hint, clipped": Task() + Clipped(hint, 0.1),
    "and the hint's differences": Task() + Delta(hint),
}
for name, reward in rewards.items():
    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=64, max_episode_steps=100)
    model = PPO("MlpPolicy", envs, reward=reward, seed=0)
    model.learn(int(args.steps))

    trial = ShapedReward(envs, hint)
    obs, info = trial.reset(seed=1)  # fresh levels
    goal = info["facts"]["success"].clone()
    paid, ended = 0.0 * goal.float(), goal.clone()
    for _ in range(envs.max_steps or 0):
        obs, reward, terminated, truncated, info = trial.step(model.predict(obs)[0])
        paid += reward * ~ended
        goal |= terminated & ~ended
        ended |= terminated | truncated
    print(f"{name:28} {int(goal.sum())} of {len(goal)} reach the goal; the hint alone paid {float(paid.mean()):.1f}")
