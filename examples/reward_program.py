"""Write a reward as a program, as a language model would, and train on it: DoorKey, or HalfCheetah (--mujoco).

The text is compiled by Cairn and runs in a jailed worker process; nothing in it can reach a file or the network.
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.envs import NormalizeObservation
from cairn.shaping import Program, Task
from cairn.shaping.programs.sandbox import describe

# Facts about the state before the step, and with next_ before the name after it; [B, ...] for B transitions.
DOORKEY = """
def reward(carrying, next_carrying, doors, next_doors):
    picked = (next_carrying[:, 0] == 5) * 1.0 - (carrying[:, 0] == 5) * 1.0
    opened = any(next_doors == 0, dim=-1) * 1.0 - any(doors == 0, dim=-1) * 1.0
    return 0.1 * picked + 0.3 * opened, {"picked": picked, "opened": opened}
"""
CHEETAH = """
def reward(qpos, next_qpos, next_qvel, action):
    forward = (next_qpos[:, 0] - qpos[:, 0]) / 0.05
    effort = -0.1 * sum(action ** 2, dim=-1)
    if abs(next_qpos[:, 2]) > 1.5:
        upright = -1.0
    else:
        upright = 0.1 * exp(-abs(next_qvel[:, 2]))
    return forward + effort + upright, {"forward": forward, "effort": effort, "upright": upright}
"""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=3e5, help="environment steps to train for")
parser.add_argument("--mujoco", action="store_true", help="HalfCheetah in place of DoorKey")
args = parser.parse_args()

print(describe(), "\n")  # which layers stand between a program and this machine
if args.mujoco:
    program = Program(CHEETAH, name="run")
    envs = NormalizeObservation(gym.make_vec("cairn/HalfCheetah-v5", num_envs=16, device="cpu", dtype="float32"))
    model = PPO("MlpPolicy", envs, reward=program, learning_rate=3e-4, n_steps=128, batch_size=256, gamma=0.98, seed=0)
else:
    program = Program(DOORKEY, name="stages")
    envs = gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=64, device="cpu", facts=("doors",))
    model = PPO("MlpPolicy", envs, reward=Task() + program, seed=0)
model.learn(int(args.steps), progress_bar=True)

print(f"saved with the run as {model.reward.text!r}; its text is in every checkpoint")
if program.behaviour is not None:
    seen = program.behaviour
    print(f"on the first {seen.rows} transitions the reward was between {seen.low:.3f} and {seen.high:.3f}")
print(f"calls of the program: {program.outcomes}")
envs.close()
