"""Randomised dynamics: each episode has its own mass, friction and gravity.

Peng et al., "Sim-to-Real Transfer of Robotic Control with Dynamics Randomization" (2018).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DynamicsRanges:
    """Ranges of factors, drawn uniformly and independently for each episode.

    Attributes:
        mass: Of all masses and inertias.
        friction: Of the sliding friction of all geoms.
        gravity: Of gravity.

    Raises:
        ValueError: A range is not a pair of numbers, the first at most the second, or allows what makes no sense: a
            mass of 0, or negative friction.
    """

    mass: tuple[float, float] = (1.0, 1.0)
    friction: tuple[float, float] = (1.0, 1.0)
    gravity: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            pair = getattr(self, field.name)
            try:
                low, high = (float(number) for number in pair)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{field.name}={pair!r}: a range is a pair of numbers") from error
            least = {"mass": 1e-3, "friction": 0.0, "gravity": -np.inf}[field.name]
            if not (np.isfinite([low, high]).all() and least <= low <= high):
                raise ValueError(f"{field.name}={pair!r}: a range is (low, high) with {least} <= low <= high")
            object.__setattr__(self, field.name, (low, high))

    @classmethod
    def of(cls, value: "DynamicsRanges | Mapping[str, Any]") -> "DynamicsRanges":
        """Take ranges as they are, or build them from a mapping (a config file's)."""
        if isinstance(value, DynamicsRanges):
            return value
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) - names:
            raise ValueError(f"dynamics={value!r}: it is a DynamicsRanges, or a mapping with some of {sorted(names)}")
        return cls(**value)

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """One episode's factors of mass, friction and gravity: ``[3]``."""
        low, high = np.array([self.mass, self.friction, self.gravity]).T
        factors: NDArray[np.float64] = rng.uniform(low, high)
        return factors


def copies(model: Any, count: int) -> list[Any]:
    """Models of their own for each environment."""
    return [copy.copy(model) for _ in range(count)]


def apply(model: Any, base: Any, factors: NDArray[np.float64]) -> None:
    """Make ``model`` the model ``base`` with ``factors [3]`` of mass, friction and gravity."""
    mass, friction, gravity = factors.tolist()
    model.body_mass[:] = base.body_mass * mass
    model.body_inertia[:] = base.body_inertia * mass
    model.geom_friction[:] = base.geom_friction
    model.geom_friction[:, 0] *= friction
    model.opt.gravity[:] = base.opt.gravity * gravity
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses
