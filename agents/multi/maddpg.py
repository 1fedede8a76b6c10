"""MADDPG: deterministic actors that see their own observations, critics that see everything.

Lowe et al., "Multi-agent actor-critic for mixed cooperative-competitive environments", 2017, equations 5 and 6.
Discrete actions are one-hots drawn by the Gumbel trick, straight-through. As in Roy et al. (2020), the other agents'
actions in an actor's gradient are those of their present policies. The agents' networks are evaluated together, one
batched product for each layer.
"""

from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from ..base import arguments
from ..defaults import OffPolicySettings
from ..evaluation import own_randomness
from ..off_policy import polyak
from ..policies import BatchPolicy
from ..ppo import Number
from .networks import MADDPGPolicy
from .off_policy import OffPolicyTeam


class MADDPG(OffPolicyTeam):
    """MADDPG; one actor and one critic for each agent.

    Steps are counted over environments, as the agents of a team act at once. Returns are means over the agents.

    With ``learners`` above 1, so many of them learn side by side: each has its own networks, environments (the first
    N / L are the first's, and so on), minibatches, and gradients cut by themselves. Ten cost far less than ten runs, as
    their networks are small. They are as ten seeds are, but no bits of runs with other seeds.

    Args:
        policy: "MlpPolicy".
        env: A team whose agents observe vectors, act in a Box or a Discrete space, and stay to the end.
        reward: A term or sum of terms over the team's rows (observations ``[A, D]``), paid to all agents alike; None
            trains every agent on its own.
        learning_rate: Number, or function of the remaining progress (1 to 0): of the actors.
        critic_rate: Times that, of the critics.
        buffer_size: As for ``TD3``, as are the following; each learner's own.
        learning_starts: None is 2,500 steps; each learner's own.
        batch_size: None is 256 for one environment.
        tau: Share of the way that a target update goes.
        gamma: Discount.
        train_freq: None is 25 for one environment.
        gradient_steps: Minibatches of an update.
        action_noise: As for ``TD3``; discrete actions are explored by drawing them, and have none.
        replay_buffer_class: Not supported, and so its arguments.
        replay_buffer_kwargs: Likewise.
        optimize_memory_usage: Ignored.
        max_grad_norm: Gradients longer than this, of all actors or of all critics together, are cut to it.
        stats_window_size: How many episodes the logged means are over.
        tensorboard_log: Folder for TensorBoard.
        policy_kwargs: ``net_arch``.
        verbose: 0 for silence, 1 for the log.
        seed: Of weights, actions, draws and environments.
        device: "auto" is the environments' own.
        reward_freq: As for ``TD3``.
        learners: L; above 1 without a ``reward``, whose terms would learn from all.
        _init_setup_model: False leaves the networks to be built later.

    Raises:
        TypeError: ``env`` has no agent axis.
        ValueError: Agents that leave, observations that are no vectors, actions that are neither, or environments
            that cannot be shared out among the learners.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MADDPGPolicy}
    policy_base: ClassVar[type[BatchPolicy]] = MADDPGPolicy
    one = OffPolicySettings(1_000_000, learning_starts=2_500, batch_size=256, train_freq=25, gradient_steps=1)
    policy: MADDPGPolicy

    def __init__(
        self,
        policy: str | type[MADDPGPolicy],
        env: Any,
        reward: Any = None,
        learning_rate: Number = 3e-4,
        critic_rate: float = 3.0,
        buffer_size: int | None = None,
        learning_starts: int | None = None,
        batch_size: int | None = None,
        tau: float = 0.005,
        gamma: float = 0.95,
        train_freq: int | None = None,
        gradient_steps: int | None = None,
        action_noise: Any = 0.3,
        replay_buffer_class: None = None,
        replay_buffer_kwargs: None = None,
        optimize_memory_usage: bool = False,
        max_grad_norm: float = 0.5,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        reward_freq: int | None = None,
        learners: int = 1,
        _init_setup_model: bool = True,
    ) -> None:
        config = {**arguments(locals()), "n_steps": 1}
        if learners < 1:
            raise ValueError(f"learners={learners}: at least 1")
        if learners > 1 and reward is not None:
            raise ValueError(
                f"learners={learners} and a reward expression, whose terms would learn from all of them: leave the "
                "reward out (reward=None, in a script: `cairn train` always has one), or train them one after the other"
            )
        self.learners = learners
        super().__init__(config, self._joint(env), reward, None)
        del config["n_steps"]
        self.max_grad_norm, self.critic_rate = max_grad_norm, critic_rate
        if _init_setup_model:
            self._setup_model()

    def _network_kwargs(self) -> dict[str, Any]:
        """What the policy is built with, besides the user's ``policy_kwargs``."""
        return {"critic_rate": self.critic_rate, "discrete": self.discrete, "learners": self.learners}

    def _own_lanes(self) -> int:
        lanes = super()._own_lanes()
        if lanes % self.learners and self.batch is not None:
            raise ValueError(f"{lanes} environments for {self.learners} learners: a multiple of them")
        return max(lanes // self.learners, 1)

    def _settle(self) -> None:
        super()._settle()
        self.buffer_size *= self.learners
        self.learning_starts *= self.learners

    def _make_room(self) -> None:
        super()._make_room()
        self.replay_buffer.learners = self.learners

    def _setup_model(self) -> None:
        asked = dict(self.policy_kwargs)
        self.policy_kwargs = {**asked, **self._network_kwargs()}
        super()._setup_model()
        self.policy_kwargs = asked
        policy = self.policy
        self._nets = [
            (list(policy.actor.parameters()), list(policy.actor_target.parameters())),
            (list(policy.critic.parameters()), list(policy.critic_target.parameters())),
        ]
        if policy.masks:
            self._nets.append((list(policy.chooser.parameters()), list(policy.chooser_target.parameters())))
        self._of_actor = [p for group in policy.actor_optimizer.param_groups for p in group["params"]]

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Learn from ``gradient_steps`` minibatches, without waiting for the device."""
        policy = self.policy
        policy.set_training_mode(True)
        self._set_rate(policy.actor_optimizer)
        for group in policy.critic_optimizer.param_groups:
            group["lr"] = self._rate * self.critic_rate
        notes: dict[str, list[Tensor]] = {}
        for batch in self.replay_buffer.batches(gradient_steps, batch_size):
            self._n_updates += 1
            obs, after = batch.observations, batch.next_observations
            actions = batch.actions.reshape(len(obs), policy.members, policy.each)
            paid = batch.rewards.reshape(len(obs), -1).t()  # [A, B], or [1, B] for all
            with torch.no_grad():
                next_actions = policy.choose(after, target=True)[:, :, 0].transpose(0, 1)
                ahead = policy.judge(after, next_actions, target=True)
                target = paid + (1 - batch.dones[:, 0]) * self.gamma * ahead
            critic_loss = (policy.judge(obs, actions) - target).square().mean(1).sum()
            policy.critic_optimizer.zero_grad()
            # Losses are means over the learners, and each one's share of the gradient is its own.
            torch.autograd.backward(critic_loss * self.learners)
            self._clip(list(policy.critic.parameters()))
            policy.critic_optimizer.step()

            policy.actor_optimizer.zero_grad()
            losses = self._actor_losses(obs)
            total = torch.stack(list(losses.values())).sum() * self.learners
            torch.autograd.backward(total, inputs=self._of_actor)
            losses |= self._extra_gradients(obs)
            self._clip(self._of_actor)
            policy.actor_optimizer.step()
            for nets in self._nets:
                polyak(*nets, self.tau)
            for name, loss in {"critic_loss": critic_loss, **losses}.items():
                notes.setdefault(name, []).append(loss.detach())
        self._note(**notes)

    def _clip(self, parameters: list[Tensor]) -> None:
        """Cut every learner's gradient to ``max_grad_norm``."""
        if self.learners == 1:
            torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            return
        parts = [p.grad.view(self.learners, -1) for p in parameters if p.grad is not None]
        length = sum((part.square().sum(1) for part in parts), torch.zeros(self.learners, device=self.device)).sqrt()
        share = (self.max_grad_norm / (length + 1e-6)).clamp(max=1.0)[:, None]
        torch._foreach_mul_(parts, [share] * len(parts))

    def learner(self, k: int) -> Self:
        """Learner ``k`` alone: a model without environments that acts and can be saved; its optimisers are new.

        Raises:
            IndexError: There are not so many.
        """
        if not 0 <= k < self.learners:
            raise IndexError(f"learner {k} of {self.learners}: 0 to {self.learners - 1}")
        config = {name: value for name, value in self._config.items() if name not in ("policy", "device")}
        with own_randomness(0):  # building networks draws weights
            config |= {"learners": 1, "_init_setup_model": False}
            lone = type(self)(self._config["policy"], None, device=self.device, **config)
            lone.observation_space, lone.action_space = self.observation_space, self.action_space
            lone._recall(self._saved_config())
            lone._setup_model()
        own = lone.policy.state_dict()
        kept = {name: v.chunk(self.learners)[k] for name, v in self.policy.state_dict().items() if name in own}
        lone.policy.load_state_dict(kept)
        lone.num_timesteps = self.num_timesteps // self.learners
        return lone

    def _actor_losses(self, obs: Tensor) -> dict[str, Tensor]:
        """The parts of the actors' loss on ``obs [R, A, D]``."""
        raw = self.policy.raw(obs)
        losses = {"actor_loss": self._policy_loss(obs, self.policy.pick(raw))}
        if self.discrete:  # a weight of the paper's code, without which logits grow until nothing is tried any more
            losses["logit_loss"] = 1e-3 * raw.square().mean((1, 2, 3)).sum()
        return losses

    def _policy_loss(self, obs: Tensor, heads: Tensor) -> Tensor:
        """Minus every agent's own value of its own action, the others' being given; summed over the agents."""
        own = heads[:, :, 0].transpose(0, 1)  # [R, A, d]
        mine = torch.eye(self.policy.members, dtype=torch.bool, device=obs.device)[:, None, :, None]
        return -self.policy.judge(obs, torch.where(mine, own, own.detach())).mean(1).sum()

    def _extra_gradients(self, obs: Tensor) -> dict[str, Tensor]:
        """Further gradients of the actors, added up in place; returns what to log."""
        return {}

    def _learned(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "actor_optimizer": self.policy.actor_optimizer,
            "critic_optimizer": self.policy.critic_optimizer,
        }

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.actor_optimizer", "policy.critic_optimizer"], []
