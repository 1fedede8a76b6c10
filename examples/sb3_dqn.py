"""Train an agent of Stable-Baselines3 itself, DQN, on a batch of Cairn's environments."""

import argparse

import gymnasium as gym
import stable_baselines3 as sb3

import cairn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1e4, help="environment steps to train for")
args = parser.parse_args()

envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=8, device="cpu")
flat = cairn.envs.as_sb3(envs)  # an SB3 VecEnv: symbols one-hot in one float32 Box, text left out
model = sb3.DQN("MlpPolicy", flat, learning_rate=1e-3, learning_starts=500, train_freq=1, gradient_steps=2,
                gamma=0.9, target_update_interval=400, exploration_fraction=0.5, seed=0)  # fmt: skip
model.learn(int(args.steps))

returns, _ = sb3.common.evaluation.evaluate_policy(model, flat, 20, return_episode_rewards=True)
print(f"mean return of 20 episodes: {sum(returns) / 20:.2f} (the best is about 0.95)")
