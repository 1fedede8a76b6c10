"""The mazes against gymnasium-robotics: every number of 1,000 steps has the same bits."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.batch import lane_seed
from cairn.envs.physics.ids import MAZE_TASKS

robotics = pytest.importorskip("gymnasium_robotics", reason="pip install cairn-rl[bench]")

POINTS = [task for task, _ in MAZE_TASKS if task.startswith("Point")]
STEPS = 1000
EXACT = ("PointMaze_UMaze-v3", "PointMaze_Medium_Diverse_GRDense-v3", "AntMaze_UMazeDense-v5", "AntMaze_Medium-v5")
OURS = {"task_reward", "final_obs", "_final_obs", "facts", "final_facts"}


@pytest.fixture(autouse=True, scope="module")
def upstream():
    gym.register_envs(robotics)


def same(ours, theirs, where):
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape and a.tobytes() == b.tobytes(), (where, a, b)


def same_obs(batch, lane, single, where):
    assert set(batch) == set(single)
    for name, array in single.items():
        same(batch[name][lane], array, (where, name))


def compare(task, steps, seed, lanes=2, towards=0.0, options=None, **kwargs):
    """Step a batch and upstream's environments side by side; count ends, moved goals, steps at a goal, ends there."""
    batch = gym.make_vec(f"cairn/{task}", num_envs=lanes, threads=2, **kwargs)
    singles = [gym.make(task, **kwargs) for _ in range(lanes)]
    obs, info = batch.reset(seed=seed, options=options)
    for i, env in enumerate(singles):
        first, start = env.reset(seed=lane_seed(seed, i), options=options)
        same_obs(obs, i, first, "first observation")
        assert set(start) == set(info) - {"facts"}
        for name, value in start.items():
            same(info[name][i], value, name)
    space, rng = batch.single_action_space, np.random.default_rng(seed)
    ends = moved = at_goal = both = 0
    for t in range(steps):
        action = rng.uniform(space.low, space.high, (lanes, *space.shape))
        if towards:  # a force that pulls the point to its goal, so that goals are reached
            pull = np.clip(4 * (obs["desired_goal"] - obs["achieved_goal"]).numpy(), -1, 1)
            action = towards * pull + (1 - towards) * action
        action = action.astype(np.float32)
        goal = obs["desired_goal"].clone()
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(action))
        for i, env in enumerate(singles):
            last, r, term, trunc, up = env.step(action[i])
            same_obs(info["final_obs"], i, last, t)
            same(info["task_reward"][i], r, (t, "reward"))
            assert (bool(terminated[i]), bool(truncated[i])) == (term, trunc), t
            assert set(up) == set(info) - OURS
            for name, value in up.items():
                same(info[name][i], value, (t, name))
            assert bool(info["final_facts"]["success"][i]) == up["success"]
            same(info["final_facts"]["goal"][i], last["desired_goal"], (t, "goal"))
            same(info["final_facts"]["qpos"][i], env.unwrapped.data.qpos, (t, "qpos"))
            at_goal += up["success"]
            if term or trunc:
                ends, both = ends + 1, both + up["success"]
                last, _ = env.reset()
            same_obs(obs, i, last, (t, "after reset"))
            moved += not term and not trunc and not np.array_equal(goal[i], last["desired_goal"])
    batch.close()
    return ends, moved, at_goal, both


@pytest.mark.parametrize("task", EXACT)
def test_equals_upstream(task):
    ends, _, at_goal, _ = compare(task, STEPS, 0, towards=0.7 if task.startswith("Point") else 0.0)
    assert ends >= 2 and (at_goal > 10 or task.startswith("Ant"))


@pytest.mark.parametrize("task", [name for name, _ in MAZE_TASKS])
def test_every_id_equals_upstream(task):
    assert gym.spec(f"cairn/{task}").max_episode_steps == gym.spec(task).max_episode_steps
    compare(task, 40 if task.startswith("Point") else 8, 1, lanes=1, towards=0.5 if task in POINTS else 0.0)


@pytest.mark.parametrize("kwargs", [
    {"reset_target": True},
    {"continuing_task": False},
    {"maze_map": [[1, 1, 1, 1], [1, "c", "c", 1], [1, 1, 1, 1]], "reset_target": True, "max_episode_steps": 14},
    {"maze_map": [[1, 1, 1, 1, 1], [1, "g", 0, "r", 1], [1, "c", 1, 0, 1], [1, 1, 1, 1, 1]], "reset_target": True},
    {"maze_map": [[1, 1, 1, 1], [1, "g", 0, 1], [1, 1, 1, 1]], "reset_target": True},
])  # fmt: skip
def test_goals_that_move_and_episodes_that_end(kwargs):
    ends, moved, at_goal, both = compare("PointMaze_Open-v3", 600, 4, lanes=3, towards=0.9, **kwargs)
    assert at_goal > 5
    if "max_episode_steps" in kwargs:  # goals that move in the very step that ends the episode
        assert both > 3
    if "max_episode_steps" not in kwargs and ("maze_map" not in kwargs or len(kwargs["maze_map"]) > 3):
        assert (moved > 3) == ("reset_target" in kwargs)
    assert (ends > 20) == ("continuing_task" in kwargs or "max_episode_steps" in kwargs)


