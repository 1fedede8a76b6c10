"""The array operations of task definitions for torch tensors, and random draws for all lanes at once.

What is here can be captured into a CUDA graph: nothing waits for the device, and nothing depends on its data. Task code
that is to run on this engine indexes by slices and whole numbers, and takes constants from ``constant``.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .ops import NumpyOps
from .task import Task

TRIES = 64  # of a draw that may be rejected; the tasks reject no more than one in two, so all fail once in 2**64

_WRAP = 1 << 64
_GAMMA = 0x9E3779B97F4A7C15 - _WRAP
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - _WRAP, 0x94D049BB133111EB - _WRAP


class TorchOps(NumpyOps):
    """``NumpyOps`` on torch tensors whose first axis is the batch."""

    _constants: dict[tuple[Any, ...], Tensor] = {}

    @staticmethod
    def concat(parts: Sequence[Tensor]) -> Tensor:
        """Join tensors ``[N, ...]`` into one ``[N, D]``, each flattened."""
        return torch.cat([part.reshape(part.shape[0], -1) for part in parts], dim=1)

    @staticmethod
    def join(parts: Sequence[Tensor]) -> Tensor:
        """Join tensors along the last axis."""
        return torch.cat(list(parts), dim=-1)

    @staticmethod
    def columns(parts: Sequence[Tensor]) -> Tensor:
        """Join tensors ``[N]`` of one dtype into ``[N, D]``."""
        return torch.stack(list(parts), dim=1)

    @staticmethod
    def least(parts: Sequence[Tensor]) -> Tensor:
        """The least of several tensors ``[N]``, row by row."""
        return torch.stack(list(parts)).amin(dim=0)

    @staticmethod
    def sum_square(x: Tensor) -> Tensor:
        """Sum of squares of each row: ``[N, ...]`` to ``[N]``."""
        return x.square().reshape(x.shape[0], -1).sum(1)

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        """Euclidean length of each row: ``[N, D]`` to ``[N]``."""
        return x.square().sum(-1).sqrt()

    @staticmethod
    def clip(x: Tensor, low: float, high: float) -> Tensor:
        """Limit every number to ``[low, high]``."""
        return torch.clamp(x, low, high)

    @staticmethod
    def finite(x: Tensor) -> Tensor:
        """Whether all numbers of a row are finite: ``[N, ...]`` to bool ``[N]``."""
        return torch.isfinite(x).reshape(x.shape[0], -1).all(1)

    @staticmethod
    def all(x: Tensor) -> Tensor:
        """Whether all of a row is true: bool ``[N, D]`` to bool ``[N]``."""
        return x.all(1)

    @staticmethod
    def sin(x: Tensor) -> Tensor:
        """Sine."""
        return torch.sin(x)

    @staticmethod
    def cos(x: Tensor) -> Tensor:
        """Cosine."""
        return torch.cos(x)

    @staticmethod
    def arccos(x: Tensor) -> Tensor:
        """Angle of a cosine in [-1, 1], rad."""
        return torch.arccos(x)

    @staticmethod
    def sqrt(x: Tensor) -> Tensor:
        """Square root."""
        return torch.sqrt(x)

    @staticmethod
    def exp(x: Tensor) -> Tensor:
        """Exponential."""
        return torch.exp(x)

    @staticmethod
    def square_power(x: Tensor) -> Tensor:
        """Square of each number."""
        return x.square()

    @staticmethod
    def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
        """Sum over bodies: weights ``[B]`` and ``[N, B, 3]`` give ``[N, 3]``."""
        return (weights[:, None] * x).sum(1)

    @staticmethod
    def number(x: Tensor) -> Tensor:
        """A truth value as 0.0 or 1.0."""
        return x.float()

    @staticmethod
    def never(x: Tensor) -> Tensor:
        """False for each row: ``[N, ...]`` to bool ``[N]``."""
        return torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)

    @staticmethod
    def zeros(like: Tensor) -> Tensor:
        """Zeros of the same shape."""
        return torch.zeros_like(like)

    @staticmethod
    def array(values: Any, like: Tensor) -> Tensor:
        """Numbers from the host, of any shape, as a tensor beside ``like``; not for what a graph records."""
        return torch.as_tensor(np.asarray(values, np.float64), dtype=like.dtype, device=like.device)

    @classmethod
    def constant(cls, values: Any, like: Tensor) -> Tensor:
        """Numbers that are always the same as a tensor beside ``like``; kept, as a graph cannot copy from the host."""
        numbers = np.asarray(values, np.float64)
        key = (numbers.tobytes(), numbers.shape, like.dtype, like.device)
        if key not in cls._constants:
            cls._constants[key] = cls.array(numbers, like)
        return cls._constants[key]

    @staticmethod
    def redraw(rng: Any, draw: Callable[[Any], Tensor], accept: Callable[[Tensor], Tensor]) -> Tensor:
        """The first of ``TRIES`` draws that each lane accepts: ``[N, D]``.

        All are drawn at once: ``draw(rng)`` and what is accepted have ``[TRIES, N, D]``.
        """
        values = draw(rng.many(TRIES))
        first = accept(values).byte().argmax(0)  # of equal ones the first; 0 where there is none
        return values.gather(0, first[None, :, None].expand(1, -1, values.shape[-1]))[0]


def bind_torch(task: Task, device: torch.device) -> None:
    """Have a task that is bound to its model work on torch tensors."""
    facts = task.model
    task.xp = TorchOps  # type: ignore[misc]
    own: dict[str, Any] = {
        "init_qpos": torch.from_numpy(facts.init_qpos).to(device),
        "init_qvel": torch.from_numpy(facts.init_qvel).to(device),
        "body_mass": torch.from_numpy(facts.body_mass).float().to(device),
    }
    task.bind(replace(facts, **own))


class LaneDraws:
    """Draws for all lanes, with the methods of ``numpy.random.Generator`` that tasks use, giving ``[N, size]``.

    Number c of a lane is the finaliser of SplitMix64 at key + c * gamma (Steele, Lea and Flood, "Fast Splittable
    Pseudorandom Number Generators", 2014), the same bits on CPU and GPU; two make a normal number (Box and Muller, "A
    Note on the Generation of Random Normal Deviates", 1958).

    Args:
        keys: int64 ``[N]``, one stream for each lane.
        counts: int64 ``[N]``, how much each lane has drawn; counted up in place.
        rows: bool ``[N]``: the other lanes draw too, and their streams stay where they are.
    """

    def __init__(self, keys: Tensor, counts: Tensor, rows: Tensor) -> None:
        self._keys, self._counts, self._rows = keys, counts, rows
        self._at = counts.clone()
        self._tries = 0

    def many(self, tries: int) -> "LaneDraws":
        """The same streams, giving ``tries`` draws at a time: ``[tries, N, size]``."""
        other = copy.copy(self)
        other._tries = tries
        return other

    def _unit(self, size: int) -> Tensor:
        """Whole numbers below 2**53 as float64 ``[N, size]``, or ``[tries, N, size]``."""
        own, size = size, size * max(1, self._tries)
        steps = torch.arange(1, size + 1, device=self._keys.device)
        z = self._keys[:, None] + (self._at[:, None] + steps) * _GAMMA
        z = (z ^ _shift(z, 30)) * _FIRST
        z = (z ^ _shift(z, 27)) * _SECOND
        z = z ^ _shift(z, 31)
        self._at.add_(size)
        self._counts.add_(self._rows * size)
        numbers = _shift(z, 11).double()
        return numbers.view(-1, self._tries, own).movedim(1, 0) if self._tries else numbers

    def integers(self, low: int, high: int) -> Tensor:
        """Whole numbers in [low, high): int64 ``[N]``. Of n numbers none is favoured by more than n / 2**53."""
        return (low + ((high - low) * (self._unit(1)[..., 0] * 2.0**-53)).floor()).long()

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int = 1) -> Tensor:
        """Uniform numbers in [low, high): float64 ``[N, size]``."""
        return low + (high - low) * (self._unit(size) * 2.0**-53)

    def standard_normal(self, size: int = 1) -> Tensor:
        """Standard normal numbers: float64 ``[N, size]``."""
        pairs = (size + 1) // 2
        unit = (self._unit(2 * pairs) + 0.5) * 2.0**-53  # in (0, 1), never 0
        radius, angle = torch.sqrt(-2 * torch.log(unit[..., :pairs])), (2 * torch.pi) * unit[..., pairs:]
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)[..., :size]


def _shift(z: Tensor, by: int) -> Tensor:
    """Shift right, zeros coming in: torch's own repeats the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
