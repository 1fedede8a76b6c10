"""The few array operations that task definitions need beyond arithmetic, indexing and comparison.

A task is written once, against these names; an engine hands it the implementation for its arrays. This one is NumPy's,
and chosen so that a batch gives the bits that Gymnasium's classes give row by row:

- a sum over a contiguous last axis adds in the same order as the sum of one row (torch's does not);
- ``norm`` takes the dot product that ``np.linalg.norm`` takes of one vector (its ``axis=-1`` form adds otherwise);
- ``square_power`` is the C library's ``pow(x, 2)``, as ``x**2`` is for NumPy scalars; it is not always ``x * x``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class NumpyOps:
    """Operations on NumPy arrays whose first axis is the batch."""

    @staticmethod
    def concat(parts: Sequence[Any]) -> Any:
        """Join arrays ``[N, ...]`` into one ``[N, D]``, each flattened."""
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    @staticmethod
    def join(parts: Sequence[Any]) -> Any:
        """Join arrays along the last axis."""
        return np.concatenate(parts, axis=-1)

    @staticmethod
    def sum_square(x: Any) -> Any:
        """Sum of squares of each row: ``[N, ...]`` to ``[N]``, in the dtype of ``x``."""
        return np.square(np.ascontiguousarray(x).reshape(len(x), -1)).sum(axis=1)

    @staticmethod
    def norm(x: Any) -> Any:
        """Euclidean length of each row: ``[N, D]`` to ``[N]``."""
        x = np.ascontiguousarray(x)
        return np.sqrt(np.vecdot(x, x))

    @staticmethod
    def clip(x: Any, low: float, high: float) -> Any:
        """Limit every number to ``[low, high]``."""
        return np.clip(x, low, high)

    @staticmethod
    def finite(x: Any) -> Any:
        """Whether all numbers of a row are finite: ``[N, ...]`` to bool ``[N]``."""
        return np.isfinite(x).reshape(len(x), -1).all(axis=1)

    @staticmethod
    def all(x: Any) -> Any:
        """Whether all of a row is true: bool ``[N, D]`` to bool ``[N]``."""
        return x.all(axis=1)

    @staticmethod
    def columns(parts: Sequence[Any]) -> Any:
        """Join arrays ``[N]`` of one dtype into ``[N, D]``."""
        return np.stack(parts, axis=1)

    @staticmethod
    def least(parts: Sequence[Any]) -> Any:
        """The least of several arrays ``[N]``, row by row."""
        return np.minimum.reduce(parts)

    @staticmethod
    def sqrt(x: Any) -> Any:
        """Square root."""
        return np.sqrt(np.ascontiguousarray(x))

    @staticmethod
    def exp(x: Any) -> Any:
        """Exponential."""
        return np.exp(np.ascontiguousarray(x))

    @staticmethod
    def arccos(x: Any) -> Any:
        """Angle of a cosine in [-1, 1], rad."""
        return np.arccos(np.ascontiguousarray(x))

    @staticmethod
    def array(values: Any, like: Any) -> Any:
        """Numbers from the host, of any shape, as an array beside ``like``."""
        return np.asarray(values, np.float64)

    @staticmethod
    def constant(values: Any, like: Any) -> Any:
        """Numbers that are always the same as an array beside ``like``."""
        return np.asarray(values, np.float64)

    @staticmethod
    def sin(x: Any) -> Any:
        """Sine."""
        return np.sin(np.ascontiguousarray(x))

    @staticmethod
    def cos(x: Any) -> Any:
        """Cosine."""
        return np.cos(np.ascontiguousarray(x))

    @staticmethod
    def square_power(x: Any) -> Any:
        """``pow(x, 2)`` of each number."""
        return np.float_power(x, 2.0)

    @staticmethod
    def weighted_sum(weights: Any, x: Any) -> Any:
        """Sum over bodies: weights ``[B]`` and ``[N, B, 3]`` give ``[N, 3]``."""
        return np.einsum("b,nbj->nj", weights, np.ascontiguousarray(x))

    @staticmethod
    def number(x: Any) -> Any:
        """A truth value as 0.0 or 1.0."""
        return x.astype(np.float64)

    @staticmethod
    def never(x: Any) -> Any:
        """False for each row: ``[N, ...]`` to bool ``[N]``."""
        return np.zeros(len(x), np.bool_)

    @staticmethod
    def zeros(like: Any) -> Any:
        """Zeros of the same shape."""
        return np.zeros_like(like)

    @staticmethod
    def redraw(rng: Any, draw: Callable[[Any], Any], accept: Callable[[Any], Any]) -> Any:
        """``draw(rng)`` until the draw is accepted."""
        while not accept(value := draw(rng)):
            pass
        return value
