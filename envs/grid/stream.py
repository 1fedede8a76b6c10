"""The counter-based random stream that one environment and the batch share.

A draw is a pure function of four whole numbers (seed, lane, episode, counter), computed with 64-bit integer
arithmetic only, so Python, Warp on a CPU and Warp on a GPU give the same bits:

- the *key* of an episode is a hash of (seed, lane, episode), see :func:`episode_key`;
- draw number c of that episode is ``mix64(key + (c + 1) * GAMMA)``, which is SplitMix64 (Steele, Lea and Flood,
  "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) started at the key;
- a whole number in [0, n), n <= 2**32, is ``(r * n) >> 32`` of the draw's upper 32 bits r, and a draw is thrown
  away and the next one taken while ``(r * n) mod 2**32 < 2**32 mod n`` (Lemire, "Fast Random Integer Generation in
  an Interval", TOMACS 2019). So it is exactly uniform, and a call takes one draw, but for a chance below n / 2**32.

Every call of :meth:`Stream.integers` for one number takes at least one draw, even where only one answer is possible:
the kernels in ``state.py`` copy the rule without a special case. ``shuffle`` is Fisher and Yates from the end, and
``choice`` from a sequence is one ``integers``: the order in which upstream draws is then the order of the kernels.
"""

import secrets
from collections.abc import MutableSequence, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: SplitMix64's increment
SEED_SALT = 0x243F6A8885A308D3  # pi's digits: they keep seed 0, lane 0, episode 0 away from mix64's fixed point 0
LANE_SALT = 0x13198A2E03707344
EPISODE_SALT = 0xA4093822299F31D0

_TWO32 = 1 << 32


def mix64(z: int) -> int:
    """Scramble 64 bits, one to one (SplitMix64's finaliser)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def lane_key(seed: int, lane: int) -> int:
    """The 64-bit hash of (seed, lane) from which a lane's episodes get their keys."""
    return mix64((mix64((seed + SEED_SALT) & MASK) + lane * GAMMA + LANE_SALT) & MASK)


