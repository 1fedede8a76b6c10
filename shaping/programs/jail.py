"""Lock this process in: no files, no network, no other processes, no new rights, and bounds on what it may use up.

Called by the worker once everything that it needs is loaded. Each layer is asked for, and those that hold are
reported; then two forbidden things are tried, so that the report is not what was asked for but what is.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterable

from . import kernel

try:
    import resource
except ImportError:  # not POSIX: there are no such limits
    resource = None  # type: ignore[assignment]

# The layers, as bits of the report that crosses the wire.
LAYERS = {
    "descriptors": "every file and socket but the two ends of a pipe is closed",
    "environment": "no environment variables (keys stay outside)",
    "limits": "rlimits: memory, processor time, no files, no processes, no core",
    "capabilities": "no capabilities (where the user is root)",
    "no_new_privs": "no program gains rights",
    "dumpable": "no other process of the user looks inside",
    "landlock": "Landlock: no file system, no TCP, no signals outwards (as the kernel's version has them)",
    "seccomp": "seccomp: a list of system calls that computing needs, and no other",
    "tried": "opening a file and a socket was tried inside, and failed",
}
ALL = frozenset(LAYERS)


def enter(
    reads: Iterable[int], writes: Iterable[int], memory: int, seconds: int, layers: frozenset[str] = ALL
) -> frozenset[str]:
    """Lock this process in, for good.

    Args:
        reads: Descriptors that stay open for reading.
        writes: Descriptors that stay open for writing.
        memory: Bytes that it may take beyond what it holds now.
        seconds: Of processor time, all in all.
        layers: Which layers to put up; tests leave some out to see that they are missed.

    Returns:
        The layers that hold.
    """
    reads, writes = list(reads), list(writes)
    held = set()
    if "environment" in layers:
        os.environ.clear()
        held.add("environment")
    if "descriptors" in layers:
        _close_all_but({*reads, *writes})
        held.add("descriptors")
    single, taken = _threads() == 1, _taken()  # looked up while there still are files
    steps: dict[str, Callable[[], bool]] = {
        "capabilities": kernel.drop_capabilities,
        "dumpable": kernel.not_dumpable,
        "no_new_privs": kernel.no_new_privileges,
        "landlock": lambda: single and kernel.landlock() > 0,
        "limits": lambda: _limit(taken + memory, seconds),
        "seccomp": lambda: kernel.seccomp(reads, writes) > 0,
    }
    held |= {name for name, step in steps.items() if name in layers and step()}
    if _shut():
        held.add("tried")
    return frozenset(held)


def report(held: Iterable[str]) -> int:
    """The layers as bits."""
    return sum(1 << i for i, name in enumerate(LAYERS) if name in set(held))


def read_report(bits: int) -> frozenset[str]:
    """The layers of some bits."""
    return frozenset(name for i, name in enumerate(LAYERS) if bits >> i & 1)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _close_all_but(kept: set[int]) -> None:
    # What Python would print to is gone as well: nothing in here has anybody to talk to.
    sys.stdin = sys.stdout = sys.stderr = None
    last = 0
    for fd in sorted(kept):
        if fd > last:  # closerange(0, 0) closes everything: its end wraps around
            os.closerange(last, fd)
        last = fd + 1
    os.closerange(last, max(last, 65536))


def _taken() -> int:
    """Bytes of address space that this process has."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 32  # not Linux: a bound all the same


def _limit(memory: int, seconds: int) -> bool:
    if resource is None:
        return False
    wanted = {
        "RLIMIT_AS": memory, "RLIMIT_CPU": seconds, "RLIMIT_FSIZE": 0, "RLIMIT_NPROC": 0, "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 0, "RLIMIT_MEMLOCK": 0, "RLIMIT_MSGQUEUE": 0,
    }  # fmt: skip
    for name, value in wanted.items():
        if hasattr(resource, name):
            try:
                resource.setrlimit(getattr(resource, name), (value, value))
            except (ValueError, OSError):
                if name in ("RLIMIT_AS", "RLIMIT_CPU") and sys.platform == "linux":
                    return False
    return True


def _shut() -> bool:
    """Whether opening a file and making a socket both fail."""
    attempts: tuple[Callable[[], int], ...] = (
        lambda: os.open("/", os.O_RDONLY),
        lambda: socket.socket(socket.AF_UNIX).detach(),
    )
    for attempt in attempts:
        try:
            attempt()
            return False
        except OSError:
            pass
    return True
