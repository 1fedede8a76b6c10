"""Searches in worlds with sparse reward: coverage of the outcomes, and the best reward in every reward area.

Each search evaluates as many policies; coverage is of a 50 x 50 grid over the true outcome by all that was evaluated,
whatever the search itself keeps. Seeds run side by side, in batches that they share (the worlds have no chance in them,
so it is as if each ran alone). Searches on pyribs are left out where the extra ``qd`` is missing.

Searches by pictures train an autoencoder all the while, which takes a hundred times what the episodes do: they have
20,000 evaluations, one seed after the other, and all others are measured at that number as well as at their own. In
CPU time a thousand evaluations take 15 to 150 ms, by pictures seven to eight seconds; in the ant maze, with episodes
of 1000 steps and no noise at the start, some four minutes.

    cairn bench qd_sparse                                   # everything; goes on where it was stopped
    cairn bench qd_sparse --worlds arm --evaluations 20000 --seeds 3 --out /tmp/pilot

Protocol: Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021). Its worlds are
simulated by other engines there, so scores are not comparable with its figures.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cairn.benchmarks.tables as tables
from cairn.envs.bridges import make_batch
from cairn.qd import ALGORITHMS, MLP, Evaluator, Problem, Search, run_together
from cairn.qd.running import picture_size
from cairn.runs import CheckpointError, read_checkpoint, write_checkpoint

# The id and its arguments, the hidden layers of the published controllers, and the evaluations that are affordable.
WORLDS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int]] = {
    "arm": ("cairn/RedundantArm-v0", {}, (5, 5), 500_000),
    "maze": ("cairn/HardMaze-v0", {}, (5, 5), 500_000),
    "curling": ("cairn/Curling-v0", {}, (5, 5, 5), 100_000),
    "ant": ("cairn/AntObstacles-v0", {"length": 1000, "reset_noise_scale": 0.0}, (10, 10, 10), 5_000),
}
NEEDS_RIBS = ("map-elites", "cma-me", "cma-ns")
# Searches with gradients need dense rewards and other networks (qd_gradients); the strategies' table is qd_ga_maze's.
SEARCHES = [name for name, entry in ALGORITHMS.items() if not entry.gradients]
USUAL = [name for name in SEARCHES if not ALGORITHMS[name].target.startswith("strategies:")]
PICTURED = 20_000  # evaluations at which searches by pictures are compared with the others
# Seeds win nothing by company where pictures are learned from, and are lost together when they are stopped. CMA-NS
# keeps matrices of each of its emitters: 26 MB more a seed for every 10,000 evaluations of the arm.
LARGE = ("cma-ns",)
SAVE_SECONDS = 120.0


def budgets(world: str, algorithm: str) -> list[int]:
    """The numbers of evaluations at which a search is measured."""
    full = WORLDS[world][-1]
    short = min(full, PICTURED)
    return [short] if ALGORITHMS[algorithm].frames else sorted({short, full})


def measure(world: str, algorithm: str, seeds: list[int], evaluations: int, folder: Path) -> list[dict[str, object]]:
    """Run the seeds side by side; one row for each. What a kill interrupts is in ``folder`` and is gone on with."""
    pictured = ALGORITHMS[algorithm].frames
    name, kwargs, hidden, _ = WORLDS[world]
    if pictured:
        kwargs = {**kwargs, "render_mode": "rgb_array", **picture_size(name, 64)}
    env: Any = make_batch(name, 1, **kwargs)
    policy = MLP(env.single_observation_space, env.single_action_space, hidden)
    evaluator = Evaluator(lambda lanes: make_batch(name, lanes, **kwargs), policy, frames=pictured)
    low, high = env.unwrapped.descriptor_bounds
    areas = len(env.unwrapped.areas)
    searches = [Search(algorithm, Problem(policy.size, low, high, seed=seed), areas=areas) for seed in seeds]
    spent = _go_on(folder, seeds, searches)
    began = time.process_time()
    saved = shown = time.monotonic()
    while any(s.evaluations < evaluations for s in searches):
        run_together(searches, evaluator, evaluations)
        now = time.monotonic()
        if now - shown > 5:
            shown, done = now, sum(s.evaluations for s in searches) / len(searches)
            cover = sum(s.grid.scores()["coverage"] for s in searches) / len(searches)
            line = f"{world} {algorithm}: {done:,.0f} of {evaluations:,} evaluations a seed, coverage {cover:.1%}"
            print(f"\r{line}   ", end="", file=sys.stderr, flush=True)
        if now - saved > SAVE_SECONDS and not pictured:  # pictures are not saved: such a cell begins anew
            saved = now
            state = {str(seed): s.state_dict() for seed, s in zip(seeds, searches)}
            write_checkpoint(folder, {"cpu": spent + time.process_time() - began}, state, replace=True)
    cpu = (spent + time.process_time() - began) / len(seeds)
    print(file=sys.stderr)
    return [
        {
            "world": world, "algorithm": algorithm, "evaluations": evaluations, "seed": seed,
            "done": s.evaluations, **_scores(s), "cpu_seconds": round(cpu, 1),
        }
        for seed, s in zip(seeds, searches)
    ]  # fmt: skip


def _go_on(folder: Path, seeds: list[int], searches: list[Search]) -> float:
    """Load what a killed run left; gives the CPU seconds that it had spent."""
    if not folder.exists():
        return 0.0
    try:
        meta, state = read_checkpoint(folder)
        if sorted(state) != sorted(map(str, seeds)):
            return 0.0  # other seeds: begin anew
        for seed, search in zip(seeds, searches):
            search.load_state_dict(state[str(seed)])
    except (CheckpointError, ValueError) as error:
        raise SystemExit(f"{error}\nremove {folder} to measure this cell anew") from error
    return float(meta["cpu"])


def _scores(search: Search) -> dict[str, object]:
    scores = search.grid.scores()
    areas = [round(scores.get(f"area_{i}", float("nan")), 4) for i in range(3)]
    return {
        "coverage": round(scores["coverage"], 4), "qd_score": round(scores["qd_score"], 3),
        **{f"area_{i}": value for i, value in enumerate(areas)},
    }  # fmt: skip


def table(rows: Sequence[dict[str, str]]) -> str:
    """IQM and 95 % bootstrap interval over seeds of coverage and of the best reward in each area."""
    cells: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    places = list(WORLDS), list(ALGORITHMS)
    order = lambda row: (places[0].index(row["world"]), int(row["evaluations"]), places[1].index(row["algorithm"]))  # noqa: E731
    for row in sorted(rows, key=order):
        cells.setdefault((row["world"], row["evaluations"], row["algorithm"]), []).append(row)
    lines = ["| world | evaluations | search | seeds | coverage | area 0 | area 1 | area 2 |", "|" + "---|" * 8]
    for (world, evaluations, algorithm), group in cells.items():
        shown = []
        for name in ("coverage", "area_0", "area_1", "area_2"):
            values = [float(row[name]) for row in group]
            if any(v != v for v in values):
                shown.append("")
                continue
            low, high = tables.interval(values)
            shown.append(f"{tables.iqm(values):.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {world} | {int(evaluations):,} | {algorithm} | {len(group)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def short_table() -> str:
    """The table that the page of results has."""
    return table(tables.Cells(tables.RESULTS / "qd_sparse" / "cells.csv", ["seed"]).rows())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(prog="cairn bench qd_sparse", description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--algorithms", nargs="+", choices=SEARCHES, default=USUAL)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, help="of each seed, in place of the usual numbers")
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "qd_sparse")
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in tables.machine().items()))
    key = ("world", "algorithm", "evaluations", "seed")
    cells = tables.Cells(args.out / "cells.csv", key)
    for world in args.worlds:
        for algorithm in args.algorithms:
            if algorithm in NEEDS_RIBS and find_spec("ribs") is None:
                print(f"{algorithm} is left out: pip install 'cairn-rl[qd]'")
                continue
            for evaluations in [args.evaluations] if args.evaluations else budgets(world, algorithm):
                place = {"world": world, "algorithm": algorithm, "evaluations": evaluations}
                seeds = [seed for seed in range(args.seeds) if not cells.done({**place, "seed": seed})]
                folder = args.out / f"going-on-{world}-{algorithm}-{evaluations}"
                together = 1 if ALGORITHMS[algorithm].frames or algorithm in LARGE else args.seeds
                for group in (seeds[at : at + together] for at in range(0, len(seeds), together)):
                    for row in measure(world, algorithm, group, evaluations, folder):
                        cells.add(row)
                    shutil.rmtree(folder, ignore_errors=True)
    text = table(cells.rows())
    (args.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
