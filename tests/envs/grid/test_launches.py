"""How a step is launched: threads that share the lanes, a graph, and nothing allocated on the way."""

import multiprocessing
import threading
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.grid import runtime, team
from cairn.envs.grid.engine import GridBatch

KEYDOOR = "MiniGrid-DoorKey-6x6-v0"


def play(batch, steps, seed=8):
    """All that a batch returns under actions that are a function of (lane, step)."""
    obs, info = batch.reset(seed=seed)
    rows = [[obs["image"].clone(), info["facts"]["cells"].clone()]]
    for t in range(steps):
        actions = (torch.arange(batch.num_envs) * 7919 + t * 104729) % 23 % 7
        obs, reward, *ends, info = batch.step(actions)
        done = info["_final_obs"]
        last = torch.where(done[:, None, None, None], info["final_obs"]["image"], 0)
        more = [info["facts"][name] for name in ("cells", "room", "hash") if name in info["facts"]]
        rows.append([t.clone() for t in (obs["image"], obs["mission"], reward, *ends, last, *more)])
    return rows


def assert_same(first, second):
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert torch.equal(x, y), (t, k)


def make(lanes=700, **kwargs):
    return GridBatch(KEYDOOR, lanes, max_steps=30, facts=["room", "hash"], **kwargs)


def test_chunks():
    for lanes, threads in ((1, 1), (10, 3), (128, 1), (129, 1), (5000, 2), (10**6, 4)):
        parts = team.chunks(lanes, threads)
        assert parts[0].start == 0 and parts[-1].stop == lanes
        assert all(a.stop == b.start for a, b in zip(parts[:-1], parts[1:], strict=True))
        assert all(part.start < part.stop for part in parts)
        assert threads <= len(parts) <= team.MOST_CHUNKS
    assert len(team.chunks(128, 1)) == 1


def test_threads_are_as_many_as_are_worth_waking(monkeypatch):
    monkeypatch.setattr(team, "cores", lambda: 4)
    assert team.check_threads(None, team.LEAST_SHARED - 1) == 1
    assert team.check_threads(None, team.LEAST_SHARED) == 4
    assert team.check_threads(9, 5) == 5
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="threads"):
            GridBatch(KEYDOOR, 3, threads=bad)


def test_threads_do_not_matter(monkeypatch):
    monkeypatch.setattr(team, "PATIENCE", 50)  # so that they fall asleep on the way, too
    one, two, five = (make(threads=k) for k in (1, 2, 5))
    first = play(one, 60)
    assert sum(int(row[3].sum() + row[4].sum()) for row in first[1:]) > 100
    assert_same(first, play(two, 60))
    assert_same(first, play(five, 60))


def test_two_users_of_the_team_at_once():
    """One of them gets it, and the other works alone; nobody gets the other's lanes."""
    expected = play(make(), 150)
    batches = [make(threads=3) for _ in range(3)]
    played = [None] * 3

    def work(k):
        played[k] = play(batches[k], 150)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows in played:
        assert_same(expected, rows)


