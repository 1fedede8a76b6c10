from copy import deepcopy
from math import log

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import E3B, RolloutSeat, Stretch, Task, World, as_reward, parse
from cairn.shaping.dynamics import inverse_loss
from cairn.shaping.laws import check_term, walk

PLANE = World(gym.spaces.Box(-9, 9, (2,), np.float32), gym.spaces.Discrete(2), lanes=2, seed=1)


class Plain(nn.Module):
    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0]


def steps(place: Tensor, start: Tensor, valid: Tensor | None = None) -> Stretch:
    """Steps ``[T, N]`` over places ``[T + 1, N, 2]``."""
    flags = torch.zeros_like(start)
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(start.shape), terminated=flags, start=start, valid=valid
    )


def test_the_bonus_by_hand() -> None:
    term = E3B(normalise=False, ridge=1.0, features=2)
    seat = RolloutSeat(term, PLANE)
    assert term.dynamics is not None
    term.dynamics.embed = Plain()
    # Lane 0 begins at (1, 0): C = diag(2, 1). (2, 0): 4 / 2, C = diag(6, 1). (0, 3): 9, C = diag(6, 10). (1, 1).
    # Lane 1 begins at 0, steps to (1, 0) twice, and there begins another episode, where (1, 0) is known once.
    place = torch.tensor([[[1, 0], [0, 0]], [[2, 0], [1, 0]], [[0, 3], [1, 0]], [[1, 1], [1, 0]]]).float()
    start = torch.tensor([[True, True], [False, False], [False, True]])
    paid = seat(steps(place, start), 0)[0][..., 0]
    assert torch.allclose(paid[:, 0], torch.tensor([2.0, 9.0, 1 / 6 + 1 / 10]))
    assert torch.allclose(paid[:, 1], torch.tensor([1.0, 1 / 2, 1 / 2]))


def test_it_equals_the_inverse_of_the_sum() -> None:
    """Over forty steps, with rows that are not valid, in pieces."""
    world = World(PLANE.observation_space, PLANE.action_space, lanes=3, seed=4)
    term = E3B(normalise=False, ridge=0.1, features=5)
    seat = RolloutSeat(term, world)
    g = torch.Generator().manual_seed(0)
    place = torch.randn(41, 3, 2, generator=g)
    start = torch.rand(40, 3, generator=g) < 0.1
    start[0] = True
    valid = torch.rand(40, 3, generator=g) < 0.9
    x = steps(place, start, valid)
    paid = torch.cat([seat(x[:13], 0)[0], seat(x[13:], 0)[0]])[..., 0]
    assert term.dynamics is not None
    with torch.no_grad():
        for lane in range(3):
            matrix = 0.1 * torch.eye(5, dtype=torch.float64)
            for t in range(40):
                before, after = term.dynamics.phi(place[t : t + 2, lane]).double()
                if start[t, lane] and valid[t, lane]:
                    matrix = 0.1 * torch.eye(5, dtype=torch.float64) + before.outer(before)
                bonus = after @ torch.linalg.solve(matrix, after) if valid[t, lane] else 0.0
                assert float(paid[t, lane]) == pytest.approx(float(bonus), rel=1e-3, abs=1e-4)
                if valid[t, lane]:
                    matrix += after.outer(after)


def test_the_scale_is_the_root_mean_square_by_hand() -> None:
    world, x = walk(0)
    one, plain = RolloutSeat(E3B(), world), RolloutSeat(E3B(normalise=False), world)
    raw = plain(x[:10], 0)[0]
    assert torch.equal(one(x[:10], 0)[0], raw), "the plain bonus before the first update"
    term = one.reward.order[0]
    assert isinstance(term, E3B)
    one.update(0), plain.update(0)
    assert float(term.unit()) == pytest.approx(float(raw.square().mean().sqrt()), rel=1e-5)
    again = plain(x[10:], 0)[0]
    assert torch.allclose(one(x[10:], 0)[0], again / term.unit(), rtol=1e-4)
    one.update(0)  # the plain bonus is taken back from what was paid
    expected = torch.cat([raw, again]).square().mean().sqrt()
    assert float(term.unit()) == pytest.approx(float(expected), rel=1e-4)


