"""``cairn COMMAND``: ``train``, ``resume``, ``eval``, ``play``, ``inspect``, ``report`` and the others of ``COMMANDS``.

Torch is imported by the commands that need it, when they run: help, the list of environments and the complaint
about a misspelt id come at once.
"""

import errno
import os
import sys
import warnings
from collections.abc import Callable

import tyro

from ..agents.config import ConfigError
from ..runs import CheckpointError, RunBusy
from .listing import bench, envs, run_benchmark
from .looking import compare, evaluate, inspect, play, report
from .making import collect, demo, design, qd, resume, train

ABOUT = """Reinforcement learning where rewards are sparse: train an agent, look at it, go on later.

Examples:
  cairn demo                                     train PPO on DoorKey until it solves 95 of 100 fresh levels
  cairn envs doorkey                             the environments with "doorkey" in their name
  cairn train cairn/MiniGrid-DoorKey-8x8-v0 --steps 2e6 --run runs/doorkey \\
      --reward "task + 0.02*episodic_count(key='position', mode='first')"
  cairn qd cairn/RedundantArm-v0 --algorithm serene --evaluations 2e4 --run runs/arm    many policies that differ
  cairn resume runs/doorkey                      after Ctrl-C, a crash or kill -9
  cairn eval runs/doorkey --episodes 100         how good is it on levels it has never seen?
  cairn play runs/doorkey --video play.mp4       watch it
  cairn inspect runs/doorkey                     a page on what each term paid it, when, where, and known faults
  cairn report runs/a-* runs/b-*                 runs side by side: curves over seeds, steps to the goal, films
  cairn play cairn/MiniGrid-DoorKey-8x8-v0 --human    play it yourself, in a window
  cairn compare task "task - 0.01" --env cairn/RoomGoal-v0    how far are two rewards apart?
  cairn bench grid                               how fast is it on this machine?

`cairn COMMAND --help` explains a command."""

REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""What the disk may say that is no fault of the code."""

COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "qd": qd,
    "design": design,
    "resume": resume,
    "eval": evaluate,
    "play": play,
    "inspect": inspect,
    "report": report,
    "collect": collect,
    "compare": compare,
    "envs": envs,
    "bench": bench,
    "demo": demo,
}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 1 for a demo that did not reach its goal, 2 for something that cannot be done, 128 + the signal's
        number after Ctrl-C (130) or SIGTERM (143).
    """
    warnings.showwarning = _warn
    given = sys.argv[1:] if args is None else args
    try:
        if given[:1] == ["bench"] and given[1:2] not in ([], ["-h"], ["--help"]):
            return run_benchmark(given[1:])  # the benchmark reads its own options
        code: int = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="cairn", description=ABOUT, args=args, config=(tyro.conf.FlagCreatePairsOff,)
        )
        return code
    except (ConfigError, CheckpointError, RunBusy, FileExistsError) as error:
        return _complain(error)
    except BrokenPipeError:  # `cairn envs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        return _complain(error)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Show a warning as a line for a person, without the place in the code that gave it."""
    print(f"note: {' '.join(str(message).split())}", file=sys.stderr)


def _complain(error: Exception) -> int:
    print(f"cairn: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
