import gymnasium as gym
import pytest
import torch
from torch import Tensor

from cairn.shaping import Channel, EpisodicCount, Gated, Reward, RolloutSeat, Stretch, Task, World, as_reward
from cairn.shaping.term import Pure


class Hint(Pure):
    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.facts["hint"]


def rollout() -> Stretch:
    """Two lanes of three steps: outcome 1 and outcome .4, hints .1 .2 .3 and .5 .6 .7; the second is truncated."""
    flags = torch.zeros(3, 2, dtype=torch.bool)
    start, terminated, truncated = flags.clone(), flags.clone(), flags.clone()
    start[0], terminated[2, 0], truncated[2, 1] = True, True, True
    return Stretch.make(
        obs=flags.float(), next_obs=flags.float(), start=start, terminated=terminated, truncated=truncated,
        reward=torch.tensor([[0.0, 0.4], [0.0, 0.0], [1.0, 0.0]]),
        facts={"hint": torch.tensor([[0.1, 0.5], [0.2, 0.6], [0.3, 0.7]])},
    )  # fmt: skip


WORLD = World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), lanes=2)


@pytest.mark.parametrize(
    ("threshold", "pay", "expected"),
    [
        # R = R_out + 1[R_out >= delta] * sum r_t, held back to the end or written back to the steps.
        (0.5, "end", [[0.0, 0.4], [0.0, 0.0], [1.0 + 0.6, 0.0]]),
        (0.5, "steps", [[0.1, 0.4], [0.2, 0.0], [1.3, 0.0]]),
        (0.4, "end", [[0.0, 0.4], [0.0, 0.0], [1.6, 1.8]]),
        (2.0, "steps", [[0.0, 0.4], [0.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_a_hand_computed_rollout(threshold: float, pay: str, expected: list[list[float]]) -> None:
    seat = RolloutSeat(as_reward(Task() + Gated(Hint(), threshold, pay=pay)), WORLD)
    assert torch.allclose(seat(rollout(), 0)[0][..., 0], torch.tensor(expected))


def test_the_outcome_may_be_another_term() -> None:
    seat = RolloutSeat(as_reward(Gated(Hint(), 1.0, outcome=Hint(), pay="end")), WORLD)
    assert torch.allclose(seat(rollout(), 0)[0][2, :, 0], torch.tensor([0.0, 1.8]))


def test_nothing_is_paid_while_the_episode_is_open() -> None:
    seat = RolloutSeat(as_reward(Gated(Hint(), 0.0)), WORLD)
    assert not seat(rollout()[:2], 0)[0].any()


def test_names_channels_and_mistakes() -> None:
    assert [s.name for s in Reward(Gated(EpisodicCount()) + Gated(Hint())).summands] == [
        "gated_episodic_count",
        "gated_hint",
    ]
    assert Reward(Gated(0.5 * Hint().into("hints", 0.5))).channels == (Channel("hints", 0.5),)
    with pytest.raises(ValueError, match="would drop one"):
        Reward(Gated(Hint().into("a") + Hint().into("b")))
    with pytest.raises(ValueError, match="'steps' or at the 'end'"):
        Gated(Task(), pay="later")
