from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import RND, RolloutSeat, Stretch, Task, World, as_reward, parse
from cairn.shaping.laws import check_term, walk, with_junk
from cairn.shaping.state import pack

LINE = World(gym.spaces.Box(-9, 9, (1,), np.float32), gym.spaces.Discrete(2), lanes=2, seed=1)


def line(after: list[list[float]]) -> Stretch:
    """Steps ``[T, N]`` along a line, one episode."""
    where = torch.tensor(after)
    flags = torch.zeros(where.shape, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    before = torch.cat([torch.zeros_like(where[:1]), where[:-1]])
    return Stretch.make(
        obs=before[..., None], next_obs=where[..., None], reward=torch.zeros_like(where), terminated=flags, start=start
    )


class Times(nn.Module):
    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors))

    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0] * self.factors


def by_hand(term: RND) -> RND:
    """Put networks in whose error is ``x**2 + 4 * x**2``."""
    term.target, term.predictor = Times([0.0, 1.0]), Times([1.0, 3.0])
    term.optimiser = torch.optim.SGD(term.predictor.parameters(), 0.0)
    return term


def test_the_error_by_hand() -> None:
    term = RND(warmup=0)
    seat = RolloutSeat(term, LINE)
    by_hand(term)
    paid = seat(line([[1.0, 2.0], [-1.0, 0.5]]), 0)[0]
    assert torch.allclose(paid[..., 0], torch.tensor([[5.0, 20.0], [5.0, 1.25]]))


def test_the_scale_by_hand() -> None:
    """Returns go on through rollouts, and the deviation is over all of them."""
    term = by_hand(RND(warmup=0))
    term.running = torch.zeros(2)
    term.gamma = 0.5
    everywhere = torch.ones(2, 2, dtype=torch.bool)
    some = torch.tensor([[True, False]])
    term.measure(torch.tensor([[1.0, 0.0], [0.0, 4.0]]), everywhere)  # lane 0: 1, .5; lane 1: 0, 4
    term.measure(torch.tensor([[2.0, 9.0]]), some)  # lane 0: 2.25; lane 1 is not valid
    assert term.running.tolist() == [2.25, 4.0]
    assert float(term.unit()) == pytest.approx(np.std([1, 0.5, 0, 4, 2.25]))


def test_the_scale_divides_the_next_rollout() -> None:
    term = RND()
    seat = RolloutSeat(term, LINE)
    by_hand(term)
    first = line([[1.0, 2.0], [1.0, 2.0], [3.0, 2.0]])
    assert (seat(first, 0)[0] == 0).all(), "nothing is paid before the first update"
    seat.update(0)
    assert term.whitening is not None
    assert term.gamma == 0.99
    white = term.whitening(torch.tensor([[2.0]]))[0]
    assert float(white) == pytest.approx((2 - 11 / 8) / np.std([1, 1, 3, 2, 2, 2, 0, 0]), abs=1e-5)
    # Errors of the first rollout were 5, 5, 45 and 20, 20, 20, before there was a whitening.
    g = 0.99
    returns = [5, 5 + g * 5, 45 + g * (5 + g * 5), 20, 20 + g * 20, 20 + g * (20 + g * 20)]
    assert float(term.unit()) == pytest.approx(np.std(returns), rel=1e-5)
    paid = seat(line([[2.0, 2.0]]), 6)[0]
    assert torch.allclose(paid, 5 * white**2 / np.std(returns), rtol=1e-4)
    seat.update(8)  # the raw bonus is taken back from what was paid
    returns += [float(5 * white**2 + g * r) for r in (returns[2], returns[5])]
    assert float(term.unit()) == pytest.approx(np.std(returns), rel=1e-5)


def test_what_is_seen_often_is_not_new() -> None:
    term = RND(normalise=False, warmup=0, share=1.0)
    world, x = walk(0)
    seat = RolloutSeat(term, world)
    first = seat(x, 0)[0].sum()
    before, losses = pack(term.target), []
    assert term.target is not None and not any(p.requires_grad for p in term.target.parameters())
    for _ in range(60):
        losses.append(float(seat.update(0)["reward/rnd/loss"]))
        last = seat(x, 0)[0].sum()
    assert last < 0.1 * first and losses[-1] < 0.1 * losses[0]
    assert all(torch.equal(v, pack(term.target)[k]) for k, v in before.items()), "the target stays as it is"
    elsewhere = x[:]
    elsewhere.next_obs = {"direction": x.obs["direction"], "image": 3 - x.obs["image"].clamp(max=3)}  # type: ignore[index]
    assert seat(elsewhere, 0)[0].sum() > 5 * last


