"""Fixed sets of levels, and states that go out of a batch and into it."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.check import check_batch_env
from cairn.envs.grid import layout as L
from cairn.envs.grid import single
from cairn.envs.grid.beside import Wanderer
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.ids import GRID_IDS
from cairn.envs.grid.levels import Levels, upstream
from cairn.envs.grid.stream import Stream

KEYDOOR = "MiniGrid-DoorKey-6x6-v0"
DYNAMIC = "MiniGrid-Dynamic-Obstacles-Random-6x6-v0"
FIRST = {single.upstream_class(name)[0].__name__: name for name in reversed(GRID_IDS)}  # one id of each class


def assert_level(batch, lane, env):
    env = env.unwrapped
    facts = batch.observe()[1]["facts"]
    assert (batch.grid()[lane].numpy() == env.grid.encode()).all()
    assert facts["position"][lane].tolist() == [int(v) for v in env.agent_pos]
    assert int(facts["direction"][lane]) == env.agent_dir and batch.missions()[lane] == env.mission
    assert int(facts["steps"][lane]) == env.step_count


def lockstep(batch, lanes, envs, steps, rng, keep_going):
    """Step upstream's environments beside some lanes of a batch until their episodes end (or beyond it)."""
    alive = set(range(len(envs)))
    for _ in range(steps):
        actions = torch.from_numpy(rng.integers(0, batch._actions_of_one, size=batch.num_envs))
        obs, reward, terminated, truncated, _ = batch.step(actions)
        for k in sorted(alive):
            lane, env = lanes[k], envs[k]
            expected, pay, end, cut, _ = env.step(int(actions[lane]))
            assert float(reward[lane]) == float(np.float32(pay))
            assert (bool(terminated[lane]), bool(truncated[lane])) == (bool(end), cut)
            if end or cut:
                if not keep_going:
                    alive.remove(k)
                    continue
                expected, _ = env.reset()
            assert (obs["image"][lane].numpy() == expected["image"]).all()
            assert_level(batch, lane, env)


@pytest.mark.parametrize("name", [KEYDOOR, DYNAMIC, "MiniGrid-PutNear-6x6-N2-v0"])
def test_a_count_draws_from_the_seed_s_levels(name):
    lanes, count = 4, 3
    batch = gym.make_vec(f"cairn/{name}", num_envs=lanes, levels=count)
    env = single.make(name)
    seen = set()
    for seed in (5, 6):
        for episode in range(8):
            batch.reset(seed=seed if episode == 0 else None)
            for lane in range(lanes):
                level = Stream.of(seed, lane, episode).below(count)
                seen.add((seed, level))
                env.reset(seed=seed, options={"lane": level})
                assert_level(batch, lane, env)
    assert len(seen) == 2 * count
    envs = [single.make(name) for _ in range(lanes)]
    for lane, env in enumerate(envs):  # what moves at random goes on as in the single environment of that key
        env.reset(seed=6, options={"lane": Stream.of(6, lane, 7).below(count)})
    lockstep(batch, range(lanes), envs, 40, np.random.default_rng(0), False)


def test_keys_and_seeds_name_levels():
    keys = [(3, 0, 0), (9, 17, 4), 2**64 - 1]
    batch = GridBatch("MiniGrid-FourRooms-v0", 6, levels=keys)
    env = single.make("MiniGrid-FourRooms-v0")
    batch.reset(seed=1)
    for lane in range(6):
        seed, number, episode = [(3, 0, 0), (9, 17, 4), (2**64 - 1, 0, 0)][Stream.of(1, lane, 0).below(3)]
        env.reset(seed=seed, options={"lane": number, "episode": episode})
        assert_level(batch, lane, env)
    assert len(batch.levels) == 3


@pytest.mark.parametrize("name", FIRST.values())
def test_upstream_s_own_levels(name):
    base, arguments = single.upstream_class(name)
    batch = GridBatch(name, 3, levels=upstream(range(4)))
    batch.reset(seed=8)
    envs = []
    for lane in range(3):
        env = base(**arguments)
        env.reset(seed=Stream.of(8, lane, 0).below(4))
        envs.append(env)
        assert_level(batch, lane, env)
    if "Dynamic" not in name:  # there upstream's generator moves the obstacles
        lockstep(batch, range(3), envs, 60, np.random.default_rng(0), False)


def test_level_files(tmp_path):
    made = GridBatch(KEYDOOR, 5, levels=upstream(range(20)))
    file = tmp_path / "levels.safetensors"
    made.levels.save(file)
    read = gym.make_vec(f"cairn/{KEYDOOR}", num_envs=5, levels=str(file))
    for _ in range(3):
        first, second = (batch.reset(seed=2)[0]["image"] for batch in (made, read))
        assert torch.equal(first, second)
    read.load_state_dict(made.state_dict())
    with pytest.raises(ValueError, match="this batch is"):
        GridBatch(KEYDOOR, 5, levels=3).load_state_dict(made.state_dict())
    whole = file.read_bytes()
    for keep in (0, 5, 60, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="cut short or damaged"):
            GridBatch(KEYDOOR, 5, levels=file)
    with pytest.raises(FileNotFoundError):
        GridBatch(KEYDOOR, 5, levels=tmp_path / "none")


