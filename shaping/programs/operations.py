"""The operations that a program may name: the compiler asks this table, and the prompt is written from it."""

import math
from collections.abc import Callable

from .builder import Builder, dtype_of
from .table import OPERATIONS, Rule, operation
from .values import Array, Items, Kind, Nothing, Number, Rows, Value

__all__ = ["OPERATIONS"]

# Functions of each number.

_EACH: tuple[tuple[str, str, Callable[[float], float], str, tuple[str, ...]], ...] = (
    ("exp", "e to the power x", math.exp, "exp", ()),
    ("expm1", "exp(x) - 1", math.expm1, "expm1", ()),
    ("log", "natural logarithm; x must stay above 0", math.log, "log", ()),
    ("log1p", "log(1 + x)", math.log1p, "log1p", ()),
    ("sqrt", "square root; x must not be below 0", math.sqrt, "sqrt", ()),
    ("square", "x times x", lambda x: x * x, "square", ()),
    ("sin", "sine, of radians", math.sin, "sin", ()),
    ("cos", "cosine, of radians", math.cos, "cos", ()),
    ("tan", "tangent, of radians", math.tan, "tan", ()),
    ("arcsin", "inverse of sin", math.asin, "arcsin", ("asin",)),
    ("arccos", "inverse of cos", math.acos, "arccos", ("acos",)),
    ("arctan", "inverse of tan", math.atan, "arctan", ("atan",)),
    ("sinh", "hyperbolic sine", math.sinh, "sinh", ()),
    ("cosh", "hyperbolic cosine", math.cosh, "cosh", ()),
    ("tanh", "hyperbolic tangent, between -1 and 1", math.tanh, "tanh", ()),
    ("sigmoid", "1 / (1 + exp(-x)), between 0 and 1", lambda x: 1 / (1 + math.exp(-x)), "sigmoid", ()),
    ("softplus", "log(1 + exp(x))", lambda x: math.log1p(math.exp(x)), "softplus", ()),
    ("floor", "the whole number below", math.floor, "floor", ()),
    ("ceil", "the whole number above", math.ceil, "ceil", ()),
    ("round", "the nearest whole number", round, "round", ()),
)


def _enter_each() -> None:
    for name, doc, fold, kernel, aliases in _EACH:

        def rule(b: Builder, x: Value, f: Callable[[float], float] = fold, k: str = kernel) -> Value:
            return b.unary(k, x, f)

        operation(f"{name}(x)", doc, "each number", *aliases)(rule)


_enter_each()


@operation("abs(x)", "size without sign", "each number", "absolute", "fabs")
def _abs(b: Builder, x: Value) -> Value:
    v = b.operand(x)
    if isinstance(v, Number):
        return b.folded(lambda: abs(v.value))
    dtype = "i" if v.dtype == "i" else "f"
    return b.elementwise("abs", [b.cast(v, dtype)], dtype)


@operation("sign(x)", "-1, 0 or 1", "each number", "sgn")
def _sign(b: Builder, x: Value) -> Value:
    return b.unary("sign", x, lambda v: (v > 0) - (v < 0))


@operation("relu(x)", "x where it is above 0, else 0", "each number")
def _relu(b: Builder, x: Value) -> Value:
    return b.extremum("maximum", x, Number(0.0))


@operation("reciprocal(x)", "1 / x", "each number")
def _reciprocal(b: Builder, x: Value) -> Value:
    return b.divide(Number(1.0), x)


@operation("clip(x, low=None, high=None)", "x held between low and high", "each number", "clamp")
def _clip(b: Builder, x: Value, low: Value, high: Value) -> Value:
    v = b.operand(x)
    if isinstance(v, Array) and isinstance(low, Number) and isinstance(high, Number):
        v, low, high = b.common(v, low, high)
        assert isinstance(v, Array) and isinstance(low, Number) and isinstance(high, Number)
        return b.emit("clip", [v], v.dtype, v.shape, low.value, high.value)
    found: Value = v
    if not isinstance(low, Nothing):
        found = b.extremum("maximum", found, low)
    return found if isinstance(high, Nothing) else b.extremum("minimum", found, high)


