"""NumPy's PCG64 generators, one for each environment, as one array of integers: checkpoints hold no pickles."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOW = (1 << 64) - 1


def pack(generators: Sequence[np.random.Generator], count: int) -> NDArray[np.int64]:
    """The states of generators as int64 ``[count, 6]``; zeros where there are no generators yet."""
    out = np.zeros((count, 6), np.uint64)
    for row, generator in zip(out, generators):
        state = generator.bit_generator.state
        if state["bit_generator"] != "PCG64":
            raise ValueError(f"only NumPy's PCG64 generators are stored, not {state['bit_generator']}")
        inner = state["state"]
        row[:] = [
            inner["state"] >> 64,
            inner["state"] & _LOW,
            inner["inc"] >> 64,
            inner["inc"] & _LOW,
            state["has_uint32"],
            state["uinteger"],
        ]
    return out.view(np.int64)


def unpack(rows: NDArray[np.int64]) -> list[np.random.Generator]:
    """Generators in the states that ``pack`` gave.

    Raises:
        ValueError: A row is no state of a PCG64.
    """
    out = []
    for row in np.ascontiguousarray(rows).view(np.uint64).tolist():
        if not row[3] & 1 or row[4] > 1 or row[5] >> 32:
            raise ValueError("the state of a random generator is damaged")
        bits = np.random.PCG64(0)
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": row[0] << 64 | row[1], "inc": row[2] << 64 | row[3]},
            "has_uint32": row[4],
            "uinteger": row[5],
        }
        out.append(np.random.Generator(bits))
    return out
