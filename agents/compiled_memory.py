"""The network that remembers, compiled: steps of a rollout, and the gradient back through whole windows of steps.

As ``compiled.py``, with a gated recurrent unit between the layer and the heads. :class:`MemoryPolicy` says in torch's
operations what this does, and is what it is tested against. Sixteen windows go side by side: their steps one after
another, then the loss of all rows, then the steps again from the last to the first. What the weights' gradients need
of each step is kept meanwhile, so that those are products of many rows at once.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..envs.native import Native
from . import fused
from .compiled import Compiled, Seen
from .compiled_features import BLOCK, DESCENT, FEATURES, LOOKS, WEIGHTS, constants, first_layer, put, room, stacked
from .memory import MemoryPolicy
from .workers import cut

_TILE = 16  # windows side by side
_OURS = ("step", "evaluate_window", "remember", "extract_features", "_value")  # what is done here in their place
_UNIT = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")


class CompiledMemory:
    """The network of a policy with memory, compiled; the parameters stay the policy's.

    Args:
        policy: For which :func:`fits_memory` is true.
    """

    def __init__(self, policy: MemoryPolicy) -> None:
        sees = Compiled(policy)  # what is seen is brought into columns as there
        self.see, self.tell, self.sums, self.padded = sees.see, sees.tell, sees.sums, sees.padded
        self.unit, self.trunk, self.heads, self.memory = policy.unit, sees.trunk, sees.heads, policy.memory
        self.channels, self.actions = sees.channels, sees.outputs - sees.channels
        sums = self.sums
        sizes = sums.base.numel(), sums.extra.numel(), sums.features_dim, self.trunk.out_features
        self._act, self._learn = _loops(*sizes, self.memory, self.padded)
        self._weights: tuple[Tensor, ...] = ()
        self._told: dict[bytes, Tensor] = {}
        self._rooms: list[list[Tensor]] = []

    @torch.no_grad()
    def begin(self) -> None:
        """Take the parameters over in the order in which the loops read them, until they change."""
        weight, bias = stacked(self.heads, self.padded)
        sums, trunk, unit = self.sums, self.trunk, self._unit
        down, across, inward, onward = (w.t().contiguous() for w in (trunk.weight, weight, unit[0], unit[2]))
        network = sums.table, sums.bias, down, trunk.bias, trunk.weight, across, bias, weight
        self._weights = *network, inward, onward, *unit
        self._told = {}

    def step(self, obs: Any, state: Tensor, start: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw actions after :meth:`begin`; see :meth:`MemoryPolicy.step`."""
        seen, rows, text = self.see(obs), len(state), None
        if seen.texts is not None:
            words = seen.texts.numpy().tobytes()
            if words not in self._told:
                self._told[words] = cast(Tensor, self.tell(seen.texts))
            text = self._told[words]
        action, log_prob, after = (
            torch.empty(rows, dtype=torch.int64),
            torch.empty(rows),
            torch.empty(rows, self.memory),
        )
        value = torch.empty(rows, self.channels)
        self._act(
            *self._looks(seen, text), *self._weights, noise.contiguous(), state.contiguous(), start.contiguous(),
            action, log_prob, value, after, rows, self.actions, self.channels,
        )  # fmt: skip
        return action, value, log_prob, after

    def gradient(
        self,
        rows: dict[str, Any],
        windows: Tensor,
        advantage: Tensor,
        weights: fused.Weights,
        over: Callable[..., list[Any]],
    ) -> Tensor:
        """Set the gradient of PPO's loss on a minibatch of windows.

        Args:
            rows: A rollout's "seen" of :meth:`see`, "memories", "action", "log_prob", "target" and "value", and "keep"
                where there are rows that are no transitions.
            windows: int64 ``[B, W]``, the rows of each.
            advantage: ``[B, W]``, theirs.
            weights: Of the loss's parts.
            over: Applies a function to every part of the minibatch.

        Returns:
            What :func:`fused.loss_gradient` says of the loss, float32 ``[6]``.
        """
        self.begin()
        seen, memories, keep, parts = rows["seen"], rows["memories"], rows.get("keep"), cut(len(windows), _TILE)
        with torch.enable_grad():
            text = self.tell(seen.texts)
        told, steps = None if text is None else text.detach(), windows.shape[1]
        columns = [rows[name] for name in ("action", "log_prob", "target", "value")]
        numbers = weights.numbers(windows.numel() if keep is None else int(keep[windows].sum()))
        while len(self._rooms) < len(parts):
            self._rooms.append(room(self.sums, self.trunk, self.padded, self.memory, self._unit))

        def part(k: int) -> tuple[Tensor, Tensor | None]:
            mine, some = self._rooms[k], windows[parts[k]]
            by_text = None if told is None else torch.zeros_like(told)
            sums, work, used = torch.zeros(6, dtype=torch.float64), *self._work(steps)
            self._learn(
                *self._looks(seen, told), *self._weights, some, *columns, advantage[parts[k]], memories.state,
                memories.start, keep, numbers, *mine, by_text, sums, work, used, mine[0].numel(), len(some), steps,
                self.actions, self.channels,
            )  # fmt: skip
            return sums, by_text

        done = over(part, range(len(parts)))
        for other in self._rooms[1 : len(parts)]:
            self._rooms[0][0].add_(other[0])
        by_text = None if text is None else sum((by for _, by in done[1:]), done[0][1])
        put(self._rooms[0], self.sums, self.trunk, self.heads, text, by_text, self._unit)
        total: Tensor = sum((sums for sums, _ in done[1:]), done[0][0])
        return total.float()

    def _looks(self, seen: Seen, text: Tensor | None) -> tuple[Tensor | None, ...]:
        return seen.symbols, seen.categories, *self.sums.layout, text, seen.which

    def _work(self, steps: int) -> tuple[Tensor, Tensor]:
        """Memory for what a tile keeps of its windows: numbers, and which rows of the table were added up."""
        floats = self.sums.features_dim + self.trunk.out_features + 7 * self.memory + 16 + self.padded
        used = self.sums.base.numel() + self.sums.extra.numel() + 1
        return torch.empty(_TILE * (steps * floats + self.memory)), torch.empty(_TILE * steps * used, dtype=torch.int32)

    @property
    def _unit(self) -> list[Tensor]:
        return [getattr(self.unit, name) for name in _UNIT]


