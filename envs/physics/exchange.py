"""State to and from a live environment of Gymnasium's: physics with warm start, random generator, time limit."""

from typing import Any, Protocol

import gymnasium as gym
import mujoco
import numpy as np

from .engine import CpuEngine
from .generators import pack, unpack
from .memory import Memory
from .task import Task


class Lanes(Protocol):
    """What a batch must have for an environment to fit into it."""

    num_envs: int
    model: Any
    task: Task


class CpuLanes(Lanes, Protocol):
    """A batch of the CPU engine, whose physics is MuJoCo's own."""

    engine: CpuEngine
    memory: Memory


def import_env(batch: CpuLanes, generators: list[np.random.Generator], lane: int, env: gym.Env[Any, Any]) -> int:
    """Take the physics and the generator of ``env`` into ``lane``; returns the steps of its episode so far."""
    other = partner(batch, bool(generators), lane, env)
    batch.engine.take(lane, other.data)
    if "goal" in batch.memory.names and hasattr(other, "goal"):
        batch.memory.put(lane, {"goal": other.goal})
    generators[lane] = unpack(pack([other.np_random], 1))[0]
    return elapsed(env)


def export_env(
    batch: CpuLanes, generators: list[np.random.Generator], lane: int, env: gym.Env[Any, Any], steps: int
) -> None:
    """Give ``env`` the physics and the generator of ``lane``."""
    other = partner(batch, bool(generators), lane, env)
    batch.engine.give(lane, other.data)
    if "goal" in batch.memory.names and hasattr(other, "goal"):
        other.goal = batch.memory.row(lane)["goal"]
        other.update_target_site_pos()
    other.np_random = unpack(pack([generators[lane]], 1))[0]
    set_elapsed(env, steps)


def partner(batch: Lanes, begun: bool, lane: int, env: gym.Env[Any, Any]) -> Any:
    """The environment without its wrappers, after a look whether it fits.

    Raises:
        ValueError: It is of another model, or no MuJoCo environment; or there is no such lane.
        gymnasium.error.ResetNeeded: The batch has not been reset.
    """
    if not begun:
        raise gym.error.ResetNeeded("call reset() before states go in or out")
    if isinstance(lane, bool) or not isinstance(lane, int) or not 0 <= lane < batch.num_envs:
        raise ValueError(f"lane={lane!r}: this batch has lanes 0 to {batch.num_envs - 1}")
    other: Any = getattr(env, "unwrapped", None)
    model = getattr(other, "model", None)
    if not isinstance(model, mujoco.MjModel):
        raise ValueError(f"{env!r} is not a MuJoCo environment of Gymnasium's")
    sizes = ("nq", "nv", "nu", "na", "nbody", "ngeom", "nsite", "ntendon")
    mine, its = ([getattr(m, size) for size in sizes] for m in (batch.model, model))
    skip = getattr(getattr(other, "ant_env", getattr(other, "point_env", other)), "frame_skip", None)  # a maze's robot
    if mine != its or skip != batch.task.frame_skip or model.opt.timestep != batch.model.opt.timestep:
        raise ValueError(f"{env} has another model or frame_skip than this batch of {type(batch.task).__name__}")
    return other


def elapsed(env: gym.Env[Any, Any]) -> int:
    """The steps of an environment's episode so far, where its time limit counts them."""
    return getattr(_time_limit(env), "_elapsed_steps", 0) or 0


def set_elapsed(env: gym.Env[Any, Any], steps: int) -> None:
    """Have an environment's time limit, if it has one, count from ``steps``."""
    limit: Any = _time_limit(env)
    if limit is not None:
        limit._elapsed_steps = steps


def _time_limit(env: gym.Env[Any, Any]) -> gym.wrappers.TimeLimit[Any, Any] | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return env
        env = env.env
    return None
