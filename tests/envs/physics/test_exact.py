"""The batch against Gymnasium's v5 classes: every number of 1,000 steps has the same bits."""

import inspect
import os
from importlib import import_module

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.batch import lane_seed
from cairn.envs.physics.ids import PHYSICS_IDS, TASKS, V5_TASKS
from cairn.envs.physics.model import RENDER_ARGUMENTS, make_task
from cairn.envs.physics.task import Task
from cairn.envs.spaces import tree_leaves, tree_map

STEPS = 1000
# Each lane has a seed of its own. CAIRN_SEEDS=20 is the long form, a few minutes on one core.
SEEDS = int(os.environ.get("CAIRN_SEEDS", "2"))
OURS = {"task_reward", "final_obs", "_final_obs", "facts", "final_facts"}


def same(batch, single, where):
    """Equal bits, both widened to float64: some of upstream's numbers are ints or float32."""
    a, b = np.asarray(batch, np.float64), np.asarray(single, np.float64)
    assert a.shape == b.shape, where
    assert a.tobytes() == b.tobytes(), (where, a, b)


def compare(task, steps, seed, scale=1.0, lanes=2, **kwargs):
    """Step a batch and upstream's environments side by side."""
    batch = gym.make_vec(f"cairn/{task}", num_envs=lanes, threads=2, **kwargs)
    singles = [gym.make(task, **kwargs) for _ in range(lanes)]
    obs, info = batch.reset(seed=seed)
    for i, env in enumerate(singles):
        first, start = env.reset(seed=lane_seed(seed, i))
        same(obs[i], first, "first observation")
        for name, value in start.items():
            same(info[name][i], value, name)
    space, rng, ends = batch.single_action_space, np.random.default_rng(seed), 0
    for t in range(steps):
        action = (scale * rng.uniform(space.low, space.high, (lanes, *space.shape))).astype(np.float32)
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(action))
        for i, env in enumerate(singles):
            last, r, term, trunc, up = env.step(action[i])
            data = env.unwrapped.data
            same(info["final_obs"][i], last, (t, "observation"))
            assert info["task_reward"].dtype == obs.dtype == torch.float64
            same(info["task_reward"][i], r, (t, "reward"))
            same(reward[i], np.float32(r), (t, "float32 reward"))
            assert (bool(terminated[i]), bool(truncated[i])) == (term, trunc), t
            assert set(up) == set(info) - OURS
            for name, value in up.items():
                same(info[name][i], value, (t, name))
            for name in ("qpos", "qvel", "xpos"):
                same(info["final_facts"][name][i], getattr(data, name), (t, name))
            if term or trunc:
                ends += 1
                last, _ = env.reset()
            same(obs[i], last, (t, "observation after reset"))
    batch.close()
    return ends


@pytest.mark.parametrize("task", [name for name, _ in V5_TASKS])
def test_equals_upstream(task):
    # Full actions throw a pendulum over in a few steps, which would test resets alone.
    scale = 0.1 if task.startswith("Inverted") else 1.0
    ends = compare(task, STEPS, 0, scale, SEEDS)
    assert ends >= SEEDS  # at the least the time limit, in every lane


ARGUMENTS = {
    "Ant-v5": {
        "main_body": "torso",
        "contact_force_range": (-0.5, 2.0),
        "contact_cost_weight": 0.1,
        "healthy_z_range": (0.4, 0.9),
        "include_cfrc_ext_in_observation": False,
        "forward_reward_weight": 2.5,
        "frame_skip": 3,
    },
    "HalfCheetah-v5": {"exclude_current_positions_from_observation": False, "reset_noise_scale": 0.5, "frame_skip": 2},
    "Hopper-v5": {
        "healthy_angle_range": (-0.1, 0.1),
        "healthy_state_range": (-5.0, 5.0),
        "healthy_reward": 0.3,
        "exclude_current_positions_from_observation": False,
    },
    "Humanoid-v5": {
        "contact_cost_weight": 1e-3,
        "contact_cost_range": (0.1, 0.5),
        "include_cinert_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "terminate_when_unhealthy": False,
    },
    "HumanoidStandup-v5": {"impact_cost_weight": 1e-2, "include_cvel_in_observation": False, "ctrl_cost_weight": 0.7},
    "InvertedDoublePendulum-v5": {"healthy_reward": 3.0, "reset_noise_scale": 0.2},
    "InvertedPendulum-v5": {"reset_noise_scale": 0.15},
    "Pusher-v5": {"reward_near_weight": 0.1, "reward_dist_weight": 3.0, "reward_control_weight": 0.7},
    "Reacher-v5": {"reward_dist_weight": 0.3, "reward_control_weight": 2.0},
    "Swimmer-v5": {"exclude_current_positions_from_observation": False, "forward_reward_weight": -1.0},
    "Walker2d-v5": {"terminate_when_unhealthy": False, "healthy_reward": 0.1, "healthy_z_range": (1.0, 1.3)},
}


@pytest.mark.parametrize("task", [name for name, _ in V5_TASKS])
def test_arguments_do_what_upstreams_do(task):
    compare(task, 60, 3, max_episode_steps=45, **ARGUMENTS[task])


@pytest.mark.parametrize("task", [name for name, _ in V5_TASKS])
def test_takes_upstreams_arguments_with_upstreams_defaults(task):
    module, _, name = str(gym.registry[task].entry_point).partition(":")
    upstream = inspect.signature(getattr(import_module(module), name)).parameters
    theirs = {n: p.default for n, p in upstream.items() if n not in (*RENDER_ARGUMENTS, "kwargs")}
    assert type(make_task(task, {})).arguments() == theirs


