"""A whole pass of PPO over a rollout in one compiled loop: minibatches, gradients, clipping and Adam.

Between two minibatches nothing goes through Python or waits for its lock: on minibatches of 1,024 rows those waits took
longer than the arithmetic. Several threads run the same loop and wait for each other at its barriers. How rows are cut
into parts and parameters into blocks depends on their numbers only, and sums go in the order of parts and blocks, so
the number of threads changes no bit.

Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1) and the clipping of the
gradient's length are those of ``torch.optim.Adam`` and ``torch.nn.utils.clip_grad_norm_``, equal but for rounding: the
length is summed up in doubles. Parameters and moments are brought into one stretch of memory for the pass and put back
afterwards, so that the policy and its optimiser stay what everybody else reads, saves and loads.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..envs.native import Native
from . import fused
from .compiled import FORWARD, LESSON, READ, Compiled
from .compiled_features import LOOKS, constants
from .extractors import TokensExtractor

PART = 256  # least rows of a part of a minibatch, but for the last ones
BLOCK = 4096  # parameters whose squares are summed up together


class Epochs:
    """Passes over rollouts for a compiled network and its Adam.

    Args:
        compiled: The network.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, sums, trunk = compiled, compiled.sums, compiled.trunk
        width, hidden, out = sums.features_dim, trunk.out_features, compiled.padded
        self.readers: list[TokensExtractor] = list(sums.readers)  # type: ignore[arg-type]
        shapes: list[tuple[int, ...]] = [tuple(sums.table.shape), (width,), (hidden, width), (hidden,)]
        shapes += [(out, hidden), (out,)]
        self.net = sum(torch.Size(shape).numel() for shape in shapes)
        for read in self.readers:
            shapes += [(width, read.features_dim), tuple(read.words.weight.shape), tuple(read.places.shape)]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        # Values, first and second moments, gradient.
        self.flat = [torch.zeros(sum(sizes)) for _ in range(4)]
        self.views = [self._views(flat, sizes, shapes) for flat in self.flat[:3]]
        self.down, self.across = torch.empty(width, hidden), torch.empty(hidden, out)
        self.rooms = torch.empty(0)
        dim = self.readers[0].features_dim if self.readers else 1
        self._loop = _loop(sums.base.numel(), sums.extra.numel(), width, hidden, out, dim)

    def _views(self, flat: Tensor, sizes: list[int], shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """The parts of ``flat`` that belong to each of :attr:`parameters`."""
        table, bias, trunk, trunk_bias, heads, heads_bias, *texts = (
            part.view(shape) for part, shape in zip(torch.split(flat, sizes), shapes)
        )
        first = self.compiled.heads[0].out_features
        rows = slice(0, first), slice(first, self.compiled.outputs)
        return [table, bias, trunk, trunk_bias, *(both[r] for r in rows for both in (heads, heads_bias)), *texts]

    @property
    def parameters(self) -> list[Tensor]:
        """All that is learned, in the order of the views."""
        sums, trunk = self.compiled.sums, self.compiled.trunk
        texts = [
            p for read, said in zip(self.readers, sums.spoken) for p in (said.weight, read.words.weight, read.places)
        ]
        return [
            sums.table, sums.bias, trunk.weight, trunk.bias,
            *(p for head in self.compiled.heads for p in (head.weight, head.bias)), *texts,
        ]  # fmt: skip

    def fits(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether an optimiser is plain Adam of these parameters, all of which have come equally far."""
        if not isinstance(optimizer, torch.optim.Adam) or len(optimizer.param_groups) != 1:
            return False
        (group,), ours = optimizer.param_groups, self.parameters
        if any(group[name] for name in ("amsgrad", "maximize", "weight_decay", "differentiable", "capturable")):
            return False
        steps = {float(slot["step"]) for slot in (optimizer.state.get(p) for p in ours) if slot}
        known = sum(bool(optimizer.state.get(p)) for p in ours)
        return {id(p) for p in group["params"]} == {id(p) for p in ours} and len(steps) <= 1 and known in (0, len(ours))

    @torch.no_grad()
    def begin(self, optimizer: torch.optim.Optimizer) -> int:
        """Bring parameters and moments together; returns Adam's steps so far."""
        parameters = self.parameters
        for p in optimizer.param_groups[0]["params"]:
            if not optimizer.state.get(p):
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[p] = {"step": torch.zeros(()), **zeros}
        slots = [optimizer.state[p] for p in parameters]
        for views, now in zip(self.views, (parameters, *([s[k] for s in slots] for k in ("exp_avg", "exp_avg_sq")))):
            torch._foreach_copy_(views, now)
        return int(slots[0]["step"])

    @torch.no_grad()
    def end(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Put parameters and moments back, after so many of Adam's steps in all."""
        parameters = self.parameters
        slots = [optimizer.state[p] for p in parameters]
        for views, now in zip(self.views, (parameters, *([s[k] for s in slots] for k in ("exp_avg", "exp_avg_sq")))):
            torch._foreach_copy_(now, views)
        for slot in slots:
            slot["step"].fill_(steps)

    def run(
        self,
        rows: dict[str, Any],
        order: Tensor,
        size: int,
        weights: fused.Weights,
        optimizer: torch.optim.Optimizer,
        steps: int,
        *,
        normalise: bool,
        longest: float,
        furthest: float | None,
        threads: int,
        over: Callable[..., list[Any]],
    ) -> Tensor:
        """Pass over rows once, between :meth:`begin` and :meth:`end`.

        Args:
            rows: A rollout's "seen" of ``Compiled.see``, "action", "log_prob", "target", "value" and "advantage".
            order: int64 ``[C]``, the rows in the order in which they are taken.
            size: Of a minibatch.
            weights: Of the loss's parts.
            optimizer: Whose rate and betas hold.
            steps: That Adam has done before.
            normalise: Bring each minibatch's advantages to mean 0 and deviation 1.
            longest: Gradients longer than this are cut to it.
            furthest: End before the step of a minibatch whose KL is beyond this; None for never.
            threads: How many run the loop.
            over: Applies a function to each of so many things, each in a thread of its own.

        Returns:
            What ``fused.loss_gradient`` says of the loss, for each minibatch up to the end: float32 ``[M, 6]``. The
            step of the last one was left out if its KL was beyond ``furthest``.
        """
        (group,), compiled, seen = optimizer.param_groups, self.compiled, rows["seen"]
        count = -(-len(order) // size)
        edges = torch.arange(count + 1).mul_(size).clamp_(max=len(order))
        most = max(-(-size // (2 * PART)), min(size // PART, 2), 1)
        if len(self.rooms) < most - 1:
            self.rooms = torch.empty(most - 1, self.net)
        (first, second), rate = group["betas"], float(group["lr"])
        done = range(steps + 1, steps + count + 1)
        rates = torch.tensor([(rate / (1 - first**k), (1 - second**k) ** -0.5) for k in done], dtype=torch.float64)
        kl = float("inf") if furthest is None else furthest
        numbers = [*weights.numbers(1)[:4].tolist(), first, second, group["eps"], longest, kl]
        texts = 0 if seen.texts is None else len(seen.texts)
        length, words = (seen.texts.shape[1], len(self.readers[0].words.weight)) if texts else (0, 0)
        dim = self.readers[0].features_dim if texts else 1
        told, spread, by_spread = torch.empty(texts, self.down.shape[0]), *(torch.empty(texts, dim) for _ in range(2))
        by_texts, stamps = torch.empty(most, *told.shape), torch.zeros(texts, dtype=torch.int64)
        scale = torch.tensor([self.readers[0].scale if texts else 1.0])
        squares = torch.zeros(-(-self.flat[0].numel() // BLOCK), dtype=torch.float64)
        sums, meeting = torch.zeros(count, most, 6, dtype=torch.float64), torch.zeros(64, dtype=torch.int64)
        columns = [rows[name].contiguous() for name in ("action", "log_prob", "target", "value", "advantage")]
        values = [
            seen.symbols, seen.categories, *compiled.sums.layout, seen.which, seen.texts, order, edges, *columns,
            *self.flat, self.rooms, self.down, self.across, torch.empty(len(order)), told, spread, by_texts, by_spread,
            stamps, scale, squares, sums, torch.tensor(numbers), rates, meeting, _rest(), len(compiled.sums.table),
            compiled.outputs - compiled.channels, compiled.channels, count, most, texts, words, length, self.net,
            self.flat[0].numel(), int(normalise), threads,
        ]  # fmt: skip

        def work(me: int) -> None:
            try:
                self._loop(*values, me)
            except BaseException:
                meeting[_FAILED] = 1  # nobody waits for this thread
                raise

        over(work, range(threads))
        return sums[: int(meeting[_LIVED])].sum(1).float()


_FAILED, _LIVED = 2 * 8, 3 * 8  # in cache lines of their own


@cache
def _rest() -> int:
    """The address of the function that lets other threads have the processor."""
    name, library = ("SwitchToThread", "kernel32") if sys.platform == "win32" else ("sched_yield", None)
    return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value or 0


@cache
def _loop(symbols: int, extra: int, width: int, hidden: int, out: int, dim: int) -> Native:
    """The loop for so many symbols, categories, features, trunk units, padded outputs and features of a text."""
    sizes = {"SYMBOLS": symbols, "EXTRA": extra, "WIDTH": width, "HIDDEN": hidden, "OUT": out, "DIM": dim}
    sizes |= {"PART": PART, "BLOCK": BLOCK, "FAILED": _FAILED, "LIVED": _LIVED}
    pointers = {
        "which": "const long long*", "tokens": "const long long*", "order": "const long long*",
        "edges": "const long long*", "action": "const long long*", "old": "const float*", "target": "const float*",
        "before": "const float*", "advantage": "const float*", "values": "float*", "means": "float*",
        "spreads": "float*", "gradient": "float*", "rooms": "float*", "down": "float*", "across": "float*",
        "shares": "float*", "told": "float*", "spread": "float*", "by_texts": "float*", "by_spread": "float*",
        "stamps": "long long*", "scale": "const float*", "squares": "double*", "totals": "double*",
        "fixed": "const float*", "rates": "const double*", "meeting": "long long*",
    }  # fmt: skip
    names = (
        "rest", "height", "actions", "channels", "batches", "widest", "texts", "words", "length", "net", "total",
        "normalise", "threads", "me",
    )  # fmt: skip
    arguments = {**LOOKS, **pointers, **dict.fromkeys(names, "long long")}
    code = constants(sizes), _PLACES, FORWARD, LESSON, READ, _TEXTS, _MEET, _EPOCH
    return Native("PPO epoch", arguments, "".join(code))


_PLACES = """
const float* table = values;
const float* bias = table + height * WIDTH;
const float* trunk = bias + WIDTH;
const float* down_bias = trunk + HIDDEN * WIDTH;
const float* back = down_bias + HIDDEN;
const float* across_bias = back + OUT * HIDDEN;
const float* spoken = values + net;
const float* vectors = spoken + WIDTH * DIM;
const float* places = vectors + words * DIM;
const float* text = texts ? told : nullptr;
"""
# From the gradient by what text number u adds, the one by the sums in its features.
_TEXTS = """
auto unread = [&](long long u, long long parts) {
    float* by = by_texts + u * WIDTH;
    for (long long k = 1; k < parts; ++k)
        for (int f = 0; f < WIDTH; ++f)
            by[f] += by_texts[(k * texts + u) * WIDTH + f];
    float* to = by_spread + u * DIM;
    for (int d = 0; d < DIM; ++d)
        to[d] = 0.0f;
    for (int f = 0; f < WIDTH; ++f)
        for (int d = 0; d < DIM; ++d)
            to[d] += by[f] * spoken[f * DIM + d];
    for (int d = 0; d < DIM; ++d)
        to[d] *= scale[0] * (1.0f - spread[u * DIM + d] * spread[u * DIM + d]);
};
auto part_of = [&](long long count, long long who) { return count * who / threads; };
"""
# All threads wait here for the last one: false where one of them has failed.
_MEET = """
typedef void Rest();
auto meet = [&]() {
    if (threads == 1)
        return true;
    const long long turn = __atomic_load_n(meeting + 8, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(meeting, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(meeting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(meeting + 8, turn + 1, __ATOMIC_RELEASE);
        return true;
    }
    for (int spins = 0; __atomic_load_n(meeting + 8, __ATOMIC_ACQUIRE) == turn; ++spins) {
        if (__atomic_load_n(meeting + FAILED, __ATOMIC_ACQUIRE))
            return false;
        if (spins > 1000)
            ((Rest*)rest)();
    }
    return true;
};
"""
_EPOCH = """
for (long long b = 0; b < batches; ++b) {
    const long long* index = order + edges[b];
    const long long count = edges[b + 1] - edges[b], wide = (count + 2 * PART - 1) / (2 * PART);
    const long long two = count / PART < 2 ? count / PART : 2, some = wide > two ? wide : two;
    const long long parts = some > 1 ? some : 1;
    // What the parameters say before any row is looked at.
    for (long long f = part_of(WIDTH, me); f < part_of(WIDTH, me + 1); ++f)
        for (int h = 0; h < HIDDEN; ++h)
            down[f * HIDDEN + h] = trunk[h * WIDTH + f];
    for (long long h = part_of(HIDDEN, me); h < part_of(HIDDEN, me + 1); ++h)
        for (int o = 0; o < OUT; ++o)
            across[h * OUT + o] = back[o * HIDDEN + h];
    const long long first_text = part_of(texts, me), last_text = part_of(texts, me + 1);
    for (long long i = 0; texts && i < count; ++i)
        if (which[index[i]] >= first_text && which[index[i]] < last_text)
            stamps[which[index[i]]] = b + 1;
    for (long long u = first_text; u < last_text; ++u)
        if (stamps[u] == b + 1)
            read(tokens + u * length, spread + u * DIM, told + u * WIDTH);
    double mean = 0.0, square = 0.0;
    if (normalise && count > 1) {
        for (long long i = 0; i < count; ++i)
            mean += advantage[index[i]];
        mean /= (double)count;
        for (long long i = 0; i < count; ++i) {
            const double apart = advantage[index[i]] - mean;
            square += apart * apart;
        }
    }
    const float centre = (float)mean;
    const float by = normalise && count > 1 ? 1.0f / (sqrtf((float)(square / (double)(count - 1))) + 1e-8f) : 1.0f;
    if (!meet())
        return;
    // Each part's gradient.
    const float numbers[5] = {fixed[0], fixed[1], fixed[2], fixed[3], 1.0f / (float)count};
    for (long long k = me; k < parts; k += threads) {
        const long long from = count * k / parts, to = count * (k + 1) / parts;
        for (long long i = from; i < to; ++i)
            shares[i] = (advantage[index[i]] - centre) * by;
        lesson(index + from, shares + from, to - from, numbers, k ? rooms + (k - 1) * net : gradient,
               by_texts + k * texts * WIDTH, totals + (b * widest + k) * 6);
    }
    if (!meet())
        return;
    double moved = 0.0;
    for (long long k = 0; k < parts; ++k)
        moved += totals[(b * widest + k) * 6 + 5];
    if (me == 0)
        meeting[LIVED] = b + 1;
    if (moved > (double)fixed[8])
        break;
    // Their sum.
    if (texts) {
        for (long long u = first_text; u < last_text; ++u)
            if (stamps[u] == b + 1)
                unread(u, parts);
        if (!meet())
            return;
        float* by_spoken = gradient + net;
        float* by_vectors = by_spoken + WIDTH * DIM;
        float* by_places = by_vectors + words * DIM;
        for (long long f = part_of(WIDTH, me); f < part_of(WIDTH, me + 1); ++f)
            for (int d = 0; d < DIM; ++d)
                by_spoken[f * DIM + d] = 0.0f;
        const long long left = part_of(DIM, me), right = part_of(DIM, me + 1);
        for (long long l = 0; l < words + length; ++l)
            for (long long d = left; d < right; ++d)
                by_vectors[l * DIM + d] = 0.0f;
        for (long long u = 0; u < texts; ++u) {
            if (__atomic_load_n(stamps + u, __ATOMIC_RELAXED) != b + 1)
                continue;
            for (long long f = part_of(WIDTH, me); f < part_of(WIDTH, me + 1); ++f)
                for (int d = 0; d < DIM; ++d)
                    by_spoken[f * DIM + d] += by_texts[u * WIDTH + f] * spread[u * DIM + d];
            for (long long l = 0; l < length; ++l) {
                const long long word = tokens[u * length + l];
                for (long long d = left; d < right; ++d) {
                    if (word)  // padding is not learned
                        by_vectors[word * DIM + d] += by_spread[u * DIM + d] * places[l * DIM + d];
                    by_places[l * DIM + d] += by_spread[u * DIM + d] * vectors[word * DIM + d];
                }
            }
        }
        if (!meet())
            return;
    }
    const long long blocks = (total + BLOCK - 1) / BLOCK;
    for (long long q = part_of(blocks, me); q < part_of(blocks, me + 1); ++q) {
        const long long from = q * BLOCK, to = from + BLOCK < total ? from + BLOCK : total;
        const long long own = to < net ? to : net;
        for (long long k = 1; k < parts; ++k) {
            const float* room = rooms + (k - 1) * net;
            for (long long i = from; i < own; ++i)
                gradient[i] += room[i];
        }
        vec sum = {};
        for (long long i = from; i < to; i += 16) {
            const vec g = *(const vec*)(gradient + i);
            sum += g * g;
        }
        squares[q] = 0.0;
        for (int i = 0; i < 16; ++i)
            squares[q] += sum[i];
    }
    if (!meet())
        return;
    // Adam.
    double whole = 0.0;
    for (long long q = 0; q < blocks; ++q)
        whole += squares[q];
    const float cut = fixed[7] / ((float)__builtin_sqrt(whole) + 1e-6f), kept = cut > 1.0f ? 1.0f : cut;
    const float beta1 = fixed[4], beta2 = fixed[5], eps = fixed[6];
    const float rate = (float)rates[2 * b], wider = (float)rates[2 * b + 1];
    for (long long i = part_of(total / 16, me) * 16; i < part_of(total / 16, me + 1) * 16; i += 16) {
        const vec g = *(const vec*)(gradient + i) * kept;
        vec* m = (vec*)(means + i);
        vec* v = (vec*)(spreads + i);
        *m += (1.0f - beta1) * (g - *m);
        *v = beta2 * *v + (1.0f - beta2) * g * g;
        *(vec*)(values + i) -= rate * *m / (__builtin_elementwise_sqrt(*v) * wider + eps);
    }
    if (!meet())
        return;
}
"""
