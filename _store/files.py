"""The disk, mistrusted both ways: writes that survive ``kill -9`` and a full disk, reads that believe nothing.

Every change to the disk is one of the small functions here, and each announces itself through ``on_step``
before it acts, so a test can stop the process, or fill the disk, in front of any single one of them.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

on_step: Callable[[str, str], None] | None = None
"""A test's hook, called as ``on_step(what, path)`` before each change to the disk. None in use."""

ASIDE = ".tmp-"
"""What the name of anything unfinished begins with; such leftovers of a killed process may be deleted."""

CHUNK = 1 << 20
MAX_JSON_BYTES = 64 << 20
MAX_JSON_DEPTH = 64
MAX_JSON_NODES = 4_000_000

_TOKENS = re.compile(rb'\\.|["\[\]{}]', re.DOTALL)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class CheckpointError(ValueError):
    """A file of a run or checkpoint is cut, tampered with or foreign: which one, what is wrong, the way out."""


def fault(where: str | Path, what: str, way_out: str = "") -> CheckpointError:
    """Word an error about a file: its name, its fault and what to do about it."""
    return CheckpointError(f"{where}: {what}" + (f"; {way_out}" if way_out else ""))


# ---- writes ----------------------------------------------------------------------------------------------


def _step(what: str, path: str | Path) -> None:
    if on_step is not None:
        on_step(what, str(path))


def make_folder(path: Path) -> None:
    """Make one new folder."""
    _step("mkdir", path)
    os.mkdir(path)


def write_all(fd: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of ``data``: ``os.write`` may stop short, in particular just before a disk is full."""
    view = memoryview(data)
    while len(view):
        _step("write", path)
        view = view[os.write(fd, view[:CHUNK]) :]


def sync(fd: int, path: Path) -> None:
    """Wait until an open file is on the disk."""
    _step("fsync", path)
    os.fsync(fd)


def sync_folder(path: Path) -> None:
    """Wait until a folder's list of names is on the disk; without this a rename can be lost with the power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd, path)
    finally:
        os.close(fd)


def rename(old: Path, new: Path) -> None:
    """Give ``old`` the name ``new`` in one step, in place of what was there."""
    _step("rename", new)
    os.rename(old, new)


def truncate(fd: int, length: int, path: Path) -> None:
    """Cut an open file."""
    _step("truncate", path)
    os.ftruncate(fd, length)


def remove(path: Path) -> None:
    """Delete a file, a link (never what it points to) or a whole folder; a missing one is no error."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            for name in sorted(os.listdir(path)):
                remove(path / name)
            _step("rmdir", path)
            os.rmdir(path)
        else:
            _step("unlink", path)
            os.unlink(path)


def aside(path: Path) -> Path:
    """Choose a name beside ``path`` for what is not finished yet."""
    return path.with_name(f"{ASIDE}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half written in ``folder``. Only while nothing else writes there."""
    for name in sorted(os.listdir(folder)):
        if name.startswith(ASIDE):
            remove(folder / name)


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a new file and wait until it is on the disk.

    Returns:
        Its size in bytes and its sha256 in hex.
    """
    digest, size = hashlib.sha256(), 0
    _step("create", path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            write_all(fd, chunk, path)
            digest.update(chunk)
            size += len(chunk)
        sync(fd, path)
    finally:
        os.close(fd)
    return size, digest.hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file aside and rename it: at every moment ``path`` holds all of the old or all of the new."""
    temporary = aside(path)
    try:
        write_new(temporary, [data])
        rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    sync_folder(path.parent)


def worded(error: OSError, path: Path, kept: str) -> OSError:
    """Say what a failed write has and has not cost, with the same errno."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = os.strerror(error.errno) if error.errno else str(error)
    way_out = "free some space and go on" if full else "see to the disk and go on"
    return OSError(error.errno, f"{reason} (while writing; {kept}: {way_out})", str(path))


# ---- reads -----------------------------------------------------------------------------------------------


def open_regular(path: str | Path, where: str | Path, folder: int | None = None) -> tuple[FileIO, int]:
    """Open a file for reading, refusing links, pipes and devices.

    Args:
        path: The file; a bare name where ``folder`` is given.
        where: The name for errors.
        folder: A descriptor of the folder it lies in, so that no link can be put in the way meanwhile.

    Returns:
        The raw file and its size.
    """
    try:
        fd = os.open(path, _READ, dir_fd=folder)
    except FileNotFoundError:
        raise fault(where, "is missing") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise fault(where, "is a link, and links are refused", "put the file itself there") from None
        raise fault(where, f"cannot be opened ({error.strerror})") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise fault(where, "is not a regular file")
    return FileIO(fd, "r", closefd=True), status.st_size


def read_into(file: FileIO, view: memoryview, where: str | Path) -> None:
    """Fill ``view`` from a raw file."""
    while len(view):
        count = file.readinto(view)
        if not count:
            raise fault(where, f"ends {len(view)} bytes early", "it was cut: use an older checkpoint or a copy")
        view = view[count:]


def read_bounded(path: str | Path, limit: int, where: str | Path | None = None, folder: int | None = None) -> bytes:
    """Read a whole small file, refusing links, and anything above ``limit`` bytes before taking memory."""
    where = path if where is None else where
    file, size = open_regular(path, where, folder)
    with file:
        if size > limit:
            raise fault(where, f"has {size} bytes, more than the {limit} such a file can have")
        data = bytearray(size)
        read_into(file, memoryview(data), where)
    return bytes(data)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:80]!r} stands twice in an object")
        made[key] = value
    return made


def _short_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def check_json_size(data: bytes, where: str | Path) -> None:
    """Refuse JSON that is too long or has too many values to take memory for; a writer asks before it writes."""
    if len(data) > MAX_JSON_BYTES:
        raise fault(where, f"has {len(data)} bytes of JSON, more than the {MAX_JSON_BYTES} allowed")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_JSON_NODES:
        raise fault(where, f"has more than the {MAX_JSON_NODES} JSON values allowed")


def parse_json(data: bytes, where: str | Path) -> Any:
    """Parse strict JSON from an untrusted file: bounded depth and count, no key twice, no NaN, no huge number."""
    check_json_size(data, where)
    depth, quoted = 0, False
    for token in _TOKENS.finditer(data):  # one pass, so that the depth is known before the parser recurses
        mark = token.group()
        if mark == b'"':
            quoted = not quoted
        elif not quoted and len(mark) == 1:
            depth += 1 if mark in b"[{" else -1
            if depth > MAX_JSON_DEPTH:
                raise fault(where, f"is nested more than {MAX_JSON_DEPTH} deep")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_short_int,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise fault(where, f"is not the JSON it should be ({error})") from None


def dump_json(value: Any, indent: int | None = None) -> bytes:
    """Write strict JSON; a value that is not JSON raises ``TypeError`` or ``ValueError``."""
    return json.dumps(value, allow_nan=False, indent=indent).encode() + b"\n"
