"""64-bit hashes of rows of tensors, the same on every device and machine of one byte order."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fast

_BLOCK = 1 << 15  # words
_FIRST, _SECOND, _STEP = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15


def _signed(word: int) -> int:
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def _shifted(x: Tensor, by: int) -> Tensor:
    """Shift right, zeros coming in: torch's own shift repeats the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def mix(x: Tensor) -> Tensor:
    """Scatter int64 over all 64 bits, one to one (SplitMix64's finaliser, Steele et al. 2014)."""
    x = (x ^ _shifted(x, 30)) * _signed(_FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(_SECOND)
    return x ^ _shifted(x, 31)


@lru_cache(maxsize=64)
def _factors(words: int, salt: int, device: torch.device) -> Tensor:
    index = torch.arange(1, words + 1, dtype=torch.int64) + (salt << 32)
    return (mix(index * _signed(_STEP)) | 1).to(device)


def words_of(leaf: Tensor) -> Tensor:
    """The bytes of each row as int64 words: ``[B, ...]`` becomes ``[B, W]``. -0.0 and 0.0 are the same."""
    leaf = leaf.detach().reshape(len(leaf), prod(leaf.shape[1:]))
    if leaf.is_floating_point():
        leaf = leaf + 0.0  # -0.0 + 0.0 is 0.0
    if leaf.dtype == torch.bool:
        leaf = leaf.to(torch.uint8)
    if leaf.dtype == torch.int64 or not leaf.shape[1]:
        return leaf.to(torch.int64)
    short = -(leaf.shape[1] * leaf.element_size()) % 8 // leaf.element_size()
    leaf = F.pad(leaf, (0, short)).contiguous()
    if leaf.storage_offset() * leaf.element_size() % 8:
        leaf = leaf.clone()  # words are read from addresses that 8 divides
    return leaf.view(torch.int64)


def _bytes_of(leaf: Tensor) -> Tensor:
    """The rows of a leaf as the compiled loop reads them, ``[B, n]``: words as of ``words_of``, the last one padded."""
    leaf = leaf.detach().reshape(len(leaf), prod(leaf.shape[1:]))
    return (leaf + 0.0 if leaf.is_floating_point() else leaf).contiguous()


def hash_rows(leaves: Sequence[Tensor]) -> Tensor:
    """Hash the rows of leaves ``[B, ...]`` together: int64 ``[B]``.

    Multilinear over 64-bit words (Lemire and Kaser 2014), their high halves first folded into the low ones, since
    a difference in the high bits alone would stay there.
    """
    if leaves and fast.fits(len(leaves[0]), leaves[0].device):
        flat = [_bytes_of(leaf) for leaf in leaves]
        sizes = [-(-leaf.shape[1] * leaf.element_size() // 8) for leaf in flat]
        return fast.hash_rows(flat, [_factors(n, salt, leaf.device) for salt, (n, leaf) in enumerate(zip(sizes, flat))])
    total = torch.zeros(len(leaves[0]), dtype=torch.int64, device=leaves[0].device)
    for salt, leaf in enumerate(leaves):
        words = words_of(leaf)
        if not words.shape[1]:
            continue
        factors = _factors(words.shape[1], salt, words.device)
        # On a CPU in blocks that stay in its cache: twice as fast.
        block = max(_BLOCK // words.shape[1], 1) if words.device.type == "cpu" else max(len(words), 1)
        sums = [((w ^ _shifted(w, 32)) * factors).sum(1) for w in torch.split(words, block)]
        total = total + torch.cat(sums)
    return mix(total)
