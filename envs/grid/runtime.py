"""Warp's beginnings, made quiet, and its first compilation, announced."""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import warp as wp

_lock = threading.Lock()
_started = False


def start() -> None:
    """Initialise Warp without its banner; a log level that the user chose stays."""
    global _started
    with _lock:
        if _started:
            return
        if wp.config.log_level == wp.LOG_INFO:
            wp.config.log_level = wp.LOG_WARNING
        with _without_native_stderr():
            wp.init()
        _started = True


@contextlib.contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Hide what C code writes to file descriptor 2: on machines without a GPU, Warp's library warns of that there."""
    try:
        sys.stderr.flush()
        kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, AttributeError, ValueError):  # no stderr, as under pythonw
        yield
        return
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


@contextlib.contextmanager
def announced(what: str, after: float = 1.0) -> Iterator[None]:
    """Say on stderr that ``what`` is being compiled, once that has taken ``after`` seconds: the cache takes less."""

    def say() -> None:
        print(f"cairn: compiling the {what} kernels (once; the next start takes them from the cache)", file=sys.stderr)

    timer = threading.Timer(after, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Entry:
    """A compiled kernel on a CPU with its arguments, packed as it takes them.

    Attributes:
        addresses: Of the compiled function, of the bounds and of the arguments.
        forward: The function.
        bounds: Its first argument.
        arguments: Its second argument.
        launch: Keeps the module and the arrays alive.
    """

    addresses: tuple[int, int, int]
    forward: Callable[[Any, Any], None]
    bounds: ctypes.Structure
    arguments: ctypes.Structure
    launch: wp.Launch


def entry(launch: wp.Launch) -> Entry | None:
    """Take a recorded launch apart; None where it is not for a CPU, or where Warp's insides are not as in 1.19."""
    try:
        bounds, *values = launch.params
        forward = launch.hooks.forward
        names = [argument.label for argument in launch.kernel.adj.args]
        if not launch.device.is_cpu or launch.block_dim != 1 or len(names) != len(values):
            return None
        fields = [(name, type(value)) for name, value in zip(names, values)]
        arguments = type("Arguments", (ctypes.Structure,), {"_fields_": fields})(*values)
        function = ctypes.cast(forward, ctypes.c_void_p).value
        if function is None:
            return None
        addresses = (function, ctypes.addressof(bounds), ctypes.addressof(arguments))
        return Entry(addresses, forward, bounds, arguments, launch)
    except (AttributeError, TypeError, ValueError, ctypes.ArgumentError):
        return None


def caller(launch: wp.Launch) -> Callable[[], None]:
    """A function that repeats a recorded launch, on a CPU with as little Python as can be.

    ``Launch.launch`` packs the kernel's arguments anew at every call (3.5 us). They do not change here, so they are
    packed once and the compiled function is called with them (0.6 us), which also holds the interpreter's lock for
    less long: that matters to the other threads. Where that cannot be, ``launch`` it is.
    """
    packed = entry(launch)
    if packed is None:
        return launch.launch  # type: ignore[no-any-return]
    forward, first, second = packed.forward, ctypes.byref(packed.bounds), ctypes.byref(packed.arguments)

    def call() -> None:
        forward(first, second)

    call.packed = packed  # type: ignore[attr-defined]  # keeps alive what the function is called with
    return call
