"""Two optimal trajectories beside PPO on DoorKey: pre-training, concurrent cloning, a learned balance, and none."""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the ids)
from cairn.agents import PPO
from cairn.agents.data import collect, solver
from cairn.agents.imitation import DemoPPO

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=60_000, help="environment steps of each agent")
args = parser.parse_args()

name = "cairn/MiniGrid-DoorKey-5x5-v0"
env = gym.make_vec(name, num_envs=2, device="cpu")
demos = collect(solver(env), env, 2, seed=0, only_success=True)
print(f"beside PPO: {demos}")
short = max(min(int(args.steps) // 200, 300), 5)
for label, options in (
    ("pre-training", {"pretrain": short}),
    ("concurrent cloning", {"beside": 5}),
    ("learned balance", {"balance": "learned"}),
):
    model = DemoPPO("MlpPolicy", gym.make_vec(name, num_envs=16, device="cpu"), demos, seed=0, **options)
    model.learn(int(args.steps))
    end = f", weight of imitation at the end {model.mu:.2f}" if model.learned else ""
    print(f"{label}: success of the last 100 episodes {model.recent().get('rollout/success_rate', 0.0):.0%}{end}")
plain = PPO("MlpPolicy", gym.make_vec(name, num_envs=16, device="cpu"), seed=0).learn(int(args.steps))
print(f"PPO alone: {plain.recent().get('rollout/success_rate', 0.0):.0%}")
