"""What a program is made of, once read: expressions and statements, each with its place in the text."""

from dataclasses import dataclass

__all__ = [
    "Assign", "Attribute", "Binary", "Call", "Choice", "Compare", "Constant", "Expr", "For", "Function", "If", "Index",
    "Logic", "Mapping", "Module", "Name", "Return", "Sequence", "Slice", "Statement", "Store", "Text", "Unary",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something at a place in the text; ``depth`` is how deep expressions stand in it."""

    at: int
    depth: int = 1


class Expr(Node):
    """Something with a value."""

    __slots__ = ()


class Statement(Node):
    """Something that is done."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Constant(Expr):
    """A number, True, False or None."""

    value: float | int | bool | None


@dataclass(frozen=True, slots=True)
class Text(Expr):
    """A string: the name of a component."""

    value: str


@dataclass(frozen=True, slots=True)
class Name(Expr):
    """A word."""

    word: str


@dataclass(frozen=True, slots=True)
class Attribute(Expr):
    """``value.word``."""

    value: Expr
    word: str


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """``called(args, names=keywords)``."""

    called: Expr
    args: tuple[Expr, ...]
    names: tuple[str, ...]
    keywords: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    """``start:stop:step``, inside an index."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True)
class Index(Expr):
    """``value[items]``; an item None stands for ``...``."""

    value: Expr
    items: tuple[Expr | None, ...]


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    """``-x``, ``+x``, ``~x`` or ``not x``."""

    op: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """``left op right`` of numbers."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """``first op second op third``, as in Python: all at once."""

    ops: tuple[str, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Logic(Expr):
    """``a and b`` or ``a or b``."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Choice(Expr):
    """``yes if condition else no``."""

    condition: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True, slots=True)
class Sequence(Expr):
    """A tuple or a list."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Mapping(Expr):
    """``{"name": value}``."""

    keys: tuple[str, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Assign(Statement):
    """``names = value``, or ``name op= value``."""

    names: tuple[str, ...]
    value: Expr
    op: str = ""


@dataclass(frozen=True, slots=True)
class Store(Statement):
    """``name["key"] = value``, or with ``op=``."""

    name: str
    key: str
    value: Expr
    op: str = ""


@dataclass(frozen=True, slots=True)
class Return(Statement):
    """``return value``."""

    value: Expr


@dataclass(frozen=True, slots=True)
class If(Statement):
    """``if``, with ``elif`` as an If in ``no``."""

    condition: Expr
    yes: tuple[Statement, ...]
    no: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For(Statement):
    """``for name in over``."""

    name: str
    over: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Function(Node):
    """``def name(parameters)``; ``defaults`` belong to the last of them."""

    name: str
    parameters: tuple[str, ...]
    defaults: tuple[Expr, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Module(Node):
    """The program: constants, then functions in their order."""

    text: str
    constants: tuple[Assign, ...]
    functions: tuple[Function, ...]
