"""What a reward program may be: its limits, and the error that shows where one is passed.

Every limit is asked before the thing it limits is built: characters before tokens, tokens before nodes, sizes and work
before any array. A reward that people write stays far below all of them.
"""

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits", "ProgramError", "plain"]


@dataclass(frozen=True)
class Limits:
    """How large a program may be, and what it may cost. Rows are environments (or transitions) of a batch."""

    characters: int = 20_000
    """Of the whole text."""
    line: int = 400
    """Characters of a line."""
    digits: int = 40
    """Characters of a number."""
    name: int = 60
    """Characters of a name."""
    tokens: int = 8_000
    """Words, numbers and marks."""
    depth: int = 40
    """How deep expressions may stand in each other."""
    blocks: int = 12
    """How deep blocks (if, for, def) may stand in each other."""
    calls: int = 8
    """How deep functions of the program may call each other."""
    nesting: int = 120
    """How deep blocks, calls and expressions may stand in each other while compiling, all together."""
    trips: int = 1_000
    """Rounds of all loops together, nested ones multiplied."""
    steps: int = 30_000
    """Expressions and statements looked at while compiling, every round of a loop counted."""
    instructions: int = 3_000
    """Operations on arrays that are left after compiling."""
    axes: int = 6
    """Axes of an array, its rows not counted."""
    elements: int = 16_384
    """Numbers that one array may have in each row."""
    live: int = 131_072
    """Numbers that all arrays of one row may hold at the same time."""
    work: int = 2_000_000
    """Numbers computed for each row, all operations together."""
    integer: int = 2**53
    """Largest whole number that is known while compiling."""
    components: int = 32
    """Named parts of a reward."""
    parameters: int = 64
    """Inputs that a program may take."""


LIMITS = Limits()


class ProgramError(ValueError):
    """The text is no reward program that is run here; the message shows where, and what to write instead.

    Attributes:
        layer: Which check refused it: "text", "syntax", "types" or "budget".
        line: Its line, from 1; 0 where the whole program is meant.
        column: Its column, from 1.
    """

    def __init__(self, layer: str, message: str, text: str = "", at: int = -1) -> None:
        self.layer, self.line, self.column = layer, 0, 0
        if at >= 0:
            at = min(at, len(text))
            begin = text.rfind("\n", 0, at) + 1
            end = text.find("\n", at)
            self.line, self.column = text.count("\n", 0, at) + 1, at - begin + 1
            # A window around the place: a line may be as long as the whole text where its length was refused.
            left = max(begin, at - 60)
            shown = plain(text[left : len(text) if end < 0 else end], 100)
            mark = " " * (at - left) + "^"
            message = f"line {self.line}, column {self.column}: {message}\n    {shown}\n    {mark}"
        super().__init__(message)


def plain(text: str, most: int = 500) -> str:
    """Text of others made safe to show: one line of printable ASCII, cut to a length."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:most])
