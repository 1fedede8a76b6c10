"""Compiled loops that bonuses share, for a CPU: hash rows, tell them apart and count them.

Each does what the torch code beside its caller does, which stays for other devices and for few rows: these need nothing
compiled. Threads share the rows (``envs.native.Spread``); how many there are changes no bit. Small networks are in
``fast_networks``, and how they learn in ``fast_learning``.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ..envs.native import Native, Spread

LEAST = 256  # rows from which on a compiled loop is asked


def fits(rows: int, device: torch.device) -> bool:
    """Whether a compiled loop should be asked."""
    return rows >= LEAST and device.type == "cpu"


# ---- hashes --------------------------------------------------------------------------------------------


def hash_rows(leaves: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """``hashing.hash_rows`` of leaves ``[B, n]``, each with the factors of its words: int64 ``[B]``."""
    table = torch.tensor(
        [
            [leaf.data_ptr(), leaf.shape[1] * leaf.element_size(), factor.data_ptr()]
            for leaf, factor in zip(leaves, factors)
        ]
    )
    out = torch.empty(len(leaves[0]), dtype=torch.int64)
    _hash()(len(out), table, out, len(leaves))
    return out


def distinct(hashes: Tensor) -> tuple[Tensor, Tensor]:
    """The first row of each hash, rising, ``[U]``, and which of these each row is like ``[B]``; both int64."""
    places = 1 << (2 * len(hashes) - 1).bit_length()
    first, of = torch.empty_like(hashes), torch.empty_like(hashes)
    room, found = torch.full((places,), -1, dtype=torch.int32), torch.empty(1, dtype=torch.int64)
    _distinct()(hashes.contiguous(), first, of, room, found, len(hashes), places)
    return first[: int(found)], of


def count(
    slots: Tensor, used: int, begin: int, keys: Tensor, lanes: Tensor | int, epochs: Tensor, out: Tensor
) -> tuple[int, int]:
    """Count ``keys[begin:]`` one by one in a ``CountTable``, until all are or the table is half full.

    Args:
        slots: The table, int64 ``[S + 1, 4]``.
        used: How many of its slots are in use.
        begin: The key to begin with.
        keys: int64 ``[M]``; what is 0 is left out.
        lanes: Whose they are, ``[M]``; or how many lanes take turns.
        epochs: When they are, ``[M]``.
        out: int64 ``[M]``, to be written: how often the key has come by then, itself included; 0 for what is left out.

    Returns:
        How many slots are in use now, and the first key that is not counted.
    """
    state = torch.tensor([used, begin])
    lane, turns = (None, lanes) if isinstance(lanes, int) else (lanes.contiguous(), 1)
    sizes = len(slots) - 1, len(keys), turns
    _count()(slots, keys.contiguous(), lane, epochs.contiguous(), out, state, *sizes)
    return int(state[0]), int(state[1])


def counted(slots: Tensor, asked: Tensor) -> Tensor:
    """How often each of ``asked [M]``, none of them 0, stands in a table: int64 ``[M]``."""
    out = torch.empty_like(asked)
    _counted()(len(out), slots, asked.contiguous(), out, len(slots) - 1)
    return out


def refill(old: Tensor, current: Tensor | None, new: Tensor | None) -> int:
    """Move what is alive from one ``CountTable``'s slots to those of another, all of them empty.

    Args:
        old: The slots, int64 ``[S + 1, 4]``.
        current: Which epoch each lane is in; what is of an earlier one is not alive. None: all is.
        new: The other's, or None to count only.

    Returns:
        How many are alive.
    """
    found = torch.zeros(1, dtype=torch.int64)
    _refill()(old, current, new, found, len(old) - 1, 0 if new is None else len(new) - 1)
    return int(found)


def visit_keys(
    before: Tensor, after: Tensor, begins: Tensor, valid: Tensor, epoch: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of the visits of a stretch, of which episodes tell apart what is alike.

    Args:
        before: Hashes of the states that rows began with ``[T, N]``; they count where an episode begins.
        after: Hashes of the states that rows led to ``[T, N]``; they count where rows are valid.
        begins: Bool ``[T, N]``: an episode begins at this row.
        valid: Bool ``[T, N]``.
        epoch: int64 ``[N]``: which episode each lane was in before.
        factors: What number of the lane and of the episode are multiplied by, int64 ``[2]``.

    Returns:
        Keys and episodes ``[2, T, N]``, first those of the states that episodes begin with, then those of all that
        follow; 0 is no key. And the episodes that the lanes are in now, ``[N]``.
    """
    steps, lanes = valid.shape
    keys, epochs = (torch.empty(2, steps, lanes, dtype=torch.int64) for _ in range(2))
    now = epoch.clone()
    given = before.contiguous(), after.contiguous(), begins.contiguous(), valid.contiguous()
    _visit_keys()(lanes, *given, now, factors, keys, epochs, steps, lanes)
    return keys, epochs, now


