"""Shortest solutions of grid levels: breadth-first search with the engine itself as the world's rules.

Every state of the frontier is stepped with every action by a ``GridBatch``, and states are told apart by the fact
``hash``. So whatever the engine calls success is what is searched for, missions included, and a plan is a sequence of
actions that the engine has carried out. Several levels are searched side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .engine import GridBatch

SIZES = (256, 1024, 4096, 8192)  # rows that are stepped at once, by how wide the frontier is
_SPREAD = 0x1E3779B97F4A7C15  # odd: the same state of two levels is two states


class Layer(NamedTuple):
    """The states that some number of steps leads to, and no fewer: ``[F]``."""

    level: Tensor
    """Int64: whose state it is."""
    parent: Tensor
    """Int64: which row of the layer before it came from."""
    action: Tensor
    """Int64: by which action."""


class Unsolved(ValueError):
    """A level has no solution, or none was found within the budget."""


def shortest_plans(
    batch: GridBatch, lanes: Any = None, *, max_states: int = 1_000_000, actions: Sequence[int] | None = None
) -> list[list[int] | None]:
    """The shortest action sequences that end in success from the present states of some lanes.

    Where obstacles move by themselves the plan knows their moves in advance (they are the lane's own random stream),
    and is short but need not be the shortest: the hash leaves the stream out.

    Args:
        batch: The levels; it is left as it is.
        lanes: Which; None for all, a number, or several.
        max_states: States to look at, on average for a level, before giving the search up.
        actions: The actions to try; None for all. Fewer make it faster where some are of no use.

    Returns:
        For each lane the actions, or None where nothing within the budget and ``max_steps`` succeeds.
    """
    state = batch.get_state(lanes)["lanes"]
    levels = len(state["cells"])
    found: list[list[int] | None] = [None] * levels
    engines = Engines(batch)
    tried = range(int(batch.single_action_space.n)) if actions is None else actions  # type: ignore[attr-defined]
    layers: list[Layer] = []
    alive = torch.arange(levels)
    frontier = {name: tensor.cpu() for name, tensor in state.items()}
    known = torch.zeros(0, dtype=torch.int64)
    left = max_states * levels
    while len(alive) and left > 0:
        step = _expand(engines, frontier, tried)
        level, action, parent = alive[step["row"]], step["action"], step["row"]
        depth = len(layers)
        for row in step["success"].nonzero()[:, 0].tolist():
            which = int(level[row])
            if found[which] is None:
                found[which] = [*_trace(layers, int(parent[row])), int(action[row])] if depth else [int(action[row])]
        solved = torch.tensor([plan is not None for plan in found])
        going = ~step["done"] & ~solved[level]
        key = step["hash"] ^ (level * _SPREAD)
        rows = going.nonzero()[:, 0]
        _, first = _first_of_each(key[rows])
        rows = rows[first]
        rows = rows[~_among(key[rows], known)]
        known = torch.sort(torch.cat([known, key[rows]]))[0]
        left -= len(rows)
        layers.append(Layer(level[rows], parent[rows], action[rows]))
        frontier = {name: step[name][rows] for name in frontier}
        alive = level[rows]
    return found


class Engines:
    """Batches of one world to step states in, in a few sizes; each is made when it is first needed.

    Args:
        batch: Whose world.
    """

    def __init__(self, batch: GridBatch) -> None:
        self._batch, self._made = batch, dict[int, GridBatch]()

    def fitting(self, rows: int) -> GridBatch:
        """The smallest with as many lanes, or the largest."""
        size = next((size for size in SIZES if rows <= size), SIZES[-1])
        if size not in self._made:
            it = self._batch
            self._made[size] = GridBatch(
                it.upstream, size, device=it.device, max_episode_steps=it.max_steps, facts=("hash",), **it._kwargs
            )
            self._made[size].reset(seed=0)
        return self._made[size]


def _expand(engines: Engines, frontier: Mapping[str, Tensor], actions: Sequence[int]) -> dict[str, Tensor]:
    """All that one step of every action makes of the frontier ``[F, ...]``: columns ``[F * A, ...]``."""
    out: dict[str, list[Tensor]] = {}
    total = len(frontier["cells"])
    for begin in range(0, total, SIZES[-1]):
        engine = engines.fitting(total - begin)
        size, arrays = engine.num_envs, engine.arrays
        here = {name: tensor[begin : begin + size] for name, tensor in frontier.items()}
        count = len(here["cells"])
        for action in actions:
            for name, rows in here.items():
                arrays.state[name][:count] = rows.to(engine.device)
            engine.step(torch.full((size,), action, dtype=torch.int64, device=engine.device))
            done = arrays.result["done"][:count]
            parts = {
                "row": torch.arange(begin, begin + count),
                "action": torch.full((count,), action),
                "done": done.clone(),
                "success": done & arrays.last["success"][:count],
                "hash": arrays.facts["hash"][:count].clone(),
                **{name: arrays.state[name][:count].clone() for name in frontier},
            }
            # What ended, or cannot have changed anything, is not carried along.
            for name, value in parts.items():
                out.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts) for name, parts in out.items()}


def _trace(layers: Sequence[Layer], row: int) -> list[int]:
    """The actions that led to a row of the last layer."""
    steps = []
    for layer in reversed(layers):
        steps.append(int(layer.action[row]))
        row = int(layer.parent[row])
    return steps[::-1]


def _first_of_each(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct keys, and the first row of each."""
    ordered, order = torch.sort(keys, stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return ordered[fresh], order[fresh]


def _among(keys: Tensor, known: Tensor) -> Tensor:
    """Which keys are in a sorted ``known``: bool."""
    if not len(known):
        return torch.zeros_like(keys, dtype=torch.bool)
    at = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    return known[at] == keys
