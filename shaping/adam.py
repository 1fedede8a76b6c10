"""``torch.optim.Adam`` without torch's compiler.

Torch imports its compiler (sympy and all, 1.4 s of a processor) when the first optimiser is made, to be able to say
that it must not be compiled. Nothing here compiles optimisers, so the same code is called without that detour.
"""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """Adam of Kingma and Ba ("Adam: a method for stochastic optimization", 2015): torch's, bit for bit."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take more parameters; see torch."""
        unwrap(Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; see torch."""
        unwrap(Optimizer.zero_grad)(self, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes; see torch."""
        state: dict[str, Any] = unwrap(Optimizer.state_dict)(self)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave, or another Adam's; see torch."""
        unwrap(Optimizer.load_state_dict)(self, state_dict)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the parameters; see torch."""
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            loss: float | None = unwrap(torch.optim.Adam.step)(self, closure)
            return loss
