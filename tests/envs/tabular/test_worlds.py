"""The worlds: the papers' layouts, by exact solution."""

import math

import pytest
import torch

from cairn.envs.tabular import build, value_iteration, with_tasks
from cairn.envs.tabular.labelled import CRAFT_TASKS, OFFICE_OBJECTS, OFFICE_TASKS, OFFICE_WIDTH, craft, office
from cairn.envs.tabular.solve import epsilon_greedy, policy_return, reward_per_step
from cairn.envs.tabular.tasks import Edge, Task, falls_paid, holds, in_order, table
from cairn.envs.tabular.worlds import FOUR_ROOMS, chain, four_rooms, grid, line_key, room


def optimal_steps(scene):
    """Steps to a single reward of 1 at the end, from V*(start) = discount ** (steps - 1)."""
    start = (scene.mdp.start * value_iteration(scene.mdp).values).sum().item()
    return 1 + math.log(start) / math.log(scene.mdp.discount)


@pytest.mark.parametrize(
    "task, steps",
    # By hand: from (2, 1) around the plant in (1, 4) to the coffee in (3, 6), 12 steps, and 3 to the office; and so on.
    [("coffee", 15), ("mail", 29), ("coffee-mail", 29), ("patrol", 30)],
)
def test_office_takes_its_optimal_steps(task, steps):
    assert optimal_steps(office(task)) == pytest.approx(steps)


@pytest.mark.parametrize(
    "task, steps, best",
    # By hand: to the coffee in (8, 2), 9 steps, and 2 to the plant in (7, 1); and so on. The rewards per step are those
    # that the authors' export divides by, means over their simulated episodes.
    [("coffee", 11, 0.07293), ("mail", 23, 0.03137), ("coffee-mail", 23, 0.03134), ("patrol", 25, 0.02807)],
)
def test_as_run_the_last_stage_may_end_on_a_plant(task, steps, best):
    scene = office(task, as_run=True)
    assert optimal_steps(scene) == pytest.approx(steps)
    policy = epsilon_greedy(value_iteration(scene.mdp).policy, 0.1)
    assert reward_per_step(scene.mdp, policy, 1000).item() == pytest.approx(best, rel=4e-3)


def test_falls_are_paid_in_the_last_stage_alone():
    task = falls_paid(in_order("t", {"a": (), "b": ("a",)}, avoid=("x", "y")), ("x", "y"))
    labels = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0]]).bool()
    target, reward = table(task, ("a", "b", "x", "y"), labels)
    assert target.tolist() == [[0, 1, 0, -1, -1, -1], [1, 1, 2, 2, 2, 2], [2] * 6]
    assert reward.tolist() == [[0] * 6, [0, 0, 1, 1, 1, 1], [0] * 6]


def test_office_by_breadth_first_search():
    """The coffee task again, without the MDP: a search over cells, by walls stated another way."""
    doors = {((x, 2), (x, 3)) for x in (1, 10)} | {((x, 5), (x, 6)) for x in (1, 4, 7, 10)}
    doors |= {((x, y), (x + 1, y)) for x in (2, 5, 8) for y in (1, 7)}
    plants, coffee, goal = set(OFFICE_OBJECTS["plant"]), set(OFFICE_OBJECTS["coffee"]), (4, 4)

    def free(a, b):
        if not (0 <= b[0] < 12 and 0 <= b[1] < 9) or b in plants:
            return False
        same = a[0] // 3 == b[0] // 3 and a[1] // 3 == b[1] // 3
        return same or (a, b) in doors or (b, a) in doors

    front, seen, steps = {((2, 1), False)}, set(), 0
    while (goal, True) not in front:
        seen |= front
        moves = ((0, 1), (1, 0), (0, -1), (-1, 0))
        cells = {((x + dx, y + dy), cup, (x, y)) for (x, y), cup in front for dx, dy in moves}
        front = {(c, cup or c in coffee) for c, cup, before in cells if free(before, c)} - seen
        steps += 1
    assert steps == 15