def _step_in_child(batch, state, queue):
    batch.load_state_dict(state)
    queue.put([batch.step(torch.full((batch.num_envs,), t % 7))[0]["image"].sum().item() for t in range(20)])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_a_team_of_its_own():
    batch = make(threads=3)
    batch.reset(seed=1)
    state = batch.state_dict()
    expected = [batch.step(torch.full((700,), t % 7))[0]["image"].sum().item() for t in range(20)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_step_in_child, args=(batch, state, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
    assert batch.step(torch.zeros(700, dtype=torch.int64))[0]["image"].any()


def test_launches_one_by_one_are_the_same(monkeypatch):
    """Where Warp's insides are not as this version has them, launches go Warp's own way."""
    first = play(make(), 40)
    monkeypatch.setattr(runtime, "entry", lambda launch: None)
    assert_same(first, play(make(threads=2), 40))


def test_a_graph_is_the_same(monkeypatch):
    """The GPU's way of launching, on the CPU: captured once, then repeated."""
    first = play(make(), 40)
    views = gym.make_vec(f"cairn/{KEYDOOR}", num_envs=5, observation="rgb")
    frames = views.reset(seed=0)[0]["image"].clone()
    monkeypatch.setattr(GridBatch, "_graph_on_cpu", True)
    assert_same(first, play(make(), 40))
    views = gym.make_vec(f"cairn/{KEYDOOR}", num_envs=5, observation="rgb")
    assert torch.equal(views.reset(seed=0)[0]["image"], frames)


def test_on_a_gpu_a_bad_action_stops_the_batch_until_somebody_looks(monkeypatch):
    """There nobody waits for the device in a step. Here: the same kernels, and a batch that thinks it does not look."""
    batch = make(20)
    batch.reset(seed=0)
    batch.step(torch.full((20,), 1))
    before = batch.state_dict()["lanes"]
    shown = batch.observe()[0]["image"].clone()

    def step(actions):
        batch.arrays.actions.copy_(actions)
        batch.programs.check()
        batch.programs.step()
        return batch.arrays.result

    bad = torch.zeros(20, dtype=torch.int64)
    bad[13] = 7
    for actions in (bad, torch.zeros(20, dtype=torch.int64)):
        result = step(actions)
        assert not result["done"].any() and not result["reward"].any()
        for name, tensor in batch.arrays.state.items():
            assert torch.equal(tensor, before[name])
        assert torch.equal(batch.observe()[0]["image"], shown)
    with pytest.raises(ValueError, match="no lane has moved since"):
        batch.state_dict()
    step(bad)
    with pytest.raises(ValueError, match="the action of lane 13 is 7"):
        batch.reset()
    step(torch.zeros(20, dtype=torch.int64))
    batch.check_actions()
    assert not torch.equal(batch.observe()[0]["image"], shown)


class Calls(TorchDispatchMode):
    """Which of torch's operators are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def tensors_of(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, leaf in value.items():
            yield from tensors_of(leaf, f"{name}.{key}")
    elif isinstance(value, tuple):
        for k, leaf in enumerate(value):
            yield from tensors_of(leaf, f"{name}.{k}")


@pytest.mark.parametrize("observation", ["partial", "full", "onehot", "rgb", "rgb_full"])
@pytest.mark.parametrize("frames", [0, 2])
def test_nothing_is_allocated_in_a_step(observation, frames):
    kwargs = {"render_mode": "rgb_array", "tile_size": 4} if frames else {}
    batch = gym.make_vec(f"cairn/{KEYDOOR}", num_envs=600, observation=observation, threads=2, max_steps=9, **kwargs)
    batch.frame_every = frames
    batch.reset(seed=0)
    actions = torch.from_numpy(np.random.default_rng(0).integers(0, 7, (40, 600)))
    for row in actions:
        out = batch.step(row)
    at = {name: tensor.data_ptr() for name, tensor in tensors_of(out)}
    assert len(at) > 20 + 4 * bool(frames)
    tracemalloc.start()
    try:
        with Calls() as calls:
            for row in actions:
                out = batch.step(row)
                assert {name: tensor.data_ptr() for name, tensor in tensors_of(out)} == at
        out = before = after = None
        for row in actions:
            batch.step(row)
        before = tracemalloc.take_snapshot()
        for row in actions:
            batch.step(row)
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    # A copy of the actions into their place, and reading one number: no operator here makes a tensor of lanes.
    assert calls.names <= {"aten.copy_.default", "aten._local_scalar_dense.default", "aten.unbind.int"}, calls.names
    ours = [s for s in after.compare_to(before, "filename") if "/envs/grid/" in s.traceback[0].filename]
    assert sum(max(s.size_diff, 0) for s in ours) < 1024, ours
