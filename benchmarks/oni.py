"""ONI on KeyCorridorS3R3: training rate with labels arriving, replay, a server that dies, and learning by accuracy.

    python benchmarks/oni.py --rate        # CPU seconds with labels arriving, beside the same life without labels
    python benchmarks/oni.py --replay      # a run and its replay from the journal, compared bit for bit
    python benchmarks/oni.py --kill        # the server is killed in mid-run
    python benchmarks/oni.py --solve       # steps to solve by label accuracy, with PPO and NovelD beside; resumable
    python benchmarks/oni.py --solve --url http://127.0.0.1:8000/v1 --model NAME      # labels of a real model
    python benchmarks/oni.py --solve --task NetHackStaircase-v0 --budget 200000       # see benchmarks/nethack.py

The labeller is a stand-in on this machine, in a process of its own, asked over HTTP by the real client (extra
"language"): an oracle that calls opening doors, taking keys and the target, and unlocking helpful, and is wrong in a
known share. --solve asks the oracle in this process instead, with a barrier at every update, so that its cells depend
on nothing but the seed. What a capable model would say is not measured unless --url is given.

PPO is ``cairn bench solve``'s, with its one setting. Rates are by CPU seconds of the training process, by those of the
thread that trains (with --threads 1 all training is in it, and asking for labels is not) and by the clock, in
alternation, so that what else the machine does falls on all alike. What counts as solved stands in
benchmarks/dials.py.
"""

import argparse
import functools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from cairn.agents.progress import Lines
from cairn.benchmarks import nethack, oni_rate
from cairn.benchmarks.dials import (
    ACCURACIES,
    BUDGET,
    KEY,
    LEVELS,
    TASK,
    cell,
    judged,
    labels_of,
    model_for,
    others,
    report,
    solve_cell,
)
from cairn.benchmarks.solve import COLUMNS, SETTINGS
from cairn.benchmarks.standin import Standin
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.shaping import ONI, Task, Term, parse
from cairn.shaping.language import Client, Giver, Oracle, Question
from cairn.shaping.language.oni import MODES

WEIGHT = 0.1


# ---- the labeller --------------------------------------------------------------------------------------


def worth(caption: str) -> int:
    """How great a step a caption tells of: 4 for the target, 3 unlocking, 2 a key, 1 a door, 0 anything else."""
    target = re.search(r"The task: pick up the (\w+ \w+)", caption)
    if target and caption.startswith(f"You pick up a {target[1]}."):
        return 4
    if caption.startswith("You unlock"):
        return 3
    return 2 if re.match(r"You pick up a \w+ key", caption) else int(caption.startswith("You open a"))


def judge(question: Question) -> Any:
    """The right label, or preference, for a question of ONI's."""
    return judged(question, worth)


def oracle(accuracy: float, seed: int = 0) -> Oracle:
    """The labeller with its dial."""
    return Oracle(judge, others, accuracy, seed)


