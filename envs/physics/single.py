"""One physics environment: upstream's own class for the v5 tasks, and one of ours for the sparse ones."""

from functools import cache
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from ..batch import lane_seed
from .batch import PhysicsBatch
from .ids import V5_TASKS
from .maze import RADIUS, Maze
from .memory import split
from .model import RENDER_ARGUMENTS, make_task, model_warnings
from .pictures import Painter, check_pictures, choose_gl


def make(task: str, *, render_mode: str | None = None, dtype: str = "float64", **kwargs: Any) -> gym.Env[Any, Any]:
    """Make one environment.

    ``reset(seed=s)`` is lane 0 of seed s, ``reset(seed=s, options={"lane": i})`` lane i of a batch.

    Args:
        task: Upstream's id, such as ``"Ant-v5"``, or one of the sparse tasks.
        render_mode: As in Gymnasium.
        dtype: Of the observations: ``"float64"`` as upstream, or ``"float32"``.
        kwargs: Arguments of upstream's class.

    Raises:
        ValueError: An argument has a wrong value, or the model file cannot be read.
        TypeError: An argument that the task does not have.
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype={dtype!r}: observations are 'float64', as upstream's, or 'float32'")
    env: gym.Env[Any, Any]
    if task in dict(V5_TASKS):
        spec = gym.registry[task]
        module, _, name = str(spec.entry_point).partition(":")
        if render_mode not in (None, "human"):
            choose_gl()
        cls: Any = keyed_class(getattr(import_module(module), name))
        with model_warnings():
            upstream = cls(render_mode=render_mode, **{**spec.kwargs, **kwargs})
        check_pictures(upstream.model, {name: kwargs[name] for name in RENDER_ARGUMENTS if name in kwargs})
        env = upstream
    else:
        env = PhysicsEnv(task, render_mode=render_mode, **kwargs)
    return env if dtype == "float64" else gym.wrappers.DtypeObservation(env, np.float32)


@cache
def keyed_class(base: type[gym.Env[Any, Any]]) -> type[gym.Env[Any, Any]]:
    """Make the subclass of an upstream class that is seeded by (seed, lane)."""

    class Keyed(base):  # type: ignore[misc, valid-type]
        """Upstream's environment, seeded as a lane of a batch is."""

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            """Begin an episode; a seed and a lane begin a new stream of random numbers."""
            return super().reset(seed=_key(seed, options), options=options)  # type: ignore[no-any-return]

    Keyed.__name__ = Keyed.__qualname__ = base.__name__
    Keyed.__doc__ = base.__doc__
    return Keyed


def _key(seed: int | None, options: dict[str, Any] | None) -> int | None:
    lane = (options or {}).get("lane", 0)
    if isinstance(lane, bool) or not isinstance(lane, int | np.integer) or lane < 0:
        raise ValueError(f"options['lane'] is a whole number from 0 on, got {lane!r}")
    if seed is None:
        if "lane" in (options or {}):
            raise ValueError("options['lane'] chooses a lane of a seed: give reset a seed with it")
        return None
    return lane_seed(seed, int(lane))


class PhysicsEnv(gym.Env[Any, Any]):
    """One environment of a task that Gymnasium does not have: a batch of one, in NumPy, with pictures.

    Args:
        task: One of the sparse tasks.
        render_mode: ``"human"``, ``"rgb_array"``, ``"depth_array"``, ``"rgbd_tuple"`` or None.
        kwargs: The task's arguments, and upstream's arguments for pictures.
    """

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}

    def __init__(self, task: str, *, render_mode: str | None = None, **kwargs: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r}: there are {', '.join(self.metadata['render_modes'])}")
        pictures = {name: kwargs.pop(name) for name in RENDER_ARGUMENTS if name in kwargs}
        self._batch = PhysicsBatch(make_task(task, kwargs), 1, threads=1)
        self.task, self.model = self._batch.task, self._batch.model
        check_pictures(self.model, pictures)
        self.frame_skip = self.task.frame_skip
        self.metadata = {**self.metadata, "render_fps": int(np.round(1.0 / self.task.dt))}
        self.observation_space: spaces.Space[Any] = self._batch.single_observation_space
        self.action_space: spaces.Space[Any] = self._batch.single_action_space
        self.render_mode = render_mode
        self._pictures = pictures
        self._painter: Painter | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed and a lane begin a new stream of random numbers."""
        key = _key(seed, options)
        if key is not None or self._np_random is None:
            super().reset(seed=key)
        self._batch.memory.moving[:] &= key is None and bool(self._batch._rngs)
        self._batch._rngs = [self.np_random]
        given = {name: value for name, value in (options or {}).items() if name in self.task.options}
        obs, info = self._batch.reset(options=given)
        if self.render_mode == "human":
            self.render()
        return _first({"obs": obs})["obs"], _first(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step once; ``info`` has the reward's components and ``facts``."""
        action = np.asarray(action, np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"the action has shape {action.shape}, and {self.action_space} wants one of its own")
        if not np.isfinite(action).all():
            raise ValueError(f"the action {action} is not finite")
        if self._np_random is None or not self._batch._rngs:
            raise gym.error.ResetNeeded("call reset() before step()")
        obs, reward, terminated, unstable, info = self._batch.advance(action[None])
        flat = _first(info)
        del flat["task_reward"]
        flat["facts"] = _first(self._batch.present_facts(unstable))
        if self.render_mode == "human":
            self.render()
        seen = _first({"obs": split(self.task.parts(), torch.from_numpy(obs))})["obs"]
        own = self._batch.max_steps  # of a task with a time limit of its own; others have a wrapper's
        truncated = own is not None and bool(self._batch._elapsed[0] >= own)
        return seen, float(reward[0]), bool(terminated[0]), truncated, flat

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Rewards of tasks with goals, for hindsight: ``[2]`` goals give a number, ``[..., 2]`` an array.

        Raises:
            AttributeError: The task has no goals.
        """
        achieved, desired = (np.asarray(goal, np.float64) for goal in (achieved_goal, desired_goal))
        flat = self._goals().goal_reward(achieved.reshape(-1, 2), desired.reshape(-1, 2))
        return flat.reshape(achieved.shape[:-1])[()]

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Whether being at one goal ``[2]`` with another as the aim ends the episode; raises as ``compute_reward``."""
        task, offset = self._goals(), np.asarray(achieved_goal) - np.asarray(desired_goal)
        return not task.continuing_task and bool(np.linalg.norm(offset) <= RADIUS)

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """Never: the time limit is a wrapper's."""
        return False

    def _goals(self) -> Maze:
        if not isinstance(self.task, Maze):
            raise AttributeError(f"{type(self.task).__name__} has no goals to relabel")
        return self.task

    def render(self) -> Any:
        """A picture, as upstream's ``MujocoEnv.render``."""
        if self.render_mode is None:
            gym.logger.warn("render() was called on an environment made without a render_mode")
            return None
        if self._painter is None:
            self._painter = Painter(self.model, self.task.camera, self._pictures)
        self._batch.show(0, self._painter)
        return self._painter.paint(self.render_mode)

    def close(self) -> None:
        """Close the window."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """The first row of an info dict in NumPy."""
    return {
        name: _first(value) if isinstance(value, dict) else value[0].numpy().copy()[()] for name, value in info.items()
    }
