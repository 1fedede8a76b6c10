"""What is wrong with a candidate, found in recorded episodes and told in words that a designer can act on.

The two great failures of rewards written in one shot are flooding (shaping pays so much that the task does not matter)
and misread interfaces (a test for a value that never comes); see "When LLM Reward Design Fails" (2026), on MiniGrid.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ...programs.limits import ProgramError
from ...programs.nodes import Compare, Constant, Expr, Index, Name, Node, Slice
from ...programs.parser import parse
from .recorded import Recorded

KINDS = {
    "misread": "a test for a value that an input never has",
    "constant": "a part that is the same on every transition",
    "flooding": "a part that pays whatever happens, more for failing than for succeeding",
    "against": "a part that ranks worse episodes higher",
    "dominant": "a part beside which the others do not matter",
    "hacked": "the written reward rises in training, and the task's score does not",
}
STAYS = 10  # steps of an episode on which a part may pay; more is staying somewhere
SHOWN = 6  # values of an input that are listed


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: A key of ``KINDS``.
        part: The component meant; empty for the whole.
        text: In words.
    """

    kind: str
    part: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """One line for a prompt."""
        return f"[{self.kind}] {self.text}"


def diagnose(
    recorded: Recorded, value: Tensor, parts: Mapping[str, Tensor], text: str = "",
    inputs: Mapping[str, Tensor] | None = None, gamma: float = 0.99, bonus: float = 0.0,
) -> tuple[Finding, ...]:  # fmt: skip
    """Look for faults on recorded episodes.

    Args:
        recorded: The episodes.
        value: What the agent would be paid for each transition ``[B]``.
        parts: Each component ``[B]``.
        text: The program; its comparisons are tried against the inputs.
        inputs: What the program reads, by name, ``[B, ...]``.
        gamma: Discount of the returns.
        bonus: What the task itself pays at most in an episode, where the agent is paid that too; 0 for unknown.
    """
    found = list(misread(text, inputs or {}))
    found += _constant(parts)
    found += _flooding(recorded, value, parts, gamma, bonus)
    found += _dominant(parts)
    return tuple(found)


def _constant(parts: Mapping[str, Tensor]) -> Iterator[Finding]:
    for name, part in parts.items():
        if len(part) > 1 and bool((part == part[0]).all()):
            yield Finding(
                "constant", name,
                f"the part {name!r} is {float(part[0]):.4g} on all {len(part)} recorded transitions, so it teaches "
                "nothing: write it anew, or leave it out",
            )  # fmt: skip


def _flooding(
    recorded: Recorded, value: Tensor, parts: Mapping[str, Tensor], gamma: float, bonus: float
) -> Iterator[Finding]:
    score = recorded.score
    good = score > score.mean() if not recorded.knows_success else recorded.success
    bad = ~good
    if not bool(bad.any()):
        return
    on_bad = bad[recorded.x.episode]
    totals = recorded.total(value, gamma)
    for name, part in parts.items():
        total, often = recorded.total(part, gamma), float((part[on_bad] > 0).float().mean())
        fails, wins = float(total[bad].mean()), float(total[good].mean()) if bool(good.any()) else 0.0
        # The sum of a discounted potential is bounded by its ends; what pays on most steps grows with the episode.
        if often > 0.5 and fails > max(wins, 0.0) and not bool((part == 0).all()):
            yield Finding(
                "flooding", name,
                f"the part {name!r} pays on {often:.0%} of the steps of episodes that fail: {fails:.4g} in such an "
                f"episode against {wins:.4g} in one that succeeds. An agent does best to go on collecting it. Pay for "
                "a change instead (the value after the step minus the value before), or much less",
            )  # fmt: skip
            continue
        steps, most = recorded.total((part > 0).float()), recorded.total(part)
        at = int(torch.where(bad, most, -torch.inf).argmax())
        # What no failure collects more of than a success does, such as the way to the goal, keeps nobody from it.
        least = max(bonus, float(most[good].max())) if bool(good.any()) else bonus
        if 0 < bonus and least < float(most[at]) and float(steps[at]) > STAYS:
            yield Finding(
                "flooding", name,
                f"the part {name!r} paid {float(most[at]):.4g} in an episode that fails, on {int(steps[at])} of its "
                f"steps, and the task itself pays {bonus:.4g}. Pay for a change instead (the value after the step "
                "minus the value before), or much less",
            )  # fmt: skip
            continue
        if bool(good.any()) and wins < fails and often <= 0.5 and fails > 0:
            yield Finding(
                "against", name,
                f"the part {name!r} gives {fails:.4g} to an episode that fails and {wins:.4g} to one that succeeds: "
                "its sign or its condition is likely wrong",
            )  # fmt: skip
    if bool(good.any()) and float(totals[bad].mean()) >= float(totals[good].mean()):
        yield Finding(
            "flooding", "",
            f"in sum, failing pays {float(totals[bad].mean()):.4g} and succeeding {float(totals[good].mean()):.4g}: "
            "the reward must be worth most to an agent that does the task",
        )  # fmt: skip


