"""Episodes of the hard maze in compiled code, as in ``compiled.py``."""

import torch
from torch import Tensor

from ..envs.areas import maze

NUMBERS = {
    "SIZE": maze.SIZE, "RADIUS": maze.RADIUS, "RANGE": maze.RANGE, "SPEED": maze.SPEED, "SENSOR": maze.ANGLES[0],
}  # fmt: skip


def begin() -> Tensor:
    """Place and heading, ``[3]``."""
    return torch.tensor([*maze.START, maze.HEADING])


def walls() -> Tensor:
    """Where each wall begins, the way to its end, and one over its length's square, ``[W, 5]``."""
    ends = torch.tensor(maze.WALLS)
    along = ends[:, 2:] - ends[:, :2]
    return torch.cat([ends[:, :2], along, 1 / along.square().sum(-1, keepdim=True)], -1).contiguous()


EPISODES = """
auto around = [&](vec x) __attribute__((always_inline)) { return x - 2.0f * PI * down(x / (2.0f * PI)); };
for (long long first = 0; first < count; first += LANES) {
    _Pragma("clang fp contract(fast)")
    const int filled = count - first < LANES ? (int)(count - first) : LANES;
    for (int l = 0; l < LANES; ++l)
        carry(l, genomes + (first + (l < filled ? l : 0)) * numbers);
    vec x = all(begin[0]), y = all(begin[1]), heading = all(begin[2]), left_bumper{}, right_bumper{};
    for (long long t = 0; t < steps; ++t) {
        vec dx[3], dy[3], free[3];
        for (int k = 0; k < 3; ++k) {
            turn(heading + SENSOR * (1 - k), dy + k, dx + k);
            free[k] = all(RANGE);
        }
        for (long long w = 0; w < walled; ++w) {
            const float *wall = walls + 5 * w, ex = wall[2], ey = wall[3];
            const vec ax = wall[0] - x, ay = wall[1] - y, side = ax * ey - ay * ex;
            for (int k = 0; k < 3; ++k) {  // beside a wall the hit is at infinity
                const vec over = 1.0f / (dx[k] * ey - dy[k] * ex);
                const vec way = side * over, part = (ax * dy[k] - ay * dx[k]) * over;
                const whole hit = (way >= 0.0f) & (part >= 0.0f) & (part <= 1.0f);
                free[k] = hit ? least(free[k], way) : free[k];
            }
        }
        for (int k = 0; k < 3; ++k)
            inputs[k] = free[k] / RANGE;
        inputs[3] = left_bumper;
        inputs[4] = right_bumper;
        const vec* out = network();
        const vec left = SPEED * action(out[0]), right = SPEED * action(out[1]);
        const vec turned = (right - left) / (2.0f * RADIUS), half = turned * 0.5f, way = (left + right) / 2.0f;
        vec sine, cosine, bent;
        turn(half, &bent, &cosine);
        const vec chord = turned != 0.0f ? way * bent / half : way;
        turn(heading + half, &sine, &cosine);
        const vec there_x = x + chord * cosine, there_y = y + chord * sine;
        heading = around(heading + turned);
        vec nearest = all(1e12f), way_x{}, way_y{};
        for (long long w = 0; w < walled; ++w) {
            const float *wall = walls + 5 * w, ex = wall[2], ey = wall[3];
            const vec ax = wall[0] - there_x, ay = wall[1] - there_y;
            const vec part = clamp((ax * ex + ay * ey) * -wall[4], 0.0f, 1.0f);
            const vec to_x = ax + part * ex, to_y = ay + part * ey, away = to_x * to_x + to_y * to_y;
            const whole nearer = away < nearest;
            nearest = nearer ? away : nearest;
            way_x = nearer ? to_x : way_x;
            way_y = nearer ? to_y : way_y;
        }
        const whole stopped = root(nearest) < RADIUS;
        const vec side = around(angle_of(way_y, way_x) - heading + PI) - PI;
        left_bumper = (stopped & (side >= 0.0f) & (side <= 0.5f * PI)) ? all(1.0f) : vec{};
        right_bumper = (stopped & (side < 0.0f) & (side >= -0.5f * PI)) ? all(1.0f) : vec{};
        x = stopped ? x : there_x;
        y = stopped ? y : there_y;
    }
    for (int l = 0; l < filled; ++l) {
        const long long row = first + l;
        outcome[2 * row] = x[l] / SIZE;
        outcome[2 * row + 1] = y[l] / SIZE;
        last[3 * row] = x[l];
        last[3 * row + 1] = y[l];
        last[3 * row + 2] = heading[l];
        length[row] = steps;
    }
}
"""
