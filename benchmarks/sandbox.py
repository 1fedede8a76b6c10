"""What a reward program costs beside the same reward written by hand, and what becomes of every attack of the corpus.

python benchmarks/sandbox.py [--rounds 60] [--batches 16 1024 16384] [--out benchmarks/results/sandbox]

Cost: one reward with some forty operations, three ways: by hand in torch, compiled by Cairn (the same tensors, this
process), and jailed (the tensors go to the worker and back). The three take turns, and a figure is the median over
rounds of the time of one call; ratios are medians of the rounds' own ratios, so that a busy machine slows all alike.
Processor time is measured beside the clock's: this process's, and the worker's (as Linux counts it, in nanoseconds).
Corpus: every program of tests/shaping/programs/corpus, compiled here and in a jailed worker.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cairn.benchmarks.tables import machine
from cairn.shaping.programs import Input, Jail
from cairn.shaping.programs.runners import InProcess, Jailed
from cairn.shaping.programs.sandbox import describe

INPUTS = (
    Input("qpos", "f", (9,)), Input("qvel", "f", (9,)), Input("action", "f", (3,)), Input("target", "f", (3,)),
    Input("upright", "b"),
)  # fmt: skip
TEXT = """
import torch

def compute_reward(qpos, qvel, action, target, upright):
    speed_temperature = 0.5
    height_temperature = 0.25
    near_temperature = 0.1
    speed = qvel[:, 0]
    height = qpos[:, 1]
    reach = torch.norm(qpos[:, 0:3] - target, dim=-1)
    run = torch.exp(-torch.abs(speed - 2.0) / speed_temperature)
    tall = torch.exp(-torch.abs(height - 1.2) / height_temperature)
    near = torch.exp(-reach / near_temperature)
    effort = -0.01 * torch.sum(torch.square(action), dim=-1)
    smooth = -0.001 * torch.sum(torch.square(qvel), dim=-1)
    spin = torch.tanh(torch.sum(torch.abs(qvel[:, 3:6]), dim=-1))
    alive = torch.where(upright, torch.ones_like(speed), torch.zeros_like(speed))
    fallen = torch.where(height < 0.7, -torch.ones_like(speed), torch.zeros_like(speed))
    total = 1.5 * run + 0.5 * tall + near + effort + smooth - 0.2 * spin + 0.1 * alive + fallen
    total = torch.clamp(total, -5.0, 5.0)
    return total, {"run": run, "tall": tall, "near": near, "effort": effort, "alive": alive}
"""


def by_hand(
    qpos: Tensor, qvel: Tensor, action: Tensor, target: Tensor, upright: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The text above as a person would write it: Python's own function on torch."""
    speed_temperature, height_temperature, near_temperature = 0.5, 0.25, 0.1
    speed = qvel[:, 0]
    height = qpos[:, 1]
    reach = torch.norm(qpos[:, 0:3] - target, dim=-1)
    run = torch.exp(-torch.abs(speed - 2.0) / speed_temperature)
    tall = torch.exp(-torch.abs(height - 1.2) / height_temperature)
    near = torch.exp(-reach / near_temperature)
    effort = -0.01 * torch.sum(torch.square(action), dim=-1)
    smooth = -0.001 * torch.sum(torch.square(qvel), dim=-1)
    spin = torch.tanh(torch.sum(torch.abs(qvel[:, 3:6]), dim=-1))
    alive = torch.where(upright, torch.ones_like(speed), torch.zeros_like(speed))
    fallen = torch.where(height < 0.7, -torch.ones_like(speed), torch.zeros_like(speed))
    total = 1.5 * run + 0.5 * tall + near + effort + smooth - 0.2 * spin + 0.1 * alive + fallen
    total = torch.clamp(total, -5.0, 5.0)
    return total, {"run": run, "tall": tall, "near": near, "effort": effort, "alive": alive}


def batch(rows: int) -> dict[str, Tensor]:
    """Random inputs ``[rows, ...]``."""
    generator = torch.Generator().manual_seed(0)
    values = {i.name: torch.randn(rows, *i.shape, generator=generator) for i in INPUTS}
    return {**values, "upright": values["upright"] > 0}


def worked(pid: int | None) -> float:
    """Seconds of processor time of this process, and of the worker where there is one."""
    mine = time.process_time()
    return mine if pid is None else mine + int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def seconds(call: Callable[[], Any], calls: int, pid: int | None = None) -> tuple[float, float]:
    """Of one call, over some: by the clock, and of the processors."""
    busy, begun = worked(pid), time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls, (worked(pid) - busy) / calls


