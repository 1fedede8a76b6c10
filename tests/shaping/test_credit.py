"""Credit transforms on rollouts computed by hand: min-form, clipping, Delta, posterior gating."""

import math

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from cairn.envs import make_batch
from cairn.shaping import (
    Clipped,
    Delta,
    EpisodicCount,
    Gated,
    MinForm,
    Potential,
    RolloutSeat,
    ShapedReward,
    Stretch,
    Task,
    World,
    as_reward,
    parse,
)
from cairn.shaping.laws import check_term, walk
from cairn.shaping.term import Pure, Term

LN2 = math.log(2.0)


class Hint(Pure):
    """A learned step reward."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.facts["hint"]


def rollout(*lanes: list[list[float]], reward: Tensor | None = None) -> Stretch:
    """Each lane's episodes one after the other, in step rewards; all of them terminate."""
    steps = max(sum(len(e) for e in lane) for lane in lanes)
    hint, flags = torch.zeros(steps, len(lanes)), torch.zeros(3, steps, len(lanes), dtype=torch.bool)
    t = torch.zeros(steps, len(lanes), dtype=torch.int64)
    start, terminated, valid = flags
    for n, lane in enumerate(lanes):
        at = 0
        for episode in lane:
            rows = slice(at, at + len(episode))
            hint[rows, n], valid[rows, n], start[at, n] = torch.tensor(episode), True, True
            t[rows, n] = torch.arange(len(episode))
            at += len(episode)
            terminated[at - 1, n] = True
    return Stretch.make(
        obs=hint, next_obs=hint, start=start, terminated=terminated, valid=valid, t=t,
        reward=torch.zeros(steps, len(lanes)) if reward is None else reward, facts={"hint": hint},
    )  # fmt: skip


def world(gamma: float | None = 1.0, lanes: int = 2) -> World:
    return World(gym.spaces.Box(-9, 9, ()), gym.spaces.Discrete(2), lanes=lanes, gamma=gamma)


def paid(term: Term, x: Stretch, gamma: float | None = 1.0) -> Tensor:
    """What an agent is paid for the stretch, [T, N]."""
    return RolloutSeat(as_reward(term), world(gamma, x.rows[1]))(x, 0)[0][..., 0]


def column(values: Tensor) -> list[float]:
    return [round(v, 5) for v in values.tolist()]


# Lane 0: one episode. Lane 1: two episodes, of two rows and of one.
TWO = ([[0.5, 0.2, 0.9]], [[-1.0, 3.0], [0.25]])
HALF = LN2 / 3  # the softmin of 0 and ln 2 at temperature 1: weights 2/3 and 1/3


@pytest.mark.parametrize(
    ("make", "gamma", "first", "second"),
    [
        # The hard minimum, where it stands.
        (lambda: MinForm(Hint(), 0.0), 1.0, [0.0, 0.2, 0.0], [-1.0, 0.0, 0.25]),
        # The minimum of the future is .2, .2, .9 and -1, 3 and .25; differences, discounted.
        (lambda: MinForm(Hint(), 0.0, of="future"), 1.0, [0.0, -0.7, 0.9], [-4.0, 3.0, 0.25]),
        (lambda: MinForm(Hint(), 0.0, of="future"), 0.5, [0.1, -0.25, 0.9], [-2.5, 3.0, 0.25]),
        (lambda: MinForm(Hint(), 0.0, of="future", gamma=0.5), 0.9, [0.1, -0.25, 0.9], [-2.5, 3.0, 0.25]),
        (lambda: Clipped(Hint(), 0.4), 1.0, [0.0, -0.2, 0.0], [-1.4, 0.0, -0.15]),
        (lambda: Delta(Hint()), 1.0, [0.3, -0.7, 0.9], [-4.0, 3.0, 0.25]),
        (lambda: Delta(Hint()), 0.5, [0.4, -0.25, 0.9], [-2.5, 3.0, 0.25]),
        (lambda: Delta(Hint(), gamma=1.0), 0.5, [0.3, -0.7, 0.9], [-4.0, 3.0, 0.25]),
        # Clipped is 0, -.2, 0 and -1.4, 0 and -.15.
        (lambda: Delta(Clipped(Hint(), 0.4)), 1.0, [0.2, -0.2, 0.0], [-1.4, 0.0, -0.15]),
    ],
)  # fmt: skip
def test_a_hand_computed_rollout(make, gamma, first, second) -> None:
    reward = paid(make(), rollout(*TWO), gamma)
    assert column(reward[:, 0]) == first and column(reward[:, 1]) == second


