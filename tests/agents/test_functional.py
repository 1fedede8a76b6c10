"""The arithmetic of policy gradients against numbers worked out by hand, and vectorised against loops."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from cairn.agents import functional as fn


def column(*rows: float) -> Tensor:
    """[T, N=1, K=1]."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, None]


def flags(*rows: int) -> Tensor:
    """[T, N=1] bool."""
    return torch.tensor(rows, dtype=torch.bool)[:, None]


EPISODIC, ENDLESS = torch.tensor([True]), torch.tensor([False])


def advantages(
    reward: Tensor,
    value: Tensor,
    last: Tensor,
    final: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    episodic: Tensor,
    gamma: Tensor,
    lam: float,
    valid: Tensor | None = None,
) -> Tensor:
    follow = fn.follow_values(value, last, final, terminated, truncated, episodic, valid)
    chain = ~((terminated | truncated)[..., None] & episodic)
    return fn.gae(reward, value, follow, chain, gamma, lam, valid)


def test_gae_by_hand() -> None:
    # gamma 1/2, lambda 1/2, no ends. V = 1, 2, 3 and V(after) = 4; r = 1, 0, 2.
    # delta_2 = 2 + 4/2 - 3 = 1;   delta_1 = 0 + 3/2 - 2 = -1/2;   delta_0 = 1 + 2/2 - 1 = 1
    # A_2 = 1;   A_1 = -1/2 + 1/4 = -1/4;   A_0 = 1 - 1/16 = 15/16
    no = flags(0, 0, 0)
    got = advantages(
        column(1, 0, 2), column(1, 2, 3), torch.tensor([[4.0]]), column(9, 9, 9), no, no, EPISODIC,
        torch.tensor([0.5]), 0.5,
    )  # fmt: skip
    assert got.flatten().tolist() == [15 / 16, -1 / 4, 1.0]


@pytest.mark.parametrize(
    ("terminated", "truncated", "episodic", "expected"),
    [
        # An end after step 1; V(final) = 8, V(first of the next) = 3.
        # terminated: delta_1 = 0 - 2 = -2, cut: A_1 = -2, A_0 = 1 - 1/2 = 1/2
        ((0, 1, 0), (0, 0, 0), EPISODIC, [0.5, -2.0, 1.0]),
        # truncated: delta_1 = 8/2 - 2 = 2, cut: A_1 = 2, A_0 = 1 + 1/2
        ((0, 0, 0), (0, 1, 0), EPISODIC, [1.5, 2.0, 1.0]),
        # both at once: a termination is final
        ((0, 1, 0), (0, 1, 0), EPISODIC, [0.5, -2.0, 1.0]),
        # an endless channel looks through every end at the reset state: as if there were none
        ((0, 1, 0), (0, 0, 0), ENDLESS, [15 / 16, -0.25, 1.0]),
        ((0, 0, 0), (0, 1, 0), ENDLESS, [15 / 16, -0.25, 1.0]),
        # an end at the last step
        ((0, 0, 1), (0, 0, 0), EPISODIC, [1 - 0.5 * 0.5 * 0.75, -0.75, -1.0]),
        ((0, 0, 0), (0, 0, 1), EPISODIC, [1.0625, 0.25, 3.0]),
    ],
)
def test_ends_by_hand(
    terminated: tuple[int, ...], truncated: tuple[int, ...], episodic: Tensor, expected: list[float]
) -> None:
    got = advantages(
        column(1, 0, 2), column(1, 2, 3), torch.tensor([[4.0]]), column(8, 8, 8), flags(*terminated), flags(*truncated),
        episodic, torch.tensor([0.5]), 0.5,
    )  # fmt: skip
    assert got.flatten().tolist() == expected


