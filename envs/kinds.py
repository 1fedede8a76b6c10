"""Kinds of observation: what the numbers of a space mean, so that learners can choose by it.

A MiniGrid view is a uint8 array of shape (7, 7, 3), and so is a very small photograph: shape and dtype do not
tell symbols from pixels. Here the space says it. Each class is a plain ``Box`` to everyone else, and compares
equal to a ``Box`` with the same bounds.
"""

import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

# Values per channel of MiniGrid's encoding: object type, colour, state. The state has three values for a door
# (open, closed, locked) and four where FullyObsWrapper writes the agent's direction into it.
MINIGRID_SIZES = (11, 6, 4)
PAD, UNKNOWN = "<pad>", "<unknown>"

# Every word that a MiniGrid 3.2 or BabyAI mission can contain. The order is part of the format of saved
# policies: append, never sort anew.
MINIGRID_WORDS = (
    PAD, UNKNOWN, ",", "a", "after", "agent", "and", "at", "avoid", "ball", "behind", "blue", "box", "door",
    "empty", "end", "fetch", "find", "floor", "from", "front", "get", "go", "goal", "green", "grey", "hallway",
    "in", "key", "lava", "left", "matching", "maze", "must", "near", "next", "object", "of", "on", "open",
    "opening", "pick", "purple", "put", "reach", "red", "right", "room", "rooms", "square", "the", "then", "to",
    "traverse", "unlock", "unseen", "up", "use", "wall", "yellow", "you", "your",
)  # fmt: skip
# One length for all of MiniGrid and one for all of BabyAI, so that a policy can move between their tasks.
# The longest missions have 18 words and 64.
MINIGRID_LENGTH, BABYAI_LENGTH = 24, 64

_WORD = re.compile(r"[a-z0-9']+|[^\sa-z0-9']")


