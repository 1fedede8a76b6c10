"""The mazes without gymnasium-robotics: a trace of it, layouts, goals, the forms with one goal, bad input."""

import json
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.check import check_batch_env
from cairn.envs.physics.ids import MAZE_TASKS, SINGLE_MAZE_TASKS
from cairn.envs.physics.layouts import LAYOUTS, Layout
from cairn.envs.physics.model import make_task
from cairn.envs.physics.noise import ActionNoise, ObservationNoise

TRACE = json.loads(Path(__file__).with_name("maze_trace.json").read_text())


@pytest.mark.parametrize("case", TRACE["cases"], ids=lambda case: case["task"])
def test_a_trace_of_gymnasium_robotics(case):
    batch = gym.make_vec(f"cairn/{case['task']}", num_envs=2, **case["kwargs"])
    first, *rows = case["rows"]
    obs, info = batch.reset(seed=case["seed"])

    def same(tree, row):
        for name, array in row["obs"].items():
            np.testing.assert_allclose(tree[name][0].numpy(), array, rtol=1e-9, atol=1e-11)

    same(obs, first)
    assert bool(info["success"][0]) == first["success"]
    moved = 0
    for before, row in zip([first, *rows], rows):
        action = torch.tensor([row["action"]] * 2)
        _, reward, terminated, truncated, info = batch.step(action)
        same(info["final_obs"], row)
        assert float(info["task_reward"][0]) == pytest.approx(row["reward"], rel=1e-9)
        ends = bool(terminated[0]), bool(truncated[0]), bool(info["success"][0])
        assert ends == (row["terminated"], row["truncated"], row["success"])
        moved += row["obs"]["desired_goal"] != before["obs"]["desired_goal"]
    # Goals that move, or an episode that ends and begins anew.
    assert moved >= (2 if "max_episode_steps" in case["kwargs"] and "Point" in case["task"] else 0)
    if "max_episode_steps" in case["kwargs"]:
        assert any(row["truncated"] for row in rows[:-1])


def test_every_id_stands_for_its_layout_and_reward():
    for task, steps in MAZE_TASKS + SINGLE_MAZE_TASKS:
        made = make_task(task, {})
        name = task.split("Maze_", 1)[1].rsplit("-", 1)[0]
        assert made.reward_type == ("dense" if name.endswith("Dense") else "sparse")
        assert made.layout.rows == Layout(name.removesuffix("Dense").removesuffix("_Single"), 1.0).rows
        assert gym.spec(f"cairn/{task}").max_episode_steps == steps
    assert len(MAZE_TASKS) == 40 and len(SINGLE_MAZE_TASKS) == 16


def test_layouts_by_hand():
    maze = Layout("UMaze", 1.0)
    assert maze.rows == [[1] * 5, [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1] * 5]
    assert maze.center((1, 1)).tolist() == [-1, 1] and maze.center((3, 3)).tolist() == [1, -1]
    assert len(maze.goals) == len(maze.starts) == 7 and len(maze.walls) == 18
    assert maze.far_apart() == ((1, 1), (3, 1))
    assert Layout("UMaze", 4.0).center((1, 1)).tolist() == [-4, 4]
    diverse, both = Layout("Medium_Diverse_G", 1.0), Layout("Medium_Diverse_GR", 1.0)
    assert len(diverse.goals) == 3 and diverse.starts.tolist() == [diverse.center((1, 1)).tolist()]
    assert len(both.goals) == len(both.starts) == 4
    only_goals = Layout([[1, 1, 1, 1], [1, "g", 0, 1], [1, 1, 1, 1]], 1.0)
    assert len(only_goals.goals) == 1 and only_goals.starts.tolist() == [only_goals.center((1, 2)).tolist()]
    for name in LAYOUTS:  # a closed border, and every free cell can be reached
        maze = Layout(name, 1.0)
        walls = set(maze.walls)
        assert {(i, j) for i in range(maze.height) for j in (0, maze.width - 1)} <= walls
        start, goal = maze.far_apart()
        assert start != goal and start not in walls and goal not in walls
    assert Layout("Medium", 1.0).far_apart() == ((1, 1), (6, 5))
    assert Layout("Large", 1.0).far_apart() == ((1, 1), (7, 10))


