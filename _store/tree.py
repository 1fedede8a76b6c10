"""A tree of plain values, to JSON and back, with its arrays and tensors set apart.

In the JSON a dict with the one key ``$int``, ``$float``, ``$array`` or ``$tensor`` stands for what JSON lacks;
a user's own key that begins with ``$`` gets a second one. Nothing else has a meaning, so a file cannot ask for
anything but values.
"""

import sys
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .files import fault
from .tensors import MAX_DIMENSIONS, MAX_TENSORS, dtype_name, octets

MAX_TREE_DEPTH = 56
_MARKS = ("$array", "$tensor")

_ADVICE = {
    "tuple": "make it a list",
    "set": "make it a sorted list",
    "frozenset": "make it a sorted list",
    "bytes": "make it np.frombuffer(value, np.uint8)",
    "dtype": "save str(value)",
    "device": "save str(value)",
    "PosixPath": "save str(value)",
}


def is_tensor(value: Any) -> bool:
    """Tell a ``torch.Tensor`` without importing torch: where it was never imported there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _refuse(path: str, value: Any) -> TypeError:
    name = type(value).__name__
    if isinstance(value, np.generic):
        advice = "call .item() on it, or make it an array"
    elif hasattr(value, "bit_generator"):
        advice = "save value.bit_generator.state"
    elif name == "Generator" and hasattr(value, "get_state"):
        advice = "save value.get_state()"
    elif callable(value):
        advice = "save cairn.runs.pack(value), which names it"
    else:
        advice = _ADVICE.get(name, "turn it into numbers, text, lists, dicts and tensors")
    return TypeError(f"{path} is a {type(value).__module__}.{name}, which a checkpoint cannot hold: {advice}")


class Encoder:
    """Turns a tree into JSON values; what it met of arrays and tensors is in ``arrays``, key to value."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}

    def encode(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """Encode one node.

        Args:
            value: None, bool, int, float, str, array, tensor, or a dict or list of these.
            path: Where it stands, as ``policy.layers[3]``.
            depth: How deep that is.

        Raises:
            TypeError: It is something else.
            ValueError: It is nested too deep, or there are too many tensors.
        """
        kind = type(value)  # exactly: a numpy.float64 is a float, too, and would come back as another type
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 63 else {"$int": hex(value)}
        if kind is float:
            return value if isfinite(value) else {"$float": repr(value)}
        if depth > MAX_TREE_DEPTH:
            raise ValueError(f"{path} is more than {MAX_TREE_DEPTH} deep: flatten it, or break the circle")
        if isinstance(value, dict):
            made = {}
            for key, item in value.items():
                if type(key) is not str:
                    name = path or "the tree"
                    raise TypeError(f"{name} has the key {key!r}, and keys are text: save it under str(key)")
                inner = self.encode(item, f"{path}.{key}" if path else key, depth + 1)
                made["$" + key if key.startswith("$") else key] = inner
            return made
        if kind is list:
            return [self.encode(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
        if kind is np.ndarray:
            return {"$array": self._collect(value, path)}
        if is_tensor(value):
            return {"$tensor": self._collect(value, path)}
        raise _refuse(path or "the tree", value)

    def _collect(self, value: Any, path: str) -> str:
        dtype_name(value, path)
        if len(value.shape) > MAX_DIMENSIONS:
            raise ValueError(f"{path} has {len(value.shape)} dimensions, the limit is {MAX_DIMENSIONS}")
        if len(self.arrays) == MAX_TENSORS:
            raise ValueError(f"{path} is one tensor more than the {MAX_TENSORS} allowed: stack some")
        odd = not path or len(path) > 200 or path[0] == "#" or path == "__metadata__"
        if odd or path in self.arrays or not (path.isascii() and path.isprintable()):
            path = f"#{len(self.arrays)}"
        self.arrays[path] = value
        return path


class Decoder:
    """Turns JSON values of an untrusted file back into a tree; it knows the tensors before any is read."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.kinds: dict[str, str] = {}
        """The tensors the tree names: key to ``$array`` or ``$tensor``."""

    def collect(self, node: Any) -> None:
        """Note which tensors a node names, each once."""
        if isinstance(node, list):
            for item in node:
                self.collect(item)
        elif isinstance(node, dict):
            mark = next(iter(node), "")
            if mark in _MARKS and len(node) == 1:
                key = node[mark]
                if not isinstance(key, str) or key in self.kinds:
                    raise fault(self.where, f"names the tensor {str(key)[:80]!r} twice, or not by text")
                self.kinds[key] = mark
            else:
                for item in node.values():
                    self.collect(item)

    def decode(self, node: Any, arrays: dict[str, Any]) -> Any:
        """Decode a node, with the tensors that were read for it."""
        if isinstance(node, list):
            return [self.decode(item, arrays) for item in node]
        if not isinstance(node, dict):
            return node
        mark = next(iter(node), "")
        if mark.startswith("$") and not mark.startswith("$$"):
            return self._leaf(mark, node, arrays)
        made = {}
        for key, item in node.items():
            if key.startswith("$"):
                if not key.startswith("$$"):
                    raise fault(self.where, f"has the mark {key[:80]!r} among other keys")
                key = key[1:]
            made[key] = self.decode(item, arrays)
        return made

    def _leaf(self, mark: str, node: dict[str, Any], arrays: dict[str, Any]) -> Any:
        value = node[mark]
        if len(node) == 1 and isinstance(value, str):
            if mark in _MARKS and value in arrays:
                return arrays[value]
            if mark == "$float" and value in ("inf", "-inf", "nan"):
                return float(value)
            if mark == "$int" and value.removeprefix("-").startswith("0x"):
                with suppress(ValueError):
                    return int(value, 16)
        raise fault(self.where, f"has the mark {mark[:80]!r} with a value it cannot have")


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Find the first place where two trees differ, bit for bit; None where they are the same.

    Two NaNs are equal; 0.0 and -0.0 are not, nor two dtypes, an array and a tensor, or two orders of keys.
    """
    name = path or "the tree"
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            odd = sorted(a.keys() ^ b.keys()) or "in another order"
            return f"{name}: other keys ({odd})"
        items = [(a[key], b[key], f"{path}.{key}" if path else key) for key in a]
    elif type(a) is not type(b):
        return f"{name}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, list):
        if len(a) != len(b):
            return f"{name}: {len(a)} and {len(b)} items"
        items = [(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b))]
    elif isinstance(a, np.ndarray) or is_tensor(a):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name}: {a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}"
        return None if octets(a) == octets(b) else f"{name}: other values"
    else:
        shown = (hex(a), hex(b)) if type(a) is int else (repr(a), repr(b))  # a long number has no repr
        return None if shown[0] == shown[1] else f"{name}: {shown[0]} and {shown[1]}"
    return next((found for x, y, p in items if (found := first_difference(x, y, p)) is not None), None)
