"""Potential-based shaping: hints that leave the best policy as it is.

Ng, Harada and Russell, "Policy invariance under reward transformations", 1999. Potentials that change with time or
with the action are in ``advice.py``, learned ones in ``value_potential.py``.
"""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..envs.spaces import tree_map
from .stretch import FactError, Stretch
from .term import Pure, Term, World


class Telescopes(Term):
    """What all potentials share: along an episode the discounted sum is fixed by its ends.

    It is ``-begin`` of the first row where the episode terminates, and ``gamma ** n * arrive - begin`` where it is cut
    after n steps, whatever the agent does in between; ``laws.check_potential`` tests it.

    Args:
        gamma: The agent's discount. Left out, the agent says it; in a wrapper, which has no agent to ask, it must be
            given.

    Raises:
        ValueError: (when bound) No discount is known, or the channel goes on through episode ends.
    """

    telescopes: ClassVar[bool] = True

    def __init__(self, gamma: float | None = None) -> None:
        if gamma is not None and not 0 <= gamma <= 1:
            raise ValueError(f"{type(self).__name__}(gamma={gamma}): a discount is between 0 and 1")
        self.given_gamma = gamma
        self.gamma: float | None = gamma

    def bind(self, world: World) -> None:
        """Take the agent's discount, or hold the given one against it."""
        name = type(self).__name__
        if not world.episodic:
            raise ValueError(
                f"a {name} stands in a channel that goes on through episode ends, where its sum would not "
                "telescope; leave it in the main channel"
            )
        if self.given_gamma is None and world.gamma is None:
            raise ValueError(
                f"{name} needs the agent's discount, and nobody has said it here: write "
                f"{name}(phi, gamma=0.99) with the gamma of the agent, or ShapedReward(env, ..., gamma=0.99)"
            )
        if self.given_gamma is not None and world.gamma is not None and self.given_gamma != world.gamma:
            warnings.warn(
                f"{name}(gamma={self.given_gamma}) in an agent with gamma={world.gamma}: the best policy may change"
                ". Leave gamma out, and the agent's is taken",
                stacklevel=2,
            )
        self.gamma = self.given_gamma if self.given_gamma is not None else world.gamma

    def begin(self, x: Stretch) -> Tensor:
        """The potential with which an episode that starts in these rows begins, float32 ``[*]``."""
        raise NotImplementedError

    def arrive(self, x: Stretch) -> Tensor:
        """The potential with which each row arrives where it leads, were it not the end, float32 ``[*]``."""
        raise NotImplementedError


class Potential(Telescopes, Pure):
    """``F(s, s') = gamma * phi(s') - phi(s)``, with ``phi(s')`` taken as 0 where the task has terminated.

    Along an episode that terminates the discounted sum is ``-phi(s_0)``, whatever the agent does; one that is only
    truncated keeps the true ``phi(s')``, since it could have gone on.

    Args:
        phi: A function (or a torch module) of a batch of observations ``[B, ...]``, a dict where the space is a Dict,
            that returns ``[B]``; with ``on="facts"``, of the dict of facts. Or the name of a fact.
        gamma: The agent's discount. Left out, the agent says it; in a wrapper, which has no agent to ask, it must be
            given.
        on: ``"obs"`` or ``"facts"``.

    Raises:
        ValueError: (when bound) No discount is known, or the channel goes on through episode ends.
    """

    def __init__(self, phi: Callable[..., Any] | nn.Module | str, gamma: float | None = None, on: str = "obs") -> None:
        if on not in ("obs", "facts"):
            raise ValueError(f"{type(self).__name__}(on={on!r}): phi is a function of 'obs' or of 'facts'")
        if not (callable(phi) or isinstance(phi, str)):
            raise TypeError(f"phi is a function, a module or the name of a fact, and not {type(phi).__name__}")
        super().__init__(gamma)
        self.phi, self.on = phi, on
        if isinstance(phi, nn.Module):
            self.saved = (*self.saved, "phi")

    def value(self, x: Stretch, *, of_next: bool = False) -> Tensor:
        """``phi`` of each row's state, or of its next state: float32 ``[*]``."""
        if isinstance(self.phi, str):
            return x.fact(self.phi, of_next=of_next).float()
        return self.ask(x, of_next)

    def ask(self, x: Stretch, of_next: bool, *more: Tensor) -> Tensor:
        """What the function says of each row, given further columns ``[*, ...]`` too."""
        if self.on == "facts":
            tree: Any = x.next_facts if of_next else x.facts
            if not tree:
                raise FactError(f"{type(self).__name__}(on='facts'): the environment gives no facts")
        else:
            tree = x.next_obs if of_next else x.obs
        lead = x.rows

        def flat(v: Tensor) -> Tensor:
            return v.reshape(-1, *v.shape[len(lead) :])

        assert not isinstance(self.phi, str)
        value = torch.as_tensor(self.phi(tree_map(flat, tree), *map(flat, more)))
        if value.numel() != lead.numel() or value.dim() > 2:
            raise ValueError(
                f"the potential gave shape {tuple(value.shape)} for a batch of {lead.numel()}: it is a function of a "
                "batch [B, ...] that returns [B], so index from the right, as in obs[..., 0]"
            )
        return value.to(x.device).float().reshape(lead)

    def begin(self, x: Stretch) -> Tensor:
        """``phi(s)``."""
        return self.value(x)

    def arrive(self, x: Stretch) -> Tensor:
        """``phi(s')``."""
        return self.value(x, of_next=True)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``gamma * phi(s') * (1 - terminated) - phi(s)``."""
        after = torch.where(x.terminated, 0.0, self.arrive(x))
        return float(self.gamma or 0.0) * after - self.begin(x)

    @classmethod
    def examples(cls) -> list[Term]:
        """A function of observations, and of facts."""
        return [cls(first), cls("distance"), cls(lambda facts: facts["position"].float().sum(-1), 0.9, on="facts")]


def first(obs: Any) -> Tensor:
    """An example's potential: the sum of an observation's first part, ``[B]``."""
    leaf: Tensor = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return leaf.reshape(len(leaf), -1).float().sum(-1)
