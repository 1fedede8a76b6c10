"""The autoencoder of pictures in compiled code: forwards, and backwards to the gradient.

The maps are small and the channels few: torch's convolutions lose half of the processor's arithmetic on them, and more
where there are three channels. Here one picture after the other goes through all layers. Maps lie with their channels
last and with a border of zeros, so that what a convolution reads for one place lies in four stretches of memory and
four to eleven places are multiplied with one load of the weights, without anything being copied together first.
"""

from functools import cache

import torch
from torch import Tensor, nn

from ..envs.native import Spread
from .compiled_layers import LOOP

SIDE = 64
CHANNELS = (3, 32, 64, 32, 16)
HALVINGS = len(CHANNELS) - 1
LEAST = 32  # pictures of a piece that a thread takes
_FLAT = CHANNELS[-1] * (SIDE >> HALVINGS) ** 2
_ARGUMENTS = {
    "bytes": "const unsigned char*", "floats": "const float*", "rows": "const long long*", "theta": "const float*",
    "turned": "const float*", "work": "float*", "slopes": "float*", "points": "float*", "errors": "float*",
    "out_of": "long long", "redraw": "long long", "learn": "long long",
}  # fmt: skip


class Layout:
    """Where the parameters of the autoencoder lie in one stretch of memory.

    Weights of a convolution, and of the transposed one that mirrors it, are ``[4, 4, C, N]``: row and column of the
    kernel, channel of the large map, channel of the small one. What goes from small maps to large ones reads them
    again in the order of ``turned``.

    Args:
        width: M, numbers of a point.
    """

    def __init__(self, width: int) -> None:
        self.width, self.padded = width, -(-width // 16) * 16
        self.places: dict[str, int] = {}
        self.size = 0
        pairs = list(zip(CHANNELS, CHANNELS[1:]))
        for k, (wide, narrow) in enumerate(pairs):
            self._add(f"ENCODE{k}", 16 * wide * narrow)
            self._add(f"ENCODE{k}_BIAS", narrow)
            self._add(f"DECODE{k}", 16 * wide * narrow)
            self._add(f"DECODE{k}_BIAS", -(-wide // 16) * 16)
        self._add("POINT", _FLAT * self.padded)
        self._add("POINT_BIAS", self.padded)
        self._add("OPEN", self.padded * _FLAT)
        self._add("OPEN_BIAS", _FLAT)
        order: list[Tensor] = []
        self.turned_places: dict[str, int] = {}
        for k, (wide, narrow) in enumerate(pairs):
            for side in ("DECODE", "ENCODE") if k else ("DECODE",):
                self.turned_places[f"{side}{k}_UP"] = sum(map(len, order))
                at = torch.arange(16 * wide * narrow).reshape(4, 4, wide, narrow) + self.places[f"{side}{k}"]
                order.append(_all_phases(at) if k == 0 else _by_phase(at))
        self.turned = torch.cat(order)

    def _add(self, name: str, count: int) -> None:
        self.places[name] = self.size
        self.size += count

    def gather(self, encoder: nn.Sequential, decoder: nn.Sequential) -> Tensor:
        """The parameters of torch's layers, ``[size]``; what fills up rows of sixteen is zero."""
        flat = torch.zeros(self.size)
        downs = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
        ups = [layer for layer in decoder if isinstance(layer, nn.ConvTranspose2d)][::-1]
        for k, (down, up) in enumerate(zip(downs, ups)):
            self._put(flat, f"ENCODE{k}", down.weight.permute(2, 3, 1, 0), down.bias)
            self._put(flat, f"DECODE{k}", up.weight.permute(2, 3, 1, 0), up.bias)
        side, depth = SIDE >> HALVINGS, CHANNELS[-1]
        point, opened = encoder[-1], decoder[0]
        assert isinstance(point, nn.Linear) and isinstance(opened, nn.Linear)
        last = point.weight.reshape(self.width, depth, side, side).permute(2, 3, 1, 0).flatten(0, 2)
        self._put(flat, "POINT", nn.functional.pad(last, (0, self.padded - self.width)), point.bias)
        first = opened.weight.reshape(depth, side, side, self.width).permute(3, 1, 2, 0).flatten(1)
        bias = opened.bias.reshape(depth, side, side).permute(1, 2, 0)
        self._put(flat, "OPEN", first, bias)
        return flat

    def _put(self, flat: Tensor, name: str, weight: Tensor, bias: Tensor | None) -> None:
        assert bias is not None
        for at, value in ((self.places[name], weight), (self.places[f"{name}_BIAS"], bias)):
            flat[at : at + value.numel()] = value.detach().flatten()


def _by_phase(at: Tensor) -> Tensor:
    """Weights for each of the four phases of a large map: rows 2 a + p read the kernel's rows p + 2 and p."""
    parts = [
        at[[p + 2, p]][:, [q + 2, q]].permute(0, 1, 3, 2).flatten()  # [row, column, N, C]
        for p in range(2) for q in range(2)
    ]  # fmt: skip
    return torch.cat(parts)


def _all_phases(at: Tensor) -> Tensor:
    """The same with the channels of all phases side by side, filled up to sixteen (with what nobody reads)."""
    parts = torch.stack([at[[p + 2, p]][:, [q + 2, q]].permute(0, 1, 3, 2) for p in range(2) for q in range(2)], -2)
    flat = parts.flatten(-2)
    return torch.cat([flat, flat[..., : 16 - flat.shape[-1]]], -1).flatten()


class Loop:
    """The autoencoder on pictures, for parameters that lie as ``layout`` says.

    Args:
        layout: Where they lie.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, (self._loop, self._room) = layout, _loop(layout.padded)
        self._slopes = torch.zeros(0)

    def __call__(self, theta: Tensor, pictures: Tensor, rows: Tensor, *, redraw: bool = True) -> tuple[Tensor, Tensor]:
        """Points ``[P, M]`` and errors ``[P]`` of the pictures ``rows``; errors are unspecified without ``redraw``."""
        points, errors, _ = self._run(theta, pictures, rows, redraw, learn=False)
        return points, errors

    def slope(self, theta: Tensor, pictures: Tensor, rows: Tensor) -> Tensor:
        """The gradient of the mean error of the pictures ``rows``, as the parameters lie; it is overwritten."""
        return self._run(theta, pictures, rows, redraw=True, learn=True)[2]

    def _run(
        self, theta: Tensor, pictures: Tensor, rows: Tensor, redraw: bool, learn: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, size = len(rows), self.layout.size
        pieces = self._loop.pieces(count)
        if learn and len(self._slopes) < pieces:
            self._slopes = torch.empty(pieces, size)
        pictures, turned = pictures.contiguous(), theta[self.layout.turned]
        points, errors = torch.empty(count, self.layout.padded), torch.empty(count)
        shown = (pictures, None) if pictures.dtype == torch.uint8 else (None, pictures)
        self._loop(
            count, *shown, rows, theta, turned, torch.empty(pieces, self._room), self._slopes, points, errors, count,
            int(redraw), int(learn),
        )  # fmt: skip
        return points[:, : self.layout.width], errors, self._slopes[:pieces].sum(0) if learn else self._slopes


@cache
def _loop(padded: int) -> tuple[Spread, int]:
    """The loop for points of so many numbers, and how many floats of room each of its pieces needs."""
    layout = Layout(padded)
    numbers = {**layout.places, **layout.turned_places, "POINT_SIZE": layout.padded, "SIZE": layout.size}
    numbers |= {"SIDE": SIDE, "FLAT": _FLAT}
    room = 0
    for k, channels in enumerate(CHANNELS):
        count = ((SIDE >> k) + 2) ** 2 * channels
        for name in ("SEEN", "REDRAWN", "GRADIENT") if k else ("SEEN", "REDRAWN"):
            numbers[f"{name}{k}"], room = room, room + -(-count // 16) * 16
    numbers["PHASES"], room = room, room + (SIDE // 2 + 1) ** 2 * 16
    numbers["ROOM"] = room
    lines = [f"const int {name} = {value};" for name, value in numbers.items()]
    return Spread(f"autoencoder of {padded}", _ARGUMENTS, "\n".join(lines) + LOOP, least=LEAST), room
