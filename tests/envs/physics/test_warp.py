"""Physics on MuJoCo Warp, on Warp's CPU device: the code path of a GPU, but for the recording of the graph.

Its kernels are compiled once for each model, so the models here are few and small: InvertedPendulum (joint limits),
Hopper (contacts), one Ant (contact forces, a free joint) among the walls of a trap, and a PointMaze (a memory, a Dict
observation). ``cairn bench physics_gpu`` does all eleven and the other families.
"""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cairn  # noqa: F401
from cairn.envs.check import check_batch_env

HAS_WARP = True
try:
    import mujoco_warp  # noqa: F401
except ImportError:
    HAS_WARP = False
needs_warp = pytest.mark.skipif(not HAS_WARP, reason="needs the extra gpu (MuJoCo Warp)")


RANGES = {"mass": (0.3, 3.0), "friction": (0.2, 2.0), "gravity": (0.5, 1.5)}


def make(task="Hopper-v5", n=3, frame_skip=1, **kwargs):
    return gym.make_vec(f"cairn/{task}", num_envs=n, engine="warp", frame_skip=frame_skip, **kwargs)


def actions(batch, steps, seed=0):
    space = batch.single_action_space
    shape = (steps, batch.num_envs, *space.shape)
    rows = [np.random.default_rng((seed, lane)).uniform(space.low, space.high, (shape[0], *shape[2:])) for lane in
            range(batch.num_envs)]  # fmt: skip
    return torch.from_numpy(np.stack(rows, axis=1).astype(np.float32))


def numbers(obs, reward, terminated, truncated, info):
    facts = [info[group][name] for group in ("facts", "final_facts") for name in sorted(info[group])]
    seen = [part for x in (obs, info["final_obs"]) for part in (x.values() if isinstance(x, dict) else [x])]
    columns = [*seen, reward, terminated, truncated, *facts]
    return torch.cat([column.double().reshape(len(column), -1) for column in columns], dim=1)


def record(batch, rows):
    return torch.stack([numbers(*batch.step(row)) for row in rows])


def same(a, b):
    return a.shape == b.shape and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)


@needs_warp
@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "Hopper-v5"])
def test_keeps_the_contract(task):
    check_batch_env(lambda n: make(task, n, max_episode_steps=7))


@needs_warp
@pytest.mark.parametrize(
    ("task", "velocity", "forces"), [("InvertedPendulum-v5", 1e-5, 0), ("Hopper-v5", 1e-4, 0), ("Ant-v5", 1e-3, 1e-2)]
)
def test_a_step_is_the_cpu_engines_within_float32(task, velocity, forces):
    """From states that the CPU engine visits: positions, velocities, rewards with all parts, ends, facts."""
    n = 4
    theirs = gym.make_vec(f"cairn/{task}", num_envs=n)
    ours = make(task, n, theirs.task.frame_skip)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    touched = ends = 0
    for row in actions(theirs, 20):
        now, every = theirs.engine.now, np.arange(n)
        qpos, qvel = now.qpos.astype(np.float32), now.qvel.astype(np.float32)
        ours.set_state(every, qpos, qvel)
        theirs.set_state(every, qpos, qvel)
        _, reward, terminated, _, info = ours.step(row)
        _, expected, ended, _, reference = theirs.step(row)
        facts, right = info["final_facts"], reference["final_facts"]
        assert set(info) == set(reference) and set(facts) == set(right)
        for name in ("touching", "feet", "unstable"):
            assert torch.equal(facts[name], right[name])
        for name, least in (("qpos", velocity / 10), ("qvel", velocity), ("xpos", velocity / 10)):
            torch.testing.assert_close(facts[name].double(), right[name], rtol=1e-5, atol=least)
        assert torch.equal(terminated, ended)
        torch.testing.assert_close(reward, expected, rtol=1e-5, atol=velocity)
        for name in set(info) - {"facts", "final_facts", "_final_obs"}:
            least = max(velocity, forces if name == "final_obs" else 0)
            torch.testing.assert_close(info[name].double(), reference[name].double(), rtol=1e-4, atol=least)
        touched, ends = touched + int(right["touching"].sum()), ends + int(ended.sum())
    assert touched > 5 or task.startswith("Inverted")
    assert ends > 0 or task == "Ant-v5"


