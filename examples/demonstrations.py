"""Optimal demonstrations of DoorKey by search over the grid engine; split by quality; saved and read back."""

import argparse
import tempfile

import gymnasium as gym
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.agents.data import Demonstrations, collect, solver

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=2000, help="steps of the random walker's episodes")
args = parser.parse_args()

name = "cairn/MiniGrid-DoorKey-6x6-v0"
env = gym.make_vec(name, num_envs=16, device="cpu")
best = collect(solver(env), env, 32, seed=0, only_success=True, about={"env": name, "actor": "solver"})
walks = max(int(args.steps) // 300, 2)
some = collect(lambda obs, info: torch.randint(7, (16,)), env, walks, seed=1, about={"env": name, "actor": "random"})
for part in Demonstrations.cat([best, some]).split(3):
    print(f"{part}, {float(part.lengths.float().mean()):.0f} steps an episode")
folder = f"{tempfile.mkdtemp()}/doorkey"
best.save(folder)  # JSON and tensors; to_minari(best, "minigrid/doorkey-v0") writes Minari's HDF5 (extra data)
x = Demonstrations.load(folder).stretch()
print(f"read back {len(x.reward)} steps, as rewards and learners see them: {list(x.obs)}; saved in {folder}")
