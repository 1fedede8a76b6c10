"""Run folders: configuration, metrics, checkpoints, and going on after ``kill -9`` as if nothing had happened.

::

    config.json           what was asked for, and the versions it was asked of
    metrics.jsonl         a row per line, {"step": ..., ...}
    checkpoints/<step>/   whole states (a second one at the same step is <step>.1)
    latest                the name of the last whole one

One process trains into a run at a time; any number may read it meanwhile. What a folder holds is believed only
after it was checked, and the values of a configuration are still the writer's: an environment's id and
arguments from there go through ``check_env_id`` and ``check_env_kwargs``, and names through ``resolve``.
"""

import operator
import os
import re
import weakref
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Self
from warnings import warn

from ._store import files
from ._store.checkpoint import read_checkpoint, write_checkpoint
from ._store.config import dump_config, read_config
from ._store.files import CheckpointError, fault
from ._store.lock import RunBusy, lock, unlock
from ._store.metrics import Metrics, check_mark, read_rows
from ._store.names import (
    Constant,
    Cosine,
    Linear,
    check_env_id,
    check_env_kwargs,
    name_of,
    names,
    pack,
    register,
    resolve,
    schedule_from_json,
    schedule_to_json,
    unpack,
)
from ._store.tree import first_difference
from ._store.versions import version_note, versions

__all__ = [
    "CheckpointError",
    "Constant",
    "Cosine",
    "Linear",
    "Run",
    "RunBusy",
    "check_env_id",
    "check_env_kwargs",
    "first_difference",
    "name_of",
    "names",
    "pack",
    "read_checkpoint",
    "register",
    "resolve",
    "schedule_from_json",
    "schedule_to_json",
    "unpack",
    "version_note",
    "versions",
    "write_checkpoint",
]

CONFIG, METRICS, CHECKPOINTS, LATEST, LOCK = "config.json", "metrics.jsonl", "checkpoints", "latest", ".lock"
_NAME = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([1-9][0-9]{0,5}))?", re.ASCII)