def test_the_inverse_model_learns_and_its_features_ignore_noise() -> None:
    """Of two numbers, the action moves the first; the second is noise, and larger. Features follow the first."""
    world = World(PLANE.observation_space, PLANE.action_space, lanes=64, seed=0)
    term = E3B(normalise=False, features=4, hidden=32, learning_rate=5e-3, share=1.0)
    seat = RolloutSeat(term, world)
    g = torch.Generator().manual_seed(0)
    start = torch.zeros(16, 64, dtype=torch.bool)
    start[0] = True
    losses = []
    for _ in range(60):
        action = torch.randint(0, 2, (16, 64), generator=g)
        moved = torch.cat([torch.zeros(1, 64), (2.0 * action - 1).cumsum(0)])
        x = steps(torch.stack([moved, 9 * torch.randn(17, 64, generator=g)], -1), start)
        x.action = action
        seat(x, 0)
        losses.append(float(seat.update(0)["reward/e3b/loss"]))
    assert losses[-1] < 0.1 < 0.6 < losses[0]
    assert term.dynamics is not None
    with torch.no_grad():
        rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0 * 9 / 3]])
        at, along, noise = term.dynamics.phi(rows)
    assert (at - along).norm() > 4 * (at - noise).norm()


def test_losses_by_hand() -> None:
    even = torch.zeros(2, 5)
    assert float(inverse_loss(gym.spaces.Discrete(5, start=3), even, torch.tensor([3, 7]))) == pytest.approx(log(5))
    both = gym.spaces.MultiDiscrete([2, 3])
    sure = torch.tensor([[9.0, -9, 0, 0, 0]])
    assert float(inverse_loss(both, sure, torch.tensor([[0, 2]]))) == pytest.approx(log(3) / 2, abs=1e-4)
    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    loss = inverse_loss(box, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    assert float(loss) == pytest.approx(2.5)
    with pytest.raises(TypeError, match="knows no actions"):
        RolloutSeat(E3B(), World(PLANE.observation_space, gym.spaces.Text(3)))


@pytest.mark.parametrize("dict_obs", [True, False])
def test_a_learned_one_obeys_the_laws(dict_obs: bool) -> None:
    world, x = walk(5, dict_obs=dict_obs)
    term = E3B()
    seat = RolloutSeat(term, world)
    seat(x, 0)
    seat.update(0)
    assert (seat(x, 0)[0] > 0).all()
    check_term(lambda: deepcopy(term), dict_obs=dict_obs)


@pytest.mark.parametrize("dict_obs", [True, False])
def test_it_goes_on_bit_for_bit_in_mid_episode(dict_obs: bool) -> None:
    world, x = walk(1, dict_obs=dict_obs)
    lived, resumed = RolloutSeat(Task() + E3B(), world), RolloutSeat(Task() + E3B(), world)
    lived(x[:9], 0)
    lived.update(0)
    lived(x[9:14], 0)
    whitening = lived.state()["reward"]["01-e3b"]["dynamics"]["whitening"]
    assert dict_obs or int(whitening[""]["count"]) == 9 * world.lanes
    resumed.load(deepcopy(lived.state()))
    for rows in (slice(14, 16), slice(16, 20), slice(20, 24)):
        lived.update(0), resumed.update(0)
        assert torch.equal(lived(x[rows], 0)[0], resumed(x[rows], 0)[0])


def test_text_and_wrong_settings() -> None:
    assert as_reward(parse("task + 0.1*E3B(features=8)")).text == "task + 0.1*e3b(features=8)"
    with pytest.raises(ValueError, match="ridge=0"):
        E3B(ridge=0)
    seat, other = (RolloutSeat(E3B(), World(PLANE.observation_space, PLANE.action_space, lanes=n)) for n in (2, 3))
    with pytest.raises(ValueError, match="another number of environments"):
        other.load(seat.state())
