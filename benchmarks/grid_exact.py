"""The batch beside upstream for long: levels and steps of every id compared, and what happened in them counted.

Every id has pieces of ``--levels`` levels and ``--steps`` steps under seeds of their own; a piece that has been
compared is a row of the table, and a run that was killed goes on with the next. A difference ends it with the place.

Upstream's Python bounds it. Upstream's own files may be compiled first (Cython, `annotation_typing=False`, the source
unchanged): a row says in `upstream` which of the two it was compared with.

    python benchmarks/grid_exact.py                                      # 1,000 levels and 10^6 steps an id: hours
    python benchmarks/grid_exact.py --ids MiniGrid-DoorKey-8x8-v0 --pieces 1
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

import minigrid.core.grid

import cairn
from cairn.benchmarks.tables import RESULTS, Cells, machine
from cairn.envs.grid.beside import COUNTED, Beside
from cairn.envs.grid.ids import GRID_IDS


def compare(upstream: str, piece: int, levels: int, steps: int) -> dict[str, object]:
    """Compare one piece of one id; AssertionError names the first difference."""
    start = time.process_time()
    seed = 1_000_003 * (piece + 1)  # the suite has small seeds
    if piece == 0:
        Beside(upstream, lanes=25, seed=seed).levels(levels)
    beside = Beside(upstream, seed=seed)
    beside.play(steps)
    compiled = "python" if str(minigrid.core.grid.__file__).endswith(".py") else "compiled"
    row = {"id": upstream, "piece": piece, "levels": levels if piece == 0 else 0, "steps": steps}
    return {
        **row,
        **beside.counts,
        "cpu_seconds": round(time.process_time() - start, 1),
        "cairn": cairn.__version__,
        "upstream": f"{minigrid.__version__} {compiled}",
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Compare what the table does not have yet, and print what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=list(GRID_IDS), choices=GRID_IDS, metavar="ID")
    parser.add_argument("--levels", type=int, default=1000, help="of each id")
    parser.add_argument("--steps", type=int, default=100_000, help="of each piece")
    parser.add_argument("--pieces", type=int, default=10, help="of each id")
    parser.add_argument("--out", default=str(RESULTS / "grid_exact" / "steps.csv"))
    given = parser.parse_args(argv)
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    cells = Cells(given.out, ["id", "piece"])
    for piece in range(given.pieces):  # every id once, then again
        for upstream in given.ids:
            if not cells.done({"id": upstream, "piece": piece}):
                print(f"\r{upstream} {piece + 1}/{given.pieces}  ", end="", file=sys.stderr, flush=True)
                cells.add(compare(upstream, piece, given.levels, given.steps))
    print(file=sys.stderr)
    total: Counter[str] = Counter()
    for row in cells.rows():
        for name in ("levels", "steps", *COUNTED):
            total[name] += int(row[name])
    ids = {row["id"] for row in cells.rows()}
    print(f"{len(ids)} ids, no difference in " + ", ".join(f"{count:,} {name}" for name, count in total.items()))


if __name__ == "__main__":
    main()
