"""Weights that change while training goes on, from a named set."""

from collections.abc import Callable
from difflib import get_close_matches
from math import cos, isfinite, pi


class Schedule:
    """A number as a function of environment steps; made by the functions of ``SCHEDULES``."""

    def __init__(self, name: str, args: tuple[float, ...], shape: Callable[[float], float], scale: float = 1.0) -> None:
        if not all(isfinite(a) for a in (*args, scale)):
            raise ValueError(f"{name}{args}: a schedule's numbers are finite")
        self.name, self.args, self.shape, self.scale = name, args, shape, scale

    def __call__(self, step: int) -> float:
        """The weight after ``step`` environment steps."""
        return self.scale * self.shape(step)

    def __mul__(self, factor: float) -> "Schedule":
        if not isinstance(factor, int | float):
            return NotImplemented
        return Schedule(self.name, self.args, self.shape, self.scale * factor)

    __rmul__ = __mul__

    @property
    def text(self) -> str:
        """The schedule as an expression writes it."""
        call = f"{self.name}({', '.join(repr(a) for a in self.args)})"
        return call if self.scale == 1 else f"{self.scale!r}*{call}"

    def __repr__(self) -> str:
        return self.text


def _share(step: float, steps: float) -> float:
    return min(max(step / steps, 0.0), 1.0)


def _positive(steps: float, name: str) -> None:
    if not steps > 0:
        raise ValueError(f"{name}: the number of steps is {steps}; it must be above 0")


def linear(start: float, end: float, steps: float) -> Schedule:
    """From ``start`` to ``end`` in a straight line over ``steps`` environment steps, then ``end``."""
    _positive(steps, "linear")
    return Schedule("linear", (start, end, steps), lambda s: start + (end - start) * _share(s, steps))


def cosine(start: float, end: float, steps: float) -> Schedule:
    """From ``start`` to ``end`` along half a cosine over ``steps`` environment steps, then ``end``."""
    _positive(steps, "cosine")
    return Schedule(
        "cosine", (start, end, steps), lambda s: end + (start - end) * 0.5 * (1 + cos(pi * _share(s, steps)))
    )


def exponential(start: float, rate: float, steps: float) -> Schedule:
    """``start * rate ** (step / steps)``: multiplied by ``rate`` in every ``steps`` environment steps."""
    _positive(steps, "exponential")
    if not 0 < rate:
        raise ValueError(f"exponential: the rate is {rate}; it must be above 0")
    return Schedule("exponential", (start, rate, steps), lambda s: start * rate ** (s / steps))


def after(step: float) -> Schedule:
    """0 before ``step`` environment steps and 1 from then on: a warm-up."""
    return Schedule("after", (step,), lambda s: float(s >= step))


def until(step: float) -> Schedule:
    """1 before ``step`` environment steps and 0 from then on."""
    return Schedule("until", (step,), lambda s: float(s < step))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "after": after,
    "cosine": cosine,
    "exponential": exponential,
    "linear": linear,
    "until": until,
}


def schedule_named(name: str, *args: float) -> Schedule:
    """Make the schedule ``name``.

    Raises:
        ValueError: There is none of that name, or the numbers are not its.
    """
    if name not in SCHEDULES:
        near = get_close_matches(str(name), SCHEDULES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SCHEDULES)}"
        raise ValueError(f"no schedule is called {name!r}; {hint}")
    try:
        return SCHEDULES[name](*args)
    except TypeError as error:
        raise ValueError(f"schedule {name}{args}: {error}") from None
