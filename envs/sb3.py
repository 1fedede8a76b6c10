"""Between BatchEnv and Stable-Baselines3's VecEnv, in both directions."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from .batch import BatchEnv, BatchWrapper, check_actions, find_wrapper, lane_seed
from .kinds import declare
from .single_env import single_space
from .spaces import encode, flat_space, flatten, tree_map
from .wrappers import EpisodeStatistics


def as_sb3(batch: VectorEnv[Any, Any, Any], flat: bool = True, statistics: bool = True) -> "Sb3VecEnv":
    """Show a BatchEnv to Stable-Baselines3.

    Args:
        batch: The environments.
        flat: Observe one float32 ``Box`` (symbols and categories one-hot, pixels in [0, 1], text dropped), which
            ``"MlpPolicy"`` of every algorithm takes. Otherwise the batch's own space, in NumPy.
        statistics: Put ``EpisodeStatistics`` around a batch that lacks it, so that ``infos`` have "episode", and
            SB3 logs ``rollout/ep_rew_mean``.

    Raises:
        TypeError: Not a BatchEnv.
        ValueError: The batch spends steps on resets (``always_valid`` is False), which SB3 would learn from.
    """
    if not isinstance(batch, BatchEnv):
        raise TypeError(f"as_sb3 takes a BatchEnv, and got {type(batch).__name__}; make_batch turns others into one")
    if not batch.always_valid:
        raise ValueError(
            f"{batch} spends steps on resets (NEXT_STEP), and Stable-Baselines3 has no way to leave such rows out; "
            "make the vector environment with autoreset_mode SAME_STEP or DISABLED, or use from_gymnasium"
        )
    if statistics and find_wrapper(batch, EpisodeStatistics) is None:
        batch = EpisodeStatistics(batch)
    return Sb3VecEnv(batch, flat)


class Infos(Sequence[dict[str, Any]]):
    """The infos of one step: a dict is built for a lane when somebody asks for it, and kept.

    Attributes:
        facts: Facts before the step, name to ``[N, ...]``; a replay buffer with fact-based rewards reads them.
    """

    def __init__(
        self,
        num_envs: int,
        ended: dict[int, dict[str, Any]],
        facts: Mapping[str, Tensor] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self._built, self._n, self.facts, self._info = ended, num_envs, facts or {}, info or {}

    @property
    def next_facts(self) -> dict[str, Tensor]:
        """Facts after the step, name to ``[N, ...]``: of an ended episode its last ones, never the next one's first."""
        after, final = self._info.get("facts", {}), self._info.get("final_facts", {})

        def true_next(name: str, fact: Tensor) -> Tensor:
            ended = self._info["_final_obs"].reshape(-1, *(1,) * (fact.dim() - 1))
            return torch.where(ended, final.get(name, fact), fact)

        return {name: true_next(name, fact) for name, fact in after.items()}

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        if not -self._n <= index < self._n:
            raise IndexError(f"lane {index} of {self._n}")
        return self._built.setdefault(int(index) % self._n, {"TimeLimit.truncated": False})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(self._n))

    def copy(self) -> list[dict[str, Any]]:
        """The dicts in a list, as a list's ``copy`` has it."""
        return list(self)


