"""QD scores of MAP-Elites with gradients (PGA, DCG, DCRL) over MAP-Elites', and one network that replays the archive.

Walker2dUni and HalfCheetahUni; all searches evolve the same ReLU networks from the same kind of first genomes, and
MAP-Elites has the same line operator and deviations. The QD score is the sum of the elites' returns in a grid of 32 x
32 over all that was evaluated; what is below zero counts as zero. Each cell is a run folder: a killed one goes on.

The actor of DCG and DCRL is a network that is told an outcome. It is told each elite's, in episodes of their own:
"error" is the mean distance of what comes from what was wanted (outcomes are shares of the steps with a foot on the
ground; in brackets that of the elites themselves, run again), "kept" the QD score of what comes, over the archive's.

    cairn bench qd_gradients                                # 100,000 evaluations, 5 seeds: days of a core
    cairn bench qd_gradients --worlds walker --algorithms map-elites pga-me --evaluations 1000 --seeds 1 \
        --episode 200 --hidden 32 32 --population 50 --critic-steps 100 --units 64 --out /tmp/pilot

Protocol: Nilsson and Cully, "Policy Gradient Assisted MAP-Elites" (GECCO 2021), and Faldor et al., "MAP-Elites with
Descriptor-Conditioned Gradients and Archive Distillation into a Single Policy" (GECCO 2023); their bodies are simulated
by other engines, so ratios compare and scores do not.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import cairn.benchmarks.tables as tables
from cairn.envs.bridges import make_batch
from cairn.qd import Evaluator, SearchConfig, load_conditioned, load_grid, replay
from cairn.qd import running as qd_running
from cairn.runs import Run

WORLDS = {"walker": "cairn/Walker2dUni-v0", "cheetah": "cairn/HalfCheetahUni-v0", "ant": "cairn/AntOmni-v0"}
ALGORITHMS = ("map-elites", "pga-me", "dcg-me", "dcrl-me")
TOLD = ("dcg-me", "dcrl-me")
BINS = 32


def config(world: str, algorithm: str, seed: int, args: argparse.Namespace, run: Path) -> SearchConfig:
    """What one cell is."""
    options: dict[str, Any] = {"bins": BINS, "population": args.population}
    if algorithm == "map-elites":
        options |= {"sigma": 0.005, "line": 0.05}
    else:
        told = {"critic_steps": args.critic_steps, "steps": args.climbs, "units": args.units, "batch": args.batch}
        options |= {name: value for name, value in told.items() if value is not None}
    if algorithm == "dcg-me":
        options["actors"] = args.population // 4
    env_args = _env_args(args)
    return SearchConfig(
        env=WORLDS[world], algorithm=algorithm, evaluations=args.evaluations, seed=seed, run=str(run), bins=BINS,
        policy="relu", hidden=tuple(args.hidden), lanes=args.population, algorithm_args=options, env_args=env_args,
        threads=1,
    )  # fmt: skip


def _env_args(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.episode is None else {"max_episode_steps": args.episode}


def measure(world: str, algorithm: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    """One run, or the rest of it."""
    run = args.out / "runs" / f"{world}-{algorithm}-{args.evaluations}-{seed}"
    began = time.process_time()
    if run.exists() and Run.open(run).latest() is not None:
        done = qd_running.resume(run)
    else:
        done = qd_running.search(config(world, algorithm, seed, args, run))
    if done.why != "evaluations":  # a signal: the search saved itself, and is no result yet
        raise SystemExit(f"stopped at {done.evaluations:,} evaluations; the same command goes on")
    grid = load_grid(run)
    elites = grid.elites()["objective"]
    score = float(elites.clamp_min(0).sum(dtype=torch.float64))
    one = {name: float("nan") for name in REPLAYED}
    if algorithm in TOLD:
        one = _replayed(run, world, seed, score, args)
    return {
        "qd_score": round(score, 1), "coverage": round(grid.scores()["coverage"], 4),
        "best": round(float(elites.max()), 1), **{name: round(value, 4) for name, value in one.items()},
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


REPLAYED = ("error", "elites_error", "kept")


def _replayed(run: Path, world: str, seed: int, score: float, args: argparse.Namespace) -> dict[str, float]:
    """One network told the elites' outcomes, and the elites again, in episodes that the search has not seen."""
    actor, grid = load_conditioned(run), load_grid(run)
    elites = grid.elites()
    evaluator = Evaluator(
        lambda lanes: make_batch(WORLDS[world], lanes, **_env_args(args)), actor.policy, seed=seed + 10**6,
        lanes=args.population,
    )  # fmt: skip
    mine = replay(actor.toward(elites["measures"]), elites["measures"], evaluator, grid)
    theirs = replay(elites["genomes"], elites["measures"], evaluator, grid)
    return dict(zip(REPLAYED, (mine.error, theirs.error, mine.qd_score / score if score else float("nan"))))


