"""``cairn COMMAND``: ``train``, ``resume``, ``eval``, ``play``, ``inspect``, ``report`` and the others of ``COMMANDS``.

Torch is imported by the commands that need it, when they run: help, the list of environments and the complaint
about a misspelt id come at once.
"""

import errno
import json as json_module
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium
import tyro
from tyro.conf import Positional, arg

from ._lazy import collector_at_rest
from .agents.asked import Asked, settle
from .agents.config import ConfigError, Options, Steps, TrainConfig, check, check_env_args, check_env_id
from .agents.design_config import DesignConfig, check_design
from .qd.config import SearchConfig, is_search
from .qd.config import check as check_search
from .runs import CheckpointError, Run, RunBusy

if TYPE_CHECKING:
    from .agents.designing import Roles
    from .agents.training import Outcome
    from .qd.running import Outcome as Found

NO_OPTIONS: dict[str, Any] = {}
RunFolder = Positional[Annotated[Path, arg(metavar="RUN")]]

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

DEMO = TrainConfig(
    env="cairn/MiniGrid-DoorKey-8x8-v0",
    reward="task + 0.02*episodic_count(key='position', mode='first')",
    steps=1_000_000,
    num_envs=32,
    stop_success=0.95,
    agent_args={"n_steps": 64, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01},
    threads=1,  # networks this small gain little from a second thread, and lose much where the cores are busy
)
"""What ``cairn demo`` trains: 32 environments, and a bonus for each cell that is new in its episode."""


def train(asked: Annotated[Asked, arg(name="")]) -> int:
    r"""Train an agent from scratch and leave a run folder.

    The folder holds config.json, the metrics, checkpoints and a learning curve. Ctrl-C saves and stops. Where the
    environment has tuned settings, they stand in for what is left out, and the first line of the output says so.

    For instance:
      cairn train cairn/MiniGrid-DoorKey-8x8-v0 --steps 2e6 --run runs/doorkey
      cairn train cairn/MiniGrid-DoorKey-8x8-v0 --stop-success 0.95 \
          --reward "task + 0.02*episodic_count(key='position', mode='first')"
      cairn train CartPole-v1 --steps 1e5 --agent-args learning_rate=1e-3 n_steps=64
    """
    config, tuned = settle(asked)
    check(config)  # before torch is imported: a misspelt id should not take seconds
    with collector_at_rest():
        from .agents import training
        from .agents.progress import reporter

    if tuned:
        print(tuned, flush=True)
    return _finish(training.train(config, report=reporter()))


def qd(config: Annotated[SearchConfig, arg(name="")]) -> int:
    r"""Search for many good policies that differ (quality-diversity, novelty search) and leave a run folder.

    The folder holds config.json, the metrics, checkpoints, the archive, its heat map and a curve. Ctrl-C saves and
    stops; cairn resume goes on. cairn play RUN --cell 10,40 films the elite of a cell.

    For instance:
      cairn qd cairn/RedundantArm-v0 --algorithm serene --evaluations 5e5 --run runs/arm
      cairn qd cairn/HardMaze-v0 --algorithm ns --algorithm-args population=200 sigma=0.1
    """
    check_search(config)  # before torch is imported: a misspelt id should not take seconds
    from .agents.progress import reporter
    from .qd import running

    return _found(running.search(config, report=reporter("evaluations")))


def design(config: Annotated[DesignConfig, arg(name="")]) -> int:
    """Have a language model write reward programs, train agents on them, and keep the best.

    Every program is compiled by Cairn and runs in a jail; it is tried on recorded episodes before any agent is
    trained on it. The folder holds the best program, a report of every candidate, and a record with which a
    search that was stopped goes on: run the same command again.

    For instance:
      cairn design cairn/MiniGrid-Empty-8x8-v0 --task "go to the goal" --server URL --model NAME
      cd runs/design-MiniGrid-Empty-8x8-v0
      cairn train cairn/MiniGrid-Empty-8x8-v0 --reward 'task + program("best")'
    """
    check_design(config)  # before torch is imported
    from .agents.designing import design as search

    found, folder = search(config, _roles(config))
    if found.best is None:
        print("no candidate could be trained; the report says why", file=sys.stderr)
        return 1
    written = 'program("best", combine="sign")' if config.search == "auto-mc" else 'program("best")'
    expression = f"task + {written}" if config.with_task else written
    if found.final:
        print("trained anew: " + ", ".join(f"{score:.4g}" for score in found.final))
    facts = " --env-args " + " ".join(f"{k}={json_module.dumps(v)}" for k, v in config.env_args.items())
    facts = facts if config.env_args else ""
    print(f"use it: cd {folder} && cairn train {config.env}{facts} --reward '{expression}'")
    return 0


