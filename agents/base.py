"""What Cairn's agents share: Stable-Baselines3's face over a batch of environments, and saving without pickle."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import utils
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from .. import runs
from ..envs import spaces as kinds
from ..envs.batch import BatchEnv
from ..envs.bridges import as_sb3, make_batch
from ..shaping.state import pack, unpack
from .policies import ActorCriticPolicy, BatchPolicy
from .progress import Reporter, reporter
from .randomness import random_state, set_random_state

MODEL = "cairn-model"
ACTIONS = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary)


class BatchAlgorithm(BaseAlgorithm):
    """A Stable-Baselines3 algorithm whose environment is a ``BatchEnv``, in ``self.batch``.

    ``get_env()`` gives Stable-Baselines3's view of it, and is what callbacks see. Subclasses pass their constructor's
    arguments as ``config``; those, and nothing else of the object, are what :meth:`save` keeps.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        name: ActorCriticPolicy for name in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    }
    policy_base: ClassVar[type[BatchPolicy]] = ActorCriticPolicy  # what a policy class must be derived from
    chosen: ClassVar[tuple[str, ...]] = ()  # arguments that a run's config holds as they were resolved

    def __init__(self, config: dict[str, Any], env: Any) -> None:
        policy, self._config = config["policy"], config
        self.batch: BatchEnv | None = None
        self._view: VecEnv | None = None
        self._bar: ProgressBar | None = None
        if isinstance(policy, str) and policy not in self.policy_aliases:
            names = ", ".join(self.policy_aliases)
            raise ValueError(
                f"no policy is called {policy!r}; there are {names}, or a class derived from "
                f"cairn.agents.{self.policy_base.__name__}"
            )
        if not isinstance(policy, str) and not (isinstance(policy, type) and issubclass(policy, self.policy_base)):
            raise TypeError(
                f"{policy!r} is not a policy class of ours: derive it from cairn.agents.{self.policy_base.__name__}, "
                "which has the hooks of Stable-Baselines3's class of that name"
            )
        batch = None if env is None else make_batch(env)
        device = config["device"]
        super().__init__(
            policy,
            None,
            config["learning_rate"],
            config["policy_kwargs"],
            config["stats_window_size"],
            config["tensorboard_log"],
            config["verbose"],
            batch.device if device == "auto" and batch is not None else device,
            support_multi_env=True,
            seed=config["seed"],
            use_sde=config.get("use_sde", False),
            sde_sample_freq=config.get("sde_sample_freq", -1),
        )
        self.policy_kwargs = dict(self.policy_kwargs)
        self._reset_seed = self.seed
        if batch is not None:
            self._adopt(batch)

    # ---- environments --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Put around the batch what the reward's terms want there (such as eyes on its pictures)."""
        reward = getattr(self, "reward", None)
        if reward is not None and self.batch is not None:
            self.batch, self._view = reward.around(self.batch), None

    def _adopt(self, batch: BatchEnv) -> None:
        """Take a batch after checking that a policy can act in it."""
        if agents := getattr(batch, "agents", ()):
            raise ValueError(
                f"{batch} is a team of {len(agents)}, and {type(self).__name__} is one agent: take IPPO, MAPPO or "
                "MADDPG, or let one agent steer them all with cairn.envs.multi.Joint(env)"
            )
        action = batch.single_action_space
        if isinstance(action, spaces.Box) and not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
            raise ValueError(
                f"{action} has no finite bounds: wrap it in gymnasium.wrappers.RescaleAction or ClipAction"
            )
        if self.use_sde and not isinstance(action, spaces.Box):
            raise ValueError(f"use_sde is for continuous actions, and this environment has {action}")
        self.batch, self._view = batch, None
        self.observation_space, self.action_space = batch.single_observation_space, action
        self.n_envs = batch.num_envs

    @property
    def env(self) -> VecEnv | None:
        """Stable-Baselines3's view of the batch, or None without one."""
        return self.get_env()

    @env.setter
    def env(self, value: VecEnv | None) -> None:
        self._view = value

    def get_env(self) -> VecEnv | None:
        """Stable-Baselines3's view of the batch, spaces as they are, or None without one."""
        if self._view is None and self.batch is not None:
            self._view = as_sb3(self.batch, flat=False)
        return self._view

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Train on another environment with the same spaces (any number of them, unless rewards are bound to lanes).

        Args:
            env: Anything the constructor takes.
            force_reset: Reset it before the next step; otherwise it goes on from the state that it is in.

        Raises:
            ValueError: The spaces differ.
        """
        batch = make_batch(env)
        for ours, theirs, what in (
            (self.observation_space, batch.single_observation_space, "observes"),
            (self.action_space, batch.single_action_space, "acts in"),
        ):
            if ours != theirs:
                raise ValueError(f"this model {what} {ours}, and the new environment {what} {theirs}")
        had = self.batch
        self._adopt(batch)
        self._look()
        if force_reset or had is None or had.num_envs != batch.num_envs:
            self._last_obs = None

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, torch, the action space and the environments' next reset; None leaves them alone."""
        if seed is not None:
            utils.set_random_seed(seed, using_cuda=self.device.type == "cuda")
            self.action_space.seed(seed)
            self._reset_seed = seed

    # ---- learning ------------------------------------------------------------------------------------------

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.batch is None:
            raise ValueError(
                "this model has no environment to learn in: give it one with set_env or load(..., env=...)"
            )
        self.start_time = time.time_ns()
        if self.ep_info_buffer is None or reset_num_timesteps:
            self.ep_info_buffer = deque(maxlen=self._stats_window_size)
            self.ep_success_buffer = deque(maxlen=self._stats_window_size)
        if reset_num_timesteps:
            self.num_timesteps = self._episode_num = 0
        else:
            total_timesteps += self.num_timesteps
        self._total_timesteps, self._num_timesteps_at_start = total_timesteps, self.num_timesteps
        if reset_num_timesteps or self._last_obs is None:
            seed, self._reset_seed = self._reset_seed, None
            self._begin(*self.batch.reset(seed=seed))
        if not self._custom_logger:
            self._logger = utils.configure_logger(self.verbose, self.tensorboard_log, tb_log_name, reset_num_timesteps)
        return total_timesteps, self._init_callback(callback, progress_bar)

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        """Start from a reset of all environments; subclasses keep it in their buffers."""
        self._last_obs = obs

    def _init_callback(self, callback: Any, progress_bar: bool = False) -> BaseCallback:
        if isinstance(callback, list):
            callback = CallbackList(callback)
        made: BaseCallback = callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)
        self._bar = ProgressBar() if progress_bar else None
        if self._bar is not None:
            made = CallbackList([made, self._bar])
        made.init_callback(self)
        return made

    def _put_bar_away(self) -> None:
        """End the progress bar and let go of it: it holds the model."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log of what has been lived, under Stable-Baselines3's keys."""
        seconds = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        if iteration > 0:
            self.logger.record("time/iterations", iteration, exclude="tensorboard")
        for key, value in self.recent().items():
            self.logger.record(key, value)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def recent(self) -> dict[str, float]:
        """Mean return, length and success of the last ``stats_window_size`` episodes, by logger key."""
        row = {}
        if self.ep_info_buffer:
            row["rollout/ep_rew_mean"] = float(np.mean([episode["r"] for episode in self.ep_info_buffer]))
            row["rollout/ep_len_mean"] = float(np.mean([episode["l"] for episode in self.ep_info_buffer]))
        if self.ep_success_buffer:
            row["rollout/success_rate"] = float(np.mean(self.ep_success_buffer))
        return row

    # ---- state ---------------------------------------------------------------------------------------------

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []  # what get_parameters and set_parameters are about

    def _learned(self) -> dict[str, Any]:
        """Networks, optimisers and single parameters by the name that files have for them."""
        return {"policy": self.policy, "optimizer": self.policy.optimizer}

    def _kept(self) -> dict[str, Any]:
        """What :meth:`save` writes; a subclass adds what :meth:`training_state` has in another place."""
        return self._learned()

    def _relearn(self, state: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> None:
        """Put back what files have for ``parts`` (:meth:`_learned` if left out), in place."""
        for name, part in (self._learned() if parts is None else parts).items():
            if isinstance(part, torch.Tensor):
                part.data.copy_(state[name])
            else:
                unpack(part, state[name])

    def settings(self) -> dict[str, Any]:
        """The arguments that were left to the agent, as it chose them: plain numbers."""
        values = {name: getattr(self, name, None) for name in self.chosen}
        return {name: value for name, value in values.items() if isinstance(value, int | float)}

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, as a tree of plain values and tensors.

        It is whole between updates: before and after ``learn``, and in a callback's ``on_rollout_start``.
        """
        return {
            **{name: pack(part) for name, part in self._learned().items()},
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "episodes": [[float(e["r"]), int(e["l"])] for e in self.ep_info_buffer or ()],
            "successes": [bool(s) for s in self.ep_success_buffer or ()],
            "env": None if self.batch is None else self.batch.state_dict(),
            "random": random_state(self.device),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`training_state` gave; ``learn(..., reset_num_timesteps=False)`` then goes on from there.

        The model must have been built with the same arguments, on as many environments.
        """
        self._relearn(state)
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        window = self._stats_window_size
        self.ep_info_buffer = deque(({"r": r, "l": n} for r, n in state["episodes"]), maxlen=window)
        self.ep_success_buffer = deque(state["successes"], maxlen=window)
        if state["env"] is not None:
            if self.batch is None:
                raise ValueError("the state has environments in it, and this model none: give it some with set_env")
            self.batch.load_state_dict(state["env"])
        self._reset_seed = None
        set_random_state(state["random"], self.device)

    def _saved_config(self) -> dict[str, Any]:
        """What :meth:`save` keeps beside the weights; subclasses add to it."""
        config = {key: value for key, value in self._config.items() if key not in ("policy", "device")}
        return {
            "policy": runs.pack(self._config["policy"]),
            "config": runs.pack(config),
            "observation_space": kinds.to_json(self.observation_space),
            "action_space": kinds.to_json(self.action_space),
            "num_timesteps": self.num_timesteps,
        }

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """Write policy, optimiser and constructor arguments as a folder; an older model there is replaced.

        Nothing is pickled: classes and functions are kept by name, and those that Cairn does not know must be handed
        back in ``custom_objects`` when loading. The environments' state is not in it (:meth:`training_state` has it).

        Args:
            path: The folder; a ``.zip`` at its end, which Stable-Baselines3's callbacks write, is dropped.
            exclude: Ignored: only what is named above is saved.
            include: Ignored.
        """
        meta = {"format": MODEL, "class": type(self).__name__, **self._saved_config()}
        state = {name: pack(part) for name, part in self._kept().items()}
        runs.write_checkpoint(_folder(path), meta, state, replace=True)

    @classmethod
    def load(
        cls,
        path: Any,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Read a model that :meth:`save` wrote.

        Args:
            path: The folder.
            env: Environments to go on learning in; without them the model can ``predict``.
            device: Where to put it; "auto" is the environments' device.
            custom_objects: Your own classes and functions by the names that the file asks for, or constructor
                arguments to use instead of saved ones.
            print_system_info: Print versions first.
            force_reset: As in Stable-Baselines3; the environments are always reset before learning.
            kwargs: Constructor arguments that replace the saved ones.

        Raises:
            CheckpointError: The folder is not a model, is damaged, or needs an object that was not handed over.
        """
        if print_system_info:
            utils.get_system_info()
        folder = _folder(path)
        meta, state = runs.read_checkpoint(folder)
        if meta.get("format") != MODEL or meta.get("class") != cls.__name__:
            raise runs.CheckpointError(
                f"{folder}: this is no {cls.__name__} model but a {str(meta.get('class', meta.get('format')))[:80]!r}"
            )
        given = {**(custom_objects or {}), **kwargs}
        saved = meta["config"]
        config = {key: runs.unpack(value, custom_objects) for key, value in saved.items() if key not in given}
        config |= {key: value for key, value in given.items() if key in saved or key in kwargs}
        policy = runs.unpack(meta["policy"], custom_objects)
        cls._arguments(meta, env, config)
        model = cls(policy, env, device=device, _init_setup_model=False, **config)  # type: ignore[call-arg]
        for name in ("observation_space", "action_space"):
            space = kinds.from_json(meta[name])
            if env is not None and space != getattr(model, name):
                raise ValueError(f"the model was trained with the {name} {space}, and env has {getattr(model, name)}")
            setattr(model, name, space)
        model._recall(meta)
        model._setup_model()
        model._relearn(state, model._kept())
        model.num_timesteps = int(meta["num_timesteps"])
        return model

    @classmethod
    def _arguments(cls, meta: dict[str, Any], env: Any, config: dict[str, Any]) -> None:
        """Complete the constructor's arguments ``config`` from a saved ``meta``; for subclasses that need more."""

    def _recall(self, meta: dict[str, Any]) -> None:
        """Take what the networks' shapes depend on from a saved ``meta``; for subclasses that need more."""


class ProgressBar(BaseCallback):
    """Steps per second, return and success rate while ``learn`` runs: a bar in a terminal, plain lines elsewhere."""

    def __init__(self, report: Reporter | None = None) -> None:
        super().__init__()
        self.report = report or reporter()
        self._shown, self._open = 0.0, False

    def _on_training_start(self) -> None:
        self._open = True
        self.report.__enter__()

    def _on_step(self) -> bool:
        if time.monotonic() - self._shown > 0.2:
            self._tell()
        return True

    def _tell(self) -> None:
        self._shown = time.monotonic()
        model = self.model
        assert isinstance(model, BatchAlgorithm)
        self.report.at(model.num_timesteps, model._total_timesteps, model.recent())

    def _on_training_end(self) -> None:
        self._tell()
        self.close()

    def close(self) -> None:
        """Give the terminal back; called once more after an error or Ctrl-C."""
        if self._open:
            self._open = False
            self.report.__exit__(None, None, None)


_COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
)


def arguments(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was called with and :meth:`BatchAlgorithm.save` keeps, from its ``locals()``."""
    apart = ("self", "__class__", "env", "reward", "experience", "_init_setup_model")
    return {name: value for name, value in scope.items() if name not in apart}


def told(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What callbacks are told of ``learn``, from its ``locals()``: all but the callback itself.

    Callbacks keep it, with the model in it. One that kept itself would be freed, and its model's memory with it, only
    when Python's cycle collector comes by.
    """
    return {name: value for name, value in scope.items() if name != "callback"}


def fetch(scalars: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Numbers from the device, all at once."""
    values = [value.detach().double() for value in scalars.values()]
    return dict(zip(scalars, torch.stack(values).tolist() if values else []))


def _folder(path: Any) -> Path:
    if not isinstance(path, str | Path):
        raise TypeError(f"a model is a folder: give its path, not a {type(path).__name__}")
    return Path(str(path).removesuffix(".zip"))