def table(rows: Sequence[dict[str, str]]) -> str:
    """IQM and 95 % bootstrap interval over seeds; ratios are to the QD score of the same seed."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["world"], row["evaluations"], row["settings"], row["algorithm"]), []).append(row)
    titles = "QD score | over MAP-Elites | over PGA | coverage | best | one network: error (elites') | kept"
    lines = [f"| world | evaluations | settings | search | seeds | {titles} |", "|" + "---|" * 12]
    for (world, evaluations, settings, algorithm), group in groups.items():
        numbers = {name: [float(r[name]) for r in group] for name in ("qd_score", "coverage", "best", *REPLAYED)}
        shown = [_with_interval(numbers["qd_score"], ",.0f")]
        for other in ("map-elites", "pga-me"):
            base = {r["seed"]: float(r["qd_score"]) for r in groups.get((world, evaluations, settings, other), [])}
            ratios = [float(r["qd_score"]) / base[r["seed"]] for r in group if base.get(r["seed"])]
            shown.append(_with_interval(ratios, ".2f") if ratios and other != algorithm else "")
        shown += [_with_interval(numbers["coverage"], ".3f"), _with_interval(numbers["best"], ",.0f")]
        if algorithm in TOLD and not any(v != v for v in numbers["kept"]):
            shown.append(f"{_with_interval(numbers['error'], '.3f')} ({tables.iqm(numbers['elites_error']):.3f})")
            shown.append(_with_interval(numbers["kept"], ".2f"))
        else:
            shown += ["", ""]
        head = [world, f"{int(evaluations):,}", settings, algorithm, str(len(group))]
        lines.append("| " + " | ".join(head + shown) + " |")
    return "\n".join(lines)


def _with_interval(values: list[float], form: str) -> str:
    low, high = tables.interval(values)
    return f"{tables.iqm(values):{form}} [{low:{form}}, {high:{form}}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(prog="cairn bench qd_gradients", description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=["walker", "cheetah"])
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--population", type=int, default=128)
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 128], help="units of the policies' layers")
    parser.add_argument("--episode", type=int, help="steps after which episodes are cut; 1000")
    parser.add_argument("--critic-steps", type=int, help="minibatches of the critics; the search's own default")
    parser.add_argument("--climbs", type=int, help="minibatches of a child by gradient; the search's own default")
    parser.add_argument("--units", type=int, help="of the critics' layers; the search's own default")
    parser.add_argument("--batch", type=int, help="steps of a minibatch; the search's own default")
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "qd_gradients")
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in tables.machine().items()))
    named = ("population", "hidden", "episode", "critic_steps", "climbs", "units", "batch")
    values = {name: getattr(args, name) for name in named if getattr(args, name) is not None}
    settings = " ".join(f"{n}={'x'.join(map(str, v)) if isinstance(v, list) else v}" for n, v in values.items())
    key = ("world", "algorithm", "evaluations", "settings", "seed")
    cells = tables.Cells(args.out / "cells.csv", key)
    todo = [(s, w, a) for s in range(args.seeds) for w in args.worlds for a in args.algorithms]
    for i, (seed, world, algorithm) in enumerate(todo):
        print(f"\r{i + 1} of {len(todo)} runs: {world}, {algorithm}   ", end="", file=sys.stderr, flush=True)
        name = dict(zip(key, (world, algorithm, args.evaluations, settings, seed)))
        if not cells.done(name):
            cells.add({**name, **measure(world, algorithm, seed, args)})
    print(file=sys.stderr)
    text = table(cells.rows())
    (args.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
