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

from .expressions import Expressions
from .limits import LIMITS, Limits, ProgramError
from .nodes import Assign, Expr, For, Function, If, Index, Module, Name, Return, Sequence, Statement, Store, Text

# Lines that say what is so anyway, without spaces.
IMPORTS = frozenset({
    "import torch", "import math", "import numpy as np", "import numpy", "import torch . nn . functional as F",
    "from torch import Tensor", "from __future__ import annotations",
})  # fmt: skip
TYPING = frozenset(("Tuple", "Dict", "List", "Optional", "Any", "Union"))
DECORATORS = frozenset({"torch . jit . script", "torch . no_grad ( )"})


def parse(text: str, limits: Limits = LIMITS) -> Module:
    """Read a program.

    Raises:
        ProgramError: With the place marked.
    """
    return _Parser(text, limits).module()


class _Parser(Expressions):
    """Reads programs."""

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
