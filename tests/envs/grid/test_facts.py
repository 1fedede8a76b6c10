"""The facts that are found on request, against upstream's own objects."""

from collections import deque

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.check import check_batch_env
from cairn.envs.grid import layout as L
from cairn.envs.grid import single
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.facts import NAMES

KINDS = ("door", "key", "ball", "box", "goal")


def rooms_of(env):
    """By hand: the room of each cell, by breadth-first search from each cell that has none yet."""
    rooms, count = {}, 0
    for start in [(x, y) for y in range(env.height) for x in range(env.width)]:
        queue = deque([start])
        found = False
        while queue:
            x, y = queue.popleft()
            cell = env.grid.get(x, y) if 0 <= x < env.width and 0 <= y < env.height else None
            inside = 0 <= x < env.width and 0 <= y < env.height
            if not inside or (x, y) in rooms or (cell is not None and cell.type in ("wall", "door")):
                continue
            rooms[x, y], found = count, True
            queue.extend([(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)])
        count += found
    return rooms


def assert_facts(facts, lane, env):
    objects = np.full((5, 6, 2), -1)
    doors = np.full(6, -1)
    for k, obj in reversed(list(enumerate(env.grid.grid))):
        if obj is not None and obj.type in KINDS:
            color = L.COLORS.index(obj.color)
            objects[KINDS.index(obj.type), color] = k % env.width, k // env.width
            if obj.type == "door":
                doors[color] = obj.encode()[2]
    assert facts["objects"][lane].tolist() == objects.tolist()
    assert facts["doors"][lane].tolist() == doors.tolist()
    assert int(facts["room"][lane]) == rooms_of(env).get(tuple(int(v) for v in env.agent_pos), -1)


def state_of(facts, lane):
    """All that the hash is of."""
    parts = (facts["cells"], facts["position"], facts["direction"], facts["carrying"], facts["mission_id"])
    return tuple(tuple(np.ravel(part[lane]).tolist()) for part in parts)


@pytest.mark.parametrize(
    "name",
    [
        "MiniGrid-DoorKey-5x5-v0",
        "MiniGrid-LockedRoom-v0",
        "MiniGrid-FourRooms-v0",
        "MiniGrid-PutNear-6x6-N2-v0",
        "MiniGrid-KeyCorridorS3R3-v0",  # several doors of a colour
        "MiniGrid-MultiRoom-N4-S5-v1",  # rooms elsewhere in every level
    ],
)
def test_facts_are_upstream_s(name):
    lanes = 4
    batch = gym.make_vec(f"cairn/{name}", num_envs=lanes, max_steps=30, facts=NAMES)
    envs = [single.make(name, max_steps=30) for _ in range(lanes)]
    _, info = batch.reset(seed=2)
    for i, env in enumerate(envs):
        env.reset(seed=2, options={"lane": i})
        assert_facts(info["facts"], i, env)
    rng = np.random.default_rng(0)
    states, hashes, visited = {}, set(), set()
    for _ in range(150):
        actions = torch.from_numpy(rng.choice([0, 1, 2, 2, 2, 3, 4, 5], size=lanes))
        *_, info = batch.step(actions)
        for i, env in enumerate(envs):
            _, _, end, cut, _ = env.step(int(actions[i]))
            if end or cut:
                assert_facts(info["final_facts"], i, env)  # of the level that ended, its rooms included
                env.reset()
            assert_facts(info["facts"], i, env)
            key, value = state_of(info["facts"], i), int(info["facts"]["hash"][i])
            assert states.setdefault(key, value) == value
            hashes.add(value)
            visited.add(int(info["facts"]["room"][i]))
    assert len(hashes) == len(states) > 50  # as many hashes as states
    if "Locked" in name or "DoorKey" in name:
        assert len(visited) > 1


def test_a_hash_belongs_to_the_state_alone():
    name = "MiniGrid-KeyCorridorS3R2-v0"
    first, second = GridBatch(name, 2, facts=["hash"]), GridBatch(name, 5, facts=["hash", "room"], max_steps=99)
    first.reset(seed=1)
    _, info = second.reset(seed=1)
    before = info["facts"]["hash"].clone()
    assert torch.equal(first.observe()[1]["facts"]["hash"], before[:2])
    for action in (0, 0, 0, 0):  # round once: the same state, later
        *_, info = second.step(torch.full((5,), action))
    assert torch.equal(info["facts"]["hash"], before)
    state = first.get_state(1)
    _, info = first.set_state(state, 0)
    assert info["facts"]["hash"].tolist() == [int(before[1])] * 2


