"""The names a file may use: for classes and functions, environments and their arguments. No file names an import.

A name from a file is looked up in a table that stands in this code, or among what the user handed over in
Python; it never becomes part of a module's name, a path or a call by itself.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib import import_module
from math import cos, isfinite, pi
from typing import Any

from .files import CheckpointError

MAX_ID = 200
MAX_ARGUMENTS = 1000

# kind -> the module its names are found in, and the names
_TABLE: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "activation": (
        (
            "torch.nn",
            ("ReLU", "Tanh", "ELU", "GELU", "SiLU", "LeakyReLU", "Mish", "Sigmoid", "Softplus", "SELU", "Identity"),
        ),
    ),
    "optimizer": (
        ("torch.optim", ("Adam", "AdamW", "SGD", "RMSprop", "Adamax", "NAdam", "RAdam", "Adagrad")),
        ("stable_baselines3.common.sb2_compat.rmsprop_tf_like", ("RMSpropTFLike",)),
    ),
    "extractor": (("stable_baselines3.common.torch_layers", ("FlattenExtractor", "NatureCNN", "CombinedExtractor")),),
}
_registered: dict[tuple[str, str], Any] = {}


# ---- schedules -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant:
    """A schedule that stays at ``value``."""

    value: float

    def __call__(self, progress_remaining: float) -> float:
        """Return the value; ``progress_remaining`` goes from 1 to 0."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """From ``start`` to ``end`` in a straight line over the first ``fraction`` of training, then ``end``."""

    start: float
    end: float = 0.0
    fraction: float = 1.0

    def __call__(self, progress_remaining: float) -> float:
        """Return the value; ``progress_remaining`` goes from 1 to 0."""
        done = 1.0 - progress_remaining
        if done >= self.fraction:
            return self.end
        return self.start + done * (self.end - self.start) / self.fraction


@dataclass(frozen=True)
class Cosine:
    """From ``start`` to ``end`` along half a cosine (Loshchilov and Hutter, SGDR, 2017, equation 5, one period)."""

    start: float
    end: float = 0.0

    def __call__(self, progress_remaining: float) -> float:
        """Return the value; ``progress_remaining`` goes from 1 to 0."""
        return self.end + 0.5 * (self.start - self.end) * (1.0 + cos(pi * (1.0 - progress_remaining)))


_SCHEDULES: dict[str, type[Constant] | type[Linear] | type[Cosine]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
}


def schedule_to_json(schedule: Any) -> dict[str, Any]:
    """Turn a number or a schedule of the named set (ours or Stable-Baselines3's) into JSON values.

    Raises:
        TypeError: It is some other function, which a file cannot hold.
    """
    kind = type(schedule)
    if kind.__module__ == "stable_baselines3.common.utils":  # by name: Stable-Baselines3 imports torch
        if kind.__name__ == "FloatSchedule":
            return schedule_to_json(schedule.value_schedule)
        if kind.__name__ == "ConstantSchedule":
            schedule = Constant(float(schedule.val))
        elif kind.__name__ == "LinearSchedule":
            schedule = Linear(float(schedule.start), float(schedule.end), float(schedule.end_fraction))
    elif kind in (int, float):
        schedule = Constant(float(schedule))
    for name, made in _SCHEDULES.items():
        if isinstance(schedule, made):
            return {"schedule": name, **asdict(schedule)}
    raise TypeError(
        f"the schedule {getattr(schedule, '__qualname__', schedule)!r} is a function of your own, which a checkpoint "
        "cannot hold: use a number or cairn.runs.Constant, Linear or Cosine, or hand it over again when loading"
    )


def schedule_from_json(values: Any) -> Constant | Linear | Cosine:
    """The way back; raises ``CheckpointError`` for any other name or argument."""
    if isinstance(values, dict):
        rest = dict(values)
        made = _SCHEDULES.get(str(rest.pop("schedule", None)))
        if made is not None and rest.keys() == made.__dataclass_fields__.keys():
            if all(type(v) in (int, float) and isfinite(v) for v in rest.values()):
                if rest.get("fraction", 1) > 0:
                    return made(**rest)
    raise CheckpointError(f"{str(values)[:200]!r} is no schedule; there are {', '.join(_SCHEDULES)}")


# ---- classes and functions -------------------------------------------------------------------------------


def register(kind: str, name: str, obj: Any) -> Any:
    """Give a class or function a name under which checkpoints may ask for it in this process.

    Returns:
        ``obj``.

    Raises:
        ValueError: The name is taken by something else.
    """
    if kind in _TABLE and any(name in names for _, names in _TABLE[kind]):
        raise ValueError(f"the {kind} {name!r} is built in: choose another name")
    if _registered.setdefault((kind, name), obj) is not obj:
        raise ValueError(f"the {kind} {name!r} is registered already, for {_registered[kind, name]!r}")
    return obj


def names(kind: str) -> list[str]:
    """The names of a kind, built in and registered."""
    built_in = [name for _, group in _TABLE.get(kind, ()) for name in group]
    return sorted({*built_in, *(name for k, name in _registered if k == kind)})


def resolve(kind: str, name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Find what a file means by a name: in ``custom_objects``, else registered, else built in.

    Raises:
        CheckpointError: The name is in none of them; nothing is imported to look for it.
    """
    if isinstance(name, str):
        if custom_objects and name in custom_objects:
            return custom_objects[name]
        if (kind, name) in _registered:
            return _registered[kind, name]
        for module, group in _TABLE.get(kind, ()):
            if name in group:
                return getattr(import_module(module), name)  # the module's name is this table's
    near = get_close_matches(str(name), names(kind), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise CheckpointError(
        f"the {kind} {str(name)[:80]!r} is not known: {hint}Pass it when loading, as "
        f"custom_objects={{{str(name)[:80]!r}: ...}}, or call cairn.runs.register({kind!r}, ...) first"
    )


def name_of(obj: Any) -> tuple[str, str] | None:
    """The kind and name of a registered or built-in object, or None."""
    for (kind, name), known in _registered.items():
        if known is obj:
            return kind, name
    name = getattr(obj, "__name__", "")
    for kind, groups in _TABLE.items():
        for module, group in groups:
            if name in group and getattr(import_module(module), name) is obj:
                return kind, name
    return None


def pack(value: Any) -> Any:
    """Turn constructor arguments such as ``policy_kwargs`` into a tree that a checkpoint holds.

    Plain values, lists, dicts and tensors stay; tuples, schedules and classes or functions become marked dicts.
    A class that has no name here is kept by its own name, and ``unpack`` then asks for it in ``custom_objects``.
    """
    if isinstance(value, dict):
        if any(str(key).startswith("$") for key in value):
            raise TypeError("arguments whose names begin with $ cannot be saved: rename them")
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [pack(item) for item in value]}
    if isinstance(value, tuple(_SCHEDULES.values())) or type(value).__module__ == "stable_baselines3.common.utils":
        return {"$schedule": schedule_to_json(value)}
    if callable(value):
        found = name_of(value) or ("object", str(getattr(value, "__name__", type(value).__name__)))
        return {"$name": list(found)}
    return value


def unpack(value: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The way back from ``pack``.

    Raises:
        CheckpointError: A name is not known; the message says how to hand the object over.
    """
    if isinstance(value, list):
        return [unpack(item, custom_objects) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(str(key).startswith("$") for key in value):
        return {key: unpack(item, custom_objects) for key, item in value.items()}
    if len(value) == 1:
        ((mark, inner),) = value.items()
        if mark == "$tuple" and isinstance(inner, list):
            return tuple(unpack(item, custom_objects) for item in inner)
        if mark == "$schedule":
            return schedule_from_json(inner)
        if mark == "$name" and isinstance(inner, list) and len(inner) == 2:
            return resolve(str(inner[0]), inner[1], custom_objects)
    raise CheckpointError(f"the saved arguments have the marks {sorted(value)[:3]}, which mean nothing here")


# ---- environments ----------------------------------------------------------------------------------------

_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
_FILE = re.compile(
    r"\.(?:xml|mjcf|urdf|json|jsonl|ya?ml|toml|ini|txt|csv|py|pyc|so|dll|sh|npz?|pkl|pickle|pt|pth|zip|tar|gz|h5|hdf5|"
    r"safetensors|png|jpe?g|gif|mp4|obj|stl|mjb|bin|wad|rom)$",
    re.IGNORECASE,
)


def check_env_id(env_id: Any) -> str:
    """Check an environment's id that came from a file: it must be one that this process has registered.

    ``gymnasium.make("module:id")`` imports ``module``, so an id with a colon is refused.

    Raises:
        CheckpointError: With the nearest registered id.
    """
    import gymnasium

    shown = repr(str(env_id)[:80])
    if not isinstance(env_id, str) or len(env_id) > MAX_ID:
        raise CheckpointError(f"{shown} is not an environment's id")
    if ":" in env_id:
        raise CheckpointError(
            f"the environment id {shown} names a module to import, which a file may not: "
            "if you trust it, import that module yourself in Python and save the id without the colon"
        )
    if not _ID.fullmatch(env_id):
        raise CheckpointError(f"{shown} is not an environment's id")
    if env_id not in gymnasium.registry:
        near = get_close_matches(env_id, gymnasium.registry, n=1) or get_close_matches(
            f"cairn/{env_id}", gymnasium.registry, n=1
        )
        hint = f"did you mean {near[0]!r}?" if near else "cairn envs lists what there is"
        raise CheckpointError(f"the environment {shown} is not registered: {hint} (Your own: import its module first.)")
    return env_id


def check_env_kwargs(kwargs: Any) -> dict[str, Any]:
    """Check an environment's arguments that came from a file: plain values, and no text that reads as a path.

    Raises:
        CheckpointError: With the argument's name.
    """
    if not isinstance(kwargs, dict):
        raise CheckpointError(f"an environment's arguments are an object, not {type(kwargs).__name__}")
    left = [MAX_ARGUMENTS]
    for key, value in kwargs.items():
        if not (isinstance(key, str) and key.isidentifier()) or key.startswith("_") or "entry_point" in key:
            raise CheckpointError(f"{str(key)[:80]!r} cannot be an environment's argument in a file")
        _check_argument(value, key, left)
    return kwargs


def _check_argument(value: Any, path: str, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0 or path.count("[") > 8:
        raise CheckpointError(f"the environment argument {path[:80]!r} is too large or too deep")
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_argument(item, f"{path}[{i}]", left)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_argument(key, f"{path}[{str(key)[:20]}]", left)
            _check_argument(item, f"{path}[{str(key)[:20]}]", left)
    elif isinstance(value, str):
        if any(mark in value for mark in ("/", "\\", ":", "\0", "..")) or value.startswith("~") or _FILE.search(value):
            raise CheckpointError(
                f"the environment argument {path[:80]!r} is {value[:80]!r}, which reads as a path or a module; a file "
                "may not name one: if you trust it, pass it again yourself"
            )
    elif value is not None and type(value) not in (bool, int, float):
        raise CheckpointError(f"the environment argument {path[:80]!r} is a {type(value).__name__}")