@pytest.mark.parametrize("cells", [
    "Huge", [], [[]], [[1, 1], [1]], [[1, 2, 1]], [[1, "x", 0]], [[1, 1, 1]], [[1, 0, 1]], [[1, "c", 1]],
    [[True, 0, 0]],
])  # fmt: skip
def test_mazes_that_are_none(cells):
    with pytest.raises(ValueError, match="maze_map"):
        gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=1, maze_map=cells)


def test_bad_arguments_and_options():
    for wrong in ({"reward_type": "none"}, {"frame_skip": 0}):
        with pytest.raises(ValueError):
            gym.make_vec("cairn/AntMaze_UMaze-v5", num_envs=1, **wrong)
    for id_, name in (("PointMaze_UMaze-v3", "frame_skip"), ("AntMaze_UMaze-v5", "reset_noise_scale"),
                      ("PointMaze_UMaze_Single-v3", "continuing_task")):  # fmt: skip
        with pytest.raises(TypeError, match=name):
            gym.make_vec(f"cairn/{id_}", num_envs=1, **{name: 1})
    batch = gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=2)
    for cell in ((0, 0), (9, 1), (-1, 1), (1.5, 1.0), 3):
        for option in ("goal_cell", "reset_cell"):
            with pytest.raises(ValueError, match=option):
                batch.reset(seed=0, options={option: cell})
    single = gym.make("cairn/PointMaze_UMaze-v3")
    obs, _ = single.reset(seed=0, options={"goal_cell": (3, 1), "lane": 2})
    assert np.abs(obs["desired_goal"] - [-1, -1]).max() <= 0.25


def reach(batch, lane):
    """Put a lane at its goal."""
    facts = batch.observe()[1]["facts"]
    qpos = facts["qpos"][lane].clone()
    qpos[:2] = facts["goal"][lane]
    batch.set_state([lane], [qpos], [np.zeros(batch.model.nv)])


@pytest.mark.parametrize("id_", ["cairn/PointMaze_UMaze-v3", "cairn/AntMaze_UMaze-v5"])
def test_a_goal_that_is_reached(id_):
    batch = gym.make_vec(id_, num_envs=3, reset_target=True)
    batch.reset(seed=0)
    zero = torch.zeros(3, *batch.single_action_space.shape)
    before = batch.observe()[1]["facts"]["goal"]
    reach(batch, 1)
    obs, reward, terminated, _, info = batch.step(zero)
    assert reward.tolist() == [0, 1, 0] and not terminated.any()
    facts = info["facts"]
    assert facts["success"].tolist() == [False, True, False] and float(facts["distance"][1]) < 0.45
    # Observation, facts and goal are of one moment: the goal moves with the next step.
    assert torch.equal(facts["goal"], before) and torch.equal(obs["desired_goal"], before)
    obs, reward, _, _, info = batch.step(zero)
    changed = (info["facts"]["goal"] != before).any(1)
    assert changed.tolist() == [False, True, False] and not reward.any()
    assert torch.equal(obs["desired_goal"], info["facts"]["goal"])
    # Sparse rewards are 0 or 1, dense ones the exponential.
    dense = gym.make_vec(id_.replace("UMaze", "UMazeDense"), num_envs=3)
    dense.reset(seed=0)
    _, reward, _, _, info = dense.step(zero)
    assert torch.allclose(reward, torch.exp(-info["facts"]["distance"]).float())


