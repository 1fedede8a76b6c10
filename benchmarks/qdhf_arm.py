"""QDHF on the 10-joint arm: archives by judgments of similarity, beside unsupervised and true descriptors.

Each method is MAP-Elites for 1000 generations of 100 arms, the first of them drawn evenly from all. Its solutions are
scored in an archive of the true outcome, 50 x 50 within 10 m: those that its own archive holds at the end ("archive"),
and all that it ever evaluated ("all").

The QD score is the sum of the cells' objectives over the largest possible one, times 100. QDHF asks for a quarter of
1000 judgments at iterations 1, 101, 251 and 501, QDHF-Base for all of them beforehand, on random arms; what is learned
beforehand has its archive's bounds from these arms too.

    cairn bench qdhf_arm                                # 20 seeds; goes on where it was stopped
    cairn bench qdhf_arm --seeds 2 --iterations 200 --out /tmp/pilot

Protocol: Ding et al., "Quality Diversity through Human Feedback" (ICML 2024), section on the robotic arm.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from math import pi
from pathlib import Path

import torch
from torch import Tensor

import cairn.benchmarks.tables as tables
from cairn.envs.areas.repertoire import RepertoireBatch
from cairn.qd import (
    PCA,
    AutoEncoder,
    Constant,
    Evaluated,
    Evaluator,
    Grid,
    LearnedElites,
    Problem,
    TripletDescriptor,
    truth,
)
from cairn.qd.feedback import question
from cairn.qd.models import DescriptorModel

JOINTS, BINS, BATCH, JUDGMENTS = 10, 50, 100, 1000
METHODS = ("aurora-pca-pre", "aurora-pca-inc", "aurora-ae-pre", "aurora-ae-inc", "qdhf-base", "qdhf", "ground-truth")
NOISE = (0.05, 0.1, 0.2)


class TrueMeasures:
    """The outcome itself, behind the face of a learned descriptor."""

    version = 0

    def encode(self, features: Tensor) -> Tensor:
        """The hand's place: the sums of the links' cosines and sines."""
        return torch.stack([features[:, :JOINTS].sum(-1), features[:, JOINTS:].sum(-1)], -1)

    def fit(self, features: Tensor) -> None:
        """Nothing to learn."""


def features(found: Evaluated) -> Tensor:
    """Cosines and sines of the links' directions, ``[P, 20]``."""
    turned = found.genomes.clamp(-pi, pi).cumsum(-1)
    return torch.cat([turned.cos(), turned.sin()], -1)


def measure(method: str, noise: float, seed: int, iterations: int) -> dict[str, object]:
    """One run."""
    began = time.process_time()
    env = RepertoireBatch(BATCH, JOINTS)
    policy = Constant(env.single_observation_space, env.single_action_space)
    evaluator = Evaluator(env, policy)
    low, high = env.descriptor_bounds
    problem = Problem(policy.size, low, high, seed=seed, limit=pi)
    judge = truth(noise, seed=seed)
    bounds: tuple[Tensor, Tensor] | None = None
    model: DescriptorModel = TrueMeasures()
    if method.startswith("aurora"):
        model = PCA() if "pca" in method else AutoEncoder(2 * JOINTS, seed=seed)
    elif method.startswith("qdhf"):
        model = TripletDescriptor(2 * JOINTS, seed=seed)
    if method.endswith(("pre", "base")):
        rows = evaluator(_evenly(JUDGMENTS, problem))
        if isinstance(model, TripletDescriptor):
            question(model, rows, features(rows), judge, JUDGMENTS, problem.generator)
        model.fit(features(rows))
        points = model.encode(features(rows))
        bounds = points.amin(0), points.amax(0)
    elif method == "ground-truth":
        bounds = low, high
    updates = tuple(i for i in (1, 101, 251, 501) if i <= iterations) if method.endswith(("inc", "qdhf")) else ()
    # As the authors' code begins. Arms that are all but straight would teach the first model nothing.
    first = _evenly(BATCH, problem)
    search = LearnedElites(
        problem, features, model, updates=updates, judge=judge, judgments=JUDGMENTS, batch=BATCH, bins=BINS,
        bounds=bounds, first=first,
    )  # fmt: skip
    every = Grid(low, high, BINS, genome=JOINTS)
    asking = search.asking()
    asked = next(asking)
    for _ in range(iterations):
        found = evaluator(asked)
        every.add(found)
        asked = asking.send(found)
    held = Grid(low, high, BINS, genome=JOINTS)
    held.add(search.elites)
    accuracy = model.accuracy if isinstance(model, TripletDescriptor) else float("nan")
    return {
        "method": method, "noise": noise, "iterations": iterations, "seed": seed, **_scores("archive", held),
        **_scores("all", every), "accuracy": round(accuracy, 4), "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def _evenly(count: int, problem: Problem) -> Tensor:
    return pi * (2 * torch.rand(count, JOINTS, generator=problem.generator) - 1)


def _scores(name: str, grid: Grid) -> dict[str, float]:
    found = grid.scores()
    score, coverage = found["qd_score"] / grid.cells, 100 * found["coverage"]  # objectives are 100 at most
    return {f"{name}_qd": round(score, 3), f"{name}_coverage": round(coverage, 2)}


def table(rows: Sequence[dict[str, str]]) -> str:
    """IQM and 95 % bootstrap interval over seeds."""
    names = ("archive_qd", "archive_coverage", "all_qd", "all_coverage")
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["iterations"], row["method"], row["noise"]), []).append(row)
    titles = "archive: QD score | archive: coverage, % | all: QD score | all: coverage, %"
    lines = [f"| method | wrong answers | evaluations | seeds | {titles} |", "|" + "---|" * 8]
    for (iterations, method, noise), group in groups.items():
        shown = []
        for name in names:
            values = [float(row[name]) for row in group]
            low, high = tables.interval(values)
            shown.append(f"{tables.iqm(values):.1f} [{low:.1f}, {high:.1f}]")
        spent = f"{int(iterations) * BATCH:,}"
        lines.append(f"| {method} | {float(noise):.0%} | {spent} | {len(group)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(prog="cairn bench qdhf_arm", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--noise", nargs="*", type=float, default=list(NOISE), help="shares of wrong answers for qdhf")
    parser.add_argument("--out", type=Path, default=tables.RESULTS / "qdhf_arm")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(", ".join(f"{k} {v}" for k, v in tables.machine().items()))
    key = ("method", "noise", "iterations", "seed")
    cells = tables.Cells(args.out / "cells.csv", key)
    plan = [(m, 0.0) for m in args.methods] + [("qdhf", n) for n in args.noise if "qdhf" in args.methods]
    todo = [(m, n, s) for s in range(args.seeds) for m, n in plan]
    for i, (method, noise, seed) in enumerate(todo):
        if not cells.done(dict(zip(key, (method, noise, args.iterations, seed)))):
            cells.add(measure(method, noise, seed, args.iterations))
        print(f"\r{i + 1} of {len(todo)} runs   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    text = table(cells.rows())
    (args.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
