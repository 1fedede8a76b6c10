"""Whether bfloat16 harms: PPO's steps to solve with hidden layers in bfloat16 and in float32, seed by seed.

    cairn bench ppo_bf16                       # three tasks, five seeds; goes on where it was when started again
    cairn bench ppo_bf16 --rows DoorKey-8x8 --seeds 0 1
    cairn bench ppo_bf16 --table               # only write the table from what is there

Cells are those of ``cairn bench solve`` with EpisodicCount of the position, of its one setting and its criterion: the
frozen policy solves 0.95 of 1,000 fresh levels; ``bf16=True`` is all that differs. They have 30 million steps. Steps
are compared, and no seconds: on a CPU bfloat16 leaves the compiled loops, and what it is for is a GPU.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from cairn.benchmarks.solve import ROWS, live, said, spec_of, words
from cairn.benchmarks.solve_cell import Spec
from cairn.benchmarks.solve_tables import upper
from cairn.benchmarks.tables import RESULTS, Cells, interval, iqm, machine

TASKS = ("DoorKey-8x8", "KeyCorridorS3R3", "MultiRoom-N6")
STEPS = 30_000_000
PRECISIONS = {"float32": False, "bfloat16": True}
KEY = ("row", "precision", "seed", "settings", "budget")


def cell_of(row: str, precision: str, seed: int, steps: int) -> Spec:
    """What a cell's process is given."""
    plain = argparse.Namespace(threads=1, budget=steps, cap=0.0, cpu=False, against=None)
    spec = spec_of("cairn", row, "position", seed, plain)
    settings = {**spec["settings"], "bf16": PRECISIONS[precision]}
    return {**spec, "name": f"{row}, {precision}, seed {seed}", "settings": settings, "clock": "steps", "threads": 1}


def table(cells: Sequence[dict[str, str]]) -> str:
    """Million steps to the criterion by task and precision: IQM over seeds, interval, and how many were solved."""
    lines = ["| task | precision | solved | million steps | success again |", "|---|---|---|---|---|"]
    for row in dict.fromkeys(cell["row"] for cell in cells):
        for precision in PRECISIONS:
            mine = [cell for cell in cells if (cell["row"], cell["precision"]) == (row, precision)]
            if not mine:  # its process was killed
                continue
            steps = [float(cell["steps"]) if int(cell["solved"]) else math.inf for cell in mine]
            low, high = interval(steps)
            again = iqm([float(cell["again"]) for cell in mine])
            solved = f"{sum(map(math.isfinite, steps))}/{len(mine)}"
            reached = f"{upper(iqm(steps))} ({upper(low)} to {upper(high)})"
            lines.append(f"| {row} | {precision} | {solved} | {reached} | {again:.3f} |")
    return "\n".join(lines)


def short_table(out: Path = RESULTS / "ppo_bf16") -> str:
    """The table that the page of results has."""
    cells = Cells(out / "cells.csv", KEY).rows()
    return table(cells) if cells else "No cell has been measured yet: `cairn bench ppo_bf16` does it."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="NAME", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, default=STEPS, help="that a cell may take")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=RESULTS / "ppo_bf16")
    args = parser.parse_args(argv)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    cells = Cells(args.out / "cells.csv", KEY)
    for seed in [] if args.table else args.seeds:
        for row in args.rows:
            for precision in PRECISIONS:
                spec = cell_of(row, precision, seed, args.steps)
                key = {
                    "row": row, "precision": precision, "seed": seed, "settings": words(spec["settings"]),
                    "budget": args.steps,
                }  # fmt: skip
                if not cells.done(key):
                    result = live(spec)
                    cells.add({**key, **result})
                    print(f"\r{said(spec['name'], result)}", flush=True)
    print(table(cells.rows()))


if __name__ == "__main__":
    main()
