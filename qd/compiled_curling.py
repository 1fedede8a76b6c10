"""Episodes at the curling table in compiled code, as in ``compiled.py``."""

import torch
from torch import Tensor

from ..envs.areas import curling

NUMBERS = {
    "HALF": curling.HALF, "LINK": curling.LINK, "TICK": curling.TICK, "BOUNCE": curling.BOUNCE,
    "BASE_X": curling.BASE[0], "BASE_Y": curling.BASE[1], "FIRST": curling.LIMITS[0], "SECOND": curling.LIMITS[1],
    "EDGE": curling.HALF - curling.BALL, "REACH": curling.BALL + curling.THICK,
    "TOUCH": curling.BALL + curling.THICK - curling.SLACK, "SLOWER": 1.0 + curling.DAMPING * curling.TICK,
}  # fmt: skip


def begin() -> Tensor:
    """Where the ball is, ``[2]``."""
    return torch.tensor(curling.BALL_START)


def walls() -> Tensor:
    """There are none."""
    return torch.zeros(0, 4)


EPISODES = """
struct Place { vec x, y; };
auto add = [](Place a, Place b) __attribute__((always_inline)) { return Place{a.x + b.x, a.y + b.y}; };
auto less = [](Place a, Place b) __attribute__((always_inline)) { return Place{a.x - b.x, a.y - b.y}; };
auto times = [](Place a, vec by) __attribute__((always_inline)) { return Place{a.x * by, a.y * by}; };
auto left = [](Place a) __attribute__((always_inline)) { return Place{-a.y, a.x}; };
auto dot = [](Place a, Place b) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    return a.x * b.x + a.y * b.y;
};
auto choose = [](whole which, Place a, Place b) __attribute__((always_inline)) {
    return Place{which ? a.x : b.x, which ? a.y : b.y};
};
auto end = [&](Place from, vec turned) __attribute__((always_inline)) {
    vec sine, cosine;
    turn(turned, &sine, &cosine);
    return Place{from.x - sine * LINK, from.y + cosine * LINK};
};
auto outside = [&](Place a) __attribute__((always_inline)) { return (size_of(a.x) > HALF) | (size_of(a.y) > HALF); };
// The point of a link that is nearest to the ball.
auto nearest = [&](Place ball, Place from, Place to) __attribute__((always_inline)) {
    const Place along = less(to, from);
    return add(from, times(along, clamp(dot(less(ball, from), along) / (LINK * LINK), 0.0f, 1.0f)));
};
auto far = [&](Place a, Place b) __attribute__((always_inline)) {
    const Place way = less(a, b);
    return root(dot(way, way));
};
// Off a link: `point` is the nearest of it, which moves at `moving`.
auto bounce = [&](Place* ball, Place* flight, Place point, Place moving) __attribute__((always_inline)) {
    const Place way = less(*ball, point);
    const vec away = root(dot(way, way));
    const Place normal = times(way, 1.0f / most(away, all(1e-9f)));
    const vec closing = dot(less(*flight, moving), normal);
    const whole touching = away < REACH;
    *flight = choose(touching & (closing < 0.0f), less(*flight, times(normal, (1.0f + BOUNCE) * closing)), *flight);
    *ball = choose(touching, add(point, times(normal, all(REACH))), *ball);
};
const Place base{all(BASE_X), all(BASE_Y)}, still{vec{}, vec{}};
for (long long from = 0; from < count; from += LANES) {
    const int filled = count - from < LANES ? (int)(count - from) : LANES;
    for (int l = 0; l < LANES; ++l)
        carry(l, genomes + (from + (l < filled ? l : 0)) * numbers);
    Place ball{all(begin[0]), all(begin[1])}, flight = still;
    vec first{}, second{}, first_speed{}, second_speed{};  // the joints' angles, and their speeds
    Place elbow = end(base, first), tip = end(elbow, first + second);
    for (long long t = 0; t < steps; ++t) {
        inputs[0] = clamp(ball.x / HALF, -1.0f, 1.0f);
        inputs[1] = clamp(ball.y / HALF, -1.0f, 1.0f);
        inputs[2] = clamp(first / (0.5f * PI), -1.0f, 1.0f);
        inputs[3] = clamp(second / PI, -1.0f, 1.0f);
        inputs[4] = clamp(first_speed, -1.0f, 1.0f);
        inputs[5] = clamp(second_speed, -1.0f, 1.0f);
        const vec* out = network();

        // The arm, which stays where it is when it would leave the table.
        vec to_first = clamp(first + action(out[0]) * TICK, -FIRST, FIRST);
        vec to_second = clamp(second + action(out[1]) * TICK, -SECOND, SECOND);
        Place to_elbow = end(base, to_first), to_tip = end(to_elbow, to_first + to_second);
        const whole stays = outside(to_elbow) | outside(to_tip);
        to_first = stays ? first : to_first;
        to_second = stays ? second : to_second;
        to_elbow = choose(stays, elbow, to_elbow);
        to_tip = choose(stays, tip, to_tip);
        first_speed = (to_first - first) / TICK;
        second_speed = (to_second - second) / TICK;

        // The ball: on its way, off the first link, off the second, off the edges.
        const Place was = ball;
        flight = times(flight, all(1.0f / SLOWER));
        ball = add(ball, times(flight, all(TICK)));
        Place point = nearest(ball, base, to_elbow);
        bounce(&ball, &flight, point, times(left(less(point, base)), first_speed));
        point = nearest(ball, to_elbow, to_tip);
        const Place carried = times(left(less(to_elbow, base)), first_speed);
        bounce(&ball, &flight, point, add(carried, times(left(less(point, to_elbow)), first_speed + second_speed)));
        flight.x = ((size_of(ball.x) > EDGE) & (flight.x * ball.x > 0.0f)) ? -BOUNCE * flight.x : flight.x;
        flight.y = ((size_of(ball.y) > EDGE) & (flight.y * ball.y > 0.0f)) ? -BOUNCE * flight.y : flight.y;
        ball = Place{clamp(ball.x, -EDGE, EDGE), clamp(ball.y, -EDGE, EDGE)};

        // Between an arm and an edge: both stop.
        const vec apart = least(far(ball, nearest(ball, base, to_elbow)), far(ball, nearest(ball, to_elbow, to_tip)));
        const whole squeezed = apart < TOUCH;
        ball = choose(squeezed, was, ball);
        flight = choose(squeezed, still, flight);
        first_speed = squeezed ? vec{} : first_speed;
        second_speed = squeezed ? vec{} : second_speed;
        first = squeezed ? first : to_first;
        second = squeezed ? second : to_second;
        elbow = choose(squeezed, elbow, to_elbow);
        tip = choose(squeezed, tip, to_tip);
    }
    for (int l = 0; l < filled; ++l) {
        const long long row = from + l;
        outcome[2 * row] = last[4 * row] = ball.x[l];
        outcome[2 * row + 1] = last[4 * row + 1] = ball.y[l];
        last[4 * row + 2] = first[l];
        last[4 * row + 3] = second[l];
        length[row] = steps;
    }
}
"""
