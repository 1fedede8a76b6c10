"""What the worlds with reward areas share: outcome, reward at the end, facts and pictures."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from ..tabular.single import shorter
from ..tabular.vector import KeyedBatch
from .pictures import Canvas, Shapes


def check_pixels(pixels: int) -> int:
    """A picture's height and width; ValueError where it is none."""
    if isinstance(pixels, bool) or not isinstance(pixels, int) or not 8 <= pixels <= 2048:
        raise ValueError(f"pixels={pixels!r}: pictures are 8 to 2048 pixels high and wide")
    return pixels


class AreaBatch(KeyedBatch):
    """N worlds whose episodes end with an outcome in the plane, and are paid by where that lies.

    The reward is zero until the episode's last step, whatever ends it. Then it is ``(radius - distance) / radius`` of
    the area that holds the outcome, and zero outside all areas. (Paolo et al., "Sparse Reward Exploration via Novelty
    Search and Emitters", GECCO 2021; its code pays only where the environment itself ends the episode, which its
    evaluator forestalls in two of the worlds, so here both kinds of end pay.)

    ``facts`` has ``descriptor`` float32 ``[N, 2]``, the outcome as it stands; ``area`` int64, the number of the area it
    lies in or -1; and ``success``, whether it lies in one. ``descriptor_bounds`` float32 ``[2, 2]`` has the outcomes'
    lowest and highest values, and ``areas`` float32 ``[A, 3]`` each area's centre and radius.

    Args:
        num_envs: N.
        observation: The single observation space.
        action: The single action space.
        steps: The world's cap on an episode.
        bounds: Lowest and highest outcome, two numbers each.
        areas: Centre and radius of each area.
        device: Where the tensors live.
        max_episode_steps: Truncate after so many steps, where that is before ``steps``.
        render_mode: ``"rgb_array"`` or None.
        pixels: Height and width of the pictures.
    """

    def __init__(
        self,
        num_envs: int,
        observation: spaces.Box,
        action: spaces.Box,
        *,
        steps: int,
        bounds: tuple[tuple[float, float], tuple[float, float]],
        areas: tuple[tuple[float, float, float], ...] = (),
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        pixels: int = 128,
    ) -> None:
        check_pixels(pixels)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}: it is one of ['rgb_array'] or None")
        cap = shorter(steps, max_episode_steps)
        super().__init__(num_envs, observation, action, device=device, max_steps=cap, render_mode=render_mode)
        self.metadata = {**self.metadata, "render_modes": ["rgb_array"], "render_fps": 30}
        self.descriptor_bounds = torch.tensor(bounds, dtype=torch.float32, device=self.device)
        self.areas = torch.tensor(areas, dtype=torch.float32, device=self.device).reshape(-1, 3)
        self.pixels = pixels
        self._canvas: Canvas | None = None

    def pay(self, outcome: Tensor) -> tuple[Tensor, Tensor]:
        """What outcomes ``[N, 2]`` are worth at an end: reward float32 ``[N]`` and area int64 ``[N]`` (-1 for none)."""
        if not len(self.areas):
            none = torch.full(outcome.shape[:1], -1, dtype=torch.int64, device=outcome.device)
            return torch.zeros(outcome.shape[0], device=outcome.device), none
        radius = self.areas[:, 2]
        away = (outcome[:, None] - self.areas[:, :2]).norm(dim=-1)
        worth, area = ((radius - away) / radius).max(-1)  # the areas are disjoint: at most one is positive
        return worth.clamp_min(0.0), torch.where(worth >= 0, area, -1)

    def returns(self, outcome: Tensor) -> Tensor:
        """The undiscounted returns, float32 ``[N]``, of episodes that end with outcomes ``[N, 2]``."""
        return self.pay(outcome)[0]

    def _outcome(self, state: dict[str, Tensor]) -> Tensor:
        """The descriptor, float32 ``[N, 2]``."""
        raise NotImplementedError

    def _shapes(self, state: dict[str, Tensor]) -> Shapes:
        """What moves, for the pictures."""
        raise NotImplementedError

    def _scenery(self) -> Shapes:
        """What stands still: one lane of shapes."""
        raise NotImplementedError

    def _last_step(self, terminated: Tensor) -> Tensor:
        """Which lanes' episodes end with the present step."""
        if self.max_steps is None:
            return terminated
        return terminated | (self._t + 1 >= self.max_steps)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        outcome = self._outcome(state)
        area = self.pay(outcome)[1]
        return {"descriptor": outcome, "area": area, "success": area >= 0}

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        return state["obs"]

    def _extent(self) -> tuple[tuple[float, float], tuple[float, float], bool]:
        """Lower left and upper right of what pictures show, and whether the second coordinate points up."""
        low, high = self.descriptor_bounds.tolist()
        return (low[0], low[1]), (high[0], high[1]), True

    def _window(self, state: dict[str, Tensor]) -> tuple[Tensor | None, float]:
        """Points ``[N, 2]`` and how far from them moving shapes lie at most; None where they may be anywhere."""
        return None, 0.0

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        if self._canvas is None:
            low, high, up = self._extent()
            self._canvas = Canvas(low, high, self.pixels, up=up, device=self.device)
            self._canvas.ground(self.areas, self._scenery())
        return self._canvas.draw(self._shapes(state), *self._window(state))

    def pictures(self, state: dict[str, Tensor]) -> Tensor:
        """What states look like, uint8 ``[N, H, W, 3]``; they need no more than what is drawn."""
        return self._pictures(state)

    def _add_frames(self, info: dict[str, Any], final: dict[str, Tensor] | None, done: Tensor | None) -> None:
        """Draw those lanes alone that are due: with searches that want last pictures only, none for most steps."""
        if not self._frame_every:
            return
        due = self._t % self._frame_every == 0
        info["frame"], info["_frame"] = self._drawn(self._s, due), due
        if final is not None and done is not None:
            info["final_frame"], info["_final_frame"] = self._drawn(final, done), done

    def _drawn(self, state: dict[str, Tensor], which: Tensor) -> Tensor:
        rows = which.nonzero()[:, 0]
        if len(rows) == self.num_envs:
            return self._pictures(state)
        frames = torch.zeros(1, self.pixels, self.pixels, 3, dtype=torch.uint8, device=self.device)
        frames = frames.expand(self.num_envs, -1, -1, -1)
        if len(rows):
            frames = frames.clone()
            frames[rows] = self._pictures({name: value[rows] for name, value in state.items()})
        return frames

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane, uint8 ``[H, W, 3]``."""
        return tuple(self._pictures(self._s).cpu().numpy()) if self.render_mode == "rgb_array" else None
