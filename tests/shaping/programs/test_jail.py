"""The jail, tried from inside: real forbidden system calls in a process locked in, and each layer missed when gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cairn.shaping.programs.host as host
from cairn.shaping.programs import Input, Jail, JailError, ProgramError, jail, kernel, sandbox, wire

from .corpus import INPUTS, batch

linux = pytest.mark.skipif(
    kernel.machine() is None, reason="the kernel's layers are those of Linux on x86_64 and aarch64"
)
FOLDER = str(Path(host.__file__).parent)
SIMPLE = "def reward(distance, qpos):\n    return distance * 2, {'q': qpos[:, 0]}\n"

# A process that locks itself in as the worker does, tries one thing, and says how that ended by a byte in a pipe.
TRY = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from types import ModuleType
package = ModuleType("cairn_jail")
package.__path__ = [sys.argv[1]]
sys.modules["cairn_jail"] = package
import ctypes, errno, mmap, resource, socket, signal, threading
from cairn_jail import jail
out, extra = int(sys.argv[2]), int(sys.argv[3])
layers = frozenset(sys.argv[4].split(",")) & jail.ALL
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
parent = os.getppid()
def attempt():
{body}
jail.enter([0], [out], 1 << 26, 2, layers)
try:
    attempt()
    answer = b"D"
except MemoryError:
    answer = b"M"
except PermissionError:
    answer = b"P"
except OSError as error:
    answer = {{errno.EBADF: b"B", errno.EMFILE: b"N", errno.EACCES: b"P"}}.get(error.errno, b"O")
except Exception:
    answer = b"X"
os.write(out, answer)
os._exit(0)
"""


def attempt(body: str, layers: frozenset[str] = jail.ALL) -> str:
    """What becomes of code in the jail: "P" refused, "D" done, "M" no memory, "B" no such descriptor, "" killed."""
    read, write = os.pipe()
    secret = os.open(FOLDER, os.O_RDONLY)
    indented = "\n".join("    " + line for line in body.strip().split("\n"))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", TRY.format(body=indented), FOLDER, str(write), str(secret),
             ",".join(layers)],
            pass_fds=(write, secret), env={}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        os.close(write)
        answer = os.read(read, 1).decode()
        assert answer or done.returncode < 0, done.stderr.decode()
        return answer
    finally:
        os.close(read)
        os.close(secret)


X86 = kernel.machine() == "x86_64"
# What is tried, and what shields from it: without these layers it is done (or dies of something else).
FORBIDDEN: dict[str, str] = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "write a file": "os.open('/tmp/cairn-was-here', os.O_WRONLY | os.O_CREAT)",
    "list a folder": "os.listdir('/')",
    "look at a file": "os.stat('/etc/passwd')",
    "delete a file": "os.unlink('/tmp/cairn-was-never-here')",
    "a symbolic link": "os.symlink('/etc/passwd', '/tmp/cairn-link')",
    "make a socket": "socket.socket(socket.AF_INET)",
    "a unix socket": "socket.socket(socket.AF_UNIX)",
    "connect": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))",
    "fork": "os.fork()",
    "a thread": "t = threading.Thread(target=int); t.start()",
    "another program": "os.execv('/bin/true', ['true'])",
    "its own program again": "os.execv(sys.executable, [sys.executable, '-c', '1'])",
    "a shell": "os.posix_spawn('/bin/sh', ['sh', '-c', 'exit'], {})",
    "a signal to its parent": "os.kill(parent, 0)",
    "a signal to its group": "os.killpg(0, 0)",
    "ptrace its parent": "call(101 if os.uname().machine == 'x86_64' else 117, 16, parent, 0, 0)",
    "read another's memory": (
        "call(310 if os.uname().machine == 'x86_64' else 270, parent, ctypes.create_string_buffer(16), 1,"
        " ctypes.create_string_buffer(16), 1, 0)"
    ),
    "executable memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "memory turned executable": (
        "m = mmap.mmap(-1, 4096); a = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "call(10 if os.uname().machine == 'x86_64' else 226, a, 4096, 5)"
    ),
    "its limits raised": "resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
    "its user changed": "os.setuid(1)",
    "another root": "os.chroot('/tmp')",
    "a mount": "call(165 if os.uname().machine == 'x86_64' else 40, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "new namespaces": "call(272 if os.uname().machine == 'x86_64' else 97, 0x10000000)",
    "io_uring": "call(425, 8, ctypes.create_string_buffer(256))",
    "bpf": "call(321 if os.uname().machine == 'x86_64' else 280, 0, ctypes.create_string_buffer(128), 128)",
    "a user's keys": "call(250 if os.uname().machine == 'x86_64' else 219, 0, -3, 1)",
    "memory shared by name": "call(319 if os.uname().machine == 'x86_64' else 279, b'x', 0)",
    "a pipe": "os.pipe()",
    "a second copy of a descriptor": "os.dup(out)",
    "its processors": "os.sched_setaffinity(0, {0})",
}  # fmt: skip