@needs_warp
def test_a_step_among_walls_is_the_cpu_engines():
    """An ant in AntTrap's front wall, and points that are pushed into a maze's walls, faster than their limit."""
    for task, own, hits in (("AntTrap-v0", {}, 3), ("PointMaze_UMaze-v3", {"reset_target": True}, 15)):
        ours = gym.make_vec(f"cairn/{task}", num_envs=4, engine="warp", dtype="float64", **own)
        theirs = gym.make_vec(f"cairn/{task}", num_envs=4, **own)
        ours.reset(seed=0)
        theirs.reset(seed=0)
        rng, walls = np.random.default_rng(1), 0
        wall = [any(name.startswith(("trap", "block")) for name in pair) for pair in theirs.touching_names]
        assert ours.touching_names == theirs.touching_names and sum(wall) > 2
        for row in actions(theirs, 12):
            now = theirs.engine.now
            qpos, qvel = now.qpos.astype(np.float32), now.qvel.astype(np.float32)
            if "Ant" in task:  # a leg of 0.8 m reaches the wall
                qpos[:, :2] = np.array([10.75, 0]) + rng.uniform(-0.1, 0.1, (4, 2))
            else:
                qpos[:, 0], qvel[:, 0] = 1.41, 6.0
            ours.set_state(range(4), qpos, qvel)
            theirs.set_state(range(4), qpos, qvel)
            for name, array in theirs.memory.names.items():
                ours._memory[name].copy_(torch.from_numpy(array))
            obs, reward, terminated, _, info = ours.step(row)
            other, expected, ended, _, reference = theirs.step(row)
            facts, right = info["final_facts"], reference["final_facts"]
            assert set(info) == set(reference) and set(facts) == set(right)
            for name in facts:
                torch.testing.assert_close(facts[name].double(), right[name].double(), rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(reward, expected, rtol=1e-5, atol=1e-4)
            assert torch.equal(terminated, ended)
            if isinstance(obs, dict):
                assert list(obs) == list(other) and set(obs) == set(ours.single_observation_space)
                for name in obs:
                    torch.testing.assert_close(obs[name], other[name], rtol=1e-5, atol=1e-4)
            walls += int(right["touching"][:, wall].sum())
        assert walls > hits, walls


@needs_warp
def test_mazes_remember_goals_and_move_them():
    def make_maze(**kwargs):
        return gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=3, engine="warp", reset_target=True, **kwargs)

    check_batch_env(lambda n: gym.make_vec("cairn/PointMaze_UMaze-v3", num_envs=n, engine="warp", max_episode_steps=7))
    batch = make_maze(max_episode_steps=9)
    cells = np.array([[1, 1], [3, 1], [1, 3]])
    obs, info = batch.reset(seed=4, options={"goal_cell": cells, "reset_cell": cells[[1, 2, 0]]})
    centers = np.stack([batch.task.layout.center(cell) for cell in cells])
    assert np.abs(obs["desired_goal"].numpy() - centers).max() < 0.2501
    assert np.abs(obs["achieved_goal"].numpy() - centers[[1, 2, 0]]).max() < 0.2501
    with pytest.raises(ValueError, match="is a wall"):
        batch.reset(options={"goal_cell": (0, 0)})
    goal = info["facts"]["goal"].clone()
    batch.set_state([1], goal[1:2].double(), np.zeros((1, 2)))
    rows = actions(batch, 30)
    obs, reward, _, _, info = batch.step(rows[0])
    assert reward.tolist() == [0, 1, 0] and info["facts"]["success"].tolist() == [False, True, False]
    assert torch.equal(info["facts"]["goal"], goal) and torch.equal(obs["desired_goal"], goal)  # of that moment
    state = batch.state_dict()
    obs, reward, *_ = batch.step(rows[1])
    moved = obs["desired_goal"]
    assert torch.equal(moved[[0, 2]], goal[[0, 2]]) and reward.tolist() == [0, 0, 0]
    assert float((moved[1] - obs["achieved_goal"][1]).norm()) > 0.45
    batch.load_state_dict(state)
    again = batch.step(rows[1])[0]["desired_goal"]
    assert torch.equal(again, moved)  # the draw is in the state
    batch.load_state_dict(state)
    expected = record(batch, rows[1:])
    other = make_maze(max_episode_steps=9)
    other.load_state_dict(state)
    assert same(record(other, rows[1:]), expected)


