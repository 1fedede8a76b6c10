"""The commands that make something: ``train``, ``qd``, ``design``, ``resume``, ``collect`` and ``demo``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from .._lazy import collector_at_rest
from ..agents.asked import Asked, settle
from ..agents.config import Steps, TrainConfig, check
from ..agents.design_config import DesignConfig, check_design
from ..qd.config import SearchConfig, is_search
from ..qd.config import check as check_search
from ..runs import Run

if TYPE_CHECKING:
    from ..agents.designing import Roles
    from ..agents.training import Outcome
    from ..qd.running import Outcome as Found

RunFolder = Positional[Annotated[Path, arg(metavar="RUN")]]

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
        from ..agents import training
        from ..agents.progress import reporter

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
    from ..agents.progress import reporter
    from ..qd import running

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
    from ..agents.designing import design as search

    found, folder = search(config, _roles(config))
    if found.best is None:
        print("no candidate could be trained; the report says why", file=sys.stderr)
        return 1
    written = 'program("best", combine="sign")' if config.search == "auto-mc" else 'program("best")'
    expression = f"task + {written}" if config.with_task else written
    if found.final:
        print("trained anew: " + ", ".join(f"{score:.4g}" for score in found.final))
    facts = " --env-args " + " ".join(f"{k}={json.dumps(v)}" for k, v in config.env_args.items())
    facts = facts if config.env_args else ""
    print(f"use it: cd {folder} && cairn train {config.env}{facts} --reward '{expression}'")
    return 0


def _roles(config: DesignConfig) -> "Roles":
    from ..agents.designing import Asked, Roles

    if config.stand_in:
        from ..benchmarks import scripted

        return Roles(scripted.Designer(config.seed), scripted.Critic(), scripted.Analyser())
    from ..shaping.language import Client
    from ..shaping.language.search import prompts

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
        from ..agents.progress import reporter
        from ..qd import running

        return _found(running.resume(run, evaluations=steps, report=reporter("evaluations")))
    from ..agents import training
    from ..agents.progress import reporter

    return _finish(training.resume(run, steps=steps, report=reporter()))


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
    from ..agents.data.command import write

    print(write(actor, to, env, episodes, seed, num_envs, deterministic, only_success, minari))
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

    from ..agents import training
    from ..agents.progress import reporter

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
