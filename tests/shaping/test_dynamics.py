"""Features of what actions do, and the bonuses on them: ICM, impact and RIDE."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import ICM, RIDE, Impact, RolloutSeat, Stretch, World
from cairn.shaping.dynamics import Dynamics, action_sizes, encode_actions
from cairn.shaping.icm import DynamicsBonus

PLANE = World(gym.spaces.Box(-5, 5, (2,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


class Plain(nn.Module):
    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0]


class Right(nn.Module):
    """Forecasts that action 1 adds 1 to the first number, and action 0 nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2] + x[:, 3:4] * torch.tensor([1.0, 0.0])


def steps(*places: tuple[float, float], action: list[int] | None = None) -> Stretch:
    """One lane, one episode."""
    place = torch.tensor(places)[:, None]
    flags = torch.zeros(len(places) - 1, 1, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(flags.shape), terminated=flags, start=start,
        action=torch.tensor(action or [0] * len(flags))[:, None],
    )  # fmt: skip


def by_hand(term: DynamicsBonus) -> DynamicsBonus:
    assert term.dynamics is not None
    term.dynamics.embed, term.dynamics.forecast = Plain(), Right()
    return term


def test_curiosity_by_hand() -> None:
    """(1, 2), right, (2, 2): as expected. Stay, and be at (3, 2): off by 1. Right, and be at (3, 4): off by (1, 2)."""
    term = ICM(normalise=False, warmup=0)
    seat = RolloutSeat(term, PLANE)
    by_hand(term)
    paid = seat(steps((1, 2), (2, 2), (3, 2), (3, 4), action=[1, 0, 1]), 0)[0].flatten()
    assert torch.allclose(paid, torch.tensor([0.0, 0.5, 2.5]))


def test_impact_and_ride_by_hand() -> None:
    """0 to (3, 4), back, there again, and 2 further: 5, 5, 5, 2, over the root of the visits (0 is where it began)."""
    x = steps((0, 0), (3, 4), (0, 0), (3, 4), (3, 2))
    for term, expected in (
        (Impact(normalise=False, warmup=0), [5.0, 5.0, 5.0, 2.0]),
        (RIDE(normalise=False, warmup=0), [5.0, 5 / 2**0.5, 5 / 2**0.5, 2.0]),
    ):
        seat = RolloutSeat(term, PLANE)
        by_hand(term if isinstance(term, Impact) else term.inputs[0])  # type: ignore[arg-type]
        assert torch.allclose(seat(x, 0)[0].flatten(), torch.tensor(expected))


def test_the_scale_is_the_root_mean_square_and_nothing_is_paid_before() -> None:
    seat = RolloutSeat(Impact(features=2), PLANE)
    term = by_hand(seat.reward.order[0])  # type: ignore[arg-type]
    x = steps((0, 0), (3, 4), (3, 4), (3, 2))
    assert (seat(x, 0)[0] == 0).all()
    assert term.dynamics is not None
    term.dynamics.optimiser = torch.optim.SGD(term.dynamics.inverse.parameters(), 0.0)
    seat.update(0)
    assert float(term.unit()) == pytest.approx(np.sqrt((25 + 0 + 4) / 3), rel=1e-5)
    raw = term.raw(x.flat())  # whitened by now
    assert torch.allclose(seat(x, 0)[0].flatten(), raw / term.unit())
    seat.update(0)
    assert float(term.unit()) == pytest.approx(float(((29 + raw.square().sum()) / 6).sqrt()), rel=1e-4)


def test_the_losses_by_hand() -> None:
    """Inverse model indifferent: log 2. Forecast off by (1, 0) in one row of two: 1/4."""
    model = Dynamics(PLANE, features=2, hidden=4, beta=0.2)
    model.embed, model.forecast = Plain(), Right()
    for p in model.inverse.parameters():
        nn.init.zeros_(p)
    model.whitening.learn = lambda tree: None  # type: ignore[method-assign]
    x = steps((1, 2), (2, 2), (3, 2), action=[1, 0])
    logs = model.learn(x, share=1.0, update=0)
    assert float(logs["loss"]) == pytest.approx(np.log(2)) and float(logs["forecast"]) == pytest.approx(0.25)


def test_the_weights_of_the_losses_by_hand() -> None:
    """With every network fixed but a shift of the forecast, its gradient is beta times the mean error."""

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2] + self.by

    for beta in (0.2, 0.7):
        model = Dynamics(PLANE, features=2, hidden=4, beta=beta)
        shift = Shift()
        model.embed, model.forecast = Plain(), shift
        model.optimiser = torch.optim.SGD(shift.parameters(), 1.0)
        model.whitening.learn = lambda tree: None  # type: ignore[method-assign]
        model.learn(steps((0, 0), (1, 0), (1, 3)), share=1.0, update=0)  # it was off by (1, 0) and (0, 3)
        assert torch.allclose(shift.by.detach(), beta * torch.tensor([0.5, 1.5]))


def test_a_forecast_is_learned_and_surprise_fades() -> None:
    """A point that moves as it is told: the bonus falls. In the end another law of motion surprises it."""
    world = World(PLANE.observation_space, PLANE.action_space, lanes=64, seed=0)
    term = ICM(normalise=False, warmup=0, features=4, hidden=32, learning_rate=3e-3, share=1.0)
    seat = RolloutSeat(term, world)
    g = torch.Generator().manual_seed(0)
    start = torch.zeros(16, 64, dtype=torch.bool)

    def lived(sign: float) -> Stretch:
        place = 4 * torch.rand(16, 64, 2, generator=g) - 2
        action = torch.randint(0, 2, (16, 64), generator=g)
        after = place + sign * torch.stack([2.0 * action - 1, torch.zeros(16, 64)], -1)
        return Stretch.make(
            obs=place, next_obs=after, action=action, reward=torch.zeros(16, 64), terminated=start, start=start
        )

    first = None
    for _ in range(60):
        mean = float(seat(lived(1.0), 0)[0].mean())
        first = mean if first is None else first
        logs = seat.update(0)
    assert float(logs["reward/icm/loss"]) < 0.2 and mean < 0.3 * first
    assert float(seat(lived(-1.0), 0)[0].mean()) > 5 * mean


def test_actions_of_every_kind() -> None:
    one = encode_actions(gym.spaces.Discrete(3, start=2), torch.tensor([2, 4]))
    assert one.tolist() == [[1, 0, 0], [0, 0, 1]]
    two = encode_actions(gym.spaces.MultiDiscrete([2, 3]), torch.tensor([[1, 0], [0, 2]]))
    assert two.tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert encode_actions(gym.spaces.MultiBinary(2), torch.tensor([[1, 0]])).tolist() == [[0, 1, 1, 0]]
    box = gym.spaces.Box(-1, 1, (2, 1), np.float32)
    assert encode_actions(box, torch.tensor([[[0.5], [1.0]]])).tolist() == [[0.5, 1.0]]
    assert action_sizes(box) == [1, 1] and action_sizes(gym.spaces.MultiBinary(2)) == [2, 2]
    with pytest.raises(TypeError, match="knows no actions"):
        action_sizes(gym.spaces.Text(3))


def test_wrong_settings() -> None:
    for make, what in (
        (lambda: ICM(beta=1.0), "between 0 and 1"),
        (lambda: ICM(features=0), "features=0"),
        (lambda: RIDE(share=0.0), "share=0"),
        (lambda: Impact(warmup=-1), "warmup=-1"),
        (lambda: ICM(learning_rate=float("inf")), "learning_rate=inf"),
    ):
        with pytest.raises(ValueError, match=what):
            make()
