"""What a seat tells the terms in it: spaces, lanes, discount, seed, and the policy of now."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import torch
from torch import Tensor

from .stretch import Stretch


class Channel(NamedTuple):
    """A stream of reward with its own value head.

    ``gamma`` None is the agent's. A channel that is not ``episodic`` goes on through the ends of episodes: its
    returns are bootstrapped from the first state of the next one (RND, Burda et al. 2019, section 2.3).
    """

    name: str
    gamma: float | None = None
    episodic: bool = True


MAIN = Channel("main")


class Ask(Protocol):
    """The policy as it is now, for terms that compare it with the one that acted (AIRL)."""

    def log_prob(self, x: Stretch) -> Tensor:
        """Log-probability of ``x.action`` at ``x.obs``, ``[*]``."""
        ...

    def probs(self, x: Stretch) -> Tensor:
        """Probabilities of all discrete actions at ``x.obs``, ``[*, actions]``."""
        ...


@dataclass(frozen=True)
class World:
    """What ``bind`` tells a node about the seat it sits in."""

    observation_space: gym.Space[Any]
    """The single observation space, as batches have it (text as tokens)."""
    action_space: gym.Space[Any]
    """The single action space."""
    lanes: int = 1
    """N, how many environments run side by side."""
    agents: int = 1
    """A, of a team; 1 has no agent axis."""
    max_steps: int | None = None
    """Longest episode, where known."""
    gamma: float | None = None
    """The discount of the node's channel; None where nobody has said it (a wrapper)."""
    episodic: bool = True
    """Whether the node's channel stops at episode ends."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the stretches are."""
    seed: int = 0
    """The node's own, hashed from the seat's seed and the node's place in the expression."""
    gives: frozenset[str] = frozenset()
    """Names of the extras that the seat supplies (``log_prob``, ``value``, ``frame``)."""
    ask: Ask | None = None
    """The policy of now, where the seat has one."""