@needs_warp
def test_contacts_of_feet_are_counted_over_the_episode():
    batch = make("HopperUni-v0", 3, max_episode_steps=30)
    _, info = batch.reset(seed=0)
    counts, steps, feet = torch.zeros(3, 1), torch.zeros(3), info["facts"]["feet"]
    ended_some = False
    for row in actions(batch, 60):
        _, _, terminated, truncated, info = batch.step(row)
        counts, steps = counts + feet, steps + 1
        torch.testing.assert_close(info["final_facts"]["descriptor"], counts / steps[:, None])
        ended, feet = terminated | truncated, info["facts"]["feet"]
        counts, steps = counts * ~ended[:, None], steps * ~ended
        assert torch.equal(info["facts"]["contacts"], counts) and torch.equal(info["facts"]["steps"], steps)
        ended_some |= bool(ended.any())
    assert ended_some and torch.equal(batch.descriptor_bounds, torch.tensor([[0.0], [1.0]], dtype=torch.float64))


@needs_warp
def test_resumes_bit_for_bit_and_refuses_other_states():
    batch = make(max_episode_steps=20)
    batch.reset(seed=2)
    rows = actions(batch, 50)
    record(batch, rows[:23])
    state = batch.state_dict()
    expected = record(batch, rows[23:])
    other = make(max_episode_steps=20)
    other.load_state_dict(state)
    assert torch.equal(other.observe()[0], state["obs"])
    assert same(record(other, rows[23:]), expected)
    batch.load_state_dict(state)  # and on top of another state
    assert same(record(batch, rows[23:]), expected)
    for strange in (make(n=4), make("InvertedPendulum-v5"), gym.make_vec("cairn/Hopper-v5", num_envs=3)):
        strange.reset(seed=0)
        with pytest.raises(ValueError):
            batch.load_state_dict(strange.state_dict())


@needs_warp
def test_ends_give_the_true_last_observation_and_a_fresh_start():
    batch = make("InvertedPendulum-v5", 4, max_episode_steps=9)
    batch.reset(seed=0)
    starts, seen = [], set()
    for row in actions(batch, 40):
        obs, reward, terminated, truncated, info = batch.step(row)
        ended = terminated | truncated
        assert torch.equal(info["_final_obs"], ended)
        final = torch.cat([info["final_facts"]["qpos"], info["final_facts"]["qvel"]], dim=1)
        assert torch.equal(info["final_obs"], final)  # the pendulum observes positions and velocities
        assert torch.equal(obs, torch.cat([info["facts"]["qpos"], info["facts"]["qvel"]], dim=1))
        assert torch.equal(obs[~ended], final[~ended])
        assert torch.equal(terminated, final[:, 1].abs() > 0.2)
        assert torch.equal(reward, (~terminated).float())
        starts.append(obs[ended])
        seen |= {"terminated"} if terminated.any() else set()
        seen |= {"truncated"} if (truncated & ~terminated).any() else set()
    starts = torch.cat(starts)
    assert len(starts) > 10 and (starts.abs() <= 0.01).all() and len(starts.unique(dim=0)) == len(starts)
    assert "terminated" in seen


@needs_warp
def test_one_broken_environment_does_not_disturb_the_others():
    runs = []
    for broken in (True, False):
        batch = make(n=3, max_episode_steps=50)
        batch.reset(seed=0)
        rows = actions(batch, 12)
        record(batch, rows[:3])
        before = batch.observe()[0].clone()
        if broken:
            speed = torch.zeros(1, 6)
            speed[0, :2] = 1e9
            batch.engine._inner["qvel"][1] = speed[0] * torch.inf if broken else 0.0
        _, reward, terminated, _, info = batch.step(rows[3])
        if broken:
            assert info["final_facts"]["unstable"].tolist() == [False, True, False]
            assert terminated.tolist()[1] and float(reward[1]) == 0.0
            assert torch.equal(info["final_obs"][1], before[1])
            assert all(torch.isfinite(value).all() for value in info["facts"].values())
        later = record(batch, rows[4:])
        assert torch.isfinite(later).all()
        runs.append(later[:, [0, 2]])
    assert same(*runs)


