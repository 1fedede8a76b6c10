"""The sparse tasks pay where their rule says, and nowhere else."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.physics.ids import SPARSE_TASKS


def at(batch, qpos):
    """Put lane 0 at rest somewhere, step with no action, and return the step."""
    batch.set_state([0], [qpos], [np.zeros(batch.model.nv)])
    return batch.step(torch.zeros(batch.num_envs, *batch.single_action_space.shape))


@pytest.mark.parametrize("task,distance", [("HalfCheetah", 5.0), ("Hopper", 2.0), ("Walker2d", 2.0)])
def test_past_a_distance(task, distance):
    batch = gym.make_vec(f"cairn/Sparse{task}-v0", num_envs=2)
    for x, reward in ((distance - 0.1, 0.0), (distance + 0.1, 1.0), (-distance - 0.1, 0.0)):
        batch.reset(seed=0)
        qpos = batch.task.model.init_qpos.copy()
        qpos[0] += x
        _, got, terminated, _, info = at(batch, qpos)
        assert got.tolist() == [reward, 0.0] and not terminated.any()
        assert info["facts"]["success"].tolist() == [bool(reward), False]
        left = max(0.0, distance - float(info["facts"]["qpos"][0, 0] - batch.task.model.init_qpos[0]))
        assert float(info["facts"]["distance"][0]) == pytest.approx(left)
    nearer = gym.make_vec(f"cairn/Sparse{task}-v0", num_envs=1, distance=0.5)
    nearer.reset(seed=0)
    qpos[0] = 0.6
    assert at(nearer, qpos)[1].tolist() == [1.0]


def test_sparse_forms_observe_and_end_as_the_dense_ones():
    for task in ("HalfCheetah", "Hopper", "Walker2d", "Reacher"):
        sparse, dense = (gym.make_vec(f"cairn/{name}", num_envs=4, max_episode_steps=50)
                         for name in (f"Sparse{task}-v0", f"{task}-v5"))  # fmt: skip
        sparse.reset(seed=1)
        dense.reset(seed=1)
        rng = np.random.default_rng(0)
        for _ in range(120):
            action = rng.uniform(-1, 1, dense.action_space.shape).astype(np.float32)
            a, b = sparse.step(action), dense.step(action)
            assert torch.equal(a[0], b[0]) and torch.equal(a[2], b[2]) and torch.equal(a[3], b[3])
            assert torch.equal(a[4]["reward_dense"], b[4]["task_reward"])
            assert set(a[1].tolist()) <= {0.0, 1.0}


def test_reacher_at_the_target():
    batch = gym.make_vec("cairn/SparseReacher-v0", num_envs=1)
    batch.reset(seed=0)
    offset = batch.task.model.init_qpos[2:]  # the target's joints are measured from where the model has it
    for target, reward in (((0.21, 0.0), 1.0), ((0.21, 0.02), 1.0), ((0.15, 0.1), 0.0), ((0.21, 0.03), 0.0)):
        _, got, _, _, info = at(batch, [0, 0, *target])
        assert got.tolist() == [reward], (target, info["facts"]["distance"], offset)
        assert info["facts"]["success"].tolist() == [bool(reward)]
    wide = gym.make_vec("cairn/SparseReacher-v0", num_envs=1, goal_radius=0.06)
    wide.reset(seed=0)
    assert at(wide, [0, 0, 0.21, 0.05])[1].tolist() == [1.0]


def test_cartpole_balanced_in_the_middle():
    batch = gym.make_vec("cairn/SparseCartPoleSwingUp-v0", num_envs=1)
    _, info = batch.reset(seed=0)
    assert abs(float(info["facts"]["qpos"][0, 1]) - np.pi) < 0.1  # it starts hanging
    states = ((0, 0, 1.0), (0.2, 0.05, 1.0), (0.3, 0, 0.0), (0, 0.15, 0.0), (0, np.pi, 0.0), (0, 2 * np.pi, 1.0))
    for x, angle, reward in states:
        _, got, terminated, _, info = at(batch, [x, angle])
        assert got.tolist() == [reward], (x, angle)
        assert info["facts"]["success"].tolist() == [bool(reward)] and not terminated.any()


def test_acrobot_at_the_top():
    batch = gym.make_vec("cairn/SparseAcrobot-v0", num_envs=1)
    batch.reset(seed=0)
    for shoulder, elbow, reward in ((0, 0, 1.0), (0.05, 0, 1.0), (0.15, 0, 0.0), (np.pi, 0, 0.0), (np.pi, np.pi, 0.0)):
        _, got, _, _, info = at(batch, [shoulder, elbow])
        assert got.tolist() == [reward], (shoulder, elbow)
        data = mujoco.MjData(batch.model)
        batch.engine.give(0, data)
        tip, target = data.site("tip").xpos, data.site("target").xpos
        assert float(info["facts"]["distance"][0]) == pytest.approx(np.linalg.norm(tip - target), abs=1e-9)


def test_goals_of_the_dense_arms_are_facts():
    for task in ("Reacher-v5", "Pusher-v5"):
        batch = gym.make_vec(f"cairn/{task}", num_envs=3)
        _, info = batch.reset(seed=0)
        assert (info["facts"]["distance"] > 0).all() and not info["facts"]["success"].any()
    at(batch, np.zeros(11))  # the object's joints at 0 put it on the goal
    assert batch.observe()[1]["facts"]["success"].tolist() == [True, False, False]


@pytest.mark.parametrize("task", [name for name, _ in SPARSE_TASKS])
def test_random_actions_earn_little(task):
    batch = gym.make_vec(f"cairn/{task}", num_envs=8)
    batch.reset(seed=0)
    paid = sum(float(batch.step(batch.action_space.sample())[1].sum()) for _ in range(150))
    assert paid <= 0.15 * 8 * 150


@pytest.mark.parametrize("task", [name for name, _ in SPARSE_TASKS])
def test_single_environment_passes_gymnasiums_check(task):
    from gymnasium.utils.env_checker import check_env

    env = gym.make(f"cairn/{task}", disable_env_checker=True).unwrapped
    check_env(env, skip_render_check=True)
    _, info = env.reset(seed=0)
    assert bool(info["facts"]["success"]) in (False, True)
