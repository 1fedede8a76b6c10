"""Soft actor-critic on batches of environments, behind Stable-Baselines3's face.

Haarnoja et al., "Soft actor-critic algorithms and applications", 2018. From the same weights, minibatch and noise, an
update equals ``stable_baselines3.SAC``'s. What differs is around it: transitions stay in tensors on one device, and
rewards are expressions scored when they are sampled.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from torch.nn import functional as F

from ..shaping.adam import Adam
from ..shaping.term import ExperienceMap
from .base import arguments
from .defaults import OffPolicySettings
from .off_policy import OffPolicyAlgorithm, polyak, statistics
from .policies import BatchPolicy
from .ppo import Number
from .q_policies import SACPolicy


class SAC(OffPolicyAlgorithm):
    """SAC with two critics and a learned temperature, for continuous actions.

    Args:
        policy: "MlpPolicy", "CnnPolicy" or "MultiInputPolicy" (all the same: extractors are chosen by what the space
            holds), or a class derived from ``cairn.agents.SACPolicy``.
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
            Ornstein-Uhlenbeck noise.
        replay_buffer_class: Not supported: ``reward`` and ``experience`` are the way.
        replay_buffer_kwargs: Likewise.
        optimize_memory_usage: Ignored: observations are kept once in any case.
        n_steps: Rewards summed before the bootstrap.
        ent_coef: The temperature; "auto" learns it, "auto_0.1" from there.
        target_update_interval: Gradient steps between two updates of the target networks.
        target_entropy: For a learned temperature; "auto" is minus the number of action dimensions.
        use_sde: State-dependent exploration.
        sde_sample_freq: New exploration matrix every so many steps; -1 for one an update.
        use_sde_at_warmup: Also before ``learning_starts``.
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
        name: SACPolicy for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    }
    policy_base: ClassVar[type[BatchPolicy]] = SACPolicy
    one = OffPolicySettings(1_000_000, learning_starts=100, batch_size=256, train_freq=1, gradient_steps=1)
    policy: SACPolicy

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: Any,
        reward: Any = None,
        learning_rate: Number = 3e-4,
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
        ent_coef: str | float = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
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
        self.ent_coef = ent_coef
        self.target_update_interval = target_update_interval
        self._first_temperature = _temperature(ent_coef)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        policy = self.policy
        self.actor, self.critic, self.critic_target = policy.actor, policy.critic, policy.critic_target
        self._nets = list(self.critic.parameters()), list(self.critic_target.parameters())
        self._stats = statistics(self.critic), statistics(self.critic_target)
        self._of_actor = list(self.actor.parameters())
        wanted = self._config["target_entropy"]
        self.target_entropy = -float(np.prod(self.action_space.shape or ())) if wanted == "auto" else float(wanted)
        # The logarithm is what is learned: the temperature stays positive.
        self.log_ent_coef = torch.full((1,), self._first_temperature, device=self.device).log()
        self.ent_coef_optimizer: torch.optim.Adam | None = None
        if isinstance(self.ent_coef, str):
            self.log_ent_coef.requires_grad_(True)
            self.ent_coef_optimizer = Adam([self.log_ent_coef], lr=self.lr_schedule(1), fused=True)
        else:
            self.ent_coef_tensor = torch.tensor(float(self.ent_coef), device=self.device)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Learn from ``gradient_steps`` minibatches, without waiting for the device."""
        self.policy.set_training_mode(True)
        actor, critic, tuner = self.actor, self.critic, self.ent_coef_optimizer
        self._set_rate(actor.optimizer, critic.optimizer, *([] if tuner is None else [tuner]))
        temperatures, tuning, actor_losses, critic_losses = [], [], [], []
        for step, batch in enumerate(self.replay_buffer.batches(gradient_steps, batch_size)):
            if self.use_sde:
                actor.reset_noise()
            action, log_prob = actor.action_log_prob(batch.observations)
            log_prob = log_prob.reshape(-1, 1)
            if tuner is None:
                temperature = self.ent_coef_tensor
            else:
                temperature = self.log_ent_coef.detach().exp()
                loss = -(self.log_ent_coef * (log_prob.detach() + self.target_entropy)).mean()
                tuner.zero_grad()
                torch.autograd.backward(loss)
                tuner.step()
                tuning.append(loss.detach())
            temperatures.append(temperature.reshape(()))

            with torch.no_grad():
                next_action, next_log_prob = actor.action_log_prob(batch.next_observations)
                ahead = torch.cat(self.critic_target(batch.next_observations, next_action), 1).amin(1, keepdim=True)
                ahead = ahead - temperature * next_log_prob.reshape(-1, 1)
                discount = self.gamma if batch.discounts is None else batch.discounts
                target = batch.rewards + (1 - batch.dones) * discount * ahead
            values = critic(batch.observations, batch.actions)
            critic_loss = 0.5 * torch.stack([F.mse_loss(value, target) for value in values]).sum()
            critic.optimizer.zero_grad()
            torch.autograd.backward(critic_loss)
            critic.optimizer.step()

            opinion = torch.cat(critic(batch.observations, action), 1).amin(1, keepdim=True)
            actor_loss = (temperature * log_prob - opinion).mean()
            actor.optimizer.zero_grad()
            torch.autograd.backward(actor_loss, inputs=self._of_actor)  # the critics' gradients are not needed
            actor.optimizer.step()
            actor_losses.append(actor_loss.detach())
            critic_losses.append(critic_loss.detach())

            if step % self.target_update_interval == 0:
                polyak(*self._nets, self.tau)
                if self._stats[0]:
                    polyak(*self._stats, 1.0)
        self._n_updates += gradient_steps
        self._note(ent_coef=temperatures, ent_coef_loss=tuning, actor_loss=actor_losses, critic_loss=critic_losses)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log."""
        if self.use_sde:
            self._losses["train/std"] = self.actor.get_std().mean().detach()
        super().dump_logs(iteration)

    def _learned(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "policy": self.policy,
            "actor_optimizer": self.actor.optimizer,
            "critic_optimizer": self.critic.optimizer,
        }
        if self.ent_coef_optimizer is not None:
            parts |= {"log_ent_coef": self.log_ent_coef, "ent_coef_optimizer": self.ent_coef_optimizer}
        return parts

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names = ["policy", "actor.optimizer", "critic.optimizer"]
        return names + ([] if self.ent_coef_optimizer is None else ["ent_coef_optimizer"]), []


def _temperature(ent_coef: str | float) -> float:
    """The temperature that ``ent_coef`` begins with.

    Raises:
        ValueError: It is neither a number, nor "auto", nor "auto_" and a positive number.
    """
    if not isinstance(ent_coef, str):
        return 1.0
    try:
        head, _, tail = ent_coef.partition("_")
        first = float(tail) if tail else 1.0
    except ValueError:
        head, first = "", 0.0
    if head != "auto" or not first > 0:
        raise ValueError(f"ent_coef={ent_coef!r}: a number, 'auto', or 'auto_0.1' to begin at 0.1")
    return first
