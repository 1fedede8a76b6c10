"""Reward expressions as text, such as ``task + 0.01*episodic_count(key="position").clip(0, 1)``.

The parser is its own, small on purpose: text comes out of run folders and command lines, and must not be able to do
anything but make the terms of the table ``shaping.TERMS``. At most 1,000 characters, 20 levels deep, finite numbers.

    sum     = product (("+" | "-") product)*
    product = factor (("*" | "/") factor)*
    factor  = "-" factor | atom ("." method "(" arguments ")")*
    atom    = number | name ["(" arguments ")"] | "(" sum ")"
    argument = [name "="] (sum | string | "true" | "false" | "none" | "(" argument, ... ")")
"""

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from math import isfinite
from typing import Any, NamedTuple

from . import TERMS
from .schedules import SCHEDULES, Schedule
from .term import Term

MAX_CHARACTERS, MAX_DEPTH = 1000, 20
METHODS = ("anneal", "clip", "gate", "into", "named", "normalise", "normalize")
WORDS = {"true": True, "false": False, "none": None}

# Strings name facts, modes and channels; a path or a module cannot be written with these characters.
_STRING = re.compile(r"[\w .,+-]{0,100}", re.ASCII)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<string>\"[^\"]*\"|'[^']*')|(?P<mark>[-+*/().,=])|(?P<end>$))",
    re.ASCII,
)


