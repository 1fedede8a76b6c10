"""Everything that a page on a reward shows: episodes lived, what each term paid in them, and its faults."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ..agents.config import ConfigError
from ..agents.evaluation import fresh_seed
from ..envs.batch import BatchEnv
from ..envs.kinds import Tokens
from ..shaping.reward import Reward, RewardError
from ..shaping.seats import Seat
from ..shaping.term import World
from . import judging
from .flags import Flag
from .living import Actor, Life, Paid, live, pay
from .maps import ground_of, map_of
from .subjects import Subject, at_random

FRAMES = 240
"""The most pictures that a page has of an episode."""
SLOW = 120
"""The same of worlds whose pictures are rendered in three dimensions, at a tenth of a second each."""
STEPS = 2000
"""The most steps of an episode that a page shows."""
WANDERINGS = 8
"""Episodes of random actions in which loops are looked for, and on a grid's level the map is made of."""
WANDER = 300
"""Steps of each at most."""
ROUTES = 4
"""Further episodes of the agent on the level that is shown."""


@dataclass
class Seen:
    """Everything that a page shows."""

    shown: Paid
    life: Life
    episodes: list[Paid]
    wandering: list[Paid]
    names: list[str]
    map: dict[str, Any] | None
    flags: list[Flag]
    pictures: str
    """Why there are no pictures; empty where there are."""
    mission: str
    """What the episode's observations say is to be done; empty where they say nothing."""


def look(subject: Subject, episodes: int, seed: int) -> Seen:
    """Live the episodes and judge them.

    Raises:
        ConfigError: A term reads what the environment does not give, or gives what no agent may be trained on.
    """
    try:
        return _look(subject, episodes, seed)
    except (RewardError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{subject.reward} cannot be paid here: {' '.join(str(error).split())}") from error


def _look(subject: Subject, episodes: int, seed: int) -> Seen:
    many = subject.make(min(episodes, 64), False)
    if getattr(many, "agents", ()):
        raise ConfigError("this is a team's environment: pages show one agent")
    lived = _live_all(subject, many, episodes, fresh_seed(seed, "inspect"))
    many.close()
    film_seed, why = fresh_seed(seed, "inspect", "film"), ""
    try:
        one = subject.make(1, True)
        every = _frame_every(one, lived)
        life = live(subject.actor(one), one, film_seed, STEPS, every)
    except (ConfigError, ValueError, ImportError, RuntimeError) as error:
        why, one = " ".join(str(error).split()), subject.make(1, False)
        life = live(subject.actor(one), one, film_seed, STEPS)
    shown = _pay(subject, one, life)[0]
    ground = ground_of(one, life.x.facts, life.frames[0][1] if life.frames else None)
    routes, wandering = [shown], []
    if ground is not None and not ground.same:
        for number in range(ROUTES):
            again = live(_own_dice(subject.actor(one), number), one, film_seed, STEPS)
            routes += _pay(subject, one, again)
    if not subject.random:
        for number in range(WANDERINGS):
            # On the level that is shown, so that its map knows more than the agent's own way.
            wandered = live(_own_dice(at_random(one), number), one, film_seed, WANDER)
            wandering += _pay(subject, one, wandered)
    places = None
    if ground is not None:
        places = map_of(ground, [*routes, *wandering, *(lived if ground.same else [])], shown)
    flags = judging.judge(
        _bound(subject, one), [shown, *lived], wandering, subject.rows, subject.gamma if subject.trained else None,
        one.max_steps, subject.trained,
    )  # fmt: skip
    one.close()
    names = [s.name for s in subject.reward.summands]
    mission = _mission(one.single_observation_space, life.x.obs)
    return Seen(shown, life, lived, wandering, names, places, flags, why, mission)


def _mission(space: gym.Space[Any], obs: Any) -> str:
    words = space["mission"] if isinstance(space, gym.spaces.Dict) and "mission" in space.spaces else None
    return words.decode(obs["mission"][0, 0].cpu()) if isinstance(words, Tokens) else ""


def _live_all(subject: Subject, env: BatchEnv, episodes: int, seed: int) -> list[Paid]:
    paid: list[Paid] = []
    while len(paid) < episodes:
        life = live(subject.actor(env), env, fresh_seed(seed, len(paid)), STEPS)
        paid += _pay(subject, env, life)
    return paid[:episodes]


def _own_dice(act: Actor, number: int) -> Actor:
    """The same actor with other dice: episodes of one level differ by what it draws."""
    first = [True]

    def wandering(obs: Any, info: Any) -> torch.Tensor:
        if first[0]:
            first[0] = False
            torch.manual_seed(fresh_seed(number, "dice"))
        return act(obs, info)

    return wandering


def _bound(subject: Subject, env: BatchEnv) -> Reward:
    return _seat(subject, env).reward


def _seat(subject: Subject, env: BatchEnv) -> Seat:
    world = World(
        env.single_observation_space, env.single_action_space, lanes=env.num_envs, max_steps=env.max_steps,
        gamma=subject.gamma, device=env.device, gives=subject.gives, ask=subject.ask,
    )  # fmt: skip
    return Seat(deepcopy(subject.reward), world)


def _pay(subject: Subject, env: BatchEnv, life: Life) -> list[Paid]:
    return pay(_seat(subject, env), life, subject.step)


def _frame_every(env: BatchEnv, lived: Sequence[Paid]) -> int:
    """Steps between two pictures, so that an episode as long as most has as many as a page may have."""
    length = max(int(np.median([ep.steps for ep in lived])), 1)
    return max(1, math.ceil(length / (SLOW if is_slow(env) else FRAMES)))


def is_slow(env: BatchEnv) -> bool:
    """Whether pictures are rendered in three dimensions, by MuJoCo."""
    return hasattr(env.envs[0].unwrapped if env.envs else env.unwrapped, "model")
