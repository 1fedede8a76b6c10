"""Office world's four tasks by a hierarchy of options: one for each edge of a reward machine, all learned at once."""

import argparse

import torch

from cairn.agents.hrm import HRM
from cairn.envs.tabular import TabularBatch, office
from cairn.envs.tabular.labelled import OFFICE_PROPOSITIONS, OFFICE_TASKS
from cairn.shaping import MachineEnv, RewardMachine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30_000, help="of each seed")
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()

    machines = [RewardMachine.of_task(task, OFFICE_PROPOSITIONS) for task in OFFICE_TASKS.values()]
    tasks = RewardMachine.in_turn(machines, list(OFFICE_TASKS))
    for u, v in tasks.pairs:
        print(f"option: from {tasks.states[u]} to {tasks.states[v]}")

    env = MachineEnv(TabularBatch(office(), args.seeds), tasks)
    agent = HRM(env, learning_rate=0.5, epsilon=0.1, gamma=0.9, initial=2.0).learn(args.steps)
    done = agent.episodes
    late = done["step"] > args.steps * 3 // 4
    share = float((done["reward"][late] > 0).double().mean()) if bool(late.any()) else 0.0
    longest = torch.quantile(done["length"].double(), 0.5) if len(done["length"]) else torch.tensor(0.0)
    print(f"{args.seeds} seeds, {args.steps} steps each: {share:.0%} of the last quarter's episodes end in success")
    print(f"the median episode took {float(longest):.0f} steps")


if __name__ == "__main__":
    main()
