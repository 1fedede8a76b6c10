"""Humanoid: walk forward; HumanoidStandup: get up from the floor.

Tassa, Erez and Todorov, "Synthesis and stabilization of complex behaviors through online trajectory optimization"
(2012); as in ``gymnasium.envs.mujoco.humanoid_v5`` and ``humanoidstandup_v5``, bit for bit.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .task import Array, Outcome, Start, State, Task, uniform_noise

_CAMERA: dict[str, Any] = {"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 2.0), "elevation": -20.0}
_READS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ctrl", "ten_length", "ten_velocity")


@dataclass
class _Humanoid(Task):
    """What the two tasks share: the observation and the start."""

    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    reads: ClassVar[tuple[str, ...]] = _READS
    feet: ClassVar[tuple[str, ...]] = ("right_foot", "left_foot")
    needs: ClassVar[dict[str, int]] = {"nq": 7, "nv": 6, "nbody": 2}
    camera: ClassVar[dict[str, Any]] = _CAMERA

    def observe(self, now: State) -> Array:
        """Positions, velocities, and per body inertias, velocities and contact forces, per joint actuator forces."""
        parts = [now.qpos[:, 2:] if self.exclude_current_positions_from_observation else now.qpos, now.qvel]
        if self.include_cinert_in_observation:
            parts.append(now.cinert[:, 1:])
        if self.include_cvel_in_observation:
            parts.append(now.cvel[:, 1:])
        if self.include_qfrc_actuator_in_observation:
            parts.append(now.qfrc_actuator[:, 6:])
        if self.include_cfrc_ext_in_observation:
            parts.append(now.cfrc_ext[:, 1:])
        return self.xp.concat(parts)

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions and velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale)


@dataclass
class Humanoid(_Humanoid):
    """Reward: x velocity of the centre of mass + healthy - control cost - contact cost; ends where it falls."""

    xml_file: str = "humanoid.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-np.inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    reads: ClassVar[tuple[str, ...]] = (*_READS, "xipos")

    def _mass_center(self, state: State) -> Array:
        mass = self.model.body_mass
        return (self.xp.weighted_sum(mass, state.xipos) / mass.sum())[:, :2]

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Velocity of the centre of mass over the whole step."""
        velocity = (self._mass_center(now) - self._mass_center(before)) / self.dt
        low, high = self.healthy_z_range
        healthy = (low < now.qpos[:, 2]) & (now.qpos[:, 2] < high)

        forward = self.forward_reward_weight * velocity[:, 0]
        survive = healthy * self.healthy_reward
        rewards = forward + survive
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(now.ctrl)
        contact_cost = self.xp.clip(
            self.contact_cost_weight * self.xp.sum_square(now.cfrc_ext), *self.contact_cost_range
        )
        costs = ctrl_cost + contact_cost
        return Outcome(
            reward=rewards - costs,
            terminated=~healthy & bool(self.terminate_when_unhealthy),
            info={
                **self.start_info(now),
                "x_velocity": velocity[:, 0],
                "y_velocity": velocity[:, 1],
                "reward_survive": survive,
                "reward_forward": forward,
                "reward_ctrl": -ctrl_cost,
                "reward_contact": -contact_cost,
            },
        )

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the humanoid is, and its tendons."""
        return {
            "x_position": now.qpos[:, 0],
            "y_position": now.qpos[:, 1],
            "tendon_length": now.ten_length,
            "tendon_velocity": now.ten_velocity,
            "distance_from_origin": self.xp.norm(now.qpos[:, :2]),
        }


@dataclass
class HumanoidStandup(_Humanoid):
    """Reward: height over the substep's seconds - control cost - impact cost + 1; no end but the time limit."""

    xml_file: str = "humanoidstandup.xml"
    frame_skip: int = 5
    uph_cost_weight: float = 1  # upstream takes it and does not use it
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-np.inf, 10.0)

    camera: ClassVar[dict[str, Any]] = {**_CAMERA, "lookat": (0.0, 0.0, 0.8925)}

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Height, whatever was done to reach it."""
        up = (now.qpos[:, 2] - 0) / self.model.timestep
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(now.ctrl)
        impact_cost = self.xp.clip(self.impact_cost_weight * self.xp.sum_square(now.cfrc_ext), *self.impact_cost_range)
        return Outcome(
            reward=up - ctrl_cost - impact_cost + 1,
            terminated=self.xp.never(now.qpos),
            info={
                **self.start_info(now),
                "reward_linup": up,
                "reward_quadctrl": -ctrl_cost,
                "reward_impact": -impact_cost,
            },
        )

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the humanoid is, and its tendons."""
        return {
            "x_position": now.qpos[:, 0],
            "y_position": now.qpos[:, 1],
            "z_distance_from_origin": now.qpos[:, 2] - self.model.init_qpos[2],
            "tendon_length": now.ten_length,
            "tendon_velocity": now.ten_velocity,
        }
