"""What the compiled networks share: how they are told what is seen, the features of it, and the gradient's way back.

Features are the first two layers of the shape that :class:`ActorCriticPolicy` has by default where there are symbols:
the sum of a row for each category shown, ReLU, one layer, ReLU.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..envs.native import PRODUCT
from .categories import ADDED, SHOWN
from .extractors import DictExtractor, Features, SymbolsExtractor

BLOCK = 64  # columns that a product works on at a time


def first_layer(policy: Any) -> SymbolsExtractor | None:
    """The first layer of a policy's network, if it stands alone."""
    features = policy.features_extractor
    body: nn.Module | None = features.body if type(features) is Features else None
    if type(body) is DictExtractor and len(body.parts) == 1 and body.joined:
        body = cast(SymbolsExtractor, body.parts[0])
    return body if isinstance(body, SymbolsExtractor) and len(body.texts) <= 1 else None


def stacked(heads: Sequence[nn.Linear], rows: int) -> tuple[Tensor, Tensor]:
    """Weights and biases of all heads, one under the other, and zeros up to so many rows."""
    weight, bias = torch.zeros(rows, heads[0].in_features), torch.zeros(rows)
    outputs = sum(head.out_features for head in heads)
    weight[:outputs] = torch.cat([head.weight for head in heads])
    bias[:outputs] = torch.cat([head.bias for head in heads])
    return weight, bias


def room(
    sums: SymbolsExtractor, trunk: nn.Linear, outputs: int, width: int, more: Sequence[Tensor] = ()
) -> list[Tensor]:
    """Memory for a gradient: the whole, then views of it in the order in which the loops fill them.

    Args:
        sums: The first layer.
        trunk: The second.
        outputs: Padded, of all heads.
        width: What the heads are told.
        more: Parameters of what stands between.
    """
    table, middle = sums.table.shape, trunk.weight.shape
    shapes = [table, table[1:], middle, middle[:1], (outputs, width), (outputs,), *(p.shape for p in more)]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    whole = torch.empty(sum(sizes))
    return [whole, *(part.view(shape) for part, shape in zip(torch.split(whole, sizes), shapes))]


def put(
    room: Sequence[Tensor],
    sums: SymbolsExtractor,
    trunk: nn.Linear,
    heads: Sequence[nn.Linear],
    text: Tensor | None,
    by_text: Tensor | None,
    more: Sequence[Tensor] = (),
) -> None:
    """Make the gradient in a :func:`room`, and that by the texts ``[U, F]``, the parameters' own."""
    _, table, bias, middle, middle_bias, weight, head_bias, *others = room
    own = sums.table, sums.bias, trunk.weight, trunk.bias, *more
    for parameter, gradient in zip(own, (table, bias, middle, middle_bias, *others)):
        parameter.grad = gradient
    row = 0
    for head in heads:
        rows = slice(row, row := row + head.out_features)
        head.weight.grad, head.bias.grad = weight[rows], head_bias[rows]
    if text is not None:
        readers = [*sums.readers.parameters(), *sums.spoken.parameters()]
        for parameter, gradient in zip(readers, torch.autograd.grad(text, readers, by_text)):
            parameter.grad = gradient


LOOKS = {
    "symbols": "const unsigned char*", "categories": "const long long*", "base": "const int*",
    "top": "const unsigned char*", "extra": "const int*", "least": "const long long*", "most": "const int*",
}  # fmt: skip
"""How the loops are told what is seen: ``compiled.Seen`` and a ``Layout``."""
WEIGHTS = ("table", "bias", "down", "down_bias", "trunk", "across", "across_bias", "back")
"""And of the parameters, as ``begin`` takes them over."""


def constants(sizes: dict[str, int]) -> str:
    """Whole numbers that a loop is compiled for."""
    return "\n" + "".join(f"const int {name} = {size};\n" for name, size in sizes.items())


# Features of `rows` rows, the r-th of them that of observation row_of(r); those of which that is -1 are zero.
FEATURES = """
const int USED = SYMBOLS + EXTRA + 1;
auto features = [&](auto row_of, int rows, float* first, float* second, int* used) __attribute__((always_inline)) {
    for (int r = 0; r < rows; ++r) {
        float* to = first + r * WIDTH;
        int* use = used + r * USED;
        const long long i = row_of(r);
        if (i >= 0) {
            use[0] = show(i, use + 1);
            add(use + 1, use[0], text ? which[i] : 0, to);
        } else {
            for (int f = 0; f < WIDTH; ++f)
                to[f] = 0.0f;
        }
    }
    product(Wide(), first, WIDTH, 1, down, second, rows, WIDTH, HIDDEN, false);
    for (int r = 0; r < rows; ++r) {
        const bool real = row_of(r) >= 0;
        for (int f = 0; f < HIDDEN; ++f) {
            const float x = second[r * HIDDEN + f] + down_bias[f];
            second[r * HIDDEN + f] = x > 0.0f && real ? x : 0.0f;
        }
    }
};
"""
FEATURES = PRODUCT + SHOWN + ADDED + FEATURES
# From the gradient by features of as many rows, which is changed, to those by the table and the layer.
DESCENT = """
auto descend = [&](auto row_of, int rows, const float* first, const float* second, const int* used, float* by_second,
                   float* by_first) __attribute__((always_inline)) {
    for (int r = 0; r < rows; ++r)
        for (int f = 0; f < HIDDEN; ++f) {
            const float d = second[r * HIDDEN + f] > 0.0f ? by_second[r * HIDDEN + f] : 0.0f;
            by_second[r * HIDDEN + f] = d;
            by_trunk_bias[f] += d;
        }
    product(Wide(), by_second, 1, HIDDEN, first, by_trunk, HIDDEN, rows, WIDTH, true);
    product(Wide(), by_second, HIDDEN, 1, trunk, by_first, rows, HIDDEN, WIDTH, false);
    for (int r = 0; r < rows; ++r) {
        const long long i = row_of(r);
        if (i < 0)
            continue;
        float* d = by_first + r * WIDTH;
        for (int f = 0; f < WIDTH; ++f) {
            d[f] = first[r * WIDTH + f] > 0.0f ? d[f] : 0.0f;
            by_bias[f] += d[f];
        }
        if (text)
            for (int f = 0; f < WIDTH; ++f)
                by_text[which[i] * WIDTH + f] += d[f];
        const int* use = used + r * USED;
        for (int k = 1; k <= use[0]; ++k) {
            float* row = by_table + (long long)use[k] * WIDTH;
            for (int f = 0; f < WIDTH; ++f)
                row[f] += d[f];
        }
    }
};
"""