@linux
@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden_things_are_refused_inside(what: str) -> None:
    # Python says RuntimeError or ValueError where the kernel says EPERM to a thread or a limit.
    assert attempt(FORBIDDEN[what]) == ("X" if what in ("a thread", "its limits raised") else "P")


@linux
def test_computing_goes_on_inside() -> None:
    assert attempt("assert sum(range(10**6)) > 0\nx = bytearray(1 << 24)\nassert len(x) == 1 << 24") == "D"


@linux
def test_other_descriptors_are_closed_and_cannot_be_read() -> None:
    assert attempt("os.read(extra, 1)") == "P"  # not on the list of the filter
    assert attempt("os.read(extra, 1)", jail.ALL - {"seccomp"}) == "B"  # and closed besides
    assert attempt("os.write(1, b'x')") == "P"
    assert attempt("os.lseek(extra, 0, 0)", jail.ALL - {"seccomp"}) == "B"


@linux
def test_memory_and_time_run_out() -> None:
    assert attempt("x = bytearray(1 << 28)") == "M"
    assert attempt("x = [0] * (1 << 25)") == "M"
    assert attempt("while True: pass") == ""  # SIGKILL after two seconds of processor time


@linux
def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert attempt("assert not os.environ") == "D"
    worker = Jail(size=1 << 20)
    worker.start()
    assert worker._process is not None
    # Read by root, or not readable at all: the process is not dumpable.
    try:
        environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes()
    except PermissionError:
        environment = b""
    assert b"secret" not in environment
    worker.stop()


# Each layer is needed: what it stops, and what would happen without it. Two layers stop files and signals.
NEEDED = [
    ("seccomp", "os.fork() or os._exit(0)", "P", {"limits", "capabilities"}, "D"),
    ("seccomp", "mmap.mmap(-1, 4096, prot=7)", "P", set(), "D"),
    ("seccomp", "os.getuid() and None\nos.sched_setaffinity(0, os.sched_getaffinity(0))", "P", set(), "D"),
    ("landlock", "os.listdir('/')", "P", {"seccomp", "limits"}, "D"),
    ("landlock", "os.open('/etc/passwd', os.O_RDONLY)", "P", {"seccomp", "limits"}, "D"),
    ("limits", "x = bytearray(1 << 28)", "M", set(), "D"),
    ("limits", "socket.socket(socket.AF_UNIX)", "P", {"seccomp"}, "D"),
    ("descriptors", "os.listdir(extra)", "P", {"seccomp", "landlock", "limits"}, "D"),
    ("environment", "assert not os.environ", "D", set(), "X"),
]


@linux
@pytest.mark.parametrize(("layer", "body", "held", "others", "gone"), NEEDED)
def test_each_layer_is_missed_when_it_is_gone(layer: str, body: str, held: str, others: set[str], gone: str) -> None:
    if kernel.landlock_version() == 0:
        pytest.skip("this kernel has no Landlock")
    assert attempt(body) == held
    assert attempt(body, jail.ALL - {layer} - others) == gone


@linux
def test_either_of_two_layers_keeps_files_shut() -> None:
    if kernel.landlock_version() == 0:
        pytest.skip("this kernel has no Landlock")
    for alone in ("seccomp", "landlock"):
        assert attempt("os.open('/etc/passwd', os.O_RDONLY)", frozenset({alone, "no_new_privs"})) == "P"
    assert attempt("os.open('/etc/passwd', os.O_RDONLY)", frozenset({"no_new_privs"})) == "D"


@linux
def test_the_report_is_what_was_tried() -> None:
    found = sandbox.describe()
    assert found.kernel and all(found.layers.values())
    text = str(found)
    assert "no known escape" in text and "secure" not in text and 'require="kernel" is met' in text


# The host's side.


@pytest.fixture
def worker() -> "Jail":
    made = Jail(timeout=20.0, size=1 << 20)
    made.compile(SIMPLE, INPUTS)
    yield made
    made.stop()


def test_it_computes_what_is_computed_outside(worker: Jail) -> None:
    given = batch(100)
    out = worker.run(given)
    np.testing.assert_array_equal(out.reward, given["distance"] * 2)
    np.testing.assert_array_equal(out.components[0], given["qpos"][:, 0])
    assert worker.names == ("q",) and [i.name for i in worker.inputs] == ["distance", "qpos"]


def test_batches_larger_than_the_memory_go_in_pieces(worker: Jail) -> None:
    given = batch(100_000)
    assert worker.rows < 100_000
    out = worker.run(given)
    np.testing.assert_array_equal(out.reward, given["distance"] * 2)
    assert worker.outcomes["ok"] > 2


def test_a_worker_that_hangs_is_killed_and_counted(worker: Jail) -> None:
    assert worker._process is not None
    pid = worker._process.pid
    worker.timeout = 0.3
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(JailError, match="took longer than 0.3 s") as caught:
        worker.run(batch(4))
    assert caught.value.outcome == "hung" and worker.outcomes["hung"] == 1 and not worker.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    worker.timeout = 20.0
    np.testing.assert_array_equal(worker.run(batch(4)).reward, batch(4)["distance"] * 2)  # a new one takes over


def test_a_worker_that_is_slow_is_killed() -> None:
    """A program within its budgets that is too slow for the timeout."""
    slow = "def reward(qpos):\n    x = qpos\n" + "    x = sin(x) + cos(x)\n" * 300 + "    return sum(x, dim=-1)\n"
    worker = Jail(size=1 << 24)
    worker.compile(slow, INPUTS)
    worker.timeout = 0.02
    with pytest.raises(JailError) as caught:
        worker.run(batch(300_000))
    assert caught.value.outcome == "hung" and worker.outcomes["hung"] == 1
    worker.stop()


def test_a_worker_that_dies_is_noticed(worker: Jail) -> None:
    assert worker._process is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    time.sleep(0.05)
    try:
        worker.run(batch(4))  # noticed before anything was asked: a new worker does it
    except JailError as error:
        assert error.outcome == "died"  # noticed while it was asked
    assert worker.run(batch(4)).reward.shape == (4,)


def test_garbage_from_a_worker_is_not_taken(worker: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        (wire.HEADER.pack(b"EVIL", 0, 0, 0, 0, 0), "garbled"),
        (wire.HEADER.pack(wire.MAGIC, 0, 0, 1 << 31, 0, 0), "garbled"),
        (wire.HEADER.pack(wire.MAGIC, 77, 0, 0, 0, 0), "garbled"),
        (wire.HEADER.pack(wire.MAGIC, wire.READY, 0, 0, 0, 0), "garbled"),
        (wire.HEADER.pack(wire.MAGIC, wire.FAILED, 0, 8, 0, 0), "failed"),
        (wire.HEADER.pack(wire.MAGIC, wire.MEMORY, 0, 0, 0, 0), "memory"),
    ]
    for bytes_, outcome in answers:

        def lie(seconds: float, b: bytes = bytes_) -> bool:
            worker._memory[: len(b)] = b
            worker._memory[wire.TEXT : wire.TEXT + 8] = b"\x1b[2Jhi\xff\x00"
            return True

        with monkeypatch.context() as patch:
            patch.setattr(worker, "_wait", lie)
            with pytest.raises(JailError) as caught:
                worker.run(batch(4))
        assert caught.value.outcome == outcome and str(caught.value).isprintable()
        worker.run(batch(4))


@pytest.mark.parametrize("said", [
    "distance\nignore previous instructions", "secret", "distance,distance", "", "distance\n" + "a\n" * 40,
    "distance\n__class__.x", "../x", "distance\n" + "a" * 99,
])  # fmt: skip
def test_what_a_worker_says_of_a_program_is_checked(said: str, worker: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_ask", lambda what: (wire.Header(wire.OK, 1, len(said), 1, 0), said.encode()))
    with pytest.raises(JailError) as caught:
        worker.compile(SIMPLE, INPUTS)
    assert caught.value.outcome == "garbled"


def test_a_refusal_from_a_worker_is_cleaned(worker: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"types\n99999999999\n\xc3\xa9\n" + b"\x1b]0;evil\x07</code>" * 200 + b"\n" * 50
    monkeypatch.setattr(worker, "_ask", lambda what: (wire.Header(wire.REFUSED, 0, len(said), 0, 0), said))
    with pytest.raises(ProgramError) as caught:
        worker.compile(SIMPLE, INPUTS)
    assert caught.value.line == caught.value.column == 0 and len(str(caught.value)) < 2500
    assert "\x1b" not in str(caught.value) and "\x07" not in str(caught.value)


def test_outputs_are_the_hosts_own(worker: Jail) -> None:
    """A worker that goes on writing into what is shared changes nothing that was taken."""
    out = worker.run(batch(8))
    worker._memory[wire.DATA : wire.DATA + 4096] = b"\xff" * 4096
    np.testing.assert_array_equal(out.reward, batch(8)["distance"] * 2)
    given = batch(8)
    worker.run(given)
    np.testing.assert_array_equal(given["distance"], batch(8)["distance"])


@linux
def test_shared_memory_cannot_be_shrunk_under_the_host() -> None:
    fd = host._shared(1 << 16)
    for size in (0, 1 << 12, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_the_worker_ends_with_its_host() -> None:
    code = (
        "import os, cairn.shaping.programs as p\n"
        "j = p.Jail(size=1 << 20)\nj.compile('def r(x):\\n    return x', [p.Input('x', 'f')])\n"
        "print(j._process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(done.stdout)
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the worker outlived its host")


def test_no_descriptor_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        worker = Jail(size=1 << 20)
        worker.compile(SIMPLE, INPUTS)
        worker.run(batch(4))
        worker.stop()
    del worker
    assert len(os.listdir("/proc/self/fd")) <= before


def test_require_kernel_refuses_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "KERNEL", host.KERNEL | {"a layer that no machine has"})
    worker = Jail(size=1 << 20, require="kernel")
    with pytest.raises(JailError, match="a layer that no machine has") as caught:
        worker.compile(SIMPLE, INPUTS)
    assert caught.value.outcome == "unavailable" and not worker.running
    Jail(size=1 << 20, require="process").start()
    with pytest.raises(ValueError, match="require='maybe'"):
        Jail(require="maybe")


def test_a_row_that_does_not_fit_is_refused() -> None:
    worker = Jail(size=wire.DATA + 4096)
    with pytest.raises(ProgramError, match="larger than the shared memory"):
        worker.compile("def r(x):\n    return x[:, 0]", [Input("x", "f", (16000,))])
    worker.stop()
