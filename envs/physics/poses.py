"""Humanoid poses with a score that is known: to judge rewards that look at pictures.

Rocamonde et al., "Vision-Language Models are Zero-Shot Reward Models for Reinforcement Learning" (2024), train
Gymnasium's Humanoid to kneel, do the splits, raise its arms and stand on one leg from a sentence and a camera alone,
and let people judge. Here the state judges: ``facts["score"]`` is 0 to 1, the least of the terms of a pose. A term is
a ramp between two values of a length or an angle: ``a -> b`` is 0 at a, 1 at b, and linear between them.

- upright: the torso's own z axis against the vertical, cosine .5 -> .9;
- standing: upright; height of the pelvis .6 -> .8 m; height of the lower foot's middle .3 -> .12 m;
- kneel: upright; height of the higher knee .35 -> .15 m; height of the pelvis .2 -> .4 m;
- splits: upright; height of the pelvis .5 -> .2 m; angle between the thighs 60 -> 120 degrees; the more bent knee 70 ->
  35 degrees;
- arms raised: standing; height of the lower hand above the head's middle 0 -> .2 m;
- one leg: standing; one foot higher than the other .05 -> .2 m.

Reward, sparse: 1 where the score is at least 0.8 (``success``), else 0. Reward, dense: the score. Falling ends nothing.
The weights, the thresholds and the time limit are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .humanoid import Humanoid
from .task import Array, ModelFacts, Outcome, State

_SUCCESS = 0.8


@dataclass
class _Pose(Humanoid):
    """What the poses share: where the parts of the body are, and the reward."""

    terminate_when_unhealthy: bool = False
    reward_type: str = "sparse"

    settled: ClassVar[tuple[str, ...]] = (
        "terminate_when_unhealthy", "healthy_z_range", "healthy_reward", "forward_reward_weight", "ctrl_cost_weight",
        "contact_cost_weight", "contact_cost_range",
    )  # fmt: skip
    reads: ClassVar[tuple[str, ...]] = (*Humanoid.reads, "geom_xpos")
    camera: ClassVar[dict[str, Any]] = {"distance": 3.4, "lookat": (0.0, 0.0, 0.8), "azimuth": 155.0, "elevation": -8.0}

    def __post_init__(self) -> None:
        if self.reward_type not in ("sparse", "dense"):
            raise ValueError(f"reward_type={self.reward_type!r}: a pose's reward is 'sparse' or 'dense'")

    def bind(self, model: ModelFacts) -> None:
        """Find head, hands, feet, knees and thighs."""
        super().bind(model)
        self._head, self._pelvis = model.geom("head"), model.geom("butt")
        self._hands, self._feet, self._knees, self._thighs = (
            (find(f"left_{part}"), find(f"right_{part}"))
            for find, part in ((model.geom, "hand"), (model.geom, "foot"), (model.body, "shin"), (model.body, "thigh"))
        )

    def _ramp(self, x: Array, zero: float, one: float) -> Array:
        return self.xp.clip((x - zero) / (one - zero), 0.0, 1.0)

    def _upright(self, now: State) -> Array:
        x, y = now.qpos[:, 4], now.qpos[:, 5]  # of the torso's quaternion
        return self._ramp(1 - 2 * (x * x + y * y), 0.5, 0.9)

    def _low(self, heights: Sequence[Array]) -> Array:
        return self.xp.least(heights)

    def _high(self, heights: Sequence[Array]) -> Array:
        return -self.xp.least([-height for height in heights])

    def _foot_heights(self, now: State) -> list[Array]:
        return [now.geom_xpos[:, foot, 2] for foot in self._feet]

    def _pelvis_height(self, now: State) -> Array:
        return now.geom_xpos[:, self._pelvis, 2]

    def _standing(self, now: State) -> list[Array]:
        pelvis, foot = self._ramp(self._pelvis_height(now), 0.6, 0.8), self._low(self._foot_heights(now))
        return [self._upright(now), pelvis, self._ramp(foot, 0.3, 0.12)]

    def _terms(self, now: State) -> list[Array]:
        raise NotImplementedError

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """The pose, whatever was done to get there."""
        facts = self.facts(now)
        reward = self.xp.number(facts["success"]) if self.reward_type == "sparse" else facts["score"]
        return Outcome(reward, self.xp.never(reward), {**self.start_info(now), "score": facts["score"]})

    def facts(self, now: State) -> dict[str, Array]:
        """``score``: the least of the pose's terms, 0 to 1; ``success``: at least 0.8."""
        score = self._low(self._terms(now))
        return {"score": score, "success": score >= _SUCCESS}


@dataclass
class HumanoidKneel(_Pose):
    """On both knees, upright."""

    def _terms(self, now: State) -> list[Array]:
        knee = self._high([now.xpos[:, knee, 2] for knee in self._knees])
        return [self._upright(now), self._ramp(knee, 0.35, 0.15), self._ramp(self._pelvis_height(now), 0.2, 0.4)]


@dataclass
class HumanoidSplits(_Pose):
    """On the floor, legs straight and apart, upright."""

    def bind(self, model: ModelFacts) -> None:
        """Find the knees' joints."""
        super().bind(model)
        self._knee_angles = [model.joint(f"{side}_knee") for side in ("left", "right")]

    def _terms(self, now: State) -> list[Array]:
        left, right = (now.xpos[:, knee] - now.xpos[:, thigh] for knee, thigh in zip(self._knees, self._thighs))
        cosine = (left * right).sum(1) / (self.xp.norm(left) * self.xp.norm(right))
        angle = self.xp.arccos(self.xp.clip(cosine, -1.0, 1.0))
        bent = self._high([-now.qpos[:, knee] for knee in self._knee_angles])
        return [
            self._upright(now),
            self._ramp(self._pelvis_height(now), 0.5, 0.2),
            self._ramp(angle, np.pi / 3, 2 * np.pi / 3),
            self._ramp(bent, 70 * np.pi / 180, 35 * np.pi / 180),
        ]


@dataclass
class HumanoidArmsRaised(_Pose):
    """Standing, both hands above the head."""

    def _terms(self, now: State) -> list[Array]:
        hand = self._low([now.geom_xpos[:, hand, 2] for hand in self._hands])
        return [*self._standing(now), self._ramp(hand - now.geom_xpos[:, self._head, 2], 0.0, 0.2)]


@dataclass
class HumanoidOneLeg(_Pose):
    """Standing on one leg."""

    def _terms(self, now: State) -> list[Array]:
        feet = self._foot_heights(now)
        return [*self._standing(now), self._ramp(self._high(feet) - self._low(feet), 0.05, 0.2)]
