"""``cairn report``: runs side by side on one page, and the same as a picture and a table for papers."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.config import ConfigError, from_json, to_json
from ..benchmarks.tables import interval, iqm
from ..qd.config import is_search
from ..runs import Run
from . import curves
from .curves import Course, Group
from .document import document, safe, table, write
from .film import film
from .living import live
from .maps import short
from .seeing import FRAMES, SLOW, STEPS, is_slow
from .subjects import of_run

METRICS = {
    "rollout/success_rate": "success in training",
    "rollout/ep_rew_mean": "return in training",
    "eval/success": "success on fresh levels",
    "eval/return": "return on fresh levels",
    "rollout/ep_len_mean": "steps an episode",
}
"""The metrics that a page has curves of, where runs have logged them; the first is the criterion's."""
MOST_RUNS = 200
MOST_FILMS = 8
"""The most films of a page: one of each group."""


def report(
    runs: Sequence[str | Path],
    to: str | Path | None = None,
    *,
    metric: str | None = None,
    criterion: float | None = None,
    unfinished: bool = False,
    videos: bool = True,
    png: str | Path | None = None,
    csv_to: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Write a page with runs side by side: those that differ in their seeds alone are one curve with an interval.

    Args:
        runs: Run folders, all on one environment.
        to: The file to write; ``report.html`` here, if left out.
        metric: What the criterion is about; ``rollout/success_rate`` where runs have it, else ``rollout/ep_rew_mean``.
        criterion: The value to be reached; if left out, the runs' ``stop_success``, else 0.9 for success and none for
            returns.
        unfinished: Show runs too that were stopped before their end.
        videos: Film an episode of one run of each group.
        png: Write the curves as a picture too.
        csv_to: Write the curves' figures as a table too: a row for each group and step.
        seed: Chooses the films' levels.

    Returns:
        The page.

    Raises:
        ConfigError: Runs are of different environments, a run was not finished or has no metrics, or a metric is
            unknown.
        CheckpointError: A run is damaged.
    """
    path = Path(to) if to is not None else Path("report.html")
    for place in (path, png, csv_to):
        if place is not None and (Path(place).is_dir() or not Path(place).parent.is_dir()):
            raise ConfigError(f"{place} must be a file in a folder that exists")
    if png is not None and Path(png).suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{png} must end in .png, .pdf or .svg")
    folders = [Path(run) for run in runs]
    courses = gather(folders, unfinished)
    groups = curves.grouped(courses)
    chosen = choose(courses, metric)
    goal = criterion if criterion is not None else _goal(courses, chosen)
    films = _films(folders, courses, groups, seed) if videos else []
    write(path, page(groups, chosen, goal, films))
    if png is not None:
        picture(groups, chosen, goal, Path(png))
    if csv_to is not None:
        write(Path(csv_to), as_csv(groups))
    return path


def gather(folders: Sequence[Path], unfinished: bool = False) -> list[Course]:
    """Read the runs.

    Raises:
        ConfigError: They cannot be side by side; the message names the run.
        CheckpointError: A run is damaged.
    """
    if not folders:
        raise ConfigError("a report needs a run folder at least: cairn report runs/a runs/b")
    if len(folders) > MOST_RUNS:
        raise ConfigError(f"{len(folders)} runs are too many for a page; at most {MOST_RUNS}")
    twice = {str(f) for f in folders if [g.resolve() for g in folders].count(f.resolve()) > 1}
    if twice:
        raise ConfigError(f"{', '.join(sorted(twice))}: the same run twice would make its interval too small")
    found: list[Course] = []
    for folder in folders:
        run = Run.open(folder)
        if is_search(run.config):
            raise ConfigError(f"{folder} is a search, which has an archive and no learning curve: leave it out")
        config = from_json(run.config.get("train"))
        rows = run.metrics()
        if not rows:
            raise ConfigError(
                f"{folder} has no metrics yet: it was stopped before its first update, or is just beginning"
            )
        one = curves.course(folder.resolve().name, to_json(config), rows)
        other = found[0].settings["env"] if found else config.env
        if config.env != other:
            raise ConfigError(
                f"{folders[0]} is on {other} and {folder} on {config.env}: runs of different environments have no "
                "common curve; make a report for each"
            )
        if not unfinished and not _finished(run, one):
            raise ConfigError(
                f"{folder} stopped at {int(one.steps[-1]):,} of {config.steps:,} steps: go on with it by cairn resume "
                f"{folder}, or show it as it is with --unfinished"
            )
        found.append(one)
    return found


def _finished(run: Run, one: Course) -> bool:
    goal = one.settings["stop_success"]
    success = one.columns.get("eval/success")
    if goal is not None and success is not None and bool((np.nan_to_num(success) >= goal).any()):
        return True
    # A last row may be missing where agents log now and then; the checkpoint then says how far the run came.
    if one.steps[-1] >= one.settings["steps"]:
        return True
    saved = run.latest()
    return saved is not None and saved[0] >= one.settings["steps"]


def choose(courses: Sequence[Course], metric: str | None) -> str:
    """The metric of the criterion.

    Raises:
        ConfigError: No run has it.
    """
    have = sorted({name for one in courses for name in one.columns})
    if metric is None:
        return next((name for name in METRICS if any(name in one.columns for one in courses)), have[0])
    if metric not in have:
        raise ConfigError(f"no run has logged {metric!r}; they have {', '.join(have)}")
    return metric


def _goal(courses: Sequence[Course], metric: str) -> float | None:
    goals = {one.settings["stop_success"] for one in courses} - {None}
    if "success" not in metric:
        return None
    return float(goals.pop()) if len(goals) == 1 else 0.9


def _films(
    folders: Sequence[Path], courses: Sequence[Course], groups: Sequence[Group], seed: int
) -> list[dict[str, Any]]:
    """An episode of the first run of each group, on the same level for all."""
    films = []
    for group in groups[:MOST_FILMS]:
        one = group.runs[0]
        folder = folders[next(i for i, course in enumerate(courses) if course is one)]
        made: dict[str, Any] = {"group": group.name, "run": one.name, "film": None, "steps": 0, "note": ""}
        try:
            subject = of_run(folder, None, False)
            env = subject.make(1, True)
            every = 1
            if env.max_steps:
                every = max(1, env.max_steps // (SLOW if is_slow(env) else 4 * FRAMES))
            life = live(subject.actor(env), env, seed, STEPS, every)
            env.close()
            paid = float(life.x.reward[life.x.valid].sum())
            made |= {"film": film(life.frames), "steps": int(life.x.valid.sum()), "note": f"The task paid {paid:.4g}."}
        except (ConfigError, ValueError, ImportError, RuntimeError) as error:
            made["note"] = f"No film: {' '.join(str(error).split())}"
        films.append(made)
    return films


# ---- the page ------------------------------------------------------------------------------------------


def page(groups: Sequence[Group], metric: str, goal: float | None, films: Sequence[dict[str, Any]]) -> str:
    """The page's text."""
    env = groups[0].runs[0].settings["env"]
    count = sum(len(group.runs) for group in groups)
    title = f"{count} run{'s' * (count > 1)} on {env}"
    body = f"""<a class="skip" href="#curves">Skip to the curves</a>
<header><p class="kicker">Runs side by side</p><h1>{safe(title)}</h1>
<p>{len(groups)} group{"s" * (len(groups) > 1)}; the runs of a group differ in their seeds alone. Curves are the
interquartile mean over seeds, bands its 95 % bootstrap interval.</p></header>
<main>
<section aria-labelledby="h-curves" id="curves"><h2 id="h-curves">Learning curves</h2><div id="chart"></div></section>
{_section("goal", _criterion(metric, goal), _speed(groups, metric, goal))}
{_section("settings", "Settings that differ", _settings(groups))}
{_section("runs", "Runs", _runs(groups, metric, goal))}
{_stages(films)}
</main>
<footer>Seconds are those that training took where each run was made, stops left out: they compare on like machines.
</footer>"""
    return document(title, body, _data(groups, metric, goal, films), ["report.js"])


def _section(key: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="h-{key}"><h2 id="h-{key}">{safe(title)}</h2>{body}</section>'


def _criterion(metric: str, goal: float | None) -> str:
    name = METRICS.get(metric, metric)
    return f"At the end: {name}" if goal is None else f"To {goal:g} {name}"


def _speed(groups: Sequence[Group], metric: str, goal: float | None) -> str:
    rows = []
    for group in groups:
        lines = [values for run in group.runs if len(values := curves.known(run, metric)[1])]
        last = [float(values[-1]) for values in lines]
        row = [safe(group.name), str(len(group.runs)), _spread(last, "{:.3g}")]
        if goal is not None:
            there = [curves.reached(run, metric, goal) for run in group.runs]
            row.append(f"{sum(at is not None for at in there)} of {len(there)}")
            for part, form in enumerate(("{:,.0f}", "{:,.1f}")):
                row.append(_spread([float("inf") if at is None else at[part] for at in there], form))
        rows.append(row)
    head = ["group", "seeds", "at the end"] + (["reached it", "steps", "seconds"] if goal is not None else [])
    held = "" if metric.startswith("eval/") else f" and stayed there for {curves.HOLD} more rows of its log"
    note = "" if goal is None else f"<p>Where a run first reached it{held}. A seed that never did counts as ∞.</p>"
    return note + table(head, rows, "IQM over seeds [95 % interval]")


def _spread(values: Sequence[float], form: str) -> str:
    def told(value: float) -> str:
        return form.format(value) if np.isfinite(value) else "∞"

    if not values:
        return "–"
    if len(values) == 1:
        return told(values[0])
    low, high = interval(values)
    return f"{told(iqm(values))} [{told(low)}, {told(high)}]"


def _settings(groups: Sequence[Group]) -> str:
    differing = curves.differences(groups)
    if not differing:
        return "<p>None: all runs are one group.</p>"
    head = ["setting", *(f"group {i + 1}" for i in range(len(groups)))]
    rows = [
        [f"<code>{safe(name)}</code>", *(f"<code>{safe(curves.shown(v))}</code>" for v in values)]
        for name, values in differing.items()
    ]
    names = "".join(f"<li>{safe(group.name)}</li>" for group in groups)
    return f"<ol>{names}</ol>" + table(head, rows, "Settings by group", numbers=False)


def _runs(groups: Sequence[Group], metric: str, goal: float | None) -> str:
    rows = []
    for i, group in enumerate(groups):
        for run in group.runs:
            values = curves.known(run, metric)[1]
            at = None if goal is None else curves.reached(run, metric, goal)
            rows.append(
                [
                    f"<code>{safe(run.name)}</code>", str(i + 1), str(run.seed), f"{run.steps[-1]:,.0f}",
                    f"{run.seconds[-1]:,.1f}", f"{values[-1]:.4g}" if len(values) else "–",
                    "–" if at is None else f"{at[0]:,.0f}", "–" if at is None else f"{at[1]:,.1f}",
                ]
            )  # fmt: skip
    head = ["run", "group", "seed", "steps", "seconds", "at the end", "steps to it", "seconds to it"]
    return table(head, rows, "Each run")


def _stages(films: Sequence[dict[str, Any]]) -> str:
    if not films:
        return ""
    cards = "".join(
        f"""<figure class="video"><figcaption><h3>{safe(made["group"])}</h3>
<p class="note"><code>{safe(made["run"])}</code>, {made["steps"]} steps. {safe(made["note"])}</p></figcaption>
<canvas id="screen-{i}" role="img" aria-label="picture of the episode"></canvas>
<div class="controls" id="controls-{i}"></div></figure>"""
        for i, made in enumerate(films)
    )
    return _section("films", "The agents, on one level", f'<div class="cards">{cards}</div>')


def _data(groups: Sequence[Group], metric: str, goal: float | None, films: Sequence[dict[str, Any]]) -> dict[str, Any]:
    have = {name for group in groups for run in group.runs for name in run.columns}
    names = [metric, *(name for name in METRICS if name in have and name != metric)]
    names += sorted(name for name in have if name.startswith("reward/") and name.count("/") == 1)
    charts = []
    for name in names:
        lines: list[dict[str, Any]] = []
        for group in groups:
            found = curves.band(group, name)
            seeds = [_thinned(*curves.known(run, name)) for run in group.runs] if len(group.runs) > 1 else []
            if found is None:
                lines.append({"points": [], "band": [], "seeds": []})
                continue
            steps = [short(v) for v in found.steps.tolist()]
            band = zip(steps, found.low.tolist(), found.high.tolist()) if len(group.runs) > 1 else ()
            lines.append(
                {
                    "points": [[s, short(v)] for s, v in zip(steps, found.middle.tolist())],
                    "band": [[s, short(low), short(high)] for s, low, high in band],
                    "seeds": seeds,
                }
            )
        is_share = "success" in name
        charts.append({"metric": name, "label": METRICS.get(name, name), "share": is_share, "lines": lines})
    return {
        "groups": [group.name for group in groups],
        "charts": charts,
        "goal": goal,
        "films": [{"film": made["film"], "steps": made["steps"]} for made in films],
    }


def _thinned(steps: curves.Array, values: curves.Array, most: int = 400) -> list[list[float]]:
    """At most so many points of a line."""
    pick = np.unique(np.linspace(0, max(len(steps) - 1, 0), min(len(steps), most)).round().astype(int))
    return [[short(float(steps[i])), short(float(values[i]))] for i in pick]


# ---- for papers ----------------------------------------------------------------------------------------

PALETTE = ("#0072b2", "#d55e00", "#007a5a", "#a8477f", "#7a6400", "#5b4bb5")
DASHES: tuple[Any, ...] = ("-", (0, (7, 3)), (0, (2, 3)), (0, (9, 3, 2, 3)), (0, (5, 2)), (0, (2, 2, 6, 2)))


def picture(groups: Sequence[Group], metric: str, goal: float | None, path: Path) -> None:
    """The curves of one metric as a picture, in the page's colours and dashes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(6.4, 4.0), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, group in enumerate(groups):
        found = curves.band(group, metric)
        if found is None:
            continue
        colour = PALETTE[i % len(PALETTE)]
        label = f"{group.name} ({len(group.runs)} seed{'s' * (len(group.runs) > 1)})".replace("$", r"\$")
        axes.plot(found.steps, found.middle, color=colour, ls=DASHES[i % len(DASHES)], lw=1.8, label=label)
        if len(group.runs) > 1:
            axes.fill_between(found.steps, found.low, found.high, color=colour, alpha=0.18, lw=0)
    if goal is not None:
        axes.axhline(goal, color="grey", ls=":", lw=1)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(METRICS.get(metric, metric))
    axes.set_title(groups[0].runs[0].settings["env"].replace("$", r"\$"), fontsize=11)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    figure.savefig(path)


def as_csv(groups: Sequence[Group]) -> str:
    """All curves as a table: group, metric, steps, IQM, interval, seeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", "metric", "steps", "iqm", "low", "high", "seeds"])
    for group in groups:
        for metric in sorted({name for run in group.runs for name in run.columns}):
            found = curves.band(group, metric) if not metric.startswith("time/") else None
            if found is None:
                continue
            seeds = sum(len(curves.known(run, metric)[0]) > 0 for run in group.runs)
            for step, *rest in zip(*(a.tolist() for a in (found.steps, found.middle, found.low, found.high))):
                writer.writerow([_cell(group.name), metric, round(step), *(f"{v:.6g}" for v in rest), seeds])
    return out.getvalue()


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in "=+-@\t\r" else text
