"""Seconds and steps to solve hard exploration tasks from a process's start, with one setting for all of them.

    cairn bench solve --goals                         # the seven goals: EpisodicCount, five seeds
    cairn bench solve                                 # the whole table; goes on where it was when started again
    cairn bench solve --rows FourRooms --columns none rnd --seeds 0 1
    cairn bench solve --against sb3                   # Stable-Baselines3's PPO with the same expression, on upstream
    cairn bench solve --table                         # only write the tables and the picture from what is there

A cell is a process of its own. Every 50,000 steps, and beyond a million each time that a twentieth more have been
lived, the frozen policy plays 1,000 fresh levels: it draws its actions as in training, the first episode of each lane
counts, and the levels are of seeds that training never has. Trials are left out while the last 100 training episodes
succeed so seldom (0.1 below the criterion) that one would not pass, and while none can have ended by its time limit.
Solved is the first trial that reaches the criterion, 0.95; "again" is the success of that policy on 1,000 levels more,
which no choice depends on. Seconds run from the start of the process, imports and building included, kernels compiled
before (a process that is thrown away does it); trials are taken off, and their seconds stand beside. EpisodicCount of
the position is on that clock, alone on the machine with two threads, where its row has a goal (ten times that goal).
All other cells run with one thread beside others, and their seconds are of the processor. On ObstructedMaze 2Dlhb, 1Q,
2Q and Full EpisodicCount of the position has thirty minutes of one. What is left has its budget in steps, which no
other process can slow: 10 million, 30 million for EpisodicCount of the position. These give up at two fifths of it, or
later, while less than 1 % of the last 2,000 training episodes succeed.

One setting serves all cells: SETTINGS, and in each column one expression. Nothing depends on a task's name, but for
what makes the task itself, and for the row that says that it has a memory.

Against Stable-Baselines3: 16 of upstream's environments with one-hot cells and direction, each inside ``ShapedReward``
with the same expression; n_steps 128, batches of 256, 4 epochs, learning rate 1e-3, entropy 0.01; a trial every 10,000
steps, and beyond 200,000 as above. Both have one thread, and seconds of the processor in training alone: no imports, no
compilation, no trials. They are capped at an hour of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cairn.benchmarks.solve_cell import Spec
from cairn.benchmarks.solve_tables import ALONE, PAIR, render, short
from cairn.benchmarks.tables import RESULTS, Cells, machine

EVERY, LEVELS, NEAR, SEEDS = 50_000, 1000, 0.1, 5
LONG, STEPS, STEPS_PRIVILEGED, FRUITLESS = 30 * 60, 10_000_000, 30_000_000, 0.4

SETTINGS: dict[str, Any] = {
    "num_envs": 512, "n_steps": 32, "batch_size": 1024, "n_epochs": 1, "learning_rate": 1e-3, "ent_coef": 0.02,
}  # fmt: skip
"""PPO's, for every row and column."""

MEMORY: dict[str, Any] = {"policy_kwargs": {"memory": 128}}
"""What the row with a memory adds."""

SB3: dict[str, Any] = {
    "num_envs": 16, "n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01,
}  # fmt: skip
SB3_EVERY, SB3_CAP = 10_000, 3600


class Row(NamedTuple):
    """A task."""

    env: str
    """Upstream's id."""
    args: dict[str, Any] = {}
    """Arguments of upstream's class."""
    goal: float | None = None
    """Seconds that the issue of this benchmark asks for, on two cores."""
    long: bool = False
    """Whether EpisodicCount of the position has half an hour of a processor."""
    criterion: float = 0.95
    memory: bool = False
    """Whether the policy has one."""


def _rooms(rooms: int, size: int) -> dict[str, Any]:
    return {"minNumRooms": rooms, "maxNumRooms": rooms, "maxRoomSize": size}