@operation("pow(x, exponent)", "x to a power", "each number", "power")
def _pow(b: Builder, x: Value, exponent: Value) -> Value:
    return b.power(x, exponent)


@operation("isnan(x)", "True where x is not a number", "true or false")
def _isnan(b: Builder, x: Value) -> Value:
    return b.elementwise("isnan", [b.cast(b.array(x), "f")], "b")


@operation("isfinite(x)", "True where x is finite", "true or false")
def _isfinite(b: Builder, x: Value) -> Value:
    return b.elementwise("isfinite", [b.cast(b.array(x), "f")], "b")


# Two values and choices.


@operation("atan2(a, b)", "angle of the point (b, a), in radians", "two values", "arctan2")
def _atan2(b: Builder, x: Value, y: Value) -> Value:
    left, right = b.array(x), b.array(y)
    return b.elementwise("arctan2", [b.cast(left, "f"), b.cast(right, "f")], "f")


@operation("minimum(a, b)", "the smaller of two, number by number", "two values", "fmin")
def _minimum(b: Builder, x: Value, y: Value) -> Value:
    return b.extremum("minimum", x, y)


@operation("maximum(a, b)", "the larger of two, number by number", "two values", "fmax")
def _maximum(b: Builder, x: Value, y: Value) -> Value:
    return b.extremum("maximum", x, y)


@operation("where(condition, yes, no)", "yes where the condition holds, else no", "two values")
def _where(b: Builder, condition: Value, yes: Value, no: Value) -> Value:
    return b.where(condition, yes, no)


@operation("hypot(a, b)", "sqrt(a * a + b * b)", "two values")
def _hypot(b: Builder, x: Value, y: Value) -> Value:
    both = b.arithmetic("+", b.power(x, Number(2)), b.power(y, Number(2)))
    return b.unary("sqrt", both, math.sqrt)


@operation("isclose(a, b, tolerance=0.00001)", "True where two are nearly equal", "true or false")
def _isclose(b: Builder, x: Value, y: Value, tolerance: Value) -> Value:
    return b.compare("<=", _abs(b, b.arithmetic("-", x, y)), tolerance)


def _logical(op: str) -> Rule:
    return lambda b, x, y: b.logic(op, x, y)


operation("logical_and(a, b)", "True where both are", "true or false", "bitwise_and")(_logical("and"))

operation("logical_or(a, b)", "True where one is", "true or false", "bitwise_or")(_logical("or"))

operation("logical_xor(a, b)", "True where exactly one is", "true or false", "bitwise_xor")(_logical("xor"))


@operation("logical_not(x)", "True where x is False", "true or false", "bitwise_not")
def _not(b: Builder, x: Value) -> Value:
    return b.negated(x)


def _comparison(op: str) -> Rule:
    return lambda b, x, y: b.compare(op, x, y)


for _name, _op, _alias in (
    ("less", "<", "lt"), ("greater", ">", "gt"), ("less_equal", "<=", "le"), ("greater_equal", ">=", "ge"),
    ("equal", "==", "eq"), ("not_equal", "!=", "ne"),
):  # fmt: skip
    operation(f"{_name}(a, b)", f"a {_op} b", "true or false", _alias)(_comparison(_op))


# Reductions over an axis of each row.


def _flag(b: Builder, value: Value) -> bool:
    if not isinstance(value, Number):
        b.refuse("keepdim is True or False")
    return bool(value.value)


