"""Spaces of a batch, and observations as trees of tensors.

An observation batch is a tensor, or a dict of tensors where the space is a ``Dict`` (nested where it is nested).
This file has the helpers over such trees; the space classes are in ``kinds.py``, their JSON in ``space_codec.py``, and
both are imported from here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .kinds import MINIGRID_SIZES, MINIGRID_WORDS, Pixels, Symbols, Tokens, declare, kind
from .space_codec import from_json, to_json

__all__ = [
    "MINIGRID_SIZES",
    "MINIGRID_WORDS",
    "Pixels",
    "Symbols",
    "Tokens",
    "Tree",
    "declare",
    "encode",
    "flat_size",
    "flat_space",
    "flatten",
    "from_json",
    "kind",
    "numpy_dtype",
    "to_json",
    "torch_dtype",
    "tree_map",
    "tree_leaves",
    "zeros",
]

Tree: TypeAlias = Tensor | dict[str, Any]  # dict[str, Tree]; mypy has no recursive alias with a union of this kind

# torch has the wider unsigned types in name, but hardly an operation on them.
_WIDER = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.int64}


def numpy_dtype(space: gym.Space[Any]) -> np.dtype[Any]:
    """The dtype that a leaf space's values have in a batch."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return np.dtype(np.int64)
    dtype = np.dtype(space.dtype)
    return np.dtype(_WIDER.get(dtype, dtype))


def torch_dtype(space: gym.Space[Any]) -> torch.dtype:
    """``numpy_dtype`` in torch's terms."""
    return torch.from_numpy(np.empty(0, numpy_dtype(space))).dtype


def children(space: gym.Space[Any]) -> dict[str, gym.Space[Any]] | None:
    """The parts of a Dict or Tuple space by name, or None for a leaf."""
    if isinstance(space, spaces.Dict):
        return dict(space.spaces)
    if isinstance(space, spaces.Tuple):
        return {str(i): child for i, child in enumerate(space.spaces)}
    return None


def tree_map(f: Callable[..., Any], *trees: Any) -> Any:
    """Apply ``f`` to the corresponding leaves of trees of the same form."""
    first = trees[0]
    if isinstance(first, torch.Tensor):  # asking for the abstract class takes its time
        return f(*trees)
    if type(first) is dict or isinstance(first, Mapping):
        return {name: tree_map(f, *(tree[name] for tree in trees)) for name in first}
    return f(*trees)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves, in the order of the dicts."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if type(tree) is dict or isinstance(tree, Mapping):
        return [leaf for child in tree.values() for leaf in tree_leaves(child)]
    return [tree]


def zeros(space: gym.Space[Any], lead: tuple[int, ...], device: torch.device | str = "cpu") -> Any:
    """Allocate a tree of zeros: for each leaf a tensor of shape ``lead`` + the space's shape, in its dtype."""
    parts = children(space)
    if parts is not None:
        return {name: zeros(child, lead, device) for name, child in parts.items()}
    return torch.zeros(*lead, *(space.shape or ()), dtype=torch_dtype(space), device=device)


def encode(space: gym.Space[Any], obs: Any, device: torch.device | str = "cpu") -> Any:
    """Turn observations of the single environment into a batch of ``space``.

    Args:
        space: The batch's ``single_observation_space``.
        obs: One observation (NumPy, Python numbers, text as ``str``), a list of B of them, or a batch already.
        device: Where the tensors go.

    Returns:
        A tree ``[B, ...]``; B is 1 for one observation.

    Raises:
        ValueError: A part of the observation is missing, or has another shape or type than the space.
    """
    return tree_map(lambda array: torch.from_numpy(array).to(device), encode_numpy(space, obs))


def encode_numpy(space: gym.Space[Any], obs: Any, name: str = "observation") -> Any:
    """``encode`` up to the last step: a tree of fresh NumPy arrays ``[B, ...]``."""
    parts = children(space)
    if parts is not None:
        if isinstance(obs, list) and not obs:
            raise ValueError(f"{name}: an empty list has no observation in it")
        rows = obs if isinstance(obs, list) else None
        out = {}
        for part, child in parts.items():
            value = [_pick(row, part, name) for row in rows] if rows is not None else _pick(obs, part, name)
            out[part] = encode_numpy(child, value, f"{name}[{part!r}]")
        return out
    if isinstance(space, Tokens):
        obs = _tokens(space, obs)
    return _array(space, obs, name)


def _pick(obs: Any, part: str, name: str) -> Any:
    if isinstance(obs, tuple) and part.isdigit() and int(part) < len(obs):
        return obs[int(part)]
    if isinstance(obs, Mapping) and part in obs:
        return obs[part]
    have = f"keys {sorted(map(str, obs))}" if isinstance(obs, Mapping) else type(obs).__name__
    raise ValueError(f"{name} lacks {part!r}: it is of another environment (it has {have})")


