"""How PPO learns from a rollout: minibatches, their loss and its gradient.

Schulman et al., "Proximal policy optimization algorithms", 2017, equations 7 and 9.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from stable_baselines3.common.utils import FloatSchedule
from torch import Tensor

from ..envs.spaces import tree_map
from . import functional as fn
from . import fused
from .base import fetch
from .collecting import Collecting
from .epoch import Epochs
from .graphs import GradientGraph
from .memory import MemoryPolicy
from .workers import cut


class Updating(Collecting):
    """The half of :class:`cairn.agents.PPO` that learns; what it needs is built there."""

    batch_size: int
    n_epochs: int
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    normalize_advantage: bool
    target_kl: float | None
    clip_range: FloatSchedule
    clip_range_vf: FloatSchedule | None
    compile: bool
    _epochs: Epochs | None
    _graph: GradientGraph | None
    _evaluate: Callable[..., Any] | None
    _window: int

    def train(self) -> None:
        """Learn from the rollout: ``n_epochs`` passes in minibatches, without waiting for the device."""
        policy, rollout = self.policy, self.rollout
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        clip = self.clip_range(self._current_progress_remaining)
        clip_vf = None if self.clip_range_vf is None else self.clip_range_vf(self._current_progress_remaining)
        weights = fused.Weights(clip, clip_vf, float(self.ent_coef), self.vf_coef)
        rows = {
            "obs": tree_map(lambda buffer: buffer[:-1], rollout.obs),
            "action": rollout.action,
            "log_prob": rollout.log_prob,
            "value": rollout.value,
            "target": self._target,
            "advantage": self._advantage.sum(-1),
        }
        rows = tree_map(lambda column: column.flatten(0, 1), rows)
        if self._compiled is not None and not self._own_loss:
            rows["seen"] = self._compiled.see(rows["obs"])
        real = None if self._rows_used is None else self._rows_used.flatten().nonzero().squeeze(1)
        windows = None if self._memories is None else self._windows()
        if windows is not None and self._rows_used is not None:
            rows["keep"] = self._rows_used.flatten()
            windows = windows[rows["keep"][windows].any(1)]
        if self._mind is not None and not self._own_loss:
            rows["seen"], rows["memories"] = self._mind.see(rows["obs"]), self._memories
        chosen, size = (real, self.batch_size) if windows is None else (windows, self.batch_size // windows.shape[1])
        count = len(rows["value"]) if chosen is None else len(chosen)
        epochs = self._epochs if self._epochs is not None and "seen" in rows else None
        if epochs is not None and not epochs.fits(policy.optimizer):
            epochs = None
        done = 0 if epochs is None else epochs.begin(policy.optimizer)
        metrics: list[Tensor] = []
        furthest = None if self.target_kl is None else 1.5 * self.target_kl
        for _ in range(self.n_epochs if count else 0):
            order = self._permutation(count)
            order = order if chosen is None else chosen[order]
            if epochs is None:
                metrics.append(self._pass(rows, torch.split(order, max(size, 1)), weights, furthest))
            else:
                metrics.append(
                    epochs.run(
                        rows, order, max(size, 1), weights, policy.optimizer, done,
                        normalise=self.normalize_advantage, longest=self.max_grad_norm, furthest=furthest,
                        threads=self._workers.threads, over=self._workers.map,
                    )
                )  # fmt: skip
            self._n_updates += 1
            over = furthest is not None and bool(metrics[-1][-1, -1] > furthest)
            done += len(metrics[-1]) - over
            if over:
                break
        if epochs is not None:
            epochs.end(policy.optimizer, done)
        self._pending = False
        if self.whole_episodes:
            self.logger.record("train/whole_episodes", 0.0 if real is None else len(real) / len(rows["value"]))
        if not metrics:  # no episode is whole
            return
        value, target = rows["value"].sum(-1), rows["target"].sum(-1)
        table = torch.cat(metrics)
        means = table.mean(0)
        scalars = {
            "train/entropy_loss": means[3],
            "train/policy_gradient_loss": means[1],
            "train/value_loss": means[2],
            "train/approx_kl": metrics[-1][:, 5].mean(),
            "train/clip_fraction": means[4],
            "train/loss": table[-1, 0],
            "train/explained_variance": fn.explained_variance(
                *(v if real is None else v[real] for v in (value, target))
            ),
        }
        if hasattr(policy, "log_std"):
            scalars["train/std"] = policy.log_std.detach().exp().mean()
        for name, number in fetch(scalars).items():
            self.logger.record(name, number)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip)
        if clip_vf is not None:
            self.logger.record("train/clip_range_vf", clip_vf)

    def _windows(self) -> Tensor:
        """The rows of each window of a rollout, int64 ``[S, W]``: W steps of one lane, judged one after another."""
        row = torch.arange(self.n_steps * self.n_envs, device=self.device).reshape(-1, self._window, self.n_envs)
        return row.transpose(1, 2).flatten(0, 1)

    def _pass(
        self, rows: dict[str, Any], batches: Sequence[Tensor], weights: fused.Weights, furthest: float | None
    ) -> Tensor:
        """Learn from minibatches, one after another; returns what to log of each, ``[M, 6]``."""
        metrics: list[Tensor] = []
        for index in batches:
            metrics.append(self._minibatch(rows, index, weights))
            if furthest is not None and metrics[-1][-1] > furthest:
                break
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        return torch.stack(metrics)

    @property
    def _own_loss(self) -> bool:
        """Whether a subclass has a loss of its own: it may draw rows, and so is asked once for a whole minibatch."""
        return type(self)._loss is not Updating._loss

    def _minibatch(self, rows: dict[str, Any], index: Tensor, weights: fused.Weights) -> Tensor:
        """Set the gradient of the loss on a minibatch of the rollout; returns what to log of it.

        Args:
            rows: The rollout's, ``[T * N, ...]``.
            index: The rows in the minibatch, ``[B]``, or windows of them, ``[B, W]``.
            weights: Of the loss's parts.
        """
        advantage = rows["advantage"][index]
        real = advantage[rows["keep"][index]] if "keep" in rows else advantage
        if self.normalize_advantage and real.numel() > 1:
            advantage = (advantage - real.mean()) / (real.std() + 1e-8)
        if "memories" in rows:
            assert self._mind is not None
            return self._mind.gradient(rows, index, advantage, weights, self._workers.map)
        if "seen" in rows:
            assert self._compiled is not None
            parts = cut(len(index), 256)
            return self._compiled.gradient(rows, index, advantage, weights, parts, self._workers.map)
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

        def part(some: slice) -> tuple[Sequence[Tensor | None], Tensor]:
            at = index[some].t().flatten()  # steps first where there are windows
            with torch.enable_grad():
                batch = tree_map(lambda column: column.index_select(0, at), rows)
                batch["advantage"] = advantage[some].t().flatten()
                if self._memories is not None:
                    batch |= self._memories.recall(index[some])
                share = (int(batch["keep"].sum()) if "keep" in batch else len(at)) / max(real.numel(), 1)
                if self._graph is not None and not self._own_loss and "keep" not in batch:
                    return self._graph(batch, weights)
                loss, numbers = self._loss(batch, weights.clip, weights.clip_vf)
                loss = loss if share == 1 else loss * share
                return torch.autograd.grad(loss, parameters, allow_unused=True), numbers * share

        # A memory goes through its window step by step: fewer than 64 lanes at a time are not worth the steps.
        least = 512 if self._memories is None else max(512 * len(index) // index.numel(), 64)
        whole = self._own_loss or self.compile  # torch compiles for one size, and in one thread
        parts = [slice(0, len(index))] if whole else self._cut(len(index), least)
        (total, numbers), *others = self._workers.map(part, parts)
        for gradients, more in others:
            numbers = numbers + more
            used = [(a, b) for a, b in zip(total, gradients) if a is not None and b is not None]
            torch._foreach_add_([a for a, _ in used], [b for _, b in used])
        for parameter, gradient in zip(parameters, total):
            parameter.grad = gradient
        return numbers

    def _loss(self, batch: dict[str, Any], clip: float, clip_vf: float | None) -> tuple[Tensor, Tensor]:
        """The loss on a minibatch, and what to log: itself, its three parts, clipped share and approximate KL."""
        value, log_prob, entropy, batch = self._judge(batch)
        advantage = batch["advantage"]
        log_ratio = log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        policy_loss = fn.surrogate_loss(ratio, advantage, clip)
        value_loss = fn.value_loss(value, batch["target"], batch["value"], clip_vf)
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            clipped, kl = ((ratio - 1).abs() > clip).float().mean(), fn.approx_kl(log_ratio)
            return loss, torch.stack([loss, policy_loss, value_loss, entropy_loss, clipped, kl])

    def _judge(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
        """Values, log-probabilities and entropies now, and the batch, both without rows that are no transitions."""
        policy = self.policy
        if not isinstance(policy, MemoryPolicy):
            evaluate = self._evaluate or policy.evaluate_actions
            return *evaluate(batch["obs"], batch["action"]), batch
        judged = policy.evaluate_window(batch["obs"], batch["action"], batch["state"], batch["start"])
        if "keep" not in batch:
            return *judged, batch
        keep = batch["keep"]
        value, log_prob, entropy = (None if column is None else column[keep] for column in judged)
        assert value is not None and log_prob is not None
        kept = {name: batch[name][keep] for name in ("advantage", "log_prob", "target", "value")}
        return value, log_prob, entropy, kept

    def _permutation(self, rows: int) -> Tensor:
        """The order in which one epoch takes the rows of a rollout (steps first, then lanes): int64 ``[rows]``."""
        return torch.randperm(rows, device=self.device)
