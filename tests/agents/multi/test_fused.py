"""The compiled norm of a layer against torch's operations, forward and back."""

import pytest
import torch
from torch.nn import functional as F

from cairn.agents.multi import fused


def plain(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return F.relu(F.layer_norm(x, x.shape[-1:]) * scale + shift)


@pytest.mark.parametrize("shape", [(3, 7, 16), (1, 1, 64), (2, 5, 128), (2, 4, 24)])
def test_it_is_torch_s(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    nets, _, width = shape
    given = [3 * torch.randn(shape) + 1, torch.randn(nets, 1, width), torch.randn(nets, 1, width)]
    weight = torch.randn(shape)
    found = []
    for of in (fused.normed, plain):
        leaves = [v.clone().requires_grad_() for v in given]
        out = of(*leaves)
        found.append([out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_it_is_compiled_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones(1, 1, 16)
    asked = []
    monkeypatch.setattr(fused.F, "layer_norm", lambda x, *_, **__: asked.append(x) or x)
    fused.normed(torch.randn(1, 4, 16).transpose(1, 2).contiguous().transpose(1, 2), ones, ones)
    assert not asked
    fused.normed(torch.randn(1, 4, 12), ones[..., :12], ones[..., :12])
    fused.normed(torch.randn(1, 4, 16, dtype=torch.float64), ones.double(), ones.double())
    assert len(asked) == 2


def test_strides_and_equal_rows() -> None:
    x = torch.randn(16, 2, 5).permute(1, 2, 0).requires_grad_()  # not contiguous
    scale, shift = torch.ones(2, 1, 16), torch.full((2, 1, 16), 0.5)
    torch.testing.assert_close(fused.normed(x, scale, shift), plain(x, scale, shift))
    torch.testing.assert_close(*(torch.autograd.grad(of(x, scale, shift).sum(), x)[0] for of in (fused.normed, plain)))
    level = torch.full((2, 5, 16), 7.0)  # no deviation
    torch.testing.assert_close(fused.normed(level, scale, shift), torch.full_like(level, 0.5))