def scalar_gae(
    reward: Tensor, value: Tensor, last: Tensor, final: Tensor, terminated: Tensor, truncated: Tensor,
    episodic: Tensor, gamma: Tensor, lam: float, valid: Tensor,
) -> Tensor:  # fmt: skip
    """One lane and channel at a time, on the transitions that are real, in Python floats."""
    steps, lanes, channels = reward.shape
    out = torch.zeros(steps, lanes, channels, dtype=torch.float64)
    for n, k in product(range(lanes), range(channels)):
        real = [t for t in range(steps) if valid[t, n]]
        advantage = 0.0
        for i in reversed(range(len(real))):
            t = real[i]
            following = float(value[real[i + 1], n, k]) if i + 1 < len(real) else float(last[n, k])
            if episodic[k] and (terminated[t, n] or truncated[t, n]):
                following = 0.0 if terminated[t, n] else float(final[t, n, k])
                advantage = 0.0
            g = float(gamma[k])
            delta = float(reward[t, n, k]) + g * following - float(value[t, n, k])
            advantage = delta + g * lam * advantage
            out[t, n, k] = advantage
    return out


@pytest.mark.parametrize("gaps", [False, True])
def test_gae_equals_the_loop(gaps: bool) -> None:
    steps, lanes, channels = 23, 7, 3
    shape = (steps, lanes, channels)
    reward, value, final, last = (torch.randn(s) for s in (shape, shape, shape, shape[1:]))
    terminated, truncated = torch.rand(steps, lanes) < 0.1, torch.rand(steps, lanes) < 0.1
    valid = torch.ones(steps, lanes, dtype=torch.bool)
    if gaps:  # a reset step follows each end
        for t in range(1, steps):
            valid[t] = ~((terminated | truncated)[t - 1])
            terminated[t] &= valid[t]
            truncated[t] &= valid[t]
    episodic, gamma = torch.tensor([True, False, True]), torch.tensor([0.99, 0.9, 0.5])
    arguments = (reward, value, last, final, terminated, truncated, episodic, gamma, 0.8)
    got = advantages(*arguments, valid if gaps else None)
    torch.testing.assert_close(got[valid].double(), scalar_gae(*arguments, valid)[valid], rtol=1e-5, atol=1e-5)


def test_invalid_rows_change_nothing() -> None:
    value, reward = torch.randn(6, 1, 1), torch.randn(6, 1, 1)
    ends, no = flags(0, 1, 0, 0, 0, 0), flags(0, 0, 0, 0, 0, 0)
    valid = flags(1, 1, 0, 1, 1, 1)
    junk_value, junk_reward = value.clone(), reward.clone()
    junk_value[2], junk_reward[2] = 1e6, -1e6
    for episodic in (EPISODIC, ENDLESS):
        rest = (torch.ones(1, 1), value, ends, no, episodic, torch.tensor([0.9]), 0.9, valid)
        one, two = (advantages(r, v, *rest) for r, v in ((reward, value), (junk_reward, junk_value)))
        assert torch.equal(one[valid], two[valid])


def test_episode_ends_by_hand() -> None:
    # Lane 0 came in with 10 gathered in 4 steps and ends at steps 1 and 3; lane 1 at 3; lane 2 not at all.
    reward = torch.tensor([[1.0, 5, 7], [2, 5, 7], [3, 5, 7], [4, 5, 7], [100, 5, 7]])
    done = torch.zeros(5, 3, dtype=torch.bool)
    done[1, 0] = done[3, 0] = done[3, 1] = True
    total, length = torch.tensor([10.0, 0, 1], dtype=torch.float64), torch.tensor([4, 0, 2])
    ends, total, length = fn.episode_ends(reward, done, total, length)
    assert ends.step.tolist() == [1, 3, 3] and ends.lane.tolist() == [0, 0, 1]
    assert ends.total.tolist() == [13, 7, 20] and ends.length.tolist() == [6, 2, 4]
    assert total.tolist() == [100, 5, 36] and length.tolist() == [1, 1, 7]


def test_episode_ends_equal_the_loop_over_any_cuts() -> None:
    steps, lanes = 60, 5
    reward, done = torch.randn(steps, lanes), torch.rand(steps, lanes) < 0.15
    valid = torch.rand(steps, lanes) < 0.9
    done &= valid
    expected, gathered, lasted = [], [0.0] * lanes, [0] * lanes
    for t, n in product(range(steps), range(lanes)):
        gathered[n] += float(reward[t, n]) * bool(valid[t, n])
        lasted[n] += int(valid[t, n])
        if done[t, n]:
            expected.append((t, n, gathered[n], lasted[n]))
            gathered[n], lasted[n] = 0.0, 0
    for size in (1, 7, 60):
        total, length, got = torch.zeros(lanes, dtype=torch.float64), torch.zeros(lanes, dtype=torch.int64), []
        for first in range(0, steps, size):
            part = slice(first, first + size)
            ends, total, length = fn.episode_ends(reward[part], done[part], total, length, valid[part])
            got += [(first + t, n, r, k) for t, n, r, k in zip(*(column.tolist() for column in ends))]
        assert [row[:2] + row[3:] for row in got] == [row[:2] + row[3:] for row in expected]
        assert [row[2] for row in got] == pytest.approx([row[2] for row in expected], abs=1e-9)
        assert total.tolist() == pytest.approx(gathered, abs=1e-9) and length.tolist() == lasted


