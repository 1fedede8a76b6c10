"""HalfCheetah, Hopper, Walker2d and Swimmer: bodies that move along x; and their sparse forms.

The dense ones are ``gymnasium.envs.mujoco.*_v5``, bit for bit: Wawrzynski, "A Cat-Like Robot Real-Time Learning to
Run" (2009); Erez, Tassa and Todorov, "Infinite-Horizon Model Predictive Control for Periodic Tasks with Contacts"
(2011); Coulom, "Reinforcement Learning Using Neural Networks, with Applications to Motor Control" (2002).

The sparse ones pay 1 for each step in which the body is past a distance from where the model stands, and nothing else.
HalfCheetah past 5 m is Houthooft et al., "VIME: Variational Information Maximizing Exploration" (2016), section 3.
HalfCheetah past 20 m, Hopper and Walker2d past 2 m are Rengarajan et al., "Reinforcement Learning with Sparse Rewards
using Guidance from Offline Demonstration" (LOGO, 2022).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .ops import NumpyOps
from .task import Array, ModelFacts, Outcome, Start, State, Task, uniform_noise


@dataclass
class HalfCheetah(Task):
    """Reward: x velocity - control cost; no end but the time limit."""

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    feet: ClassVar[tuple[str, ...]] = ("bfoot", "ffoot")
    needs: ClassVar[dict[str, int]] = {"nq": 2, "nv": 2}
    camera: ClassVar[dict[str, Any]] = {"distance": 4.0}

    def observe(self, now: State) -> Array:
        """Positions (x left out) and velocities."""
        return self.xp.concat([now.qpos[:, 1 * bool(self.exclude_current_positions_from_observation) :], now.qvel])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Velocity of the torso over the whole step."""
        velocity = (now.qpos[:, 0] - before.qpos[:, 0]) / self.dt
        forward = self.forward_reward_weight * velocity
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(action)
        return Outcome(
            reward=forward - ctrl_cost,
            terminated=self.xp.never(forward),
            info={
                "x_position": now.qpos[:, 0],
                "x_velocity": velocity,
                "reward_forward": forward,
                "reward_ctrl": -ctrl_cost,
            },
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions, normal noise on velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale, normal_velocity=True)

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the cheetah is."""
        return {"x_position": now.qpos[:, 0]}


@dataclass
class _Upright(Task):
    """What Hopper and Walker2d share: they are to move along x and not to fall."""

    xml_file: str = ""
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    needs: ClassVar[dict[str, int]] = {"nq": 3, "nv": 2}

    def _healthy(self, now: State) -> Array:
        raise NotImplementedError

    def observe(self, now: State) -> Array:
        """Positions (x left out) and velocities, these within -10..10."""
        qpos = now.qpos[:, 1 * bool(self.exclude_current_positions_from_observation) :]
        return self.xp.concat([qpos, self.xp.clip(now.qvel, -10, 10)])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Velocity of the torso over the whole step."""
        velocity = (now.qpos[:, 0] - before.qpos[:, 0]) / self.dt
        healthy = self._healthy(now)
        forward = self.forward_reward_weight * velocity
        survive = healthy * self.healthy_reward
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(action)
        return Outcome(
            reward=forward + survive - ctrl_cost,
            terminated=~healthy & bool(self.terminate_when_unhealthy),
            info={
                **self.start_info(now),
                "x_velocity": velocity,
                "reward_forward": forward,
                "reward_ctrl": -ctrl_cost,
                "reward_survive": survive,
            },
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions and velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale)

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the torso is."""
        return {
            "x_position": now.qpos[:, 0],
            "z_distance_from_origin": now.qpos[:, 1] - self.model.init_qpos[1],
        }


@dataclass
class Hopper(_Upright):
    """Reward: x velocity + healthy - control cost; ends where height, angle or any state leaves its range."""

    xml_file: str = "hopper.xml"
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, float("inf"))
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)

    feet: ClassVar[tuple[str, ...]] = ("foot_geom",)
    camera: ClassVar[dict[str, Any]] = {
        "trackbodyid": 2,
        "distance": 3.0,
        "lookat": (0.0, 0.0, 1.15),
        "elevation": -20.0,
    }

    def _healthy(self, now: State) -> Array:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        state = self.xp.concat([now.qpos[:, 2:], now.qvel])
        least, most = self.healthy_state_range
        (z_low, z_high), (low, high) = self.healthy_z_range, self.healthy_angle_range
        within = self.xp.all((least < state) & (state < most))
        return within & (z_low < z) & (z < z_high) & (low < angle) & (angle < high)


@dataclass
class Walker2d(_Upright):
    """Reward: x velocity + healthy - control cost; ends where height or angle leaves its range."""

    xml_file: str = "walker2d_v5.xml"
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)

    feet: ClassVar[tuple[str, ...]] = ("foot_geom", "foot_left_geom")
    camera: ClassVar[dict[str, Any]] = {
        "trackbodyid": 2,
        "distance": 4.0,
        "lookat": (0.0, 0.0, 1.15),
        "elevation": -20.0,
    }

    def _healthy(self, now: State) -> Array:
        z, angle = now.qpos[:, 1], now.qpos[:, 2]
        (z_low, z_high), (low, high) = self.healthy_z_range, self.healthy_angle_range
        return (z_low < z) & (z < z_high) & (low < angle) & (angle < high)


@dataclass
class Swimmer(Task):
    """Reward: x velocity - control cost; no end but the time limit."""

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    needs: ClassVar[dict[str, int]] = {"nq": 2, "nv": 2}

    def observe(self, now: State) -> Array:
        """Positions (x and y left out) and velocities."""
        return self.xp.concat([now.qpos[:, 2 * bool(self.exclude_current_positions_from_observation) :], now.qvel])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Velocity of the front tip over the whole step."""
        velocity = (now.qpos[:, :2] - before.qpos[:, :2]) / self.dt
        forward = self.forward_reward_weight * velocity[:, 0]
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(action)
        return Outcome(
            reward=forward - ctrl_cost,
            terminated=self.xp.never(forward),
            info={
                **self.start_info(now),
                "x_velocity": velocity[:, 0],
                "y_velocity": velocity[:, 1],
                "reward_forward": forward,
                "reward_ctrl": -ctrl_cost,
            },
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions and velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale)

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the swimmer is."""
        return {
            "x_position": now.qpos[:, 0],
            "y_position": now.qpos[:, 1],
            "distance_from_origin": self.xp.norm(now.qpos[:, :2]),
        }


class _Past:
    """The sparse form of a task above: mixed in before it."""

    distance: float  # m
    model: ModelFacts
    xp: ClassVar[type[NumpyOps]]

    def _past(self, now: State) -> Array:
        return now.qpos[:, 0] - self.model.init_qpos[0] > self.distance

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """1 past the distance, else 0; the dense components stay in ``info`` for whoever wants to compare."""
        dense: Outcome = super().outcome(before, action, now)  # type: ignore[misc]
        reward = self.xp.number(self._past(now))
        return Outcome(reward, dense.terminated, {**dense.info, "reward_sparse": reward, "reward_dense": dense.reward})

    def facts(self, now: State) -> dict[str, Array]:
        """``success``: past the distance; ``distance``: metres still to go, 0 once past."""
        left = self.distance - (now.qpos[:, 0] - self.model.init_qpos[0])
        return {"success": self._past(now), "distance": self.xp.clip(left, 0.0, np.inf)}


@dataclass
class SparseHalfCheetah(_Past, HalfCheetah):
    """Reward: 1 where the torso's x is past ``distance``, else 0 (VIME, 2016: 5; LOGO, 2022: 20)."""

    distance: float = 5.0


@dataclass
class SparseHopper(_Past, Hopper):
    """Reward: 1 where the torso's x is past ``distance``, else 0; ends as Hopper does (LOGO, 2022)."""

    distance: float = 2.0


@dataclass
class SparseWalker2d(_Past, Walker2d):
    """Reward: 1 where the torso's x is past ``distance``, else 0; ends as Walker2d does (LOGO, 2022)."""

    distance: float = 2.0
