"""RepExp: pay for states outside the ellipse of the last rollout, as a trained policy represents them.

Tuyls, Foster, Krishnamurthy and Ash, "Representation-based exploration for language models: from test-time to
post-training", 2025 (arXiv 2510.11686).
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.spaces import Tree, tree_leaves, tree_map, zeros
from .learned import Learned, States, positive
from .networks import PIECE, Whitening, distinct_rows, encoder
from .stretch import Stretch
from .term import Term, World, node_seed


class RepExp(Learned):
    """``h(s')^T C^-1 h(s')`` with ``C = ridge * I + sum of h h^T`` over the states of the last rollout.

    The representation h is the last hidden layer of a policy that was trained before, frozen: what it has learned to
    tell apart is what novelty is measured in. In the paper the policy is a language model and h the mean of its last
    hidden states over an answer; C is made anew for every batch, and h goes through a random projection drawn anew for
    every update. So it is here, but for C, which is that of the rollout before the one that is paid.

    Args:
        policy: A model of ``cairn.agents`` or Stable-Baselines3, its policy, a module or a function of a batch of
            observations ``[B, ...]`` that gives ``[B, F]``. A copy is taken, and saved with the run. None is a fixed
            random network: the control, without anybody's knowledge.
        normalise: Divide by the running root mean square of the bonus; False leaves the plain one.
        warmup: How many updates must have taken place before anything is paid: the first makes C, the second finds the
            scale.
        ridge: The paper's lambda.
        features: Width of the random projection; 512 in the paper. A representation that is not wider goes without one.
        hidden: Width of the random network, where that is it.

    Raises:
        ValueError: A setting is out of its range.
        TypeError: ``policy`` is none of these.
    """

    text_name = "rep_exp"
    saved = (*Learned.saved, "body", "whitening", "inverse", "projection")

    def __init__(
        self,
        policy: Any = None,
        normalise: bool = True,
        warmup: int = 2,
        ridge: float = 1.0,
        features: int = 64,
        hidden: int = 128,
    ) -> None:
        super().__init__(normalise, warmup)
        positive(self, ridge=ridge, features=features, hidden=hidden)
        self.policy = None if policy is None else _body(policy)
        self.ridge, self.features, self.hidden = float(ridge), int(features), int(hidden)
        self.body: nn.Module | None = None
        self.whitening: Whitening | None = None
        self.wide = 0  # F
        self.projection = torch.zeros(1, 1)
        self.inverse = torch.zeros(1, 1)  # C^-1, of what is projected

    def bind(self, world: World) -> None:
        """Take the representation; C is a sphere until the first update.

        Raises:
            ValueError: ``policy`` does not give rows of numbers for these observations.
        """
        super().bind(world)
        self.whitening = None
        if self.policy is None:
            self.whitening = Whitening(world.observation_space, world.device)
            generator = torch.Generator().manual_seed(world.seed)
            self.body = encoder(self.whitening.parts, self.hidden, self.hidden, generator)
        else:
            self.body = self.policy
        self.body = self.body.to(world.device).requires_grad_(False).eval()
        trial = self.body_of(zeros(world.observation_space, (2,), world.device))
        if not (isinstance(trial, Tensor) and trial.dim() > 1 and len(trial) == 2):
            what = f"shape {tuple(trial.shape)}" if isinstance(trial, Tensor) else f"a {type(trial).__name__}"
            raise ValueError(
                f"RepExp's policy gave {what} for 2 observations: it represents a batch [B, ...] as numbers [B, F]"
            )
        self.wide = trial[0].numel()
        small = min(self.wide, self.features)
        self.projection = torch.eye(self.wide, device=world.device)[:, :small]
        self.inverse = torch.eye(small, device=world.device) / self.ridge

    def body_of(self, obs: Tree) -> Any:
        """What the representation gives for a batch."""
        assert self.body is not None
        with torch.no_grad():
            return self.body(obs if self.whitening is None else self.whitening(obs))

    def represent(self, *obs: Tree) -> tuple[Tensor, Tensor]:
        """The representation of each different row of batches, ``[U, F]``, and which one is each row's ``[B]``."""
        chosen, of = distinct_rows(*obs)
        rows = len(tree_leaves(chosen)[0])
        pieces = (tree_map(lambda v, k=k: v[k : k + PIECE], chosen) for k in range(0, max(rows, 1), PIECE))
        return torch.cat([self.body_of(piece) for piece in pieces]).flatten(1).float(), of

    def raw(self, x: Stretch) -> Tensor:
        """The bonus of flat rows ``[B]``."""
        h, of = self.represent(x.next_obs)
        h = h @ self.projection
        return ((h @ self.inverse) * h).sum(1)[of]

    def measure(self, raw: Tensor, valid: Tensor) -> None:
        """Take the bonus into the scale, once there is a C."""
        if self.updates:
            super().measure(raw, valid)

    def learn(self, x: Stretch) -> dict[str, Tensor]:
        """Draw a projection, and make C anew of the states of ``x``."""
        with torch.no_grad():
            seen = States(x)
            if self.whitening is not None and self.whitening.learns:
                self.whitening.learn(seen.all())
            h, of = self.represent(*seen.batches())
            self.projection = self.draw().to(h)
            h = h @ self.projection
            count = torch.bincount(of, minlength=len(h)).to(h)
            matrix = (h * count[:, None]).T @ h + self.ridge * torch.eye(h.shape[1], device=h.device)
            self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        return {}

    def draw(self) -> Tensor:
        """A sparse random projection ``[F, features]``, by this update's own generator; or none, where F is small.

        One number in sqrt(F) is not 0 (Li, Hastie and Church, "Very sparse random projections", 2006).
        """
        if self.wide <= self.features:
            return torch.eye(self.wide)
        generator = torch.Generator().manual_seed(node_seed(self.seed, str(self.updates)))
        sparse = self.wide**0.5
        drawn = torch.rand(self.wide, self.features, generator=generator) * 2 * sparse
        signs: Tensor = (drawn < 1).float() - (drawn > 2 * sparse - 1).float()
        out: Tensor = signs * (sparse / self.features) ** 0.5
        return out

    @classmethod
    def examples(cls) -> list[Term]:
        """By a random network and by a function, paid from the first row on."""

        def numbers(obs: Any) -> Tensor:
            return torch.cat([leaf.reshape(len(leaf), -1).float() for leaf in tree_leaves(obs)], 1)

        return [cls(warmup=0), cls(numbers, normalise=False, warmup=0, features=4)]


class _LastHidden(nn.Module):
    """The last hidden layer of an actor-critic policy's actor."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tree) -> Tensor:
        features = self.policy.extract_features(obs)
        hidden: Tensor = self.policy.mlp_extractor.forward_actor(
            features[0] if isinstance(features, tuple) else features
        )
        return hidden


class _Function(nn.Module):
    def __init__(self, f: Callable[[Tree], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, obs: Tree) -> Tensor:
        out: Tensor = self.f(obs)
        return out


def _body(policy: Any) -> nn.Module:
    """A frozen copy of what represents observations."""
    policy = getattr(policy, "policy", policy)  # a model has one
    if hasattr(policy, "extract_features") and hasattr(policy, "mlp_extractor"):
        return _LastHidden(deepcopy(policy))
    if isinstance(policy, nn.Module):
        return deepcopy(policy)
    if callable(policy):
        return _Function(policy)
    raise TypeError(
        f"RepExp(policy={policy!r}): a trained model or its policy, a module, or a function of a batch of observations"
    )
