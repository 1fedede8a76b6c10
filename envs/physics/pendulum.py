"""InvertedPendulum and InvertedDoublePendulum; sparse CartPole swing-up and Acrobot.

The first two are ``gymnasium.envs.mujoco.inverted_*_v5``, bit for bit: Barto, Sutton and Anderson, "Neuronlike adaptive
elements that can solve difficult learning control problems" (1983).

The sparse ones have masses, lengths, gears, starts and rewards of ``cartpole swingup_sparse`` and
``acrobot swingup_sparse`` of Tassa et al., "DeepMind Control Suite" (2018), section 4; the acrobot is Coulom's (2002).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .task import Array, ModelFacts, Outcome, Start, State, Task, uniform_noise


@dataclass
class InvertedPendulum(Task):
    """Reward: 1 while the pole leans by at most 0.2 rad; ends where it leans more."""

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    reset_noise_scale: float = 0.01

    needs: ClassVar[dict[str, int]] = {"nq": 2, "nv": 2}
    camera: ClassVar[dict[str, Any]] = {"trackbodyid": 0, "distance": 2.04}

    def bind(self, model: ModelFacts) -> None:
        """Check the size."""
        super().bind(model)
        if model.sizes["nq"] + model.sizes["nv"] != 4:
            raise ValueError(f"the model {model.name} has nq + nv other than 4: it is not a cart with one pole")

    def observe(self, now: State) -> Array:
        """Positions and velocities of cart and pole."""
        return self.xp.concat([now.qpos, now.qvel])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """1 for being upright."""
        angle = now.qpos[:, 1]
        leans = (angle > 0.2) | (angle < -0.2)
        fallen = leans | ~(self.xp.finite(now.qpos) & self.xp.finite(now.qvel))
        reward = self.xp.number(~fallen)
        return Outcome(reward, fallen, {"reward_survive": reward})

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions and velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale)


@dataclass
class InvertedDoublePendulum(Task):
    """Reward: 10 - distance penalty - velocity penalty; ends where the tip is at 1 m or lower."""

    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1

    reads: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")
    needs: ClassVar[dict[str, int]] = {"nq": 3, "nv": 3, "nsite": 1}
    camera: ClassVar[dict[str, Any]] = {"trackbodyid": 0, "distance": 4.1225, "lookat": (0.0, 0.0, 0.1225)}

    def bind(self, model: ModelFacts) -> None:
        """Check the size."""
        super().bind(model)
        if (model.sizes["nq"], model.sizes["nv"]) != (3, 3):
            raise ValueError(f"the model {model.name} has nq or nv other than 3: it is not a cart with two poles")

    def observe(self, now: State) -> Array:
        """The cart's position, sines and cosines of the angles, velocities and the cart's constraint force."""
        return self.xp.concat(
            [
                now.qpos[:, :1],
                self.xp.sin(now.qpos[:, 1:]),
                self.xp.cos(now.qpos[:, 1:]),
                self.xp.clip(now.qvel, -10, 10),
                self.xp.clip(now.qfrc_constraint[:, :1], -10, 10),
            ]
        )

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Where the tip is, and how fast the poles turn."""
        x, y = now.site_xpos[:, 0, 0], now.site_xpos[:, 0, 2]
        power = self.xp.square_power
        fallen = y <= 1
        dist_penalty = 0.01 * power(x) + power(y - 2)
        vel_penalty = 1e-3 * power(now.qvel[:, 1]) + 5e-3 * power(now.qvel[:, 2])
        alive = self.healthy_reward * self.xp.number(~fallen)
        return Outcome(
            alive - dist_penalty - vel_penalty,
            fallen,
            {"reward_survive": alive, "distance_penalty": -dist_penalty, "velocity_penalty": -vel_penalty},
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions, normal noise on velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale, normal_velocity=True)


_CARTPOLE = """
<mujoco model="cartpole swing-up">
  <option timestep="0.01" integrator="RK4"><flag contact="disable"/></option>
  <worldbody>
    <light pos="0 0 6"/>
    <geom name="floor" type="plane" pos="0 0 -.05" size="4 4 .2" rgba=".3 .4 .5 1"/>
    <geom name="rail" type="capsule" fromto="-2 .07 1 2 .07 1" size=".02" rgba=".4 .4 .4 1"/>
    <body name="cart" pos="0 0 1">
      <joint name="slider" type="slide" axis="1 0 0" range="-1.8 1.8" solreflimit=".08 1" damping="5e-4"/>
      <geom name="cart" type="box" size=".2 .15 .1" mass="1" rgba=".7 .5 .3 1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" damping="2e-6"/>
        <geom name="pole" type="capsule" fromto="0 0 0 0 0 1" size=".045" mass=".1" rgba=".7 .5 .3 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="10" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>"""

