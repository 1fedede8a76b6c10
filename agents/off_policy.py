"""What off-policy agents share: living on a batch of environments, a replay buffer in tensors, logs, state."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch import Tensor

from ..envs.batch import BatchEnv
from ..shaping.checks import check_shaping
from ..shaping.replay_seat import ReplaySeat
from ..shaping.reward import Reward, as_reward
from ..shaping.state import pack
from ..shaping.term import ExperienceMap, World
from .actions import ActionForm
from .base import BatchAlgorithm, fetch, told
from .defaults import OffPolicySettings, few_threads, resolve_off_policy
from .noise import Noise, noise_settings
from .q_policies import OffPolicyPolicy
from .replay import Ended, ReplayBuffer, rows
from .rollout import Infos

SETTINGS = OffPolicySettings._fields


class OffPolicyAlgorithm(BatchAlgorithm):
    """Stable-Baselines3's class of that name on a batch: subclasses say how to explore and how to learn.

    The order is: live ``train_freq`` steps in every environment; let the reward's terms learn if their time has come;
    make ``gradient_steps`` updates with the rewards of now. Nothing in the updates waits for the device.

    Args:
        config: The constructor's arguments.
        env: Whatever ``make_batch`` takes.
        reward: The reward expression, or None for the task's own.
        experience: An experience map, or None.
    """

    actions_of: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Box,)
    one: ClassVar[OffPolicySettings]  # defaults for one environment
    chosen: ClassVar[tuple[str, ...]] = (*SETTINGS, "learning_rate", "gamma", "tau", "reward_freq")

    policy: OffPolicyPolicy
    replay_buffer: ReplayBuffer
    tau: float
    gamma: float
    n_steps: int

    def __init__(self, config: dict[str, Any], env: Any, reward: Any, experience: ExperienceMap | None) -> None:
        if isinstance(reward, int | float):
            raise TypeError(
                f"reward={reward!r}: the third argument is the reward; pass learning_rate={reward!r} by name"
            )
        if config["replay_buffer_class"] is not None or config["replay_buffer_kwargs"]:
            raise TypeError(
                f"{type(self).__name__} keeps its transitions in tensors and takes no replay_buffer_class; rewards are "
                "changed by reward=, transitions added by experience="
            )
        if "action_noise" in config:
            config["action_noise"] = noise_settings(config["action_noise"])
        super().__init__(config, env)
        for name in ("tau", "gamma", "n_steps"):
            setattr(self, name, config[name])
        if self.n_steps < 1 or not 0 <= self.gamma <= 1:
            raise ValueError(f"n_steps={self.n_steps}, gamma={self.gamma}: at least 1, and between 0 and 1")
        if self.n_steps > 1 and experience is not None:
            raise ValueError(
                f"n_steps={self.n_steps} with an experience map: a made-up transition has no next steps; take n_steps=1"
            )
        self.optimize_memory_usage = True  # observations are kept once, whatever was asked for
        self.use_sde_at_warmup = bool(config.get("use_sde_at_warmup", False))
        self.reward: Reward | None = None if reward is None else as_reward(reward)
        self._look()
        self.experience = experience
        self.seat: ReplaySeat | None = None
        self.action_noise: Noise | None = None  # type: ignore[assignment]
        self._losses: dict[str, Tensor] = {}
        self._rate = 0.0
        self._pending = False  # steps were lived that wait for their update

    def _adopt(self, batch: BatchEnv) -> None:
        space = batch.single_action_space
        if not isinstance(space, self.actions_of):
            kinds = " or ".join(kind.__name__ for kind in self.actions_of)
            others = "cairn.agents.PPO takes any; DQN is for Discrete actions, SAC and TD3 are for a Box"
            raise ValueError(f"{type(self).__name__} needs a {kinds} action space, not {space}; {others}")
        super()._adopt(batch)

    # ---- model ---------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self._settle()
        self.set_random_seed(self.seed)
        kwargs = {**self.policy_kwargs}
        if "use_sde" in self._config:
            kwargs = {"use_sde": self.use_sde, **kwargs}
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **kwargs)
        assert isinstance(policy, OffPolicyPolicy)
        self.policy = policy.to(self.device)
        if self.batch is not None:
            self._make_room()

    def _own_lanes(self) -> int:
        """How many environments one learner has."""
        return getattr(self, "n_envs", 1)

    def _settle(self) -> None:
        """Fix the settings that follow from the number of environments, and say so."""
        lanes, freq = self._own_lanes(), self._config["train_freq"]
        unit = TrainFrequencyUnit.STEP
        if isinstance(freq, list | tuple) and len(freq) == 2:
            unit, freq = TrainFrequencyUnit(freq[1]), freq[0]
        if freq is not None and (isinstance(freq, bool) or not isinstance(freq, int)):
            raise ValueError(f"train_freq={self._config['train_freq']!r}: a number of steps, or (number, 'episode')")
        if unit == TrainFrequencyUnit.EPISODE and lanes > 1:
            raise ValueError("train_freq counts episodes of one environment only; with several give it in steps")
        asked = {name: self._config[name] for name in SETTINGS} | {"train_freq": freq}
        settings = resolve_off_policy(lanes, self.one, **asked)
        self.buffer_size, self.learning_starts, self.batch_size, freq, self.gradient_steps = settings
        self.train_freq = TrainFreq(freq, unit)
        given = self._config.get("reward_freq")
        self.reward_freq = max(2048 // lanes, 16) if given is None else int(given)
        if self.reward_freq < 1:
            raise ValueError(f"reward_freq={given}: steps between two updates of the reward's terms, at least 1")
        self.learning_rate = self._config["learning_rate"]
        self._setup_lr_schedule()
        chosen = [f"{name}={getattr(settings, name):,}" for name, value in asked.items() if value is None]
        if self.verbose >= 1 and chosen and self.batch is not None:
            print(f"For {lanes} environment{'s' * (lanes > 1)}: {', '.join(chosen)}")

    def _make_room(self) -> None:
        """Bind the reward to the lanes of the batch, and allocate the replay buffer."""
        assert self.batch is not None
        check_shaping(self.batch, float(self.gamma))
        seed = int(torch.randint(1 << 62, ())) if self.seed is None else self.seed
        if (self.reward is not None or self.experience is not None) and self.seat is None:
            reward = as_reward(self.reward)
            self._one_discount(reward)
            world = World(
                observation_space=self.observation_space,
                action_space=self.action_space,
                lanes=self.n_envs,
                max_steps=self.batch.max_steps,
                gamma=self.gamma,
                device=self.device,
                seed=seed,
            )
            self.seat = ReplaySeat(reward, world, rows(self.buffer_size, self.n_envs), self.experience, "this agent")
        self.replay_buffer = ReplayBuffer(
            self.observation_space, self.action_space, self.buffer_size, self.n_envs, self.device,
            n_steps=self.n_steps, gamma=self.gamma, seed=seed, seat=self.seat,
        )  # fmt: skip
        noise = self._config.get("action_noise")
        if noise is not None:
            self.action_noise = Noise(noise, self.n_envs, self.replay_buffer.form.width, self.device)
        self._last_obs = None

    def _one_discount(self, reward: Reward) -> None:
        """Refuse channels that a single value cannot stand for."""
        for channel in reward.channels:
            if channel.gamma is not None and channel.gamma != self.gamma:
                raise ValueError(
                    f"the channel {channel.name!r} has a discount of its own, {channel.gamma}, and "
                    f"{type(self).__name__} adds all channels up under its own, {self.gamma}: put the term into the "
                    'main channel (term.into("main")), or take cairn.agents.PPO, which has a value for each channel'
                )

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train on another environment with the same spaces, and as many of it: the replay buffer has their lanes."""
        before, lanes = self.batch, getattr(self, "n_envs", 0)
        super().set_env(env, force_reset)
        if before is not None and self.n_envs != lanes:
            had, self.batch, self.n_envs = self.n_envs, before, lanes
            self._view = None
            raise ValueError(
                f"the replay buffer has {lanes} lanes and the new environment {had}: save the model and load it with "
                "env= (a reward goes with it as reward=)"
            )
        if before is None:
            self._settle()
            self._make_room()

    @property
    def form(self) -> ActionForm:
        """How the networks' actions and the environment's are related."""
        return self.replay_buffer.form

    # ---- loop ----------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for ``total_timesteps`` environment steps, counted over all environments.

        Args:
            total_timesteps: How many; rounded up to whole updates.
            callback: A Stable-Baselines3 callback, a list of them, or a function of (locals, globals).
            log_interval: Log every so many episodes of each environment, on average; None for never.
            tb_log_name: Name of the run for TensorBoard; the class's if left out.
            reset_num_timesteps: Count from 0 and reset the environments; otherwise go on. What was lived is kept.
            progress_bar: Show steps per second, return and success rate.

        Returns:
            The model.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        callback.on_training_start(told(locals()), globals())
        try:
            with few_threads(max(self.batch_size, self.n_envs)):
                while self.num_timesteps < total_timesteps and self.collect_rollouts(callback, log_interval):
                    if self.num_timesteps > self.learning_starts:
                        steps = self._lived * self.n_envs if self.gradient_steps < 0 else self.gradient_steps
                        if steps > 0:
                            self.train(steps, self.batch_size)
                    self._pending = False
            self._pending = False
            callback.on_training_end()
        finally:
            self._put_bar_away()
        return self

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        self.replay_buffer.begin(obs, info)
        self._last_obs = self.replay_buffer.now()

    def collect_rollouts(self, callback: BaseCallback, log_interval: int | None = None) -> bool:
        """Live ``train_freq`` steps in every environment; False if told to stop."""
        batch, replay = self.batch, self.replay_buffer
        assert batch is not None
        self.policy.set_training_mode(False)
        self._pending = False
        callback.on_rollout_start()
        self._pending = True
        listening = not isinstance(callback, ConvertCallback) or callback.callback is not None
        if self.use_sde:
            self.policy.reset_noise(self.n_envs)  # type: ignore[operator]
        self._lived, episodes, before = 0, 0, self._episode_num
        by_episode = self.train_freq.unit == TrainFrequencyUnit.EPISODE
        while (episodes if by_episode else self._lived) < self.train_freq.frequency:
            if self.use_sde and self.sde_sample_freq > 0 and self._lived % self.sde_sample_freq == 0:
                self.policy.reset_noise(self.n_envs)  # type: ignore[operator]
            # Inference tensors stay in here: the environment may keep what it is given.
            with torch.inference_mode():
                action = self._choose(replay.now())
            actions = replay.act(action)
            obs, rewards, terminated, truncated, info = batch.step(actions.to(batch.device))
            ended = replay.add(obs, rewards, terminated, truncated, info)
            self.num_timesteps += self.n_envs
            self._lived += 1
            if ended is not None:
                episodes += len(ended.total)
                self._record(ended)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            if listening:
                scope = {
                    "self": self, "env": batch, "new_obs": obs, "actions": actions, "num_collected_steps": self._lived,
                    "rewards": rewards.cpu().numpy(), "dones": (terminated | truncated).cpu().numpy(),
                    "infos": Infos(terminated, truncated, info, _lookup(ended)),
                }  # fmt: skip
                callback.update_locals(scope)
                if not callback.on_step():
                    self._pending = False
                    return False
        callback.update_locals({"replay_buffer": replay})
        callback.on_rollout_end()
        if (
            self.seat is not None
            and replay.clock // self.reward_freq > (replay.clock - self._lived) // self.reward_freq
        ):
            self._losses |= self.seat.update(self.num_timesteps)
        every = None if log_interval is None else log_interval * self.n_envs
        if every is not None and self._episode_num // every > before // every:
            self.dump_logs()
        return True

    def _choose(self, obs: Any) -> Tensor:
        """Actions ``[N, D]`` to learn from: random ones before ``learning_starts``, then explored ones."""
        if self.num_timesteps < self.learning_starts and not (self.use_sde and self.use_sde_at_warmup):
            return self.form.random(self.n_envs)
        action = self._explore(obs)
        return action if self.action_noise is None else (action + self.action_noise()).clamp(-1, 1)

    def _explore(self, obs: Any) -> Tensor:
        """Actions ``[N, D]`` of the policy as it explores."""
        return self.policy._predict(obs)

    def _on_step(self) -> None:
        """After every step of all environments."""

    def _record(self, ended: Ended) -> None:
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        self._episode_num += len(ended.total)
        self.ep_info_buffer.extend({"r": r, "l": n} for r, n in zip(ended.total, ended.length))
        if ended.success is not None:
            self.ep_success_buffer.extend(ended.success)
        if self.action_noise is not None:
            self.action_noise.reset(ended.lane)

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Learn from ``gradient_steps`` minibatches."""
        raise NotImplementedError

    def _set_rate(self, *optimizers: torch.optim.Optimizer) -> None:
        """The learning rate of now, logged with the next line."""
        self._rate = self.lr_schedule(self._current_progress_remaining)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._rate

    def _note(self, **losses: list[Tensor]) -> None:
        """Keep the means of what an update computed, on the device, until they are logged."""
        for name, values in losses.items():
            if values:
                self._losses[f"train/{name}"] = torch.stack(values).mean()

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log of what has been lived and learned, under Stable-Baselines3's keys."""
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        if self._n_updates:
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
            self.logger.record("train/learning_rate", self._rate)
        for name, number in fetch({**self._losses, **self.replay_buffer.report(self.num_timesteps)}).items():
            self.logger.record(name, number)
        super().dump_logs(iteration)

    # ---- state ---------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The arguments that were left to the agent, as it chose them."""
        freq = self.train_freq
        by_episode = freq.unit == TrainFrequencyUnit.EPISODE
        return super().settings() | {"train_freq": [freq.frequency, "episode"] if by_episode else freq.frequency}

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, replay buffer, rewards and environments included.

        It is as large as the replay buffer is full.

        Raises:
            RuntimeError: Steps were lived that wait for their update.
        """
        if self._pending:
            raise RuntimeError(
                "the state is whole between updates only: ask for it in a callback's "
                "on_rollout_start, or before or after learn"
            )
        return {
            **super().training_state(),
            "reward": self.seat is not None,
            "replay": None if self._last_obs is None else self.replay_buffer.state(),
            "noise": None if self.action_noise is None else self.action_noise.at.clone(),
            "losses": pack(self._losses),
            "rate": self._rate,
        }

    def load_training_state(self, state: Any) -> None:
        """Put back what :meth:`training_state` gave; see there."""
        if state["reward"] != (self.seat is not None):
            have, want = ("a reward", "none") if self.seat is not None else ("no reward", "one")
            raise ValueError(
                f"this model has {have}, and the state was saved with {want}: pass the same reward= and experience="
            )
        super().load_training_state(state)
        self._pending, self._last_obs = False, None
        if state["replay"] is not None:
            self.replay_buffer.load(state["replay"])
            self._last_obs = self.replay_buffer.now()
        if self.action_noise is not None:
            self.action_noise.at = state["noise"].clone().to(self.device)
        self._losses = {name: loss.clone().to(self.device) for name, loss in state["losses"].items()}
        self._rate = state["rate"]

    def _saved_config(self) -> dict[str, Any]:
        saved = super()._saved_config()
        saved["reward"] = (
            None if self.reward is None else {"text": self.reward.text, "terms": list(self.reward.unwritten)}
        )
        saved["experience"] = None if self.experience is None else type(self.experience).__name__
        return saved

    @classmethod
    def _arguments(cls, meta: dict[str, Any], env: Any, config: dict[str, Any]) -> None:
        if env is None:
            return
        saved, experience = meta["reward"], meta["experience"]
        if experience is not None and config.get("experience") is None:
            raise ValueError(
                f"the model was trained with an experience map ({experience}), which a file cannot hold: pass it "
                "again, load(..., env=..., experience=...)"
            )
        if saved is None or config.get("reward") is not None:
            return
        if saved["text"] is None:
            raise ValueError(
                f"the model was trained with a reward that has no text ({', '.join(saved['terms'])}): "
                "pass it again, load(..., env=..., reward=...)"
            )
        config["reward"] = saved["text"]


def polyak(parameters: Sequence[Tensor], targets: Sequence[Tensor], tau: float) -> None:
    """Move ``targets`` the share ``tau`` of the way to ``parameters``, in place and all at once."""
    with torch.no_grad():
        torch._foreach_lerp_(list(targets), list(parameters), tau)


def statistics(module: torch.nn.Module) -> list[Tensor]:
    """The running statistics of a network's normalisation layers, which targets copy."""
    return [tensor for name, tensor in module.state_dict().items() if "running_" in name]


def _lookup(ended: Ended | None) -> Any:
    """Return and length of the episode that ended in a lane, as ``Infos`` asks for them."""

    def episode(lane: int) -> tuple[float, int]:
        assert ended is not None
        k = ended.lane.tolist().index(lane)
        return ended.total[k], ended.length[k]

    return episode
