"""Any Gymnasium VectorEnv as a BatchEnv, whichever of the three autoreset modes it has."""

import secrets
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor

from .batch import BatchEnv, check_actions, check_reset_mask, lane_seed
from .kinds import declare
from .spaces import encode_numpy, tree_leaves, tree_map

SUCCESS = ("is_success", "success")


def from_vector(vector_env: "VectorEnv[Any, Any, Any]", device: torch.device | str = "cpu") -> BatchEnv:
    """Turn a Gymnasium vector environment into a BatchEnv; a BatchEnv is returned as it is.

    Autoreset modes: SAME_STEP is ours. Under DISABLED, ended lanes are reset within the step. Under NEXT_STEP, the
    step after an episode's end is a reset that ignores its action: ``SyncVectorEnv`` and ``AsyncVectorEnv`` are told to
    reset at once instead, and of others (whose resets cannot be advanced) that row is marked False in
    ``info["valid"]``, so that learners leave it out; the batch says so by ``always_valid = False``.

    The state of a foreign vector environment cannot be saved: ``exact_state`` is False.

    Raises:
        ValueError: The environment does not say which autoreset mode it has.
    """
    return vector_env if isinstance(vector_env, BatchEnv) else VectorBatch(vector_env, device)


class VectorBatch(BatchEnv):
    """A foreign vector environment; ``from_vector`` makes it."""

    def __init__(self, vector_env: "VectorEnv[Any, Any, Any]", device: torch.device | str = "cpu") -> None:
        mode = vector_env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(
                f"{vector_env} does not say when it resets: set its metadata['autoreset_mode'] to the right "
                "gymnasium.vector.AutoresetMode"
            )
        self.vector_env, self._mode = vector_env, mode
        # Wrappers of the NEXT_STEP kind keep their own record of who is to be reset, so only bare ones are told.
        bare = isinstance(vector_env, SyncVectorEnv | AsyncVectorEnv)
        self._resets = mode is AutoresetMode.DISABLED or (mode is AutoresetMode.NEXT_STEP and bare)
        self._masks = self._resets or bare
        spec = vector_env.spec
        super().__init__(
            vector_env.num_envs,
            declare(vector_env.single_observation_space, symbols=_has_mission(vector_env.single_observation_space)),
            vector_env.single_action_space,
            device=device,
            max_steps=getattr(spec, "max_episode_steps", None),
            render_mode=vector_env.render_mode,
        )
        self.spec = spec
        self.always_valid = self._resets or mode is AutoresetMode.SAME_STEP
        self._started = False
        self._success_known = False
        self._obs: Any = None
        self._success = np.zeros(self.num_envs, np.bool_)
        self._resetting = np.zeros(self.num_envs, np.bool_)  # lanes whose next step is a reset

    @property
    def envs(self) -> Any:  # type: ignore[override]
        """The single environments of a SyncVectorEnv."""
        return getattr(self.vector_env.unwrapped, "envs", None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        options = dict(options or {})
        mask = options.get("reset_mask")
        if mask is not None:
            if not self._started or not self._masks:
                why = "its first reset is of all lanes" if self._masks else f"{self.vector_env} cannot do it"
                raise RuntimeError(f"reset of some lanes only: {why}")
            options["reset_mask"] = mask = check_reset_mask(mask, self.num_envs)
            if not mask.any():
                return self.observe()
        if seed is None and not self._started:
            seed = secrets.randbits(63)
        seeds: Any = None
        if seed is not None:
            by_lane = isinstance(self.vector_env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
            seeds = [lane_seed(seed, i) for i in range(self.num_envs)] if by_lane else lane_seed(seed, 0)
        obs, _ = self.vector_env.reset(seed=seeds, options=options or None)
        rows = np.ones(self.num_envs, np.bool_) if mask is None else mask
        self._take(encode_numpy(self.single_observation_space, obs), rows)
        self._success[rows] = False
        self._resetting[rows] = False
        self._started = True
        return self.observe()

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once."""
        if not self._started:
            raise RuntimeError("the batch has no episodes yet: call reset() first")
        array = check_actions(self.single_action_space, actions, self.num_envs).cpu().numpy()
        obs, reward, terminated, truncated, extra = self.vector_env.step(array.astype(self.action_space.dtype))
        reward = np.asarray(reward, np.float32)
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        ended = terminated | truncated
        valid = ~self._resetting
        everywhere = np.ones(self.num_envs, np.bool_)
        self._take(encode_numpy(self.single_observation_space, obs), everywhere)
        self._read_success(extra, ended)
        final_success = self._success.copy()
        final: Any = tree_map(np.copy, self._obs)
        if ended.any():
            self._success[ended] = False
            if self._mode is AutoresetMode.SAME_STEP:
                self._final_rows(final, extra, ended)
            elif self._resets:
                fresh, _ = self.vector_env.reset(options={"reset_mask": ended.copy()})
                self._take(encode_numpy(self.single_observation_space, fresh), ended)
        if not self.always_valid:
            self._resetting = ended & valid
        out, info = self.observe()
        info["final_obs"] = tree_map(self._tensor, final)
        info["_final_obs"] = self._tensor(ended)
        info["final_facts"] = {"success": self._tensor(final_success)} if self._success_known else {}
        if not self.always_valid:
            info["valid"] = self._tensor(valid)
        return out, self._tensor(reward), self._tensor(terminated), self._tensor(truncated), info

    def _take(self, obs: Any, rows: np.ndarray[Any, Any]) -> None:
        """Keep some rows of a batch of observations as the present ones."""
        if self._obs is None:
            self._obs = obs
        for now, new in zip(tree_leaves(self._obs), tree_leaves(obs)):
            now[rows] = new[rows]

    def _final_rows(self, final: Any, extra: Mapping[str, Any], ended: np.ndarray[Any, Any]) -> None:
        """Write a SAME_STEP environment's last observations into ``final``."""
        if "final_obs" not in extra:
            raise RuntimeError(f"{self.vector_env} ended an episode in SAME_STEP mode without info['final_obs']")
        given = extra["final_obs"]
        by_lane = isinstance(given, np.ndarray) and given.dtype == object
        whole = None if by_lane else encode_numpy(self.single_observation_space, given)
        for lane in np.flatnonzero(ended).tolist():
            row = encode_numpy(self.single_observation_space, given[lane]) if by_lane else whole
            for to, source in zip(tree_leaves(final), tree_leaves(row)):
                to[lane] = source[0 if by_lane else lane]

    def _read_success(self, extra: Mapping[str, Any], ended: np.ndarray[Any, Any]) -> None:
        """Note success where the infos speak of it; in SAME_STEP an ended lane's is in ``final_info``."""
        for source, rows in ((extra, ~ended), (extra.get("final_info", extra), ended)):
            key = next((name for name in SUCCESS if isinstance(source, Mapping) and name in source), None)
            if key is None:
                continue
            self._success_known = True
            said = np.asarray(source[key])
            if said.shape == (self.num_envs,):
                self._success[rows] = said[rows].astype(np.bool_)

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        facts = {"success": self._tensor(self._success)} if self._success_known else {}
        return tree_map(self._tensor, self._obs), {"facts": facts}

    def state_dict(self) -> dict[str, Any]:
        """What there is to say: nothing but the size."""
        return {"format": "vector-inexact-1", "num_envs": self.num_envs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin new episodes, and warn that the old ones are lost."""
        if not isinstance(state, Mapping) or state != self.state_dict():
            raise ValueError(f"this is not the state of a vector environment of {self.num_envs} lanes")
        warnings.warn(
            f"the state of {self.vector_env} cannot be restored, so new episodes begin. The run goes on, but it is not "
            "bit for bit the one that was interrupted",
            RuntimeWarning,
            stacklevel=2,
        )
        self.reset(seed=secrets.randbits(63))

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane."""
        return self.vector_env.render()

    def _set_frame_every(self, k: int) -> None:
        if k:
            raise ValueError(
                "a foreign vector environment resets before it can be rendered, so an episode's last frame would be "
                "missing: use from_gymnasium for frames"
            )
        super()._set_frame_every(k)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the vector environment."""
        self.vector_env.close(**kwargs)


def _has_mission(space: gym.Space[Any]) -> bool:
    """Whether a space is MiniGrid's Dict with a symbolic view: pictures of the RGB wrappers are larger."""
    if not isinstance(space, spaces.Dict) or "image" not in space.spaces:
        return False
    mission = any(type(child).__name__ in ("MissionSpace", "BabyAIMissionSpace") for child in space.spaces.values())
    return mission and max(space["image"].shape or (0,)) <= 32
