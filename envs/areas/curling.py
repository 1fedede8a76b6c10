"""Curling: a two-link arm that throws a ball into one of two areas."""

from math import pi
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .base import AreaBatch
from .pictures import GREY, Shapes

HALF = 1.5  # m: half the table's side
BASE = (0.0, -1.5)
LINK, THICK = 1.0, 0.05  # m: length and half the thickness of each link
LIMITS = (0.4 * pi, 0.9 * pi)
BALL, BALL_START = 0.15, (-0.5, 0.2)
BOUNCE, DAMPING = 0.9, 1.1  # restitution; 1/s
TICK = 1 / 60
AREAS = ((0.8, 0.8, 0.4), (0.8, -0.8, 0.2))
STEPS = 500
SLACK = 1e-4  # m: an overlap smaller than this is rounding


class CurlingBatch(AreaBatch):
    """N tables with an arm that stands on the lower edge, and a ball.

    Actions float32 ``[2]`` in -1 to 1 are the joints' speeds, rad/s, for 1/60 s. Observations float32 ``[6]`` in -1 to
    1: the ball's place over 1.5 m, the joints' angles over pi / 2 and pi, and their speeds. The outcome is where the
    ball is. Episodes last 500 steps.

    The arm is as strong as it needs to be: it goes at the speed it is told to, up to its limits (0.4 pi and 0.9 pi) and
    the table's edge; the ball bounces off it and off the edges with restitution 0.9, and slows down by 1.1 a second. An
    arm that would squeeze the ball against an edge stops, and so does the ball.

    Source: Curling of Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021), with its
    measures; the contacts are these rules in place of Box2D, so scores of the two are not comparable.

    Args:
        num_envs: N.
        kwargs: As for ``AreaBatch``: ``device``, ``max_episode_steps``, ``render_mode``, ``pixels``.
    """

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        sees, speeds = (spaces.Box(-1.0, 1.0, (n,), np.float32) for n in (6, 2))
        edge = HALF - BALL
        super().__init__(
            num_envs, sees, speeds, steps=STEPS, bounds=((-edge, -edge), (edge, edge)), areas=AREAS, **kwargs
        )
        self._limits = torch.tensor(LIMITS, device=self.device)
        self._scale = torch.tensor([HALF, HALF, pi / 2, pi, 1.0, 1.0], device=self.device)
        self._base = torch.tensor(BASE, device=self.device)

    def links(self, angles: Tensor) -> Tensor:
        """Base, elbow and tip, ``[N, 3, 2]``, at angles ``[N, 2]`` from upright and from the first link."""
        turned = angles.cumsum(-1)
        steps = LINK * torch.stack([-turned.sin(), turned.cos()], -1)
        base = self._base.expand(len(angles), 1, 2)
        return torch.cat([base, base + steps.cumsum(1)], 1)

    def _begin(self) -> dict[str, Tensor]:
        ball = torch.tensor(BALL_START, device=self.device).expand(self.num_envs, 2)
        zero = torch.zeros(self.num_envs, 2, device=self.device)
        return self._state(ball, zero, zero, zero)

    def _state(self, ball: Tensor, flight: Tensor, angles: Tensor, speeds: Tensor) -> dict[str, Tensor]:
        obs = torch.cat([ball, angles, speeds], -1) / self._scale
        return {"ball": ball, "flight": flight, "angles": angles, "speeds": speeds, "obs": obs.clamp(-1.0, 1.0)}

    def _contact(self, ball: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The point of each link that is nearest to the ball, the way from there to the ball, and its length."""
        begin, along = ends[:, :2], ends[:, 1:] - ends[:, :2]
        part = (((ball[:, None] - begin) * along).sum(-1) / LINK**2).clamp(0.0, 1.0)
        point = begin + part[..., None] * along
        way = ball[:, None] - point
        return point, way, way.norm(dim=-1)

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        s = self._s
        angles = torch.minimum((s["angles"] + actions * TICK), self._limits).maximum(-self._limits)
        ends = self.links(angles)
        out = (ends[:, 1:].abs() > HALF).any(-1).any(-1)[:, None]
        angles = torch.where(out, s["angles"], angles)
        ends = torch.where(out[..., None], self.links(angles), ends)
        speeds = (angles - s["angles"]) / TICK

        flight = s["flight"] / (1.0 + DAMPING * TICK)
        ball = s["ball"] + flight * TICK
        turning = speeds.cumsum(-1)
        for link in range(2):
            ball, flight = self._bounce(ball, flight, ends, speeds[:, 0], turning[:, 1], link)
        edge = HALF - BALL
        beyond = ball.abs() > edge
        flight = torch.where(beyond & (flight * ball > 0), -BOUNCE * flight, flight)
        ball = ball.clamp(-edge, edge)

        squeezed = (self._contact(ball, ends)[2] < BALL + THICK - SLACK).any(-1)[:, None]
        ball, flight = torch.where(squeezed, s["ball"], ball), torch.where(squeezed, 0.0, flight)
        angles, speeds = torch.where(squeezed, s["angles"], angles), torch.where(squeezed, 0.0, speeds)
        never = torch.zeros_like(squeezed[:, 0])
        reward = torch.where(self._last_step(never), self.pay(ball)[0], 0.0)
        return self._state(ball, flight, angles, speeds.clamp(-1.0, 1.0)), reward, never

    def _bounce(
        self, ball: Tensor, flight: Tensor, ends: Tensor, first: Tensor, second: Tensor, link: int
    ) -> tuple[Tensor, Tensor]:
        """Push the ball off one link; ``first`` and ``second`` are how fast the links turn, rad/s."""
        points, ways, lengths = self._contact(ball, ends)
        point, way, length = points[:, link], ways[:, link], lengths[:, link]
        normal = way / length.clamp_min(1e-9)[:, None]
        moving = first[:, None] * _left(point - ends[:, 0])
        if link == 1:
            moving = first[:, None] * _left(ends[:, 1] - ends[:, 0]) + second[:, None] * _left(point - ends[:, 1])
        closing = ((flight - moving) * normal).sum(-1)
        touching = length < BALL + THICK
        kick = torch.where(touching & (closing < 0), -(1 + BOUNCE) * closing, 0.0)
        pushed = point + (BALL + THICK) * normal
        return torch.where(touching[:, None], pushed, ball), flight + kick[:, None] * normal

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        return state["ball"]

    def _extent(self) -> tuple[tuple[float, float], tuple[float, float], bool]:
        return (-HALF, -HALF), (HALF, HALF), True

    def _scenery(self) -> Shapes:
        return Shapes(torch.zeros(1, 0, 4, device=self.device))

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        ends = self.links(state["angles"])
        ball = torch.cat([state["ball"], torch.full_like(state["ball"][:, :1], BALL)], -1)
        return Shapes(torch.cat([ends[:, :2], ends[:, 1:]], -1), THICK, GREY, ball[:, None])


def _left(v: Tensor) -> Tensor:
    """Turned by 90 degrees to the left: the velocity of a point at ``v`` under one rad/s."""
    return torch.stack([-v[..., 1], v[..., 0]], -1)
