"""``kill -9`` a real training at random moments until it is done; its end must be that of one left in peace.

Run: ``python benchmarks/kills.py`` (a few minutes; ``--help`` has the rest). Kills fall while Python starts, while
steps are taken and, since a checkpoint follows every update, while one is written. Compared are the whole state
(weights, optimiser, random streams, environments, terms, counters) bit for bit, and every row of the metrics
except its clock times. Exits with 1 at the first difference.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cairn.runs import Run, first_difference, versions

REWARD = "task + 0.02*episodic_count(key='position', mode='first')"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is deleted if all went well, and otherwise left and named."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        yield folder
    except BaseException:
        print(f"the runs are left in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)


def command(*args: str) -> list[str]:
    """A command line of Cairn."""
    return [sys.executable, "-m", "cairn.cli", *args]


def train(args: argparse.Namespace, folder: Path) -> list[str]:
    """The command that trains into ``folder``: a checkpoint after each update, one thread."""
    return command(
        *("train", args.id, "--run", str(folder), "--steps", str(args.steps), "--seed", str(args.seed)),
        *("--num-envs", "8", "--reward", REWARD, "--checkpoint-seconds", "0", "--threads", "1"),
        *("--agent-args", "n_steps=64"),
    )


def outcome(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The last checkpoint, and the metrics without what a clock told."""
    run = Run.open(folder)
    loaded = run.latest()
    if loaded is None:
        raise SystemExit(f"{folder} has no checkpoint")
    step, meta, state = loaded
    rows = [{k: row[k] for k in sorted(row) if not k.startswith("time/")} for row in run.metrics()]
    return [step, meta.get("trial"), state], rows


def rows_in(folder: Path) -> int:
    """How many rows the metrics have by now."""
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def unfinished(folder: Path) -> bool:
    """Whether the kill fell while a checkpoint was written: it lies there under its temporary name."""
    return any(folder.glob("**/.tmp-*"))


def live_and_die(args: argparse.Namespace, folder: Path, dice: random.Random) -> str | None:
    """Train or resume until a random moment, then kill; where it fell, or None if the training was done before."""
    resumes = (folder / "config.json").exists() and (folder / "latest").exists()
    if not resumes and folder.exists():  # killed before anything could be resumed
        shutil.rmtree(folder)
    line = command("resume", str(folder)) if resumes else train(args, folder)
    before, early = rows_in(folder), dice.random() < 0.2
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if early:
        time.sleep(dice.uniform(0.0, 4.0))
    else:
        goal = before + dice.randint(1, 4)
        # Rows past the checkpoint are cut when the training goes on, so the file may first become shorter.
        while process.poll() is None and rows_in(folder) < goal:
            time.sleep(0.002)
        time.sleep(dice.choice([0.0, dice.uniform(0.0, 0.02), dice.uniform(0.0, 0.5)]))
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    error = process.communicate()[1]
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"{' '.join(line)} failed:\n{error}")
    if unfinished(folder):
        return "while a checkpoint was written"
    return "while it was starting" if rows_in(folder) <= before else "while it trained"


def main(argv: Sequence[str] | None = None) -> None:
    """Train in peace, then kill, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many times to kill (default 20)")
    parser.add_argument("--id", default="cairn/MiniGrid-Empty-5x5-v0", help="the environment")
    parser.add_argument("--steps", type=int, default=20_480, help="steps of the training (default 20480)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training")
    parser.add_argument("--dice", type=int, default=0, help="seed of the moments of the kills")
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    print(", ".join(f"{name} {value}" for name, value in versions().items() if value is not None))
    print(" ".join(train(args, Path("RUN"))[1:]), flush=True)

    dice, moments, trainings = random.Random(args.dice), Counter[str](), 0
    with scratch_folder() as scratch:
        peace = scratch / "peace"
        began = time.monotonic()
        subprocess.run(train(args, peace), check=True, stdout=subprocess.DEVNULL)
        expected, expected_rows = outcome(peace)
        print(f"in peace: {time.monotonic() - began:.0f} s, {len(expected_rows)} updates", flush=True)
        while moments.total() < args.kills:
            folder = scratch / f"killed-{trainings}"
            while moments.total() < args.kills:
                moment = live_and_die(args, folder, dice)
                if moment is None:
                    break
                moments[moment] += 1
                print(f"kill {moments.total():3d}: {moment}, {rows_in(folder)} rows", flush=True)
            else:  # enough killed: let it come to its end
                end = command("resume", str(folder)) if (folder / "latest").exists() else train(args, folder)
                subprocess.run(end, check=True, stdout=subprocess.DEVNULL)
            trainings += 1
            found, rows = outcome(folder)
            difference = first_difference(expected, found, "state") or first_difference(expected_rows, rows, "rows")
            if difference:
                raise SystemExit(f"NOT THE SAME: {difference}")
    where = ", ".join(f"{count} {moment}" for moment, count in moments.most_common())
    print(f"{moments.total()} kills of {trainings} trainings ({where}): every end is that of the training in peace")


if __name__ == "__main__":
    main()
