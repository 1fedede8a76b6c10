"""The archive in one network: the actor of DCG- and DCRL-MAP-Elites, told which outcome is wanted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..agents.config import ConfigError
from ..runs import CheckpointError, Run
from .dcrl import folded
from .grid import Grid
from .policies import MLP
from .rollout import Evaluated
from .running import ElitePolicy, load_grid, policy_of


class ConditionedPolicy:
    """One network for all outcomes: it reads the wanted one after the observation.

    Source: Faldor et al., "MAP-Elites with Descriptor-Conditioned Gradients and Archive Distillation into a Single
    Policy" (GECCO 2023).

    Args:
        policy: The form of policies that are told nothing.
        actor: The network's weights, ``[1, D']``; it reads M more numbers than ``policy``.
        low: Least outcomes, ``[M]``.
        high: Greatest outcomes, ``[M]``.
    """

    def __init__(self, policy: MLP, actor: Tensor, low: Tensor, high: Tensor) -> None:
        told = policy.widened(len(low))
        if tuple(actor.shape) != (1, told.size):
            raise ValueError(f"this network has {told.size} numbers, and the weights are {tuple(actor.shape)}")
        self.policy, self.actor, self.low, self.high = policy, actor.detach().to(torch.float32), low, high

    def toward(self, wanted: Tensor) -> Tensor:
        """Genomes ``[P, D]`` of policies that go for the outcomes ``wanted [P, M]``, in the archive's units.

        Raises:
            ValueError: They have another number of measures.
        """
        if wanted.ndim != 2 or wanted.shape[1] != len(self.low):
            raise ValueError(f"outcomes here are {len(self.low)} numbers each, and got {tuple(wanted.shape)}")
        scaled = 2 * (wanted.to(torch.float32) - self.low) / (self.high - self.low) - 1
        return folded(self.policy, self.actor, scaled)

    def at(self, *outcome: float) -> ElitePolicy:
        """The policy for one outcome, with ``predict`` as Stable-Baselines3's policies have it."""
        return ElitePolicy(self.policy, self.toward(torch.tensor([outcome]))[0])


@dataclass(frozen=True)
class Replayed:
    """What came of policies that were to reach given outcomes."""

    error: float
    """The mean distance between the outcome that was wanted and the one that came, in the archive's units."""
    grid: Grid
    """What came, in cells like the archive's."""

    @property
    def qd_score(self) -> float:
        """The sum of the objectives in ``grid``, those below zero counted as zero."""
        return float(self.grid.elites()["objective"].clamp_min(0).sum(dtype=torch.float64))


def replay(genomes: Tensor, wanted: Tensor, evaluate: Callable[[Tensor], Evaluated], like: Grid) -> Replayed:
    """Run policies and hold what comes against what was wanted.

    ``replay(conditioned.toward(points), points, evaluator, grid)`` with the ``measures`` of a grid's elites says how
    much of an archive one network holds; the elites' own genomes in the first place say what chance in the episodes
    costs them.

    Args:
        genomes: ``[P, D]``.
        wanted: ``[P, M]``.
        evaluate: An ``Evaluator``.
        like: Gives bounds and cells.

    Raises:
        ValueError: There are none, or no outcome could be used.
    """
    if not len(genomes) or len(genomes) != len(wanted):
        raise ValueError(
            f"{len(genomes)} policies for {len(wanted)} outcomes: as many of each are needed, at least one"
        )
    found = evaluate(genomes)
    if not bool(found.valid.any()):
        raise ValueError("no policy came to a finite return and outcome")
    away = (found.measures.cpu() - wanted.to(torch.float32)).norm(dim=-1)[found.valid.cpu()]
    grid = Grid(like.low, like.high, like.bins, genome=genomes.shape[1])
    grid.add(found)
    return Replayed(float(away.mean()), grid)


def load_conditioned(run: str | Path) -> ConditionedPolicy:
    """The actor of a run of DCG- or DCRL-MAP-Elites, as it was at the last checkpoint.

    Raises:
        ConfigError: The run is another search's, or its environment cannot be made.
        CheckpointError: The checkpoint is missing or damaged.
    """
    opened, grid, policy = Run.open(run), load_grid(run), policy_of(run)
    if opened.config["algorithm"] not in ("dcg-me", "dcrl-me"):
        raise ConfigError(f"{run}: only dcg-me and dcrl-me learn a network that is told what is wanted")
    saved = opened.latest()
    try:
        state: Any = saved[2] if saved else None
        actor = state["search"]["search"]["learner"]["actor"]
        assert isinstance(policy, MLP)
        return ConditionedPolicy(policy, actor, grid.low, grid.high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run}: the checkpoint has no such network: {error}") from error
