"""Proximal policy optimisation on batches of environments, behind Stable-Baselines3's face.

Schulman et al., "Proximal policy optimization algorithms", 2017. From the same weights and the same rollout, an update
equals ``stable_baselines3.PPO``'s. What differs is around it: the rollout is tensors on one device, rewards are
expressions with a value head for each channel, and truncation is told from termination to the end.

Threads: networks and minibatches are cut into parts of some hundred rows, which stay in a core's cache, and torch's
number of threads take parts side by side, each running torch on itself alone. How something is cut depends on its size
only, and gradients are added up in the order of the parts, so the number of threads changes the speed and no bit.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.utils import FloatSchedule
from torch import Tensor

from ..envs.spaces import tree_map
from ..shaping.checks import check_shaping
from ..shaping.reward import as_reward
from ..shaping.seats import RolloutSeat
from ..shaping.term import MAIN, Channel, World
from . import functional as fn
from . import fused
from .base import BatchAlgorithm, arguments, fetch
from .compiled import Compiled, fits
from .compiled_memory import CompiledMemory, fits_memory
from .defaults import Settings, resolve
from .epoch import Epochs
from .extractors import shows_symbols
from .graphs import GradientGraph
from .memory import Memories, MemoryPolicy
from .policies import ActorCriticPolicy, Ask
from .rollout import Rollout
from .workers import Clock, Workers, cut, old_objects_at_rest, one_thread

Number = float | Callable[[float], float]
PHASES = ("environment", "inference", "rewards", "learning", "waiting")
"""What a learner spends its time on; the log has each one's share as ``time/<name>``."""


