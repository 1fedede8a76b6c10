from math import log

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import RE3, RolloutSeat, Stretch, World

PLANE = World(gym.spaces.Box(-5, 5, (2,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


class Plain(nn.Module):
    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0]


def steps(*places: tuple[float, float], start: bool = True) -> Stretch:
    place = torch.tensor(places)[:, None]
    flags = torch.zeros(len(places) - 1, 1, dtype=torch.bool)
    begins = flags.clone()
    begins[0] = start
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(flags.shape), terminated=flags, start=begins
    )


def test_the_distance_by_hand() -> None:
    """To (0, 0), (3, 4) and (0, 1): the second nearest of (0, 0) is 1 away, of (3, 3) the root of 13."""
    term = RE3(normalise=False, warmup=0, k=2, capacity=8, features=2)
    seat = RolloutSeat(term, PLANE)
    term.embed = Plain()
    x = steps((1, 1), (0, 0), (3, 3), (0, 0))
    assert (seat(x, 0)[0] == 0).all(), "nothing to compare with"
    term.sample[:3], term.filled = torch.tensor([[0.0, 0], [3, 4], [0, 1]]), 3
    paid = seat(x, 0)[0].flatten()
    assert paid.tolist() == pytest.approx([log(2), log(1 + 13**0.5), log(2)], rel=1e-5)


def test_the_sample_is_a_ring_of_the_last_states() -> None:
    term = RE3(k=1, capacity=5, features=2, share=1.0)
    seat = RolloutSeat(term, PLANE)
    term.embed = Plain()
    assert term.whitening is not None
    term.whitening.learn = lambda tree: None  # type: ignore[method-assign]
    seat(steps((0, 0), (1, 0), (2, 0)), 0)
    seat.update(0)
    assert sorted(term.sample[:3, 0].tolist()) == [0, 1, 2] and term.filled == 3
    seat(steps((2, 0), (3, 0), (4, 0), (5, 0), start=False), 0)
    seat.update(0)
    left = term.sample[:, 0].tolist()
    assert term.filled == 6 and set(left[:1] + left[3:]) == {3, 4, 5} and len(set(left)) == 5
    seat(steps(*[(x / 10, 0) for x in range(20)], start=False), 0)
    seat.update(0)
    assert term.filled == 11 and len({round(x * 10) for x in term.sample[:, 0].tolist()}) == 5


def test_the_scale_waits_for_a_sample() -> None:
    seat = RolloutSeat(RE3(k=1), PLANE)
    term = seat.reward.order[0]
    assert isinstance(term, RE3)
    for _ in range(2):
        assert (seat(steps((0, 0), (1, 2), (3, 0)), 0)[0] == 0).all()
        seat.update(0)
        seen = int(term.scale.count)
    assert seen == 2, "the distances of the second update alone"
    x = steps((0, 0), (4, 4), (-4, 2))
    assert torch.allclose(seat(x, 0)[0].flatten(), term.raw(x.flat()) / term.unit())


def test_what_is_common_is_paid_less() -> None:
    seat = RolloutSeat(RE3(normalise=False, capacity=64, features=8, share=1.0), PLANE)
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        seat(steps(*(0.1 * torch.randn(80, 2, generator=g)).tolist()), 0)
        seat.update(0)
    near, far = seat(steps((0, 0), (0.05, 0.05), (4, -4)), 0)[0].flatten().tolist()
    assert far > 2 * near > 0
    for make, what in ((lambda: RE3(k=0), "k=0"), (lambda: RE3(k=9, capacity=8), "9-th neighbour")):
        with pytest.raises(ValueError, match=what):
            make()
