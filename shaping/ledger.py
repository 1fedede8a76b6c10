"""The ledger of open episodes: it keeps what late terms need, and settles whole episodes in batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import tree_map
from .reward import Reward
from .state import pack
from .stretch import Stretch
from .term import Term

# An episode without an end would fill the memory; where the cap is not known, this is it.
LIMIT = 20_000


@dataclass
class Settled:
    """What late summands gave to the M rows of episodes that ended in the last stretch pushed.

    ``step`` and ``end`` count the rows pushed so far, over all stretches: ``base`` is the number of the stretch's
    first row.
    """

    lane: Tensor
    """Int64 ``[M]``."""
    step: Tensor
    """Int64 ``[M]``: when the row was lived."""
    end: Tensor
    """Int64 ``[M]``: when its episode ended."""
    value: Tensor
    """Float32 ``[M, K]``, unweighted; 0 for summands that are not late."""
    base: int
    nodes: dict[Term, Tensor]
    """Each late node's values ``[M]``, for their ``update``."""

    def spread(self, rows: int, lanes: int) -> tuple[Tensor, Tensor]:
        """Write the values to the steps they are for, as far as these are among the stretch's ``[rows, lanes]``.

        What belongs to an earlier step goes to the episode's last one, where all that it did is known; so sums over
        episodes are kept.

        Returns:
            ``[rows, lanes, K]``, and the share of absolute value that was displaced, ``[K]``.
        """
        out = torch.zeros(rows, lanes, *self.value.shape[1:], device=self.value.device)
        held = self.step >= self.base
        out.index_put_((torch.where(held, self.step, self.end) - self.base, self.lane), self.value, accumulate=True)
        size = self.value.abs().reshape(len(self.lane), -1, self.value.shape[-1]).sum(1)
        return out, (size * ~held[:, None]).sum(0) / size.sum(0).clamp(min=1e-12)