class Symbols(spaces.Box):
    """A grid of categories, uint8 ``[..., C]``: channel ``c`` of the last axis takes values below ``sizes[c]``.

    Args:
        shape: Shape of one observation; the last axis has the channels.
        sizes: Number of values of each channel, at most 256.
        high: Upper bound of the ``Box``: 255 equals MiniGrid's own declaration.
        seed: Seed of ``sample``.

    Raises:
        ValueError: ``sizes`` does not have one entry per channel, or one is not in 1..256.
    """

    def __init__(self, shape: Sequence[int], sizes: Sequence[int], high: int = 255, seed: int | None = None) -> None:
        shape = tuple(int(n) for n in shape)
        self.sizes = tuple(int(n) for n in sizes)
        if not shape or len(self.sizes) != shape[-1]:
            raise ValueError(
                f"Symbols of shape {shape} need one size per channel of the last axis, and got sizes={self.sizes}"
            )
        if not all(1 <= n <= high + 1 for n in self.sizes):
            raise ValueError(f"sizes={self.sizes}: each must be between 1 and high + 1 = {high + 1}")
        super().__init__(0, high, shape, np.uint8, seed)

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        """Draw uniformly among the values that each channel has."""
        return self.np_random.integers(0, np.array(self.sizes), self.shape).astype(np.uint8)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` has the shape and dtype, and every value is one of its channel's."""
        return super().contains(x) and bool((np.asarray(x) < np.array(self.sizes)).all())

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and (not isinstance(other, Symbols) or other.sizes == self.sizes)

    def __repr__(self) -> str:
        return f"Symbols({self.shape}, sizes={self.sizes})"


class Pixels(spaces.Box):
    """A picture, uint8 ``[H, W, C]`` from 0 to 255."""

    def __init__(self, shape: Sequence[int], seed: int | None = None) -> None:
        shape = tuple(int(n) for n in shape)
        if len(shape) != 3:
            raise ValueError(f"Pixels have shape (height, width, channels), and got {shape}")
        super().__init__(0, 255, shape, np.uint8, seed)

    def __repr__(self) -> str:
        return f"Pixels({self.shape})"


class Tokens(spaces.Box):
    """Text as int64 ``[L]`` of indices into a vocabulary; 0 is padding and 1 any unknown word.

    Args:
        length: L, the number of tokens; longer text is cut.
        vocabulary: The words; the first two stand for padding and for unknown words.
        by: ``"word"`` (lower case, punctuation apart) or ``"character"``.
        seed: Seed of ``sample``.
    """

    def __init__(
        self, length: int, vocabulary: Sequence[str] = MINIGRID_WORDS, by: str = "word", seed: int | None = None
    ) -> None:
        self.vocabulary, self.by = tuple(vocabulary), by
        self._index = {word: i for i, word in enumerate(self.vocabulary)}
        if by not in ("word", "character"):
            raise ValueError(f"Tokens(by={by!r}): text is split by 'word' or by 'character'")
        if len(self.vocabulary) < 3 or len(self._index) != len(self.vocabulary):
            raise ValueError("the vocabulary needs padding, the unknown word and at least one more, no word twice")
        super().__init__(0, len(self.vocabulary) - 1, (int(length),), np.int64, seed)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Turn text into int64 ``[L]``, cut or padded to the length."""
        words = _WORD.findall(text.lower()) if self.by == "word" else list(text)
        out = np.zeros(self.shape, np.int64)
        ids = [self._index.get(word, 1) for word in words[: out.size]]
        out[: len(ids)] = ids
        return out

    def decode(self, tokens: Any) -> str:
        """Turn ``[L]`` indices into text; padding is dropped, unknown words stay as ``<unknown>``."""
        words = [self.vocabulary[i] for i in np.asarray(tokens).tolist() if i]
        return " ".join(words).replace(" ,", ",") if self.by == "word" else "".join(words)

    def __eq__(self, other: Any) -> bool:
        same = not isinstance(other, Tokens) or (other.vocabulary == self.vocabulary and other.by == self.by)
        return super().__eq__(other) and same

    def __repr__(self) -> str:
        return f"Tokens({self.shape[0]}, {len(self.vocabulary)} {self.by}s)"


def kind(space: gym.Space[Any]) -> str:
    """Name what a space holds, for the choice of a feature extractor.

    Returns:
        ``"symbols"``, ``"pixels"``, ``"tokens"``, ``"vector"`` (any other Box), ``"discrete"``, ``"multi"``
        (MultiDiscrete and MultiBinary), ``"dict"`` or ``"tuple"``.

    Raises:
        TypeError: The space is of none of these kinds.
    """
    for cls, name in _KINDS:
        if isinstance(space, cls):
            return name
    raise TypeError(
        f"{space!r} is not a kind of space that batches carry (Box, Discrete, MultiDiscrete, MultiBinary, Text, "
        "Dict or Tuple of these): wrap the environment so that it observes one of them"
    )


_KINDS: tuple[tuple[type[gym.Space[Any]], str], ...] = (
    (Symbols, "symbols"),
    (Pixels, "pixels"),
    (Tokens, "tokens"),
    (spaces.Box, "vector"),
    (spaces.Discrete, "discrete"),
    (spaces.MultiDiscrete, "multi"),
    (spaces.MultiBinary, "multi"),
    (spaces.Dict, "dict"),
    (spaces.Tuple, "tuple"),
)


def declare(space: gym.Space[Any], *, symbols: bool = False) -> gym.Space[Any]:
    """Say in its own class what an upstream space means: the single observation space of a batch.

    Text becomes ``Tokens``, uint8 pictures of at least 16 x 16 with 1, 3 or 4 channels become ``Pixels``, a Tuple
    becomes a Dict with the keys "0", "1", ...; all else stays.

    Args:
        space: A space of a single environment.
        symbols: The uint8 arrays with three channels are MiniGrid's encoding, not pictures.

    Raises:
        TypeError: A space that cannot be carried in tensors (Graph, Sequence, OneOf, ...).
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: declare(child, symbols=symbols) for name, child in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Dict({str(i): declare(child, symbols=symbols) for i, child in enumerate(space.spaces)})
    if isinstance(space, spaces.Text):
        letters = (PAD, UNKNOWN, *sorted(space.character_set))
        return Tokens(space.max_length, letters, by="character")
    if type(space).__name__ == "MissionSpace":  # minigrid is not imported for the sake of an isinstance
        return Tokens(MINIGRID_LENGTH)
    if type(space).__name__ == "BabyAIMissionSpace":
        return Tokens(BABYAI_LENGTH)
    if type(space) is spaces.Box and space.dtype == np.uint8 and len(space.shape) == 3:
        height, width, channels = space.shape
        full = bool((space.low == 0).all() and (space.high == 255).all())
        if symbols and full and channels == len(MINIGRID_SIZES):
            return Symbols(space.shape, MINIGRID_SIZES)
        if full and min(height, width) >= 16 and channels in (1, 3, 4):
            return Pixels(space.shape)
    kind(space)
    return space
