"""The ant maze with obstacles: a heavy ant in a walled square, and two areas of it that pay when an episode ends.

Paolo et al., "Sparse Reward Exploration via Novelty Search and Emitters" (GECCO 2021) and "Discovering and Exploiting
Sparse Rewards in a Learned Behavior Space" (2023); upstream: ``AntObstacles-v0`` of their code, with its walls, masses,
time step, noise, observation and areas. Their first evaluator runs 3000 steps, at which the environment pays. Their
second one cuts after 1000, where it never does. Here an episode's last step pays whatever its length: 3000 steps,
``length``, or the ``max_episode_steps`` of a batch, the shortest of these. (``gymnasium.make`` keeps its own
``max_episode_steps`` to itself, so of one environment shorten ``length``.)
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np

from .ant import Ant
from .descriptors import Place
from .task import Array, Bounds, Outcome, Spec, Start, State, Task, uniform_noise

MIDDLE, SIDE = 5.0, 70.0  # m: of the square, x and y alike
START = (-25.0, -25.0, 0.6)
# Upstream scales all masses to 25,755 kg, most of it a decoration that hangs in the sky: 45.47 times the 5 kg/m^3 of
# Gymnasium's ant. So this ant weighs 41 kg, not 0.9, and its head, which is nearly hollow, 30 g.
DENSITY, HEAD = 5 * 45.4715, 0.01 * 45.4715  # kg/m^3
# Name, middle, half sides.
WALLS = (
    ("north", (5.0, 40.0, 0.0), (35.0, 0.3, 2.0)),
    ("south", (5.0, -30.0, 0.0), (35.0, 0.3, 2.0)),
    ("east", (40.0, 5.0, 0.0), (0.3, 35.0, 2.0)),
    ("west", (-30.0, 5.0, 0.0), (0.3, 35.0, 2.0)),
    ("upper", (-15.0, 20.0, 0.0), (0.3, 17.0, 2.0)),
    ("lower", (-3.0, -15.0, 0.0), (13.0, 0.3, 2.0)),
    ("middle", (10.0, -15.0, 0.0), (0.3, 15.0, 2.0)),
)


@dataclass
class AntObstacles(Place, Task):
    """Reward: 0 until the last step of the episode; then (3 m - distance) / 3 m where that is within 3 m of an area.

    Facts: ``descriptor``, x and y, m; ``area`` int64, the number of the area that the ant is in or -1; ``success``,
    whether it is in one; ``distance`` from the middle of the nearest one, m. Observations: x and y less 5 m over 70 m,
    the other positions, the velocities. Nothing but time ends an episode.

    Attributes:
        length: Steps of an episode.
    """

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.1
    length: int = 3000

    settled: ClassVar[tuple[str, ...]] = ("xml_file",)
    feet: ClassVar[tuple[str, ...]] = Ant.feet
    aside: ClassVar[tuple[str, ...]] = tuple(f"wall_{name}" for name, *_ in WALLS)
    areas: ClassVar[tuple[tuple[float, float, float], ...]] = ((35.0, -25.0, 3.0), (-25.0, 35.0, 3.0))
    descriptor_bounds: ClassVar[Bounds | None] = ((MIDDLE - SIDE / 2,) * 2, (MIDDLE + SIDE / 2,) * 2)
    camera: ClassVar[dict[str, Any]] = {
        "distance": 89.0,
        "lookat": (MIDDLE, MIDDLE, 0.0),
        "azimuth": 90.0,
        "elevation": -90.0,
    }

    def __post_init__(self) -> None:
        if isinstance(self.length, bool) or not isinstance(self.length, int) or self.length < 1:
            raise ValueError(f"length={self.length!r}: it is the number of steps of an episode, at least 1")
        self._last = self.length

    def limit(self, steps: int | None) -> int | None:
        """The shorter one of ``length`` and ``steps``."""
        self._last = self.length if steps is None else min(steps, self.length)
        return self._last

    def memory(self) -> dict[str, tuple[int, ...]]:
        """How many steps the episode has had."""
        return {"steps": ()}

    def furnish(self, spec: Spec) -> tuple[str, ...]:
        """Make the ant heavy, give it a head, and build the walls."""
        spec.option.timestep = 0.005
        floor = spec.geom("floor")
        floor.pos, floor.size = [MIDDLE, MIDDLE, 0.0], [SIDE / 2, SIDE / 2, 40.0]
        floor.material, floor.rgba = "", [0.6, 0.6, 0.55, 1]  # its squares are too small for a picture of all
        ball, box, disc = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)
        torso = spec.body("torso")
        torso.pos = list(START)
        for geom in spec.geoms:
            geom.density = DENSITY
        torso.add_geom(name="head", type=ball, pos=[0.4, 0, 0.25], size=[0.25, 0, 0], density=HEAD)
        # For the eye, which sees 70 m in one picture; a site touches nothing and weighs nothing.
        torso.add_site(name="flag", type=ball, pos=[0, 0, 2.5], size=[1.6, 0, 0], rgba=[0, 0.35, 0.8, 1])
        for i, (x, y, radius) in enumerate(self.areas):
            at = {"pos": [x, y, 0.02], "size": [radius, 0.02, 0], "rgba": [0.3, 0.8, 0.3, 1]}
            spec.worldbody.add_site(name=f"area_{i}", type=disc, **at)
        for name, middle, half in WALLS:
            spec.worldbody.add_geom(
                name=f"wall_{name}",
                type=box,
                pos=middle,
                size=half,
                contype=1,
                conaffinity=1,
                rgba=[0.25, 0.25, 0.25, 1],
            )
        return self.aside

    def _distances(self, now: State) -> list[Array]:
        places = (self.xp.constant((x, y), now.qpos) for x, y, _ in self.areas)
        return [self.xp.norm(now.qpos[:, :2] - place) for place in places]

    def observe(self, now: State) -> Array:
        """Where the ant is, in sides of the square, and how it stands and moves."""
        return self.xp.concat([(now.qpos[:, :2] - MIDDLE) / SIDE, now.qpos[:, 2:], now.qvel])

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """What the areas pay, in the last step."""
        steps = before.steps + 1
        worth = self.xp.zeros(steps)
        for away, (_, _, radius) in zip(self._distances(now), self.areas):
            worth = worth + self.xp.clip((radius - away) / radius, 0.0, np.inf)  # the areas are disjoint
        return Outcome(
            reward=worth * (steps == self._last),
            terminated=self.xp.never(now.qpos),
            info={"x_position": now.qpos[:, 0], "y_position": now.qpos[:, 1]},
            memory={"steps": steps},
        )

    def start(self, rng: np.random.Generator) -> Start:
        """Uniform noise on positions, normal noise on velocities."""
        return uniform_noise(self, rng, self.reset_noise_scale, normal_velocity=True)

    def start_info(self, now: State) -> dict[str, Array]:
        """Where the ant is."""
        return {"x_position": now.qpos[:, 0], "y_position": now.qpos[:, 1]}

    def facts(self, now: State) -> dict[str, Array]:
        """``descriptor``, ``area``, ``success`` and ``distance``."""
        away = self._distances(now)
        inside = [distance <= radius for distance, (_, _, radius) in zip(away, self.areas)]
        area = sum(near * (i + 1) for i, near in enumerate(inside)) - 1
        return {**super().facts(now), "area": area, "success": area >= 0, "distance": self.xp.least(away)}
