"""The tables, the summary and the picture of ``cairn bench solve``, from its cells."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.benchmarks.tables import interval, iqm, machine

Cell = Mapping[str, str]
ALONE = ("process", "training")
"""Clocks of cells that have the machine for themselves."""
PAIR = "training cpu"
"""The clock of cells that compare learners."""
NOTE = (
    "Million steps to the criterion and seconds of the processor, imports and building included, trials taken off, "
    "compilation cached: IQM over seeds, and how many seeds were solved. One that was not counts as infinite, and "
    "where that leaves no IQM, the steps stand there after which the first of them gave up. Columns with * are paid "
    "for what the agent does not see (its position and what it carries), in training alone. Rows with a goal were "
    "measured alone on the machine with two threads in that column, and have seconds by the clock below."
)


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
    """Figures of the cells of one learner, row and column: over seeds, infinite where one was not solved."""

    def over(name: str) -> list[float]:
        return [float(cell[name]) if int(cell["solved"]) else math.inf for cell in cells]

    found: dict[str, Any] = {"seeds": len(cells), "solved": sum(int(cell["solved"]) for cell in cells)}
    pair = ["training_cpu_seconds"] if all(cell["clock"] == PAIR for cell in cells) else []  # others may not have it
    for name in ("process_seconds", "training_seconds", "cpu_seconds", "steps", *pair):
        found[name] = iqm(over(name))
        found[f"{name}_interval"] = interval(over(name))
    found["process_seconds_median"] = statistics.median(over("process_seconds"))
    for name in ("success", "again", "trial_seconds"):
        found[name] = iqm([float(cell[name]) for cell in cells])
    found["lived"] = min((float(cell["steps"]) for cell in cells if not int(cell["solved"])), default=math.inf)
    found["alone"] = all(cell["clock"] in ALONE for cell in cells)
    return found


def grouped(cells: Sequence[Cell], learner: str, rows: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The summary of each (row, column) of a learner, in the table's order."""
    found = {}
    for row in rows:
        mine = [cell for cell in cells if cell["learner"] == learner and cell["row"] == row]
        for column in dict.fromkeys(cell["column"] for cell in mine):
            found[row, column] = summary([cell for cell in mine if cell["column"] == column])
    return found


def seconds(value: float, lived: str = "") -> str:
    """Seconds, or ``lived`` where they are not finite."""
    return f"{value:.3g} s" if math.isfinite(value) else lived or "-"


def millions(steps: float) -> str:
    """Steps in millions; whole ones where there are many."""
    return f"{steps / 1e6:.2f} M" if steps < 1e7 else f"{steps / 1e6:.1f} M"


def reached(one: Mapping[str, Any]) -> str:
    """Steps and processor seconds to the criterion, or the steps that were not enough."""
    if not math.isfinite(one["steps"]):
        return f"> {millions(one['lived'])}"
    return f"{millions(one['steps'])}, {seconds(one['cpu_seconds'])}"


def short(cells: Sequence[Cell], rows: Sequence[str], titles: Mapping[str, str]) -> str:
    """The table that the README has: a line for each task, a column for each bonus."""
    found = grouped(cells, "cairn", rows)
    columns = [name for name in titles if any(column == name for _, column in found)]
    lines = [f"| task | {' | '.join(titles[name] for name in columns)} |", "|---|" + "---|" * len(columns)]
    for row in rows:
        if not any(name == row for name, _ in found):
            continue
        texts = []
        for column in columns:
            one = found.get((row, column))
            texts.append("" if one is None else f"{reached(one)} ({one['solved']}/{one['seeds']})")
        lines.append(f"| {row} | {' | '.join(texts)} |")
    return "\n".join(lines)


