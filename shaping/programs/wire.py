"""What crosses between the host and its jailed worker: raw numbers in shared memory of fixed size, and a byte to wake.

Memory: a header, room for text, then the inputs and the outputs of a batch one after the other. Both sides work the
places out from sizes that the host knows; nothing that a worker writes is ever taken as an address, a size that is
trusted, a pickle or code. What it says is read once into bytes, and checked.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .inputs import Input

MAGIC = b"CRN1"
HEADER = struct.Struct("<4sIIIII")  # magic, code, rows, length of the text, a count, layers
TEXT, DATA = 64, 1 << 17
MOST_TEXT = DATA - TEXT
ALIGN = 64
COMPILE, RUN = 1, 2
# What became of a request.
OK, REFUSED, FAILED, MEMORY, READY = 0, 1, 2, 3, 4
DTYPES = {"f": np.float32, "i": np.int64, "b": np.bool_}


class Header(NamedTuple):
    """The header's fields after the magic."""

    code: int
    rows: int
    length: int
    number: int
    layers: int


def write(memory: Any, header: Header, text: bytes | None = None) -> None:
    """Put a header, and a text, into the memory."""
    if text is not None:
        memory[TEXT : TEXT + len(text)] = text
        header = header._replace(length=len(text))
    memory[: HEADER.size] = HEADER.pack(MAGIC, *header)


def read(memory: Any) -> tuple[Header, bytes]:
    """Take header and text out of the memory, in one go.

    Raises:
        ValueError: It is no header of ours.
    """
    magic, *fields = HEADER.unpack(bytes(memory[: HEADER.size]))
    header = Header(*fields)
    if magic != MAGIC or header.length > MOST_TEXT:
        raise ValueError("what came back is not an answer")
    return header, bytes(memory[TEXT : TEXT + header.length])


def schema(inputs: Sequence[Input]) -> bytes:
    """The inputs as lines: name, kind, sizes."""
    return "\n".join(" ".join([i.name, i.kind, *map(str, i.shape)]) for i in inputs).encode("ascii")


def read_schema(text: bytes) -> list[Input]:
    """The inputs of some lines."""
    rows = [line.split(" ") for line in text.decode("ascii").split("\n") if line]
    return [Input(name, kind, tuple(map(int, shape))) for name, kind, *shape in rows]


def row_bytes(inputs: Sequence[Input], components: int) -> int:
    """How much of the memory one row takes."""
    return sum(i.bytes for i in inputs) + 4 * (1 + components)


def most_rows(size: int, inputs: Sequence[Input], components: int) -> int:
    """How many rows fit."""
    room = size - DATA - ALIGN * (len(inputs) + 2)
    return room // max(row_bytes(inputs, components), 1)


def views(
    memory: Any, inputs: Sequence[Input], components: int, rows: int
) -> tuple[list[NDArray[Any]], NDArray[Any], NDArray[Any]]:
    """The places of a batch of ``rows``: inputs ``[rows, ...]``, reward ``[rows]``, components ``[K, rows]``."""
    at = DATA
    places: list[NDArray[Any]] = []
    for i in inputs:
        places.append(np.ndarray((rows, *i.shape), DTYPES[i.kind], buffer=memory, offset=at))
        at += -(-rows * i.bytes // ALIGN) * ALIGN
    reward: NDArray[Any] = np.ndarray((rows,), np.float32, buffer=memory, offset=at)
    at += -(-rows * 4 // ALIGN) * ALIGN
    return places, reward, np.ndarray((components, rows), np.float32, buffer=memory, offset=at)
