"""A table of counts by 64-bit key, with open addressing, in tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from . import fast

_EMPTY = 0


class CountTable:
    """Counts by key; each key belongs to a lane and an epoch of it, and is forgotten when the epoch is over.

    Keys are spread already (they are hashes). The table is rebuilt, without what is over, when half full.
    """

    def __init__(self, size: int = 1 << 12, device: torch.device | str = "cpu") -> None:
        self.current: Tensor | None = None
        self.spare: Tensor | None = None
        self._allocate(size, torch.device(device))

    def _allocate(self, size: int, device: torch.device) -> None:
        self.size, self.used, self.spare = size, 0, None
        # One row more than the size: where writes go that must not land.
        self._take(torch.zeros(size + 1, 4, dtype=torch.int64, device=device))

    def _take(self, slots: Tensor) -> None:
        """Let these be the slots, ``[S + 1, 4]``: what belongs together lies together."""
        self.slots = slots
        self.keys, self.counts, self.lanes, self.epochs = slots.unbind(1)

    def add(self, keys: Tensor, lanes: Tensor, epochs: Tensor) -> Tensor:
        """Count ``keys [M]`` in order; ``lanes`` and ``epochs`` say whose each is.

        Returns:
            int64 ``[M]``: how often the key has come by then, itself included.
        """
        if not keys.numel():
            return keys
        keys = torch.where(keys == _EMPTY, 1, keys)
        if fast.fits(len(keys), keys.device):
            return self.add_each(keys, lanes, epochs)
        # Within the batch: group equal keys, in order, by a stable sort.
        ordered, order = torch.sort(keys, stable=True)
        fresh = torch.cat([torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]])
        group = fresh.cumsum(0) - 1
        begin = fresh.nonzero()[:, 0]
        position = torch.arange(len(keys), device=keys.device)
        times = torch.diff(begin, append=position[-1:] + 1)
        owner = order[begin]
        before = self._count(ordered[begin], times, lanes[owner], epochs[owner])
        out = torch.empty_like(keys)
        out[order] = before[group] + (position - begin[group]) + 1
        return out

    def add_each(self, keys: Tensor, lanes: Tensor | int, epochs: Tensor) -> Tensor:
        """The same in a compiled loop, which comes back for more room; it leaves keys out that are 0.

        So many ``lanes`` may also take turns.
        """
        out, done = torch.empty_like(keys), 0
        while done < len(keys):
            self.used, done = fast.count(self.slots, self.used, done, keys, lanes, epochs, out)
            if done < len(keys):
                self._make_room(1)
        return out

    def get(self, keys: Tensor) -> Tensor:
        """How often each of ``keys [M]`` has come, int64; the table stays as it is."""
        keys = torch.where(keys == _EMPTY, 1, keys)
        if fast.fits(len(keys), keys.device):
            return fast.counted(self.slots, keys)
        out, mask = torch.zeros_like(keys), self.size - 1
        slots, open_rows = keys & mask, torch.arange(len(keys), device=keys.device)
        while len(open_rows):
            there = self.keys[slots]
            hit = there == keys
            out[open_rows[hit]] = self.counts[slots[hit]]
            on = ~hit & (there != _EMPTY)
            open_rows, keys, slots = open_rows[on], keys[on], (slots[on] + 1) & mask
        return out

    def _count(self, keys: Tensor, times: Tensor, lanes: Tensor, epochs: Tensor) -> Tensor:
        """Add ``times`` to distinct ``keys`` and return what they were."""
        self._make_room(len(keys))
        slots = self._find(keys)
        before = self.counts[slots]
        self.counts[slots] = before + times
        self.lanes[slots], self.epochs[slots] = lanes, epochs
        return before

    def _find(self, keys: Tensor) -> Tensor:
        """The slot of each of some distinct keys, claimed where it is new. Each round looks one slot further."""
        mask = self.size - 1
        slots = keys & mask
        found = slots.clone()
        open_rows = torch.arange(len(keys), device=keys.device)
        while len(open_rows):
            there = self.keys[slots]
            empty = there == _EMPTY
            # Several may write to one empty slot; one of them is read back, the others go on.
            self.keys[torch.where(empty, slots, self.size)] = keys
            mine = self.keys[slots] == keys
            self.used += int((mine & empty).sum())
            found[open_rows[mine]] = slots[mine]
            on = ~mine
            open_rows, keys, slots = open_rows[on], keys[on], (slots[on] + 1) & mask
        return found

    def forget(self, epochs: Tensor) -> None:
        """Say which epoch each lane is in, ``[N]``; keys of earlier ones go when the table is next rebuilt."""
        self.current = epochs

    def _entries(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is alive, in the order of the keys: the same whatever the slots are."""
        alive = self.keys[: self.size] != _EMPTY
        if self.current is not None:
            alive &= self.current[self.lanes[: self.size]] <= self.epochs[: self.size]
        keys, order = torch.sort(self.keys[: self.size][alive])
        counts, lanes, epochs = (c[: self.size][alive][order] for c in (self.counts, self.lanes, self.epochs))
        return keys, counts, lanes, epochs

    def _make_room(self, more: int) -> None:
        if 2 * (self.used + more) <= self.size:
            return
        if self.keys.device.type == "cpu":
            self._move(more)
            return
        entries = self._entries()
        size = self.size
        while 4 * (len(entries[0]) + more) > size:
            size *= 2
        self._fill(entries, size)

    def _move(self, more: int) -> None:
        """The same in compiled loops; slots that are left are kept for the next time, while their number suits."""
        old, spare, size = self.slots, self.spare, self.size
        alive = fast.refill(old, self.current, None)
        while 4 * (alive + more) > size:
            size *= 2
        if spare is not None and size == self.size:
            self._take(spare.zero_())
        else:
            self._allocate(size, old.device)
        self.used = fast.refill(old, self.current, self.slots)
        self.spare = old if len(old) == len(self.slots) else None

    def _fill(self, entries: tuple[Tensor, Tensor, Tensor, Tensor], size: int) -> None:
        keys, counts, lanes, epochs = entries
        self._allocate(size, self.keys.device)
        if len(keys):
            slots = self._find(keys)
            self.counts[slots], self.lanes[slots], self.epochs[slots] = counts, lanes, epochs

    def state(self) -> dict[str, Any]:
        """What is alive."""
        return dict(zip(("keys", "counts", "lanes", "epochs"), self._entries()))

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        device = self.keys.device
        keys, counts, lanes, epochs = (state[name].to(device) for name in ("keys", "counts", "lanes", "epochs"))
        size, self.current = self.size, None
        while 4 * len(keys) > size:
            size *= 2
        self._fill((keys, counts, lanes, epochs), size)
