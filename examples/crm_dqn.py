"""Coffee to the office with DQN: a reward machine, with and without the counterfactual experience it makes possible."""

import argparse

import gymnasium as gym
import torch

import cairn  # noqa: F401  (registers the cairn/ ids)
from cairn.agents import DQN
from cairn.agents.evaluation import evaluate_batch
from cairn.envs import from_gymnasium
from cairn.envs.tabular.labelled import OFFICE_PROPOSITIONS
from cairn.shaping import CounterfactualMachine, MachineEnv, RewardMachine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=40_000, help="environment steps, for each of the two")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()


def holds(name: str):  # type: ignore[no-untyped-def]
    place = OFFICE_PROPOSITIONS.index(name)
    return lambda facts: facts["events"][..., place]


edges = [
    ("nothing", "coffee & !plant", "coffee in hand", 0.0),
    ("coffee in hand", "office & !plant", "delivered", 1.0),
    ("nothing", "plant", "broken", 0.0),
    ("coffee in hand", "plant", "broken", 0.0),
]
labels = {name: holds(name) for name in ("coffee", "office", "plant")}
machine = RewardMachine(edges, labels, final=["delivered", "broken"])


def office() -> gym.Env:  # type: ignore[type-arg]
    return MachineEnv(gym.make("cairn/Office-v0", max_episode_steps=100), machine)


torch.set_num_threads(1)
for crm in (False, True):
    model = DQN(
        "MlpPolicy", from_gymnasium(office, 8), learning_rate=1e-3, gamma=0.9, buffer_size=50_000, batch_size=32,
        learning_starts=1000, train_freq=1, gradient_steps=1, target_update_interval=800, exploration_fraction=0.5,
        exploration_final_eps=0.1, experience=CounterfactualMachine(machine) if crm else None, seed=args.seed,
    )  # fmt: skip
    model.learn(args.steps)
    trial = evaluate_batch(lambda obs: model.policy.act(obs), from_gymnasium(office, 1), 1, seed=1)  # noqa: B023
    share = sum(e["r"] for e in model.ep_info_buffer or ()) / max(len(model.ep_info_buffer or ()), 1)
    print(f"{'with' if crm else 'without'} counterfactuals: {share:.0%} of the last episodes deliver; "
          f"greedy return {trial.return_mean:.0f} in {trial.length_mean:.0f} steps")  # fmt: skip
