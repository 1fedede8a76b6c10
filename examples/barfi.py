"""A hint that misleads: an agent that adds it up stays in the corner that it pays for, and BARFI reaches the goal.

BARFI learns with which weight the hint and the task's reward count, state by state, so that the task's return grows.
"""

import argparse

import torch
from torch import Tensor

from cairn.agents.barfi import BARFI
from cairn.envs.tabular import TabularBatch, grid
from cairn.shaping import Stretch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=8e4, help="environment steps of each run, at most")
args = parser.parse_args()

world = grid(("P...", "....", "S..G"), max_steps=16, discount=0.95)
corner = torch.tensor([letter == "P" for letter in "P.......S..G"])
EPISODES, RUNS = 16, 4


def hint(x: Stretch) -> Tensor:
    """0.2 for each step that ends in the corner."""
    return 0.2 * corner[x.next_obs].float()


for name, rate in (("the plain sum", 0.0), ("BARFI", 0.04)):
    env = TabularBatch(world, RUNS * EPISODES)
    agent = BARFI(env, hint, runs=RUNS, gamma=0.95, rate=0.04, reward_rate=rate, decay=0.02, warmup=3, inner=3,
                  neumann_rate=0.5)  # fmt: skip
    agent.learn(max(int(args.steps / (EPISODES * 16)), 1))
    reached = torch.stack(agent.returns[-20:]).mean(0)
    print(f"{name}: {[round(v, 2) for v in reached.tolist()]} of the episodes reach the goal, in {RUNS} runs")
