"""``Stretch``: experience as rewards see it, time first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self, cast

import torch
from torch import Tensor

from ..envs.spaces import Tree, tree_map

__all__ = ["FactError", "Stretch", "Tree"]


class FactError(ValueError):
    """A term asks for a fact that the environment does not give."""


@dataclass(eq=False)
class Stretch:
    """Transitions with any leading shape: ``[T, N]`` lived, ``[B]`` sampled, ``[L, E]`` whole episodes.

    Trees are tensors or dicts of tensors, as in ``BatchEnv``. Teams have the agent axis inside the row: their
    ``reward`` is ``[T, N, A]`` while ends, starts and ids are ``[T, N]``.
    """

    obs: Tree
    """The observation acted on, ``[*, ...]``."""
    action: Tree
    """The action as the environment executed it (clipped, unscaled), ``[*, ...]``."""
    reward: Tensor
    """The task's own reward, float32 ``[*]``."""
    next_obs: Tree
    """The true next observation: an ended episode's last, never the first of the next."""
    terminated: Tensor
    """Bool ``[*]``: the task ended here."""
    truncated: Tensor
    """Bool ``[*]``: the episode was cut here, and could have gone on."""
    start: Tensor
    """Bool ``[*]``: ``obs`` is the first of its episode."""
    valid: Tensor
    """Bool ``[*]``: the row is real. Junk in other rows changes nothing."""
    lane: Tensor
    """Int64 ``[*]``: which of the batch's environments."""
    episode: Tensor
    """Int64 ``[*]``: number of the episode in its lane."""
    t: Tensor
    """Int64 ``[*]``: step within the episode, from 0."""
    facts: dict[str, Tensor] = field(default_factory=dict)
    """Structured facts about the state of ``obs``, each ``[*, ...]``."""
    next_facts: dict[str, Tensor] = field(default_factory=dict)
    """Facts about the state of ``next_obs``."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What can only be known when lived: ``log_prob`` of the behaviour, ``value``, ``frame``."""

    @classmethod
    def make(
        cls,
        *,
        obs: Tree,
        next_obs: Tree,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor | None = None,
        start: Tensor | None = None,
        action: Tree | None = None,
        valid: Tensor | None = None,
        lane: Tensor | None = None,
        episode: Tensor | None = None,
        t: Tensor | None = None,
        facts: Mapping[str, Tensor] | None = None,
        next_facts: Mapping[str, Tensor] | None = None,
        extra: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Build a stretch, with the plainest value for what is left out: no cuts, all rows real, ids 0."""
        rows = terminated.shape
        no = torch.zeros(rows, dtype=torch.bool, device=terminated.device)
        zero = torch.zeros(rows, dtype=torch.int64, device=terminated.device)
        columns = torch.arange(rows[-1], device=terminated.device).expand(rows)
        return cls(
            obs=obs,
            action=zero if action is None else action,
            reward=reward,
            next_obs=next_obs,
            terminated=terminated,
            truncated=no if truncated is None else truncated,
            start=no if start is None else start,
            valid=~no if valid is None else valid,
            lane=columns if lane is None else lane,
            episode=zero if episode is None else episode,
            t=zero if t is None else t,
            facts=dict(facts or {}),
            next_facts=dict(next_facts or {}),
            extra=dict(extra or {}),
        )

    @property
    def shape(self) -> torch.Size:
        """Shape of a term's value on this stretch: the rows, and the agents of a team."""
        return self.reward.shape

    @property
    def rows(self) -> torch.Size:
        """Leading shape of every column."""
        return self.valid.shape

    @property
    def done(self) -> Tensor:
        """Bool ``[*]``: the episode ended here, either way."""
        return self.terminated | self.truncated

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.reward.device

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        """Apply ``f`` to every tensor."""
        return type(self)(**{c.name: tree_map(f, getattr(self, c.name)) for c in fields(self)})

    def __getitem__(self, index: Any) -> Self:
        return self.map(lambda v: v[index])

    def flat(self) -> Self:
        """Merge the leading axes into one: ``[T, N, ...]`` becomes ``[T * N, ...]``."""
        lead = len(self.rows)
        return self.map(lambda v: v.flatten(0, lead - 1)) if lead else self.map(lambda v: v[None])

    @classmethod
    def cat(cls, parts: Sequence["Stretch"], dim: int = 0) -> Self:
        """Join stretches along a leading axis (time, unless said otherwise)."""
        return cls(
            **{
                c.name: tree_map(lambda *vs: torch.cat(vs, dim), *(getattr(p, c.name) for p in parts))
                for c in fields(cls)
            }
        )

    def fact(self, name: str, *, of_next: bool = False) -> Tensor:
        """The fact ``name`` about ``obs``, or about ``next_obs``.

        Raises:
            FactError: The environment gives no such fact; the message lists those it gives.
        """
        known = self.next_facts if of_next else self.facts
        if name in known:
            return known[name]
        near = get_close_matches(name, known, n=1)
        raise FactError(
            f"the environment gives no fact {name!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; it gives {', '.join(sorted(known)) or 'none'}")
            + " (a bridged environment gives the facts that from_gymnasium(..., facts=...) reads)"
        )

    def to_tree(self) -> dict[str, Any]:
        """The columns as a state tree; ``from_tree`` is the inverse."""
        return {c.name: tree_map(lambda v: v.clone(), getattr(self, c.name)) for c in fields(self)}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Rebuild a stretch from ``to_tree``."""
        return cls(**{c.name: cast(Any, tree[c.name]) for c in fields(cls)})