class GrammarError(ValueError):
    """The text is not a reward; the message shows where."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Term:
    """Read a reward expression.

    Args:
        text: Such as ``"task + 0.01*episodic_count"``. Names may be written as the classes are, ``EpisodicCount()``.

    Raises:
        GrammarError: With the position marked, and the nearest valid name where one is unknown.
    """
    if not isinstance(text, str):
        raise TypeError(f"a reward expression is text, and not {type(text).__name__}")
    return _Parser(text).run()


def term_class(name: str) -> type[Term]:
    """The class of a name in the table ``TERMS``; its file is imported now.

    Raises:
        KeyError: There is none of that name.
    """
    file, _, cls = TERMS[name][0].partition(":")
    found: type[Term] = getattr(import_module(f"{__package__}.{file}"), cls)
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        if len(text) > MAX_CHARACTERS:
            raise GrammarError(f"the reward expression has {len(text)} characters; at most {MAX_CHARACTERS} are read")
        self.tokens: list[_Token] = []
        self.next = 0
        at = 0
        while not self.tokens or self.tokens[-1].kind != "end":
            match = _TOKEN.match(text, at)
            if match is None:
                bad = len(text) - len(text[at:].lstrip())
                if text[bad] in "\"'":
                    raise self.error("this text is not closed", bad)
                raise self.error(f"{text[bad]!r} has no meaning in a reward expression", bad)
            kind = str(match.lastgroup)
            self.tokens.append(_Token(kind, match[kind], match.start(kind)))
            at = match.end()

    def error(self, message: str, at: int) -> GrammarError:
        begin = max(at - 30, 0)
        shown = self.text[begin : at + 30].replace("\n", " ")
        mark = " " * (at - begin) + "^"
        return GrammarError(f"{message}, at character {at + 1} of the reward expression:\n  {shown}\n  {mark}")

    def run(self) -> Term:
        from .ops import as_term

        value = self.sum()
        token = self.peek()
        if token.kind != "end":
            message = f"the expression should end here, or go on with + - or *, and not with {token.text!r}"
            raise self.error(message, token.at)
        if isinstance(value, Schedule) or not isinstance(value, Term | int | float):
            raise self.error("this is no reward, but could be part of one, such as linear(1, 0, 1e6)*task", 0)
        return as_term(value)

    # Reading tokens.

    def peek(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        token = self.tokens[self.next]
        self.next += 1
        return token

    def taken(self, *marks: str) -> _Token | None:
        token = self.peek()
        return self.take() if token.kind == "mark" and token.text in marks else None

    def expect(self, mark: str) -> None:
        token = self.peek()
        if not self.taken(mark):
            found = "the end" if token.kind == "end" else repr(token.text)
            raise self.error(f"{mark!r} should stand here, and not {found}", token.at)

    # The rules.

    def sum(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"the expression is more than {MAX_DEPTH} levels deep", self.peek().at)
        value = self.product()
        while token := self.taken("+", "-"):
            value = self.calculate(token, value, self.product())
        self.depth -= 1
        return value

    def product(self) -> Any:
        value = self.factor()
        while token := self.taken("*", "/"):
            value = self.calculate(token, value, self.factor())
        return value

    def factor(self) -> Any:
        if minus := self.taken("-"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.error(f"the expression is more than {MAX_DEPTH} levels deep", minus.at)
            value = self.factor()
            self.depth -= 1
            return self.negative(minus, value)
        value = self.atom()
        while self.taken("."):
            name = self.take()
            if name.kind != "name" or name.text not in METHODS:
                raise self.error(f"no term has {name.text!r} after a dot{_nearest(name.text, METHODS)}", name.at)
            args, kwargs = self.arguments()
            if not isinstance(value, Term):
                raise self.error(f".{name.text} stands after a term", name.at)
            value = self.call(getattr(value, name.text), name, args, kwargs)
        return value

    def negative(self, token: _Token, value: Any) -> Any:
        if not isinstance(value, int | float | Term | Schedule) or isinstance(value, bool):
            raise self.error("- stands before a number or a term", token.at)
        return value * -1.0 if isinstance(value, Schedule) else -value

    def atom(self) -> Any:
        token = self.take()
        if token.kind == "number":
            number = float(token.text)
            if not isfinite(number):
                raise self.error(f"{token.text} is too large for a number", token.at)
            return int(token.text) if token.text.isdigit() else number
        if token.kind == "name":
            return self.named(token)
        if token.kind == "mark" and token.text == "(":
            value = self.sum()
            self.expect(")")
            return value
        found = "the end" if token.kind == "end" else repr(token.text)
        raise self.error(f"a term or a number should stand here, and not {found}", token.at)

    def named(self, token: _Token) -> Any:
        if token.text in SCHEDULES:
            return self.call(SCHEDULES[token.text], token, *self.arguments())
        name = next((n for n in TERMS if _plain(n) == _plain(token.text)), None)
        if name is None:
            near = _nearest(token.text, [*TERMS, *SCHEDULES])
            raise self.error(f"no term is called {token.text!r}{near}", token.at)
        called = self.peek().kind == "mark" and self.peek().text == "("
        args, kwargs = self.arguments() if called else ([], {})
        return self.call(term_class(name), token, args, kwargs)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        self.expect("(")
        while not self.taken(")"):
            key = self.peek()
            following = self.tokens[self.next + 1] if key.kind == "name" else key
            if key.kind == "name" and (following.kind, following.text) == ("mark", "="):
                self.next += 2
                if key.text in kwargs:
                    raise self.error(f"{key.text!r} is given twice", key.at)
                kwargs[key.text] = self.argument()
            elif kwargs:
                raise self.error("after name=value, the other arguments need names too", key.at)
            else:
                args.append(self.argument())
            if not (self.peek().kind == "mark" and self.peek().text == ")"):
                self.expect(",")
        return args, kwargs

    def argument(self) -> Any:
        token = self.peek()
        if token.kind == "string":
            self.take()
            if not _STRING.fullmatch(token.text[1:-1]) or ".." in token.text or token.text[1:2] == ".":
                raise self.error("texts in an expression have letters, digits, spaces and _ . , + - only", token.at)
            return token.text[1:-1]
        if token.kind == "name" and token.text.lower() in WORDS:
            self.take()
            return WORDS[token.text.lower()]
        if token.kind == "mark" and token.text == "(":
            return self.tuple_or_sum()
        return self.sum()

    def tuple_or_sum(self) -> Any:
        """``("a", "b")`` is a tuple; ``(a + b)*c`` is a sum: told apart by what follows the first item."""
        begin = self.next
        self.take()
        if self.peek().kind == "string":
            items = [self.argument()]
            while self.taken(","):
                if self.peek().kind != "string":
                    break
                items.append(self.argument())
            self.expect(")")
            return tuple(items)
        self.next = begin
        return self.sum()

    # Making terms.

    def calculate(self, token: _Token, a: Any, b: Any) -> Any:
        if isinstance(a, Schedule) and isinstance(b, Term):
            a, b = b, a  # a term knows how to take a schedule
        try:
            if token.text == "+":
                value = a + b
            elif token.text == "-":
                value = a - b
            elif token.text == "*":
                value = a * b
            else:
                value = a / b
        except (TypeError, ValueError, ArithmeticError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"{token.text!r} does not work between these two"
            raise self.error(reason, token.at) from error
        if isinstance(value, float) and not isfinite(value):
            raise self.error("this number is not finite", token.at)
        return value

    def call(self, make: Callable[..., Any], token: _Token, args: list[Any], kwargs: dict[str, Any]) -> Any:
        # A class is asked for its __init__: all terms share a __new__ that takes anything.
        signature = inspect.signature(getattr(make, "__init__") if isinstance(make, type) else make)  # noqa: B009
        parameters = [name for name in signature.parameters if name != "self"]
        for name in kwargs:
            if name not in parameters:
                hint = _nearest(name, parameters) if parameters else "; it has none"
                raise self.error(f"{token.text} has no setting {name!r}{hint}", token.at)
        try:
            return make(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise self.error(f"{token.text}: {error}", token.at) from error


def _nearest(name: str, names: Any) -> str:
    near = get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def write_call(term: Term) -> str | None:
    """A term as ``name(arguments)`` from the arguments it was made with; None where one cannot be written."""
    name = type(term).text_name
    if name not in TERMS or TERMS[name][0].partition(":")[2] != type(term).__name__:
        return None
    args, kwargs = term._made
    parts = [_write(a) for a in args] + [None if (v := _write(a)) is None else f"{k}={v}" for k, a in kwargs.items()]
    if None in parts:
        return None
    return f"{name}({', '.join(str(p) for p in parts)})" if parts else name


def _write(value: Any) -> str | None:
    if isinstance(value, Term):
        return value.text
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value) if isfinite(value) else None
    if isinstance(value, str):
        return f'"{value}"' if _STRING.fullmatch(value) and ".." not in value and value[:1] != "." else None
    if isinstance(value, tuple | list) and value and all(isinstance(v, str) for v in value):
        items = [_write(v) for v in value]
        return None if None in items else f"({', '.join(str(i) for i in items)},)"
    return None
