"""The row of tokens that a program is read from: what comes next, what must come, and where a mistake is."""

from typing import Any, TypeVar

from .limits import Limits, ProgramError
from .nodes import Expr, Node
from .tokens import KEYWORDS, Token, tokens

N = TypeVar("N", bound=Node)


class Reader:
    """A program's tokens and the place in them.

    Args:
        text: The program.
        limits: Its budgets.
    """

    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits = text, limits
        self.tokens = tokens(text, limits)
        self.next = self.depth = 0

    def error(self, message: str, at: int | None = None, layer: str = "syntax") -> ProgramError:
        """What to raise of a mistake: here, if ``at`` is left out."""
        return ProgramError(layer, message, self.text, self.peek().at if at is None else at)

    def peek(self) -> Token:
        """The next token, left where it is."""
        return self.tokens[self.next]

    def take(self) -> Token:
        """The next token; the end stays."""
        token = self.tokens[self.next]
        self.next += token.kind != "end"
        return token

    def is_mark(self, *marks: str) -> bool:
        """Whether one of these marks is next."""
        token = self.peek()
        return token.kind == "mark" and token.text in marks

    def is_word(self, *words: str) -> bool:
        """Whether one of these words is next."""
        token = self.peek()
        return token.kind == "name" and token.text in words

    def taken(self, *texts: str) -> Token | None:
        """The next token if it is one of these, and None otherwise."""
        return self.take() if self.is_mark(*texts) or self.is_word(*texts) else None

    def expect(self, text: str) -> Token:
        """Take this, or say what stands there instead."""
        if found := self.taken(text):
            return found
        raise self.error(f"{text!r} should stand here, and not {self.shown()}")

    def shown(self) -> str:
        """The next token, for a person."""
        token = self.peek()
        kinds = {"newline": "the end of the line", "end": "the end of the program", "indent": "a deeper line"}
        return kinds.get(token.kind, "a line further left" if token.kind == "dedent" else repr(token.text[:40]))

    def name(self, what: str) -> Token:
        """A name that is no keyword."""
        token = self.peek()
        if token.kind != "name" or token.text in KEYWORDS:
            raise self.error(f"{what} should stand here, and not {self.shown()}")
        return self.take()

    def end_line(self) -> None:
        """Take the end of the line."""
        if self.is_mark(";"):
            raise self.error("one statement stands on a line: no ';'")
        if self.peek().kind != "newline":
            raise self.error(f"the line should end here, and not go on with {self.shown()}")
        self.take()

    def make(self, kind: type[N], at: int, *fields: Any) -> N:
        """Make a node, and refuse it where expressions stand too deep."""
        depth = 1
        for field in fields:
            for part in field if isinstance(field, tuple) else (field,):
                if isinstance(part, Expr):
                    depth = max(depth, part.depth + 1)
        if issubclass(kind, Expr) and depth > self.limits.depth:
            raise self.error(
                f"expressions stand more than {self.limits.depth} deep in each other; use several lines", at, "budget"
            )
        return kind(*fields, at=at, depth=depth)
