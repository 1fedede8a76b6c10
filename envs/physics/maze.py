"""PointMaze and AntMaze: find the goal in a maze; as in gymnasium-robotics 1.4.2, bit for bit, and with one fixed goal.

Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning" (2020); upstream: ``PointMaze_*-v3`` and
``AntMaze_*-v5``. Reward, sparse: 1 in each step that ends within 0.45 m of the goal, else 0. Reward, dense:
exp(-distance to the goal). ``success``: within 0.45 m of the goal.

Upstream's goal moves right after the step that reached it (``reset_target=True``); here it moves when the next step
begins, so that observation, facts and picture of one moment have one goal. The numbers are the same.

The forms with one goal are for agents that know no goals: start and goal are the two ends of the maze
(``Layout.far_apart``), the goal is the middle of its cell, the start has upstream's noise, the observation is one
vector that begins with x and y, and reaching the goal ends the episode.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np

from .ant import Ant
from .layouts import Layout
from .task import Array, ModelFacts, Outcome, Spec, Start, State, Task

RADIUS = 0.45  # m: at the goal
_NOISE = 0.25  # of a cell's side: how far from its middle a goal or start may lie

_POINT = """
<mujoco model="point">
  <compiler inertiafromgeom="true" angle="radian"/>
  <option timestep=".01" integrator="Euler" gravity="0 0 0" iterations="20"/>
  <default>
    <joint limited="false" damping="1"/>
    <geom condim="1" contype="2" conaffinity="1" density="1000" friction=".5 .1 .1" margin=".002"/>
  </default>
  <asset>
    <texture name="floor" type="2d" builtin="checker" width="100" height="100" rgb1=".3 .35 .4" rgb2=".2 .25 .3"/>
    <material name="floor" texture="floor" texrepeat="20 20"/>
  </asset>
  <visual><headlight ambient=".4 .4 .4" diffuse=".8 .8 .8" specular=".1 .1 .1"/></visual>
  <worldbody>
    <geom name="ground" type="plane" contype="1" conaffinity="0" pos="0 0 -.1" size="40 40 .25" material="floor"/>
    <body name="particle">
      <geom name="particle_geom" type="sphere" contype="1" size=".1" rgba="0 0 1 0"/>
      <site name="particle_site" size=".2" rgba=".3 .6 .3 1"/>
      <joint name="ball_x" type="slide" axis="1 0 0"/>
      <joint name="ball_y" type="slide" axis="0 1 0"/>
    </body>
  </worldbody>
  <actuator>
    <motor name="motor_x" joint="ball_x" gear="100" ctrllimited="true" ctrlrange="-1 1"/>
    <motor name="motor_y" joint="ball_y" gear="100" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
