"""A task that only a memory can solve: PPO with a gated recurrent unit, and the same PPO without one.

    cairn bench memory                        # both policies, three seeds; goes on where it was when started again
    cairn bench memory --policies gru --seeds 0 --env MiniGrid-MemoryS7-v0
    cairn bench memory --table                # only write the table from what is there

MiniGrid's Memory shows a key or a ball in a room, and at the end of a corridor one way goes by a key and the other by
a ball: the one that was shown is right. Whoever does not remember it is right half of the time. A cell is a process of
its own, on one thread, until the frozen policy passes or the budget in seconds of the processor is spent; its settings
are those of ``cairn bench solve``'s cells: every 50,000 steps (beyond a million, of a twentieth more) the frozen policy
draws its actions on 1,000 fresh levels of seeds that training never has, and 0.95 of them pass; "again" is its success
on 1,000 more, which no choice depends on. Trials are left out while the last 100 training episodes succeed in less than
0.85, and are no part of the seconds. Where nothing passes, the policy at the end of the budget is tried.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cairn.benchmarks.solve import live, said, words
from cairn.benchmarks.solve_cell import Spec
from cairn.benchmarks.tables import RESULTS, Cells, iqm, machine

ENV, REWARD, BUDGET = "MiniGrid-MemoryS13-v0", "task", 180.0
SETTINGS: dict[str, Any] = {
    "num_envs": 64, "n_steps": 128, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.02,
}  # fmt: skip
"""PPO's, for both policies."""
POLICIES: dict[str, dict[str, Any]] = {
    "gru": {"memory": 64, "window": 32, "features_extractor_kwargs": {"features_dim": 64, "trunk": 64}},
    "none": {},
}
TITLES = {"gru": "GRU of 64, gradients through 32 steps", "none": "no memory"}
KEY = ("env", "policy", "seed", "reward", "settings", "budget")


def spec_of(env: str, policy: str, seed: int, budget: float) -> Spec:
    """What a cell's process is given."""
    return {
        "name": f"{env}, {policy}, seed {seed}",
        "env": env,
        "args": {},
        "reward": REWARD,
        "settings": {**SETTINGS, "policy_kwargs": POLICIES[policy]},
        "learner": "cairn",
        "seed": seed,
        "threads": 1,
        "every": 50_000,
        "levels": 1000,
        "criterion": 0.95,
        "near": 0.1,
        "budget": budget,
        "clock": "cpu",
        "fruitless": 0,
        "began": 0.0,
    }


def key_of(policy: str, spec: Spec) -> dict[str, object]:
    """What tells the cell from all others; a change of the settings makes new cells."""
    return {
        "env": spec["env"], "policy": policy, "seed": spec["seed"], "reward": spec["reward"],
        "settings": words(spec["settings"]), "budget": f"{spec['budget']:g}",
    }  # fmt: skip


def measure(cells: Cells, args: argparse.Namespace) -> None:
    """Run the cells that are missing: the first seed of both policies, then the second ..."""
    warm: set[str] = set()
    for seed in args.seeds:
        for policy in args.policies:
            spec = spec_of(args.env, policy, seed, args.budget)
            key = key_of(policy, spec)
            if cells.done(key):
                continue
            if policy not in warm:  # compile what there is to compile, in a process that is thrown away
                live({**spec, "name": f"{policy}, warming up", "budget": 0.0, "levels": 2})
                warm.add(policy)
            result = live(spec)
            cells.add({**key, **result})
            print(f"\r{said(spec['name'], result)}", flush=True)
            write(args.out)


def current(out: Path) -> list[dict[str, str]]:
    """The cells that are there, of settings as they are now; others stay in the CSV and out of the table."""

    def now(cell: dict[str, str]) -> bool:
        if cell["policy"] not in POLICIES:
            return False
        key = key_of(cell["policy"], spec_of(cell["env"], cell["policy"], int(cell["seed"]), BUDGET))
        return all(cell[name] == str(key[name]) for name in KEY)

    return [cell for cell in Cells(out / "cells.csv", KEY).rows() if now(cell)]


def table(cells: Sequence[dict[str, str]]) -> str:
    """A line for each environment and policy: seeds that passed, steps, seconds, success on fresh levels."""
    lines = [
        "| task | policy | passed | million steps | CPU seconds | success | success again |",
        "|---|---|---|---|---|---|---|",
    ]
    for env in dict.fromkeys(cell["env"] for cell in cells):
        for policy, title in TITLES.items():
            mine = [cell for cell in cells if (cell["env"], cell["policy"]) == (env, policy)]
            if not mine:
                continue

            def shown(name: str, scale: float = 1.0, digits: int = 3, mine: list[dict[str, str]] = mine) -> str:
                values = [float(cell[name]) * scale for cell in mine]
                low, high = min(values), max(values)
                return f"{iqm(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

            passed = f"{sum(int(cell['solved']) for cell in mine)}/{len(mine)}"
            figures = [shown("steps", 1e-6, 2), shown("cpu_seconds", digits=0), shown("success"), shown("again")]
            lines.append(f"| {env.removeprefix('MiniGrid-')} | {title} | {passed} | {' | '.join(figures)} |")
    return "\n".join(lines)


def write(out: Path) -> None:
    """Write the table, and what it was measured on."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    note = f"IQM over seeds, with the least and the greatest. {facts}"
    (out / "README.md").write_text(f"# What a memory is worth\n\n{table(current(out))}\n\n{note}\n", encoding="utf-8")


def short_table(out: Path = RESULTS / "memory") -> str:
    """The table that the README has."""
    cells = current(out)
    return table(cells) if cells else "No cell has been measured yet: `cairn bench memory` does it."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default=ENV, help="upstream's id")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of the processor for a cell")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory")
    args = parser.parse_args(argv)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if not args.table:
        measure(Cells(args.out / "cells.csv", KEY), args)
    write(args.out)
    print((args.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
