"""Whole episodes in compiled code, as in ``compiled.py``: networks at the curling table."""

# Warp's decorators have no types, and to it float(0.0) is a variable that a loop may change and 0.0 is not.
# mypy: disable-error-code="untyped-decorator,no-any-return"
# ruff: noqa: UP018

from math import pi

import warp as wp

from ..envs.areas import curling
from .compiled_networks import action, outputs

wp.set_module_options({"enable_backward": False})

HALF, LINK, TICK, BOUNCE = (wp.constant(float(x)) for x in (curling.HALF, curling.LINK, curling.TICK, curling.BOUNCE))
BASE_X, BASE_Y = (wp.constant(float(x)) for x in curling.BASE)
FIRST, SECOND = (wp.constant(float(x)) for x in curling.LIMITS)
EDGE = wp.constant(float(curling.HALF - curling.BALL))
REACH = wp.constant(float(curling.BALL + curling.THICK))
TOUCH = wp.constant(float(curling.BALL + curling.THICK - curling.SLACK))
SLOWER = wp.constant(float(1.0 + curling.DAMPING * curling.TICK))
PI = wp.constant(pi)


@wp.func
def _end(begin: wp.vec2, turned: float) -> wp.vec2:
    """The other end of a link."""
    return begin + wp.vec2(-wp.sin(turned), wp.cos(turned)) * LINK


@wp.func
def _outside(place: wp.vec2) -> bool:
    return wp.abs(place[0]) > HALF or wp.abs(place[1]) > HALF


@wp.func
def _left(v: wp.vec2) -> wp.vec2:
    return wp.vec2(-v[1], v[0])


@wp.func
def _nearest(ball: wp.vec2, begin: wp.vec2, end: wp.vec2) -> wp.vec2:
    """The point of a link that is nearest to the ball."""
    along = end - begin
    part = wp.clamp(wp.dot(ball - begin, along) / (LINK * LINK), 0.0, 1.0)
    return begin + along * part


@wp.kernel
def curling_episodes(
    genomes: wp.array2d[float], sizes: wp.array[int], per_unit: int, width: int,
    begin: wp.array[float], walls: wp.array2d[float], steps: int, work: wp.array2d[float],
    outcome: wp.array2d[float], length: wp.array[wp.int64],
) -> None:  # fmt: skip
    """The rules of ``envs/areas/curling.py``, to rounding."""
    lane = wp.tid()
    ball = wp.vec2(begin[0], begin[1])
    flight = wp.vec2(0.0, 0.0)
    base = wp.vec2(BASE_X, BASE_Y)
    first = float(0.0)  # the joints' angles, and their speeds
    second = float(0.0)
    first_speed = float(0.0)
    second_speed = float(0.0)
    for _t in range(steps):
        work[lane, 0] = wp.clamp(ball[0] / HALF, -1.0, 1.0)
        work[lane, 1] = wp.clamp(ball[1] / HALF, -1.0, 1.0)
        work[lane, 2] = wp.clamp(first / (0.5 * PI), -1.0, 1.0)
        work[lane, 3] = wp.clamp(second / PI, -1.0, 1.0)
        work[lane, 4] = wp.clamp(first_speed, -1.0, 1.0)
        work[lane, 5] = wp.clamp(second_speed, -1.0, 1.0)
        out = outputs(lane, genomes, sizes, per_unit, work, 0, width)

        # The arm, which stays where it is when it would leave the table.
        to_first = wp.clamp(first + action(work[lane, out]) * TICK, -FIRST, FIRST)
        to_second = wp.clamp(second + action(work[lane, out + 1]) * TICK, -SECOND, SECOND)
        elbow = _end(base, to_first)
        tip = _end(elbow, to_first + to_second)
        if _outside(elbow) or _outside(tip):
            to_first = first
            to_second = second
            elbow = _end(base, to_first)
            tip = _end(elbow, to_first + to_second)
        first_speed = (to_first - first) / TICK
        second_speed = (to_second - second) / TICK
        turning = first_speed + second_speed

        # The ball: on its way, off the first link, off the second, off the edges.
        was = ball
        flight = flight / SLOWER
        ball = ball + flight * TICK
        for link in range(2):
            point = _nearest(ball, base, elbow)
            moving = _left(point - base) * first_speed
            if link == 1:
                point = _nearest(ball, elbow, tip)
                moving = _left(elbow - base) * first_speed + _left(point - elbow) * turning
            way = ball - point
            away = wp.length(way)
            normal = way / wp.max(away, 1.0e-9)
            if away < REACH:
                closing = wp.dot(flight - moving, normal)
                if closing < 0.0:
                    flight = flight - normal * ((1.0 + BOUNCE) * closing)
                ball = point + normal * REACH
        if wp.abs(ball[0]) > EDGE and flight[0] * ball[0] > 0.0:
            flight = wp.vec2(-BOUNCE * flight[0], flight[1])
        if wp.abs(ball[1]) > EDGE and flight[1] * ball[1] > 0.0:
            flight = wp.vec2(flight[0], -BOUNCE * flight[1])
        ball = wp.vec2(wp.clamp(ball[0], -EDGE, EDGE), wp.clamp(ball[1], -EDGE, EDGE))

        # Between an arm and an edge: both stop.
        apart = wp.min(wp.length(ball - _nearest(ball, base, elbow)), wp.length(ball - _nearest(ball, elbow, tip)))
        if apart < TOUCH:
            ball = was
            flight = wp.vec2(0.0, 0.0)
            first_speed = 0.0
            second_speed = 0.0
        else:
            first = to_first
            second = to_second
    outcome[lane, 0] = ball[0]
    outcome[lane, 1] = ball[1]
    length[lane] = wp.int64(steps)
