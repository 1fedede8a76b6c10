"""What environments remember besides their physics: goals, counters; and their observations as named parts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from .task import State, Task


class Memory:
    """The numbers that a task remembers, of N environments: one array ``[N, M]`` with a view for each name.

    Args:
        task: The task, whose ``memory`` names them.
        num_envs: N.
        states: The engine's states, which get the views.
    """

    def __init__(self, task: Task, num_envs: int, *states: State) -> None:
        shapes = task.memory()
        ends = np.cumsum([0, *(int(np.prod(shape, dtype=int)) for shape in shapes.values())]).tolist()
        self.packed = np.zeros((num_envs, ends[-1]))
        self.names: dict[str, NDArray[np.float64]] = {
            name: self.packed[:, low:high].reshape(num_envs, *shape)
            for (name, shape), low, high in zip(shapes.items(), ends, ends[1:])
        }
        self.moving = np.zeros(num_envs, np.bool_)  # whose memory is drawn anew before the next step
        for state in states:
            state.__dict__.update(self.names)

    def begin(self, lane: int, values: Mapping[str, Any]) -> None:
        """A new episode: ``values``, and 0 for the rest."""
        self.packed[lane] = 0
        self.put(lane, values)

    def put(self, lane: int, values: Mapping[str, Any]) -> None:
        """New values of one environment."""
        for name, value in values.items():
            self.names[name][lane] = value
        self.moving[lane] = False

    def write(self, values: Mapping[str, Any], renew: Any) -> None:
        """New values of all environments, after a step."""
        for name, value in values.items():
            self.names[name][:] = value
        self.moving[:] = False if renew is None else renew

    def row(self, lane: int) -> dict[str, NDArray[np.float64]]:
        """A copy of what one environment remembers."""
        return {name: array[lane].copy() for name, array in self.names.items()}


def observation_space(parts: Mapping[str, int] | None, width: int, dtype: np.dtype[Any]) -> spaces.Space[Any]:
    """A Box of ``width`` numbers, or a Dict of Boxes."""
    if parts is None:
        return spaces.Box(-np.inf, np.inf, (width,), dtype.type)
    return spaces.Dict({name: spaces.Box(-np.inf, np.inf, (size,), dtype.type) for name, size in parts.items()})


def split(parts: Mapping[str, int] | None, flat: Tensor) -> Any:
    """The observation that users see of a task's ``[N, D]``: a tensor, or a dict of tensors."""
    if parts is None:
        return flat
    return {name: part.contiguous() for name, part in zip(parts, torch.split(flat, list(parts.values()), dim=1))}


def option_rows(task: Task, options: Mapping[str, Any] | None, num_envs: int) -> dict[str, NDArray[Any]]:
    """The options of ``reset`` that are the task's: ``[N, ...]`` each, from one value for all or one row for each."""
    given = {name: np.asarray(value) for name, value in (options or {}).items() if name in task.options}
    return {
        name: value if value.ndim == 2 and len(value) == num_envs else np.stack([value] * num_envs)
        for name, value in given.items()
    }