def test_the_ants_arguments_and_moving_goals():
    # Cells of 4 m and a radius of 0.45 m: the ant is put at the goal to reach it.
    batch, single = gym.make_vec("cairn/AntMaze_Open-v5", num_envs=1, reset_target=True, frame_skip=3), None
    single = gym.make("AntMaze_Open-v5", reset_target=True, frame_skip=3)
    batch.reset(seed=2)
    single.reset(seed=lane_seed(2, 0))
    for t in range(12):
        if t % 4 == 3:
            qpos = single.unwrapped.data.qpos.copy()
            qpos[:2] = single.unwrapped.goal
            single.unwrapped.ant_env.set_state(qpos, single.unwrapped.data.qvel)
            batch.import_env(0, single)
        action = batch.action_space.sample()
        obs, reward, _, _, info = batch.step(action)
        last, r, _, _, up = single.step(action[0])
        same_obs(obs, 0, last, t)
        assert float(info["task_reward"][0]) == r and bool(info["success"][0]) == up["success"] == (t % 4 == 3)
    compare("AntMaze_Medium-v5", 20, 3, include_cfrc_ext_in_observation=False, ctrl_cost_weight=0.1)


def test_chosen_cells():
    options = {"goal_cell": np.array([3, 1]), "reset_cell": np.array([1, 2])}
    compare("PointMaze_UMaze-v3", 5, 3, options=options)
    compare("AntMaze_UMaze-v5", 5, 3, options={"reset_cell": np.array([3, 3])})
    batch = gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=3)
    rows = np.array([[3, 1], [1, 1], [3, 3]])
    obs, _ = batch.reset(seed=0, options={"goal_cell": rows})
    centers = np.array([batch.task.layout.center(row) for row in rows])
    assert np.abs(obs["desired_goal"].numpy() - centers).max() <= 0.25


@pytest.mark.parametrize("task", ["PointMaze_Large-v3", "AntMaze_Open_Diverse_G-v5"])
def test_models_are_numerically_upstreams(task):
    ours, theirs = gym.make_vec(f"cairn/{task}", num_envs=1).model, gym.make(task).unwrapped.model
    seen = 0
    for name in dir(theirs):
        if name.startswith(("_", "names", "name_", "tex", "mat", "ntex", "nmat", "nnames", "vis", "paths", "npaths")):
            continue
        a, b = getattr(ours, name), getattr(theirs, name)
        if not isinstance(b, int | float | np.ndarray) or name.endswith(("rgba", "matid", "texid", "nbuffer")):
            continue
        if name.startswith(("nname", "narena", "nbuf", "signature", "nJ")):
            continue
        assert np.array_equal(a, b), name
        seen += 1
    assert seen > 200
    for field in ("timestep", "integrator", "iterations", "solver", "gravity", "cone", "disableflags", "tolerance"):
        assert np.array_equal(getattr(ours.opt, field), getattr(theirs.opt, field)), field
    kinds = mujoco.mjtObj
    for kind, count in ((kinds.mjOBJ_BODY, ours.nbody), (kinds.mjOBJ_GEOM, ours.ngeom), (kinds.mjOBJ_SITE, ours.nsite)):
        assert [mujoco.mj_id2name(ours, kind, i) for i in range(count)] == [
            mujoco.mj_id2name(theirs, kind, i) for i in range(count)
        ]


@pytest.mark.parametrize("task", ["PointMaze_Open-v3", "AntMaze_UMaze-v5"])
def test_a_live_environment_goes_in_and_out(task):
    single, batch = gym.make(task, reset_target=True), gym.make_vec(f"cairn/{task}", num_envs=2, reset_target=True)
    single.reset(seed=5)
    batch.reset(seed=0)
    rng = np.random.default_rng(0)

    def action(obs):
        if task.startswith("Ant"):
            return rng.uniform(-1, 1, 8).astype(np.float32)
        return np.clip(5 * (obs["desired_goal"] - obs["achieved_goal"]), -1, 1).astype(np.float32)

    obs = single.unwrapped._get_obs(single.step(single.action_space.sample())[0]["observation"])
    for _ in range(30):
        obs = single.step(action(obs))[0]
    batch.import_env(1, single)
    for _ in range(60):
        a = action(obs)
        info = batch.step(np.stack([a, a]))[-1]
        obs, r, _, _, _ = single.step(a)
        same_obs(info["final_obs"], 1, obs, "import")
    fresh = gym.make(task, reset_target=True)
    fresh.reset()
    batch.export_env(1, fresh)
    for _ in range(60):
        a = action(obs)
        other = fresh.step(a)
        obs, r, term, trunc, _ = single.step(a)
        for name, array in obs.items():
            same(other[0][name], array, "export")
        assert other[1:4] == (r, term, trunc)


def test_relabelled_goals_are_paid_as_upstream():
    rng = np.random.default_rng(0)
    achieved, desired = rng.normal(size=(2, 500, 2))
    for task in ("PointMaze_UMaze-v3", "PointMaze_UMazeDense-v3"):
        ours, theirs = gym.make(f"cairn/{task}").unwrapped, gym.make(task).unwrapped
        same(ours.compute_reward(achieved, desired, {}), theirs.compute_reward(achieved, desired, {}), task)
        for a, b in zip(achieved[:100], desired):
            same(ours.compute_reward(a, b, {}), theirs.compute_reward(a, b, {}), task)
            assert ours.compute_terminated(a, b, {}) == theirs.compute_terminated(a, b, {})
            assert not ours.compute_truncated(a, b, {})
