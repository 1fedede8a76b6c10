"""Does a program behave as a reward must? Asked on recorded experience, before anything is trained on it.

The language rules most of this out by its types. It is tried all the same: a check does not know why it passes, and a
program that runs elsewhere (a plain function) can be asked as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tape import Output

Run = Callable[[Mapping[str, NDArray[Any]]], Output]
TOLERANCE = 1e-4


class BehaviourError(ValueError):
    """A program does not behave as a reward must.

    Attributes:
        problem: "shape", "dtype", "finite", "bounded", "deterministic", "inputs" (changed them), "leak" (between
            environments) or "raised".
    """

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class Behaviour:
    """What the checks saw of a program that passed them.

    Attributes:
        rows: How many transitions it was asked about.
        low, high, mean: Of the reward.
        components: The same three of each component.
        notes: What is allowed and likely a mistake: a reward that is the same everywhere, a part that is.
    """

    rows: int
    low: float
    high: float
    mean: float
    components: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_program(
    run: Run, batch: Mapping[str, NDArray[Any]], names: tuple[str, ...] = (), bound: float = 1e4, seed: int = 0
) -> Behaviour:
    """Ask a program about the same transitions in several ways.

    Args:
        run: The program, from a batch of NumPy arrays ``[B, ...]`` to its output.
        batch: Recorded transitions, at least one.
        names: Of the components.
        bound: Largest size of a reward or component that is taken.
        seed: Of the order in which rows are shuffled.

    Raises:
        BehaviourError: It must not be trained on; the message says why.
    """
    rows = len(next(iter(batch.values())))
    if not rows:
        raise ValueError("there is no experience to check the program on")
    before = {name: array.copy() for name, array in batch.items()}
    first = _asked(run, batch, names, rows)
    for name, array in batch.items():
        if not np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f"):
            raise BehaviourError("inputs", f"the program wrote into its input {name!r}; rewards change nothing")
        if any(np.shares_memory(array, value) for value in first.values()):
            raise BehaviourError(
                "inputs", f"what the program gave is its input {name!r} itself, not a value of its own"
            )
    for what, value in first.items():
        if not np.isfinite(value).all():
            row = int(np.flatnonzero(~np.isfinite(value))[0])
            shown = ", ".join(f"{n}={before[n][row].ravel()[:8].tolist()}" for n in before)
            raise BehaviourError(
                "finite", f"{what} is {value[row]} for {shown}: guard divisions, logarithms, roots and powers"
            )
        if np.abs(value).max() > bound:
            raise BehaviourError(
                "bounded", f"{what} is as large as {np.abs(value).max():.3g}; more than {bound:g} is not trained on"
            )
    again = _asked(run, batch, names, rows)
    for what, value in first.items():
        if not np.array_equal(value, again[what]):
            raise BehaviourError("deterministic", f"{what} is another one when asked again")
    _check_leaks(run, before, names, first, rows, seed)
    return _seen(first, rows)


def _asked(run: Run, batch: Mapping[str, NDArray[Any]], names: tuple[str, ...], rows: int) -> dict[str, NDArray[Any]]:
    """Reward and components by what they are called; shape and dtype are right."""
    try:
        output = run(batch)
    except Exception as error:
        raise BehaviourError("raised", f"the program failed on a batch of {rows}: {error}") from error
    found = {"the reward": output.reward, **{f"the component {n!r}": c for n, c in zip(names, output.components)}}
    if len(output.components) != len(names):
        raise BehaviourError("shape", f"there are {len(output.components)} components, and {len(names)} names")
    for what, value in found.items():
        if not isinstance(value, np.ndarray) or value.shape != (rows,):
            shape = getattr(value, "shape", type(value).__name__)
            raise BehaviourError(
                "shape", f"{what} is {shape}, and should be ({rows},): one number for each environment"
            )
        if value.dtype != np.float32:
            raise BehaviourError("dtype", f"{what} is {value.dtype}, and should be float32")
    return found


def _check_leaks(
    run: Run,
    batch: dict[str, NDArray[Any]],
    names: tuple[str, ...],
    first: dict[str, NDArray[Any]],
    rows: int,
    seed: int,
) -> None:
    """In another order, in halves and one by one, every row gets what it got among all."""
    order = np.random.default_rng(seed).permutation(rows)
    single = order[: min(rows, 4)]
    picks = [order, order[: (rows + 1) // 2], *(single[i : i + 1] for i in range(len(single)))]
    for pick in picks:
        part = _asked(run, {name: np.ascontiguousarray(array[pick]) for name, array in batch.items()}, names, len(pick))
        for what, value in part.items():
            whole = first[what][pick]
            if not np.allclose(value, whole, rtol=TOLERANCE, atol=TOLERANCE):
                raise BehaviourError(
                    "leak",
                    f"{what} of an environment depends on the others in the batch ({float(value[0]):.4g} in a batch of "
                    f"{len(pick)}, {float(whole[0]):.4g} in one of {rows}): something is taken over axis 0",
                )


def _seen(found: dict[str, NDArray[Any]], rows: int) -> Behaviour:
    statistics = {what: (float(v.min()), float(v.max()), float(v.mean())) for what, v in found.items()}
    notes = tuple(
        f"{what} is {low:.4g} for all {rows} transitions" for what, (low, high, _) in statistics.items() if low == high
    )
    low, high, mean = statistics.pop("the reward")
    parts = {what.removeprefix("the component ")[1:-1]: s for what, s in statistics.items()}
    return Behaviour(rows, low, high, mean, parts, notes if rows > 1 else ())