def _tokens(space: Tokens, obs: Any) -> Any:
    """Encode the text in ``obs``; what is token ids already passes."""
    if isinstance(obs, str):
        return space.encode(obs)
    if isinstance(obs, np.ndarray) and obs.dtype.kind not in "OUS":
        return obs
    if isinstance(obs, list | tuple | np.ndarray) and len(obs) and all(isinstance(text, str) for text in obs):
        return np.stack([space.encode(str(text)) for text in obs])
    return obs


def _array(space: gym.Space[Any], obs: Any, name: str) -> np.ndarray[Any, Any]:
    """A fresh array ``[B, *space.shape]`` in the batch's dtype."""
    if isinstance(obs, Tensor):
        obs = obs.detach().cpu().numpy()
    try:
        array = np.asarray(obs)
    except ValueError as error:
        raise ValueError(f"{name} holds rows of different shapes") from error
    shape, dtype = tuple(space.shape or ()), numpy_dtype(space)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}, and {space} holds numbers")
    if array.dtype.kind == "f" and dtype.kind != "f":
        raise ValueError(f"{name} has dtype {array.dtype}, and {space} holds whole numbers")
    if array.shape == shape:
        array = array[None]
    elif array.shape[1:] != shape or array.ndim == 0:
        raise ValueError(f"{name} has shape {array.shape}; {space} wants {shape}, or a batch of these")
    return array.astype(dtype, order="C", copy=True)


def flat_size(space: gym.Space[Any]) -> int:
    """D, the number of features of ``flatten``."""
    return sum(_leaf_size(leaf) for leaf in _leaves(space))


def flat_space(space: gym.Space[Any]) -> spaces.Box:
    """The float32 ``Box`` ``[D]`` in which ``flatten`` ends."""
    low, high = [], []
    for leaf in _leaves(space):
        vector = kind(leaf) == "vector"
        low.append(leaf.low.ravel().astype(np.float32) if vector else np.zeros(_leaf_size(leaf), np.float32))  # type: ignore[attr-defined]
        high.append(leaf.high.ravel().astype(np.float32) if vector else np.ones(_leaf_size(leaf), np.float32))  # type: ignore[attr-defined]
    if not low:
        raise ValueError(f"{space} has nothing but text, and the flat view drops text: use as_sb3(flat=False)")
    return spaces.Box(np.concatenate(low), np.concatenate(high), dtype=np.float32)


def flatten(space: gym.Space[Any], obs: Any) -> Tensor:
    """Flatten a batch for a plain network: categories one-hot, text dropped, pixels in [0, 1], vectors as they are.

    Args:
        space: The batch's ``single_observation_space``.
        obs: A tree ``[B, ...]`` of it.

    Returns:
        float32 ``[B, D]``, the parts of a Dict in the space's order. A value outside its category range gives zeros.
    """
    parts = children(space)
    if parts is not None:
        flat = [flatten(child, obs[name]) for name, child in parts.items() if _leaves(child)]
        return torch.cat(flat, dim=-1)
    size, kept = _leaf_size(space), kind(space)
    if isinstance(space, Symbols):
        hot = [obs[..., c, None] == _range(n, obs) for c, n in enumerate(space.sizes)]
        obs = torch.cat(hot, dim=-1)
    elif isinstance(space, spaces.Discrete):
        obs = obs[..., None] - int(space.start) == _range(int(space.n), obs)
    elif isinstance(space, spaces.MultiDiscrete):
        columns = obs.reshape(len(obs), -1) - torch.as_tensor(space.start.ravel(), device=obs.device)
        sizes = space.nvec.ravel().tolist()
        obs = torch.cat([columns[:, i, None] == _range(n, obs) for i, n in enumerate(sizes)], dim=-1)
    flat_obs: Tensor = obs.reshape(len(obs), size).float()
    return flat_obs / 255 if kept == "pixels" else flat_obs


def _range(n: int, like: Tensor) -> Tensor:
    return torch.arange(n, device=like.device)


def _leaves(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """The leaves that the flat view keeps."""
    parts = children(space)
    if parts is not None:
        return [leaf for child in parts.values() for leaf in _leaves(child)]
    return [] if isinstance(space, Tokens) else [space]


def _leaf_size(space: gym.Space[Any]) -> int:
    if isinstance(space, Symbols):
        return int(np.prod(space.shape[:-1])) * sum(space.sizes)
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape or ()))


def check_rows(space: gym.Space[Any], rows: Sequence[Any]) -> None:
    """Raise ValueError unless every row is an element of ``space``."""
    for i, row in enumerate(rows):
        if not space.contains(row):
            raise ValueError(f"row {i} is not in {space}: {row!r}")