def test_office_facts():
    world = office()
    assert world.mdp.states == 108 and world.max_steps == 1000 and world.success is None
    assert world.mdp.reward.abs().sum() == 0 and not world.mdp.terminal.any()
    assert world.labels.sum() == 14
    coffee = world.propositions.index("coffee")
    cells = world.labels[:, coffee].nonzero()[:, 0].tolist()
    assert [(c % OFFICE_WIDTH, c // OFFICE_WIDTH) for c in cells] == [(8, 2), (3, 6)]
    moves = world.mdp.successors[..., 0]
    # Nobody walks through a wall one way only.
    for s in range(108):
        for a in range(4):
            assert moves[moves[s, a], (a + 2) % 4] == s or moves[s, a] == s


def test_a_plant_fails_and_an_office_succeeds():
    scene = office("coffee")
    failed = scene.facts["machine"].max()
    states = scene.facts["cell"] * (failed + 1)
    beside = int(states[scene.facts["cell"] == 3 * 12 + 1][0])  # (1, 3), below the plant in (1, 4)
    into = int(scene.mdp.successors[beside, 0, 0])
    assert scene.facts["machine"][into] == failed and scene.mdp.terminal[into] and not scene.success[into]
    assert scene.mdp.reward[beside, 0, 0] == 0
    with_cup = int(((scene.facts["cell"] == 5 * 12 + 4) & (scene.facts["machine"] == 1)).nonzero()[0])
    into = int(scene.mdp.successors[with_cup, 2, 0])  # down into (4, 4)
    assert scene.success[into] and scene.mdp.reward[with_cup, 2, 0] == 1.0
    without = with_cup - 1
    assert scene.mdp.reward[without, 2, 0] == 0 and not scene.mdp.terminal[scene.mdp.successors[without, 2, 0]]


def test_all_office_tasks_at_once():
    scene = office("all")
    assert scene.mdp.states == 108 * (2 + 2 + 4 + 4 + 2)
    assert scene.turns.tolist() == [14 * 14 + m for m in (0, 2, 4, 8)]
    best = value_iteration(scene.mdp)
    for i, name in enumerate(OFFICE_TASKS):
        alone = value_iteration(office(name).mdp).values
        assert best.values[scene.turns[i]] == pytest.approx((alone * office(name).mdp.start).sum().item())
    assert scene.facts["task"][scene.turns].tolist() == [0, 1, 2, 3]


def test_epsilon_greedy_optimum_is_what_scores_are_relative_to():
    scene = office("coffee")
    policy = value_iteration(scene.mdp).policy
    assert reward_per_step(scene.mdp, policy, 1000).item() == pytest.approx(1 / 15)
    noisy = reward_per_step(scene.mdp, epsilon_greedy(policy, 0.1), 1000).item()
    assert 0.05 < noisy < 0.055


def test_craft():
    assert len(CRAFT_TASKS) == 10
    world, other = craft(map_seed=0), craft(map_seed=1)
    assert world.mdp.states == 39 * 39
    assert world.labels.sum(0).tolist() == [5, 2, 2, 5, 2, 5, 2, 2] and world.labels.sum(1).max() == 1
    assert not torch.equal(world.labels, other.labels)

    # The plank's steps, by distance: nothing is in the way.
    def distance(a, b):
        return abs(a // 39 - b // 39) + abs(a % 39 - b % 39)

    wood, shed = ((world.labels[:, p]).nonzero()[:, 0].tolist() for p in (0, 1))
    start = 19 * 39 + 19
    by_hand = min(distance(start, w) + distance(w, t) for w in wood for t in shed)
    assert optimal_steps(craft("plank")) == pytest.approx(by_hand)
    assert CRAFT_TASKS["gem"].states == 8 and CRAFT_TASKS["bed"].states == 7


def test_unknown_tasks_are_named():
    with pytest.raises(ValueError, match="no task 'tea'; it has coffee, mail"):
        office("tea")
    with pytest.raises(ValueError, match="no tabular world is called 'ofice'"):
        build("ofice")


def test_in_order_makes_the_machine():
    task = in_order("t", {"a": (), "b": (), "c": ("a", "b")}, avoid=("x",))
    labels = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]).bool()
    target, reward = table(task, ("a", "b", "c", "x"), labels)
    assert task.states == 5 and task.end == 4
    # States: nothing, a, b, a and b, all. Of two at once the first counts; x is undefined.
    assert target.tolist() == [
        [0, 1, 2, 1, 0, -1], [1, 1, 3, 3, 1, -1], [2, 3, 2, 3, 2, -1], [3, 3, 3, 3, 4, -1], [4] * 6
    ]  # fmt: skip
    assert reward.sum() == 1 and reward[3, 4] == 1


def test_guards():
    labels = torch.tensor([[True, False], [True, True]])
    assert holds("a&!b", ("a", "b"), labels).tolist() == [True, False]
    assert holds("", ("a", "b"), labels).tolist() == [True, True]
    with pytest.raises(ValueError, match="names 'z'"):
        holds("z", ("a", "b"), labels)
    both = Task("t", 2, 1, (Edge(0, "a", 1, 1.0), Edge(0, "a&b", 0, 0.0)))
    with pytest.raises(ValueError, match="two edges hold"):
        table(both, ("a", "b"), labels)
    with pytest.raises(ValueError, match="without ends of its own"):
        with_tasks(four_rooms(), [both])


def test_chain_by_hand():
    scene = chain(right=2, left=1, slip=0.0)
    moves = scene.mdp.successors[..., 0].tolist()
    assert moves == [[4, 1], [0, 2], [1, 3], [2, 3], [4, 4]]
    assert scene.mdp.terminal.tolist() == [False] * 4 + [True]
    assert scene.mdp.expected_reward().tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]]
    assert value_iteration(scene.mdp).values[3].item() == pytest.approx(100.0)  # for ever, at .99
    slips = chain(right=2, left=1, slip=0.2).mdp.dense().prob
    assert slips[2, 1].tolist() == pytest.approx([0, 0.1, 0, 0.9, 0])
    decoy = chain(distractor=0.01)
    assert decoy.mdp.expected_reward()[25, 0].item() == pytest.approx(0.01)
    assert decoy.mdp.states == 62 and decoy.mdp.start.argmax() == 40


