"""The report: one HTML page of every candidate, its program, its score and why it went."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

from .candidate import OUTCOMES, Candidate
from .course import thinned

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}
pre{background:#f6f6f4;padding:.8em;overflow-x:auto;font-size:13px}details{margin:.6em 0}
summary{cursor:pointer}.best{background:#eef6ea}.why{color:#8a3b12}svg{vertical-align:middle}"""


def write_page(path: str | Path, env: str, task: str, candidates: Sequence[Candidate], best: Candidate | None) -> None:
    """Write the page anew, whole or not at all.

    Everything in it that a model said is escaped, there is no script in it, and browsers are told to run none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(page(env, task, candidates, best), encoding="utf-8")
    os.replace(aside, path)


def page(env: str, task: str, candidates: Sequence[Candidate], best: Candidate | None) -> str:
    """The page's text."""
    counts = {o: sum(c.outcome == o for c in candidates) for o in OUTCOMES}
    summary = "".join(f"<tr><td>{n}</td><td>{_safe(OUTCOMES[o])}</td></tr>" for o, n in counts.items() if n)
    rows = "".join(_row(c, c is best or (best is not None and c.name == best.name)) for c in candidates)
    body = "".join(_details(c) for c in candidates)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Rewards for {_safe(env)}</title><style>{_STYLE}</style></head><body>
<h1>Rewards for {_safe(env)}</h1><p>{_safe(task)}</p>
<p>{len(candidates)} candidates; best: {_safe(best.name) if best else "none"}.</p><table>{summary}</table>
<h2>Candidates</h2>
<table><tr><th>name</th><th>from</th><th>score</th><th>gate</th><th>outcome</th></tr>{rows}</table>
<h2>Programs</h2>{body}</body></html>
"""


def _row(c: Candidate, best: bool) -> str:
    rank = "" if c.gate is None or c.gate.rank is None else f"{c.gate.rank:.0%}"
    score = "" if c.trial is None or c.score == float("-inf") else c.trial.told
    cells = [f'<a href="#{_safe(c.name)}">{_safe(c.name)}</a>', _safe(c.parent), score, rank, _safe(c.outcome)]
    return f"<tr{' class=best' if best else ''}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _details(c: Candidate) -> str:
    parts = [f"<p class=why>{_safe(OUTCOMES[c.outcome])}</p>" if c.outcome != "trained" else ""]
    if c.why:
        parts.append(f"<pre class=why>{_safe(c.why)}</pre>")
    if c.program is not None:
        parts.append(f"<pre>{_safe(c.program)}</pre>")
    if c.gate is not None:
        parts.append(f"<p>{_safe(str(c.gate))}</p>".replace("\n", "<br>"))
    if c.findings:
        parts.append("<ul>" + "".join(f"<li>{_safe(str(f))}</li>" for f in c.findings) + "</ul>")
    if c.trial is not None:
        lines = "".join(
            f"<tr><td>{_safe(name)}</td><td>{_curve(values)}</td><td>{values[-1]:.4g}</td></tr>"
            for name, values in c.trial.course.items()
            if values
        )
        parts.append(f"<p>{c.trial.steps} steps, {c.trial.seconds:.1f} s</p><table>{lines}</table>")
    parts.append(f"<details><summary>the whole answer</summary><pre>{_safe(c.answer)}</pre></details>")
    opened = " open" if c.outcome == "trained" else ""
    return f'<details id="{_safe(c.name)}"{opened}><summary>{_safe(c.name)}</summary>{"".join(parts)}</details>'


def _curve(values: Sequence[float], width: int = 160, height: int = 28) -> str:
    shown = thinned(list(values), 40)
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    points = " ".join(
        f"{k * width / max(len(shown) - 1, 1):.1f},{height - 2 - (v - low) / span * (height - 4):.1f}"
        for k, v in enumerate(shown)
    )
    return (
        f'<svg width="{width}" height="{height}"><polyline points="{points}" fill="none" stroke="#356" '
        'stroke-width="1.5"/></svg>'
    )


def _safe(text: str) -> str:
    """Escaped, and without characters that HTML has none for."""
    return html.escape("".join(c for c in text[:40_000] if c in "\n\t" or c.isprintable()))
