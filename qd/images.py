"""An autoencoder of pictures: where it puts a picture is a descriptor, how badly it redraws it is surprise."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..shaping.adam import Adam
from .compiled_images import CHANNELS, SIDE, Layout, Loop
from .models import parts as split


class ImageDescriptor:
    """A convolutional autoencoder; a ``DescriptorModel`` whose features are pictures.

    Pictures are shrunk to 64 x 64. Four convolutions (4 x 4, stride 2, SELU) and a linear layer make the point, and
    their mirror image redraws the picture. A fit goes on from the present weights; it ends early when the error of
    pictures that were held out has been above its least for ``patience`` passes in a row.

    Source: Paolo et al., "Unsupervised Learning and Exploration of Reachable Outcome Space" (TAXONS, ICRA 2020) and
    "Discovering and Exploiting Sparse Rewards in a Learned Behavior Space" (STAX, 2021). When a fit ends is as in
    STAX's code; TAXONS holds nothing out.

    Args:
        width: M, numbers of a point.
        epochs: At most so many passes in a fit.
        batch: Pictures of a step.
        rate: Adam's step size.
        held_out: Share of the pictures; 0 learns from all of them for ``epochs`` passes.
        patience: Held-out errors in a row above the least one that end a fit.
        seed: Of weights and of the order of pictures.

    Raises:
        ValueError: Nothing would be left to learn from.
    """

    def __init__(
        self,
        width: int = 10,
        *,
        epochs: int = 100,
        batch: int = 128,
        rate: float = 1e-3,
        held_out: float = 0.2,
        patience: int = 4,
        seed: int = 0,
    ) -> None:
        self.width, self.epochs, self.batch, self.version = width, epochs, batch, 0
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out={held_out}: a share of the pictures, below 1; 0 for none")
        self.held_out, self.patience = held_out, patience
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first = networks(width)
        layout = Layout(width)
        self._loop, self._numbers = Loop(layout), layout.gather(*first)
        self._optimiser = Adam([self._numbers], lr=rate)

    def fit(self, features: Tensor) -> None:
        """Learn from pictures, uint8 ``[P, H, W, 3]``."""
        pictures = _shown(features)
        order = torch.randperm(len(pictures), generator=self._generator)
        cut = int(len(order) * self.held_out)
        held, learn = order[:cut], order[cut:]
        least, above = float("inf"), 0
        for left in reversed(range(self.epochs)):
            for part in split(len(learn), self.batch, self._generator):
                self.step(pictures, learn[part])
            # An error matters only while so many of them can still end the fit before its last pass.
            if not len(held) or above + left < self.patience:
                continue
            error = float(self._loop(self._numbers, pictures, held)[1].mean())
            least, above = min(least, error), above + 1 if error > least else 0
            if above >= self.patience:
                break
        self.version += 1

    def step(self, pictures: Tensor, rows: Tensor) -> None:
        """One step of learning, from the pictures ``rows``."""
        self._numbers.grad = self._loop.slope(self._numbers, _shown(pictures), rows)
        self._optimiser.step()

    def encode(self, features: Tensor) -> Tensor:
        """Pictures, uint8 ``[P, H, W, 3]``, to points ``[P, M]``."""
        return self._look(features, redraw=False)[0]

    def surprise(self, features: Tensor) -> Tensor:
        """The mean squared error of each picture's redrawing, ``[P]``."""
        return self._look(features)[1]

    def _look(self, features: Tensor, *, redraw: bool = True) -> tuple[Tensor, Tensor]:
        return self._loop(self._numbers, _shown(features), torch.arange(len(features)), redraw=redraw)


def _shown(frames: Tensor) -> Tensor:
    """Pictures, uint8 ``[P, H, W, 3]``, as the loop takes them: 64 x 64, bytes or float32 from 0 to 1."""
    if frames.shape[1:3] == (SIDE, SIDE):
        return frames
    return prepared(frames).permute(0, 2, 3, 1).contiguous()


def prepared(frames: Tensor) -> Tensor:
    """Pictures, uint8 ``[P, H, W, 3]``, to float32 ``[P, 3, 64, 64]`` in 0 to 1."""
    pictures = frames.permute(0, 3, 1, 2).to(torch.float32) / 255
    if pictures.shape[-2:] != (SIDE, SIDE):
        pictures = functional.interpolate(pictures, (SIDE, SIDE), mode="area")
    return pictures


def networks(width: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The layers as torch has them: where the first weights come from."""
    inside = SIDE // 2 ** (len(CHANNELS) - 1)
    down: list[nn.Module] = []
    for a, b in zip(CHANNELS, CHANNELS[1:]):
        down += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.SELU()]
    flat = CHANNELS[-1] * inside * inside
    up: list[nn.Module] = [nn.Linear(width, flat), nn.SELU(), nn.Unflatten(1, (CHANNELS[-1], inside, inside))]
    mirrored = CHANNELS[::-1]
    for a, b in zip(mirrored, mirrored[1:]):
        up += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.SELU()]
    up[-1] = nn.Sigmoid()
    return nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, width)), nn.Sequential(*up)