def test_room_by_hand():
    scene = room(slip=0.0)
    moves = scene.mdp.successors[..., 0]

    def to(x, y, a):
        s = moves[y * 7 + x, a].item()
        return (s % 7, s // 7) if s < 49 else s

    up, left, down, right = range(4)
    assert to(1, 2, up) == (1, 3) and to(0, 2, up) == (0, 2)  # a gate, and the wall beside it
    assert to(2, 1, right) == (3, 1) and to(2, 2, right) == (2, 2)
    assert to(3, 5, left) == (2, 5) and to(5, 3, down) == (5, 2) and to(4, 3, down) == (4, 3)
    assert to(0, 0, left) == 49 and to(0, 0, down) == 49 and to(0, 0, up) == (0, 1)
    assert to(6, 6, right) == (6, 6) and to(6, 6, up) == (6, 6)
    goal = room(goal_ends=True, reward=10.0, slip=0.0, discount=0.95)
    best = value_iteration(goal.mdp)
    # Through two gates from (1, 1) to (6, 6): 10 steps, and one to take the reward.
    assert (goal.mdp.start * best.values).sum().item() == pytest.approx(10 * 0.95**10)


def test_line_key_by_hand():
    scene = line_key(slip=0.0)
    best = value_iteration(scene.mdp)
    # 4 steps to the key, 1 to pick, 8 to the end, and the reward on the 14th.
    assert (scene.mdp.start * best.values).sum().item() == pytest.approx(10 * 0.95**13)
    slips = line_key().mdp.dense().prob
    assert slips[0, 0, 20] == 1.0 and slips[0, 1, 20].item() == pytest.approx(0.1)
    assert slips[19, 1, 21] == 1.0 and slips[19, 0].tolist()[18:21] == pytest.approx([0.9, 0.0, 0.1])
    assert slips[9, 1].tolist()[8:10] == pytest.approx([0.1, 0.9])
    assert slips[1, 2, 11] == 1.0 and slips[2, 2, 2] == 1.0


def test_grids():
    tiny = grid(["####", "#SG#", "####"], discount=0.5)
    assert value_iteration(tiny.mdp).values.tolist() == [1.0, 0.0]
    assert tiny.propositions == ("G",) and tiny.labels.tolist() == [[False], [True]]
    rooms = four_rooms()
    assert rooms.mdp.states == sum(row.count(".") for row in FOUR_ROOMS) == 104
    assert (value_iteration(rooms.mdp).values > 0).sum() == 103
    wind = grid(["###", "#.#", "#.#", "#G#", "###"], slip=0.2)
    assert wind.mdp.dense().prob[0, 2].tolist() == pytest.approx([0.2, 0.8, 0.0])
    assert policy_return(wind.mdp, value_iteration(wind.mdp).policy) < 1
    with pytest.raises(ValueError, match="one length"):
        grid(["##", "#"])


@pytest.mark.parametrize("world", ["chain", "room", "line_key", "four_rooms", "random", "office", "craft"])
def test_scenes_can_be_drawn(world):
    scene = build(world)
    assert "@" in scene.text(int(scene.mdp.start.argmax())) or world == "random"
    assert scene.background().dtype.name == "uint8" and scene.background().ndim == 3
