"""The redundant arm: 20 joints in a square with four walls, and three areas that pay."""

from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .base import AreaBatch
from .pictures import GREY, Shapes

JOINTS, LENGTH = 20, 1.0
LINK = LENGTH / JOINTS
BASE = 0.5  # both x and y
AREAS = ((0.25, 0.25, 0.05), (0.85, 0.85, 0.05), (0.25, 0.9, 0.05))
# x, y, width, height: a cross whose middle is left out.
WALLS = ((0.49, 0.0, 0.02, 0.2), (0.49, 0.8, 0.02, 0.2), (0.0, 0.49, 0.2, 0.02), (0.8, 0.49, 0.2, 0.02))
TICK, TICKS = 0.01, 2  # seconds of a tick, ticks of a step
TOUCH = 0.95 * LINK  # two joints closer than this, in x plus y, touch
STEPS = 100
SMALL = 512  # lanes; up to there all pairs of joints at once are faster than diagonal by diagonal


class ArmBatch(AreaBatch):
    """N arms of 20 links that push their joints.

    Actions float32 ``[20]`` in -1 to 1 are the joints' accelerations, rad/s^2, for two ticks of 0.01 s. The episode
    terminates when a joint would leave the unit square or enter a wall, or when two joints touch; the arm then stays
    where it was. Observations are the joints' angles over pi, float32 ``[20]``, cut to -1 to 1; the outcome is where
    the hand is. Episodes last 100 steps at most. The arm starts as a spiral.

    Source: the redundant arm of Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021),
    after P. Loviken's; its limit on the hand's speed, which accelerations of this size do not reach, is left out.

    Args:
        num_envs: N.
        kwargs: As for ``AreaBatch``: ``device``, ``max_episode_steps``, ``render_mode``, ``pixels``.
    """

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        box = spaces.Box(-1.0, 1.0, (JOINTS,), np.float32)
        super().__init__(num_envs, box, box, steps=STEPS, bounds=((0, 0), (1, 1)), areas=AREAS, **kwargs)
        self._spiral = torch.from_numpy(np.linspace(4 * pi / JOINTS, pi / JOINTS, JOINTS).astype(np.float32))
        self._spiral = self._spiral.to(self.device)
        walls = torch.tensor(WALLS, device=self.device)
        number = torch.arange(JOINTS + 1, device=self.device)
        self._joined = torch.where((number[:, None] - number).abs() < 2, LENGTH, 0.0)[..., None]
        self._low, self._high = walls[:, :2], walls[:, :2] + walls[:, 2:]

    def joints(self, angles: Tensor) -> Tensor:
        """Where the 21 ends of links are, ``[N, 21, 2]``, at angles ``[N, 20]`` from one link to the next."""
        return torch.stack(self._chain(angles), -1).transpose(0, 1)

    def _chain(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates x and y of the joints, ``[21, N]`` each: lanes last, so that what follows runs along memory."""
        turned = pi / 2 + angles.cumsum(-1).T.contiguous()
        steps = (torch.cos(turned) * LINK, torch.sin(turned) * LINK)
        x, y = (torch.cat([torch.full_like(d[:1], BASE), BASE + d.cumsum(0)]) for d in steps)
        return x, y

    def _legal(self, x: Tensor, y: Tensor) -> Tensor:
        """Bool ``[N]``: the arm is inside the square, out of the walls, and nowhere touches itself."""
        least, most = torch.minimum(x, y).amin(0), torch.maximum(x, y).amax(0)
        good = (least >= 0) & (most < 1)
        (left, low), (right, high) = self._low.T[..., None], self._high.T[..., None]
        at_x, at_y = x[:, None], y[:, None]
        good &= ~((at_x > left) & (at_x < right) & (at_y > low) & (at_y < high)).any(0).any(0)
        if x.shape[1] <= SMALL:
            gaps = (at_x - x).abs_().add_((at_y - y).abs_()).add_(self._joined)
            return good & (gaps.flatten(0, 1).amin(0) >= TOUCH)
        apart = torch.full_like(x[0], LENGTH)
        for k in range(2, JOINTS + 1):  # neighbours are a whole link apart
            apart = torch.minimum(apart, (x[k:] - x[:-k]).abs_().add_((y[k:] - y[:-k]).abs_()).amin(0))
        return good & (apart >= TOUCH)

    def _begin(self) -> dict[str, Tensor]:
        angles = self._spiral.expand(self.num_envs, -1)
        return self._state(angles, torch.zeros_like(angles), self.joints(angles)[:, -1])

    def _state(self, angles: Tensor, speeds: Tensor, hand: Tensor) -> dict[str, Tensor]:
        return {"angles": angles, "speeds": speeds, "hand": hand, "obs": (angles / pi).clamp(-1.0, 1.0)}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        angles, speeds, hand = self._s["angles"], self._s["speeds"], self._s["hand"]
        stopped = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        for _ in range(TICKS):
            faster = speeds + actions * (TICK / 2)
            there = angles + faster * TICK
            x, y = self._chain(there)
            stopped = stopped | ~self._legal(x, y)
            stay = stopped[:, None]
            angles, speeds = torch.where(stay, angles, there), torch.where(stay, speeds, faster)
            hand = torch.where(stay, hand, torch.stack([x[-1], y[-1]], -1))
        worth = self.pay(hand)[0]
        reward = torch.where(self._last_step(stopped), worth, 0.0)
        return self._state(angles, speeds, hand), reward, stopped

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        return state["hand"]

    def _scenery(self) -> Shapes:
        middle = (self._low + self._high) / 2
        half = (self._high - self._low) / 2
        along = half - half.min()
        return Shapes(torch.cat([middle - along, middle + along], -1)[None], float(half.min()))

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        joints = self.joints(state["angles"])
        hand = torch.cat([joints[:, -1:], torch.full_like(joints[:, -1:, :1], 0.015)], -1)
        return Shapes(torch.cat([joints[:, :-1], joints[:, 1:]], -1), 0.006, GREY, hand)