def test_levels_that_do_not_fit_are_refused(tmp_path):
    good = GridBatch(KEYDOOR, 1, levels=[1, 2]).levels

    def changed(**changes):
        return Levels(**{"world": good.world, **{n: getattr(good, n) for n in ("cells", "ints", "keys")}, **changes})

    def with_number(column, value):
        ints = good.ints.clone()
        ints[1, column] = value
        return changed(ints=ints)

    for levels, message in [
        (0, "at least one level"),
        (True, "levels is a count"),
        ([], "at least one key"),
        ([-1], "levels is a count"),
        ([(1, 2)], "levels is a count"),
        ([1.5], "levels is a count"),
        (3.5, "levels is a count"),
        (changed(world="MiniGrid-Empty-5x5-v0 5x5 ()"), "levels are of"),
        (changed(cells=good.cells[:, :-1]), "cells is"),
        (changed(cells=good.cells.int()), "cells is"),
        (changed(cells=good.cells + 2**10), "no cells"),
        (changed(ints=good.ints[:1]), "damaged"),
        (changed(keys=good.keys[:1]), "keys is"),
        (with_number(L.X, 6), "column 0"),
        (with_number(L.MISSION, 1), "column 5"),
        (with_number(L.CARRYING, L.WALL_CELL), "carries"),
    ]:
        with pytest.raises(ValueError, match=message):
            GridBatch(KEYDOOR, 2, levels=levels)
    with pytest.raises(ValueError, match="at least one seed"):
        upstream([])
    with pytest.raises(ValueError, match="bridged"):
        gym.make_vec("cairn/BabyAI-GoToObj-v0", num_envs=2, levels=3)
    short = changed(cells=good.cells[:1])
    short.save(tmp_path / "short")
    with pytest.raises(ValueError, match="damaged"):
        Levels.load(tmp_path / "short")


def test_an_episode_of_a_set_begins_at_its_first_step():
    """Whatever the arrays say: the rest of a level is taken as it is."""
    levels = GridBatch(KEYDOOR, 1, levels=[(4, 2, 3)]).levels
    levels.ints[:, L.STEPS] = 9
    levels.ints[:, L.CARRYING] = L.pack(L.KEY, L.YELLOW)
    batch = GridBatch(KEYDOOR, 2, levels=levels)
    _, info = batch.reset(seed=0)
    assert info["facts"]["steps"].tolist() == [0, 0]
    assert info["facts"]["carrying"].tolist() == [[L.KEY, L.YELLOW]] * 2
    assert batch.arrays.state["ints"][:, L.EPISODE].tolist() == [0, 0]  # the lane's own, not the level's 3


def test_a_set_does_not_change_with_its_arrays():
    levels = GridBatch(KEYDOOR, 1, levels=[1]).levels
    batch = GridBatch(KEYDOOR, 1, levels=levels)
    levels.cells.fill_(-1)
    batch.reset(seed=0)
    assert (batch.grid() <= 10).all()


def test_contract_with_levels():
    check_batch_env(lambda n: GridBatch(KEYDOOR, n, levels=2, max_episode_steps=7), steps=40)


@pytest.mark.parametrize("name", [KEYDOOR, DYNAMIC, "MiniGrid-ObstructedMaze-1Dlhb-v0"])
def test_states_of_lanes(name):
    batch, other = GridBatch(name, 6, max_steps=40), GridBatch(name, 3, max_steps=40)
    batch.reset(seed=1)
    other.reset(seed=2)
    rng = np.random.default_rng(0)

    def go(envs, actions):
        out = []
        for row in actions:
            obs, reward, *ends, info = envs.step(row)
            tensors = [obs["image"], reward, *ends, info["facts"]["position"], info["facts"]["cells"]]
            out.append([t.clone() for t in tensors])
        return out

    go(batch, torch.from_numpy(rng.integers(0, batch._actions_of_one, size=(30, 6))))
    state = batch.get_state([4, 1])
    untouched = other.get_state(1)
    other.set_state(state, torch.tensor([2, 0]))
    for name in untouched["lanes"]:
        assert torch.equal(untouched["lanes"][name], other.get_state(1)["lanes"][name])
    actions = torch.from_numpy(rng.integers(0, batch._actions_of_one, size=(120, 6)))
    ours = go(batch, actions)
    theirs = go(other, actions[:, [1, 0, 4]])
    for first, second in zip(ours, theirs, strict=True):
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a[[4, 1]], b[[2, 0]])
    obs, info = other.set_state(batch.get_state(3))  # one state, everywhere: to try many continuations of it
    assert (info["facts"]["cells"] == batch.observe()[1]["facts"]["cells"][3]).all()
    assert (obs["image"] == batch.observe()[0]["image"][3]).all()
    assert other.observe()[0]["mission"].tolist() == [batch.observe()[0]["mission"][3].tolist()] * 3


