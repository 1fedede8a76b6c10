"""What this machine gives to programs that a model wrote, in words: ``print(sandbox.describe())``."""

from dataclasses import dataclass
from functools import cache

from . import jail, kernel
from .host import KERNEL, Jail, JailError

__all__ = ["Sandbox", "describe"]


@dataclass(frozen=True)
class Sandbox:
    """The layers between a reward program and the machine.

    Attributes:
        layers: Each layer's name and whether it holds here, as tried in a worker just started.
        reason: Why there is no worker at all, where there is none.
        landlock: The kernel's Landlock version, 0 without.
        machine: The machine whose system calls are known; None elsewhere.
    """

    layers: dict[str, bool]
    reason: str
    landlock: int
    machine: str | None

    @property
    def kernel(self) -> bool:
        """Whether ``require="kernel"`` is met."""
        return all(self.layers[name] for name in KERNEL)

    def __str__(self) -> str:
        lines = ["reward programs: no known escape, and these layers:"]
        lines.append("  yes  language      a closed language with its own compiler: no module, attribute or file in it")
        for name, holds in self.layers.items():
            lines.append(f"  {'yes' if holds else 'NO '}  {name:<12}  {jail.LAYERS[name]}")
        lines.append(f"  (Landlock version {self.landlock}, system calls of {self.machine or 'an unknown machine'})")
        if self.reason:
            lines.append(f"  no worker process: {self.reason}")
        lines.append(f'require="kernel" is {"met" if self.kernel else "not met"} on this machine')
        return "\n".join(lines)


@cache
def describe() -> Sandbox:
    """Start a worker, let it lock itself in and try what is forbidden, and tell which layers hold."""
    worker, reason = Jail(size=1 << 20), ""
    held: frozenset[str] = frozenset()
    try:
        worker.start()
        held = worker.layers
    except JailError as error:
        reason = str(error)
    finally:
        worker.stop()
    return Sandbox({name: name in held for name in jail.LAYERS}, reason, kernel.landlock_version(), kernel.machine())
