"""Scripted controllers of classic tasks, as batched actors: demonstrations without training."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def _cartpole(obs: Tensor) -> Tensor:
    """Push towards where the pole falls and the cart drifts: 500 steps from any start."""
    x, speed, angle, spin = obs.unbind(-1)
    return (0.05 * x + 0.15 * speed + angle + 0.3 * spin > 0).long()


def _mountain_car(obs: Tensor) -> Tensor:
    """Push the way it moves, which adds energy in every step."""
    return torch.where(obs[:, 1] >= 0, 2, 0)


def _mountain_car_continuous(obs: Tensor) -> Tensor:
    return torch.where(obs[:, 1:] >= 0, 1.0, -1.0)


def _acrobot(obs: Tensor) -> Tensor:
    """Torque along the first link's spin, which adds energy."""
    return torch.where(obs[:, 4] >= 0, 0, 2)


def _pendulum(obs: Tensor) -> Tensor:
    """Swing up by energy, then hold by a linear controller (m = l = 1, g = 10, torque within 2)."""
    cos, sin, spin = obs.unbind(-1)
    angle = torch.atan2(sin, cos)
    energy = spin.square() / 6 + 5 * (cos - 1)
    swing = torch.where(spin == 0, 2.0, -2.0 * torch.sign(spin) * torch.sign(energy))
    hold = -10 * angle - 3 * spin
    return torch.where((angle.abs() < 0.5) & (energy.abs() < 2), hold, swing).clamp(-2, 2)[:, None]


def _lunar_lander(obs: Tensor) -> Tensor:
    """Lean against the drift, sink by height and distance: proportional, with the gains of Gymnasium's own module."""
    x, y, vx, vy, angle, spin, left, right = obs.unbind(-1)
    down = (left + right) > 0
    lean = (0.5 * x + vx).clamp(-0.4, 0.4)
    turn = torch.where(down, 0.0, 0.5 * (lean - angle) - spin)
    rise = torch.where(down, -0.5 * vy, 0.5 * (0.55 * x.abs() - y) - 0.5 * vy)
    sideways = torch.where(turn < -0.05, 3, torch.where(turn > 0.05, 1, 0))
    return torch.where((rise > turn.abs()) & (rise > 0.05), 2, sideways)


CONTROLLERS: dict[str, Callable[[Tensor], Tensor]] = {
    "CartPole-v1": _cartpole,
    "MountainCar-v0": _mountain_car,
    "MountainCarContinuous-v0": _mountain_car_continuous,
    "Acrobot-v1": _acrobot,
    "Pendulum-v1": _pendulum,
    "LunarLander-v3": _lunar_lander,
}
"""Observations ``[N, ...]`` to actions ``[N, ...]``, by the environment's id."""


def scripted(env: str) -> Callable[[Any, Mapping[str, Any]], Tensor]:
    """The controller of an id as an actor for ``collect``.

    Raises:
        ValueError: There is none for it.
    """
    name = env.removeprefix("cairn/")
    if name not in CONTROLLERS:
        raise ValueError(f"there is no scripted controller of {env}; there are those of {', '.join(CONTROLLERS)}")
    controller = CONTROLLERS[name]
    return lambda obs, info: controller(obs)
