"""Train PPO on MuJoCo in a batch: HalfCheetah, dense, or paid only once at the end of each episode (--episodic)."""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import PPO
from cairn.envs import NormalizeObservation
from cairn.envs.delayed import EpisodicReward

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=3e5, help="environment steps to train for")
parser.add_argument("--episodic", action="store_true", help="pay the whole return with an episode's last step")
args = parser.parse_args()

# As upstream's HalfCheetah-v5, bit for bit, sixteen at a time on all cores.
envs = gym.make_vec("cairn/HalfCheetah-v5", num_envs=16, device="cpu", dtype="float32")
envs = NormalizeObservation(EpisodicReward(envs) if args.episodic else envs)
model = PPO("MlpPolicy", envs, learning_rate=3e-4, n_steps=128, batch_size=256, n_epochs=5, gamma=0.98, seed=0)
model.learn(int(args.steps), progress_bar=True)

envs.training = False  # the statistics of the observations stay as they are
obs, info = envs.reset(seed=1)
start, total = info["facts"]["qpos"][:, 0].clone(), 0.0
for _ in range(200):
    action, _ = model.predict(obs)
    obs, reward, _, _, info = envs.step(action)
    total += float(info["task_reward"].mean())
print(f"ten seconds of running: {float((info['facts']['qpos'][:, 0] - start).mean()):.1f} m, reward {total:.0f}")
envs.close()
