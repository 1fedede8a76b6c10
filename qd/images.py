"""An autoencoder of pictures: where it puts a picture is a descriptor, how badly it redraws it is surprise."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from .models import parts as split

SIDE = 64
WIDTHS = (32, 64, 32, 16)


class ImageDescriptor:
    """A convolutional autoencoder; a ``DescriptorModel`` whose features are pictures.

    Pictures are shrunk to 64 x 64. Four convolutions (4 x 4, stride 2, SELU) and a linear layer make the point, and
    their mirror image redraws the picture. A fit goes on from the present weights, holds out a fifth of the pictures,
    and stops when their error has risen ``patience`` times.

    Source: Paolo et al., "Unsupervised Learning and Exploration of Reachable Outcome Space" (TAXONS, ICRA 2020) and
    "Discovering and Exploiting Sparse Rewards in a Learned Behavior Space" (STAX, 2021).

    Args:
        width: M, numbers of a point.
        epochs: At most so many passes in a fit.
        batch: Pictures of a step.
        rate: Adam's step size.
        patience: Rises of the held-out error that end a fit.
        seed: Of weights and of the order of pictures.
    """

    def __init__(
        self,
        width: int = 10,
        *,
        epochs: int = 100,
        batch: int = 128,
        rate: float = 1e-3,
        patience: int = 3,
        seed: int = 0,
    ) -> None:
        self.width, self.epochs, self.batch, self.patience, self.version = width, epochs, batch, patience, 0
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._encoder, self._decoder = _networks(width)
        parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
        self._optimiser = torch.optim.Adam(parameters, lr=rate)

    def _redrawn(self, pictures: Tensor) -> Tensor:
        out: Tensor = self._decoder(self._encoder(pictures))
        return out

    def fit(self, features: Tensor) -> None:
        """Learn from pictures, uint8 ``[P, H, W, 3]``."""
        pictures = prepared(features)
        order = torch.randperm(len(pictures), generator=self._generator)
        cut = max(1, len(order) * 4 // 5)
        learn, held = order[:cut], order[cut:] if cut < len(order) else order
        before, rises = float("inf"), 0
        for _ in range(self.epochs):
            for part in split(len(learn), self.batch, self._generator):
                batch = pictures[learn[part]]
                loss = (self._redrawn(batch) - batch).square().mean()
                self._optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
            error = float(self._errors(pictures[held]).mean())
            rises = rises + 1 if error > before else rises
            before = error
            if rises >= self.patience:
                break
        self.version += 1

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """Pictures, uint8 ``[P, H, W, 3]``, to points ``[P, M]``."""
        parts = [self._encoder(prepared(features[at : at + 128])) for at in range(0, len(features), 128)]
        return torch.cat(parts) if parts else torch.zeros(0, self.width)

    @torch.no_grad()
    def surprise(self, features: Tensor) -> Tensor:
        """The mean squared error of each picture's redrawing, ``[P]``."""
        parts = [self._errors(prepared(features[at : at + 128])) for at in range(0, len(features), 128)]
        return torch.cat(parts) if parts else torch.zeros(0)

    @torch.no_grad()
    def _errors(self, pictures: Tensor) -> Tensor:
        return (self._redrawn(pictures) - pictures).square().flatten(1).mean(-1)


def prepared(frames: Tensor) -> Tensor:
    """Pictures, uint8 ``[P, H, W, 3]``, to float32 ``[P, 3, 64, 64]`` in 0 to 1."""
    pictures = frames.permute(0, 3, 1, 2).to(torch.float32) / 255
    if pictures.shape[-2:] != (SIDE, SIDE):
        pictures = functional.interpolate(pictures, (SIDE, SIDE), mode="area")
    return pictures


def _networks(width: int) -> tuple[nn.Module, nn.Module]:
    inside = SIDE // 2 ** len(WIDTHS)
    down: list[nn.Module] = []
    for a, b in zip((3, *WIDTHS), WIDTHS):
        down += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.SELU()]
    flat = WIDTHS[-1] * inside * inside
    up: list[nn.Module] = [nn.Linear(width, flat), nn.SELU(), nn.Unflatten(1, (WIDTHS[-1], inside, inside))]
    mirrored = (*WIDTHS[::-1], 3)
    for a, b in zip(mirrored, mirrored[1:]):
        up += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.SELU()]
    up[-1] = nn.Sigmoid()
    return nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, width)), nn.Sequential(*up)
