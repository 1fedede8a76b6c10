"""EXPLORS: a learner that makes its own reward, on a chain where the task's reward is far away.

Three runs each of EXPLORS, of the exploration bonus alone and of the task's reward alone, side by side.
"""

import argparse

import torch

from cairn.agents.explors import Explors
from cairn.envs.tabular import TabularBatch, chain

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=8e3, help="environment steps of each run, at most")
args = parser.parse_args()

world = chain(right=10, left=6, max_steps=16)
methods = [name for name in ("explors", "explob", "orig") for _ in range(3)]
agent = Explors(TabularBatch(world, len(methods)), methods, actor_rate=0.5, reward_rate=0.05)
for _ in range(4):
    agent.learn(max(int(args.steps / 16 / 4), 1))
    now = torch.stack(agent.returns).mean(0).reshape(3, 3).mean(1)
    agent.returns.clear()
    print(f"{agent.episodes} episodes: the task's return with EXPLORS {now[0]:.2f}, with the bonus alone {now[1]:.2f}, "
          f"with the task's reward alone {now[2]:.2f}")  # fmt: skip
