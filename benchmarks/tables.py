"""What the benchmarks share: robust averages over seeds, the machine's name, and a table that survives a kill."""

import csv
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("cairn-rl", "torch", "numpy", "gymnasium", "stable-baselines3", "minigrid", "mujoco", "warp-lang")


def iqm(values: Sequence[float]) -> float:
    """The interquartile mean: the mean of what is left when a quarter of the values is cut at each end.

    Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021), section 4.3.
    As there, a quarter is rounded down: of five values, the middle three count.

    Args:
        values: ``[S]``, one for each seed; infinite where a seed did not get there.

    Raises:
        ValueError: There are no values, or one is NaN.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0 or np.isnan(ordered).any():
        raise ValueError(f"the mean over seeds needs numbers, got {list(values)}")
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def interval(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float] = iqm,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of ``statistic`` over seeds.

    Args:
        values: ``[S]``, one for each seed.
        statistic: What is reported, a function of ``[S]`` values in any order.
        confidence: The share of resamples inside the interval.
        resamples: How often the seeds are drawn again, with replacement.
        seed: Seeds the draws: the same values give the same interval.
    """
    data = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, data.size, (resamples, data.size))
    # Few seeds are drawn in few ways: five in 126, whatever the order, of which each is worked out once.
    ways, which = np.unique(np.sort(draws, 1), axis=0, return_inverse=True)
    found = np.sort(np.array([statistic(data[way].tolist()) for way in ways])[which.reshape(-1)])
    # Nearest ranks: interpolating between a number and infinity gives NaN.
    tail = (1 - confidence) / 2 * (resamples - 1)
    return float(found[int(np.floor(tail))]), float(found[int(np.ceil(resamples - 1 - tail))])


def machine() -> dict[str, str]:
    """The processor, its cores that this process may use, Python, and the versions that the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"processor": _processor(), "cores": str(cores), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "absent"
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Cells:
    """A table on disk to which a benchmark adds a row for each cell that it has finished.

    Rows are appended and synced one at a time. A last line that a kill cut short is dropped when the table is opened,
    and that cell is measured again.
    """

    def __init__(self, path: str | Path, key: Sequence[str]) -> None:
        """Open the table at ``path``, or begin it; ``key`` names the columns that tell cells apart."""
        self.path, self.key = Path(path), tuple(key)
        self._rows: list[dict[str, str]] = []
        self._columns: list[str] = []
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                self.path.write_text(whole, encoding="utf-8")
            reader = csv.DictReader(whole.splitlines())
            self._rows, self._columns = list(reader), list(reader.fieldnames or [])

    def _name(self, row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[k]) for k in self.key)

    def done(self, key: Mapping[str, object]) -> bool:
        """Whether the cell with these values of the key columns is there."""
        return self._name(key) in {self._name(row) for row in self._rows}

    def rows(self) -> list[dict[str, str]]:
        """All rows, as text, in the order in which they were added."""
        return [dict(row) for row in self._rows]

    def add(self, row: Mapping[str, object]) -> None:
        """Append one row and wait until it is on the disk.

        Raises:
            ValueError: Its columns are not the table's (the benchmark has changed: move the old file away), or the cell
                is there already.
        """
        if self._columns and list(row) != self._columns:
            raise ValueError(f"{self.path} has the columns {self._columns}, not {list(row)}; move the old table away")
        if self.done(row):
            raise ValueError(f"{self.path} has the cell {self._name(row)} already")
        begin = not self._columns
        self._columns = list(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if begin:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
        self._rows.append({k: str(v) for k, v in row.items()})

    def replace(self, row: Mapping[str, object]) -> None:
        """Put a row in the place of the cell with its key; a kill leaves the old table or the new one.

        Raises:
            ValueError: Its columns are not the table's, or there is no such cell.
        """
        if list(row) != self._columns or not self.done(row):
            raise ValueError(f"{self.path} has no cell {self._name(row)} with the columns {list(row)}")
        new = {k: str(v) for k, v in row.items()}
        rows = [new if self._name(old) == self._name(row) else old for old in self._rows]
        beside = self.path.with_name(self.path.name + ".new")
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._rows = rows
