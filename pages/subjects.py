"""What a page is about: a run's agent and reward, or an expression with somebody who acts."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from ..agents import training
from ..agents.config import ConfigError, check_env_args, check_env_id, from_json
from ..agents.data.command import draw
from ..agents.training import acting
from ..envs.batch import BatchEnv
from ..envs.bridges import make_batch
from ..qd.config import is_search
from ..runs import Run
from ..shaping.grammar import parse
from ..shaping.reward import Reward, as_reward
from .living import Actor

Maker = Callable[[int, bool], BatchEnv]
"""Makes a batch of so many lanes, with pictures or without."""


@dataclass
class Subject:
    """What a page is about."""

    title: str
    make: Maker
    reward: Reward
    """Not bound: its copies are."""
    actor: Callable[[BatchEnv], Actor]
    facts: dict[str, str]
    """What stands under the title, by name."""
    gamma: float | None = None
    step: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    gives: frozenset[str] = frozenset()
    ask: Any = None
    trained: bool = False
    """It is a run, so the terms have learned and the discount is an agent's."""
    random: bool = False
    """The actor draws at random, so its episodes are wanderings already."""


def of_run(run: Path, reward: Any, deterministic: bool) -> Subject:
    """A run's agent and reward, as its last checkpoint has them.

    Raises:
        ConfigError: The folder has no agent to show, or the reward has no text and is not given.
    """
    folder = Run.open(run)
    if is_search(folder.config):
        raise ConfigError(f"{run} is a search; its page is archive.png, and cairn play films its elites")
    config = from_json(folder.config.get("train"))
    if config.reward is None and reward is None:
        raise ConfigError(
            f"the reward of {run} has no text form; pass the same terms in Python: "
            f"cairn.pages.inspect({str(run)!r}, reward=...)"
        )
    saved = folder.latest()
    if saved is None:
        raise ConfigError(f"{run} has no checkpoint yet: it was stopped before its first update, or is just beginning")
    model = training._build(config, config.num_envs, reward)
    if getattr(model, "act_team", None) is not None:
        raise ConfigError(f"{run} is of a team: pages show one agent; cairn eval tells the returns of each")
    try:
        model.load_training_state(saved[2]["model"])
    except (ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{run}: the checkpoint at step {saved[0]} does not fit its config: {error}") from error
    seat = getattr(model, "seat", None)
    learned = deepcopy(seat.reward) if seat is not None else as_reward(parse(config.reward or "task"))
    if model.batch is not None:
        model.batch.close()
    facts = {
        "Environment": config.env, "Agent": config.agent, "Reward": config.reward or str(learned),
        "Trained for": f"{saved[0]:,} of {config.steps:,} steps", "Seed": str(config.seed),
    }  # fmt: skip
    frozen = acting(model, deterministic)
    gives = frozenset({"log_prob"} if seat is not None and seat.world.ask is not None else ()) | {"next_action"}
    return Subject(
        title=f"{run.resolve().name}: {config.env}",
        make=lambda lanes, pictures: _batch(config.env, lanes, config.env_args, pictures),
        reward=learned,
        actor=lambda env: lambda obs, info: frozen(obs),
        facts=facts,
        gamma=float(model.gamma) if getattr(model, "gamma", None) is not None else None,
        step=saved[0],
        rows=folder.metrics(),
        gives=gives,
        trained=True,
        ask=None if seat is None else seat.world.ask,
    )


def of_expression(
    what: Any, env: str, actor: str, gamma: float | None, env_args: dict[str, Any], deterministic: bool
) -> Subject:
    """An expression in an environment; arguments as of ``inspecting.inspect``.

    Raises:
        ConfigError: There is no such environment, actor or term.
    """
    check_env_id(env)
    check_env_args(env, env_args)
    try:
        compiled = as_reward(parse(what) if isinstance(what, str) else what)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{str(error).splitlines()[0].rstrip(':')}: {what}") from error
    facts = {"Environment": env, "Reward": str(compiled), "Agent": "random actions" if actor == "random" else actor}

    def act(batch: BatchEnv) -> Actor:
        if actor == "random":
            return at_random(batch)
        if Path(actor).is_dir():
            config, model = training._load(actor, "cpu", None)
            if config.env != env:
                raise ConfigError(f"the actor {actor} was trained on {config.env}, and this is {env}")
            frozen = acting(model, deterministic)
            return lambda obs, info: frozen(obs)
        from ..agents.data.command import _actor

        if actor not in ("solver", "scripted"):
            raise ConfigError(f"{actor!r} is no run folder, and no actor: there are random, solver and scripted")
        try:
            return _actor(actor, env, batch)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error

    return Subject(
        title=f"{compiled} in {env}",
        make=lambda lanes, pictures: _batch(env, lanes, env_args, pictures),
        reward=compiled,
        actor=act,
        facts=facts,
        gamma=0.99 if gamma is None else gamma,
        gives=frozenset({"next_action"}),
        random=actor == "random",
    )


def _batch(env: str, lanes: int, args: Mapping[str, Any], pictures: bool) -> BatchEnv:
    shown = {"render_mode": "rgb_array"} if pictures else {}
    try:
        made = make_batch(env, lanes, **{**args, **shown})
        if pictures and not {"camera_name", "camera_id"} & set(args) and _can_follow(made):
            made.close()  # Gymnasium's own camera stays where the robot was
            made = make_batch(env, lanes, **{**args, **shown, "camera_name": "track"})
        return made
    except (TypeError, ValueError, gym.error.Error) as error:
        raise ConfigError(f"{env} cannot be made{' with pictures' if pictures else ''}: {error}") from error


def _can_follow(env: BatchEnv) -> bool:
    """Whether the world is MuJoCo's, with a camera that goes with the robot."""
    inner = env.envs[0].unwrapped if env.envs else env.unwrapped
    model: Any = getattr(inner, "model", None)
    return any(model.camera(i).name == "track" for i in range(getattr(model, "ncam", 0)))


def at_random(batch: BatchEnv) -> Actor:
    """Who draws actions from the space."""
    space = batch.single_action_space
    if isinstance(space, gym.spaces.Discrete):
        start, n = int(space.start), int(space.n)
        return lambda obs, info: torch.randint(start, start + n, (batch.num_envs,))
    return lambda obs, info: torch.stack([torch.as_tensor(draw(space)) for _ in range(batch.num_envs)])
