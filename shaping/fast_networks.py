"""Compiled loops that ask small networks of many rows, on a CPU, and their gradients.

A network is the sum of a row for each symbol shown and of a linear layer of numbers, then ReLU and linear layers.
Torch's operations on the same parameters give the same numbers, but each goes through memory once more; here 64 rows at
a time go through all layers while they are in the nearest cache.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..envs.native import PRODUCT, Spread
from .fast import fits

WIDEST = 256  # numbers of a layer
MOST_SYMBOLS = 4096
MOST_LAYERS = 8
LANES = 16  # floats in a vector register
TILE = 64  # rows that go through all layers together


class Sums(NamedTuple):
    """What symbols add up: value v > 0 of symbol s means row ``base[s] + v`` of the table, and 0 nothing."""

    base: Tensor
    """int32 ``[S]``."""
    top: Tensor
    """uint8 ``[S]``: the greatest value; greater ones are taken for it."""
    table: Tensor
    """float32 ``[R, F]``."""


def asks(rows: int, device: torch.device, *widths: int, symbols: int = 0, once: bool = False) -> bool:
    """Whether a network with layers of these widths, on so many rows and symbols, should be asked compiled.

    Args:
        rows: How many.
        device: Where they are.
        widths: Of the layers.
        symbols: In a row.
        once: Whether it may be learned from: nobody takes a gradient of its gradient.
    """
    if not fits(rows, device) or torch.is_autocast_enabled("cpu") or not (once or not torch.is_grad_enabled()):
        return False
    return max(widths) <= WIDEST and len(widths) <= MOST_LAYERS and symbols <= MOST_SYMBOLS


def network(
    symbols: Tensor | None,
    sums: Sums | None,
    dense: Tensor | None,
    first: Tensor | None,
    bias: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """A network: its first layer, the sum of what symbols and numbers add, then ReLU and a linear layer, repeatedly.

    Args:
        symbols: uint8 ``[B, S]``, or None.
        sums: What they add.
        dense: float32 ``[B, D]``, or None.
        first: Weights of these numbers, ``[F, D]``.
        bias: ``[F]``.
        layers: Weights ``[outputs, inputs]`` and biases of the linear layers after it; there may be none.

    Returns:
        float32 ``[B, outputs]``.
    """
    seen = (None, None, None, None) if symbols is None or sums is None else (symbols.contiguous(), *sums)
    dense = None if dense is None else dense.contiguous()
    given = [*seen, dense, first, bias, *(p for layer in layers for p in layer)]
    if not torch.is_grad_enabled():
        return _given(given)[0]
    out: Tensor = _Network.apply(*given)  # type: ignore[no-untyped-call]
    return out


def _given(given: Sequence[Any], learns: bool = False) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """What the network gives, what its layers but the last gave, and their widths, the padded ones from the inputs on.

    The middle is kept if ``learns``: one layer's ``[B, width]`` after another's.
    """
    symbols, base, top, table, dense, first, bias, *others = given
    rows = len(symbols if symbols is not None else dense)
    layers = [(first, bias), *zip(others[::2], others[1::2])]
    widths = [len(more) for _, more in layers]
    wide = [0 if dense is None else up(dense.shape[1]), *map(up, widths)]
    down = [
        None if weights is None else padded(weights.t(), inputs, outputs)
        for (weights, _), inputs, outputs in zip(layers, wide, wide[1:])
    ]
    biases = [padded(more[None], 1, outputs) for (_, more), outputs in zip(layers, wide[1:])]
    shown = None if table is None else padded(table, len(table), wide[1])
    plan = plan_of([[w, b, n] for w, b, n in zip(down, biases, wide[1:])])
    out, kept = torch.empty(rows, widths[-1]), torch.empty(rows * sum(wide[1:-1]) if learns else 0)
    _network()(
        rows, symbols, base, top, shown, dense, plan, out, kept if learns else None,
        0 if symbols is None else symbols.shape[1], 0 if dense is None else dense.shape[1], wide[0], len(layers),
        widths[-1], rows,
    )  # fmt: skip
    return out, kept, widths, wide


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        out, kept, widths, wide = _given(given, learns=True)
        symbols, base, top, table, dense, first, _, *others = given
        ctx.save_for_backward(symbols, base, top, dense, kept, first, *others[::2])
        ctx.sizes = widths, wide, 0 if table is None else len(table)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (symbols, base, top, dense, kept, *layers), (widths, wide, height) = ctx.saved_tensors, ctx.sizes
        rows, loop = len(gradients[0]), _network_gradient()
        weights = [
            None if one is None else padded(one, outputs, inputs)
            for one, inputs, outputs in zip(layers, wide, wide[1:])
        ]
        # Each piece sums up its own gradient of weights and biases.
        sizes = [outputs * (inputs + 1) for inputs, outputs in zip(wide, wide[1:])]
        rooms = torch.zeros(loop.pieces(rows), sum(sizes))
        by_dense = torch.empty_like(dense) if ctx.needs_input_grad[4] else None
        by_sum = torch.empty(rows, wide[1]) if symbols is not None else None
        loop(
            rows, gradients[0].contiguous(), dense, kept, plan_of([[w, None, n] for w, n in zip(weights, wide[1:])]),
            rooms, by_dense, by_sum, 0 if dense is None else dense.shape[1], wide[0], len(layers), widths[-1], rows,
            sum(sizes),
        )  # fmt: skip
        by = []
        for part, width, inputs, outputs, one in zip(torch.split(rooms.sum(0), sizes), widths, wide, wide[1:], layers):
            into = part[: outputs * inputs].view(outputs, inputs)
            by += [None if one is None else into[:width, : one.shape[1]], part[outputs * inputs :][:width]]
        by_table = None
        if by_sum is not None:
            by_table = _by_table(symbols, base, top, by_sum, height)[:, : widths[0]]
        return None, None, None, by_table, by_dense, *by


def _by_table(symbols: Tensor, base: Tensor, top: Tensor, gradient: Tensor, height: int) -> Tensor:
    """The gradient by the table of a sum of its rows, from that by the sum ``[B, F]``."""
    width = gradient.shape[1]
    table = torch.zeros(height, width)
    # Threads share the columns: a row of the table belongs to many rows of the batch.
    _sum_gradient()(width, symbols, base, top, gradient, table, symbols.shape[1], len(symbols), width)
    return table


def up(width: int) -> int:
    """So many numbers in whole registers."""
    return -(-width // LANES) * LANES


def padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix with zeros up to so many rows and columns, in one piece."""
    x = x.detach()
    if x.shape != (rows, columns):
        x = F.pad(x, (0, columns - x.shape[1], 0, rows - len(x)))
    return x.contiguous()


