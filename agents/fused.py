"""What PPO does to the outputs of a network with discrete actions, each in one pass over the rows, on a CPU.

``heads`` are ``[B, A + K]``: logits of A actions, then K values. The formulas are those of :mod:`functional`, against
which both are tested; the gradient of the loss is derived by hand.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..envs.native import Native


class Weights(NamedTuple):
    """The numbers in PPO's loss."""

    clip: float
    """Trusted change of an action's probability ratio."""
    clip_vf: float | None
    """Trusted change of a value, None for any."""
    ent_coef: float
    """Weight of the entropy."""
    vf_coef: float
    """Weight of the value loss."""

    def numbers(self, rows: int) -> Tensor:
        """As the loops take them, with a row's share in a minibatch of ``rows``."""
        clip_vf = -1.0 if self.clip_vf is None else self.clip_vf
        return torch.tensor([self.clip, clip_vf, self.ent_coef, self.vf_coef, 1 / rows])


def act(heads: Tensor, channels: int, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw actions: the first whose cumulated probability exceeds ``uniform``.

    Args:
        heads: float32 ``[B, A + K]``.
        channels: K.
        uniform: ``[B]`` in [0, 1).

    Returns:
        Actions int64 ``[B]``, values ``[B, K]`` and the actions' log-probabilities ``[B]``.
    """
    rows, actions = len(heads), heads.shape[1] - channels
    action, log_prob = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
    _act()(heads.contiguous(), uniform.contiguous(), action, log_prob, rows, actions, channels)
    return action, heads[:, actions:], log_prob


def loss_gradient(
    heads: Tensor,
    channels: int,
    action: Tensor,
    log_prob: Tensor,
    advantage: Tensor,
    target: Tensor,
    value: Tensor,
    weights: Weights,
    rows: int,
) -> tuple[Tensor, Tensor]:
    """PPO's loss on some of the rows of a minibatch, and its gradient.

    Args:
        heads: float32 ``[B, A + K]``.
        channels: K.
        action: int64 ``[B]``.
        log_prob: ``[B]``, of the actions when they were taken.
        advantage: ``[B]``.
        target: ``[B, K]``, returns.
        value: ``[B, K]``, values when the actions were taken.
        weights: Of the loss's parts.
        rows: Of the whole minibatch, over which the loss is a mean.

    Returns:
        The gradient by the heads ``[B, A + K]``, and these rows' share of the loss, its three parts, the clipped share
        and the approximate KL: float64 ``[6]``.
    """
    gradient = torch.empty_like(heads, memory_format=torch.contiguous_format)
    sums = torch.zeros(6, dtype=torch.float64)
    numbers = weights.numbers(rows)
    _loss()(
        heads.contiguous(), action.contiguous(), log_prob.contiguous(), advantage.contiguous(), target.contiguous(),
        value.contiguous(), numbers, gradient, sums, len(heads), heads.shape[1] - channels, channels,
    )  # fmt: skip
    return gradient, sums


@cache
def _act() -> Native:
    arguments = {
        "heads": "const float*", "uniform": "const float*", "action": "long long*", "log_prob": "float*",
        "rows": "long long", "actions": "long long", "channels": "long long",
    }  # fmt: skip
    return Native("action sampling", arguments, _ACT)


@cache
def _loss() -> Native:
    arguments = {
        "heads": "const float*", "action": "const long long*", "old": "const float*", "advantages": "const float*",
        "target": "const float*", "before": "const float*", "numbers": "const float*", "gradient": "float*",
        "sums": "double*", "rows": "long long", "actions": "long long", "channels": "long long",
    }  # fmt: skip
    return Native("PPO loss", arguments, _LOSS)


# Draw an action: u * total is below total for u < 1, so that the search ends at one whose probability is not 0.
DRAW = """
auto draw = [&](const float* logit, long long i) {
    float top = logit[0];
    for (int a = 1; a < actions; ++a)
        top = logit[a] > top ? logit[a] : top;
    float total = 0.0f;
    for (int a = 0; a < actions; ++a)
        total += expf(logit[a] - top);
    const float wanted = uniform[i] * total;
    float below = 0.0f;
    int choice = 0;
    for (int a = 0; a < actions; ++a) {
        below += expf(logit[a] - top);
        choice = a;
        if (below > wanted)
            break;
    }
    action[i] = choice;
    log_prob[i] = logit[choice] - top - logf(total);
};
"""
# The loss of row i of the rollout with this advantage, added to `sums`, and its gradient by the heads, into d.
JUDGE = """
const float clip = numbers[0], clip_vf = numbers[1], ent_coef = numbers[2], vf_coef = numbers[3], share = numbers[4];
auto judge = [&](const float* logit, float* d, long long i, float advantage) {
    float top = logit[0];
    for (int a = 1; a < actions; ++a)
        top = logit[a] > top ? logit[a] : top;
    float total = 0.0f;
    for (int a = 0; a < actions; ++a) {
        d[a] = expf(logit[a] - top);
        total += d[a];
    }
    const float shift = top + logf(total);
    float entropy = 0.0f;
    for (int a = 0; a < actions; ++a) {
        d[a] /= total;
        entropy -= d[a] > 0.0f ? d[a] * (logit[a] - shift) : 0.0f;
    }
    const float log_ratio = logit[action[i]] - shift - old[i], ratio = expf(log_ratio);
    const float kept = ratio < 1.0f - clip ? 1.0f - clip : ratio > 1.0f + clip ? 1.0f + clip : ratio;
    const float gain = advantage * ratio, bound = advantage * kept;
    const float by_log_prob = gain <= bound ? -gain : 0.0f;
    for (int a = 0; a < actions; ++a) {
        const float p = d[a];
        const float by_entropy = p > 0.0f ? p * (logit[a] - shift + entropy) : 0.0f;
        d[a] = share * (by_log_prob * ((a == action[i] ? 1.0f : 0.0f) - p) + ent_coef * by_entropy);
    }
    float error = 0.0f;
    for (int k = 0; k < channels; ++k) {
        const float was = before[i * channels + k], goal = target[i * channels + k];
        float now = logit[actions + k];
        bool moves = true;
        if (clip_vf >= 0.0f) {
            const float change = now - was;
            moves = change >= -clip_vf && change <= clip_vf;
            now = was + (change < -clip_vf ? -clip_vf : change > clip_vf ? clip_vf : change);
        }
        error += (goal - now) * (goal - now);
        d[actions + k] = moves ? share * vf_coef * 2.0f * (now - goal) : 0.0f;
    }
    const float policy = -(gain < bound ? gain : bound), moved = ratio > 1.0f ? ratio - 1.0f : 1.0f - ratio;
    sums[0] += share * (policy - ent_coef * entropy + vf_coef * error);
    sums[1] += share * policy;
    sums[2] += share * error;
    sums[3] -= share * entropy;
    sums[4] += moved > clip ? share : 0.0f;
    sums[5] += share * (ratio - 1.0f - log_ratio);
};
"""
_ACT = (
    DRAW
    + """
for (long long i = 0; i < rows; ++i)
    draw(heads + i * (actions + channels), i);
"""
)
_LOSS = (
    JUDGE
    + """
for (long long i = 0; i < rows; ++i)
    judge(heads + i * (actions + channels), gradient + i * (actions + channels), i, advantages[i]);
"""
)
