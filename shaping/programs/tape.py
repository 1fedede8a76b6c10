"""A compiled program: instructions in a row, bound to a back end's functions and run on batches.

Sizes are known before anything is allocated, so that a batch is worked on in pieces of as many rows as fit a budget;
rows do not see each other, and the pieces are the whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .builder import Instruction
from .values import Array, Number

# Numbers that all arrays of a piece may hold together: 64 MB of float32, and small enough for the caches' sake.
PIECE = 1 << 24
Registers = list[Any]
Step = tuple[Callable[[Registers], Any], int]


class Output(NamedTuple):
    """What a program gave: the reward, float32 ``[B]``, and each component, in order: arrays or one ``[K, B]``."""

    reward: Any
    components: Any


@dataclass(frozen=True)
class Tape:
    """A program that can be run.

    Attributes:
        inputs: Names and arrays of the inputs that it reads, in order.
        constants: Arrays that are the same in all rows, with their numbers.
        instructions: In order; slots are reused once their array is not needed any more.
        reward: The slot of the reward.
        components: Names and slots of the components.
        registers: How many slots there are.
        live: Numbers of one row that are held at the same time, at most.
        work: Numbers computed for one row.
    """

    inputs: tuple[tuple[str, Array], ...]
    constants: tuple[tuple[int, Array, tuple[float, ...]], ...]
    instructions: tuple[tuple[Instruction, tuple[int, ...], int], ...]
    reward: int
    components: tuple[tuple[str, int], ...]
    registers: int
    live: int
    work: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components."""
        return tuple(name for name, _ in self.components)

    @property
    def rows(self) -> int:
        """Rows that are worked on at a time."""
        return max(PIECE // max(self.live, 1), 1)

    def numpy(self, inputs: Mapping[str, Any]) -> Output:
        """Run on NumPy arrays ``[B, ...]`` in the dtypes of the inputs' declarations."""
        with np.errstate(all="ignore"):
            return self._run(inputs, self._numpy, lambda parts: np.concatenate(parts))

    def torch(self, inputs: Mapping[str, Any]) -> Output:
        """Run on tensors ``[B, ...]``, on their device; gradients flow."""
        import torch

        device = next((inputs[name].device for name, _ in self.inputs), torch.device("cpu"))
        if device not in self._torch:
            from . import kernels_torch

            self._torch[device] = self._bind(kernels_torch, device)
        return self._run(inputs, self._torch[device], lambda parts: torch.cat(list(parts)))

    @cached_property
    def _torch(self) -> dict[Any, tuple[Registers, list[Step]]]:
        return {}

    @cached_property
    def _numpy(self) -> tuple[Registers, list[Step]]:
        from . import kernels_numpy

        with np.errstate(all="ignore"):
            return self._bind(kernels_numpy, None)

    def _run(
        self, inputs: Mapping[str, Any], bound: tuple[Registers, list[Step]], join: Callable[[Sequence[Any]], Any]
    ) -> Output:
        arrays = [inputs[name] for name, _ in self.inputs]
        rows = len(arrays[0])
        if rows <= self.rows:
            return self._piece(arrays, bound)
        pieces = [self._piece([a[i : i + self.rows] for a in arrays], bound) for i in range(0, rows, self.rows)]
        parts = zip(*(p.components for p in pieces))
        return Output(join([p.reward for p in pieces]), tuple(join(list(part)) for part in parts))

    def _piece(self, arrays: Sequence[Any], bound: tuple[Registers, list[Step]]) -> Output:
        registers = bound[0].copy()
        registers[: len(arrays)] = arrays
        for step, out in bound[1]:
            registers[out] = step(registers)
        return Output(registers[self.reward], tuple(registers[slot] for _, slot in self.components))

    def _bind(self, kernels: Any, device: Any) -> tuple[Registers, list[Step]]:
        """Registers with the constants in them, and the steps that are left: what is the same in all rows is done."""
        registers: Registers = [None] * self.registers
        for slot, array, numbers in self.constants:
            registers[slot] = kernels.constant(array.dtype, array.shape, numbers, device)
        steps: list[Step] = []
        for instruction, slots, out in self.instructions:
            step = _closure(instruction, slots, kernels)
            if instruction.out.batched:
                steps.append((step, out))
            else:
                value = step(registers)
                registers[out] = np.asarray(value) if kernels.__name__.endswith("numpy") else value
        return registers, steps


def _closure(instruction: Instruction, slots: tuple[int, ...], kernels: Any) -> Callable[[Registers], Any]:
    """One instruction as a function of the registers; ``slots`` are -1 for numbers."""
    op, args, attributes, _ = instruction
    f = kernels.MADE[op](*attributes) if op in kernels.MADE else kernels.PLAIN[op]
    values = [a.value if isinstance(a, Number) else None for a in args]
    if len(args) == 1:
        (a,) = slots
        return lambda r: f(r[a])
    if len(args) == 2:
        a, b = slots
        if b < 0:
            number = values[1]
            return lambda r: f(r[a], number)
        if a < 0:
            number = values[0]
            flip = kernels.flipped(op, number) if hasattr(kernels, "flipped") else None
            return (lambda r: flip(r[b])) if flip is not None else (lambda r: f(number, r[b]))
        return lambda r: f(r[a], r[b])
    if len(args) == 3:
        a, b, c = slots
        return lambda r: f(r[a], r[b], r[c])
    return lambda r: f(*[r[i] for i in slots])


def make_tape(
    inputs: Sequence[tuple[str, Array]],
    constants: Sequence[tuple[Array, tuple[float, ...]]],
    instructions: Sequence[Instruction],
    reward: Array,
    components: Sequence[tuple[str, Array]],
    work: int,
) -> Tape:
    """Leave out what nobody needs, and give the arrays registers: an array's place is free after its last use."""
    results = {reward, *(array for _, array in components)}
    needed = set(results)
    kept: list[Instruction] = []
    for instruction in reversed(instructions):
        if instruction.out in needed:
            kept.append(instruction)
            needed |= {a for a in instruction.args if isinstance(a, Array)}
    kept.reverse()
    read = [(name, array) for name, array in inputs if array in needed] or list(inputs[:1])
    last: dict[Array, int] = {}
    for i, instruction in enumerate(kept):
        last |= {a: i for a in instruction.args if isinstance(a, Array)}
    place: dict[Array, int] = {}
    for array in (*(a for _, a in read), *(a for a, _ in constants if a in needed)):
        place[array] = len(place)
    count, free = len(place), list[int]()
    live = most = sum(array.elements for array in place)
    lasting = results | set(place) | {i.out for i in kept if not i.out.batched}
    steps = []
    for i, instruction in enumerate(kept):
        slots = tuple(place[a] if isinstance(a, Array) else -1 for a in instruction.args)
        live += instruction.out.elements
        most = max(most, live)
        if free and instruction.out not in lasting:
            place[instruction.out] = free.pop()
        else:
            place[instruction.out], count = count, count + 1
        steps.append((instruction, slots, place[instruction.out]))
        for array in {a for a in instruction.args if isinstance(a, Array)}:
            if last[array] == i and array not in lasting:
                free.append(place[array])
                live -= array.elements
    return Tape(
        tuple(read), tuple((place[a], a, numbers) for a, numbers in constants if a in place), tuple(steps),
        place[reward], tuple((name, place[array]) for name, array in components), count, most, work,
    )  # fmt: skip