@pytest.mark.parametrize("name", FIRST.values())
def test_a_live_environment_comes_in(name):
    """In mid-episode, with the batch in another one; our stream comes along and so do the episodes after this one."""
    batch = GridBatch(name, 3)
    batch.reset(seed=1)
    rng = np.random.default_rng(3)
    base, arguments = single.upstream_class(name)
    keyed, plain = single.make(name), base(**arguments)
    keyed.reset(seed=77, options={"lane": 5})
    plain.reset(seed=77)
    for _ in range(40):
        for env in (keyed, plain):
            if any(env.step(int(rng.integers(env.action_space.n)))[2:4]):
                env.reset()
    for _ in range(9):
        batch.step(torch.from_numpy(rng.integers(0, batch._actions_of_one, size=3)))
    before = batch.get_state(0)["lanes"]
    batch.import_env(2, keyed)
    assert_level(batch, 2, keyed)
    batch.import_env(1, plain)
    assert_level(batch, 1, plain)
    for part, tensor in batch.get_state(0)["lanes"].items():
        assert torch.equal(tensor, before[part])
    if "Dynamic" in name:
        for _ in range(20):  # turning ends no episode, so this is the imported one, and what moves in it moves alike
            batch.step(torch.zeros(3, dtype=torch.int64))
            keyed.step(0)
            assert_level(batch, 2, keyed)
        lockstep(batch, [2], [keyed], 80, rng, True)
    else:
        state = batch.get_state()
        lockstep(batch, [2], [keyed], 80, rng, True)
        batch.set_state(state)
        lockstep(batch, [1], [plain], 80, rng, False)


@pytest.mark.parametrize("name", FIRST.values())
def test_what_an_imported_environment_has_done_counts(name):
    """Things carried, doors opened, targets: the lane goes on as the environment does, through successes too."""
    batch = GridBatch(name, 2)
    batch.reset(seed=1)
    rng = np.random.default_rng(5)
    env = single.make(name)
    env.reset(seed=3)
    player = Wanderer(env, rng)
    for _ in range(12):
        for _ in range(9):
            if any(env.step(player())[2:4]):
                env.reset()
                player.plan.clear()
        batch.import_env(1, env)
        assert_level(batch, 1, env)
        held = (-1, -1) if env.carrying is None else env.carrying.encode()[:2]
        assert tuple(batch.observe()[1]["facts"]["carrying"][1].tolist()) == held
        for _ in range(25):
            action = player()
            _, reward, *ends, _ = batch.step(torch.tensor([0, action]))
            _, pay, end, cut, _ = env.step(action)
            assert (float(reward[1]), *(bool(e[1]) for e in ends)) == (float(np.float32(pay)), bool(end), cut)
            if end or cut:
                env.reset()
                player.plan.clear()
            assert_level(batch, 1, env)


def test_states_that_do_not_fit_are_refused_before_anything_changes():
    batch = GridBatch(KEYDOOR, 3)
    with pytest.raises(RuntimeError, match="reset"):
        batch.get_state()
    batch.reset(seed=0)
    before = batch.state_dict()["lanes"]
    state = batch.get_state([0, 1])

    def changed(**lanes):
        return {**state, "lanes": {**state["lanes"], **lanes}}

    bad = state["lanes"]["ints"].clone()
    bad[0, L.DIR] = 4
    for lanes, given, message in [
        ([0], state, "expected"),
        ([0, 0], state, "twice"),
        ([0, 3], state, "whole numbers"),
        ([-1, 0], state, "whole numbers"),
        ([0.0, 1.0], state, "whole numbers"),
        ([], state, "at least one"),
        ([0, 1], {**state, "world": "elsewhere"}, "this batch is"),
        ([0, 1], {}, "get_state"),
        ([0, 1], changed(cells=state["lanes"]["cells"].int()), "expected"),
        ([0, 1], changed(ints=bad), "column 2"),
        ([0, 1], changed(more=bad), "rng"),
    ]:
        with pytest.raises(ValueError, match=message):
            batch.set_state(given, lanes)
    other, small = single.make("MiniGrid-Empty-6x6-v0"), single.make("MiniGrid-DoorKey-5x5-v0")
    unset, longer = single.make(KEYDOOR), single.make(KEYDOOR, max_steps=7)
    for env in (other, small, longer):
        env.reset(seed=0)
        with pytest.raises(ValueError, match="is not an environment"):
            batch.import_env(0, env)
    with pytest.raises(ValueError, match="no level yet"):
        batch.import_env(0, unset)
    for name, tensor in batch.state_dict()["lanes"].items():
        assert torch.equal(tensor, before[name])
