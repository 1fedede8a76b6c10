"""A memory for PPO's policy: a gated recurrent unit between features and heads, and what a rollout keeps of it.

Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (the unit); Hausknecht and Stone, "Deep
recurrent Q-learning", 2015 (windows that begin with the state that was lived); Tallec and Ollivier, "Can recurrent
neural networks warp time?", 2018 (gates that begin with times to hold something for; here evenly spaced in their
logarithm, from two steps to the window). An episode begins with an empty memory, whichever row of a window it begins
in; gradients go back to the window's first row and no further.
"""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn
from torch.nn import functional as F

from ..envs.spaces import tree_leaves, tree_map
from . import functional as fn
from .extractors import Features
from .policies import ActorCriticPolicy

_HORIZON = 64  # steps that the slowest part of the state holds at first, where no window says so


class MemoryPolicy(ActorCriticPolicy):
    """Policy and value networks that remember: ``policy_kwargs={"memory": 128}`` makes PPO take it.

    Args:
        observation_space: As for ``ActorCriticPolicy``.
        action_space: Discrete or Box.
        lr_schedule: As there.
        memory: H, width of the unit.
        window: Steps that gradients go back through; a divisor of ``n_steps``. None for all of a rollout.
        kwargs: As for ``ActorCriticPolicy``; ``net_arch`` left out is no layer of their own for actor and critic.

    Raises:
        ValueError: Features that are not shared, ``use_sde``, or an action space without a formula.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        lr_schedule: Any,
        *,
        memory: int = 128,
        window: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("use_sde") or not kwargs.get("share_features_extractor", True):
            raise ValueError("a policy with memory shares its features, and explores without use_sde")
        self.memory, self.window = memory, window
        if kwargs.get("net_arch") is None:
            kwargs["net_arch"] = {"pi": [], "vf": []}
            if kwargs.get("features_extractor_class", Features) is Features:
                kwargs["features_extractor_kwargs"] = {"trunk": 128} | (kwargs.get("features_extractor_kwargs") or {})
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        if type(self.action_dist) not in (CategoricalDistribution, DiagGaussianDistribution):
            raise ValueError(f"a policy with memory acts in Discrete and Box spaces, not in {action_space}")
        self._now: tuple[Any, Any] = None, None
        self._next: Tensor | None = None

    def _build_mlp_extractor(self) -> None:
        self.unit = nn.GRUCell(self.features_dim, self.memory)
        for weight in (self.unit.weight_ih, self.unit.weight_hh):
            for gate in weight.data.chunk(3):
                nn.init.orthogonal_(gate)
        nn.init.zeros_(self.unit.bias_ih)
        nn.init.zeros_(self.unit.bias_hh)
        # With a bias of 0 every part of the state fades by half each step, and so does what comes back through it.
        slowest = math.log(max((self.window or _HORIZON) - 1, 1))
        self.unit.bias_ih.data.chunk(3)[1].copy_(torch.linspace(0, slowest, self.memory))
        self.mlp_extractor = MlpExtractor(self.memory, self.net_arch, self.activation_fn, self.device)

    @property
    def separable(self) -> bool:
        """Whether lanes can be judged in parts: they can."""
        return True

    def noise(self, *rows: int) -> Tensor | None:
        """As ``ActorCriticPolicy.noise``."""
        return self._noise(*rows)

    def remember(self, obs: Any, state: Tensor, start: Tensor) -> Tensor:
        """What is remembered ``[B, H]`` after ``obs [B, ...]``, and ``state`` before, but where an episode starts."""
        out: Tensor = self.unit(self.extract_features(obs), state * ~start[:, None])
        return out

    def step(
        self, obs: Any, state: Tensor, start: Tensor, deterministic: bool = False, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose actions.

        Args:
            obs: Observation tree ``[B, ...]``.
            state: ``[B, H]``, what is remembered.
            start: bool ``[B]``, where an episode starts, and nothing is.
            deterministic: Take the likeliest action instead of a draw.
            noise: As for ``ActorCriticPolicy.forward``.

        Returns:
            Actions, values ``[B, K]``, log-probabilities ``[B]``, and what is remembered now ``[B, H]``.
        """
        state = self.remember(obs, state, start)
        actor, value = self.mlp_extractor.forward_actor(state), self._value(state)
        out = self.action_net(actor)
        if type(self.action_dist) is CategoricalDistribution:
            log_p = out.log_softmax(-1)
            action = log_p.argmax(-1) if deterministic else fn.categorical_sample(log_p, noise)
            return action, value, fn.categorical_log_prob(log_p, action), state
        drawn = torch.randn_like(out) if noise is None else noise
        action = out if deterministic else out + self.log_std.exp() * drawn
        log_prob = fn.gaussian_log_prob(out, self.log_std, action)
        return action.reshape(-1, *(self.action_space.shape or ())), value, log_prob, state

    def value_of(self, obs: Any, state: Tensor, start: Tensor) -> Tensor:
        """Values ``[B, K]`` of ``obs [B, ...]``, seen while remembering ``state``."""
        return self._value(self.remember(obs, state, start))

    def _value(self, state: Tensor) -> Tensor:
        value: Tensor = self.value_net(self.mlp_extractor.forward_critic(state))
        return value

    def evaluate_window(
        self, obs: Any, actions: Tensor, state: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judge actions taken in W steps of B lanes.

        Args:
            obs: Observation tree ``[W * B, ...]``, steps first.
            actions: ``[W * B, ...]``.
            state: ``[B, H]``, what was remembered before the first step.
            start: bool ``[W, B]``, where episodes start.

        Returns:
            Values ``[W * B, K]``, log-probabilities ``[W * B]`` and entropies ``[W * B]``.
        """
        unit, states = self.unit, []
        # What depends on the observation alone is one product for all steps.
        seen = F.linear(self.extract_features(obs), unit.weight_ih, unit.bias_ih)
        for at, new in zip(seen.reshape(*start.shape, -1).unbind(0), (~start)[..., None].to(state.dtype).unbind(0)):
            state = state * new
            told = F.linear(state, unit.weight_hh, unit.bias_hh)
            (r, z, n), (hr, hz, hn) = at.chunk(3, 1), told.chunk(3, 1)
            keep = torch.sigmoid(z + hz)
            fresh = torch.tanh(n + torch.sigmoid(r + hr) * hn)
            state = fresh + keep * (state - fresh)
            states.append(state)
        latent = torch.cat(states)
        out = self.action_net(self.mlp_extractor.forward_actor(latent))
        if type(self.action_dist) is CategoricalDistribution:
            log_p = out.log_softmax(-1)
            return self._value(latent), fn.categorical_log_prob(log_p, actions), fn.categorical_entropy(log_p)
        log_prob = fn.gaussian_log_prob(out, self.log_std, actions.flatten(1))
        return self._value(latent), log_prob, fn.gaussian_entropy(self.log_std).expand_as(log_prob)

    # ---- one step at a time, as Stable-Baselines3 asks -----------------------------------------------------

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, tuple[Any, ...] | None]:
        """Choose actions, as Stable-Baselines3's recurrent policies do.

        Args:
            observation: As for ``BatchPolicy.predict``.
            state: What the last call gave: one array ``[1, B, H]`` in a tuple. None for an empty memory.
            episode_start: bool ``[B]``, where an episode starts and the memory is emptied.
            deterministic: Take the likeliest action instead of a draw.

        Returns:
            The actions, and the state for the next call.
        """
        self._now = state, episode_start
        actions, _ = super().predict(observation, None, None, deterministic)
        assert self._next is not None
        return actions, (self._next[None].cpu().numpy(),)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        state, start = self._now
        rows = len(tree_leaves(observation)[0])
        now = torch.zeros(rows, self.memory, device=self.device)
        if state is not None:
            now = torch.as_tensor(np.asarray(state[0]), device=self.device)[0]
        begins = torch.zeros(rows, dtype=torch.bool, device=self.device)
        if start is not None:
            begins = torch.as_tensor(np.atleast_1d(np.asarray(start, bool)), device=self.device)
        action, _, _, self._next = self.step(observation, now, begins, deterministic)
        return action

    def forward(
        self, obs: Any, deterministic: bool = False, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions with an empty memory: for a first step."""
        rows = len(tree_leaves(obs)[0])
        empty, start = torch.zeros(rows, self.memory, device=self.device), torch.ones(rows, dtype=torch.bool)
        return self.step(obs, empty, start.to(self.device), deterministic, noise)[:3]

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refuse: a step cannot be judged without what came before it."""
        raise TypeError(
            "this policy has a memory, and single steps out of their order cannot be judged by it: rewards and losses "
            "that ask for probabilities need a policy without (leave out policy_kwargs' memory)"
        )

    def get_distribution(self, obs: Any) -> Any:
        """Refuse, as :meth:`evaluate_actions`."""
        return self.evaluate_actions(obs, torch.empty(0))

    def predict_values(self, obs: Any) -> Tensor:
        """Refuse, as :meth:`evaluate_actions`; :meth:`value_of` takes the memory."""
        return self.evaluate_actions(obs, torch.empty(0))[0]


class Memories:
    """What T steps of N lanes remembered: preallocated, and carried over from one rollout to the next.

    Args:
        steps: T.
        lanes: N.
        width: H.
        device: Where the tensors are.
    """

    def __init__(self, steps: int, lanes: int, width: int, device: torch.device) -> None:
        self.state = torch.zeros(steps + 1, lanes, width, device=device)
        """``[T + 1, N, H]``: before each step, episodes that start there not yet emptied."""
        self.start = torch.ones(steps + 1, lanes, dtype=torch.bool, device=device)
        """``[T + 1, N]``: where episodes start."""
        self.row = 0

    def begin(self) -> None:
        """Start from a reset of all environments."""
        self.row = 0
        self.state[0] = 0
        self.start[0] = True

    def open(self) -> None:
        """Begin the next rollout where the last one ended."""
        self.state[0], self.start[0] = self.state[self.row].clone(), self.start[self.row].clone()
        self.row = 0

    def add(self, t: int, done: Tensor, valid: Tensor | None) -> None:
        """Keep which episodes ended with step t; ``valid [N]`` is False where the row was no transition."""
        self.row = t + 1
        self.start[t + 1] = done if valid is None else done | (self.start[t] & ~valid)

    def recall(self, windows: Tensor) -> dict[str, Tensor]:
        """What windows ``[B, W]`` of a rollout's rows begin with: ``state [B, H]``, and ``start [W, B]``."""
        return {"state": self.state.flatten(0, 1)[windows[:, 0]], "start": self.start.flatten(0, 1)[windows.t()]}

    def dump(self) -> dict[str, Tensor]:
        """What the next rollout begins with."""
        return {"state": self.state[self.row].clone(), "start": self.start[self.row].clone()}

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`dump` gave."""
        self.row = 0
        self.state[0].copy_(saved["state"])
        self.start[0].copy_(saved["start"])


class Recalling:
    """A policy with memory as a function of a batch of observations, one after another of the same lanes.

    Args:
        policy: The policy.
        deterministic: Take the likeliest actions.
    """

    def __init__(self, policy: MemoryPolicy, deterministic: bool) -> None:
        self.policy, self.deterministic = policy, deterministic
        self._state: Tensor | None = None

    def reset(self) -> None:
        """Forget everything: the lanes begin anew."""
        self._state = None

    @torch.no_grad()
    def __call__(self, obs: Any) -> Tensor:
        """Actions ``[B, ...]`` as the environment takes them."""
        policy = self.policy
        obs = tree_map(lambda leaf: leaf.to(policy.device), obs)
        rows = len(tree_leaves(obs)[0])
        first = self._state is None
        if self._state is None:
            self._state = torch.zeros(rows, policy.memory, device=policy.device)
        start = torch.full((rows,), first, device=policy.device)
        action, _, _, self._state = policy.step(obs, self._state, start, self.deterministic)
        return policy.executed(action)
