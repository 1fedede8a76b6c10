"""Twin delayed deterministic policy gradients on batches of environments, behind Stable-Baselines3's face.

Fujimoto et al., "Addressing function approximation error in actor-critic methods", 2018. From the same weights,
minibatch and noise, an update equals ``stable_baselines3.TD3``'s. What differs is around it: transitions stay in
tensors on one device, and rewards are expressions scored when they are sampled.
"""

from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from torch.nn import functional as F

from ..shaping.term import ExperienceMap
from .base import arguments
from .defaults import OffPolicySettings
from .off_policy import OffPolicyAlgorithm, polyak, statistics
from .policies import BatchPolicy
from .ppo import Number
from .q_policies import TD3Policy


class TD3(OffPolicyAlgorithm):
    """TD3 with two critics, smoothed targets and a delayed actor, for continuous actions.

    Args:
        policy: "MlpPolicy", "CnnPolicy" or "MultiInputPolicy" (all the same: extractors are chosen by what the space
            holds), or a class derived from ``cairn.agents.TD3Policy``.
        env: A ``BatchEnv``, an id, a Gymnasium environment or vector environment, or a Stable-Baselines3 ``VecEnv``.
        reward: A term or sum of terms, its text, or a function of a ``Stretch``; None trains on the task's own. Its
            channels are added up: there is one value.
        learning_rate: Number, or function of the remaining progress (1 to 0).
        buffer_size: Transitions kept, of all environments. This and the settings below that are None follow from the
            number of environments and are printed (``verbose=1``): :func:`cairn.agents.defaults.resolve_off_policy`.
        learning_starts: Environment steps with random actions before the first update; None is 100 for one environment.
        batch_size: Rows of a minibatch; None is 256 for one environment.
        tau: Share of the way that a target update goes.
        gamma: Discount.
        train_freq: Steps of every environment between two updates, or ``(k, "episode")`` with one environment; None is
            1 for one environment.
        gradient_steps: Minibatches of an update; -1 for one for each transition lived since the last.
        action_noise: Added to actions scaled to [-1, 1]: a deviation, or Stable-Baselines3's normal or
            Ornstein-Uhlenbeck noise. As there, None explores by nothing but the first random actions.
        replay_buffer_class: Not supported: ``reward`` and ``experience`` are the way.
        replay_buffer_kwargs: Likewise.
        optimize_memory_usage: Ignored: observations are kept once in any case.
        n_steps: Rewards summed before the bootstrap.
        policy_delay: Critic updates for one of the actor and of all targets.
        target_policy_noise: Deviation of the noise on the target's actions.
        target_noise_clip: Its bound.
        stats_window_size: How many episodes the logged means are over.
        tensorboard_log: Folder for TensorBoard.
        policy_kwargs: For the policy class.
        verbose: 0 for silence, 1 for the log.
        seed: Of weights, actions, draws and environments.
        device: "auto" is the environments' own.
        experience: Makes further transitions of every minibatch: ``CounterfactualMachine``, say.
        reward_freq: Steps of every environment between two updates of the terms that learn; None is 2,048 steps of all
            environments together, and at least 16.
        _init_setup_model: False leaves the networks to be built later, as in Stable-Baselines3.

    Raises:
        ValueError: Spaces that it cannot act in, a channel with a discount of its own, or numbers that make no sense.
        TypeError: ``reward`` is a number, or ``policy`` is not ours.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        name: TD3Policy for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    }
    policy_base: ClassVar[type[BatchPolicy]] = TD3Policy
    one = OffPolicySettings(1_000_000, learning_starts=100, batch_size=256, train_freq=1, gradient_steps=1)
    policy: TD3Policy

    def __init__(
        self,
        policy: str | type[TD3Policy],
        env: Any,
        reward: Any = None,
        learning_rate: Number = 1e-3,
        buffer_size: int | None = None,
        learning_starts: int | None = None,
        batch_size: int | None = None,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] | None = None,
        gradient_steps: int | None = None,
        action_noise: Any = None,
        replay_buffer_class: None = None,
        replay_buffer_kwargs: None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        policy_delay: int = 2,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        experience: ExperienceMap | None = None,
        reward_freq: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(arguments(locals()), env, reward, experience)
        self.policy_delay, self.target_policy_noise = policy_delay, target_policy_noise
        self.target_noise_clip = target_noise_clip
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        policy = self.policy
        self.actor, self.actor_target = policy.actor, policy.actor_target
        self.critic, self.critic_target = policy.critic, policy.critic_target
        # As in Stable-Baselines3, a shared extractor moves twice: with the critics and with the actor.
        pairs = ((self.critic, self.critic_target), (self.actor, self.actor_target))
        self._nets = [(list(net.parameters()), list(target.parameters())) for net, target in pairs]
        self._stats = [(statistics(net), statistics(target)) for net, target in pairs]
        self._of_actor = self._nets[1][0]

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from ``gradient_steps`` minibatches, without waiting for the device."""
        self.policy.set_training_mode(True)
        self._set_rate(self.actor.optimizer, self.critic.optimizer)
        actor_losses, critic_losses = [], []
        for batch in self.replay_buffer.batches(gradient_steps, batch_size):
            self._n_updates += 1
            with torch.no_grad():
                noise = torch.empty_like(batch.actions).normal_(0, self.target_policy_noise)
                noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
                action = (self.actor_target(batch.next_observations) + noise).clamp(-1, 1)
                ahead = torch.cat(self.critic_target(batch.next_observations, action), 1).amin(1, keepdim=True)
                discount = self.gamma if batch.discounts is None else batch.discounts
                target = batch.rewards + (1 - batch.dones) * discount * ahead
            values = self.critic(batch.observations, batch.actions)
            critic_loss = torch.stack([F.mse_loss(value, target) for value in values]).sum()
            self.critic.optimizer.zero_grad()
            torch.autograd.backward(critic_loss)
            self.critic.optimizer.step()
            critic_losses.append(critic_loss.detach())

            if self._n_updates % self.policy_delay == 0:
                actor_loss = -self.critic.q1_forward(batch.observations, self.actor(batch.observations)).mean()
                self.actor.optimizer.zero_grad()
                torch.autograd.backward(actor_loss, inputs=self._of_actor)  # the critics' gradients are not needed
                self.actor.optimizer.step()
                actor_losses.append(actor_loss.detach())
                for nets, stats in zip(self._nets, self._stats):
                    polyak(*nets, self.tau)
                    if stats[0]:
                        polyak(*stats, 1.0)
        self._note(actor_loss=actor_losses, critic_loss=critic_losses)

    def _learned(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "actor_optimizer": self.actor.optimizer,
            "critic_optimizer": self.critic.optimizer,
        }

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []
