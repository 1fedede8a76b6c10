"""One trainer at a time: a lock that the kernel lets go of when its process ends, however it ends."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from .files import fault


class RunBusy(RuntimeError):
    """Another process trains into the run."""


def lock(where: Path) -> int:
    """Take the lock and return its descriptor, for ``unlock``.

    Raises:
        RunBusy: Someone else has it.
    """
    if where.is_symlink():
        raise fault(where, "is a link, and links are refused", "delete it")
    fd = os.open(where, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        mine = " (it is this one: close the other Run first)" if holder == str(os.getpid()) else ""
        raise RunBusy(f"{where.parent} is being trained into by process {holder}: wait or stop it{mine}") from None
    with suppress(OSError):  # the number serves the message above and nothing else
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def unlock(fd: int) -> None:
    """Let go of the lock, whatever forked children still have the descriptor."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
