"""The actor-critic network: Stable-Baselines3's policy class with one value head per reward channel.

Names of modules and parameters are those of ``stable_baselines3.common.policies.ActorCriticPolicy``, and so are the
keyword arguments that ``policy_kwargs`` may hold. What differs: any observation space is accepted under any of
the three policy names, observations are batches of tensors as a ``BatchEnv`` gives them, and ``predict`` also takes
the observations of the single environment (a mission as a string among them).
"""

from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution, Distribution
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import Pixels, Tokens, Tree, encode, torch_dtype, tree_leaves, tree_map
from ..shaping.adam import Adam
from ..shaping.owner import Owner
from ..shaping.stretch import Stretch
from . import functional as fn
from . import fused
from .extractors import Features, learns_features, shows_symbols
from .half import HalfMlpExtractor, half


class BatchPolicy(sb3.BasePolicy):
    """What the policies of all agents share: any observation space, in tensors or as the single environment has it."""

    _sb3_space: gym.Space[Any] | None = None
    _start: Tensor

    def _choose_extractor(self, observation_space: gym.Space[Any], kwargs: dict[str, Any]) -> None:
        """Set the default extractor in a constructor's arguments, and what one written for SB3 shall be shown."""
        kwargs.setdefault("features_extractor_class", Features)
        # Extractors written for SB3 expect its view of the space: channels first, and nothing but plain classes.
        if not issubclass(kwargs["features_extractor_class"], Features):
            self._sb3_space = channels_first_space(observation_space)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Build one features extractor."""
        space = self.observation_space if self._sb3_space is None else self._sb3_space
        return self.features_extractor_class(space, **self.features_extractor_kwargs)

    def act(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions for an observation tree ``[B, ...]``, as the environment is given them."""
        raise NotImplementedError

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """Turn any observation into a tree of tensors ``[B, ...]``, and say whether it was a batch."""
        tree, batched = to_tree(self.observation_space, observation)
        return tree_map(lambda leaf: leaf.to(self.device), tree), batched

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[Any, tuple[NDArray[Any], ...] | None]:
        """Choose actions for one observation of the single environment, or for a batch of either kind.

        Args:
            observation: As the single environment gives it (text as a string), a batch of these, or tensors of a
                ``BatchEnv``.
            state: Handed back: there is no memory.
            episode_start: Ignored: there is no memory.
            deterministic: Take the likeliest action instead of a draw.

        Returns:
            The actions, NumPy unless the observation came as tensors, and ``state``.
        """
        actions, state = super().predict(observation, state, episode_start, deterministic)
        if self._start.numel():
            actions = actions + self._start.cpu().numpy()
        if not isinstance(observation, tuple) and any(isinstance(leaf, Tensor) for leaf in tree_leaves(observation)):
            return torch.as_tensor(actions, device=self.device), state
        return actions, state


