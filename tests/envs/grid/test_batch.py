"""The batch's own promises: lanes, threads, state, the stream in a kernel, and bad input."""

import copy
import os
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
import warp as wp

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.check import check_batch_env
from cairn.envs.grid import layout as L
from cairn.envs.grid import runtime, single, vector
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.state import World, below, bits, next_episode
from cairn.envs.grid.stream import GAMMA, Stream, lane_key, lane_keys

KEYDOOR = "MiniGrid-DoorKey-6x6-v0"


def play(batch, seed, steps, first_lane=0):
    """A rollout with actions that depend on (lane, step) alone; everything that comes back, as one list of arrays."""
    n = batch.num_envs
    lanes = torch.arange(first_lane, first_lane + n)
    obs, _ = batch.reset(seed=seed, options={"lanes": lanes} if first_lane else None)
    out = [{name: leaf.clone() for name, leaf in obs.items()}]
    for t in range(steps):
        actions = (lanes * 7919 + t * 104729 + (lanes * t) // 3) % 23 % batch._actions_of_one
        obs, reward, terminated, truncated, info = batch.step(actions)
        row = {**obs, "reward": reward, "terminated": terminated, "truncated": truncated, **info["facts"]}
        done = info["_final_obs"]
        for name, leaf in {**info["final_obs"], **info["final_facts"]}.items():
            row[f"final {name}"] = torch.where(done.reshape(-1, *[1] * (leaf.dim() - 1)), leaf, 0)
        out.append({name: leaf.clone() for name, leaf in row.items()})
    return out


def assert_same(first, second, rows=slice(None), others=slice(None)):
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        for name in a:
            assert torch.equal(a[name][rows], b[name][others]), (t, name)


@pytest.mark.parametrize("name", [KEYDOOR, "MiniGrid-KeyCorridorS3R2-v0", "MiniGrid-Empty-Random-5x5-v0"])
def test_contract(name):
    check_batch_env(f"cairn/{name}", steps=60)
    check_batch_env(lambda n: GridBatch(name, n, max_episode_steps=7), steps=40)


def test_lanes_do_not_depend_on_how_many_there_are():
    small, large = GridBatch(KEYDOOR, 3, max_steps=40), GridBatch(KEYDOOR, 50, max_steps=40)
    everything = play(large, 3, 130)
    assert_same(play(small, 3, 130), everything, slice(None), slice(3))
    # The same lanes in another place: options["lanes"] names them.
    assert_same(play(small, 3, 130, first_lane=20), everything, slice(None), slice(20, 23))


def test_state_goes_out_and_in(tmp_path):
    batch, other = (GridBatch("MiniGrid-KeyCorridorS3R2-v0", 20, max_steps=25) for _ in range(2))
    play(batch, 4, 33)
    state = batch.state_dict()
    shown = copy.deepcopy(batch.observe())
    torch.save(state, tmp_path / "state.pt")  # copies: what follows must not reach into it
    onward = [batch.step(torch.full((20,), t % 7))[0]["image"].clone() for t in range(60)]
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    obs, info = other.observe()
    for name, leaf in {**shown[0], **shown[1]["facts"]}.items():
        assert torch.equal({**obs, **info["facts"]}[name], leaf), name
    for t, image in enumerate(onward):
        assert torch.equal(other.step(torch.full((20,), t % 7))[0]["image"], image), t


def test_damaged_states_are_refused_before_anything_changes():
    batch = GridBatch(KEYDOOR, 4)
    batch.reset(seed=0)
    before = batch.state_dict()

    def damaged(change):
        state = batch.state_dict()
        change(state)
        return state

    def set_number(column, value):
        return lambda state: state["lanes"]["ints"][2].__setitem__(column, value)

    for change, message in [
        (set_number(L.X, 6), "column 0"),
        (set_number(L.Y, -1), "column 1"),
        (set_number(L.DIR, 4), "column 2"),
        (set_number(L.MISSION, 1), "column 5"),
        (set_number(L.STEPS, 10**6), "column 4"),
        (lambda state: state["lanes"]["cells"][0].__setitem__(0, 0), "no cells"),
        (lambda state: state["lanes"]["cells"][0].__setitem__(0, -1), "no cells"),
        (lambda state: state["lanes"]["cells"][0].__setitem__(0, L.DOOR | 7 << 4), "no cells"),
        (set_number(L.CARRYING, L.WALL_CELL), "carries"),
        (set_number(L.CARRYING, -1), "carries"),
        (lambda state: state.update(world="MiniGrid-Empty-6x6-v0"), "this batch is"),
        (lambda state: state.update(seed="-0x1"), "seed"),
        (lambda state: state.update(seed="many"), "seed"),
        (lambda state: state["lanes"].update(cells=torch.zeros(4, 5, dtype=torch.int16)), "expected a tensor"),
        (lambda state: state.pop("seed"), "were expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            batch.load_state_dict(damaged(change))
    after = batch.state_dict()
    for name in before["lanes"]:
        assert torch.equal(before["lanes"][name], after["lanes"][name])


@pytest.mark.parametrize(
    "actions",
    [
        torch.tensor([0, 1, 7]),
        torch.tensor([0, -1, 2]),
        torch.tensor([0, 1, 2**32]),  # 0 in 32 bits
        torch.tensor([0, 1, -(2**62)]),
        torch.tensor([0, 7, 2], dtype=torch.int32),
        np.array([0, 7, 2]),
        [0, 1, 7],
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.int64, device="meta"),
        torch.tensor(0),
        torch.tensor([0, 1]),
        torch.tensor([[0, 1, 2]]),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([True, False, True]),
        "left",
    ],
)
def test_bad_actions_change_nothing(actions):
    batch = GridBatch(KEYDOOR, 3)
    batch.reset(seed=0)
    before = batch.state_dict()["lanes"]
    image = batch.observe()[0]["image"].clone()
    with pytest.raises(ValueError, match="action"):
        batch.step(actions)
    assert torch.equal(batch.observe()[0]["image"], image)
    for name, tensor in batch.state_dict()["lanes"].items():
        assert torch.equal(tensor, before[name])


def test_numpy_and_lists_are_actions_too():
    batch = GridBatch(KEYDOOR, 3)
    batch.reset(seed=0)
    for actions in (np.array([1, 1, 1]), [1, 1, 1], torch.ones(3, dtype=torch.int32)):
        before = batch.observe()[0]["direction"].clone()
        assert torch.equal(batch.step(actions)[0]["direction"], (before + 1) % 4)


def test_a_batch_goes_on_after_a_bad_action():
    batch, other = GridBatch(KEYDOOR, 3), GridBatch(KEYDOOR, 3)
    for one in (batch, other):
        one.reset(seed=0)
    with pytest.raises(ValueError, match="lane 2 is 9"):
        batch.step(torch.tensor([1, 1, 9]))
    assert torch.equal(batch.step(torch.tensor([1, 1, 1]))[0]["image"], other.step(torch.tensor([1, 1, 1]))[0]["image"])


def test_bad_calls():
    for make in (vector.make_vec, GridBatch, lambda name, n: gym.make_vec(f"cairn/{name}", num_envs=n)):
        for n in (0, -1):
            with pytest.raises(ValueError, match="at least (1|one)"):
                make(KEYDOOR, n)
    with pytest.raises(gym.error.NameNotFound):
        gym.make_vec("cairn/MiniGrid-Nowhere-v0", num_envs=2)
    with pytest.raises(gym.error.NameNotFound, match="WFC"):
        vector.make_vec("MiniGrid-WFC-MazeSimple-v0", 2)
    for device, why in (("cuda:99", "is not there"), ("meta", "runs on"), ("nowhere", "is not there")):
        with pytest.raises(ValueError, match=why):
            GridBatch(KEYDOOR, 2, device=device)
    for name in ("max_episode_steps", "max_steps"):
        with pytest.raises(ValueError, match=f"{name}.*at least"):
            vector.make_vec(KEYDOOR, 1, **{name: 0})
    with pytest.raises(gym.error.NameNotFound):
        vector.make_vec("MiniGrid-Nowhere-v0", 1)
    batch = GridBatch(KEYDOOR, 3)
    with pytest.raises(RuntimeError, match="reset"):
        batch.step(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="reset"):
        batch.state_dict()
    with pytest.raises(ValueError, match="first reset"):
        batch.reset(seed=0, options={"reset_mask": torch.tensor([True, False, True])})
    batch.reset(seed=0)
    for bad in (torch.tensor([1, 2]), torch.tensor([0, 1, -2]), torch.tensor([0.0, 1.0, 2.0])):
        with pytest.raises(ValueError, match="lanes"):
            batch.reset(options={"lanes": bad})
    with pytest.raises(ValueError, match="seed"):
        batch.reset(seed=-1)


def test_reset_mask_with_a_seed_rekeys_only_its_rows():
    batch = GridBatch("MiniGrid-FourRooms-v0", 4)
    batch.reset(seed=1)
    mask = torch.tensor([False, True, False, False])
    before = batch.grid()
    batch.reset(seed=2, options={"reset_mask": mask})
    env = single.make("MiniGrid-FourRooms-v0")
    env.reset(seed=2, options={"lane": 1})
    assert (batch.grid()[1].numpy() == env.grid.encode()).all()
    assert torch.equal(batch.grid()[~mask], before[~mask])
    batch.reset(options={"reset_mask": mask})
    env.reset()
    assert (batch.grid()[1].numpy() == env.grid.encode()).all()


def test_unseeded_batches_differ():
    first, second = GridBatch("MiniGrid-FourRooms-v0", 2), GridBatch("MiniGrid-FourRooms-v0", 2)
    first.reset()
    second.reset()
    assert not torch.equal(first.grid(), second.grid())


def test_make_vec_takes_the_engine_where_it_can():
    assert isinstance(gym.make_vec(f"cairn/{KEYDOOR}", num_envs=2), GridBatch)
    assert isinstance(vector.make_vec(KEYDOOR, 2, max_steps=9, agent_view_size=5, see_through_walls=True), GridBatch)
    assert not isinstance(gym.make_vec("cairn/BabyAI-GoToObj-v0", num_envs=2), GridBatch)


@pytest.mark.parametrize("view, through", [(3, False), (5, True), (9, False), (11, False), (15, True)])
def test_other_views(view, through):
    name, kwargs = "MiniGrid-FourRooms-v0", {"agent_view_size": view, "see_through_walls": through}
    batch = GridBatch(name, 3, **kwargs)
    batch.reset(seed=0)
    envs = [single.make(name, **kwargs) for _ in range(3)]
    for i, env in enumerate(envs):
        env.reset(seed=0, options={"lane": i})
    rng = np.random.default_rng(0)
    for _ in range(99):
        actions = rng.integers(0, 3, size=3)
        obs, *_ = batch.step(torch.from_numpy(actions))
        for i, env in enumerate(envs):
            expected, _, end, _, _ = env.step(actions[i])
            if end:
                expected, _ = env.reset()
            assert (obs["image"][i].numpy() == expected["image"]).all()


def test_max_episode_steps_cuts_but_does_not_change_the_reward():
    batch = GridBatch("MiniGrid-Empty-5x5-v0", 2, max_episode_steps=5)
    batch.reset(seed=0)
    for t, action in enumerate([2, 2, 1, 2, 2]):
        _, reward, terminated, truncated, _ = batch.step(torch.tensor([action, 0]))
        assert truncated.tolist() == [t == 4] * 2
    assert terminated.tolist() == [True, False]
    assert float(reward[0]) == float(np.float32(1 - 0.9 * (5 / 100)))


def test_stream_in_a_kernel():
    def draw(w: World, raw: wp.array2d(dtype=wp.uint64), small: wp.array2d(dtype=wp.int32), n: wp.int32) -> None:
        i = wp.tid()
        next_episode(w, i)
        for k in range(raw.shape[1]):
            raw[i, k] = bits(w, i)
        for k in range(small.shape[1]):
            small[i, k] = below(w, i, n)

    runtime.start()
    kernel = wp.kernel(draw, module="unique", module_options={"enable_backward": False})
    lanes = 50
    for n in (1, 2, 3, 7, 25, 1000, 2**30 + 1, 2**31 - 1):
        world = World()
        cells, ints = torch.zeros(lanes, 9, dtype=torch.int16), torch.zeros(lanes, 8, dtype=torch.int32)
        rng = torch.zeros(lanes, 3, dtype=torch.int64)
        rng[:, L.LANE_KEY] = torch.from_numpy(lane_keys(2**64 - 1, np.arange(lanes, dtype=np.uint64)).view(np.int64))
        ints[:, L.EPISODE] = torch.arange(lanes) - 1
        world.cells, world.ints = wp.from_torch(cells), wp.from_torch(ints)
        world.rng, world.width, world.height = wp.from_torch(rng, dtype=wp.uint64), 3, 3
        raw, small = wp.zeros((lanes, 4), dtype=wp.uint64, device="cpu"), wp.zeros((lanes, 60), dtype=int, device="cpu")
        wp.launch(kernel, lanes, inputs=[world, raw, small, n], device="cpu")
        for i in range(lanes):
            stream = Stream.of(2**64 - 1, i, episode=i)
            assert raw.numpy()[i].tolist() == [stream.bits() for _ in range(4)]
            assert small.numpy()[i].tolist() == [stream.below(n) for _ in range(60)]
            assert int(rng[i, L.COUNTER]) == stream.counter
        if n == 2**30 + 1:
            assert int(rng[:, L.COUNTER].sum()) > 64 * lanes  # a quarter of the draws was thrown away


def test_lane_keys():
    lanes = np.array([0, 1, 77, 2**40], dtype=np.uint64)
    for seed in (0, 5, 2**64 - 1):
        assert lane_keys(seed, lanes).tolist() == [lane_key(seed, int(lane)) for lane in lanes]
    assert GAMMA % 2 == 1


def test_layout_is_upstreams():
    from minigrid.core import constants
    from minigrid.core.actions import Actions

    for name, index in constants.OBJECT_TO_IDX.items():
        assert L.TYPES[index] == name
    assert {name: L.COLORS.index(name) for name in L.COLORS} == constants.COLOR_TO_IDX
    assert list(L.COLOR_NAMES) == constants.COLOR_NAMES
    assert constants.STATE_TO_IDX == {"open": L.OPEN, "closed": L.CLOSED, "locked": L.LOCKED}
    assert [a.value for a in Actions] == [L.LEFT, L.RIGHT, L.FORWARD, L.PICKUP, L.DROP, L.TOGGLE, L.DONE]
    box = L.pack(L.BOX, L.RED, contents=L.pack(L.KEY, L.GREY))
    assert L.unpack(box) == (L.BOX, L.RED, 0) and L.contents(box) == L.pack(L.KEY, L.GREY)
    assert L.contents(L.pack(L.BOX, L.RED)) == 0
    inside = [L.pack(kind, color) for kind in (L.KEY, L.BALL, L.BOX) for color in range(6)]
    assert all(0 < L.pack(L.BOX, color, contents=held) < 2**15 for color in range(6) for held in inside)
    with pytest.raises(ValueError, match="can hold"):
        L.pack(L.BOX, L.RED, contents=box)


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("MiniGrid-FourRooms-v0", {}),
        ("MiniGrid-ObstructedMaze-Full-v0", {}),
        ("MiniGrid-MultiRoom-N6-v0", {}),
        ("MiniGrid-KeyCorridorS6R3-v0", {}),
        ("MiniGrid-Dynamic-Obstacles-16x16-v0", {"size": 25, "n_obstacles": 64}),
    ],
)
def test_state_of_a_large_level_is_small(name, kwargs):
    """At most 2 KB for 25 x 25 cells: everything of a lane that ``state_dict`` saves."""
    few, more = (GridBatch(name, n, **kwargs) for n in (1, 101))
    assert few.width * few.height <= 625 and (not kwargs or few.width == 25)
    sizes = []
    for batch in (few, more):
        batch.reset(seed=0)
        sizes.append(sum(tensor.nbytes for tensor in batch.state_dict()["lanes"].values()))
    assert sizes[1] == 101 * sizes[0] and sizes[0] <= 2048


def test_first_start_is_quiet_and_says_what_it_compiles(tmp_path):
    code = f"import cairn, gymnasium as gym\ngym.make_vec('cairn/{KEYDOOR}', num_envs=2).reset(seed=0)\n"
    environment = {**os.environ, "WARP_CACHE_PATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == ""
    # How long it takes decides whether there is anything to say.
    assert all(line.startswith("cairn: compiling the doorkey (cpu) kernels") for line in run.stderr.splitlines())


def test_announcement(capsys):
    with runtime.announced("some", after=0.0):
        time.sleep(0.2)
    assert capsys.readouterr().err.startswith("cairn: compiling the some kernels")
    with runtime.announced("other", after=60.0):
        pass
    assert capsys.readouterr().err == ""


def test_two_processes_compile_at_once(tmp_path):
    code = (
        "import torch\nfrom cairn.envs.grid.engine import GridBatch\n"
        f"b = GridBatch('{KEYDOOR}', 2); b.reset(seed=0); print(int(b.grid().sum()))\n"
    )
    environment = {**os.environ, "WARP_CACHE_PATH": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in "12"
    ]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1] != ""