class PPO(BatchAlgorithm):
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
        _init_setup_model: False leaves the networks to be built later, as in Stable-Baselines3.

    Raises:
        ValueError: Spaces that no policy can act in, or sizes that make no minibatch.
        TypeError: ``reward`` is a number, or ``policy`` is not ours.
    """

    rollout: Rollout
    policy: ActorCriticPolicy
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
        self.compile, self.cudagraphs = compile, cudagraphs
        self.reward = None if reward is None else as_reward(reward)
        self._look()
        self.seat: RolloutSeat | None = None
        self.channels: tuple[Channel, ...] = (MAIN,) if self.reward is None else tuple(self.reward.channels)
        self._pending = False  # a rollout waits for its update
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
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
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
            if self._bar is not None:
                self._bar.close()
        return self

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        self.rollout.begin(obs, info)
        if self._memories is not None:
            self._memories.begin()
        self._last_obs = self.rollout.at(0)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log, with where the time since the last one went: ``time/<phase>``, shares of 1."""
        for name, share in self._clock.shares().items():
            self.logger.record(f"time/{name}", share)
        super().dump_logs(iteration)

    def _spent(self, phase: str) -> None:
        """Put the time since the last lap down to a phase, less what the caller waited for other threads."""
        self._clock.lap(phase)
        self._clock.move(self._workers.waited, phase, "waiting")
        self._workers.waited = 0.0

    def collect_rollouts(self, callback: BaseCallback) -> bool:
        """Live ``n_steps`` steps in every environment, and work out rewards and advantages; False if told to stop."""
        batch, rollout, policy = self.batch, self.rollout, self.policy
        assert batch is not None
        policy.set_training_mode(False)
        self._pending = False
        callback.on_rollout_start()
        rollout.open(self._workers.threads)
        if self._memories is not None:
            self._memories.open()
        if self._mind is not None:
            self._mind.begin()
        listening = not isinstance(callback, ConvertCallback) or callback.callback is not None
        if self.use_sde:
            policy.reset_noise(self.n_envs)
        if self._compiled is not None:
            self._compiled.begin()
        noise = policy.noise(self.n_steps, self.n_envs)
        self._drawing = None
        if self._compiled is not None:
            assert noise is not None
            seen, drawn = tree_map(lambda buffer: buffer[:-1], rollout.obs), (rollout.action, rollout.log_prob)
            self._drawing = self._compiled.acting(seen, noise, *drawn, rollout.value, self._workers.threads)
        parts = [slice(0, self.n_envs)] if noise is None else self._cut(self.n_envs, 128 if self._compiled else 256)
        self._clock.lap()
        for t in range(self.n_steps):
            if self.use_sde and self.sde_sample_freq > 0 and t % self.sde_sample_freq == 0:
                policy.reset_noise(self.n_envs)
            self._infer(t, parts, noise)
            actions = policy.executed(rollout.action[t])
            self._spent("inference")
            obs, rewards, terminated, truncated, info = batch.step(actions.to(batch.device))
            rollout.add(t, obs, rewards, terminated, truncated, info)
            if self._memories is not None:
                self._memories.add(t, terminated | truncated, None if rollout.valid is None else rollout.valid[t])
            self._spent("environment")
            self.num_timesteps += self.n_envs
            if listening:
                dones = (terminated | truncated).cpu().numpy()
                scope = {
                    "self": self,
                    "n_steps": t,
                    "env": batch,
                    "new_obs": obs,
                    "actions": actions,
                    "dones": dones,
                    "rewards": rewards.cpu().numpy(),
                    "infos": rollout.infos(t, info),
                }
                callback.update_locals(scope)
                if not callback.on_step():
                    self._finish(whole=t + 1 == self.n_steps)
                    self._pending = False
                    return False
        self._clock.lap()
        self._finish(whole=True)
        self._spent("rewards")
        callback.update_locals({"rollout": rollout})
        callback.on_rollout_end()
        return True

    def _cut(self, rows: int, least: int) -> list[slice]:
        """The parts that rows are worked through in: all at once on a GPU, or where a row's result needs the others."""
        whole = self.device.type != "cpu" or not self.policy.separable
        return [slice(0, rows)] if whole else cut(rows, least)

    def _infer(self, t: int, parts: list[slice], noise: Tensor | None) -> None:
        """Choose the actions of step ``t``."""
        rollout, policy, compiled, memories = self.rollout, self.policy, self._compiled, self._memories
        if self._drawing is not None:
            self._drawing(t)
            return

        def act(lanes: slice) -> None:
            # Inference tensors stay in here: the environment may keep what it is given.
            with torch.inference_mode():
                obs = rollout.at(t, lanes)
                if memories is not None:
                    assert isinstance(policy, MemoryPolicy) and noise is not None
                    now = memories.state[t, lanes], memories.start[t, lanes]
                    action, value, log_prob, state = (self._mind or policy).step(obs, *now, noise=noise[t, lanes])
                    memories.state[t + 1, lanes] = state
                elif noise is None:
                    action, value, log_prob = policy(obs)
                elif compiled is None:
                    action, value, log_prob = policy(obs, noise=noise[t, lanes])
                else:
                    action, value, log_prob = compiled.act(obs, noise[t, lanes])
                rollout.act(t, action, value, log_prob, lanes)

        self._workers.map(act, parts)

    @torch.no_grad()
    def _finish(self, whole: bool) -> None:
        """Turn what was lived into rewards, advantages and statistics; a rollout cut short is not learned from."""
        rollout, policy = self.rollout, self.policy
        reward = rollout.reward[..., None]
        if self.seat is not None:
            x = rollout.stretch(policy.executed(rollout.action))
            reward, logs = self.seat(x, self.num_timesteps)
            logs = {**logs, **self.seat.update(self.num_timesteps)}
            for name, number in fetch(logs).items():
                self.logger.record_mean(name, number)
        if whole:
            final = torch.zeros_like(rollout.value)
            cut = rollout.cut_rows()
            if cut is not None:
                rows, steps, lanes = cut
                final[steps, lanes] = self._values(rows, steps, lanes)
            last = self._values(rollout.at(self.n_steps), self.n_steps - 1)
            ends = rollout.terminated, rollout.truncated
            follow = fn.follow_values(rollout.value, last, final, *ends, self._episodic, rollout.valid)
            chain = ~((ends[0] | ends[1])[..., None] & self._episodic)
            self._advantage = fn.gae(reward, rollout.value, follow, chain, self._gamma, self.gae_lambda, rollout.valid)
            self._target = self._advantage + rollout.value
        ended = rollout.close()
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        self.ep_info_buffer.extend({"r": r, "l": n} for r, n in zip(ended.total.tolist(), ended.length.tolist()))
        if rollout.knows_success:
            self.ep_success_buffer.extend(rollout.success[ended.step, ended.lane].tolist())
        self._note_ends(ended)
        self._last_obs, self._pending = rollout.at(rollout.row), True

    def _values(self, obs: Any, step: int | Tensor, lanes: slice | Tensor = slice(None)) -> Tensor:
        """Values ``[B, K]`` of an observation tree that these steps of these lanes led to."""
        if self._memories is not None:
            assert isinstance(self.policy, MemoryPolicy)
            state = self._memories.state[step + 1, lanes]
            # The last observation of an episode that was cut still belongs to it; where a lane is now may be a start.
            start = (
                self._memories.start[step + 1, lanes] if isinstance(step, int) else state.new_zeros(len(state)).bool()
            )
            return self.policy.value_of(obs, state, start)
        return self.policy.predict_values(obs) if self._compiled is None else self._compiled.values(obs)

    def _note_ends(self, ended: fn.Ends) -> None:
        """Hear of the episodes that ended in the rollout, before the log is written."""

    def train(self) -> None:
        """Learn from the rollout: ``n_epochs`` passes in minibatches, without waiting for the device."""
        policy, rollout = self.policy, self.rollout
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        clip = self.clip_range(self._current_progress_remaining)
        clip_vf = None if self.clip_range_vf is None else self.clip_range_vf(self._current_progress_remaining)
        weights = fused.Weights(clip, clip_vf, float(self.ent_coef), self.vf_coef)
        rows = {
            "obs": tree_map(lambda buffer: buffer[:-1], rollout.obs),
            "action": rollout.action,
            "log_prob": rollout.log_prob,
            "value": rollout.value,
            "target": self._target,
            "advantage": self._advantage.sum(-1),
        }
        rows = tree_map(lambda column: column.flatten(0, 1), rows)
        if self._compiled is not None and not self._own_loss:
            rows["seen"] = self._compiled.see(rows["obs"])
        real = None if rollout.valid is None else rollout.valid.flatten().nonzero().squeeze(1)
        windows = None if self._memories is None else self._windows()
        if windows is not None and rollout.valid is not None:
            rows["keep"] = rollout.valid.flatten()
        if self._mind is not None and not self._own_loss:
            rows["seen"], rows["memories"] = self._mind.see(rows["obs"]), self._memories
        chosen, size = (real, self.batch_size) if windows is None else (windows, self.batch_size // windows.shape[1])
        count = len(rows["value"]) if chosen is None else len(chosen)
        epochs = self._epochs if self._epochs is not None and "seen" in rows else None
        if epochs is not None and not epochs.fits(policy.optimizer):
            epochs = None
        done = 0 if epochs is None else epochs.begin(policy.optimizer)
        metrics: list[Tensor] = []
        furthest = None if self.target_kl is None else 1.5 * self.target_kl
        for _ in range(self.n_epochs):
            order = self._permutation(count)
            order = order if chosen is None else chosen[order]
            if epochs is None:
                metrics.append(self._pass(rows, torch.split(order, max(size, 1)), weights, furthest))
            else:
                metrics.append(
                    epochs.run(
                        rows, order, max(size, 1), weights, policy.optimizer, done,
                        normalise=self.normalize_advantage, longest=self.max_grad_norm, furthest=furthest,
                        threads=self._workers.threads, over=self._workers.map,
                    )
                )  # fmt: skip
            self._n_updates += 1
            over = furthest is not None and bool(metrics[-1][-1, -1] > furthest)
            done += len(metrics[-1]) - over
            if over:
                break
        if epochs is not None:
            epochs.end(policy.optimizer, done)
        self._pending = False
        value, target = rows["value"].sum(-1), rows["target"].sum(-1)
        table = torch.cat(metrics)
        means = table.mean(0)
        scalars = {
            "train/entropy_loss": means[3],
            "train/policy_gradient_loss": means[1],
            "train/value_loss": means[2],
            "train/approx_kl": metrics[-1][:, 5].mean(),
            "train/clip_fraction": means[4],
            "train/loss": table[-1, 0],
            "train/explained_variance": fn.explained_variance(
                *(v if real is None else v[real] for v in (value, target))
            ),
        }
        if hasattr(policy, "log_std"):
            scalars["train/std"] = policy.log_std.detach().exp().mean()
        for name, number in fetch(scalars).items():
            self.logger.record(name, number)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip)
        if clip_vf is not None:
            self.logger.record("train/clip_range_vf", clip_vf)

    def _windows(self) -> Tensor:
        """The rows of each window of a rollout, int64 ``[S, W]``: W steps of one lane, judged one after another."""
        row = torch.arange(self.n_steps * self.n_envs, device=self.device).reshape(-1, self._window, self.n_envs)
        return row.transpose(1, 2).flatten(0, 1)

    def _pass(
        self, rows: dict[str, Any], batches: Sequence[Tensor], weights: fused.Weights, furthest: float | None
    ) -> Tensor:
        """Learn from minibatches, one after another; returns what to log of each, ``[M, 6]``."""
        metrics: list[Tensor] = []
        for index in batches:
            metrics.append(self._minibatch(rows, index, weights))
            if furthest is not None and metrics[-1][-1] > furthest:
                break
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        return torch.stack(metrics)

    @property
    def _own_loss(self) -> bool:
        """Whether a subclass has a loss of its own: it may draw rows, and so is asked once for a whole minibatch."""
        return type(self)._loss is not PPO._loss

    def _minibatch(self, rows: dict[str, Any], index: Tensor, weights: fused.Weights) -> Tensor:
        """Set the gradient of the loss on a minibatch of the rollout; returns what to log of it.

        Args:
            rows: The rollout's, ``[T * N, ...]``.
            index: The rows in the minibatch, ``[B]``, or windows of them, ``[B, W]``.
            weights: Of the loss's parts.
        """
        advantage = rows["advantage"][index]
        real = advantage[rows["keep"][index]] if "keep" in rows else advantage
        if self.normalize_advantage and real.numel() > 1:
            advantage = (advantage - real.mean()) / (real.std() + 1e-8)
        if "memories" in rows:
            assert self._mind is not None
            return self._mind.gradient(rows, index, advantage, weights, self._workers.map)
        if "seen" in rows:
            assert self._compiled is not None
            parts = cut(len(index), 256)
            return self._compiled.gradient(rows, index, advantage, weights, parts, self._workers.map)
        parameters = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

        def part(some: slice) -> tuple[Sequence[Tensor | None], Tensor]:
            at = index[some].t().flatten()  # steps first where there are windows
            with torch.enable_grad():
                batch = tree_map(lambda column: column.index_select(0, at), rows)
                batch["advantage"] = advantage[some].t().flatten()
                if self._memories is not None:
                    batch |= self._memories.recall(index[some])
                share = (int(batch["keep"].sum()) if "keep" in batch else len(at)) / max(real.numel(), 1)
                if self._graph is not None and not self._own_loss and "keep" not in batch:
                    return self._graph(batch, weights)
                loss, numbers = self._loss(batch, weights.clip, weights.clip_vf)
                loss = loss if share == 1 else loss * share
                return torch.autograd.grad(loss, parameters, allow_unused=True), numbers * share

        # A memory goes through its window step by step: fewer than 64 lanes at a time are not worth the steps.
        least = 512 if self._memories is None else max(512 * len(index) // index.numel(), 64)
        whole = self._own_loss or self.compile  # torch compiles for one size, and in one thread
        parts = [slice(0, len(index))] if whole else self._cut(len(index), least)
        (total, numbers), *others = self._workers.map(part, parts)
        for gradients, more in others:
            numbers = numbers + more
            used = [(a, b) for a, b in zip(total, gradients) if a is not None and b is not None]
            torch._foreach_add_([a for a, _ in used], [b for _, b in used])
        for parameter, gradient in zip(parameters, total):
            parameter.grad = gradient
        return numbers

    def _loss(self, batch: dict[str, Any], clip: float, clip_vf: float | None) -> tuple[Tensor, Tensor]:
        """The loss on a minibatch, and what to log: itself, its three parts, clipped share and approximate KL."""
        value, log_prob, entropy, batch = self._judge(batch)
        advantage = batch["advantage"]
        log_ratio = log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        policy_loss = fn.surrogate_loss(ratio, advantage, clip)
        value_loss = fn.value_loss(value, batch["target"], batch["value"], clip_vf)
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        with torch.no_grad():
            clipped, kl = ((ratio - 1).abs() > clip).float().mean(), fn.approx_kl(log_ratio)
            return loss, torch.stack([loss, policy_loss, value_loss, entropy_loss, clipped, kl])

    def _judge(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
        """Values, log-probabilities and entropies now, and the batch, both without rows that are no transitions."""
        policy = self.policy
        if not isinstance(policy, MemoryPolicy):
            evaluate = self._evaluate or policy.evaluate_actions
            return *evaluate(batch["obs"], batch["action"]), batch
        judged = policy.evaluate_window(batch["obs"], batch["action"], batch["state"], batch["start"])
        if "keep" not in batch:
            return *judged, batch
        keep = batch["keep"]
        value, log_prob, entropy = (None if column is None else column[keep] for column in judged)
        assert value is not None and log_prob is not None
        kept = {name: batch[name][keep] for name in ("advantage", "log_prob", "target", "value")}
        return value, log_prob, entropy, kept

    def _permutation(self, rows: int) -> Tensor:
        """The order in which one epoch takes the rows of a rollout (steps first, then lanes): int64 ``[rows]``."""
        return torch.randperm(rows, device=self.device)

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
