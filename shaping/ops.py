"""Nodes made of other nodes: sums, weights, products, clip, gate, normalise; and numbers and functions as terms."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .schedules import Schedule
from .stretch import Stretch
from .term import Channel, Op, Pure, Source, Term, nodes_of


class Task(Pure):
    """The environment's own reward."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``x.reward``."""
        return x.reward


class Constant(Pure):
    """The same number at every step: ``Task() - 0.01`` is a cost of living."""

    neutral = True

    def __init__(self, value: float) -> None:
        if not math.isfinite(value):
            raise ValueError(f"a reward of {value} at every step; it must be finite")
        self.value = float(value)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The number, ``x.shape``."""
        return torch.full(x.shape, self.value, device=x.device)

    @property
    def text(self) -> str | None:
        """The number itself."""
        return repr(self.value)

    def __neg__(self) -> Term:
        return Constant(-self.value)

    @classmethod
    def examples(cls) -> list[Term]:
        """Half a point a step."""
        return [cls(0.5)]


class Function(Pure):
    """A plain function of a stretch as a term: ``f(x)`` returns ``x.shape``, and depends on each row alone."""

    def __init__(self, f: Callable[[Stretch], Tensor]) -> None:
        self.f = f

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """What the function returns."""
        return self.f(x)

    @property
    def name(self) -> str:
        """The function's name."""
        name: str = getattr(self.f, "__name__", type(self.f).__name__)
        return "function" if name == "<lambda>" else name

    @classmethod
    def examples(cls) -> list[Term]:
        """The task's reward doubled."""
        return [cls(lambda x: x.reward * 2)]


def as_term(value: Any) -> Term:
    """A term, a number, a text expression or a function of a stretch, as a term.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(value, Term):
        return value
    if isinstance(value, str):
        from .grammar import parse

        return parse(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Constant(float(value))
    if isinstance(value, type) and issubclass(value, Term):
        raise TypeError(f"{value.__name__} is a class of terms; call it: {value.__name__}()")
    if callable(value):
        return Function(value)
    raise TypeError(
        f"a reward is a term, a number, a text expression or a function of a Stretch, and not {type(value).__name__}"
    )


def scaled(a: float | Schedule, b: float | Schedule) -> float | Schedule:
    """The product of two weights.

    Raises:
        ValueError: Both follow a schedule.
    """
    if isinstance(a, Schedule) and isinstance(b, Schedule):
        raise ValueError(f"a term follows one schedule, and not {a!r} times {b!r}")
    if isinstance(b, Schedule):
        a, b = b, a
    assert not isinstance(b, Schedule)
    return a * b


def _bracketed(term: Term) -> str | None:
    """The term's text as a factor."""
    text = term.text
    loose = isinstance(term, Sum | Scale | Product) or (isinstance(term, Constant) and term.value < 0)
    return f"({text})" if text is not None and loose else text


def _joined(parts: list[str | None], by: str) -> str | None:
    return by.join(p for p in parts if p is not None) if None not in parts else None


class Sum(Op):
    """Terms added up. At the top of a reward each keeps its channel, and the logs show its share."""

    def __init__(self, *inputs: Term) -> None:
        # A sum of sums is one sum, so that a - b + c has three summands.
        flat = [t for term in inputs for t in (term.inputs if type(term) is Sum else (term,))]
        self.set_inputs(*flat)

    def check_inputs(self) -> None:
        """A sum at the top may hold schedules and channels; the node above checks where it is not."""

    def apply(self, *inputs: Tensor) -> Tensor:
        """The sum."""
        return torch.stack(inputs).sum(0)

    @property
    def text(self) -> str | None:
        """``a - 0.5*b``."""
        parts = [t.text for t in self.inputs]
        text = parts[0]
        for part in parts[1:]:
            if text is None or part is None:
                return None
            text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
        return text


class Scale(Op):
    """A term times a number, or times a schedule of environment steps at the top of a reward."""

    def __init__(self, weight: float | Schedule, term: Term) -> None:
        if not isinstance(weight, Schedule) and not math.isfinite(weight):
            raise ValueError(f"the weight of {term!r} is {weight}; it must be finite")
        if type(term) is Scale:  # 0.5 * (2 * a) has one weight
            weight, term = scaled(weight, term.weight), term.inputs[0]
        self.weight: float | Schedule = weight if isinstance(weight, Schedule) else float(weight)
        self.set_inputs(term)

    def check_inputs(self) -> None:
        """As in a sum."""

    def apply(self, *inputs: Tensor) -> Tensor:
        """Weight times value.

        Raises:
            TypeError: The weight follows a schedule; only a seat knows the step.
        """
        if isinstance(self.weight, Schedule):
            raise TypeError(f"{self!r}: a schedule is applied by the seat, at the top of the reward")
        return self.weight * inputs[0]

    @property
    def text(self) -> str | None:
        """``0.5*a``."""
        if self.weight == -1.0:
            return _joined(["-", _bracketed(self.inputs[0])], "")
        weight = self.weight.text if isinstance(self.weight, Schedule) else repr(self.weight)
        return _joined([weight, _bracketed(self.inputs[0])], "*")


class Product(Op):
    """Terms multiplied row by row."""

    def __init__(self, *inputs: Term) -> None:
        self.set_inputs(*inputs)

    def apply(self, *inputs: Tensor) -> Tensor:
        """The product."""
        out = inputs[0]
        for value in inputs[1:]:
            out = out * value
        return out

    @property
    def text(self) -> str | None:
        """``a*b``."""
        return _joined([_bracketed(t) for t in self.inputs], "*")


