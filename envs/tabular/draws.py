"""The shared random stream (``envs/grid/stream.py``) for whole tensors of keys: the same bits, on CPU and GPU.

int64 arithmetic in torch wraps around like 64 unsigned bits; only shifts to the right need their sign bits cleared.
"""

import torch
from torch import Tensor

from ..grid.stream import EPISODE_SALT, GAMMA, lane_key


def signed(value: int) -> int:
    """64 unsigned bits as the int64 of the same bits."""
    return value - (1 << 64) if value >> 63 else value


_GAMMA, _EPISODE = signed(GAMMA), signed(EPISODE_SALT)
_M1, _M2 = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB)


def _right(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)


def mix64(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 ``[*]``."""
    z = (z ^ _right(z, 30)) * _M1
    z = (z ^ _right(z, 27)) * _M2
    return z ^ _right(z, 31)


def lane_keys(seed: int, lanes: int, device: torch.device | str = "cpu") -> Tensor:
    """The keys of lanes 0 ... N - 1 of a seed, int64 ``[N]``."""
    return torch.tensor([signed(lane_key(seed, lane)) for lane in range(lanes)], device=device)


def episode_keys(lanes: Tensor, episode: Tensor) -> Tensor:
    """The keys of the lanes' episodes, int64 ``[N]``: ``Stream.of(seed, lane, episode).key``."""
    return mix64(lanes + episode * _GAMMA + _EPISODE)


def uniform(keys: Tensor, counter: Tensor) -> Tensor:
    """Draw number ``counter`` (from 1) of each key: float64 ``[*]`` in [0, 1), as ``Stream.random`` has it."""
    return _right(mix64(keys + counter * _GAMMA), 11).to(torch.float64) * 2.0**-53