_ACROBOT = """
<mujoco model="acrobot">
  <option timestep="0.01" integrator="RK4"><flag constraint="disable"/></option>
  <default><joint damping=".05"/><geom type="capsule" mass="1" rgba=".7 .5 .3 1"/></default>
  <worldbody>
    <light pos="0 0 6"/>
    <geom name="floor" type="plane" size="3 3 .2" rgba=".3 .4 .5 1"/>
    <site name="target" type="sphere" pos="0 0 4" size=".2" rgba=".6 .3 .3 .5"/>
    <body name="upper_arm" pos="0 0 2">
      <joint name="shoulder" type="hinge" axis="0 1 0"/>
      <geom name="upper_arm" fromto="0 0 0 0 0 1" size=".05"/>
      <body name="lower_arm" pos="0 0 1">
        <joint name="elbow" type="hinge" axis="0 1 0"/>
        <geom name="lower_arm" fromto="0 0 0 0 0 1" size=".049"/>
        <site name="tip" pos="0 0 1" size=".01"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="elbow" gear="2" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>"""


@dataclass
class SparseCartPoleSwingUp(Task):
    """Reward: 1 where the cart is within 0.25 m of the middle and cos(pole) is above 0.995, else 0."""

    xml_file: str = ""
    frame_skip: int = 1
    cart_range: float = 0.25  # m
    least_cosine: float = 0.995

    xml: ClassVar[str | None] = _CARTPOLE
    needs: ClassVar[dict[str, int]] = {"nq": 2, "nv": 2}
    camera: ClassVar[dict[str, Any]] = {"distance": 4.0, "lookat": (0.0, 0.0, 1.0), "azimuth": 90.0, "elevation": -10.0}

    def observe(self, now: State) -> Array:
        """The cart's position, cosine and sine of the pole, and both velocities."""
        angle = now.qpos[:, 1:]
        return self.xp.concat([now.qpos[:, :1], self.xp.cos(angle), self.xp.sin(angle), now.qvel])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """1 for being balanced in the middle."""
        reward = self.xp.number(self.facts(now)["success"])
        return Outcome(reward, self.xp.never(reward), {"reward_sparse": reward})

    def start(self, rng: np.random.Generator) -> Start:
        """The pole hangs, with noise of 0.01 on all."""
        noise = 0.01 * rng.standard_normal(2)
        return self.xp.constant((0.0, np.pi), noise) + noise, 0.01 * rng.standard_normal(2)

    def facts(self, now: State) -> dict[str, Array]:
        """``success``: balanced in the middle; ``distance``: of cos(pole) from 1."""
        x, cosine = now.qpos[:, 0], self.xp.cos(now.qpos[:, 1])
        middle = (-self.cart_range <= x) & (x <= self.cart_range)
        return {"success": middle & (cosine >= self.least_cosine), "distance": 1 - cosine}


@dataclass
class SparseAcrobot(Task):
    """Reward: 1 where the tip is within 0.2 m of its highest point, else 0."""

    xml_file: str = ""
    frame_skip: int = 1
    radius: float = 0.2  # m

    xml: ClassVar[str | None] = _ACROBOT
    needs: ClassVar[dict[str, int]] = {"nq": 2, "nv": 2}
    camera: ClassVar[dict[str, Any]] = {"distance": 6.0, "lookat": (0.0, 0.0, 2.0), "azimuth": 90.0, "elevation": -10.0}

    def observe(self, now: State) -> Array:
        """Horizontal and vertical parts of the two arms' directions, and both velocities."""
        angles = self._angles(now)
        return self.xp.concat([self.xp.sin(angles), self.xp.cos(angles), now.qvel])

    def _angles(self, now: State) -> Array:
        """Angles of the two arms from the vertical: ``[N, 2]``."""
        shoulder, elbow = now.qpos[:, :1], now.qpos[:, 1:]
        return self.xp.concat([shoulder, shoulder + elbow])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """1 at the top."""
        reward = self.xp.number(self.facts(now)["success"])
        return Outcome(reward, self.xp.never(reward), {"reward_sparse": reward})

    def start(self, rng: np.random.Generator) -> Start:
        """Both angles anywhere, at rest."""
        angles = rng.uniform(-np.pi, np.pi, 2)
        return angles, self.xp.zeros(angles)

    def facts(self, now: State) -> dict[str, Array]:
        """``distance`` of tip and target, m; ``success``: within ``radius``."""
        angles = self._angles(now)  # both arms are 1 m long; MuJoCo's own site positions are a substep old
        across, up = self.xp.sin(angles).sum(1), self.xp.cos(angles).sum(1)
        distance = self.xp.norm(self.xp.concat([across, 2 - up]))
        return {"distance": distance, "success": distance <= self.radius}
