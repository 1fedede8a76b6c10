"""Whole episodes in compiled code: networks in the redundant arm, the hard maze and curling, sixteen side by side.

A batch steps all lanes by some fifty operations of torch, each of which costs microseconds however few lanes there are
and walks through memory once more. Where nobody looks at the steps in between, a loop in C++ runs each network to the
end of its own episode, sixteen of them in the lanes of the processor's vectors. The rules are those of ``envs/areas``,
to rounding.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..envs.areas import arm, curling, maze
from ..envs.batch import BatchEnv
from ..envs.native import Native
from . import compiled_arm, compiled_curling, compiled_maze
from .compiled_networks import NETWORK, VECTORS
from .policies import MLP, Policy

LANES = 16
_ARGUMENTS = {
    "genomes": "const float*", "sizes": "const int*", "begin": "const float*", "walls": "const float*",
    "work": "float*", "outcome": "float*", "last": "float*", "length": "long long*",
    **dict.fromkeys(("count", "numbers", "layers", "width", "per_unit", "walled", "steps"), "long long"),
}  # fmt: skip


class _World(NamedTuple):
    name: str
    numbers: Mapping[str, float]
    begin: Callable[[], Tensor]
    walls: Callable[[], Tensor]
    episodes: str
    """C++: from ``genomes`` to ``outcome``, ``length`` and ``last``."""
    state: Mapping[str, tuple[int, ...]]
    """What ``last`` has of the last state, as the batch names and shapes it."""


_WORLDS: dict[type[BatchEnv], _World] = {
    arm.ArmBatch: _World(
        "arm", compiled_arm.NUMBERS, compiled_arm.begin, compiled_arm.walls, compiled_arm.EPISODES,
        {"angles": (arm.JOINTS,)},
    ),
    maze.HardMazeBatch: _World(
        "maze", compiled_maze.NUMBERS, compiled_maze.begin, compiled_maze.walls, compiled_maze.EPISODES,
        {"place": (2,), "heading": ()},
    ),
    curling.CurlingBatch: _World(
        "curling", compiled_curling.NUMBERS, compiled_curling.begin, compiled_curling.walls, compiled_curling.EPISODES,
        {"ball": (2,), "angles": (2,)},
    ),
}  # fmt: skip


@cache
def _loop(name: str) -> Native:
    world = next(world for world in _WORLDS.values() if world.name == name)
    lines = [
        f"const int {name} = {value};" if isinstance(value, int) else f"const float {name} = (float){value!r};"
        for name, value in world.numbers.items()
    ]
    return Native(f"{world.name} episodes", _ARGUMENTS, "\n" + "\n".join(lines) + VECTORS + NETWORK + world.episodes)


class Episodes:
    """Runs networks to the end of their episodes in one of the worlds that are compiled.

    Args:
        env: Any batch of that world: its limit on the steps counts, its number of lanes does not.
        policy: The networks.
    """

    def __init__(self, env: BatchEnv, policy: MLP) -> None:
        world = _WORLDS[type(env)]
        self._loop, self._state = _loop(world.name), world.state
        self._begin, self._walls = world.begin(), world.walls()
        self._sizes, self._per_unit = torch.tensor(policy.sizes, dtype=torch.int32), int(policy.bias == "unit")
        self._width = max(policy.sizes)
        assert env.max_steps is not None
        self.steps = env.max_steps

    def __call__(self, genomes: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Outcomes float32 ``[P, 2]``, lengths int64 ``[P]`` and last states of genomes float32 ``[P, D]``.

        Of the states there is what a picture shows, named as the batch names it.
        """
        genomes = genomes.contiguous()
        count, numbers = genomes.shape
        sizes = [torch.Size(shape).numel() for shape in self._state.values()]
        outcome, length = torch.empty(count, 2), torch.empty(count, dtype=torch.int64)
        last, work = torch.empty(count, sum(sizes)), torch.zeros(numbers + 3 * self._width, LANES)
        self._loop(
            genomes, self._sizes, self._begin, self._walls, work, outcome, last, length, count, numbers,
            len(self._sizes) - 1, self._width, self._per_unit, len(self._walls), self.steps,
        )  # fmt: skip
        parts = torch.split(last, sizes, dim=-1)
        state = {name: part.reshape(count, *shape) for (name, shape), part in zip(self._state.items(), parts)}
        return outcome, length, state


def episodes(env: BatchEnv, policy: Policy) -> Episodes | None:
    """The compiled episodes of these policies in this world, or None where there are none."""
    if isinstance(env, maze.HardMazeBatch) and (env.sees != "sensors" or env.ticks > 1):
        return None
    known = type(env) in _WORLDS and env.device.type == "cpu"
    return Episodes(env, policy) if known and type(policy) is MLP and policy.activation == "sigmoid" else None
