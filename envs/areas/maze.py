"""The hard maze: a robot with range sensors or a picture, dead ends on the straight way, and two areas that pay."""

from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..kinds import Pixels
from .base import AreaBatch, check_pixels
from .pictures import Shapes

SIZE = 600.0
START, HEADING = (60.0, 450.0), pi / 4
RADIUS, RANGE, SPEED = 10.0, 100.0, 4.0
ANGLES = (pi / 4, 0.0, -pi / 4)  # of the range sensors, from the heading
VIEW, VIEW_PIXELS = 200.0, 16  # the side of what a robot sees of the maze around it, and of that picture
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
    500 moves, and a step is one move.

    Source: the hard maze of Lehman and Stanley, "Abandoning Objectives: Evolution through the Search for Novelty Alone"
    (2011), with the measures, start and areas of Paolo et al., "Sparse Reward Exploration via Novelty Search and
    Emitters" (GECCO 2021), whose robots take 2000 steps of a quarter of the length. Walls have no thickness here.

    With ``reward="progress"`` it is the deceptive maze: each step pays how much nearer it came, as the crow flies, to
    the first area's centre, over the maze's side, so that an episode's return is how much nearer its end is than its
    start; and the straight way is a dead end. With ``sees="picture"`` observations are the pictures that ``render``
    gives, from above, as in the Image Hard Maze of Such et al., "Deep Neuroevolution" (2017); the robot's nose shows
    its heading, so one picture says where it is and where it looks. With ``sees="view"`` they show the maze from above
    too, but only the 200 units about the robot, which is in the middle and looks up: white floor, grey areas, black
    walls.

    Args:
        num_envs: N.
        reward: ``"areas"``, at the end and by where that lies, or ``"progress"``.
        sees: ``"sensors"``, ``"picture"``: uint8 ``[pixels, pixels, 3]``, or ``"view"``: uint8 ``[16, 16, 1]``.
        ticks: Moves in a step, all with the wheels' same speeds; an episode has as many times fewer steps.
        pixels: Height and width of the pictures.
        kwargs: As for ``AreaBatch``: ``device``, ``max_episode_steps`` (steps, not moves), ``render_mode``.

    Raises:
        ValueError: An option is unknown or out of range.
    """

    def __init__(
        self, num_envs: int, *, reward: str = "areas", sees: str = "sensors", ticks: int = 1, pixels: int = 128,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if reward not in ("areas", "progress") or sees not in ("sensors", "picture", "view"):
            raise ValueError(
                f"reward={reward!r}, sees={sees!r}: 'areas' or 'progress', and 'sensors', 'picture' or 'view'"
            )
        if isinstance(ticks, bool) or not isinstance(ticks, int) or not 1 <= ticks <= STEPS:
            raise ValueError(f"ticks={ticks!r}: a step has 1 to {STEPS} moves")
        self.reward, self.sees, self.ticks = reward, sees, ticks
        seen: spaces.Box = spaces.Box(0.0, 1.0, (len(ANGLES) + 2,), np.float32)
        if sees == "picture":
            seen = Pixels((check_pixels(pixels), pixels, 3))
        elif sees == "view":
            seen = Pixels((VIEW_PIXELS, VIEW_PIXELS, 1))
        wheels = spaces.Box(-1.0, 1.0, (2,), np.float32)
        areas = tuple((x / SIZE, y / SIZE, r / SIZE) for x, y, r in AREAS)
        common: dict[str, Any] = {"bounds": ((0, 0), (1, 1)), "areas": areas, "pixels": pixels, **kwargs}
        super().__init__(num_envs, seen, wheels, steps=STEPS // ticks, **common)
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
        state = {"place": place, "heading": heading}
        if self.sees == "sensors":
            state["obs"] = torch.cat([self.ranges(place, heading) / RANGE, bumpers], -1)
        return state

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        if self.sees == "view":
            return self.view(state["place"], state["heading"])
        return state["obs"] if self.sees == "sensors" else self._pictures(state)

    def view(self, place: Tensor, heading: Tensor) -> Tensor:
        """The maze about places ``[N, 2]``, headings upwards: uint8 ``[N, 16, 16, 1]``."""
        pixel = VIEW / VIEW_PIXELS
        middles = VIEW / 2 - pixel * (torch.arange(VIEW_PIXELS, dtype=torch.float32, device=self.device) + 0.5)
        ahead, left = middles[None, :, None], middles[None, None, :]
        cos, sin = heading.cos()[:, None], heading.sin()[:, None]

        def seen(vectors: Tensor) -> tuple[Tensor, Tensor]:
            """How far vectors ``[N or 1, K, 2]`` go ahead and to the left, each ``[K, N, 1, 1]``."""
            x, y = vectors[..., 0], vectors[..., 1]
            return (cos * x + sin * y).T[..., None, None], (cos * y - sin * x).T[..., None, None]

        nearest = torch.full((1,), VIEW**2, device=self.device)
        starts, ways = seen(self._from - place[:, None]), seen(self._along[None])
        for a, b, along, across, length2 in zip(*starts, *ways, self._length2):
            part = ((ahead - a) * along + (left - b) * across) / length2
            part = part.clamp(0.0, 1.0)
            nearest = torch.minimum(nearest, (ahead - a - part * along).square() + (left - b - part * across).square())
        grey = torch.full_like(nearest, 255.0)
        for a, b, radius in zip(*seen(SIZE * self.areas[:, :2] - place[:, None]), SIZE * self.areas[:, 2]):
            grey = torch.where((ahead - a).square() + (left - b).square() <= radius.square(), 150.0, grey)
        return torch.where(nearest <= (0.75 * pixel) ** 2, 0.0, grey).to(torch.uint8)[..., None]

    def returns(self, outcome: Tensor) -> Tensor:
        """The undiscounted returns, float32 ``[N]``, of episodes that end at outcomes ``[N, 2]``."""
        if self.reward == "areas":
            return self.pay(outcome)[0]
        return self._away(torch.tensor(START, device=self.device) / SIZE) - self._away(outcome)

    def _away(self, outcome: Tensor) -> Tensor:
        """How far outcomes ``[..., 2]`` are from the first area's centre."""
        away: Tensor = (outcome - self.areas[0, :2]).norm(dim=-1)
        return away

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        place, heading = self._s["place"], self._s["heading"]
        for _ in range(self.ticks):
            place, heading, bumpers = self._tick(place, heading, actions)
        state = self._state(place, heading, bumpers)
        never = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        if self.reward == "progress":
            return state, self._away(self._outcome(self._s)) - self._away(self._outcome(state)), never
        return state, torch.where(self._last_step(never), self.pay(place / SIZE)[0], 0.0), never

    def _tick(self, place: Tensor, heading: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places, headings and bumpers after one move."""
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
        return torch.where(stopped[:, None], place, there), heading, bumpers.to(torch.float32)

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        return state["place"] / SIZE

    def _extent(self) -> tuple[tuple[float, float], tuple[float, float], bool]:
        return (0.0, 0.0), (1.0, 1.0), False

    def _scenery(self) -> Shapes:
        return Shapes(torch.cat([self._from, self._from + self._along], -1)[None] / SIZE, 0.008)

    def _window(self, state: dict[str, Tensor]) -> tuple[Tensor, float]:
        return state["place"] / SIZE, 0.045  # the nose and half its width

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        place, heading = state["place"] / SIZE, state["heading"]
        nose = place + 0.04 * torch.stack([heading.cos(), heading.sin()], -1)
        robot = torch.cat([place, torch.full_like(place[:, :1], 1.2 * RADIUS / SIZE)], -1)
        return Shapes(torch.cat([place, nose], -1)[:, None], 0.005, discs=robot[:, None])
