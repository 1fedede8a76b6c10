"""A tabular world as a whole: its MDP, how episodes begin and end, what its states are called and look like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .mdp import MDP

CELL = 12  # pixels of one character of a drawing
_INK = {" ": 235, ".": 235, "|": 60, "-": 60, "_": 60, "#": 60, "+": 60}
_COLOURS = np.array(
    [
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [240, 228, 66],
        [0, 114, 178],
        [213, 94, 0],
        [204, 121, 167],
        [120, 120, 160],
    ],
    dtype=np.uint8,
)  # fmt: skip  (Okabe and Ito's palette: told apart by the colour-blind too)
_AGENT = np.array([200, 30, 30], dtype=np.uint8)


@dataclass(frozen=True)
class Scene:
    """What environments, solvers and learners share about one tabular world.

    Raises:
        ValueError: A table does not have a row for each state, or the MDP is a batch.
    """

    mdp: MDP
    """One MDP (no batch)."""
    max_steps: int | None = None
    """Episodes are truncated after so many steps."""
    actions: tuple[str, ...] = ()
    """Names of the actions."""
    success: Tensor | None = None
    """Bool ``[S]``: states in which the task is done; None where the world has no such notion."""
    propositions: tuple[str, ...] = ()
    """Names of what may be true of a state."""
    labels: Tensor | None = None
    """Bool ``[S, P]``: the labelling function, which propositions are true on entering a state."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """More facts, each ``[S, ...]``: a cell, the state of a machine."""
    turns: Tensor | None = None
    """Int64 ``[E]``: episode e starts in ``turns[e % E]`` (several tasks in turn), not by the start distribution."""
    drawing: tuple[str, ...] = ()
    """The world as text, one string a row, without the agent."""
    place: Tensor | None = None
    """Int64 ``[S, 2]``: row and column of the agent in the drawing; -1 where it is not to be seen."""
    captions: tuple[str, ...] = ()
    """A line under the drawing for each state."""

    def __post_init__(self) -> None:
        if self.mdp.batch:
            raise ValueError(f"a scene has one MDP, and {self.mdp} is a batch: take one with mdp[i]")
        tables = {"success": self.success, "labels": self.labels, "place": self.place, **self.facts}
        for name, table in tables.items():
            if table is not None and (table.ndim == 0 or len(table) != self.mdp.states):
                raise ValueError(f"{name} has shape {tuple(table.shape)}, and the world has {self.mdp.states} states")
        if self.labels is not None and self.labels.shape[1:] != (len(self.propositions),):
            raise ValueError(f"labels {tuple(self.labels.shape)} for {len(self.propositions)} propositions")
        if self.actions and len(self.actions) != self.mdp.actions:
            raise ValueError(f"{len(self.actions)} names for {self.mdp.actions} actions")

    def fact_tables(self) -> dict[str, Tensor]:
        """What is reported of a state: ``state``, ``events``, ``success`` and the rest, each ``[S, ...]``."""
        tables = {"state": torch.arange(self.mdp.states), **self.facts}
        if self.labels is not None:
            tables["events"] = self.labels
        if self.success is not None:
            tables["success"] = self.success
        return tables

    def text(self, state: int) -> str:
        """The drawing with the agent as ``@``, and its caption; without a drawing, the state's number."""
        if not self.drawing or self.place is None:
            return f"state {state} of {self.mdp.states}\n"
        rows = [list(row) for row in self.drawing]
        row, column = self.place[state].tolist()
        if row >= 0:
            rows[row][column] = "@"
        lines = ["".join(letters) for letters in rows]
        return "\n".join([*lines, *self.captions[state : state + 1]]) + "\n"

    def background(self) -> NDArray[np.uint8]:
        """The drawing without the agent, uint8 ``[H, W, 3]``; worlds without a drawing are a row of states."""
        rows = self.drawing or ("." * self.mdp.states,)
        width = max(len(row) for row in rows)
        letters = sorted({c for row in rows for c in row} - set(_INK))
        tiles = np.empty((len(rows), width, 3), np.uint8)
        for i, row in enumerate(rows):
            for j, letter in enumerate(row.ljust(width)):
                grey = _INK.get(letter)
                tiles[i, j] = _COLOURS[letters.index(letter) % len(_COLOURS)] if grey is None else grey
        return np.kron(tiles, np.ones((CELL, CELL, 1), np.uint8))

    def places(self) -> Tensor:
        """Int64 ``[S, 2]``: where ``picture`` draws the agent."""
        if self.place is not None and self.drawing:
            return self.place
        return torch.stack([torch.zeros(self.mdp.states, dtype=torch.int64), torch.arange(self.mdp.states)], -1)


def draw(background: Tensor, places: Tensor) -> Tensor:
    """Put the agent on the background: uint8 ``[H, W, 3]`` and int64 ``[N, 2]`` to uint8 ``[N, H, W, 3]``."""
    frames = background.expand(len(places), *background.shape).clone()
    inner = torch.arange(2, CELL - 2, device=places.device)
    # An agent that is not to be seen is drawn over its own background, in the corner.
    seen = (places[:, 0] >= 0)[:, None, None, None]
    rows = places[:, 0].clamp_min(0)[:, None] * CELL + inner
    columns = places[:, 1].clamp_min(0)[:, None] * CELL + inner
    lanes = torch.arange(len(places), device=places.device)[:, None, None]
    at = (lanes, rows[:, :, None], columns[:, None, :])
    ink = torch.from_numpy(_AGENT).to(places.device).expand(frames[at].shape)
    frames[at] = torch.where(seen, ink, frames[at])
    return frames