class Ledger:
    """Open episodes of N lanes; owned by a seat, in its checkpoint.

    Storage is ``[capacity, N]`` for each column, made at the first push and doubled when an episode outgrows it, so
    that a push costs the same whatever came before.

    Args:
        reward: Whose late terms are served.
        lanes: N.
        max_steps: Longest episode, where known; it is the first capacity and no limit.
    """

    def __init__(self, reward: Reward, lanes: int, max_steps: int | None = None) -> None:
        self.reward = reward
        self.frontier = reward.frontier
        self.capacity = min(max_steps or 128, LIMIT)
        self.open: Tensor | None = None  # int64 [N], rows held of each lane
        self.columns: dict[str, Any] = {}
        self.clock = 0
        self.lanes = lanes

    def push(self, x: Stretch, values: Mapping[Term, Tensor]) -> Settled | None:
        """Take the next ``[T, N]`` and settle the episodes that end in it.

        Rows that are not valid are left out. An episode that is broken off (``start`` without an end before it) is
        forgotten. Late terms of the episodes still open give nothing yet.

        Returns:
            None where no episode ended.

        Raises:
            RuntimeError: An episode has outgrown ``LIMIT``.
        """
        rows = x.rows[0]
        base, self.clock = self.clock, self.clock + rows
        chunk = self._columns_of(x, values, base)
        if self.open is None:
            self.open = torch.zeros(self.lanes, dtype=torch.int64, device=x.device)
            self.columns = tree_map(lambda v: v.new_zeros(self.capacity, self.lanes, *v.shape[2:]), chunk)
        held = self.open

        # Number the pieces of episodes in each lane; piece 0 goes on from what is held.
        start, done = x.start & x.valid, x.done & x.valid
        ends_before = done.cumsum(0) - done.long()
        piece = start.cumsum(0) + ends_before
        rank = x.valid.cumsum(0) - 1  # among the lane's valid rows of this stretch
        # A piece begins at the first of its *valid* rows.
        first = x.valid & (torch.cat([torch.zeros_like(piece[:1]), _last_valid(piece, x.valid)[:-1]]) != piece)
        begun = torch.where(first, rank, 0).cummax(0).values
        place = torch.where(piece == 0, rank + held, rank - begun)

        # Which end does a row lead to? The lane's next one, if no start lies between.
        at, lane = done.T.nonzero()[:, [1, 0]].T  # by lane, then time
        ended = int(at.numel())
        offset = done.sum(0).cumsum(0) - done.sum(0)
        which = (ends_before + offset).clamp(max=max(ended - 1, 0))
        has_end = (ends_before < done.sum(0)) & x.valid
        settled = None
        if ended:
            end_piece = piece[at, lane]
            leads = has_end & (piece == end_piece[which])
            settled = self._settle(x[at, lane], chunk, leads, which, place, at, end_piece, base, lane)

        # What stays open: the rows of each lane's last piece, if it has not ended.
        stays = x.valid & ~has_end & (piece == piece[-1])
        carried = (piece[-1] == 0) & ~done.any(0)
        self.open = torch.where(carried, held, 0) + stays.sum(0)
        self._grow(int(self.open.max()), x)
        t, n = stays.nonzero(as_tuple=True)
        if t.numel():
            tree_map(lambda column, v: column.index_put_((place[t, n], n), v[t, n]), self.columns, chunk)
        return settled

    def _columns_of(self, x: Stretch, values: Mapping[Term, Tensor], base: int) -> dict[str, Any]:
        step = torch.arange(base, base + x.rows[0], device=x.device)[:, None].expand(x.rows)
        columns: dict[str, Any] = {"step": step, "reward": x.reward}
        columns.update({name: getattr(x, name) for name in self.reward.keeps})
        columns.update({f"value_{i}": values[node].detach() for i, node in enumerate(self.frontier)})
        return columns

    def _settle(
        self, last: Stretch, chunk: dict[str, Any], leads: Tensor, which: Tensor, place: Tensor, at: Tensor,
        end_piece: Tensor, base: int, lane: Tensor,
    ) -> Settled:  # fmt: skip
        """Lay the ended episodes out as ``[L, E]`` and ask the late terms; ``last`` are their last rows ``[E]``."""
        assert self.open is not None
        length = place[at, lane] + 1
        longest, ended = int(length.max()), int(at.numel())
        before = torch.where(end_piece == 0, self.open[lane], 0)  # rows that earlier stretches brought
        old = int(before.max())
        t, n = leads.nonzero(as_tuple=True)
        rows = torch.arange(longest, device=lane.device)[:, None]
        to = (place[t, n], which[t, n])
        carried = before.nonzero()[:, 0]
        mask, carrying = rows[:old] < before[carried], lane[carried]

        def lay(column: Tensor, v: Tensor) -> Tensor:
            out = v.new_zeros(longest, ended, *v.shape[2:])
            if old:
                wide = mask.reshape(*mask.shape, *[1] * (v.dim() - 2))
                out[:old, carried] = torch.where(wide, column[:old, carrying], v.new_zeros(()))
            out[to] = v[t, n]
            return out

        laid = tree_map(lay, self.columns, chunk)
        valid = rows < length
        # The columns that no late term asked for are zeros of the rows' shape.
        blank = torch.zeros(longest, ended, device=lane.device)
        given = {node: laid[f"value_{i}"] for i, node in enumerate(self.frontier)}
        ep = Stretch(
            obs=laid.get("obs", blank),
            action=laid.get("action", blank),
            reward=laid["reward"],
            next_obs=laid.get("next_obs", blank),
            terminated=(rows == length - 1) & last.terminated,
            truncated=(rows == length - 1) & last.truncated,
            start=valid & (rows == 0),
            valid=valid,
            lane=lane * valid,
            episode=last.episode * valid,
            t=rows * valid,
            facts=laid.get("facts", {}),
            next_facts=laid.get("next_facts", {}),
            extra=laid.get("extra", {}),
        )
        late = self.reward.settle(ep, given)
        zero = torch.zeros(ep.shape, device=lane.device)
        value = torch.stack([late.get(s.term, zero) if s.term.late else zero for s in self.reward.summands], -1)
        return Settled(
            lane=ep.lane[valid],
            step=laid["step"][valid],
            end=(at + base).expand(longest, ended)[valid],
            value=value[valid],
            base=base,
            nodes={node: v[valid] for node, v in late.items()},
        )

    def _grow(self, needed: int, x: Stretch) -> None:
        if needed <= self.capacity:
            return
        if needed > LIMIT:
            assert self.open is not None
            raise RuntimeError(
                f"the episode of environment {int(self.open.argmax())} has not ended after {LIMIT} steps, and a reward "
                "with episode terms keeps every step until it does. Put a limit on episodes (max_episode_steps=..., or "
                "cairn.envs.TimeLimit)"
            )
        more = max(needed, min(2 * self.capacity, LIMIT)) - self.capacity
        self.columns = tree_map(lambda v: torch.cat([v, v.new_zeros(more, *v.shape[1:])]), self.columns)
        self.capacity += more

    def state(self) -> dict[str, Any]:
        """The open episodes and the clock."""
        if self.open is None:
            return {"clock": self.clock, "open": None, "columns": {}}
        used = int(self.open.max())
        columns = pack(tree_map(lambda v: v[:used], self.columns))
        return {"clock": self.clock, "open": pack(self.open), "columns": columns}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        self.clock, held = state["clock"], state["open"]
        if held is None:
            self.open, self.columns = None, {}
            return
        if held.shape != (self.lanes,):
            raise ValueError(f"the saved reward is of {held.numel()} environments, and there are {self.lanes}")
        self.open = held.clone()
        used = int(held.max())
        self.capacity = max(self.capacity, used)
        self.columns = tree_map(
            lambda v: torch.cat([v, v.new_zeros(self.capacity - used, *v.shape[1:])]), pack(state["columns"])
        )


def _last_valid(piece: Tensor, valid: Tensor) -> Tensor:
    """For each row, the piece of the last valid row up to it; 0 where there is none yet."""
    return torch.where(valid, piece, 0).cummax(0).values
