"""Proximal policy optimisation on batches of environments, behind Stable-Baselines3's face.

Schulman et al., "Proximal policy optimization algorithms", 2017. From the same weights and the same rollout, an update
equals ``stable_baselines3.PPO``'s. What differs is around it: the rollout is tensors on one device, rewards are
expressions with a value head for each channel, and truncation is told from termination to the end.

Threads: networks and minibatches are cut into parts of some hundred rows, which stay in a core's cache, and torch's
number of threads take parts side by side, each running torch on itself alone. How something is cut depends on its size
only, and gradients are added up in the order of the parts, so the number of threads changes the speed and no bit.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.utils import FloatSchedule

from ..shaping.checks import check_shaping
from ..shaping.reward import as_reward
from ..shaping.seats import RolloutSeat
from ..shaping.term import MAIN, Channel, World
from .base import arguments, told
from .collecting import PHASES
from .compiled import Compiled, fits
from .compiled_memory import CompiledMemory, fits_memory
from .defaults import Settings, resolve
from .epoch import Epochs
from .extractors import shows_symbols
from .graphs import GradientGraph
from .memory import Memories, MemoryPolicy
from .policies import ActorCriticPolicy, Ask
from .rollout import Rollout
from .updating import Updating
from .workers import Clock, Workers, old_objects_at_rest, one_thread

Number = float | Callable[[float], float]


class PPO(Updating):
    """PPO with clipped surrogate, generalised advantages and one value head per reward channel.

    Args:
        policy: "MlpPolicy", "CnnPolicy" or "MultiInputPolicy" (all the same: extractors are chosen by what the space
            holds), or a class derived from ``cairn.agents.ActorCriticPolicy``.
        env: A ``BatchEnv``, an id, a Gymnasium environment or vector environment, or a Stable-Baselines3 ``VecEnv``.
        reward: A term or sum of terms, its text, or a function of a ``Stretch``; None trains on the task's own.
        learning_rate: Number, or function of the remaining progress (1 to 0), as are ``clip_range`` and
            ``clip_range_vf``. This and the next three, left out, follow from the number of environments and are
            printed (``verbose=1``): see :func:`cairn.agents.defaults.resolve`.
        n_steps: T, steps per environment and rollout.
        batch_size: Rows of a minibatch.
        n_epochs: Passes over a rollout.
        gamma: Discount, of channels that do not have their own.
        gae_lambda: Trade-off of bias against variance of the advantages.
        clip_range: Trusted change of an action's probability ratio.
        clip_range_vf: Trusted change of a value, in units of the return; None for any.
        normalize_advantage: To mean 0 and deviation 1 in each minibatch.
        ent_coef: Weight of the entropy; None is 0.01 for discrete actions and 0 for continuous ones.
        vf_coef: Weight of the value loss.
        max_grad_norm: Gradients longer than this are cut to it.
        use_sde: State-dependent exploration (continuous actions only).
        sde_sample_freq: New exploration matrix every so many steps; -1 for one a rollout.
        rollout_buffer_class: Not supported: the rollout is kept in tensors. ``reward`` is the way to change rewards.
        rollout_buffer_kwargs: Likewise.
        target_kl: End the update when the policy has moved 1.5 times as far. Costs a synchronisation a minibatch.
        stats_window_size: How many episodes the logged means are over.
        tensorboard_log: Folder for TensorBoard.
        policy_kwargs: For the policy class. ``{"memory": 128}`` gives it a memory of that width, and ``"window"`` says
            how many steps gradients go back (see :class:`cairn.agents.memory.MemoryPolicy`).
        verbose: 0 for silence, 1 for the log.
        seed: Of weights, actions and environments.
        device: "auto" is the environments' own.
        compile: Learn through ``torch.compile``, which needs a C++ compiler on a CPU; equal but for rounding.
            On a CPU, networks for symbols are faster without: their loops are compiled already.
        cudagraphs: Record the gradient of a minibatch once and replay it, on CUDA only; likewise.
        bf16: Compute hidden layers in bfloat16, and the rest in float32 (see ``cairn.agents.half``). Made for GPUs: on
            a CPU networks for symbols leave their compiled loops for it, which are faster.
        whole_episodes: Learn from the rows of episodes that began and ended within the rollout, and from no others. A
            term that speaks when an episode has ended (``MinForm``, ``Gated``) says nothing yet of those still open,
            and what it says of steps of earlier rollouts stands at the episode's end. Rollouts should be some episodes
            long; those that hold no whole episode teach nothing. Needs a ``reward``.
        _init_setup_model: False leaves the networks to be built later, as in Stable-Baselines3.

    Raises:
        ValueError: Spaces that no policy can act in, sizes that make no minibatch, or ``whole_episodes`` without a
            reward.
        TypeError: ``reward`` is a number, or ``policy`` is not ours.
    """

    chosen = ("learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef")

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        reward: Any = None,
        learning_rate: Number | None = None,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int | None = None,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: Number = 0.2,
        clip_range_vf: Number | None = None,
        normalize_advantage: bool = True,
        ent_coef: float | None = None,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: None = None,
        rollout_buffer_kwargs: None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        compile: bool = False,
        cudagraphs: bool = False,
        bf16: bool = False,
        whole_episodes: bool = False,
        _init_setup_model: bool = True,
    ) -> None:
        if isinstance(reward, int | float):
            raise TypeError(
                f"reward={reward!r}: the third argument is the reward; pass learning_rate={reward!r} by name"
            )
        if rollout_buffer_class is not None or rollout_buffer_kwargs:
            raise TypeError(
                "PPO keeps its rollout in tensors and takes no rollout_buffer_class; rewards are "
                "changed by reward=, advantages in cairn.agents.functional"
            )
        super().__init__(arguments(locals()), env)
        self.gamma, self.gae_lambda, self.vf_coef = gamma, gae_lambda, vf_coef
        self.max_grad_norm, self.normalize_advantage, self.target_kl = max_grad_norm, normalize_advantage, target_kl
        self.clip_range = FloatSchedule(clip_range)
        self.clip_range_vf = None if clip_range_vf is None else FloatSchedule(clip_range_vf)
        if cudagraphs and self.device.type != "cuda":
            raise ValueError(f"cudagraphs=True records CUDA's work, and this model is on {self.device}: leave it out")
        self.compile, self.cudagraphs, self.bf16, self.whole_episodes = compile, cudagraphs, bf16, whole_episodes
        self.reward = None if reward is None else as_reward(reward)
        self._look()
        if env is not None:
            self._check_whole_episodes()
        self.seat: RolloutSeat | None = None
        self.channels: tuple[Channel, ...] = (MAIN,) if self.reward is None else tuple(self.reward.channels)
        self._pending = False  # a rollout waits for its update
        self._rows_used = None
        self._workers, self._clock = Workers(1), Clock(*PHASES)
        if _init_setup_model:
            self._setup_model()

    # ---- model ---------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self._settle()
        self.set_random_seed(self.seed)
        if self.batch is not None:
            self._sit()
        kwargs = {"use_sde": self.use_sde, "channels": len(self.channels), **self.policy_kwargs}
        if self.bf16:
            kwargs["bf16"] = True
        kind = self.policy_class
        if kind is ActorCriticPolicy and kwargs.get("memory"):
            kind = MemoryPolicy
        elif not issubclass(kind, MemoryPolicy):
            kwargs = {name: value for name, value in kwargs.items() if name not in ("memory", "window")}
        if self.compile and kind is MemoryPolicy:
            raise ValueError("compile=True does not go with a memory: leave one of them out")
        with one_thread():  # orthogonal matrices have other last bits on two
            policy = kind(self.observation_space, self.action_space, self.lr_schedule, **kwargs)
        assert isinstance(policy, ActorCriticPolicy)
        self.policy = policy.to(self.device)
        self._compiled = Compiled(policy) if fits(policy) and not self.compile else None
        self._epochs = None if self._compiled is None else Epochs(self._compiled)
        self._evaluate = torch.compile(policy.evaluate_actions, dynamic=False) if self.compile else None
        self._mind = CompiledMemory(policy) if isinstance(policy, MemoryPolicy) and fits_memory(policy) else None
        self._graph = GradientGraph(policy, self._loss) if self.cudagraphs else None
        self._memories: Memories | None = None
        if self.batch is not None:
            self._make_room()

    def _check_whole_episodes(self) -> None:
        """Not when a model is loaded to predict: without environments its reward is left out."""
        if self.whole_episodes and self.reward is None:
            raise ValueError(
                "whole_episodes=True leaves rows out for rewards that speak when an episode has ended, and this model "
                "has no reward expression: pass it as reward= (Task() is the environment's own), or leave this out"
            )

    def _settle(self) -> None:
        """Fix the settings that follow from the number of environments, and say so."""
        lanes, continuous = getattr(self, "n_envs", 1), isinstance(self.action_space, spaces.Box)
        asked = {name: self._config[name] for name in Settings._fields}
        settings = resolve(lanes, continuous, **asked, symbols=shows_symbols(self.observation_space))
        self.n_steps, self.batch_size, self.n_epochs, self.learning_rate, self.ent_coef = settings
        self._setup_lr_schedule()
        chosen = [f"{name}={getattr(settings, name):g}" for name, value in asked.items() if value is None]
        if self.verbose >= 1 and chosen and self.batch is not None:
            print(f"For {lanes} environment{'s' * (lanes > 1)}: {', '.join(chosen)}")

    def _sit(self) -> None:
        """Bind the reward to the lanes of the batch; its channels say how many value heads there are."""
        if self.batch is not None:
            check_shaping(self.batch, float(self.gamma))
        if self.reward is not None and self.seat is None:
            assert self.batch is not None
            world = World(
                observation_space=self.observation_space,
                action_space=self.action_space,
                lanes=self.n_envs,
                max_steps=self.batch.max_steps,
                gamma=self.gamma,
                device=self.device,
                seed=int(torch.randint(1 << 62, ())) if self.seed is None else self.seed,
                gives=frozenset({"log_prob", "value"}),
                ask=Ask(self),
            )
            with one_thread():  # as the policy
                self.seat = RolloutSeat(self.reward, world)
        device = self.device
        gammas = [self.gamma if channel.gamma is None else channel.gamma for channel in self.channels]
        self._gamma = torch.tensor(gammas, device=device)
        self._episodic = torch.tensor([channel.episodic for channel in self.channels], device=device)

    def _make_room(self) -> None:
        """Allocate a rollout."""
        both, shape = (self.observation_space, self.action_space), (self.n_steps, self.n_envs, len(self.channels))
        self.rollout = Rollout(*both, *shape, self.device, whole=self.seat is not None)
        self._last_obs = None
        if isinstance(self.policy, MemoryPolicy):
            self._memories = Memories(self.n_steps, self.n_envs, self.policy.memory, self.device)
            self._window = self.policy.window or self.n_steps
            if self._window < 1 or self.n_steps % self._window:
                raise ValueError(f"window={self._window} steps do not divide a rollout of n_steps={self.n_steps}")

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train on another environment with the same spaces; a reward is bound to its number of lanes."""
        before, lanes = self.batch, getattr(self, "n_envs", 0)
        super().set_env(env, force_reset)
        if self.seat is not None and self.n_envs != lanes:
            self.batch, self.n_envs = before, lanes
            raise ValueError(
                f"the reward remembers {lanes} lanes and cannot move to {env}: save the model and load "
                "it with env= and a fresh reward="
            )
        if before is None or lanes != self.n_envs:
            self._settle()
            self._sit()
            self._make_room()

    # ---- loop ----------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 1,
        tb_log_name: str = "PPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for ``total_timesteps`` environment steps, counted over all environments and rounded up to rollouts.

        Args:
            total_timesteps: How many.
            callback: A Stable-Baselines3 callback, a list of them, or a function of (locals, globals).
            log_interval: Log every so many rollouts; None for never.
            tb_log_name: Name of the run for TensorBoard.
            reset_num_timesteps: Count from 0 and reset the environments; otherwise go on.
            progress_bar: Show steps per second, return and success rate.

        Returns:
            The model.
        """
        self._check_whole_episodes()
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(told(locals()), globals())
        iteration, self._clock = 0, Clock(*PHASES)
        try:
            threads = torch.get_num_threads() if self.device.type == "cpu" else 1
            with Workers(threads) as self._workers, one_thread(), old_objects_at_rest():
                while self.num_timesteps < total_timesteps and self.collect_rollouts(callback):
                    iteration += 1
                    self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                    if log_interval is not None and iteration % log_interval == 0:
                        self.dump_logs(iteration)
                    self._clock.lap()
                    self.train()
                    self._spent("learning")
            callback.on_training_end()
        finally:
            self._put_bar_away()
        return self

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with where the time since the last one went: ``time/<phase>``, shares of 1."""
        for name, share in self._clock.shares().items():
            self.logger.record(f"time/{name}", share)
        super().dump_logs(iteration)

    # ---- state ---------------------------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, rewards and environments included.

        Raises:
            RuntimeError: A rollout is under way, or waits for its update.
        """
        if self._pending or self.batch is not None and self.rollout.lived:
            raise RuntimeError(
                "the state is whole between updates only: ask for it in a callback's "
                "on_rollout_start, or before or after learn"
            )
        state = super().training_state()
        state["reward"] = None if self.seat is None else self.seat.state()
        state["rollout"] = None if self._last_obs is None else self.rollout.state()
        if self._memories is not None:
            state["memory"] = self._memories.dump()
        return state

    def load_training_state(self, state: Any) -> None:
        """Put back what :meth:`training_state` gave; see there."""
        if (state["reward"] is None) != (self.seat is None):
            have, want = ("a reward", "none") if state["reward"] is None else ("no reward", "one")
            raise ValueError(f"this model has {have}, and the state was saved with {want}: pass the same reward=")
        super().load_training_state(state)
        if self.seat is not None:
            self.seat.load(state["reward"])
        self._pending, self._last_obs = False, None
        if state["rollout"] is not None:
            self.rollout.load(state["rollout"])
            self._last_obs = self.rollout.at(0)
        if self._memories is not None:
            self._memories.load(state["memory"])

    def _saved_config(self) -> dict[str, Any]:
        saved = super()._saved_config()
        saved["channels"] = [[channel.name, channel.gamma, channel.episodic] for channel in self.channels]
        saved["reward"] = None
        if self.reward is not None:
            saved["reward"] = {"text": self.reward.text, "terms": list(self.reward.unwritten)}
            saved["reward"]["sources"] = self.reward.sources if self.reward.text is not None else {}
        return saved

    @classmethod
    def _arguments(cls, meta: dict[str, Any], env: Any, config: dict[str, Any]) -> None:
        saved = meta["reward"]
        if env is None or saved is None or config.get("reward") is not None:
            return
        if saved["text"] is None:
            raise ValueError(
                f"the model was trained with a reward that has no text ({', '.join(saved['terms'])}): "
                "pass it again, load(..., env=..., reward=...)"
            )
        config["reward"] = as_reward(saved["text"])
        config["reward"].put_sources(saved.get("sources", {}))

    def _recall(self, meta: dict[str, Any]) -> None:
        channels = tuple(Channel(str(name), gamma, bool(episodic)) for name, gamma, episodic in meta["channels"])
        if self.reward is not None and len(self.channels) != len(channels):
            raise ValueError(
                f"the model has a value head for each of {[c.name for c in channels]}, and the reward "
                f"has the channels {[c.name for c in self.channels]}"
            )
        self.channels = self.channels if self.reward is not None else channels
