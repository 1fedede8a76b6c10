"""Potentials of time and of the action: dynamic shaping, look-ahead and look-back advice.

Devlin and Kudenko, "Dynamic potential-based reward shaping", 2012; Wiewiora, Cottrell and Elkan, "Principled methods
for advising reinforcement learning agents", 2003.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .potential import Potential, Telescopes, first
from .stretch import Stretch
from .term import Stream, Term, World


class TimedPotential(Potential):
    """``F = gamma * phi(s', t + 1) - phi(s, t)``, t being the step within the episode.

    Devlin and Kudenko (2012), equation 3; for a potential that changes while training goes on, see
    ``DynamicPotential``.

    Args:
        phi: A function of observations ``[B, ...]`` and steps int64 ``[B]`` that returns ``[B]``.
        gamma: As in ``Potential``.
        on: ``"obs"`` or ``"facts"``.
    """

    def __init__(self, phi: Callable[..., Any] | nn.Module, gamma: float | None = None, on: str = "obs") -> None:
        if isinstance(phi, str):
            raise TypeError("TimedPotential takes a function phi(obs, t); the name of a fact knows no time: Potential")
        super().__init__(phi, gamma, on)

    def value(self, x: Stretch, *, of_next: bool = False) -> Tensor:
        """``phi(s, t)``, or ``phi(s', t + 1)``: float32 ``[*]``."""
        return self.ask(x, of_next, x.t + 1 if of_next else x.t)

    @classmethod
    def examples(cls) -> list[Term]:
        """A potential that fades within the episode."""
        return [cls(lambda obs, t: first(obs) / (1 + t))]


class Remembered(Telescopes, Stream):
    """A potential that is asked once for each arrival, and taken back as it was then: the base of what may change.

    ``F_t = gamma * arrive_t * (1 - terminated) - kept``; then ``arrive_t`` is kept for the next step. However the
    potential changes in between, the sum telescopes (Devlin and Kudenko 2012, theorem 1): asking it again at departure
    would pay the change as a reward.
    """

    memory = ("kept",)

    def bind(self, world: World) -> None:
        """Begin with nothing kept."""
        super().bind(world)
        self.kept = torch.zeros(world.lanes, device=world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``[T, N]``."""
        begin = torch.where(x.start & x.valid, self.begin(x), 0.0)
        arrive = torch.where(x.valid, self.arrive(x), 0.0)
        kept = torch.empty_like(arrive)
        now = self.kept
        for t in range(len(arrive)):
            kept[t] = torch.where(x.start[t] & x.valid[t], begin[t], now)
            now = torch.where(x.valid[t], arrive[t], now)
        self.kept = now
        return float(self.gamma or 0.0) * torch.where(x.terminated, 0.0, arrive) - kept


class DynamicPotential(Remembered):
    """A potential that may change at any time while training goes on.

    ``F = gamma * phi_now(s') - phi_then(s)``, where ``phi_then`` is what it was on arrival in s (Devlin and Kudenko
    2012): the best policy stays whatever makes the potential change.

    Args:
        phi: As in ``Potential``; a torch module is part of the state.
        gamma: As in ``Potential``.
        on: ``"obs"`` or ``"facts"``.
    """

    def __init__(self, phi: Callable[..., Any] | nn.Module | str, gamma: float | None = None, on: str = "obs") -> None:
        super().__init__(gamma)
        self.potential = Potential(phi, gamma, on)
        self.phi = phi
        if isinstance(phi, nn.Module):
            self.saved = ("phi",)

    def begin(self, x: Stretch) -> Tensor:
        """``phi(s)`` as it is now."""
        return self.potential.value(x)

    def arrive(self, x: Stretch) -> Tensor:
        """``phi(s')`` as it is now."""
        return self.potential.value(x, of_next=True)

    @classmethod
    def examples(cls) -> list[Term]:
        """A function of observations, and a fact."""
        return [cls(first), cls("distance")]


class LookBack(Remembered):
    """Look-back advice: ``F_t = phi(s_t, a_t) - phi(s_(t-1), a_(t-1)) / gamma`` (Wiewiora et al. 2003, equation 4).

    It is the potential ``phi(s_(t-1), a_(t-1)) / gamma`` of what was done last, so the last step of an episode that
    terminates takes its own ``phi(s_t, a_t)`` back (the paper's tasks pay that in the absorbing state). The values of
    all actions shift by the same amount; a critic that sees only the present state takes the shift for noise.

    Args:
        phi: A function of observations ``[B, ...]`` and actions ``[B, ...]`` that returns ``[B]``.
        gamma: As in ``Potential``; above 0.
        on: ``"obs"`` or ``"facts"``.
    """

    def __init__(self, phi: Callable[..., Any] | nn.Module, gamma: float | None = None, on: str = "obs") -> None:
        super().__init__(gamma)
        self.potential = LookAhead(phi, gamma, on)
        self.phi = phi
        if isinstance(phi, nn.Module):
            self.saved = ("phi",)

    def bind(self, world: World) -> None:
        """Take the discount.

        Raises:
            ValueError: It is 0; the advice is divided by it.
        """
        super().bind(world)
        if not self.gamma:
            raise ValueError("LookBack divides by the discount, which is 0: take Potential or LookAhead")

    def begin(self, x: Stretch) -> Tensor:
        """0: nothing was done before."""
        return torch.zeros(x.shape, device=x.device)

    def arrive(self, x: Stretch) -> Tensor:
        """``phi(s, a) / gamma``."""
        return self.potential.value(x) / float(self.gamma or 1.0)

    @classmethod
    def examples(cls) -> list[Term]:
        """A function of observation and action."""
        return [cls(_first_action)]


class LookAhead(Potential):
    """Look-ahead advice: ``F = gamma * phi(s', a') - phi(s, a)`` (Wiewiora et al. 2003, equation 2).

    Q then settles at ``Q* - phi``, so the agent has to act by the best of ``Q + phi``: only a seat in an agent that
    does so gives ``next_action`` (``cairn.agents.tabular.QLearning(advice=...)`` and ``SARSA``), and others refuse it.

    Args:
        phi: A function of observations ``[B, ...]`` and actions ``[B, ...]`` that returns ``[B]``.
        gamma: As in ``Potential``.
        on: ``"obs"`` or ``"facts"``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"next_action"})

    def __init__(self, phi: Callable[..., Any] | nn.Module, gamma: float | None = None, on: str = "obs") -> None:
        if isinstance(phi, str):
            raise TypeError(f"{type(self).__name__} takes a function phi(obs, action), and not the name of a fact")
        super().__init__(phi, gamma, on)

    def value(self, x: Stretch, *, of_next: bool = False) -> Tensor:
        """``phi(s, a)``, or ``phi(s', a')``: float32 ``[*]``."""
        action = x.extra["next_action"] if of_next else x.action
        assert isinstance(action, Tensor)
        return self.ask(x, of_next, action)

    def table(self, states: int, actions: int) -> Tensor:
        """``phi`` of all numbered states and actions, float64 ``[S, A]``."""
        assert not isinstance(self.phi, str)
        state = torch.arange(states).repeat_interleave(actions)
        value = torch.as_tensor(self.phi(state, torch.arange(actions).repeat(states)))
        if value.numel() != states * actions:
            raise ValueError(
                f"the advice gave shape {tuple(value.shape)} for {states * actions} pairs of state and action: it is a "
                "function of obs [B] and action [B] that returns [B]"
            )
        return value.detach().double().reshape(states, actions)

    @classmethod
    def examples(cls) -> list[Term]:
        """A function of observation and action."""
        return [cls(_first_action)]


def _first_action(obs: Any, action: Tensor) -> Tensor:
    return first(obs) * (1 + action.reshape(len(action), -1).float().sum(-1))
