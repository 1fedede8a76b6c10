"""What instructions do, in torch: on any device, and differentiable."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .kernels_numpy import index_of

DTYPES = {"f": torch.float32, "i": torch.int64, "b": torch.bool}


def _spread(shape: tuple[int, ...]) -> Callable[..., Tensor]:
    def spread(value: Tensor, rows: Tensor | None = None) -> Tensor:
        return value.expand(shape if rows is None else (len(rows), *shape))

    return spread


def _index(*items: Any) -> Callable[[Tensor], Tensor]:
    index = index_of(items)
    return lambda x: x[index]


PLAIN: dict[str, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.true_divide, "pow": torch.pow,
    "floordiv": torch.floor_divide, "mod": torch.remainder, "neg": torch.neg, "abs": torch.abs, "sign": torch.sign,
    "exp": torch.exp, "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt,
    "square": torch.square,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh, "sinh": torch.sinh, "cosh": torch.cosh,
    "arcsin": torch.arcsin, "arccos": torch.arccos, "arctan": torch.arctan, "arctan2": torch.arctan2,
    "sigmoid": torch.sigmoid, "softplus": torch.nn.functional.softplus,
    "floor": torch.floor, "ceil": torch.ceil, "round": torch.round,
    "minimum": torch.minimum, "maximum": torch.maximum,
    "lt": torch.lt, "gt": torch.gt, "le": torch.le, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
    "and": torch.logical_and, "or": torch.logical_or, "xor": torch.logical_xor, "not": torch.logical_not,
    "isnan": torch.isnan, "isfinite": torch.isfinite, "where": torch.where,
}  # fmt: skip
# torch takes a number on the right of these only.
_TENSOR_FIRST: dict[str, Callable[..., Any]] = {
    "sub": torch.rsub, "lt": torch.gt, "gt": torch.lt, "le": torch.ge, "ge": torch.le,
    "eq": torch.eq, "ne": torch.ne, "add": torch.add, "mul": torch.mul,
}  # fmt: skip


def _each(f: Callable[..., Tensor], axes: tuple[int, ...], keep: bool) -> Callable[[Tensor], Tensor]:
    """A reduction that torch does over one axis at a time; from the last, so that the others keep their numbers."""

    def reduce(x: Tensor) -> Tensor:
        for axis in axes:
            x = f(x, dim=axis, keepdim=True)
        return x if keep else x.squeeze(axes)

    return reduce


MADE: dict[str, Callable[..., Callable[..., Any]]] = {
    "cast": lambda dtype: lambda x, d=DTYPES[dtype]: x.to(d),
    "sum": lambda axes, keep: lambda x: x.sum(dim=axes, keepdim=keep),
    "prod": lambda axes, keep: _each(torch.prod, axes, keep),
    "mean": lambda axes, keep: lambda x: x.mean(dim=axes, keepdim=keep),
    "min": lambda axes, keep: lambda x: x.amin(dim=axes, keepdim=keep),
    "max": lambda axes, keep: lambda x: x.amax(dim=axes, keepdim=keep),
    "any": lambda axes, keep: lambda x: x.any(dim=axes, keepdim=keep),
    "all": lambda axes, keep: lambda x: x.all(dim=axes, keepdim=keep),
    "norm": lambda axes, keep: lambda x: torch.linalg.vector_norm(x, dim=axes, keepdim=keep),
    "clip": lambda low, high: lambda x: torch.clamp(x, low, high),
    "index": _index,
    "stack": lambda axis: lambda *xs: torch.stack(xs, axis),
    "cat": lambda axis: lambda *xs: torch.cat(xs, axis),
    "spread": _spread,
    "full": lambda number, shape: (
        lambda rows: torch.full((len(rows), *shape), number, dtype=torch.float32, device=rows.device)
    ),
}


def flipped(op: str, number: float) -> Callable[[Tensor], Tensor] | None:
    """The operation with a number on its left, where torch wants the tensor first."""
    f = _TENSOR_FIRST.get(op)
    if op == "div":
        return lambda x: torch.reciprocal(x) if number == 1 else number / x
    return None if f is None else lambda x: f(x, number)


def constant(dtype: str, shape: tuple[int, ...], numbers: tuple[float, ...], device: Any = None) -> Tensor:
    """A constant of a program."""
    return torch.tensor(numbers, dtype=DTYPES[dtype], device=device).reshape(shape)