@needs_warp
def test_too_small_buffers_are_errors_with_the_size_to_set():
    tight = make(n=2, nconmax=1, njmax=2)
    tight.reset(seed=0)
    rows = actions(tight, 40)
    with pytest.raises(RuntimeError, match=r"n(conmax|jmax)=\d+"):
        record(tight, rows)
    tight.close()  # what has been raised is not raised again

    late = make(n=2, njmax=2, check_every=1000)
    late.reset(seed=0)
    record(late, rows)  # nobody has looked yet
    with pytest.raises(RuntimeError, match="make the batch with njmax=4"):
        late.state_dict()
    late = make(n=2, njmax=2, check_every=20)
    late.reset(seed=0)
    with pytest.raises(RuntimeError, match="njmax"):
        record(late, rows)


@needs_warp
def test_deferred_checks_of_actions():
    batch = make("InvertedPendulum-v5", 3, check_every=3)
    batch.reset(seed=0)
    bad = torch.zeros(3, 1)
    bad[1] = torch.nan
    batch.step(bad)
    _, _, _, _, info = batch.step(torch.zeros(3, 1))
    assert torch.isfinite(info["final_obs"]).all()  # the lane had zeros for it
    with pytest.raises(ValueError, match="lane 1"):
        batch.step(torch.zeros(3, 1))
    batch.step(torch.zeros(3, 1))
    for wrong in (torch.zeros(3), torch.zeros(2, 1), torch.zeros(3, 1, dtype=torch.complex64)):
        with pytest.raises(ValueError):
            batch.step(wrong)


@needs_warp
def test_a_step_neither_waits_nor_branches_on_data():
    """What a CUDA graph cannot hold: reading a number, shapes that depend on data, copies from the host."""
    batch = make(dynamics=RANGES)
    batch.reset(seed=0)

    class NoWaiting(TorchDispatchMode):
        names: set[str] = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            self.names.add(name)
            scalar = name == "lift_fresh" and args[0].ndim == 0
            assert scalar or name not in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique")
            if name == "index":
                assert all(i is None or i.dtype != torch.bool for i in args[1])
            return func(*args, **(kwargs or {}))

    with batch.engine.here(), NoWaiting() as mode:
        batch._tick()
    assert {"where", "copy_", "index_fill_"} <= mode.names


@needs_warp
def test_bad_input(monkeypatch):
    for wrong in ({"num_envs": 0}, {"dtype": "float16"}, {"render_mode": "human"}, {"solver": "pgs"}, {"njmax": 0},
                  {"check_every": 0}, {"nconmax": -1}, {"solver": "magic"}):  # fmt: skip
        with pytest.raises(ValueError):
            make(**{"n": wrong.pop("num_envs", 2), **wrong})
    with pytest.raises(TypeError, match="threads"):
        make(threads=2)
    with pytest.raises(ValueError, match="mass"):
        make(dynamics={"mass": (2, 1)})
    with pytest.raises(ValueError, match="njmax"):  # the humanoid lies on the floor at rest
        make("HumanoidStandup-v5", 1, njmax=1, nconmax=1)
    batch = make("InvertedPendulum-v5", 2)
    with pytest.raises(gym.error.ResetNeeded):
        batch.step(torch.zeros(2, 1))
    batch.reset(seed=0)
    for lanes, qpos, qvel in (([2], [[0, 0]], [[0, 0]]), ([0], [[0]], [[0, 0]]), ([0], [[0, np.nan]], [[0, 0]])):
        with pytest.raises(ValueError):
            batch.set_state(lanes, qpos, qvel)

    from cairn.envs.physics.pendulum import InvertedPendulum

    monkeypatch.setattr(InvertedPendulum, "start", lambda self, rng: (np.zeros(2), np.zeros(2)))
    with pytest.raises(NotImplementedError, match="one environment at a time"):
        make("InvertedPendulum-v5", 3)


