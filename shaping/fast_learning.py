"""A pass of a bonus's networks over a batch in two compiled loops: gradient, then Adam. For a CPU.

Between the two nothing goes through Python but the call, and no gradient through torch: on batches of 512 rows its
operations and the memory that they ask for took longer than the arithmetic. The first loop shares the rows and leaves
one gradient for each piece of them; the second shares the parameters, adds these up in the order of the pieces and
moves values and moments. How both are cut depends on their numbers alone, so the number of threads changes no bit.

Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1) is that of ``torch.optim.Adam``,
equal but for rounding. Weights and their moments are brought into padded memory for a pass and put back afterwards; a
table of symbols, which is most of a network, is learned where it lies.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..envs.native import PIECES, Spread
from .fast_networks import SYMBOLS, TILE, WIDEST, Sums, up

LEAST = 128  # rows of a piece
FIELDS = 6  # of a layer in a plan: padded inputs and outputs, where weights, biases and transposed weights begin,
# and whether there are biases to learn


class Layer(NamedTuple):
    """A linear layer."""

    weight: Tensor | None
    """``[outputs, inputs]``, of an ensemble ``[K, inputs, outputs]``; None for a first layer without numbers."""
    bias: Tensor | None
    """``[outputs]``, of an ensemble ``[K, 1, outputs]``."""
    outputs: int
    member: int | None = None
    """Of an ensemble, which."""

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        if self.weight is None:
            return 0
        return self.weight.shape[1]

    def pick(self, whole: Tensor) -> Tensor:
        """This layer's part of a parameter, or of its moments, as ``[outputs, inputs]`` or ``[outputs]``."""
        if self.member is None:
            return whole
        part = whole[self.member]
        return part[0] if part.shape[0] == 1 else part.t()


class Rows(NamedTuple):
    """What a pass is over: M rows in batches, seen once (``E`` = 1) or before and after a step (2)."""

    symbols: Tensor | None
    """uint8 ``[E * M, S]``."""
    dense: Tensor | None
    """float32 ``[E * M, D]``."""
    sizes: Sequence[int]
    """Of the batches; they add up to M."""
    ends: int
    """E."""


