"""What follows a hidden layer of a team's networks, forward and back each in one pass over memory, on a CPU.

Layer norm, an agent's own scale and shift, and the rectifier are seven operations of torch and as many walks through
memory, which cost as much as the products of small networks themselves.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...envs.native import Native

EPS = 1e-5  # torch's own


def normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``relu(layer_norm(x) * scale + shift)`` for ``x [G, B, H]`` and ``scale`` and ``shift [G, 1, H]``.

    Compiled where it is float32 on a CPU and H is a multiple of 16, and the same to rounding elsewhere.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[-1] % 16:
        return F.relu(F.layer_norm(x, x.shape[-1:], eps=EPS) * scale + shift)
    out: Tensor = _Normed.apply(x, scale, shift)  # type: ignore[no-untyped-call]
    return out


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        x, scale, shift = x.contiguous(), scale.contiguous(), shift.contiguous()
        out, facts = torch.empty_like(x), x.new_empty(*x.shape[:2], 2)
        _forward()(x, scale, shift, out, facts, *x.shape)
        ctx.save_for_backward(x, scale, shift, facts)
        return out

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale, shift, facts = ctx.saved_tensors
        by_x, by_scale, by_shift = (torch.empty_like(v) for v in (x, scale, shift))
        _backward()(given.contiguous(), x, scale, shift, facts, by_x, by_scale, by_shift, *x.shape)
        return by_x, by_scale, by_shift


@cache
def _forward() -> Native:
    names = {"x": "const float*", "scale": "const float*", "shift": "const float*", "out": "float*", "facts": "float*"}
    return Native("norm of a layer", {**names, **_SIZES}, _VECTORS + _FORWARD)


@cache
def _backward() -> Native:
    names = ("by_out", "x", "scale", "shift", "facts"), ("by_x", "by_scale", "by_shift")
    arguments = {**dict.fromkeys(names[0], "const float*"), **dict.fromkeys(names[1], "float*"), **_SIZES}
    return Native("norm of a layer, back", arguments, _VECTORS + _BACKWARD)


_SIZES = dict.fromkeys(("nets", "rows", "width"), "long long")

_VECTORS = """
typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef int whole __attribute__((vector_size(64), aligned(4)));
auto total = [](vec v) __attribute__((always_inline)) {
    float sums[8], sum = 0.0f;
    for (int i = 0; i < 8; ++i)
        sums[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; ++i)
        sum += sums[i] + sums[i + 4];
    return sum;
};
"""

# facts: mean and 1 / deviation of each row.
_FORWARD = """
const float share = 1.0f / width;
for (long long g = 0; g < nets; ++g)
    for (long long b = 0; b < rows; ++b) {
        _Pragma("clang fp contract(fast)")
        const long long row = g * rows + b;
        const float* in = x + row * width;
        vec sum = {};
        for (int k = 0; k < width; k += 16)
            sum += *(const vec*)(in + k);
        const float mean = total(sum) * share;
        vec square = {};
        for (int k = 0; k < width; k += 16) {
            const vec d = *(const vec*)(in + k) - mean;
            square += d * d;
        }
        const float rate = 1.0f / sqrtf(total(square) * share + 1e-5f);
        facts[2 * row] = mean;
        facts[2 * row + 1] = rate;
        for (int k = 0; k < width; k += 16) {
            const vec z = (*(const vec*)(in + k) - mean) * rate * *(const vec*)(scale + g * width + k)
                          + *(const vec*)(shift + g * width + k);
            *(vec*)(out + row * width + k) = (vec)((whole)z & (z > 0.0f));
        }
    }
"""

_BACKWARD = """
const float share = 1.0f / width;
for (long long g = 0; g < nets; ++g) {
    _Pragma("clang fp contract(fast)")
    const float *s = scale + g * width, *t = shift + g * width;
    float *by_s = by_scale + g * width, *by_t = by_shift + g * width;
    for (int k = 0; k < width; ++k)
        by_s[k] = by_t[k] = 0.0f;
    for (long long b = 0; b < rows; ++b) {
        const long long row = g * rows + b;
        const float *in = x + row * width, mean = facts[2 * row], rate = facts[2 * row + 1];
        float* by = by_x + row * width;
        vec sum = {}, along = {};
        for (int k = 0; k < width; k += 16) {
            const vec n = (*(const vec*)(in + k) - mean) * rate, own = *(const vec*)(s + k);
            const vec z = n * own + *(const vec*)(t + k);
            const vec d = (vec)((whole) * (const vec*)(by_out + row * width + k) & (z > 0.0f));
            *(vec*)(by_s + k) += d * n;
            *(vec*)(by_t + k) += d;
            const vec e = d * own;
            *(vec*)(by + k) = e;
            sum += e;
            along += e * n;
        }
        const float middle = total(sum) * share, slope = total(along) * share;
        for (int k = 0; k < width; k += 16) {
            const vec n = (*(const vec*)(in + k) - mean) * rate;
            *(vec*)(by + k) = (*(const vec*)(by + k) - middle - n * slope) * rate;
        }
    }
}
"""
