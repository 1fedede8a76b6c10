"""Other images than the partial one: the whole grid, one-hot, and pixels, equal to upstream's wrappers'."""

from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ..batch import BatchWrapper
from ..kinds import MINIGRID_SIZES, Pixels, Symbols
from ..spaces import encode
from .engine import GridBatch
from .pictures import ONE_HOT, Images, image_shape


class GridView(BatchWrapper):
    """A GridBatch whose ``image`` shows something else.

    - ``full``: the whole grid with the agent in it, uint8 ``[N, W, H, 3]`` (upstream's FullyObsWrapper);
    - ``onehot``: the partial image as ``[N, V, V, 20]`` zeros and ones (OneHotPartialObsWrapper);
    - ``rgb``: what the agent sees, in pixels, ``[N, V * tile, V * tile, 3]`` (RGBImgPartialObsWrapper);
    - ``rgb_full``: the whole level in pixels, what the agent sees highlighted where the environment's ``highlight``
      says so, ``[N, H * tile, W * tile, 3]`` (RGBImgObsWrapper).

    As with the batch itself, the tensors are the same ones at every step, and nothing waits for the device.

    Args:
        env: The batch.
        observation: One of these names.
        tile: Pixels of a cell's side.

    Raises:
        ValueError: If the observation or the tile is none.
    """

    env: GridBatch

    def __init__(self, env: GridBatch, observation: str, tile: int = 8) -> None:
        shape = image_shape(env.arrays, observation, tile)
        super().__init__(env)
        self.observation = observation
        image: gym.spaces.Box
        if observation == "full":
            image = Symbols(shape, MINIGRID_SIZES)
        elif observation == "onehot":
            image = Symbols(shape, (2,) * sum(ONE_HOT))
        else:
            image = Pixels(shape)
        inner = env.single_observation_space
        assert isinstance(inner, gym.spaces.Dict)
        self.single_observation_space = gym.spaces.Dict({**inner.spaces, "image": image})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        everyone, done = env.arrays.everyone, env.arrays.result["done"]
        shown: dict[str, Any] = {"tile": tile, "highlight": env.highlight}
        self._now = Images(env.arrays, env.programs, observation, everyone, last=False, **shown)
        self._last = Images(env.arrays, env.programs, observation, done, last=True, **shown)
        self._obs = {**env.arrays.obs, "image": self._now.out}
        self._final_obs = {**env.arrays.final_obs, "image": self._last.out}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        _, info = self.env.reset(seed=seed, options=options)
        self._now()
        return self._obs, info

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane."""
        _, reward, terminated, truncated, info = self.env.step(actions)
        self._last()
        self._now()
        info["final_obs"] = self._final_obs
        return self._obs, reward, terminated, truncated, info

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        _, info = self.env.observe()
        self._now()
        return self._obs, info

    def encode(self, obs: Any) -> Any:
        """Turn one observation of the single environment, or a list of them, into a tree of this batch."""
        return encode(self.single_observation_space, obs, self.device)