def _roles(config: DesignConfig) -> "Roles":
    from .agents.designing import Asked, Roles

    if config.stand_in:
        from .benchmarks import scripted

        return Roles(scripted.Designer(config.seed), scripted.Critic(), scripted.Analyser())
    from .shaping.language import Client
    from .shaping.language.search import prompts

    client = Client(config.server or "", config.model or "", key_env=config.key_env)
    asked = [
        Asked(client, prompts.VERSION.replace("@", f"/{role}@"), temperature)
        for role, temperature in (("designer", 1.0), ("critic", 0.0), ("analyser", 0.0))
    ]
    return Roles(*asked)


def resume(run: RunFolder, /, steps: Annotated[Steps | None, arg(metavar="STEPS")] = None) -> int:
    """Go on with a run that was stopped or killed, to the same bits as if it had not been.

    Args:
        run: The run folder, such as runs/doorkey.
        steps: Train up to this many steps in all (for a search: evaluations), instead of the number it began with.
    """
    if is_search(Run.open(run).config):  # before torch is imported: a misspelt folder should not take seconds
        from .agents.progress import reporter
        from .qd import running

        return _found(running.resume(run, evaluations=steps, report=reporter("evaluations")))
    from .agents import training
    from .agents.progress import reporter

    return _finish(training.resume(run, steps=steps, report=reporter()))


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
    from .agents import training

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
    from .agents import training

    print(training.play(run, video, episodes=episodes, seed=seed, deterministic=deterministic, fps=fps))
    return 0


def _film(run: Path, video: Path | None, cell: str | None) -> int:
    from .qd import running

    try:
        place = None if cell is None else tuple(int(part) for part in cell.split(","))
    except ValueError:
        raise ConfigError(f"--cell {cell} is not a list of whole numbers such as 10,40") from None
    print(running.film(run, place, video))
    return 0


def _play_by_hand(name: str, seed: int) -> int:
    from .envs.grid import human

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
    from . import pages

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
    from . import pages

    print(
        pages.report(
            runs, to, metric=metric, criterion=criterion, unfinished=unfinished, videos=not no_video, png=png,
            csv_to=csv, seed=seed,
        )
    )  # fmt: skip
    return 0


def collect(
    actor: Positional[Annotated[str, arg(metavar="RUN|ACTOR")]],
    /,
    to: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    env: Annotated[str | None, arg(metavar="ID")] = None,
    episodes: int = 100,
    seed: int = 0,
    num_envs: int = 16,
    deterministic: bool = False,
    only_success: bool = False,
    minari: Annotated[str | None, arg(metavar="DATASET")] = None,
) -> int:
    r"""Collect demonstrations: whole episodes of a trained agent, of a solver, a bot or a controller.

    For instance:
      cairn collect runs/doorkey --episodes 100 --to data/doorkey
      cairn collect solver --env cairn/MiniGrid-KeyCorridorS3R3-v0 --episodes 10 --to data/keycorridor
      cairn collect bot --env BabyAI-GoToLocal-v0 --minari babyai/gotolocal/bot-v0

    Args:
        actor: A run folder; or solver (shortest solutions of the grid ids), bot (MiniGrid's, of the BabyAI ids),
            scripted (controllers of some classic tasks) or random, which need --env.
        to: The folder to write, for --agent-args demonstrations=FOLDER. Left out: data/<environment>-<actor>.
        env: The environment's id; for a run, its own.
        episodes: How many.
        seed: Chooses the levels.
        num_envs: How many are played side by side.
        deterministic: Take the likeliest action each time (runs only).
        only_success: Leave out episodes that fail.
        minari: Also write them as this dataset of Minari's (extra data).
    """
    from .agents.data.command import write

    print(write(actor, to, env, episodes, seed, num_envs, deterministic, only_success, minari))
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
    from .agents import comparing

    found = comparing.compare(
        first, second, env, env_args=env_args or None, gamma=gamma, average=average, sampled=sampled, steps=steps,
        seed=seed, top=top,
    )  # fmt: skip
    print(json_module.dumps(found.as_dict()) if json else found)
    return 0


def envs(search: Positional[Annotated[str, arg(metavar="WORD")]] = "", /) -> int:
    """List the environments; any other Gymnasium id (CartPole-v1) can be trained on too.

    Args:
        search: Only those with this word in their id.
    """
    ids = sorted(k for k in gymnasium.registry if k.startswith("cairn/") and search.lower() in k.lower())
    if not ids:
        raise ConfigError(f"no environment has {search!r} in its id; `cairn envs` lists all of them")
    for name in ids:
        print(name)
    if sys.stdout.isatty():
        print(f"{len(ids)} environments. Try: cairn train {ids[0]}", file=sys.stderr)
    return 0


