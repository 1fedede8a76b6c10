"""Potential-based shaping: hints that leave the best policy as it is.

Ng, Harada and Russell, "Policy invariance under reward transformations", 1999.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.spaces import tree_map
from .stretch import FactError, Stretch
from .term import Pure, Term, World


class Potential(Pure):
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

    telescopes = True

    def __init__(
        self, phi: Callable[[Any], Any] | nn.Module | str, gamma: float | None = None, on: str = "obs"
    ) -> None:
        if on not in ("obs", "facts"):
            raise ValueError(f"Potential(on={on!r}): phi is a function of 'obs' or of 'facts'")
        if not (callable(phi) or isinstance(phi, str)):
            raise TypeError(f"phi is a function, a module or the name of a fact, and not {type(phi).__name__}")
        if gamma is not None and not 0 <= gamma <= 1:
            raise ValueError(f"Potential(gamma={gamma}): a discount is between 0 and 1")
        self.phi, self.given_gamma, self.on = phi, gamma, on
        self.gamma: float | None = gamma
        if isinstance(phi, nn.Module):
            self.saved = ("phi",)

    def bind(self, world: World) -> None:
        """Take the agent's discount, or hold the given one against it."""
        if not world.episodic:
            raise ValueError(
                "a Potential stands in a channel that goes on through episode ends, where its sum would not "
                "telescope; leave it in the main channel"
            )
        if self.given_gamma is None and world.gamma is None:
            raise ValueError(
                "Potential needs the agent's discount, and nobody has said it here: write "
                "Potential(phi, gamma=0.99) with the gamma of the agent, or ShapedReward(env, ..., gamma=0.99)"
            )
        if self.given_gamma is not None and world.gamma is not None and self.given_gamma != world.gamma:
            warnings.warn(
                f"Potential(gamma={self.given_gamma}) in an agent with gamma={world.gamma}: the best policy may change"
                ". Leave gamma out, and the agent's is taken",
                stacklevel=2,
            )
        self.gamma = self.given_gamma if self.given_gamma is not None else world.gamma

    def value(self, x: Stretch, *, of_next: bool = False) -> Tensor:
        """``phi`` of each row's state, or of its next state: float32 ``[*]``."""
        if isinstance(self.phi, str):
            return x.fact(self.phi, of_next=of_next).float()
        if self.on == "facts":
            tree: Any = x.next_facts if of_next else x.facts
            if not tree:
                raise FactError("Potential(on='facts'): the environment gives no facts")
        else:
            tree = x.next_obs if of_next else x.obs
        lead = x.rows
        value = torch.as_tensor(self.phi(tree_map(lambda v: v.reshape(-1, *v.shape[len(lead) :]), tree)))
        if value.numel() != lead.numel() or value.dim() > 2:
            raise ValueError(
                f"the potential gave shape {tuple(value.shape)} for a batch of {lead.numel()}: it is a function of a "
                "batch [B, ...] that returns [B], so index from the right, as in obs[..., 0]"
            )
        return value.to(x.device).float().reshape(lead)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """``gamma * phi(s') * (1 - terminated) - phi(s)``."""
        after = torch.where(x.terminated, 0.0, self.value(x, of_next=True))
        return float(self.gamma or 0.0) * after - self.value(x)

    @classmethod
    def examples(cls) -> list[Term]:
        """A function of observations, and of facts."""

        def first(obs: Any) -> Tensor:
            leaf: Tensor = next(iter(obs.values())) if isinstance(obs, dict) else obs
            return leaf.reshape(len(leaf), -1).float().sum(-1)

        return [cls(first), cls("distance"), cls(lambda facts: facts["position"].float().sum(-1), 0.9, on="facts")]