def _reduction(kernel: str, kind: str | None, pair: str | None = None) -> Rule:
    """``kind`` is the dtype it is computed in; None keeps whole numbers whole."""

    def rule(b: Builder, x: Value, dim: Value, keep: Value) -> Value:
        if isinstance(x, Items) and isinstance(dim, Nothing) and kernel in ("sum", "min", "max") and x.items:
            total = x.items[0]  # Python's sum([a, b]) and min([a, b])
            for item in x.items[1:]:
                total = b.arithmetic("+", total, item) if kernel == "sum" else b.extremum(str(pair), total, item)
            return total
        if isinstance(x, Number):
            return x
        if (
            pair is not None
            and not isinstance(dim, Nothing | Items)
            and not (isinstance(dim, Number) and dtype_of(dim) == "i")
        ):
            return b.extremum(pair, x, dim)  # max(a, b), as Python and torch have it
        array = b.array(x)
        dtype = kind or ("i" if array.dtype == "i" else "f")
        if kind == "b":
            b.truth(array, kernel)
        return b.reduce(kernel, b.cast_array(array, dtype), dim, _flag(b, keep), dtype)

    return rule


for _name, _doc, _kind, _pair, _also in (
    ("sum", "sum", None, None, ()),
    ("mean", "mean", "f", None, ("average",)),
    ("prod", "product", None, None, ()),
    ("any", "True where any is", "b", None, ()),
    ("all", "True where all are", "b", None, ()),
):
    operation(f"{_name}(x, dim=None, keepdim=False)", f"{_doc}, over an axis of each row", "over an axis", *_also)(
        _reduction(_name, _kind, _pair)
    )


def _least(kernel: str, pair: str) -> Rule:
    plain = _reduction(kernel, None, pair)

    def rule(b: Builder, *given: Value) -> Value:
        if not given:
            b.refuse(f"{kernel} of nothing")
        if len(given) == 2 and isinstance(given[0], Array) and not _is_dim(b, given[0], given[1]):
            return b.extremum(pair, *given)
        if len(given) > 1 and not (len(given) == 2 and isinstance(given[0], Array)):
            found = given[0]
            for value in given[1:]:
                found = b.extremum(pair, found, value)
            return found
        return plain(b, given[0], given[1] if len(given) > 1 else Nothing(), Number(False))

    return rule


def _is_dim(b: Builder, x: Array, second: Value) -> bool:
    """Whether ``max(x, n)`` is over axis n, as in torch, or with the number n, as in Python: what fits."""
    axes = len(x.shape) + x.batched
    return isinstance(second, Number) and dtype_of(second) == "i" and bool(x.shape) and -axes <= second.value < axes


@operation(
    "norm(x, dim=None, keepdim=False, p=2)", "length of vectors; p is 1, 2 or inf", "over an axis", "vector_norm"
)
def _norm(b: Builder, x: Value, dim: Value, keep: Value, p: Value) -> Value:
    array = b.cast_array(b.array(x), "f")
    order = p.value if isinstance(p, Number) else None
    if order == 2:
        return b.reduce("norm", array, dim, _flag(b, keep), "f")
    if order == 1:
        return b.reduce("sum", b.array(_abs(b, array)), dim, _flag(b, keep), "f")
    return b.refuse("norm has p=1 or p=2; the largest is amax(abs(x), dim=-1)")


@operation("dot(a, b)", "product of vectors: sum(a * b) over the last axis", "over an axis", "inner", "vdot")
def _dot(b: Builder, x: Value, y: Value) -> Value:
    return b.reduce("sum", b.array(b.arithmetic("*", x, y)), Number(-1), False, "f")


@operation("distance(a, b)", "norm(a - b) over the last axis", "over an axis", "pairwise_distance")
def _distance(b: Builder, x: Value, y: Value) -> Value:
    return _norm(b, b.arithmetic("-", x, y), Number(-1), Number(False), Number(2))


