"""Settings that were found to work, by environment: what ``cairn train ID`` takes where it is told nothing else.

A line has been measured, or it is not here: ``command`` measures it again, and ``version`` goes up with every change.
Benchmarks that compare methods never read this table.
"""

from fnmatch import fnmatchcase
from typing import Any, NamedTuple


class Tuned(NamedTuple):
    """One line: what to train with, and what came of it."""

    agent: str
    """Its name in ``cairn.agents.table``."""
    reward: str
    """The reward expression."""
    num_envs: int
    steps: int
    """To train for."""
    agent_args: dict[str, Any]
    """Settings of the agent."""
    expected_steps: tuple[int, ...]
    """Steps after which the frozen policy had first solved ``expected_success`` of 1,000 fresh levels, seed by seed."""
    expected_success: float | None
    """None where the environment does not tell success."""
    expected_return: float
    """Mean task return of the frozen policy there, over the seeds."""
    command: str
    """Measures the line again; ``SEED`` stands for 0, 1 ..."""
    version: int = 1

    @property
    def expected(self) -> str:
        """What to expect, in words."""
        steps = sorted(self.expected_steps)
        middle = steps[(len(steps) - 1) // 2]
        share = "" if self.expected_success is None else f"{self.expected_success:.0%} of fresh levels and "
        return f"{share}a return of {self.expected_return:.2f} after {middle:,} steps (median of {len(steps)} seeds)"


_FIRST_VISITS = 'task + self_scaled(episodic_count(key=("position", "carrying"), mode="first"))'
_PPO: dict[str, Any] = {"n_steps": 32, "batch_size": 1024, "n_epochs": 2, "learning_rate": 1e-3, "ent_coef": 0.01}
_MEMORY = "cairn/MiniGrid-MemoryS13-v0"
_GRU: dict[str, Any] = {
    "n_steps": 128, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.02,
    "policy_kwargs": {"memory": 64, "window": 32, "features_extractor_kwargs": {"features_dim": 64, "trunk": 64}},
}  # fmt: skip
_COMMAND = "cairn train {} --stop-success 0.95 --eval-episodes 1000 --seed SEED"


def _grid(env: str, steps: int, expected: tuple[int, ...], returned: float, version: int = 1) -> tuple[str, Tuned]:
    return env, Tuned("ppo", _FIRST_VISITS, 256, steps, _PPO, expected, 0.95, returned, _COMMAND.format(env), version)


TUNED: dict[str, Tuned] = dict(
    (
        _grid("cairn/MiniGrid-DoorKey-8x8-v0", 1_000_000, (483_328, 286_720, 385_024), 0.84, version=2),
        _grid("cairn/MiniGrid-KeyCorridorS3R3-v0", 3_000_000, (1_064_960, 1_081_344, 827_392), 0.78, version=2),
        _grid("cairn/MiniGrid-MultiRoom-N6-v0", 4_000_000, (1_204_224, 1_302_528, 1_245_184), 0.54),
        (
            _MEMORY,
            Tuned(
                "ppo",
                "task",
                64,
                4_000_000,
                _GRU,
                (2_482_176, 2_727_936, 1_425_408),
                0.95,
                0.95,
                _COMMAND.format(_MEMORY),
            ),
        ),
    )
)
"""Pattern of ids (as a shell's: ``cairn/MiniGrid-DoorKey-*``) -> settings; the first that fits counts."""


def tuned_for(env: str) -> tuple[str, Tuned] | None:
    """The line of an id with its pattern, or None where there is none."""
    return next(((pattern, line) for pattern, line in TUNED.items() if fnmatchcase(env, pattern)), None)
