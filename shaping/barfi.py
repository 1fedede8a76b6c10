"""BARFI: hints that are blended with the task's reward so that the agent ends up with the task's best policy.

Gupta, Chandak, Jordan, Thomas and da Silva, "Behavior Alignment via Reward Function Optimization", NeurIPS 2023. The
term is here, with the implicit gradient by which it learns; the loop that learns it is ``cairn.agents.barfi``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from .networks import Encoder, mlp, parts_of, plain
from .ops import as_term
from .stretch import Stretch
from .term import Addend, Pure, Term, World

BLEND = (0.0, 1.0, 1.0)  # phi_1, phi_2 and phi_3 at first: the plain sum


class Aligned(Pure):
    """``r_phi = phi_1(s, a) + phi_2(s, a) * r_task + phi_3(s, a) * r_aux``, each phi learned, from 0, 1 and 1.

    By itself it is the plain sum; ``cairn.agents.barfi.BARFI`` learns phi, and a discount with it. phi is a table
    where observations and actions are numbered, and a network's otherwise (of the state alone where actions are
    continuous).

    Args:
        auxiliary: The hint: a reward expression of pure terms, or a function of a ``Stretch``.
        hidden: Width of the network.
    """

    saved = ("module",)

    def __init__(self, auxiliary: Addend, hidden: int = 64) -> None:
        term = as_term(auxiliary)
        if term.kind != "pure":
            raise ValueError(f"{term!r} remembers what was lived; the hint of Aligned is scored again, so it is pure")
        self.inputs = (term,)
        self.hidden = int(hidden)
        self.runs = 1
        self.module: nn.Module | None = None

    def bind(self, world: World) -> None:
        """Build phi for the spaces, one for each run where the learner has set ``runs``."""
        space, actions = world.observation_space, world.action_space
        if isinstance(space, spaces.Discrete) and isinstance(actions, spaces.Discrete):
            self.module = _Tables(self.runs, world.lanes // self.runs, int(space.n), int(actions.n))
        elif self.runs == 1:
            generator = torch.Generator().manual_seed(world.seed)
            self.module = _Network(space, actions, self.hidden, generator)
        else:
            raise ValueError(f"several runs at once are for tables; {space} and {actions} need a network each")
        self.module.to(world.device)

    @property
    def parameters(self) -> list[Tensor]:
        """What is learned."""
        assert self.module is not None
        return list(self.module.parameters())

    def blend(self, x: Stretch) -> Tensor:
        """``phi_1, phi_2, phi_3`` of each row, ``[*, 3]``."""
        assert self.module is not None
        flat = x.flat()
        out = torch.zeros(len(flat.valid), 3, device=x.device)
        if bool(flat.valid.any()):
            rows = flat if bool(flat.valid.all()) else flat[flat.valid]
            found: Tensor = self.module(rows)
            out = out.masked_scatter(flat.valid[:, None], found)
        return out.reshape(*x.rows, 3)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``r_phi``; differentiable in phi."""
        one, task, aux = self.blend(x).unbind(-1)
        return one + torch.where(x.valid, task * x.reward + aux * inputs[0], 0.0)

    @classmethod
    def examples(cls) -> list[Term]:
        """With a hint that depends on the row."""
        return [cls(lambda x: x.fact("distance", of_next=True), hidden=8)]


class _Tables(nn.Module):
    """phi for each run, state and action."""

    def __init__(self, runs: int, lanes: int, states: int, actions: int) -> None:
        super().__init__()
        self.lanes = max(lanes, 1)
        table = torch.tensor(BLEND).repeat(runs, states, actions, 1)
        self.table = nn.Parameter(table)

    def forward(self, x: Stretch) -> Tensor:
        """``[B, 3]``."""
        assert isinstance(x.obs, Tensor) and isinstance(x.action, Tensor)
        return self.table[torch.div(x.lane, self.lanes, rounding_mode="floor"), x.obs, x.action]


class _Network(nn.Module):
    """phi of any observation, for each of a numbered action."""

    def __init__(self, space: gym.Space[Any], actions: gym.Space[Any], hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.parts = parts_of(space)
        self.first = int(actions.start) if isinstance(actions, spaces.Discrete) else 0
        self.actions = int(actions.n) if isinstance(actions, spaces.Discrete) else 0
        self.body = Encoder(self.parts, hidden, generator)
        self.head = mlp([hidden, hidden, 3 * max(self.actions, 1)], generator)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor(BLEND).repeat(max(self.actions, 1)))

    def forward(self, x: Stretch) -> Tensor:
        """``[B, 3]``."""
        out: Tensor = self.head(self.body(plain(self.parts, x.obs))).reshape(len(x.valid), -1, 3)
        if not self.actions:
            return out[:, 0]
        assert isinstance(x.action, Tensor)
        return out[torch.arange(len(out), device=out.device), x.action.long() - self.first]


class Implicit(NamedTuple):
    """What ``implicit_gradient`` gives."""

    gradients: list[Tensor]
    """dJ / d meta, one for each."""
    growth: float
    """The last term of the Neumann series over the first, in norm; above 1 it does not converge."""


def implicit_gradient(
    inner: Tensor,
    outer: Sequence[Tensor],
    theta: Sequence[Tensor],
    meta: Sequence[Tensor],
    *,
    terms: int = 5,
    rate: float = 0.1,
) -> Implicit:
    """The gradient of J(theta*(meta)), theta* being where the gradient of ``inner`` in theta is 0.

    By the implicit function theorem ``dJ/dmeta = -dJ/dtheta H^-1 A``, H and A being the derivatives of that gradient in
    theta and in meta; and ``-H^-1 = rate * sum_i (1 + rate H)^i`` where H is negative definite and the rate below
    2 / |H|. ``terms`` says after which i the sum is cut off. Only products with H are formed, so that time and memory
    are linear in the parameters.

    Args:
        inner: The objective of the inner learner, a scalar whose graph reaches theta and meta.
        outer: dJ / dtheta, as theta.
        theta: What the inner learner learns.
        meta: What is to be learned.
        terms: n, at least 0.
        rate: eta.

    Raises:
        ValueError: The series left the numbers: H is not negative definite, or the rate is too large.
    """
    theta, meta = list(theta), list(meta)
    slope = torch.autograd.grad(inner, theta, create_graph=True)
    step = [g.detach().clone() for g in outer]
    total = [g.clone() for g in step]
    first = _norm(step)
    for _ in range(terms):
        bent = torch.autograd.grad(slope, theta, step, retain_graph=True, allow_unused=True)
        step = [v if h is None else v + rate * h for v, h in zip(step, bent)]
        total = [t + v for t, v in zip(total, step)]
    last = _norm(step)
    if not torch.isfinite(last):
        raise ValueError(
            "the Neumann series does not converge: the inner objective is not concave here, or the rate is too large. "
            "Raise the learner's weight decay, or lower the rate"
        )
    found = torch.autograd.grad(slope, meta, [rate * t for t in total], allow_unused=True)
    gradients = [torch.zeros_like(m) if g is None else g for m, g in zip(meta, found)]
    return Implicit(gradients, float(last / first.clamp(min=1e-30)))


def _norm(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.square().sum() for p in parts]).sum().sqrt()


__all__ = ["Aligned", "Implicit", "implicit_gradient"]
