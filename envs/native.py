"""Loops in C++ that Warp compiles for this processor, called on torch's memory without a copy, from any thread.

For what a chain of torch operations does slowly on a CPU because each of them walks through memory once more. On other
devices the callers stay with torch.
"""

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

# mypy: disable-error-code="untyped-decorator"


_preparing = threading.Lock()


@cache
def _kernel(name: str, code: str) -> Any:
    import warp as wp

    from .grid import runtime

    runtime.start()

    @wp.func_native(f"#if !defined(__CUDA_ARCH__)\n{code}\n#endif\n")
    def work(argument: wp.uint64) -> None: ...

    def run(argument: wp.uint64) -> None:
        work(argument)

    return wp.kernel(
        run, name="loop_" + re.sub(r"\W", "_", name), module="unique", module_options={"enable_backward": False}
    )


class Native:
    """A compiled loop.

    Args:
        name: For messages and the cache.
        arguments: Name and C type of each argument, a pointer or ``long long``, in order.
        body: C++ that uses them.
    """

    def __init__(self, name: str, arguments: Mapping[str, str], body: str) -> None:
        self.name, self.count = name, len(arguments)
        lines = [f"{kind} {word} = ({kind})given[{k}];" for k, (word, kind) in enumerate(arguments.items())]
        self._code = "const long long* given = (const long long*)argument;\n" + "\n".join(lines) + body
        self._local = threading.local()

    def __deepcopy__(self, memo: object) -> "Native":
        """Itself: code does not change, and each thread has its own memory for the arguments."""
        return self

    def __call__(self, *values: "Tensor | int | None") -> None:
        """Run it on contiguous tensors (None for no address) and whole numbers."""
        local = self._local
        if not hasattr(local, "call"):
            local.places, local.call = self._prepare()
        places = local.places
        for k, value in enumerate(values):
            places[k] = value if isinstance(value, int) else 0 if value is None else value.data_ptr()
        local.call()

    def _prepare(self) -> tuple[Any, Callable[[], None]]:
        """This thread's memory for the arguments, and what runs the loop on them."""
        from ..envs.grid import runtime

        places, launch = self.record()
        return places, runtime.caller(launch)

    def record(self) -> tuple[Any, Any]:
        """New memory for the arguments, and Warp's launch of the loop on them."""
        import warp as wp

        from .grid import runtime

        places = (ctypes.c_int64 * self.count)()
        with _preparing, runtime.announced(self.name):
            inputs = [ctypes.addressof(places)]
            return places, wp.launch(_kernel(self.name, self._code), 1, inputs=inputs, device="cpu", record_cmd=True)


class Shared:
    """A loop over some parts of the same rows, which the threads that step grids share, without the interpreter.

    Its last two arguments are the first row of a part and how many there are.

    Args:
        loop: The loop.
        parts: Of the rows.
        threads: How many take parts, the caller's among them.
    """

    def __init__(self, loop: Native, parts: Sequence[slice], threads: int) -> None:
        from ..envs.grid import team

        self._given = loop, tuple((part.start, part.stop) for part in parts), threads
        recorded = [loop.record() for _ in parts]
        self._places = [places for places, _ in recorded]
        self._run = team.Program([[launch] for _, launch in recorded], min(threads, len(parts)))
        for places, part in zip(self._places, parts):
            places[loop.count - 2], places[loop.count - 1] = part.start, part.stop - part.start

    def __deepcopy__(self, memo: object) -> "Shared":
        """Another one, with arguments of its own."""
        loop, parts, threads = self._given
        return Shared(loop, [slice(*part) for part in parts], threads)

    def fits(self, parts: Sequence[slice], threads: int) -> bool:
        """Whether it is for these parts and so many threads."""
        return self._given[1:] == (tuple((part.start, part.stop) for part in parts), threads)

    def aim(self, *values: "Tensor | int | None") -> None:
        """Take the other arguments over; whoever gives them keeps their memory alive."""
        numbers = [value if isinstance(value, int) else 0 if value is None else value.data_ptr() for value in values]
        for places in self._places:
            places[: len(numbers)] = numbers

    def __call__(self) -> None:
        """Run it on all parts."""
        self._run()


