"""The jailed side: a small process that compiles a program and runs it on batches in shared memory, with NumPy alone.

It is started by ``host.py`` as ``python -I -B -c ... read write memory size``, loads what it needs, locks itself in,
and only then reads the first word that a model wrote.
"""

import mmap
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import jail, wire
from .inputs import Input
from .limits import ProgramError, plain
from .lower import compile_program
from .tape import Tape

_WARM = (
    "def f(x):\n    y = exp(x) + sum(x[:, None] * 2.0, dim=-1)\n"
    "    return where(x > 0, y, x), {'a': norm(x[:, None], dim=-1)}"
)


class Worker:
    """One program at a time, on one piece of shared memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory
        self.tape: Tape | None = None
        self.inputs: list[Input] = []
        self.views: tuple[int, tuple[list[NDArray[Any]], NDArray[Any], NDArray[Any]]] | None = None

    def answer(self) -> None:
        """Do what the memory asks for, and leave the answer in it."""
        try:
            header, text = wire.read(self.memory)
            if header.code == wire.COMPILE:
                self.compile(header, text)
            elif header.code == wire.RUN and self.tape is not None:
                self.run(header.rows)
            else:
                self.say(wire.FAILED, b"no such request")
        except ProgramError as error:
            self.say(wire.REFUSED, f"{error.layer}\n{error.line}\n{error.column}\n{error}".encode()[:4000])
        except MemoryError:
            self.say(wire.MEMORY, b"")
        except Exception as error:  # whatever it is, the host is told, and decides
            self.say(wire.FAILED, plain(f"{type(error).__name__}: {error}", 300).encode())

    def say(self, code: int, text: bytes, rows: int = 0, number: int = 0, layers: int = 0) -> None:
        """Leave an answer."""
        wire.write(self.memory, wire.Header(code, rows, 0, number, layers), text)

    def compile(self, header: wire.Header, text: bytes) -> None:
        """Compile; answer with the inputs that are read, and the components' names."""
        self.tape = self.views = None
        declared = wire.read_schema(text[: header.number])
        tape = compile_program(text[header.number :].decode("utf-8", "surrogatepass"), declared)
        by_name = {i.name: i for i in declared}
        self.inputs = [by_name[name] for name, _ in tape.inputs]
        used = ",".join(i.name for i in self.inputs)
        self.tape = tape
        self.say(wire.OK, "\n".join([used, *tape.names]).encode(), rows=tape.rows, number=len(tape.names))

    def run(self, rows: int) -> None:
        """Run on the batch that lies in the memory."""
        assert self.tape is not None
        if self.views is None or self.views[0] != rows:
            self.views = (rows, wire.views(self.memory, self.inputs, len(self.tape.names), rows))
        inputs, reward, components = self.views[1]
        out = self.tape.numpy({i.name: view for i, view in zip(self.inputs, inputs)})
        reward[:] = out.reward
        for row, part in zip(components, out.components):
            row[:] = part
        self.memory[: wire.HEADER.size] = _DONE


_DONE = wire.HEADER.pack(wire.MAGIC, wire.OK, 0, 0, 0, 0)


def main() -> None:
    """Lock in and serve, until the host is gone."""
    reads, writes, shared, size, allowance, seconds = map(int, sys.argv[1:7])
    memory = mmap.mmap(shared, size)
    worker = Worker(memory)
    # Everything that NumPy and the compiler load on first use is loaded now: afterwards there are no files.
    warm = compile_program(_WARM, [Input("x", "f")])
    warm.numpy({"x": np.zeros(4, np.float32)})
    try:
        compile_program("def f(x):\n    return nothing", [Input("x", "f")])
    except ProgramError:
        pass
    held = jail.enter([reads], [writes], allowance, seconds)
    worker.say(wire.READY, b"", layers=jail.report(held))
    os.write(writes, b".")
    while os.read(reads, 1):
        worker.answer()
        os.write(writes, b".")
    os._exit(0)
