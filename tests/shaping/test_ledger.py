"""The ledger against a loop, and the write-back of late values in rollouts."""

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from cairn.shaping import Gated, RolloutSeat, Stretch, Task, World, as_reward
from cairn.shaping import ledger as ledger_module
from cairn.shaping.laws import walk, with_junk
from cairn.shaping.ledger import Ledger
from cairn.shaping.term import Episode, Op, Pure


class Returns(Episode):
    """Each step's share: its place times the episode's length, which depends on the whole episode."""

    keeps = ("facts", "obs")

    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        assert not ep.reward[~ep.valid].any() and not ep.facts["position"][~ep.valid].any()
        assert torch.equal(ep.valid.cumsum(0)[ep.valid] - 1, ep.t[ep.valid])  # rows stand in order, none missing
        length = ep.valid.sum(0)
        return (ep.t + 1.0) * length + 100 * ep.lane + ep.facts["position"].sum(-1)


def expected(x: Stretch) -> Tensor:
    """The same, for rows of finished episodes, by a loop."""
    out = torch.zeros(x.rows)
    for end, lane in (x.done & x.valid).nonzero().tolist():
        rows = [r for r in range(end + 1) if x.valid[r, lane] and x.episode[r, lane] == x.episode[end, lane]]
        for r in rows:
            out[r, lane] = (x.t[r, lane] + 1.0) * len(rows) + 100 * lane + x.facts["position"][r, lane].sum()
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cuts", [[], [9], [3, 5, 20], list(range(1, 24))])
def test_settled_rows_equal_a_loop(seed: int, cuts: list[int]) -> None:
    world, x = walk(seed)
    for stretch in (x, with_junk(x, seed)[0]):
        reward = as_reward(Returns())
        reward.bind(world)
        ledger = Ledger(reward, world.lanes, max_steps=2)  # too small: it must grow
        out = torch.zeros(stretch.rows)
        bounds = [0, *cuts, stretch.rows[0]]
        for a, b in zip(bounds, bounds[1:]):
            piece = stretch[a:b]
            settled = ledger.push(piece, reward.evaluate(piece))
            if settled is not None:
                out[settled.step, settled.lane] += settled.value[:, 0]
                assert (stretch.done & stretch.valid)[settled.end, settled.lane].all() and settled.base == a
        assert torch.equal(out, expected(stretch))


@pytest.mark.parametrize("broken", [3, 5])
def test_an_episode_that_is_broken_off_is_forgotten(broken: int) -> None:
    """Seven steps of one lane, reset after ``broken`` of them without an end."""
    flags = torch.zeros(7, 1, dtype=torch.bool)
    start, done = flags.clone(), flags.clone()
    start[[0, broken], 0], done[6, 0] = True, True
    x = Stretch.make(obs=flags.float(), next_obs=flags.float(), reward=torch.ones(7, 1), terminated=done, start=start)
    world = World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2))
    for cuts in ([0, 7], [0, 2, 7], [0, 6, 7], [0, 3, 7], list(range(8))):
        seat = RolloutSeat(as_reward(Gated(Task(), 0.0, pay="end")), world)
        paid = torch.cat([seat(x[a:b], 0)[0] for a, b in zip(cuts, cuts[1:])]).flatten()
        assert paid.tolist() == [0.0] * 6 + [7.0 - broken], cuts


def test_write_back_and_displacement() -> None:
    # One lane, an episode of 8 steps paying 1 for each, its outcome known at the last.
    flags = torch.zeros(8, 1, dtype=torch.bool)
    start, done = flags.clone(), flags.clone()
    start[0], done[7] = True, True
    x = Stretch.make(obs=flags.float(), next_obs=flags.float(), reward=torch.zeros(8, 1), terminated=done, start=start)
    world = World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2))
    expr = Gated(lambda x: x.reward + 1, 0.0)
    whole = RolloutSeat(as_reward(expr), world)
    reward, logs = whole(x, 0)
    assert reward.flatten().tolist() == [1.0] * 8 and logs["reward/gated_function/displaced"] == 0
    cut = RolloutSeat(as_reward(Gated(lambda x: x.reward + 1, 0.0)), world)
    first, logs = cut(x[:5], 0)
    assert not first.any() and "reward/gated_function/displaced" not in logs
    second, logs = cut(x[5:], 0)
    assert second.flatten().tolist() == [1.0, 1.0, 6.0]  # the first five steps' share comes at the end
    assert logs["reward/gated_function/displaced"] == 5 / 8


def test_an_inner_term_and_its_late_correction_equal_the_settled_value() -> None:
    """What another library does with `pending`: inner + (settled - inner) needs no new kind."""
    world, x = walk(2)
    plain, corrected = (
        RolloutSeat(as_reward(e), world) for e in (Gated(Task(), 1.0), Task() + (Gated(Task(), 1.0) - Task()))
    )
    finished = expected(x) != 0
    assert torch.allclose(plain(x, 0)[0][finished], corrected(x, 0)[0][finished])


def test_which_rows_are_whole() -> None:
    world, x = walk(0)
    whole = RolloutSeat.whole(x)
    for lane in range(x.rows[1]):
        for row in range(x.rows[0]):
            same = x.episode[:, lane] == x.episode[row, lane]
            assert whole[row, lane] == bool((x.done[:, lane] & same).any() and (x.start[:, lane] & same).any())
    assert not RolloutSeat.whole(x[1:])[0].any() or bool(x.start[1].any())
    junk, rows = with_junk(x)
    assert torch.equal(RolloutSeat.whole(junk)[rows, torch.arange(5).expand(x.rows)], whole)
    assert world.lanes == 5


def test_an_episode_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LIMIT", 50)
    flags = torch.zeros(20, 2, dtype=torch.bool)
    x = Stretch.make(obs=flags.float(), next_obs=flags.float(), reward=torch.ones(20, 2), terminated=flags)
    seat = RolloutSeat(as_reward(Gated(Task())), World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), lanes=2))
    seat(x, 0)
    seat(x, 0)
    with pytest.raises(RuntimeError, match="has not ended after 50 steps.*max_episode_steps"):
        seat(x, 0)


def test_min_form_over_cut_episodes() -> None:
    """PURE's weights (Cheng et al. 2025): the sum over an episode is near the least reward, however it is cut."""

    class MinForm(Episode):
        def __init__(self, steps: Pure, temperature: float = 0.1) -> None:
            self.inputs, self.temperature = (steps,), temperature

        def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
            logits = torch.where(ep.valid, -inputs[0] / self.temperature, -torch.inf)
            return logits.softmax(0).nan_to_num() * inputs[0]

    world, x = walk(3)
    sums = []
    for cuts in ([0, 24], [0, 10, 24], list(range(25))):
        step = Op(lambda r: r * 2 - 0.3, Task())
        seat = RolloutSeat(as_reward(step + (MinForm(step) - step)), world)
        paid = torch.cat([seat(x[a:b], 0)[0] for a, b in zip(cuts, cuts[1:])])[..., 0]
        sums.append([float(paid[expected(x)[:, lane] != 0, lane].sum()) for lane in range(5)])
    assert sums[0] == pytest.approx(sums[1], abs=1e-5) and sums[0] == pytest.approx(sums[2], abs=1e-5)
