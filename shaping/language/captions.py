"""What happened, in words: transitions as short sentences that a language model can judge.

A captioner turns experience into int64 codes, a batch at a time, and one code into text. Only codes that are new are
ever written out, so captions cost next to nothing while an agent trains.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import torch
from torch import Tensor

from ...envs.grid import layout as L
from ...envs.kinds import Tokens
from ..hashing import hash_rows
from ..stretch import Stretch
from ..term import World


class Captioner(Protocol):
    """Codes for batches, text for single codes. Equal codes have equal text."""

    def bind(self, world: World) -> None:
        """Learn the seat's spaces."""
        ...

    def codes(self, x: Stretch) -> Tensor:
        """The code of each flat row ``[B]``, int64; 0 where there is nothing to say."""
        ...

    def text(self, code: int, row: Stretch) -> str:
        """The caption of a code, given a row (a stretch ``[1]``) that has it."""
        ...


# Bits of a code: the event, type and colour of its object, of what is carried afterwards, and 1 + the mission's number.
_KIND, _COLOR, _HELD, _SHADE, _MISSION = 4, 8, 11, 15, 18
# The event that a caption tells where a step has several bits: the first of these.
_ORDER = (
    "goal", "lava", "unlocked", "unboxed", "opened", "closed", "picked", "dropped", "collided", "failed",
)  # fmt: skip
_SENTENCES = {
    "goal": "You reach the goal.", "lava": "You walk into lava.", "unlocked": "You unlock and open {it} with your key.",
    "unboxed": "You open a box and find {it}.", "opened": "You open {it}.", "closed": "You close {it}.",
    "picked": "You pick up {it}.", "dropped": "You put down {it}.", "collided": "You bump into something that moves.",
    "failed": "You do something that fails the task.",
}  # fmt: skip


def written(captions: Captioner, codes: list[int], rows: Stretch) -> list[str]:
    """The captions of codes, given a row that has each (``rows [B]``).

    A captioner's own ``texts``, of all of them at once, is called where it has one: to slice rows of many facts and
    observations one by one costs more than to write captions.
    """
    many = getattr(captions, "texts", None)
    if callable(many):
        told: list[str] = many(codes, rows)
        return told
    return [captions.text(code, rows[i : i + 1]) for i, code in enumerate(codes)]


