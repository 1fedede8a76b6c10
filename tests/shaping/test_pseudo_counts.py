"""Pseudo-counts of the episode, and NGU, which weighs them by lifelong novelty."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import NGU, LifelongNovelty, PseudoCounts, RolloutSeat, Stretch, World

PLANE = World(gym.spaces.Box(-5, 5, (2,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


class Plain(nn.Module):
    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0]


def plain(term: PseudoCounts) -> PseudoCounts:
    assert term.dynamics is not None
    term.dynamics.embed = Plain()
    return term


def steps(place: Tensor, start: Tensor, valid: Tensor | None = None) -> Stretch:
    """Steps ``[T, N]`` over places ``[T + 1, N, 2]``."""
    flags = torch.zeros_like(start)
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(start.shape), terminated=flags, start=start, valid=valid
    )


def one_episode(*places: tuple[float, float]) -> Stretch:
    start = torch.zeros(len(places) - 1, 1, dtype=torch.bool)
    start[0] = True
    return steps(torch.tensor(places)[:, None], start)


def kernel(square: float) -> float:
    return 1e-3 / (max(square - 0.008, 0) + 1e-3)


def test_the_kernel_by_hand() -> None:
    term = PseudoCounts(normalise=False, warmup=0, features=2)
    seat = RolloutSeat(term, PLANE)
    plain(term)  # and the running mean is 1 before the first update
    paid = seat(one_episode((0, 0), (1, 0), (1, 0), (0.05, 0), (1, 2)), 0)[0].flatten().tolist()
    expected = [
        [kernel(1)],
        [kernel(1), 1],
        [1, kernel(0.95**2), kernel(0.95**2)],  # 0.05^2 is within the cluster distance
        [kernel(5), kernel(4), kernel(4), kernel(0.95**2 + 4)],
    ]
    assert paid == pytest.approx([1 / (sum(k) ** 0.5 + 1e-3) for k in expected], rel=1e-4)


def test_a_state_seen_n_times_earns_the_inverse_root_up_to_k_and_too_much_likeness_nothing() -> None:
    place = [(1.0, 1.0)] * 14
    for most, last in ((8.0, 10**-0.5), (2.0, 0.0)):
        term = PseudoCounts(normalise=False, warmup=0, features=2, most=most)
        seat = RolloutSeat(term, PLANE)
        plain(term)
        paid = seat(one_episode(*place), 0)[0].flatten()
        roots = torch.arange(1, 14).clamp(max=10).float().sqrt() + 1e-3
        assert torch.allclose(paid, torch.where(roots <= most, 1 / roots, 0.0), atol=1e-5)
        assert float(paid[-1]) == pytest.approx(last, abs=1e-3)


def reference(place: Tensor, start: Tensor, valid: Tensor, k: int, room: int) -> list[list[list[float]]]:
    """Sorted squared distances to the k nearest of the last ``room`` states of the episode, one row at a time."""
    out = []
    memory: list[list[Tensor]] = [[] for _ in range(start.shape[1])]
    for t in range(len(start)):
        out.append([])
        for lane in range(start.shape[1]):
            if valid[t, lane] and start[t, lane]:
                memory[lane] = [place[t, lane]]
            far: list[float] = []
            if valid[t, lane]:
                here = place[t + 1, lane]
                far = sorted(float((here - other).square().sum()) for other in memory[lane][-room:])[:k]
                memory[lane].append(here)
            out[-1].append(far)
    return out


@pytest.mark.parametrize("room", [4, 100])
@pytest.mark.parametrize("cuts", [[], [13, 20], list(range(1, 40))])
def test_neighbours_equal_a_loop(room: int, cuts: list[int]) -> None:
    world = World(PLANE.observation_space, PLANE.action_space, lanes=3, seed=4)
    term = PseudoCounts(k=3, capacity=room, features=2)
    RolloutSeat(term, world)
    plain(term)
    g = torch.Generator().manual_seed(0)
    place = torch.randint(-2, 3, (41, 3, 2), generator=g).float()
    start = torch.rand(40, 3, generator=g) < 0.1
    start[0, 0] = start[0, 1] = True  # the third lane is joined in the middle of an episode
    valid = torch.rand(40, 3, generator=g) < 0.9
    valid[0] = True
    x = steps(place, start, valid)
    bounds = [0, *cuts, 40]
    with torch.no_grad():
        near = torch.cat([term.nearest(x[a:b]) for a, b in zip(bounds, bounds[1:])])
    for t, row in enumerate(reference(place, start, valid, 3, room)):
        for lane, far in enumerate(row):
            found = near[t, lane].sort().values
            assert found[: len(far)].tolist() == far and found[len(far) :].isinf().all()


def test_nothing_is_paid_without_a_neighbour() -> None:
    term = PseudoCounts(normalise=False, warmup=0, features=2)
    seat = RolloutSeat(term, PLANE)
    plain(term)
    x = one_episode((0, 0), (1, 0), (2, 0))
    x.start[0] = False  # nobody saw this episode begin
    paid = seat(x, 0)[0].flatten()
    assert paid[0] == 0 and paid[1] > 0


def test_the_mean_distance_by_hand() -> None:
    """The first update takes the mean whole, the next a tenth of it; nothing is paid before the first."""
    term = PseudoCounts(normalise=False, features=2)
    seat = RolloutSeat(term, PLANE)
    plain(term)
    assert term.dynamics is not None
    term.dynamics.learn = lambda *_: {}  # type: ignore[method-assign, assignment]
    assert (seat(one_episode((0, 0), (1, 0), (0, 2)), 0)[0] == 0).all()
    seat.update(0)
    assert float(term.spread) == pytest.approx((1 + 4 + 5) / 3)
    paid = seat(one_episode((0, 0), (0, 1)), 0)[0].flatten()
    assert float(paid) == pytest.approx(1 / (kernel(0.3) ** 0.5 + 1e-3), rel=1e-4)
    seat.update(0)
    assert float(term.spread) == pytest.approx(10 / 3 + 0.1 * (1 - 10 / 3))
    seat(one_episode((0, 0), (0, 1)), 0)
    assert float(term.seen[1]) == 1, "distances count once"


def test_lifelong_novelty_by_hand() -> None:
    class Error(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.tensor([factor]))

        def forward(self, leaves: list[Tensor]) -> Tensor:
            return leaves[0][:, :1] * self.factor

    term = LifelongNovelty(warmup=0)
    seat = RolloutSeat(term, PLANE)
    term.target, term.predictor = Error(0.0), Error(1.0)  # an error of x squared
    x = one_episode((0, 0), (1, 0), (2, 0), (3, 0), (5, 0))
    assert (seat(x, 0)[0] == 1).all(), "1 as long as there is nothing to compare with"
    term.measure(torch.tensor([[2.0], [6.0]]), torch.ones(2, 1, dtype=torch.bool))  # mean 4, deviation 2
    assert seat(x, 0)[0].flatten().tolist() == pytest.approx([1, 1, 1 + 5 / 2, 5])


def test_the_errors_are_measured_and_not_the_factors() -> None:
    world = World(PLANE.observation_space, PLANE.action_space, lanes=8, seed=1)
    term = LifelongNovelty(share=1.0)
    seat = RolloutSeat(term, world)
    g = torch.Generator().manual_seed(0)
    start = torch.zeros(6, 8, dtype=torch.bool)
    start[0] = True
    errors = []
    for _ in range(3):
        x = steps(4 * torch.rand(7, 8, 2, generator=g) - 2, start)
        with torch.no_grad():
            errors.append(term.raw(x.flat())[:: term.every])  # one row in eight tells mean and deviation
        paid = seat(x, 0)[0]
        seat.update(0)
    every = torch.cat(errors)
    assert float(term.scale.mean) == pytest.approx(float(every.mean()), rel=1e-4)
    assert float(term.scale.deviation) == pytest.approx(float(every.std(correction=0)), rel=1e-4)
    assert (paid >= 1).all() and (paid <= 5).all() and (paid > 1).any()


def test_ngu_is_the_product() -> None:
    world = World(PLANE.observation_space, PLANE.action_space, lanes=4, seed=1)
    seat = RolloutSeat(NGU(), world)
    g = torch.Generator().manual_seed(0)
    start = torch.zeros(9, 4, dtype=torch.bool)
    start[0] = True
    for _ in range(2):
        x = steps(2 * torch.rand(10, 4, 2, generator=g), start)
        values, parts, _ = seat.collect(x)
        seat.update(0)
    counts, factor, product = (values[node] for node in seat.reward.order)
    assert torch.equal(product, counts * factor) and torch.equal(parts[..., 0], product)
    assert (factor > 1).any() and (counts > 0).all()


def test_wrong_settings_and_states() -> None:
    for make, what in (
        (lambda: PseudoCounts(k=0), "k=0"),
        (lambda: PseudoCounts(cluster=-1.0), "cluster=-1"),
        (lambda: PseudoCounts(share=2.0), "share=2"),
        (lambda: NGU(most=0.5), "most=0.5"),
        (lambda: NGU(capacity=0), "capacity=0"),
    ):
        with pytest.raises(ValueError, match=what):
            make()
    one, other = (RolloutSeat(PseudoCounts(capacity=n), PLANE) for n in (3, 4))
    with pytest.raises(ValueError, match="length of episodes|other episodes"):
        other.load(one.state())
