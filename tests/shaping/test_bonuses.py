"""What holds for every intrinsic bonus once it has learned: laws, resuming, text, and every seat."""

from copy import deepcopy
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch

from cairn.shaping import RolloutSeat, ShapedReplayBuffer, ShapedReward, Task, as_reward, parse
from cairn.shaping.grammar import term_class
from cairn.shaping.laws import check_term, walk

NAMES = (
    "count", "icm", "impact", "ride", "pseudo_counts", "lifelong_novelty", "ngu", "re3", "disagreement", "rep_exp",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_learned_one_obeys_the_laws(name: str) -> None:
    world, x = walk(5)
    term = term_class(name)()
    seat = RolloutSeat(term, world)
    for _ in range(3):
        paid = seat(x, 0)[0]
        seat.update(0)
    assert (paid > 0).any() and torch.isfinite(paid).all()
    check_term(lambda: deepcopy(term))


@pytest.mark.parametrize("dict_obs", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_bit_for_bit_in_mid_episode(name: str, dict_obs: bool) -> None:
    world, x = walk(1, dict_obs=dict_obs)
    lived, resumed = (RolloutSeat(Task() + term_class(name)(), world) for _ in range(2))
    for rows in (slice(0, 5), slice(5, 9)):
        lived(x[rows], 0)
        lived.update(0)
    lived(x[9:14], 0)
    resumed.load(deepcopy(lived.state()))
    for rows in (slice(14, 16), slice(16, 20), slice(20, 24)):
        one, other = lived.update(0), resumed.update(0)
        assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
        paid = lived(x[rows], 0)[0]
        assert torch.equal(paid, resumed(x[rows], 0)[0])
    assert (paid != x.reward[20:24, :, None]).any()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_valid_teaches_nothing(name: str) -> None:
    world, x = walk(2)
    seat = RolloutSeat(term_class(name)(), world)
    seat(x, 0)
    seat.update(0)
    junk = x[:4]
    junk.valid = torch.zeros_like(junk.valid)
    before = seat.state()["reward"]
    assert (seat(junk, 0)[0] == 0).all()
    seat.update(0)
    assert repr(before) == repr(seat.state()["reward"])


@pytest.mark.parametrize("name", NAMES)
def test_as_text(name: str) -> None:
    reward = as_reward(parse(f"task + 0.01*{term_class(name).__name__}()"))
    assert [s.name for s in reward.summands] == ["task", name] and len(reward.channels) == 1
    assert as_reward(parse(str(reward))).text == reward.text


@pytest.mark.parametrize("name", NAMES)
def test_in_an_environment_of_anybody(name: str) -> None:
    env = ShapedReward(gym.make("CartPole-v1"), Task() + term_class(name)(), update_every=16)
    env.reset(seed=0)
    env.action_space.seed(0)
    paid = []
    for _ in range(64):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        paid.append(float(reward))
        if terminated or truncated:
            env.reset()
    assert any(r > 1 for r in paid[40:]) and all(r >= 1 for r in paid)


@pytest.mark.parametrize("name", NAMES)
def test_in_a_replay_buffer(name: str) -> None:
    kwargs: dict[str, Any] = {"reward": Task() + term_class(name)(), "update_every": 32}
    model = sb3.DQN(
        "MlpPolicy", "CartPole-v1", replay_buffer_class=ShapedReplayBuffer, replay_buffer_kwargs=kwargs,
        learning_starts=64, buffer_size=500, seed=0, device="cpu",
    )  # fmt: skip
    model.learn(160)
    rewards = model.replay_buffer.sample(200).rewards  # type: ignore[union-attr]
    assert torch.isfinite(rewards).all() and (rewards > 1).any()
