"""Other images than the partial one: the whole grid, one-hot, and pixels, equal to upstream's wrappers'."""

from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ..batch import BatchWrapper
from ..kinds import MINIGRID_SIZES, Pixels, Symbols
from ..spaces import encode
from . import layout as L
from .engine import GridBatch
from .pictures import Painter

_ONE_HOT = (11, 6, 3)  # upstream's number of types, colours and states


class GridView(BatchWrapper):
    """A GridBatch whose ``image`` shows something else.

    - ``full``: the whole grid with the agent in it, uint8 ``[N, W, H, 3]`` (upstream's FullyObsWrapper);
    - ``onehot``: the partial image as ``[N, V, V, 20]`` zeros and ones (OneHotPartialObsWrapper);
    - ``rgb``: what the agent sees, in pixels, ``[N, V * tile, V * tile, 3]`` (RGBImgPartialObsWrapper);
    - ``rgb_full``: the whole level in pixels, what the agent sees highlighted where the environment's ``highlight``
      says so, ``[N, H * tile, W * tile, 3]`` (RGBImgObsWrapper).

    Unlike the partial image, these are new tensors at every step, and a batch on a GPU waits for episodes that ended.

    Args:
        env: The batch.
        observation: One of these names.
        tile: Pixels of a cell's side.

    Raises:
        ValueError: If the observation or the tile is none.
    """

    env: GridBatch

    def __init__(self, env: GridBatch, observation: str, tile: int = 8) -> None:
        if observation not in ("full", "onehot", "rgb", "rgb_full"):
            raise ValueError(f"observation={observation!r}: it is one of full, onehot, rgb, rgb_full")
        super().__init__(env)
        self.observation = observation
        width, height, view = env.width, env.height, env.view
        image: gym.spaces.Box
        if observation == "full":
            image = Symbols((width, height, 3), MINIGRID_SIZES)
        elif observation == "onehot":
            image = Symbols((view, view, sum(_ONE_HOT)), (2,) * sum(_ONE_HOT))
        else:
            self._painter = Painter(width, height, view, tile, env.device)
            shape = (view, view) if observation == "rgb" else (height, width)
            image = Pixels((shape[0] * tile, shape[1] * tile, 3))
        inner = env.single_observation_space
        assert isinstance(inner, gym.spaces.Dict)
        self.single_observation_space = gym.spaces.Dict({**inner.spaces, "image": image})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._final = torch.zeros(self.num_envs, *image.shape, dtype=torch.uint8, device=self.device)

    def _show(self, image: Tensor, facts: dict[str, Tensor], rows: Tensor | slice) -> Tensor:
        image = image[rows]
        if self.observation == "rgb":
            return self._painter.partial(image)
        if self.observation == "onehot":
            parts = [F.one_hot(image[..., k].long(), size) for k, size in enumerate(_ONE_HOT)]
            return torch.cat(parts, -1).to(torch.uint8)
        cells, position, direction = (facts[name][rows] for name in ("cells", "position", "direction"))
        if self.observation == "rgb_full":
            highlight = bool(self.env._example.unwrapped.highlight)  # type: ignore[attr-defined]
            return self._painter.full(cells, position, direction, image, highlight)
        grid = torch.stack([cells & 15, cells >> 4 & 7, cells >> 7 & 3], -1).to(torch.uint8)
        grid = grid.reshape(len(cells), self.env.height, self.env.width, 3).transpose(1, 2).contiguous()
        agent = torch.full((len(cells), 3), L.AGENT, dtype=torch.uint8, device=self.device)
        agent[:, 1], agent[:, 2] = L.RED, direction
        grid[torch.arange(len(cells), device=self.device), position[:, 0], position[:, 1]] = agent
        return grid

    def _now(self, obs: dict[str, Tensor], info: dict[str, Any]) -> dict[str, Tensor]:
        return {**obs, "image": self._show(obs["image"], info["facts"], slice(None))}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._now(obs, info), info

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        rows = info["_final_obs"].nonzero()[:, 0]
        final = info["final_obs"]
        if len(rows):
            self._final[rows] = self._show(final["image"], info["final_facts"], rows)
        info["final_obs"] = {**final, "image": self._final}
        return self._now(obs, info), reward, terminated, truncated, info

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        obs, info = self.env.observe()
        return self._now(obs, info), info

    def encode(self, obs: Any) -> Any:
        """Turn one observation of the single environment, or a list of them, into a tree of this batch."""
        return encode(self.single_observation_space, obs, self.device)