def episode_sums(
    paid: Tensor, task: Tensor, valid: Tensor, start: Tensor, ends: Tensor, won: Tensor, open_: Tensor, surely: bool
) -> Tensor:
    """Add up a bonus and the task's reward along episodes; ``open_`` goes along.

    Args:
        paid: The bonus, float32 ``[T, N]``.
        task: The reward, the same.
        valid: Bool ``[T, N]``, like the next three.
        start: An episode begins.
        ends: It ends.
        won: It ended well, if its return is above 0.
        open_: Sums of the episodes that are open, float64 ``[2, N]``, of the bonus and the task.
        surely: What was won was so with any return.

    Returns:
        Of the episodes that ended, float64 ``[4]``: the sum of the sizes of their bonuses, how many ended, how many
        ended well, and the largest return by its size.
    """
    steps, lanes = valid.shape
    loop = _episode_sums()
    out = torch.zeros(loop.pieces(lanes), 4, dtype=torch.float64)
    given = [column.contiguous() for column in (paid, task, valid, start, ends, won)]
    loop(lanes, *given, open_, out, steps, lanes, int(surely))
    return torch.cat([out[:, :3].sum(0), out[:, 3:].amax(0)])


def apart(one: Tensor, these: Tensor, other: Tensor, those: Tensor) -> Tensor:
    """Squared distances of ``one[these]`` and ``other[those]``, which are rows ``[*, F]``: float32 ``[B]``."""
    if torch.is_grad_enabled() or not fits(len(these), these.device):
        return (one[these] - other[those]).square().sum(1)
    out = torch.empty(len(these))
    _apart()(len(out), one.contiguous(), these.contiguous(), other.contiguous(), those.contiguous(), out, one.shape[1])
    return out


# ---- loops ---------------------------------------------------------------------------------------------


@cache
def _hash() -> Spread:
    arguments = {"table": "const long long*", "out": "long long*", "leaves": "long long"}
    return Spread("hashes of rows", arguments, _HASH, 1024)


@cache
def _distinct() -> Native:
    arguments = {
        "hashes": "const long long*", "first": "long long*", "of": "long long*", "room": "int*", "found": "long long*",
        "rows": "long long", "places": "long long",
    }  # fmt: skip
    return Native("distinct rows", arguments, _DISTINCT)


@cache
def _count() -> Native:
    arguments = {
        "slots": "long long*", "asked": "const long long*", "lane": "const long long*", "epoch": "const long long*",
        "out": "long long*", "state": "long long*", "size": "long long", "rows": "long long", "turns": "long long",
    }  # fmt: skip
    return Native("counting rows", arguments, _COUNT)


@cache
def _counted() -> Spread:
    arguments = {
        "slots": "const long long*", "asked": "const long long*", "out": "long long*", "size": "long long"
    }  # fmt: skip
    return Spread("counts of rows", arguments, _COUNTED, 1024)


@cache
def _refill() -> Native:
    arguments = {
        "old": "const long long*", "current": "const long long*", "slots": "long long*", "found": "long long*",
        "count": "long long", "size": "long long",
    }  # fmt: skip
    return Native("moving counts", arguments, _REFILL)


@cache
def _visit_keys() -> Spread:
    arguments = {
        "before": "const long long*", "after": "const long long*", "begins": "const bool*", "valid": "const bool*",
        "now": "long long*", "factors": "const long long*", "keys": "long long*", "epochs": "long long*",
        "steps": "long long", "lanes": "long long",
    }  # fmt: skip
    return Spread("keys of visits", arguments, _VISIT_KEYS, 256)


@cache
def _episode_sums() -> Spread:
    arguments = {
        "paid": "const float*", "task": "const float*", "valid": "const bool*", "start": "const bool*",
        "ends": "const bool*", "won": "const bool*", "open": "double*", "out": "double*", "steps": "long long",
        "lanes": "long long", "surely": "long long",
    }  # fmt: skip
    return Spread("sums of episodes", arguments, _EPISODE_SUMS, 256)


@cache
def _apart() -> Spread:
    arguments = {
        "one": "const float*", "these": "const long long*", "other": "const float*", "those": "const long long*",
        "out": "float*", "width": "long long",
    }  # fmt: skip
    return Spread("distances of rows", arguments, _APART, 1024)


