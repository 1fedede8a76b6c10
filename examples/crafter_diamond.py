"""Crafter underground: PPO looks for a diamond beside lava, from symbols, with a potential over the game's facts."""

import argparse
import sys

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.training import acting
from cairn.shaping import Potential, Task


def hope(facts):  # higher nearer to a diamond in view, lower beside lava; 8 steps mean that none is in view
    return 0.02 * (8 - facts["to_diamond"]) - 0.1 * (facts["to_lava"] <= 1)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1e5, help="environment steps to train for")
args = parser.parse_args()

# A game begins 4 to 8 steps from a diamond, with an iron pickaxe in hand, and ends with the diamond, with death, or
# after 80 steps. Worlds take long to make, so these come again mirrored and turned; fresh ones are for the trial.
try:
    envs = gym.make_vec("cairn/CrafterDiamond-v0", num_envs=16, worlds=32 if args.steps > 1e4 else 1)
    fresh = gym.make_vec("cairn/CrafterDiamond-v0", num_envs=16 if args.steps > 1e4 else 2)
except ImportError as error:
    print(error)
    sys.exit()

model = PPO("MlpPolicy", envs, reward=Task() + Potential(hope, on="facts"), n_steps=64, gamma=0.95, seed=0)
model.learn(int(args.steps), progress_bar=True)
trial = evaluate_batch(acting(model, False), fresh, 4 * fresh.num_envs, seed=1)
print(f"frozen, in worlds that it never saw: {trial}")
