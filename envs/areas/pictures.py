"""Pictures of discs and lines, drawn for all lanes at once."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

PAPER, INK, AREA = (245, 245, 240), (60, 60, 60), (150, 215, 150)
BLUE, GREY, RED = (0, 114, 178), (130, 130, 130), (200, 30, 30)


@dataclass
class Shapes:
    """Lines ``[N, S, 4]`` (from x, y to x, y) and discs ``[N, C, 3]`` (x, y, radius), in the world's units."""

    lines: Tensor
    half_width: float = 0.0
    line_colour: tuple[int, int, int] = INK
    discs: Tensor = field(default_factory=lambda: torch.zeros(1, 0, 3))
    disc_colour: tuple[int, int, int] = BLUE


class Canvas:
    """A square of the world as a picture: pixels' centres, and a background painted once.

    Args:
        low: Its lower left corner.
        high: Its upper right corner.
        pixels: Height and width.
        up: Whether the second coordinate grows towards the top of the picture.
        device: Where pictures are made.
    """

    def __init__(
        self, low: tuple[float, float], high: tuple[float, float], pixels: int, *, up: bool, device: torch.device | str
    ) -> None:
        middles = (torch.arange(pixels, dtype=torch.float32, device=device) + 0.5) / pixels
        x = low[0] + (high[0] - low[0]) * middles
        y = low[1] + (high[1] - low[1]) * (middles.flip(0) if up else middles)
        self._x, self._y = x[None, None, :], y[None, :, None]
        self._low, self._pixel, self._up = low, (high[0] - low[0]) / pixels, up
        self._least = 0.75 * self._pixel  # no line is thinner than this on either side
        self._ground = torch.tensor(PAPER, dtype=torch.uint8, device=device).expand(1, pixels, pixels, 3)

    def ground(self, areas: Tensor, shapes: Shapes) -> None:
        """Paint the background: areas ``[A, 3]``, then shapes with one lane."""
        self._ground = self._paint(self._ground, self._discs(areas[None], self._x, self._y), AREA)
        self._ground = self.draw(shapes)

    def draw(self, shapes: Shapes, around: Tensor | None = None, reach: float = 0.0) -> Tensor:
        """uint8 ``[N, H, W, 3]``.

        Args:
            shapes: What is on the background.
            around: Points ``[N, 2]``: all of a lane's shapes lie within ``reach`` of its point, so that no more than a
                window about that is looked at. None if that is not known.
            reach: How far shapes lie from their point; the least width of lines, which is a matter of pixels, not
                counted.
        """
        if around is None:
            return self._shown(self._ground, shapes, self._x, self._y)
        pixels = self._ground.shape[1]
        side = min(pixels, 2 * math.ceil((reach + self._least) / self._pixel) + 1)
        first = ((around - around.new_tensor(self._low)) / self._pixel).floor().to(torch.int64)
        if self._up:
            first[:, 1] = pixels - 1 - first[:, 1]
        first = (first - side // 2).clamp(0, pixels - side)
        columns, rows = first.T[..., None] + torch.arange(side, device=around.device)
        at = (rows[:, :, None] * pixels + columns[:, None, :]).flatten(1)
        window = self._ground[0].flatten(0, 1)[at].reshape(-1, side, side, 3)
        window = self._shown(window, shapes, self._x[0, 0][columns][:, None, :], self._y[0, :, 0][rows][:, :, None])
        frames = self._ground.repeat(len(around), 1, 1, 1)
        frames.flatten(1, 2).scatter_(1, at[..., None].expand(-1, -1, 3), window.flatten(1, 2))
        return frames

    def _shown(self, frames: Tensor, shapes: Shapes, x: Tensor, y: Tensor) -> Tensor:
        frames = self._paint(frames, self._lines(shapes.lines, shapes.half_width, x, y), shapes.line_colour)
        return self._paint(frames, self._discs(shapes.discs, x, y), shapes.disc_colour)

    @staticmethod
    def _paint(frames: Tensor, where: Tensor | None, colour: tuple[int, int, int]) -> Tensor:
        if where is None:
            return frames
        return torch.where(where[..., None], torch.tensor(colour, dtype=torch.uint8, device=frames.device), frames)

    def _lines(self, lines: Tensor, half_width: float, x: Tensor, y: Tensor) -> Tensor | None:
        within: Tensor | None = None
        for x1, y1, x2, y2 in lines.permute(1, 2, 0)[..., None, None]:  # one line of all lanes at a time saves memory
            dx, dy = x2 - x1, y2 - y1
            along = ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy).clamp_min(1e-12)
            along = along.clamp(0.0, 1.0)
            away = (x - x1 - along * dx).square() + (y - y1 - along * dy).square()
            near = away <= max(half_width, self._least) ** 2
            within = near if within is None else within | near
        return within

    def _discs(self, discs: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
        within: Tensor | None = None
        for x1, y1, radius in discs.permute(1, 2, 0)[..., None, None]:
            inside = (x - x1).square() + (y - y1).square() <= radius.clamp_min(self._least).square()
            within = inside if within is None else within | inside
        return within