class Sb3VecEnv(VecEnv):
    """A BatchEnv in Stable-Baselines3's terms; ``as_sb3`` makes it. ``batch`` is what it shows."""

    def __init__(self, batch: BatchEnv, flat: bool) -> None:
        self.batch, self.flat = batch, flat
        self._view = batch.single_observation_space
        self._statistics = find_wrapper(batch, EpisodeStatistics) is not None
        self._start = time.perf_counter()
        self._seed: int | None = None
        self._actions: Any = None
        self._facts: dict[str, Tensor] = {}
        super().__init__(batch.num_envs, flat_space(self._view) if flat else self._view, batch.single_action_space)

    def _show(self, obs: Any) -> Any:
        """A batch of observations as SB3 sees it."""
        if self.flat:
            return flatten(self._view, obs).cpu().numpy()
        return tree_map(_numpy, obs)

    def reset(self) -> Any:
        """Begin new episodes, by the seed and the options set before."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("a batch takes the same reset options in all lanes")
        obs, info = self.batch.reset(seed=self._seed, options=dict(options) or None)
        self._keep_facts(info)
        self._seed = None
        self._reset_seeds()
        self._reset_options()
        return self._show(obs)

    def step_async(self, actions: Any) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; returns ``obs, rewards float32 [N], dones bool [N], infos``."""
        obs, reward, terminated, truncated, info = self.batch.step(torch.as_tensor(self._actions))
        dones = _numpy(terminated | truncated)
        ended = self._ends(dones, terminated, truncated, info) if dones.any() else {}
        infos = Infos(self.num_envs, ended, self._facts, info)
        self._keep_facts(info)
        return self._show(obs), _numpy(reward), dones, infos

    def _keep_facts(self, info: Mapping[str, Any]) -> None:
        """Copy the facts for the next step's infos: the batch may write over its own."""
        self._facts = {name: fact.clone() for name, fact in info.get("facts", {}).items()}

    def _ends(self, dones: Any, terminated: Tensor, truncated: Tensor, info: Mapping[str, Any]) -> Any:
        """The infos of the lanes whose episodes ended."""
        lanes = np.flatnonzero(dones)
        rows = torch.from_numpy(lanes).to(self.batch.device)
        last = self._show(tree_map(lambda leaf: leaf[rows], info["final_obs"]))
        cut = _numpy(truncated & ~terminated)
        success = info.get("final_facts", {}).get("success")
        won = None if success is None else _numpy(success)
        out: dict[int, dict[str, Any]] = {}
        for k, lane in enumerate(lanes.tolist()):
            terminal = {name: leaf[k] for name, leaf in last.items()} if isinstance(last, dict) else last[k]
            out[lane] = {"TimeLimit.truncated": bool(cut[lane]), "terminal_observation": terminal}
            if won is not None:
                out[lane]["is_success"] = bool(won[lane])
        if "episode" in info:
            returns, lengths = _numpy(info["episode"]["r"]), _numpy(info["episode"]["l"])
            elapsed = round(time.perf_counter() - self._start, 6)
            for lane, own in out.items():
                own["episode"] = {"r": round(float(returns[lane]), 6), "l": int(lengths[lane]), "t": elapsed}
        return out

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset; returns each lane's own seed (for a keyed environment: the same, and its lane)."""
        self._seed = int(np.random.randint(0, 2**32 - 1, dtype=np.uint32)) if seed is None else int(seed)
        keyed = self.batch.unwrapped.keyed
        self._seeds = [self._seed if keyed else lane_seed(self._seed, lane) for lane in range(self.num_envs)]
        return self._seeds

    def close(self) -> None:
        """Close the batch."""
        self.batch.close()

    def get_images(self) -> Sequence[Any]:
        """One picture for each lane, or None where the render mode gives none."""
        frames = self.batch.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the single environments, or of the batch (for each lane) where there are none."""
        return [
            env.get_wrapper_attr(attr_name) if env is not None else self._of_batch(attr_name)
            for env in self._targets(indices)
        ]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the single environments, or of the batch."""
        for env in self._targets(indices):
            setattr(env if env is not None else self.batch.unwrapped, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the single environments, or of the batch."""
        return [method(*method_args, **method_kwargs) for method in self.get_attr(method_name, indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Whether the lanes are wrapped so; with episode statistics, the answer for ``Monitor`` is yes."""
        if self._statistics and issubclass(Monitor, wrapper_class) and wrapper_class is not gym.Wrapper:
            return [True for _ in self._targets(indices)]
        if issubclass(wrapper_class, BatchWrapper):
            return [find_wrapper(self.batch, wrapper_class) is not None for _ in self._targets(indices)]
        return [env is not None and is_wrapped(env, wrapper_class) for env in self._targets(indices)]

    def _targets(self, indices: int | Iterable[int] | None) -> list[Any]:
        envs = self.batch.envs
        return [None if envs is None else envs[i] for i in self._get_indices(indices)]

    def _of_batch(self, name: str) -> Any:
        """An attribute of the batch: the outermost wrapper that has it counts."""
        layer: Any = self.batch
        while not hasattr(layer, name) and isinstance(layer, BatchWrapper):
            layer = layer.env
        return getattr(layer, name)


def flat_single(env: str | gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """One environment in the flat view: what a lane of ``as_sb3(batch)`` observes, for ``predict`` and checks.

    Args:
        env: The single environment, or its id.
    """
    return FlatSingle(gym.make(env) if isinstance(env, str) else env)


class FlatSingle(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """A single environment that observes one float32 ``Box``; ``flat_single`` makes it."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        self._single = single_space(env)
        self.observation_space = flat_space(self._single)

    def observation(self, observation: Any) -> Any:
        """Flatten one observation: float32 [D]."""
        return flatten(self._single, encode(self._single, observation))[0].numpy()


def from_sb3(venv: VecEnv, device: torch.device | str = "cpu") -> BatchEnv:
    """Show a Stable-Baselines3 ``VecEnv`` as a BatchEnv; the batch itself where it was made by ``as_sb3(flat=False)``.

    Lane i is seeded as SB3 does it, and the state cannot be saved.
    """
    if isinstance(venv, Sb3VecEnv) and not venv.flat:
        return venv.batch
    return Sb3Batch(venv, device)


class Sb3Batch(BatchEnv):
    """A foreign VecEnv; ``from_sb3`` makes it."""

    def __init__(self, venv: VecEnv, device: torch.device | str = "cpu") -> None:
        super().__init__(
            venv.num_envs,
            declare(venv.observation_space),
            venv.action_space,
            device=device,
            render_mode=venv.render_mode,
        )
        self.venv = venv
        self._knows_success = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in all lanes."""
        if options and "reset_mask" in options:
            raise ValueError("Stable-Baselines3's VecEnv cannot reset some of its lanes")
        if seed is not None:
            self.venv.seed(lane_seed(seed, 0) % 2**31)
        if options:
            self.venv.set_options(options)
        self._obs = encode(self.single_observation_space, self.venv.reset(), self.device)
        return self._obs, {"facts": self._facts(torch.zeros(self.num_envs, dtype=torch.bool, device=self.device))}

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane."""
        array = check_actions(self.single_action_space, actions, self.num_envs).cpu().numpy()
        out, reward, dones, infos = self.venv.step(array.astype(self.single_action_space.dtype))
        obs = self._obs = encode(self.single_observation_space, out, self.device)
        ended = torch.as_tensor(np.array(dones, np.bool_), device=self.device)
        final = tree_map(torch.clone, obs)
        truncated, won = torch.zeros_like(ended), torch.zeros_like(ended)
        for lane in np.flatnonzero(dones).tolist():
            info = infos[lane]
            truncated[lane] = bool(info.get("TimeLimit.truncated", False))
            if "is_success" in info:
                self._knows_success = True
                won[lane] = bool(info["is_success"])
            last = encode(self.single_observation_space, info["terminal_observation"], self.device)
            tree_map(lambda to, row, at=lane: to[at].copy_(row[0]), final, last)
        info = {"final_obs": final, "_final_obs": ended, "facts": self._facts(torch.zeros_like(won))}
        info["final_facts"] = self._facts(won)
        rewards = torch.as_tensor(np.array(reward, np.float32), device=self.device)
        return obs, rewards, ended & ~truncated, truncated, info

    def _facts(self, success: Tensor) -> dict[str, Tensor]:
        return {"success": success} if self._knows_success else {}

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation."""
        return self._obs, {"facts": {}}

    def state_dict(self) -> dict[str, Any]:
        """What there is to say: nothing but the size."""
        return {"format": "sb3-inexact-1", "num_envs": self.num_envs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin new episodes, and warn that the old ones are lost."""
        if not isinstance(state, Mapping) or state != self.state_dict():
            raise ValueError(f"this is not the state of a VecEnv of {self.num_envs} lanes")
        warnings.warn(
            "the state of a foreign VecEnv cannot be restored: new episodes begin", RuntimeWarning, stacklevel=2
        )
        self.reset()

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane."""
        return tuple(self.venv.get_images())

    def close_extras(self, **kwargs: Any) -> None:
        """Close the VecEnv."""
        self.venv.close()


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()