class ActorCriticPolicy(BatchPolicy, sb3.ActorCriticPolicy):
    """Policy and value networks for PPO on any space.

    Args:
        observation_space: A batch's single observation space.
        action_space: Discrete, Box, MultiDiscrete or MultiBinary.
        lr_schedule: Learning rate as a function of the remaining progress, 1 to 0.
        channels: K, how many value heads.
        bf16: Whether hidden layers are in bfloat16 (see ``cairn.agents.half``).
        kwargs: As in Stable-Baselines3 (``net_arch``, ``activation_fn``, ``ortho_init``, ``features_extractor_class``,
            ``optimizer_class``, ...). ``net_arch`` left out is ``dict(pi=[64, 64], vf=[64, 64])`` for numbers,
            ``dict(pi=[64], vf=[64])`` after an extractor that learns (pixels, text), and where there are symbols,
            one layer of 128 with ReLU for both actor and critic. Adam is the fused one.
    """

    _low: Tensor
    _high: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        lr_schedule: Any,
        *,
        channels: int = 1,
        bf16: bool = False,
        **kwargs: Any,
    ) -> None:
        self.channels, self.bf16 = channels, bf16
        self._choose_extractor(observation_space, kwargs)
        plain = kwargs.get("net_arch") is None and kwargs["features_extractor_class"] is Features
        if plain and shows_symbols(observation_space):
            kwargs["net_arch"] = {"pi": [], "vf": []}
            kwargs["features_extractor_kwargs"] = {"trunk": 128} | (kwargs.get("features_extractor_kwargs") or {})
        elif plain:
            layers = [64] if learns_features(observation_space) else [64, 64]
            kwargs["net_arch"] = {"pi": layers, "vf": layers}
        if kwargs.setdefault("optimizer_class", Adam) in (Adam, torch.optim.Adam):
            kwargs["optimizer_class"] = Adam
            kwargs["optimizer_kwargs"] = {"eps": 1e-5, "fused": True} | (kwargs.get("optimizer_kwargs") or {})
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        empty = torch.zeros(0)
        box, start = isinstance(action_space, spaces.Box), np.asarray(getattr(action_space, "start", 0))
        bounds = (action_space.low, action_space.high) if isinstance(action_space, spaces.Box) else (empty, empty)
        self.register_buffer("_low", torch.as_tensor(bounds[0]), persistent=False)
        self.register_buffer("_high", torch.as_tensor(bounds[1]), persistent=False)
        self.register_buffer("_start", torch.as_tensor(start) if start.any() and not box else empty, persistent=False)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        if self.channels != 1:
            self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, self.channels)
            if self.ortho_init:
                self.init_weights(self.value_net, gain=1)
            self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build_mlp_extractor(self) -> None:
        kind = HalfMlpExtractor if self.bf16 else MlpExtractor
        self.mlp_extractor = kind(self.features_dim, self.net_arch, self.activation_fn, self.device)

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Map an observation tree ``[B, ...]`` to features ``[B, F]``, or to a pair where they are not shared."""
        if not self.bf16:
            return self._features(obs, features_extractor)
        with half(self.device):
            found = self._features(obs, features_extractor)
        return found.float() if isinstance(found, Tensor) else tuple(one.float() for one in found)

    def _features(self, obs: Any, features_extractor: BaseFeaturesExtractor | None) -> Any:
        if self._sb3_space is not None:
            obs = preprocess_obs(channels_first(self.observation_space, obs), self._sb3_space, self.normalize_images)
        if features_extractor is not None:
            return features_extractor(obs)
        if self.share_features_extractor:
            return self.features_extractor(obs)
        return self.pi_features_extractor(obs), self.vf_features_extractor(obs)

    def _latents(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Features of the actor and of the critic, after their own layers."""
        features = self.extract_features(obs)
        if self.share_features_extractor:
            actor, critic = self.mlp_extractor(features)
            return actor, critic
        return self.mlp_extractor.forward_actor(features[0]), self.mlp_extractor.forward_critic(features[1])

    @property
    def joint(self) -> bool:
        """Whether logits and values are one linear layer of the same latents, which then is one matrix product."""
        own = len(self.mlp_extractor.policy_net) + len(self.mlp_extractor.value_net)
        linear = isinstance(self.action_net, nn.Linear) and isinstance(self.value_net, nn.Linear)
        kind = type(self.action_dist) is CategoricalDistribution
        return self.share_features_extractor and own == 0 and linear and kind

    @property
    def separable(self) -> bool:
        """Whether rows can be judged in parts and by several threads at once: none knows of another."""
        mixing = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        plain = type(self.action_dist) in (CategoricalDistribution, DiagGaussianDistribution)
        ours = type(self).evaluate_actions is ActorCriticPolicy.evaluate_actions
        return plain and ours and not any(isinstance(module, mixing) for module in self.modules())

    def joint_heads(self, obs: Any) -> Tensor:
        """Logits and values ``[B, A + K]``, where they are :attr:`joint`."""
        return self._outputs(self.extract_features(obs))

    def _outputs(self, latent: Tensor) -> Tensor:
        """Logits and values ``[B, A + K]`` of latents ``[B, F]``, where they are :attr:`joint`."""
        nets = cast(nn.Linear, self.action_net), self.value_net
        return F.linear(latent, torch.cat([net.weight for net in nets]), torch.cat([net.bias for net in nets]))

    def noise(self, *rows: int) -> Tensor | None:
        """What :meth:`forward` needs to draw actions for ``[*rows]``; None where only the distribution can draw.

        Drawn before, a draw does not depend on which thread takes it.
        """
        # A forward of a subclass may not take any.
        return self._noise(*rows) if type(self).forward is ActorCriticPolicy.forward else None

    def _noise(self, *rows: int) -> Tensor | None:
        kind = type(self.action_dist)
        if kind is CategoricalDistribution:
            return torch.rand(*rows, device=self.device)
        if kind is DiagGaussianDistribution:
            return torch.randn(*rows, int(np.prod(self.action_space.shape)), device=self.device)  # type: ignore[arg-type]
        return None

    def forward(
        self, obs: Any, deterministic: bool = False, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions.

        Args:
            obs: Observation tree ``[B, ...]``.
            deterministic: Take the likeliest action instead of a draw.
            noise: What to draw with, of :meth:`noise`; None draws it now.

        Returns:
            Actions ``[B, ...]``, values ``[B, K]`` and the actions' log-probabilities ``[B]``.
        """
        if noise is not None and not deterministic and self.joint and self.device.type == "cpu":
            return fused.act(self.joint_heads(obs), self.channels, noise)
        actor, critic = self._latents(obs)
        value, kind = self.value_net(critic), type(self.action_dist)
        if kind is CategoricalDistribution:
            log_p = self.action_net(actor).log_softmax(-1)
            action = log_p.argmax(-1) if deterministic else fn.categorical_sample(log_p, noise)
            return action, value, fn.categorical_log_prob(log_p, action)
        if kind is DiagGaussianDistribution:
            mean = self.action_net(actor)
            drawn = torch.randn_like(mean) if noise is None else noise
            action = mean if deterministic else mean + self.log_std.exp() * drawn
            log_prob = fn.gaussian_log_prob(mean, self.log_std, action)
            return action.reshape(-1, *self.action_space.shape), value, log_prob  # type: ignore[misc]
        distribution = self._get_action_dist_from_latent(actor)
        action = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(action)
        return action.reshape(-1, *self.action_space.shape), value, log_prob  # type: ignore[misc]

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judge actions that were taken.

        Args:
            obs: Observation tree ``[B, ...]``.
            actions: ``[B, ...]`` as :meth:`forward` gave them.

        Returns:
            Values ``[B, K]``, log-probabilities ``[B]``, and entropies ``[B]`` (None where there is no formula).
        """
        actor, critic = self._latents(obs)
        value, kind = self.value_net(critic), type(self.action_dist)
        if kind is CategoricalDistribution:
            log_p = self.action_net(actor).log_softmax(-1)
            return value, fn.categorical_log_prob(log_p, actions), fn.categorical_entropy(log_p)
        if kind is DiagGaussianDistribution:
            mean = self.action_net(actor)
            log_prob = fn.gaussian_log_prob(mean, self.log_std, actions.flatten(1))
            return value, log_prob, fn.gaussian_entropy(self.log_std).expand_as(log_prob)
        distribution = self._get_action_dist_from_latent(actor)
        return value, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> Distribution:
        """Give the action distribution, as Stable-Baselines3's object."""
        features = self.extract_features(obs, self.pi_features_extractor)
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(features))

    def predict_values(self, obs: Any) -> Tensor:
        """Give values ``[B, K]``."""
        features = self.extract_features(obs, self.vf_features_extractor)
        value: Tensor = self.value_net(self.mlp_extractor.forward_critic(features))
        return value

    def executed(self, actions: Tensor) -> Tensor:
        """Turn actions ``[..., *shape]`` of :meth:`forward` into what the environment is given.

        Those of a Box are brought within its bounds; those of a Discrete are counted from its ``start``.
        """
        if self._low.numel():
            if self.squash_output:
                return self._low + 0.5 * (actions + 1) * (self._high - self._low)
            return torch.minimum(torch.maximum(actions, self._low), self._high)
        if self._start.numel():
            return actions + self._start
        return actions.to(torch.int8) if isinstance(self.action_space, spaces.MultiBinary) else actions

    def act(self, obs: Any, deterministic: bool = False) -> Tensor:
        """Choose actions for an observation tree ``[B, ...]``, as the environment is given them."""
        return self.executed(self(obs, deterministic=deterministic)[0])


