"""Noise on continuous actions, for all environments at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common import noise as sb3
from torch import Tensor


def noise_settings(given: Any) -> dict[str, Any] | None:
    """What a noise is made from, as plain values that a file can hold.

    Args:
        given: None, a number (the deviation of Gaussian noise on actions scaled to [-1, 1]), Stable-Baselines3's
            ``NormalActionNoise`` or ``OrnsteinUhlenbeckActionNoise`` (alone or vectorised), or what this returned.

    Raises:
        TypeError: Anything else.
    """
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        return {"kind": "normal", "mean": [0.0], "sigma": [float(given)]}
    if isinstance(given, sb3.VectorizedActionNoise):
        given = given.base_noise
    if type(given) is sb3.NormalActionNoise:
        return {"kind": "normal", "mean": _plain(given._mu), "sigma": _plain(given._sigma)}
    if type(given) is sb3.OrnsteinUhlenbeckActionNoise:
        first = given.initial_noise
        return {
            "kind": "ou", "mean": _plain(given._mu), "sigma": _plain(given._sigma), "theta": float(given._theta),
            "dt": float(given._dt), "first": None if first is None else _plain(first),
        }  # fmt: skip
    if isinstance(given, Mapping) and given.get("kind") in ("normal", "ou"):
        return dict(given)
    raise TypeError(
        f"action_noise={given!r}: give a number, or Stable-Baselines3's NormalActionNoise or "
        "OrnsteinUhlenbeckActionNoise; they are drawn for all environments at once, which another class cannot be"
    )


class Noise:
    """Draws ``[N, D]`` in units of scaled actions.

    An Ornstein-Uhlenbeck process moves by ``theta (mean - x) dt + sigma sqrt(dt) N(0, 1)`` (Uhlenbeck and Ornstein, "On
    the theory of the Brownian motion", 1930; Lillicrap et al., "Continuous control with deep reinforcement learning",
    2016, section 3) and begins anew with every episode.

    Args:
        settings: From :func:`noise_settings`.
        lanes: N.
        width: D.
        device: Where.

    Raises:
        ValueError: Mean or deviation is neither one number nor D of them.
    """

    def __init__(self, settings: Mapping[str, Any], lanes: int, width: int, device: torch.device) -> None:
        def row(name: str) -> Tensor:
            value = torch.tensor(settings[name], dtype=torch.float32, device=device).flatten()
            if value.numel() not in (1, width):
                raise ValueError(f"action_noise: {name} has {value.numel()} numbers, and an action has {width}")
            return value.expand(width)

        self.mean, self.sigma, self.device = row("mean"), row("sigma"), device
        self.walks = settings["kind"] == "ou"
        self.lanes, self.width = lanes, width
        self.theta, self.dt = (float(settings[name]) if self.walks else 0.0 for name in ("theta", "dt"))
        first = row("first") if self.walks and settings["first"] is not None else torch.zeros(width, device=device)
        self.first = first
        self.at = first.expand(lanes, width).clone()

    def __call__(self) -> Tensor:
        """The next ``[N, D]``."""
        drawn = torch.randn(self.lanes, self.width, device=self.device)
        if not self.walks:
            return self.mean + self.sigma * drawn
        # In place: what was made in inference mode could not be written to at an episode's end.
        moved = self.at + self.theta * (self.mean - self.at) * self.dt + self.sigma * self.dt**0.5 * drawn
        return self.at.copy_(moved).clone()

    def reset(self, lanes: Tensor) -> None:
        """Begin anew in ``lanes``, int64 ``[E]``."""
        if self.walks:
            self.at[lanes] = self.first


def _plain(value: Any) -> list[float]:
    return [float(v) for v in np.asarray(value, dtype=np.float64).ravel()]
