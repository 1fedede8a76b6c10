"""What every replay buffer does with a reward: keep what must be evaluated when lived, score the rest when sampled."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from .owner import Owner
from .reward import as_reward
from .seats import Seat, one_head
from .source import Recent
from .stretch import Stretch
from .term import ExperienceMap, Stream, Term, World


class Held(Protocol):
    """A replay buffer, as terms that learn draw from it."""

    def count(self) -> int:
        """How many transitions it holds."""
        ...

    def pick(self, index: Tensor) -> Stretch:
        """The transitions of these numbers, int64 ``[n]`` below ``count``."""
        ...


class ReplaySeat(Seat):
    """The seat in a ring of ``rows`` rows of all lanes; row ``clock % rows`` is the one that is lived now.

    Pure terms are scored anew at every sampling, so that a learned reward is always the present one. A stream's value
    is kept node by node. What an episode term settles is written back to its steps, if they are still held; until the
    episode ends they have none. An experience map makes further transitions of those sampled.

    Args:
        reward: The expression; None is the task's own reward. Its channels are added up.
        world: As in every seat.
        rows: Rows of the ring.
        experience: The map, or None.
        where: What warnings call the seat.

    Attributes:
        stored: The nodes whose values are kept: streams, and pure terms that are slow.
        values: Their columns, float32 ``[rows, N]``.
        late: Settled values of late summands, unweighted, ``[rows, N, K]``; None where there are none.
    """

    def __init__(
        self,
        reward: Any,
        world: World,
        rows: int,
        experience: ExperienceMap | None = None,
        where: str = "a replay buffer",
    ) -> None:
        compiled = as_reward(reward)
        one_head(compiled, where)
        super().__init__(compiled, world)
        self.rows, self.experience, self.clock = rows, experience, 0
        if experience is not None:
            experience.bind(world)
        self.stored = [n for n in compiled.order if isinstance(n, Stream) or (n.stored and not n.late)]
        self.values: dict[Term, Tensor] = {}
        self.late: Tensor | None = None

    def learn_from(self, buffer: Held) -> None:
        """Let the terms sample all that the buffer around this seat holds."""
        if self.source is not None:
            self.source = BufferSource(self.source, self.world.seed, buffer)

    def live(self, x: Stretch) -> Tensor:
        """Take one step of all lanes ``[N]``, whose tensors must not be changed later.

        Returns:
            The sum of each summand's unweighted values, ``[K]``; of late ones, what was settled in this step.

        Raises:
            RewardError: A term gave NaN, infinity or a wrong shape.
        """
        if self.ledger is not None:
            self.ledger.clock = self.clock
        values, parts, settled = self.collect(x[None])
        parts = parts[0]
        if self.stored and not self.values:
            self.values = {node: parts.new_zeros(self.rows, *parts.shape[:-1]) for node in self.stored}
        if self.late is None and any(self.reward.late):
            self.late = parts.new_zeros(self.rows, *parts.shape)
        at = self.clock % self.rows
        for node in self.stored:
            self.values[node][at] = values[node][0]
        if self.late is not None:
            self.late[at] = 0.0
            if settled is not None:
                held = self.clock - settled.step < self.rows
                self.late[settled.step[held] % self.rows, settled.lane[held]] = settled.value[held]
        self.clock += 1
        share = parts.reshape(-1, parts.shape[-1]).sum(0)
        return share if settled is None else share + settled.value.reshape(-1, parts.shape[-1]).sum(0)

    @torch.no_grad()
    def pay(self, x: Stretch, at: Tensor, lane: Tensor, step: int) -> tuple[Stretch, Tensor | None, Tensor]:
        """The rewards of kept transitions ``x [B]``, found at rows ``at [B]`` and lanes ``lane [B]``, as of now.

        Args:
            x: The transitions.
            at: Int64.
            lane: Int64.
            step: Environment steps so far, for weights that follow a schedule.

        Returns:
            The transitions, which row of ``x`` each came from (None where nothing maps them), and float32 ``[C]``.

        Raises:
            RewardError: A term gave NaN, infinity or a wrong shape.
        """
        given = {node: column[at, lane] for node, column in self.values.items()}
        late = None if self.late is None else self.late[at, lane]
        origin = None
        if self.experience is not None:
            x, origin = self.experience(x, self.source)
            given = {node: value[origin] for node, value in given.items() if isinstance(node, Stream)}
            late = None if late is None else late[origin]
        parts = self.reward.parts(x, self.reward.evaluate(x, given))
        parts = parts if late is None else parts + late
        return x, origin, self.reward.combine(parts, step).sum(-1)

    def skip(self) -> None:
        """Let the clock move on so far that what is settled later for the rows held now finds none of them."""
        self.clock += -self.clock % self.rows + self.rows

    def state(self) -> dict[str, Any]:
        """All of it: terms, open episodes, kept values."""
        held, index = min(self.clock, self.rows), {node: str(i) for i, node in enumerate(self.reward.order)}
        return {
            **super().state(),
            "values": {index[node]: v[:held].clone() for node, v in self.values.items()},
            "late": None if self.late is None else self.late[:held].clone(),
            "clock": self.clock,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave, into a seat made with the same arguments.

        Raises:
            ValueError: It belongs to another reward.
        """
        super().load(state)

        def full(v: Tensor) -> Tensor:
            v = v.to(self.world.device)
            return torch.cat([v, v.new_zeros(self.rows - len(v), *v.shape[1:])])

        order = self.reward.order
        self.values = {order[int(i)]: full(v) for i, v in state["values"].items()}
        self.late = None if state["late"] is None else full(state["late"])
        self.clock = state["clock"]


class BufferSource(Recent):
    """What terms learn from in a replay buffer: ``sample`` draws from all that is held."""

    def __init__(self, recent: Recent, seed: int, buffer: Held) -> None:
        super().__init__(recent.reward, seed)
        self.buffer = Owner(buffer)

    def sample(self, n: int) -> Stretch:
        """Draw ``n`` kept transitions with replacement, ``[n]``."""
        buffer = self.buffer()
        return buffer.pick(self._draw(n, buffer.count(), torch.device("cpu")))
