"""What ``cairn bench design_search`` and ``design_crafter`` tell of a search round by round."""

from collections.abc import Mapping, Sequence
from typing import Any

from cairn.benchmarks.tables import interval, iqm
from cairn.shaping.language.search import Trial
from cairn.shaping.language.search.workshop import best_of

Round = tuple[str, Trial | None, Trial | None]
"""What became of the round's last program, its agent, and the best agent until then."""


def rounds_of(found: Any, alone: Trial, rounds: int) -> dict[int, Round]:
    """Each round of a search by its number; 0 is the task's reward alone."""
    ends: dict[int, Round] = {0: ("trained", alone, alone)}
    for r in range(1, rounds + 1):
        until = [c for c in found.candidates if int(c.name[1 : c.name.index("a")]) <= r]
        last = [c for c in until if c.name.startswith(f"r{r}a")][-1:]
        best = best_of(until)
        outcome, trial = (last[0].outcome, last[0].trial) if last else ("none", None)
        ends[r] = outcome, trial, best.trial if best is not None else None
    return ends


def rounds_table(rows: Sequence[dict[str, str]], rounds: int, titles: Mapping[str, str]) -> str:
    """Each round's agents and the best until then, IQM over seeds with the interval, of columns by their titles."""
    names = [*titles, *(f"best_{name}" for name in titles)]
    shown_as = " | ".join(titles.values())
    lines = [
        f"| round | trained | {shown_as} | best so far: {shown_as} |",
        "|---|" + "---:|" * (1 + len(names)),
    ]
    for r in range(rounds + 1):
        mine, shown = [row for row in rows if row["round"] == str(r)], []
        for name in names:
            values = [float(row[name]) for row in mine if row[name]]
            low, high = interval(values) if values else (0.0, 0.0)
            shown.append(f"{iqm(values):.2f} ({low:.2f} to {high:.2f})" if values else "")
        trained = sum(row["outcome"] == "trained" for row in mine)
        lines.append(f"| {r or 'task alone'} | {trained} of {len(mine)} | {' | '.join(shown)} |")
    return "\n".join(lines)
