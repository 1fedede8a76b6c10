"""Noise on observations and actions, and randomised dynamics."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.check import check_batch_env
from cairn.envs.physics.dynamics import DynamicsRanges
from cairn.envs.physics.noise import ActionNoise, LaneNormals, ObservationNoise

RANGES = DynamicsRanges(mass=(0.5, 2.0), friction=(0.3, 3.0), gravity=(0.8, 1.2))


def hopper(n, **kwargs):
    return gym.make_vec("cairn/Hopper-v5", num_envs=n, max_episode_steps=7, **kwargs)


@pytest.mark.parametrize("make", [
    lambda n: ObservationNoise(hopper(n), 0.1),
    lambda n: ActionNoise(hopper(n), 0.1),
    lambda n: hopper(n, dynamics=RANGES),
])  # fmt: skip
def test_keeps_the_contract(make):
    check_batch_env(make)


def test_normals_are_normal_and_apart():
    normals = LaneNormals(200, 5, salt=1)
    normals.seed(0, np.ones(200, bool))
    drawn = np.stack([normals.draw() for _ in range(100)])
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 1) < 0.01
    assert abs((drawn**4).mean() - 3) < 0.1
    flat = drawn.transpose(1, 0, 2).reshape(200, -1)
    correlations = np.corrcoef(flat)[~np.eye(200, dtype=bool)]
    assert np.abs(correlations).max() < 0.25 and abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.01
    assert len(np.unique(drawn)) == drawn.size


def test_observation_noise_is_added_to_what_there_is():
    noisy, plain = ObservationNoise(hopper(64), [0.0] * 5 + [0.5] * 6), hopper(64)
    errors, ends = [], 0
    seen, _ = noisy.reset(seed=0)
    clean, _ = plain.reset(seed=0)
    for _ in range(20):
        errors.append((seen - clean).numpy())
        assert torch.equal(noisy.observe()[0], seen)
        action = plain.action_space.sample()
        seen, _, terminated, truncated, info = noisy.step(action)
        clean, _, _, _, truth = plain.step(action)
        ended = terminated | truncated
        last = (info["final_obs"] - truth["final_obs"])[ended]
        errors.append(last.numpy())
        # An episode's last observation and the next one's first have different noise.
        assert not ended.any() or not torch.allclose(last[:, 5:], (seen - clean)[ended][:, 5:])
        ends += int(ended.sum())
        assert torch.equal(info["facts"]["qpos"], truth["facts"]["qpos"])
    error = np.concatenate(errors)
    assert ends > 100
    assert not error[:, :5].any()
    assert np.allclose(error[:, 5:].std(axis=0), 0.5, rtol=0.15) and np.abs(error[:, 5:].mean(axis=0)).max() < 0.06


def test_action_noise_stays_within_the_bounds():
    env, plain = ActionNoise(hopper(32), 0.3), hopper(32)
    env.reset(seed=0)
    plain.reset(seed=0)
    action = torch.full((32, 3), 0.9)
    info = env.step(action)[-1]
    done = info["executed_action"]
    assert (done <= 1).all() and (done == 1).any() and 0.1 < float((done - action).std()) < 0.3
    assert torch.equal(plain.step(done)[-1]["final_obs"], info["final_obs"])
    with pytest.raises(ValueError, match="lane"):
        env.step(torch.full((32, 3), torch.nan))


def test_scales_and_spaces_are_checked():
    for scale in (-1.0, [0.1, 0.2], np.nan):
        with pytest.raises(ValueError):
            ActionNoise(hopper(1), scale)
    with pytest.raises(ValueError, match="vectors"):
        ActionNoise(cairn.envs.from_gymnasium("CartPole-v1", 2), 0.1)


def test_each_episode_has_its_own_dynamics():
    env = hopper(40, dynamics=RANGES)
    _, info = env.reset(seed=0)
    first = info["facts"]["dynamics"].clone()
    for column, (low, high) in enumerate((RANGES.mass, RANGES.friction, RANGES.gravity)):
        assert low <= first[:, column].min() < first[:, column].max() <= high
    base = env.model
    for model, (mass, friction, gravity) in zip(env.engine.models, first.tolist()):
        assert np.allclose(model.body_mass, base.body_mass * mass)
        assert np.allclose(model.body_subtreemass, base.body_subtreemass * mass)
        assert np.allclose(model.geom_friction[:, 0], base.geom_friction[:, 0] * friction)
        assert np.allclose(model.opt.gravity, base.opt.gravity * gravity)
    for _ in range(7):
        info = env.step(torch.zeros(40, 3))[-1]
    assert torch.equal(info["final_facts"]["dynamics"], first)
    assert not (info["facts"]["dynamics"] == first).any()


def test_dynamics_of_one_are_none():
    ones, plain = hopper(3, dynamics={"mass": (1, 1)}), hopper(3)
    ones.reset(seed=0)
    plain.reset(seed=0)
    # Drawing the factors advances the generators, so the two are put at the same state.
    facts = plain.observe()[1]["facts"]
    ones.set_state([0, 1, 2], facts["qpos"], facts["qvel"])
    plain.set_state([0, 1, 2], facts["qpos"], facts["qvel"])
    for _ in range(4):
        action = plain.action_space.sample()
        assert torch.equal(ones.step(action)[4]["final_obs"], plain.step(action)[4]["final_obs"])


@pytest.mark.parametrize("wrong", [{"mass": (0, 1)}, {"mass": (2, 1)}, {"friction": (-1, 1)}, {"gravity": (0, np.inf)},
                                   {"mass": 1.0}, {"wind": (0, 1)}, {"mass": (1, "heavy")}, 3])  # fmt: skip
def test_bad_ranges(wrong):
    with pytest.raises(ValueError):
        hopper(1, dynamics=wrong)
