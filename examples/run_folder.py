"""Train into a run folder from Python, stop, go on to the same bits, and judge the frozen agent on fresh levels."""

import argparse
import tempfile
from pathlib import Path

from cairn.agents.training import TrainConfig, evaluate, play, resume, train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=4e4, help="environment steps to train for")
parser.add_argument("--run", type=Path, default=None, help="the folder to write; a temporary one if left out")
args = parser.parse_args()

run = args.run or Path(tempfile.mkdtemp()) / "empty"
config = TrainConfig(env="cairn/MiniGrid-Empty-8x8-v0", steps=int(args.steps / 2), run=str(run), num_envs=8)
print(train(config))
print(resume(run, steps=int(args.steps)))  # what Ctrl-C, a crash or `kill -9` interrupted goes on in the same way
print(evaluate(run, episodes=20))
print("learning curve:", run / "curve.png", " video:", play(run, episodes=2))
