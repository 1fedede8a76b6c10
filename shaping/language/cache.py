"""Answers on disk, so that nothing is paid for twice and a run can be replayed without a server."""

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .ask import OUTCOMES, Question, Sample, canonical, sample_of

_FORMAT = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS samples (
    key TEXT NOT NULL, k INTEGER NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL, text TEXT NOT NULL,
    outcome TEXT NOT NULL, value TEXT NOT NULL, rung TEXT NOT NULL, why TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, PRIMARY KEY (key, k)
) WITHOUT ROWID
"""


class Cache:
    """An SQLite file of samples, by canonical request (model and template version are in it) and sample index.

    The first sample under a key stands, so that two processes which share a file agree. What the model said is kept
    ("ok", "refused", "unparsable"); what did not come is not.

    Args:
        path: The file, made where it is not there (its folder must be); ":memory:" for one that is gone afterwards.

    Raises:
        ValueError: The file is not such a cache.
    """

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        if self.path != ":memory:" and not Path(self.path).parent.is_dir():
            raise ValueError(f"Cache({self.path!r}): the folder {Path(self.path).parent} does not exist; make it first")
        try:
            self._db = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            if version not in (0, _FORMAT) or (version == 0 and tables - {"samples"}):
                raise ValueError(
                    f"{self.path} is a database of another kind (format {version}): give the cache a file of its own"
                )
            self._db.execute(_TABLE)
            self._db.execute(f"PRAGMA user_version={_FORMAT}")
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.path} cannot be used as a cache of answers ({error}); move it away and a new one is made"
            ) from None

    def get(self, key: str, n: int) -> dict[int, Sample]:
        """Those of the samples 0 to n - 1 that are there."""
        with self._lock:
            rows = self._db.execute(
                "SELECT k, text, outcome, value, rung, why FROM samples WHERE key = ? AND k < ?", (key, n)
            ).fetchall()
        found = {}
        for k, text, outcome, value, rung, why in rows:
            if outcome in OUTCOMES:
                found[int(k)] = Sample(text, outcome, json.loads(value), rung, why)
        return found

    def put(self, key: str, k: int, sample: Sample, model: str, template: str) -> None:
        """Keep a sample; one that is there already stays."""
        row = (
            key, k, model, template, sample.text, sample.outcome, canonical(sample.value), sample.rung, sample.why,
            sample.tokens_in, sample.tokens_out,
        )  # fmt: skip
        with self._lock:
            self._db.execute(f"INSERT OR IGNORE INTO samples VALUES ({', '.join('?' * len(row))})", row)

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT COUNT(*) FROM samples").fetchone()[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cache":
        """A file is shared."""
        return self

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def load_lines(self, path: str | Path, model: str) -> int:
        """Take recorded answers in: a JSON Lines file of ``{"question": {...}, "texts": [...]}``; returns how many.

        Raises:
            ValueError: A line is none.
        """
        count = 0
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            try:
                tree: Mapping[str, Any] = json.loads(line)
                question, texts = Question(**tree["question"]), [str(t) for t in tree["texts"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}, is no recorded answer: {error}") from None
            for k, text in enumerate(texts):
                self.put(question.key(model), k, sample_of(text, question), model, question.template)
                count += 1
        return count
