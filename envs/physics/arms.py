"""Reacher and Pusher: arms with a goal; and Reacher with a sparse goal.

The dense ones are ``gymnasium.envs.mujoco.reacher_v5`` and ``pusher_v5``, bit for bit. The sparse one has the reward
of the reacher of Tassa et al., "DeepMind Control Suite" (2018), section 4: 1 within the radius, else 0; the radii
there are 0.05 m (easy) and 0.015 m (hard), to which that of the finger, 0.01 m, is added.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .task import Array, ModelFacts, Outcome, Start, State, Task


@dataclass
class Reacher(Task):
    """Reward: -(distance of fingertip and target) - control cost; no end but the time limit of 50 steps."""

    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    reward_dist_weight: float = 1
    reward_control_weight: float = 1

    needs: ClassVar[dict[str, int]] = {"nq": 4, "nv": 4}
    camera: ClassVar[dict[str, Any]] = {"trackbodyid": 0}
    radius: ClassVar[float] = 0.02  # m, for ``success``: fingertip and target (spheres of 0.01 and 0.009 m) touch

    def bind(self, model: ModelFacts) -> None:
        """Find fingertip and target."""
        super().bind(model)
        if model.sizes["nq"] != 4:
            raise ValueError(f"the model {model.name} has nq={model.sizes['nq']}, and Reacher's observation needs 4")
        self._tip, self._target = model.body("fingertip"), model.body("target")

    def _offset(self, now: State) -> Array:
        return now.xpos[:, self._tip] - now.xpos[:, self._target]

    def observe(self, now: State) -> Array:
        """Cosines and sines of the joints, the target's position, joint velocities, fingertip minus target."""
        theta = now.qpos[:, :2]
        return self.xp.concat(
            [self.xp.cos(theta), self.xp.sin(theta), now.qpos[:, 2:], now.qvel[:, :2], self._offset(now)[:, :2]]
        )

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Distance and control cost."""
        dist = -self.xp.norm(self._offset(now)) * self.reward_dist_weight
        ctrl = -self.xp.sum_square(action) * self.reward_control_weight
        return Outcome(dist + ctrl, self.xp.never(dist), {"reward_dist": dist, "reward_ctrl": ctrl})

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform joints, and a target anywhere within 0.2 m of the root."""
        model = self.model
        qpos = rng.uniform(low=-0.1, high=0.1, size=model.sizes["nq"]) + model.init_qpos
        norm = self.xp.norm
        qpos[..., -2:] = self.xp.redraw(
            rng, lambda rng: rng.uniform(low=-0.2, high=0.2, size=2), lambda goal: norm(goal) < 0.2
        )
        qvel = model.init_qvel + rng.uniform(low=-0.005, high=0.005, size=model.sizes["nv"])
        qvel[..., -2:] = 0
        return qpos, qvel

    def facts(self, now: State) -> dict[str, Array]:
        """``distance`` of fingertip and target, m; ``success``: within ``radius``."""
        distance = self.xp.norm(self._offset(now))
        return {"distance": distance, "success": distance < self.radius}


@dataclass
class SparseReacher(Reacher):
    """Reward: 1 where the fingertip is within ``goal_radius`` of the target, else 0 (DeepMind Control Suite, 2018)."""

    goal_radius: float = 0.025  # m: the hard target and the finger

    def bind(self, model: ModelFacts) -> None:
        """Take the radius."""
        super().bind(model)
        self.radius = self.goal_radius  # type: ignore[misc]

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """1 at the target; the dense components stay in ``info`` for whoever wants to compare."""
        dense = super().outcome(before, action, now)
        reward = self.xp.number(self.facts(now)["success"])
        return Outcome(reward, dense.terminated, {**dense.info, "reward_sparse": reward, "reward_dense": dense.reward})


@dataclass
class Pusher(Task):
    """Reward: -(distance of object and goal) - (of hand and object) - control cost; time limit of 100 steps."""

    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1
    reward_control_weight: float = 0.1

    needs: ClassVar[dict[str, int]] = {"nq": 11, "nv": 11}
    camera: ClassVar[dict[str, Any]] = {"trackbodyid": -1, "distance": 4.0}
    radius: ClassVar[float] = 0.08  # m, for ``success``: the centre of the object lies on the goal's disc

    def bind(self, model: ModelFacts) -> None:
        """Find hand, object and goal."""
        super().bind(model)
        self._hand, self._object, self._goal = (model.body(name) for name in ("tips_arm", "object", "goal"))

    def observe(self, now: State) -> Array:
        """Joint positions and velocities; hand, object and goal."""
        return self.xp.concat(
            [
                now.qpos[:, :7],
                now.qvel[:, :7],
                now.xpos[:, self._hand],
                now.xpos[:, self._object],
                now.xpos[:, self._goal],
            ]
        )

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Distances and control cost."""
        to_hand = now.xpos[:, self._object] - now.xpos[:, self._hand]
        to_goal = now.xpos[:, self._object] - now.xpos[:, self._goal]
        near = -self.xp.norm(to_hand) * self.reward_near_weight
        dist = -self.xp.norm(to_goal) * self.reward_dist_weight
        ctrl = -self.xp.sum_square(action) * self.reward_control_weight
        return Outcome(
            dist + ctrl + near, self.xp.never(dist), {"reward_dist": dist, "reward_ctrl": ctrl, "reward_near": near}
        )

    def start(self, rng: np.random.Generator) -> Start:
        """The object anywhere on its half of the table, not closer than 0.17 m to the goal."""
        model = self.model
        cylinder = self.xp.redraw(
            rng,
            lambda rng: self.xp.join([rng.uniform(low=-0.3, high=0, size=1), rng.uniform(low=-0.2, high=0.2, size=1)]),
            lambda place: self.xp.norm(place) > 0.17,
        )
        qvel = model.init_qvel + rng.uniform(low=-0.005, high=0.005, size=model.sizes["nv"])
        qvel[..., -4:] = 0
        qpos = self.xp.zeros(qvel) + model.init_qpos
        qpos[..., -4:-2] = cylinder
        qpos[..., -2:] = 0
        return qpos, qvel

    def facts(self, now: State) -> dict[str, Array]:
        """``distance`` of object and goal in the plane of the table, m; ``success``: within ``radius``."""
        distance = self.xp.norm((now.xpos[:, self._object] - now.xpos[:, self._goal])[:, :2])
        return {"distance": distance, "success": distance < self.radius}
