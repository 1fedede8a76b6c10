"""Designer, critic and analyser without a model: they read the prompt, and edit only what it tells them.

They exist for tests and for curves of what the search itself is worth: a reflection can help no designer that does not
read it, so the same edits made blindly are the baseline. They say nothing about what a language model can do.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

_PROGRAM = re.compile(r"```python\n(.*?)\n```", re.DOTALL)
_SECTION = re.compile(
    r"^(?=The best program so far:|Tried after it, and worse|Rejected before training:|Attempt \d+:)", re.MULTILINE
)
_PART = re.compile(r"^    (\w+) = (-?[\d.e-]+) \* \((.*)\)$", re.MULTILINE)
_INPUT = re.compile(r"^    next_(\w+): (int64|float32|bool)\[B((?:, \d+)*)\]", re.MULTILINE)
_MISREAD = re.compile(r"\[misread\] line \d+: ([^=]+) == (-?\d+) is never true; .*? is (.*)")
_NAMED = re.compile(r"\[(constant|flooding|against|dominant)\] the part '(\w+)'")
_SEEN = re.compile(r"(-?\d+) \(")
_LOST = "where(terminated & ~next_success, -1.0, 0.0)"
LEFT_OUT = ("success", "steps", "mission_id", "hash", "events", "cells")


@dataclass(frozen=True)
class Part:
    """``name = weight * (expression)``; a test pays while it holds, or, as a change, when it becomes true."""

    name: str
    weight: float
    value: str  # an expression over next_ inputs, with {} where the number of a test stands
    number: int | None = None
    change: bool = False

    @property
    def expression(self) -> str:
        """What stands in the program."""
        after = self.value if self.number is None else self.value.replace("{}", str(self.number))
        return f"{after} - {after.replace('next_', '')}" if self.change else after


@dataclass
class Designer:
    """Writes programs as sums of parts.

    Args:
        seed: Of the drafts and the choices.
        blind: Edit at random, with the same edits, whatever the prompt says.
        mistakes: Whether first drafts are as bad as one-shot rewards often are: tests for values that never come,
            states paid for as long as they last, pay for every step.
        first: The first draft; empty for one from the inputs.
    """

    seed: int = 0
    blind: bool = False
    mistakes: bool = True
    first: tuple[Part, ...] = ()
    asked: list[str] = field(default_factory=list)

    def propose(self, prompt: str, n: int) -> list[str]:
        """As a ``Designer`` does."""
        self.asked.append(prompt)
        draw = random.Random(f"{self.seed} {prompt}")  # not by the number of calls: a resumed search asks fewer
        signs = "'sparse' and 'dense'" in prompt
        sections = [s for s in _SECTION.split(prompt)[1:] if _PROGRAM.search(s)]
        best = [s for s in sections if not s.startswith(("Rejected", "Tried"))]
        answers = []
        for k in range(n):
            if not sections:
                answers.append(written(list(self.first) or self._draft(prompt, draw), signs))
                continue
            # The best program, or else one of those that were rejected; and what was said of it alone.
            section = best[-1] if best else sections[k % len(sections)]
            program = _PROGRAM.search(section)
            assert program is not None
            parts = self._read(program.group(1))
            parts = self._blindly(parts, draw) if self.blind else self._told(parts, section, draw, k)
            answers.append(written(parts, signs))
        return answers

    def _draft(self, prompt: str, draw: random.Random) -> list[Part]:
        parts = []
        for name, kind, sizes in _INPUT.findall(prompt):
            shape = [int(s) for s in sizes.replace(" ", "").split(",") if s]
            if name in LEFT_OUT or name.startswith("obs") or len(shape) > 1:
                continue
            if kind == "float32":
                at = f"[:, {draw.randrange(shape[0])}]" if shape else ""
                sign = draw.choice([1.0, -1.0])
                parts.append(Part(f"{name}_moves", sign, f"next_{name}{at}", change=not self.mistakes))
            elif kind == "int64" and name not in ("position", "direction"):
                test = (
                    f"any(next_{name} == {{}}, dim=-1)" if len(shape) and shape[0] > 4 else f"next_{name}[:, 0] == {{}}"
                )
                value = f"where({test if shape else f'next_{name} == {{}}'}, 1.0, 0.0)"
                parts.append(Part(f"{name}_is", 0.3, value, draw.randrange(3, 10), change=not self.mistakes))
        if self.mistakes:
            parts.append(Part("alive", 0.05, "where(next_success, 1.0, 1.0)"))
        elif any(name == "position" for name, _, _ in _INPUT.findall(prompt)):
            parts = [Part("goes", 0.1, "sum(next_position, dim=-1)", change=True)]
        return parts

    def _read(self, program: str) -> list[Part]:
        parts = []
        for name, weight, expression in _PART.findall(program):
            change = expression.count("next_") == 1 and " - " in expression and "next_success" not in expression
            value = expression.partition(" - ")[0] if change else expression
            number = re.search(r"== (-?\d+)", value)
            value = re.sub(r"== (-?\d+)", "== {}", value, count=1)
            parts.append(Part(name, float(weight), value, int(number.group(1)) if number else None, change))
        return parts

    def _told(self, parts: list[Part], prompt: str, draw: random.Random, k: int) -> list[Part]:
        """Every remark gets an edit that it asks for; samples differ where it leaves a choice."""
        for said, wrong, seen in _MISREAD.findall(prompt):
            values = [int(v) for v in _SEEN.findall(seen) if int(v) != int(wrong)]
            name = said.partition("[")[0]
            if values:
                # The commonest value is how things are anyway; the samples try the others in turn.
                number = (values[1:] or values)[(k + draw.randrange(2)) % max(1, len(values) - 1)]
                parts = [replace(p, number=number) if name in p.value and p.number == int(wrong) else p for p in parts]
        for kind, name in _NAMED.findall(prompt):
            # Combined by signs, what is said of the sparse or of the dense part is said of what is summed in it.
            meant = {"sparse": lambda p: p.value == _LOST, "dense": lambda p: p.value != _LOST}.get(name)
            for p in [p for p in parts if (p.name == name if meant is None else meant(p))]:
                parts = self._mended(parts, p, kind, draw)
        if ("advice:" in prompt or "analyst's advice" in prompt) and "without success" in prompt:
            if not any(p.value == _LOST for p in parts):
                parts = [*parts, Part("lost", 1.0, _LOST)]
        return parts

    def _mended(self, parts: list[Part], p: Part, kind: str, draw: random.Random) -> list[Part]:
        rest = [q for q in parts if q.name != p.name]
        at = parts.index(p)
        if kind == "constant" and (p.change or "{}" not in p.value):
            return rest or parts
        if kind == "flooding":
            if "next_success" in p.value:
                return rest or parts
            # "Pay for a change instead, or much less": the one that is left to do.
            milder = replace(p, weight=p.weight * 0.1) if p.change else replace(p, change=True)
            return [*parts[:at], milder, *parts[at + 1 :]]
        if kind == "against":
            return [*parts[:at], replace(p, weight=-p.weight), *parts[at + 1 :]]
        if kind == "dominant":
            return [*parts[:at], replace(p, weight=p.weight * 0.1), *parts[at + 1 :]]
        return parts

    def _blindly(self, parts: list[Part], draw: random.Random) -> list[Part]:
        """The same edits, of a part and to a value drawn at random."""
        at = draw.randrange(len(parts))
        p, edit = parts[at], draw.choice(["number", "change", "drop", "flip", "scale"])
        if edit == "drop" and len(parts) > 1:
            return [*parts[:at], *parts[at + 1 :]]
        if edit == "number" and p.number is not None:
            p = replace(p, number=draw.randrange(-1, 10))
        elif edit == "change" and "next_success" not in p.value:
            p = replace(p, change=not p.change)
        elif edit == "flip":
            p = replace(p, weight=-p.weight)
        else:
            p = replace(p, weight=p.weight * draw.choice([0.1, 3.0]))
        return [*parts[:at], p, *parts[at + 1 :]]


def written(parts: list[Part], signs: bool = False) -> str:
    """An answer with the program of some parts."""
    names = sorted({n for p in parts for n in re.findall(r"[a-z_]+", p.expression) if n not in _OPERATIONS})
    lines = [f"def reward({', '.join(names)}):"]
    lines += [f"    {p.name} = {p.weight!r} * ({p.expression})" for p in parts]
    if signs:
        sparse = [p.name for p in parts if p.value == _LOST]
        dense = [p.name for p in parts if p.value != _LOST]
        zero = f"0.0 * {parts[0].name}"
        lines += [
            f"    sparse_of_all = {' + '.join(sparse) or zero}",
            f"    dense_of_all = {' + '.join(dense) or zero}",
        ]
        shown = '{"sparse": sparse_of_all, "dense": dense_of_all}'
        lines.append(f"    return sparse_of_all + 0.1 * dense_of_all, {shown}")
    else:
        shown = ", ".join(f'"{p.name}": {p.name}' for p in parts)
        lines.append(f"    return {' + '.join(p.name for p in parts)}, {{{shown}}}")
    return "The parts are summed.\n\n```python\n" + "\n".join(lines) + "\n```\n"


_OPERATIONS = {"where", "any", "sum", "dim"}


class Critic:
    """Rejects what findings on recorded episodes speak against, and nothing else."""

    def propose(self, prompt: str, n: int) -> list[str]:
        """As a ``Designer`` does."""
        said = prompt.partition("What was found on recorded episodes:")[2]
        faults = re.findall(r"^- (\[\w+\].*)$", said, re.MULTILINE)
        return ["REJECT\n" + "\n".join(faults) if faults else "ACCEPT"] * n


CAUSES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("it ended without success (stepped into lava)", lambda e: "it ended by itself" in e),
    ("it hardly moved", lambda e: _positions(e) <= 3),
    ("it went round in circles", lambda e: _positions(e) <= 12),
    ("it ran out of time on the way", lambda e: True),
)


NAMED = {
    "lava": "it ended without success (walked into lava)",
    "zombie": "it ended without success (a zombie struck it)",
    "arrow": "it ended without success (an arrow hit it)",
    "neglect": "it ended without success (a need had run out: food, drink or energy)",
}
"""What a player of Crafter dies of."""


def _ahead(episode: str, name: str, last: int = 1) -> list[int]:
    """The values of a fact in the last lines that tell it."""
    return [int(value) for value in re.findall(rf"[ ;]{name} (-?\d+)", episode)][-last:]


def _struck(episode: str) -> bool:
    """Whether the last health went at once by two or more, as no need takes it."""
    health = _ahead(episode, "health", 2)
    return len(health) == 2 and health[0] - health[1] >= 2


def _shot(episode: str) -> bool:
    """Whether an arrow flew beside the player just before the end."""
    lines = "\n".join(episode.splitlines()[-3:])
    return min([*_ahead(lines, "to_arrow", 3), 9]) <= 2


DEATHS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (NAMED["lava"], lambda e: "it ended by itself" in e and _ahead(e, "to_lava") == [0]),
    (NAMED["arrow"], lambda e: "it ended by itself" in e and _shot(e) and _ahead(e, "to_zombie") != [1]),
    (NAMED["zombie"], lambda e: "it ended by itself" in e and _ahead(e, "to_zombie") == [1] and _struck(e)),
    (
        NAMED["neglect"],
        lambda e: "it ended by itself" in e and 0 in [n for k in ("food", "drink", "energy") for n in _ahead(e, k)],
    ),
    (NAMED["zombie"], lambda e: "it ended by itself" in e and _ahead(e, "to_zombie") == [1]),
    (NAMED["arrow"], lambda e: "it ended by itself" in e),
    *CAUSES[1:],
)


@dataclass
class Analyser:
    """Names the first cause that an episode's text bears out.

    Args:
        causes: Each with how to tell it.
    """

    causes: tuple[tuple[str, Callable[[str], bool]], ...] = CAUSES

    def propose(self, prompt: str, n: int) -> list[str]:
        """As a ``Designer`` does."""
        episodes = re.split(r"^Episode (\d+): ", prompt, flags=re.MULTILINE)[1:]
        lines, causes = [], []
        for number, text in zip(episodes[::2], episodes[1::2]):
            causes.append(next(cause for cause, holds in self.causes if holds(text)))
            lines.append(f"episode {number}: {causes[-1]}")
        most = max(causes, key=causes.count) if causes else "nothing"
        return ["\n".join([*lines, f"advice: mostly {most}; do something about it"])] * n


def _positions(episode: str) -> int:
    match = re.search(r"(\d+) different positions", episode)
    return int(match.group(1)) if match else 10**9
