"""Teams of particles in a plane: cooperative navigation in torch, dense as upstream has it, and four sparse tasks.

``SimpleSpread`` is mpe2's ``simple_spread_v3`` (Lowe et al., "Multi-agent actor-critic for mixed
cooperative-competitive environments", 2017), number for number. ``Spread``, ``Bounce``, ``Compromise`` and ``Chase``
are the sparse cooperative tasks of Roy et al., "Promoting coordination through policy regularization in multi-agent
deep reinforcement learning", 2020 (section 5.1; numbers as in its published code). Units are those of the plane, which
is two wide; a step is 0.1 time units.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..tabular.draws import uniform
from .pictures import canvas, colour_of, disc, line
from .team import TeamWorld

DT, CONTACT_FORCE, CONTACT_MARGIN = 0.1, 100.0, 1e-3
SIZE = 192  # pixels of a picture
GREY, BLACK, BEIGE, TEAL = (185, 185, 185), (20, 20, 20), (250, 225, 160), (70, 190, 170)


def contact_forces(pos: Tensor, pairs: Tensor, reach: float | Tensor) -> Tensor:
    """Soft repulsion of bodies that touch, float64 ``[N, E, 2]``.

    The penetration is ``margin * log(1 + exp((reach - distance) / margin))`` and the force 100 times that, along the
    line of centres.

    Args:
        pos: ``[N, E, 2]``.
        pairs: int64 ``[P, 2]``, which bodies touch each other.
        reach: Sum of the radii, a number or ``[P]``.
    """
    delta = pos[:, pairs[:, 0]] - pos[:, pairs[:, 1]]
    far = delta.square().sum(-1).sqrt()
    gap = (far - reach) / -CONTACT_MARGIN
    depth = torch.logaddexp(torch.zeros_like(gap), gap) * CONTACT_MARGIN
    force = delta * (CONTACT_FORCE * depth / far.clamp(min=1e-3))[..., None]
    out = torch.zeros_like(pos).index_add_(1, pairs[:, 0], force)
    return out.index_add_(1, pairs[:, 1], force, alpha=-1)


def norm(x: Tensor) -> Tensor:
    """Length of vectors ``[..., 2]``."""
    return x.square().sum(-1).sqrt()


class Particles(TeamWorld):
    """The common part: A agents and L other bodies. State: ``pos`` and ``vel``, float64 ``[N, A + L, 2]``.

    Args:
        num_envs: N.
        continuous: Two numbers in [-1, 1], the force; otherwise one of five actions (none, left, right, down, up).
        kwargs: ``device``, ``max_episode_steps``, ``render_mode``.
    """

    team: ClassVar[int] = 2
    bodies: ClassVar[int] = 0
    width: ClassVar[int]  # of an observation
    horizon: ClassVar[int] = 100
    radius: ClassVar[float] = 0.05

    def __init__(self, num_envs: int, *, continuous: bool = True, team: int | None = None, **kwargs: Any) -> None:
        a = self.team if team is None else team
        action = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(5)
        self.continuous, self.count = continuous, a
        observation = spaces.Box(-np.inf, np.inf, (self._width(a),), np.float32)
        names = tuple(f"agent_{i}" for i in range(a))
        super().__init__(num_envs, names, observation, action, max_steps=self.horizon, **kwargs)
        both = [(i, j) for i in range(a) for j in range(i + 1, a)]
        self._pairs = torch.tensor(both, dtype=torch.int64, device=self.device).reshape(-1, 2)
        others = [[j for j in range(a) if j != i] for i in range(a)]
        self._others = torch.tensor(others, dtype=torch.int64, device=self.device)
        push = [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]]
        self._push = torch.tensor(push, dtype=torch.float64, device=self.device)

    def _width(self, a: int) -> int:
        return self.width

    def _draw(self, first: Any, count: int) -> Tensor:
        """Draws number ``first`` to ``first + count - 1`` of every lane, in [-1, 1), float64 ``[N, count]``."""
        counters = torch.arange(count, device=self.device) + (first if isinstance(first, int) else first[:, None])
        return 2 * uniform(self._key[:, None], counters) - 1

    def _force(self, actions: Tensor) -> Tensor:
        """What the agents' actions push with, float64 ``[N, A, 2]``."""
        return actions.double() if self.continuous else self._push[actions]

    def _linked(self, first: int, reach: float) -> Tensor:
        """Two agents at most ``reach`` apart, ``[N, 2, 2]``: the second is drawn in a disc around the first.

        The draw is the first of twelve within the plane, or else the last one, moved into it.
        """
        here = self._draw(first, 2)[:, None]
        draws = self._draw(first + 2, 24).reshape(-1, 12, 2)
        angle, far = draws[..., 0] * torch.pi, ((draws[..., 1] + 1) / 2).sqrt() * reach
        there = here + far[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
        inside = (there.abs() <= 1).all(-1)
        inside[:, -1] = True
        pick = inside.int().argmax(1)
        chosen = there[torch.arange(len(there), device=self.device), pick].clamp(-1, 1)
        return torch.stack([here[:, 0], chosen], 1)

    def _spring(self, pos: Tensor, reach: float, stiffness: float) -> Tensor:
        """The pull on two linked agents that are more than ``reach`` apart, ``[N, 2, 2]``."""
        delta = pos[:, 1] - pos[:, 0]
        pull = torch.where((norm(delta) > reach)[:, None], stiffness * delta, 0.0)
        return torch.stack([pull, -pull], 1)

    def _drive(self, pos: Tensor, vel: Tensor, force: Tensor, top: float = 1.0) -> tuple[Tensor, Tensor]:
        """One step of bodies of mass 1 that lose a tenth of their speed and stay within the plane."""
        vel = vel * 0.9 + force * DT
        speed = norm(vel)[..., None]
        vel = torch.where(speed > top, vel * (top / speed.clamp(min=1e-12)), vel)
        return (pos + vel * DT).clamp(-1, 1), vel

    def _sees(self, state: dict[str, Tensor], *more: Tensor) -> Tensor:
        """Own velocity and place, the other bodies and the other agents as seen from here, then ``more [N, A, k]``."""
        a = self.count
        pos, vel = state["pos"], state["vel"]
        here = pos[:, :a, None]
        bodies = (pos[:, None, a:] - here).flatten(2)
        others = (pos[:, self._others] - here).flatten(2)
        return torch.cat([vel[:, :a], pos[:, :a], bodies, others, *more], -1).float()

    def _shared(self, reward: Tensor) -> Tensor:
        """One reward ``[N]`` for every agent, float32 ``[N, A]``."""
        return reward.float()[:, None].repeat(1, self.count)

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        return self._sees(state)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def _pixel(self, pos: Tensor) -> Tensor:
        """Places in the plane as pixels, a margin of a tenth around it."""
        flipped = torch.stack([pos[..., 0], -pos[..., 1]], -1)
        return (flipped / 1.1 + 1) * (SIZE / 2)

    def _radii(self) -> list[tuple[float, tuple[int, int, int]]]:
        """Radius and colour of the bodies that are no agents."""
        return []

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        picture, at = canvas(self.num_envs, SIZE, SIZE, self.device), self._pixel(state["pos"])
        scale = SIZE / 2.2
        for k, (radius, colour) in enumerate(self._radii()):
            disc(picture, at[:, self.count + k], radius * scale, colour)
        for a in range(self.count):
            disc(picture, at[:, a], self.radius * scale, colour_of(a))
        return picture

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        return [str(row) for row in state["pos"].round(decimals=2).tolist()]


class SimpleSpread(Particles):
    """Cover L landmarks with as many agents, dense reward: mpe2's ``simple_spread_v3``.

    Everybody is paid ``(1 - local_ratio)`` times minus the sum of the landmarks' distances to their nearest agents, and
    loses ``local_ratio`` for each agent it touches. The fact ``covered`` ``[N]`` counts landmarks with an agent less
    than 0.1 away; ``success`` is all of them.

    Args:
        num_envs: N.
        team: How many agents.
        local_ratio: See above.
        continuous: Five numbers in [0, 1] as in mpe2 (none, left, right, down, up); otherwise one of five actions.
        kwargs: ``device``, ``max_episode_steps``, ``render_mode``.
    """

    team, horizon, radius = 3, 25, 0.15

    def __init__(
        self, num_envs: int, *, team: int = 3, local_ratio: float = 0.5, continuous: bool = False, **kwargs: Any
    ) -> None:
        if team < 1 or not 0 <= local_ratio <= 1:
            raise ValueError(f"team={team}, local_ratio={local_ratio}: at least 1, and between 0 and 1")
        super().__init__(num_envs, continuous=False, team=team, **kwargs)
        if continuous:
            from .team import joint_space

            self.agent_action_space = spaces.Box(0, 1, (5,), np.float32)
            self.single_action_space = joint_space(self.agent_action_space, team)
            self.action_space = spaces.Box(0, 1, (num_envs, team, 5), np.float32)
            self.continuous = True
        self.local_ratio = local_ratio

    def _width(self, a: int) -> int:
        return 4 + 2 * a + 4 * (a - 1)

    def _begin(self) -> dict[str, Tensor]:
        pos = self._draw(1, 4 * self.count).reshape(self.num_envs, 2 * self.count, 2)
        return {"pos": pos, "vel": torch.zeros_like(pos)}

    def _force(self, actions: Tensor) -> Tensor:
        if not self.continuous:
            return 5 * self._push[actions]
        a = actions.double()
        return 5 * torch.stack([a[..., 2] - a[..., 1], a[..., 4] - a[..., 3]], -1)

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        a, pos, vel = self.count, self._s["pos"], self._s["vel"]
        force = self._force(actions) + contact_forces(pos[:, :a], self._pairs, 2 * self.radius)
        here, speed = pos[:, :a] + vel[:, :a] * DT, vel[:, :a] * 0.75 + force * DT
        state = {"pos": torch.cat([here, pos[:, a:]], 1), "vel": torch.cat([speed, vel[:, a:]], 1)}
        far = norm(here[:, :, None] - here[:, None])
        hits = (far < 2 * self.radius).sum(-1) - 1
        reward = -(1 - self.local_ratio) * self._gaps(state).sum(-1, keepdim=True) - self.local_ratio * hits
        return state, reward.float(), torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def _gaps(self, state: dict[str, Tensor]) -> Tensor:
        """Each landmark's distance to its nearest agent, ``[N, L]``."""
        pos, a = state["pos"], self.count
        return norm(pos[:, None, :a] - pos[:, a:, None]).amin(-1)

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        silent = state["pos"].new_zeros(self.num_envs, self.count, 2 * (self.count - 1))
        return self._sees(state, silent)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        covered = (self._gaps(state) < 0.1).sum(-1)
        return {"covered": covered, "success": covered == self.count}

    def _radii(self) -> list[tuple[float, tuple[int, int, int]]]:
        return [(0.05, BLACK)] * self.count


class Spread(Particles):
    """Three agents, three landmarks: everybody is paid the landmarks that are covered less the pairs that collide.

    The fact ``covered`` ``[N]`` counts the landmarks; ``success`` is all of them at once.
    """

    team, width = 3, 14

    def _begin(self) -> dict[str, Tensor]:
        pos = self._draw(1, 12).reshape(self.num_envs, 6, 2)
        return {"pos": pos, "vel": torch.zeros_like(pos)}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pos, vel = self._s["pos"], self._s["vel"]
        force = self._force(actions) + contact_forces(pos[:, :3], self._pairs, 2 * self.radius)
        here, speed = self._drive(pos[:, :3], vel[:, :3], force)
        state = {"pos": torch.cat([here, pos[:, 3:]], 1), "vel": torch.cat([speed, vel[:, 3:]], 1)}
        far = norm(here[:, self._pairs[:, 0]] - here[:, self._pairs[:, 1]])
        reward = self._covered(state) - (far < 2 * self.radius).sum(-1)
        return state, self._shared(reward), torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def _covered(self, state: dict[str, Tensor]) -> Tensor:
        pos = state["pos"]
        return (norm(pos[:, None, :3] - pos[:, 3:, None]) < 2 * self.radius).any(-1).sum(-1)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        covered = self._covered(state)
        return {"covered": covered, "success": covered == 3}

    def _radii(self) -> list[tuple[float, tuple[int, int, int]]]:
        return [(0.1, GREY)] * 3


class Compromise(Particles):
    """Two agents on a spring, each with its own landmark, which pays 10 to its agent and moves when it is reached.

    The spring pulls when it is longer than 0.3, so that they must give way to each other. The fact ``reached``
    ``[N, A]`` counts each agent's landmarks of the episode.
    """

    width = 10
    agent_facts = ("reached",)

    def _begin(self) -> dict[str, Tensor]:
        pos = torch.cat([self._linked(1, 0.3), self._draw(27, 4).reshape(-1, 2, 2)], 1)
        reached = torch.zeros(self.num_envs, 2, dtype=torch.int64, device=self.device)
        return {"pos": pos, "vel": torch.zeros_like(pos), "reached": reached}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pos, vel = self._s["pos"], self._s["vel"]
        force = self._force(actions) + self._spring(pos[:, :2], 0.3, 10.0)
        here, speed = self._drive(pos[:, :2], vel[:, :2], force)
        there = norm(here - pos[:, 2:]) < 2 * self.radius
        fresh = self._draw(31 + 4 * self._t, 4).reshape(-1, 2, 2)
        marks = torch.where(there[..., None], fresh, pos[:, 2:])
        state = {
            "pos": torch.cat([here, marks], 1),
            "vel": torch.cat([speed, vel[:, 2:]], 1),
            "reached": self._s["reached"] + there,
        }
        return state, 10 * there.float(), torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        pos, vel = state["pos"], state["vel"]
        here, own = pos[:, :2], torch.stack([pos[:, 2:], pos[:, [3, 2]]], 2)  # one's own landmark comes first
        marks = (own - here[:, :, None]).flatten(2)
        return torch.cat([vel[:, :2], here, marks, here.flip(1) - here], -1).float()

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"reached": state["reached"]}

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        picture, at = canvas(self.num_envs, SIZE, SIZE, self.device), self._pixel(state["pos"])
        for a in range(2):
            disc(picture, at[:, 2 + a], 0.1 * SIZE / 2.2, colour_of(a), ring=True)
        line(picture, at[:, 0], at[:, 1])
        for a in range(2):
            disc(picture, at[:, a], self.radius * SIZE / 2.2, colour_of(a))
        return picture


