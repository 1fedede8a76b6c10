"""What learned bonuses share: a warm-up, a scale that only ``update`` changes, and training on a share of the rows."""

from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import Tree, tree_map
from .networks import Moments, Whitening
from .stretch import Stretch
from .term import Pure, Source, World


class Learned(Pure):
    """A bonus by something learned: subclasses say what ``raw`` is and how to ``learn``.

    The raw bonus is divided by its running root mean square, so that a weight means the same in all tasks.

    Args:
        normalise: Divide by the root mean square; False leaves the plain bonus.
        warmup: How many updates must have taken place before anything is paid: the scale is learned there.
        share: Which share of the rows is trained on.

    Raises:
        ValueError: A setting is out of its range.
    """

    saved: tuple[str, ...] = ("scale", "updates")
    every = 1  # of how many rows one is measured for the scale, where what was paid does not tell the raw bonus

    def __init__(self, normalise: bool = True, warmup: int = 1, share: float = 0.125) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"{type(self).__name__}(share={share}): a share of the rows is above 0 and at most 1")
        if warmup < 0:
            raise ValueError(f"{type(self).__name__}(warmup={warmup}): not below 0")
        self.normalised, self.warmup, self.share = bool(normalise), int(warmup), float(share)
        self.updates, self.seed, self.scale = 0, 0, Moments()

    def bind(self, world: World) -> None:
        """Begin with nothing learned."""
        self.scale, self.updates, self.seed = Moments(device=world.device), 0, world.seed

    def raw(self, x: Stretch) -> Tensor:
        """The bonus of flat, valid rows ``[B]`` before it is scaled."""
        raise NotImplementedError

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Train on the rows of ``x [T, N]``; returns what to log."""
        raise NotImplementedError

    def unit(self) -> Tensor:
        """What the raw bonus is divided by."""
        return self.scale.root_mean_square

    def measure(self, raw: Tensor, valid: Tensor) -> None:
        """Take the raw bonus ``[T, N]`` into the scale."""
        self.scale.add(raw[valid])

    def known(self, source: Source) -> Tensor | None:
        """The raw bonus of the rows since the last update, where what was paid tells it and spares the work."""
        paid = source.values.get(self) if self.updates >= self.warmup else None
        return paid * self.unit() if paid is not None and self.normalised else paid

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row, 0 before the warm-up is over."""
        out = torch.zeros(x.shape, device=x.device)
        if self.updates < self.warmup or not bool(x.valid.any()):
            return out
        value = self.raw(valid_rows(x))
        return out.masked_scatter(x.valid, value / self.unit() if self.normalised else value)

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn the scale, then train on a share of the rows."""
        x = source.recent
        if not bool(x.valid.any()):
            return {}
        with torch.no_grad():
            raw, valid = self.known(source), x.valid
            if raw is None and self.every > 1:
                raw = self.raw(valid_rows(x)[:: self.every])
                valid = torch.ones_like(raw, dtype=torch.bool)
            elif raw is None:
                raw = torch.zeros(x.shape, device=x.device).masked_scatter(x.valid, self.raw(valid_rows(x)))
            self.measure(raw, valid)
        logs = self.learn(x)
        self.updates += 1
        return {**logs, "raw": raw.sum() / valid.sum().clamp(min=1)}


def positive(term: object, **settings: float) -> None:
    """Raise ValueError where a setting of ``term`` is not above 0 and finite."""
    bad = [f"{name}={value}" for name, value in settings.items() if not 0 < value < float("inf")]
    if bad:
        raise ValueError(f"{type(term).__name__}({', '.join(bad)}): above 0, and finite")


def valid_rows(x: Stretch) -> Stretch:
    """The valid rows of any stretch, flat: junk must not reach a network."""
    flat = x.flat()
    return flat if bool(x.valid.all()) else flat[flat.valid]


class States:
    """All observations of a stretch once: those after each step, and the first of each episode, in this order.

    Args:
        x: The stretch.
        whitening: Only what it looks at; None for everything.
    """

    def __init__(self, x: Stretch, whitening: Whitening | None = None) -> None:
        flat = x.flat()
        looked = [tree if whitening is None else whitening.looked_at(tree) for tree in (flat.obs, flat.next_obs)]
        self.before, self.after = looked
        self.whole = bool(x.valid.all())
        self.valid, self.first = flat.valid.nonzero()[:, 0], (flat.valid & flat.start).nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.valid) + len(self.first)

    def __getitem__(self, rows: Tensor) -> Tree:
        """Some of them, ``[B, ...]``: most need not be copied about."""
        count = len(self.valid)
        later = rows >= count
        after = self.valid[rows.clamp(max=count - 1)]
        before = self.first[rows[later] - count]

        def both(first: Tensor, then: Tensor) -> Tensor:
            out = then.index_select(0, after)
            if len(before):
                out[later] = first.index_select(0, before)
            return out

        tree: Tree = tree_map(both, self.before, self.after)
        return tree

    def all(self) -> Tree:
        """All of them in one batch ``[B, ...]``."""
        tree: Tree = tree_map(lambda *leaves: torch.cat(leaves), *self.batches())
        return tree

    def batches(self) -> list[Tree]:
        """All of them in one batch or two, ``[B, ...]``."""
        after = self.after if self.whole else rows_of(self.after, self.valid)
        return [after, rows_of(self.before, self.first)] if len(self.first) else [after]


def two_ends(obs: Tree, next_obs: Tree, rows: Tensor | None = None) -> Tree:
    """Observations before and after each flat row, or some of them, one above the other.

    Most come twice, and are computed once.
    """

    def both(before: Tensor, after: Tensor) -> Tensor:
        if rows is None:
            return torch.cat([before, after])
        return torch.cat([before.index_select(0, rows), after.index_select(0, rows)])

    tree: Tree = tree_map(both, obs, next_obs)
    return tree


def rows_of(tree: Any, rows: Tensor) -> Tree:
    """Some rows of a tree ``[B, ...]``."""
    picked: Tree = tree_map(lambda v: v[rows], tree)
    return picked