def _dominant(parts: Mapping[str, Tensor]) -> Iterator[Finding]:
    sizes = {name: float(part.abs().mean()) for name, part in parts.items()}
    for name, size in sizes.items():
        rest = max((s for other, s in sizes.items() if other != name), default=0.0)
        if rest > 0 and size > 100 * rest:
            yield Finding(
                "dominant", name,
                f"the part {name!r} has a mean size of {size:.4g}, and the next largest {rest:.4g}: scale it down, or "
                "the others up",
            )  # fmt: skip


def misread(text: str, inputs: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Comparisons with a number that the input never equals, though it takes others.

    Args:
        text: A reward program.
        inputs: Recorded values ``[B, ...]`` by name.
    """
    try:
        module = parse(text) if text else None
    except ProgramError:
        return
    told = set()
    for node in _walk(module) if module is not None else ():
        if not (isinstance(node, Compare) and node.ops == ("==",) and len(node.values) == 2):
            continue
        for one, other in (node.values, node.values[::-1]):
            column = _column(one, inputs)
            if column is None or not isinstance(other, Constant) or other.value is None:
                continue
            said, seen = column
            if seen.is_floating_point() or bool((seen == other.value).any()) or (said, other.value) in told:
                continue
            told.add((said, other.value))
            line = text.count("\n", 0, node.at) + 1
            yield Finding(
                "misread", "",
                f"line {line}: {said} == {other.value} is never true; on {len(seen)} recorded transitions {said} "
                f"is {listed(seen)}",
            )  # fmt: skip


def listed(values: Tensor) -> str:
    """The values of a tensor of whole numbers, the most frequent first, with their shares."""
    found, counts = values.flatten().long().unique(return_counts=True)  # type: ignore[no-untyped-call]
    order = counts.argsort(descending=True, stable=True)[:SHOWN]
    text = ", ".join(f"{int(found[k])} ({float(counts[k]) / values.numel():.1%})" for k in order)
    return text + (", ..." if len(found) > SHOWN else "")


def hacked(course: Mapping[str, list[float]]) -> Finding | None:
    """Whether the sum of the written parts rose while the task's measure fell or stayed at 0."""
    task = course.get("success") or course.get("task return")
    parts = [values for name, values in course.items() if name not in ("success", "task return", "reward")]
    if not task or len(task) < 4 or not parts:
        return None
    half = len(task) // 2
    first = sum(sum(v[:half]) for v in parts) / half
    last = sum(sum(v[-half:]) for v in parts) / half
    # The first moment counts episodes that were short enough to end in it: it is no measure of the beginning.
    before, after = sum(task[1 : half + 1]) / half, sum(task[-half:]) / half
    solved = "success" in course and task[-1] >= 0.5
    if not solved and last > first + 0.1 * abs(first) + 1e-6 and after <= before:
        return Finding(
            "hacked", "",
            f"in training the written parts rose from {first:.4g} to {last:.4g} a step while the task's measure went "
            f"from {before:.4g} to {after:.4g}: the agent collects the reward without doing the task",
        )  # fmt: skip
    return None


def _walk(node: Any) -> Iterator[Node]:
    """Every node of a program."""
    if isinstance(node, Node):
        yield node
        for part in fields(node):
            yield from _walk(getattr(node, part.name))
    elif isinstance(node, tuple):
        for part in node:
            yield from _walk(part)


def _column(node: Expr, inputs: Mapping[str, Tensor]) -> tuple[str, Tensor] | None:
    """An input, or numbers of it picked by constants, with how the text says it."""
    if isinstance(node, Name) and node.word in inputs:
        return node.word, inputs[node.word]
    if not (isinstance(node, Index) and isinstance(node.value, Name) and node.value.word in inputs):
        return None
    value = inputs[node.value.word]
    index: list[Any] = []
    said: list[str] = []
    for item in node.items:
        if item is None:
            index, said = [*index, ...], [*said, "..."]
        elif isinstance(item, Slice) and item.start is item.stop is item.step is None:
            index, said = [*index, slice(None)], [*said, ":"]
        elif isinstance(item, Constant) and isinstance(item.value, int) and not isinstance(item.value, bool):
            index, said = [*index, item.value], [*said, str(item.value)]
        else:
            return None
    try:
        return f"{node.value.word}[{', '.join(said)}]", value[tuple(index)]
    except IndexError:
        return None


__all__ = ["KINDS", "Finding", "diagnose", "hacked", "listed", "misread"]