ROWS: dict[str, Row] = {
    "DoorKey-8x8": Row("MiniGrid-DoorKey-8x8-v0", goal=6),
    "DoorKey-16x16": Row("MiniGrid-DoorKey-16x16-v0"),
    "KeyCorridorS3R3": Row("MiniGrid-KeyCorridorS3R3-v0", goal=12),
    "KeyCorridorS4R3": Row("MiniGrid-KeyCorridorS4R3-v0", goal=30),
    "KeyCorridorS5R3": Row("MiniGrid-KeyCorridorS5R3-v0"),
    "KeyCorridorS6R3": Row("MiniGrid-KeyCorridorS6R3-v0", goal=90),
    "MultiRoom-N6": Row("MiniGrid-MultiRoom-N6-v0", goal=25),
    "MultiRoom-N7-S8": Row("MiniGrid-MultiRoom-N6-v0", _rooms(7, 8)),
    "MultiRoom-N12-S10": Row("MiniGrid-MultiRoom-N6-v0", _rooms(12, 10)),
    "ObstructedMaze-1Dlhb": Row("MiniGrid-ObstructedMaze-1Dlhb-v0", goal=25),
    "ObstructedMaze-2Dlh": Row("MiniGrid-ObstructedMaze-2Dlh-v0", goal=30),
    "ObstructedMaze-2Dlhb-v1": Row("MiniGrid-ObstructedMaze-2Dlhb-v1", long=True),
    "ObstructedMaze-1Q-v1": Row("MiniGrid-ObstructedMaze-1Q-v1", long=True),
    "ObstructedMaze-2Q-v1": Row("MiniGrid-ObstructedMaze-2Q-v1", long=True),
    "ObstructedMaze-Full-v1": Row("MiniGrid-ObstructedMaze-Full-v1", long=True),
    "LockedRoom": Row("MiniGrid-LockedRoom-v0"),
    "FourRooms": Row("MiniGrid-FourRooms-v0"),
    "MemoryS13": Row("MiniGrid-MemoryS13-v0"),
    "LavaCrossingS11N5": Row("MiniGrid-LavaCrossingS11N5-v0"),
    "Dynamic-Obstacles-16x16": Row("MiniGrid-Dynamic-Obstacles-16x16-v0"),
}
if MEMORY:
    ROWS["MemoryS13, memory"] = ROWS["MemoryS13"]._replace(memory=True)
GOALS = [name for name, row in ROWS.items() if row.goal is not None]
SHOWN_AGAINST = ("KeyCorridorS3R3", "KeyCorridorS4R3", "MultiRoom-N6")


class Column(NamedTuple):
    """A bonus."""

    reward: str
    title: str
    privileged: bool = False
    """Whether it reads what the agent does not see."""


COLUMNS: dict[str, Column] = {
    "none": Column("task", "no bonus"),
    "position": Column(
        'task + self_scaled(episodic_count(key=("position", "carrying"), mode="first"))',
        "EpisodicCount (position)",
        privileged=True,
    ),
    "seen": Column('task + self_scaled(episodic_count(mode="first"))', "EpisodicCount (what is seen)"),
    "rnd": Column("task + self_scaled(rnd)", "RND"),
    "noveld": Column("task + self_scaled(noveld)", "NovelD"),
    "ngu": Column("task + self_scaled(ngu)", "NGU"),
}
KEY = ("learner", "row", "column", "seed", "reward", "settings", "budget", "clock", "threads")


class Budget(NamedTuple):
    """What a cell may take."""

    amount: float
    clock: str
    """Of what: see ``solve_cell.Spec.clock``."""
    alone: bool
    """Whether it has the machine for itself, and all of its threads."""
    fruitless: int = 0
    """Steps after which it gives up if no training episode succeeds; 0 for never."""


def budget_of(row: Row, column: str) -> Budget:
    """Seconds by the clock for the goals, with the machine for themselves; of a processor, or steps, for all others."""
    privileged = COLUMNS[column].privileged
    if privileged and row.goal is not None:
        return Budget(10 * row.goal, "process", True)
    if privileged and row.long:
        return Budget(LONG, "cpu", False)
    steps = STEPS_PRIVILEGED if privileged else STEPS
    return Budget(steps, "steps", False, int(FRUITLESS * steps))


def spec_of(learner: str, row: str, column: str, seed: int, args: argparse.Namespace) -> Spec:
    """What a cell's process is given."""
    task, ours = ROWS[row], learner == "cairn"
    budget = Budget(args.cap, PAIR, False) if args.against else budget_of(task, column)
    if args.budget:
        budget = budget._replace(amount=args.budget, clock="cpu" if args.cpu else "process", fruitless=0)
    return {
        "name": f"{row}, {column}, seed {seed}{'' if ours else ', ' + learner}",
        "env": task.env,
        "args": task.args,
        "reward": COLUMNS[column].reward,
        "settings": {**SETTINGS, **(MEMORY if task.memory else {})} if ours else SB3,
        "learner": learner,
        "seed": seed,
        "threads": args.threads if budget.alone else 1,
        "every": EVERY if ours else SB3_EVERY,
        "levels": LEVELS,
        "criterion": task.criterion,
        "near": NEAR,
        "budget": budget.amount,
        "clock": budget.clock,
        "fruitless": budget.fruitless,
        "began": 0.0,
    }


