"""The commands that look at something: ``eval``, ``play``, ``inspect``, ``report`` and ``compare``."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ..agents.config import ConfigError, Options, Steps, check_env_args, check_env_id
from ..qd.config import is_search
from ..runs import Run
from .making import RunFolder

NO_OPTIONS: dict[str, Any] = {}


def evaluate(
    run: RunFolder,
    /,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = False,
    json: bool = False,
    device: Annotated[str | None, arg(metavar="DEVICE")] = None,
    opponent: Annotated[str | None, arg(metavar="WHO")] = None,
) -> int:
    """Play levels the agent has never seen and print how many it solves.

    Each level is played once by the frozen agent of the last checkpoint. The success rate comes with its 95 %
    Wilson interval; the return is the task's own, without bonuses.

    Args:
        run: The run folder, such as runs/doorkey.
        episodes: How many levels.
        seed: Chooses the levels. None of them is one that training used, whatever the number.
        deterministic: Take the likeliest action each time instead of drawing one as in training.
        json: Print one line of JSON.
        device: Where to play (cpu, cuda); left out, where the run was trained.
        opponent: Of a league's run: itself, past (selves), hardest (of these), random, or another league's run folder.
            Left out, it sits on both seats.
    """
    Run.open(run)  # before torch is imported: a misspelt folder should not take seconds
    from ..agents import training

    result = training.evaluate(run, episodes, seed=seed, deterministic=deterministic, device=device, opponent=opponent)
    print(json_module.dumps(result.as_dict()) if json else result)
    return 0


def play(
    run: RunFolder,
    /,
    video: Annotated[Path | None, arg(metavar="FILE")] = None,
    episodes: int = 5,
    seed: int = 0,
    deterministic: bool = False,
    fps: int = 10,
    human: bool = False,
    cell: str | None = None,
) -> int:
    """Film the agent on levels it has never seen; or, with --human, play a MiniGrid id yourself.

    Args:
        run: The run folder, such as runs/doorkey; with --human, an id such as cairn/MiniGrid-DoorKey-8x8-v0.
        video: The MP4 to write. Left out: play.mp4 in the run folder.
        episodes: How many levels to show, one after the other.
        seed: Chooses the levels.
        deterministic: Take the likeliest action each time instead of drawing one as in training.
        fps: Steps a second.
        human: Open a window and play with the keyboard.
        cell: Of a search's run: film the elite of this cell of the archive, as 10,40. Left out: the best one.
    """
    if human:
        return _play_by_hand(run.as_posix(), seed)
    if is_search(Run.open(run).config):  # before torch is imported: a misspelt folder should not take seconds
        return _film(run, video, cell)
    if cell is not None:
        raise ConfigError(f"--cell is for archives, and {run} is the run of one agent")
    from ..agents import training

    print(training.play(run, video, episodes=episodes, seed=seed, deterministic=deterministic, fps=fps))
    return 0


def _film(run: Path, video: Path | None, cell: str | None) -> int:
    from ..qd import running

    try:
        place = None if cell is None else tuple(int(part) for part in cell.split(","))
    except ValueError:
        raise ConfigError(f"--cell {cell} is not a list of whole numbers such as 10,40") from None
    print(running.film(run, place, video))
    return 0


def _play_by_hand(name: str, seed: int) -> int:
    from ..envs.grid import human

    try:
        solved = human.play(name, seed)
    except (ValueError, human.NoDisplay) as error:
        raise ConfigError(str(error)) from error
    print(f"{solved} level{'s' * (solved != 1)} solved")
    return 0


def inspect(
    what: Positional[Annotated[str, arg(metavar="RUN|EXPRESSION")]],
    /,
    env: Annotated[str | None, arg(metavar="ID")] = None,
    to: Annotated[Path | None, arg(metavar="FILE")] = None,
    episodes: int = 16,
    seed: int = 0,
    actor: str = "random",
    gamma: float | None = None,
    deterministic: bool = False,
    env_args: Options | None = None,
) -> int:
    r"""Write a page on what a reward pays: an episode beside each term's share, a map, totals, and known faults.

    The page is one HTML file that needs no network. Flags: a loop that earns, a term that drowns the task, a
    potential that does not telescope, a bonus that never decays.

    For instance:
      cairn inspect runs/doorkey
      cairn inspect "task + 0.01*count" --env cairn/FourRooms-v0 --to count.html
      cairn inspect "task + 0.1*potential('distance')" --env cairn/PointMaze_UMaze-v3 --gamma 0.99

    Args:
        what: A run folder; or a reward expression, which needs --env.
        env: The environment to pay the expression in.
        to: The page to write. Left out: inspect.html in the run folder, or here.
        episodes: How many episodes totals and correlations are over.
        seed: Chooses the levels.
        actor: Who acts for an expression: random, solver, scripted, or a run folder.
        gamma: The discount of an expression's potentials; 0.99 if left out. A run has its own.
        deterministic: Take the likeliest action each time instead of drawing one as in training.
        env_args: Settings of the environment, for an expression.
    """
    if env is None:
        Run.open(what)  # before torch is imported: a misspelt folder should not take seconds
    from .. import pages

    print(
        pages.inspect(
            what, env, to, episodes=episodes, seed=seed, actor=actor, gamma=gamma, deterministic=deterministic,
            env_args=env_args,
        )
    )  # fmt: skip
    return 0


def report(
    runs: Positional[Annotated[list[Path], arg(metavar="RUN [RUN ...]")]],
    /,
    to: Annotated[Path | None, arg(metavar="FILE")] = None,
    metric: Annotated[str | None, arg(metavar="NAME")] = None,
    criterion: float | None = None,
    unfinished: bool = False,
    no_video: bool = False,
    png: Annotated[Path | None, arg(metavar="FILE")] = None,
    csv: Annotated[Path | None, arg(metavar="FILE")] = None,
    seed: int = 0,
) -> int:
    r"""Put runs side by side on one page: curves with intervals over seeds, steps and seconds to a goal, films.

    Runs that differ in their seeds alone are one group. The page is one HTML file that needs no network.

    For instance:
      cairn report runs/plain-* runs/bonus-* --to bonus.html --criterion 0.95
      cairn report runs/* --metric rollout/ep_rew_mean --png curves.png --csv curves.csv

    Args:
        runs: Run folders, all on one environment.
        to: The page to write. Left out: report.html here.
        metric: What the criterion is about. Left out: success in training, or the return where there is none.
        criterion: The value to be reached. Left out: the runs' --stop-success, else 0.9 for success.
        unfinished: Show runs too that were stopped before their end.
        no_video: Make no films.
        png: Write the curves as a picture too (.png, .pdf or .svg).
        csv: Write all curves as a table too.
        seed: Chooses the level of the films.
    """
    for run in runs:
        Run.open(run)  # before torch is imported: a misspelt folder should not take seconds
    from .. import pages

    print(
        pages.report(
            runs, to, metric=metric, criterion=criterion, unfinished=unfinished, videos=not no_video, png=png,
            csv_to=csv, seed=seed,
        )
    )  # fmt: skip
    return 0


def compare(
    first: Positional[Annotated[str, arg(metavar="REWARD_A")]],
    second: Positional[Annotated[str, arg(metavar="REWARD_B")]],
    /,
    env: Annotated[str | None, arg(metavar="ID")] = None,
    env_args: Options = NO_OPTIONS,
    gamma: Annotated[float | None, arg(metavar="GAMMA")] = None,
    average: bool = False,
    sampled: bool = False,
    steps: Steps = 16_384,
    seed: int = 0,
    top: int = 8,
    json: bool = False,
) -> int:
    r"""Tell how far two rewards are apart on an environment (STARC, EPIC, DARD), and where they differ most.

    On tabular worlds it is exact, with the regret of optimising one reward for the other; elsewhere it judges a sample
    of random behaviour, with 95 % intervals. STARC is 0 where both order all policies alike, 1 where they are opposite.

    For instance:
      cairn compare task "task + 0.01*episodic_count(key='state')" --env cairn/FourRooms-v0 --sampled
      cairn compare task "2*task - 0.01" --env cairn/RoomGoal-v0
      cairn compare runs/iq task                      # what IQ-Learn recovered, beside the truth

    Args:
        first: An expression of terms, a run folder (the reward that its agent has learned or is paid), or for
            tabular worlds a JSON file of numbers, [S, A] or [S, A, S].
        second: The other.
        env: The environment's id; left out, that of the run.
        env_args: Settings of the environment, given to gym.make.
        gamma: The discount. Left out: the world's own, that of the run, or 0.99.
        average: Compare by reward per step in the long run instead (tabular worlds).
        sampled: Take a sample on a tabular world too.
        steps: How many steps the sample has.
        seed: Of the sample.
        top: How many places to list where the rewards differ most.
        json: Print one line of JSON.
    """
    if env is not None:  # before torch is imported: a misspelt id should not take seconds
        check_env_id(env)
        check_env_args(env, env_args)
    from ..agents import comparing

    found = comparing.compare(
        first, second, env, env_args=env_args or None, gamma=gamma, average=average, sampled=sampled, steps=steps,
        seed=seed, top=top,
    )  # fmt: skip
    print(json_module.dumps(found.as_dict()) if json else found)
    return 0