def test_the_soft_minimum_by_hand() -> None:
    x = rollout([[0.0, LN2]], [[1.0, 1.0]])
    assert column(paid(MinForm(Hint(), 1.0), x)[:, 0]) == [0.0, round(HALF, 5)]
    assert column(paid(MinForm(Hint(), 1.0), x)[:, 1]) == [0.5, 0.5]
    future = paid(MinForm(Hint(), 1.0, of="future"), x, gamma=0.5)
    assert column(future[:, 0]) == [round(HALF - LN2 / 2, 5), round(LN2, 5)]
    assert column(future[:, 1]) == [0.5, 1.0]
    # The paper's temperature is the default: exp(-10 ln 2) = 1/1024.
    assert paid(MinForm(Hint()), x)[1, 0].item() == pytest.approx(LN2 / 1025)


def test_an_open_episode_pays_nothing_yet_and_all_of_it_at_its_end() -> None:
    whole = rollout(*TWO)
    for make in (lambda: MinForm(Hint(), 0.0), lambda: MinForm(Hint(), of="future"), lambda: Delta(Hint())):
        seat = RolloutSeat(as_reward(make()), world())
        assert not seat(whole[:1], 0)[0].any()
        rest = seat(whole[1:], 0)[0][..., 0]
        assert rest[:, 0].sum().item() == pytest.approx(paid(make(), whole)[:, 0].sum().item())


def test_of_equally_bad_steps_the_last_has_the_minimum() -> None:
    assert column(paid(MinForm(Hint(), 0.0), rollout([[0.1, 0.5, 0.1, 0.7]]))[:, 0]) == [0.0, 0.0, 0.1, 0.0]


def returns(reward: Tensor, x: Stretch, gamma: float) -> Tensor:
    """The discounted return from each row to its episode's end, row by row backwards."""
    out, follow = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        follow = reward[t] + gamma * torch.where(x.done[t], 0.0, follow)
        out[t] = follow
    return out


def random_rollout() -> Stretch:
    """Episodes of 1 to 9 steps, of all lengths next to each other."""
    generator = torch.Generator().manual_seed(0)

    def numbers(n: int) -> list[float]:
        return torch.randn(n, generator=generator).tolist()

    return rollout(*[[numbers(1 + (n * k) % 9) for k in range(1, 6)] for n in range(1, 12)])


def ahead(x: Stretch, n: int, t: int) -> list[float]:
    """The step rewards from a row to its episode's end."""
    end = t + int(x.done[t:, n].nonzero()[0, 0])
    return x.facts["hint"][t : end + 1, n].tolist()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("temperature", [0.0, 0.1, 2.0])
def test_the_value_of_every_step_is_the_minimum_ahead(gamma: float, temperature: float) -> None:
    x = random_rollout()
    got = returns(paid(MinForm(Hint(), temperature, of="future"), x, gamma), x, gamma)
    for t, n in x.valid.nonzero().tolist():
        r = ahead(x, n, t)
        weights = [math.exp(-v / temperature) if temperature else float(v == min(r)) for v in r]
        assert got[t, n].item() == pytest.approx(sum(w * v for w, v in zip(weights, r)) / sum(weights), abs=1e-4)


