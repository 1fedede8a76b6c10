"""Keeping a step of the environments: every array that it gave, into a rollout's buffers, in one compiled loop.

A step of a grid gives some twenty arrays, and on a few hundred lanes torch's operations on each of them take longer
than the copies themselves.
"""

from collections.abc import Callable, Sequence
from functools import cache
from operator import is_
from typing import NamedTuple

import torch
from torch import Tensor

from ..envs.native import Native, Shared
from .workers import cut


class Leaf(NamedTuple):
    """An array of a step and where it goes."""

    now: Tensor
    """``[N, ...]`` as the step gave it."""
    to: Tensor
    """``[T, N, ...]``: row t becomes ``now``."""
    last: Tensor | None = None
    """``[N, ...]``, valid in lanes whose episode ended."""
    to_last: Tensor | None = None
    """``[T, N, ...]``: row t becomes ``last`` in these lanes, and ``now`` in the others."""


class Keeper:
    """Copies the arrays of steps on a CPU.

    Environments like the grids fill the same tensors anew in every step. When two steps in a row have brought the same
    tensors, where these lie is worked out once; tensors made for the step are left to torch.

    Args:
        threads: How many share the lanes.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._known: tuple[Sequence[Tensor], list[int]] = ((), [])
        self._seen: Sequence[Tensor] = ()
        self._table: Tensor | None = None
        self._at = torch.zeros(1, dtype=torch.int64)
        self._shared: Shared | None = None

    def __deepcopy__(self, memo: object) -> "Keeper":
        """A new one: a copied rollout has other memory."""
        return Keeper(self.threads)

    def __call__(self, given: Sequence[Tensor], leaves: Callable[[], Sequence[Leaf]], t: int, ended: Tensor) -> bool:
        """Copy a step's leaves into row ``t``; False, and nothing is copied, where torch must do it.

        Args:
            given: All tensors that the step gave.
            leaves: What to make of them, in the same order in every step.
            t: The row.
            ended: bool ``[N]``, one of ``given``: the lanes whose ``last`` is valid.
        """
        if not _same(given, self._seen):
            self._seen, self._known = given, ((), [])
            return False
        places = [x.data_ptr() for x in given]
        if not _same(given, self._known[0]) or places != self._known[1]:
            parts = leaves()
            self._known, self._table = (given, places), _table(parts)
            self._aim(parts[0].to.shape[1], ended)
        if self._table is None or self._shared is None:
            return False
        self._at.fill_(t)
        self._shared()
        return True

    def _aim(self, lanes: int, ended: Tensor) -> None:
        """Have the loop do what the table says."""
        if self._table is None or not (ended.dtype == torch.bool and ended.is_contiguous()):
            self._shared = None
            return
        if self._shared is None:
            self._shared = Shared(_loop(), cut(lanes, 128), self.threads)
        self._shared.aim(self._table, ended, len(self._table), lanes, self._at)


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether these are the same tensors, one by one."""
    return len(some) == len(others) and all(map(is_, some, others))


def _table(leaves: Sequence[Leaf]) -> Tensor | None:
    """The leaves in numbers, int64 ``[L, 7]``; None where one of them is not copied byte by byte."""
    rows = []
    for now, to, last, to_last in leaves:
        for source, goal in ((now, to), (last, to_last)):
            if source is None or goal is None:
                continue
            plain = source.device.type == goal.device.type == "cpu" and source.dtype == goal.dtype
            if not plain or source.shape != goal.shape[1:] or not goal.is_contiguous() or not _solid(source):
                return None
        size = to[0, 0].numel() * to.element_size()
        ends = (0, 0, 0) if last is None or to_last is None else (last.data_ptr(), _step(last), to_last.data_ptr())
        rows.append([now.data_ptr(), _step(now), to.data_ptr(), *ends, size])
    return torch.tensor(rows, dtype=torch.int64)


def _solid(x: Tensor) -> bool:
    """Whether each lane's part lies in one piece."""
    return x[0].is_contiguous()


def _step(x: Tensor) -> int:
    """Bytes from one lane to the next."""
    return x.stride(0) * x.element_size()


@cache
def _loop() -> Native:
    arguments = {
        "table": "const long long*", "ended": "const unsigned char*", "leaves": "long long", "lanes": "long long",
        "at": "const long long*", "from": "long long", "count": "long long",
    }  # fmt: skip
    return Native("keeping a step", arguments, _KEEP)


_KEEP = """
for (long long k = 0; k < leaves; ++k) {
    const long long* leaf = table + 7 * k;
    const long long step = leaf[1], last_step = leaf[4], size = leaf[6], row = at[0] * lanes + from;
    const char* now = (const char*)leaf[0] + from * step;
    const char* last = (const char*)leaf[3] + from * last_step;
    char* to = (char*)leaf[2] + row * size;
    char* to_last = (char*)leaf[5] + row * size;
    if (step == size) {
        __builtin_memcpy(to, now, count * size);
    } else if (size == 4) {
        for (long long i = 0; i < count; ++i)
            __builtin_memcpy(to + i * 4, now + i * step, 4);
    } else {
        for (long long i = 0; i < count; ++i)
            __builtin_memcpy(to + i * size, now + i * step, size);
    }
    if (!leaf[3])
        continue;
    __builtin_memcpy(to_last, to, count * size);
    for (long long i = 0; i < count; ++i)
        if (ended[from + i])
            __builtin_memcpy(to_last + i * size, last + i * last_step, size);
}
"""
