"""The last observations of episodes that a replay buffer holds, in a queue that is as large as they demand.

An observation's successor is the ring's next row, except where an episode ends: there the next row is the first
observation of another episode, and the true last one lies here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.spaces import tree_leaves, tree_map


class Finals:
    """Last observations (and facts) of the episodes that end in a ring of ``[ring, N]`` steps.

    They are freed in the order in which they came, row by row, so the pool is a queue.

    Args:
        obs: A tree like an observation's, of tensors ``[0, ...]``.
        ring: Rows.
        lanes: N.
        device: Where it all is.
    """

    def __init__(self, obs: Any, ring: int, lanes: int, device: torch.device) -> None:
        self.lanes, self.device = lanes, device
        self.pool: dict[str, Any] = {"obs": tree_map(lambda v: v.to(device), obs), "facts": {}}
        self.place = torch.full((ring, lanes), -1, dtype=torch.int32, device=device)
        """Where in the pool a step's last observation is, or -1."""
        self.first = self.taken = 0  # the queue's first place, and how many places it takes
        self.ends = np.zeros(ring, np.int32)  # how many of them each row has

    @property
    def places(self) -> int:
        """How many observations the pool has room for."""
        return len(tree_leaves(self.pool["obs"])[0])

    def know(self, name: str, fact: Tensor) -> None:
        """Make room for a fact that looks like ``fact [N, ...]``."""
        self.pool["facts"][name] = fact.new_zeros((self.places, *fact.shape[1:]), device=self.device)

    def keep(self, row: int, lanes: Tensor, last: Mapping[str, Any]) -> None:
        """Put the rows ``lanes [E]`` of ``last [N, ...]`` into the pool, as what a step of ``row`` led to."""
        count = len(lanes)
        if not count:
            return
        if self.taken + count > self.places:
            self._grow(self.taken + count)
        place = (self.first + self.taken + torch.arange(count, device=self.device)) % self.places
        last = {"obs": last["obs"], "facts": {name: last["facts"][name] for name in self.pool["facts"]}}
        tree_map(lambda pool, v: pool.index_copy_(0, place, v[lanes.to(v.device)].to(self.device)), self.pool, last)
        self.place[row, lanes] = place.int()
        self.ends[row] += count
        self.taken += count

    def free(self, row: int) -> None:
        """Forget what belongs to a row about to be written over."""
        count = int(self.ends[row])
        if count:
            self.first, self.taken, self.ends[row] = (self.first + count) % self.places, self.taken - count, 0
            self.place[row].fill_(-1)

    def _grow(self, needed: int) -> None:
        """Double the pool, its first place at 0."""
        places, more = self.places, max(needed, 2 * self.places, self.lanes, 64)
        self.place = self.placed()

        def grown(pool: Tensor) -> Tensor:
            new = pool.new_zeros(more, *pool.shape[1:])
            new[:places] = pool.roll(-self.first, 0)
            return new

        self.pool, self.first = tree_map(grown, self.pool), 0

    def placed(self) -> Tensor:
        """The column ``place`` as it were if the queue's first place were 0."""
        return torch.where(self.place >= 0, (self.place - self.first) % max(self.places, 1), -1)

    def instead(self, at: Tensor, lane: Tensor, following: dict[str, Any]) -> dict[str, Any]:
        """What the steps at rows ``at [B]`` of lanes ``lane [B]`` led to: ``following [B, ...]``, or a last one."""
        if not self.places:
            return following
        place = self.place[at, lane].long()
        here, last = place.clamp(min=0), place >= 0

        def choose(pool: Tensor, now: Tensor) -> Tensor:
            return torch.where(last.reshape(-1, *[1] * (now.dim() - 1)), pool[here], now)

        return dict(tree_map(choose, self.pool, following))

    def queue(self) -> dict[str, Any]:
        """What is kept, in the order in which it came, as a state tree."""
        order = (self.first + torch.arange(self.taken, device=self.device)) % max(self.places, 1)
        return dict(tree_map(lambda v: v[order], self.pool))

    def load(self, queue: Mapping[str, Any], placed: Tensor) -> None:
        """Put back what :meth:`queue` and the first rows of :meth:`placed` gave.

        Raises:
            ValueError: They do not belong together.
        """
        inside, places = placed[placed >= 0], {len(leaf) for leaf in tree_leaves(dict(queue))}
        if places != {len(inside)} or not torch.equal(inside.sort()[0].cpu(), torch.arange(len(inside)).int()):
            raise ValueError("the saved replay buffer is damaged: its last observations are not those of its episodes")
        self.pool, self.first = tree_map(lambda v: v.clone().to(self.device), dict(queue)), 0
        self.taken = self.places
        self.place[: len(placed)].copy_(placed)
        self.ends[:] = 0
        self.ends[: len(placed)] = (placed >= 0).sum(1).cpu().numpy()