def test_surrogate_by_hand() -> None:
    # ratio 1.5, advantage 1: clipped to 1.2; ratio .5, advantage 1: .5; ratio 1.5, advantage -1: -1.5; .5, -1: -.8
    ratio, advantage = torch.tensor([1.5, 0.5, 1.5, 0.5]), torch.tensor([1.0, 1, -1, -1])
    assert float(fn.surrogate_loss(ratio, advantage, 0.2)) == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)


def test_value_loss_by_hand() -> None:
    value, target, old = torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([[2.0, 1], [0, 3]]), torch.zeros(2, 2)
    # channel 0: (1 + 9) / 2 = 5; channel 1: (1 + 9) / 2 = 5
    assert float(fn.value_loss(value, target, old)) == 10
    # moves cut to 1: channel 0 predicts 1, 1: (1 + 1) / 2 = 1; channel 1 as before
    assert float(fn.value_loss(value, target, old, clip=1.0)) == 6


def test_kl_and_explained_variance_by_hand() -> None:
    assert float(fn.approx_kl(torch.tensor([math.log(2.0), 0.0]))) == pytest.approx((1 - math.log(2)) / 2)
    target = torch.tensor([1.0, 2, 3, 4])
    assert float(fn.explained_variance(target, target)) == 1
    assert float(fn.explained_variance(torch.zeros(4), target)) == 0
    assert float(fn.explained_variance(-target, target)) == -3
    assert math.isnan(float(fn.explained_variance(target, torch.ones(4))))


def test_normalize() -> None:
    got = fn.normalize(torch.tensor([1.0, 2, 3]))
    assert got.tolist() == pytest.approx([-1, 0, 1])
    assert fn.normalize(torch.tensor([5.0])).tolist() == [5.0]  # one value has no deviation


def test_moments_of_pieces_are_those_of_the_whole() -> None:
    rows = torch.randn(50, 3, dtype=torch.float64) * 4 + 10
    count, mean, var = torch.zeros(()), torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for piece in rows.split([1, 9, 25, 15]):
        count, mean, var = fn.merge_moments(count, mean, var, piece)
    assert count == 50
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(var, rows.var(0, correction=0))


def test_distributions_equal_torchs() -> None:
    logits, action = torch.randn(8, 5), torch.arange(8) % 5
    log_p, reference = logits.log_softmax(-1), Categorical(logits=logits)
    torch.testing.assert_close(fn.categorical_log_prob(log_p, action), reference.log_prob(action))
    torch.testing.assert_close(fn.categorical_entropy(log_p), reference.entropy())
    mean, log_std, continuous = torch.randn(8, 3), torch.randn(3), torch.randn(8, 3)
    normal = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(fn.gaussian_log_prob(mean, log_std, continuous), normal.log_prob(continuous))
    torch.testing.assert_close(fn.gaussian_entropy(log_std).expand(8), normal.entropy())


def test_an_impossible_action_has_no_entropy_and_is_not_drawn() -> None:
    log_p = torch.tensor([[0.0, 0.0, -torch.inf]]).log_softmax(-1)
    assert float(fn.categorical_entropy(log_p)) == pytest.approx(math.log(2))
    assert set(fn.categorical_sample(log_p.expand(1000, -1)).tolist()) == {0, 1}


def test_samples_follow_the_logits() -> None:
    p = torch.tensor([0.1, 0.2, 0.7])
    count = torch.bincount(fn.categorical_sample(p.log().expand(100_000, -1)), minlength=3) / 100_000
    # three standard deviations of the largest share are 0.0043
    assert (count - p).abs().max() < 0.006
