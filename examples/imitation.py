"""CartPole from one demonstration: behaviour cloning, DAgger and offline IQ-Learn, none of which sees a reward."""

import argparse

from cairn.agents.data import collect
from cairn.agents.data.controllers import scripted
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.imitation import BC, DAgger, IQLearn
from cairn.envs import from_gymnasium

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=1500, help="updates of each learner")
args = parser.parse_args()

name, steps = "CartPole-v1", int(args.steps)
expert = scripted(name)
demos = collect(expert, from_gymnasium(name, 1), 1, seed=0)
print(f"the demonstrator: {demos}")

cloned = BC("MlpPolicy", name, demos, batch_size=32, seed=0).learn(32 * steps)
asked = DAgger("MlpPolicy", from_gymnasium(name, 4), expert, demos, round_steps=16, batch_size=32, seed=0)
asked.learn(32 * steps)
inverse = IQLearn("MlpPolicy", name, demos, online=False, learning_rate=1e-3, batch_size=32, train_freq=1, seed=0)
inverse.learn(steps)
for who, model in (("behaviour cloning", cloned), ("DAgger", asked), ("IQ-Learn", inverse)):
    trial = evaluate_batch(lambda obs: model.policy.act(obs, True), from_gymnasium(name, 10), 10, seed=1)  # noqa: B023
    print(f"{who}: return {trial.return_mean:.0f} over 10 fresh episodes")
reward = inverse.recovered_reward()  # a pure term: PPO("MlpPolicy", env, reward=1.0 * reward), say
print(f"its reward of the demonstrated steps: {reward.score(demos.stretch()).mean().item():.3f}")
