"""Policies as rows of a matrix: thousands of small networks, each with parameters of its own, act at once."""

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


class _Actions:
    """From numbers in -1 to 1 to the actions of a space.

    Raises:
        TypeError: The space is neither Discrete nor a bounded Box.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space, self.discrete = space, isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.width, self.start = int(space.n), int(space.start)
        elif isinstance(space, spaces.Box) and np.isfinite(space.low).all() and np.isfinite(space.high).all():
            self.width = int(np.prod(space.shape))
            low, high = (torch.from_numpy(b.astype(np.float32).reshape(-1)) for b in (space.low, space.high))
            self.low, self.high = low, high
        else:
            raise TypeError(
                f"policies of qd act in Discrete or bounded Box spaces, not in {space}: wrap the environment"
            )

    def __call__(self, out: Tensor) -> Tensor:
        """``[N, width]`` to actions ``[N, ...]``."""
        if self.discrete:
            return out.argmax(-1) + self.start
        low, high = self.low.to(out.device), self.high.to(out.device)
        scaled = torch.minimum(low + (out + 1.0) * ((high - low) / 2), high).maximum(low)
        return scaled.reshape(-1, *(self.space.shape or ()))

    def units(self, actions: Tensor) -> Tensor:
        """The inverse: actions ``[N, ...]`` to ``[N, width]``; TypeError for Discrete ones."""
        if self.discrete:
            raise TypeError(f"gradients need a Box of actions, not {self.space}")
        low, high = self.low.to(actions.device), self.high.to(actions.device)
        return 2 * (actions.reshape(-1, self.width) - low) / (high - low) - 1


class MLP:
    """Feedforward networks, a genome each.

    Every layer ends in ``2 sigmoid(x) - 1``, the last one too; with ``activation="relu"`` the hidden ones end in that,
    and the last one in tanh. A Box's bounds are its outputs at -1 and 1, and of discrete actions the largest output's
    is taken. A genome has each layer's weights (inputs before outputs), then its bias. (Paolo et al., "Sparse Reward
    Exploration via Novelty Search and Emitters", GECCO 2021, where each layer has one bias for all its units.)

    Args:
        observation: A Box; it is flattened.
        action: Discrete, or a bounded Box.
        hidden: Units of the hidden layers.
        bias: ``"layer"`` for one bias a layer, ``"unit"`` for one a unit.
        activation: ``"sigmoid"`` or ``"relu"``.
    """

    def __init__(
        self,
        observation: gym.Space[Any],
        action: gym.Space[Any],
        hidden: Sequence[int] = (5, 5),
        bias: str = "layer",
        activation: str = "sigmoid",
    ) -> None:
        if not isinstance(observation, spaces.Box):
            raise TypeError(f"networks of qd read a Box, not {observation}: flatten the observations with a wrapper")
        if bias not in ("layer", "unit"):
            raise ValueError(f"bias={bias!r}: one for each 'layer' or for each 'unit'")
        if activation not in ("sigmoid", "relu"):
            raise ValueError(f"activation={activation!r}: 'sigmoid' or 'relu'")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in hidden):
            raise ValueError(f"hidden={tuple(hidden)!r}: the numbers of units, each at least 1")
        self._actions, self.shape = _Actions(action), observation.shape
        self.bias, self.activation = bias, activation
        self._resize((int(np.prod(observation.shape)), *hidden, self._actions.width))

    def _resize(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.size = sum(a * b + (1 if self.bias == "layer" else b) for a, b in pairwise(sizes))
        """How many numbers a genome has."""

    @property
    def inputs(self) -> int:
        """Numbers of an observation."""
        return self.sizes[0]

    @property
    def discrete(self) -> bool:
        """Whether actions are chosen, not scaled."""
        return self._actions.discrete

    def widened(self, more: int) -> "MLP":
        """Networks that read ``more`` numbers after the observation, and act as these do."""
        wide = copy(self)
        wide._resize((self.sizes[0] + more, *self.sizes[1:]))
        return wide

    def first(self, count: int, generator: torch.Generator) -> Tensor:
        """First genomes for learning by gradients: uniform within one over the root of a layer's inputs. ``[P, D]``."""
        spans = [torch.full((a * b + (1 if self.bias == "layer" else b),), a**-0.5) for a, b in pairwise(self.sizes)]
        span: Tensor = torch.cat(spans)
        return span * (2 * torch.rand(count, self.size, generator=generator) - 1)

    def unpack(self, genomes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights ``[N, in, out]`` and biases ``[N, 1, out or 1]`` of each layer, views of genomes ``[N, size]``."""
        layers, at = [], 0
        for inputs, outputs in pairwise(self.sizes):
            weight = genomes[:, at : at + inputs * outputs].reshape(-1, inputs, outputs)
            at += inputs * outputs
            wide = 1 if self.bias == "layer" else outputs
            layers.append((weight, genomes[:, at : at + wide].reshape(-1, 1, wide)))
            at += wide
        return layers

    def act(self, layers: list[tuple[Tensor, Tensor]], obs: Tensor) -> Tensor:
        """Actions ``[N, ...]`` for observations ``[N, ...]``, row i by network i."""
        return self._actions(self.outputs(layers, obs.reshape(len(obs), 1, -1).to(torch.float32))[:, 0])

    def outputs(self, layers: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
        """What networks make of ``x [N, B, inputs]``, -1 to 1, before it is scaled to actions: ``[N, B, outputs]``."""
        for i, (weight, bias) in enumerate(layers):
            x = torch.bmm(x, weight) + bias
            if self.activation == "sigmoid":
                x = torch.tanh(x / 2)
            else:
                x = torch.tanh(x) if i == len(layers) - 1 else torch.relu(x)
        return x

    def units(self, actions: Tensor) -> Tensor:
        """Outputs that make ``actions [N, ...]``, ``[N, outputs]``.

        Raises:
            TypeError: The actions are Discrete.
        """
        return self._actions.units(actions)


class Constant:
    """The genome is the action, the same at each step: for worlds of one step.

    Args:
        observation: Not looked at.
        action: A bounded Box; genomes are in its units and are cut to its bounds.
    """

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
        self._actions = _Actions(action)
        if self._actions.discrete:
            raise TypeError(f"a constant policy needs a Box of actions, not {action}")
        self.size, self.shape = self._actions.width, observation.shape or ()

    def unpack(self, genomes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The actions."""
        low, high = self._actions.low.to(genomes.device), self._actions.high.to(genomes.device)
        action = torch.minimum(genomes, high).maximum(low).reshape(-1, *(self._actions.space.shape or ()))
        return [(action, action)]

    def act(self, layers: list[tuple[Tensor, Tensor]], obs: Tensor) -> Tensor:
        """The actions, whatever is observed."""
        return layers[0][0]


class CNN:
    """Convolutional networks for pictures, a genome each: convolutions end in ReLU, then layers as ``MLP`` has them.

    Pictures are read as ``1 - value / 255``, so that white is zero and what is drawn on it counts. Weights are a
    genome's numbers times two over the root of their layer's inputs, and biases a fifth of the numbers: standard normal
    genomes are networks in which what is drawn counts for more than the biases, and a mutation means the same in every
    layer. (Scales by layer are those of Such et al., "Deep Neuroevolution", 2017, but for the factors.) A genome has
    each layer's weights (inputs before outputs; of a convolution row, column, channel), then a bias for each output.

    Args:
        observation: A Box of pictures ``[H, W, C]`` from 0 to 255.
        action: Discrete, or a bounded Box.
        layers: Channels, side of the kernel and stride of each convolution; there is no padding.
        hidden: Units of the hidden layers after them.

    Raises:
        TypeError: The observation is no picture.
        ValueError: A number is not at least 1, or a kernel is larger than what it would look at.
    """

    def __init__(
        self,
        observation: gym.Space[Any],
        action: gym.Space[Any],
        layers: Sequence[Sequence[int]] = ((8, 4, 4), (16, 3, 2)),
        hidden: Sequence[int] = (),
    ) -> None:
        if not isinstance(observation, spaces.Box) or len(observation.shape) != 3 or observation.dtype != np.uint8:
            raise TypeError(f"convolutions read pictures, uint8 [H, W, C], not {observation}")
        numbers = [n for layer in layers for n in layer] + list(hidden)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers) or {*map(len, layers)} - {3}:
            raise ValueError(f"layers={layers!r}, hidden={hidden!r}: (channels, kernel, stride) and units, at least 1")
        self._actions = _Actions(action)
        self.layers, self.hidden = tuple((c, k, s) for c, k, s in layers), tuple(hidden)
        self.shape = height, width, channels = observation.shape
        self.inputs = height * width * channels
        """Numbers of an observation."""
        self.shapes: list[tuple[int, int]] = []
        """Inputs and outputs of each layer's weights."""
        for made, kernel, stride in self.layers:
            if kernel > min(height, width):
                raise ValueError(f"a kernel of {kernel} pixels does not fit into the {height} x {width} that it gets")
            self.shapes.append((channels * kernel * kernel, made))
            height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, made
        self.shapes += list(pairwise((height * width * channels, *hidden, self._actions.width)))
        self.size = sum(a * b + b for a, b in self.shapes)
        """How many numbers a genome has."""

    def unpack(self, genomes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights ``[N, in, out]``, as they are multiplied, and biases ``[N, 1, out]`` of each layer."""
        layers, at = [], 0
        for a, b in self.shapes:
            weight = genomes[:, at : at + a * b].reshape(-1, a, b) * (2 * a**-0.5)
            layers.append((weight, 0.2 * genomes[:, None, at + a * b : at + a * b + b]))
            at += a * b + b
        return layers

    def act(self, layers: list[tuple[Tensor, Tensor]], obs: Tensor) -> Tensor:
        """Actions ``[N, ...]`` for pictures ``[N, H, W, C]``, row i by network i."""
        x = obs if self.layers else 1.0 - obs.to(torch.float32) / 255
        for (_, kernel, stride), (weight, bias) in zip(self.layers, layers):
            patches = x.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)
            seen = patches.reshape(len(x), -1, weight.shape[1])
            if x is obs:  # bytes are cheaper to put in order than floats
                seen = seen.to(torch.float32).mul_(-1 / 255).add_(1.0)
            x = torch.relu(torch.baddbmm(bias, seen, weight)).reshape(*patches.shape[:3], -1)
        x = x.reshape(len(x), 1, -1)
        for weight, bias in layers[len(self.layers) :]:
            x = torch.tanh(torch.baddbmm(bias, x, weight) / 2)
        return self._actions(x[:, 0])


Policy = MLP | Constant | CNN