def test_what_was_reached_is_in_the_state():
    make = lambda: gym.make_vec("cairn/PointMaze_Open-v3", num_envs=2, reset_target=True)  # noqa: E731
    batch, other = make(), make()
    batch.reset(seed=3)
    zero = torch.zeros(2, 2)
    reach(batch, 0)
    batch.step(zero)
    assert batch.state_dict()["moving"].tolist() == [True, False]
    other.load_state_dict(batch.state_dict())
    for _ in range(5):
        a, b = batch.step(zero), other.step(zero)
        assert torch.equal(a[0]["desired_goal"], b[0]["desired_goal"]) and torch.equal(a[0]["observation"],
                                                                                      b[0]["observation"])  # fmt: skip


def test_a_seed_forgets_the_goal_that_was_reached():
    """A new seed begins a new stream: no goal is drawn from it for the episode before."""
    batch = gym.make_vec("cairn/PointMaze_Open-v3", num_envs=2, reset_target=True)
    fresh = batch.reset(seed=7)[0]
    reach(batch, 0)
    assert batch.step(torch.zeros(2, 2))[1].tolist() == [1, 0]
    again = batch.reset(seed=7)[0]
    single = gym.make("cairn/PointMaze_Open-v3", reset_target=True)
    start, _ = single.reset(seed=7)
    reach(single.unwrapped._batch, 0)
    assert single.step(np.zeros(2))[1] == 1
    restart, _ = single.reset(seed=7)
    for name, array in fresh.items():
        assert torch.equal(again[name], array)
        assert np.array_equal(start[name], restart[name]) and np.array_equal(start[name], array[0].numpy())


def test_a_goal_that_was_reached_is_drawn_before_the_next_start():
    """Upstream draws the next goal with the step that reached the last one, so the start after it is drawn later."""
    batch = gym.make_vec("cairn/PointMaze_Open-v3", num_envs=2, reset_target=True)
    batch.reset(seed=7)
    reach(batch, 0)
    batch.step(torch.zeros(2, 2))
    mine = batch.task
    rng = np.random.Generator(np.random.PCG64(0))
    rng.bit_generator.state = batch._rngs[0].bit_generator.state
    now = batch.engine.now.rows(np.array([0]))
    mine.renew(rng, now)
    (qpos, _), memory = mine.draw(rng, {})
    obs, _ = batch.reset()
    assert np.array_equal(obs["achieved_goal"][0].numpy(), qpos[:2])
    assert np.array_equal(obs["desired_goal"][0].numpy(), memory["goal"])


@pytest.mark.parametrize("id_", ["PointMaze_Open-v3", "AntMaze_UMaze-v5"])
def test_velocities_of_the_point_are_limited_and_contacts_found(id_):
    batch = gym.make_vec(f"cairn/{id_}", num_envs=2)
    batch.reset(seed=0)
    width = batch.single_action_space.shape[0]
    if id_.startswith("Point"):
        batch.set_state([0], [[0.0, 0.0]], [[40.0, 0.0]])
        x = [float(batch.step(torch.zeros(2, width))[4]["facts"]["qpos"][0, 0]) for _ in range(2)]
        assert x[0] == pytest.approx(0.05, rel=0.01)  # 5 m/s for 0.01 s
        for _ in range(150):
            info = batch.step(torch.tensor([[1.0, 0.0]] * 2))[-1]
        wall = batch.touching_names.index(("block_2_6", "particle_geom"))
        assert info["facts"]["touching"][0, wall]
    else:
        for _ in range(150):  # the ant settles on its feet
            info = batch.step(torch.zeros(2, width))[-1]
        assert info["facts"]["feet"].all()
        # At a wall a foot touches no ground.
        ground = {batch.touching_names[p] for row in batch.task.model.foot_pairs for p in row}
        assert {name for pair in ground for name in pair if not name.endswith("ankle_geom")} == {"floor"}