class Run:
    """One run's folder; make it with ``Run.create`` or ``Run.open``, and ``close`` it (or use ``with``)."""

    def __init__(self, root: Path, config: dict[str, Any], made_with: dict[str, Any], keep: int) -> None:
        """Not for use: see ``create`` and ``open``."""
        if keep < 1:
            raise ValueError(f"keep={keep}: a run keeps at least one checkpoint")
        self.root = root
        self.config = config
        self.versions = made_with
        """What ``versions()`` said when the run was made; ``version_note`` compares it with now."""
        self.keep = keep
        self._lock: int | None = None
        self._metrics: Metrics | None = None
        self._bad: set[str] = set()
        _alive.add(self)

    # ---- making, opening, closing ----

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any], *, keep: int = 3) -> Self:
        """Make a run in a new or empty folder, ready to train into.

        Args:
            path: The folder; its parents are made too.
            config: JSON values (``pack`` turns classes and schedules into such).
            keep: How many checkpoints to keep.

        Raises:
            FileExistsError: The folder holds a run or anything else.
            TypeError: The configuration holds something that is not JSON.
            RunBusy: Another process is making a run here at this moment.
        """
        root = Path(os.path.abspath(path))
        text, values, made_with = dump_config(dict(config))
        root.parent.mkdir(parents=True, exist_ok=True)
        if not root.is_dir():
            if os.path.lexists(root):
                raise FileExistsError(f"{root} is a file: choose another folder for the run")
            files.make_folder(root)
            files.sync_folder(root.parent)
        run = cls(root, values, made_with, keep)
        if not _is_blank(root):
            raise _taken(root)
        try:
            run.claim()
            if not _is_blank(root):  # another process may have made its run before we had the lock
                raise _taken(root)
            files.replace_file(root / CONFIG, text)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: str | Path, *, keep: int = 3) -> Self:
        """Open a run, to read it; the first ``log``, ``save`` or ``resume_metrics`` claims it for training.

        Raises:
            CheckpointError: The folder is no run, or its configuration is damaged.
        """
        root = Path(os.path.abspath(path))
        where = root / CONFIG
        if not os.path.lexists(where):
            raise fault(path, "is no run (it has no config.json)", _near(root) or "cairn train --run makes one")
        return cls(root, *read_config(where), keep)

    def claim(self) -> None:
        """Become the one process that trains into this run, and clear away what a killed one left unfinished.

        Raises:
            RunBusy: Another process, or another ``Run`` of this one, holds it.
        """
        if self._lock is not None:
            return
        self._lock = lock(self.root / LOCK)
        with suppress(OSError):
            files.remove_leftovers(self.root)
            if (self.root / CHECKPOINTS).is_dir() and not (self.root / CHECKPOINTS).is_symlink():
                files.remove_leftovers(self.root / CHECKPOINTS)

    def close(self) -> None:
        """Let go of the run; nothing is lost by not calling it."""
        if self._lock is not None:
            unlock(self._lock)
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_metrics"):
            self.close()

    # ---- metrics ----

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """Append a row to the metrics.

        Args:
            step: Environment steps so far.
            row: Names to numbers (also 0-dimensional arrays and tensors), text, truth values or None. A number
                that is not finite becomes null.
        """
        if "step" in row:
            raise ValueError("a row's step is log's first argument: give the entry 'step' another name")
        self._open_metrics().append({"step": operator.index(step), **row})

    def metrics(self) -> list[dict[str, Any]]:
        """Read the rows; a last one that a killed process left unfinished is left out.

        Raises:
            CheckpointError: A line is not a row.
        """
        return read_rows(self.root / METRICS)

    def resume_metrics(self, meta: Mapping[str, Any] | None) -> None:
        """Cut the rows that were logged after a checkpoint, before training goes on from it.

        If the file's beginning is not what it was at the checkpoint, it is set aside with a warning.

        Args:
            meta: What ``latest`` gave; None cuts all, to begin anew.
        """
        if self._open_metrics().cut(None if meta is None else meta["run"]["metrics"]):
            return
        self._close_metrics()
        where = self.root / METRICS
        spares = (where.with_name(f"metrics-damaged-{i}.jsonl") for i in range(1, 10**6))
        spare = next(path for path in spares if not os.path.lexists(path))
        files.rename(where, spare)
        files.sync_folder(self.root)
        self._open_metrics()
        warn(
            f"{where} was cut or changed since the checkpoint: it is now {spare.name}, and the rows begin anew",
            RuntimeWarning,
            stacklevel=2,
        )

    def _open_metrics(self) -> Metrics:
        self.claim()
        if self._metrics is None:
            self._metrics = Metrics(self.root / METRICS)
        return self._metrics

    def _close_metrics(self) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            metrics.close()

    # ---- checkpoints ----

    def save(self, step: int, meta: Mapping[str, Any], state: Any) -> None:
        """Save a checkpoint, name it the latest, and delete the oldest beyond ``keep``.

        ``kill -9`` or a full disk at any moment leaves the latest one as it was, or the new one in its place.

        Args:
            step: Environment steps so far.
            meta: JSON values about it; the key ``run`` is taken.
            state: A tree as ``write_checkpoint`` takes it.

        Raises:
            TypeError: Something in the tree cannot be saved; the message has its path.
            OSError: The disk refused; the checkpoint before is intact.
        """
        step = operator.index(step)
        if not 0 <= step < 10**18 or "run" in meta:
            raise ValueError("a step is a whole number from 0, and meta's key 'run' is taken")
        metrics, folder = self._open_metrics(), self.root / CHECKPOINTS
        try:
            mark = {"step": step, "metrics": metrics.mark()}
            if not folder.is_dir():
                files.make_folder(folder)
                files.sync_folder(self.root)
        except OSError as error:
            raise files.worded(error, self.root, "what was saved before is intact") from error
        # A name is never used twice, so nothing that might still be needed is ever in the way.
        taken = [n for s, n in self._saved() if s == step]
        name = f"{step}.{max(taken) + 1}" if taken else str(step)
        write_checkpoint(self._inside(f"{CHECKPOINTS}/{name}"), {**meta, "run": mark}, state)
        try:
            files.replace_file(self.root / LATEST, name.encode() + b"\n")
        except OSError as error:
            raise files.worded(error, self.root / LATEST, "what was saved before is intact") from error
        self._prune(name)

    def latest(self) -> tuple[int, dict[str, Any], Any] | None:
        """Read the last checkpoint that is whole.

        A damaged one is named in a warning, with its fault, and the one before it is tried.

        Returns:
            Its step, meta and state; None if none was ever saved.

        Raises:
            CheckpointError: There are checkpoints, and all are damaged.
        """
        tried: dict[str, CheckpointError] = {}
        while (name := self._next(tried)) is not None:
            try:
                return self._read(name)
            except CheckpointError as error:
                tried[name] = error
                self._bad.add(name)
                warn(f"{error}. Trying the checkpoint before it.", RuntimeWarning, stacklevel=2)
        if not tried:
            return None
        raise fault(self.root / CHECKPOINTS, "holds no whole checkpoint", "restore one, or train into a new folder")

    def _next(self, tried: Mapping[str, object]) -> str | None:
        """The checkpoint that ``latest`` names (a trainer may have just saved another), else the newest, untried."""
        try:
            name = files.read_bounded(self.root / LATEST, 64).decode("utf-8", "replace").strip()
            if not _NAME.fullmatch(name):
                raise fault(self.root / LATEST, "does not name a checkpoint")
            if name not in tried:
                return name
        except CheckpointError as error:
            # Missing it is between the first checkpoint and its naming: nothing to warn of.
            if os.path.lexists(self.root / LATEST) and not tried:
                warn(f"{error}. Taking the newest checkpoint.", RuntimeWarning, stacklevel=3)
        left = [_name(*pair) for pair in self._saved() if _name(*pair) not in tried]
        return left[-1] if left else None

    def _read(self, name: str) -> tuple[int, dict[str, Any], Any]:
        where = self._inside(f"{CHECKPOINTS}/{name}")
        meta, state = read_checkpoint(where)
        mark = meta.get("run")
        if not isinstance(mark, dict) or not check_mark(mark.get("metrics")):
            raise fault(where, "is not a checkpoint of a run")
        step = int(name.partition(".")[0])
        if type(mark.get("step")) is not int or mark["step"] != step:
            raise fault(where, "is the checkpoint of another step, renamed")
        return step, meta, state

    def _saved(self) -> list[tuple[int, int]]:
        """The step and number of each checkpoint, in order."""
        folder = self._inside(CHECKPOINTS)
        if not folder.is_dir():
            return []
        found = (_NAME.fullmatch(name) for name in os.listdir(folder))
        return sorted((int(match[1]), int(match[2] or 0)) for match in found if match)

    def _prune(self, latest: str) -> None:
        step = int(latest.partition(".")[0])

        def worth(pair: tuple[int, int]) -> tuple[bool, bool, tuple[int, int]]:
            # Damaged ones go first, then those beyond this step, which an earlier attempt left behind.
            return _name(*pair) == latest, _name(*pair) not in self._bad and pair[0] <= step, pair

        for pair in sorted(self._saved(), key=worth)[: -self.keep]:
            doomed = self._inside(f"{CHECKPOINTS}/{_name(*pair)}")
            try:
                hidden = files.aside(doomed)  # first the name goes, so that no half of it is ever found
                files.rename(doomed, hidden)
                files.remove(hidden)
            except OSError as error:
                warn(f"{doomed} is no longer needed but cannot be deleted ({error})", RuntimeWarning, stacklevel=3)

    # ---- other files ----

    def path(self, name: str) -> Path:
        """Where a file of the run lies, as ``report/curve.png``; its folder need not exist.

        Raises:
            CheckpointError: The name is absolute, has ``..`` in it, or passes through a link.
        """
        return self._inside(name)

    def _inside(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
            raise fault(repr(name), "is not a path inside the run's folder")
        here = self.root
        for part in parts:
            here = here / part
            if here.is_symlink():
                raise fault(here, "is a link, and links in a run's folder are refused", "put the file itself there")
        return here

    def _forget(self) -> None:
        """Close the files without letting go of the lock, which in a forked child is the parent's."""
        self._close_metrics()
        fd, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)


_alive: "weakref.WeakSet[Run]" = weakref.WeakSet()


def _after_fork() -> None:
    # A forked worker that outlives a killed trainer would keep the lock, and no one could resume.
    for run in list(_alive):
        run._forget()


os.register_at_fork(after_in_child=_after_fork)


def _name(step: int, number: int) -> str:
    return f"{step}.{number}" if number else str(step)


def _is_blank(root: Path) -> bool:
    """Whether nothing is there but what a process leaves that was killed while making a run."""
    return all(name == LOCK or name.startswith(files.ASIDE) for name in os.listdir(root))


def _taken(root: Path) -> FileExistsError:
    if (root / CONFIG).exists():
        return FileExistsError(f"{root} holds a run: go on with `cairn resume {root}`, or choose another folder")
    return FileExistsError(f"{root} is not empty: choose another folder for the run")


def _near(root: Path) -> str:
    with suppress(OSError):
        runs = [path.name for path in root.parent.iterdir() if (path / CONFIG).is_file()]
        if near := get_close_matches(root.name, runs, n=1):
            return f"did you mean {str(root.parent / near[0])!r}?"
    return ""
