"""Behaviour cloning: the policy under which the demonstrated actions are likeliest.

Pomerleau, "Efficient training of artificial neural networks for autonomous navigation", 1991; with mixtures as in
Bishop, "Mixture density networks", 1994.
"""

from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import ConvertCallback
from torch import Tensor

from ..base import BatchAlgorithm, arguments, fetch, told
from ..defaults import few_threads
from ..policies import ActorCriticPolicy
from .common import Imitator, policy_action
from .mixture import MixturePolicy


class BC(Imitator, BatchAlgorithm):
    """Behaviour cloning with the policy network of PPO (from whose weights PPO can go on).

    A step of ``learn`` is one row of the demonstrations learned from; the environment gives the spaces and is not acted
    in. Discrete, MultiDiscrete and MultiBinary actions are cloned by their log-likelihood, those of a Box under a
    Gaussian (``mixture=1``) or a mixture of Gaussians, which can do one thing or another where a single one does what
    lies between.

    Args:
        policy: As PPO's.
        env: Whatever has the spaces: an id, an environment, a batch.
        demonstrations: ``Demonstrations``, or the folder that they are in.
        reward: Not used: there is only the demonstrator.
        learning_rate: Of Adam.
        batch_size: Rows of a minibatch.
        round_updates: Minibatches between two log lines, and between two chances to save or to stop.
        mixture: Components, for a Box.
        ent_coef: Weight of an entropy bonus (of the log-likelihood of own draws, where there is no formula).
        l2: Weight of the squared parameters.
        max_grad_norm: Gradients longer than this are cut to it.
        stats_window_size: As in Stable-Baselines3.
        tensorboard_log: Folder for TensorBoard.
        policy_kwargs: For the policy class.
        verbose: 0 for silence, 1 for the log.
        seed: Of weights and draws.
        device: "auto" is the environments' own.
        _init_setup_model: False leaves the networks to be built later.

    Raises:
        ValueError: The demonstrations are of another environment, or ``mixture`` is for other actions.
    """

    chosen = ("learning_rate", "batch_size", "round_updates")
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        demonstrations: Any = None,
        reward: Any = None,
        learning_rate: float = 1e-3,
        batch_size: int = 256,
        round_updates: int = 50,
        mixture: int = 1,
        ent_coef: float = 0.0,
        l2: float = 0.0,
        max_grad_norm: float = 10.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self._take_demonstrations(demonstrations)
        config = arguments(locals())
        config["demonstrations"] = self._of
        super().__init__(config, env)
        self.batch_size, self.round_updates, self.mixture = batch_size, round_updates, mixture
        self.ent_coef, self.l2, self.max_grad_norm = ent_coef, l2, max_grad_norm
        if min(batch_size, round_updates, mixture) < 1:
            raise ValueError(f"batch_size={batch_size}, round_updates={round_updates}, mixture={mixture}: at least 1")
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self._know_demonstrations(self.observation_space, self.action_space, self.seed)
        kwargs = {**self.policy_kwargs}
        policy_class = self.policy_class
        if self.mixture > 1:
            if not isinstance(self.action_space, spaces.Box):
                raise ValueError(f"mixture={self.mixture} is for a Box of actions, and these are {self.action_space}")
            policy_class, kwargs["components"] = MixturePolicy, self.mixture
        made = policy_class(self.observation_space, self.action_space, self.lr_schedule, **kwargs)
        assert isinstance(made, ActorCriticPolicy)
        self.policy = made.to(self.device)

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 1,
        tb_log_name: str = "BC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn from ``total_timesteps`` rows of the demonstrations, rounded up to whole rounds."""
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(told(locals()), globals())
        listening = not isinstance(callback, ConvertCallback) or callback.callback is not None
        rounds = 0
        try:
            while self.num_timesteps < total_timesteps:
                callback.on_rollout_start()
                self._before_round()
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                with few_threads(self.batch_size):
                    self.train()
                if listening and not callback.on_step():
                    break
                callback.on_rollout_end()
                rounds += 1
                if log_interval is not None and rounds % log_interval == 0:
                    self.dump_logs(rounds)
            callback.on_training_end()
        finally:
            self._put_bar_away()
        return self

    def _before_round(self) -> None:
        """What is done before the updates of a round; DAgger asks its expert here."""

    def _draw(self) -> tuple[Any, Tensor]:
        """Observations and executed actions of one minibatch."""
        x = self.expert(self.batch_size)
        return x.obs, x.action  # type: ignore[return-value]

    def train(self) -> None:
        """One round of minibatches."""
        policy = self.policy
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        losses = []
        for _ in range(self.round_updates):
            obs, action = self._draw()
            loss, likelihood = self.cloning_loss(obs, action)
            policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
            policy.optimizer.step()
            losses.append(torch.stack([loss.detach(), likelihood.detach()]))
            self.num_timesteps += self.batch_size
        self._n_updates += self.round_updates
        loss, likelihood = torch.stack(losses).mean(0)
        for name, value in fetch({"train/loss": loss, "train/log_likelihood": likelihood}).items():
            self.logger.record(name, value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def cloning_loss(self, obs: Any, action: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, ``action`` as executed, and the mean log-likelihood in it."""
        _, log_prob, entropy = self.policy.evaluate_actions(obs, policy_action(self.action_space, action))
        likelihood = log_prob.mean()
        loss = -likelihood
        if self.ent_coef:
            loss = loss + self.ent_coef * (log_prob.mean() if entropy is None else -entropy.mean())
        if self.l2:
            loss = loss + self.l2 * torch.stack([p.square().sum() for p in self.policy.parameters()]).sum() / 2
        return loss, likelihood

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {**super().training_state(), "imitation": self._imitation_state()}

    def load_training_state(self, state: Any) -> None:
        """Put back what :meth:`training_state` gave."""
        super().load_training_state(state)
        self._load_imitation_state(state["imitation"])
        self._last_obs = {}  # it is never acted on

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        self._last_obs = {}  # nothing is lived
