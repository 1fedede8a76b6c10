"""Subgoals as beacons: the agent sees what to do next, and reaching it pays (Words as Beacons, 2024).

An oracle with an accuracy dial plans each level: the key, the locked door, the target. --form says how a subgoal is
shown: where it is, what it is, or its sentence's embedding. A language model's plans go in by AskedPlanner.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import SubgoalBonus, SubgoalEnv, Task
from cairn.shaping.language import OraclePlanner

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=3e5, help="environment steps to train for")
parser.add_argument("--accuracy", type=float, default=0.9, help="which share of the subgoals is right")
parser.add_argument("--form", default="object", choices=("position", "object", "language"))
args = parser.parse_args()

batch = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R3-v0", num_envs=64, device="cpu")
envs = SubgoalEnv(batch, OraclePlanner(args.accuracy), args.form)
model = PPO("MlpPolicy", envs, reward=Task() + SubgoalBonus(alpha=0.2), seed=0)
model.learn(int(args.steps), progress_bar=True)

print(f"trained on {model.reward}; last episodes: {model.recent() or 'none has ended yet'}")
envs.close()
