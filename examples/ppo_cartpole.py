"""Train PPO on CartPole, save it, load it, and let Stable-Baselines3 judge it."""

import argparse
import tempfile

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from cairn.agents import PPO
from cairn.envs import from_gymnasium

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1e5, help="environment steps to train for")
args = parser.parse_args()

model = PPO("MlpPolicy", from_gymnasium("CartPole-v1", 8), n_epochs=10, seed=0, verbose=1)
model.learn(int(args.steps), log_interval=10, progress_bar=True)

folder = f"{tempfile.mkdtemp()}/cartpole"
model.save(folder)  # a folder of JSON and tensors; nothing is pickled
mean, deviation = evaluate_policy(PPO.load(folder), Monitor(gym.make("CartPole-v1")), 10)
print(f"return over 10 episodes: {mean:.0f} +- {deviation:.0f} (the best is 500); saved in {folder}")
