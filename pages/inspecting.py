"""``cairn inspect``: one page on what a reward pays, when, where, and which known faults it has."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.config import ConfigError
from ..runs import Run
from ..shaping.reward import Reward
from ..shaping.schedules import Schedule
from .document import document, safe, table, write
from .film import film
from .flags import TITLES, Flag
from .judging import role_of
from .maps import short
from .seeing import Seen, look
from .subjects import Subject, of_expression, of_run

RAW = "task, unshaped"
"""The name of the environment's own reward, where no term is just that."""


def inspect(
    what: str | Path | Any,
    env: str | None = None,
    to: str | Path | None = None,
    *,
    episodes: int = 16,
    seed: int = 0,
    actor: str = "random",
    gamma: float | None = None,
    deterministic: bool = False,
    env_args: Mapping[str, Any] | None = None,
    reward: Any = None,
) -> Path:
    """Write a page on what a reward pays: of a run's agent and reward, or of an expression in an environment.

    Args:
        what: A run folder; or an expression, as text or as a term.
        env: The environment's id, for an expression.
        to: The file to write; ``inspect.html`` in the run folder or here, if left out.
        episodes: How many episodes the sums and correlations are over.
        seed: Chooses levels and dice.
        actor: Who acts for an expression: ``random``, ``solver`` or ``scripted`` (as ``cairn collect`` has them), or a
            run folder.
        gamma: The discount, for an expression whose potentials do not have theirs; 0.99 if left out.
        deterministic: The run's agent takes the likeliest action each time.
        env_args: The environment's settings, for an expression.
        reward: The reward object, where the run's reward has no text.

    Returns:
        The page.

    Raises:
        ConfigError: There is no such run or environment, the expression does not parse, or a term reads what the
            environment does not give.
        CheckpointError: The run is damaged.
    """
    if not 1 <= episodes <= 1000:
        raise ConfigError(f"episodes is {episodes}; it is from 1 to 1000")
    folder = isinstance(what, str | Path) and Path(what).is_dir()
    if folder:
        if env is not None or env_args:
            raise ConfigError(f"{what} is a run, which has its environment: leave --env and --env-args out")
        subject = of_run(Path(what), reward, deterministic)
    else:
        if env is None:
            raise ConfigError(
                f"{what} is no run folder; to look at an expression, name an environment: "
                "cairn inspect 'task + 0.01*count' --env cairn/FourRooms-v0"
            )
        subject = of_expression(what, env, actor, gamma, dict(env_args or {}), deterministic)
    path = Path(to) if to is not None else (Path(what) if folder else Path()) / "inspect.html"
    if folder and to is None:
        path = Run.open(what).path("inspect.html")  # refuses a link in the run folder
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path} must be a file in a folder that exists")
    return write(path, page(subject, episodes, seed))


def page(subject: Subject, episodes: int, seed: int) -> str:
    """The page's text."""
    seen = look(subject, episodes, seed)
    reward = subject.reward
    rows = "".join(f"<div><dt>{safe(k)}</dt><dd>{safe(v)}</dd></div>" for k, v in subject.facts.items())
    body = f"""<a class="skip" href="#film">Skip to the episode</a>
<header><p class="kicker">What the reward pays</p><h1>{safe(subject.title)}</h1><dl class="facts">{rows}</dl></header>
<main>
<section aria-labelledby="h-flags"><h2 id="h-flags">Known faults</h2>{_flags(seen.flags)}</section>
{_stage(seen)}
<section aria-labelledby="h-totals"><h2 id="h-totals">Totals over {len(seen.episodes)} episodes</h2>
{_totals(reward, seen, subject.step)}</section>
{_correlations(seen)}
</main>
<footer>{safe(_scope(subject, seen))}</footer>"""
    return document(subject.title, body, _data(seen), ["heatmap.js", "inspect.js"])


def _flags(flags: Sequence[Flag]) -> str:
    mark = {"fault": ("✕", "Fault"), "clear": ("✓", "Clear"), "unjudged": ("?", "Not judged")}
    items = []
    for flag in flags:
        sign, word = mark[flag.verdict]
        what = f"<strong>{word}: {safe(TITLES[flag.name].lower())}</strong> <code>{safe(flag.term)}</code>"
        items.append(
            f'<li class="{flag.verdict}"><span class="sign" aria-hidden="true">{sign}</span>'
            f'<div><p class="what">{what}</p><p>{safe(flag.what)}</p></div></li>'
        )
    return f'<ul class="flags">{"".join(items)}</ul>'