def fits_memory(policy: Any) -> bool:
    """Whether a policy with memory has a network of the shape that is compiled, on a CPU, and all of it is learned."""
    kind = type(policy)
    if not isinstance(policy, MemoryPolicy) or any(getattr(kind, n) is not getattr(MemoryPolicy, n) for n in _OURS):
        return False
    if policy.bf16 or not policy.joint or policy.device.type != "cpu" or (sums := first_layer(policy)) is None:
        return False
    trunk = policy.features_extractor.trunk
    if not isinstance(trunk, nn.Linear) or type(policy.unit) is not nn.GRUCell:
        return False
    widths = sums.features_dim, trunk.out_features, policy.memory
    heads = policy.action_net.bias is not None and policy.value_net.bias is not None
    learned = all(p.requires_grad and p.dtype == torch.float32 for p in policy.parameters())
    return heads and learned and not any(width % BLOCK for width in widths)


@cache
def _loops(symbols: int, extra: int, width: int, hidden: int, memory: int, outputs: int) -> tuple[Native, Native]:
    """The loops that act and that learn, for such sizes; ``outputs`` are padded."""
    sizes = {"SYMBOLS": symbols, "EXTRA": extra, "WIDTH": width, "HIDDEN": hidden, "MEMORY": memory, "OUT": outputs}
    seen = {**LOOKS, "text": "const float*", "which": "const long long*"}
    weights = dict.fromkeys((*WEIGHTS, "inward", "onward", *(f"unit_{name}" for name in _UNIT)), "const float*")
    act = {
        "uniform": "const float*", "state": "const float*", "start": "const unsigned char*", "action": "long long*",
        "log_prob": "float*", "value": "float*", "after": "float*",
        **dict.fromkeys(("count", "actions", "channels"), "long long"),
    }  # fmt: skip
    gradients = ("table", "bias", "trunk", "trunk_bias", "heads", "heads_bias", *_UNIT, "text")
    learn = {
        "index": "const long long*", "action": "const long long*", "old": "const float*", "target": "const float*",
        "before": "const float*", "advantages": "const float*", "state": "const float*",
        "start": "const unsigned char*", "keep": "const unsigned char*", "numbers": "const float*", "room": "float*",
        **{f"by_{name}": "float*" for name in gradients}, "sums": "double*", "work": "float*", "used": "int*",
        **dict.fromkeys(("size", "count", "steps", "actions", "channels"), "long long"),
    }  # fmt: skip
    shared = constants({**sizes, "LANES": _TILE}) + FEATURES + _REMEMBER
    return (
        Native("memory acting", {**seen, **weights, **act}, shared + fused.DRAW + _ACT),
        Native("memory learning", {**seen, **weights, **learn}, shared + fused.JUDGE + DESCENT + _LEARN),
    )