@operation("cosine_similarity(a, b)", "cosine of the angle between vectors (last axis)", "over an axis")
def _cosine(b: Builder, x: Value, y: Value) -> Value:
    lengths = [_norm(b, v, Number(-1), Number(False), Number(2)) for v in (x, y)]
    return b.divide(_dot(b, x, y), b.extremum("maximum", b.arithmetic("*", *lengths), Number(1e-8)))


# Shapes.


@operation("stack(arrays, dim=1)", "arrays of one shape side by side, along a new axis", "shapes")
def _stack(b: Builder, arrays: Value, dim: Value) -> Value:
    if not isinstance(arrays, Items) or not arrays.items:
        b.refuse("stack wants a list: stack([a, b], dim=-1)")
    found = [b.array(v) for v in arrays.items]
    first = max(found, key=lambda a: (a.batched, len(a.shape)))
    axis = b.axis(first, dim, of_new=True)
    return b.stack(found, len(first.shape) + 1 + axis)


@operation("cat(arrays, dim=-1)", "arrays one after the other, along an axis of each row", "shapes", "concatenate",
            "concat")  # fmt: skip
def _cat(b: Builder, arrays: Value, dim: Value) -> Value:
    if not isinstance(arrays, Items) or not arrays.items:
        b.refuse("cat wants a list: cat([a, b], dim=-1)")
    found = [b.array(v) for v in arrays.items]
    dtype = "f" if len({a.dtype for a in found}) > 1 else found[0].dtype
    found = [b.cast_array(a, dtype) for a in found]
    axis = b.axis(found[0], dim)
    rests = {(a.shape[: len(a.shape) + axis], a.shape[len(a.shape) + axis + 1 :], a.batched) for a in found}
    if len(rests) > 1 or len({len(a.shape) for a in found}) > 1:
        b.refuse(f"{' and '.join(str(a) for a in found)} do not fit behind each other")
    shape = list(found[0].shape)
    shape[axis] = sum(a.shape[axis] for a in found)
    return b.emit("cat", found, dtype, tuple(shape), axis)


@operation("unsqueeze(x, dim)", "x with an axis of size 1 more", "shapes", "expand_dims")
def _unsqueeze(b: Builder, x: Value, dim: Value) -> Value:
    array = b.array(x)
    axis = len(array.shape) + 1 + b.axis(array, dim, of_new=True)
    lead = tuple((None, None, None) for _ in range(array.batched + axis))
    shape = (*array.shape[:axis], 1, *array.shape[axis:])
    return b.emit("index", [array], array.dtype, shape, *lead, None)


@operation("squeeze(x, dim)", "x without an axis of size 1", "shapes")
def _squeeze(b: Builder, x: Value, dim: Value) -> Value:
    array = b.array(x)
    axis = b.axis(array, dim)
    if array.shape[axis] != 1:
        b.refuse(f"dim={axis} of {array} has {array.shape[axis]} numbers, and not one")
    place = len(array.shape) + axis
    lead = tuple((None, None, None) for _ in range(array.batched + place))
    return b.emit("index", [array], array.dtype, (*array.shape[:place], *array.shape[place + 1 :]), *lead, 0)


def _shape_of_rows(b: Builder, size: Value) -> tuple[int, ...]:
    """The shape of a row from what ``zeros`` is given: the batch first, then sizes that are known."""
    items = size.items if isinstance(size, Items) else (size,)
    if not items or not isinstance(items[0], Rows):
        b.refuse("the first size is that of the batch: zeros(x.shape[0]) or zeros_like(x)")
    rest = []
    for item in items[1:]:
        if not isinstance(item, Number) or dtype_of(item) != "i" or not 0 <= item.value <= b.limits.elements:
            b.refuse("the sizes of an array are whole numbers that are known")
        rest.append(int(item.value))
    return tuple(rest)


def _like(number: float) -> Rule:
    def rule(b: Builder, x: Value, dtype: Value) -> Value:
        array = b.array(x)
        return b.full(number, array.shape) if array.batched else b.constant("f", (), (number,))

    return rule


