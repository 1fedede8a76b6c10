"""``x[:, 0]`` and ``range(n)``: what is known while compiling, so that no program can reach outside of an array."""

from collections.abc import Sequence

from .builder import Builder, dtype_of
from .table import Operation
from .values import Array, Items, Nothing, Number, Value


def index(build: Builder, value: Array, items: "Sequence[Value | slice | None]") -> Array:
    """``value[items]`` with the batch left whole; None among the items is ``...``."""
    axes = len(value.shape) + value.batched
    taking = [i for i in items if i is not None and not isinstance(i, Nothing)]
    if list(items).count(None) > 1 or len(taking) > axes:
        build.refuse(f"{value} has no so many axes")
    fill: list[Value | slice | None] = [slice(None)] * (axes - len(taking))
    place = list(items).index(None) if None in items else len(items)
    full = [*items[:place], *fill, *items[place + 1 :]]
    if value.batched and not (isinstance(full[0], slice) and full[0] == slice(None)):
        build.refuse(
            f"the first axis of {value} is the batch, and a reward looks at one environment at a time: x[:, 0] or "
            "x[..., 0] takes from each row. For rows with a property, write where(mask, new, x)"
        )
    shape: list[int] = []
    plain: list[object] = []
    axis = -1 if value.batched else 0
    for entry in full:
        assert entry is not None
        size = 0 if axis < 0 or axis >= len(value.shape) else value.shape[axis]
        if isinstance(entry, Nothing):
            shape.append(1)
            plain.append(None)
            continue
        if isinstance(entry, slice):
            if axis >= 0:
                shape.append(len(range(*entry.indices(size))))
            plain.append((entry.start, entry.stop, entry.step))
        elif isinstance(entry, Number) and dtype_of(entry) == "i":
            if not -size <= entry.value < size:
                build.refuse(f"index {entry.value} is outside of {value}: that axis has {size}")
            plain.append(int(entry.value))
        else:
            build.refuse("an index is made of whole numbers that are known, and slices; for masks, where(mask, a, b)")
        axis += 1
    return build.emit("index", [value], value.dtype, tuple(shape), *plain)


def _range(build: Builder, *given: Value) -> Value:
    numbers = []
    for value in given:
        if not (isinstance(value, Number) and dtype_of(value) == "i"):
            build.refuse(f"range wants whole numbers that are known, and not {value}")
        numbers.append(int(value.value))
    if not 1 <= len(numbers) <= 3 or (len(numbers) == 3 and numbers[2] == 0):
        build.refuse("range wants one to three numbers, and a step that is not 0")
    rounds = range(*numbers)
    if len(rounds) > build.limits.trips:
        build.refuse(f"range goes round more than {build.limits.trips} times", "budget")
    return Items(tuple(Number(i) for i in rounds))


RANGE = Operation("range", (("more", None),), "whole numbers, for loops", (), "types", _range)
