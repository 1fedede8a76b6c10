"""The networks of off-policy agents: Stable-Baselines3's own classes, fed with any observation of a ``BatchEnv``.

Names of modules and parameters are those of its ``DQNPolicy``, ``SACPolicy`` and ``TD3Policy``, and so are the keyword
arguments that ``policy_kwargs`` may hold. What differs is what ``BatchPolicy`` brings, and that Adam is the fused one.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.dqn import policies as dqn
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import Tensor

from ..shaping.adam import Adam
from .actions import ActionForm
from .extractors import Features, learns_features
from .policies import BatchPolicy, channels_first, channels_first_space


class Reads(sb3.BaseModel):
    """A network that reads an observation tree by the extractor it was given."""

    def extract_features(self, obs: Any, features_extractor: Any) -> Tensor:
        """Map an observation tree ``[B, ...]`` to features ``[B, F]``."""
        if not isinstance(features_extractor, Features):
            space = channels_first_space(self.observation_space)
            obs = preprocess_obs(channels_first(self.observation_space, obs), space, self.normalize_images)
        features: Tensor = features_extractor(obs)
        return features


class QNetwork(Reads, dqn.QNetwork):
    """Values of all actions, ``[B, A]``."""


class ContinuousCritic(Reads, sb3.ContinuousCritic):
    """Several values of an action, ``[B, 1]`` each."""


class SACActor(Reads, sac.Actor):
    """A Gaussian, squashed to [-1, 1]."""


class TD3Actor(Reads, td3.Actor):
    """One action in [-1, 1]."""


class OffPolicyPolicy(BatchPolicy):
    """What the three share: how a network's actions become the environment's."""

    form: ActionForm

    def _prepare(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], kwargs: dict[str, Any]) -> None:
        """Complete a constructor's arguments before Stable-Baselines3's class sees them."""
        self._choose_extractor(observation_space, kwargs)
        if kwargs.setdefault("optimizer_class", Adam) in (Adam, torch.optim.Adam):
            kwargs["optimizer_class"] = Adam
            kwargs["optimizer_kwargs"] = {"fused": True} | (kwargs.get("optimizer_kwargs") or {})

    def _know_actions(self, action_space: gym.Space[Any]) -> None:
        start = np.asarray(getattr(action_space, "start", 0))
        box = isinstance(action_space, spaces.Box)
        empty = torch.zeros(0)
        self.register_buffer("_start", torch.as_tensor(start) if start.any() and not box else empty, persistent=False)

    def executed(self, actions: Tensor) -> Tensor:
        """Turn actions ``[*, D]`` of the networks into what the environment is given."""
        if not hasattr(self, "form") or self.form.device != self.device:
            self.form = ActionForm(self.action_space, self.device)
        return self.form.executed(actions)

    def act(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions for an observation tree ``[B, ...]``, as the environment is given them.

        Greedy for values; a draw of the policy, where there is one and ``deterministic`` is False.
        """
        actions = self._predict(obs, deterministic)
        return self.executed(actions.reshape(len(actions), -1))


class DQNPolicy(OffPolicyPolicy, dqn.DQNPolicy):
    """Values of discrete actions, and their target network.

    Args:
        observation_space: A batch's single observation space.
        action_space: Discrete.
        lr_schedule: Learning rate as a function of the remaining progress, 1 to 0.
        kwargs: As in Stable-Baselines3. ``net_arch`` left out is ``[64, 64]`` for numbers, and ``[64]`` after an
            extractor that learns (symbols, pixels, text).
    """

    def __init__(
        self, observation_space: gym.Space[Any], action_space: spaces.Discrete, lr_schedule: Any, **kwargs: Any
    ) -> None:
        self._prepare(observation_space, action_space, kwargs)
        if kwargs.get("net_arch") is None and kwargs["features_extractor_class"] is Features:
            kwargs["net_arch"] = [64] if learns_features(observation_space) else [64, 64]
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self._know_actions(action_space)

    def make_q_net(self) -> QNetwork:
        """Build one network."""
        return QNetwork(**self._update_features_extractor(self.net_args, features_extractor=None)).to(self.device)


class SACPolicy(OffPolicyPolicy, sac.SACPolicy):
    """A squashed Gaussian actor, critics and their targets; arguments as ``DQNPolicy``'s, the actions a Box."""

    def __init__(
        self, observation_space: gym.Space[Any], action_space: spaces.Box, lr_schedule: Any, **kwargs: Any
    ) -> None:
        self._prepare(observation_space, action_space, kwargs)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self._know_actions(action_space)

    def make_actor(self, features_extractor: Any = None) -> SACActor:
        """Build the actor."""
        return SACActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """Build the critics."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return ContinuousCritic(**kwargs).to(self.device)


class TD3Policy(OffPolicyPolicy, td3.TD3Policy):
    """A deterministic actor, critics and the targets of both; arguments as ``DQNPolicy``'s, the actions a Box."""

    def __init__(
        self, observation_space: gym.Space[Any], action_space: spaces.Box, lr_schedule: Any, **kwargs: Any
    ) -> None:
        self._prepare(observation_space, action_space, kwargs)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self._know_actions(action_space)

    def make_actor(self, features_extractor: Any = None) -> TD3Actor:
        """Build an actor."""
        return TD3Actor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """Build the critics."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return ContinuousCritic(**kwargs).to(self.device)