def words(settings: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def key_of(row: str, column: str, spec: Spec) -> dict[str, object]:
    """What tells the cell from all others; a change of the settings makes new cells."""
    return {
        "learner": spec["learner"], "row": row, "column": column, "seed": spec["seed"], "reward": spec["reward"],
        "settings": words(spec["settings"]), "budget": f"{spec['budget']:g}", "clock": spec["clock"],
        "threads": spec["threads"],
    }  # fmt: skip


def live(spec: Spec) -> dict[str, Any]:
    """Run a cell in a process of its own, whose progress line goes to this terminal.

    Raises:
        SystemExit: The process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "spec.json", Path(folder) / "result.json"
        given.write_text(json.dumps({**spec, "began": time.monotonic()}))
        done = subprocess.run([sys.executable, "-m", "cairn.benchmarks.solve_cell", str(given), str(found)])
        if done.returncode:
            raise SystemExit(f"\nthe process of {spec['name']} failed ({done.returncode}): {json.dumps(spec)}")
        result: dict[str, Any] = json.loads(found.read_text())
        return result


def said(name: str, result: Mapping[str, Any]) -> str:
    """A cell's line."""
    end = "solved" if result["solved"] else "not solved"
    training, processors = result["training_seconds"], result["cpu_seconds"]
    clocks = f"{result['process_seconds']:.1f} s (training {training:.1f} s, processors {processors:.1f} s)"
    frozen = f"success {result['success']:.3f} and {result['again']:.3f}"
    return f"{name}: {end}, {clocks}, {result['steps']:,} steps, {frozen}; trials took {result['trial_seconds']:.1f} s"


def measure(learner: str, rows: Sequence[str], columns: Sequence[str], cells: Cells, args: argparse.Namespace) -> None:
    """Run the cells that are missing: the first seed of everything, then the second ..."""
    warm: set[tuple[str, str]] = set()
    for seed in args.seeds:
        for row in rows:
            for column in columns:
                spec = spec_of(learner, row, column, seed, args)
                key = key_of(row, column, spec)
                if cells.done(key):
                    continue
                if (row, column) not in warm:  # compile what there is to compile, in a process that is thrown away
                    live({**spec, "name": f"{row}, {column}, warming up", "budget": 0.0, "levels": 2})
                    warm.add((row, column))
                result = live(spec)
                cells.add({**key, "goal": ROWS[row].goal or "", "criterion": spec["criterion"], **result})
                print(f"\r{said(spec['name'], result)}", flush=True)


def current(out: Path) -> list[dict[str, str]]:
    """The cells that are there, of settings, rewards, budgets and threads as they are now.

    Of those that have the machine for themselves, the threads are those of the last one. Others stay in the CSV and out
    of the tables.
    """
    cells = Cells(out / "cells.csv", KEY).rows()
    threads = [cell["threads"] for cell in cells if cell["clock"] in ALONE]
    plain = {"threads": threads[-1] if threads else 0, "budget": None, "cap": SB3_CAP, "cpu": False}

    def now(cell: Mapping[str, str]) -> bool:
        row, column = cell["row"], cell["column"]
        if row not in ROWS or column not in COLUMNS:
            return False
        args = argparse.Namespace(**plain, against=cell["clock"] == PAIR)
        key = key_of(row, column, spec_of(cell["learner"], row, column, int(cell["seed"]), args))
        return all(cell[name] == str(key[name]) for name in KEY)

    return [cell for cell in cells if now(cell)]


TITLES = {name: column.title + (" *" if column.privileged else "") for name, column in COLUMNS.items()}


def write(out: Path) -> None:
    """Write tables, summary and picture from the cells."""
    render(current(out), list(ROWS), TITLES, out)


def short_table(out: Path = RESULTS / "solve") -> str:
    """The table that the README has."""
    cells = [cell for cell in current(out) if cell["clock"] != PAIR]
    return short(cells, list(ROWS), TITLES) if cells else "No cell has been measured yet: `cairn bench solve` does it."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goals", action="store_true", help=f"the rows with goals ({', '.join(GOALS)}) and 'position'")
    for option, known, what in (("--rows", ROWS, "tasks"), ("--columns", COLUMNS, "bonuses")):
        told = f"these {what} of: {', '.join(known)}"
        parser.add_argument(option, nargs="+", choices=list(known), metavar="NAME", default=None, help=told)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(SEEDS)))
    parser.add_argument("--against", choices=["sb3"], default=None, help="run its cells and ours beside them")
    parser.add_argument("--cap", type=float, default=SB3_CAP, help="seconds of training in the comparison")
    parser.add_argument("--budget", type=float, default=None, help="seconds for every cell, instead of the table's")
    parser.add_argument("--cpu", action="store_true", help="budgets in seconds of the processors, on a busy machine")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch")
    parser.add_argument("--table", action="store_true", help="only write the tables and the picture")
    parser.add_argument("--out", type=Path, default=RESULTS / "solve")
    args = parser.parse_args(argv)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    cells = Cells(args.out / "cells.csv", KEY)
    some = GOALS if args.goals else list(SHOWN_AGAINST) if args.against else list(ROWS)
    rows = args.rows or some
    columns = args.columns or (["position"] if args.goals or args.against else list(COLUMNS))
    try:
        for learner in [] if args.table else ["cairn", *([args.against] if args.against else [])]:
            measure(learner, rows, columns, cells, args)
    finally:  # a table of what there is, after Ctrl-C too
        write(args.out)
    print((args.out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
