"""Words as Beacons: plans by hand, what is shown, what is reached, what is paid."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import cairn  # noqa: F401
from cairn.agents import PPO
from cairn.envs import check_batch_env
from cairn.envs.grid import layout as L
from cairn.envs.spaces import tree_map
from cairn.shaping import RolloutSeat, Stretch, SubgoalBonus, SubgoalEnv, Task, World
from cairn.shaping.language import Answer, AskedPlanner, OraclePlanner, Question
from cairn.shaping.language.beacons import words
from cairn.shaping.language.subgoals import GO, MOST, OPEN, TAKE, agreement, distances, draw, plan_of, route, sentence


def level(*lines: str) -> Tensor:
    """A level drawn in letters: # wall, . floor, K red key, L locked red door, D closed blue door, B blue ball ..."""
    cells = {
        "#": L.WALL_CELL, ".": L.EMPTY_CELL, "K": L.pack(L.KEY, L.RED), "L": L.pack(L.DOOR, L.RED, L.LOCKED),
        "D": L.pack(L.DOOR, L.BLUE, L.CLOSED), "d": L.pack(L.DOOR, L.GREEN, L.CLOSED), "B": L.pack(L.BALL, L.BLUE),
        "G": L.GOAL_CELL, "X": L.pack(L.BOX, L.GREY, contents=L.pack(L.KEY, L.RED)), "Y": L.pack(L.KEY, L.YELLOW),
    }  # fmt: skip
    return torch.tensor([cells[c] for line in lines for c in line], dtype=torch.int16)


def planned(cells: Tensor, width: int, place: tuple[int, int], mission: str) -> list[list[int]]:
    plan = route(cells[None], width, torch.tensor([place]), [mission])[0]
    return [step for step in plan.tolist() if step[0]]


def test_routes_by_hand() -> None:
    key = level("#####", "#YK.#", "###L#", "#B..#", "#####")
    ball = [TAKE, L.BALL, L.BLUE, 1, 3]
    assert planned(key, 5, (3, 1), "pick up the blue ball") == [
        [TAKE, L.KEY, L.RED, 2, 1], [OPEN, L.DOOR, L.RED, 3, 2], ball,
    ]  # fmt: skip
    box = level("#####", "#.X.#", "###L#", "#B..#", "#####")
    assert planned(box, 5, (3, 1), "pick up the blue ball") == [
        [OPEN, L.BOX, L.GREY, 2, 1], [TAKE, L.KEY, L.RED, 2, 1], [OPEN, L.DOOR, L.RED, 3, 2], ball,
    ]  # fmt: skip
    doors = level("#######", "#.D.d.#", "#####.#", "#...dG#", "#######")
    assert planned(doors, 7, (3, 1), "traverse the rooms to get to the goal") == [
        [OPEN, L.DOOR, L.BLUE, 2, 1], [OPEN, L.DOOR, L.GREEN, 4, 1], [OPEN, L.DOOR, L.GREEN, 4, 3],
        [GO, L.GOAL, L.GREEN, 5, 3],
    ]  # fmt: skip
    away = distances(doors[None] != L.WALL_CELL, 7, torch.tensor([[1, 1]]))[0].reshape(5, 7)
    assert away[1].tolist() == [-1, 0, 1, 2, 3, 4, -1] and away[3].tolist() == [-1, 10, 9, 8, 7, 6, -1]
    assert planned(level("####", "#..#", "####"), 4, (1, 1), "pick up the red ball") == []


@pytest.mark.parametrize(("name", "verbs"), [
    ("KeyCorridorS3R3-v0", [TAKE, OPEN, TAKE]), ("MultiRoom-N4-S5-v1", [OPEN] * 3 + [GO]),
    ("ObstructedMaze-1Dlh-v0", [OPEN, TAKE, OPEN, TAKE]),
])  # fmt: skip
def test_routes_of_real_levels(name: str, verbs: list[int]) -> None:
    env = SubgoalEnv(gym.make_vec(f"cairn/MiniGrid-{name}", num_envs=40, device="cpu"))
    env.reset(seed=0)
    assert bool((env.plans[:, : len(verbs), 0] == torch.tensor(verbs)).all()) and not env.plans[:, len(verbs) :].any()
    if name.startswith("Key"):
        assert torch.equal(env.plans[:, 0, 2], env.plans[:, 1, 2])  # the key fits the door


def test_the_dial() -> None:
    env: Any = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R3-v0", num_envs=600, device="cpu")
    facts = env.reset(seed=0)[1]["facts"]
    about = facts["cells"], env.width, facts["position"], env.missions()
    right = route(*about)
    for accuracy in (0.0, 0.6, 1.0):
        plans = OraclePlanner(accuracy, seed=3).plan(*about)
        shares = agreement(plans, right)
        assert shares["object"] == pytest.approx(accuracy, abs=0.04) == shares["position"]
        assert torch.equal(plans, OraclePlanner(accuracy, seed=3).plan(*about))
    assert not torch.equal(OraclePlanner(0.6, seed=4).plan(*about), OraclePlanner(0.6, seed=3).plan(*about))


