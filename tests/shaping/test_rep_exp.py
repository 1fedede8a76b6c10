from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.envs.spaces import tree_map
from cairn.shaping import RepExp, RolloutSeat, Stretch, Task, World, as_reward

PLANE = World(gym.spaces.Box(-5, 5, (2,), np.float32), gym.spaces.Discrete(2), lanes=1, seed=1)


def steps(*places: tuple[float, float]) -> Stretch:
    place = torch.tensor(places)[:, None]
    flags = torch.zeros(len(places) - 1, 1, dtype=torch.bool)
    start = flags.clone()
    start[0] = True
    return Stretch.make(
        obs=place[:-1], next_obs=place[1:], reward=torch.zeros(flags.shape), terminated=flags, start=start
    )


def plain(obs: Any) -> Tensor:
    out: Tensor = obs
    return out


def test_the_bonus_by_hand() -> None:
    """C is half of I before the first update; then the states (1, 0) twice and (0, 2) make it diag(2.5, 4.5)."""
    seat = RolloutSeat(RepExp(plain, normalise=False, warmup=0, ridge=0.5), PLANE)
    first = steps((1, 0), (1, 0), (0, 2))
    assert seat(first, 0)[0].flatten().tolist() == pytest.approx([2, 8])
    seat.update(0)
    assert seat(first, 0)[0].flatten().tolist() == pytest.approx([1 / 2.5, 4 / 4.5])
    assert seat(steps((5, 5), (1, 1)), 0)[0].item() == pytest.approx(1 / 2.5 + 1 / 4.5)
    seat.update(0)  # anew: both rollouts since the last update, and not what was before
    assert seat(steps((0, 0), (1, 0)), 0)[0].item() == pytest.approx(
        float(torch.linalg.inv(torch.tensor([[0.5 + 2 + 26, 26.0], [26.0, 0.5 + 4 + 26]]))[0, 0]), rel=1e-4
    )


def test_nothing_is_paid_and_measured_before_there_is_an_ellipse() -> None:
    seat = RolloutSeat(RepExp(plain), PLANE)
    term = seat.reward.order[0]
    assert isinstance(term, RepExp)
    for _ in range(2):
        assert (seat(steps((0, 0), (1, 2), (3, 0)), 0)[0] == 0).all()
        seat.update(0)
    assert int(term.scale.count) == 2
    x = steps((0, 0), (4, 4), (-4, 2))
    assert torch.allclose(seat(x, 0)[0].flatten(), term.raw(x.flat()) / term.unit())


def test_the_projection_keeps_lengths_on_average_and_is_drawn_anew() -> None:
    wide = 400
    world = World(gym.spaces.Box(-5, 5, (wide,), np.float32), gym.spaces.Discrete(2), seed=1)
    term = RepExp(plain, features=64)
    term.bind(world)
    one = term.draw()
    assert torch.equal(one, term.draw()) and one.shape == (wide, 64)
    assert float((one != 0).float().mean()) == pytest.approx(wide**-0.5, rel=0.1)
    term.updates = 1
    assert not torch.equal(one, term.draw())
    vectors = torch.randn(50, wide, generator=torch.Generator().manual_seed(0))
    assert float((vectors @ one).square().sum() / vectors.square().sum()) == pytest.approx(1, rel=0.1)


def test_a_trained_policy_represents_and_stays_as_it_was() -> None:
    envs = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=8, device="cpu")
    model = PPO("MlpPolicy", envs, seed=0, n_steps=16, batch_size=64, n_epochs=1)
    term = RepExp(model)
    learner = PPO("MlpPolicy", envs, reward=Task() + 0.01 * term, seed=1, n_steps=16, batch_size=64, n_epochs=1)
    obs = tree_map(torch.clone, envs.reset(seed=3)[0])
    policy = model.policy
    with torch.no_grad():
        hidden = policy.mlp_extractor.forward_actor(policy.extract_features(obs))
    found, of = term.represent(obs)
    assert torch.allclose(found[of], hidden, atol=1e-6)
    model.learn(256)
    learner.learn(8 * 16 * 4)
    assert torch.equal(term.represent(obs)[0], found), "neither the model's training nor the learner's reaches the copy"
    assert float(term.scale.count) > 0 and term.inverse.shape == (64, 64)
    assert as_reward(term).unwritten == ("rep_exp",) and as_reward(RepExp()).text == "rep_exp"
    other = PPO("MlpPolicy", envs, seed=5)
    resumed = RolloutSeat(Task() + 0.01 * RepExp(other), learner.seat.world)  # type: ignore[union-attr]
    resumed.load(learner.seat.state())  # type: ignore[union-attr]
    nodes = [n for n in resumed.reward.order if isinstance(n, RepExp)]
    assert torch.equal(nodes[0].represent(obs)[0], found), "the representation is in the state"


def test_two_missions_are_two_states() -> None:
    """A policy reads the mission, so rows that differ in nothing else are not repeats."""
    space = gym.spaces.Dict({"image": gym.spaces.Box(-1, 1, (2,), np.float32), "mission": gym.spaces.Discrete(9)})

    def both(obs: Any) -> Tensor:
        return torch.stack([obs["image"][:, 0], obs["mission"].float()], 1)

    term = RepExp(both)
    term.bind(World(space, gym.spaces.Discrete(2)))
    h, of = term.represent({"image": torch.ones(3, 2), "mission": torch.tensor([4, 7, 4])})
    assert len(h) == 2 and h[of].tolist() == [[1, 4], [1, 7], [1, 4]]


def test_what_is_no_policy_is_explained() -> None:
    with pytest.raises(TypeError, match="a trained model or its policy"):
        RepExp(3)
    with pytest.raises(ValueError, match=r"gave shape \(2,\) for 2 observations"):
        RolloutSeat(RepExp(lambda obs: obs[:, 0]), PLANE)
    with pytest.raises(ValueError, match="ridge=0"):
        RepExp(ridge=0)
