"""The hard maze: a robot with range sensors, dead ends on the straight way, and two areas that pay."""

from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .base import AreaBatch
from .pictures import Shapes

SIZE = 600.0
START, HEADING = (60.0, 450.0), pi / 4
RADIUS, RANGE, SPEED = 10.0, 100.0, 4.0
ANGLES = (pi / 4, 0.0, -pi / 4)  # of the range sensors, from the heading
AREAS = ((60.0, 60.0, 50.0), (100.0, 200.0, 50.0))
STEPS = 500
# Ends of the walls, y pointing down; the last four are the border.
WALLS = (
    (0.0, 132.0, 150.0, 147.0),
    (150.0, 147.0, 396.0, 76.0),
    (175.0, 140.0, 175.0, 460.0),
    (0.0, 214.0, 105.0, 346.0),
    (175.0, 304.0, 456.0, 463.0),
    (258.0, 259.0, 600.0, 434.0),
    (321.0, 470.0, 216.0, 600.0),
    (0.0, 0.0, 600.0, 0.0),
    (600.0, 0.0, 600.0, 600.0),
    (600.0, 600.0, 0.0, 600.0),
    (0.0, 600.0, 0.0, 0.0),
)


class HardMazeBatch(AreaBatch):
    """N two-wheeled robots in the hard maze.

    Actions float32 ``[2]`` in -1 to 1 are the speeds of the left and the right wheel, times 4 units a step. A move that
    would bring the robot's rim into a wall is not made, but the turn is. Observations float32 ``[5]`` in 0 to 1: the
    free way at 45, 0 and -45 degrees from the heading, over the sensors' range of 100, and whether the last move was
    stopped by a wall on the left or on the right. The outcome is the place, over the maze's side of 600. Episodes last
    500 steps.

    Source: the hard maze of Lehman and Stanley, "Abandoning Objectives: Evolution through the Search for Novelty Alone"
    (2011), with the measures, start and areas of Paolo et al., "Sparse Reward Exploration via Novelty Search and
    Emitters" (GECCO 2021), whose robots take 2000 steps of a quarter of the length. Walls have no thickness here.

    Args:
        num_envs: N.
        kwargs: As for ``AreaBatch``: ``device``, ``max_episode_steps``, ``render_mode``, ``pixels``.
    """

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        sees = spaces.Box(0.0, 1.0, (len(ANGLES) + 2,), np.float32)
        wheels = spaces.Box(-1.0, 1.0, (2,), np.float32)
        areas = tuple((x / SIZE, y / SIZE, r / SIZE) for x, y, r in AREAS)
        super().__init__(num_envs, sees, wheels, steps=STEPS, bounds=((0, 0), (1, 1)), areas=areas, **kwargs)
        ends = torch.tensor(WALLS, device=self.device)
        self._from, self._along = ends[:, :2], ends[:, 2:] - ends[:, :2]
        self._length2 = self._along.square().sum(-1)
        self._angles = torch.tensor(ANGLES, device=self.device)

    def nearest(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """The distance ``[N]`` of places ``[N, 2]`` from the nearest wall, and the way there ``[N, 2]``."""
        away = self._from - place[:, None]
        part = (-(away * self._along).sum(-1) / self._length2).clamp(0.0, 1.0)
        way = away + part[..., None] * self._along
        least, wall = way.square().sum(-1).min(-1)
        return least.sqrt(), way[torch.arange(len(way), device=way.device), wall]

    def ranges(self, place: Tensor, heading: Tensor) -> Tensor:
        """The free way of each sensor, ``[N, 3]``, at most ``RANGE``."""
        angle = heading[:, None] + self._angles
        dx, dy = angle.cos()[..., None], angle.sin()[..., None]
        away = self._from - place[:, None]  # [N, W, 2]
        ax, ay = away[:, None, :, 0], away[:, None, :, 1]
        ex, ey = self._along[:, 0], self._along[:, 1]
        cross = dx * ey - dy * ex  # [N, 3, W]; zero where the ray runs beside the wall, and the hit is then at infinity
        free = (ax * ey - ay * ex) / cross
        part = (ax * dy - ay * dx) / cross
        hit = (free >= 0) & (part >= 0) & (part <= 1)
        return torch.where(hit, free, RANGE).amin(-1).clamp_max(RANGE)

    def _begin(self) -> dict[str, Tensor]:
        place = torch.tensor(START, device=self.device).expand(self.num_envs, 2)
        heading = torch.full((self.num_envs,), HEADING, device=self.device)
        return self._state(place, heading, torch.zeros(self.num_envs, 2, device=self.device))

    def _state(self, place: Tensor, heading: Tensor, bumpers: Tensor) -> dict[str, Tensor]:
        obs = torch.cat([self.ranges(place, heading) / RANGE, bumpers], -1)
        return {"place": place, "heading": heading, "obs": obs}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        place, heading = self._s["place"], self._s["heading"]
        left, right = (SPEED * actions).unbind(-1)
        turn = (right - left) / (2 * RADIUS)
        # The exact arc: its chord is as long as sin(turn / 2) / (turn / 2) of the way, in the middle direction.
        chord = (left + right) / 2 * torch.sinc(turn / (2 * pi))
        middle = heading + turn / 2
        there = place + chord[:, None] * torch.stack([middle.cos(), middle.sin()], -1)
        heading = torch.remainder(heading + turn, 2 * pi)
        distance, way = self.nearest(there)
        stopped = distance < RADIUS
        side = torch.remainder(torch.atan2(way[:, 1], way[:, 0]) - heading + pi, 2 * pi) - pi
        bumpers = torch.stack([stopped & (side >= 0) & (side <= pi / 2), stopped & (side < 0) & (side >= -pi / 2)], -1)
        place = torch.where(stopped[:, None], place, there)
        never = torch.zeros_like(stopped)
        reward = torch.where(self._last_step(never), self.pay(place / SIZE)[0], 0.0)
        return self._state(place, heading, bumpers.to(torch.float32)), reward, never

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        return state["place"] / SIZE

    def _extent(self) -> tuple[tuple[float, float], tuple[float, float], bool]:
        return (0.0, 0.0), (1.0, 1.0), False

    def _scenery(self) -> Shapes:
        return Shapes(torch.cat([self._from, self._from + self._along], -1)[None] / SIZE, 0.008)

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        place, heading = state["place"] / SIZE, state["heading"]
        nose = place + 0.04 * torch.stack([heading.cos(), heading.sin()], -1)
        robot = torch.cat([place, torch.full_like(place[:, :1], 1.2 * RADIUS / SIZE)], -1)
        return Shapes(torch.cat([place, nose], -1)[:, None], 0.005, discs=robot[:, None])