def plan_of(layers: Sequence[Sequence[Tensor | int | None]]) -> Tensor:
    """Where the layers' numbers lie."""
    return torch.tensor(
        [[value.data_ptr() if isinstance(value, Tensor) else value or 0 for value in layer] for layer in layers]
    )


# ---- loops ---------------------------------------------------------------------------------------------


SYMBOLS = {"symbols": "const unsigned char*", "base": "const int*", "top": "const unsigned char*"}


@cache
def _network() -> Spread:
    arguments = {
        **SYMBOLS, "table": "const float*", "dense": "const float*", "plan": "const long long*", "out": "float*",
        "kept": "float*", "shown": "long long", "numbers": "long long", "padded": "long long", "layers": "long long",
        "outputs": "long long", "rows": "long long",
    }  # fmt: skip
    return Spread("small networks", arguments, sizes_code() + PRODUCT + MULTIPLY + SHOW + _NETWORK, 128)


@cache
def _network_gradient() -> Spread:
    arguments = {
        "gradient": "const float*", "dense": "const float*", "kept": "const float*", "plan": "const long long*",
        "rooms": "float*", "by_dense": "float*", "by_sum": "float*", "numbers": "long long", "padded": "long long",
        "layers": "long long", "outputs": "long long", "rows": "long long", "room": "long long",
    }  # fmt: skip
    return Spread("small networks, gradient", arguments, sizes_code() + PRODUCT + MULTIPLY + _NETWORK_GRADIENT, 128)