_HASH = """
for (long long i = from; i < from + count; ++i) {
    unsigned long long total = 0;
    for (long long k = 0; k < leaves; ++k) {
        const long long size = table[3 * k + 1], words = size / 8;
        const char* row = (const char*)table[3 * k] + i * size;
        const unsigned long long* factor = (const unsigned long long*)table[3 * k + 2];
        for (long long w = 0; w < words; ++w) {
            unsigned long long word;
            __builtin_memcpy(&word, row + 8 * w, 8);
            total += (word ^ (word >> 32)) * factor[w];
        }
        if (size % 8) {
            unsigned long long word = 0;
            for (long long b = 0; b < size % 8; ++b)
                word |= (unsigned long long)(unsigned char)row[8 * words + b] << (8 * b);
            total += (word ^ (word >> 32)) * factor[words];
        }
    }
    total = (total ^ (total >> 30)) * 0xBF58476D1CE4E5B9ull;
    total = (total ^ (total >> 27)) * 0x94D049BB133111EBull;
    out[i] = (long long)(total ^ (total >> 31));
}
"""
# A hash goes to the first free place after its own; hashes are spread already.
_DISTINCT = """
long long n = 0;
for (long long i = 0; i < rows; ++i)
    for (unsigned long long at = (unsigned long long)hashes[i];; ++at) {
        int* place = room + (at & (unsigned long long)(places - 1));
        if (*place < 0) {
            *place = (int)n;
            first[n++] = i;
        } else if (hashes[first[*place]] != hashes[i]) {
            continue;
        }
        of[i] = *place;
        break;
    }
found[0] = n;
"""
# A slot is a key, how often it came, its lane and its epoch; a key goes to the first free one after its own.
_COUNT = """
const long long ahead = 16;
long long used = state[0], i = state[1];
for (; i < rows; ++i) {
    if (i + ahead < rows)
        __builtin_prefetch(slots + 4 * (asked[i + ahead] & (size - 1)), 1);
    out[i] = 0;
    if (asked[i] == 0)
        continue;
    long long slot = asked[i] & (size - 1);
    while (slots[4 * slot] != 0 && slots[4 * slot] != asked[i])
        slot = (slot + 1) & (size - 1);
    long long* here = slots + 4 * slot;
    if (here[0] == 0) {
        if (2 * (used + 1) > size)
            break;
        ++used;
        here[0] = asked[i];
        here[1] = 0;
        here[2] = lane ? lane[i] : i % turns;
        here[3] = epoch[i];
    }
    out[i] = ++here[1];
}
state[0] = used;
state[1] = i;
"""
_COUNTED = """
const long long ahead = 16;
for (long long i = from; i < from + count; ++i) {
    if (i + ahead < from + count)
        __builtin_prefetch(slots + 4 * (asked[i + ahead] & (size - 1)));
    long long slot = asked[i] & (size - 1);
    while (slots[4 * slot] != 0 && slots[4 * slot] != asked[i])
        slot = (slot + 1) & (size - 1);
    out[i] = slots[4 * slot] == 0 ? 0 : slots[4 * slot + 1];
}
"""
_REFILL = """
long long n = 0;
for (long long i = 0; i < count; ++i) {
    const long long* here = old + 4 * i;
    if (here[0] == 0 || (current && here[3] < current[here[2]]))
        continue;
    ++n;
    if (!slots)
        continue;
    long long slot = here[0] & (size - 1);
    while (slots[4 * slot] != 0)
        slot = (slot + 1) & (size - 1);
    for (int k = 0; k < 4; ++k)
        slots[4 * slot + k] = here[k];
}
found[0] = n;
"""
# As `hashing.mix`.
_VISIT_KEYS = """
for (long long t = 0; t < steps; ++t)
    for (long long lane = from; lane < from + count; ++lane) {
        const long long first = t * lanes + lane, then = first + steps * lanes;
        now[lane] += begins[first];
        for (int k = 0; k < 2; ++k) {
            unsigned long long key = (unsigned long long)(k ? after : before)[first]
                + (unsigned long long)lane * (unsigned long long)factors[0]
                + (unsigned long long)now[lane] * (unsigned long long)factors[1];
            key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9ull;
            key = (key ^ (key >> 27)) * 0x94D049BB133111EBull;
            key ^= key >> 31;
            const bool counts = k ? valid[first] : begins[first];
            keys[k ? then : first] = counts ? key ? (long long)key : 1 : 0;
            epochs[k ? then : first] = now[lane];
        }
    }
"""
_EPISODE_SUMS = """
double size = 0.0, ended = 0.0, good = 0.0, largest = 0.0;
for (long long lane = from; lane < from + count; ++lane) {
    double bonus = open[lane], gained = open[lanes + lane];
    bool over = false;
    for (long long t = 0; t < steps; ++t) {
        const long long i = t * lanes + lane;
        if (!valid[i])
            continue;
        if (start[i]) {
            bonus = gained = 0.0;
            over = false;
        }
        bonus += paid[i];
        gained += task[i];
        if (!ends[i])
            continue;
        over = true;
        size += bonus < 0.0 ? -bonus : bonus;
        ended += 1.0;
        good += won[i] && (surely || gained > 0.0) ? 1.0 : 0.0;
        const double far = gained < 0.0 ? -gained : gained;
        largest = far > largest ? far : largest;
    }
    open[lane] = over ? 0.0 : bonus;
    open[lanes + lane] = over ? 0.0 : gained;
}
out[4 * piece] = size;
out[4 * piece + 1] = ended;
out[4 * piece + 2] = good;
out[4 * piece + 3] = largest;
"""
_APART = """
auto apart = [&](const float* a, const float* b) {
    _Pragma("clang fp reassociate(on) contract(fast)")
    float sum = 0.0f;
    for (long long f = 0; f < width; ++f)
        sum += (a[f] - b[f]) * (a[f] - b[f]);
    return sum;
};
for (long long i = from; i < from + count; ++i)
    out[i] = apart(one + these[i] * width, other + those[i] * width);
"""
