"""Whole episodes in compiled code: networks in the redundant arm, the hard maze and curling, one lane after the other.

A batch steps all lanes by some fifty operations of torch, each of which costs microseconds however few lanes there are.
Where nobody looks at the steps in between, a kernel of Warp's runs each network to the end of its own episode. The
rules are those of ``envs/areas``, to rounding.
"""

# Warp's decorators have no types, and to it float(0.0) is a variable that a loop may change and 0.0 is not.
# mypy: disable-error-code="untyped-decorator,no-any-return"
# ruff: noqa: UP018

from math import pi
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor

from ..envs.areas import arm, curling, maze
from ..envs.batch import BatchEnv
from ..envs.grid.runtime import announced, start
from .compiled_curling import curling_episodes
from .compiled_networks import action, outputs
from .policies import MLP, Policy

wp.set_module_options({"enable_backward": False})

JOINTS = wp.constant(arm.JOINTS)
LINK, BASE, TOUCH, TICK = (wp.constant(float(x)) for x in (arm.LINK, arm.BASE, arm.TOUCH, arm.TICK))
TICKS = wp.constant(arm.TICKS)
# From one joint to the next x plus y change by no more than sqrt(2) links.
STRIDE = wp.constant(1.0 / (1.4143 * arm.LINK))
SIZE, RADIUS, RANGE, SPEED = (wp.constant(float(x)) for x in (maze.SIZE, maze.RADIUS, maze.RANGE, maze.SPEED))
PI = wp.constant(pi)
SENSOR = wp.constant(float(maze.ANGLES[0]))
# Where a lane's work lies: angles, speeds, those of the next tick, x, y, and then two layers of its network.
ARM_WORK = wp.constant(4 * arm.JOINTS + 2 * (arm.JOINTS + 1))


@wp.func
def _arm_is_legal(lane: int, work: wp.array2d[float], walls: wp.array2d[float]) -> bool:
    first = 4 * JOINTS
    second = first + JOINTS + 1
    for i in range(JOINTS + 1):
        x = work[lane, first + i]
        y = work[lane, second + i]
        if x < 0.0 or y < 0.0 or x >= 1.0 or y >= 1.0:
            return False
        for w in range(walls.shape[0]):
            if x > walls[w, 0] and x < walls[w, 1] and y > walls[w, 2] and y < walls[w, 3]:
                return False
    for i in range(JOINTS - 1):
        x = work[lane, first + i]
        y = work[lane, second + i]
        j = int(i + 2)
        while j <= JOINTS:
            gap = wp.abs(work[lane, first + j] - x) + wp.abs(work[lane, second + j] - y)
            if gap < TOUCH:
                return False
            j += wp.max(1, int((gap - TOUCH) * STRIDE))  # none in between can touch
    return True


@wp.kernel
def _arm_episodes(
    genomes: wp.array2d[float], sizes: wp.array[int], per_unit: int, width: int,
    spiral: wp.array[float], walls: wp.array2d[float], steps: int, work: wp.array2d[float],
    outcome: wp.array2d[float], length: wp.array[wp.int64],
) -> None:  # fmt: skip
    lane = wp.tid()
    first = 4 * JOINTS
    second = first + JOINTS + 1
    turned = float(0.5 * PI)
    x = float(BASE)
    y = float(BASE)
    for k in range(JOINTS):
        work[lane, k] = spiral[k]
        work[lane, JOINTS + k] = 0.0
        turned += spiral[k]
        x += wp.cos(turned) * LINK
        y += wp.sin(turned) * LINK
    t = int(0)
    stopped = bool(False)
    while t < steps and not stopped:
        for k in range(JOINTS):
            work[lane, ARM_WORK + k] = wp.clamp(work[lane, k] / PI, -1.0, 1.0)
        out = outputs(lane, genomes, sizes, per_unit, work, ARM_WORK, width)
        for _tick in range(TICKS):
            if not stopped:
                turned = float(0.5 * PI)
                ahead_x = float(BASE)
                ahead_y = float(BASE)
                work[lane, first] = BASE
                work[lane, second] = BASE
                for k in range(JOINTS):
                    faster = work[lane, JOINTS + k] + action(work[lane, out + k]) * (TICK * 0.5)
                    there = work[lane, k] + faster * TICK
                    work[lane, 2 * JOINTS + k] = there
                    work[lane, 3 * JOINTS + k] = faster
                    turned += there
                    ahead_x += wp.cos(turned) * LINK
                    ahead_y += wp.sin(turned) * LINK
                    work[lane, first + k + 1] = ahead_x
                    work[lane, second + k + 1] = ahead_y
                if _arm_is_legal(lane, work, walls):
                    for k in range(2 * JOINTS):
                        work[lane, k] = work[lane, 2 * JOINTS + k]
                    x = ahead_x
                    y = ahead_y
                else:
                    stopped = True
        t += 1
    outcome[lane, 0] = x
    outcome[lane, 1] = y
    length[lane] = wp.int64(t)


@wp.func
def _free_way(x: float, y: float, angle: float, walls: wp.array2d[float]) -> float:
    dx = wp.cos(angle)
    dy = wp.sin(angle)
    least = float(RANGE)
    for w in range(walls.shape[0]):
        ax = walls[w, 0] - x
        ay = walls[w, 1] - y
        ex = walls[w, 2]
        ey = walls[w, 3]
        cross = dx * ey - dy * ex
        if cross != 0.0:
            free = (ax * ey - ay * ex) / cross
            part = (ax * dy - ay * dx) / cross
            if free >= 0.0 and part >= 0.0 and part <= 1.0:
                least = wp.min(least, free)
    return least