def _filled(number: float) -> Rule:
    def rule(b: Builder, size: Value, dtype: Value, device: Value) -> Value:
        return b.full(number, _shape_of_rows(b, size))

    return rule


operation("zeros_like(x, dtype=None)", "0.0 in the shape of x", "shapes")(_like(0.0))

operation("ones_like(x, dtype=None)", "1.0 in the shape of x", "shapes")(_like(1.0))

operation("zeros(size, dtype=None, device=None)", "0.0 for each environment: zeros(x.shape[0])", "shapes")(_filled(0.0))

operation("ones(size, dtype=None, device=None)", "1.0 for each environment", "shapes")(_filled(1.0))


@operation("full_like(x, value)", "a number in the shape of x", "shapes")
def _full_like(b: Builder, x: Value, value: Value) -> Value:
    if not isinstance(value, Number):
        b.refuse("full_like wants a number that is known")
    return _like(float(value.value))(b, x, Nothing())


@operation("tensor(x, dtype=None, device=None)", "numbers that are the same in all rows, as in tensor([0.1, 0.2])",
            "shapes", "array", "as_tensor", "asarray")  # fmt: skip
def _tensor(b: Builder, x: Value, dtype: Value, device: Value) -> Value:
    array = b.array(x)
    return b.cast_array(array, dtype.dtype) if isinstance(dtype, Kind) else array


@operation("one_hot(x, count)", "1.0 at the place that the whole number x names, else 0.0: [B] to [B, count]", "shapes")
def _one_hot(b: Builder, x: Value, count: Value) -> Value:
    array = b.array(x)
    if not (isinstance(count, Number) and dtype_of(count) == "i" and 0 < count.value <= b.limits.elements):
        b.refuse("one_hot wants a count that is known")
    places = b.constant("i", (int(count.value),), tuple(range(int(count.value))))
    return b.cast_array(b.array(b.compare("==", b.unsqueezed(array, 1), places)), "f")


# Types.


def _casting(dtype: str) -> Rule:
    convert: Callable[[float], float] = {"f": float, "i": int, "b": bool}[dtype]

    def rule(b: Builder, x: Value) -> Value:
        found = b.operand(x)
        return b.folded(lambda: convert(found.value)) if isinstance(found, Number) else b.cast(found, dtype)

    return rule


operation("float(x)", "x as float32; True is 1.0", "types", "float32", "double")(_casting("f"))

operation("int(x)", "x as a whole number, cut towards 0", "types", "long", "int64")(_casting("i"))

operation("bool(x)", "True where x is not 0", "types")(_casting("b"))


@operation("to(x, dtype)", "x as another type: to(x, torch.float32)", "types", "type", "astype")
def _to(b: Builder, x: Value, dtype: Value) -> Value:
    if not isinstance(dtype, Kind):
        b.refuse("to wants a type: x.to(torch.float32)")
    return b.cast(b.operand(x), dtype.dtype)


@operation("len(x)", "how many values a tuple or list has", "types")
def _len(b: Builder, x: Value) -> Value:
    if isinstance(x, Items):
        return Number(len(x.items))
    return b.shape_of(x).items[0] if b.shape_of(x).items else b.refuse("this has no length")


def _same(b: Builder, x: Value) -> Value:
    return b.operand(x)


operation("clone(x)", "x itself: nothing is ever written into", "types", "detach", "copy", "contiguous", "cpu")(_same)

operation("min(more)", "the smallest: min(a, b), or over an axis as amin", "over an axis")(_least("min", "minimum"))

operation("max(more)", "the largest: max(a, b), or over an axis as amax", "over an axis")(_least("max", "maximum"))

operation("amin(x, dim=None, keepdim=False)", "smallest, over an axis of each row", "over an axis")(
    _reduction("min", None)
)

operation("amax(x, dim=None, keepdim=False)", "largest, over an axis of each row", "over an axis")(
    _reduction("max", None)
)
