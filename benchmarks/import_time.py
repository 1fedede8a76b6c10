"""What ``import cairn`` adds to gymnasium's own import: medians of fresh processes, taken in turn.

python benchmarks/import_time.py [--rounds 11]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence

CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(modules: str) -> float:
    """The import time of ``modules`` in a fresh process."""
    done = subprocess.run([sys.executable, "-c", CODE.format(modules)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="fresh processes for each of the two")
    args = parser.parse_args(argv)
    rounds = [(seconds("gymnasium"), seconds("gymnasium, cairn")) for _ in range(args.rounds)]
    alone = statistics.median(a for a, _ in rounds)
    added = statistics.median(b - a for a, b in rounds)
    print(f"gymnasium alone {alone:.3f} s; cairn adds {added:.3f} s ({args.rounds} rounds)")
    print(json.dumps({"gymnasium_s": alone, "cairn_adds_s": added, "python": platform.python_version(),
                      "machine": platform.processor() or platform.machine()}))  # fmt: skip


if __name__ == "__main__":
    main()