def demo(run: Annotated[Path | None, arg(metavar="FOLDER")] = None, seed: int = 0, max_seconds: float = 180.0) -> int:
    """Train PPO from scratch on DoorKey-8x8 until 95 of 100 fresh levels succeed, and film it.

    The agent must find a key, open a door with it and walk to the goal; only reaching the goal is rewarded. The
    run folder is left with a learning curve and a video. Exits with 1 if the goal was not reached in time.

    Args:
        run: The folder to write. Left out: runs/demo, numbered if that is taken.
        seed: Seeds levels, weights and choices.
        max_seconds: Give up after so much time.
    """
    from dataclasses import replace

    from .agents import training
    from .agents.progress import reporter

    print(f"Training PPO from scratch on {DEMO.env} until 95 of 100 fresh levels succeed.")
    print(f"Reward: {DEMO.reward}   (resume with `cairn resume`, stop with Ctrl-C)", flush=True)
    config = replace(DEMO, run=str(run) if run else training.free_folder("runs/demo"), seed=seed)
    outcome = training.train(config, report=reporter(), max_seconds=max_seconds)
    if outcome.why == "signal":
        return _finish(outcome)
    video = training.play(outcome.run, None, episodes=3, seed=seed)
    solved = outcome.why == "success"
    trial = outcome.trial
    share = f"{trial.successes} of {trial.episodes} fresh levels" if trial else "the training episodes still fail"
    print(f"{'Solved' if solved else 'NOT solved'}: {share}, after {outcome.steps:,} steps and {outcome.seconds:.0f} s")
    print(f"Learning curve  {outcome.run / 'curve.png'}")
    print(f"Video           {video}")
    print(f"Run folder      {outcome.run}   (try: cairn eval {outcome.run} --episodes 1000)")
    return 0 if solved else 1


def _finish(outcome: "Outcome") -> int:
    """Say how training ended and how to go on, and give the exit code."""
    if outcome.why == "signal":
        print(f"stopped and saved at {outcome.steps:,} steps; go on with: cairn resume {outcome.run}")
        return 128 + (outcome.signum or 2)
    done = {"success": "goal reached", "time": "out of time, saved", "steps": "done"}[outcome.why]
    print(f"{done}: {outcome.steps:,} steps in {outcome.seconds:.1f} s; run folder {outcome.run}")
    return 0


def _found(outcome: "Found") -> int:
    """Say how a search ended and how to go on, and give the exit code."""
    if outcome.why == "signal":
        print(f"stopped and saved at {outcome.evaluations:,} evaluations; go on with: cairn resume {outcome.run}")
        return 128 + (outcome.signum or 2)
    scores = outcome.scores
    areas = [f"{scores[k]:.3f}" for k in sorted(scores) if k.startswith("area_")]
    print(f"done: {outcome.evaluations:,} evaluations in {outcome.seconds:.1f} s; run folder {outcome.run}")
    print(f"coverage {scores['coverage']:.1%}, QD score {scores['qd_score']:.4g}, best {scores['best']:.4g}")
    if areas:
        print(f"best in each reward area: {', '.join(areas)}")
    print(f"heat map {outcome.run / 'archive.png'}   (film an elite: cairn play {outcome.run})")
    return 0


def bench(name: Positional[Annotated[str, arg(metavar="NAME")]] = "", /) -> int:
    """Run a benchmark; without a name, list them. What follows the name goes to the benchmark (try --help there).

    For instance:
      cairn bench
      cairn bench grid --num-envs 1024 --seconds 1

    Args:
        name: One of the list.
    """
    return _bench([name] if name else [])


def _bench(args: list[str]) -> int:
    """Run the benchmark named first with the other arguments, or list them all."""
    from importlib import import_module

    from .benchmarks import BENCHMARKS

    if not args:
        for known, line in BENCHMARKS.items():
            print(f"{known:14} {line}")
        return 0
    if args[0] not in BENCHMARKS:
        raise ConfigError(f"no benchmark is called {args[0]!r}; `cairn bench` lists them")
    run = import_module(f".benchmarks.{args[0]}", __package__).main
    from .shaping.language.ask import LanguageError

    try:
        run(args[1:])
    except LanguageError as error:  # no server, a wrong key: the message is for a person
        raise ConfigError(str(error)) from None
    return 0


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
            return _bench(given[1:])  # the benchmark reads its own options
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


if __name__ == "__main__":
    sys.exit(main())