def cost(rows: int, rounds: int) -> dict[str, float]:
    """Microseconds of each way, and their ratios to the one by hand."""
    data = batch(rows)
    compiled, jailed = InProcess(TEXT, INPUTS), Jailed(TEXT, INPUTS, 60.0, "process")
    # By hand the parts stay apart; as the term uses them, the other two stack them: that is in their cost.
    ways: dict[str, Callable[[], Any]] = {
        "by_hand": lambda: by_hand(**data),
        "compiled": lambda: compiled(data),
        "jailed": lambda: jailed(data),
    }
    one, other, third = by_hand(**data)[0], compiled(data)[0], jailed(data)[0]
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(third, one, rtol=1e-4, atol=1e-5)
    calls = max(1, int(0.02 / seconds(ways["by_hand"], 20)[0]))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with torch.no_grad():
        for done in range(rounds):
            for name, way in ways.items():
                times[name].append(seconds(way, calls, jailed.jail.pid if name == "jailed" else None))
            if sys.stderr.isatty():
                print(f"\rbatch {rows}: round {done + 1} of {rounds}", end="", file=sys.stderr)
    jailed.jail.stop()
    found = {f"{name}_us": statistics.median(t for t, _ in ts) * 1e6 for name, ts in times.items()}
    for name in ("compiled", "jailed"):
        for kind, which in (("ratio", 0), ("processor_ratio", 1)):
            ratios = [mine[which] / hand[which] for mine, hand in zip(times[name], times["by_hand"])]
            found[f"{name}_{kind}"] = statistics.median(ratios)
    return found


def attacks() -> list[dict[str, str]]:
    """Each program of the corpus: what was expected, and what became of it here and in the jail."""
    path = Path(__file__).parents[1] / "tests" / "shaping" / "programs" / "corpus.py"
    if not path.exists():
        raise SystemExit("the attack corpus is in the repository's tests, and not in an installed package")
    spec = importlib.util.spec_from_file_location("cairn_corpus", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cairn_corpus"] = module
    spec.loader.exec_module(module)
    jail = Jail(size=1 << 22)
    rows = []
    for attack in module.corpus():
        here, there = module.outcome(attack.text), module.jailed_outcome(jail, attack.text)
        rows.append({"family": attack.family, "expected": attack.expected, "here": here, "jailed": there})
    jail.stop()
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """The corpus by family and by what stopped it, in Markdown."""
    layers = ("text", "syntax", "types", "budget", "behaviour", "runs")
    lines = [
        "| family | programs | " + " | ".join(layers) + " | as expected |",
        "|---|---|" + "---|" * (len(layers) + 1),
    ]
    for family in [*sorted({r["family"] for r in rows}), "all"]:
        here = [r for r in rows if family in (r["family"], "all")]
        counts = Counter(r["jailed"].partition(":")[0] for r in here)
        right = sum(r["here"] == r["jailed"] == r["expected"] for r in here)
        name = family.partition("_")[2].replace("_", " ") or "all"
        cells = [name, len(here), *(counts[layer] for layer in layers), f"{right} of {len(here)}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables; with --out, write them to a folder too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="turns that each way takes")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 1024, 16384], help="rows of a batch")
    parser.add_argument("--out", type=Path, help="folder for sandbox.md and sandbox.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = attacks()
    lines = ["# Reward programs", "", ", ".join(f"{k} {v}" for k, v in machine().items()), "", "```", str(describe()),
             "```", "", "## Cost, microseconds of a call (medians; one torch thread)", "",
             "| batch | by hand | compiled | ratio | of processor time | jailed | ratio | of processor time |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    costs = {}
    for size in args.batches:
        costs[size] = found = cost(size, args.rounds)
        lines.append(
            f"| {size} | {found['by_hand_us']:.0f} | {found['compiled_us']:.0f} | {found['compiled_ratio']:.2f} | "
            f"{found['compiled_processor_ratio']:.2f} | {found['jailed_us']:.0f} | {found['jailed_ratio']:.2f} | "
            f"{found['jailed_processor_ratio']:.2f} |"
        )
    lines += ["", "## The attack corpus, by what stopped each program (in the jailed worker)", "", table(rows), ""]
    print("\n".join(lines))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "sandbox.md").write_text("\n".join(lines), encoding="utf-8")
        whole = {"machine": machine(), "cost": costs, "corpus": rows}
        (args.out / "sandbox.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
