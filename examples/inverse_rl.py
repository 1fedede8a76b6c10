"""Exact inverse RL in four rooms: a reward whose soft optimum visits states as often as the demonstrator does."""

import argparse

from cairn.agents.imitation import mce_irl
from cairn.envs.tabular import build, occupancy
from cairn.envs.tabular.soft import soft_value_iteration

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=30, help="evaluations of the dual")
args = parser.parse_args()

scene = build("four_rooms", discount=0.95)
demonstrator = soft_value_iteration(scene.mdp, 0.05).policy
target = occupancy(scene.mdp, demonstrator)
found = mce_irl(scene.mdp, target, features="next_state", l2=1e-4, max_iterations=min(int(args.steps), 60))
print(f"largest difference of a feature after {found.iterations} evaluations: {found.gap:.2g}")
goal = int(scene.mdp.terminal.nonzero()[0, 0])
print(f"the goal is state {goal}; the largest reward is paid on arrival in state {int(found.weights.argmax())}")
term = found.term()  # a pure term: usable in any reward expression on this world
print(f"as a term: {term!r} of {tuple(term.table.shape)} states and actions")
