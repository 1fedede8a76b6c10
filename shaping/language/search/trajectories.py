"""Episodes in few words: what an analyser reads, and what it says of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...stretch import Stretch
from .recorded import Recorded

STEPS = 12  # the last of an episode that are told
_WIDE = 8  # numbers of a fact; wider ones (a whole grid) are left out
_LINE = re.compile(r"^\W*(episode\s+\d+|cause|advice)\s*(?:cause\s*)?[:=]\s*(.+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Analysis:
    """What an analyser said.

    Attributes:
        causes: Of each episode that it names (by the number it was given, from 1), why it failed.
        advice: What the reward should do about it.
    """

    causes: dict[int, str]
    advice: str

    @property
    def unusable(self) -> bool:
        """Whether nothing of what was asked for could be read."""
        return not self.causes and not self.advice


def compact(rows: Stretch, steps: int = STEPS, leave_out: Sequence[str] = ("hash", "mission_id", "steps")) -> str:
    """One episode as text: how it ended, and the last steps with actions and the facts that changed.

    Args:
        rows: Its transitions ``[L]``, in order.
        steps: How many of the last are told.
        leave_out: Facts that say nothing to a reader.
    """
    length = len(rows.t)
    ended = bool(rows.terminated[-1])
    how = "it ended by itself" if ended else "it was cut off by the time limit"
    # By name: episodes that come from a file have their facts in another order, and must read the same.
    facts = {k: v for k, v in sorted(rows.next_facts.items()) if v[0].numel() <= _WIDE and k not in leave_out}
    lines = [f"{length} steps; {how}; the task paid {float(rows.reward.sum()):.4g}"]
    if rows.facts:
        cells = rows.next_facts.get("position")
        visited = 0 if cells is None else len(set(map(tuple, cells.tolist())))
        start = "; ".join(f"{k} {_said(rows.facts[k][0])}" for k in facts if k in rows.facts)
        lines.append(f"at the start: {start}" + (f"; {visited} different positions in all" if visited else ""))
    first = max(0, length - steps)
    if first:
        lines.append(f"... {first} steps ...")
    for t in range(first, length):
        action = _said(rows.action[t]) if isinstance(rows.action, Tensor) else "?"
        changed = [
            f"{k} {_said(v[t])}"
            for k, v in facts.items()
            if k not in rows.facts or not torch.equal(v[t], rows.facts[k][t]) or t == length - 1
        ]
        lines.append(f"step {int(rows.t[t])}: action {action}" + (f" -> {'; '.join(changed)}" if changed else ""))
    return "\n".join(lines)


def failures(recorded: Recorded, most: int = 6) -> list[int]:
    """Episodes that failed, spread over all that did; where success is not told, those with the least return."""
    if recorded.knows_success:
        failed = (~recorded.success).nonzero()[:, 0]
    else:
        failed = recorded.returns.argsort(stable=True)[: max(1, len(recorded) // 2)].sort().values
    if len(failed) > most:
        failed = failed[torch.linspace(0, len(failed) - 1, most).long()]
    return failed.tolist()


def read_analysis(answer: str) -> Analysis:
    """Find ``episode 3: cause`` and ``advice: ...`` lines; what is not of this form is passed over."""
    causes: dict[int, str] = {}
    advice = []
    for line in answer[:20_000].splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        what, said = match.group(1).lower(), match.group(2).strip()[:500]
        if what == "advice":
            advice.append(said)
        elif what == "cause":
            causes.setdefault(1, said)
        else:
            causes.setdefault(int(what.split()[1]), said)
    return Analysis(causes, " ".join(advice))


def _said(value: Tensor) -> str:
    numbers = value.flatten().tolist()
    shown = [f"{n:.3g}" if isinstance(n, float) else str(int(n)) for n in numbers]
    return shown[0] if value.ndim == 0 else f"({', '.join(shown)})"
