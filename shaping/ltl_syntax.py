"""The text of temporal formulas, read into a tree in negation normal form.

    F (coffee & F office) & G !plant

``!`` not, ``&`` and, ``|`` or, ``->`` implies, ``<->`` exactly when; ``X`` next (there is a next step, and then),
``N`` weak next (if there is a next step, then), ``F`` at some time, ``G`` always, ``U`` until, ``W`` until or always,
``R`` release. From what binds most: ``! X N F G``, then ``U W R`` (to the right), ``&``, ``|``, ``->`` (to the right),
``<->``. These letters, alone, cannot name a proposition.
"""

import re
from collections.abc import Iterable

from .formulas import MAX_CHARACTERS, FormulaError

Tree = tuple[object, ...]
"""``("true",)``, ``("lit", name, bool)``, ``("and" | "or", a, b)``, ``("X" | "N", a)``, ``("U" | "R", a, b)``."""

MAX_NESTING = 40
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<mark><->|->|[!&|()])|(?P<end>$))", re.ASCII)
_UNARY, _BINARY = ("!", "X", "N", "F", "G"), ("U", "W", "R")
RESERVED = {"X", "N", "F", "G", *_BINARY}
TRUE, FALSE = ("true",), ("false",)


class NotCoSafe(FormulaError):
    """A formula asks for something that no finite beginning can settle."""


def parse(text: str, names: Iterable[str], co_safe: bool = False) -> Tree:
    """Read a formula.

    Args:
        text: The formula, at most 1,000 characters.
        names: The propositions there are.
        co_safe: Refuse what is not syntactically co-safe: ``G``, ``W``, ``R`` and ``N``, or ``F``, ``U`` and ``X``
            under a negation.

    Raises:
        FormulaError: It does not parse, or names an unknown proposition; the position is marked.
        NotCoSafe: As said.
    """
    return _Parser(text, names, co_safe).run()


