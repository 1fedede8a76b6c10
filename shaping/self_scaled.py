"""A bonus that scales itself: one setting for tasks of all sizes.

What a bonus is worth depends on the task: a first visit is paid ten times in a small room and two hundred times in a
maze, and an agent that can gather more by wandering than by arriving wanders. So it is the episode's sum of the bonus
that is set, as a share of what the task pays, and no longer the size of each payment:

    factor = share * largest task return / mean sum of the bonus over an episode * (1 - success)

All three are measured while training runs. The last factor lets go as the task is being learned.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import fast
from .ops import _warn_telescoping, as_term
from .stretch import Stretch
from .term import Op, Source, Term, World


class SelfScaled(Op):
    """A term whose sum over an episode is held at a share of the largest return of the task, less as it succeeds.

    Mean and success are over about the last ``window`` episodes, the sums by their size. As long as no episode has
    ended, and where open ones have gathered more, the mean is that of the open ones. The largest return (by its size)
    is 1 until the task has paid. An episode succeeds where the environment's fact ``"success"`` says so; where it has
    none, if it terminated with a task return above 0. What is measured counts from the next ``update`` on, and before
    the first one nothing is paid. The bonus must be known when it is lived (no episode terms).

    Args:
        term: The bonus.
        share: Its mean sum over an episode, in largest returns of the task, while no episode succeeds.
        window: Episodes that mean and success are over.
        anneal: Whether to let go with success; tasks that end in success alone whatever is done need ``False``.

    Raises:
        ValueError: A setting is out of its range, or the term speaks when the episode is over.
    """

    text_name = "self_scaled"
    saved = ("open", "ahead", "sums", "wins", "ended", "largest")

    def __init__(self, term: Any, share: float = 0.5, window: float = 1000, anneal: bool = True) -> None:
        if not (0 < share < math.inf and 1 <= window < math.inf):
            raise ValueError(f"SelfScaled(share={share}, window={window}): a share above 0, and a window of 1 or more")
        self.share, self.window, self.anneals = float(share), float(window), bool(anneal)
        self.set_inputs(as_term(term))
        if self.late:
            raise ValueError(f"SelfScaled scales what is paid at each step, and {self.inputs[0]!r} is known at the end")
        _warn_telescoping("self_scaled", self.inputs[0])
        self._begin(1, torch.device("cpu"))

    def _begin(self, lanes: int, device: torch.device) -> None:
        self.open = torch.zeros(2, lanes, dtype=torch.float64, device=device)  # gathered so far: of the bonus, the task
        zero = self.open.new_zeros(())
        self.ahead = zero  # mean of what open episodes have gathered
        self.sums, self.wins, self.ended = zero, zero, zero  # of the episodes that ended, fading
        self.largest = zero

    def bind(self, world: World) -> None:
        """Begin with nothing measured."""
        self._begin(world.lanes, torch.device(world.device))

    @property
    def success(self) -> Tensor:
        """The share of recent episodes that succeeded; 0 where none has ended."""
        return self.wins / self.ended.clamp(min=1e-12)

    @property
    def sum(self) -> Tensor:
        """The mean sum of the bonus over an episode, as ``factor`` takes it."""
        return torch.maximum(self.sums / self.ended.clamp(min=1e-12), self.ahead)

    @property
    def factor(self) -> Tensor:
        """What the bonus is multiplied by until the next update."""
        paid = torch.where(self.largest > 0, self.largest, 1.0)
        left = 1 - self.success if self.anneals else 1.0
        return torch.where(self.sum > 1e-12, self.share * paid * left / self.sum.clamp(min=1e-12), 0.0)

    def apply(self, *inputs: Tensor) -> Tensor:
        """Factor times bonus."""
        return inputs[0] * self.factor.to(inputs[0])

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Measure the episodes that went on or ended since the last time."""
        x, bonus = source.recent, source.values[self.inputs[0]]
        lanes, begins, ends = x.rows[1], x.start & x.valid, x.done & x.valid
        if fast.fits(x.valid.numel(), x.device) and bonus.shape == x.reward.shape == x.valid.shape:
            self.open = self.open.clone()
            won = x.next_facts["success"].bool() if "success" in x.next_facts else x.terminated
            given = bonus.float(), x.reward.float(), x.valid, x.start, ends, won
            size, ended, wins, largest = fast.episode_sums(*given, self.open, "success" in x.next_facts)
        else:
            size, ended, wins, largest = self._episode_sums(x, bonus, begins, ends)
        keep = (1 - 1 / self.window) ** ended
        self.sums, self.wins, self.ended = keep * self.sums + size, keep * self.wins + wins, keep * self.ended + ended
        self.largest = torch.maximum(self.largest, largest)
        self.ahead = self.open[0].abs().sum() / lanes
        return {"factor": self.factor, "sum": self.sum, "success": self.success}

    def _episode_sums(self, x: Stretch, bonus: Tensor, begins: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
        """``fast.episode_sums`` of any shape, on any device."""
        paid = torch.stack([bonus.expand(x.shape), x.reward]).double()
        paid = paid.reshape(2, *x.rows, -1).mean(-1).masked_fill(~x.valid, 0.0)  # a team's is the mean over its agents
        run = paid.cumsum(1)
        # What the counters showed where the row's episode began; for those that were open, less than nothing.
        begun = torch.where(begins, torch.arange(len(begins), device=x.device)[:, None], -1).cummax(0).values
        before = (run - paid).gather(1, begun.clamp(min=0).expand_as(run))
        gathered = run - torch.where(begun >= 0, before, -self.open[:, None])
        sums, returns = gathered[:, ends]
        won = x.next_facts["success"][ends].bool() if "success" in x.next_facts else x.terminated[ends] & (returns > 0)
        over = torch.where(ends, torch.arange(len(ends), device=x.device)[:, None], -1).max(0).values
        self.open = torch.where(over >= begun[-1].clamp(min=0), 0.0, gathered[:, -1])
        largest = torch.cat([returns.abs(), returns.new_zeros(1)]).max()
        return sums.abs().sum(), ends.sum().double(), won.sum().double(), largest

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave; in a seat with other lanes open episodes count from where they are."""
        here = self.open
        super().load(state)
        if self.open.shape != here.shape:
            self.open = torch.zeros_like(here)

    @classmethod
    def examples(cls) -> list[Term]:
        """Over a stream and over a pure term."""
        from .counts import EpisodicCount
        from .ops import Task

        return [cls(EpisodicCount(key="position", mode="first")), cls(Task() - 0.5, 0.25, window=10, anneal=False)]
