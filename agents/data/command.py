"""What ``cairn collect`` does."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from ...envs.batch import BatchEnv
from ..config import ConfigError, check_env_id
from .collecting import Actor, collect, collect_single, solver
from .demonstrations import Demonstrations

ACTORS = ("solver", "bot", "scripted", "random")


def write(
    actor: str,
    to: Path | None,
    env: str | None,
    episodes: int,
    seed: int = 0,
    num_envs: int = 16,
    deterministic: bool = False,
    only_success: bool = False,
    minari: str | None = None,
) -> str:
    """Collect episodes, write them, and say what was written.

    Raises:
        ConfigError: The actor or the environment is unknown, or too few episodes succeed.
        FileExistsError: The folder exists.
    """
    if episodes < 1 or num_envs < 1:
        raise ConfigError(f"episodes and num_envs must be at least 1, got {episodes} and {num_envs}")
    lanes = min(episodes, num_envs)
    run = None
    if actor not in ACTORS:
        from .. import training

        if not Path(actor).is_dir():
            raise ConfigError(f"{actor!r} is no run folder, and no actor: there are {', '.join(ACTORS)}")
        run, model = training._load(actor, "cpu", None)
        name = env or run.env
    elif env is None:
        raise ConfigError(f"{actor} needs --env, the environment to act in")
    else:
        name = env
    check_env_id(name)
    folder = Path("data") / f"{_slug(name)}-{_slug(Path(actor).name)}" if to is None else to
    if folder.exists():
        raise FileExistsError(f"{folder} exists; give --to another name")
    about = {"env": name, "actor": actor}
    try:
        if actor == "bot":
            from .babyai import babyai_bot

            one = _single(name)
            made = collect_single(babyai_bot(), one, episodes, seed=seed, only_success=only_success, about=about)
        else:
            batch = _row(_batch(name, lanes, run))
            if run is not None:
                from ..training import acting

                frozen = acting(model, deterministic)
                act: Actor = lambda obs, info: frozen(obs)  # noqa: E731
            else:
                act = _actor(actor, name, batch)
            made = collect(act, batch, episodes, seed=seed, only_success=only_success or actor == "solver", about=about)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    made.save(folder)
    told = f"{made}; saved in {folder}"
    return told if minari is None else f"{told} and {_to_minari(made, minari)}"


def _to_minari(made: Demonstrations, name: str) -> Path:
    from .minari_files import MissingExtra, to_minari

    try:
        return to_minari(made, name)
    except (MissingExtra, ValueError) as error:
        raise ConfigError(str(error)) from error


def _actor(actor: str, name: str, batch: BatchEnv) -> Actor:
    if actor == "solver":
        return solver(batch)
    if actor == "scripted":
        from .controllers import scripted

        return scripted(name)
    space = batch.single_action_space
    return lambda obs, info: torch.stack([torch.as_tensor(draw(space)) for _ in range(batch.num_envs)])


def draw(space: gym.Space[Any]) -> Any:
    """A random action by torch's dice, so that the collection's seed decides it."""
    space.seed(int(torch.randint(1 << 31, ())))
    return space.sample()


def _batch(name: str, lanes: int, run: Any) -> BatchEnv:
    from ..training import _batch as batch_of_run

    if run is not None and name == run.env:
        return batch_of_run(run, lanes, "cpu")
    from ...envs.bridges import make_batch

    return make_batch(name, lanes)


def _row(batch: BatchEnv) -> BatchEnv:
    """A team as one agent: demonstrations have one reward a step, the sum of its agents'."""
    if not getattr(batch, "agents", ()):
        return batch
    from ...envs.multi.team import Joint

    return Joint(batch)


def _single(name: str) -> gym.Env[Any, Any]:
    import os

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import minigrid  # noqa: F401  (registers upstream's ids)

    return gym.make(name, disable_env_checker=True)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text.removeprefix("cairn/")).strip("-").lower()
