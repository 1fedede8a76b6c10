"""PhysicsBatch as a BatchEnv: conformance, state, threads, breakdowns and bad input."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.check import check_batch_env
from cairn.envs.physics.generators import pack, unpack
from cairn.envs.physics.ids import PHYSICS_IDS
from cairn.envs.spaces import tree_leaves

# The mazes differ in their walls and in nothing that is tested here, so a few stand for all.
MAZES = {"PointMaze_UMaze-v3", "PointMaze_Open_Diverse_GDense-v3", "PointMaze_UMaze_Single-v3", "AntMaze_UMaze-v5"}
IDS = [row[0] for row in PHYSICS_IDS if "Maze" not in row[0] or row[3]["task"] in MAZES]


def actions(batch, steps, seed=0):
    space = batch.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)


def record(batch, rows):
    out = []
    for action in rows:
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(action))
        facts = torch.cat([info["facts"][name].double().flatten() for name in sorted(info["facts"])])
        parts = [
            *(leaf.double().flatten() for leaf in tree_leaves(obs)),
            reward.double(),
            terminated.double(),
            truncated.double(),
            facts,
        ]
        out.append(torch.cat(parts).numpy())
    return np.stack(out)


@pytest.mark.parametrize("id_", IDS)
def test_keeps_the_contract(id_):
    check_batch_env(lambda n: gym.make_vec(id_, num_envs=n, max_episode_steps=7, dtype="float32"))


@pytest.mark.parametrize("id_", IDS)
def test_resumes_bit_for_bit(id_):
    batch = gym.make_vec(id_, num_envs=3)
    batch.reset(seed=2)
    rows = actions(batch, 120)
    record(batch, rows[:37])
    state = batch.state_dict()
    expected = record(batch, rows[37:])
    other = gym.make_vec(id_, num_envs=3)
    other.load_state_dict(state)
    assert torch.equal(torch.cat(tree_leaves(other.observe()[0]), dim=1), state["obs"])
    assert np.array_equal(record(other, rows[37:]), expected, equal_nan=True)


def test_state_of_another_batch_is_refused():
    batch = gym.make_vec("cairn/Hopper-v5", num_envs=2)
    batch.reset(seed=0)
    before = batch.state_dict()
    for id_, n in (("cairn/Hopper-v5", 3), ("cairn/Walker2d-v5", 2), ("cairn/SparseHopper-v0", 2)):
        other = gym.make_vec(id_, num_envs=n)
        other.reset(seed=0)
        with pytest.raises(ValueError):
            batch.load_state_dict(other.state_dict())
    damaged = {**before, "generators": torch.zeros_like(before["generators"])}
    with pytest.raises(ValueError, match="damaged"):
        batch.load_state_dict(damaged)
    rows = actions(batch, 5)
    first = record(batch, rows)
    batch.load_state_dict(before)
    assert np.array_equal(record(batch, rows), first)


@pytest.mark.parametrize("id_", ["cairn/Ant-v5", "cairn/Humanoid-v5"])
def test_threads_change_nothing(id_):
    runs = []
    for threads in (1, 3):
        batch = gym.make_vec(id_, num_envs=21, threads=threads)
        batch.reset(seed=0)
        assert batch.engine.threads == threads
        runs.append(record(batch, actions(batch, 25)))
        batch.close()
        record(batch, actions(batch, 1))  # close ends the threads, and a further step starts them again
        batch.close()
    assert np.array_equal(runs[0], runs[1])


def test_imports_a_live_environment_and_exports_it():
    lane = 1
    for task in ("Ant-v5", "Humanoid-v5", "Reacher-v5"):
        env = gym.make(task)
        env.reset(seed=3)
        env.action_space.seed(0)
        for _ in range(20):
            env.step(env.action_space.sample())
        batch = gym.make_vec(f"cairn/{task}", num_envs=2)
        batch.reset(seed=0)
        batch.import_env(lane, env)
        rows = actions(batch, 60)
        for row in rows[:30]:
            info = batch.step(row)[-1]
            last, r, term, trunc, _ = env.step(row[lane])
            assert np.array_equal(info["final_obs"][lane].numpy(), last)
            assert (float(info["task_reward"][lane]), bool(info["_final_obs"][lane])) == (r, term or trunc)
            if term or trunc:
                env.reset()
        # A third party takes over, from a batch whose state came out of a checkpoint.
        again = gym.make_vec(f"cairn/{task}", num_envs=2)
        again.load_state_dict(batch.state_dict())
        fresh = gym.make(task)
        fresh.reset()
        again.export_env(lane, fresh)
        for row in rows[30:]:
            last, r, term, trunc, _ = env.step(row[lane])
            other = fresh.step(row[lane])
            assert np.array_equal(other[0], last) and other[1:4] == (r, term, trunc)
            if term or trunc:
                assert np.array_equal(env.reset()[0], fresh.reset()[0])


def test_set_state_is_upstreams():
    for task in ("Ant-v5", "Humanoid-v5", "HalfCheetah-v5"):
        batch, env = gym.make_vec(f"cairn/{task}", num_envs=3), gym.make(task)
        batch.reset(seed=0)
        env.reset(seed=1)
        rows = actions(batch, 30)
        record(batch, rows[:10])
        batch.import_env(2, env)
        model, data = batch.model, env.unwrapped.data
        qpos, qvel = data.qpos + 0.01, np.linspace(-1, 1, model.nv)
        batch.set_state([2], [qpos], [qvel])
        env.unwrapped.set_state(qpos, qvel)
        for row in rows[10:]:
            info = batch.step(row)[-1]
            last, r, term, trunc, _ = env.step(row[2])
            assert np.array_equal(info["final_obs"][2].numpy(), last) and float(info["task_reward"][2]) == r
            if term or trunc:
                break
    for lanes, wrong in (([3], qpos), ([0.5], qpos), ([0], qpos[:-1]), ([0], np.full_like(qpos, np.nan))):
        with pytest.raises(ValueError):
            batch.set_state(lanes, [wrong], [qvel])


def test_import_refuses_another_model():
    batch = gym.make_vec("cairn/Hopper-v5", num_envs=2)
    with pytest.raises(gym.error.ResetNeeded):
        batch.import_env(0, gym.make("Hopper-v5"))
    batch.reset(seed=0)
    for env in (gym.make("Walker2d-v5"), gym.make("CartPole-v1"), gym.make("Hopper-v5", frame_skip=2)):
        with pytest.raises(ValueError):
            batch.import_env(0, env)
    with pytest.raises(ValueError, match="lane"):
        batch.export_env(2, gym.make("Hopper-v5"))


def test_a_breakdown_ends_one_episode_and_no_other():
    for poison in (np.nan, 1e14):
        batch, clean = (gym.make_vec("cairn/Ant-v5", num_envs=3) for _ in range(2))
        batch.reset(seed=0)
        clean.reset(seed=0)
        rows = actions(batch, 12)
        record(batch, rows[:4]), record(clean, rows[:4])
        last = batch.observe()[0][1].clone()
        states = batch.engine.states
        states[1, 1 + batch.model.nq + 3] = poison  # the time comes first
        batch.engine.load_states(states)
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(rows[4]))
        assert terminated.tolist() == [False, True, False] and not truncated.any()
        assert info["final_facts"]["unstable"].tolist() == [False, True, False]
        assert not info["facts"]["unstable"].any()
        assert torch.equal(info["final_obs"][1], last) and reward[1] == 0
        assert all(torch.isfinite(value).all() for value in info.values() if isinstance(value, torch.Tensor))
        others = [0, 2]
        assert torch.equal(obs[others], clean.step(torch.from_numpy(rows[4]))[0][others])
        for row in rows[5:]:
            mine, theirs = batch.step(row), clean.step(row)
            assert not mine[2].any() and torch.isfinite(mine[0]).all()
            assert torch.equal(mine[0][others], theirs[0][others])


@pytest.mark.parametrize("memory", ["100K", "200K", "700K"])
def test_contacts_are_never_dropped_in_silence(tmp_path, monkeypatch, memory):
    monkeypatch.chdir(tmp_path)
    spheres = "".join(
        f'<body pos="0 0 {0.01 * i}"><freejoint name="j{i}"/><geom type="sphere" size=".1"/></body>' for i in range(40)
    )
    model = (
        f'<mujoco><size memory="{memory}"/><worldbody><geom type="plane" size="1 1 1"/>{spheres}</worldbody>'
        '<actuator><motor joint="j0" ctrlrange="-1 1"/></actuator></mujoco>'
    )
    (tmp_path / "small.xml").write_text(model)
    batch = gym.make_vec("cairn/Swimmer-v5", num_envs=1, xml_file=str(tmp_path / "small.xml"))
    with pytest.raises(RuntimeError, match="memory"):
        batch.reset(seed=0)
    (tmp_path / "large.xml").write_text(model.replace(memory, "20M"))
    gym.make_vec("cairn/Swimmer-v5", num_envs=1, xml_file=str(tmp_path / "large.xml")).reset(seed=0)


def test_bad_actions_change_nothing():
    batch = gym.make_vec("cairn/Ant-v5", num_envs=2)
    with pytest.raises(gym.error.ResetNeeded):
        batch.step(torch.zeros(2, 8))
    batch.reset(seed=0)
    before = batch.state_dict()
    nan = torch.zeros(2, 8)
    nan[1, 3] = torch.nan
    for bad in (nan, torch.full((2, 8), torch.inf), torch.full((2, 8), 1.5), torch.zeros(2, 7), torch.zeros(8), "no"):
        with pytest.raises(ValueError):
            batch.step(bad)
    after = batch.state_dict()
    assert torch.equal(before["physics"], after["physics"]) and torch.equal(before["elapsed"], after["elapsed"])
    single = gym.make("cairn/SparseHopper-v0", disable_env_checker=True)
    single.reset(seed=0)
    for bad in (np.array([np.nan, 0, 0]), np.zeros(2)):
        with pytest.raises(ValueError):
            single.step(bad)


def test_bad_arguments(tmp_path):
    def make(**kwargs):
        return gym.make_vec("cairn/Ant-v5", num_envs=kwargs.pop("num_envs", 2), **kwargs)

    for device, message in (("cuda:99", "CUDA devices"), ("mps", "'cpu' and on 'cuda'"), ("toaster", "no device")):
        with pytest.raises(ValueError, match=message):
            make(device=device)
    for wrong, message in (({"engine": "brax"}, "brax"), ({"solver": "magic"}, "solver")):
        with pytest.raises(ValueError, match=message):
            make(**wrong)
    with pytest.raises(TypeError, match="njmax: only engine 'warp'"):
        make(njmax=3)
    with pytest.raises(TypeError, match="forward_reward_wait"):
        make(forward_reward_wait=1.0)
    for wrong in ({"num_envs": 0}, {"threads": 0}, {"max_episode_steps": 0}, {"dtype": "float16"}, {"frame_skip": 0},
                  {"render_mode": "human"}, {"main_body": "wheel"}, {"main_body": 99}, {"main_body": 1.5},
                  {"ctrl_cost_weight": "a"}, {"ctrl_cost_weight": np.inf}, {"healthy_z_range": 3},
                  {"healthy_z_range": (2, 1)}, {"contact_force_range": (1,)}, {"reset_noise_scale": -1},
                  {"reset_noise_scale": np.nan}, {"terminate_when_unhealthy": "no"}, {"width": -5},
                  {"height": 4.5}, {"camera_name": "nowhere"}, {"camera_id": 77}):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}|wheel"):
            make(**wrong)
    for id_ in ("cairn/Ant-v5", "cairn/AntTrap-v0"):  # MuJoCo would end the process at the first picture
        with pytest.raises(ValueError, match="camera_id=77"):
            gym.make(id_, render_mode="rgb_array", camera_id=77)
    with pytest.raises(FileNotFoundError, match="nowhere.xml"):
        make(xml_file=str(tmp_path / "nowhere.xml"))
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody><geom type='blob'/></worldbody></mujoco>")
    with pytest.raises(ValueError, match="broken.xml"):
        make(xml_file=str(broken))
    for file in ("inverted_pendulum.xml", "point.xml"):
        with pytest.raises(ValueError, match=file):
            gym.make_vec("cairn/Humanoid-v5", num_envs=1, xml_file=file)
    with pytest.raises(ValueError, match="not a cart"):
        gym.make_vec("cairn/InvertedPendulum-v5", num_envs=1, xml_file="ant.xml")
    with pytest.raises(TypeError, match="xml_file"):
        gym.make_vec("cairn/SparseAcrobot-v0", num_envs=1, xml_file="ant.xml")


def test_a_model_file_of_the_callers(tmp_path):
    from pathlib import Path

    import gymnasium.envs.mujoco as upstream

    text = (Path(upstream.__file__).parent / "assets" / "ant.xml").read_text()
    mine = tmp_path / "heavy.xml"
    mine.write_text(text.replace('density="5.0"', 'density="9.0"'))
    heavy, plain = (gym.make_vec("cairn/Ant-v5", num_envs=1, **kw) for kw in ({"xml_file": str(mine)}, {}))
    runs = []
    for batch in (heavy, plain):
        batch.reset(seed=0)
        runs.append(record(batch, actions(batch, 5)))
    assert not np.array_equal(*runs)


def test_making_is_quiet(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    gym.make_vec("cairn/HalfCheetah-v5", num_envs=2).reset(seed=0)
    gym.make("cairn/HalfCheetah-v5").reset(seed=0)
    out = capfd.readouterr()
    assert (out.out, list(tmp_path.iterdir())) == ("", [])
    assert all(
        line.startswith("cairn: compiling the physics kernels") for line in out.err.splitlines()
    )  # the first time


def test_generators_as_integers():
    rng = np.random.default_rng(3)
    rng.integers(0, 9, dtype=np.uint32)  # leaves half a word in the generator
    copy = unpack(pack([rng], 1))[0]
    for _ in range(5):
        assert rng.integers(0, 1 << 30, dtype=np.uint32) == copy.integers(0, 1 << 30, dtype=np.uint32)
    assert rng.standard_normal(50).tolist() == copy.standard_normal(50).tolist()
