"""Explore with a bonus picked by its name, and see how many fresh levels the agent solves: --bonus ngu, or none.

Each name stands for a reward expression: the task's own reward, which pays only at the end, plus the bonus with a
weight to begin with. The same text works in `cairn train --reward`.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import BONUSES, parse

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--bonus", choices=BONUSES, default="pseudo_counts")
parser.add_argument("--env", default="cairn/MiniGrid-DoorKey-6x6-v0")
parser.add_argument("--steps", type=float, default=3e5, help="environment steps to train for")
args = parser.parse_args()

envs = gym.make_vec(args.env, num_envs=64, device="cpu")
model = PPO("MlpPolicy", envs, reward=parse(BONUSES[args.bonus]), seed=0)
model.learn(int(args.steps), progress_bar=True)

obs, info = envs.reset(seed=1)  # fresh levels, and the task's own reward
solved = info["facts"]["success"].clone()
for _ in range(envs.max_steps or 0):
    action, _ = model.predict(obs)
    obs, reward, _, _, _ = envs.step(action)
    solved |= reward > 0
print(f"solved {int(solved.sum())} of {len(solved)} fresh levels, trained on {model.reward}")
envs.close()