def test_the_error_names_the_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(ImportError, match=r"cairn-rl\[gpu\]"):
        make("InvertedPendulum-v5")


@pytest.mark.skipif(not (HAS_WARP and torch.cuda.is_available()), reason="needs a GPU")
@pytest.mark.parametrize("task", ["Hopper-v5", "Ant-v5", "Humanoid-v5"])
def test_the_graph_is_the_step_on_a_gpu(task):
    batch, plain = (gym.make_vec(f"cairn/{task}", num_envs=16, device="cuda", max_episode_steps=9) for _ in range(2))
    plain._graph.run = plain._tick
    for each in (batch, plain):
        each.reset(seed=0)
    rows = actions(batch, 30).cuda()
    first, second = (record(each, rows).cpu() for each in (batch, plain))
    assert same(first, second)
    again = gym.make_vec(f"cairn/{task}", num_envs=16, device="cuda", max_episode_steps=9)
    again.load_state_dict(batch.state_dict())
    assert same(record(again, rows).cpu(), record(batch, rows).cpu())


@needs_warp
def test_pictures_of_all_lanes():
    """By rays, where the model has a camera; the last picture of an episode is its own."""
    batch = make(n=3, max_episode_steps=4, render_mode="rgb_array", width=32, height=24)
    batch.frame_every = 1
    _, info = batch.reset(seed=0)
    assert info["frame"].shape == (3, 24, 32, 3) and info["frame"].dtype == torch.uint8
    assert info["frame"].float().std() > 5
    same_place = batch.render()
    assert len(same_place) == 3 and np.array_equal(np.stack(same_place), info["frame"].numpy())
    batch.set_state([1], [[0, 0.4, 0, -1.5, -1.5, 0]], np.zeros((1, 6)))  # it crouches, and has fallen
    _, _, terminated, _, info = batch.step(torch.zeros(3, 3))
    assert terminated.tolist() == [False, True, False] and info["_final_frame"].tolist() == terminated.tolist()
    last, first = info["final_frame"][1].float(), info["frame"][1].float()
    assert (last - first).abs().mean() > 2 and (info["final_frame"][[0, 2]] == 0).all()
    batch.close()


def model_arrays(m, prefix=""):
    """Every array of numbers of a MuJoCo Warp model, its options' too."""
    import warp as wp

    found = {}
    for name, value in vars(m).items():
        if isinstance(value, wp.array):
            found[prefix + name] = value.numpy()
        elif type(value).__name__ in ("Option", "Statistic"):
            found |= model_arrays(value, f"{name}.")
    return {name: array for name, array in found.items() if array.dtype.kind == "f"}


@needs_warp
def test_each_lane_has_its_own_dynamics():
    """Each lane's model is, in all of its numbers, the one that MuJoCo makes of the same factors."""
    import copy

    import mujoco_warp

    from cairn.envs.physics.dynamics import apply

    batch = make("Humanoid-v5", 3, dynamics=RANGES)
    _, info = batch.reset(seed=0)
    factors = info["facts"]["dynamics"].clone()
    for column, (low, high) in enumerate(RANGES.values()):
        assert low <= factors[:, column].min() < factors[:, column].max() <= high
    mine, changed = model_arrays(batch.engine.m), set()
    for lane in range(3):
        model = copy.copy(batch.model)
        apply(model, batch.model, factors[lane].numpy())
        theirs, plain = (model_arrays(mujoco_warp.put_model(m)) for m in (model, batch.model))
        for name, array in theirs.items():
            row = mine[name][lane : lane + 1] if len(mine[name]) == 3 and len(array) == 1 else mine[name]
            np.testing.assert_allclose(row, array, rtol=2e-6, atol=1e-9, err_msg=name)
            if array.shape == plain[name].shape and not np.array_equal(array, plain[name]):
                changed.add(name)
    assert changed == {"body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_invweight0",
                       "tendon_invweight0", "actuator_acc0", "geom_friction", "opt.gravity"}  # fmt: skip


