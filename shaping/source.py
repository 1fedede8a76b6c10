"""What terms learn from: the experience since the last update, and finished episodes where a term wants them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .ledger import Settled
from .reward import Reward
from .stretch import Stretch
from .term import Term, node_seed


class Recent:
    """A ``Source`` over the rows of a seat since the last update.

    Args:
        reward: Whose terms will learn; their ``wants_episodes`` is how many finished episodes are kept.
        seed: Of the draws; the generator is in the state.
    """

    def __init__(self, reward: Reward, seed: int) -> None:
        self.reward = reward
        self.generator = torch.Generator().manual_seed(node_seed(seed, "source"))
        self.pieces: list[Stretch] = []
        self.piece_values: list[dict[Term, Tensor]] = []
        self.settled: list[dict[Term, Tensor]] = []
        self.open: Stretch | None = None  # [T, N], the rows that may belong to episodes still open
        self.finished: list[Stretch] = []  # each [L]

    def add(self, x: Stretch, values: Mapping[Term, Tensor], settled: Settled | None) -> None:
        """Take the next rows ``[T, N]`` with what was computed on them; the tensors must not be changed later."""
        self.pieces.append(x)
        self.piece_values.append(dict(values))
        if settled is not None:
            self.settled.append(settled.nodes)
        if self.reward.wants_episodes:
            self._keep_episodes(x)

    def clear(self) -> None:
        """Forget the rows since the last update: it has taken place."""
        self.pieces, self.piece_values, self.settled = [], [], []

    @property
    def recent(self) -> Stretch:
        """The rows ``[T, N]`` since the last update."""
        if len(self.pieces) > 1:
            self.pieces = [Stretch.cat(self.pieces)]
        if not self.pieces:
            raise RuntimeError("there is no experience since the last update: call the seat before its update")
        return self.pieces[0]

    @property
    def values(self) -> dict[Term, Tensor]:
        """What the seat computed on them ``[T, N]``, and what late nodes gave to rows settled since, ``[M]``."""
        nodes = self.piece_values[0] if self.piece_values else {}
        values = {node: torch.cat([piece[node] for piece in self.piece_values]) for node in nodes}
        late = self.settled[0] if self.settled else {}
        return {**values, **{node: torch.cat([piece[node] for piece in self.settled]) for node in late}}

    def sample(self, n: int) -> Stretch:
        """Draw ``n`` valid rows with replacement, ``[n]``."""
        x = self.recent.flat()
        rows = x.valid.nonzero()[:, 0]
        return x[rows[self._draw(n, len(rows), x.device)]]

    def windows(self, n: int, length: int) -> Stretch:
        """Draw ``n`` pieces of ``length`` consecutive rows, ``[length, n]``; past an episode's end rows are not valid.

        Raises:
            ValueError: There are fewer rows than ``length`` since the last update.
        """
        x = self.recent
        steps, lanes = x.rows[:2]
        if length > steps:
            raise ValueError(f"windows of {length} steps out of {steps} since the last update: let it collect more")
        begin = self._draw(n, steps - length + 1, x.device)
        lane = self._draw(n, lanes, x.device)
        rows = begin + torch.arange(length, device=x.device)[:, None]
        out = x[rows, lane]
        broken = torch.cat([torch.zeros_like(out.done[:1]), out.done[:-1] | out.start[1:]]).cumsum(0) > 0
        out.valid = out.valid & ~broken
        return out

    def episodes(self, n: int) -> Stretch:
        """At most the last ``n`` finished episodes, ``[L, n]``, padded with rows that are not valid.

        Raises:
            RuntimeError: No term has asked for episodes (``wants_episodes``), or none has ended yet.
        """
        if not self.finished:
            why = "none has ended yet" if self.reward.wants_episodes else "no term has set wants_episodes"
            raise RuntimeError(f"there are no finished episodes to learn from: {why}")
        chosen = self.finished[-n:]
        longest = max(ep.rows[0] for ep in chosen)

        def pad(v: Tensor) -> Tensor:
            return torch.cat([v, v.new_zeros(longest - len(v), *v.shape[1:])])

        padded = [ep.map(pad).map(lambda v: v.unsqueeze(1)) for ep in chosen]
        return Stretch.cat(padded, dim=1)

    def _keep_episodes(self, x: Stretch) -> None:
        """Cut the episodes that ended out of the rows held. A loop over ended episodes: they are few."""
        held = x if self.open is None else Stretch.cat([self.open, x])
        for lane, end in (held.done & held.valid).T.nonzero().tolist():
            column = held[: end + 1, lane]
            starts = (column.start & column.valid).nonzero()
            episode = column[int(starts[-1, 0]) if len(starts) else 0 :]
            self.finished.append(episode[episode.valid].map(torch.clone))
        self.finished = self.finished[-self.reward.wants_episodes :]
        # Rows before every lane's last start are not needed any more.
        after = (held.done & held.valid).flip(0).cumsum(0).flip(0) == 0
        needed = after.any(1).nonzero()
        self.open = held[int(needed[0, 0]) if len(needed) else len(after) :]

    def _draw(self, n: int, below: int, device: torch.device) -> Tensor:
        return torch.randint(below, (n,), generator=self.generator).to(device)

    def state(self) -> dict[str, Any]:
        """All of it: a run may be saved between two updates."""
        index = {node: str(i) for i, node in enumerate(self.reward.order)}
        return {
            "generator": self.generator.get_state(),
            "pieces": [x.to_tree() for x in self.pieces],
            "values": [{index[n]: v.clone() for n, v in piece.items()} for piece in self.piece_values],
            "settled": [{index[n]: v.clone() for n, v in piece.items()} for piece in self.settled],
            "open": None if self.open is None else self.open.to_tree(),
            "finished": [ep.to_tree() for ep in self.finished],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        order = self.reward.order
        self.generator.set_state(state["generator"].cpu())
        self.pieces = [Stretch.from_tree(tree) for tree in state["pieces"]]
        self.piece_values = [{order[int(i)]: v for i, v in piece.items()} for piece in state["values"]]
        self.settled = [{order[int(i)]: v for i, v in piece.items()} for piece in state["settled"]]
        self.open = None if state["open"] is None else Stretch.from_tree(state["open"])
        self.finished = [Stretch.from_tree(tree) for tree in state["finished"]]
