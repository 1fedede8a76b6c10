"""The side that has something to lose: starts a jailed worker, gives it batches, and believes little of what it says.

A worker that hangs is killed, one that dies is noticed; both are counted, and no number of theirs is used.
"""

import atexit
import mmap
import os
import re
import select
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import jail, wire
from .inputs import NAME, Input
from .limits import LIMITS, ProgramError, plain
from .tape import Output

# The worker's package is this folder alone, under a name of its own: neither cairn nor torch is loaded in there.
_BOOT = """
import os, sys
for name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[name + "_NUM_THREADS"] = "1"
from types import ModuleType
package = ModuleType("cairn_jail")
package.__path__ = [sys.argv.pop(1)]
sys.modules["cairn_jail"] = package
from cairn_jail.worker import main
main()
"""
KERNEL = frozenset({"landlock", "seccomp", "limits", "no_new_privs", "descriptors", "environment", "tried"})
# A worker is replaced after this much work, well below its limit of processor time.
_SECONDS, _REPLACE = 1200, 600.0
_COMPONENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class JailError(RuntimeError):
    """A jailed program gave nothing that can be used.

    Attributes:
        outcome: "hung" (killed after its time), "died" (the worker is gone), "failed" (an error inside), "memory" (more
            than it may take), "garbled" (an answer that is none) or "unavailable" (no such jail on this machine).
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Jail:
    """One worker process, with at most one program in it.

    Args:
        timeout: Seconds that compiling, or a batch, may take; then the worker is killed.
        size: Bytes of shared memory; larger batches go through it in pieces.
        memory: Bytes that the worker may take beyond what it starts with.
        require: "kernel" refuses to work where Landlock or seccomp are missing; "process" takes what there is.

    Attributes:
        outcomes: How often each thing happened: "ok", "refused" and the outcomes of ``JailError``.
        layers: The layers that hold in the worker.

    Raises:
        ValueError: ``require`` is none of these.
    """

    def __init__(
        self, timeout: float = 10.0, size: int = 1 << 25, memory: int = 1 << 30, require: str = "process"
    ) -> None:
        if require not in ("process", "kernel"):
            raise ValueError(f"require={require!r}: it is 'process' or 'kernel'")
        self.timeout, self.size, self.allowance, self.require = timeout, size, memory, require
        self.outcomes: Counter[str] = Counter()
        self.layers: frozenset[str] = frozenset()
        self.inputs: list[Input] = []
        self.names: tuple[str, ...] = ()
        self.rows = 0
        self.worked = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._program: tuple[str, tuple[Input, ...]] | None = None
        self._views: dict[int, tuple[list[NDArray[Any]], NDArray[Any], NDArray[Any]]] = {}

    # The process.

    def start(self) -> None:
        """Start the worker, and wait until it is locked in.

        Raises:
            JailError: It cannot be started, or layers that are required are missing.
        """
        if os.name != "posix":
            raise JailError("unavailable", "a jailed worker needs Linux or another POSIX system; this is " + os.name)
        self.stop()
        inside_read, self._write = os.pipe()
        self._read, inside_write = os.pipe()
        shared = _shared(self.size)
        # -I: no environment, no user's packages, not this folder. The worker is given an empty environment besides.
        command = [sys.executable, "-I", "-B", "-c", _BOOT, str(Path(__file__).parent),
                   *map(str, (inside_read, inside_write, shared, self.size, self.allowance, _SECONDS))]  # fmt: skip
        try:
            process = subprocess.Popen(
                command, env={}, cwd="/", pass_fds=(inside_read, inside_write, shared), close_fds=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            self._memory = mmap.mmap(shared, self.size)
        except OSError as error:
            _close(self._read, self._write)
            raise JailError("unavailable", f"the worker process cannot be started: {error}") from error
        finally:
            _close(inside_read, inside_write, shared)
        self._process, self._owner, self.worked = process, os.getpid(), 0.0
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._end = weakref.finalize(self, _kill, process, self._read, self._write, os.getpid())
        atexit.register(self._end)
        if not self._wait(60.0):
            said = b"" if process.stderr is None or process.poll() is None else process.stderr.read(2000)
            self.stop()
            raise JailError(
                "unavailable", "the worker process did not come up: " + plain(said.decode(errors="replace"))
            )
        if process.stderr is not None:
            process.stderr.close()
        header = self._answer()[0]
        self.layers = jail.read_report(header.layers) if header.code == wire.READY else frozenset()
        missing = KERNEL - self.layers
        if missing and self.require == "kernel":
            self.stop()
            raise JailError(
                "unavailable",
                f"require='kernel': this machine does not give {', '.join(sorted(missing))} to a worker. Run on Linux "
                "5.13 or newer with Landlock and seccomp, or take require='process' and the layers that there are",
            )

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._end()
            atexit.unregister(self._end)
        self._process = None
        self._views.clear()

    @property
    def running(self) -> bool:
        """Whether there is a worker of this very process, alive."""
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The worker's process; None without one."""
        return self._process.pid if self._process is not None else None

    def _wait(self, seconds: float) -> bool:
        """Whether the worker answered: a byte came, in time."""
        try:
            if not self._poll.poll(max(seconds, 0.0) * 1000):
                return False
            return len(os.read(self._read, 1)) == 1
        except OSError:
            return False

    def _answer(self) -> tuple[wire.Header, bytes]:
        try:
            return wire.read(self._memory)
        except ValueError as error:
            raise self._fail("garbled", str(error)) from error

    def _ask(self, what: str) -> tuple[wire.Header, bytes]:
        """Wake the worker and wait for its answer.

        Raises:
            JailError: It hung, died or answered nonsense; it has been killed.
        """
        begun = monotonic()
        try:
            os.write(self._write, b".")
        except OSError:
            raise self._fail("died", f"the worker died before {what}") from None
        answered = self._wait(self.timeout)
        self.worked += monotonic() - begun
        if not answered:
            if self._process is not None and self._gone():
                raise self._fail("died", f"the worker died while {what} (its limits, or a crash)")
            raise self._fail("hung", f"{what} took longer than {self.timeout:g} s, and the worker was killed")
        return self._answer()

    def _gone(self) -> bool:
        assert self._process is not None
        try:
            self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _fail(self, outcome: str, message: str) -> JailError:
        self.outcomes[outcome] += 1
        self.stop()
        return JailError(outcome, message)

    # Programs.

    def compile(self, text: str, inputs: Sequence[Input]) -> None:
        """Put a program into the worker.

        Afterwards ``inputs`` are those that it reads, in order, and ``names`` its components.

        Raises:
            ProgramError: It is no program.
            JailError: The worker failed on it.
        """
        if not isinstance(text, str):
            raise TypeError(f"a reward program is text, and not {type(text).__name__}")
        if len(text) > LIMITS.characters:
            raise ProgramError("text", f"the program has {len(text)} characters; at most {LIMITS.characters} are read")
        self._program = None
        if not self.running:
            self.start()
        declared, program = wire.schema(inputs), text.encode("utf-8", "surrogatepass")
        if len(declared) + len(program) > wire.MOST_TEXT:
            raise ProgramError("text", "the program and the names of its inputs are too long")
        wire.write(self._memory, wire.Header(wire.COMPILE, 0, 0, len(declared), 0), declared + program)
        header, answer = self._ask("compiling")
        said = answer.decode("ascii", "replace")
        if header.code == wire.REFUSED:
            self.outcomes["refused"] += 1
            raise _refusal(said)
        self._check(header, said)
        used, *names = said.split("\n")
        by_name = {i.name: i for i in inputs}
        wanted = used.split(",")
        sound = all(NAME.fullmatch(n) and n in by_name for n in wanted) and len(names) <= LIMITS.components
        if not sound or len(set(wanted)) < len(wanted) or not all(map(_COMPONENT.fullmatch, names)):
            raise self._fail("garbled", "the worker described no program")
        self.inputs, self.names = [by_name[n] for n in wanted], tuple(names)
        self.rows = min(max(wire.most_rows(self.size, self.inputs, len(names)), 0), 1 << 24)
        if not self.rows:
            raise ProgramError("budget", "one row of the program's inputs is larger than the shared memory")
        self._views.clear()
        self._program = (text, tuple(inputs))
        self.outcomes["ok"] += 1

    def run(self, batch: Mapping[str, Any]) -> Output:
        """Run the program on NumPy arrays ``[B, ...]`` of the inputs' dtypes.

        Raises:
            JailError: The worker hung, died or failed; nothing of this batch is given.
        """
        if self._program is None:
            raise RuntimeError("there is no program in this jail: call compile first")
        if not self.running or self.worked > _REPLACE:
            self.compile(*self._program)
        arrays = [batch[i.name] for i in self.inputs]
        rows = len(arrays[0])
        if rows <= self.rows:
            return self._piece(arrays, rows)
        pieces = [
            self._piece([a[i : i + self.rows] for a in arrays], min(self.rows, rows - i))
            for i in range(0, rows, self.rows)
        ]
        joined = np.concatenate([p.components for p in pieces], axis=1)
        return Output(np.concatenate([p.reward for p in pieces]), joined)

    def _piece(self, arrays: Sequence[NDArray[Any]], rows: int) -> Output:
        if rows not in self._views:
            if len(self._views) >= 4:
                self._views.clear()
            self._views[rows] = wire.views(self._memory, self.inputs, len(self.names), rows)
        places, reward, components = self._views[rows]
        for place, array in zip(places, arrays):
            np.copyto(place, array, casting="no")
        wire.write(self._memory, wire.Header(wire.RUN, rows, 0, 0, 0))
        header, answer = self._ask("running")
        self._check(header, answer.decode("ascii", "replace"))
        self.outcomes["ok"] += 1
        # Copied first: the worker could write into what is shared while it is looked at.
        return Output(reward.copy(), components.copy())

    def _check(self, header: wire.Header, said: str) -> None:
        if header.code == wire.MEMORY:
            raise self._fail("memory", "the program took more memory than it may")
        if header.code == wire.FAILED:
            raise self._fail("failed", f"the worker failed: {plain(said, 300)}")
        if header.code != wire.OK:
            raise self._fail("garbled", "the worker answered what was not asked")


def _refusal(said: str) -> ProgramError:
    """The worker's refusal; its words came from near a program, so they are cleaned and cut."""
    layer, _, rest = said.partition("\n")
    line, _, rest = rest.partition("\n")
    column, _, rest = rest.partition("\n")
    known = layer if layer in ("text", "syntax", "types", "budget") else "syntax"
    error = ProgramError(known, "\n".join(plain(row, 400) for row in rest.split("\n")[:6]))
    error.line, error.column = (int(n) if n.isascii() and n.isdigit() and len(n) < 7 else 0 for n in (line, column))
    return error


def _shared(size: int) -> int:
    """A descriptor of memory that two processes share, and that neither can shrink under the other."""
    if hasattr(os, "memfd_create"):
        import fcntl

        fd = os.memfd_create("cairn", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


def _close(*descriptors: int) -> None:
    for fd in descriptors:
        try:
            os.close(fd)
        except OSError:
            pass


def _kill(process: "subprocess.Popen[bytes]", read: int, write: int, owner: int) -> None:
    """End a worker and take its descriptors back; a fork of the host has neither to end."""
    _close(read, write)
    if process.stderr is not None:
        process.stderr.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
