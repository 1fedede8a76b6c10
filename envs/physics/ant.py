"""Ant: a body on four legs is to move along x without falling over.

Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (2015); as in
``gymnasium.envs.mujoco.ant_v5``, bit for bit.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .task import Array, ModelFacts, Outcome, Start, State, Task, uniform_noise


@dataclass
class Ant(Task):
    """Reward: x velocity + healthy - control cost - contact cost; the episode ends where the height is out of range."""

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    forward_reward_weight: float = 1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    reads: ClassVar[tuple[str, ...]] = ("cfrc_ext",)
    feet: ClassVar[tuple[str, ...]] = ("left_ankle_geom", "right_ankle_geom", "third_ankle_geom", "fourth_ankle_geom")
    needs: ClassVar[dict[str, int]] = {"nq": 3, "nv": 2, "nbody": 2}
    camera: ClassVar[dict[str, Any]] = {"distance": 4.0}

    def bind(self, model: ModelFacts) -> None:
        """Find the main body."""
        super().bind(model)
        if isinstance(self.main_body, bool) or not isinstance(self.main_body, str | int | np.integer):
            raise ValueError(f"main_body={self.main_body!r}: it is a body's name or its index")
        self._body = model.body(self.main_body) if isinstance(self.main_body, str) else int(self.main_body)
        if not 0 <= self._body < model.sizes["nbody"]:
            raise ValueError(f"main_body={self.main_body}: the model {model.name} has {model.sizes['nbody']} bodies")

    def _forces(self, now: State) -> Array:
        return self.xp.clip(now.cfrc_ext, *self.contact_force_range)

    def observe(self, now: State) -> Array:
        """Positions, velocities and clipped contact forces."""
        parts = [now.qpos[:, 2:] if self.exclude_current_positions_from_observation else now.qpos, now.qvel]
        if self.include_cfrc_ext_in_observation:
            parts.append(self._forces(now)[:, 1:])
        return self.xp.concat(parts)

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Velocity of the main body over the whole step."""
        velocity = (now.xpos[:, self._body, :2] - before.xpos[:, self._body, :2]) / self.dt
        low, high = self.healthy_z_range
        z = now.qpos[:, 2]
        healthy = self.xp.finite(now.qpos) & self.xp.finite(now.qvel) & (low <= z) & (z <= high)

        forward = velocity[:, 0] * self.forward_reward_weight
        survive = healthy * self.healthy_reward
        rewards = forward + survive
        ctrl_cost = self.ctrl_cost_weight * self.xp.sum_square(action)
        contact_cost = self.contact_cost_weight * self.xp.sum_square(self._forces(now))
        costs = ctrl_cost + contact_cost
        return Outcome(
            reward=rewards - costs,
            terminated=~healthy & bool(self.terminate_when_unhealthy),
            info={
                **self.start_info(now),
                "x_velocity": velocity[:, 0],
                "y_velocity": velocity[:, 1],
                "reward_forward": forward,
                "reward_ctrl": -ctrl_cost,
                "reward_contact": -contact_cost,
                "reward_survive": survive,
            },
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions, normal noise on velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale, normal_velocity=True)

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the ant is."""
        return {
            "x_position": now.qpos[:, 0],
            "y_position": now.qpos[:, 1],
            "distance_from_origin": self.xp.norm(now.qpos[:, :2]),
        }
