"""Minari's files: there and back, and what a stranger may have written."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.agents.data import collect, from_minari, minari_files, solver, to_minari
from cairn.envs.grid.engine import GridBatch
from cairn.envs.spaces import tree_leaves


def test_without_minari_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'cairn-rl\[data\]'"):
        from_minari("a/b-v0")


@pytest.fixture
def minari(monkeypatch, tmp_path):
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return pytest.importorskip("minari")


@pytest.fixture
def written(minari):
    env = GridBatch("MiniGrid-GoToDoor-5x5-v0", 4)
    about = {"env": "cairn/MiniGrid-GoToDoor-5x5-v0"}
    demos = collect(solver(env), env, 4, only_success=True, about=about)
    return demos, to_minari(demos, "cairn/gotodoor-v0", author="nobody")


def test_there_and_back(minari, written):
    demos, folder = written
    back = from_minari("cairn/gotodoor-v0")
    assert back.observation_space == demos.observation_space and type(back.action_space) is type(demos.action_space)
    for name in ("action", "reward", "terminated", "truncated", "lengths"):
        assert torch.equal(getattr(back, name), getattr(demos, name))
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(back.states), tree_leaves(demos.states)))
    assert from_minari(folder, most=2).episodes == 2
    theirs = minari.load_dataset("cairn/gotodoor-v0")  # and Minari itself reads it
    assert theirs.total_episodes == 4 and theirs[0].observations["mission"][0].startswith("go to the")
    assert theirs.recover_environment().spec.id == "cairn/MiniGrid-GoToDoor-5x5-v0"


def test_what_minari_collects_itself(minari, tmp_path):
    from minari.data_collector import EpisodeBuffer

    rows = EpisodeBuffer(
        observations=np.arange(6, dtype=np.float32).reshape(3, 2), actions=np.array([0, 1]),
        rewards=np.array([0.0, 1.0]), terminations=np.array([False, True]), truncations=np.array([False, False]),
    )  # fmt: skip
    space = spaces.Box(-10, 10, (2,), np.float32)
    minari.create_dataset_from_buffers(
        "xs/counting-v0", [rows], observation_space=space, action_space=spaces.Discrete(2), author="nobody"
    )
    demos = from_minari("xs/counting-v0")
    assert demos.stretch().next_obs.tolist() == [[2.0, 3.0], [4.0, 5.0]] and demos.observation_space == space
    with pytest.raises(ValueError, match="damaged, cut or of another space|another|shape"):
        from_minari("xs/counting-v0", observation_space=spaces.Box(-10, 10, (3,), np.float32))


def test_mission_spaces_are_written(minari):
    from minari.serialization import serialize_space
    from minigrid.core.mission import MissionSpace

    minari_files.register_mission_space()
    space = MissionSpace(lambda: "get to the green goal square")
    assert json.loads(serialize_space(space))["type"] == "Text"
    assert json.loads(serialize_space(spaces.Dict({"m": space})))["subspaces"]["m"]["type"] == "Text"


def change(folder, **changes):
    file = folder / "data" / "metadata.json"
    meta = json.loads(file.read_text())
    for key, value in changes.items():
        meta.pop(key, None) if value is None else meta.update({key: value})
    file.write_text(json.dumps(meta))


def test_a_dataset_that_names_an_environment_has_none_made(written, monkeypatch):
    """Minari would make it, which imports what the name says."""
    import gymnasium

    monkeypatch.setattr(gymnasium, "make", lambda *a, **k: pytest.fail("made an environment"))
    _, folder = written
    spec = json.dumps({"id": "evil:CartPole-v1", "entry_point": "os:system"})
    change(folder, env_spec=spec)
    assert from_minari(folder).episodes == 4
    change(folder, cairn_spaces=None, observation_space=None)
    with pytest.raises(ValueError, match="does not say its spaces"):
        from_minari(folder)


def test_damage_is_told(written, minari):
    _, folder = written
    import h5py

    file = folder / "data" / "main_data.hdf5"
    with h5py.File(file, "a") as data:
        del data["episode_1"]["rewards"]
    with pytest.raises(ValueError, match="damaged"):
        from_minari(folder)
    with h5py.File(file, "a") as data:
        data["episode_1"]["rewards"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(ValueError, match="link to elsewhere"):
        from_minari(folder)
    with h5py.File(file, "w"):
        pass
    with pytest.raises(ValueError, match="no demonstrations"):
        from_minari(folder)
    file.write_bytes(b"cut")
    with pytest.raises(ValueError, match="damaged"):
        from_minari(folder)
    change(folder, data_format="arrow")
    with pytest.raises(ValueError, match="'arrow'"):
        from_minari(folder)
    with pytest.raises(ValueError, match="no Minari dataset"):
        from_minari("no/such-v0")
    with pytest.raises(ValueError, match="not an id"):
        from_minari("../../etc-v0")


def test_a_file_that_says_it_is_huge_is_not_believed(written):
    import h5py

    _, folder = written
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as data:
        data["episode_0"].create_dataset("bomb", shape=(1 << 45,), dtype="u1", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(ValueError, match="more data than this machine"):
        from_minari(folder)
