"""Adversarial imitation of CartPole: GAIL on PPO, then the learned reward in an expression of another agent."""

import argparse
import copy

from cairn.agents import PPO
from cairn.agents.data import collect
from cairn.agents.data.controllers import scripted
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.imitation import GAIL
from cairn.envs import from_gymnasium

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=30_000, help="environment steps of GAIL")
args = parser.parse_args()

name, steps = "CartPole-v1", int(args.steps)
demos = collect(scripted(name), from_gymnasium(name, 4), 4, seed=0)
model = GAIL("MlpPolicy", from_gymnasium(name, 8), demos, {"steps": 30, "learning_rate": 1e-3}, seed=0)
model.learn(steps)
trial = evaluate_batch(lambda obs: model.policy.act(obs, True), from_gymnasium(name, 10), 10, seed=1)
print(f"GAIL, which saw no reward, from {demos}: return {trial.return_mean:.0f} over 10 fresh episodes")
told = model.discriminator
assert told is not None
print(f"its discriminator pays a demonstrated step {told.score(demos.stretch()).mean().item():.2f}")
mine = 0.5 * copy.deepcopy(told) + 0.1  # the copy keeps what was learned, and learns on
other = PPO("MlpPolicy", from_gymnasium(name, 8), reward=mine, seed=1)
other.learn(min(steps, 4096))
print(
    f"PPO on an expression with it in: {other.recent().get('rollout/ep_rew_mean', float('nan')):.0f} steps an episode"
)