</mujoco>"""


@dataclass
class Maze(Task):
    """What the robots share: the maze, its goals and its reward.

    Attributes:
        maze_map: A name of ``LAYOUTS``, or rows of cells as upstream's.
        reward_type: ``"sparse"`` or ``"dense"``.
        continuing_task: Reaching the goal does not end the episode.
        reset_target: The goal then moves.
    """

    xml_file: str = ""
    frame_skip: int = 1
    maze_map: Any = "UMaze"
    reward_type: str = "sparse"
    continuing_task: bool = True
    reset_target: bool = False

    options: ClassVar[tuple[str, ...]] = ("goal_cell", "reset_cell")
    side: ClassVar[float] = 1.0  # of a cell, m
    wall_height: ClassVar[float] = 0.4  # in sides

    def __post_init__(self) -> None:
        self.layout = Layout(self.maze_map, self.side)
        if self.reward_type not in ("sparse", "dense"):
            raise ValueError(f"reward_type={self.reward_type!r}: a maze's reward is 'sparse' or 'dense'")
        longest = max(self.layout.height, self.layout.width) * self.side
        self.camera = {"distance": 1.25 * longest, "lookat": (0.0, 0.0, 0.0), "elevation": -65.0}  # type: ignore[misc]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The goal, m."""
        return {"goal": (2,)}

    def furnish(self, spec: Spec) -> tuple[str, ...]:
        """Build the walls, and a marker for the goal."""
        half, up = 0.5 * self.side, self.wall_height / 2 * self.side
        names = []
        for i, j in self.layout.walls:
            names.append(f"block_{i}_{j}")
            spec.worldbody.add_geom(
                name=names[-1],
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[*self.layout.center((i, j)), up],
                size=[half, half, up],
                contype=1,
                conaffinity=1,
                rgba=[0.7, 0.5, 0.3, 1],
            )
        spec.worldbody.add_site(
            name="target",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            pos=[0, 0, up],
            size=[0.2 * self.side, 0.005, 0.005],  # a sphere has one size; the others are the defaults
            rgba=[1, 0, 0, 0.7],
        )
        return tuple(names)

    def bind(self, model: ModelFacts) -> None:
        """Find the goal's marker, and have the cells beside the engine's arrays."""
        super().bind(model)
        self._marker = model.site("target")
        like = model.init_qpos
        self._goals, self._starts = (self.xp.constant(at, like) for at in (self.layout.goals, self.layout.starts))

    def show(self, model: Any, now: State) -> None:
        """Put the marker where the goal is."""
        model.site_pos[self._marker, :2] = now.goal[0]

    def _robot(self, now: State) -> Array:
        """What the robot observes: ``[N, D]``."""
        raise NotImplementedError

    def _info(self, before: State | None, action: Array, now: State) -> dict[str, Array]:
        """Upstream's info of the robot; ``before`` is None at a start."""
        return {}

    def parts(self) -> dict[str, int] | None:
        """As upstream: observation, achieved and desired goal."""
        width = self._width
        return {"observation": width, "achieved_goal": 2, "desired_goal": 2}

    @property
    def _width(self) -> int:
        raise NotImplementedError

    def observe(self, now: State) -> Array:
        """The robot, where it is, and where it is to go."""
        return self.xp.concat([self._robot(now), now.qpos[:, :2], now.goal])

    def goal_reward(self, achieved: Array, desired: Array) -> Array:
        """The reward of being at ``achieved [N, 2]`` with the goal ``desired [N, 2]``: ``[N]``."""
        # Upstream's norm over an axis and its norm of one vector round differently; each is taken where upstream does.
        distance = self.xp.sqrt(self.xp.sum_square(achieved - desired))
        return self.xp.number(distance <= RADIUS) if self.reward_type == "sparse" else self.xp.exp(-distance)

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """Whether the goal is reached, or how far it is."""
        success = self.facts(now)["success"]
        moves = self.continuing_task and self.reset_target and len(self.layout.goals) > 1
        return Outcome(
            reward=self.goal_reward(now.qpos[:, :2], now.goal),
            terminated=self.xp.never(now.qpos) if self.continuing_task else success,
            info={**self._info(before, action, now), "success": success},
            renew=success if moves else None,
        )

    def start_info(self, now: State) -> dict[str, Array]:
        """Upstream's info of a reset."""
        return {**self._info(None, None, now), "success": self.facts(now)["success"]}

    def facts(self, now: State) -> dict[str, Array]:
        """``distance`` from the goal, m; ``success``: within 0.45 m; ``goal`` itself is there too."""
        distance = self.xp.norm(now.qpos[:, :2] - now.goal)
        return {"distance": distance, "success": distance <= RADIUS}

    def _near(self, rng: np.random.Generator, center: Array) -> Array:
        return center + rng.uniform(low=-_NOISE, high=_NOISE, size=2) * self.side

    def _goal(self, rng: np.random.Generator) -> Array:
        return self._near(rng, self._goals[rng.integers(low=0, high=len(self._goals))])

    def _chosen(self, options: dict[str, Any], name: str) -> Array | None:
        """The middle of the cell that an option of ``reset`` names, ``[2]``, or ``[N, 2]`` of N cells; None of none."""
        if options.get(name) is None:
            return None
        cells = np.asarray(options[name])
        centers = [
            self.layout.center(self.layout.check(name, cell)) for cell in (cells if cells.ndim == 2 else [cells])
        ]
        return self.xp.array(centers if cells.ndim == 2 else centers[0], self.model.init_qpos)

    def draw(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Start, dict[str, Any]]:
        """A goal, and a start more than half a cell from it; ``goal_cell`` and ``reset_cell`` choose the cells."""
        cell, place = self._chosen(options, "goal_cell"), self._chosen(options, "reset_cell")
        goal = self._goal(rng) if cell is None else self._near(rng, cell)
        if place is None:
            place = self.xp.redraw(
                rng,
                lambda rng: self._starts[rng.integers(low=0, high=len(self._starts))],
                lambda place: self.xp.norm(place - goal) > 0.5 * self.side,
            )
        return self._at(self._near(rng, place)), {"goal": goal}

    def renew(self, rng: np.random.Generator, now: State) -> dict[str, Any]:
        """The next goal, not where the robot is."""
        away = lambda goal: ~(self.xp.norm(now.qpos[:, :2] - goal) <= RADIUS)  # noqa: E731
        return {"goal": self.xp.redraw(rng, self._goal, away)}

    def _at(self, place: Array) -> Start:
        """The robot at rest at ``place [2]``."""
        nothing = self.xp.zeros(place[..., :1])
        return self.xp.join([place, nothing + self.model.init_qpos[2:]]), nothing + self.model.init_qvel


