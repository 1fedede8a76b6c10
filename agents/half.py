"""Hidden layers in bfloat16: half the traffic, and a GPU's tensor cores.

Micikevicius et al., "Mixed precision training", 2018, with the wider exponent of bfloat16, for which losses need no
scale. Weights, their gradients, heads, distributions and losses stay in float32: log-probabilities with three digits
would make PPO's ratios jump by a hundredth.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor


def half(device: torch.device) -> AbstractContextManager[Any]:
    """Where products are in bfloat16.

    Weights are cast anew each time: a CUDA graph must not be recorded with torch's cache of casts.
    """
    context: AbstractContextManager[Any] = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return context


class HalfMlpExtractor(MlpExtractor):
    """The layers of actor and critic in bfloat16, from float32 ``[B, F]`` to float32 ``[B, H]``."""

    def forward_actor(self, features: Tensor) -> Tensor:
        """Latents of the actor."""
        with half(features.device):
            return super().forward_actor(features).float()

    def forward_critic(self, features: Tensor) -> Tensor:
        """Latents of the critic."""
        with half(features.device):
            return super().forward_critic(features).float()