@pytest.mark.parametrize("dict_obs", [True, False])
def test_a_learned_one_obeys_the_laws(dict_obs: bool) -> None:
    """As the laws' own test does, but with whitening and scale that have been learned, and paid."""
    world, x = walk(5, dict_obs=dict_obs)
    term = RND()
    seat = RolloutSeat(term, world)
    seat(x, 0)
    seat.update(0)
    assert (seat(x, 0)[0] > 0).any()
    check_term(lambda: deepcopy(term), dict_obs=dict_obs)


@pytest.mark.parametrize("dict_obs", [True, False])
def test_it_goes_on_bit_for_bit(dict_obs: bool) -> None:
    world, x = walk(1, dict_obs=dict_obs)
    other_seed = World(**{**world.__dict__, "seed": 99})
    lived = RolloutSeat(Task() + RND(), world)
    lived(x[:9], 0)
    lived.update(0)
    lived(x[9:14], 0)
    resumed = RolloutSeat(Task() + RND(), other_seed)
    resumed.load(deepcopy(lived.state()))
    for seat in (lived, resumed):
        seat.reward.order[1].seed = world.seed  # type: ignore[attr-defined]
    for rows in (slice(14, 16), slice(16, 20), slice(20, 24)):
        logs = [seat.update(0) for seat in (lived, resumed)]
        assert all(torch.equal(logs[0][k], logs[1][k]) for k in logs[0])
        assert torch.equal(lived(x[rows], 0)[0], resumed(x[rows], 0)[0])


def test_junk_is_not_learned() -> None:
    world, x = walk(2, dict_obs=False)
    clean, junk = RolloutSeat(RND(), world), RolloutSeat(RND(), world)
    clean(x, 0), junk(with_junk(x)[0], 0)
    clean.update(0), junk.update(0)
    one, other = clean.reward.order[0], junk.reward.order[0]
    assert isinstance(one, RND) and isinstance(other, RND)
    assert torch.allclose(one.unit(), other.unit(), rtol=1e-5)
    assert one.whitening is not None and other.whitening is not None
    assert all(torch.allclose(v, other.whitening.state()[""][k]) for k, v in one.whitening.state()[""].items())


def test_nothing_is_taken_from_the_global_stream() -> None:
    world, x = walk(0)
    before = torch.get_rng_state()
    seat = RolloutSeat(RND(), world)
    seat(x, 0), seat.update(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_its_channel() -> None:
    reward = as_reward(parse("task + 0.1*rnd(share=0.5)"))
    assert [tuple(c) for c in reward.channels] == [("main", None, True), ("curiosity", 0.99, False)]
    assert reward.text == "task + 0.1*rnd(share=0.5)"
    assert len(as_reward(Task() + RND().into("main")).channels) == 1
    with pytest.raises(ValueError, match="different channels"):
        as_reward(Task() * RND())


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ValueError, match="share=0"):
        RND(share=0)
    with pytest.raises(ValueError, match="learning_rate=nan"):
        RND(learning_rate=float("nan"))
    with pytest.raises(TypeError, match="nothing but text"):
        from cairn.envs.spaces import Tokens

        RolloutSeat(RND(), World(gym.spaces.Dict({"mission": Tokens(3)}), gym.spaces.Discrete(2)))


@pytest.mark.parametrize("dict_obs", [True, False])
@pytest.mark.parametrize("term", ["rnd(warmup=0)", "noveld(warmup=0)", "e3b"])
def test_rows_of_junk_alone(term: str, dict_obs: bool) -> None:
    world, x = walk(0, dict_obs=dict_obs)
    seat = RolloutSeat(parse(term), world)
    x.valid = torch.zeros_like(x.valid)
    assert (seat(x, 0)[0] == 0).all()
    before = pack(seat.reward.state())
    assert seat.update(0) == {}
    assert str(pack(seat.reward.state())) == str(before)


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(0, dict_obs=False)
    whole, pieces = RolloutSeat(RND(), world), RolloutSeat(RND(), world)
    whole(x, 0), whole.update(0)
    monkeypatch.setattr("cairn.shaping.networks.PIECE", 3)
    monkeypatch.setattr("cairn.shaping.networks.NUMBERS", 7)
    pieces(x, 0), pieces.update(0)
    assert torch.allclose(whole(x, 0)[0], pieces(x, 0)[0], rtol=1e-3)


def test_a_copy_may_sit_among_other_lanes() -> None:
    world, x = walk(0)
    term = RND()
    seat = RolloutSeat(term, world)
    seat(x, 0), seat.update(0)
    copy = deepcopy(term)
    few = x[:, :2]
    other = RolloutSeat(copy, World(**{**world.__dict__, "lanes": 2}))
    assert torch.allclose(other(few, 0)[0], seat(x, 0)[0][:, :2], rtol=1e-4)
    assert (copy.running == 0).all() and len(copy.running) == 2
    other.update(0)
