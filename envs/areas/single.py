"""One world with reward areas as a Gymnasium environment, in NumPy: a batch of one."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from .base import AreaBatch


class AreaEnv(gym.Env[Any, Any]):
    """The first lane of a batch, one episode at a time.

    Args:
        batch: A batch of one.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, batch: AreaBatch) -> None:
        self.batch, self.render_mode = batch, batch.render_mode
        self.observation_space = batch.single_observation_space
        self.action_space = batch.single_action_space
        self.max_steps = batch.max_steps
        self._running: bool | None = None
        self._last: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=None if seed is None else seed & 0x7FFFFFFFFFFFFFFF)
        # The batch began its next episode when the last one ended.
        waiting = self._running is False and seed is None
        obs, info = self.batch.observe() if waiting else self.batch.reset(seed=seed)
        self._running, self._last = True, None
        return obs[0].numpy().copy(), _first(info["facts"])

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            ValueError: The action is not in the space.
            gymnasium.error.ResetNeeded: There is no episode to go on with.
        """
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over, or none has begun: call reset()")
        if self.render_mode is not None:
            self.batch.frame_every = 1
        obs, reward, terminated, truncated, info = self.batch.step(np.asarray(action)[None])
        done = bool(info["_final_obs"][0])
        if done:
            self._running = False
            if "final_frame" in info:
                self._last = info["final_frame"][0].numpy()
        shown, facts = (info["final_obs"], info["final_facts"]) if done else (obs, info["facts"])
        return shown[0].numpy().copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(facts)

    def render(self) -> NDArray[np.uint8] | None:
        """The world as it is, uint8 ``[H, W, 3]``; after an episode's end, its last state."""
        if self.render_mode != "rgb_array":
            return None
        if self._last is not None:
            return self._last
        frames = self.batch.render()
        assert frames is not None
        picture: NDArray[np.uint8] = frames[0]
        return picture


def _first(facts: dict[str, Any]) -> dict[str, Any]:
    return {"facts": {name: value[0].numpy().copy()[()] for name, value in facts.items()}}