@dataclass
class PointMaze(Maze):
    """A ball that is pushed along x and y, 4 numbers, to a goal (PointMaze v3); reward and success as above."""

    settled: ClassVar[tuple[str, ...]] = ("xml_file", "frame_skip")
    xml: ClassVar[str | None] = _POINT
    velocity_limit: ClassVar[float | None] = 5.0  # m/s

    @property
    def _width(self) -> int:
        return 4

    def _robot(self, now: State) -> Array:
        return self.xp.concat([now.qpos, now.qvel])


@dataclass
class AntMaze(Maze, Ant):
    """Gymnasium's Ant in a maze with cells of 4 m (AntMaze v5); reward and success as above, falling ends nothing."""

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.0
    exclude_current_positions_from_observation: bool = False

    settled: ClassVar[tuple[str, ...]] = ("reset_noise_scale", "exclude_current_positions_from_observation")
    side: ClassVar[float] = 4.0
    wall_height: ClassVar[float] = 0.5

    @property
    def _width(self) -> int:
        sizes = self.model.sizes
        forces = 6 * (sizes["nbody"] - 1) if self.include_cfrc_ext_in_observation else 0
        return sizes["nq"] - 2 + sizes["nv"] + forces

    def _robot(self, now: State) -> Array:
        return Ant.observe(self, now)[:, 2:]

    def _info(self, before: State | None, action: Array, now: State) -> dict[str, Array]:
        return Ant.start_info(self, now) if before is None else Ant.outcome(self, before, action, now).info


@dataclass
class _Single(Maze):
    """The forms with one goal: mixed in before a robot."""

    continuing_task: bool = False

    settled: ClassVar[tuple[str, ...]] = ()

    def bind(self, model: ModelFacts) -> None:
        """Find the maze's ends."""
        super().bind(model)
        self._ends = [self.xp.constant(self.layout.center(c), model.init_qpos) for c in self.layout.far_apart()]

    def parts(self) -> dict[str, int] | None:
        """One vector."""
        return None

    def draw(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Start, dict[str, Any]]:
        """The two ends of the maze, unless ``goal_cell`` or ``reset_cell`` says otherwise; noise on the start alone."""
        place, goal = self._chosen(options, "reset_cell"), self._chosen(options, "goal_cell")
        start, end = self._ends
        return self._at(self._near(rng, start if place is None else place)), {"goal": end if goal is None else goal}


@dataclass
class SinglePointMaze(_Single, PointMaze):
    """PointMaze from one end of the maze to the other; observation: x, y and their velocities."""

    continuing_task: bool = False

    settled: ClassVar[tuple[str, ...]] = ("xml_file", "frame_skip", "continuing_task", "reset_target")

    def observe(self, now: State) -> Array:
        """x, y and their velocities."""
        return self._robot(now)


@dataclass
class SingleAntMaze(_Single, AntMaze):
    """AntMaze from one end of the maze to the other; observation: that of Ant v5, with x and y."""

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    continuing_task: bool = False

    settled: ClassVar[tuple[str, ...]] = (*AntMaze.settled, "continuing_task", "reset_target")

    def observe(self, now: State) -> Array:
        """What the ant observes, x and y first."""
        return Ant.observe(self, now)