class Ask:
    """A model's policy as it is now, for rewards that compare it with the one that acted (``shaping.term.Ask``).

    Args:
        model: The agent, which holds its reward, which holds this.
    """

    def __init__(self, model: Any) -> None:
        self._model = Owner(model)

    def log_prob(self, x: Stretch) -> Tensor:
        """Log-probability of ``x.action`` at ``x.obs``, ``[*]``."""
        policy: ActorCriticPolicy = self._model().policy
        rows = x.flat()
        action = cast(Tensor, rows.action)
        if policy._start.numel():
            action = action - policy._start
        return policy.evaluate_actions(rows.obs, action)[1].reshape(x.rows)

    def probs(self, x: Stretch) -> Tensor:
        """Probabilities of all discrete actions at ``x.obs``, ``[*, actions]``."""
        distribution = self._model().policy.get_distribution(x.flat().obs).distribution
        if not isinstance(distribution, torch.distributions.Categorical):
            raise TypeError("probs(x) is for one discrete action; this policy has another kind of distribution")
        return distribution.probs.reshape(*x.rows, -1)


def to_tree(space: gym.Space[Any], observation: Any) -> tuple[Tree, bool]:
    """Bring one observation, or a batch, into tensors ``[B, ...]`` of ``space`` and say whether it was a batch.

    Raises:
        ValueError: The observation does not fit the space.
    """
    batched = _is_batch(space, observation)
    if batched is None:
        raise ValueError(
            f"this policy was trained on {space}, and got {_describe(observation)}. Is it from another environment, or "
            "from another view of it (cairn.envs.as_sb3 is flat by default; flat=False keeps the original spaces)?"
        )
    if batched and all(isinstance(leaf, Tensor) for leaf in tree_leaves(observation)):
        return _fit(space, observation), True  # tensors stay on their device
    return encode(space, observation), batched