@pytest.mark.parametrize("id_,length", [("PointMaze_UMaze_Single-v3", 4), ("AntMaze_UMaze_SingleDense-v5", 107)])
def test_one_goal(id_, length):
    batch = gym.make_vec(f"cairn/{id_}", num_envs=64)
    obs, info = batch.reset(seed=0)
    assert obs.shape == (64, length) and torch.equal(obs[:, :2], info["facts"]["qpos"][:, :2])
    side = batch.task.side
    assert torch.equal(info["facts"]["goal"], torch.tensor([[-side, -side]] * 64, dtype=torch.float64))
    offset = obs[:, :2] - torch.tensor([-side, side])
    assert (offset.abs() <= 0.25 * side).all() and offset.std() > 0.1 * side
    reach(batch, 5)
    before = batch.observe()[1]["facts"]["goal"]
    _, reward, terminated, _, info = batch.step(torch.zeros(64, *batch.single_action_space.shape))
    assert terminated.nonzero()[:, 0].tolist() == [5] and info["final_facts"]["success"][5]
    assert float(reward[5]) > 0.6 and not info["facts"]["success"].any()
    assert torch.equal(info["facts"]["goal"], before)
    _, info = batch.reset(seed=0, options={"goal_cell": (2, 3), "reset_cell": (3, 3)})
    assert torch.equal(info["facts"]["goal"][0], torch.tensor([side, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("make", [
    lambda n: gym.make_vec("cairn/PointMaze_Large_Diverse_GRDense-v3", num_envs=n, max_episode_steps=7),
    lambda n: gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=n, max_episode_steps=7, reset_target=True),
    lambda n: gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=n, dynamics={"mass": (0.5, 2.0)}),
    lambda n: ObservationNoise(gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=n, max_episode_steps=7), 0.1),
    lambda n: ObservationNoise(gym.make_vec("cairn/AntMaze_UMaze_Single-v5", num_envs=n, max_episode_steps=7), 0.1),
    lambda n: ActionNoise(gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=n, max_episode_steps=7), 0.1),
])  # fmt: skip
def test_keeps_the_contract(make):
    check_batch_env(make)


def test_noise_on_the_parts_that_are_sensed():
    make = lambda: gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=200, max_episode_steps=3)  # noqa: E731
    plain = make()
    for scale, silent in ((0.1, {"desired_goal"}), ({"achieved_goal": 0.1}, {"desired_goal", "observation"})):
        noisy = ObservationNoise(make(), scale)
        a, b = noisy.reset(seed=0)[0], plain.reset(seed=0)[0]
        for _ in range(5):
            for name in b:
                error = a[name] - b[name]
                assert not error.any() if name in silent else 0.09 < float(error.std()) < 0.11
            zero = torch.zeros(200, 2)
            a, b = noisy.step(zero)[0], plain.step(zero)[0]
    with pytest.raises(ValueError, match="goal"):
        ObservationNoise(make(), {"goal": 0.1})


def test_the_marker_is_where_the_goal_is():
    batch = gym.make_vec("cairn/AntMaze_UMaze-v5", num_envs=2, dynamics={"mass": (0.5, 2.0)})
    batch.reset(seed=0)

    for lane in (0, 1):
        data = mujoco.MjData(batch.model)
        batch.show(lane, SimpleNamespace(data=data))  # a painter without a picture
        goal = batch.observe()[1]["facts"]["goal"][lane]
        assert np.array_equal(data.site("target").xpos[:2], goal.numpy())


def test_hindsight_replay_of_sb3_takes_it():
    from stable_baselines3 import SAC, HerReplayBuffer

    env = gym.make("cairn/PointMaze_UMaze-v3", max_episode_steps=20)
    small = {"replay_buffer_class": HerReplayBuffer, "learning_starts": 40, "batch_size": 16, "buffer_size": 100}
    model = SAC("MultiInputPolicy", env, policy_kwargs={"net_arch": [8]}, device="cpu", seed=0, **small)
    model.learn(45)
    assert model.num_timesteps == 45