def _stage(seen: Seen) -> str:
    """The episode: its video, its plot, its map."""
    end = "was cut" if seen.shown.cut else ("ended" if seen.shown.terminated else "ran out of time")
    if seen.shown.success is not None and not seen.shown.cut:
        end += " in success" if seen.shown.success else " without success"
    frames = "" if seen.pictures == "" else f'<p class="note">No pictures: {safe(seen.pictures)}</p>'
    mission = f"<p>Mission: <q>{safe(seen.mission)}</q></p>" if seen.mission else ""
    return f"""<section aria-labelledby="h-film" id="film"><h2 id="h-film">One episode</h2>{mission}
<p>{seen.shown.steps} steps; it {end}. The task paid {seen.shown.task.sum():.4g}.</p>
<div class="stage">
<figure class="video"><canvas id="screen" role="img" aria-label="picture of the episode"></canvas>{frames}</figure>
<figure class="plot"><div id="plot"></div></figure>
</div>
<div class="controls" id="controls"></div>
<div id="readout" class="scroll" tabindex="0" role="region" aria-label="Paid in this step"></div>
</section>
<section aria-labelledby="h-map" id="map-section" hidden><h2 id="h-map">Where terms pay</h2>
<div id="map"></div></section>"""


def _totals(reward: Reward, seen: Seen, step: int) -> str:
    sums = np.array([ep.shares.sum(0) for ep in seen.episodes])
    sizes = np.array([np.abs(ep.shares).sum(0) for ep in seen.episodes]).sum(0)
    steps = sum(ep.steps for ep in seen.episodes)
    rows = []
    for k, summand in enumerate(reward.summands):
        weight = summand.weight
        told = f"{weight(step):.4g} now" if isinstance(weight, Schedule) else f"{weight:.4g}"
        rows.append(
            [
                f"<code>{safe(summand.name)}</code>", safe(role_of(summand)), safe(told),
                f"{sums[:, k].mean():.4g}", f"{sums[:, k].std():.3g}", f"{sums[:, k].sum() / steps:.3g}",
                f"{sizes[k] / sizes.sum():.1%}" if sizes.sum() else "–",
            ]
        )  # fmt: skip
    if not _has_task(seen):
        raw = np.array([ep.task.sum() for ep in seen.episodes])
        rows.append([safe(RAW), "", "", f"{raw.mean():.4g}", f"{raw.std():.3g}", f"{raw.sum() / steps:.3g}", ""])
    wins = [ep.success for ep in seen.episodes if ep.success is not None]
    note = f"<p>{sum(wins)} of {len(wins)} episodes succeeded. " if wins else "<p>"
    note += f"Their mean length is {steps / len(seen.episodes):.1f} steps.</p>"
    head = ["term", "role", "weight", "an episode", "deviation", "a step", "share of all that is paid"]
    return note + table(head, rows, "What each term pays")


def _correlations(seen: Seen) -> str:
    steps = np.concatenate([np.column_stack([ep.shares, ep.task]) for ep in seen.episodes])
    sums = np.array([[*ep.shares.sum(0), ep.task.sum()] for ep in seen.episodes])
    columns, parts = [*seen.names, RAW], []
    if _has_task(seen):  # the last column would be that of the task again
        columns, steps, sums = columns[:-1], steps[:, :-1], sums[:, :-1]
    for values, caption in ((steps, "Step by step"), (sums, f"Sums over {len(sums)} episodes")):
        matrix = correlations(values)
        rows = [
            [f"<code>{safe(name)}</code>", *("–" if v is None else f"{v:+.2f}" for v in row)]
            for name, row in zip(columns, matrix)
        ]
        parts.append(table(["", *columns], rows, caption))
    if len(columns) < 2:
        return ""
    note = "<p>A dash stands where a term was the same throughout.</p>"
    head = '<h2 id="h-corr">Correlations</h2>'
    return f'<section aria-labelledby="h-corr">{head}{note}{"".join(parts)}</section>'


def _has_task(seen: Seen) -> bool:
    """Whether a term pays just what the task does, so that the raw reward needs no line of its own."""
    return any(
        all(np.array_equal(ep.shares[:, k], ep.task) for ep in [seen.shown, *seen.episodes])
        for k in range(len(seen.names))
    )


def correlations(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float | None]]:
    """Pearson's correlations between the columns of ``[R, C]``; None where a column does not vary."""
    centred = values - values.mean(0)
    size = np.sqrt((centred**2).sum(0))
    varies = size > 1e-9 * np.maximum(np.abs(values).max(0, initial=0.0), 1e-12) * math.sqrt(max(len(values), 1))
    product = centred.T @ centred
    return [
        [
            float(np.clip(product[i, j] / (size[i] * size[j]), -1, 1)) if varies[i] and varies[j] else None
            for j in range(values.shape[1])
        ]
        for i in range(values.shape[1])
    ]


def _scope(subject: Subject, seen: Seen) -> str:
    loops = len(seen.episodes) + 1 + len(seen.wandering)
    told = (
        f"Flags are over {len(seen.episodes) + 1} episodes of the agent"
        + (f" and {len(seen.wandering)} of random actions" if seen.wandering else "")
        + f" ({loops} in all), with what was learned in training frozen."
    )
    return told + " A clear flag means that these episodes do not show the fault."


def _data(seen: Seen) -> dict[str, Any]:
    shown = seen.shown
    return {
        "names": seen.names,
        "raw": None if _has_task(seen) else RAW,
        "steps": shown.steps,
        "shares": [[short(v) for v in column] for column in shown.shares.T.tolist()],
        "task": [short(v) for v in shown.task.tolist()],
        "film": film(seen.life.frames) if seen.life.frames else None,
        "map": seen.map,
    }
