"""What ``cairn bench credit`` studies: worlds, base policies, step rewards and the methods that are tuned with them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from cairn.benchmarks.credit_steps import ACTIONS, WALKING
from cairn.envs.batch import BatchEnv, BatchWrapper
from cairn.shaping import Clipped, Delta, Gated, MinForm, Task

LIMIT, LANES, LEVELS, LESSONS, ROLLOUT, EVERY = 128, 64, 100, 48_000, 128, 8_192
PLANNED = 96  # steps in each of LANES levels that a planner labels
SOLVED = 0.9  # the success that counts as solved
SHORT, WINDOW = 28, 3  # steps of an episode, and measurements to a mean, in ``cloned``
LONG = 74  # steps of an episode in ``long``
OTHERS = {"outcome": (5e-4, 1e-3), "outcome + minimum": (1e-3, 4e-3)}  # step sizes there, beside that of all methods


class Levels(NamedTuple):
    """Where a study takes place."""

    task: str
    kwargs: tuple[tuple[str, Any], ...]
    """What differs from the id's own settings."""
    actions: tuple[int, ...]
    """What a planner needs there."""
    limit: int
    """Steps of an episode, unless the study has fewer, and of those that the planner labels."""
    charted: bool
    """Whether distances are known from every state, or there is a search from each that is met."""

    @property
    def name(self) -> str:
        """The id, and what differs."""
        return " ".join([self.task, *(f"{key}={value}" for key, value in self.kwargs)])


DOORKEY = Levels("cairn/MiniGrid-DoorKey-8x8-v0", (), ACTIONS, LIMIT, False)
CROSSING = Levels("cairn/MiniGrid-SimpleCrossingS11N5-v0", (("size", 19), ("num_crossings", 7)), WALKING, 200, True)


class Study(NamedTuple):
    """The setting that a group of methods shares."""

    budget: int
    """Steps of tuning."""
    gamma: float
    """The agent's discount."""
    reward: str
    """The learned step reward: ``chance`` or ``right``."""
    base: float
    """Success of the base policy, at least."""
    lanes: int
    """Environments of the tuning."""
    settings: dict[str, Any]
    """PPO's, for all methods."""
    whole: bool
    """Whether rewards that are known at the end of an episode are learned from whole episodes alone."""
    methods: dict[str, Callable[[Any], Any]]
    """Name -> the reward to train on, of the learned step reward."""
    limit: int = LIMIT
    """Steps of an episode."""
    ends: bool = False
    """Whether the task is over when the time is up, or the episode is cut: nothing is worth anything beyond an end."""
    cloned: bool = False
    """Whether the base policy is cloned from the planner's right steps, or is PPO's with NovelD."""
    every: int = EVERY
    """Steps between two measurements."""
    window: int = 1
    """Success is the mean of so many measurements, where steps are counted to it and at the end."""
    levels: Levels = DOORKEY
    """The world."""
    rates: Mapping[str, float] = {}
    """Step sizes of methods that do not have the study's."""

    def at(self, method: str) -> "Study":
        """With the step size of a method."""
        rate = self.rates.get(method)
        return self if rate is None else self._replace(settings={**self.settings, "learning_rate": rate})


STUDIES = {
    "gates": Study(
        131_072, 0.99, "chance", 0.2, LANES, {"n_steps": ROLLOUT}, False,
        {
            "outcome": lambda r: Task(),
            "steps alone": lambda r: r,
            "outcome + steps": lambda r: Task() + r,
            # The task pays 1 - 0.9 t / 640 on success: any, within 71 steps, within 35, within 21.
            "gated, 0.5": lambda r: Task() + Gated(r, 0.5),
            "gated, 0.9": lambda r: Task() + Gated(r, 0.9),
            "gated, 0.95": lambda r: Task() + Gated(r, 0.95),
            "gated, 0.97": lambda r: Task() + Gated(r, 0.97),
            "clipped": lambda r: Task() + 0.02 * Clipped(r, 0.9),
            "delta": lambda r: Task() + 0.5 * Delta(r),
            "clipped, delta": lambda r: Task() + 0.5 * Delta(Clipped(r, 0.9)),
        },
    ),
    "planned": Study(
        65_536, 1.0, "right", 0.04, 32, {"n_steps": 2 * LIMIT}, True,
        {
            "outcome": lambda r: Task(),
            "steps alone": lambda r: r,
            "outcome + steps": lambda r: Task() + r,
            "outcome + minimum": lambda r: Task() + MinForm(r, 0.3, of="future"),
            "minimum": lambda r: MinForm(r, 0.3, of="future"),
        },
    ),
}  # fmt: skip
STUDIES["cloned"] = STUDIES["planned"]._replace(
    budget=131_072, base=0.2, settings={"n_steps": 4 * SHORT}, limit=SHORT, ends=True, cloned=True, every=3_584,
    window=WINDOW,
)  # fmt: skip
STUDIES["cloned_fast"] = STUDIES["cloned"]._replace(
    settings={"n_steps": 4 * SHORT, "learning_rate": 2e-3},
    methods={name: STUDIES["cloned"].methods[name] for name in ("outcome", "outcome + minimum")},
)  # fmt: skip
STUDIES["long"] = STUDIES["cloned"]._replace(
    budget=397_824, base=0.05, settings={"n_steps": 4 * LONG, "learning_rate": 2e-3}, limit=LONG, every=128 * LONG,
    levels=CROSSING,
    methods={
        **STUDIES["cloned"].methods,
        **{f"{name}, {rate}": STUDIES["cloned"].methods[name] for name, rates in OTHERS.items() for rate in rates},
    },
    rates={f"{name}, {rate}": rate for name, rates in OTHERS.items() for rate in rates},
)  # fmt: skip


class TimeIsUp(BatchWrapper):
    """Episodes end with the task not done where they would be cut."""

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and end."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return obs, reward, terminated | truncated, torch.zeros_like(truncated), info


def made(levels: Levels, lanes: int, limit: int | None = None, **more: Any) -> BatchEnv:
    """Environments of the levels."""
    kwargs = {**dict(levels.kwargs), **more}
    envs = gym.make_vec(levels.task, num_envs=lanes, max_episode_steps=limit or levels.limit, **kwargs)
    assert isinstance(envs, BatchEnv)
    return envs


def worlds(lanes: int, study: Study | None = None) -> BatchEnv:
    """The task, with less time than it usually has."""
    envs = made(DOORKEY, lanes, LIMIT) if study is None else made(study.levels, lanes, study.limit)
    return TimeIsUp(envs) if study is not None and study.ends else envs