class Training:
    """The parameters of some layers and their Adam, as the loops take them.

    Args:
        layers: All layers, in the order in which a lesson names them. The first one also takes the symbols.
        sums: The table of the first layer, if it has one; its width is in whole registers.
    """

    def __init__(self, layers: Sequence[Layer], sums: Sums | None = None) -> None:
        self.layers, self.sums = list(layers), sums
        plan, at, across = [], 0, 0
        for layer in self.layers:
            inputs, outputs = up(layer.inputs), up(layer.outputs)
            plan.append([inputs, outputs, at, at + outputs * inputs, across, int(layer.bias is not None)])
            at, across = at + outputs * (inputs + 1), across + outputs * inputs
        self.plan, self.total = torch.tensor(plan), at
        scratch = TILE * (4 * sum(row[0] + row[1] for row in plan) + 8 * WIDEST)
        self.room = at + scratch
        self.flat, self.down = [torch.zeros(at) for _ in range(3)], torch.zeros(across)
        self.views = [[self._view(flat, row, part) for row, part in self._parts()] for flat in self.flat]
        self.across = [self.down[row[4] : row[4] + row[0] * row[1]].view(row[0], row[1]) for row in plan]
        self.upright = [self.flat[0][row[2] : row[3]].view(row[1], row[0]) for row in plan]
        self.rooms, self.by_sum, self.acc = torch.empty(0), torch.empty(0), torch.empty(0)
        if sums is not None:
            self.acc = torch.empty(PIECES, int(sums.top.max()) * sums.table.shape[1])

    def _parts(self) -> list[tuple[list[int], tuple[Layer, Tensor]]]:
        """Each parameter of each layer, with the layer's row of the plan."""
        rows = self.plan.tolist()
        return [
            (row, (layer, p)) for row, layer in zip(rows, self.layers) for p in (layer.weight, layer.bias)
            if p is not None
        ]  # fmt: skip

    def _view(self, flat: Tensor, row: list[int], part: tuple[Layer, Tensor]) -> Tensor:
        layer, parameter = part
        inputs, outputs, weights, biases, *_ = row
        if parameter is layer.bias:
            return flat[biases : biases + layer.outputs]
        return flat[weights:biases].view(outputs, inputs)[: layer.outputs, : layer.inputs]

    def _now(self, optimiser: torch.optim.Optimizer) -> list[list[Tensor]]:
        """Values, first and second moments, in the order of the views."""
        found = [(layer.pick, p) for _, (layer, p) in self._parts()]
        slots = optimiser.state
        return [
            [pick(p) for pick, p in found],
            *([pick(slots[p][name]) for pick, p in found] for name in ("exp_avg", "exp_avg_sq")),
        ]

    @torch.no_grad()
    def run(
        self, lesson: Spread, optimiser: torch.optim.Optimizer, rows: Rows, given: Sequence[Tensor | int | None]
    ) -> Tensor:
        """Learn from the batches, one after another.

        Args:
            lesson: The loop that leaves the gradients; it takes ``LESSON``, then its own arguments.
            optimiser: Torch's Adam of all parameters, which have come equally far.
            rows: What is seen.
            given: The lesson's own arguments.

        Returns:
            What the lesson says of its loss, float32 ``[batches, 2]``.
        """
        (group,), parameters = optimiser.param_groups, [p for g in optimiser.param_groups for p in g["params"]]
        for p in parameters:
            if not optimiser.state.get(p):
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                optimiser.state[p] = {"step": torch.zeros(()), **zeros}
        done = int(optimiser.state[parameters[0]]["step"])
        now = self._now(optimiser)
        for views, values in zip(self.views, now):
            torch._foreach_copy_(views, values)
        torch._foreach_copy_(self.across, [weights.t() for weights in self.upright])
        pieces, most = lesson.pieces(max(rows.sizes)), max(rows.sizes)
        width = int(self.plan[0, 1])
        if self.rooms.numel() < pieces * self.room:
            self.rooms = torch.empty(pieces * self.room)
        if self.sums is not None and self.by_sum.numel() < rows.ends * most * width:
            self.by_sum = torch.empty(rows.ends * most * width)
        table: list[Tensor | None] = [None] * 3
        base = top = None
        if self.sums is not None:
            slot = optimiser.state[self.sums.table]
            base, top, table = self.sums.base, self.sums.top, [self.sums.table, slot["exp_avg"], slot["exp_avg_sq"]]
        shown = 0 if rows.symbols is None else rows.symbols.shape[1]
        numbers = 0 if rows.dense is None else rows.dense.shape[1]
        (first, second), rate = group["betas"], float(group["lr"])
        fixed = torch.tensor([first, second, group["eps"]])
        totals = torch.zeros(len(rows.sizes), pieces, 2, dtype=torch.float64)
        units, low, stride = shown + int(self.plan[:, 1].sum()), 0, sum(rows.sizes)
        seen = rows.symbols, base, top, table[0], rows.dense
        steps = range(done + 1, done + len(rows.sizes) + 1)
        rates = torch.tensor([[rate / (1 - first**step), (1 - second**step) ** -0.5] for step in steps])
        for b, size in enumerate(rows.sizes):
            lesson(
                size, *seen, *self.flat[:1], self.down, self.plan, self.rooms, self.by_sum, totals[b], shown, numbers,
                stride, low, self.room, self.total, size, *given,
            )  # fmt: skip
            _adam()(
                units, rows.symbols, base, top, *table, self.by_sum, self.rooms, *self.flat, self.down, self.plan,
                self.acc, fixed, rates[b], shown, width, self.room, lesson.pieces(size), rows.ends, stride, low, size,
                self.acc.shape[1] if self.sums is not None else 0,
            )  # fmt: skip
            low += size
        for views, values in zip(self.views, now):
            torch._foreach_copy_(values, views)
        torch._foreach_add_([optimiser.state[p]["step"] for p in parameters], len(rows.sizes))
        return totals.sum(1).float()


