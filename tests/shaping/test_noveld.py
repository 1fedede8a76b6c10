from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cairn.shaping import NovelD, NoveltyGain, RolloutSeat, Stretch, Task, World, as_reward, parse
from cairn.shaping.laws import check_term, walk

LINE = World(gym.spaces.Box(-9, 9, (1,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([factor]))

    def forward(self, leaves: list[Tensor]) -> Tensor:
        return leaves[0] * self.factor


def path(*where: float) -> Stretch:
    place = torch.tensor(where)[:, None]
    flags = torch.zeros(len(where) - 1, 1, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    rewards = torch.zeros(flags.shape)
    return Stretch.make(
        obs=place[:-1, :, None], next_obs=place[1:, :, None], reward=rewards, terminated=flags, start=start
    )


def by_hand(gain: NoveltyGain) -> NoveltyGain:
    """Networks whose error has the norm ``2 * |x|``."""
    gain.target, gain.predictor = Times(1.0), Times(3.0)
    gain.optimiser = torch.optim.SGD(gain.predictor.parameters(), 0.0)
    return gain


def test_the_gain_at_first_visits_by_hand() -> None:
    term = NovelD(alpha=0.5, normalise=False, warmup=0)
    seat = RolloutSeat(term, LINE)
    gain = term.inputs[0]
    assert isinstance(gain, NoveltyGain)
    by_hand(gain)
    # From 1 to 2: 4 - .5 * 2. Back to 1, which is where it began: not the first visit. To 3: 6 - 1. To 1.2 and 2: known
    # is 2 alone, and 2.4 - .5 * 6 is below 0.
    paid = seat(path(1.0, 2.0, 1.0, 3.0, 1.2, 2.0), 0)[0].flatten()
    assert torch.allclose(paid, torch.tensor([3.0, 0.0, 5.0, 0.0, 0.0]))
    # A new episode may be paid for 2 again.
    assert torch.allclose(seat(path(0.0, 2.0), 0)[0].flatten(), torch.tensor([4.0]))


def test_the_scale_is_the_root_mean_square_by_hand() -> None:
    seat = RolloutSeat(NoveltyGain(alpha=0.5, warmup=1), LINE)
    gain = by_hand(seat.reward.order[0])  # type: ignore[arg-type]
    x = path(1.0, 2.0, 1.0, 3.0, 9.0)
    x.valid[-1] = False
    assert (seat(x, 0)[0] == 0).all()
    seat.update(0)
    assert float(gain.unit()) == pytest.approx(np.sqrt((9 + 0 + 25) / 3), rel=1e-5)
    assert gain.whitening is not None
    before, after = (2 * abs(float(gain.whitening(torch.tensor([[x]]))[0])) for x in (1.0, 4.0))
    paid = float(seat(path(1.0, 4.0), 0)[0])
    assert paid == pytest.approx(max(after - 0.5 * before, 0) / np.sqrt(34 / 3), rel=1e-4)
    seat.update(0)
    expected = np.sqrt((34 + (after - 0.5 * before) ** 2) / 4)
    assert float(gain.unit()) == pytest.approx(expected, rel=1e-5)


def test_a_replay_keeps_first_visits_and_scores_the_gain_anew() -> None:
    """Kept whole, old rows would go on being paid as if they were new."""
    world, x = walk(0)
    reward = as_reward(NovelD(normalise=False, warmup=0, share=1.0))
    seat = RolloutSeat(reward, world)
    stream = next(node for node in reward.order if node.kind == "stream" and not node.inputs)
    with torch.no_grad():
        lived = reward.evaluate(x)
    root = reward.summands[0].term
    whole = lived[root].sum()
    assert stream in reward.order and root.kind == "stream"
    for _ in range(80):
        seat.source.add(x, lived, None)  # type: ignore[union-attr]
        seat.update(0)
    with torch.no_grad():
        again = reward.evaluate(x.flat(), {stream: lived[stream].flatten()})
    assert torch.equal(again[stream], lived[stream].flatten())
    assert again[root].sum() < 0.2 * whole


@pytest.mark.parametrize("dict_obs", [True, False])
def test_a_learned_one_obeys_the_laws(dict_obs: bool) -> None:
    world, x = walk(5, dict_obs=dict_obs)
    term = NovelD()
    seat = RolloutSeat(term, world)
    seat(x, 0)
    seat.update(0)
    assert (seat(x, 0)[0] > 0).any()
    check_term(lambda: deepcopy(term), dict_obs=dict_obs)


def test_it_goes_on_bit_for_bit_in_mid_episode() -> None:
    world, x = walk(1)
    lived, resumed = RolloutSeat(Task() + NovelD(), world), RolloutSeat(Task() + NovelD(), world)
    lived(x[:9], 0)
    lived.update(0)
    lived(x[9:14], 0)
    resumed.load(deepcopy(lived.state()))
    for rows in (slice(14, 16), slice(16, 20), slice(20, 24)):
        lived.update(0), resumed.update(0)
        paid = lived(x[rows], 0)[0]
        assert torch.equal(paid, resumed(x[rows], 0)[0])
    assert (paid > 0).any()


def test_text_name_and_channel() -> None:
    reward = as_reward(parse('task + 0.01*NovelD(key=("position", "carrying"), alpha=0.4)'))
    assert reward.text == 'task + 0.01*noveld(key=("position", "carrying",), alpha=0.4)'
    assert [s.name for s in reward.summands] == ["task", "noveld"] and len(reward.channels) == 1
    assert as_reward(parse(str(reward))).text == reward.text
    assert as_reward(NovelD(key=lambda obs: obs)).unwritten == ("episodic_count",)
    with pytest.raises(ValueError, match="alpha is between"):
        NovelD(alpha=2.0)
