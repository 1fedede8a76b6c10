"""The network for symbols, from observations to actions and from a minibatch to PPO's gradient, in two compiled loops.

For a CPU and the shape that :class:`ActorCriticPolicy` has by default where there are symbols: the sum of a row for
each category shown, ReLU, one layer, ReLU, logits and values. Torch's operations on the same parameters give the same
numbers, but each goes through memory once more, and through Python. Here 64 rows at a time are taken from bytes to
gradients while they are in the nearest cache.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..envs.native import Native, Shared
from ..envs.spaces import tree_map
from . import fused
from .categories import distinct
from .compiled_features import BLOCK, DESCENT, FEATURES, LOOKS, WEIGHTS, constants, first_layer, put, room, stacked
from .extractors import TokensExtractor
from .policies import ActorCriticPolicy
from .workers import cut

_LANES = 16  # floats in a vector register
_OURS = ("forward", "evaluate_actions", "extract_features", "predict_values")  # what is done here in their place


class Seen(NamedTuple):
    """Observations as the loops take them."""

    symbols: Tensor
    """uint8 ``[B, S]``."""
    categories: Tensor
    """int64 ``[B, E]``."""
    texts: Tensor | None
    """int64 ``[U, L]``, the texts that occur; None where the space has none."""
    which: Tensor | None
    """int64 ``[B]``: which of them a row has."""


class Compiled:
    """A policy's network, compiled; the parameters stay the policy's.

    Args:
        policy: For which :func:`fits` is true.
    """

    def __init__(self, policy: Any) -> None:
        sums = first_layer(policy)
        assert sums is not None
        self.policy, self.sums = policy, sums
        self.trunk, self.heads = policy.features_extractor.trunk, (policy.action_net, policy.value_net)
        self.channels, self.outputs = policy.channels, sum(head.out_features for head in self.heads)
        self.padded = -(-self.outputs // _LANES) * _LANES
        sizes = sums.base.numel(), sums.extra.numel(), sums.features_dim, self.trunk.out_features, self.padded
        self._act, self._learn = _loops(
            *sizes, cast(TokensExtractor, sums.readers[0]).features_dim if sums.texts else 1
        )
        self._weights: tuple[Tensor, ...] = ()
        self._scale = torch.tensor([cast(TokensExtractor, read).scale for read in sums.readers])
        self._rooms: list[list[Tensor]] = []
        self._shared: Shared | None = None
        self._at = torch.zeros(1, dtype=torch.int64)

    def see(self, obs: Any) -> Seen:
        """Bring an observation tree ``[B, ...]`` into columns."""
        symbols, categories = self.sums.columns(obs)
        if not self.sums.texts:
            return Seen(symbols.contiguous(), categories.contiguous(), None, None)
        (name,) = self.sums.texts
        first, which = distinct(obs[name], self.sums.readers[0].mix)  # type: ignore[arg-type]
        return Seen(symbols.contiguous(), categories.contiguous(), obs[name][first], which)

    def tell(self, texts: Tensor | None) -> Tensor | None:
        """What each text adds to the sum, ``[U, F]``."""
        if texts is None:
            return None
        told: Tensor = self.sums.spoken[0](self.sums.readers[0]._read(texts))  # type: ignore[operator]
        return told

    @torch.no_grad()
    def begin(self) -> None:
        """Take the parameters over in the order in which the loops read them, until they change."""
        weight, bias = stacked(self.heads, self.padded)
        down, across = self.trunk.weight.t().contiguous(), weight.t().contiguous()
        sums, trunk = self.sums, self.trunk
        self._weights = sums.table, sums.bias, down, trunk.bias, trunk.weight, across, bias, weight

    def act(self, obs: Any, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw actions for an observation tree ``[B, ...]`` after :meth:`begin`; see :func:`fused.act`."""
        rows = len(uniform)
        action, log_prob = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
        value = torch.empty(rows, self.channels)
        tensors = self._looks(obs, 1), uniform.contiguous(), action, log_prob, value
        self._act(*self._aim(*tensors), None, 0, rows)
        return action, value, log_prob

    def acting(
        self, obs: Any, uniform: Tensor, action: Tensor, log_prob: Tensor, value: Tensor, threads: int
    ) -> Callable[[int], None] | None:
        """What draws actions for steps of an observation tree ``[T, N, ...]`` that is yet to be filled.

        After :meth:`begin`, and until the parameters change.

        Args:
            obs: The tree.
            uniform: ``[T, N]`` in [0, 1).
            action: int64 ``[T, N]``, to be written.
            log_prob: ``[T, N]``, to be written.
            value: ``[T, N, K]``, to be written.
            threads: How many share the lanes.

        Returns:
            A function of the step; None where observations must be rearranged first.
        """
        kept = [*self._looks(obs, 2)], uniform, action, log_prob, value
        seen = [tensor for tensor in (*kept[0], *kept[1:]) if tensor is not None]
        apart = len(self.sums.symbols) > 1 or len(self.sums.others) > 1
        if apart or not all(tensor.is_contiguous() for tensor in seen):
            return None
        lanes = uniform.shape[1]
        parts = cut(lanes, 64)
        if self._shared is None or not self._shared.fits(parts, threads):
            self._shared = Shared(self._act, parts, threads)
        shared, at, given = self._shared, self._at, self._aim(*kept)
        shared.aim(*given, at)

        def act(t: int, given: Any = given) -> None:  # it holds on to the memory
            at.fill_(t * lanes)
            shared()

        return act

    def _looks(self, obs: Any, lead: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Symbols, categories and words of a tree with so many axes before the space's own."""
        flat = obs if lead == 1 else tree_map(lambda leaf: leaf.flatten(0, lead - 1), obs)
        words = flat[self.sums.texts[0]].contiguous() if self.sums.texts else None
        symbols, categories = self.sums.columns(flat)
        return symbols.contiguous(), categories.contiguous(), words

    def _aim(
        self, looks: Sequence[Tensor | None], uniform: Tensor, action: Tensor, log_prob: Tensor, value: Tensor
    ) -> list[Tensor | int | None]:
        """The arguments of the loop that acts, but for the rows."""
        symbols, categories, words = looks
        texts: Sequence[Tensor | int | None] = [*[None] * 6, 0]
        if words is not None:
            read, said = cast(TokensExtractor, self.sums.readers[0]), cast(nn.Linear, self.sums.spoken[0])
            texts = [words, read.mix, said.weight, read.words.weight, read.places, self._scale, words.shape[1]]
        sizes = self.outputs - self.channels, self.channels
        return [
            symbols, categories, *self.sums.layout, *self._weights, *texts, uniform, action, log_prob, value, *sizes,
        ]  # fmt: skip

    def values(self, obs: Any) -> Tensor:
        """Values ``[B, K]`` of an observation tree, after :meth:`begin`."""
        rows = len(self.sums.columns(obs)[0])
        return self.act(obs, torch.zeros(rows))[1]

    def gradient(
        self,
        rows: dict[str, Any],
        index: Tensor,
        advantage: Tensor,
        weights: fused.Weights,
        parts: Sequence[slice],
        over: Callable[..., list[Any]],
    ) -> Tensor:
        """Set the gradient of PPO's loss on a minibatch.

        Args:
            rows: A rollout's "seen" of :meth:`see`, "action", "log_prob", "target" and "value".
            index: int64 ``[B]``, the rows that are in the minibatch.
            advantage: ``[B]``, theirs.
            weights: Of the loss's parts.
            parts: Of the minibatch.
            over: Applies a function to every part.

        Returns:
            What :func:`fused.loss_gradient` says of the loss, float32 ``[6]``.
        """
        self.begin()
        with torch.enable_grad():
            text = self.tell(rows["seen"].texts)
        told = None if text is None else text.detach()
        columns = [rows[name] for name in ("action", "log_prob", "target", "value")]
        numbers = weights.numbers(len(index))
        while len(self._rooms) < len(parts):
            self._rooms.append(room(self.sums, self.trunk, self.padded, self.trunk.out_features))

        def part(k: int) -> tuple[Tensor, Tensor | None]:
            seen, some = rows["seen"], index[parts[k]]
            by_text = None if told is None else torch.empty_like(told)
            sums = torch.zeros(6, dtype=torch.float64)
            self._learn(
                seen.symbols, seen.categories, *self.sums.layout, told, seen.which, *self._weights, some, *columns,
                advantage[parts[k]], numbers, self._rooms[k][0], by_text, sums, len(self.sums.table),
                0 if told is None else len(told), len(some), self.outputs - self.channels, self.channels,
            )  # fmt: skip
            return sums, by_text

        done = over(part, range(len(parts)))
        for other in self._rooms[1 : len(parts)]:
            self._rooms[0][0].add_(other[0])
        by_text = None if text is None else sum((by for _, by in done[1:]), done[0][1])
        put(self._rooms[0], self.sums, self.trunk, self.heads, text, by_text)
        total: Tensor = sum((sums for sums, _ in done[1:]), done[0][0])
        return total.float()


def fits(policy: Any) -> bool:
    """Whether a policy's network has the shape that is compiled, on a CPU, and all of it is learned."""
    kind = type(policy)
    if any(getattr(kind, name) is not getattr(ActorCriticPolicy, name) for name in _OURS):
        return False
    if policy.bf16 or not policy.joint or policy.device.type != "cpu" or (sums := first_layer(policy)) is None:
        return False
    trunk = policy.features_extractor.trunk
    if not isinstance(trunk, nn.Linear) or sums.features_dim % BLOCK or trunk.out_features % BLOCK:
        return False
    heads = policy.action_net.bias is not None and policy.value_net.bias is not None
    return heads and all(p.requires_grad and p.dtype == torch.float32 for p in policy.parameters())


@cache
def _loops(symbols: int, extra: int, width: int, hidden: int, outputs: int, dim: int) -> tuple[Native, Native]:
    """The loops that act and that learn.

    For so many symbols, categories, features, trunk units, padded outputs and features of a text.
    """
    sizes = {"SYMBOLS": symbols, "EXTRA": extra, "WIDTH": width, "HIDDEN": hidden, "OUT": outputs, "DIM": dim}
    seen = {**LOOKS, "text": "const float*", "which": "const long long*"}
    weights = dict.fromkeys(WEIGHTS, "const float*")
    act = {
        "tokens": "const long long*", "mix": "const long long*", "spoken": "const float*", "vectors": "const float*",
        "places": "const float*", "scale": "const float*", "length": "long long",
        "uniform": "const float*", "action": "long long*", "log_prob": "float*", "value": "float*",
        "actions": "long long", "channels": "long long", "at": "const long long*", "from": "long long",
        "count": "long long",
    }  # fmt: skip
    learn = {
        "index": "const long long*", "action": "const long long*", "old": "const float*", "target": "const float*",
        "before": "const float*", "advantages": "const float*", "numbers": "const float*", "room": "float*",
        "by_text": "float*", "sums": "double*", "height": "long long", "texts": "long long", "count": "long long",
        "actions": "long long", "channels": "long long",
    }  # fmt: skip
    return (
        Native("network acting", {**LOOKS, **weights, **act}, constants(sizes) + _OWN + FORWARD + fused.DRAW + _ACT),
        Native("network learning", {**seen, **weights, **learn}, constants(sizes) + FORWARD + LESSON + _LEARN),
    )


# A tile's rows from what is seen to the outputs; rows beyond the last one are zero.
FORWARD = """
alignas(64) float first[TILE * WIDTH], second[TILE * HIDDEN], out[TILE * OUT];
int used[TILE * USED];
auto forward = [&](const long long* rows, long long begin, int filled) {
    auto row_of = [&](int r) { return r >= filled ? -1 : rows ? rows[begin + r] : begin + r; };
    features(row_of, TILE, first, second, used);
    product(Narrow(), second, HIDDEN, 1, across, out, TILE, HIDDEN, OUT, false);
    for (int r = 0; r < filled; ++r)
        for (int o = 0; o < OUT; ++o)
            out[r * OUT + o] += across_bias[o];
};
"""
FORWARD = FEATURES + FORWARD
# The features of a text of so many words, and what they add to the sum.
READ = """
auto read = [&](const long long* said, float* features, float* adds) {
    for (int d = 0; d < DIM; ++d)
        features[d] = 0.0f;
    for (long long l = 0; l < length; ++l) {
        const float* word = vectors + said[l] * DIM;
        for (int d = 0; d < DIM; ++d)
            features[d] += word[d] * places[l * DIM + d];
    }
    for (int d = 0; d < DIM; ++d)
        features[d] = tanhf(features[d] * scale[0]);
    for (int f = 0; f < WIDTH; ++f) {
        float sum = 0.0f;
        for (int d = 0; d < DIM; ++d)
            sum += spoken[f * DIM + d] * features[d];
        adds[f] = sum;
    }
};
"""
_OWN = """
const long long* which = nullptr;
const float* text = nullptr;
"""
# Texts are told apart among 64 rows, as in `categories.distinct`, and read once each.
_ACT = (
    READ
    + """
alignas(64) float told[TILE * WIDTH], meaning[DIM];
long long own[TILE], heard[TILE];
const long long start = from + (at ? at[0] : 0), end = start + count;
for (long long begin = start; begin < end; begin += TILE) {
    const int filled = end - begin < TILE ? (int)(end - begin) : TILE;
    int known = 0;
    for (int r = 0; length && r < filled; ++r) {
        const long long* said = tokens + (begin + r) * length;
        unsigned long long sum = 0;
        for (long long j = 0; j < length; ++j)
            sum += (unsigned long long)said[j] * (unsigned long long)mix[j];
        int k = 0;
        while (k < known && heard[k] != (long long)sum)
            ++k;
        if (k == known) {
            heard[known++] = (long long)sum;
            read(said, meaning, told + k * WIDTH);
        }
        own[r] = k;
    }
    which = own - begin;
    text = length ? told : nullptr;
    forward(nullptr, begin, filled);
    for (int r = 0; r < filled; ++r) {
        draw(out + r * OUT, begin + r);
        for (int k = 0; k < channels; ++k)
            value[(begin + r) * channels + k] = out[r * OUT + actions + k];
    }
}
"""
)
# A part's share of PPO's loss, added to `sums`, and of its gradient, which is put into `room` and `by_text`.
LESSON = (
    """
auto lesson = [&](const long long* index, const float* advantages, long long count, const float* numbers, float* room,
                  float* by_text, double* sums) {
    float* by_table = room;
    float* by_bias = by_table + height * WIDTH;
    float* by_trunk = by_bias + WIDTH;
    float* by_trunk_bias = by_trunk + HIDDEN * WIDTH;
    float* by_heads = by_trunk_bias + HIDDEN;
    float* by_heads_bias = by_heads + OUT * HIDDEN;
    for (float* to = room; to < by_heads_bias + OUT; ++to)
        *to = 0.0f;
    for (long long k = 0; text && k < texts * WIDTH; ++k)
        by_text[k] = 0.0f;
"""
    + fused.JUDGE
    + DESCENT
    + """
    alignas(64) float by_out[TILE * OUT], by_second[TILE * HIDDEN], by_first[TILE * WIDTH];
    for (long long begin = 0; begin < count; begin += TILE) {
        const int filled = count - begin < TILE ? (int)(count - begin) : TILE;
        forward(index, begin, filled);
        for (int k = 0; k < TILE * OUT; ++k)
            by_out[k] = 0.0f;
        for (int r = 0; r < filled; ++r)
            judge(out + r * OUT, by_out + r * OUT, index[begin + r], advantages[begin + r]);
        product(Wide(), by_out, 1, OUT, second, by_heads, OUT, TILE, HIDDEN, true);
        product(Wide(), by_out, OUT, 1, back, by_second, TILE, OUT, HIDDEN, false);
        for (int r = 0; r < filled; ++r)
            for (int o = 0; o < OUT; ++o)
                by_heads_bias[o] += by_out[r * OUT + o];
        descend([&](int r) { return r < filled ? index[begin + r] : -1; }, TILE, first, second, used, by_second,
                by_first);
    }
};
"""
)
_LEARN = "lesson(index, advantages, count, numbers, room, by_text, sums);\n"