def sizes_code() -> str:
    """The sizes that loops over networks know."""
    return f"\nconst int WIDEST = {WIDEST}, MOST_SYMBOLS = {MOST_SYMBOLS}, MOST_LAYERS = {MOST_LAYERS};\n"


@cache
def _sum_gradient() -> Spread:
    arguments = {
        **SYMBOLS, "gradient": "const float*", "table": "float*", "shown": "long long", "rows": "long long",
        "width": "long long",
    }  # fmt: skip
    return Spread("sums of symbols, gradient", arguments, sizes_code() + PRODUCT + SHOW + _SUM_GRADIENT, 64)


# Which rows of the table row i shows, into `use`; returns how many. The first loop is a straight one, for vector
# instructions; the second closes the gaps without a branch.
SHOW = """
auto show = [&](long long i, int* use) {
    int row[MOST_SYMBOLS];
    const unsigned char* x = symbols + i * shown;
    for (long long s = 0; s < shown; ++s) {
        const int v = x[s] < top[s] ? x[s] : top[s];
        row[s] = v ? base[s] + v : 0;
    }
    int n = 0;
    for (long long s = 0; s < shown; ++s) {
        use[n] = row[s];
        n += row[s] != 0;
    }
    return n;
};
// Add n rows of a table to one, of which a part stays in registers meanwhile.
auto gather = [&](const float* table, const int* use, int n, float* to, long long width) {
    long long f = 0;
    for (; f + 128 <= width; f += 128) {
        vec sum[8];
        for (int q = 0; q < 8; ++q)
            sum[q] = *(const vec*)(to + f + 16 * q);
        for (int k = 0; k < n; ++k) {
            const float* row = table + use[k] * width + f;
            for (int q = 0; q < 8; ++q)
                sum[q] += *(const vec*)(row + 16 * q);
        }
        for (int q = 0; q < 8; ++q)
            *(vec*)(to + f + 16 * q) = sum[q];
    }
    for (; f < width; f += 16) {
        vec sum = *(const vec*)(to + f);
        for (int k = 0; k < n; ++k)
            sum += *(const vec*)(table + use[k] * width + f);
        *(vec*)(to + f) = sum;
    }
};
"""
MULTIPLY = """
struct Double { enum { value = 2 }; };
auto multiply = [&](const float* a, int am, int ak, const float* b, float* c, int rows, int inner, int columns,
                    bool add) {
    if (columns % 64 == 0)
        product(Wide(), a, am, ak, b, c, rows, inner, columns, add);
    else if (columns % 32 == 0)
        product(Double(), a, am, ak, b, c, rows, inner, columns, add);
    else
        product(Narrow(), a, am, ak, b, c, rows, inner, columns, add);
};
// A tile of rows, with zeros beyond the last one and the last column.
auto take = [&](const float* rows, long long columns, long long filled, float* to, long long wide) {
    for (long long r = 0; r < filled; ++r) {
        for (long long f = 0; f < columns; ++f)
            to[r * wide + f] = rows[r * columns + f];
        for (long long f = columns; f < wide; ++f)
            to[r * wide + f] = 0.0f;
    }
    for (long long k = filled * wide; k < TILE * wide; ++k)
        to[k] = 0.0f;
};
"""
# Rows beyond the last one of a tile are worked out and thrown away.
_NETWORK = """
alignas(64) float one[TILE * WIDEST], two[TILE * WIDEST];
int use[MOST_SYMBOLS];
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    float *here = one, *there = two, *keep = kept;
    long long wide = padded;
    if (numbers)
        take(dense + begin * numbers, numbers, filled, here, wide);
    for (long long l = 0; l < layers; ++l) {
        const long long next = plan[3 * l + 2];
        const float* bias = (const float*)plan[3 * l + 1];
        for (int r = 0; r < TILE; ++r)
            for (long long f = 0; f < next; f += 16)
                *(vec*)(there + r * next + f) = *(const vec*)(bias + f);
        for (long long r = 0; l == 0 && shown && r < filled; ++r) {
            float* to = there + r * next;
            const int n = show(begin + r, use);
            gather(table, use, n, to, next);
        }
        if (wide)
            multiply(here, (int)wide, 1, (const float*)plan[3 * l], there, TILE, (int)wide, (int)next, true);
        if (l < layers - 1) {
            for (long long k = 0; k < TILE * next; ++k)
                there[k] = there[k] > 0.0f ? there[k] : 0.0f;
            if (kept)
                for (long long k = 0; k < filled * next; ++k)
                    keep[begin * next + k] = there[k];
            keep += rows * next;
        }
        float* spare = here;
        here = there;
        there = spare;
        wide = next;
    }
    for (long long r = 0; r < filled; ++r)
        for (long long f = 0; f < outputs; ++f)
            out[(begin + r) * outputs + f] = here[r * wide + f];
}
"""
# From the last layer to the first: what it is given, by what it gives.
_NETWORK_GRADIENT = """
alignas(64) float one[TILE * WIDEST], two[TILE * WIDEST], entering[TILE * WIDEST];
long long widths[MOST_LAYERS + 1], keeps[MOST_LAYERS], places[MOST_LAYERS];
widths[0] = padded;
for (long long l = 0, keep = 0, place = 0; l < layers; ++l) {
    widths[l + 1] = plan[3 * l + 2];
    keeps[l] = keep;  // of what layer l gave
    places[l] = place;  // of its gradient in a room
    keep += rows * widths[l + 1];
    place += widths[l + 1] * (widths[l] + 1);
}
float* own = rooms + piece * room;
for (long long begin = from; begin < from + count; begin += TILE) {
    const long long left = from + count - begin, filled = left < TILE ? left : TILE;
    float *here = one, *there = two;
    take(gradient + begin * outputs, outputs, filled, here, widths[layers]);
    for (long long l = layers - 1; l >= 0; --l) {
        const long long wide = widths[l], next = widths[l + 1];
        float* by_weights = own + places[l];
        float* by_bias = by_weights + next * wide;
        for (long long r = 0; r < filled; ++r)
            for (long long f = 0; f < next; f += 16)
                *(vec*)(by_bias + f) += *(const vec*)(here + r * next + f);
        if (l == 0 && by_sum)
            for (long long k = 0; k < filled * next; ++k)
                by_sum[begin * next + k] = here[k];
        if (wide == 0)
            break;
        if (l > 0)
            take(kept + keeps[l - 1] + begin * wide, wide, filled, entering, wide);
        else
            take(dense + begin * numbers, numbers, filled, entering, wide);
        multiply(here, 1, (int)next, entering, by_weights, (int)next, TILE, (int)wide, true);
        if (l == 0 && !by_dense)
            break;
        multiply(here, (int)next, 1, (const float*)plan[3 * l], there, TILE, (int)next, (int)wide, false);
        for (long long k = 0; l > 0 && k < TILE * wide; ++k)
            there[k] = entering[k] > 0.0f ? there[k] : 0.0f;
        for (long long r = 0; l == 0 && r < filled; ++r)
            for (long long f = 0; f < numbers; ++f)
                by_dense[(begin + r) * numbers + f] = there[r * wide + f];
        float* spare = here;
        here = there;
        there = spare;
    }
}
"""
_SUM_GRADIENT = """
int use[MOST_SYMBOLS];
for (long long i = 0; i < rows; ++i) {
    const float* d = gradient + i * width + from;
    const int n = show(i, use);
    for (int k = 0; k < n; ++k) {
        float* row = table + use[k] * width + from;
        for (long long f = 0; f < count; ++f)
            row[f] += d[f];
    }
}
"""
