"""Feature extractors, chosen by what an observation space says it holds and not by its shape.

Each takes the observation as the batch carries it (symbols and pixels as uint8, tokens as int64) and gives
``[B, features_dim]`` float32. :class:`Features` puts together the right ones for any space; it is the default
``features_extractor_class`` of Cairn's policies. Extractors written for Stable-Baselines3 work too (policies.py).
"""

from collections.abc import Callable
from math import prod
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Pixels, Symbols, Tokens, kind


class SymbolsExtractor(BaseFeaturesExtractor):
    """A first layer for grids of categories: the sum of one learned row per (cell, channel, value), then ReLU.

    It equals a linear layer on the one-hot grid. Value 0 of each channel is the reference level (in MiniGrid: unseen,
    red, open) and has no row, which loses nothing, as the bias has its part; so a cell that is not seen costs
    nothing, and a typical view of 147 numbers sums some 27 rows.

    Args:
        observation_space: ``Symbols`` of shape ``[..., C]``.
        features_dim: Width of the output.
    """

    base: Tensor

    def __init__(self, observation_space: Symbols, features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        cells = prod(observation_space.shape[:-1])
        rows = [size - 1 for size in observation_space.sizes]
        start = torch.tensor([sum(rows[:c]) for c in range(len(rows))])
        # Row 0 is zero for good: it is what value 0 points to.
        base = (torch.arange(cells)[:, None] * sum(rows) + start).flatten()
        self.register_buffer("base", base.to(torch.int32), persistent=False)
        self.table = nn.Parameter(torch.randn(1 + cells * sum(rows), features_dim) * (2 / cells) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(features_dim))
        with torch.no_grad():
            self.table[0] = 0

    def forward(self, observations: Tensor) -> Tensor:
        """Map uint8 ``[B, ..., C]`` to ``[B, features_dim]``."""
        value = observations.flatten(1).to(torch.int32)
        index = (value + self.base) * (value > 0)
        return F.relu(self._sum(index) + self.bias)

    def _sum(self, index: Tensor) -> Tensor:
        """Sum the rows that ``index [B, cells * C]`` points to: three ways to the same numbers, by their speed."""
        if not torch.is_grad_enabled():  # adding row 0 is cheaper than leaving it out
            return F.embedding_bag(index, self.table, mode="sum")
        if index.is_cuda:  # leaving it out needs the host to know how many rows there are
            return F.embedding_bag(index, self.table, mode="sum", padding_idx=0)
        used = index != 0
        count = used.sum(1)
        first = (count.cumsum(0) - count).to(torch.int32)
        return F.embedding_bag(index[used], self.table, first, mode="sum")


class PixelsExtractor(BaseFeaturesExtractor):
    """A small convolutional network for pictures ``[B, H, W, C]``.

    From 36 x 36 on, it is the network of Mnih et al., "Human-level control through deep reinforcement learning"
    (2015, Methods, "Model architecture"); smaller pictures get two 3 x 3 layers.

    Args:
        observation_space: ``Pixels``, uint8 with the channels last.
        features_dim: Width of the output; None for 512 in the large network and 128 in the small.
    """

    def __init__(self, observation_space: Pixels, features_dim: int | None = None) -> None:
        height, width, channels = observation_space.shape
        large = min(height, width) >= 36
        super().__init__(observation_space, features_dim or (512 if large else 128))
        if large:
            layers = [nn.Conv2d(channels, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1)]
        else:
            stride = 2 if min(height, width) >= 12 else 1
            layers = [nn.Conv2d(channels, 16, 3, stride, 1), nn.Conv2d(16, 32, 3, stride, 1)]
        self.cnn = nn.Sequential(*(module for layer in layers for module in (layer, nn.ReLU())), nn.Flatten())
        with torch.no_grad():
            flat = self.cnn(torch.zeros(1, channels, height, width)).shape[1]
        self.linear = nn.Sequential(nn.Linear(flat, self.features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Map uint8 ``[B, H, W, C]`` to ``[B, features_dim]``."""
        out: Tensor = self.linear(self.cnn(observations.permute(0, 3, 1, 2).float().div_(255)))
        return out


class TokensExtractor(BaseFeaturesExtractor):
    """Text as the sum over its words of (word vector x place vector), so that order counts; padding adds nothing.

    Args:
        observation_space: ``Tokens`` of length L.
        features_dim: Width of the output.
    """

    mix: Tensor

    def __init__(self, observation_space: Tokens, features_dim: int = 32) -> None:
        super().__init__(observation_space, features_dim)
        (length,) = observation_space.shape
        self.words = nn.Embedding(len(observation_space.vocabulary), features_dim, padding_idx=0)
        self.places = nn.Parameter(1 + 0.5 * torch.randn(length, features_dim))
        self.scale = length**-0.5
        # Fixed odd 64-bit numbers: two texts have the same sum of words times these with a chance of about 2**-63.
        mix = torch.randint(-(2**62), 2**62, (length,), generator=torch.Generator().manual_seed(0)) * 2 + 1
        self.register_buffer("mix", mix, persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Map int64 ``[B, L]`` to ``[B, features_dim]``; a text that comes in many rows is read once.

        A minibatch has few missions (often one), and reading each row's would cost more than all the rest of the
        network. On a GPU, where telling texts apart would make the host wait, every row is read.
        """
        if observations.is_cuda:
            return self._read(observations)
        keys, text = torch.unique((observations * self.mix).sum(1), return_inverse=True)
        row = torch.empty(len(keys), dtype=torch.int64).scatter_(0, text, torch.arange(len(text)))
        return F.embedding(text, self._read(observations[row]))

    def _read(self, texts: Tensor) -> Tensor:
        return torch.tanh((self.words(texts) * self.places).sum(1) * self.scale)


class PlainExtractor(BaseFeaturesExtractor):
    """Numbers as they are, flat; categories as one-hot vectors.

    Args:
        observation_space: Box, Discrete, MultiDiscrete or MultiBinary.
    """

    start: Tensor

    def __init__(self, observation_space: gym.Space[Any]) -> None:
        sizes: list[int] | None = None
        start: list[int] = []
        if isinstance(observation_space, spaces.Discrete):
            sizes, start = [int(observation_space.n)], [int(observation_space.start)]
        elif isinstance(observation_space, spaces.MultiDiscrete):
            sizes, start = observation_space.nvec.ravel().tolist(), observation_space.start.ravel().tolist()
        super().__init__(observation_space, prod(observation_space.shape or ()) if sizes is None else sum(sizes))
        self.sizes = sizes
        self.register_buffer("start", torch.tensor(start, dtype=torch.int64), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Map ``[B, ...]`` to ``[B, features_dim]`` float32."""
        if self.sizes is None:
            return observations.reshape(len(observations), -1).float()
        index = observations.reshape(len(observations), -1).long() - self.start
        hot = [F.one_hot(column, size) for column, size in zip(index.unbind(1), self.sizes)]
        return torch.cat(hot, 1).float()


class DictExtractor(BaseFeaturesExtractor):
    """The parts of a Dict space side by side, in the order of its keys.

    Args:
        observation_space: A Dict of spaces, itself of Dicts if need be.
        features_dim: Passed on to symbols and pixels.
    """

    def __init__(self, observation_space: spaces.Dict, features_dim: int | None = None) -> None:
        parts = [make_extractor(space, features_dim) for space in observation_space.spaces.values()]
        super().__init__(observation_space, sum(part.features_dim for part in parts))
        self.keys = list(observation_space.spaces)
        self.parts = nn.ModuleList(parts)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Map a dict of ``[B, ...]`` to ``[B, features_dim]``."""
        return torch.cat([part(observations[key]) for key, part in zip(self.keys, self.parts)], 1)


_MAKERS: dict[str, Callable[[Any, int | None], BaseFeaturesExtractor]] = {
    "symbols": lambda space, width: SymbolsExtractor(space, width or 128),
    "pixels": PixelsExtractor,
    "tokens": lambda space, width: TokensExtractor(space),
    "vector": lambda space, width: PlainExtractor(space),
    "discrete": lambda space, width: PlainExtractor(space),
    "multi": lambda space, width: PlainExtractor(space),
    "dict": DictExtractor,
}


def make_extractor(space: gym.Space[Any], features_dim: int | None = None) -> BaseFeaturesExtractor:
    """Choose the extractor by the kind of ``space``.

    Raises:
        TypeError: There is none for this kind (a Tuple, or a space that batches do not carry).
    """
    maker = _MAKERS.get(kind(space))
    if maker is None:
        raise TypeError(f"no feature extractor for {space}; put its parts into a Dict space, whose keys name them")
    return maker(space, features_dim)


def learns_features(space: gym.Space[Any]) -> bool:
    """Whether the extractor of ``space`` has layers of its own (symbols, pixels, text), or only arranges numbers."""
    if isinstance(space, spaces.Dict):
        return any(learns_features(child) for child in space.spaces.values())
    return kind(space) in ("symbols", "pixels", "tokens")


class Features(BaseFeaturesExtractor):
    """The extractor for any observation space, put together by the kinds of its parts.

    Args:
        observation_space: A batch's single observation space.
        features_dim: Width that symbols and pixels are brought to; None for each one's default.
    """

    def __init__(self, observation_space: gym.Space[Any], features_dim: int | None = None) -> None:
        body = make_extractor(observation_space, features_dim)
        super().__init__(observation_space, body.features_dim)
        self.body = body

    def forward(self, observations: Any) -> Tensor:
        """Map an observation tree of ``[B, ...]`` to ``[B, features_dim]`` float32."""
        out: Tensor = self.body(observations)
        return out
