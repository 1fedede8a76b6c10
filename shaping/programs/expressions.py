"""Read the expressions of a reward program, by the strength with which Python's operators bind."""

from .nodes import (
    Attribute,
    Binary,
    Call,
    Choice,
    Compare,
    Constant,
    Expr,
    Index,
    Logic,
    Mapping,
    Name,
    Sequence,
    Slice,
    Text,
    Unary,
)
from .reader import Reader
from .tokens import KEYWORDS, Token

_COMPARISONS = frozenset({"<", ">", "<=", ">=", "==", "!="})
_LEVEL = {"|": 0, "^": 1, "&": 2, "+": 3, "-": 3, "*": 4, "/": 4, "//": 4, "%": 4}


class Expressions(Reader):
    """Reads expressions."""

    def values(self) -> Expr:
        """One value, or several with commas between them: a tuple."""
        first = self.value()
        if not self.is_mark(","):
            return first
        items = [first]
        while self.taken(","):
            if self.peek().kind == "newline" or self.is_mark("=", ")", "]"):
                break
            items.append(self.value())
        return self.make(Sequence, first.at, tuple(items))

    def value(self) -> Expr:
        """One value: ``either ["if" either "else" value]``."""
        self.depth += 1
        if self.depth > self.limits.depth:
            message = f"expressions stand more than {self.limits.depth} deep in each other; use several lines"
            raise self.error(message, layer="budget")
        found = self.either()
        if condition := self.taken("if"):
            test = self.either()
            self.expect("else")
            found = self.make(Choice, condition.at, test, found, self.value())
        self.depth -= 1
        return found

    def either(self) -> Expr:
        """``both ("or" both)*``."""
        found = self.both()
        while token := self.taken("or"):
            found = self.make(Logic, token.at, "or", found, self.both())
        return found

    def both(self) -> Expr:
        """``negated ("and" negated)*``."""
        found = self.negated()
        while token := self.taken("and"):
            found = self.make(Logic, token.at, "and", found, self.negated())
        return found

    def negated(self) -> Expr:
        """``"not"* comparison``."""
        marks = []
        while token := self.taken("not"):
            marks.append(token)
        found = self.comparison()
        for token in reversed(marks):
            found = self.make(Unary, token.at, "not", found)
        return found

    def comparison(self) -> Expr:
        """``binary (("<" | "==" ...) binary)*``."""
        first = self.binary(0)
        ops, values = [], [first]
        while self.peek().kind == "mark" and self.peek().text in _COMPARISONS:
            ops.append(self.take().text)
            values.append(self.binary(0))
        if self.is_word("in"):
            raise self.error("'in' stands in loops only; compare with ==")
        return self.make(Compare, first.at, tuple(ops), tuple(values)) if ops else first

    def binary(self, least: int) -> Expr:
        """Operators that bind at least as strongly as level ``least``; one frame of the stack for all levels."""
        found = self.signed()
        while (token := self.peek()).kind == "mark" and _LEVEL.get(token.text, -1) >= least:
            self.take()
            found = self.make(Binary, token.at, token.text, found, self.binary(_LEVEL[token.text] + 1))
        if self.is_mark("@", "<<", ">>"):
            raise self.error(f"{self.peek().text!r} is not part of the language; dot(a, b) is a product of vectors")
        return found

    def signed(self) -> Expr:
        """``("-" | "+" | "~")* power``."""
        marks = []
        while token := self.taken("-", "+", "~"):
            marks.append(token)
        found = self.power()
        for token in reversed(marks):
            found = self.make(Unary, token.at, token.text, found)
        return found

    def power(self) -> Expr:
        """``postfix ["**" signed]``."""
        found = self.postfix()
        if token := self.taken("**"):
            self.depth += 1
            if self.depth > self.limits.depth:
                raise self.error("powers stand too deep in each other", token.at, "budget")
            found = self.make(Binary, token.at, "**", found, self.signed())
            self.depth -= 1
        return found

    def postfix(self) -> Expr:
        """``atom ("." name | "(" arguments ")" | "[" index "]")*``."""
        found = self.atom()
        while True:
            token = self.peek()
            if self.taken("."):
                found = self.make(Attribute, token.at, found, self.name("a name").text)
            elif self.taken("("):
                found = self.call(found, token.at)
            elif self.taken("["):
                found = self.make(Index, token.at, found, self.index())
            else:
                return found

    def call(self, called: Expr, at: int) -> Expr:
        """The rest of a call, after its ``(``."""
        args: list[Expr] = []
        names: list[str] = []
        keywords: list[Expr] = []
        while not self.is_mark(")"):
            if self.is_mark("*", "**"):
                raise self.error("arguments are written one by one: no * before them")
            following = self.tokens[min(self.next + 1, len(self.tokens) - 1)]
            if self.peek().kind == "name" and following.kind == "mark" and following.text == "=":
                name = self.name("an argument's name")
                if name.text in names:
                    raise self.error(f"{name.text!r} is given twice", name.at)
                self.take()
                names.append(name.text)
                keywords.append(self.value())
            elif names:
                raise self.error("after name=value, the other arguments need names too")
            else:
                args.append(self.value())
            if self.is_word("for"):
                raise self.error("there are no comprehensions: write a loop")
            if not self.is_mark(")"):
                self.expect(",")
        self.expect(")")
        return self.make(Call, at, called, tuple(args), tuple(names), tuple(keywords))

    def index(self) -> tuple[Expr | None, ...]:
        """The rest of an index, after its ``[``; None stands for ``...``."""
        items: list[Expr | None] = []
        while not self.is_mark("]"):
            if self.taken("..."):
                items.append(None)
            else:
                at = self.peek().at
                parts: list[Expr | None] = [None if self.is_mark(":") else self.value()]
                while self.taken(":"):
                    parts.append(None if self.is_mark(":", ",", "]") else self.value())
                if len(parts) > 3:
                    raise self.error("a slice has at most three parts", at)
                parts_3 = (*parts, None, None)
                items.append(parts[0] if len(parts) == 1 else self.make(Slice, at, *parts_3[:3]))
            if not self.is_mark("]"):
                self.expect(",")
        self.expect("]")
        if not items:
            raise self.error("an index should stand between [ and ]")
        return tuple(items)

    def atom(self) -> Expr:
        """A number, string, name, constant, tuple, list, dict, or a value in brackets."""
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "string":
            return self.make(Text, token.at, token.text[1:-1])
        if token.kind == "name":
            words = {"True": True, "False": False, "None": None}
            if token.text in words:
                return self.make(Constant, token.at, words[token.text])
            if token.text not in KEYWORDS:
                return self.make(Name, token.at, token.text)
        if token.kind == "mark" and token.text in "([":
            return self.sequence(token)
        if token.kind == "mark" and token.text == "{":
            return self.mapping(token)
        self.next -= token.kind != "end"
        raise self.error(f"a value should stand here, and not {self.shown()}")

    def number(self, token: Token) -> Expr:
        """A number that float32 or an index can hold."""
        if token.text.isdigit():
            if len(token.text) > 1 and token.text[0] == "0" and token.text.strip("0"):
                raise self.error("numbers do not begin with 0", token.at)
            value: int | float = int(token.text)
        else:
            value = float(token.text)
        if abs(value) > (self.limits.integer if isinstance(value, int) else 1e30):
            raise self.error("this number is too large to compute with in float32", token.at, "budget")
        return self.make(Constant, token.at, value)

    def sequence(self, token: Token) -> Expr:
        """The rest of a tuple, list or value in brackets."""
        close = ")" if token.text == "(" else "]"
        items: list[Expr] = []
        comma = False
        while not self.is_mark(close):
            items.append(self.value())
            if self.is_word("for"):
                raise self.error("there are no comprehensions: write a loop")
            if self.is_mark(":="):
                raise self.error("a value gets its name on a line of its own: name = value")
            comma = not self.is_mark(close)
            if comma:
                self.expect(",")
        self.expect(close)
        if token.text == "(" and len(items) == 1 and not comma:
            return items[0]
        return self.make(Sequence, token.at, tuple(items))

    def mapping(self, token: Token) -> Expr:
        """The rest of a dict of components."""
        keys: list[str] = []
        values: list[Expr] = []
        while not self.is_mark("}"):
            key = self.take()
            if key.kind != "string":
                raise self.error('components are named by strings: {"distance": value}', key.at)
            if key.text[1:-1] in keys:
                raise self.error(f"the component {key.text} is there twice", key.at)
            self.expect(":")
            keys.append(key.text[1:-1])
            values.append(self.value())
            if self.is_word("for"):
                raise self.error("there are no comprehensions: write each component")
            if not self.is_mark("}"):
                self.expect(",")
        self.expect("}")
        return self.make(Mapping, token.at, tuple(keys), tuple(values))
