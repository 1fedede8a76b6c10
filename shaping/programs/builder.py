"""Operations on values while compiling: types and shapes found, numbers folded, instructions noted, budgets kept."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from .limits import Limits, ProgramError
from .values import Array, Items, Nothing, Number, Rows, Value

Attribute = tuple[Any, ...]


class Instruction(NamedTuple):
    """``out = kernel(op, attributes)(args)``; a number among the arguments is given as it is."""

    op: str
    args: tuple[Array | Number, ...]
    attributes: Attribute
    out: Array


class Builder:
    """The instructions of one program, as they come.

    Args:
        text: The program, to mark places in.
        limits: Its budgets.

    Attributes:
        at: Where in the text compiling is; errors are marked there.
    """

    def __init__(self, text: str, limits: Limits) -> None:
        self.text, self.limits, self.at = text, limits, 0
        self.instructions: list[Instruction] = []
        self.constants: list[tuple[Array, tuple[float, ...]]] = []
        self.inputs: list[Array] = []
        self.slots = self.steps = self.work = 0
        self._known: dict[Any, Array] = {}

    def refuse(self, message: str, layer: str = "types") -> NoReturn:
        """Raise the error for what stands at ``at``."""
        raise ProgramError(layer, message, self.text, self.at)

    def step(self) -> None:
        """Count one more expression or statement."""
        self.steps += 1
        if self.steps > self.limits.steps:
            self.refuse(f"compiling takes more than {self.limits.steps} steps: too many rounds of loops", "budget")

    # Arrays.

    def new(self, dtype: str, shape: tuple[int, ...], batched: bool) -> Array:
        """A slot for an array, after its size has been held against the limits."""
        if len(shape) > self.limits.axes:
            self.refuse(f"an array of more than {self.limits.axes} axes", "budget")
        array = Array(self.slots, dtype, shape, batched)
        if array.elements > self.limits.elements:
            self.refuse(
                f"an array of {array.elements} numbers in each row; at most {self.limits.elements} are made", "budget"
            )
        self.slots += 1
        return array

    def emit(
        self, op: str, args: Sequence[Array | Number], dtype: str, shape: tuple[int, ...], *attributes: Any
    ) -> Array:
        """Note an instruction and return its result; what was computed already is not computed again."""
        # True == 1 == 1.0 in Python, and not here.
        key = (op, tuple((type(getattr(a, "value", None)), a) for a in args), attributes)
        if key in self._known:
            return self._known[key]
        batched = any(isinstance(a, Array) and a.batched for a in args)
        out = self.new(dtype, shape, batched)
        self.work += max([out.elements, *(a.elements for a in args if isinstance(a, Array))])
        if self.work > self.limits.work:
            self.refuse(f"the program computes more than {self.limits.work} numbers for each row", "budget")
        if len(self.instructions) >= self.limits.instructions:
            self.refuse(f"the program has more than {self.limits.instructions} operations", "budget")
        self.instructions.append(Instruction(op, tuple(args), attributes, out))
        self._known[key] = out
        return out

    def constant(self, dtype: str, shape: tuple[int, ...], numbers: tuple[float, ...]) -> Array:
        """An array that is the same in all rows."""
        key = ("constant", dtype, shape, numbers)
        if key not in self._known:
            self._known[key] = self.new(dtype, shape, False)
            self.constants.append((self._known[key], numbers))
        return self._known[key]

    def array(self, value: Value, what: str = "a number or an array") -> Array:
        """The value as an array; numbers and lists of numbers become constants."""
        if isinstance(value, Array):
            return value
        if isinstance(value, Number):
            return self.constant(_dtype(value), (), (value.value,))
        if isinstance(value, Items) and value.items:
            if all(isinstance(v, Number) for v in value.items):
                numbers = [v for v in value.items if isinstance(v, Number)]
                dtype = "f" if any(_dtype(v) == "f" for v in numbers) else _dtype(numbers[0])
                dtype = dtype if all(_dtype(v) == dtype for v in numbers) else "f"
                return self.constant(dtype, (len(numbers),), tuple(v.value for v in numbers))
            return self.stack([self.array(v) for v in value.items], 0)
        self.refuse(f"{what} should stand here, and not {value}")

    def operand(self, value: Value) -> Array | Number:
        """The value as an array, or as a number where it is one."""
        return value if isinstance(value, Number) else self.array(value)

    # Types and shapes.

    def cast(self, value: Array | Number, dtype: str) -> Array | Number:
        """The value in another dtype."""
        if isinstance(value, Number):
            return Number({"f": float, "i": int, "b": bool}[dtype](value.value))
        return value if value.dtype == dtype else self.emit("cast", [value], dtype, value.shape, dtype)

    def cast_array(self, value: Array, dtype: str) -> Array:
        """The array in another dtype."""
        return value if value.dtype == dtype else self.emit("cast", [value], dtype, value.shape, dtype)

    def common(self, *values: Array | Number) -> list[Array | Number]:
        """The values in one dtype: int64 where all are whole, else float32. True counts as 1.0."""
        dtype = "i" if all(_dtype(v) == "i" for v in values) else "f"
        return [self.cast(v, dtype) for v in values]

    def broadcast(self, *values: Array | Number) -> tuple[int, ...]:
        """The shape of a row of the result, as NumPy would have it; rows are never matched with other axes."""
        arrays = [v for v in values if isinstance(v, Array)]
        batched = {len(a.shape) for a in arrays if a.batched}
        most = max((len(a.shape) for a in arrays), default=0)
        if len(batched) > 1 or (batched and most > max(batched)):
            kinds = " and ".join(str(a) for a in arrays)
            self.refuse(
                f"{kinds} do not fit each other: B is the batch, and the axes after it are counted from it. Write "
                "x[:, None] to give [B] an axis more, or reduce the other one with dim=-1"
            )
        shape = []
        for axis in range(1, most + 1):
            sizes = {a.shape[-axis] for a in arrays if len(a.shape) >= axis}
            if len(sizes - {1}) > 1:
                self.refuse(f"{' and '.join(str(a) for a in arrays)} do not fit each other: sizes {sorted(sizes)}")
            shape.append(max(sizes) if 0 not in sizes else 0)
        return tuple(reversed(shape))

    # Arithmetic.

    def elementwise(self, op: str, values: Sequence[Array | Number], dtype: str) -> Array:
        """An operation on each number."""
        return self.emit(op, values, dtype, self.broadcast(*values))

    def unary(self, op: str, value: Value, fold: Callable[[float], float]) -> Value:
        """A function of one number, in float32."""
        found = self.operand(value)
        if isinstance(found, Number):
            return self.folded(lambda: fold(float(found.value)))
        return self.elementwise(op, [self.cast(found, "f")], "f")

    def folded(self, compute: Callable[[], Any]) -> Number:
        """A number computed now, in the bounds of what is computed with."""
        try:
            value = compute()
        except (ArithmeticError, ValueError) as error:
            self.refuse(f"this number cannot be computed ({type(error).__name__})")
        if isinstance(value, complex) or not math.isfinite(value):
            self.refuse("this is no finite number")
        if abs(value) > (self.limits.integer if isinstance(value, int) else 1e30):
            self.refuse("this number is too large to compute with in float32", "budget")
        return Number(value)

    def arithmetic(self, op: str, left: Value, right: Value) -> Value:
        """``left op right``."""
        if op == "/":
            return self.divide(left, right)
        if op == "**":
            return self.power(left, right)
        if op in ("//", "%"):
            return self.floor_divide(op, left, right)
        if op in ("&", "|", "^"):
            return self.logic({"&": "and", "|": "or", "^": "xor"}[op], left, right)
        a, b = self.operand(left), self.operand(right)
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            return self.folded(lambda: x + y if op == "+" else x - y if op == "-" else x * y)
        a, b = self.common(a, b)
        return self.elementwise({"+": "add", "-": "sub", "*": "mul"}[op], [a, b], _dtype(a))

    def divide(self, left: Value, right: Value) -> Value:
        """``left / right``, in float32."""
        a, b = self.operand(left), self.operand(right)
        if isinstance(b, Number) and b.value == 0:
            self.refuse("a division by 0")
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            return self.folded(lambda: x / y)
        return self.elementwise("div", [self.cast(a, "f"), self.cast(b, "f")], "f")

    def floor_divide(self, op: str, left: Value, right: Value) -> Value:
        """``left // right`` or ``left % right``; whole numbers stay whole where the divisor is known."""
        a, b = self.operand(left), self.operand(right)
        if isinstance(b, Number) and b.value == 0:
            self.refuse("a division by 0")
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            return self.folded(lambda: x // y if op == "//" else x % y)
        whole = _dtype(a) == "i" and isinstance(b, Number) and _dtype(b) == "i"
        dtype = "i" if whole else "f"
        return self.elementwise("floordiv" if op == "//" else "mod", [self.cast(a, dtype), self.cast(b, dtype)], dtype)

    def power(self, left: Value, right: Value) -> Value:
        """``left ** right``, in float32."""
        a, b = self.operand(left), self.operand(right)
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            # Asked before it is computed: 9**9**9 has hundreds of millions of digits.
            if isinstance(x, int) and isinstance(y, int) and (y > 64 or (abs(x) > 1 and y * x.bit_length() > 64)):
                self.refuse("this power is too large", "budget")
            return self.folded(lambda: x**y)
        if isinstance(b, Number) and b.value in (1, 2, 0.5):
            assert isinstance(a, Array)
            a = self.cast_array(a, "f")
            return a if b.value == 1 else self.elementwise("square" if b.value == 2 else "sqrt", [a], "f")
        return self.elementwise("pow", [self.cast(a, "f"), self.cast(b, "f")], "f")

    def negative(self, value: Value) -> Value:
        """``-value``."""
        a = self.operand(value)
        if isinstance(a, Number):
            x = a.value
            return self.folded(lambda: -x)
        return self.elementwise("neg", [a if a.dtype == "i" else self.cast(a, "f")], "i" if a.dtype == "i" else "f")

    def compare(self, op: str, left: Value, right: Value) -> Value:
        """``left op right`` with one of < > <= >= == !=."""
        a, b = self.operand(left), self.operand(right)
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            results = {"<": x < y, ">": x > y, "<=": x <= y, ">=": x >= y, "==": x == y, "!=": x != y}
            return Number(results[op])
        if not _dtype(a) == _dtype(b) == "b":
            a, b = self.common(a, b)
        kernel = {"<": "lt", ">": "gt", "<=": "le", ">=": "ge", "==": "eq", "!=": "ne"}[op]
        return self.elementwise(kernel, [a, b], "b")

    def truth(self, value: Value, what: str) -> Array | Number:
        """A bool, as ``and``, ``not`` and ``if`` want it."""
        found = self.operand(value)
        if _dtype(found) != "b":
            if isinstance(found, Number):
                return Number(bool(found.value))
            self.refuse(f"{what} wants something true or false, and this is {found}: compare it, as in x > 0")
        return found

    def logic(self, op: str, left: Value, right: Value) -> Value:
        """``left and right``, ``or``, ``xor``: of every number on its own."""
        a, b = self.truth(left, op), self.truth(right, op)
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = bool(a.value), bool(b.value)
            return Number({"and": x and y, "or": x or y, "xor": x != y}[op])
        if isinstance(a, Number):
            a, b = b, a
        if isinstance(b, Number):
            assert isinstance(a, Array)
            if op == "xor":
                return self.elementwise("not", [a], "b") if b.value else a
            # One side is known: the other one decides, or nothing does.
            return a if bool(b.value) == (op == "and") else b
        return self.elementwise(op, [a, b], "b")

    def negated(self, value: Value) -> Value:
        """``not value``."""
        a = self.truth(value, "not")
        return Number(not a.value) if isinstance(a, Number) else self.elementwise("not", [a], "b")

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """``yes`` where the condition holds, else ``no``."""
        test = self.truth(condition, "where")
        if isinstance(test, Number):
            return yes if test.value else no
        a, b = self.operand(yes), self.operand(no)
        if not _dtype(a) == _dtype(b) == "b":
            a, b = self.common(a, b)
        first, second = self.array(a), self.array(b)
        return self.elementwise("where", [test, first, second], first.dtype)

    def extremum(self, op: str, left: Value, right: Value) -> Value:
        """The smaller ("minimum") or larger ("maximum") of two."""
        a, b = self.common(self.operand(left), self.operand(right))
        if isinstance(a, Number) and isinstance(b, Number):
            x, y = a.value, b.value
            return Number(min(x, y) if op == "minimum" else max(x, y))
        if isinstance(a, Number):
            a, b = b, a
        if isinstance(b, Number):
            assert isinstance(a, Array)
            low, high = (b.value, None) if op == "maximum" else (None, b.value)
            return self.emit("clip", [a], a.dtype, a.shape, low, high)
        return self.elementwise(op, [a, b], _dtype(a))

    # Axes.

    def axis(self, value: Array, dim: Value, *, of_new: bool = False) -> int:
        """An axis of a row, from -1 for the last; the batch is none."""
        if not (isinstance(dim, Number) and _dtype(dim) == "i"):
            self.refuse("dim is a whole number that is known, such as -1")
        number, axes = int(dim.value), len(value.shape) + value.batched + of_new
        if not -axes <= number < axes:
            self.refuse(f"{value} has no axis {number}")
        axis = number - axes if number >= 0 else number
        if value.batched and axis == -axes:
            self.refuse(
                f"dim={number} of {value} is the batch: a reward looks at one environment at a time. The axes of "
                + ("a row begin with dim=1, or dim=-1 for the last" if value.shape else "a row are none here")
            )
        return axis

    def reduce(self, op: str, value: Array, dim: Value, keep: bool, dtype: str) -> Array:
        """A reduction over one axis of each row (or over all, where there are no rows)."""
        if isinstance(dim, Nothing):
            if value.batched:
                self.refuse(
                    f"over {value} without dim this would mix the environments of the batch: "
                    + ("say dim=-1" if value.shape else "it has one number for each environment already")
                )
            axes = tuple(range(-len(value.shape), 0))
        else:
            dims = dim.items if isinstance(dim, Items) else (dim,)
            axes = tuple(sorted({self.axis(value, d) for d in dims}))
        if op in ("min", "max", "mean") and any(value.shape[a] == 0 for a in axes):
            self.refuse(f"{op} over an axis without numbers")
        kept = [1 if a in axes else n for a, n in zip(range(-len(value.shape), 0), value.shape)]
        shape = tuple(n for a, n in zip(range(-len(value.shape), 0), kept) if keep or a not in axes)
        return self.emit(op, [value], dtype, shape, axes, keep)

    def stack(self, arrays: list[Array], axis: int) -> Array:
        """Arrays of one shape side by side along a new axis of the row (counted from 0 for the first)."""
        dtype = "f" if len({a.dtype for a in arrays}) > 1 else arrays[0].dtype
        arrays = [self.cast_array(a, dtype) for a in arrays]
        shape = self.broadcast(*arrays)
        if any(a.shape != shape for a in arrays) or len({a.batched for a in arrays}) > 1:
            arrays = [self.spread(a, shape, arrays) for a in arrays]
        new = (*shape[:axis], len(arrays), *shape[axis:])
        return self.emit("stack", arrays, dtype, new, axis - len(shape) - 1)

    def spread(self, value: Array, shape: tuple[int, ...], like: list[Array]) -> Array:
        """The array in a shape that it broadcasts to, with rows where one of ``like`` has them."""
        rows = next((a for a in like if a.batched), None)
        if value.shape == shape and (value.batched or rows is None):
            return value
        return self.emit("spread", [value] if rows is None else [value, rows], value.dtype, shape, shape)

    def full(self, number: bool | int | float, shape: tuple[int, ...]) -> Array:
        """An array ``[B, *shape]`` of one number, in float32."""
        if not self.inputs:
            self.refuse("a program without inputs has no rows")
        return self.emit("full", [self.inputs[0]], "f", shape, float(number), shape)

    def unsqueezed(self, value: Array, axes: int) -> Array:
        """The array with axes of size 1 after those that it has."""
        if not axes:
            return value
        lead = (slice(None),) * (len(value.shape) + value.batched)
        return self.emit("index", [value], value.dtype, (*value.shape, *(1,) * axes), *_plain((*lead, *(None,) * axes)))

    def shape_of(self, value: Value) -> Items:
        """``value.shape``."""
        array = self.array(value)
        rows: tuple[Value, ...] = (Rows(),) if array.batched else ()
        return Items((*rows, *(Number(n) for n in array.shape)))


def _dtype(value: Array | Number) -> str:
    if isinstance(value, Array):
        return value.dtype
    return "b" if isinstance(value.value, bool) else "i" if isinstance(value.value, int) else "f"


def dtype_of(value: Array | Number) -> str:
    """The value's dtype: "f", "i" or "b"."""
    return _dtype(value)


def _plain(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """An index as plain values, which can be compared: slices as triples."""
    return tuple((i.start, i.stop, i.step) if isinstance(i, slice) else i for i in index)
