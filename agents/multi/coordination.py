"""TeamReg and CoachReg: MADDPG with an inductive bias towards coordination.

Roy et al., "Promoting coordination through policy regularization in multi-agent deep reinforcement learning", 2020:
agents that can predict each other (section 4.1), and agents that change their sub-policies together (section 4.2).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .maddpg import MADDPG
from .ppo import signature_of


@signature_of(MADDPG, predict_weight=0.01, predictable_weight=0.01)
class TeamReg(MADDPG):
    """MADDPG whose actors also predict the other agents' actions, and are drawn to be predicted.

    Agent i's further heads give predictions of the others' actions from its own observation. Their squared error,
    summed over an action's dimensions and over the others and divided by the number of agents, moves the agent that
    predicts with ``predict_weight`` and those that are predicted with ``predictable_weight``. ``train/team_error`` is
    its mean over pairs, and with both weights at 0 a measure of how predictable the agents are.

    Args:
        policy: As for ``MADDPG``.
        env: As for ``MADDPG``.
        reward: As for ``MADDPG``.
        predict_weight: See above (lambda 1 of the paper).
        predictable_weight: See above (lambda 2).
        kwargs: All other arguments of ``MADDPG``.
    """

    chooses = False  # the error of a prediction is a distance of actions

    def __init__(
        self,
        policy: Any,
        env: Any,
        reward: Any = None,
        *,
        predict_weight: float = 0.01,
        predictable_weight: float = 0.01,
        **kwargs: Any,
    ) -> None:
        build = kwargs.pop("_init_setup_model", True)
        super().__init__(policy, env, reward, **kwargs, _init_setup_model=False)
        self.predict_weight, self.predictable_weight = predict_weight, predictable_weight
        self._config |= {"predict_weight": predict_weight, "predictable_weight": predictable_weight}
        if build:
            self._setup_model()

    def _network_kwargs(self) -> dict[str, Any]:
        members = self.observation_space.shape[0]  # type: ignore[index]
        others = [[j for j in range(members) if j != i] for i in range(members)]
        self._others = torch.tensor(others, dtype=torch.int64, device=self.device)
        return {**super()._network_kwargs(), "heads": members - 1}

    def _guesses(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """What agent i guesses that its others do, and what they do, ``[A, R, A - 1, d]`` each."""
        return heads[:, :, 1:], heads[:, :, 0][self._others].transpose(1, 2)

    def team_error(self, obs: Tensor) -> Tensor:
        """The squared error of the agents' guesses, mean over pairs, ``[R]``, for ``obs [R, A, D]``."""
        guesses, real = self._guesses(self.policy.choose(obs))
        return (guesses - real).square().sum(-1).mean((0, 2))

    def _actor_losses(self, obs: Tensor) -> dict[str, Tensor]:
        heads = self.policy.choose(obs)
        guesses, real = self._guesses(heads)
        # Of each agent it is the sum over the others over A, as in the published code: a sum over the agents.
        share = self.policy.members - 1
        predict = (guesses - real.detach()).square().sum(-1).mean()
        predictable = share * (guesses.detach() - real).square().sum(-1).mean()
        self._error, predict = predict.detach(), share * predict
        return {
            "actor_loss": self._policy_loss(obs, heads),
            "predict_loss": self.predict_weight * predict,
            "predictable_loss": self.predictable_weight * predictable,
        }

    def _extra_gradients(self, obs: Tensor) -> dict[str, Tensor]:
        return {"team_error": self._error}


@signature_of(MADDPG, masks=4, match_weight=0.65, together_weight=0.5, coach_weight=1.3)
class CoachReg(MADDPG):
    """MADDPG whose actors choose among K sub-policies, and a coach that teaches them to choose together.

    A sub-policy is a part of an actor's first layer. Each agent draws its own from its observation; the coach draws one
    for all from all observations. Three things are added to MADDPG's loss: agents are drawn to the coach's distribution
    (KL divergence from the coach's to the agent's, ``match_weight``) and the coach to the agents' (``coach_weight``),
    and both learn from the critics what the team earns under the coach's choice (``together_weight`` for the agents).
    ``train/synchrony`` is the share of pairs of agents whose likeliest sub-policies agree. The coach is not asked when
    they act.

    Args:
        policy: As for ``MADDPG``.
        env: As for ``MADDPG``.
        reward: As for ``MADDPG``.
        masks: K; it divides the width of the first layer.
        match_weight: See above (lambda 1 of the paper).
        together_weight: See above (lambda 2).
        coach_weight: See above (lambda 3).
        kwargs: All other arguments of ``MADDPG``.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        reward: Any = None,
        *,
        masks: int = 4,
        match_weight: float = 0.65,
        together_weight: float = 0.5,
        coach_weight: float = 1.3,
        **kwargs: Any,
    ) -> None:
        build = kwargs.pop("_init_setup_model", True)
        super().__init__(policy, env, reward, **kwargs, _init_setup_model=False)
        self.masks, self.match_weight = masks, match_weight
        self.together_weight, self.coach_weight = together_weight, coach_weight
        own = {"masks": masks, "match_weight": match_weight, "together_weight": together_weight}
        self._config |= {**own, "coach_weight": coach_weight}
        if build:
            self._setup_model()

    def _network_kwargs(self) -> dict[str, Any]:
        return {**super()._network_kwargs(), "masks": self.masks}

    def _actor_losses(self, obs: Tensor) -> dict[str, Tensor]:
        policy = self.policy
        agents = policy.drawn_to(obs).log_softmax(-1)
        coach = policy.coached(obs).log_softmax(-1).expand_as(agents)
        # Every agent is drawn by its own divergence, whole, and the coach by their mean: as in the published code.
        match = F.kl_div(agents, coach.detach(), log_target=True, reduction="none").sum(-1).mean(1).sum()
        taught = F.kl_div(agents.detach(), coach, log_target=True, reduction="none").sum(-1).mean()
        return {
            "actor_loss": self._policy_loss(obs, policy.choose(obs)),
            "match_loss": self.match_weight * match,
            "coach_loss": self.coach_weight * taught,
        }

    def _extra_gradients(self, obs: Tensor) -> dict[str, Tensor]:
        """What the team earns under the coach's choice: the coach's gradient as it is, the agents' weighted."""
        policy = self.policy
        mask = F.gumbel_softmax(policy.coached(obs), hard=True).expand(policy.members, -1, -1)
        actions = policy.choose(obs, mask=mask)[:, :, 0].transpose(0, 1)
        loss = -policy.judge(obs, actions).mean()
        agents, coach = list(policy.actor.parameters()), list(policy.coach.parameters())
        gradients = torch.autograd.grad(loss, [*agents, *coach])
        for k, (parameter, gradient) in enumerate(zip([*agents, *coach], gradients)):
            # The loss is a mean over the agents, and each one's share is its own.
            share = self.learners * (self.together_weight * policy.members if k < len(agents) else 1.0)
            assert parameter.grad is not None
            parameter.grad.add_(gradient, alpha=share)
        with torch.no_grad():
            synchrony = self.synchrony(obs).mean()
        return {"together_loss": loss.detach(), "synchrony": synchrony}

    def synchrony(self, obs: Tensor) -> Tensor:
        """The share of pairs of agents whose likeliest sub-policies agree, ``[R]``, for ``obs [R, A, D]``."""
        policy = self.policy
        likely = policy.drawn_to(obs).argmax(-1)
        same = (likely[:, None] == likely[None]).float().mean((0, 1))
        pairs = policy.members * (policy.members - 1)
        return (same * policy.members**2 - policy.members) / max(pairs, 1)
