"""What the Linux kernel offers to lock a process in, asked for by number: Landlock, seccomp, prctl, capabilities.

``ctypes`` alone, so that nothing has to be installed. Numbers are those of x86_64 and aarch64; on any other machine,
and on other systems, these layers are missing and are said to be.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

# linux/landlock.h; the numbers are the same on all machines.
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION = 1
# linux/prctl.h, linux/seccomp.h, linux/audit.h
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_SECCOMP_FILTER, _TSYNC = 1, 1
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_PROT_EXEC, _MAP_ANONYMOUS = 4, 0x20
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# System calls that computing needs once everything is loaded. Reading and writing are held to two descriptors, new
# memory to what is anonymous and never executable.
CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigreturn": 15,
        "sched_yield": 24, "mremap": 25, "madvise": 28, "exit": 60, "futex": 202, "restart_syscall": 219,
        "clock_gettime": 228, "exit_group": 231, "seccomp": 317, "capset": 126,
    },
    "aarch64": {
        "read": 63, "write": 64, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214, "rt_sigreturn": 139,
        "sched_yield": 124, "mremap": 216, "madvise": 233, "exit": 93, "futex": 98, "restart_syscall": 128,
        "clock_gettime": 113, "exit_group": 94, "seccomp": 277, "capset": 91,
    },
}  # fmt: skip
_FREE = ("munmap", "brk", "rt_sigreturn", "sched_yield", "mremap", "madvise", "exit", "futex", "restart_syscall",
         "clock_gettime", "exit_group")  # fmt: skip


def machine() -> str | None:
    """The machine's name where its system calls are known here, on Linux with 64-bit Python; else None."""
    name = platform.machine()
    return name if sys.platform == "linux" and name in CALLS and sys.maxsize > 2**32 else None


def _call(*numbers: int) -> int:
    """A system call; -1 where it was refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(*(ctypes.c_long(n) for n in numbers)))


def _prctl(option: int, value: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, *(ctypes.c_ulong(v) for v in (value, 0, 0, 0))) == 0)


def no_new_privileges() -> bool:
    """No program started from here on gains rights (by set-user-id); both filters below need it."""
    return machine() is not None and _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def not_dumpable() -> bool:
    """Other processes of the user cannot look into this one, and it leaves no core."""
    return machine() is not None and _prctl(_PR_SET_DUMPABLE, 0)


def drop_capabilities() -> bool:
    """Give up every capability, which matters where the user is root."""
    name = machine()
    if name is None:
        return False
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    nothing = ctypes.create_string_buffer(24)
    return _call(CALLS[name]["capset"], ctypes.addressof(header), ctypes.addressof(nothing)) == 0


def landlock_version() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    return max(_call(_LANDLOCK_CREATE, 0, 0, _LANDLOCK_VERSION), 0) if machine() else 0


def landlock() -> int:
    """Take all of the file system from this thread; with newer kernels TCP, signals and abstract sockets too.

    It binds the calling thread and what it starts, so it is called while there is one thread only.

    Returns:
        The ABI it was done with; 0 where it was not.
    """
    version = landlock_version()
    if not version or len(os.listdir("/proc/self/task")) != 1:
        return 0
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    rules = struct.pack("<Q", files)
    if version >= 4:
        rules += struct.pack("<Q", 0b11)  # TCP bind and connect
    if version >= 6:
        rules += struct.pack("<Q", 0b11)  # abstract sockets and signals of processes outside
    buffer = ctypes.create_string_buffer(rules, len(rules))
    ruleset = _call(_LANDLOCK_CREATE, ctypes.addressof(buffer), len(rules), 0)
    if ruleset < 0:
        return 0
    done = _call(_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return version if done == 0 else 0


def seccomp(reads: Iterable[int], writes: Iterable[int]) -> int:
    """Let this process make the system calls of the list only; every other one fails with EPERM.

    Args:
        reads: Descriptors that may be read.
        writes: Descriptors that may be written.

    Returns:
        How many calls are on the list; 0 where there is no filter.
    """
    name = machine()
    if name is None:
        return 0
    program = _filter(name, list(reads), list(writes))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a length, padding, a pointer.
    prog = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code)), 16)
    done = _call(CALLS[name]["seccomp"], _SECCOMP_FILTER, _TSYNC, ctypes.addressof(prog))
    return len(_FREE) + 4 if done == 0 else 0


def _filter(name: str, reads: list[int], writes: list[int]) -> bytes:
    """The filter in classic BPF. Each block ends in a decision, so it never matters what a block has loaded."""
    calls = CALLS[name]

    def op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    def load(offset: int) -> bytes:
        return op(0x20, offset)

    def argument(i: int) -> bytes:
        return load(16 + 8 * i)

    def equal(value: int, yes: int, no: int) -> bytes:
        return op(0x15, value, yes, no)

    def answer(value: int) -> bytes:
        return op(0x06, value)

    def any_of(descriptors: list[int]) -> list[bytes]:
        # Jump to "allow" at the end; the word before it is "deny".
        tests = [equal(fd, len(descriptors) - i, 0) for i, fd in enumerate(descriptors)]
        return [argument(0), *tests, answer(_DENY), answer(_ALLOW)]

    def without(i: int, bits: int) -> list[bytes]:
        # Deny where any of the bits is set, else go on.
        return [argument(i), op(0x45, bits, 0, 1), answer(_DENY)]

    def needing(i: int, bits: int) -> list[bytes]:
        return [argument(i), op(0x45, bits, 1, 0), answer(_DENY)]

    blocks = {
        "read": any_of(reads),
        "write": any_of(writes),
        "mmap": [*without(2, _PROT_EXEC), *needing(3, _MAP_ANONYMOUS), answer(_ALLOW)],
        "mprotect": [*without(2, _PROT_EXEC), answer(_ALLOW)],
        **{free: [answer(_ALLOW)] for free in _FREE},
    }
    # Another architecture's numbers mean other calls: whoever comes with them is stopped at once. So do those of x32,
    # which begin at 2**30.
    words = [load(4), equal(_ARCHITECTURES[name], 1, 0), answer(_KILL), load(0), op(0x35, 1 << 30, 0, 1), answer(_KILL)]
    for call, block in blocks.items():
        words += [equal(calls[call], 0, len(block)), *block]
    return b"".join([*words, answer(_DENY)])
