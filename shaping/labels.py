"""Labelling functions: named predicates over the facts of grids and of MuJoCo, for machines and formulas.

Each function here returns a label: a function of a dict of facts ``[B, ...]`` to bool ``[B]``.

    labels = {"key": carrying("key"), "open": door("open"), "goal": at("goal")}
    task = ltl_machine("F (key & F (open & F goal))", labels)
    envs = MachineEnv(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=64, facts=["objects", "doors"]), task)

Grid labels read ``position``, ``direction`` and ``carrying``, which every grid gives, and ``objects``, ``doors`` and
``room``, which are to be asked for with ``facts=``; a missing one is a ``FactError`` that says so.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..envs.grid.layout import COLORS
from .stretch import FactError

Facts = Mapping[str, Tensor]
Predicate = Callable[[Facts], Tensor]

OBJECTS = ("door", "key", "ball", "box", "goal")
"""Kinds of the fact ``objects``, in its order; as carried, the first has number 4."""
DOOR_STATES = ("open", "closed", "locked")
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


# Grids.


def at(kind: str, color: str | None = None) -> Predicate:
    """The agent stands where such an object is (the first of each colour): a goal, or a door that is open."""
    places = _places(kind, color)
    return lambda facts: (places(facts) == _fact(facts, "position")[:, None]).all(-1).any(-1)


def facing(kind: str, color: str | None = None) -> Predicate:
    """Such an object (the first of each colour) is in the cell before the agent."""
    places = _places(kind, color)

    def holds(facts: Facts) -> Tensor:
        position = _fact(facts, "position")
        steps = torch.tensor(_STEPS, device=position.device)
        front = position + steps[_fact(facts, "direction").long()]
        return (places(facts) == front[:, None]).all(-1).any(-1)

    return holds


def carrying(kind: str | None = None, color: str | None = None) -> Predicate:
    """The agent carries something: of a kind, of a colour, or anything."""
    number = None if kind is None else _index(kind, OBJECTS, "kind of object") + 4
    shade = None if color is None else _index(color, COLORS, "colour")

    def holds(facts: Facts) -> Tensor:
        held = _fact(facts, "carrying")
        out = held[:, 0] >= 0
        out = out if number is None else out & (held[:, 0] == number)
        return out if shade is None else out & (held[:, 1] == shade)

    return holds


def door(state: str = "open", color: str | None = None) -> Predicate:
    """A door is ``"open"``, ``"closed"`` or ``"locked"``: that of a colour, or any (the first of each colour)."""
    number = _index(state, DOOR_STATES, "state of a door")
    columns = _colors(color)
    return lambda facts: (_fact(facts, "doors")[:, columns] == number).any(-1)


def in_room(number: int) -> Predicate:
    """The agent is in a room, counted as the fact ``room`` does: by first cell, row by row from the top."""
    return lambda facts: _fact(facts, "room") == number


def at_cell(x: int, y: int) -> Predicate:
    """The agent is in the cell (x, y), from the upper left."""
    return lambda facts: (_fact(facts, "position") == torch.tensor([x, y], device=facts["position"].device)).all(-1)


# MuJoCo.


def past(value: float, axis: str = "x") -> Predicate:
    """The root's coordinate is above ``value``, in metres: ``qpos[0]`` along x; y and z are a free root's alone."""
    column = _index(axis, ("x", "y", "z"), "axis")
    return lambda facts: _fact(facts, "qpos")[:, column] > value


def contact(pair: int | None = None) -> Predicate:
    """A foot touches something; or the pair of geoms of this number in ``touching`` (``envs.pairs`` names them)."""
    if pair is None:
        return lambda facts: _fact(facts, "feet").any(-1)
    return lambda facts: _fact(facts, "touching")[:, pair]


def upright(tilt: float = 0.5, root: str = "planar") -> Predicate:
    """The torso leans by less than ``tilt`` radians.

    ``root="planar"``: the angle is ``qpos[2]``, as in HalfCheetah, Hopper and Walker2d. ``"free"``: by the quaternion
    ``qpos[3:7]`` of a free root, as in Ant and Humanoid, the angle between its z axis and the world's.
    """
    if root not in ("planar", "free") or not tilt > 0:
        raise ValueError(f"upright(tilt={tilt}, root={root!r}): an angle above 0, and 'planar' or 'free'")

    def planar(facts: Facts) -> Tensor:
        angle = _fact(facts, "qpos")[:, 2]
        return torch.remainder(angle + math.pi, 2 * math.pi).sub(math.pi).abs() < tilt

    def free(facts: Facts) -> Tensor:
        x, y = _fact(facts, "qpos")[:, 4], _fact(facts, "qpos")[:, 5]
        return 1 - 2 * (x * x + y * y) > math.cos(min(tilt, math.pi))

    return planar if root == "planar" else free


# Both.


def is_true(fact: str) -> Predicate:
    """A boolean fact holds, such as ``success``."""
    return lambda facts: _fact(facts, fact).bool()


def _fact(facts: Facts, name: str) -> Tensor:
    if name not in facts:
        asked = f'; ask for it: gym.make_vec(..., facts=["{name}"])' if name in ("objects", "doors", "room") else ""
        raise FactError(f"a label reads the fact {name!r}; there are {', '.join(facts) or 'none'}{asked}")
    return torch.as_tensor(facts[name])


def _index(name: str, names: tuple[str, ...], what: str) -> int:
    if name not in names:
        raise ValueError(f"{name!r} is no {what}; there are {', '.join(names)}")
    return names.index(name)


def _colors(color: str | None) -> Any:
    return slice(None) if color is None else [_index(color, COLORS, "colour")]


def _places(kind: str, color: str | None) -> Callable[[Facts], Tensor]:
    number, columns = _index(kind, OBJECTS, "kind of object"), _colors(color)
    return lambda facts: _fact(facts, "objects")[:, number][:, columns]
