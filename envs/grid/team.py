"""One thread or several that work through a batch's lanes on a CPU, without the interpreter between them.

A *program* is a list of chunks of lanes, and each chunk a sequence of compiled kernels. The calling thread posts it and
takes chunks; so do the other threads, which stay inside compiled code (``serve``) and neither hold nor want the
interpreter's lock. A chunk is taken by one compare-and-swap of a *ticket*, the number of the program above the number
of chunks that are left: whoever comes late finds none left, so a thread that sleeps or is busy elsewhere costs nothing,
and the caller then does all of it. A thread that has waited for a while goes to sleep; the next program wakes it.

Chunks are small enough for a core's cache, which pays on one thread as well.
"""

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp

from . import runtime

# mypy: disable-error-code="untyped-decorator"

LEAST_SHARED = 512  # lanes: below that, other threads do not get their part before the caller is through
CHUNK = 128  # lanes of a chunk, as far as that makes at most MOST_CHUNKS
MOST_CHUNKS = 256
PATIENCE = 3000  # rounds of waiting before a thread goes to sleep: some 50 microseconds

# Places in the board, the memory that the threads share, in eight bytes: each on a cache line of its own.
_TICKET, _DONE, _TABLE, _CALLS, _HANDS, _ASLEEP = 0, 8, 16, 17, 18, 24
_MOST_HELPERS = 255

_COMMON = """
    unsigned long long* place = (unsigned long long*)board;
    typedef void (*Kernel)(void*, void*);
"""
# Take a chunk and do it; `taken` says whether there was one. The table and the rest are of the ticket's program,
# since that cannot end before the chunk is done.
_TAKE = """
    bool taken = false;
    unsigned long long ticket = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    while ((unsigned int)ticket != 0) {
        if (__atomic_compare_exchange_n(place, &ticket, ticket - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            const unsigned long long calls = place[%(calls)d];
            const unsigned long long* entry
                = (const unsigned long long*)place[%(table)d] + 3 * calls * ((unsigned int)ticket - 1);
            for (unsigned long long k = 0; k < calls; ++k, entry += 3)
                ((Kernel)entry[0])((void*)entry[1], (void*)entry[2]);
            __atomic_fetch_add(place + %(done)d, 1, __ATOMIC_RELEASE);
            taken = true;
            break;
        }
    }
"""
_PAUSE = """
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __builtin_arm_yield();
#endif
"""
_PLACES = {"done": _DONE, "table": _TABLE, "calls": _CALLS, "hands": _HANDS, "asleep": _ASLEEP}
_DO = f"""
#if !defined(__CUDA_ARCH__)
    {_COMMON}
    if (hands <= 1) {{
        const unsigned long long* entry = (const unsigned long long*)table;
        for (int k = 0; k < chunks * calls; ++k, entry += 3)
            ((Kernel)entry[0])((void*)entry[1], (void*)entry[2]);
        return;
    }}
    place[%(table)d] = table;
    place[%(calls)d] = (unsigned long long)calls;
    __atomic_store_n(place + %(hands)d, (unsigned long long)hands, __ATOMIC_RELAXED);
    __atomic_store_n(place + %(done)d, 0, __ATOMIC_RELAXED);
    const unsigned long long before = __atomic_load_n(place, __ATOMIC_RELAXED);
    __atomic_store_n(place, (((before >> 32) + 1) << 32) | (unsigned int)chunks, __ATOMIC_RELEASE);
    for (;;) {{
        {_TAKE}
        if (!taken)
            break;
    }}
    while (__atomic_load_n(place + %(done)d, __ATOMIC_ACQUIRE) < (unsigned long long)chunks) {{
        {_PAUSE}
    }}
#endif
"""
_SERVE = f"""
#if !defined(__CUDA_ARCH__)
    {_COMMON}
    for (int waited = 0; waited < patience; ++waited) {{
        if ((unsigned long long)number < __atomic_load_n(place + %(hands)d, __ATOMIC_RELAXED)) {{
            {_TAKE}
            if (taken)
                waited = 0;
        }}
        {_PAUSE}
    }}
    __atomic_store_n(place + %(asleep)d + number, 1, __ATOMIC_RELAXED);
#endif
"""


@cache
def _kernels() -> tuple[Any, Any]:
    """``do`` (board, table, chunks, calls, hands) and ``serve`` (board, number, patience), kernels of one thread."""

    @wp.func_native(_DO % _PLACES)
    def work(board: wp.uint64, table: wp.uint64, chunks: wp.int32, calls: wp.int32, hands: wp.int32) -> None: ...

    @wp.func_native(_SERVE % _PLACES)
    def wait(board: wp.uint64, number: wp.int32, patience: wp.int32) -> None: ...

    def do(board: wp.uint64, table: wp.uint64, chunks: wp.int32, calls: wp.int32, hands: wp.int32) -> None:
        work(board, table, chunks, calls, hands)

    def serve(board: wp.uint64, number: wp.int32, patience: wp.int32) -> None:
        wait(board, number, patience)

    options = {"enable_backward": False}
    return tuple(
        wp.kernel(f, name=f"grid_team_{f.__name__}", module="unique", module_options=options) for f in (do, serve)
    )


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None, lanes: int) -> int:
    """How many threads shall work on ``lanes`` lanes; None for the cores there are, where there is work for them.

    Raises:
        ValueError: If ``threads`` is less than 1.
    """
    if threads is None:
        threads = cores() if lanes >= LEAST_SHARED else 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r}: it is the number of threads that step a batch on the CPU, at least 1")
    return min(threads, lanes, _MOST_HELPERS + 1)


def chunks(lanes: int, threads: int) -> list[slice]:
    """Cut ``lanes`` into contiguous chunks of nearly equal size, of at least one for each thread."""
    count = max(threads, min(-(-lanes // CHUNK), MOST_CHUNKS))
    edges = [lanes * k // count for k in range(count + 1)]
    return [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True) if low < high]


class Program:
    """Recorded launches on a CPU: for each chunk a sequence, all of the same length."""

    def __init__(self, launches: Sequence[Sequence[wp.Launch]], threads: int) -> None:
        self.launches, self.threads = launches, threads  # they keep alive what the table points to
        self._call = None
        rows = [runtime.entry(launch) for chunk in launches for launch in chunk]
        packed = [row for row in rows if row is not None]
        if len(packed) == len(rows):
            self._packed = packed
            self._table = np.array([row.addresses for row in packed], np.uint64).reshape(-1, 3)
            do, _ = _kernels()
            table, size = self._table.ctypes.data, (len(launches), len(launches[0]))
            self._shared = runtime.caller(wp.launch(do, 1, [_board().address, table, *size, threads], **_ONE))
            self._call = runtime.caller(wp.launch(do, 1, [_board().address, table, *size, 1], **_ONE))

    def __call__(self) -> None:
        """Run all chunks and return when they are done."""
        if self._call is None:
            for chunk in self.launches:
                for launch in chunk:
                    launch.launch()
        elif self.threads == 1:
            self._call()
        else:
            board = _board()
            # Another thread of the program's user may have the team: then this one works alone.
            if board.lock.acquire(blocking=False):
                try:
                    board.wake(self.threads - 1)
                    self._shared()
                finally:
                    board.lock.release()
            else:
                self._call()


_ONE: dict[str, Any] = {"device": "cpu", "record_cmd": True}


class _Board:
    """The memory that the threads share, and the threads."""

    memory: npt.NDArray[np.uint64]
    address: int

    def __init__(self, before: "_Board | None") -> None:
        # After a fork the memory's copy serves on, since programs know its address; nothing is under way in it.
        memory = np.zeros(_ASLEEP + _MOST_HELPERS + 1 + 8, np.uint64) if before is None else before.memory
        skip = -memory.ctypes.data % 64 // 8  # to the beginning of a cache line
        self.memory = memory[skip:]
        self.memory[:] = 0
        self.address = self.memory.ctypes.data
        self.asleep = (ctypes.c_uint64 * (_MOST_HELPERS + 1)).from_address(self.address + 8 * _ASLEEP)
        self.lock = threading.Lock()
        self.bells: list[threading.Semaphore] = []

    def wake(self, helpers: int) -> None:
        """Have so many threads beside the caller awake, or on their way."""
        while len(self.bells) < helpers:
            bell = threading.Semaphore(0)
            self.bells.append(bell)
            number = len(self.bells)
            threading.Thread(target=self._help, args=(number, bell), name=f"cairn-grid-{number}", daemon=True).start()
        for number in range(1, helpers + 1):
            if self.asleep[number]:
                self.asleep[number] = 0
                self.bells[number - 1].release()

    def _help(self, number: int, bell: threading.Semaphore) -> None:
        _, serve = _kernels()
        wait = runtime.caller(wp.launch(serve, 1, [self.address, number, PATIENCE], **_ONE))
        while True:
            wait()
            bell.acquire()


_boards: dict[int, _Board] = {}  # by process id, since threads do not survive a fork; none is ever freed


def _board() -> _Board:
    pid = os.getpid()
    if pid not in _boards:
        _boards.setdefault(pid, _Board(next(reversed(_boards.values()), None)))
    return _boards[pid]