PIECES = 16  # that the rows of a spread loop are cut into at most
_sharing = threading.local()


@contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Let spread loops run on so many threads for a while, however many torch has."""
    before = getattr(_sharing, "threads", None)
    _sharing.threads = threads
    try:
        yield
    finally:
        _sharing.threads = before


class Spread:
    """A loop over rows, as many as there are this time, which threads share.

    There are as many threads as :func:`sharing` says, or as torch has. Rows are cut into pieces by their number alone,
    so that what comes out does not depend on how many threads there are.

    Args:
        name: As of a :class:`Native`.
        arguments: The same; ``from``, ``count`` and ``piece``, the first row of a piece, how many there are and its
            number, come after them.
        body: The same.
        least: Rows of a piece.
    """

    def __init__(self, name: str, arguments: Mapping[str, str], body: str, least: int = 64) -> None:
        whole = {**arguments, "from": "long long", "count": "long long", "piece": "long long"}
        self.loop = Native(name, whole, "\nif (count == 0)\n    return;\n" + body)
        self.least = least
        self._local = threading.local()

    def __deepcopy__(self, memo: object) -> "Spread":
        """Itself, as of a :class:`Native`."""
        return self

    def __call__(self, rows: int, *values: "Tensor | int | None") -> None:
        """Run it on so many rows of contiguous tensors (None for no address), and on whole numbers."""
        count = self.pieces(rows)
        if count == 1:
            self.loop(*values, 0, rows, 0)
            return
        numbers = [value if isinstance(value, int) else 0 if value is None else value.data_ptr() for value in values]
        places, run = self._program(getattr(_sharing, "threads", None) or torch.get_num_threads())
        for k in range(count):
            low, high = rows * k // count, rows * (k + 1) // count
            places[k][:] = [*numbers, low, high - low, k]
        for place in places[count:]:
            place[-2] = 0  # rows
        run()

    def pieces(self, rows: int) -> int:
        """How many pieces so many rows are cut into."""
        return max(min(rows // self.least, PIECES), 1)

    def _program(self, threads: int) -> tuple[list[Any], Callable[[], None]]:
        """This thread's memory for the arguments of each piece, and what runs all of them."""
        from .grid import team

        programs: dict[int, tuple[list[Any], Callable[[], None]]] = self._local.__dict__.setdefault("programs", {})
        if threads not in programs:
            recorded = [self.loop.record() for _ in range(PIECES)]
            run = team.Program([[launch] for _, launch in recorded], min(threads, PIECES))
            programs[threads] = [places for places, _ in recorded], run
        return programs[threads]


# c[m, n] (+)= sum over k of a[m * am + k * ak] * b[k, n]: 4 rows by some registers of columns at a time.
PRODUCT = """
const int TILE = 64;
typedef float vec __attribute__((vector_size(64), aligned(4)));
struct Narrow { enum { value = 1 }; };
#ifdef __AVX512F__
struct Wide { enum { value = 4 }; };
#else
typedef Narrow Wide;
#endif
auto product = [](auto columns_at_once, const float* a, int am, int ak, const float* b, float* c, int rows, int inner,
                  int columns, bool add) __attribute__((always_inline)) {
    _Pragma("clang fp contract(fast)")
    constexpr int COLS = decltype(columns_at_once)::value;
    for (int n = 0; n < columns; n += 16 * COLS)
        for (int m = 0; m < rows; m += 4) {
            vec s[4][COLS];
            for (int r = 0; r < 4; ++r)
                for (int q = 0; q < COLS; ++q)
                    s[r][q] = add ? *(const vec*)(c + (m + r) * columns + n + 16 * q) : vec{};
            for (int k = 0; k < inner; ++k) {
                vec w[COLS];
                for (int q = 0; q < COLS; ++q)
                    w[q] = *(const vec*)(b + k * columns + n + 16 * q);
                for (int r = 0; r < 4; ++r) {
                    const float x = a[(m + r) * am + k * ak];
                    for (int q = 0; q < COLS; ++q)
                        s[r][q] += x * w[q];
                }
            }
            for (int r = 0; r < 4; ++r)
                for (int q = 0; q < COLS; ++q)
                    *(vec*)(c + (m + r) * columns + n + 16 * q) = s[r][q];
        }
};
"""
