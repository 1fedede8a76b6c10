"""What a program may take: columns and facts of a stretch, by name, with their types and what they mean."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the jailed worker reads this file, and has no torch
    from torch import Tensor

    from ..stretch import Stretch

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        name: As a parameter is called.
        kind: "f" float32, "i" int64 or "b" bool.
        shape: Of one row.
        doc: What it means, with units.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    doc: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.kind not in "fib" or any(n < 0 for n in self.shape):
            raise ValueError(f"{self!r}: an input has a plain name, a kind f, i or b, and a shape")

    @property
    def bytes(self) -> int:
        """Of one row."""
        size = {"f": 4, "i": 8, "b": 1}[self.kind]
        for axis in self.shape:
            size *= axis
        return size


# What facts mean, for the prompt. Environments add their own through ``docs=``.
MEANINGS = {
    "position": "(x, y) of the agent's cell, from the top left",
    "direction": "where the agent looks: 0 right, 1 down, 2 left, 3 up",
    "carrying": "(kind, colour) of what the agent carries; kind 5 is a key, 6 a ball, 7 a box; -1 nothing",
    "objects": "[kind, colour] -> (x, y) of the first door, key, ball, box, goal of each colour; -1 for none",
    "doors": "state of the first door of each colour: 0 open, 1 closed, 2 locked, -1 none",
    "room": "number of the room the agent stands in, -1 in a doorway",
    "cells": "the whole grid, in the engine's encoding",
    "hash": "64 bits of the whole state",
    "steps": "steps taken in the episode",
    "mission_id": "which of the environment's missions it is",
    "events": "bits of what just happened",
    "success": "whether the task was solved",
    "qpos": "positions of the joints (m, rad), as MuJoCo orders them",
    "qvel": "velocities of the joints (m/s, rad/s)",
    "xpos": "positions of the bodies (m)",
    "touching": "which pairs of bodies are in contact",
    "feet": "which feet are on the ground",
    "unstable": "whether the simulation broke down",
    "distance": "distance to the target",
    # Crafter
    "facing": "what is on the tile ahead: 0 nothing, 1 water, 2 grass, 3 stone, 4 path, 5 sand, 6 tree, 7 lava, "
    "8 coal, 9 iron, 10 diamond, 11 table, 12 furnace, 13 cow, 14 zombie, 15 skeleton, 16 to 19 arrow, 20 sapling, "
    "21 ripe plant",
    "health": "from 0, dead, to 9",
    "food": "from 0 to 9; at 0 health is lost",
    "drink": "from 0 to 9; at 0 health is lost",
    "energy": "from 0 to 9; at 0 health is lost",
    "sleeping": "whether the player is asleep",
    "daylight": "from 0, night, to 1",
    "pack": "how much the player has of sapling, wood, stone, coal, iron, diamond",
    "tools": "how many wood, stone and iron pickaxes, and wood, stone and iron swords the player has",
    "unlocked": "which of the 22 achievements were reached in this episode, in alphabetical order",
    **{
        f"to_{name}": f"steps to the nearest {name} in view, 8 where none is"
        for name in (
            "lava", "water", "tree", "coal", "iron", "diamond", "table", "cow", "zombie", "skeleton", "arrow",
        )
    },
    "death": "what the player died of: 0 nothing, 1 lava, 2 zombie, 3 arrow, 4 hunger, 5 thirst, 6 tiredness",
}  # fmt: skip
COLUMNS = {
    "action": "what the agent did",
    "task_reward": "the task's own reward for this step",
    "terminated": "whether the task ended with this step",
    "truncated": "whether the episode was cut off with this step",
    "step": "steps of the episode before this one",
    "obs": "the observation acted on",
    "next_obs": "the observation after the step",
}


def inputs_of(x: "Stretch", docs: dict[str, str] | None = None) -> tuple[Input, ...]:
    """The inputs that experience of this kind gives: columns, then facts, then ``next_`` facts.

    Args:
        x: Any stretch of the environment.
        docs: What its own facts mean, by name.
    """
    meanings = {**MEANINGS, **COLUMNS, **(docs or {})}
    found = []
    for name, tensor in _columns(x).items():
        plain = name.removeprefix("next_") if name not in meanings else name
        doc = meanings.get(plain, "")
        if plain != name and doc:
            doc = f"{doc} (after the step)"
        lead = len(x.rows)
        kind = "f" if tensor.is_floating_point() else "b" if str(tensor.dtype) == "torch.bool" else "i"
        found.append(Input(name, kind, tuple(tensor.shape[lead:]), doc))
    return tuple(found)


def gather(x: "Stretch", names: "tuple[str, ...] | list[str]") -> "dict[str, Tensor]":
    """The inputs of some names as flat batches ``[B, ...]`` in float32, int64 or bool; nothing is copied needlessly.

    Raises:
        KeyError: The stretch lacks one.
    """
    import torch

    columns = _columns(x)
    lead = len(x.rows)
    out = {}
    for name in names:
        tensor = columns[name]
        dtype = (
            torch.float32 if tensor.is_floating_point() else torch.bool if tensor.dtype == torch.bool else torch.int64
        )
        out[name] = tensor.reshape(-1, *tensor.shape[lead:]).to(dtype)
    return out


def _columns(x: "Stretch") -> "dict[str, Tensor]":
    """Everything that a program may take, by name. Names that no program could write are left out."""
    columns: dict[str, Any] = {
        "task_reward": x.reward, "terminated": x.terminated, "truncated": x.truncated, "step": x.t,
    }  # fmt: skip
    for name, tree in (("action", x.action), ("obs", x.obs), ("next_obs", x.next_obs)):
        leaves = {f"{name}_{key}": leaf for key, leaf in tree.items()} if isinstance(tree, dict) else {name: tree}
        columns |= {key: leaf for key, leaf in leaves.items() if not isinstance(leaf, dict)}
    for prefix, facts in (("", x.facts), ("next_", x.next_facts)):
        columns |= {f"{prefix}{key}": leaf for key, leaf in facts.items() if f"{prefix}{key}" not in columns}
    return {name: leaf for name, leaf in columns.items() if NAME.fullmatch(name)}
