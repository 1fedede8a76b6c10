"""Everything that a step touches, allocated once, as torch has it and as Warp has it."""

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp
from torch import Tensor

from . import facts as more_facts
from . import layout as L
from .kernels import Last, Pack, Result, Shown
from .observe import margin
from .state import PARAMS, Params, World

Tensors = dict[str, Tensor]


def _columns(ints: Tensor, cells: Tensor, success: Tensor) -> Tensors:
    """The facts that are columns of the state."""
    return {
        "steps": ints[:, L.STEPS],
        "mission_id": ints[:, L.MISSION],
        "events": ints[:, L.EVENTS],
        "cells": cells,
        "success": success,
    }


class Arrays:
    """The tensors of a batch of N lanes.

    Attributes:
        width: Of a level, in cells.
        height: Likewise.
        view: Cells on a side of what the agent sees.
        state: ``cells`` int16 ``[N, H * W]``, ``ints`` int32 ``[N, AUX + a]``, ``rng`` int64 ``[N, 3]`` and ``lanes``
            int64 ``[N]``: all that decides the future.
        last: The same of ended episodes, and ``success``.
        obs: The observation, and ``final_obs`` of ended episodes.
        facts: Structured facts of the state, and ``final_facts`` of ended episodes; views of the above where possible.
        result: ``reward``, ``terminated``, ``truncated``, ``done`` of the last step, and ``bad`` int32 ``[1]``.
        actions: int64 ``[N]``.
        mask: bool ``[N]``: the lanes to reset.
    """

    def __init__(
        self, lanes: int, width: int, height: int, view: int, aux: int, tokens: int, more: Sequence[str], where: Any
    ) -> None:
        self.width, self.height, self.view, self.more = width, height, view, tuple(more)
        cells, numbers = width * height, L.AUX + aux

        def zeros(*shape: int, dtype: torch.dtype = torch.bool) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=where)

        # The observation reads a little beyond the levels.
        spare = margin(view, width)
        memory = torch.full((spare + lanes * cells + spare,), L.EMPTY_CELL, dtype=torch.int16, device=where)
        self.state: Tensors = {
            "cells": memory[spare:-spare].view(lanes, cells),
            "ints": zeros(lanes, numbers, dtype=torch.int32),
            "rng": zeros(lanes, 3, dtype=torch.int64),
            "lanes": torch.arange(lanes, dtype=torch.int64, device=where),
        }
        self.last: Tensors = {
            "success": zeros(lanes),
            "ints": zeros(lanes, numbers, dtype=torch.int32),
            "cells": zeros(lanes, cells, dtype=torch.int16),
        }
        self.obs, self.final_obs = (
            {
                "direction": zeros(lanes, dtype=torch.int64),
                "image": zeros(lanes, view, view, 3, dtype=torch.uint8),
                "mission": zeros(lanes, tokens, dtype=torch.int64),
            }
            for _ in range(2)
        )
        self._where, self._final_where = (
            {"position": zeros(lanes, 2, dtype=torch.int64), "carrying": zeros(lanes, 2, dtype=torch.int64)}
            for _ in range(2)
        )
        self.result: Tensors = {
            "reward": zeros(lanes, dtype=torch.float32),
            "terminated": zeros(lanes),
            "truncated": zeros(lanes),
            "done": zeros(lanes),
            "bad": zeros(1, dtype=torch.int32),
        }
        self.actions = zeros(lanes, dtype=torch.int64)
        self.mask = zeros(lanes)
        self.everyone = torch.ones(lanes, dtype=torch.bool, device=where)
        self.rooms = zeros(lanes, cells if "room" in more else 0, dtype=torch.int16)
        self.more_now, self.more_last = (more_facts.arrays(more, lanes, where) for _ in range(2))
        self.facts: Tensors = {
            **self.more_now,
            **self._where,
            "direction": self.obs["direction"],
            **_columns(self.state["ints"], self.state["cells"], zeros(lanes)),  # no present state is a success
        }
        self.final_facts: Tensors = {
            **self.more_last,
            **self._final_where,
            "direction": self.final_obs["direction"],
            **_columns(self.last["ints"], self.last["cells"], self.last["success"]),
        }

    def world(self, part: slice, params: Sequence[int]) -> Any:
        """Warp's struct of some lanes' state."""
        world = World()
        world.cells = wp.from_torch(self.state["cells"][part])
        world.ints = wp.from_torch(self.state["ints"][part])
        world.rng = wp.from_torch(self.state["rng"][part], dtype=wp.uint64)
        world.width, world.height = self.width, self.height
        world.params = Params(*params, *([0] * (PARAMS - len(params))))
        return world

    def shown(self, part: slice) -> tuple[Any, Any]:
        """Warp's structs of some lanes' observations and facts, of now and of ended episodes."""
        both = []
        for obs, facts in ((self.obs, self._where), (self.final_obs, self._final_where)):
            shown = Shown()
            for name, tensor in {**obs, **facts}.items():
                setattr(shown, name, wp.from_torch(tensor[part]))
            both.append(shown)
        return both[0], both[1]

    def ends(self, part: slice) -> tuple[Any, Any]:
        """Warp's structs of some lanes' results and last states."""
        result, last = Result(), Last()
        for name, tensor in self.result.items():
            setattr(result, name, wp.from_torch(tensor if name == "bad" else tensor[part]))
        for name, tensor in self.last.items():
            setattr(last, name, wp.from_torch(tensor[part]))
        return result, last


def pack(cells: Tensor, ints: Tensor, keys: Tensor) -> Any:
    """Warp's struct of a fixed set of levels."""
    struct = Pack()
    struct.cells, struct.ints = wp.from_torch(cells), wp.from_torch(ints)
    struct.keys = wp.from_torch(keys, dtype=wp.uint64)
    return struct