LESSON = {
    **SYMBOLS, "table": "const float*", "dense": "const float*", "values": "const float*", "down": "const float*",
    "plan": "const long long*", "rooms": "float*", "by_sum": "float*", "totals": "double*", "shown": "long long",
    "numbers": "long long", "stride": "long long", "low": "long long", "room": "long long", "total": "long long",
    "rows": "long long",
}  # fmt: skip
"""What every lesson takes."""


@cache
def _adam() -> Spread:
    pointers = {
        "table": "float*", "table_mean": "float*", "table_spread": "float*", "by_sum": "const float*",
        "rooms": "const float*", "values": "float*", "means": "float*", "spreads": "float*", "down": "float*",
        "plan": "const long long*", "sums": "float*", "fixed": "const float*", "rates": "const float*",
    }  # fmt: skip
    numbers = ("shown", "width", "room", "pieces", "ends", "stride", "low", "rows", "most")
    arguments = {**SYMBOLS, **pointers, **dict.fromkeys(numbers, "long long")}
    return Spread("Adam of small networks", arguments, f"\nconst int FIELDS = {FIELDS};\n" + _ADAM, 8)


# A symbol's rows of the table, or what goes to one output of a layer.
_ADAM = """
typedef float vec __attribute__((vector_size(64), aligned(4)));
const float beta1 = fixed[0], beta2 = fixed[1], eps = fixed[2], rate = rates[0], wider = rates[1];
auto move = [&](float* p, float* mean, float* spread, const vec g) {
    vec* m = (vec*)mean;
    vec* v = (vec*)spread;
    *m += (1.0f - beta1) * (g - *m);
    *v = beta2 * *v + (1.0f - beta2) * g * g;
    *(vec*)p -= rate * *m / (__builtin_elementwise_sqrt(*v) * wider + eps);
};
float* acc = sums + piece * most;
const int GROUP = 256;
int which[GROUP], value[GROUP];
for (long long u = from; u < from + count; ++u) {
    if (u < shown) {
        const int highest = top[u];
        const long long begin = (base[u] + 1ll) * width, size = highest * width;
        for (long long k = 0; k < size; ++k)
            acc[k] = 0.0f;
        for (long long e = 0; e < ends; ++e) {
            const unsigned char* x = symbols + (e * stride + low) * shown + u;
            const float* d = by_sum + e * rows * width;
            for (long long begin = 0; begin < rows; begin += GROUP) {
                const long long end = begin + GROUP < rows ? begin + GROUP : rows;
                int n = 0;
                for (long long i = begin; i < end; ++i) {  // those that show it, without a branch
                    const int given = x[i * shown];
                    which[n] = (int)i;
                    value[n] = (given < highest ? given : highest) - 1;
                    n += given != 0;
                }
                for (int k = 0; k < n; ++k)
                    for (long long f = 0; f < width; f += 16)
                        *(vec*)(acc + value[k] * width + f) += *(const vec*)(d + which[k] * width + f);
            }
        }
        for (long long k = 0; k < size; k += 16)
            move(table + begin + k, table_mean + begin + k, table_spread + begin + k, *(const vec*)(acc + k));
        continue;
    }
    long long n = u - shown;
    const long long* layer = plan;
    for (; n >= layer[1]; layer += FIELDS)
        n -= layer[1];
    const long long inputs = layer[0], weights = layer[2] + n * inputs, bias = layer[3] + n;
    for (long long k = weights; k < weights + inputs; k += 16) {
        vec g = {};
        for (long long q = 0; q < pieces; ++q)
            g += *(const vec*)(rooms + q * room + k);
        move(values + k, means + k, spreads + k, g);
    }
    for (long long k = 0; k < inputs; ++k)
        down[layer[4] + k * layer[1] + n] = values[weights + k];
    if (!layer[5])
        continue;
    float g = 0.0f;
    for (long long q = 0; q < pieces; ++q)
        g += rooms[q * room + bias];
    means[bias] += (1.0f - beta1) * (g - means[bias]);
    spreads[bias] = beta2 * spreads[bias] + (1.0f - beta2) * g * g;
    values[bias] -= rate * means[bias] / (__builtin_sqrtf(spreads[bias]) * wider + eps);
}
"""
