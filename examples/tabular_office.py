"""Office world with 20 seeds at once: what a table learns of four tasks, against the exact optimum."""

import argparse

import torch

from cairn.agents.tabular import QLearning
from cairn.envs.tabular import TabularBatch, office, value_iteration
from cairn.envs.tabular.labelled import OFFICE_TASKS
from cairn.envs.tabular.solve import epsilon_greedy, reward_per_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="of each seed")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()

    best = []
    for name in OFFICE_TASKS:
        mdp = office(name).mdp
        optimum = value_iteration(mdp)
        best.append(float(reward_per_step(mdp, epsilon_greedy(optimum.policy, 0.1), 1000)))
        print(f"{name}: V* = {float((mdp.start * optimum.values).sum()):.4f}, {best[-1]:.4f} per step with epsilon .1")

    env = TabularBatch(office("all"), args.seeds)  # each episode the next of the four
    agent = QLearning(env, learning_rate=0.5, epsilon=0.1, gamma=0.9, initial=2.0).learn(args.steps)

    done = agent.episodes
    optimum_of = torch.tensor(best)[done["episode"] % 4]
    score = done["reward"] / done["length"] / optimum_of
    finals = [float(score[done["lane"] == lane][-400:].mean()) for lane in range(args.seeds)]
    print(f"after {args.steps} steps, 1 = optimal: median {torch.tensor(finals).median():.3f} of {args.seeds} seeds")


if __name__ == "__main__":
    main()