@wp.func
def _remainder(x: float) -> float:
    return x - 2.0 * PI * wp.floor(x / (2.0 * PI))


@wp.kernel
def _maze_episodes(
    genomes: wp.array2d[float], sizes: wp.array[int], per_unit: int, width: int,
    begin: wp.array[float], walls: wp.array2d[float], steps: int, work: wp.array2d[float],
    outcome: wp.array2d[float], length: wp.array[wp.int64],
) -> None:  # fmt: skip
    lane = wp.tid()
    x = float(begin[0])
    y = float(begin[1])
    heading = float(begin[2])
    left_bumper = float(0.0)
    right_bumper = float(0.0)
    for _t in range(steps):
        for k in range(3):
            free = _free_way(x, y, heading + SENSOR * (1.0 - float(k)), walls)
            work[lane, k] = free / RANGE
        work[lane, 3] = left_bumper
        work[lane, 4] = right_bumper
        out = outputs(lane, genomes, sizes, per_unit, work, 0, width)
        left = SPEED * action(work[lane, out])
        right = SPEED * action(work[lane, out + 1])
        turn = (right - left) / (2.0 * RADIUS)
        chord = (left + right) / 2.0
        if turn != 0.0:
            chord = chord * wp.sin(turn * 0.5) / (turn * 0.5)
        middle = heading + turn * 0.5
        there_x = x + chord * wp.cos(middle)
        there_y = y + chord * wp.sin(middle)
        heading = _remainder(heading + turn)
        nearest = float(1.0e12)
        way_x = float(0.0)
        way_y = float(0.0)
        for w in range(walls.shape[0]):
            ax = walls[w, 0] - there_x
            ay = walls[w, 1] - there_y
            ex = walls[w, 2]
            ey = walls[w, 3]
            part = wp.clamp(-(ax * ex + ay * ey) / (ex * ex + ey * ey), 0.0, 1.0)
            wx = ax + part * ex
            wy = ay + part * ey
            away = wx * wx + wy * wy
            if away < nearest:
                nearest = away
                way_x = wx
                way_y = wy
        left_bumper = 0.0
        right_bumper = 0.0
        if wp.sqrt(nearest) < RADIUS:
            side = _remainder(wp.atan2(way_y, way_x) - heading + PI) - PI
            if side >= 0.0 and side <= 0.5 * PI:
                left_bumper = 1.0
            if side < 0.0 and side >= -0.5 * PI:
                right_bumper = 1.0
        else:
            x = there_x
            y = there_y
    outcome[lane, 0] = x / SIZE
    outcome[lane, 1] = y / SIZE
    length[lane] = wp.int64(steps)


class _World(NamedTuple):
    kernel: Any
    begin: Tensor
    walls: Tensor
    work: int


def _worlds() -> dict[type[BatchEnv], _World]:
    spiral = torch.linspace(4 * pi / arm.JOINTS, pi / arm.JOINTS, arm.JOINTS, dtype=torch.float64).float()
    x, y, wide, high = torch.tensor(arm.WALLS).T
    blocks = torch.stack([x, x + wide, y, y + high], -1).contiguous()
    ends = torch.tensor(maze.WALLS)
    lines = torch.cat([ends[:, :2], ends[:, 2:] - ends[:, :2]], -1).contiguous()
    return {
        arm.ArmBatch: _World(_arm_episodes, spiral, blocks, int(ARM_WORK)),
        maze.HardMazeBatch: _World(_maze_episodes, torch.tensor([*maze.START, maze.HEADING]), lines, 0),
        curling.CurlingBatch: _World(curling_episodes, torch.tensor(curling.BALL_START), lines, 0),  # it has no walls
    }


class Episodes:
    """Runs networks to the end of their episodes in one of the worlds that are compiled.

    Args:
        env: Any batch of that world: its limit on the steps counts, its number of lanes does not.
        policy: The networks.
    """

    def __init__(self, env: BatchEnv, policy: MLP) -> None:
        start()
        self._world, self._per_unit = _worlds()[type(env)], int(policy.bias == "unit")
        self._sizes = torch.tensor(policy.sizes, dtype=torch.int32)
        self._width = max(policy.sizes)
        assert env.max_steps is not None
        self.steps = env.max_steps

    def __call__(self, genomes: Tensor) -> tuple[Tensor, Tensor]:
        """Outcomes float32 ``[P, 2]`` and lengths int64 ``[P]`` of genomes float32 ``[P, D]``."""
        count, world = len(genomes), self._world
        outcome, length = torch.empty(count, 2), torch.empty(count, dtype=torch.int64)
        work = torch.empty(count, world.work + 2 * self._width)
        arrays = [wp.from_torch(x) for x in (genomes.contiguous(), self._sizes, world.begin, world.walls, work)]
        rows, sizes, begin, walls, space = arrays
        inputs = [rows, sizes, self._per_unit, self._width, begin, walls, self.steps, space]
        with announced("episodes"):
            results = [wp.from_torch(outcome), wp.from_torch(length)]
            wp.launch(world.kernel, dim=count, inputs=inputs, outputs=results, device="cpu")
        return outcome, length


def episodes(env: BatchEnv, policy: Policy) -> Episodes | None:
    """The compiled episodes of these policies in this world, or None where there are none."""
    if isinstance(env, maze.HardMazeBatch) and (env.sees != "sensors" or env.ticks > 1):
        return None
    known = type(env) in (arm.ArmBatch, maze.HardMazeBatch, curling.CurlingBatch) and env.device.type == "cpu"
    return Episodes(env, policy) if known and type(policy) is MLP else None
