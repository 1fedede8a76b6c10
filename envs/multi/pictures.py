"""Pictures of teams: discs and tiles on a canvas, every agent in the colour that captions name it by."""

import torch
from torch import Tensor

PALETTE: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("blue", (52, 120, 216)),
    ("orange", (240, 140, 40)),
    ("green", (60, 170, 90)),
    ("red", (210, 60, 60)),
    ("purple", (140, 90, 200)),
    ("brown", (140, 100, 70)),
    ("pink", (230, 130, 190)),
    ("cyan", (50, 180, 190)),
)
"""The colour of agent number i is ``PALETTE[i % 8]``."""


def colour_of(agent: int) -> tuple[int, int, int]:
    """Red, green and blue of an agent, by its number."""
    return PALETTE[agent % len(PALETTE)][1]


def canvas(lanes: int, height: int, width: int, device: torch.device | str, shade: int = 245) -> Tensor:
    """An empty picture for each lane, uint8 ``[N, H, W, 3]``."""
    return torch.full((lanes, height, width, 3), shade, dtype=torch.uint8, device=device)


def disc(picture: Tensor, centre: Tensor, radius: float, colour: tuple[int, int, int], ring: bool = False) -> None:
    """Draw a disc, or a ring two pixels wide, into every lane's picture, in place.

    Args:
        picture: uint8 ``[N, H, W, 3]``.
        centre: ``[N, 2]`` pixels, across and down.
        radius: In pixels.
        colour: Red, green, blue.
        ring: Only its edge.
    """
    height, width = picture.shape[1:3]
    x = torch.arange(width, device=picture.device) - centre[:, 0, None]
    y = torch.arange(height, device=picture.device) - centre[:, 1, None]
    far = (x[:, None] ** 2 + y[:, :, None] ** 2).sqrt()
    inside = far <= max(radius, 1.0)
    if ring:
        inside &= far >= max(radius, 1.0) - 2
    picture[inside] = torch.tensor(colour, dtype=torch.uint8, device=picture.device)


def line(picture: Tensor, start: Tensor, end: Tensor, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
    """Draw a straight line between pixels ``start`` and ``end`` ``[N, 2]`` into every lane's picture, in place."""
    height, width = picture.shape[1:3]
    share = torch.linspace(0, 1, 2 * max(height, width), device=picture.device)[None, :, None]
    points = (start[:, None] + share * (end - start)[:, None]).round().long()
    rows = torch.arange(len(picture), device=picture.device)[:, None].expand(points.shape[:2])
    across, down = points[..., 0].clamp(0, width - 1), points[..., 1].clamp(0, height - 1)
    picture[rows, down, across] = torch.tensor(colour, dtype=torch.uint8, device=picture.device)
