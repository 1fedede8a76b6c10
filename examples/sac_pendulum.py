"""SAC and TD3 on Pendulum with Stable-Baselines3's arguments, four environments at a time; save and load."""

import argparse
import tempfile

from cairn.agents import SAC, TD3
from cairn.agents.evaluation import evaluate_batch
from cairn.envs import from_gymnasium

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=8000, help="environment steps, for each of the two")
args = parser.parse_args()

settings = {"learning_rate": 1e-3, "gamma": 0.98, "buffer_size": 20_000, "batch_size": 128, "seed": 0}
small = {"net_arch": [64, 64]}
for name, cls, more in (("sac", SAC, {}), ("td3", TD3, {"action_noise": 0.1})):
    model = cls("MlpPolicy", from_gymnasium("Pendulum-v1", 4), policy_kwargs=small, verbose=0, **settings, **more)
    model.learn(int(args.steps))
    folder = f"{tempfile.mkdtemp()}/{name}"
    model.save(folder)  # JSON and tensors; the replay buffer is in training_state() and in run folders
    policy = cls.load(folder).policy
    trial = evaluate_batch(lambda obs: policy.act(obs, True), from_gymnasium("Pendulum-v1", 10), 10, seed=1)  # noqa: B023
    print(f"{name}: return {trial.return_mean:.0f} over 10 fresh episodes (about -150 is solved); saved in {folder}")
