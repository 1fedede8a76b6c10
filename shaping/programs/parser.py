"""Read a reward program: the part of Python that a reward needs, with a parser of its own.

It is not ``ast.parse``: that reads all of Python (what it accepts changes with its version), normalises letters, and
runs out of stack on texts that nest deeply in ways that brackets do not show. Here what cannot be written cannot be
asked for: no attribute is ever looked up, and nothing of a program is ever handed to Python's own compiler.

    program   = (import | constant | function)*
    function  = [decorator] "def" name "(" parameters ")" ["->" type] ":" block
    statement = name ["," name]* [":" type] ("=" | "+=" ...) value | name["key"] = value | "return" values
              | "if" value ":" block ("elif" ...)* ["else" ...] | "for" name "in" value ":" block | "pass" | string

``import torch``, ``import numpy as np``, ``import math``, imports of typing's and torch's type names and the decorator
``@torch.jit.script`` are read and mean nothing, since models write them: ``torch.exp`` and ``np.exp`` are names of one
operation.
"""

from typing import Any, TypeVar

from .limits import LIMITS, Limits, ProgramError
from .nodes import (
    Assign,
    Attribute,
    Binary,
    Call,
    Choice,
    Compare,
    Constant,
    Expr,
    For,
    Function,
    If,
    Index,
    Logic,
    Mapping,
    Module,
    Name,
    Node,
    Return,
    Sequence,
    Slice,
    Statement,
    Store,
    Text,
    Unary,
)
from .tokens import KEYWORDS, Token, tokens

N = TypeVar("N", bound=Node)

# Lines that say what is so anyway, without spaces.
IMPORTS = frozenset({
    "import torch", "import math", "import numpy as np", "import numpy", "import torch . nn . functional as F",
    "from torch import Tensor", "from __future__ import annotations",
})  # fmt: skip
TYPING = frozenset(("Tuple", "Dict", "List", "Optional", "Any", "Union"))
DECORATORS = frozenset({"torch . jit . script", "torch . no_grad ( )"})
_COMPARISONS = frozenset({"<", ">", "<=", ">=", "==", "!="})
_LEVEL = {"|": 0, "^": 1, "&": 2, "+": 3, "-": 3, "*": 4, "/": 4, "//": 4, "%": 4}


def parse(text: str, limits: Limits = LIMITS) -> Module:
    """Read a program.

    Raises:
        ProgramError: With the place marked.
    """
    return _Parser(text, limits).module()


