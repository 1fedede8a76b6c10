"""What the expressions of a program come to while it is compiled: values with types and shapes in place of numbers."""

from collections.abc import Mapping as Given
from typing import NoReturn

from .builder import Builder, dtype_of
from .indexing import RANGE, index
from .limits import Limits
from .nodes import (
    Attribute,
    Binary,
    Call,
    Choice,
    Compare,
    Constant,
    Expr,
    Function,
    Index,
    Logic,
    Mapping,
    Module,
    Name,
    Node,
    Sequence,
    Slice,
    Text,
    Unary,
)
from .operations import OPERATIONS
from .table import CONSTANTS, KINDS, PREFIXES, RESERVED, Operation, find, nearest
from .values import Array, Items, Kind, Nothing, Number, Parts, Unset, Value, Word

Names = dict[str, Value]


class LowerExpressions:
    """Walks through expressions, and has the builder note what is to be computed.

    Args:
        module: The program.
        limits: Its budgets.
    """

    def __init__(self, module: Module, limits: Limits) -> None:
        self.module, self.limits = module, limits
        self.build = Builder(module.text, limits)
        self.functions = {f.name: f for f in module.functions}
        self.depth = 0

    def inline(
        self, function: Function, args: tuple[Value, ...], names: tuple[str, ...], keywords: tuple[Value, ...]
    ) -> Value:
        """The value of a function of the program, worked out in the place of the call."""
        raise NotImplementedError

    def refuse(self, message: str, at: Node | None = None, layer: str = "types") -> NoReturn:
        """Say what is wrong at a node, or where the compiler is."""
        if at is not None:
            self.build.at = at.at
        self.build.refuse(message, layer)

    def enter(self, node: Node) -> None:
        """Count a node that is walked through, and how deep it stands; whoever enters counts ``depth`` down again."""
        self.build.at = node.at
        self.build.step()
        self.depth += 1
        if self.depth > self.limits.nesting:
            self.refuse("blocks, calls and expressions stand too deep in each other", layer="budget")

    def value(self, expr: Expr, names: Names) -> Value:
        """What an expression comes to."""
        self.enter(expr)
        found = self.found(expr, names)
        self.depth -= 1
        self.build.at = expr.at
        return found

    def found(self, expr: Expr, names: Names) -> Value:
        """The same, by its kind."""
        build = self.build
        if isinstance(expr, Constant):
            return Nothing() if expr.value is None else Number(expr.value)
        if isinstance(expr, Text):
            return Word(expr.value)
        if isinstance(expr, Name):
            return self.named(expr.word, names)
        if isinstance(expr, Attribute):
            return self.attribute(expr, names)
        if isinstance(expr, Call):
            return self.call(expr, names)
        if isinstance(expr, Index):
            return self.index(expr, names)
        if isinstance(expr, Sequence):
            return Items(tuple(self.value(item, names) for item in expr.items))
        if isinstance(expr, Mapping):
            return Parts({key: self.value(item, names) for key, item in zip(expr.keys, expr.values)})
        if isinstance(expr, Binary):
            left, right = self.value(expr.left, names), self.value(expr.right, names)
            build.at = expr.at
            return build.arithmetic(expr.op, left, right)
        if isinstance(expr, Unary):
            inner = self.value(expr.value, names)
            build.at = expr.at
            if expr.op == "+":
                return build.operand(inner)
            return build.negative(inner) if expr.op == "-" else build.negated(inner)
        if isinstance(expr, Logic):
            left, right = self.value(expr.left, names), self.value(expr.right, names)
            build.at = expr.at
            return build.logic(expr.op, left, right)
        if isinstance(expr, Compare):
            return self.compare(expr, names)
        if isinstance(expr, Choice):
            test = self.value(expr.condition, names)
            build.at = expr.at
            truth = build.truth(test, "if")
            if isinstance(truth, Number):
                return self.value(expr.yes if truth.value else expr.no, names)
            yes, no = self.value(expr.yes, names), self.value(expr.no, names)
            build.at = expr.at
            return build.where(truth, yes, no)
        return self.refuse("this has no value", expr)

    def compare(self, expr: Compare, names: Names) -> Value:
        """``a < b < c`` is ``a < b and b < c``."""
        values = [self.value(v, names) for v in expr.values]
        self.build.at = expr.at
        found: Value = self.build.compare(expr.ops[0], values[0], values[1])
        for op, left, right in zip(expr.ops[1:], values[1:], values[2:]):
            found = self.build.logic("and", found, self.build.compare(op, left, right))
        return found

    def named(self, word: str, names: Given[str, Value]) -> Value:
        """What a word stands for."""
        if word in names:
            if isinstance(names[word], Unset):
                self.refuse(f"{word!r} is set in one branch of an if only; set it before the if")
            return names[word]
        if word in KINDS:
            return Kind(KINDS[word])
        if word in OPERATIONS or word in self.functions:
            self.refuse(f"{word!r} is a function, and is called: {word}(...)")
        known = ", ".join(name for name in names if not name.startswith("_"))
        self.refuse(f"there is nothing called {word!r}; there are {known}"[:400])

    def attribute(self, expr: Attribute, names: Names) -> Value:
        """A constant or type of a library, or the shape of an array."""
        dotted = _dotted(expr)
        prefix, _, word = dotted.rpartition(".")
        if prefix in PREFIXES:
            if word in CONSTANTS:
                return Number(CONSTANTS[word])
            if word in KINDS:
                return Kind(KINDS[word])
            self.refuse(f"there is no {dotted!r} here{nearest(word)}", expr)
        value = self.value(expr.value, names)
        self.build.at = expr.at
        if expr.word == "shape" and isinstance(value, Array):
            return self.build.shape_of(value)
        if expr.word == "ndim" and isinstance(value, Array):
            return Number(len(value.shape) + value.batched)
        if expr.word in ("device", "dtype") and isinstance(value, Array):
            return Nothing() if expr.word == "device" else Kind(value.dtype)
        self.refuse(f"{value} has no {expr.word!r}: there are operations, and shape{nearest(expr.word)}")

    def call(self, expr: Call, names: Names) -> Value:
        """What an operation, a method or a function of the program gives."""
        operation, first = self.callee(expr, names)
        args = (*first, *(self.value(a, names) for a in expr.args))
        keywords = tuple(self.value(k, names) for k in expr.keywords)
        self.build.at = expr.at
        if isinstance(operation, Function):
            return self.inline(operation, args, expr.names, keywords)
        return operation.call(self.build, args, expr.names, keywords)

    def callee(self, expr: Call, names: Names) -> tuple[Operation | Function, tuple[Value, ...]]:
        """What is called, and the value it is a method of."""
        dotted = _dotted(expr.called)
        root = dotted.partition(".")[0]
        if isinstance(expr.called, Name):
            if dotted in self.functions:
                return self.functions[dotted], ()
            if dotted == "range":
                return RANGE, ()
            if isinstance(names.get(dotted), Array | Number) and dotted not in OPERATIONS:
                self.refuse(f"{dotted!r} is a value, and no function", expr)
        elif isinstance(expr.called, Attribute) and not (root in RESERVED and root not in names):
            value = self.value(expr.called.value, names)
            self.build.at = expr.at
            method = find(expr.called.word)
            if method is None or not isinstance(value, Array):
                self.refuse(f"{value} has no {expr.called.word!r}{nearest(expr.called.word)}")
            return method, (value,)
        found = find(dotted) if dotted else None
        if found is None:
            self.refuse(f"there is no operation {dotted or 'like this'!r} here{nearest(dotted)}"[:300], expr)
        return found, ()

    def index(self, expr: Index, names: Names) -> Value:
        """A part of an array, a list or the components."""
        value = self.value(expr.value, names)
        items = [None if i is None else self.item(i, names) for i in expr.items]
        self.build.at = expr.at
        if isinstance(value, Parts) and len(items) == 1 and isinstance(items[0], Word):
            if items[0].value not in value.items:
                self.refuse(f"there is no component {items[0].value!r}")
            return value.items[items[0].value]
        if isinstance(value, Items) and len(items) == 1:
            return self.item_of(value, items[0])
        if not isinstance(value, Array):
            self.refuse(f"{value} has nothing to index")
        return index(self.build, value, items)

    def item(self, expr: Expr, names: Names) -> "Value | slice":
        """What stands between the brackets; slices are of numbers that are known."""
        if not isinstance(expr, Slice):
            return self.value(expr, names)
        parts: list[int | None] = []
        for part in (expr.start, expr.stop, expr.step):
            found = None if part is None else self.value(part, names)
            if found is not None and not (isinstance(found, Number) and dtype_of(found) == "i"):
                self.refuse("slices are made of whole numbers that are known", expr)
            parts.append(None if found is None else int(found.value))
        if parts[2] is not None and parts[2] < 1:
            self.refuse("the step of a slice is at least 1", expr)
        return slice(*parts)

    def item_of(self, value: Items, item: "Value | slice | None") -> Value:
        """One item of a list, or some."""
        if isinstance(item, slice):
            return Items(value.items[item])
        if not (isinstance(item, Number) and dtype_of(item) == "i"):
            self.refuse("a list is indexed by whole numbers that are known")
        if not -len(value.items) <= item.value < len(value.items):
            self.refuse(f"there is no item {item.value} among {len(value.items)}")
        return value.items[int(item.value)]


def _dotted(expr: Expr) -> str:
    """``a.b.c`` as text; "" where it is anything else."""
    words: list[str] = []
    while isinstance(expr, Attribute):
        words.append(expr.word)
        expr = expr.value
    return ".".join([expr.word, *reversed(words)]) if isinstance(expr, Name) else ""
