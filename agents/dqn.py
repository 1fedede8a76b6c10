"""Deep Q-learning on batches of environments, behind Stable-Baselines3's face.

Mnih et al., "Human-level control through deep reinforcement learning", 2015. From the same weights and the same
minibatch, an update equals ``stable_baselines3.DQN``'s. What differs is around it: transitions stay in tensors on one
device, rewards are expressions scored when they are sampled, and every environment explores by a draw of its own.
"""

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor
from torch.nn import functional as F

from ..shaping.term import ExperienceMap
from .base import arguments
from .defaults import OffPolicySettings
from .off_policy import OffPolicyAlgorithm, polyak, statistics
from .policies import BatchPolicy
from .ppo import Number
from .q_policies import DQNPolicy


class DQN(OffPolicyAlgorithm):
    """DQN with a target network and the Huber loss, for one Discrete action.

    Args:
        policy: "MlpPolicy", "CnnPolicy" or "MultiInputPolicy" (all the same: extractors are chosen by what the space
            holds), or a class derived from ``cairn.agents.DQNPolicy``.
        env: A ``BatchEnv``, an id, a Gymnasium environment or vector environment, or a Stable-Baselines3 ``VecEnv``.
        reward: A term or sum of terms, its text, or a function of a ``Stretch``; None trains on the task's own. Its
            channels are added up: there is one value.
        learning_rate: Number, or function of the remaining progress (1 to 0).
        buffer_size: Transitions kept, of all environments. This and the settings below that are None follow from the
            number of environments and are printed (``verbose=1``): :func:`cairn.agents.defaults.resolve_off_policy`.
        learning_starts: Environment steps with random actions before the first update; None is 100 for one environment.
        batch_size: Rows of a minibatch; None is 32 for one environment.
        tau: Share of the way that a target update goes.
        gamma: Discount.
        train_freq: Steps of every environment between two updates, or ``(k, "episode")`` with one environment; None is
            4 for one environment.
        gradient_steps: Minibatches of an update; -1 for one for each transition lived since the last.
        replay_buffer_class: Not supported: ``reward`` and ``experience`` are the way.
        replay_buffer_kwargs: Likewise.
        optimize_memory_usage: Ignored: observations are kept once in any case.
        n_steps: Rewards summed before the bootstrap.
        target_update_interval: Environment steps between two updates of the target network.
        exploration_fraction: Share of the training over which exploration falls.
        exploration_initial_eps: Chance of a random action at first.
        exploration_final_eps: And in the end.
        max_grad_norm: Gradients longer than this are cut to it.
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
        name: DQNPolicy for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    }
    policy_base: ClassVar[type[BatchPolicy]] = DQNPolicy
    actions_of = (spaces.Discrete,)
    one = OffPolicySettings(1_000_000, learning_starts=100, batch_size=32, train_freq=4, gradient_steps=1)
    policy: DQNPolicy

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: Any,
        reward: Any = None,
        learning_rate: Number = 1e-4,
        buffer_size: int | None = None,
        learning_starts: int | None = None,
        batch_size: int | None = None,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] | None = None,
        gradient_steps: int | None = None,
        replay_buffer_class: None = None,
        replay_buffer_kwargs: None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10,
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
        self.target_update_interval, self.max_grad_norm = target_update_interval, max_grad_norm
        self.exploration_initial_eps, self.exploration_final_eps = exploration_initial_eps, exploration_final_eps
        self.exploration_fraction = exploration_fraction
        self.exploration_schedule = LinearSchedule(exploration_initial_eps, exploration_final_eps, exploration_fraction)
        self.exploration_rate, self._n_calls = 0.0, 0
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.q_net, self.q_net_target = self.policy.q_net, self.policy.q_net_target
        self._nets = list(self.q_net.parameters()), list(self.q_net_target.parameters())
        self._stats = statistics(self.q_net), statistics(self.q_net_target)

    def _explore(self, obs: Any) -> Tensor:
        best = self.q_net(obs).argmax(1, keepdim=True)
        random, dice = self.form.random(len(best)), torch.rand(best.shape, device=self.device)
        return torch.where(dice < self.exploration_rate, random, best)

    def _on_step(self) -> None:
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            polyak(*self._nets, self.tau)
            if self._stats[0]:
                polyak(*self._stats, 1.0)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from ``gradient_steps`` minibatches, without waiting for the device."""
        self.policy.set_training_mode(True)
        self._set_rate(self.policy.optimizer)
        losses = []
        for batch in self.replay_buffer.batches(gradient_steps, batch_size):
            with torch.no_grad():
                ahead = self.q_net_target(batch.next_observations).amax(1, keepdim=True)
                discount = self.gamma if batch.discounts is None else batch.discounts
                target = batch.rewards + (1 - batch.dones) * discount * ahead
            loss = F.smooth_l1_loss(self.q_net(batch.observations).gather(1, batch.actions), target)
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self._nets[0], self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.detach())
        self._n_updates += gradient_steps
        self._note(loss=losses)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Choose actions; see ``cairn.agents.ActorCriticPolicy.predict``.

        As in Stable-Baselines3, each action is a random one with the chance that training has come to, unless
        ``deterministic``.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if deterministic or self.exploration_rate <= 0:
            return actions, state
        space = self.action_space
        assert isinstance(space, spaces.Discrete)
        if isinstance(actions, Tensor):
            random = torch.randint_like(actions, int(space.n)) + int(space.start)
            return torch.where(
                torch.rand(actions.shape, device=actions.device) < self.exploration_rate, random, actions
            ), state
        random = np.random.randint(int(space.n), size=np.shape(actions)) + int(space.start)
        return np.where(np.random.rand(*np.shape(actions)) < self.exploration_rate, random, actions), state

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log."""
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        super().dump_logs(iteration)

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on; see ``OffPolicyAlgorithm``."""
        return {**super().training_state(), "exploration": [self.exploration_rate, self._n_calls]}

    def load_training_state(self, state: Any) -> None:
        """Put back what :meth:`training_state` gave."""
        super().load_training_state(state)
        self.exploration_rate, self._n_calls = state["exploration"]

    def _saved_config(self) -> dict[str, Any]:
        return {**super()._saved_config(), "exploration_rate": float(self.exploration_rate)}

    def _recall(self, meta: dict[str, Any]) -> None:
        self.exploration_rate = float(meta["exploration_rate"])
