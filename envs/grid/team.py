"""Two or more Python threads that launch kernels on a CPU: Warp releases the interpreter's lock while one runs."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

LEAST_SHARE = 512  # lanes: below that, waking a thread costs more than it saves

_pool: ThreadPoolExecutor | None = None
_owner = (0, 0)  # process id (threads do not survive a fork), workers


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(lanes: int, threads: int | None) -> list[slice]:
    """Cut ``lanes`` into contiguous shares of nearly equal size, one for each thread.

    Args:
        lanes: N.
        threads: How many, or None for the cores there are, as far as each gets ``LEAST_SHARE`` lanes.

    Raises:
        ValueError: If ``threads`` is less than 1.
    """
    if threads is None:
        threads = max(1, min(cores(), lanes // LEAST_SHARE))
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r}: it is the number of threads that step a batch on the CPU, at least 1")
    threads = min(threads, lanes)
    edges = [lanes * k // threads for k in range(threads + 1)]
    return [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def run(works: Sequence[Callable[[], None]]) -> None:
    """Do the works at once, the first on the calling thread, and return when all are done."""
    global _pool, _owner
    if len(works) > 1 and (_pool is None or _owner[0] != os.getpid() or _owner[1] < len(works) - 1):
        _pool, _owner = ThreadPoolExecutor(len(works) - 1, "cairn-grid"), (os.getpid(), len(works) - 1)
    others = [_pool.submit(work) for work in works[1:]] if _pool is not None else []
    try:
        works[0]()
    finally:
        for other in others:
            other.result()
