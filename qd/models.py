"""Learned descriptors: from features of an episode to a point of the archive.

A ``DescriptorModel`` is fitted while a search runs. Whoever keeps points that it made keeps the features too, compares
``version``, and encodes anew what an older version made.
"""

from typing import Protocol

import torch
from torch import Tensor, nn


class DescriptorModel(Protocol):
    """What a search asks of a learned descriptor."""

    version: int
    """How often it has been fitted; points of different versions are not to be compared."""

    def encode(self, features: Tensor) -> Tensor:
        """Features ``[P, F]`` to points ``[P, M]``."""
        ...

    def fit(self, features: Tensor) -> None:
        """Learn from features ``[P, F]``, anew."""
        ...


class PCA:
    """The first principal components.

    Source: AURORA-PCA of Cully, "Autonomous Skill Discovery with Quality-Diversity and Unsupervised Descriptors" (GECCO
    2019).

    Args:
        width: M, numbers of a point.
    """

    def __init__(self, width: int = 2) -> None:
        self.width, self.version = width, 0
        self._mean, self._axes = torch.zeros(1), torch.zeros(1, width)

    def fit(self, features: Tensor) -> None:
        """Find the axes; each points to where its largest number is positive, so that equal data give equal axes."""
        self._mean = features.mean(0)
        _, _, axes = torch.linalg.svd(features - self._mean, full_matrices=False)
        axes = axes[: self.width]
        sign = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        self._axes, self.version = (axes * sign).T, self.version + 1

    def encode(self, features: Tensor) -> Tensor:
        """``[P, M]``."""
        return (features - self._mean) @ self._axes


