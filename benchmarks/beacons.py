"""Words as Beacons: steps to solve as a function of how many subgoals are right, beside plain PPO.

    python benchmarks/beacons.py                                  # KeyCorridorS3R3; resumable
    python benchmarks/beacons.py --forms position language --accuracies 1 .7 .5
    python benchmarks/beacons.py --task MultiRoom-N4-S5-v0
    python benchmarks/beacons.py --task ObstructedMaze-1Dlh-v0
    python benchmarks/beacons.py --plans 100 --url http://127.0.0.1:8000/v1 --model NAME     # how good its plans are

Plans come from the oracle with its dial: a share of the subgoals names another thing in another place. PPO and what
counts as solved stand in benchmarks/dials.py; the frozen policy sees the plans of its fresh levels, made at the same
accuracy. --plans asks a model about a fixed set of levels and says which share of its
subgoals is right by object and by position, so that its place on the curve can be found.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from cairn.benchmarks.dials import ACCURACIES, BUDGET, KEY, LEVELS, brief, cell, model_for, of_now, report, solve_cell
from cairn.benchmarks.solve import SETTINGS
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.shaping import SubgoalBonus, SubgoalEnv, Task
from cairn.shaping.language import AskedPlanner, Client, OraclePlanner
from cairn.shaping.language.beacons import FORMS
from cairn.shaping.language.subgoals import agreement, route

TASKS = ("KeyCorridorS3R3-v0", "ObstructedMaze-1Dlh-v0", "MultiRoom-N4-S5-v0")


def batch(task: str, lanes: int) -> Any:
    """Environments of the grid engine."""
    return gym.make_vec(f"cairn/MiniGrid-{task}", num_envs=lanes, device="cpu")


def solve(args: argparse.Namespace) -> None:
    """Run the cells that are missing, the first seed of all first; then the table."""
    torch.set_num_threads(1)
    cells = Cells(args.out / f"{args.task}.csv", KEY)
    kinds = [("none", "", 0.0)] + [
        (f"{f} {a:g}", f, a) for f in args.forms for a in sorted(args.accuracies, reverse=True)
    ]
    for seed in range(args.seeds):
        for name, form, accuracy in kinds:
            if args.only and name not in args.only or cells.done(cell(name, seed, args.budget)):
                continue
            envs, trial = batch(args.task, SETTINGS["num_envs"]), batch(args.task, LEVELS)
            reward: Any = Task()
            if form:
                envs, trial = (SubgoalEnv(env, OraclePlanner(accuracy, seed), form) for env in (envs, trial))
                reward = Task() + SubgoalBonus(curriculum=args.curriculum)
            cells.add(solve_cell(name, model_for(reward, seed, envs), trial, seed, args.budget))
    report(cells, args.budget, f"Words as Beacons on {args.task}")


def short_table() -> str:
    """A row for each task and form of subgoals, a column for each accuracy, as the dials' table has them."""
    marks = sorted(ACCURACIES, reverse=True)
    head = ["task", "subgoals by", "PPO alone", *(f"{a:.0%} right" for a in marks)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for task in TASKS:
        rows = of_now(Cells(RESULTS / "beacons" / f"{task}.csv", KEY).rows(), BUDGET)
        alone = brief([r for r in rows if r["reward"] == "none"], BUDGET)
        for form in sorted(FORMS, key=lambda form: form != "object"):
            dial = [brief([r for r in rows if r["reward"] == f"{form} {a:g}"], BUDGET) for a in marks]
            if any(dial):
                lines.append(f"| {' | '.join([task, form, alone, *dial])} |")
    return "\n".join(lines)


def plans(args: argparse.Namespace) -> None:
    """Ask a model about levels, and compare with what is right."""
    giver = Client(args.url, args.model, cache=args.cache)
    giver.check()
    env = batch(args.task, args.plans)
    facts = env.reset(seed=0)[1]["facts"]
    about = facts["cells"], env.width, facts["position"], env.missions()
    planner = AskedPlanner(giver)
    planner.prepare(*about)
    shares = agreement(planner.plan(*about), route(*about))
    print(f"{args.task}, {args.plans} levels: {planner.counts}; right by object {shares['object']:.2f}, by position "
          f"{shares['position']:.2f}; {giver.line}")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=TASKS[0], help="after cairn/MiniGrid-")
    parser.add_argument("--forms", nargs="*", default=["object"])
    parser.add_argument("--accuracies", type=float, nargs="*", default=ACCURACIES)
    parser.add_argument("--curriculum", action="store_true", help="pay what is mastered less")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--only", nargs="*", help="names of cells")
    parser.add_argument("--out", type=Path, default=RESULTS / "beacons")
    parser.add_argument("--plans", type=int, default=0, help="levels to ask a model about")
    parser.add_argument("--url")
    parser.add_argument("--model", default="")
    parser.add_argument("--cache", default=None)
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    if args.curriculum:
        args.out = args.out / "curriculum"
    plans(args) if args.plans else solve(args)


if __name__ == "__main__":
    main()