@needs_warp
def test_dynamics_are_those_of_the_cpu_engine_and_new_in_each_episode():
    kwargs = {"dynamics": RANGES, "max_episode_steps": 4}
    batch, cpu = make("Hopper-v5", 4, **kwargs), gym.make_vec("cairn/Hopper-v5", num_envs=4, frame_skip=1, **kwargs)
    batch.reset(seed=0)
    cpu.reset(seed=0)
    first = batch.observe()[1]["facts"]["dynamics"].clone()
    state = cpu.state_dict()
    state["dynamics"] = first.clone()
    cpu.load_state_dict(state)
    qpos, qvel = (torch.tensor(x, dtype=torch.float32).double() for x in (cpu.engine.now.qpos, cpu.engine.now.qvel))
    qpos[:, 1] -= 0.045  # on the ground
    for each in (batch, cpu):
        each.set_state([0, 1, 2, 3], qpos, qvel)
    saved, rows = batch.state_dict(), actions(batch, 8)
    for row in rows[:4]:
        ours, theirs = batch.step(row)[-1], cpu.step(row)[-1]
        for name, limit in (("qpos", 1e-4), ("qvel", 2e-3)):
            gap = (ours["final_facts"][name].double() - theirs["final_facts"][name]).abs().max()
            assert gap < limit, (name, gap)
        assert torch.equal(ours["final_facts"]["dynamics"], first)
    assert ours["final_facts"]["touching"].any() and ours["_final_obs"].all()
    assert not (ours["facts"]["dynamics"] == first).any()
    after = record(batch, rows[4:])
    batch.load_state_dict(saved)
    record(batch, rows[:4])
    assert same(record(batch, rows[4:]), after)  # the factors are in the state, and the stream goes on
    plain = make("Hopper-v5", 4)
    with pytest.raises(ValueError, match="dynamics"):
        plain.load_state_dict(saved)


@needs_warp
def test_a_live_environment_goes_on_here_and_there():
    """Upstream's state comes in, both make the same step, and a fresh environment goes on from ours."""
    for task in ("Ant-v5", "Hopper-v5"):
        batch = gym.make_vec(f"cairn/{task}", num_envs=2, engine="warp", max_episode_steps=1000)
        env = gym.make(task)
        env.reset(seed=3)
        env.action_space.seed(0)
        for _ in range(6):
            env.step(env.action_space.sample())
        with pytest.raises(gym.error.ResetNeeded):
            batch.import_env(1, env)
        batch.reset(seed=0)
        other = batch.observe()[0][0].clone()
        batch.import_env(1, env)
        assert batch.state_dict()["elapsed"].tolist() == [0, 6]
        seen, info = batch.observe()
        assert torch.equal(seen[0], other)
        np.testing.assert_allclose(seen[1].numpy(), env.unwrapped._get_obs(), rtol=1e-5, atol=1e-5)
        geoms = {tuple(sorted(g)) for g in env.unwrapped.data.contact.geom.tolist()}
        marked = info["facts"]["touching"][1].nonzero()[:, 0].tolist()
        assert {tuple(batch.touching_pairs[p].tolist()) for p in marked} == geoms
        action = env.action_space.sample()
        last, reward, *_ = env.step(action)
        facts = batch.step(torch.from_numpy(np.stack([action, action])))[-1]
        np.testing.assert_allclose(facts["final_facts"]["qpos"][1], env.unwrapped.data.qpos, atol=1e-4)
        np.testing.assert_allclose(facts["final_facts"]["qvel"][1], env.unwrapped.data.qvel, atol=2e-3)
        assert float(facts["task_reward"][1]) == pytest.approx(reward, abs=2e-3)

        fresh = gym.make(task)
        fresh.reset(seed=0)
        batch.export_env(1, fresh)
        assert fresh._elapsed_steps == 7
        np.testing.assert_allclose(fresh.unwrapped._get_obs(), batch.observe()[0][1].numpy(), rtol=1e-6, atol=1e-6)
        after, *_ = fresh.step(action)
        np.testing.assert_allclose(after, env.step(action)[0], atol=5e-2, rtol=1e-2)
        with pytest.raises(ValueError, match="lane"):
            batch.import_env(2, env)
        with pytest.raises(ValueError, match="model"):
            batch.import_env(0, gym.make("Walker2d-v5"))