class AutoEncoder:
    """The bottleneck of an autoencoder with one hidden layer on each side of two (AURORA-AE, as QDHF's baseline).

    Args:
        inputs: F.
        width: M.
        hidden: Units of the encoder's layers; the decoder's are the same in reverse.
        epochs: Passes over the features in a fit.
        batch: Rows of a step.
        rate: Adam's step size.
        seed: Of weights and of the order of rows.
    """

    def __init__(
        self,
        inputs: int,
        width: int = 2,
        hidden: tuple[int, ...] = (64, 32),
        *,
        epochs: int = 50,
        batch: int = 64,
        rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.inputs, self.width, self.hidden, self.version = inputs, width, hidden, 0
        self.epochs, self.batch, self.rate = epochs, batch, rate
        self._generator = torch.Generator().manual_seed(seed)
        self._encoder, self._decoder = self._networks()

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        sizes = (self.inputs, *self.hidden, self.width)
        return tuple(perceptron(s, self._generator) for s in (sizes, sizes[::-1]))  # type: ignore[return-value]

    def fit(self, features: Tensor) -> None:
        """Learn from new weights."""
        self._encoder, self._decoder = self._networks()
        parameters = [*self._encoder.parameters(), *self._decoder.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=self.rate)
        for _ in range(self.epochs):
            for rows in parts(len(features), self.batch, self._generator):
                loss = (self._decoder(self._encoder(features[rows])) - features[rows]).square().mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
        self.version += 1

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """``[P, M]``."""
        points: Tensor = self._encoder(features)
        return points

    @torch.no_grad()
    def surprise(self, features: Tensor) -> Tensor:
        """The mean squared error of each row's reconstruction, ``[P]``."""
        error: Tensor = (self._decoder(self._encoder(features)) - features).square().mean(-1)
        return error


def parts(count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """The numbers below ``count`` in random order, in parts of ``size``."""
    order = torch.randperm(count, generator=generator)
    return [order[at : at + size] for at in range(0, count, size)]


def perceptron(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Module:
    """Linear layers with ReLU between, weights and biases uniform within one over the root of the inputs."""
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layer = nn.Linear(a, b, device="meta").to_empty(device="cpu")  # its own first weights draw global chance
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-(a**-0.5), a**-0.5, generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class TripletDescriptor:
    """A linear map learned from judgments of similarity: which of two is more like a third.

    Each judgment costs ``max(0, margin - (|z_r - z_far|^2 - |z_r - z_near|^2))``. The newest quarter of the judgments
    is held out; learning stops when the mean share of these that it gets right in ten epochs falls.

    Source: Ding et al., "Quality Diversity through Human Feedback" (ICML 2024), with its settings; each fit begins with
    new weights, as its code does (the paper speaks of fine-tuning).

    Args:
        inputs: F.
        width: M.
        margin: Of the loss.
        epochs: At most so many.
        batch: Judgments of a step.
        rate: Adam's step size.
        seed: Of weights and of the order of judgments.
    """

    def __init__(
        self, inputs: int, width: int = 2, *, margin: float = 0.05, epochs: int = 1000, batch: int = 32,
        rate: float = 1e-3, seed: int = 0,
    ) -> None:  # fmt: skip
        self.inputs, self.width, self.version = inputs, width, 0
        self.margin, self.epochs, self.batch, self.rate = margin, epochs, batch, rate
        self._generator = torch.Generator().manual_seed(seed)
        self.weight = self._fresh()
        self.accuracy = float("nan")
        """Share of the held-out judgments that the last fit gets right."""
        self._judged: list[Tensor] = []

    def _fresh(self) -> Tensor:
        bound = self.inputs**-0.5
        weight: Tensor = (2 * torch.rand(self.inputs, self.width, generator=self._generator) - 1) * bound
        return weight

    def judge(self, reference: Tensor, first: Tensor, second: Tensor, nearer: Tensor) -> None:
        """Add judgments on features ``[J, F]``: ``nearer`` bool ``[J]``: ``first`` is more like the reference."""
        near = torch.where(nearer[:, None], first, second)
        far = torch.where(nearer[:, None], second, first)
        self._judged.append(torch.stack([reference, near, far], 1))

    @property
    def judgments(self) -> int:
        """How many there are."""
        return sum(map(len, self._judged))

    def fit(self, features: Tensor) -> None:
        """Learn from all judgments so far (``features`` are not looked at).

        Raises:
            RuntimeError: There are fewer than four judgments.
        """
        if self.judgments < 4:
            raise RuntimeError("there is nothing to learn from yet: give judgments with judge() first")
        rows = torch.cat(self._judged)
        cut = len(rows) * 3 // 4
        ways = rows[:, 1:] - rows[:, :1]  # from the reference to the near one and to the far one, [J, 2, F]
        learn, held = ways[:cut], ways[cut:]
        weight = self._fresh()
        optimiser = torch.optim.Adam([weight], lr=self.rate)
        right: list[float] = []
        for epoch in range(self.epochs):
            for part in parts(cut, self.batch, self._generator):
                weight.grad = self.slope(learn[part], weight)
                optimiser.step()
            right.append(float((_gap(held @ weight) > 0).float().mean()))
            if epoch > 10 and sum(right[-10:]) < sum(right[-11:-1]):
                break
        self.weight, self.accuracy, self.version = weight.detach(), right[-1], self.version + 1

    def slope(self, ways: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the mean loss of judgments, ``[F, M]``: by hand, a tenth of what autograd takes.

        Args:
            ways: From the reference to the near one and to the far one, ``[J, 2, F]``.
            weight: ``[F, M]``.
        """
        points = ways @ weight
        # Where the margin is broken, the near one is to come nearer and the far one to go farther.
        broken = (_gap(points) < self.margin).to(points.dtype) * (2 / len(ways))
        pull = points * torch.stack([broken, -broken], -1)[..., None]
        return ways.flatten(0, 1).T @ pull.flatten(0, 1)

    def encode(self, features: Tensor) -> Tensor:
        """``[P, M]``."""
        return features @ self.weight


def _gap(points: Tensor) -> Tensor:
    """How much farther the far one is than the near one, squared distances, ``[J]``; points are ``[J, 2, M]``."""
    near, far = points.square().sum(-1).unbind(1)
    return far - near
