"""A BatchEnv as a NumPy VectorEnv without autoreset, for Gymnasium's own vector wrappers."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from .batch import BatchEnv, check_reset_mask
from .spaces import tree_leaves, tree_map


class NumpyView(VectorEnv[Any, Any, Any]):
    """What ``BatchEnv.numpy()`` returns.

    The batch resets within the step; here ``step`` returns the last observation of an ended episode, and the first
    one of the next is kept until ``reset(options={"reset_mask": ended})`` asks for it. Stepping a lane that has ended
    and has not been reset raises RuntimeError. The final observations being the observations, ``info`` has no
    ``final_*``; its facts are of the state that is returned.
    """

    def __init__(self, batch: BatchEnv) -> None:
        if not batch.always_valid:
            raise ValueError(
                f"{batch} spends steps on resets (NEXT_STEP), which a view without autoreset cannot show; "
                "make the vector environment with autoreset_mode DISABLED and use it as it is"
            )
        self.batch = batch
        self.metadata = {**batch.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs, self.spec, self.render_mode = batch.num_envs, batch.spec, batch.render_mode
        self.single_observation_space, self.single_action_space = (
            batch.single_observation_space,
            batch.single_action_space,
        )
        self.observation_space, self.action_space = batch.observation_space, batch.action_space
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._next: Any = None  # the batch's own observation and facts: the first ones of the next episode
        self._shown: Any = None  # those that step showed

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; of lanes that have ended, those that the batch has begun already."""
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        if seed is not None and not isinstance(seed, int):
            raise TypeError("one seed for the whole batch, please: lane i's own is derived from it")
        if mask is None:
            self._next = self._numpy(*self.batch.reset(seed=seed, options=options or None))
            self._shown = tree_map(np.copy, self._next)
            self._ended[:] = False
            return self._view()
        mask = check_reset_mask(mask, self.num_envs)
        if self._next is None:
            raise RuntimeError("the first reset is of all lanes: call reset() without a reset_mask first")
        begin = mask if seed is not None or options else mask & ~self._ended
        if begin.any():
            self._next = self._numpy(*self.batch.reset(seed=seed, options={**options, "reset_mask": begin}))
        for shown, fresh in zip(tree_leaves(self._shown), tree_leaves(self._next)):
            shown[mask] = fresh[mask]
        self._ended[mask] = False
        return self._view()

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every environment; without autoreset."""
        if self._ended.any():
            raise RuntimeError(
                f"lanes {np.flatnonzero(self._ended)[:8].tolist()} have ended: reset them by options['reset_mask']"
            )
        obs, reward, terminated, truncated, info = self.batch.step(actions)
        self._next = self._numpy(obs, info)
        self._shown = tree_map(np.copy, self._next)
        reward, terminated, truncated = (_numpy(x) for x in (reward, terminated, truncated))
        self._ended = terminated | truncated
        if self._ended.any():
            final = {"obs": tree_map(_numpy, info["final_obs"]), "facts": tree_map(_numpy, info["final_facts"])}
            for shown, last in zip(tree_leaves(self._shown), tree_leaves(final)):
                shown[self._ended] = last[self._ended]
        out, own = self._view()
        for name in ("episode", "_episode"):
            if name in info:
                own[name] = tree_map(_numpy, info[name])
        return out, reward, terminated, truncated, own

    def _numpy(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        return {"obs": tree_map(_numpy, obs), "facts": tree_map(_numpy, info.get("facts", {}))}

    def _view(self) -> tuple[Any, dict[str, Any]]:
        shown = tree_map(np.copy, self._shown)
        return shown["obs"], {"facts": shown["facts"]} if shown["facts"] else {}

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane; of lanes that have ended, the first of the next episode."""
        return self.batch.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the batch."""
        self.batch.close(**kwargs)


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()