def lane_keys(seed: int, lanes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """``lane_key(seed, lane)`` for many lanes at once."""
    z = np.uint64(mix64((seed + SEED_SALT) & MASK)) + lanes * np.uint64(GAMMA) + np.uint64(LANE_SALT)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def episode_key(seed: int, lane: int, episode: int) -> int:
    """The 64-bit key of an episode's stream."""
    return mix64((lane_key(seed, lane) + episode * GAMMA + EPISODE_SALT) & MASK)


def fresh_seed() -> int:
    """A seed from the operating system, for a reset that was given none (63 bits: it fits every integer type)."""
    return secrets.randbits(63)


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int in [0, 2**64), or raise ValueError or TypeError and say why."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"a seed is a whole number, got {seed!r} of type {type(seed).__name__}")
    if not 0 <= int(seed) <= MASK:
        raise ValueError(f"a seed is between 0 and 2**64 - 1, got {seed}; take it modulo 2**64")
    return int(seed)


class BitGenerator:
    """The face of a :class:`Stream` that gymnasium's checks and savers use: a readable, settable state."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream

    @property
    def state(self) -> dict[str, str | int]:
        """Key and counter, fit for JSON."""
        return {"bit_generator": "cairn.Stream", "key": self._stream.key, "counter": self._stream.counter}

    @state.setter
    def state(self, value: dict[str, str | int]) -> None:
        if value.get("bit_generator") != "cairn.Stream":
            raise ValueError(f"not a state of cairn's stream: {value!r}; it has bit_generator 'cairn.Stream'")
        key, counter = value["key"], value["counter"]
        if not (isinstance(key, int) and 0 <= key <= MASK and isinstance(counter, int) and 0 <= counter <= MASK):
            raise ValueError(f"key and counter are whole numbers in [0, 2**64), got {key!r} and {counter!r}")
        self._stream.key, self._stream.counter = key, counter


class Stream:
    """The draws of one episode, with the methods of ``numpy.random.Generator`` that upstream calls.

    Args:
        key: The stream's 64-bit key, usually from :func:`episode_key`.
        counter: How many draws have been taken.
    """

    __slots__ = ("key", "counter")

    def __init__(self, key: int, counter: int = 0) -> None:
        self.key = key
        self.counter = counter

    @classmethod
    def of(cls, seed: int, lane: int = 0, episode: int = 0) -> "Stream":
        """The stream of one episode of one lane of one seed."""
        return cls(episode_key(seed, lane, episode))

    @property
    def bit_generator(self) -> BitGenerator:
        """The stream's state, as ``numpy.random.Generator`` shows it."""
        return BitGenerator(self)

    def __repr__(self) -> str:
        return f"Stream(key={self.key:#018x}, counter={self.counter})"

    def bits(self) -> int:
        """Take one draw: 64 random bits."""
        self.counter += 1
        return mix64((self.key + self.counter * GAMMA) & MASK)

    def below(self, n: int) -> int:
        """A whole number in [0, n), exactly uniform; the rule of the module's docstring."""
        if n <= _TWO32:
            while True:
                product = (self.bits() >> 32) * n
                # The cheap test first: 2**32 mod n < n, so almost no call computes the remainder.
                if product % _TWO32 >= n or product % _TWO32 >= _TWO32 % n:
                    return product >> 32
        while True:  # ranges that no level needs: the same rule with the draw's 64 bits
            product = self.bits() * n
            if (product & MASK) >= (1 << 64) % n:
                return product >> 64

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: int | tuple[int, ...] | None = None,
        dtype: npt.DTypeLike = np.int64,
        endpoint: bool = False,
    ) -> Any:
        """Whole numbers in [low, high), or in [0, low) where ``high`` is None.

        Args:
            low: The least answer (or, alone, the bound).
            high: The bound, not included unless ``endpoint``.
            size: None for one Python int, else the shape of an array; its entries are drawn in C order.
            dtype: The array's dtype.
            endpoint: Include ``high``.

        Raises:
            ValueError: If the range is empty or wider than 2**64, as ``numpy.random.Generator`` has it.
        """
        if high is None:
            low, high = 0, low
        low, n = int(low), int(high) + int(endpoint) - int(low)
        if n <= 0:
            raise ValueError(f"low >= high: there is no whole number in [{low}, {high})")
        if n > MASK + 1:
            raise ValueError(f"the range [{low}, {high}) is wider than 2**64")
        if size is None:
            return low + self.below(n)
        shape = (size,) if isinstance(size, int) else tuple(size)
        flat = [low + self.below(n) for _ in range(int(np.prod(shape)))]
        return np.array(flat, dtype=dtype).reshape(shape)

    def random(self, size: int | tuple[int, ...] | None = None) -> Any:
        """Floats in [0, 1), multiples of 2**-53, one draw each."""
        if size is None:
            return (self.bits() >> 11) * 2.0**-53
        shape = (size,) if isinstance(size, int) else tuple(size)
        return np.array([(self.bits() >> 11) * 2.0**-53 for _ in range(int(np.prod(shape)))]).reshape(shape)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | tuple[int, ...] | None = None) -> Any:
        """Floats in [low, high), one draw each."""
        return low + (high - low) * self.random(size)

    def shuffle(self, x: MutableSequence[Any] | npt.NDArray[Any]) -> None:
        """Shuffle in place along the first axis: for i from the last down to 1, swap x[i] and x[below(i + 1)]."""
        for i in range(len(x) - 1, 0, -1):
            j = self.below(i + 1)
            if isinstance(x, np.ndarray):
                x[[i, j]] = x[[j, i]]
            else:
                x[i], x[j] = x[j], x[i]

    def permutation(self, x: int | Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A shuffled copy of ``x``, or of ``arange(x)``."""
        out = np.arange(x) if isinstance(x, (int, np.integer)) else np.array(x)
        self.shuffle(out)
        return out

    def choice(
        self,
        a: int | Sequence[Any] | npt.NDArray[Any],
        size: int | None = None,
        replace: bool = True,
        p: Sequence[float] | npt.NDArray[Any] | None = None,
    ) -> Any:
        """Elements of ``a`` (or of ``range(a)``).

        One ``below(len(a))`` each; without replacement, the first ``size`` of a :meth:`permutation`; with
        probabilities ``p``, one :meth:`random` each, looked up in their running sum.

        Raises:
            ValueError: If ``a`` is empty, ``p`` is not a distribution over it, or more elements are asked for than
                there are without replacement.
        """
        items: Any = range(int(a)) if isinstance(a, (int, np.integer)) else a
        n = len(items)
        if n == 0:
            raise ValueError("a cannot be empty: there is nothing to choose from")
        count = 1 if size is None else int(size)
        if p is not None:
            if not replace and count > 1:
                raise ValueError("weighted choice of several without replacement is not supported")
            cdf = np.cumsum(np.asarray(p, dtype=np.float64))
            if len(cdf) != n or abs(float(cdf[-1]) - 1.0) > 1e-8:
                raise ValueError(f"p has {len(cdf)} entries that sum to {cdf[-1]}; there are {n} to choose from")
            picks = [min(int(np.searchsorted(cdf, self.random(), side="right")), n - 1) for _ in range(count)]
        elif replace or count == 1:
            picks = [self.below(n) for _ in range(count)]
        elif count > n:
            raise ValueError(f"cannot take {count} of {n} without replacement")
        else:
            picks = [int(i) for i in self.permutation(n)[:count]]
        return items[picks[0]] if size is None else np.array([items[i] for i in picks])
