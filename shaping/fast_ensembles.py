"""A compiled loop that asks all networks of an ensemble, on a CPU, and says how far they are apart."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ..envs.native import PRODUCT, Spread
from .fast_networks import MULTIPLY, TILE, padded, plan_of, sizes_code, up


def disagreement(x: Tensor, members: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> Tensor:
    """How far networks of two layers are apart on the same rows.

    Args:
        x: float32 ``[B, inputs]``.
        members: Weights ``[outputs, inputs]`` and biases of the two layers of each, all of the same sizes.

    Returns:
        float32 ``[B]``: the variance of what they give, summed over the outputs.
    """
    (first, bias), (last, _) = members[0]
    inputs, hidden, outputs = up(first.shape[1]), up(len(bias)), up(len(last))
    layers = [
        [
            padded(one.t(), inputs, hidden), padded(more[None], 1, hidden), padded(two.t(), hidden, outputs),
            padded(most[None], 1, outputs),
        ]
        for (one, more), (two, most) in members
    ]  # fmt: skip
    out = torch.empty(len(x))
    loop, room = _disagreement(), len(members) * TILE * outputs
    rooms = torch.empty(loop.pieces(len(x)), room)
    loop(
        len(x),
        x.contiguous(),
        plan_of(layers),
        out,
        rooms,
        x.shape[1],
        inputs,
        hidden,
        outputs,
        len(last),
        len(members),
    )
    return out


@cache
def _disagreement() -> Spread:
    arguments = {
        "dense": "const float*", "plan": "const long long*", "out": "float*", "rooms": "float*", "numbers": "long long",
        "inputs": "long long", "hidden": "long long", "outputs": "long long", "features": "long long",
        "members": "long long",
    }  # fmt: skip
    return Spread("disagreement", arguments, sizes_code() + PRODUCT + MULTIPLY + _DISAGREEMENT, 128)


_DISAGREEMENT = """
alignas(64) float asked[TILE * WIDEST], inner[TILE * WIDEST], mean[WIDEST];
float* said = rooms + piece * members * TILE * outputs;
auto through = [&](const float* x, long long wide, const long long* layer, float* to, long long next) {
    const float* bias = (const float*)layer[1];
    for (int r = 0; r < TILE; ++r)
        for (long long f = 0; f < next; f += 16)
            *(vec*)(to + r * next + f) = *(const vec*)(bias + f);
    multiply(x, (int)wide, 1, (const float*)layer[0], to, TILE, (int)wide, (int)next, true);
};
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    take(dense + begin * numbers, numbers, filled, asked, inputs);
    for (long long m = 0; m < members; ++m) {
        through(asked, inputs, plan + 4 * m, inner, hidden);
        for (long long k = 0; k < TILE * hidden; ++k)
            inner[k] = inner[k] > 0.0f ? inner[k] : 0.0f;
        through(inner, hidden, plan + 4 * m + 2, said + m * TILE * outputs, outputs);
    }
    for (long long r = 0; r < filled; ++r) {
        for (long long f = 0; f < outputs; ++f)
            mean[f] = 0.0f;
        for (long long m = 0; m < members; ++m)
            for (long long f = 0; f < outputs; ++f)
                mean[f] += said[(m * TILE + r) * outputs + f];
        vec sum = {};
        for (long long m = 0; m < members; ++m)
            for (long long f = 0; f < outputs; f += 16) {
                const vec gap = *(const vec*)(said + (m * TILE + r) * outputs + f)
                    - *(const vec*)(mean + f) / (float)members;
                sum += gap * gap;
            }
        float whole = 0.0f;
        for (int f = 0; f < 16; ++f)
            whole += sum[f];
        out[begin + r] = whole / (float)members;
    }
}
"""