def test_the_transform_pays_the_minimum_up_to_the_worst_step_and_nothing_after() -> None:
    x = random_rollout()
    got = returns(paid(MinForm(Hint(), 0.0), x), x, 1.0)
    nearly = returns(paid(MinForm(Hint(), 1e-4), x), x, 1.0)
    assert torch.allclose(got, nearly, atol=1e-4)
    for t, n in x.start.nonzero().tolist():
        r = ahead(x, n, t)
        worst = r.index(min(r))
        expected = [min(r)] * (worst + 1) + [0.0] * (len(r) - worst - 1)
        assert got[t : t + len(r), n].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_the_return_of_delta_is_the_steps_own_reward(gamma: float) -> None:
    x = random_rollout()
    got = returns(paid(Delta(Hint()), x, gamma), x, gamma)
    assert torch.allclose(got, x.facts["hint"], atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("loops", [1, 10, 100])
def test_a_loop_earns_nothing(gamma: float, loops: int) -> None:
    """A loop of steps that the learned reward likes, and an end that it does not."""
    x, short = rollout([[0.6] + [0.8, 0.9] * loops + [0.1]]), rollout([[0.6, 0.1]])

    def earned(term: Term, episode: Stretch) -> float:
        return returns(paid(term, episode, gamma), episode, gamma)[0, 0].item()

    assert earned(Hint(), x) > earned(Hint(), short) + 0.8  # the plain sum is exploited
    for make in (
        lambda: Delta(Hint()),
        lambda: Delta(Clipped(Hint(), 0.5)),
        lambda: MinForm(Hint(), 0.0, of="future"),
    ):
        assert earned(make(), x) == pytest.approx(earned(make(), short), abs=1e-5)
    if gamma == 1.0:
        for make in (lambda: Clipped(Hint(), 0.5), lambda: MinForm(Hint(), 0.0)):
            assert earned(make(), x) == pytest.approx(earned(make(), short), abs=1e-5)
    assert earned(Clipped(Hint(), 1.0), x) < 0


def test_huge_rewards_and_cold_temperatures_stay_finite() -> None:
    x = rollout([[1e6, -1e6, 3.0, 1e6]], [[0.0, 0.0]])
    for of in ("episode", "future"):
        for temperature in (1e-6, 0.1, 1e6):
            assert paid(MinForm(Hint(), temperature, of=of), x).isfinite().all()
    assert column(paid(MinForm(Hint(), 1e-3), x)[:, 0]) == [0.0, -1e6, 0.0, 0.0]


def test_padding_is_no_step() -> None:
    """Rewards above 0 next to shorter and longer episodes: the zeros that pad an episode are not its minimum."""
    x = rollout([[0.5, 0.4]], [[0.7, 0.6, 0.5, 0.3]])
    for of in ("episode", "future"):
        assert paid(MinForm(Hint(), 0.0, of=of), x).sum(0).tolist() == pytest.approx([0.4, 0.3])
    weights = [math.exp(-10 * v) for v in (0.5, 0.4)]
    softly = (0.5 * weights[0] + 0.4 * weights[1]) / sum(weights)
    assert paid(MinForm(Hint(), 0.1), x)[:, 0].sum().item() == pytest.approx(softly)


def test_teams_have_a_minimum_each() -> None:
    flags = torch.zeros(3, 1, dtype=torch.bool)
    start, end = flags.clone(), flags.clone()
    start[0], end[1] = True, True
    ep = Stretch.make(
        obs=flags.float(), next_obs=flags.float(), start=start, terminated=end, reward=torch.zeros(3, 1, 2),
        valid=torch.tensor([[True], [True], [False]]),
    )  # fmt: skip
    steps = torch.tensor([[[1.0, 4.0]], [[2.0, 3.0]], [[-9.0, -9.0]]])
    assert MinForm(Hint(), 0.0).settle(ep, steps)[:, 0].tolist() == [[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]]
    assert Delta(Hint(), 1.0).settle(ep, steps)[:, 0].tolist() == [[-1.0, 1.0], [2.0, 3.0], [0.0, 0.0]]
    soft = MinForm(Hint(), 1e-4, of="future", gamma=1.0).settle(ep, steps)[:, 0]
    assert torch.allclose(soft, torch.tensor([[-1.0, 0.0], [2.0, 3.0], [0.0, 0.0]]))


def test_posterior_gating_is_gated() -> None:
    """P-GRPO ("Posterior-GRPO", 2025): R = R_f + R_o + R_o R_t, with a format reward R_f and R_o of 0 or 1."""
    task = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    x = rollout([[0.5, 0.2, 0.9]], [[0.5, 0.3, 0.25]], reward=task)
    reward = 0.125 + Task() + Gated(Hint(), 1.0)
    total = paid(reward, x).sum(0)
    outcome, thinking = task.sum(0), x.facts["hint"].sum(0)
    assert torch.allclose(total, 3 * 0.125 + outcome + outcome * thinking)
    assert total.tolist() == pytest.approx([0.375 + 1.0 + 1.6, 0.375])


def test_the_threshold_of_the_gate_swept() -> None:
    """G-RA: a gate at delta pays the step rewards of outcomes from delta on."""
    task = torch.tensor([[0.2, 0.5, 1.0]])
    x = rollout([[3.0]], [[3.0]], [[3.0]], reward=task)
    opened = [int((paid(Gated(Hint(), delta), x) > 0).sum()) for delta in (0.0, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)]
    assert opened == [3, 3, 2, 2, 1, 1, 0]


def test_clipping_stays_pure_and_goes_with_the_algebra() -> None:
    assert Clipped(Hint(), 0.5).kind == "pure" and Clipped(MinForm(Hint()), 0.5).late
    # A replay buffer may ask about any rows, in any order.
    _, x = walk(0)
    reward = as_reward(Clipped(Task(), 0.5))
    rows = x.flat()[torch.tensor([7, 3, 60])]
    assert torch.equal(reward.evaluate(rows)[reward.order[-1]], (rows.reward - 0.5).clamp(max=0))
    both = as_reward(Task() + 0.5 * MinForm(Hint()) - Delta(Hint()).into("learned", 0.5))
    assert [s.name for s in both.summands] == ["task", "min_hint", "delta_hint"]
    assert as_reward(Clipped(2 * Hint(), 0.5)).summands[0].name == "clipped_hint"
    assert [c.name for c in both.channels] == ["main", "learned"]
    with pytest.warns(UserWarning, match="no longer telescopes"):
        Clipped(Potential("distance"), 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Task() + Gated(MinForm(Task() - 0.1, 0.0), 0.5) - Delta(Gated(EpisodicCount(), 0.0)),
        lambda: MinForm(Delta(Clipped(EpisodicCount(key="position"), 0.8)), of="future").clip(-1, 1) * Task(),
        lambda: (0.5 * Delta(Task())).into("learned", 0.5) + MinForm(lambda x: x.facts["distance"]),
    ],
)
def test_expressions_obey_the_laws(make) -> None:
    check_term(make)


