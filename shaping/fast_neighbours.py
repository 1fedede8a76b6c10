"""Compiled loops of the pseudo-counts, for a CPU: the nearest states of the episode, and what they are worth."""

from functools import cache

import torch
from torch import Tensor

from ..envs.native import Spread
from .fast_networks import LANES

FEW = 16  # neighbours that are sorted in registers


def bonus(near: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """``PseudoCounts.bonus`` of squared distances to the nearest ``[T, N, k]``.

    Args:
        near: The distances, infinite where there are fewer.
        numbers: float32 ``[5]``: the mean that they are divided by, then ``cluster``, ``epsilon``, ``c`` and ``most``.

    Returns:
        The plain bonus ``[T, N]``, and the sum and the number of the finite distances, float64 ``[2]``.
    """
    loop, rows = _bonus(), near[..., 0].numel()
    out, sums = torch.empty(near.shape[:-1]), torch.zeros(loop.pieces(rows), 2, dtype=torch.float64)
    loop(rows, near.contiguous(), numbers, out, sums, near.shape[-1])
    return out, sums.sum(0)


def kth(rows: Tensor, known: Tensor, k: int) -> Tensor:
    """The distance of ``rows [B, F]`` to the k-th nearest of ``known [M, F]``, k up to ``FEW``: float32 ``[B]``."""
    count, width = known.shape
    blocks = torch.full((-(-count // LANES) * LANES, width), torch.inf)
    blocks[:count] = known
    blocks = blocks.reshape(-1, LANES, width).transpose(1, 2).contiguous()
    out = torch.empty(len(rows))
    _kth()(len(rows), rows.contiguous(), blocks, out, len(blocks), width, k)
    return out


@cache
def _kth() -> Spread:
    arguments = {
        "rows": "const float*", "blocks": "const float*", "out": "float*", "many": "long long", "width": "long long",
        "k": "long long",
    }  # fmt: skip
    return Spread("k-th neighbours", arguments, f"\nconst int FEW = {FEW};\n" + _LEAST + _KTH, 64)


@cache
def _bonus() -> Spread:
    arguments = {
        "near": "const float*", "numbers": "const float*", "out": "float*", "sums": "double*", "k": "long long"
    }  # fmt: skip
    return Spread("worth of neighbours", arguments, _BONUS, 1024)


@cache
def search(features: int) -> Spread:
    """The search and the remembering: sixteen known states at a time beside those that ask."""
    arguments = {
        "bank": "float*", "size": "long long*", "states": "const float*", "begins": "const bool*",
        "valid": "const bool*", "out": "float*", "steps": "long long", "lanes": "long long", "room": "long long",
        "k": "long long",
    }  # fmt: skip
    return Spread(
        "nearest states of the episode",
        arguments,
        f"\nconst int WIDTH = {features}, FEW = {FEW};\n" + _LEAST + _SEARCH,
        16,
    )


# Sixteen lists side by side, each in order; the k nearest of all are asked for.
_LEAST = """
const int WIDE = 16;
typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef int whole __attribute__((vector_size(64), aligned(4)));
const float none = __builtin_inff();
const whole bits = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
auto lesser = [](vec a, vec b) { return a < b ? a : b; };
auto insert = [](vec* list, long long depth, vec x) {
    for (long long j = 0; j < depth; ++j) {
        const vec held = list[j];
        list[j] = x < held ? x : held;
        x = x < held ? held : x;
    }
};
// The nearest of all places, and then those that come next in theirs; what there is none of stays as it was.
auto pick = [&](vec* list, long long depth, float* best) {
    for (long long i = 0; i < k;) {
        vec least = lesser(list[0], __builtin_shufflevector(
            list[0], list[0], 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
        least = lesser(least, __builtin_shufflevector(
            least, least, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
        least = lesser(least, __builtin_shufflevector(
            least, least, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
        least = lesser(least, __builtin_shufflevector(
            least, least, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
        if (!(least[0] < none))
            break;
        const whole taken = (whole)(list[0] == least);
        int times = __builtin_popcount((unsigned)__builtin_reduce_or(taken & bits));
        for (; times > 0 && i < k; --times)
            best[i++] = least[0];
        for (long long j = 0; j < depth; ++j) {
            const vec next = j + 1 < depth ? list[j + 1] : vec{} + none;
            list[j] = (vec)(((whole)next & taken) | ((whole)list[j] & ~taken));
        }
    }
};
"""
_KTH = """
const int ASKING = 4;
vec lists[ASKING][FEW];
float best[FEW];
for (long long begin = from; begin < from + count; begin += ASKING) {
    const long long left = from + count - begin, asking = left < ASKING ? left : ASKING;
    const float* one[ASKING];
    for (int q = 0; q < ASKING; ++q) {
        one[q] = rows + (begin + (q < asking ? q : 0)) * width;
        for (long long j = 0; j < k; ++j)
            lists[q][j] = vec{} + none;
    }
    for (long long b = 0; b < many; ++b) {
        _Pragma("clang fp contract(fast)")
        vec far[ASKING] = {};
        for (long long d = 0; d < width; ++d) {
            const vec known = *(const vec*)(blocks + (b * width + d) * WIDE);
            for (int q = 0; q < ASKING; ++q) {
                const vec gap = known - one[q][d];
                far[q] += gap * gap;
            }
        }
        for (int q = 0; q < ASKING; ++q)
            insert(lists[q], k, far[q]);
    }
    for (int q = 0; q < asking; ++q) {
        for (long long j = 0; j < k; ++j)
            best[j] = none;
        pick(lists[q], k, best);
        out[begin + q] = __builtin_sqrtf(best[k - 1]);
    }
}
"""
_SEARCH = """
const int GROUP = 64;
for (long long lane = from; lane < from + count; ++lane) {
    float* kept = bank + lane * room * WIDTH;
    const long long had = size[lane];
    // The state that step t began with (0) or led to (1).
    auto state = [&](long long which, long long t) { return states + ((which * steps + t) * lanes + lane) * WIDTH; };
    long long era = 0, number = had;  // of the next state: how many episodes began here before it, and its own in its
    for (long long first = 0; first < steps; first += GROUP) {
        const int asking = steps - first < GROUP ? (int)(steps - first) : GROUP;
        const long long oldest_era = era;
        int mine[GROUP], of[GROUP];  // number and era of each state that asks, -1 where there is none
        long long worst[GROUP];  // the place of the farthest of those that are kept
        // If no more than FEW are asked for: the nearest of those in each place of the blocks so far, in order.
        alignas(64) vec lists[GROUP * FEW];
        long long depth = 0;
        for (int q = 0; q < asking; ++q) {
            const long long at = (first + q) * lanes + lane;
            if (begins[at]) {
                ++era;
                number = 1;
            }
            mine[q] = valid[at] ? (int)number++ : -1;
            of[q] = (int)era;
            worst[q] = 0;
            for (long long i = 0; i < k; ++i)
                out[at * k + i] = none;
            for (long long i = 0; k <= FEW && i < k; ++i)
                lists[q * FEW + i] = vec{} + none;
        }
        alignas(64) float block[WIDTH * WIDE];  // known states, side by side
        alignas(64) int numbers[WIDE], eras[WIDE];
        int filled = 0;
        auto compare = [&]() {
            _Pragma("clang fp contract(fast)")
            for (int i = filled; i < WIDE; ++i)
                eras[i] = -1;
            filled = 0;
            depth += depth < k;
            for (int q = 0; q < asking; ++q) {
                if (mine[q] < 0)
                    continue;
                const float* me = state(1, first + q);
                float* best = out + ((first + q) * lanes + lane) * k;
                vec far = {};
                for (int d = 0; d < WIDTH; ++d) {
                    const vec gap = *(const vec*)(block + d * WIDE) - me[d];
                    far += gap * gap;
                }
                const whole there = *(const whole*)numbers;
                const whole known = (whole)(*(const whole*)eras == of[q]) & (whole)(there < mine[q])
                    & (whole)(there >= (int)(mine[q] - room));
                if (k <= FEW) {
                    insert(lists + q * FEW, depth, (vec)(((whole)far & known) | ((whole)(vec{} + none) & ~known)));
                    continue;
                }
                const whole close = (whole)(far < best[worst[q]]) & known;
                for (int left = __builtin_reduce_or(close & bits); left; left &= left - 1) {
                    const int i = __builtin_ctz((unsigned)left);
                    if (!(far[i] < best[worst[q]]))
                        continue;
                    best[worst[q]] = far[i];
                    for (long long j = 0; j < k; ++j)
                        if (best[j] > best[worst[q]])
                            worst[q] = j;
                }
            }
        };
        auto offer = [&](const float* one, long long its_number, long long its_era) {
            for (int d = 0; d < WIDTH; ++d)
                block[d * WIDE + filled] = one[d];
            numbers[filled] = (int)its_number;
            eras[filled] = (int)its_era;
            if (++filled == WIDE)
                compare();
        };
        // Of the episode that was open before: state i is in place i % room.
        for (long long i = had > room ? had - room : 0; of[0] == 0 && i < had; ++i)
            offer(kept + i % room * WIDTH, i, 0);
        long long of_next = 0, next = had;
        for (long long t = 0; t < first + asking; ++t) {
            if (begins[t * lanes + lane]) {
                offer(state(0, t), 0, ++of_next);
                next = 1;
            }
            if (valid[t * lanes + lane]) {
                if (of_next >= oldest_era)
                    offer(state(1, t), next, of_next);
                ++next;
            }
        }
        compare();
        for (int q = 0; k <= FEW && q < asking; ++q)
            pick(lists + q * FEW, depth, out + ((first + q) * lanes + lane) * k);
    }
    long long of_next = 0, next = had;
    for (long long t = 0; t < steps; ++t) {
        if (begins[t * lanes + lane]) {
            if (++of_next == era && number <= room)
                for (int d = 0; d < WIDTH; ++d)
                    kept[d] = state(0, t)[d];
            next = 1;
        }
        if (valid[t * lanes + lane]) {
            if (of_next == era && next >= number - room)
                for (int d = 0; d < WIDTH; ++d)
                    kept[next % room * WIDTH + d] = state(1, t)[d];
            ++next;
        }
    }
    size[lane] = number;
}
"""
_BONUS = """
const float spread = numbers[0], cluster = numbers[1], epsilon = numbers[2], c = numbers[3], most = numbers[4];
double sum = 0.0;
long long number = 0;
for (long long i = from; i < from + count; ++i) {
    float similar = 0.0f;
    bool any = false;
    for (long long j = 0; j < k; ++j) {
        const float d = near[i * k + j];
        if (!(d < __builtin_inff()))
            continue;
        any = true;
        sum += d;
        ++number;
        const float far = d / spread - cluster;
        similar += epsilon / ((far > 0.0f ? far : 0.0f) + epsilon);
    }
    similar = __builtin_sqrtf(similar) + c;
    out[i] = any && similar <= most ? 1.0f / similar : 0.0f;
}
sums[2 * piece] = sum;
sums[2 * piece + 1] = (double)number;
"""
