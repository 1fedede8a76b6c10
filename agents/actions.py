"""How a network's actions and an environment's are related: scaled to [-1, 1], or counted from 0."""

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.spaces import torch_dtype


class ActionForm:
    """The two forms of an action: as networks and replay buffers have it, ``[*, D]``, and as it is executed.

    Continuous actions are flat float32 in [-1, 1], scaled to the bounds when executed (as in Stable-Baselines3);
    discrete ones are int64 ``[*, 1]`` counted from 0.

    Args:
        space: Box with finite bounds, or Discrete.
        device: Where the tensors are.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device) -> None:
        self.space, self.device = space, device
        self.shape: tuple[int, ...] = space.shape or ()
        self.choices: int | None = None
        if isinstance(space, spaces.Discrete):
            self.width, self.dtype, self.choices, self.start = 1, torch.int64, int(space.n), int(space.start)
        else:
            assert isinstance(space, spaces.Box)
            self.width, self.dtype = int(torch.Size(self.shape).numel()), torch.float32
            self.low, self.high = (torch.as_tensor(bound, device=device) for bound in (space.low, space.high))

    def executed(self, action: Tensor) -> Tensor:
        """Turn ``[*, D]`` into what the environment is given, ``[*, *shape]``."""
        action = action.reshape(*action.shape[:-1], *self.shape)
        if self.choices is not None:
            return action + self.start
        wide = self.low + 0.5 * (action + 1.0) * (self.high - self.low)
        # Rounding may lead out of the bounds by a hair, and environments refuse that.
        return torch.minimum(torch.maximum(wide, self.low), self.high).to(torch_dtype(self.space))

    def random(self, rows: int) -> Tensor:
        """Uniform actions ``[rows, D]``."""
        if self.choices is not None:
            return torch.randint(self.choices, (rows, 1), device=self.device)
        return torch.rand(rows, self.width, device=self.device) * 2 - 1