@pytest.mark.parametrize(
    "text",
    [
        "min_form(task)",
        "task + 0.5*min_form(task - 0.1, 0.0)",
        'min_form(episodic_count, of="future", gamma=1.0)',
        "clipped(task, 0.5)",
        "delta(clipped(episodic_count, 0.5), gamma=0.9)",
        "0.5*delta(task)",
    ],
)
def test_as_text(text: str) -> None:
    assert parse(text).text == text


def test_mistakes_are_explained() -> None:
    for make, message in (
        (lambda: MinForm(Task(), -0.1), "the hard minimum, or above"),
        (lambda: MinForm(Task(), math.nan), "the hard minimum, or above"),
        (lambda: MinForm(Task(), of="past"), "'episode' or of the 'future'"),
        (lambda: MinForm(Task(), gamma=0.5), 'goes with of="future"'),
        (lambda: Delta(Task(), 1.5), "between 0 and 1"),
        (lambda: Clipped(Task(), math.inf), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_in_a_wrapper_the_discount_is_given() -> None:
    batch = make_batch("cairn/Chain-v0")
    for term in (Delta(Task()), MinForm(Task(), of="future")):
        with pytest.raises(ValueError, match=r"give it gamma=0\.99"):
            ShapedReward(batch, term)
    ShapedReward(batch, MinForm(Task()))
    ShapedReward(batch, Delta(Task()), gamma=0.9)
    ShapedReward(batch, Delta(Task(), gamma=1.0))
