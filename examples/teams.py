"""Train a team to cover landmarks, then let it play as a PettingZoo environment: --agent mappo, ippo, maddpg ...

All agents of all environments are rows of one batch. The same world steps one team at a time in PettingZoo's loop,
where it renders and takes any other library's agents (pip install 'cairn-rl[multi]').
"""

import argparse

import gymnasium as gym

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import training
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.table import agent_class

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--agent", default="mappo", choices=["ippo", "mappo", "maddpg", "teamreg", "coachreg"])
parser.add_argument("--env", default="cairn/Spread-v0")
parser.add_argument("--steps", type=float, default=1e6, help="steps to train for")
args = parser.parse_args()

envs = gym.make_vec(args.env, num_envs=32, device="cpu")
model = agent_class(args.agent)("MlpPolicy", envs, seed=0)
model.learn(int(args.steps), progress_bar=True)
print("frozen team on fresh episodes:", evaluate_batch(training.acting(model, False), envs, 32, seed=1))

try:
    from cairn.envs.multi import parallel_env
except ImportError as error:
    print(error)
else:
    one = parallel_env(args.env)
    obs, _ = one.reset(seed=2)
    total = dict.fromkeys(one.agents, 0.0)
    while one.agents:
        actions, _ = model.predict(one.state())  # what all agents observe, [A, ...]
        obs, reward, _, _, _ = one.step(dict(zip(one.agents, actions)))
        total = {agent: total[agent] + reward[agent] for agent in total}
    print("one team in PettingZoo's loop:", total)
envs.close()
