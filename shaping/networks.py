"""Networks and running statistics that learned bonuses share: one encoder for every kind of observation.

Weights are drawn from a generator of the term's own seed: the same seed gives the same bits, and torch's global
random stream is left as it is. Text is dropped: within an episode it tells no states apart.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Pixels, Symbols, Tree, flat_size, flatten, kind, tree_map
from .hashing import hash_rows
from .term import node_seed

Path: TypeAlias = tuple[str, ...]
BATCH = 512  # rows of a step of an optimiser
PIECE = 2048  # rows that a network is given at once
NUMBERS = 1 << 22  # that statistics take in at once
CLIP = 5.0  # whitened numbers are held within this many deviations (Burda et al. 2019, section 2.4)


def linear(inputs: int, outputs: int, generator: torch.Generator, gain: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights from ``generator`` and biases of 0."""
    with torch.random.fork_rng(devices=[]):  # the layer's own first draw is thrown away
        layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(sizes: list[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them, and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:]):
        layers += [linear(inputs, outputs, generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def some_batches(rows: Tensor, share: float, seed: int, update: int) -> tuple[Tensor, ...]:
    """A random share of the indices ``rows [M]``, at least one, in batches for an optimiser.

    They are drawn by a generator of this update alone, so that it need not be saved.
    """
    generator = torch.Generator().manual_seed(node_seed(seed, str(update)))
    order = torch.randperm(len(rows), generator=generator)[: max(int(len(rows) * share), 1)]
    return torch.split(rows[order.to(rows.device)], BATCH)


def encoder(
    parts: dict[Path, gym.Space[Any]], hidden: int, features: int, generator: torch.Generator, layers: int = 1
) -> nn.Sequential:
    """Any observation as ``[B, features]``: an ``Encoder`` of width ``hidden``, then ``layers`` linear layers."""
    wide = [hidden] * layers + [features]
    return nn.Sequential(Encoder(parts, hidden, generator), mlp(wide, generator))


def distinct(leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Which rows of ``leaves [B, ...]`` differ: the index of one row of each kind ``[U]``, and each row's kind ``[B]``.

    In a grid world most rows of a rollout are repeats, and a network need not see them twice.
    """
    hashes = hash_rows(leaves)
    kinds, of = torch.unique(hashes, return_inverse=True)
    rows = torch.arange(len(hashes), device=hashes.device)
    first = rows.new_full((len(kinds),), len(hashes)).scatter_reduce(0, of, rows, "amin")
    return first, of


class SymbolSum(nn.Module):
    """A grid of categories as the sum of one row per (cell, channel, value): a linear layer on the one-hot grid.

    Value 0 of each channel has no row, so what is not seen costs nothing.
    """

    base: Tensor

    def __init__(self, space: Symbols, width: int, generator: torch.Generator) -> None:
        super().__init__()
        cells, sizes = prod(space.shape[:-1]), torch.tensor(space.sizes) - 1
        begin = sizes.cumsum(0) - sizes
        self.register_buffer("base", (torch.arange(cells)[:, None] * sizes.sum() + begin).flatten(), persistent=False)
        table = torch.randn(1 + cells * int(sizes.sum()), width, generator=generator) * (2 / cells) ** 0.5
        table[0] = 0  # what value 0 points to, for good
        self.table = nn.Parameter(table)

    def forward(self, symbols: Tensor) -> Tensor:
        """Map uint8 ``[B, ..., C]`` to ``[B, width]``."""
        value = symbols.flatten(1).long()
        index = (value + self.base) * (value > 0)
        if not torch.is_grad_enabled():  # adding row 0 is cheaper than leaving it out
            return F.embedding_bag(index, self.table, mode="sum")
        if index.is_cuda:
            return F.embedding_bag(index, self.table, mode="sum", padding_idx=0)
        used = index != 0
        count = used.sum(1)
        return F.embedding_bag(index[used], self.table, count.cumsum(0) - count, mode="sum")


class PixelStack(nn.Module):
    """A small convolutional network: two or three 3 x 3 layers of stride 2, and a linear layer."""

    def __init__(self, space: Pixels, width: int, generator: torch.Generator) -> None:
        super().__init__()
        height, across, channels = space.shape
        layers: list[nn.Module] = []
        for outputs in (16, 32, 32)[: 3 if min(height, across) >= 32 else 2]:
            with torch.random.fork_rng(devices=[]):
                layer = nn.Conv2d(channels, outputs, 3, 2, 1)
            nn.init.orthogonal_(layer.weight, 2**0.5, generator=generator)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
            height, across, channels = (height + 1) // 2, (across + 1) // 2, outputs
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear(height * across * channels, width, generator))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map float32 ``[B, H, W, C]`` to ``[B, width]``."""
        out: Tensor = self.layers(pixels.permute(0, 3, 1, 2))
        return out


class Encoder(nn.Module):
    """Any observation as ``[B, width]``: the first layers of its parts added up, then ReLU.

    Args:
        parts: What ``parts_of`` gave.
        width: Of the output.
        generator: Of the weights.
    """

    def __init__(self, parts: dict[Path, gym.Space[Any]], width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_first_layer(space, width, generator) for space in parts.values())

    def forward(self, leaves: list[Tensor]) -> Tensor:
        """Map what ``Whitening`` gave."""
        out = self.layers[0](leaves[0])
        for layer, leaf in zip(list(self.layers)[1:], leaves[1:]):
            out = out + layer(leaf)
        return F.relu(out)


def _first_layer(space: gym.Space[Any], width: int, generator: torch.Generator) -> nn.Module:
    if isinstance(space, Symbols):
        return SymbolSum(space, width, generator)
    if isinstance(space, Pixels):
        return PixelStack(space, width, generator)
    return linear(flat_size(space), width, generator)


def parts_of(space: gym.Space[Any]) -> dict[Path, gym.Space[Any]]:
    """The leaves of a space that bonuses look at, by their path in a Dict.

    Raises:
        TypeError: Nothing is left without the text, or a part is of a kind that batches do not carry.
    """
    found = dict(_parts(space, ()))
    if not found:
        raise TypeError(f"{space} has nothing but text, and a bonus for new states does not look at text")
    return found


def _parts(space: gym.Space[Any], path: Path) -> list[tuple[Path, gym.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        return [part for name, child in space.spaces.items() for part in _parts(child, (*path, name))]
    if kind(space) == "tokens":
        return []
    if kind(space) == "tuple":
        raise TypeError(f"bonuses do not know {space}; put its parts into a Dict space, whose keys name them")
    return [(path, space)]


def pick(tree: Tree, path: Path) -> Tensor:
    """The leaf of a tree at a path."""
    for name in path:
        assert isinstance(tree, dict)
        tree = tree[name]
    assert isinstance(tree, Tensor)
    return tree


def plain(parts: Mapping[Path, gym.Space[Any]], tree: Tree) -> list[Tensor]:
    """A batch ``[B, ...]`` as ``Encoder`` takes it, without statistics: pixels in [0, 1], numbers as they are."""

    def leaf(value: Tensor, space: gym.Space[Any]) -> Tensor:
        if isinstance(space, Symbols):
            return value
        return value.float() / 255 if kind(space) == "pixels" else flatten(space, value)

    return [leaf(pick(tree, path), space) for path, space in parts.items()]


class Moments:
    """Running mean and variance of rows ``[B, *shape]``, merged batch by batch (Chan et al. 1979), in float64."""

    def __init__(self, shape: tuple[int, ...] = (), device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.mean, self.square = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(2))

    def add(self, rows: Tensor) -> None:
        """Take more rows in."""
        if not len(rows):
            return
        rows = rows.detach().double()
        mean, total = rows.mean(0), self.count + len(rows)
        delta = mean - self.mean
        self.square = self.square + ((rows - mean) ** 2).sum(0) + delta**2 * self.count * len(rows) / total
        self.mean, self.count = self.mean + delta * len(rows) / total, total

    @property
    def deviation(self) -> Tensor:
        """Standard deviation ``[*shape]``; 1 before there are two rows."""
        return torch.where(self.count > 1, (self.square / self.count.clamp(min=1)).sqrt(), 1.0)

    @property
    def root_mean_square(self) -> Tensor:
        """Root of the mean square ``[*shape]``, float32; 1 before there is a row."""
        square = self.mean**2 + self.square / self.count.clamp(min=1)
        return torch.where(self.count > 0, square.sqrt(), 1.0).clamp(min=1e-8).float()

    def state(self) -> dict[str, Any]:
        """Count, mean and sum of squares."""
        return {"count": self.count.clone(), "mean": self.mean.clone(), "square": self.square.clone()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        for name in ("count", "mean", "square"):
            setattr(self, name, state[name].clone().to(self.count.device))


class Whitening:
    """Observations as networks take them: numbers and pixels whitened, categories as they are.

    Numbers and pixels lose their running mean and are divided by their running deviation, within -5 to 5
    (Burda et al. 2019, section 2.4). Only ``learn`` changes the statistics.
    """

    def __init__(self, space: gym.Space[Any], device: torch.device | str = "cpu") -> None:
        self.parts = parts_of(space)
        self.moments = [
            Moments(part.shape or (), device) if kind(part) in ("vector", "pixels") else None
            for part in self.parts.values()
        ]

    def __call__(self, tree: Tree) -> list[Tensor]:
        """Map a batch ``[B, ...]`` to the leaves that ``Encoder`` takes."""
        return [
            self._leaf(pick(tree, path), space, moments)
            for (path, space), moments in zip(self.parts.items(), self.moments)
        ]

    def _leaf(self, leaf: Tensor, space: gym.Space[Any], moments: Moments | None) -> Tensor:
        if moments is not None:
            deviation = moments.deviation.clamp(min=1e-4).float()
            leaf = ((leaf.float() - moments.mean.float()) / deviation).clamp(-CLIP, CLIP)
            return leaf if kind(space) == "pixels" else leaf.reshape(len(leaf), prod(leaf.shape[1:]))
        return leaf if isinstance(space, Symbols) else flatten(space, leaf)

    def looked_at(self, tree: Tree) -> Tree:
        """A tree without what is not looked at: text need not be copied about."""
        if () in self.parts:
            return tree
        out: dict[str, Any] = {}
        for path in self.parts:
            inner = out
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = pick(tree, path)
        return out

    def learn(self, tree: Tree) -> None:
        """Merge a batch ``[B, ...]`` into the statistics."""
        for path, moments in zip(self.parts, self.moments):
            if moments is not None:
                leaf = pick(tree, path)
                for piece in torch.split(leaf, max(NUMBERS // max(leaf[:1].numel(), 1), 1)):
                    moments.add(piece)

    def of_distinct(self, f: Callable[[list[Tensor]], Tensor], tree: Tree) -> Tensor:
        """``f`` of each row of a batch ``[B, ...]``, computed once for rows that are the same: ``[B, ...]``."""
        tree = self.looked_at(tree)
        first, of = self.distinct(tree)
        pieces = [f(self(tree_map(lambda v, rows=rows: v[rows], tree))) for rows in torch.split(first, PIECE)]
        return torch.cat(pieces)[of]

    def distinct(self, tree: Tree) -> tuple[Tensor, Tensor]:
        """``distinct`` of what is looked at: text makes no difference."""
        return distinct([pick(tree, path) for path in self.parts])

    def state(self) -> dict[str, Any]:
        """The statistics, part by part."""
        return {"/".join(p): m.state() for p, m in zip(self.parts, self.moments) if m is not None}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what ``state`` gave."""
        for path, moments in zip(self.parts, self.moments):
            if moments is not None:
                moments.load(state["/".join(path)])