class _Parser:
    def __init__(self, text: str, names: Iterable[str], co_safe: bool) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a formula is text, and not {type(text).__name__}")
        if len(text) > MAX_CHARACTERS:
            raise FormulaError(f"the formula has {len(text)} characters; at most {MAX_CHARACTERS} are read")
        self.text, self.names, self.co_safe, self.depth, self.at = text, list(names), co_safe, 0, 0
        clash = RESERVED & set(self.names)
        if clash:
            raise FormulaError(f"{sorted(clash)[0]!r} is an operator of formulas and cannot name a label: rename it")
        self.kind, self.token, self.begin = "", "", 0
        self.advance()

    def error(self, message: str, at: int | None = None) -> FormulaError:
        return FormulaError(self.marked(message, at))

    def marked(self, message: str, at: int | None = None) -> str:
        at = self.begin if at is None else at
        return f"{message}, at character {at + 1} of the formula:\n  {self.text}\n  {' ' * at}^"

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            self.begin = len(self.text) - len(self.text[self.at :].lstrip())
            raise self.error(f"{self.text[self.begin]!r} has no meaning in a formula")
        self.kind = str(match.lastgroup)
        self.token, self.begin, self.at = match[self.kind], match.start(self.kind), match.end()

    def run(self) -> Tree:
        tree = self.iff()
        if self.kind != "end":
            raise self.error(f"the formula should end here, or go on with an operator, and not with {self.token!r}")
        return self.normal(tree, True)

    # Reading: trees of ("op", position, children...), before negations are pushed inwards.

    def iff(self) -> Tree:
        left = self.implies()
        while self.token == "<->":
            at = self.take()
            left = ("<->", at, left, self.implies())
        return left

    def implies(self) -> Tree:
        self.deeper()
        left = self.any_of()
        if self.token == "->":
            at = self.take()
            left = ("->", at, left, self.implies())
        self.depth -= 1
        return left

    def any_of(self) -> Tree:
        left = self.all_of()
        while self.token == "|":
            at = self.take()
            left = ("|", at, left, self.all_of())
        return left

    def all_of(self) -> Tree:
        left = self.until()
        while self.token == "&":
            at = self.take()
            left = ("&", at, left, self.until())
        return left

    def until(self) -> Tree:
        self.deeper()
        left = self.unary()
        if self.kind == "name" and self.token in _BINARY:
            op, at = self.token, self.take()
            left = (op, at, left, self.until())
        self.depth -= 1
        return left

    def unary(self) -> Tree:
        if self.token in _UNARY:
            self.deeper()
            op, at = self.token, self.take()
            tree: Tree = (op, at, self.unary())
            self.depth -= 1
            return tree
        if self.token == "(":
            self.take()
            tree = self.iff()
            if self.token != ")":
                raise self.error("a bracket is not closed")
            self.take()
            return tree
        if self.kind != "name" or self.token in _BINARY:
            raise self.error("a proposition should stand here" + (f", and not {self.token!r}" if self.token else ""))
        if self.token.lower() in ("true", "false") and self.token not in self.names:
            return ("constant", self.take_as(self.token.lower() == "true"))
        if self.token not in self.names:
            raise self.error(f"no label is called {self.token!r}; there are {', '.join(self.names) or 'none'}")
        name = self.token
        return ("name", self.take(), name)

    def take(self) -> int:
        at = self.begin
        self.advance()
        return at

    def take_as(self, value: bool) -> bool:
        self.advance()
        return value

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.error(f"the formula is more than {MAX_NESTING} levels deep")

    # Negation normal form.

    def normal(self, tree: Tree, positive: bool) -> Tree:
        op = str(tree[0])
        if op == "constant":
            return TRUE if bool(tree[1]) == positive else FALSE
        if op == "name":
            return ("lit", tree[2], positive)
        children: list[Tree] = list(tree[2:])  # type: ignore[arg-type]
        if op == "!":
            return self.normal(children[0], not positive)
        if op == "->":
            a, b = self.normal(children[0], not positive), self.normal(children[1], positive)
            return _join("or" if positive else "and", a, b)
        if op == "<->":
            yes = [self.normal(c, True) for c in children]
            no = [self.normal(c, False) for c in children]
            if positive:
                return _join("or", _join("and", *yes), _join("and", *no))
            return _join("or", _join("and", yes[0], no[1]), _join("and", no[0], yes[1]))
        parts = [self.normal(c, positive) for c in children]
        if op in "&|":
            return _join("and" if (op == "&") == positive else "or", *parts)
        return self.temporal(op, int(str(tree[1])), parts, positive)

    def temporal(self, op: str, at: int, parts: list[Tree], positive: bool) -> Tree:
        strong = {"X": positive, "F": positive, "U": positive, "N": not positive, "G": not positive, "R": not positive,
                  "W": not positive}[op]  # fmt: skip
        if self.co_safe and not strong:
            how = f"{op!r} here" if positive else f"{op!r} under a negation"
            raise NotCoSafe(
                self.marked(
                    f"{how} asks for what no finite beginning can settle, so the formula is not co-safe; "
                    "take logic='ltlf', in which an episode's end is the end of time",
                    at,
                )  # fmt: skip
            )
        if op in "XN":
            return ("X" if strong else "N", parts[0])
        if op in "FG":
            return ("U", TRUE, parts[0]) if strong else ("R", FALSE, parts[0])
        a, b = parts
        if op == "W":  # a W b is b R (a | b); its negation is (!b) U (!a & !b)
            return ("R", b, _join("or", a, b)) if positive else ("U", b, _join("and", a, b))
        return ("U" if strong else "R", a, b)


def _join(op: str, a: Tree, b: Tree) -> Tree:
    zero, one = (FALSE, TRUE) if op == "and" else (TRUE, FALSE)
    if zero in (a, b):
        return zero
    return b if a == one else a if b == one else (op, a, b)
