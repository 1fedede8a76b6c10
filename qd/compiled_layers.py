"""The layers of the autoencoder of pictures in C++, for ``compiled_images.py``."""

from .compiled_networks import POWER

# `block` multiplies R places, `step` floats from one to the next, with weights of C registers of columns; what a place
# reads lies in `runs` stretches of `length`. A large map of 2 h rows has rows 1 to 2 h of h + 2 pairs of rows: place
# (i, j) of the small map reads rows 2 i to 2 i + 3, and row 2 a + p of the large one takes from rows a - 1 and a of
# the small one (a and a + 1 with the border). SELU's slope is read off its value.
LOOP = (
    POWER
    + """
#ifdef __AVX512F__
struct T4x1 { enum { R = 4, C = 1 }; };
struct T8x1 { enum { R = 8, C = 1 }; };
struct T11x1 { enum { R = 11, C = 1 }; };
struct T4x2 { enum { R = 4, C = 2 }; };
struct T6x2 { enum { R = 6, C = 2 }; };
struct T8x2 { enum { R = 8, C = 2 }; };
struct T4x4 { enum { R = 4, C = 4 }; };
#else  // half as many registers, of half the width at most
struct T4x1 { enum { R = 4, C = 1 }; };
struct T11x1 { enum { R = 3, C = 1 }; };
typedef T4x1 T8x1, T4x2, T6x2, T8x2, T4x4;
#endif
const float SCALE = 1.0507009873554805f, LOWEST = SCALE * 1.6732632423543772f;
auto selu = [&](vec x) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    const vec below = x > 0.0f ? vec{} : x > -80.0f ? x : vec{} - 80.0f;
    return x > 0.0f ? x * SCALE : power(below) * LOWEST - LOWEST;
};
auto slope = [&](vec y) __attribute__((always_inline)) { return y > 0.0f ? vec{} + SCALE : y + LOWEST; };
auto total = [](vec x) __attribute__((always_inline)) {
    float sum = 0.0f;
    for (int k = 0; k < 16; ++k)
        sum += x[k];
    return sum;
};
auto block = [](auto tile, const float* a, int step, int runs, int run, int length, const float* b, int across,
                auto done) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    constexpr int R = decltype(tile)::R, C = decltype(tile)::C;
    vec s[R][C];
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < C; ++q)
            s[r][q] = vec{};
    for (int t = 0; t < runs; ++t, a += run)
        for (int k = 0; k < length; ++k, b += across) {
            vec w[C];
            for (int q = 0; q < C; ++q)
                w[q] = *(const vec*)(b + 16 * q);
            for (int r = 0; r < R; ++r) {
                const float x = a[r * step + k];
                for (int q = 0; q < C; ++q)
                    s[r][q] += x * w[q];
            }
        }
    vec made[R * C];  // so that the sums above stay in registers
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < C; ++q)
            made[r * C + q] = s[r][q];
    _Pragma("clang loop unroll(disable)")
    for (int r = 0; r < R * C; ++r)
        done(r / C, r % C, made[r]);
};
// From a large map of C channels to a small one of h x h places and N channels.
auto down = [&](auto tile, const float* big, int h, int wide, int narrow, const float* weights, auto done)
    __attribute__((always_inline)) {
    constexpr int R = decltype(tile)::R, COLS = 16 * decltype(tile)::C;
    const int line = (2 * h + 2) * wide;
    for (int n = 0; n < narrow; n += COLS)
        for (int i = 0; i < h; ++i)
            for (int j = 0; j < h; j += R)
                block(tile, big + 2 * i * line + 2 * j * wide, 2 * wide, 4, line, 4 * wide, weights + n, narrow,
                      [&](int r, int q, vec v) __attribute__((always_inline)) {
                          done(((i + 1) * (h + 2) + j + 1 + r) * narrow + n + 16 * q, n + 16 * q, v);
                      });
};
// From a small map to a large one.
auto up = [&](auto tile, const float* small, int h, int wide, int narrow, const float* weights, auto done)
    __attribute__((always_inline)) {
    constexpr int R = decltype(tile)::R, COLS = 16 * decltype(tile)::C;
    const int line = (h + 2) * narrow;
    for (int phase = 0; phase < 4; ++phase) {
        const int p = phase / 2, o = phase % 2;
        for (int n = 0; n < wide; n += COLS)
            for (int i = 1 - p; i < h + 1 - p; ++i)
                for (int j = 1 - o; j < h + 1 - o; j += R)
                    block(tile, small + i * line + j * narrow, narrow, 2, line, 2 * narrow,
                          weights + phase * 4 * narrow * wide + n, wide,
                          [&](int r, int q, vec v) __attribute__((always_inline)) {
                              const int y = 2 * i + p, x = 2 * (j + r) + o;
                              done((y * (2 * h + 2) + x) * wide + n + 16 * q, n + 16 * q, v);
                          });
    }
};
// What the weights between both maps gain: the large map times the small one, summed over places.
auto gain = [](auto tile, const float* big, const float* small, int h, int wide, int narrow, float* into)
    __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    constexpr int R = decltype(tile)::R, C = decltype(tile)::C;
    const int line = (2 * h + 2) * wide;
    for (int k = 0; k < 4; ++k)
        for (int m = 0; m < 4 * wide; m += R)
            for (int n = 0; n < narrow; n += 16 * C) {
                float* to = into + (k * 4 * wide + m) * narrow + n;
                vec s[R][C];
                for (int r = 0; r < R; ++r)
                    for (int q = 0; q < C; ++q)
                        s[r][q] = *(const vec*)(to + r * narrow + 16 * q);
                for (int i = 0; i < h; ++i) {
                    const float *a = big + (2 * i + k) * line + m, *b = small + ((i + 1) * (h + 2) + 1) * narrow + n;
                    for (int j = 0; j < h; ++j, a += 2 * wide, b += narrow) {
                        vec w[C];
                        for (int q = 0; q < C; ++q)
                            w[q] = *(const vec*)(b + 16 * q);
                        for (int r = 0; r < R; ++r)
                            for (int q = 0; q < C; ++q)
                                s[r][q] += a[r] * w[q];
                    }
                }
                for (int r = 0; r < R; ++r)
                    for (int q = 0; q < C; ++q)
                        *(vec*)(to + r * narrow + 16 * q) = s[r][q];
            }
};
auto sums = [](const float* map, int side, int channels, float* into) {
    for (int y = 1; y <= side; ++y)
        for (int x = 1; x <= side; ++x)
            for (int n = 0; n < channels; n += 16)
                *(vec*)(into + n) += *(const vec*)(map + (y * (side + 2) + x) * channels + n);
};

float* const room = work + piece * ROOM;
float* const gradient = slopes + piece * SIZE;
for (int k = 0; k < ROOM; ++k)
    room[k] = 0.0f;
if (learn)
    for (int k = 0; k < SIZE; ++k)
        gradient[k] = 0.0f;
// Into a map with SELU, and a gradient into a map by its slope.
auto fill = [&](int to, int bias) {
    return [=](int at, int n, vec v) __attribute__((always_inline)) {
        *(vec*)(room + to + at) = selu(v + *(const vec*)(theta + bias + n));
    };
};
auto back = [&](int to, int seen) {
    return [=](int at, int, vec v) __attribute__((always_inline)) {
        *(vec*)(room + to + at) = v * slope(*(const vec*)(room + seen + at));
    };
};
const float into = 2.0f / ((float)out_of * (SIDE * SIDE * 3));
for (long long row = from; row < from + count; ++row) {
    _Pragma("clang fp contract(fast)")
    for (int y = 0; y < SIDE; ++y) {
        const long long first = rows[row] * (SIDE * SIDE * 3) + y * SIDE * 3;
        float* to = room + SEEN0 + ((y + 1) * (SIDE + 2) + 1) * 3;
        if (bytes)
            for (int k = 0; k < SIDE * 3; ++k)
                to[k] = (float)bytes[first + k] / 255.0f;
        else
            for (int k = 0; k < SIDE * 3; ++k)
                to[k] = floats[first + k];
    }
    down(T8x2{}, room + SEEN0, 32, 3, 32, theta + ENCODE0, fill(SEEN1, ENCODE0_BIAS));
    down(T4x4{}, room + SEEN1, 16, 32, 64, theta + ENCODE1, fill(SEEN2, ENCODE1_BIAS));
    down(T8x2{}, room + SEEN2, 8, 64, 32, theta + ENCODE2, fill(SEEN3, ENCODE2_BIAS));
    down(T4x1{}, room + SEEN3, 4, 32, 16, theta + ENCODE3, fill(SEEN4, ENCODE3_BIAS));
    float* const point = points + row * POINT_SIZE;
    for (int n = 0; n < POINT_SIZE; n += 16) {
        vec s = *(const vec*)(theta + POINT_BIAS + n);
        for (int k = 0; k < FLAT; ++k)
            s += room[SEEN4 + ((k / 64 + 1) * 6 + k / 16 % 4 + 1) * 16 + k % 16]
                * *(const vec*)(theta + POINT + k * POINT_SIZE + n);
        *(vec*)(point + n) = s;
    }
    if (!redraw)
        continue;
    for (int k = 0; k < FLAT; k += 16) {
        vec s = *(const vec*)(theta + OPEN_BIAS + k);
        for (int n = 0; n < POINT_SIZE; ++n)
            s += point[n] * *(const vec*)(theta + OPEN + n * FLAT + k);
        *(vec*)(room + REDRAWN4 + ((k / 64 + 1) * 6 + k / 16 % 4 + 1) * 16) = selu(s);
    }
    up(T4x2{}, room + REDRAWN4, 4, 32, 16, turned + DECODE3_UP, fill(REDRAWN3, DECODE3_BIAS));
    up(T4x4{}, room + REDRAWN3, 8, 64, 32, turned + DECODE2_UP, fill(REDRAWN2, DECODE2_BIAS));
    up(T8x2{}, room + REDRAWN2, 16, 32, 64, turned + DECODE1_UP, fill(REDRAWN1, DECODE1_BIAS));
    // The last map has three channels: its four phases are made together, for a border of one place too.
    vec bias{};
    for (int k = 0; k < 12; ++k)
        bias[k] = theta[DECODE0_BIAS + k % 3];
    for (int i = 0; i < 33; ++i)
        for (int j = 0; j < 33; j += 11)
            block(T11x1{}, room + REDRAWN1 + (i * 34 + j) * 32, 32, 2, 34 * 32, 64, turned + DECODE0_UP, 16,
                  [&](int r, int, vec v) __attribute__((always_inline)) {
                      const vec z = v + bias, e = power(z < 80.0f ? vec{} - z : vec{} - 80.0f);
                      *(vec*)(room + PHASES + (i * 33 + j + r) * 16) = 1.0f / (1.0f + e);
                  });
    float error = 0.0f;
    for (int y = 1; y <= SIDE; ++y) {
        float here = 0.0f;
        const float *drawn = room + PHASES + y / 2 * 33 * 16 + y % 2 * 6, *seen = room + SEEN0 + y * (SIDE + 2) * 3;
        float* const off = room + REDRAWN0 + y * (SIDE + 2) * 3;
        for (int x = 1; x <= SIDE; ++x)
            for (int c = 0; c < 3; ++c) {
                const float p = drawn[x / 2 * 16 + x % 2 * 3 + c], gap = p - seen[x * 3 + c];
                here += gap * gap;
                off[x * 3 + c] = into * gap * p * (1.0f - p);
            }
        error += here;
    }
    errors[row] = error / (SIDE * SIDE * 3);
    if (!learn)
        continue;
    for (int y = 1; y <= SIDE; ++y)
        for (int x = 1; x <= SIDE; ++x)
            for (int c = 0; c < 3; ++c)
                gradient[DECODE0_BIAS + c] += room[REDRAWN0 + (y * (SIDE + 2) + x) * 3 + c];
    gain(T6x2{}, room + REDRAWN0, room + REDRAWN1, 32, 3, 32, gradient + DECODE0);
    down(T8x2{}, room + REDRAWN0, 32, 3, 32, theta + DECODE0, back(GRADIENT1, REDRAWN1));
    sums(room + GRADIENT1, 32, 32, gradient + DECODE1_BIAS);
    gain(T4x4{}, room + GRADIENT1, room + REDRAWN2, 16, 32, 64, gradient + DECODE1);
    down(T4x4{}, room + GRADIENT1, 16, 32, 64, theta + DECODE1, back(GRADIENT2, REDRAWN2));
    sums(room + GRADIENT2, 16, 64, gradient + DECODE2_BIAS);
    gain(T8x2{}, room + GRADIENT2, room + REDRAWN3, 8, 64, 32, gradient + DECODE2);
    down(T8x2{}, room + GRADIENT2, 8, 64, 32, theta + DECODE2, back(GRADIENT3, REDRAWN3));
    sums(room + GRADIENT3, 8, 32, gradient + DECODE3_BIAS);
    gain(T8x1{}, room + GRADIENT3, room + REDRAWN4, 4, 32, 16, gradient + DECODE3);
    down(T4x1{}, room + GRADIENT3, 4, 32, 16, theta + DECODE3, back(GRADIENT4, REDRAWN4));
    alignas(64) float pull[POINT_SIZE] = {};
    for (int k = 0; k < FLAT; k += 16) {
        const vec g = *(const vec*)(room + GRADIENT4 + ((k / 64 + 1) * 6 + k / 16 % 4 + 1) * 16);
        *(vec*)(gradient + OPEN_BIAS + k) += g;
        for (int n = 0; n < POINT_SIZE; ++n) {
            *(vec*)(gradient + OPEN + n * FLAT + k) += point[n] * g;
            pull[n] += total(g * *(const vec*)(theta + OPEN + n * FLAT + k));
        }
    }
    for (int n = 0; n < POINT_SIZE; n += 16)
        *(vec*)(gradient + POINT_BIAS + n) += *(const vec*)(pull + n);
    for (int k = 0; k < FLAT; ++k) {
        const int at = ((k / 64 + 1) * 6 + k / 16 % 4 + 1) * 16 + k % 16;
        vec s{};
        for (int n = 0; n < POINT_SIZE; n += 16) {
            *(vec*)(gradient + POINT + k * POINT_SIZE + n) += room[SEEN4 + at] * *(const vec*)(pull + n);
            s += *(const vec*)(pull + n) * *(const vec*)(theta + POINT + k * POINT_SIZE + n);
        }
        room[GRADIENT4 + at] = total(s);
    }
    for (int y = 1; y <= 4; ++y)
        for (int x = 1; x <= 4; ++x) {
            vec* const g = (vec*)(room + GRADIENT4 + (y * 6 + x) * 16);
            *g = *g * slope(*(const vec*)(room + SEEN4 + (y * 6 + x) * 16));
        }
    sums(room + GRADIENT4, 4, 16, gradient + ENCODE3_BIAS);
    gain(T8x1{}, room + SEEN3, room + GRADIENT4, 4, 32, 16, gradient + ENCODE3);
    up(T4x2{}, room + GRADIENT4, 4, 32, 16, turned + ENCODE3_UP, back(GRADIENT3, SEEN3));
    sums(room + GRADIENT3, 8, 32, gradient + ENCODE2_BIAS);
    gain(T8x2{}, room + SEEN2, room + GRADIENT3, 8, 64, 32, gradient + ENCODE2);
    up(T4x4{}, room + GRADIENT3, 8, 64, 32, turned + ENCODE2_UP, back(GRADIENT2, SEEN2));
    sums(room + GRADIENT2, 16, 64, gradient + ENCODE1_BIAS);
    gain(T4x4{}, room + SEEN1, room + GRADIENT2, 16, 32, 64, gradient + ENCODE1);
    up(T8x2{}, room + GRADIENT2, 16, 32, 64, turned + ENCODE1_UP, back(GRADIENT1, SEEN1));
    sums(room + GRADIENT1, 32, 32, gradient + ENCODE0_BIAS);
    gain(T6x2{}, room + SEEN0, room + GRADIENT1, 32, 3, 32, gradient + ENCODE0);
}
"""
)
