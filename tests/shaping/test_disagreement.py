import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import Disagreement, RolloutSeat, Stretch, World
from cairn.shaping.disagreement import Ensemble

PLANE = World(gym.spaces.Box(-5, 5, (2,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


class Plain(nn.Module):
    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0]


class Three(nn.Module):
    """Members that say (x, y), (x + action 1, y) and (x, -y)."""

    def forward(self, x: Tensor) -> Tensor:
        one, zero = x[:, 3], torch.zeros(len(x))
        return torch.stack([x[:, :2], x[:, :2] + torch.stack([one, zero], 1), x[:, :2] * torch.tensor([1.0, -1.0])])


def lived(place: Tensor, action: Tensor, after: Tensor) -> Stretch:
    flags = torch.zeros(action.shape, dtype=torch.bool)
    return Stretch.make(
        obs=place, next_obs=after, action=action, reward=torch.zeros(action.shape), terminated=flags, start=flags
    )


def test_the_variance_by_hand() -> None:
    """Of x, x, x and y, y, -y; and with action 1 of x, x + 1, x: a mean square of 2/9 more. Whatever came of it."""
    term = Disagreement(normalise=False, warmup=0, features=2)
    seat = RolloutSeat(term, PLANE)
    term.embed, term.ensemble = Plain(), Three()
    place = torch.tensor([[[3.0, 0.0]], [[3.0, 0.0]], [[0.0, 3.0]]])
    x = lived(place, torch.tensor([[0], [1], [1]]), torch.full((3, 1, 2), 4.0))
    assert torch.allclose(seat(x, 0)[0].flatten(), torch.tensor([0.0, 2 / 9, 2 / 9 + 8.0]))


def test_members_are_networks_of_their_own() -> None:
    ensemble = Ensemble(3, 4, 8, 2, torch.Generator().manual_seed(0))
    x = torch.randn(5, 4)
    out = ensemble(x)
    assert out.shape == (3, 5, 2)
    for k in range(3):
        alone = (x @ ensemble.first[k] + ensemble.first_bias[k]).relu() @ ensemble.last[k] + ensemble.last_bias[k]
        assert torch.allclose(out[k], alone, atol=1e-6)
    out[1].sum().backward()
    grad = ensemble.first.grad
    assert grad is not None and (grad[1] != 0).any() and (grad[[0, 2]] == 0).all()


def test_they_agree_on_what_they_have_seen_and_on_noise() -> None:
    """Places right of 0 are lived, with noise in what comes next; left of it nobody has been."""
    world = World(PLANE.observation_space, PLANE.action_space, lanes=64, seed=0)
    term = Disagreement(normalise=False, warmup=0, features=8, hidden=32, learning_rate=3e-3, share=1.0)
    seat = RolloutSeat(term, world)
    g = torch.Generator().manual_seed(0)

    def some(side: float) -> Stretch:
        place = torch.rand(16, 64, 2, generator=g) * torch.tensor([4.0 * side, 1.0])
        noise = torch.randn(16, 64, 2, generator=g)
        return lived(place, torch.randint(0, 2, (16, 64), generator=g), place + noise)

    first = float(seat(some(1.0), 0)[0].mean())
    seat.update(0)
    for _ in range(60):
        mean = float(seat(some(1.0), 0)[0].mean())
        seat.update(0)
    assert mean < 0.1 * first
    assert float(seat(some(-1.0), 0)[0].mean()) > 3 * mean


def test_a_member_leaves_a_fifth_of_the_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that begin alike come apart, since each learns from rows of its own."""
    for keep, apart in ((0.8, True), (1.0, False)):
        monkeypatch.setattr(Disagreement, "keep", keep)
        term = Disagreement(normalise=False, warmup=0, members=2, share=1.0)
        seat = RolloutSeat(term, PLANE)
        ensemble = term.ensemble
        assert isinstance(ensemble, Ensemble)
        with torch.no_grad():
            ensemble.first[1], ensemble.last[1] = ensemble.first[0], ensemble.last[0]
        g = torch.Generator().manual_seed(0)
        x = lived(torch.rand(64, 1, 2, generator=g), torch.zeros(64, 1, dtype=torch.int64), torch.rand(64, 1, 2))
        assert float(seat(x, 0)[0].sum()) == 0
        seat.update(0)
        assert (float(seat(x, 0)[0].sum()) > 1e-9) == apart
    with pytest.raises(ValueError, match="at least two"):
        Disagreement(members=1)
