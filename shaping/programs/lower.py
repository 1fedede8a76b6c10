"""Compile a program: walk through it once with types and shapes in place of numbers, and note what is to be computed.

Loops are unrolled and functions put in the place of their calls, so what is left is a row of operations without jumps:
how long it takes and what it holds are known before it runs, and it always ends. An ``if`` over rows does both
branches and takes each row's own by ``where``; one over numbers that are known takes its branch now.
"""

import re
from collections.abc import Sequence as Several

from .builder import dtype_of
from .inputs import Input
from .limits import LIMITS, Limits, ProgramError
from .lower_expressions import LowerExpressions, Names
from .nodes import Assign, For, Function, If, Module, Return, Statement, Store
from .parser import parse
from .table import RESERVED
from .tape import Tape, make_tape
from .values import Array, Items, Kind, Nothing, Number, Parts, Rows, Unset, Value, Word

ENTRIES = ("compute_reward", "reward", "reward_function", "compute_dense_reward")
_COMPONENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


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


class _Lowering(LowerExpressions):
    """Walks through a program."""

    def __init__(self, module: Module, inputs: Several[Input], limits: Limits) -> None:
        super().__init__(module, limits)
        self.inputs = {i.name: i for i in inputs}
        self.constants: Names = {}
        self.calls: list[str] = []
        self.trips = self.returned = 0

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


def _returns(statement: Statement) -> bool:
    """Whether there is a return in it."""
    if isinstance(statement, If):
        return any(map(_returns, (*statement.yes, *statement.no)))
    return isinstance(statement, Return) or (isinstance(statement, For) and any(map(_returns, statement.body)))


def _always(body: tuple[Statement, ...]) -> bool:
    """Whether every way through it returns."""
    return any(isinstance(s, Return) or (isinstance(s, If) and _always(s.yes) and _always(s.no)) for s in body)