def test_ids_are_upstreams_with_a_prefix():
    assert dict(V5_TASKS) == {
        spec.id: spec.max_episode_steps
        for spec in gym.registry.values()
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.id.endswith("-v5")
    }
    assert {row[0] for row in PHYSICS_IDS} == {f"cairn/{task}" for task in TASKS}
    for id_, entry_point, vector_entry_point, kwargs, steps in PHYSICS_IDS:
        spec = gym.spec(id_)
        assert (spec.entry_point, spec.vector_entry_point) == (entry_point, vector_entry_point)
        assert (spec.kwargs, spec.max_episode_steps) == (kwargs, steps)
        assert issubclass(type(make_task(kwargs["task"], {})), Task)


MAZES = {"PointMaze_UMaze-v3", "PointMaze_Large_SingleDense-v3", "AntMaze_UMaze-v5", "AntMaze_Medium_Single-v5"}


@pytest.mark.parametrize("id_", [row[0] for row in PHYSICS_IDS if "Maze" not in row[0] or row[3]["task"] in MAZES])
def test_a_lane_is_the_single_environment(id_):
    lanes = 3
    batch = gym.make_vec(id_, num_envs=lanes, max_episode_steps=9)
    single = gym.make(id_, max_episode_steps=9)
    assert batch.single_observation_space == single.observation_space
    assert batch.single_action_space == single.action_space
    obs, _ = batch.reset(seed=5)
    rng = np.random.default_rng(0)
    actions = rng.uniform(batch.action_space.low, batch.action_space.high, (25, *batch.action_space.shape))
    rows = []
    for action in actions.astype(np.float32):
        obs, reward, terminated, truncated, info = batch.step(action)
        obs = tree_map(torch.clone, obs)
        rows.append((obs, info["task_reward"].numpy(), terminated.numpy(), truncated.numpy()))
    lane = 1
    single.reset(seed=5, options={"lane": lane})
    for action, (obs, reward, terminated, truncated) in zip(actions.astype(np.float32), rows):
        last, r, term, trunc, _ = single.step(action[lane])
        if term or trunc:
            last, _ = single.reset()
        for ours, theirs in zip(tree_leaves(obs), tree_leaves(last)):
            same(ours[lane], theirs, id_)
        assert (reward[lane], terminated[lane], truncated[lane]) == (r, term, trunc)


def test_single_is_upstreams_class():
    from gymnasium.envs.mujoco.ant_v5 import AntEnv

    env = gym.make("cairn/Ant-v5")
    assert isinstance(env.unwrapped, AntEnv)
    with pytest.raises(ValueError, match="seed"):
        env.reset(options={"lane": 1})
    with pytest.raises(ValueError, match="lane"):
        env.reset(seed=0, options={"lane": -1})


def test_touching_is_mujocos_contact_list():
    for task in ("Ant-v5", "Humanoid-v5", "Hopper-v5", "Pusher-v5"):
        batch, single = gym.make_vec(f"cairn/{task}", num_envs=3, threads=1), gym.make(task)
        batch.reset(seed=0)
        single.reset(seed=lane_seed(0, 2))
        pairs, seen = batch.touching_pairs.tolist(), 0
        for _ in range(60):
            action = batch.action_space.sample()
            info = batch.step(action)[-1]
            ended = single.step(action[2])[2]
            listed = {tuple(sorted(g)) for g in single.unwrapped.data.contact.geom.tolist()}
            touching = info["final_facts"]["touching"][2].nonzero()[:, 0].tolist()
            assert {tuple(pairs[p]) for p in touching} == listed
            seen += len(listed)
            if ended:
                single.reset()
        assert seen, task


def test_feet_are_on_the_ground():
    batch = gym.make_vec("cairn/Ant-v5", num_envs=2)
    _, info = batch.reset(seed=0)
    assert not info["facts"]["feet"].any()  # it starts in the air
    for _ in range(150):  # the legs bend under it
        info = batch.step(torch.zeros(2, 8))[-1]
    assert info["facts"]["feet"].shape == (2, 4)
    assert info["facts"]["feet"].all()
    names = [batch.touching_names[p] for p in info["facts"]["touching"][0].nonzero()[:, 0].tolist()]
    assert ("floor", "left_ankle_geom") in names


@pytest.mark.parametrize("task", ["Ant-v5", "Humanoid-v5", "Hopper-v5", "Walker2d-v5"])
def test_health_has_upstreams_borders(task):
    env, batch = gym.make(task).unwrapped, gym.make_vec(f"cairn/{task}", num_envs=1)
    env.reset(seed=0)
    z = 1 if task in ("Hopper-v5", "Walker2d-v5") else 2
    borders = [(z, env._healthy_z_range)]
    if z == 1:
        borders.append((2, env._healthy_angle_range))
    standing, seen = env.data.qpos.copy(), set()
    for index, limits in borders:
        for limit in limits:
            for value in (limit, np.nextafter(limit, -np.inf), np.nextafter(limit, np.inf)):
                env.data.qpos[:] = standing
                env.data.qpos[index] = value
                now = batch.engine.now
                now.qpos[0], now.qvel[0] = env.data.qpos, env.data.qvel
                terminated = batch.task.outcome(now, np.zeros((1, batch.model.nu), np.float32), now).terminated
                assert bool(terminated[0]) == (not env.is_healthy), (index, value)
                seen.add(bool(env.is_healthy))
    assert seen == {False, True}
