"""What an expression of a program can be while it is compiled: its type and shape, and never its numbers.

An array has rows (one for each environment of the batch, ``B``) and, in each row, axes whose sizes are known: a fact of
shape ``[B, 2]`` is ``Array(shape=(2,), batched=True)``. No operation of the language mixes rows, so that nothing leaks
from one environment to another.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

DTYPES = {"f": "float32", "i": "int64", "b": "bool"}


@dataclass(frozen=True, slots=True)
class Array:
    """What will stand in a slot: dtype "f", "i" or "b"; ``shape`` of one row; without rows where not batched."""

    slot: int
    dtype: str
    shape: tuple[int, ...]
    batched: bool = True

    @property
    def elements(self) -> int:
        """Numbers in a row."""
        size = 1
        for axis in self.shape:
            size *= axis
        return size

    def __str__(self) -> str:
        return f"{DTYPES[self.dtype]} [{', '.join(['B'] * self.batched + [str(n) for n in self.shape])}]"


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is known while compiling."""

    value: bool | int | float

    def __str__(self) -> str:
        return f"the number {self.value}"


@dataclass(frozen=True, slots=True)
class Word:
    """A string."""

    value: str

    def __str__(self) -> str:
        return "a string"


@dataclass(frozen=True, slots=True)
class Items:
    """A tuple or a list."""

    items: tuple["Value", ...]

    def __str__(self) -> str:
        return f"{len(self.items)} values"


@dataclass(frozen=True, slots=True)
class Parts:
    """Named components."""

    items: dict[str, "Value"] = field(default_factory=dict)

    def __str__(self) -> str:
        return "a dict of components"


@dataclass(frozen=True, slots=True)
class Kind:
    """The name of a dtype."""

    dtype: str

    def __str__(self) -> str:
        return "a type"


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows the batch has: not known, and of use in ``zeros(x.shape[0])`` only."""

    def __str__(self) -> str:
        return "the size of the batch"


@dataclass(frozen=True, slots=True)
class Nothing:
    """None."""

    def __str__(self) -> str:
        return "None"


@dataclass(frozen=True, slots=True)
class Unset:
    """A name that only one branch of an ``if`` over rows has set."""

    def __str__(self) -> str:
        return "a name that only one branch of an if has set"


Value: TypeAlias = Array | Number | Word | Items | Parts | Kind | Rows | Nothing | Unset
