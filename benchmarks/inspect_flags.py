"""The flags of ``cairn inspect`` on trained runs: each fires on a planted fault, none on twenty runs without one.

    cairn bench inspect_flags                 # all 25 runs, a few minutes; goes on where it was
    cairn bench inspect_flags --only planted

Writes ``flags.csv`` beside ``benchmarks/results/pages/inspect.png``: a row for each run.
"""

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from cairn.benchmarks.tables import RESULTS, Cells, machine


class Case(NamedTuple):
    """A run to train and to judge."""

    name: str
    env: str
    reward: str
    steps: int
    agent: str = "ppo"
    fault: str = ""
    """The flag that should fire; empty for a clean run."""
    env_args: dict[str, Any] = {}  # noqa: RUF012  (never changed)


EMPTY, KEY, ROOMS = "cairn/MiniGrid-Empty-5x5-v0", "cairn/MiniGrid-DoorKey-5x5-v0", "cairn/RoomGoal-v0"
POINT, LINE = "cairn/PointMaze_UMaze-v3", "cairn/Chain-v0"
FIRST = "episodic_count(key='position', mode='first')"

CASES = (
    Case("loop", EMPTY, "task + 0.05", 20_000, fault="loop"),
    Case("drowns", EMPTY, f"task + 3*{FIRST}", 20_000, fault="drowns"),
    Case("telescopes", POINT, "task - potential('distance').clip(0, 1)", 12_000, fault="telescopes"),
    Case("decays", KEY, "task + 0.1*episodic_count(key='position')", 30_000, fault="decays"),
    Case("discount", POINT, "task - potential('distance', gamma=0.9)", 12_000, fault="telescopes"),
    Case("empty", EMPTY, "task", 16_000),
    Case("empty-dqn", EMPTY, "task", 6_000, "dqn"),
    Case("empty-cost", EMPTY, "task - 0.001", 16_000),
    Case("empty-first", EMPTY, f"task + 0.02*{FIRST}", 16_000),
    Case("empty-count", EMPTY, "task + 0.001*count", 16_000),
    Case("empty-noveld", EMPTY, "task + 0.01*noveld", 16_000),
    Case("empty-rnd", EMPTY, "task + 0.01*rnd", 16_000),
    Case("empty-icm", EMPTY, "task + 0.001*icm", 12_000),
    Case("empty-e3b", EMPTY, "task + 0.002*e3b", 12_000),
    Case("empty-re3", EMPTY, "task + 0.001*re3", 12_000),
    Case("empty-ride", EMPTY, "task + 0.002*ride", 12_000),
    Case("empty-gated", EMPTY, f"task + gated(0.02*{FIRST})", 16_000),
    Case("empty-annealed", EMPTY, f"task + (0.05*{FIRST}).anneal('linear', 1, 0, 12000)", 16_000),
    Case("room", ROOMS, "task", 16_000),
    Case("room-count", ROOMS, "task + 0.01*count", 16_000),
    Case("point", POINT, "task", 12_000),
    Case("point-potential", POINT, "task - potential('distance')", 12_000),
    Case("cartpole", "CartPole-v1", "task", 16_000),
    Case("cartpole-dqn", "CartPole-v1", "task + 0.001*count", 6_000, "dqn"),
    Case("cheetah", "cairn/HalfCheetah-v5", "task + 0.001*rnd", 16_000),
)


def judged(case: Case, folder: Path, episodes: int) -> dict[str, Any]:
    """Train the case and look for faults, without pictures."""
    from cairn.agents.training import TrainConfig, train
    from cairn.pages.seeing import look
    from cairn.pages.subjects import of_run

    began = time.process_time()
    settings: dict[str, Any] = {"n_steps": 64, "batch_size": 256, "n_epochs": 4} if case.agent == "ppo" else {}
    run = folder / case.name
    train(
        TrainConfig(
            env=case.env, reward=case.reward, agent=case.agent, steps=case.steps, run=str(run), threads=1, num_envs=16,
            agent_args=settings, env_args=case.env_args,
        )
    )  # fmt: skip
    subject = of_run(run, None, False)
    make = subject.make
    subject.make = lambda lanes, pictures: make(lanes, False)
    flags = look(subject, episodes, 0).flags
    returns = [row["rollout/ep_rew_mean"] for row in subject.rows if row.get("rollout/ep_rew_mean") is not None]
    return {
        "run": case.name, "env": case.env, "agent": case.agent, "reward": case.reward, "steps": case.steps,
        "planted": case.fault or "none",
        "faults": _told({f"{flag.name}({flag.term})" for flag in flags if flag.verdict == "fault"}),
        "clear": _told({flag.name for flag in flags if flag.verdict == "clear"}),
        "unjudged": _told({flag.name for flag in flags if flag.verdict == "unjudged"}),
        "return": f"{returns[-1]:.4g}" if returns else "none",
        "cpu_seconds": f"{time.process_time() - began:.1f}",
    }  # fmt: skip


def _told(names: set[str]) -> str:
    return " ".join(sorted(names)) or "none"


def right(row: dict[str, str]) -> bool:
    """Whether the planted fault was found, or nothing where nothing was planted."""
    if row["planted"] == "none":
        return row["faults"] == "none"
    return any(found.startswith(f"{row['planted']}(") for found in row["faults"].split())


def main(argv: Sequence[str] | None = None) -> None:
    """Train, judge, and say how many were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["planted", "clean"], help="these runs alone")
    parser.add_argument("--episodes", type=int, default=8, help="episodes that each run is judged by")
    parser.add_argument("--out", type=Path, default=RESULTS / "pages" / "flags.csv", help="the table")
    args = parser.parse_args(argv)
    print(", ".join(f"{name} {version}" for name, version in machine().items()))
    cells, folder = Cells(args.out, ["run"]), Path(mkdtemp())
    chosen = [c for c in CASES if args.only is None or (args.only == "planted") == bool(c.fault)]
    for i, case in enumerate(chosen):
        if not cells.done({"run": case.name}):
            print(f"{i + 1} of {len(chosen)}: {case.name}, {case.reward} on {case.env}", flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cells.add(judged(case, folder, args.episodes))
    rows = {row["run"]: row for row in cells.rows()}
    for row in rows.values():
        print(
            f"{'right' if right(row) else 'WRONG'}  {row['run']:16} planted {row['planted']:10} found {row['faults']}"
        )
    for kind in ("planted", "clean"):
        mine = [row for row in rows.values() if (row["planted"] != "none") == (kind == "planted")]
        print(f"{kind}: {sum(map(right, mine))} of {len(mine)} right")


if __name__ == "__main__":
    main()