def served(accuracy: float, delay: float) -> tuple["subprocess.Popen[str]", str]:
    """A stand-in in a process of its own, and its URL."""
    command = [
        sys.executable,
        "-m",
        "cairn.benchmarks.oni",
        "--serve",
        "--accuracy",
        str(accuracy),
        "--delay",
        str(delay),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def client(url: str, model: str = "standin") -> Client:
    """The real client, without a key for the stand-in."""
    return Client(url, model, key_env=None if model == "standin" else "OPENAI_API_KEY", timeout=10.0, deadline=30.0)


# ---- rate, replay, kill --------------------------------------------------------------------------------


def rate(args: argparse.Namespace) -> None:
    """Labels that arrive beside the same life without any; see benchmarks/oni_rate.py."""
    torch.set_num_threads(args.threads)
    process, url = served(1.0, args.delay)
    try:
        names = {"mode": args.mode, "environments": args.envs, "threads": args.threads, "delay": args.delay}
        cells = Cells(args.out / "rate.csv", ["round", "turn", "who", *names])
        make = functools.partial(model_for, lanes=args.envs)
        rows = oni_rate.measure(
            cells, lambda: client(url), names, args.rounds, args.turns, args.rollouts, WEIGHT, args.workers, make=make
        )
        labels = [
            int(r["labelled"]) for r in rows if r["who"] == oni_rate.ARRIVING and int(r["turn"]) == args.turns - 1
        ]
        print(f"{args.mode}, labels that arrived in each round: {labels}\n\n{oni_rate.table(rows)}")
    finally:
        process.kill()


def replay(args: argparse.Namespace) -> None:
    """Train over HTTP with a journal; then once more with the server gone."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder, "labels.jsonl")
        process, url = served(0.9, args.delay)
        try:
            reward = Task() + WEIGHT * ONI(client(url), args.mode, journal=journal)
            once = model_for(reward, 0).learn(args.steps)
        finally:
            process.kill()
            process.wait()
        again = model_for(Task() + WEIGHT * ONI(client(url), args.mode, journal=journal), 0).learn(args.steps)
        pairs = list(zip(once.policy.parameters(), again.policy.parameters()))
        same = sum(torch.equal(a, b) for a, b in pairs)
        asked = labels_of(once)
        print(
            f"{once.num_timesteps:,} steps, {asked['labelled']:.0f} labels over HTTP, journal of "
            f"{len(journal.read_text().splitlines())} updates; replayed without a server: {same} of {len(pairs)} "
            "tensors of the policy equal bit for bit"
        )
        if same != len(pairs):
            sys.exit(1)


def kill(args: argparse.Namespace) -> None:
    """Kill the server half way; training goes on and says so."""
    torch.set_num_threads(1)
    process, url = served(1.0, args.delay)
    reporter = Lines(every=1.0)
    try:
        model = model_for(Task() + WEIGHT * ONI(client(url), args.mode, retry=1), 0)
        speeds = []
        for half in ("alive", "dead"):
            before, wall = model.num_timesteps, time.perf_counter()
            while model.num_timesteps - before < args.steps // 2:
                model.learn(model.n_steps * model.n_envs, reset_num_timesteps=model.num_timesteps == 0)
                row = {k: float(v) for k, v in model.logger.name_to_value.items() if isinstance(v, int | float)}
                row |= {f"reward/labels/{k}": v for k, v in labels_of(model).items()} | model.recent()
                reporter.at(model.num_timesteps, args.steps, row)
            speeds.append((model.num_timesteps - before) / (time.perf_counter() - wall))
            print(f"server {half}: {speeds[-1]:,.0f} steps/s, {labels_of(model)}", flush=True)
            if half == "alive":
                process.kill()
                process.wait()
        print(f"after the death the rate was {speeds[1] / speeds[0]:.0%} of that before")
    finally:
        process.kill()


# ---- solve ---------------------------------------------------------------------------------------------


def rewards_of(args: argparse.Namespace) -> dict[str, Any]:
    """What is compared: a name, and a function of the seed that makes the reward."""
    if args.url:
        asked = Client(args.url, args.model, cache=args.cache)
        asked.check()
        real = {f"{args.mode} {args.model}": lambda seed: Task() + WEIGHT * ONI(asked, args.mode, workers=8)}
        return real
    found: dict[str, Any] = {"none": lambda seed: Task(), "noveld": lambda seed: parse(COLUMNS["noveld"].reward)}
    dial = [(args.mode, accuracy) for accuracy in sorted(args.accuracies, reverse=True)]
    for mode, accuracy in dial + [(mode, 1.0) for mode in MODES if mode != args.mode]:

        def make(seed: int, mode: str = mode, accuracy: float = accuracy) -> Term:
            giver: Giver = oracle(accuracy, seed)
            return Task() + WEIGHT * ONI(giver, mode, schedule="barrier", every=1, workers=1)

        found[f"{mode} {accuracy:g}"] = make
    return found


def solve(args: argparse.Namespace) -> None:
    """Run the cells that are missing, the first seed of all first; then the table."""
    torch.set_num_threads(1)
    if args.task != TASK:
        nethack.solve(args)
        return
    cells = Cells(args.out / "solve.csv", KEY)
    for seed in range(args.seeds):
        for name, make in rewards_of(args).items():
            if args.only and name not in args.only:
                continue
            if not cells.done(cell(name, seed, args.budget)):
                trial = gym.make_vec(TASK, num_envs=LEVELS, device="cpu")
                cells.add(solve_cell(name, model_for(make(seed), seed), trial, seed, args.budget))
    report(cells, args.budget, f"ONI on {TASK}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rate", "replay", "kill", "solve", "serve"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS if name == "serve" else None)
    parser.add_argument("--mode", default="classification", choices=("retrieval", "classification", "ranking"))
    parser.add_argument("--out", type=Path, default=RESULTS / "oni")
    parser.add_argument("--envs", type=int, default=SETTINGS["num_envs"], help="environments of --rate")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of --rate")
    parser.add_argument("--rounds", type=int, default=5, help="of --rate, each from the beginning")
    parser.add_argument("--turns", type=int, default=10, help="of each agent in a round")
    parser.add_argument("--rollouts", type=int, default=8, help="a turn")
    parser.add_argument("--workers", type=int, default=2, help="questions under way at once, --rate")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that the labeller takes")
    parser.add_argument("--accuracy", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=100_000, help="of --replay and --kill")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--accuracies", type=float, nargs="*", default=ACCURACIES)
    parser.add_argument("--only", nargs="*", help="names of rewards of --solve")
    parser.add_argument("--task", default=TASK, choices=(TASK, *nethack.TASKS), help="of --solve")
    parser.add_argument("--url")
    parser.add_argument("--model", default="")
    parser.add_argument("--cache", default=None, help="an SQLite file for a real model's answers")
    args = parser.parse_args(argv)
    if args.serve:
        with Standin(oracle(args.accuracy), delay=args.delay) as server:
            print(server.url, flush=True)
            while True:
                time.sleep(3600)
    print(machine(), flush=True)
    for name, run in (("rate", rate), ("replay", replay), ("kill", kill), ("solve", solve)):
        if getattr(args, name):
            run(args)


if __name__ == "__main__":
    main()
