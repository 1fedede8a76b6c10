"""A network for each agent of a team, evaluated together: the agents are the first axis of every weight."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from ...shaping.adam import Adam
from ..q_policies import OffPolicyPolicy
from .fused import normed


class TeamMLP(nn.Module):
    """A networks of the same form with weights of their own: ``[A, B, in]`` to ``[A, B, out]``.

    Layers are linear, normalised (layer norm) and rectified, the last one linear.

    Args:
        members: A.
        sizes: Widths from the input to the output.
        small: The last layer begins uniform in [-0.003, 0.003], so that a squashed output begins near 0.
    """

    def __init__(self, members: int, sizes: tuple[int, ...], small: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        for k, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:])):
            last = k == len(sizes) - 2
            reach = 3e-3 if last and small else fan_in**-0.5  # torch's own for linear layers
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-reach, reach)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-reach, reach)))
            if not last:
                self.scales.append(nn.Parameter(torch.ones(members, 1, fan_out)))
                self.shifts.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Evaluate all; ``mask [A, B, hidden]`` multiplies the first layer before it is normalised."""
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, x, weight)
            if k < len(self.scales):
                x = x * mask if mask is not None and k == 0 else x
                x = normed(x, self.scales[k], self.shifts[k])
        return x


class MADDPGPolicy(OffPolicyPolicy):
    """An actor and a critic for every agent: actors see their own observations, critics everything.

    L learners side by side have networks of their own and share nothing. Of R rows, the first R / L are the first
    learner's, the next R / L the second's, and so on.

    Args:
        observation_space: Box ``[A, D]``.
        action_space: Box ``[A, d]``.
        lr_schedule: Learning rate as a function of the remaining progress, 1 to 0.
        net_arch: Widths of the hidden layers.
        heads: What an actor gives beside its own action: 0, or A - 1 predictions of the others' (``TeamReg``).
        masks: K, the number of sub-policies that a mask chooses from (``CoachReg``); 0 for none.
        critic_rate: The critics' learning rate over the actors'.
        discrete: Actions are one-hots, drawn by the Gumbel trick, and actors' gradients pass through as through the
            softmax (straight-through; Jang et al. and Maddison et al., 2017).
        learners: L.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        lr_schedule: Any,
        net_arch: tuple[int, ...] | list[int] = (128, 128),
        heads: int = 0,
        masks: int = 0,
        critic_rate: float = 1.0,
        discrete: bool = False,
        learners: int = 1,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"MADDPG's policy has no setting {', '.join(map(repr, kwargs))}; it has net_arch")
        super().__init__(observation_space, action_space)
        self.members, width = observation_space.shape[0], int(observation_space.shape[1])
        self.each, self.heads, self.masks, self.discrete = int(action_space.shape[1]), heads, masks, discrete
        self.learners = learners
        hidden, a = tuple(net_arch), self.members
        if masks and hidden[0] % masks:
            raise ValueError(f"net_arch={list(hidden)}: {masks} masks divide the first layer into equal parts")
        sizes = (width, *hidden, self.each * (1 + heads))
        everything = (a * (width + self.each), *hidden, 1)
        self.actor, self.actor_target = (TeamMLP(learners * a, sizes, small=True) for _ in range(2))
        self.critic, self.critic_target = (TeamMLP(learners * a, everything) for _ in range(2))
        learning = [*self.actor.parameters()]
        if masks:
            self.chooser, self.chooser_target = (TeamMLP(learners * a, (width, masks)) for _ in range(2))
            self.coach = TeamMLP(learners, (a * width, *hidden, masks))
            self.chooser_target.load_state_dict(self.chooser.state_dict())
            learning += [*self.chooser.parameters(), *self.coach.parameters()]
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critic_target.load_state_dict(self.critic.state_dict())
        rate = lr_schedule(1)
        self.actor_optimizer = Adam(learning, rate, fused=True)
        self.critic_optimizer = Adam(self.critic.parameters(), rate * critic_rate, fused=True)
        self._know_actions(action_space)

    def choose(
        self, obs: Tensor, *, target: bool = False, mask: Tensor | None = None, likeliest: bool = False
    ) -> Tensor:
        """All heads of all actors: ``[R, A, D]`` to ``[A, R, heads + 1, d]``; head 0 is one's own action, in [-1, 1].

        Args:
            obs: What the agents observe.
            target: Ask the target networks.
            mask: One-hot ``[A, R, K]`` instead of the agents' own choice, where there are masks.
            likeliest: The agents' own choice is their likeliest mask, and action, rather than a draw.
        """
        return self.pick(self.raw(obs, target=target, mask=mask, likeliest=likeliest), likeliest)

    def pick(self, raw: Tensor, likeliest: bool = False) -> Tensor:
        """Actions of what :meth:`raw` gave: squashed, or one-hot with 1 for the choice and -1 for the rest."""
        if not self.discrete:
            return torch.tanh(raw)
        return 2 * (one_hot(raw) if likeliest else F.gumbel_softmax(raw, hard=True)) - 1

    def raw(self, obs: Tensor, *, target: bool = False, mask: Tensor | None = None, likeliest: bool = False) -> Tensor:
        """What the actors' networks give, arguments and shape as :meth:`choose`'s: logits for discrete actions."""
        x = self._apart(obs.transpose(0, 1).float())
        hidden = None
        if self.masks:
            if mask is None:
                logits = (self.chooser_target if target else self.chooser)(x)
                mask = one_hot(logits) if likeliest else F.gumbel_softmax(logits, hard=True)
            else:
                mask = self._apart(mask)
            hidden = mask.repeat(1, 1, self.actor.sizes[1] // self.masks)
        out = self._together((self.actor_target if target else self.actor)(x, hidden))
        return out.reshape(*out.shape[:2], 1 + self.heads, self.each)

    def judge(self, obs: Tensor, actions: Tensor, *, target: bool = False) -> Tensor:
        """Each agent's value ``[A, R]`` of ``obs [R, A, D]`` and actions ``[R, A, d]``, or its own ``[A, R, A, d]``."""
        seen = obs.flatten(1).float().expand(self.members, -1, -1)
        done = actions.flatten(-2).expand(self.members, -1, -1)
        x = self._apart(torch.cat([seen, done], -1))
        return self._together((self.critic_target if target else self.critic)(x)).squeeze(-1)

    def drawn_to(self, obs: Tensor) -> Tensor:
        """Every agent's logits ``[A, R, K]`` of the masks, from its own observation."""
        return self._together(self.chooser(self._apart(obs.transpose(0, 1).float())))

    def coached(self, obs: Tensor) -> Tensor:
        """The coach's logits ``[1, R, K]`` of the masks, from all observations."""
        out: Tensor = self.coach(obs.float().reshape(self.learners, len(obs) // self.learners, -1))
        return out.flatten(0, 1)[None]

    def _apart(self, x: Tensor) -> Tensor:
        """From ``[A, R, ...]`` to a row for each network, ``[L A, R / L, ...]``."""
        if x.shape[1] % self.learners:
            raise ValueError(
                f"{x.shape[1]} rows for {self.learners} learners side by side, who get as many each: ask one of them "
                "alone, learner(k)"
            )
        each = x.shape[1] // self.learners
        return x.reshape(self.members, self.learners, each, *x.shape[2:]).transpose(0, 1).flatten(0, 1)

    def _together(self, x: Tensor) -> Tensor:
        """The way back."""
        return x.reshape(self.learners, self.members, *x.shape[1:]).transpose(0, 1).flatten(1, 2)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        own = self.choose(observation, likeliest=deterministic)[:, :, 0]
        return own.transpose(0, 1).flatten(1)


def one_hot(logits: Tensor) -> Tensor:
    """The largest of the last axis as a one-hot, through which gradients pass as through the softmax."""
    soft = logits.softmax(-1)
    hard = F.one_hot(logits.argmax(-1), logits.shape[-1]).to(soft)
    return hard + soft - soft.detach()
