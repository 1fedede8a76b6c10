"""How a search sees outcomes: by the measures it is given, or by a picture that a model learns to describe."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .images import ImageDescriptor
from .problem import Growing, Problem
from .rollout import Evaluated


class View(Protocol):
    """Where outcomes lie, for a search that ranks by novelty."""

    @property
    def version(self) -> int:
        """Points of different versions are not to be compared."""
        ...

    def raw(self, found: Evaluated) -> Tensor:
        """What is kept of outcomes so that they can be placed anew, ``[P, ...]``."""
        ...

    def place(self, raw: Tensor) -> Tensor:
        """Points ``[P, M]`` of what ``raw`` gave."""
        ...

    def points(self, found: Evaluated) -> Tensor:
        """``place(raw(found))``."""
        ...

    def rank(self, found: Evaluated, novel: Tensor, problem: Problem) -> Tensor:
        """By what the population survives this generation, ``[P]``; ``novel`` is the novelty."""
        ...

    def learn(self, chunks: int, known: Sequence[Tensor]) -> bool:
        """Learn, if it is time after so many chunks; ``known`` has the raw of archives and population."""
        ...


class Given:
    """The measures that the environment tells."""

    @property
    def version(self) -> int:
        """Always the same."""
        return 0

    def raw(self, found: Evaluated) -> Tensor:
        """The measures."""
        return found.measures

    def place(self, raw: Tensor) -> Tensor:
        """The measures."""
        return raw

    def points(self, found: Evaluated) -> Tensor:
        """The measures."""
        return found.measures

    def rank(self, found: Evaluated, novel: Tensor, problem: Problem) -> Tensor:
        """Novelty."""
        return novel

    def learn(self, chunks: int, known: Sequence[Tensor]) -> bool:
        """Nothing to learn."""
        return False


class Pictures:
    """The last pictures, as an autoencoder describes them.

    Each generation survives by novelty or by surprise (how badly its pictures are reconstructed), as a coin falls; by
    novelty until the first fit. The model is fitted after 1, 3, 6, 10 ... chunks.

    Source: Paolo et al., "Discovering and Exploiting Sparse Rewards in a Learned Behavior Space" (STAX, 2021).

    Args:
        model: The autoencoder.
    """

    def __init__(self, model: ImageDescriptor) -> None:
        self.model = model
        self._due, self._interval = 1, 1

    @property
    def version(self) -> int:
        """The model's."""
        return self.model.version

    def raw(self, found: Evaluated) -> Tensor:
        """Pictures, uint8 ``[P, H, W, 3]``.

        Raises:
            ValueError: The evaluations have none.
        """
        if found.frames is None:
            raise ValueError("this search describes pictures: evaluate with Evaluator(..., frames=True)")
        return found.frames

    def place(self, raw: Tensor) -> Tensor:
        """The model's points."""
        return self.model.encode(raw)

    def points(self, found: Evaluated) -> Tensor:
        """The model's points."""
        return self.place(self.raw(found))

    def rank(self, found: Evaluated, novel: Tensor, problem: Problem) -> Tensor:
        """Novelty or surprise."""
        coin = bool(torch.rand((), generator=problem.generator) < 0.5)
        return self.model.surprise(self.raw(found)) if coin and self.version else novel

    def learn(self, chunks: int, known: Sequence[Tensor]) -> bool:
        """Fit to all that is kept, each time after one more chunk than the time before."""
        if chunks < self._due:
            return False
        self._interval += 1
        self._due += self._interval
        self.model.fit(torch.cat([part for part in known if len(part)]))
        return True


class Placed:
    """Where parents lie, so that of a generation the children alone are placed while the view stays the same."""

    def __init__(self, view: View) -> None:
        self._view, self._version, self._kept = view, -1, torch.zeros(0)

    def points(self, parents: Evaluated, young: Evaluated) -> Tensor:
        """``[parents + young, M]``; the parents are those whose points were kept last, if any were."""
        new = self._view.points(young)
        if self._version != self._view.version:
            self._kept = self._view.points(parents)
        return torch.cat([self._kept, new])

    def keep(self, points: Tensor) -> None:
        """These are the next parents'."""
        self._kept, self._version = points, self._view.version


class Memory:
    """An archive of outcomes without order, placed anew when its view has changed."""

    def __init__(self, view: View) -> None:
        self._view, self._version = view, view.version
        self._raw: Growing | None = None
        self._shape: tuple[int, ...] = ()
        self._points: Growing | None = None

    def add(self, found: Evaluated) -> None:
        """Append outcomes."""
        raw = self._view.raw(found)
        self._shape = tuple(raw.shape[1:])
        flat = raw.flatten(1)
        if self._raw is None:
            self._raw = Growing(flat.shape[1], raw.dtype)
        self._raw.add(flat)

    @property
    def raw(self) -> Tensor:
        """What is kept of them, ``[count, ...]``."""
        if self._raw is None:
            return torch.zeros(0)
        return self._raw.rows.reshape(-1, *self._shape)

    @property
    def points(self) -> Tensor:
        """Where they lie now, ``[count, M]``."""
        if self._raw is None:
            return torch.zeros(0)
        if self._points is None or self._version != self._view.version:
            self._version, self._points = self._view.version, None
        have = 0 if self._points is None else len(self._points)
        if have < len(self._raw) or self._points is None:
            new = self._view.place(self.raw[have:])
            if self._points is None:
                self._points = Growing(new.shape[1])
            self._points.add(new)
        return self._points.rows