def test_a_hash_is_of_every_part_of_the_state():
    batch = GridBatch("MiniGrid-Fetch-8x8-N3-v0", 1, facts=["hash"])
    batch.reset(seed=1)
    state = batch.get_state()
    hashes = {int(batch.observe()[1]["facts"]["hash"][0])}
    box = L.pack(L.BOX, L.RED)
    for name, column, value in [
        ("ints", L.X, 1),
        ("ints", L.Y, 1),
        ("ints", L.DIR, (int(state["lanes"]["ints"][0, L.DIR]) + 1) % 4),
        ("ints", L.CARRYING, L.pack(L.KEY, L.RED)),
        ("ints", L.CARRYING, L.pack(L.KEY, L.BLUE)),
        ("ints", L.CARRYING, L.pack(L.BOX, L.RED, contents=L.pack(L.KEY, L.BLUE))),
        ("ints", L.MISSION, (int(state["lanes"]["ints"][0, L.MISSION]) + 1) % 12),
        ("cells", 9, box),
        ("cells", 10, box),
        ("cells", 10, L.pack(L.BOX, L.RED, contents=L.pack(L.KEY, L.BLUE))),
    ]:
        changed = {part: tensor.clone() for part, tensor in state["lanes"].items()}
        different = int(changed[name][0, column]) != value
        changed[name][0, column] = value
        _, info = batch.set_state({**state, "lanes": changed})
        assert (int(info["facts"]["hash"][0]) not in hashes) == different
        hashes.add(int(info["facts"]["hash"][0]))
    for column in (L.STEPS, L.EPISODE, L.EVENTS):
        changed = {part: tensor.clone() for part, tensor in state["lanes"].items()}
        changed["ints"][0, column] = 3
        changed["rng"] += 1
        assert int(batch.set_state({**state, "lanes": changed})[1]["facts"]["hash"][0]) in hashes


def test_rooms_end_at_the_edge_of_the_grid():
    """No level of upstream's is open there, but a state that was made by hand may be."""
    batch = GridBatch("MiniGrid-Empty-5x5-v0", 1, facts=["room"])
    batch.reset(seed=0)
    state = batch.get_state()
    state["lanes"]["cells"][:] = L.EMPTY_CELL
    state["lanes"]["cells"].view(5, 5)[:, 2] = L.WALL_CELL
    for x, room in ((0, 0), (1, 0), (3, 1), (4, 1)):
        state["lanes"]["ints"][0, L.X] = x
        assert int(batch.set_state(state)[1]["facts"]["room"][0]) == room


def test_states_bring_their_rooms():
    name = "MiniGrid-LockedRoom-v0"
    first, second = (GridBatch(name, 3, facts=["room"]) for _ in range(2))
    first.reset(seed=1)
    second.reset(seed=2)
    _, info = second.set_state(first.get_state())
    assert torch.equal(info["facts"]["room"], first.observe()[1]["facts"]["room"])
    assert torch.equal(second.arrays.rooms, first.arrays.rooms)


def test_contract_and_threads():
    check_batch_env(lambda n: GridBatch("MiniGrid-DoorKey-6x6-v0", n, facts=NAMES, max_episode_steps=7), steps=40)
    one, two = (GridBatch("MiniGrid-DoorKey-6x6-v0", 7, facts=NAMES, threads=k, max_steps=9) for k in (1, 2))
    one.reset(seed=0)
    two.reset(seed=0)
    for t in range(30):
        first, second = (batch.step(torch.full((7,), t % 6))[-1] for batch in (one, two))
        for name in NAMES:
            assert torch.equal(first["facts"][name], second["facts"][name])


def test_only_what_is_asked_for_is_there():
    assert not set(NAMES) & set(GridBatch("MiniGrid-Empty-5x5-v0", 1).reset(seed=0)[1]["facts"])
    facts = GridBatch("MiniGrid-Empty-5x5-v0", 1, facts=("hash",)).reset(seed=0)[1]["facts"]
    assert set(NAMES) & set(facts) == {"hash"}
    with pytest.raises(ValueError, match="objects, doors, room, hash"):
        GridBatch("MiniGrid-Empty-5x5-v0", 1, facts=["colour"])
    with pytest.raises(ValueError, match="bridged"):
        gym.make_vec("cairn/BabyAI-GoToObj-v0", num_envs=1, facts=["hash"])
