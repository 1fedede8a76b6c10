"""State trees: attributes of terms as nested dicts and lists of plain values and tensors, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def pack(value: Any) -> Any:
    """Turn an attribute into a state tree that shares no memory with it.

    Raises:
        TypeError: Nothing is known about how to save a value of this type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, nn.Module):
        return {name: tensor.detach().clone() for name, tensor in value.state_dict().items()}
    if isinstance(value, torch.optim.Optimizer):
        saved = value.state_dict()
        slots = {str(i): pack(slot) for i, slot in saved["state"].items()}
        return {"state": slots, "param_groups": pack(saved["param_groups"])}
    if hasattr(value, "state") and hasattr(value, "load"):
        return value.state()
    if isinstance(value, Mapping):
        return {str(name): pack(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    raise TypeError(
        f"a term's state holds a {type(value).__name__}, which cannot be saved: keep tensors, numbers, text, modules, "
        "optimisers, torch generators, or objects with state() and load()"
    )


def unpack(current: Any, tree: Any) -> Any:
    """The attribute's value from its state tree; modules, optimisers, generators and objects are loaded in place.

    Args:
        current: What the attribute holds now; it says what the tree stands for, and the device.
        tree: What ``pack`` gave.
    """
    if isinstance(current, torch.Generator):
        current.set_state(tree.cpu())
        return current
    if isinstance(current, nn.Module):
        current.load_state_dict(tree)
        return current
    if isinstance(current, torch.optim.Optimizer):
        slots = {int(i): slot for i, slot in tree["state"].items()}
        current.load_state_dict({"state": slots, "param_groups": pack(tree["param_groups"])})
        return current
    if hasattr(current, "state") and hasattr(current, "load"):
        current.load(tree)
        return current
    if isinstance(tree, Tensor):
        return tree.detach().clone().to(current.device) if isinstance(current, Tensor) else tree.detach().clone()
    if isinstance(tree, np.ndarray):
        return tree.copy()
    if isinstance(tree, Mapping):
        inner = current if isinstance(current, Mapping) else {}
        return {name: unpack(inner.get(name), item) for name, item in tree.items()}
    if isinstance(tree, list):
        olds = list(current) if isinstance(current, list | tuple) else []
        olds += [None] * (len(tree) - len(olds))
        items = [unpack(old, item) for old, item in zip(olds, tree)]
        return tuple(items) if isinstance(current, tuple) else items
    return tree