# One step of LANES lanes. `gates` are [LANES, 4, MEMORY]: reset, update, candidate, and what the candidate is told by
# the state before the reset gate. The exponential is a polynomial, as no library's goes into vector instructions here:
# Cephes' expf, relative error 2e-7.
_REMEMBER = """
const int GATES = 3 * MEMORY, KEPT = 4 * MEMORY + 16;
auto exponential = [](float x) __attribute__((always_inline)) {
    x = x < -80.0f ? -80.0f : x > 80.0f ? 80.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f, whole = shifted - 12582912.0f;
    const float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int bits; float number; } power;
    power.bits = ((int)whole + 127) << 23;
    return p * power.number;
};
alignas(64) float seen[LANES * GATES], told[LANES * GATES], out[64 * OUT];
auto remember = [&](auto row_of, const float* before, float* first, float* second, float* gates, float* after,
                    int* used) {
    features(row_of, LANES, first, second, used);
    product(Wide(), second, HIDDEN, 1, inward, seen, LANES, HIDDEN, GATES, false);
    product(Wide(), before, MEMORY, 1, onward, told, LANES, MEMORY, GATES, false);
    for (int r = 0; r < LANES; ++r) {
        const float *in = seen + r * GATES, *on = told + r * GATES, *was = before + r * MEMORY;
        float *gate = gates + r * KEPT, *to = after + r * MEMORY;
        for (int f = 0; f < 2 * MEMORY; ++f)
            gate[f] = 1.0f / (1.0f + exponential(-(in[f] + on[f] + unit_bias_ih[f] + unit_bias_hh[f])));
        for (int f = 0; f < MEMORY; ++f) {
            const int n = 2 * MEMORY + f;
            const float heard = on[n] + unit_bias_hh[n];
            const float fresh = 1.0f - 2.0f / (1.0f + exponential(2.0f * (in[n] + unit_bias_ih[n] + gate[f] * heard)));
            gate[n] = fresh;
            gate[n + MEMORY] = heard;
            to[f] = fresh + gate[MEMORY + f] * (was[f] - fresh);
        }
    }
};
// Outputs of some rows, a multiple of 4 and at most 64.
auto speak = [&](const float* state, int rows) {
    product(Narrow(), state, MEMORY, 1, across, out, rows, MEMORY, OUT, false);
    for (int r = 0; r < rows; ++r)
        for (int o = 0; o < OUT; ++o)
            out[r * OUT + o] += across_bias[o];
};
"""
_ACT = """
alignas(64) float first[LANES * WIDTH], second[LANES * HIDDEN], gates[LANES * KEPT];
alignas(64) float had[LANES * MEMORY], has[LANES * MEMORY];
int used[LANES * USED];
for (long long begin = 0; begin < count; begin += LANES) {
    const int filled = count - begin < LANES ? (int)(count - begin) : LANES;
    for (int r = 0; r < LANES; ++r)
        for (int f = 0; f < MEMORY; ++f)
            had[r * MEMORY + f] = r < filled && !start[begin + r] ? state[(begin + r) * MEMORY + f] : 0.0f;
    remember([&](int r) { return r < filled ? begin + r : -1; }, had, first, second, gates, has, used);
    speak(has, LANES);
    for (int r = 0; r < filled; ++r) {
        draw(out + r * OUT, begin + r);
        for (int k = 0; k < channels; ++k)
            value[(begin + r) * channels + k] = out[r * OUT + actions + k];
        for (int f = 0; f < MEMORY; ++f)
            after[(begin + r) * MEMORY + f] = has[r * MEMORY + f];
    }
}
"""
# Rows of a tile are [steps, LANES]. Going back, a step's gates become the gradients by what was added up in them, and
# its state the gradient by it.
_LEARN = """
for (long long k = 0; k < size; ++k)  // here, where the interpreter's lock is not needed
    room[k] = 0.0f;
const int rows = (int)steps * LANES;
float* first = work;
float* second = first + (long long)rows * WIDTH;
float* gates = second + (long long)rows * HIDDEN;
float* had = gates + (long long)rows * KEPT;
float* has = had + (long long)rows * MEMORY;
float* by_state = has + (long long)rows * MEMORY;
float* by_out = by_state + (long long)(rows + LANES) * MEMORY;
alignas(64) float by_second[64 * HIDDEN], by_first[64 * WIDTH];
for (long long begin = 0; begin < count; begin += LANES) {
    const int filled = count - begin < LANES ? (int)(count - begin) : LANES;
    auto place = [&](int r) { return (begin + r % LANES) * steps + r / LANES; };  // among the part's rows
    auto row_of = [&](int r) { return r % LANES < filled ? index[place(r)] : -1; };
    for (int t = 0; t < steps; ++t) {
        const int at = t * LANES;
        for (int r = 0; r < LANES; ++r) {
            const long long i = row_of(at + r);
            const float* from = t ? has + (at - LANES + r) * MEMORY : state + i * MEMORY;
            float* to = had + (at + r) * MEMORY;
            for (int f = 0; f < MEMORY; ++f)
                to[f] = i >= 0 && !start[i] ? from[f] : 0.0f;
        }
        remember([&](int r) { return row_of(at + r); }, had + at * MEMORY, first + at * WIDTH, second + at * HIDDEN,
                 gates + at * KEPT, has + at * MEMORY, used + at * USED);
    }
    for (int at = 0; at < rows; at += 64) {
        const int some = rows - at < 64 ? rows - at : 64;
        float* d = by_out + at * OUT;
        speak(has + at * MEMORY, some);
        for (int k = 0; k < some * OUT; ++k)
            d[k] = 0.0f;
        for (int r = 0; r < some; ++r) {
            const long long i = row_of(at + r);
            if (i >= 0 && (!keep || keep[i]))
                judge(out + r * OUT, d + r * OUT, i, advantages[place(at + r)]);
        }
        product(Wide(), d, 1, OUT, has + at * MEMORY, by_heads, OUT, some, MEMORY, true);
        product(Wide(), d, OUT, 1, back, by_state + at * MEMORY, some, OUT, MEMORY, false);
        for (int r = 0; r < some; ++r)
            for (int o = 0; o < OUT; ++o)
                by_heads_bias[o] += d[r * OUT + o];
    }
    for (int t = (int)steps - 1; t >= 0; --t) {
        const int at = t * LANES;
        float* carried = by_state + rows * MEMORY;  // beyond the rows: what comes back from the step after
        for (int r = 0; r < LANES; ++r) {
            const float* was = had + (at + r) * MEMORY;
            float *d = by_state + (at + r) * MEMORY, *gate = gates + (at + r) * KEPT, *on = carried + r * MEMORY;
            const long long next = t + 1 < steps ? row_of(at + LANES + r) : -1;
            const bool goes_on = next >= 0 && !start[next];
            for (int f = 0; f < MEMORY; ++f) {
                const float by = d[f] + (goes_on ? on[f] : 0.0f);
                const float reset = gate[f], update = gate[MEMORY + f], fresh = gate[2 * MEMORY + f];
                const float heard = gate[3 * MEMORY + f], by_fresh = by * (1.0f - update) * (1.0f - fresh * fresh);
                gate[f] = by_fresh * heard * reset * (1.0f - reset);
                gate[MEMORY + f] = by * (was[f] - fresh) * update * (1.0f - update);
                gate[2 * MEMORY + f] = by_fresh;
                gate[3 * MEMORY + f] = by_fresh * reset;
                on[f] = by * update;
            }
            for (int f = 0; f < GATES; ++f)
                by_bias_ih[f] += gate[f];
            for (int f = 0; f < 2 * MEMORY; ++f)
                by_bias_hh[f] += gate[f];
            for (int f = 2 * MEMORY; f < GATES; ++f)
                by_bias_hh[f] += gate[f + MEMORY];
        }
        if (t) {
            const float *gate = gates + at * KEPT, *weight = unit_weight_hh;
            product(Wide(), gate, KEPT, 1, weight, carried, LANES, 2 * MEMORY, MEMORY, true);
            product(Wide(), gate + GATES, KEPT, 1, weight + 2 * MEMORY * MEMORY, carried, LANES, MEMORY, MEMORY, true);
        }
    }
    for (int at = 0; at < rows; at += 64) {
        const int some = rows - at < 64 ? rows - at : 64;
        const float *gate = gates + at * KEPT, *was = had + at * MEMORY;
        product(Wide(), gate, 1, KEPT, second + at * HIDDEN, by_weight_ih, GATES, some, HIDDEN, true);
        product(Wide(), gate, 1, KEPT, was, by_weight_hh, 2 * MEMORY, some, MEMORY, true);
        product(Wide(), gate + GATES, 1, KEPT, was, by_weight_hh + 2 * MEMORY * MEMORY, MEMORY, some, MEMORY, true);
        product(Wide(), gate, KEPT, 1, unit_weight_ih, by_second, some, GATES, HIDDEN, false);
        descend([&](int r) { return row_of(at + r); }, some, first + at * WIDTH, second + at * HIDDEN,
                used + at * USED, by_second, by_first);
    }
}
"""