class Placed(Op):
    """A term in a channel of its own, or under another name."""

    called: str | None = None

    def __init__(self, term: Term, channel: Channel | None = None, called: str | None = None) -> None:
        if type(term) is Placed:  # one node says both
            channel, called, term = channel or term.channel, called or term.called, term.inputs[0]
        if called is not None and not (called.replace("_", "a").isalnum() and len(called) <= 40):
            raise ValueError(f"{called!r} cannot be a name in the logs: letters, digits and _, at most 40")
        self.channel, self.called = channel, called
        self.set_inputs(term)

    def check_inputs(self) -> None:
        """As in a sum; the channel settles what the inner terms asked for."""

    def apply(self, *inputs: Tensor) -> Tensor:
        """The value itself."""
        return inputs[0]

    @property
    def name(self) -> str:
        """The new name, if one was given."""
        return self.called or self.inputs[0].name

    @property
    def text(self) -> str | None:
        """``a.into("curiosity", gamma=0.99, episodic=false).named("b")``."""
        text = _bracketed(self.inputs[0])
        if text is not None and self.channel is not None:
            name, gamma, episodic = self.channel
            text += f'.into("{name}"' + (f", gamma={gamma!r}" if gamma is not None else "")
            text += ")" if episodic else ", episodic=false)"
        return f'{text}.named("{self.called}")' if text is not None and self.called else text


def _warn_telescoping(op: str, *inputs: Term) -> None:
    for node in nodes_of(*inputs):
        if node.telescopes:
            warnings.warn(
                f"{op} is applied after {node.name}: the sum along an episode no longer telescopes, so the best policy "
                f"may change. Apply {op} to the other terms and add {node.name} outside",
                stacklevel=4,
            )


class Clip(Op):
    """A term held between two bounds."""

    def __init__(self, term: Term, low: float | None = None, high: float | None = None) -> None:
        if low is None and high is None:
            raise ValueError("clip needs a lower bound, an upper bound or both")
        if low is not None and high is not None and low > high:
            raise ValueError(f"clip({low}, {high}): the lower bound is above the upper")
        self.low, self.high = low, high
        _warn_telescoping("clip", term)
        self.set_inputs(term)

    def apply(self, *inputs: Tensor) -> Tensor:
        """The clipped value; NaN stays NaN, to be found by the seat."""
        return inputs[0].clamp(self.low, self.high)

    @property
    def text(self) -> str | None:
        """``a.clip(0.0, 1.0)``."""
        text = _bracketed(self.inputs[0])
        bounds = ", ".join("none" if b is None else repr(b) for b in (self.low, self.high))
        return None if text is None else f"{text}.clip({bounds})"


class Gate(Op):
    """A term where a condition is above a threshold, and 0 elsewhere."""

    def __init__(self, term: Term, condition: Term, threshold: float = 0.0) -> None:
        self.threshold = float(threshold)
        _warn_telescoping("gate", term)
        self.set_inputs(term, condition)

    def apply(self, *inputs: Tensor) -> Tensor:
        """The value where the gate is open."""
        return torch.where(inputs[1] > self.threshold, inputs[0], 0.0)

    @property
    def name(self) -> str:
        """The gated term's."""
        return self.inputs[0].name

    @property
    def text(self) -> str | None:
        """``a.gate(b, 0.0)``."""
        value, condition = _bracketed(self.inputs[0]), self.inputs[1].text
        return None if value is None or condition is None else f"{value}.gate({condition}, {self.threshold!r})"


class Normalise(Op):
    """A term over its running standard deviation, and minus its running mean where ``centre``.

    The statistics are those of the last ``update`` (over all valid rows since the first), so that scoring has no side
    effect; before the first update the value passes unchanged. The price is a lag of one rollout.
    """

    saved = ("count", "mean", "square")

    def __init__(self, term: Term, centre: bool = False) -> None:
        self.centre = bool(centre)
        _warn_telescoping("normalise", term)
        self.count, self.mean, self.square = (torch.zeros((), dtype=torch.float64) for _ in range(3))
        self.set_inputs(term)

    def apply(self, *inputs: Tensor) -> Tensor:
        """The normalised value."""
        ready = self.count > 1
        deviation = torch.where(ready, (self.square / self.count.clamp(min=1)).sqrt().clamp(min=1e-8), 1.0)
        mean = torch.where(ready, self.mean, 0.0) if self.centre else torch.zeros_like(self.mean)
        return (inputs[0] - mean.to(inputs[0])) / deviation.to(inputs[0])

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Merge the rows since the last update into mean and sum of squares (Chan et al. 1979)."""
        value = source.values.get(self.inputs[0])
        if value is None:
            return {}
        if value.shape == source.recent.shape and not self.late:
            value = value[source.recent.valid]
        value = value.detach().double().flatten().to(self.mean.device)
        if value.numel():
            delta = value.mean() - self.mean
            total = self.count + value.numel()
            spread = ((value - value.mean()) ** 2).sum()
            self.square = self.square + spread + delta**2 * self.count * value.numel() / total
            self.mean = self.mean + delta * value.numel() / total
            self.count = total
        return {"deviation": (self.square / self.count.clamp(min=1)).sqrt()}

    @property
    def text(self) -> str | None:
        """``a.normalise()``."""
        text = _bracketed(self.inputs[0])
        return None if text is None else f"{text}.normalise({'true' if self.centre else ''})"


__all__ = [
    "Clip", "Constant", "Function", "Gate", "Normalise", "Placed", "Product", "Scale", "Schedule", "Sum", "Task",
    "as_term",
]  # fmt: skip
