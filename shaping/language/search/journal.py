"""The record of a search: one line of JSON for everything that came from outside, so that a killed search goes on.

A search is a deterministic function of the answers it was given and of how the trainings went. Both are written down as
they come; a search started again on the same file is given them back from it, and asks and trains only from where the
file ends.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 1 << 28  # bytes of a record that is read


class JournalError(ValueError):
    """The record belongs to another search, or is no record."""


class Journal:
    """Lines of ``{"kind", "key", "value"}``; a last line that a kill cut short is dropped."""

    def __init__(self, path: str | Path | None) -> None:
        """Open the record at ``path``, or begin it; None keeps none.

        Raises:
            JournalError: The file is no record.
        """
        self.path = None if path is None else Path(path)
        self._lines: list[dict[str, Any]] = []
        self._next = 0
        if self.path is not None and self.path.exists():
            if self.path.stat().st_size > LARGEST:
                raise JournalError(f"{self.path} is larger than any record of a search")
            whole = self.path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            for number, line in enumerate(kept.splitlines(), 1):
                try:
                    entry = json.loads(line)
                    self._lines.append({name: entry[name] for name in ("kind", "key", "value")})
                except (ValueError, KeyError, TypeError) as error:
                    raise JournalError(f"{self.path}, line {number}, is not of a search's record: {error}") from None
            if kept != whole:
                with self.path.open("r+b") as file:
                    file.truncate(len(kept))

    @property
    def replaying(self) -> bool:
        """Whether what comes next is in the file already."""
        return self._next < len(self._lines)

    def remember(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        """The value of the next line, or the one that ``make`` gives now, written down first.

        Args:
            kind: What it is, such as "answers".
            key: What it depends on, as plain values; kept as a hash.
            make: Gives it, as plain values.

        Raises:
            JournalError: The next line is of something else: the search was started with other settings.
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        if self.replaying:
            entry = self._lines[self._next]
            if (entry["kind"], entry["key"]) != (kind, digest):
                raise JournalError(
                    f"{self.path}, line {self._next + 1}: the record has {entry['kind']!r} here, and this search "
                    f"{kind!r} or another question; it was begun with other settings. Give another folder, or the "
                    "settings that it was begun with"
                )
            self._next += 1
            return entry["value"]
        value = json.loads(json.dumps(make(), allow_nan=False))  # what a resumed search would see
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"kind": kind, "key": digest, "value": value}, allow_nan=False)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        self._lines.append({"kind": kind, "key": digest, "value": value})
        self._next += 1
        return value
