"""Whether a server is worth asking, what came of it, and how long to wait before asking again."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from .ask import OUTCOMES


class Breaker:
    """A circuit breaker: after ``failures`` in a row nothing is sent for ``rest`` seconds, then one try; and so on.

    The rest doubles with every try that fails, up to ``most`` seconds.
    """

    def __init__(
        self, failures: int = 5, rest: float = 5.0, most: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures, self.rest, self.most, self._clock = failures, rest, most, clock
        self._count, self._rests, self._until, self._trying = 0, 0, 0.0, False
        self._lock = threading.Lock()

    @property
    def up(self) -> bool:
        """Whether requests go through as if nothing had been."""
        return self._rests == 0

    def admits(self) -> bool:
        """Whether a request may be sent now; True while resting ends makes this the one try."""
        with self._lock:
            if not self._rests:
                return True
            if self._trying or self._clock() < self._until:
                return False
            self._trying = True
            return True

    def tell(self, good: bool, at_once: bool = False) -> None:
        """How a request ended; ``at_once`` opens the breaker without waiting for more failures (a wrong key)."""
        with self._lock:
            self._trying = False
            if good:
                self._count = self._rests = 0
                return
            self._count += 1
            if self._rests or at_once or self._count >= self.failures:
                self._until = self._clock() + min(self.rest * 2**self._rests, self.most)
                self._rests = min(self._rests + 1, 30)

    @property
    def wait(self) -> float:
        """Seconds until the next try."""
        return max(self._until - self._clock(), 0.0) if self._rests else 0.0


class Tally:
    """Counts of what came of questions; threads may count at once."""

    NAMES = ("asked", *OUTCOMES, "samples", "cached", "retries", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.counts = dict.fromkeys(self.NAMES, 0)
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Count more."""
        with self._lock:
            for name, count in counts.items():
                self.counts[name] += count


def pause(
    attempt: int, headers: Mapping[str, str], draw: random.Random, base: float = 0.5, most: float = 30.0
) -> float:
    """Seconds before try ``attempt + 1``: what the server asks for and a little, or an exponential with full jitter.

    ``Retry-After`` is seconds or a date (RFC 9110, section 10.2.3); ``retry-after-ms`` is OpenAI's.
    """
    asked = _asked(headers)
    if asked is not None:
        return asked + draw.uniform(0, base)
    return draw.uniform(0, min(base * 2**attempt, most))


def _asked(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError):
                continue
        if seconds == seconds and seconds < 1e6:
            return max(seconds, 0.0)
    return None