def act(env: SubgoalEnv, actions: list[int]) -> list[tuple[Any, float, dict[str, Tensor], dict[str, Any]]]:
    """Observation, reward, facts and info of each step, copied: a batch uses its tensors again."""
    steps = []
    for action in actions:
        obs, reward, _, _, info = env.step(torch.tensor([action]))
        obs, info = tree_map(torch.clone, obs), tree_map(torch.clone, {k: v for k, v in info.items()})
        steps.append((obs, float(reward), info["facts"], info))
    return steps


def door_key(form: str) -> tuple[SubgoalEnv, Any, list[int]]:
    """A DoorKey-5x5 level, its first observation, and the shortest way through it by blind search."""
    env = SubgoalEnv(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=1, device="cpu"), form=form)
    obs, _ = env.reset(seed=1)
    start = env.state_dict()
    frontier: list[tuple[list[int], Any]] = [([], start)]
    seen = set()
    for path, state in frontier:
        for action in (L.LEFT, L.RIGHT, L.FORWARD, L.PICKUP, L.TOGGLE):
            env.load_state_dict(state)
            _, reward, _, _, info = env.step(torch.tensor([action]))
            if float(reward) > 0:
                env.load_state_dict(start)
                return env, obs, [*path, action]
            facts = info["facts"]
            name = tuple(
                torch.cat([facts[k].flatten().long() for k in ("cells", "position", "direction", "carrying")]).tolist()
            )
            if name not in seen:
                seen.add(name)
                frontier.append(([*path, action], env.state_dict()))
    raise AssertionError("no way through")


@pytest.mark.parametrize("form", ["object", "position", "language"])
def test_a_level_is_walked_through(form: str) -> None:
    env, obs, actions = door_key(form)
    plan = env.plans[0].clone()
    assert plan[:4, 0].tolist() == [TAKE, OPEN, GO, 0]
    steps = act(env, actions)
    reached = [int(f["subgoal_reached"]) for _, _, f, _ in steps[:-1]]
    last = steps[-1][3]
    assert [r for r in reached if r] == [1, 2] and int(last["final_facts"]["subgoal_reached"]) == 3
    assert int(steps[-1][2]["subgoal_reached"]) == 0 and int(steps[-1][2]["subgoal"]) == 0  # a new episode
    at = reached.index(1)
    shown = [obs["subgoal"][0], steps[at][0]["subgoal"][0], last["final_obs"]["subgoal"][0]]
    if form == "position":
        place = steps[at][2]["position"][0]
        assert torch.equal(shown[1], plan[1, 3:] - place + 5)
    elif form == "object":
        assert shown[0].tolist() == [TAKE, L.KEY, int(plan[0, 2])]
    else:
        assert torch.equal(shown[0], words(sentence(*plan[0, :3].tolist())))
    assert not shown[2].any()  # the plan is done
    assert all(part in env.single_observation_space["subgoal"] for part in np.stack([v.numpy() for v in shown]))
    env.load_state_dict(env.state_dict())
    assert env.observation_space["subgoal"].shape[0] == 1


def test_a_subgoal_that_cannot_be_reached_is_passed_over() -> None:
    env, _, actions = door_key("object")
    env.plans[0, 0, 2] = (env.plans[0, 0, 2] + 1) % 6  # a key that is not there
    reached = [int(f["subgoal_reached"]) for _, _, f, _ in act(env, actions)[:-1]]
    assert [r for r in reached if r] == [2]


@pytest.mark.parametrize("form", ["position", "object"])
def test_a_key_that_comes_out_of_its_box_is_not_yet_taken(form: str) -> None:
    env = SubgoalEnv(gym.make_vec("cairn/MiniGrid-ObstructedMaze-1Dlh-v0", num_envs=1, device="cpu"), form=form)
    _, info = env.reset(seed=0)
    (_, _, box, *at), (_, _, shade, *place), door = env.plans[0, :3].tolist()
    assert at == place
    closed = info["facts"]["cells"].clone()
    unboxed, taken, opened = (closed.clone() for _ in range(3))
    spot, gate = at[1] * env.width + at[0], door[4] * env.width + door[3]
    unboxed[0, spot] = L.pack(L.KEY, shade)
    taken[0, spot] = L.EMPTY_CELL
    opened[0, spot], opened[0, gate] = L.EMPTY_CELL, L.pack(L.DOOR, shade, L.OPEN)
    numbers, key = [], [L.KEY, shade]
    steps = [(closed, unboxed, "unboxed", [0, 0]), (unboxed, taken, "picked", key), (taken, opened, "unlocked", key)]
    for before, after, event, held in steps:
        events = torch.tensor([1 << L.EVENT_NAMES.index(event)])
        facts = {**info["facts"], "cells": after, "events": events, "carrying": torch.tensor([held])}
        env.now = reached = env._reached(before, facts)
        numbers += reached.tolist()
    assert numbers == [1, 2, 3]


