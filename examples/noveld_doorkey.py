"""Find a key, a door and a goal that pays only at the end, with a bonus for stepping into what is new (NovelD).

NovelD pays for steps from what a network predicts well into what it does not, once an episode for each state; as the
network learns, the bonus fades by itself (Zhang et al. 2021). --without trains on the task's own reward alone.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.shaping import NovelD, Task

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=3e5, help="environment steps to train for")
parser.add_argument("--without", action="store_true", help="leave the bonus out")
args = parser.parse_args()

envs = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=64, device="cpu")
# About 1 in the mean square whatever the task is, so that 0.01 is small beside the task's reward of at most 1.
reward = Task() if args.without else Task() + 0.01 * NovelD()
model = PPO("MlpPolicy", envs, reward=reward, seed=0)
model.learn(int(args.steps), progress_bar=True)

obs, info = envs.reset(seed=1)  # fresh levels, and the task's own reward
solved = info["facts"]["success"].clone()
for _ in range(envs.max_steps or 0):
    action, _ = model.predict(obs)
    obs, reward, _, _, _ = envs.step(action)
    solved |= reward > 0
print(f"solved {int(solved.sum())} of {len(solved)} fresh levels, trained on {model.reward}")
envs.close()
