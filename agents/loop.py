"""What happens between two updates of a training run: metrics, trials on fresh levels, checkpoints, the end."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from ..runs import Run
from .config import TrainConfig
from .evaluation import Evaluation
from .progress import Reporter
from .stopping import signals as signals


class Stop(Exception):
    """Leaves ``learn`` at an update boundary."""


class Rows(KVWriter):
    """Takes what SB3's logger dumps after a rollout; the loop adds what ``train`` recorded and writes one row."""

    def __init__(self) -> None:
        self.row: dict[str, float] = {}
        self.fresh = False
        """Whether there is a row that nobody has taken yet."""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Keep the numbers until the update is complete."""
        self.row, self.fresh = numbers(key_values), True

    def close(self) -> None:
        """Nothing to close."""


def numbers(values: dict[str, Any]) -> dict[str, float]:
    """The entries that are numbers, as floats."""
    row = {}
    for key, value in values.items():
        if isinstance(value, int | float | np.number) or (isinstance(value, torch.Tensor) and value.numel() == 1):
            row[key] = float(value)
    return row


def passed(goal: float | None, success: Any) -> bool:
    """Whether a trial's success rate reaches the goal."""
    return goal is not None and isinstance(success, float) and success >= goal


class Loop(BaseCallback):
    """The callback that makes a run of ``learn``.

    SB3 calls ``on_rollout_start`` when the update before is complete and nothing of the next has begun, so the
    state is whole there; after the last update it calls ``on_training_end``.

    Args:
        run: Where rows and checkpoints go.
        config: When to try, save and stop.
        trial: Tries the frozen agent on fresh levels, chosen by the step.
        report: Is told the progress.
        deadline: Stop at the first boundary after this moment of ``time.monotonic``.
    """

    def __init__(
        self, run: Run, config: TrainConfig, trial: Callable[[int], Evaluation], report: Reporter, deadline: float
    ) -> None:
        super().__init__()
        self.run, self.config, self.try_, self.report, self.deadline = run, config, trial, report, deadline
        self.rows = Rows()
        self.row: dict[str, float] = {}
        self.done, self.saved = 0, -1  # -1: a checkpoint at step 0 too, so that every run can be resumed
        self.saved_at = self.shown_at = time.monotonic()
        self.why = "steps"
        self.signum: int | None = None
        self.trial: Evaluation | None = None

    def begin(self, step: int) -> None:
        """Start from a checkpoint at ``step``."""
        self.done = self.saved = step

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now - self.shown_at > 0.2:
            self.shown_at = now
            self.report.at(self.model.num_timesteps, self.config.steps, self.row)
        return True

    def _on_rollout_start(self) -> None:
        self._boundary()

    def _on_training_end(self) -> None:
        self._boundary()

    def _boundary(self) -> None:
        step, before = self.model.num_timesteps, self.done
        if step > before:
            self.done = step
            # Agents that learn after every few steps log now and then: only what is new becomes a row.
            row = self.rows.row | numbers(self.logger.name_to_value) if self.rows.fresh else {}
            self.rows.fresh = False
            if self._trial_due(before, step):
                self.trial = self.try_(step)
                self.report.say(f"{step:,} steps: frozen agent on fresh levels: {self.trial}")
                row |= self.trial.row()
            if row:
                self.run.log(step, row)
                self.row = row
                self.report.at(step, self.config.steps, row)
        why = self._ends(step)
        if step > self.saved and (why or self._save_due(step)):
            self.save(step)
        if why:
            self.why = why
            raise Stop

    def _trial_due(self, before: int, step: int) -> bool:
        """A trial on each multiple of ``trial_every``, the same ones whether or not the run was interrupted.

        Where the interval was left to us, trials that cannot succeed are left out: an agent that still fails in
        most training episodes would spend all its steps on each of a hundred levels.
        """
        every = self.config.trial_every
        if every is None or step // every == before // every:
            return False
        goal, training = self.config.stop_success, self.model.recent().get("rollout/success_rate")  # type: ignore[attr-defined]
        if self.config.eval_every is None and goal is not None and training is not None:
            return bool(training >= goal - 0.1)
        return True

    def _ends(self, step: int) -> str | None:
        if self.signum is not None:
            return "signal"
        if self.trial is not None and passed(self.config.stop_success, self.trial.success):
            return "success"
        if step >= self.config.steps:
            return "steps"
        return "time" if time.monotonic() >= self.deadline else None

    def _save_due(self, step: int) -> bool:
        every = self.config.checkpoint_steps
        late = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        return late or self.saved < 0 or (every is not None and step // every > self.saved // every)

    def save(self, step: int) -> None:
        """Write a checkpoint. Of the loop itself only the last trial is in it; the rest follows from the step."""
        trial = self.trial.as_dict() if self.trial else None
        self.run.save(step, {"agent": self.config.agent, "trial": trial}, {"model": self.model.training_state()})  # type: ignore[attr-defined]
        self.saved, self.saved_at = step, time.monotonic()
