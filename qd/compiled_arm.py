"""Episodes of the redundant arm in compiled code, as in ``compiled.py``."""

from math import pi

import torch
from torch import Tensor

from ..envs.areas import arm

NUMBERS = {
    "JOINTS": arm.JOINTS, "TICKS": arm.TICKS, "LINK": arm.LINK, "BASE": arm.BASE, "TICK": arm.TICK, "TOUCH": arm.TOUCH,
}  # fmt: skip


def begin() -> Tensor:
    """The spiral, ``[20]``."""
    return torch.linspace(4 * pi / arm.JOINTS, pi / arm.JOINTS, arm.JOINTS, dtype=torch.float64).float()


def walls() -> Tensor:
    """Left, right, low and high of each wall, ``[W, 4]``."""
    x, y, wide, high = torch.tensor(arm.WALLS).T
    return torch.stack([x, x + wide, y, y + high], -1).contiguous()


# Where the joints are matters only to whether the arm may be there, and at the end. A look at them also says by how
# much the links may turn before the arm may touch anything: points on it move by no more than a link's length for each
# link between them, times the largest turn, and the sum of their two coordinates by no more than sqrt(2) as much. Until
# a link has turned that far, nobody looks again. A lane whose episode has ended takes the next genome.
EPISODES = """
const int POINTS = JOINTS + 1, ROOM = 48;
const vec half_circle = all(0.5f * PI);
alignas(64) float angles[JOINTS * LANES], speeds[JOINTS * LANES], turned[JOINTS * LANES], known[JOINTS * LANES];
alignas(64) float next_angles[JOINTS * LANES], next_speeds[JOINTS * LANES], away[LANES], room[LANES] = {};
alignas(64) float x[2 * ROOM], y[2 * ROOM], around[ROOM], sine[ROOM], cosine[ROOM], over[ROOM], nth[ROOM];
vec *const angle = (vec*)angles, *const speed = (vec*)speeds, *const total = (vec*)turned, *const seen = (vec*)known;
vec *const next_angle = (vec*)next_angles, *const next_speed = (vec*)next_speeds;
for (int k = 0; k < JOINTS; ++k)
    angle[k] = speed[k] = seen[k] = vec{};
for (int k = 0; k < ROOM; ++k) {
    around[k] = 0.0f;
    nth[k] = k;
    over[k] = 1.0f / (LINK * (k > 1 ? k : 1));
}
for (int k = 0; k < 2 * ROOM; ++k)  // beyond the hand lie points that are far from everything
    x[k] = y[k] = 1000.0f * k;
long long row_of[LANES], next = 0, busy = 0;
int time[LANES];
for (int l = 0; l < LANES; ++l)
    row_of[l] = -1;

// The joints of a lane whose links point to these directions.
auto stretch = [&](const float* directions, int l) __attribute__((always_inline)) {
    for (int k = 0; k < JOINTS; ++k)
        around[k] = directions[k * LANES + l];
    for (int k = 0; k < JOINTS; k += LANES)
        turn(*(vec*)(around + k), (vec*)(sine + k), (vec*)(cosine + k));
    x[0] = y[0] = BASE;
    for (int k = 0; k < JOINTS; ++k) {
        x[k + 1] = x[k] + cosine[k] * LINK;
        y[k + 1] = y[k] + sine[k] * LINK;
    }
};
// How far its links may turn before it may touch something; negative where it does.
auto freedom = [&](int l) {
    stretch(turned, l);
    vec free = all(1e9f);
    for (int d = 2; d <= JOINTS; ++d) {
        const float per = over[d] * 0.7071f;
        for (int k = 0; k + d <= JOINTS; k += LANES) {
            const vec gap = size_of(*(vec*)(x + k + d) - *(vec*)(x + k)) + size_of(*(vec*)(y + k + d) - *(vec*)(y + k));
            free = least(free, (gap - TOUCH) * per);
        }
    }
    for (int k = 0; k < POINTS; k += LANES) {
        const vec at_x = *(vec*)(x + k), at_y = *(vec*)(y + k);
        vec clear = least(least(at_x, 1.0f - at_x), least(at_y, 1.0f - at_y));
        for (long long w = 0; w < walled; ++w) {
            const float* wall = walls + 4 * w;
            const vec beside = most(wall[0] - at_x, at_x - wall[1]);
            clear = least(clear, most(beside, most(wall[2] - at_y, at_y - wall[3])));
        }
        clear = *(vec*)(nth + k) < (float)POINTS ? clear : all(1e9f);
        free = least(free, clear * *(vec*)(over + k));
    }
    float smallest = free[0];
    for (int k = 1; k < LANES; ++k)
        smallest = free[k] < smallest ? free[k] : smallest;
    return smallest;
};
auto finish = [&](int l) {
    const long long row = row_of[l];
    float sum = 0.5f * PI;
    alignas(64) float directions[JOINTS * LANES];
    for (int k = 0; k < JOINTS; ++k) {
        directions[k * LANES + l] = sum += angles[k * LANES + l];
        last[row * JOINTS + k] = angles[k * LANES + l];
    }
    stretch(directions, l);
    outcome[2 * row] = x[JOINTS];
    outcome[2 * row + 1] = y[JOINTS];
    length[row] = time[l] + 1;
    row_of[l] = -1;
    --busy;
};

for (;;) {
    for (int l = 0; l < LANES && next < count; ++l)
        if (row_of[l] < 0) {
            carry(l, genomes + next * numbers);
            for (int k = 0; k < JOINTS; ++k) {
                angles[k * LANES + l] = begin[k];
                speeds[k * LANES + l] = 0.0f;
            }
            row_of[l] = next++;
            time[l] = 0;
            room[l] = -1.0f;
            ++busy;
        }
    if (!busy)
        break;
    for (int k = 0; k < JOINTS; ++k)
        inputs[k] = clamp(angle[k] / PI, -1.0f, 1.0f);
    const vec* out = network();
    for (int tick = 0; tick < TICKS; ++tick) {
        _Pragma("clang fp contract(fast)")
        vec sum = half_circle, largest{};
        for (int k = 0; k < JOINTS; ++k) {
            next_speed[k] = speed[k] + action(out[k]) * (TICK * 0.5f);
            next_angle[k] = angle[k] + next_speed[k] * TICK;
            sum += next_angle[k];
            total[k] = sum;
            largest = most(largest, size_of(sum - seen[k]));
        }
        *(vec*)away = largest;
        for (int l = 0; l < LANES; ++l)
            if (row_of[l] >= 0 && away[l] >= room[l]) {
                const float free = freedom(l);
                if (free < 0.0f)
                    finish(l);
                room[l] = free * 0.999f - 1e-5f;  // a little less, for rounding
                for (int k = 0; k < JOINTS; ++k)
                    known[k * LANES + l] = turned[k * LANES + l];
            }
        for (int k = 0; k < JOINTS; ++k) {
            angle[k] = next_angle[k];
            speed[k] = next_speed[k];
        }
    }
    for (int l = 0; l < LANES; ++l)
        if (row_of[l] >= 0) {
            if (time[l] + 1 == steps)
                finish(l);
            else
                ++time[l];
        }
}
"""
