"""Train PPO on a task that pays only at its end, with a bonus for cells that are new in their episode."""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import EpisodicCount, Task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=2e5, help="environment steps to train for")
args = parser.parse_args()

envs = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=32, device="cpu")  # a batch of torch tensors
reward = Task() + 0.02 * EpisodicCount(key="position", mode="first")
model = PPO("MlpPolicy", envs, reward=reward, learning_rate=1e-3, n_steps=64, batch_size=512, seed=0)
model.learn(int(args.steps), progress_bar=True)

env = gym.make("cairn/MiniGrid-DoorKey-8x8-v0")  # one environment, for a look at what was learned
obs, _ = env.reset(seed=1_000_000)
total, steps, done = 0.0, 0, False
while not done:
    action, _ = model.predict(obs)
    obs, reward, terminated, truncated, _ = env.step(action)
    total, steps, done = total + reward, steps + 1, terminated or truncated
print(f"on a level it has never seen: return {total:.2f} after {steps} steps")
