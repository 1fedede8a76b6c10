"""Shortest solutions: against distances by hand, against a plain search over upstream's own environments, replayed."""

from collections import deque
from copy import deepcopy

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.grid import planner
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.planner import shortest_plans


def batch(name, lanes=4, seed=0, **kwargs):
    made = GridBatch(name, lanes, **kwargs)
    made.reset(seed=seed)
    return made


def test_an_empty_room_by_hand():
    """From (1, 1) facing right to (6, 6): five steps, a turn, five steps."""
    plans = shortest_plans(batch("MiniGrid-Empty-8x8-v0", 2))
    assert [len(plan) for plan in plans] == [11, 11]
    assert sorted(plans[0]) == [1] + [2] * 10


def search(env):
    """The least number of steps to success over copies of upstream's own environment."""
    start = env.unwrapped
    queue, seen = deque([(start, 0)]), {start.hash(64)}
    while queue:
        here, depth = queue.popleft()
        for action in range(7):
            then = deepcopy(here)
            _, reward, ended, _, _ = then.step(action)
            if ended and reward > 0:
                return depth + 1
            # Upstream's hash leaves out what is carried.
            key = then.hash(64) + repr((then.carrying and (then.carrying.type, then.carrying.color), then.agent_pos))
            if not ended and key not in seen:
                seen.add(key)
                queue.append((then, depth + 1))
    return None


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-LavaGapS5-v0", "MiniGrid-GoToDoor-5x5-v0"])
def test_as_short_as_a_plain_search_of_upstream(name):
    plans = shortest_plans(batch(name, 3, seed=5))
    for lane, plan in enumerate(plans):
        env = gym.make(f"cairn/{name}")
        env.reset(seed=5, options={"lane": lane})
        assert len(plan) == search(env)


@pytest.mark.parametrize(
    "name", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-KeyCorridorS3R3-v0", "MiniGrid-MultiRoom-N4-S5-v0",
             "MiniGrid-Dynamic-Obstacles-6x6-v0", "MiniGrid-ObstructedMaze-1Dlh-v0", "MiniGrid-PutNear-6x6-N2-v0"]
)  # fmt: skip
def test_a_plan_succeeds_at_its_last_step_and_the_batch_is_left_alone(name):
    env = batch(name, 4, seed=1)
    before = env.state_dict()["lanes"]
    plans = shortest_plans(env)
    assert all(torch.equal(before[part], env.state_dict()["lanes"][part]) for part in before)
    assert all(plans)
    for t in range(max(map(len, plans))):
        _, _, terminated, _, info = env.step([plan[t] if t < len(plan) else 0 for plan in plans])
        for lane, plan in enumerate(plans):
            if t < len(plan):
                assert bool(terminated[lane]) == (t == len(plan) - 1)
                assert not terminated[lane] or info["final_facts"]["success"][lane]


def test_some_lanes_from_where_they_stand():
    env = batch("MiniGrid-DoorKey-6x6-v0", 3)
    (whole,) = shortest_plans(env, 1)
    env.step([0, whole[0], 0])
    assert len(shortest_plans(env, [1])[0]) == len(whole) - 1


def test_what_cannot_be_solved_in_the_budget_or_in_time_has_no_plan():
    assert shortest_plans(batch("MiniGrid-DoorKey-8x8-v0", 2), max_states=20) == [None, None]
    assert shortest_plans(batch("MiniGrid-Empty-8x8-v0", 2, max_episode_steps=10)) == [None, None]
    # Without the action that opens it, a door stays shut.
    assert shortest_plans(batch("MiniGrid-DoorKey-5x5-v0", 1), actions=[0, 1, 2, 3, 4]) == [None]


def test_a_frontier_wider_than_the_widest_engine_is_stepped_in_parts(monkeypatch):
    env = batch("MiniGrid-DoorKey-6x6-v0", 3, seed=5)
    lengths = [len(plan) for plan in shortest_plans(env)]
    monkeypatch.setattr(planner, "SIZES", (4, 16))
    assert [len(plan) for plan in shortest_plans(env)] == lengths  # of equal ones it may take another
