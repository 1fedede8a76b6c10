"""Refuse numbers that no episode has: a kernel would read beyond its arrays, or show what is in no space."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import layout as L


def check_lanes(cells: Tensor, ints: Tensor, width: int, height: int, missions: int, max_steps: int, what: str) -> None:
    """Check the cells ``[M, H * W]`` and numbers ``[M, AUX + a]`` of states or levels.

    Raises:
        ValueError: If one is out of range; ``what`` says in what.
    """
    limits = {L.X: width, L.Y: height, L.DIR: 4, L.MISSION: missions, L.STEPS: max_steps}
    for column, limit in limits.items():
        low, high = torch.aminmax(ints[:, column])
        if int(low) < 0 or int(high) >= limit:
            raise ValueError(f"{what} damaged: column {column} of its numbers is not within [0, {limit})")
    known = torch.from_numpy(L.every_cell()).to(ints.device)
    held = ints[:, L.CARRYING]
    if not bool(torch.isin(cells, known).all()):
        raise ValueError(f"{what} damaged: it has cells that are no cells")
    if not bool(((held == 0) | (torch.isin(held, known) & ((held & 15) >= L.KEY) & ((held & 15) <= L.BOX))).all()):
        raise ValueError(f"{what} damaged: an agent carries what cannot be carried")


def check_rows(lanes: Any, num_envs: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which lanes: None for all, one number, or several different ones.

    Raises:
        ValueError: If they are not lanes of the batch.
    """
    if lanes is None:
        return np.arange(num_envs)
    array = lanes.detach().cpu().numpy() if isinstance(lanes, Tensor) else np.asarray(lanes)
    array = array.reshape(-1)
    if array.dtype.kind not in "iu" or not len(array) or (array < 0).any() or (array >= num_envs).any():
        raise ValueError(f"lanes are whole numbers from 0 to {num_envs - 1}, at least one, got {lanes!r}")
    if len(np.unique(array)) != len(array):
        raise ValueError(f"a lane is named twice in {lanes!r}")
    return array.astype(np.int64)


def check_few(state: Any, present: Mapping[str, Tensor], count: int, form: str, world: str) -> Mapping[str, Tensor]:
    """The tensors of a ``get_state`` that fits ``count`` lanes: as many rows, or one for all.

    Raises:
        ValueError: If it is of another world, or does not have the form.
    """
    if not isinstance(state, Mapping) or set(state) != {"format", "world", "lanes"}:
        raise ValueError("this is not what get_state() gives: it has format, world and lanes")
    if state["format"] != form or state["world"] != world:
        raise ValueError(f"the state is {state['format']} of {state['world']}, and this batch is {form} of {world}")
    tensors = state["lanes"]
    if not isinstance(tensors, Mapping) or set(tensors) != {"cells", "ints", "rng"}:
        raise ValueError("the state is damaged: its lanes have cells, ints and rng")
    for name, tensor in tensors.items():
        like = present[name]
        good = isinstance(tensor, Tensor) and tensor.dtype == like.dtype and tensor.dim() == 2
        if not good or tensor.shape[1] != like.shape[1] or len(tensor) not in (1, count):
            got = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name}: expected {like.dtype} [{count} (or 1), {like.shape[1]}], and got {got}")
    return tensors
