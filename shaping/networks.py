"""Networks and running statistics that learned bonuses share: one encoder for every kind of observation.

Weights are drawn from a generator of the term's own seed: the same seed gives the same bits, and torch's global
random stream is left as it is. Text is dropped: within an episode it tells no states apart.
"""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Pixels, Symbols, Tree, flat_size, flatten, kind, tree_leaves, tree_map
from . import fast, fast_networks
from .hashing import hash_rows
from .term import node_seed

Path: TypeAlias = tuple[str, ...]
BATCH = 512  # rows of a step of an optimiser
PIECE = 2048  # rows that a network is given at once, and more where they are small
NUMBERS = 1 << 22  # that statistics take in at once
CLIP = 5.0  # whitened numbers are held within this many deviations (Burda et al. 2019, section 2.4)


def linear(inputs: int, outputs: int, generator: torch.Generator, gain: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights from ``generator`` and biases of 0."""
    with torch.random.fork_rng(devices=[]):  # the layer's own first draw is thrown away
        layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class Layers(nn.Sequential):
    """Linear layers with ReLU between them, ``[B, inputs]`` to ``[B, outputs]``."""

    once = False
    """Nobody takes a gradient of its gradient: compiled where it is learned from, too."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch, compiled where that may be."""
        (weight, bias), *others = self.weights
        widths = [x.shape[-1], *(len(more) for _, more in self.weights)]
        if x.dim() == 2 and x.dtype == torch.float32 and fast_networks.asks(len(x), x.device, *widths, once=self.once):
            return fast_networks.network(None, None, x.contiguous(), weight, bias, others)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return out

    @property
    def weights(self) -> list[tuple[Tensor, Tensor]]:
        """Weights ``[outputs, inputs]`` and biases of each layer."""
        layers = [layer for layer in self if isinstance(layer, nn.Linear)]
        return [(layer.weight, layer.bias) for layer in layers if layer.bias is not None]


def mlp(sizes: list[int], generator: torch.Generator) -> Layers:
    """Linear layers of these sizes with ReLU between them, and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:]):
        layers += [linear(inputs, outputs, generator), nn.ReLU()]
    return Layers(*layers[:-1])


def some_batches(rows: Tensor, share: float, seed: int, update: int) -> tuple[Tensor, ...]:
    """A random share of the indices ``rows [M]``, at least one, in batches for an optimiser.

    They are drawn by a generator of this update alone, so that it need not be saved.
    """
    generator = torch.Generator().manual_seed(node_seed(seed, str(update)))
    order = torch.randperm(len(rows), generator=generator)[: max(int(len(rows) * share), 1)]
    return torch.split(rows[order.to(rows.device)], BATCH)


def encoder(
    parts: dict[Path, gym.Space[Any]], hidden: int, features: int, generator: torch.Generator, layers: int = 1
) -> "Network":
    """Any observation as ``[B, features]``: an ``Encoder`` of width ``hidden``, then ``layers`` linear layers."""
    wide = [hidden] * layers + [features]
    return Network(Encoder(parts, hidden, generator), mlp(wide, generator))


def distinct(leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Which rows of ``leaves [B, ...]`` differ: the index of one row of each kind ``[U]``, and each row's kind ``[B]``.

    The rows rise. In a grid world most rows of a rollout are repeats, and a network need not see them twice.
    """
    return first_of(hash_rows(leaves))


def first_of(hashes: Tensor) -> tuple[Tensor, Tensor]:
    """``distinct`` of rows with these hashes ``[B]``."""
    if fast.fits(len(hashes), hashes.device):
        return fast.distinct(hashes)
    kinds, of = torch.unique(hashes, return_inverse=True)
    rows = torch.arange(len(hashes), device=hashes.device)
    first = rows.new_full((len(kinds),), len(hashes)).scatter_reduce(0, of, rows, "amin")
    first, order = first.sort()
    return first, torch.empty_like(order).scatter_(0, order, rows[: len(kinds)])[of]


def distinct_rows(*batches: Any) -> tuple[Any, Tensor]:
    """One row of each kind in batches (trees ``[B, ...]``) that stand one above the other, and each row's kind."""
    first, of = first_of(torch.cat([hash_rows(tree_leaves(batch)) for batch in batches]))
    edges = [0]
    for batch in batches:
        edges.append(edges[-1] + len(tree_leaves(batch)[0]))
    cuts = torch.searchsorted(first, torch.tensor(edges, device=first.device)).tolist()  # they rise
    rows = [first[low:high] - edge for edge, low, high in zip(edges, cuts, cuts[1:])]

    def pick(*leaves: Tensor) -> Tensor:
        parts = [leaf.index_select(0, some) for leaf, some in zip(leaves, rows)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    return tree_map(pick, *batches), of


class SymbolSum(nn.Module):
    """A grid of categories as the sum of one row per (cell, channel, value): a linear layer on the one-hot grid.

    Value 0 of each channel has no row, so what is not seen costs nothing.
    """

    base: Tensor
    top: Tensor

    def __init__(self, space: Symbols, width: int, generator: torch.Generator) -> None:
        super().__init__()
        cells, sizes = prod(space.shape[:-1]), torch.tensor(space.sizes) - 1
        begin = sizes.cumsum(0) - sizes
        self.register_buffer("base", (torch.arange(cells)[:, None] * sizes.sum() + begin).flatten(), persistent=False)
        self.register_buffer("top", sizes.to(torch.uint8).repeat(cells), persistent=False)
        table = torch.randn(1 + cells * int(sizes.sum()), width, generator=generator) * (2 / cells) ** 0.5
        table[0] = 0  # what value 0 points to, for good
        self.table = nn.Parameter(table)

    def forward(self, symbols: Tensor) -> Tensor:
        """Map uint8 ``[B, ..., C]`` to ``[B, width]``."""
        if torch.is_grad_enabled() and self.compiles and fast.fits(len(symbols), symbols.device):
            nothing = self.table.new_zeros(self.table.shape[1])
            return fast_networks.network(symbols.flatten(1), self.sums(), None, None, nothing, [])
        value = symbols.flatten(1).long()
        index = (value + self.base) * (value > 0)
        if not torch.is_grad_enabled():  # adding row 0 is cheaper than leaving it out
            return F.embedding_bag(index, self.table, mode="sum")
        if index.is_cuda:
            return F.embedding_bag(index, self.table, mode="sum", padding_idx=0)
        used = index != 0
        count = used.sum(1)
        return F.embedding_bag(index[used], self.table, count.cumsum(0) - count, mode="sum")

    @property
    def compiles(self) -> bool:
        """Whether it is of a size for which there are compiled loops."""
        return len(self.base) <= fast_networks.MOST_SYMBOLS and self.table.shape[1] <= fast_networks.WIDEST

    def sums(self, above: int = 0) -> fast_networks.Sums:
        """The same for compiled loops, where so many rows stand above its table."""
        return fast_networks.Sums((self.base + above).int(), self.top, self.table)


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


class Network(nn.Sequential):
    """An ``Encoder`` and the ``Layers`` after it."""

    def forward(self, leaves: list[Tensor]) -> Tensor:
        """Map what ``Whitening`` gave; compiled where there are no pictures."""
        body, head = self
        assert isinstance(body, Encoder) and isinstance(head, Layers)
        pairs = list(zip(body.layers, leaves))
        symbols = [(layer, leaf) for layer, leaf in pairs if isinstance(layer, SymbolSum)]
        numbers = [(layer, leaf) for layer, leaf in pairs if isinstance(layer, nn.Linear)]
        layers = head.weights
        widths = [layers[0][0].shape[1], *(len(bias) for _, bias in layers)]
        widths.append(sum(layer.in_features for layer, _ in numbers))
        shown = sum(len(layer.base) for layer, _ in symbols)
        if len(symbols) + len(numbers) < len(pairs) or not fast_networks.asks(
            len(leaves[0]), leaves[0].device, *widths, symbols=shown, once=True
        ):
            out: Tensor = super().forward(leaves)  # type: ignore[no-untyped-call]
            return out
        biases: list[Tensor] = [layer.bias for layer, _ in numbers if layer.bias is not None]
        bias = torch.stack(biases).sum(0) if biases else torch.zeros(widths[0])
        values = joined([leaf.flatten(1) for _, leaf in symbols])
        dense, first = joined([leaf for _, leaf in numbers]), joined([layer.weight for layer, _ in numbers])
        above, all_sums = 0, list[fast_networks.Sums]()
        for layer, _ in symbols:
            all_sums.append(layer.sums(above))
            above += len(layer.table)
        sums = None
        if all_sums:
            sums = fast_networks.Sums(*(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*all_sums)))
        return fast_networks.network(values, sums, dense, first, bias, layers)


def joined(columns: list[Tensor]) -> Tensor | None:
    """Columns side by side in one piece of memory; None where there are none."""
    if len(columns) < 2:
        return columns[0].contiguous() if columns else None
    return torch.cat(columns, 1)


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

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn: categories stay as they are."""
        return any(moments is not None for moments in self.moments)

    def learn(self, tree: Tree) -> None:
        """Merge a batch ``[B, ...]`` into the statistics."""
        for path, moments in zip(self.parts, self.moments):
            if moments is not None:
                leaf = pick(tree, path)
                for piece in torch.split(leaf, max(NUMBERS // max(leaf[:1].numel(), 1), 1)):
                    moments.add(piece)

    def of_distinct(self, f: Callable[[list[Tensor]], Tensor], *trees: Tree) -> Tensor:
        """``f`` of each row of batches ``[B, ...]``, computed once for rows that are the same.

        Returns:
            ``[B, ...]``, those of the second batch below those of the first.
        """
        values, of = self.of_kinds(f, *trees)
        return values[of]

    def of_kinds(self, f: Callable[[list[Tensor]], Tensor], *trees: Tree) -> tuple[Tensor, Tensor]:
        """``f`` of one row of each kind in batches ``[B, ...]``, ``[U, ...]``, and each row's kind, as one batch."""
        chosen, of = distinct_rows(*({path: pick(tree, path) for path in self.parts} for tree in trees))
        rows = len(next(iter(chosen.values())))
        most = max(NUMBERS // max(sum(leaf[:1].numel() for leaf in chosen.values()), 1), PIECE)
        pieces = [
            f([self._leaf(chosen[path][k : k + most], space, moments) for path, space, moments in self._kinds()])
            for k in range(0, max(rows, 1), most)
        ]
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0], of

    def _kinds(self) -> Iterator[tuple[Path, gym.Space[Any], Moments | None]]:
        return zip(self.parts, self.parts.values(), self.moments)

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