class GridCaptions:
    """Captions of the grid engine's steps from their facts: event, its object, what is carried, and the mission.

    Most steps are plain walking: nothing is said of them, and nobody is asked.

    Args:
        mission: Whether the mission is part of the caption: what helps with one may be useless for another.
    """

    def __init__(self, mission: bool = True) -> None:
        self.mission = mission
        self.words: Tokens | None = None
        bits = [L.EVENT_NAMES.index(name) for name in _ORDER]
        # For each set of event bits the code of the first in order, 1 to 10; 0 for none.
        table = [
            next((i + 1 for i, bit in enumerate(bits) if events >> bit & 1), 0) for events in range(1 << len(bits))
        ]
        self._first = torch.tensor(table)

    def bind(self, world: World) -> None:
        """Find the mission in the observation."""
        space = world.observation_space
        if self.mission and isinstance(space, gym.spaces.Dict) and isinstance(space.spaces.get("mission"), Tokens):
            self.words = space["mission"]  # type: ignore[assignment]

    def codes(self, x: Stretch) -> Tensor:
        """The code of each flat row ``[B]``; the facts are those of the grid engine."""
        events = x.fact("events", of_next=True)
        code = self._first.to(events.device)[events.long() & (len(self._first) - 1)]
        rows = code.nonzero()[:, 0]
        if not len(rows):
            return code
        some = code[rows]
        held = x.fact("carrying", of_next=True)[rows].clamp(min=0)
        had = x.fact("carrying")[rows].clamp(min=0)
        # Doors and boxes: the cell that changed says which; after the step, so that a box shows what was in it.
        before, after = x.fact("cells")[rows], x.fact("cells", of_next=True)[rows]
        where = (before != after).to(torch.uint8).argmax(-1, keepdim=True)
        cell = after.gather(-1, where)[:, 0].long()
        thing = torch.stack([cell & 15, cell >> 4 & 7], -1)
        picked, dropped = _ORDER.index("picked") + 1, _ORDER.index("dropped") + 1
        thing = torch.where((some == picked)[:, None], held, thing)
        thing = torch.where((some == dropped)[:, None], had, thing)
        thing = torch.where(((some > 2) & (some <= dropped))[:, None], thing, 0)
        some = some | thing[:, 0] << _KIND | thing[:, 1] << _COLOR | held[:, 0] << _HELD | held[:, 1] << _SHADE
        if self.words is not None:
            some = some | (x.fact("mission_id", of_next=True)[rows].long() + 1) << _MISSION
        out = code.clone()
        out[rows] = some
        return out

    def text(self, code: int, row: Stretch) -> str:
        """The caption in words."""
        return self.texts([code], row)[0]

    def texts(self, codes: list[int], rows: Stretch) -> list[str]:
        """The captions of codes, given a row that has each."""
        tokens: Any = None if self.words is None else rows.next_obs["mission"].cpu()  # type: ignore[index]
        return [self._said(code, None if tokens is None else tokens[i]) for i, code in enumerate(codes)]

    def _said(self, code: int, mission: Tensor | None) -> str:
        event = _ORDER[(code & 15) - 1]
        said = [_SENTENCES[event].format(it=_thing(code >> _KIND & 15, code >> _COLOR & 7))]
        held = code >> _HELD & 15
        said.append(f"You carry {_thing(held, code >> _SHADE & 7)}." if held else "You carry nothing.")
        if self.words is not None and mission is not None:
            said.append(f"The task: {self.words.decode(mission)}.")
        return " ".join(said)


class FactCaptions:
    """Captions of any environment with facts: the values of some of them after the step, ``name: value``.

    Args:
        names: Of the facts, as the captions list them.
        only_changes: Say nothing of steps that leave all of them as they were.
    """

    def __init__(self, *names: str, only_changes: bool = True) -> None:
        if not names:
            raise ValueError("FactCaptions: name the facts that a caption tells, as in FactCaptions('position')")
        self.names, self.only_changes = names, only_changes

    def bind(self, world: World) -> None:
        """Nothing to learn."""

    def codes(self, x: Stretch) -> Tensor:
        """The hash of the facts of each flat row ``[B]``, 0 where nothing has changed."""
        after = hash_rows([x.fact(name, of_next=True) for name in self.names])
        after = torch.where(after == 0, 1, after)
        if not self.only_changes:
            return after
        before = hash_rows([x.fact(name) for name in self.names])
        return torch.where(after == torch.where(before == 0, 1, before), 0, after)

    def text(self, code: int, row: Stretch) -> str:
        """The facts in words."""
        return "; ".join(f"{name}: {_plain(row.fact(name, of_next=True)[0])}" for name in self.names)


def captioner(given: Any) -> Captioner:
    """A captioner from what a term was given: one, or names of facts; None is the grid engine's.

    Raises:
        TypeError: It is neither.
    """
    if given is None:
        return GridCaptions()
    if isinstance(given, str):
        return FactCaptions(given)
    if isinstance(given, Sequence) and given and all(isinstance(name, str) for name in given):
        return FactCaptions(*given)
    if all(callable(getattr(given, name, None)) for name in ("bind", "codes", "text")):
        made: Captioner = given
        return made
    raise TypeError(f"captions={given!r}: names of facts, or an object with bind, codes and text (see GridCaptions)")


def _thing(kind: int, color: int) -> str:
    if kind <= L.EMPTY:
        return "nothing"
    shade = L.COLORS[color]
    return f"{'an' if shade[0] in 'aeiou' else 'a'} {shade} {L.TYPES[kind]}"


def _plain(value: Tensor) -> str:
    numbers = value.flatten().tolist()
    words = [("yes" if n else "no") if isinstance(n, bool) else f"{n:g}" for n in numbers]
    return " ".join(words)
