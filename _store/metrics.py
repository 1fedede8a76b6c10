"""The metrics file of a run: rows appended as lines of JSON, marked at checkpoints, cut back when one is resumed."""

import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

from . import files
from .files import fault

MAX_METRICS_BYTES = 1 << 30


class Metrics:
    """The file, open for appending by the one process that trains."""

    def __init__(self, where: Path) -> None:
        if where.is_symlink():
            raise fault(where, "is a link, and links are refused", "put the file itself there")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.where = where
        self.fd = os.open(where, flags, 0o666)
        self._hashed = (sha256(), 0)  # the digest of the first so many bytes

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row; it reaches the file at once, and the disk at the next ``mark``."""
        line = files.dump_json({name: _plain(value) for name, value in row.items()})
        before = os.fstat(self.fd).st_size
        try:
            files.write_all(self.fd, line, self.where)
        except BaseException as error:
            with suppress(OSError):
                files.truncate(self.fd, before, self.where)  # no half row
            if isinstance(error, OSError):
                raise files.worded(error, self.where, "the rows before and the checkpoints are intact") from error
            raise

    def mark(self) -> dict[str, Any]:
        """Wait until the rows are on the disk, and say how many bytes they are and their sha256."""
        files.sync(self.fd, self.where)
        length = os.fstat(self.fd).st_size
        digest, done = self._hashed
        self._hashed = (self._hash(digest.copy(), done, length), length)
        return {"bytes": length, "sha256": self._hashed[0].hexdigest()}

    def cut(self, mark: Mapping[str, Any] | None) -> bool:
        """Go back to a mark, or to no rows; False, and nothing done, if the file no longer begins as it did."""
        length: int = 0 if mark is None else mark["bytes"]
        size = os.fstat(self.fd).st_size
        if size < length:
            return False
        digest = self._hash(sha256(), 0, length)
        if mark is not None and digest.hexdigest() != mark["sha256"]:
            return False
        if size > length:
            files.truncate(self.fd, length, self.where)
        files.sync(self.fd, self.where)
        self._hashed = (digest, length)
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def _hash(self, digest: Any, begin: int, end: int) -> Any:
        while begin < end and (data := os.pread(self.fd, min(files.CHUNK, end - begin), begin)):
            digest.update(data)
            begin += len(data)
        return digest


def check_mark(mark: Any) -> bool:
    """Whether values from a file are such as ``Metrics.mark`` gives."""
    if not isinstance(mark, dict) or not isinstance(mark.get("sha256"), str):
        return False
    return type(mark.get("bytes")) is int and 0 <= mark["bytes"] <= MAX_METRICS_BYTES


def read_rows(where: Path) -> list[dict[str, Any]]:
    """Read the rows of a file; a last one that a killed process left unfinished is left out.

    Raises:
        CheckpointError: A line is not a row.
    """
    if not os.path.lexists(where):
        return []
    lines = files.read_bounded(where, MAX_METRICS_BYTES).split(b"\n")[:-1]
    rows = [files.parse_json(line, f"{where}, line {i}") for i, line in enumerate(lines, 1)]
    if not all(isinstance(row, dict) for row in rows):
        raise fault(where, "has a line that is not a row")
    return rows


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    number = float(value)
    return number if isfinite(number) else None
