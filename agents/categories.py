"""The sum of one learned row for each category that an observation shows, ReLU included, as one autograd function.

It equals ``relu(one_hot(observation) @ table + bias)``. A view of MiniGrid shows some 27 of 883 categories, so on a CPU
the rows are added up where they lie, forward and backward, without an index or a one-hot vector in memory.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..envs.native import Native


class Layout(NamedTuple):
    """Which row of the table a value means; row 0 is zero for good."""

    base: Tensor
    """int32 ``[S]``: value v > 0 of symbol s means row base[s] + v. Value 0 has no row."""
    top: Tensor
    """uint8 ``[S]``: the greatest value of symbol s; greater ones are taken for it."""
    extra: Tensor
    """int32 ``[E]``: value v of category e means row extra[e] + v - least[e]."""
    least: Tensor
    """int64 ``[E]``: the least value of category e."""
    most: Tensor
    """int32 ``[E]``: how far its values go beyond that."""


def category_sum(
    symbols: Tensor, categories: Tensor, layout: Layout, table: Tensor, bias: Tensor, text: Tensor, which: Tensor
) -> Tensor:
    """Give ``relu(bias + rows of what is shown + text[which])``.

    Args:
        symbols: uint8 ``[B, S]``.
        categories: int64 ``[B, E]``; E may be 0.
        layout: What they mean.
        table: float32 ``[R, F]``.
        bias: ``[F]``.
        text: ``[U, F]``, what each of U texts adds; U may be 0, and then no text is added.
        which: int64 ``[B]`` in [0, U).

    Returns:
        ``[B, F]``.
    """
    text = text.to(table.dtype)  # autocast gives bfloat16
    if table.device.type == "cpu" and table.dtype == torch.float32:
        out: Tensor = _Sum.apply(symbols.contiguous(), categories.contiguous(), layout, table, bias, text, which)  # type: ignore[no-untyped-call]
        return out
    return category_sum_torch(symbols, categories, layout, table, bias, text, which)


def category_sum_torch(
    symbols: Tensor, categories: Tensor, layout: Layout, table: Tensor, bias: Tensor, text: Tensor, which: Tensor
) -> Tensor:
    """:func:`category_sum` in torch's operations: for GPUs, and what the compiled one is tested against."""
    shown = torch.minimum(symbols, layout.top).to(torch.int32)
    rows = [(shown + layout.base) * (shown > 0)]
    if categories.shape[1]:
        rows.append(torch.minimum((categories - layout.least).to(torch.int32).clamp(min=0), layout.most) + layout.extra)
    total = F.embedding_bag(torch.cat(rows, 1), table, mode="sum", padding_idx=0) + bias
    return F.relu(total + F.embedding(which, text) if len(text) else total)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        symbols: Tensor,
        categories: Tensor,
        layout: Layout,
        table: Tensor,
        bias: Tensor,
        text: Tensor,
        which: Tensor,
    ) -> Tensor:
        count, width, size = len(symbols), table.shape[1], symbols.shape[1] + categories.shape[1]
        out = torch.empty(count, width)
        learns = any(ctx.needs_input_grad)
        found = torch.empty(count * (1 + size), dtype=torch.int32) if learns else None
        table, bias, text = table.contiguous(), bias.contiguous(), text.contiguous()
        loops = _loops(symbols.shape[1], categories.shape[1], width)
        loops[0](
            symbols, categories, layout.base, layout.top, layout.extra, layout.least, layout.most, table, bias,
            text if len(text) else None, which, out, found, count,
        )  # fmt: skip
        if learns:
            ctx.save_for_backward(out, found, which)
            ctx.loop, ctx.shapes = loops[1], (table.shape, text.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        out, found, which = ctx.saved_tensors
        table, text = (torch.zeros(shape) for shape in ctx.shapes)
        bias = torch.zeros(out.shape[1])
        ctx.loop(gradients[0].contiguous(), out, found, which, table, bias, text if len(text) else None, len(out))
        return None, None, None, table, bias, text, None


def distinct(texts: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
    """Tell texts apart, on a CPU.

    Args:
        texts: int64 ``[B, L]``, word numbers.
        mix: int64 ``[L]``, fixed odd numbers: texts count as equal if the sums of words times these are.

    Returns:
        The row in which each of the U texts comes first, ``[U]``, and which text a row has, ``[B]``; both int64.
    """
    count, length = texts.shape
    places = 1 << max(2 * count - 1, 1).bit_length()
    first, which, found = (torch.empty(n, dtype=torch.int64) for n in (count, count, 1))
    room = torch.full((2, places), -1, dtype=torch.int64)
    _distinct()(texts.contiguous(), mix, first, which, found, room, count, length, places)
    return first[: int(found)], which


@cache
def _distinct() -> Native:
    arguments = {
        "texts": "const long long*", "mix": "const long long*", "first": "long long*", "which": "long long*",
        "found": "long long*", "room": "long long*", "count": "long long", "length": "long long",
        "places": "long long",
    }  # fmt: skip
    return Native("distinct texts", arguments, _DISTINCT)


@cache
def _loops(symbols: int, extra: int, width: int) -> tuple[Native, Native]:
    """The forward and the backward loop for S symbols, E categories and F features."""
    sizes = f"\nconst int SYMBOLS = {symbols}, EXTRA = {extra}, WIDTH = {width};\n"
    forward = {
        "symbols": "const unsigned char*", "categories": "const long long*", "base": "const int*",
        "top": "const unsigned char*", "extra": "const int*", "least": "const long long*", "most": "const int*",
        "table": "const float*", "bias": "const float*", "text": "const float*", "which": "const long long*",
        "out": "float*", "found": "int*", "count": "long long",
    }  # fmt: skip
    backward = {
        "gradient": "const float*", "out": "const float*", "found": "const int*", "which": "const long long*",
        "table": "float*", "bias": "float*", "text": "float*", "count": "long long",
    }  # fmt: skip
    return (
        Native("category sum", forward, sizes + SHOWN + ADDED + _FORWARD),
        Native("category sum's gradient", backward, sizes + _BACKWARD),
    )


# Which rows observation i shows, into `use`; returns how many. The first loop over symbols is a straight one, for
# vector instructions; the second closes the gaps without a branch.
SHOWN = """
auto show = [&](long long i, int* use) {
    int row[SYMBOLS];
    const unsigned char* x = symbols + i * SYMBOLS;
    for (int s = 0; s < SYMBOLS; ++s) {
        const int v = x[s] < top[s] ? x[s] : top[s];
        row[s] = v ? base[s] + v : 0;
    }
    int n = 0;
    for (int s = 0; s < SYMBOLS; ++s) {
        use[n] = row[s];
        n += row[s] != 0;
    }
    for (int e = 0; e < EXTRA; ++e) {
        const long long v = categories[i * EXTRA + e] - least[e];
        use[n++] = extra[e] + (v < 0 ? 0 : v < most[e] ? (int)v : most[e]);
    }
    return n;
};
"""
# ReLU of the sum of the n rows in `use` and of text number t.
ADDED = """
auto add = [&](const int* use, int n, long long t, float* to) {
    float sum[WIDTH];
    for (int f = 0; f < WIDTH; ++f)
        sum[f] = bias[f];
    if (text)
        for (int f = 0; f < WIDTH; ++f)
            sum[f] += text[t * WIDTH + f];
    for (int k = 0; k < n; ++k) {
        const float* row = table + (long long)use[k] * WIDTH;
        for (int f = 0; f < WIDTH; ++f)
            sum[f] += row[f];
    }
    for (int f = 0; f < WIDTH; ++f)
        to[f] = sum[f] > 0.0f ? sum[f] : 0.0f;
};
"""
_FORWARD = """
int* note = found;
for (long long i = 0; i < count; ++i) {
    int shown[SYMBOLS + EXTRA + 1];
    int* use = found ? note + 1 : shown;
    const int n = show(i, use);
    add(use, n, text ? which[i] : 0, out + i * WIDTH);
    if (found) {
        note[0] = n;
        note += n + 1;
    }
}
"""
_BACKWARD = """
const int* note = found;
for (long long i = 0; i < count; ++i) {
    float d[WIDTH];
    const float *to = out + i * WIDTH, *from = gradient + i * WIDTH;
    for (int f = 0; f < WIDTH; ++f) {
        d[f] = to[f] > 0.0f ? from[f] : 0.0f;
        bias[f] += d[f];
    }
    if (text)
        for (int f = 0; f < WIDTH; ++f)
            text[which[i] * WIDTH + f] += d[f];
    const int n = *note++;
    for (int k = 0; k < n; ++k) {
        float* row = table + (long long)*note++ * WIDTH;
        for (int f = 0; f < WIDTH; ++f)
            row[f] += d[f];
    }
}
"""
# A table of keys and one of numbers, -1 where nothing is; a text goes to the first free place after its key's own.
_DISTINCT = """
long long* key = room;
long long* number = room + places;
long long n = 0;
for (long long i = 0; i < count; ++i) {
    unsigned long long sum = 0;
    for (long long j = 0; j < length; ++j)
        sum += (unsigned long long)texts[i * length + j] * (unsigned long long)mix[j];
    unsigned long long at = (sum * 0x9E3779B97F4A7C15ull) >> 20;
    for (;; ++at) {
        const unsigned long long p = at & (unsigned long long)(places - 1);
        if (number[p] < 0) {
            key[p] = (long long)sum;
            number[p] = n;
            first[n++] = i;
        } else if (key[p] != (long long)sum) {
            continue;
        }
        which[i] = number[p];
        break;
    }
}
found[0] = n;
"""
