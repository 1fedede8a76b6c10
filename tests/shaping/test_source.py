"""What terms learn from: recent rows, samples, windows, finished episodes."""

import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import Gated, RolloutSeat, Stretch, Task, as_reward
from cairn.shaping.laws import walk, with_junk
from cairn.shaping.source import Recent
from cairn.shaping.state import pack, unpack
from cairn.shaping.term import Pure, Source


class Learner(Pure):
    """Shows its source to the test."""

    wants_episodes = 3

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward * 2

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        self.source = source
        return {}


def source_of(x: Stretch, cuts: list[int]) -> tuple[Recent, RolloutSeat]:
    world, _ = walk(0)
    seat = RolloutSeat(as_reward(Learner() + Gated(Task(), 0.0)), world)
    bounds = [0, *cuts, x.rows[0]]
    for a, b in zip(bounds, bounds[1:]):
        seat(x[a:b], 0)
    assert isinstance(seat.source, Recent)
    return seat.source, seat


def test_recent_rows_and_their_values() -> None:
    _, x = walk(0)
    source, seat = source_of(x, [5, 9])
    assert torch.equal(source.recent.reward, x.reward)
    learner, late = seat.reward.order[0], seat.reward.summands[1].term
    assert torch.equal(source.values[learner], x.reward * 2)
    finished = torch.stack([((x.episode == e) & x.done).any(0) & (x.episode == e) for e in range(20)]).any(0)
    assert source.values[late].shape == (int(finished.sum()),)
    seat.update(1)
    with pytest.raises(RuntimeError, match="no experience since"):
        _ = source.recent


def test_samples_are_valid_rows() -> None:
    _, x = walk(0)
    junk, _ = with_junk(x)
    source, _ = source_of(junk, [])
    rows = source.sample(200)
    assert rows.rows == (200,) and rows.valid.all() and rows.reward.isfinite().all()
    assert len({(int(a), int(b), int(c)) for a, b, c in zip(rows.lane, rows.episode, rows.t)}) > 60


def test_windows_do_not_cross_episodes() -> None:
    _, x = walk(0)
    source, _ = source_of(x, [])
    windows = source.windows(50, 6)
    assert windows.rows == (6, 50) and windows.valid[0].all() and not windows.valid.all()
    for column in range(50):
        mine = windows.valid[:, column]
        assert len(windows.episode[mine, column].unique()) == 1 and len(windows.lane[mine, column].unique()) == 1
        assert (windows.t[mine, column].diff() == 1).all()
    with pytest.raises(ValueError, match="windows of 99 steps"):
        source.windows(1, 99)


@pytest.mark.parametrize("cuts", [[], [4, 5, 16], list(range(1, 24))])
def test_finished_episodes_are_whole(cuts: list[int]) -> None:
    _, x = walk(1)
    ends = [(t, lane) for t in range(24) for lane in range(5) if x.done[t, lane]]
    for stretch in (x, with_junk(x)[0]):
        source, _ = source_of(stretch, cuts)
        episodes = source.episodes(2)
        assert episodes.rows[1] == 2 and len(source.finished) == min(3, len(ends))
        for e in range(2):
            mine = episodes.valid[:, e]
            length = int(mine.sum())
            assert mine[:length].all() and episodes.t[:length, e].tolist() == list(range(length))
            assert episodes.start[0, e] and (episodes.terminated | episodes.truncated)[length - 1, e]


def test_no_episodes_yet() -> None:
    world, x = walk(0)
    source = Recent(as_reward(Task()), 0)
    source.add(x, {}, None)
    with pytest.raises(RuntimeError, match="no term has set wants_episodes"):
        source.episodes(1)
    assert world.lanes == 5


def test_state_of_a_source_is_whole() -> None:
    _, x = walk(1)
    source, seat = source_of(x[:13], [6])
    saved = pack(seat.state())
    other, fresh = source_of(x[:2], [])
    fresh.load(saved)
    for s in (seat, fresh):
        s(x[13:], 0)
    assert torch.equal(other.recent.reward, source.recent.reward)
    assert torch.equal(other.sample(9).reward, source.sample(9).reward)
    assert torch.equal(other.episodes(3).reward, source.episodes(3).reward)
    for node, twin in zip(seat.reward.order, fresh.reward.order):
        if node in source.values:
            assert torch.equal(source.values[node], other.values[twin])


def test_state_trees_hold_what_learners_hold() -> None:
    """Optimisers, generators and modules go on exactly; nothing else is saved without a word."""

    def learner() -> dict[str, object]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return {
            "net": net,
            "opt": torch.optim.Adam(net.parameters(), 1e-2),
            "rng": torch.Generator().manual_seed(1),
            "n": 0,
        }

    def train(own: dict[str, object], times: int) -> Tensor:
        net, opt, rng = own["net"], own["opt"], own["rng"]
        assert (
            isinstance(net, nn.Module) and isinstance(opt, torch.optim.Optimizer) and isinstance(rng, torch.Generator)
        )
        for _ in range(times):
            opt.zero_grad()
            net(torch.rand(5, 3, generator=rng)).square().mean().backward()
            opt.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    one = learner()
    train(one, 3)
    saved = {name: pack(value) for name, value in one.items()}
    expected = train(one, 3)
    other = learner()
    for name, value in saved.items():
        other[name] = unpack(other[name], value)
    assert torch.equal(train(other, 3), expected)
    with pytest.raises(TypeError, match="holds a function"):
        pack(lambda: 0)
    assert unpack((1, torch.zeros(2)), pack((1, torch.ones(2))))[1].tolist() == [1, 1]