def whole(cells: Sequence[Cell], rows: Sequence[str], titles: Mapping[str, str]) -> str:
    """A line for each cell with all figures; seconds by the clock where it had the machine for itself."""
    lines = [
        "| task | bonus | solved | million steps | CPU s | seconds | training s | success | again | trials' s | goal |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    goals = {cell["row"]: cell["goal"] for cell in cells}
    for (row, column), one in grouped(cells, "cairn", rows).items():
        low, high = one["steps_interval"]
        if math.isfinite(one["steps"]):
            steps = f"{millions(one['steps'])} ({millions(low)} to {upper(high)})"
        else:
            steps = f"> {millions(one['lived'])}"
        wall, training, goal = "", "", ""
        if one["alone"]:
            low, high = one["process_seconds_interval"]
            wall = f"{seconds(one['process_seconds'])} ({seconds(low)} to {seconds(high)})"
            training = seconds(one["training_seconds"])
            if goals[row]:
                goal = f"{goals[row]} s: median {seconds(one['process_seconds_median'])}"
        lines.append(
            f"| {row} | {titles[column]} | {one['solved']} of {one['seeds']} | {steps} | {seconds(one['cpu_seconds'])} "
            f"| {wall} | {training} | {one['success']:.3f} | {one['again']:.3f} | {one['trial_seconds']:.1f} | {goal} |"
        )
    return "\n".join(lines)


def upper(steps: float) -> str:
    """The upper end of an interval, which may have no end."""
    return millions(steps) if math.isfinite(steps) else "not solved"


def against(cells: Sequence[Cell], rows: Sequence[str]) -> str:
    """Processor seconds of the peer's training over ours, row by row; empty where there is no peer's cell."""
    cells = [cell for cell in cells if cell["clock"] == PAIR]
    ours, theirs = grouped(cells, "cairn", rows), grouped(cells, "sb3", rows)
    if not theirs:
        return ""
    lines = [
        "Processor seconds of training, one thread each, beside Stable-Baselines3's PPO with the same expression:",
        "",
        "| task | ours | Stable-Baselines3's | ratio | our steps | Stable-Baselines3's | solved |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for key in theirs:
        if key not in ours:
            continue
        mine, peer = ours[key], theirs[key]
        a, b = mine["training_cpu_seconds"], peer["training_cpu_seconds"]
        cap = min(float(cell["budget"]) for cell in cells if cell["learner"] == "sb3")
        ratio = "" if not math.isfinite(a) else f"{b / a:.1f}x" if math.isfinite(b) else f"> {cap / a:.1f}x"
        lines.append(
            f"| {key[0]} | {seconds(a)} | {seconds(b, f'> {cap:.0f} s')} | {ratio} "
            f"| {reached(mine).split(',')[0]} | {reached(peer).split(',')[0]} "
            f"| {mine['solved']} of {mine['seeds']}, {peer['solved']} of {peer['seeds']} |"
        )
    return "\n".join(lines)


def picture(cells: Sequence[Cell], rows: Sequence[str], titles: Mapping[str, str], path: Path) -> None:
    """Steps and processor seconds of every seed by task, one colour a bonus; hollow where one gave up."""
    from matplotlib.figure import Figure

    mine = [cell for cell in cells if cell["learner"] == "cairn"]
    shown = [row for row in rows if any(cell["row"] == row for cell in mine)]
    columns = [name for name in titles if any(cell["column"] == name for cell in mine)]
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(shown)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, scale in zip(panels, ("steps", "cpu_seconds"), (1e6, 1.0), strict=True):
        for c, column in enumerate(columns):
            offset = (c + 1) / (len(columns) + 1) - 0.5
            for solved in (True, False):
                some = [k for k in mine if k["column"] == column and bool(int(k["solved"])) is solved]
                x = [float(cell[name]) / scale for cell in some]
                y = [shown.index(cell["row"]) + 0.85 * offset for cell in some]
                face = f"C{c}" if solved else "none"
                label = titles[column] if solved else None
                axes.scatter(x, y, s=14, color=f"C{c}", facecolors=face, linewidths=0.7, label=label)
        for line in range(1, len(shown)):
            axes.axhline(line - 0.5, color="0.9", lw=0.6, zorder=0)
        axes.grid(axis="x", which="both", color="0.92", lw=0.5)
        axes.set_axisbelow(True)
        axes.set(xscale="log")
    panels[0].set(xlabel="million steps (hollow: gave up there)", ylim=(len(shown) - 0.5, -0.5))
    panels[0].set_yticks(range(len(shown)), shown)
    panels[1].set(xlabel="seconds of the processor")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", ncols=len(columns), loc="outside upper center", frameon=False)
    figure.savefig(path, dpi=100)


def settings(cells: Sequence[Cell]) -> str:
    """A line for each learner's settings."""
    used = dict.fromkeys(f"{cell['learner']}: {cell['settings']} threads={cell['threads']}" for cell in cells)
    return "\n".join(f"* {line}" for line in used)


def render(cells: Sequence[Cell], rows: Sequence[str], titles: Mapping[str, str], out: Path) -> None:
    """Write README.md, summary.json and solve.png into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    parts = [f"Written by `cairn bench solve`. {facts}."]
    pairs, cells = [c for c in cells if c["clock"] == PAIR], [c for c in cells if c["clock"] != PAIR]
    if cells:
        parts += [NOTE, short(cells, rows, titles), "![seconds by task](solve.png)", whole(cells, rows, titles)]
        parts += [f"Settings, the same for all tasks:\n\n{settings(cells)}"]
        rewards = dict.fromkeys((titles[cell["column"]], cell["reward"]) for cell in cells)
        parts += ["\n".join(f"* {title}: `{reward}`" for title, reward in rewards)]
        picture(cells, rows, titles, out / "solve.png")
    if pairs:
        parts += [against(pairs, rows), settings(pairs)]
    if cells or pairs:
        figures = {"cairn": {"/".join(key): one for key, one in grouped(cells, "cairn", rows).items()}}
        for learner in ("cairn", "sb3"):
            one_learner = grouped(pairs, learner, rows).items()
            figures[f"pair, {learner}"] = {"/".join(key): one for key, one in one_learner}
        text = json.dumps({"machine": machine(), "figures": plain(figures)}, indent=1)
        (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    (out / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """A tree in which what is infinite is None: JSON has no infinity."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