class Chase(Particles):
    """Two predators and a faster prey that runs from them and from the walls: 10 to both for each one that touches it.

    The fact ``touching`` ``[N]`` counts the predators at the prey; ``success`` is both at once.
    """

    width, bodies = 10, 1
    prey, top, pull = 0.04, 1.5, 1.5

    def _begin(self) -> dict[str, Tensor]:
        hunters = 0.8 * self._draw(1, 4).reshape(-1, 2, 2)
        tries = self._draw(5, 16).reshape(-1, 8, 2)
        near = norm(tries[:, :, None] - hunters[:, None]) < 1.5 * (self.radius + self.prey)
        clear = ~near.any(-1)
        pick = clear.int().argmax(1)  # eight of eight being too near is rarer than 1 in 10**11
        prey = tries[torch.arange(len(tries), device=self.device), pick]
        pos = torch.cat([hunters, prey[:, None]], 1)
        return {"pos": pos, "vel": torch.zeros_like(pos)}

    def _flight(self, pos: Tensor) -> Tensor:
        """The prey's own force ``[N, 2]``: away from predators and walls, at most 1 long."""
        eps, prey = 1e-5, pos[:, 2]
        away = prey[:, None] - pos[:, :2]
        force = (away * (1 + eps) / (norm(away)[..., None] + eps) ** 3).sum(1)
        for side in (1 + eps, -1 - eps):
            gap = prey - side
            force = force + gap.sign() / (gap + eps) ** 2
        long = norm(force)[:, None]
        return torch.where(long < 1, force, force / long.clamp(min=1e-12))

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pos, vel = self._s["pos"], self._s["vel"]
        force = torch.cat([self._force(actions), self.pull * self._flight(pos)[:, None]], 1)
        pairs = torch.tensor([[0, 1], [0, 2], [1, 2]], device=self.device)
        reach = pos.new_tensor([2 * self.radius, self.radius + self.prey, self.radius + self.prey])
        force = force + contact_forces(pos, pairs, reach)
        hunters, prey = (
            self._drive(pos[:, :2], vel[:, :2], force[:, :2]),
            self._drive(pos[:, 2:], vel[:, 2:], force[:, 2:], self.top),
        )
        state = {"pos": torch.cat([hunters[0], prey[0]], 1), "vel": torch.cat([hunters[1], prey[1]], 1)}
        reward = 10 * self._touching(state)
        return state, self._shared(reward), torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def _touching(self, state: dict[str, Tensor]) -> Tensor:
        pos = state["pos"]
        return (norm(pos[:, :2] - pos[:, 2:]) < self.radius + self.prey).sum(-1)

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        pos, vel = state["pos"], state["vel"]
        here = pos[:, :2]
        prey = vel[:, 2:].expand(-1, 2, -1)
        return torch.cat([vel[:, :2], here, here.flip(1) - here, pos[:, 2:] - here, prey], -1).float()

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        touching = self._touching(state)
        return {"touching": touching, "success": touching == 2}

    def _radii(self) -> list[tuple[float, tuple[int, int, int]]]:
        return [(self.prey, TEAL)]


