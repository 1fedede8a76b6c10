"""Potential shaping by the values of a machine's own states."""

from typing import Any

import torch
from torch import Tensor

from .machines import Label, RewardMachine
from .potential import Potential
from .stretch import FactError
from .term import Term, World


class MachinePotential(Potential):
    """``gamma * phi(u') - phi(u)`` with phi = +V, the values of the machine's states by value iteration.

    Toro Icarte et al. 2022, section 4.3. Progress towards reward is paid when it is made. The authors' code takes
    phi = -V instead, which also leaves the best policy alone, but pays for standing still: with V = .9 and gamma = .9,
    a self-loop earns ``-.9 * .9 + .9 = +.09`` a step. ``sign=-1`` is there for comparison with their figures.

    It reads the machine's state from a fact, which ``MachineEnv`` and ``CounterfactualMachine`` give.

    Args:
        machine: The machine.
        gamma: The agent's discount, as in ``Potential``.
        planning: The discount of value iteration; the agent's, by default.
        sign: +1, or -1 as in the reference.
        fact: Where the state is.
    """

    def __init__(
        self,
        machine: RewardMachine,
        gamma: float | None = None,
        planning: float | None = None,
        sign: int = 1,
        fact: str = "machine",
    ) -> None:
        if sign not in (1, -1):
            raise ValueError(f"MachinePotential(sign={sign}): 1, or -1 for the reference code's")
        super().__init__(self._read, gamma, on="facts")
        self.machine, self.planning, self.sign, self.fact = machine, planning, sign, fact
        self.table = torch.zeros(len(machine))

    def bind(self, world: World) -> None:
        """Take the discount, and solve the machine."""
        super().bind(world)
        planning = float(self.gamma or 0.0) if self.planning is None else self.planning
        self.table = (self.sign * self.machine.values(planning)).float().to(world.device)

    def _read(self, facts: dict[str, Any]) -> Tensor:
        if self.fact not in facts:
            raise FactError(f"MachinePotential reads the fact {self.fact!r}: wrap the environment in MachineEnv")
        return self.table[facts[self.fact].long().clamp(0, len(self.table) - 1)]

    @classmethod
    def examples(cls) -> list[Term]:
        """A machine of three states."""
        labels: dict[str, Label] = {"a": "success"}
        edges = [("begin", "a", "half", 0.5), ("half", "a", "end", 1.0)]
        return [cls(RewardMachine(edges, labels, final=["end"]), fact="carrying")]
