"""Where a program runs: in this process on tensors, or in a jailed worker; one face for both.

Workers are shared by programs of one text (copies of a term, an evaluation's), and the last few are kept warm.
"""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from .host import Jail, JailError
from .inputs import Input
from .lower import compile_program

_KEPT = 2
_workers: "OrderedDict[tuple[Any, ...], Jailed]" = OrderedDict()
_lock = threading.Lock()


class Runner(Protocol):
    """A compiled program."""

    names: tuple[str, ...]
    reads: tuple[str, ...]
    outcomes: Counter[str]

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """From inputs ``[B, ...]`` to the reward ``[B]`` and the components ``[K, B]``, on the inputs' device."""
        ...


class InProcess:
    """On the tensors themselves, on any device; gradients flow. The language alone stands around the program."""

    def __init__(self, text: str, inputs: tuple[Input, ...]) -> None:
        self.tape = compile_program(text, inputs)
        self.names = self.tape.names
        self.reads = tuple(name for name, _ in self.tape.inputs)
        self.outcomes: Counter[str] = Counter()

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As ``Runner`` says."""
        out = self.tape.torch(batch)
        self.outcomes["ok"] += 1
        parts = torch.stack(out.components) if out.components else out.reward.new_zeros(0, len(out.reward))
        return out.reward, parts


class Jailed:
    """In a jailed worker, which is started again once where it hung or died: a machine may just be busy."""

    def __init__(self, text: str, inputs: tuple[Input, ...], timeout: float, require: str) -> None:
        self.jail = Jail(timeout=timeout, require=require)
        self.jail.compile(text, inputs)
        self.names = self.jail.names
        self.reads = tuple(i.name for i in self.jail.inputs)
        self.outcomes = self.jail.outcomes
        self._busy = threading.Lock()

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As ``Runner`` says.

        Raises:
            JailError: It failed, or hung or died twice.
        """
        arrays = {name: batch[name].detach().cpu().numpy() for name in self.reads}
        with self._busy:
            try:
                out = self.jail.run(arrays)
            except JailError as error:
                if error.outcome not in ("hung", "died"):
                    raise
                out = self.jail.run(arrays)
        device = batch[self.reads[0]].device
        return torch.from_numpy(out.reward).to(device), torch.from_numpy(out.components).to(device)


def jailed(text: str, inputs: tuple[Input, ...], timeout: float, require: str) -> Jailed:
    """The worker of a program; the one that there is already, where it is of this text and these inputs."""
    key = (os.getpid(), text, inputs, timeout, require)
    with _lock:
        if key in _workers:
            _workers.move_to_end(key)
            return _workers[key]
    made = Jailed(text, inputs, timeout, require)
    with _lock:
        _workers[key] = made
        while len(_workers) > _KEPT:
            # Others may still use it: the worker ends with the last who does.
            _workers.popitem(last=False)
    return made
