"""Compile a program: walk through it once with types and shapes in place of numbers, and note what is to be computed.

Loops are unrolled and functions put in the place of their calls, so what is left is a row of operations without jumps:
how long it takes and what it holds are known before it runs, and it always ends. An ``if`` over rows does both
branches and takes each row's own by ``where``; one over numbers that are known takes its branch now.
"""

import re
from collections.abc import Mapping as Given
from collections.abc import Sequence as Several
from typing import NoReturn

from .builder import Builder, dtype_of
from .indexing import RANGE, index
from .inputs import Input
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
from .operations import OPERATIONS
from .parser import parse
from .table import CONSTANTS, KINDS, PREFIXES, RESERVED, Operation, find, nearest
from .tape import Tape, make_tape
from .values import Array, Items, Kind, Nothing, Number, Parts, Rows, Unset, Value, Word

ENTRIES = ("compute_reward", "reward", "reward_function", "compute_dense_reward")
_COMPONENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
Names = dict[str, Value]


def compile_program(text: str, inputs: Several[Input], limits: Limits = LIMITS) -> Tape:
    """Compile a reward program.

    Args:
        text: The program.
        inputs: What the environment gives; the program's parameters are among them.
        limits: Its budgets.

    Returns:
        What can be run on batches.

    Raises:
        ProgramError: It is no program, or passes a limit; the message marks the place and says what to write.
    """
    try:
        return _Lowering(parse(text, limits), inputs, limits).run()
    except RecursionError:
        raise ProgramError("budget", "the program stands too deep in itself") from None