class Bounce(Particles):
    """Two agents hold a spring, on which a ball that falls at half-time should bounce into a target.

    Everybody is paid once, when the ball bounces, and the episode ends: 0.1, and 0.2 more for upwards or 0.1 for a side
    wall, and 10 if the ball flies through the target. The fact ``success`` says that it does.
    """

    width, bodies = 11, 2
    reach, stiffness, ball_speed, target = 0.5, 2.0, 0.5, 0.2

    def _begin(self) -> dict[str, Tensor]:
        high = self._draw(27, 2)
        bodies = torch.stack([high, torch.full_like(high, 0.85)], -1)  # the ball, then the target
        pos = torch.cat([self._linked(1, self.reach), bodies], 1)
        zero = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        return {"pos": pos, "vel": torch.zeros_like(pos), "hit": zero, "clock": zero.double()}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        pos, vel = self._s["pos"], self._s["vel"]
        ball, speed = pos[:, 2], vel[:, 2]
        # The ball meets the line where the way over it is hardly longer than the line.
        lines = pos[:, 1] - pos[:, 0]
        long = norm(lines)
        bounced = norm(ball - pos[:, 0]) + norm(ball - pos[:, 1]) <= long + 0.005
        normal = torch.stack([lines[:, 1], -lines[:, 0]], -1) / long.clamp(min=1e-12)[:, None]
        pace = norm(speed)[:, None]
        way = speed / (pace + 1e-5)
        mirrored = pace * (way - 2 * normal * (way * normal).sum(-1, keepdim=True))
        speed = torch.where(bounced[:, None], mirrored, speed)
        fast = norm(speed)[:, None]
        speed = torch.where(fast > self.ball_speed, speed * (self.ball_speed / fast.clamp(min=1e-12)), speed)
        ball = ball + speed * DT
        force = self._force(actions) + self._spring(pos[:, :2], self.reach, self.stiffness)
        here, going = self._drive(pos[:, :2], vel[:, :2], force)
        here = torch.stack([here[..., 0], here[..., 1].clamp(max=0.5)], -1)
        t = self._t + 1
        drop = (t == self.horizon // 2) & ~bounced
        hit = bounced & self._through(ball, speed, pos[:, 3])
        reward = torch.where(bounced, 0.1 + self._ways(ball, speed) + 10 * hit, 0.0)
        down = speed.new_tensor([0.0, -self.ball_speed])
        speed = torch.where(drop[:, None], down, speed)
        state = {
            "pos": torch.cat([here, ball[:, None], pos[:, 3:]], 1),
            "vel": torch.cat([going, speed[:, None], vel[:, 3:]], 1),
            "hit": hit,
            "clock": t.double() / self.horizon,
        }
        return state, self._shared(reward), bounced

    def _through(self, ball: Tensor, speed: Tensor, target: Tensor) -> Tensor:
        """Whether the ball's straight way from here goes through the target, ``[N]``."""
        off = ball - target
        a = speed.square().sum(-1) + 1e-8
        b = 2 * (speed * off).sum(-1)
        c = off.square().sum(-1) - self.target**2
        under = b**2 - 4 * a * c
        return (under >= 0) & ((-b + under.clamp(min=0).sqrt()) / (2 * a) > 0)

    @staticmethod
    def _ways(ball: Tensor, speed: Tensor) -> Tensor:
        """0.2 for a ball that leaves the plane at the top and 0.1 at a side, ``[N]``."""
        x, y = ball.unbind(-1)
        vx, vy = speed.unbind(-1)
        out = torch.zeros_like(x)
        up = (1 - y) / (vy + 1e-5)
        out = out + 0.2 * ((up > 0) & ((vx * up + x).abs() < 1))
        for wall in (-1.0, 1.0):
            side = (wall - x) / (vx + 1e-5)
            out = out + 0.1 * ((side > 0) & ((vy * side + y).abs() < 1))
        return out

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        return self._sees(state, state["clock"][:, None, None].expand(-1, 2, 1))

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"success": state["hit"]}

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        picture, at = canvas(self.num_envs, SIZE, SIZE, self.device), self._pixel(state["pos"])
        disc(picture, at[:, 3], self.target * SIZE / 2.2, BEIGE)
        line(picture, at[:, 0], at[:, 1])
        disc(picture, at[:, 2], 0.0375 * SIZE / 2.2, BLACK)
        for a in range(2):
            disc(picture, at[:, a], self.radius * SIZE / 2.2, colour_of(a))
        return picture
