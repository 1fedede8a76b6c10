"""The ant maze with obstacles against numbers worked out by hand."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs import check_batch_env
from cairn.qd import MLP, Evaluator, SearchConfig, load_grid
from cairn.qd import running as qd_running

ID = "cairn/AntObstacles-v0"


def put(batch, lane, x, y):
    """An ant at rest that lies on the ground at x, y."""
    qpos = batch.model.qpos0.copy()
    qpos[:3] = x, y, 0.5
    batch.set_state([lane], [qpos], [np.zeros(batch.model.nv)])


def test_the_body_is_the_heavy_one():
    """Upstream: 25,755 kg in all, spread by volume, of which a ball of 3 m with 5 kg/m^3 before that is no ant."""
    model = gym.make_vec(ID, num_envs=1).model
    plain = gym.make_vec("cairn/Ant-v5", num_envs=1).model
    ball = 4 / 3 * np.pi
    head, sky = ball * 0.25**3 * 0.01, ball * 3**3 * 5
    whole = plain.body_mass.sum() + head + sky
    heavier = plain.body_mass.copy()
    heavier[1] += head
    np.testing.assert_allclose(model.body_mass, heavier * 25755 / whole, rtol=1e-5)
    assert model.body_mass.sum() == pytest.approx(41.4489, abs=1e-3)
    assert model.opt.timestep * 5 == pytest.approx(0.025)
    for name in ("actuator_gear", "jnt_range", "dof_damping", "dof_armature"):
        np.testing.assert_array_equal(getattr(model, name), getattr(plain, name))
    np.testing.assert_array_equal(model.qpos0, [-25, -25, 0.6, 1] + [0] * 11)


def test_the_walls_by_hand():
    """Where each wall begins and ends along x and y, and how high it is, m."""
    walls = {
        "north": (-30, 40, 39.7, 40.3), "south": (-30, 40, -30.3, -29.7), "east": (39.7, 40.3, -30, 40),
        "west": (-30.3, -29.7, -30, 40), "upper": (-15.3, -14.7, 3, 37), "lower": (-16, 10, -15.3, -14.7),
        "middle": (9.7, 10.3, -30, 0),
    }  # fmt: skip
    batch = gym.make_vec(ID, num_envs=2)
    batch.reset(seed=0)
    data = mujoco.MjData(batch.model)
    mujoco.mj_forward(batch.model, data)
    for name, limits in walls.items():
        geom, place = batch.model.geom(f"wall_{name}"), data.geom(f"wall_{name}")
        low, high = place.xpos - geom.size, place.xpos + geom.size
        np.testing.assert_allclose([low[0], high[0], low[1], high[1], high[2]], [*limits, 2], atol=1e-9)
        put(batch, 0, (limits[0] + limits[1]) / 2, (limits[2] + limits[3]) / 2)
        touching = batch.observe()[1]["facts"]["touching"][0].nonzero()[:, 0].tolist()
        assert any(f"wall_{name}" in batch.touching_names[i] for i in touching)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_the_last_step_pays_and_no_other(engine):
    if engine == "warp":
        pytest.importorskip("mujoco_warp")
    batch = gym.make_vec(ID, num_envs=4, max_episode_steps=3, engine=engine)
    assert batch.max_steps == 3 and batch.areas.tolist() == [[35, -25, 3], [-25, 35, 3]]
    batch.reset(seed=0)
    for lane, (x, y) in enumerate(((35, -25), (-25, 33.5), (0, 0), (36.8, -22.6))):  # the last is 3 m away
        put(batch, lane, x, y)
    for step in range(3):
        _, reward, terminated, truncated, info = batch.step(torch.zeros(4, 8))
        facts = info["final_facts"]
        assert not terminated.any() and bool(truncated.all()) == (step == 2) == bool(reward.any())
        assert facts["area"][:3].tolist() == [0, 1, -1] and facts["success"][:3].tolist() == [True, True, False]
    assert facts["distance"][2].item() == pytest.approx(np.hypot(35, 25), abs=0.05)
    away = (facts["qpos"][:2, :2].double() - torch.tensor([[35.0, -25.0], [-25.0, 35.0]])).norm(dim=-1)
    assert reward[:2].tolist() == pytest.approx(((3 - away) / 3).tolist(), abs=1e-4)
    assert reward.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=0.05)
    assert facts["area"].dtype == torch.int64 and facts["descriptor"].shape == (4, 2)
    assert info["facts"]["steps"].eq(0).all() and info["facts"]["area"].eq(-1).all()  # the next episode has begun


def test_the_shortest_limit_counts():
    assert gym.make_vec(ID, num_envs=1).max_steps == 3000
    assert gym.make_vec(ID, num_envs=1, length=7, max_episode_steps=9).max_steps == 7
    one = gym.make(ID, length=2)
    one.reset(seed=0)
    put(one.unwrapped._batch, 0, 35, -25)
    assert one.step(np.zeros(8, np.float32))[1:4] == (0.0, False, False)
    _, reward, terminated, truncated, info = one.step(np.zeros(8, np.float32))
    assert reward > 0.9 and truncated and not terminated and info["facts"]["area"] == 0
    with pytest.raises(ValueError, match="length"):
        gym.make_vec(ID, num_envs=1, length=0)


def test_what_is_observed():
    batch = gym.make_vec(ID, num_envs=2)
    obs, info = batch.reset(seed=3)
    facts = info["facts"]
    assert obs.shape == (2, 29) and torch.equal(obs[:, 2:], torch.cat([facts["qpos"][:, 2:], facts["qvel"]], 1))
    assert torch.allclose(obs[:, :2], (facts["qpos"][:, :2] - 5) / 70)
    assert (facts["qpos"][:, :2] + 25).abs().max() <= 0.1 and not torch.equal(obs[0], obs[1])
    put(batch, 0, 41, 3)
    assert batch.observe()[1]["facts"]["descriptor"][0].tolist() == [40, 3]  # cut to the square
    still = gym.make_vec(ID, num_envs=2, reset_noise_scale=0.0).reset(seed=3)[0]
    assert torch.equal(still[0], still[1])


def test_it_conforms():
    check_batch_env(lambda n: gym.make_vec(ID, num_envs=n, length=5))


def test_searches_take_it(tmp_path):
    args = {"length": 4, "reset_noise_scale": 0.0}
    batch = gym.make_vec(ID, num_envs=3, **args)
    policy = MLP(batch.single_observation_space, batch.single_action_space, (10, 10, 10))
    assert policy.size == 29 * 10 + 10 * 10 + 10 * 10 + 10 * 8 + 4
    found = Evaluator(batch, policy)(torch.zeros(3, policy.size))
    assert found.length.tolist() == [4] * 3 and found.area.tolist() == [-1] * 3
    assert found.measures.tolist() == [pytest.approx([-25, -25], abs=0.2)] * 3
    config = SearchConfig(env=ID, algorithm="ns", evaluations=20, run=str(tmp_path / "r"), env_args=args,
                          algorithm_args={"population": 8}, hidden=(10, 10, 10))  # fmt: skip
    outcome = qd_running.search(config)
    assert outcome.evaluations == 24 and load_grid(tmp_path / "r").occupied.sum() == 1
    assert {"area_0", "area_1"} <= set(outcome.scores)
