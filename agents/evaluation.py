"""How good is a frozen agent? The first episode of each lane, on levels it never trained on."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.batch import BatchEnv
from ..envs.spaces import tree_map

Act = Callable[[Any], Tensor]
"""A frozen policy: a batch of observations to a batch of actions ``[N, ...]``, as ``env.step`` takes them."""


LONGEST = 100_000
"""Steps after which an episode is given up where the environment has no cap of its own."""


def fresh_seed(seed: int, *purpose: object) -> int:
    """A seed below 2**31 that no training run has: a hash of a seed and of what it is for.

    Environments hash (seed, lane) once more, so the levels of ``fresh_seed(0, "trial", 20000)`` have nothing to do
    with those of the training seed 0.
    """
    text = repr(("cairn fresh levels", seed, purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 33


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch for a while, then put their streams back as they were.

    What is tried in between leaves no trace in training: a run with trials equals one without.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a share of successes.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927). Unlike the normal
    interval it stays within [0, 1] and is not empty at 0 or ``trials`` successes.
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, z * z
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    reach = z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    return (
        0.0 if successes == 0 else max(0.0, centre - reach),
        1.0 if successes == trials else min(1.0, centre + reach),
    )


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` saw. Lengths are steps; returns are the task's own, undiscounted."""

    episodes: int
    successes: int | None
    """None where the environment cannot tell success."""
    success: float | None
    success_low: float | None
    """Lower end of the 95 % Wilson interval."""
    success_high: float | None
    return_mean: float
    return_std: float
    length_mean: float
    length_median: float
    seed: int
    deterministic: bool
    agents: dict[str, float] | None = None
    """Mean return of each agent of a team, whose ``return_mean`` is the mean over its agents; None for one agent."""
    opponent: str | None = None
    """Who had the other seat of a game of two; None where it is none."""
    score: float | None = None
    """Mean score against that opponent: 1 to win, 0.5 to draw."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def row(self) -> dict[str, float]:
        """The part that goes into a run's metrics, under ``eval/``."""
        row = {"eval/return": self.return_mean, "eval/length": self.length_mean}
        row |= {f"eval/return/{name}": own for name, own in (self.agents or {}).items()}
        if self.success is not None and self.success_low is not None and self.success_high is not None:
            row |= {
                "eval/success": self.success,
                "eval/success_low": self.success_low,
                "eval/success_high": self.success_high,
            }
        return row

    def __str__(self) -> str:
        """One line, as the command line prints it."""
        parts = []
        if self.successes is not None:
            parts.append(
                f"success {self.successes}/{self.episodes} = {self.success:.1%} "
                f"(95% interval {self.success_low:.1%} to {self.success_high:.1%})"
            )
        spread = f" ± {self.return_std:.3g}" if self.episodes > 1 else ""
        parts.append(f"return {self.return_mean:.4g}{spread}")
        parts.append(f"length {self.length_mean:.1f} (median {self.length_median:g})")
        if self.agents is not None:
            parts.append("by agent " + ", ".join(f"{name} {own:.4g}" for name, own in self.agents.items()))
        if self.opponent is not None:
            told = "" if self.score is None else f": score {self.score:.3g} (1 to win, 0.5 to draw)"
            parts.append(f"against {self.opponent}{told}")
        return ", ".join(parts)


@torch.no_grad()
def evaluate_batch(
    act: Act, env: BatchEnv, episodes: int, seed: int, *, deterministic: bool = False, narrow: bool = False
) -> Evaluation:
    """Play ``episodes`` episodes, each lane's first, so that short episodes are not counted more often.

    With fewer lanes than episodes it takes several rounds, each with fresh levels in all lanes.

    Args:
        act: The frozen policy.
        env: A batch that is this function's alone; it is reset.
        episodes: How many episodes, at least 1.
        seed: Chooses the levels and the policy's own dice; the caller's random streams are left as they were.
        deterministic: Only noted in the result: ``act`` already does it.
        narrow: Ask ``act`` for the lanes alone whose first episode goes on, once these are less than a quarter: where
            failures are long, most of the time. For policies without a memory; one that draws draws other dice then.

    Raises:
        ValueError: ``episodes`` is less than 1, or ``narrow`` with a policy that remembers.
    """
    if episodes < 1:
        raise ValueError(f"an evaluation needs at least 1 episode, got {episodes}")
    if narrow and hasattr(act, "reset"):
        raise ValueError(
            "narrow=True leaves out lanes, and a policy that remembers has a memory for each: narrow=False"
        )
    returns, lengths, wins, knows = [], [], [], True
    with own_randomness(seed):
        for first in range(0, episodes, env.num_envs):
            wanted = min(env.num_envs, episodes - first)
            total, length, won, knew = _first_episodes(act, env, fresh_seed(seed, "round", first), narrow)
            returns.append(total[:wanted])
            lengths.append(length[:wanted])
            wins.append(won[:wanted])
            knows = knows and knew
    total, length, won = (torch.cat(parts).double().cpu() for parts in (returns, lengths, wins))
    names = getattr(env, "agents", ())
    agents = dict(zip(names, total.mean(0).tolist())) if names else None
    total = total.mean(1) if names else total
    successes = int(won.sum()) if knows else None
    low, high = wilson(successes, episodes) if successes is not None else (None, None)
    return Evaluation(
        episodes=episodes,
        successes=successes,
        success=successes / episodes if successes is not None else None,
        success_low=low,
        success_high=high,
        return_mean=float(total.mean()),
        return_std=float(total.std()) if episodes > 1 else 0.0,
        length_mean=float(length.mean()),
        length_median=float(np.median(length.numpy())),
        seed=seed,
        deterministic=deterministic,
        agents=agents,
    )


def _first_episodes(act: Act, env: BatchEnv, seed: int, narrow: bool) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Return, length and success ``[N]`` of the first episode of every lane, and whether success was known.

    The returns of a team are ``[N, A]``.
    """
    obs, _ = env.reset(seed=seed)
    if hasattr(act, "reset"):  # a policy that remembers
        act.reset()
    each = (env.num_envs, len(names)) if (names := getattr(env, "agents", ())) else (env.num_envs,)
    total = torch.zeros(each, dtype=torch.float64, device=env.device)
    length = torch.zeros(env.num_envs, dtype=torch.int64, device=env.device)
    won = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    live, knew = torch.ones_like(won), True
    for _ in range(env.max_steps or LONGEST):
        if not bool(live.any()):
            break
        if narrow and 4 * int(live.sum()) < len(live):
            some = act(_lanes(obs, live))
            action = some.new_zeros((len(live), *some.shape[1:]))
            action[live] = some
        else:
            action = act(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        total += torch.where(live.reshape(-1, *[1] * (reward.dim() - 1)), reward.double(), 0.0)
        length += live
        ended = live & (terminated | truncated)
        success = info.get("final_facts", {}).get("success")
        if success is not None:
            won |= ended & success.bool()
        elif bool(ended.any()):
            knew = False
        live &= ~ended
    return total, length, won, knew


def _lanes(obs: Any, some: Tensor) -> Any:
    """The observations of those lanes alone."""
    return tree_map(lambda leaf: leaf[some], obs)
