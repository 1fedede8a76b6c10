"""Potentials of every kind on one chain: what is added along the way telescopes, and the best policy stays.

Look-ahead advice starts the learner at phi(s, a); DPBA takes any reward as advice and lets it fade.
"""

import argparse

import torch
from torch import Tensor

from cairn.agents.dpba import DPBA
from cairn.agents.tabular import QLearning
from cairn.envs.tabular import TabularBatch, chain, value_iteration
from cairn.shaping import LookAhead, LookBack, Potential, Stretch, Task, TimedPotential, ValuePotential

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=2e3, help="environment steps of each of ten runs")
args = parser.parse_args()

world, gamma = chain(right=5, left=3, slip=0.1, max_steps=20), 0.9
best = value_iteration(world.mdp.with_discount(gamma)).policy
settings = {"learning_rate": 0.2, "epsilon": 0.2, "gamma": gamma}


def rightness(x: Stretch) -> Tensor:
    """Advice as a reward: half a point for going right."""
    return 0.5 * x.action.float()


by_time = TimedPotential(lambda s, t: s / (1 + t))
kinds = {
    "none": lambda env: QLearning(env, **settings),
    "of the state": lambda env: QLearning(env, reward=Task() + Potential(lambda s: s.float()), **settings),
    "of state and time": lambda env: QLearning(env, reward=Task() + by_time, **settings),
    "look-back": lambda env: QLearning(env, reward=Task() + LookBack(lambda s, a: a.float()), **settings),
    "look-ahead": lambda env: QLearning(env, advice=LookAhead(lambda s, a: a.float()), **settings),
    "learned values": lambda env: QLearning(env, reward=Task() + ValuePotential(), **settings),
    "learned advice (DPBA)": lambda env: DPBA(env, rightness, fade=500, **settings),
}
for name, make in kinds.items():
    agent = make(TabularBatch(world, 10)).learn(int(args.steps))
    right = (agent.policy(deterministic=True) == best)[:, 1:9].all(-1).double().mean()
    done = agent.episodes["reward"][agent.episodes["episode"] < 20]
    earned = torch.nan_to_num(done.mean())
    print(f"{name:22} first 20 episodes {earned:.2f}, best action in {right:.0%} of states, over runs")