class _Lowering:
    def __init__(self, module: Module, inputs: Several[Input], limits: Limits) -> None:
        self.module, self.limits = module, limits
        self.build = Builder(module.text, limits)
        self.functions = {f.name: f for f in module.functions}
        self.inputs = {i.name: i for i in inputs}
        self.constants: Names = {}
        self.calls: list[str] = []
        self.depth = self.trips = self.returned = 0

    def refuse(self, message: str, at: Node | None = None, layer: str = "types") -> NoReturn:
        if at is not None:
            self.build.at = at.at
        self.build.refuse(message, layer)

    def run(self) -> Tape:
        for statement in self.module.constants:
            self.statement(statement, self.constants)
        entry = self.entry()
        names = dict(self.constants)
        for parameter in entry.parameters:
            names[parameter] = self.input(parameter, entry)
        value = self.body(entry.body, names)
        self.build.at = entry.at
        if value is None:
            self.refuse(f"{entry.name} does not return")
        self.build.at = self.returned
        return self.finish(entry, value)

    def entry(self) -> Function:
        """The function that gives the reward: by its name, or the only one."""
        for name in ENTRIES:
            if name in self.functions:
                return self.functions[name]
        if len(self.functions) > 1:
            self.refuse(f"which of the functions gives the reward? Call it {ENTRIES[0]}", self.module.functions[-1])
        return self.module.functions[0]

    def input(self, name: str, entry: Function) -> Value:
        found = self.inputs.get(name)
        if found is None:
            known = ", ".join(self.inputs)
            self.refuse(f"the environment gives no {name!r}; it gives {known}"[:600], entry)
        array = self.build.new(found.kind, found.shape, True)
        self.build.inputs.append(array)
        return array

    def finish(self, entry: Function, value: Value) -> Tape:
        reward, parts = value, Parts()
        if isinstance(value, Items):
            if len(value.items) != 2 or not isinstance(value.items[1], Parts):
                self.refuse('the program returns reward, or reward, {"name": component}')
            reward, parts = value.items[0], value.items[1]
        if len(parts.items) > self.limits.components:
            self.refuse(f"at most {self.limits.components} components are returned", layer="budget")
        for name in parts.items:
            if not _COMPONENT.fullmatch(name):
                self.refuse("components are named by at most 40 letters, digits and _")
        result = self.column(reward, "the reward")
        columns = [(name, self.column(part, f"the component {name!r}")) for name, part in parts.items.items()]
        build = self.build
        inputs = list(zip(entry.parameters, build.inputs))
        tape = make_tape(inputs, build.constants, build.instructions, result, columns, build.work)
        if tape.live > self.limits.live:
            self.refuse(
                f"the arrays of one row hold {tape.live} numbers at once; at most {self.limits.live}", layer="budget"
            )
        return tape

    def column(self, value: Value, what: str) -> Array:
        """One float32 number for each row, in an array that is nobody else's."""
        if not isinstance(value, Array | Number):
            self.refuse(f"{what} is {value}, and should be a number for each environment: float32 [B]")
        if isinstance(value, Number):
            return self.build.full(value.value, ())
        if value.shape:
            self.refuse(
                f"{what} is {value}, and should be one number for each environment, [B]: sum or index the last axis"
            )
        array = self.build.cast_array(value, "f")
        if not array.batched:
            return self.build.array(self.build.arithmetic("+", self.build.full(0.0, ()), array))
        if array in self.build.inputs or any(i.out == array and i.op == "index" for i in self.build.instructions):
            return self.build.elementwise("add", [array, Number(0.0)], "f")
        return array

    # Statements. A body gives what it returns, or None where it goes on.

    def enter(self, node: Node) -> None:
        self.build.at = node.at
        self.build.step()
        self.depth += 1
        if self.depth > self.limits.nesting:
            self.refuse("blocks, calls and expressions stand too deep in each other", layer="budget")

    def body(self, statements: tuple[Statement, ...], names: Names) -> Value | None:
        for i, statement in enumerate(statements):
            if isinstance(statement, If) and _returns(statement):
                return self.returning(statement, statements[i + 1 :], names)
            value = self.statement(statement, names)
            if value is not None:
                if i + 1 < len(statements):
                    self.refuse("nothing is done after a return", statements[i + 1])
                return value
        return None

    def statement(self, statement: Statement, names: Names) -> Value | None:
        self.enter(statement)
        value = None
        if isinstance(statement, Assign):
            self.assign(statement, names)
        elif isinstance(statement, Store):
            self.store(statement, names)
        elif isinstance(statement, Return):
            value = self.value(statement.value, names)
            self.returned = statement.at if not self.calls else self.returned
        elif isinstance(statement, If):
            self.branch(statement, names)
        elif isinstance(statement, For):
            value = self.loop(statement, names)
        self.depth -= 1
        return value

    def assign(self, statement: Assign, names: Names) -> None:
        value = self.value(statement.value, names)
        self.build.at = statement.at
        for name in statement.names:
            if name in RESERVED or name in self.functions:
                self.refuse(f"{name!r} means something else here; choose another name")
        if len(statement.names) == 1:
            name = statement.names[0]
            if statement.op:
                value = self.build.arithmetic(statement.op, self.named(name, names), value)
            names[name] = value
            return
        if not isinstance(value, Items) or len(value.items) != len(statement.names):
            self.refuse(f"{len(statement.names)} names stand left of '=', and {value} right of it")
        names.update(zip(statement.names, value.items))

    def store(self, statement: Store, names: Names) -> None:
        held = self.named(statement.name, names)
        if not isinstance(held, Parts):
            self.refuse(f"{statement.name!r} is {held}; only a dict of components is written into", statement)
        value = self.value(statement.value, names)
        self.build.at = statement.at
        if statement.op:
            if statement.key not in held.items:
                self.refuse(f"there is no component {statement.key!r} yet")
            value = self.build.arithmetic(statement.op, held.items[statement.key], value)
        if len(held.items) >= self.limits.components and statement.key not in held.items:
            self.refuse(f"more than {self.limits.components} components", layer="budget")
        names[statement.name] = Parts({**held.items, statement.key: value})

    def loop(self, statement: For, names: Names) -> Value | None:
        over = self.value(statement.over, names)
        if not isinstance(over, Items):
            self.refuse(f"a loop goes over range(n) or a list, and not over {over}", statement)
        if statement.name in RESERVED or statement.name in self.functions:
            self.refuse(f"{statement.name!r} means something else here; choose another name", statement)
        if any(_returns(s) for s in statement.body):
            self.refuse("a loop does not return; set a name, and return it after the loop", statement)
        for item in over.items:
            self.trips += 1
            if self.trips > self.limits.trips:
                self.refuse(f"all loops together go round more than {self.limits.trips} times", statement, "budget")
            names[statement.name] = item
            self.body(statement.body, names)
        return None

    def condition(self, statement: If, names: Names) -> Array | Number:
        value = self.value(statement.condition, names)
        self.build.at = statement.condition.at
        test = self.build.truth(value, "if")
        if isinstance(test, Array) and (test.shape or not test.batched):
            self.refuse(f"if wants one bool for each environment, and this is {test}: any(..., dim=-1) gives one")
        return test

    def branch(self, statement: If, names: Names) -> None:
        test = self.condition(statement, names)
        if isinstance(test, Number):
            self.body(statement.yes if test.value else statement.no, names)
            return
        yes, no = dict(names), dict(names)
        self.body(statement.yes, yes)
        self.body(statement.no, no)
        self.build.at = statement.at
        for name in {**yes, **no}:
            if yes.get(name) is not no.get(name):
                names[name] = self.merge(test, yes.get(name, Unset()), no.get(name, Unset()))

    def returning(self, statement: If, rest: tuple[Statement, ...], names: Names) -> Value:
        """An ``if`` with a return in it: what comes after it belongs to the branches that go on."""
        self.enter(statement)
        test = self.condition(statement, names)
        for branch in (statement.yes, statement.no):
            if any(map(_returns, branch)) and not _always(branch) and rest:
                self.refuse("a branch returns sometimes: give it an else that returns too", statement)
        sides = [b if _always(b) else (*b, *rest) for b in (statement.yes, statement.no)]
        if isinstance(test, Number):
            sides = [sides[0] if test.value else sides[1]]
        values = [self.body(side, dict(names)) for side in sides]
        self.build.at = statement.at
        found = [value for value in values if value is not None]
        if len(found) < len(values):
            self.refuse("one way through this if returns, and the other one does not")
        self.depth -= 1
        return found[0] if isinstance(test, Number) else self.merge(test, found[0], found[1])

    def merge(self, test: Array | Number, yes: Value, no: Value) -> Value:
        """Each row's own of two values."""
        self.build.step()  # tuples of tuples that double would be walked through for ever
        if yes is no:
            return yes
        if isinstance(yes, Unset) or isinstance(no, Unset):
            return Unset()
        if isinstance(yes, Items) and isinstance(no, Items) and len(yes.items) == len(no.items):
            return Items(tuple(self.merge(test, a, b) for a, b in zip(yes.items, no.items)))
        if isinstance(yes, Parts) and isinstance(no, Parts):
            if yes.items.keys() != no.items.keys():
                self.refuse("both branches give the same components: " + ", ".join(yes.items.keys() ^ no.items.keys()))
            return Parts({name: self.merge(test, a, no.items[name]) for name, a in yes.items.items()})
        if isinstance(yes, Array | Number) and isinstance(no, Array | Number):
            if yes == no and dtype_of(yes) == dtype_of(no):
                return yes
            shapes = [v.shape for v in (yes, no) if isinstance(v, Array)]
            axes = max((len(s) for s in shapes), default=0)
            return self.build.where(self.build.unsqueezed(self.build.array(test), axes), yes, no)
        if isinstance(yes, Word | Kind | Nothing | Rows) and yes == no:
            return yes
        return self.refuse(f"the branches of this if give {yes} and {no}")

    # Expressions.

    def value(self, expr: Expr, names: Names) -> Value:
        self.enter(expr)
        found = self.found(expr, names)
        self.depth -= 1
        self.build.at = expr.at
        return found

    def found(self, expr: Expr, names: Names) -> Value:
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
        values = [self.value(v, names) for v in expr.values]
        self.build.at = expr.at
        found: Value = self.build.compare(expr.ops[0], values[0], values[1])
        for op, left, right in zip(expr.ops[1:], values[1:], values[2:]):
            found = self.build.logic("and", found, self.build.compare(op, left, right))
        return found

    def named(self, word: str, names: Given[str, Value]) -> Value:
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

    def inline(
        self, function: Function, args: tuple[Value, ...], names: tuple[str, ...], keywords: tuple[Value, ...]
    ) -> Value:
        """The value of a function of the program, worked out in the place of the call."""
        if function.name in self.calls or len(self.calls) >= self.limits.calls:
            self.refuse(f"{function.name!r} calls itself, or functions call each other too deep", layer="budget")
        if len(args) > len(function.parameters):
            self.refuse(f"{function.name} has {len(function.parameters)} parameters, and {len(args)} are given")
        local = {**self.constants, **dict(zip(function.parameters, args))}
        given = set(function.parameters[: len(args)])
        for name, value in zip(names, keywords):
            if name not in function.parameters or name in given:
                self.refuse(f"{function.name} has no parameter {name!r}, or it is given twice")
            local[name] = value
            given.add(name)
        defaults = dict(
            zip(function.parameters[len(function.parameters) - len(function.defaults) :], function.defaults)
        )
        here = self.build.at
        for name in function.parameters:
            if name not in given:
                if name not in defaults:
                    self.refuse(f"{function.name} needs {name!r}")
                local[name] = self.value(defaults[name], self.constants)
        self.calls.append(function.name)
        result = self.body(function.body, local)
        self.calls.pop()
        self.build.at = here
        if result is None:
            self.refuse(f"{function.name} does not return")
        return result

    def index(self, expr: Index, names: Names) -> Value:
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


def _returns(statement: Statement) -> bool:
    """Whether there is a return in it."""
    if isinstance(statement, If):
        return any(map(_returns, (*statement.yes, *statement.no)))
    return isinstance(statement, Return) or (isinstance(statement, For) and any(map(_returns, statement.body)))


def _always(body: tuple[Statement, ...]) -> bool:
    """Whether every way through it returns."""
    return any(isinstance(s, Return) or (isinstance(s, If) and _always(s.yes) and _always(s.no)) for s in body)