def _is_batch(space: gym.Space[Any], x: Any) -> bool | None:
    """True for a batch, False for one observation, None for neither; texts are asked only if there is nothing else."""
    if isinstance(space, spaces.Dict):
        if not isinstance(x, dict) or any(key not in x for key in space.spaces):
            return None
        answers = [_is_batch(child, x[key]) for key, child in space.spaces.items()]
        return answers[0] if all(answer is answers[0] for answer in answers) else None
    if isinstance(x, str):
        return False if isinstance(space, Tokens) else None
    if isinstance(space, Tokens) and not isinstance(x, Tensor) and np.asarray(x).dtype.kind in "OU":
        return np.ndim(x) == 1 or None
    shape = tuple(x.shape) if isinstance(x, Tensor) else np.shape(x)
    expected = space.shape or ()
    if shape == expected:
        return False
    return True if len(shape) == len(expected) + 1 and shape[1:] == expected else None


def _fit(space: gym.Space[Any], x: Any) -> Tree:
    """Pick the parts of ``space`` from a tree of tensors, in its shapes and dtypes."""
    if isinstance(space, spaces.Dict):
        return {key: _fit(child, x[key]) for key, child in space.spaces.items()}
    return cast(Tensor, x).to(torch_dtype(space)).reshape(-1, *(space.shape or ()))


def _describe(x: Any) -> str:
    if isinstance(x, dict):
        return "{" + ", ".join(f"{key}: {_describe(value)}" for key, value in x.items()) + "}"
    return f"{type(x).__name__} of shape {np.shape(x)}" if not isinstance(x, str) else "a string"


def channels_first_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """Give SB3's view of a space: pictures ``[C, H, W]``; the rest as it is."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channels_first_space(child) for key, child in space.spaces.items()})
    if isinstance(space, Pixels):
        height, width, channels = space.shape
        return spaces.Box(0, 255, (channels, height, width), np.uint8)
    return space


def channels_first(space: gym.Space[Any], obs: Any) -> Any:
    """Give SB3's view of a batch of observations."""
    if isinstance(space, spaces.Dict):
        return {key: channels_first(child, obs[key]) for key, child in space.spaces.items()}
    return obs.permute(0, 3, 1, 2) if isinstance(space, Pixels) else obs