def test_the_wrapper_keeps_the_contract() -> None:
    def make(n: int) -> Any:
        return SubgoalEnv(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=n, device="cpu"), OraclePlanner(0.5))

    check_batch_env(make(5))
    with pytest.raises(ValueError, match="one of position"):
        SubgoalEnv(gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=1), form="picture")
    with pytest.raises(TypeError, match="grid engine"):
        SubgoalEnv(cairn.envs.from_gymnasium("CartPole-v1", 1))
    with pytest.raises(ValueError, match="a share"):
        OraclePlanner(2.0)


def stretch(reached: list[int], ends: list[int]) -> Stretch:
    n = len(reached)
    done = torch.zeros(n, 1, dtype=torch.bool)
    done[ends] = True
    facts = {"subgoal_reached": torch.tensor(reached)[:, None]}
    zero = torch.zeros(n, 1)
    return Stretch.make(
        obs=zero, next_obs=zero, reward=zero, terminated=done, t=torch.arange(n)[:, None], facts=facts, next_facts=facts
    )


def test_the_bonus_by_hand() -> None:
    world = World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2), max_steps=10)
    seat = RolloutSeat(SubgoalBonus(), world)
    paid = seat(stretch([0, 1, 0, 2, 0], [4]), 0)[0].flatten()
    assert paid.tolist() == pytest.approx([0, 0.2 * 0.8, 0, 0.2 * 0.6, 0])
    seat = RolloutSeat(SubgoalBonus(curriculum=True), world)
    x = stretch([1, 0, 0, 2, 0, 1, 0, 0], [3, 7])  # the first in both episodes, the second in one of two
    for step in range(40):
        seat(x, step)
        seat.update(step)
    paid = seat(x, 99)[0].flatten()
    assert paid[0] < 0.2 * 0.9 * 0.02 and paid[3] == pytest.approx(0.2 * 0.6 * 0.5, rel=0.05)
    with pytest.raises(ValueError, match="longest episode"):
        RolloutSeat(SubgoalBonus(), World(gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2)))


class Planning:
    """Answers with the route itself, read from the drawing's level, or as the test says."""

    def __init__(self, plans: dict[str, Any]) -> None:
        self.plans, self.questions = plans, list[Question]()

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        value = next((v for k, v in self.plans.items() if k in question.messages[0]["content"]), None)
        if value is None:
            return Answer(("I'm sorry.",), "refused")
        return Answer((json.dumps(value),), values=(value,))


def test_plans_that_were_asked_for() -> None:
    one, two = level("#####", "#YK.#", "###L#", "#B..#", "#####"), level("#####", "#.X.#", "###L#", "#B..#", "#####")
    cells, place, missions = torch.stack([one, two]), torch.tensor([[3, 1], [3, 1]]), ["pick up the blue ball"] * 2
    said = [{"verb": "pick up", "color": "red", "type": "key", "x": 2, "y": 1}]
    said += [{"verb": "open", "color": "red", "type": "door", "x": 40, "y": 2}]  # outside
    planner = AskedPlanner(Planning({"(2, 1): red key": said}))
    planner.prepare(cells, 5, place, missions)
    plans = planner.plan(cells, 5, place, missions)
    assert plans[0].tolist() == [[TAKE, L.KEY, L.RED, 2, 1]] + [[0] * 5] * (MOST - 1) and not plans[1].any()
    assert planner.counts == {"ok": 1, "refused": 1}
    shares = agreement(plans, route(cells, 5, place, missions))
    assert shares["object"] == pytest.approx(1 / 7)
    drawing = draw(one, 5, place[0])
    assert drawing.splitlines()[:5] == ["#####", "#KKA#", "###D#", "#B..#", "#####"]
    assert "(3, 2): locked red door" in drawing and "(1, 3): blue ball" in drawing
    planner.prepare(cells, 5, place, missions)
    giver: Any = planner.giver
    assert len(giver.questions) == 3  # the one that was refused is asked again, the other is known
    assert plan_of([], 5, 5).shape == (MOST, 5)


@pytest.mark.parametrize("form", ["object", "position", "language"])
def test_an_agent_trains_on_it(form: str) -> None:
    env = SubgoalEnv(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=16, device="cpu"), form=form)
    model = PPO("MlpPolicy", env, reward=Task() + SubgoalBonus(), seed=0, n_steps=32, batch_size=128).learn(1024)
    assert model.num_timesteps == 1024 and (model._compiled is not None) == (form != "language")
