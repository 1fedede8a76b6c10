"""Spaces to JSON and back: a closed set of names, and sizes checked before memory is taken."""

from collections.abc import Mapping
from math import prod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from .kinds import Pixels, Symbols, Tokens

# A file that says "a Box of 10^12 numbers" must not be believed. The largest honest space here is a picture.
MAX_ELEMENTS = 1 << 24
MAX_WORDS = 1 << 17
MAX_DEPTH = 8
_DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())


def to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Describe a space in plain values.

    Raises:
        TypeError: The space's class is not one of the set.
    """
    if isinstance(space, Symbols):
        return {
            "space": "Symbols",
            "shape": list(space.shape),
            "sizes": list(space.sizes),
            "high": int(space.high.max()),
        }
    if isinstance(space, Pixels):
        return {"space": "Pixels", "shape": list(space.shape)}
    if isinstance(space, Tokens):
        return {"space": "Tokens", "length": space.shape[0], "vocabulary": list(space.vocabulary), "by": space.by}
    if type(space) is spaces.Box:
        return {
            "space": "Box",
            "shape": list(space.shape),
            "dtype": str(space.dtype),
            "low": _bound(space.low),
            "high": _bound(space.high),
        }
    if type(space) is spaces.Discrete:
        return {"space": "Discrete", "n": int(space.n), "start": int(space.start)}
    if type(space) is spaces.MultiDiscrete:
        return {"space": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if type(space) is spaces.MultiBinary:
        return {"space": "MultiBinary", "n": int(space.n) if isinstance(space.n, int) else list(space.shape)}
    if type(space) is spaces.Dict:
        return {"space": "Dict", "spaces": {name: to_json(child) for name, child in space.spaces.items()}}
    if type(space) is spaces.Tuple:
        return {"space": "Tuple", "spaces": [to_json(child) for child in space.spaces]}
    raise TypeError(
        f"{space!r} has no place in a checkpoint; known are Box, Discrete, MultiDiscrete, MultiBinary, Dict, "
        "Tuple, Symbols, Pixels and Tokens"
    )


def _bound(values: np.ndarray[Any, Any]) -> Any:
    """One number where all are the same, else a nested list."""
    if values.size and (values == values.flat[0]).all():
        return values.flat[0].item()
    return values.tolist()


def from_json(data: Any) -> gym.Space[Any]:
    """Build the space that ``to_json`` described.

    Raises:
        ValueError: The description is malformed, names an unknown space, or is too large.
    """
    try:
        return _build(data, 0, [MAX_ELEMENTS])
    except (TypeError, KeyError, AttributeError, OverflowError, AssertionError) as error:
        raise ValueError(f"malformed description of a space: {error!r}") from error


def _build(data: Any, depth: int, left: list[int]) -> gym.Space[Any]:
    if not isinstance(data, Mapping) or depth > MAX_DEPTH:
        raise ValueError(f"a space is described by an object, at most {MAX_DEPTH} deep, not by {type(data).__name__}")
    name = data.get("space")
    if name == "Dict":
        children = data["spaces"]
        if not all(isinstance(key, str) for key in children):
            raise ValueError("the keys of a Dict space are strings")
        return spaces.Dict({key: _build(child, depth + 1, left) for key, child in children.items()})
    if name == "Tuple":
        return spaces.Tuple([_build(child, depth + 1, left) for child in data["spaces"]])
    if name == "Symbols":
        sizes = [_whole(n) for n in _short(data["sizes"])]
        return Symbols(_shape(data["shape"], left), sizes, _whole(data["high"], 255))
    if name == "Pixels":
        return Pixels(_shape(data["shape"], left))
    if name == "Tokens":
        words = data["vocabulary"]
        if not isinstance(words, list) or len(words) > MAX_WORDS or not all(isinstance(w, str) for w in words):
            raise ValueError(f"a vocabulary is a list of at most {MAX_WORDS} words")
        return Tokens(_whole(data["length"], MAX_WORDS), words, data["by"])
    if name == "Box":
        if data["dtype"] not in _DTYPES:
            raise ValueError(f"dtype {data['dtype']!r} is not a number type")
        shape, dtype = _shape(data["shape"], left), np.dtype(data["dtype"])
        return spaces.Box(_limits(data["low"], shape, dtype), _limits(data["high"], shape, dtype), shape, dtype)
    if name == "Discrete":
        return spaces.Discrete(_whole(data["n"]), start=_integer(data["start"]))
    if name == "MultiDiscrete":
        nvec, start = (np.array(data[key], dtype=np.int64) for key in ("nvec", "start"))
        if nvec.size > MAX_ELEMENTS:
            raise ValueError("a MultiDiscrete space that large is not believed")
        return spaces.MultiDiscrete(nvec, start=start)
    if name == "MultiBinary":
        shape = _shape(data["n"] if isinstance(data["n"], list) else [data["n"]], left)
        return spaces.MultiBinary(list(shape) if isinstance(data["n"], list) else shape[0])
    raise ValueError(f"unknown space {name!r}")


def _integer(n: Any) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or abs(n) >= 1 << 62:
        raise ValueError(f"{n!r} is not an integer of reasonable size")
    return n


def _whole(n: Any, most: int = 1 << 31) -> int:
    if not 1 <= _integer(n) <= most:
        raise ValueError(f"{n!r} is not between 1 and {most}")
    return int(n)


def _short(values: Any) -> list[Any]:
    if not isinstance(values, list) or len(values) > 1024:
        raise ValueError("expected a list of at most 1024 entries")
    return values


def _shape(values: Any, left: list[int]) -> tuple[int, ...]:
    """A shape, whose size is taken off what all parts of the space together may have."""
    shape = tuple(_whole(n, MAX_ELEMENTS) if n != 0 else 0 for n in _short(values))
    left[0] -= prod(shape)
    if len(shape) > 16 or left[0] < 0:
        raise ValueError(f"a space of shape {shape} is larger than {MAX_ELEMENTS} numbers")
    return shape


def _limits(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if isinstance(value, bool | int | float):
        if isinstance(value, float) and np.isinf(value) or dtype.kind in "iu":
            return value
        return np.full(shape, value, dtype)
    array = np.array(value, dtype=dtype)
    if array.shape != shape:
        raise ValueError(f"bounds of shape {array.shape} for a Box of shape {shape}")
    return array