class _Parser:
    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits = text, limits
        self.tokens = tokens(text, limits)
        self.next = self.depth = 0

    # Tokens.

    def error(self, message: str, at: int | None = None, layer: str = "syntax") -> ProgramError:
        return ProgramError(layer, message, self.text, self.peek().at if at is None else at)

    def peek(self) -> Token:
        return self.tokens[self.next]

    def take(self) -> Token:
        token = self.tokens[self.next]
        self.next += token.kind != "end"
        return token

    def is_mark(self, *marks: str) -> bool:
        token = self.peek()
        return token.kind == "mark" and token.text in marks

    def is_word(self, *words: str) -> bool:
        token = self.peek()
        return token.kind == "name" and token.text in words

    def taken(self, *texts: str) -> Token | None:
        return self.take() if self.is_mark(*texts) or self.is_word(*texts) else None

    def expect(self, text: str) -> Token:
        if found := self.taken(text):
            return found
        raise self.error(f"{text!r} should stand here, and not {self.shown()}")

    def shown(self) -> str:
        token = self.peek()
        kinds = {"newline": "the end of the line", "end": "the end of the program", "indent": "a deeper line"}
        return kinds.get(token.kind, "a line further left" if token.kind == "dedent" else repr(token.text[:40]))

    def name(self, what: str) -> Token:
        token = self.peek()
        if token.kind != "name" or token.text in KEYWORDS:
            raise self.error(f"{what} should stand here, and not {self.shown()}")
        return self.take()

    def end_line(self) -> None:
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

    # The program.

    def module(self) -> Module:
        constants: list[Assign] = []
        functions: list[Function] = []
        while self.peek().kind != "end":
            token = self.peek()
            if token.kind in ("newline", "doc"):
                self.take()
            elif token.text in ("import", "from") and token.kind == "name":
                self.imported()
            elif self.is_mark("@"):
                self.decorator()
            elif self.is_word("def"):
                function = self.function()
                if function.name in {f.name for f in functions}:
                    raise self.error(f"there are two functions called {function.name!r}", function.at)
                functions.append(function)
            else:
                statement = self.statement()
                if not isinstance(statement, Assign) or statement.op:
                    raise self.error("outside of functions stand constants only, such as SCALE = 0.5", token.at)
                if functions:
                    raise self.error("constants stand before the functions", token.at)
                constants.append(statement)
        if not functions:
            raise ProgramError("syntax", "there is no function in this program: it should be def reward(...): ...")
        return Module(self.text, tuple(constants), tuple(functions), at=0)

    def line_words(self) -> str:
        words = []
        while self.peek().kind not in ("newline", "end"):
            words.append(self.take().text)
            if len(words) > 40:
                break
        return " ".join(words)

    def imported(self) -> None:
        at = self.peek().at
        words = self.line_words()
        head, _, names = words.partition("from typing import ")
        if not (words in IMPORTS or (not head and names and set(names.split(" , ")) <= TYPING)):
            raise self.error(
                "nothing is imported: the operations are there by name, with or without torch. or np. before them", at
            )
        self.end_line()

    def decorator(self) -> None:
        at = self.take().at
        if self.line_words() not in DECORATORS:
            raise self.error("functions have no decorators here", at)
        self.end_line()
        if not self.is_word("def"):
            raise self.error("a function should follow its decorator")

    def function(self) -> Function:
        self.expect("def")
        name = self.name("the function's name")
        self.expect("(")
        parameters: list[str] = []
        defaults: list[Expr] = []
        while not self.is_mark(")"):
            parameter = self.name("a parameter's name")
            if parameter.text in parameters:
                raise self.error(f"the parameter {parameter.text!r} is there twice", parameter.at)
            parameters.append(parameter.text)
            if self.taken(":"):
                self.annotation()
            if self.taken("="):
                defaults.append(self.value())
            elif defaults:
                raise self.error("after a parameter with a default, the others need one too", parameter.at)
            if not self.is_mark(")"):
                self.expect(",")
        self.expect(")")
        if len(parameters) > self.limits.parameters:
            raise self.error(f"at most {self.limits.parameters} parameters", name.at, "budget")
        if self.taken("->"):
            self.annotation()
        return Function(name.text, tuple(parameters), tuple(defaults), self.block(), at=name.at)

    def annotation(self) -> None:
        """A type: read, and of no meaning. Names, dots and brackets alone, so that nothing is hidden in it."""
        depth = 0
        while self.peek().kind == "name" or self.is_mark("[", "]", ",", ".", "|"):
            if self.is_mark(",") and not depth:
                return
            depth += self.is_mark("[") - self.is_mark("]")
            if depth < 0:
                break
            self.take()
        if not self.is_mark("=", ":", ")", ",") and self.peek().kind != "newline":
            raise self.error("a type is made of names and [ ] alone")

    def block(self) -> tuple[Statement, ...]:
        self.expect(":")
        if self.peek().kind != "newline":
            return tuple(s for s in [self.simple()] if s is not None)
        while self.peek().kind == "newline":
            self.take()
        if self.peek().kind != "indent":
            raise self.error("an indented block should follow here")
        self.take()
        body: list[Statement] = []
        while self.peek().kind != "dedent":
            if self.peek().kind in ("newline", "indent", "end"):
                if self.take().kind != "newline":
                    raise self.error("this line is indented more than the one before it")
                continue
            if isinstance(statement := self.statement_or_nothing(), Statement):
                body.append(statement)
        self.take()
        return tuple(body)

    # Statements.

    def statement(self) -> Statement:
        at = self.peek().at
        found = self.statement_or_nothing()
        if found is None:
            raise self.error("outside of functions stand constants only, such as SCALE = 0.5", at)
        return found

    def statement_or_nothing(self) -> Statement | None:
        token = self.peek()
        if self.is_word("if"):
            return self.conditional()
        if self.is_word("for"):
            self.take()
            name = self.name("the loop's variable")
            if self.is_mark(","):
                raise self.error("a loop has one variable")
            self.expect("in")
            over = self.values()
            return For(name.text, over, self.block(), at=token.at)
        if self.is_word("def"):
            raise self.error("functions stand next to each other, and not inside of one another")
        if self.is_word("import", "from"):
            self.imported()
            return None
        if token.kind == "indent":
            raise self.error("this line is indented more than the one before it")
        return self.simple()

    def conditional(self) -> If:
        at = self.take().at
        self.depth += 1
        if self.depth > self.limits.depth:
            raise self.error(f"more than {self.limits.depth} elif", at, "budget")
        condition, yes = self.value(), self.block()
        while self.peek().kind == "newline":
            self.take()
        no: tuple[Statement, ...] = ()
        if self.is_word("elif"):
            no = (self.conditional(),)
        elif self.taken("else"):
            no = self.block()
        self.depth -= 1
        return If(condition, yes, no, at=at)

    def simple(self) -> Statement | None:
        """A statement on one line; None for ``pass`` and docstrings."""
        token = self.peek()
        if token.kind in ("doc", "string") or self.is_word("pass"):
            self.take()
            self.end_line()
            return None
        if self.taken("return"):
            if self.peek().kind == "newline":
                raise self.error("a function returns something: return reward, {...}")
            value = self.values()
            self.end_line()
            return Return(value, at=token.at)
        target = self.values()
        statement = self.assignment(target, token.at)
        self.end_line()
        return statement

    def assignment(self, target: Expr, at: int) -> Statement:
        if isinstance(target, Name) and self.taken(":"):
            self.annotation()
        mark = self.peek()
        if self.is_mark(":="):
            raise self.error("a value gets its name on a line of its own: name = value")
        if mark.kind != "mark" or not (mark.text == "=" or mark.text in ("+=", "-=", "*=", "/=", "//=", "%=", "**=")):
            raise self.error("this value is not used: name it (x = ...) or return it", at)
        self.take()
        op, value = mark.text[:-1], self.values()
        if self.is_mark("="):
            raise self.error("one '=' stands on a line")
        if isinstance(target, Name):
            return Assign((target.word,), value, op, at=at)
        if isinstance(target, Sequence) and not op and all(isinstance(item, Name) for item in target.items):
            return Assign(tuple(item.word for item in target.items if isinstance(item, Name)), value, at=at)
        if isinstance(target, Index) and isinstance(target.value, Name) and len(target.items) == 1:
            if isinstance(key := target.items[0], Text):
                return Store(target.value.word, key.value, value, op, at=at)
            raise self.error("arrays are not written into: x = where(mask, new, x)", at)
        raise self.error("a name, several names or components[\"name\"] stand left of '='", at)

    # Expressions.

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
        found = self.both()
        while token := self.taken("or"):
            found = self.make(Logic, token.at, "or", found, self.both())
        return found

    def both(self) -> Expr:
        found = self.negated()
        while token := self.taken("and"):
            found = self.make(Logic, token.at, "and", found, self.negated())
        return found

    def negated(self) -> Expr:
        marks = []
        while token := self.taken("not"):
            marks.append(token)
        found = self.comparison()
        for token in reversed(marks):
            found = self.make(Unary, token.at, "not", found)
        return found

    def comparison(self) -> Expr:
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
        marks = []
        while token := self.taken("-", "+", "~"):
            marks.append(token)
        found = self.power()
        for token in reversed(marks):
            found = self.make(Unary, token.at, token.text, found)
        return found

    def power(self) -> Expr:
        found = self.postfix()
        if token := self.taken("**"):
            self.depth += 1
            if self.depth > self.limits.depth:
                raise self.error("powers stand too deep in each other", token.at, "budget")
            found = self.make(Binary, token.at, "**", found, self.signed())
            self.depth -= 1
        return found

    def postfix(self) -> Expr:
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
