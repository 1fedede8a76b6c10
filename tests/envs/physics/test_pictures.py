"""Pictures of physics: one environment, a batch, and the last frame of an episode."""

from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.physics import pictures
from cairn.envs.physics.ids import PHYSICS_IDS


@cache
def gl_works():
    """Whether this machine has OpenGL."""
    try:
        gym.make_vec("cairn/SparseAcrobot-v0", num_envs=1, render_mode="rgb_array").render()
    except Exception:
        return False
    return True


needs_gl = pytest.mark.skipif("not gl_works()")
SMALL = {"render_mode": "rgb_array", "width": 48, "height": 32}


@needs_gl
@pytest.mark.parametrize("id_", ["cairn/Ant-v5", "cairn/SparseCartPoleSwingUp-v0"])
def test_one_environment_and_a_batch_show_the_same(id_):
    single, batch = gym.make(id_, **SMALL), gym.make_vec(id_, num_envs=2, **SMALL)
    single.reset(seed=0)
    batch.reset(seed=0)
    frame = single.render()
    assert frame.shape == (32, 48, 3) and frame.dtype == np.uint8 and frame.std() > 1
    both = batch.render()  # the first lane shown is where upstream's free camera then looks at
    assert len(both) == 2 and np.abs(both[0].astype(int) - frame).mean() < 0.5
    assert gym.make_vec(id_, num_envs=1).render() is None
    single.close(), batch.close()


WORLDS = ("PointMaze_UMaze-v3", "PointMaze_Large_Single-v3", "AntMaze_Medium_Diverse_GR-v5", "AntTrap-v0",
          "HumanoidTrap-v0", "AntOmni-v0", "Walker2dUni-v0", "HumanoidSplits-v0", "SparseReacher-v0")  # fmt: skip


@needs_gl
@pytest.mark.parametrize("task", WORLDS)
def test_every_world_has_pictures(task):
    small = {**SMALL, "width": 96, "height": 96}
    single, batch = gym.make(f"cairn/{task}", **small), gym.make_vec(f"cairn/{task}", num_envs=2, **small)
    single.reset(seed=0)
    batch.reset(seed=0)
    frames = batch.render()
    assert np.abs(frames[0].astype(int) - single.render()).mean() < 1 and frames[1].std() > 10
    red = lambda frame: (frame[..., 0] > 120) & (frame[..., 1] < 60) & (frame[..., 2] < 60)  # noqa: E731
    wall = ((frames[0][..., 0] > frames[0][..., 2] + 30) & ~red(frames[0])).mean()
    if "Maze" in task:  # walls, and a marker for the goal, where each lane has its own
        assert wall > 0.2 and red(frames[0]).any() and red(frames[1]).any()
        assert "Single" in task or not np.array_equal(red(frames[0]), red(frames[1]))
    if "Trap" in task:
        plain = gym.make_vec(f"cairn/{task.removesuffix('Trap-v0')}-v5", num_envs=1, **small)
        plain.task.camera = batch.task.camera
        plain.reset(seed=0)
        assert (np.abs(plain.render()[0].astype(int) - frames[0]).max(axis=2) > 40).mean() > 0.01
    single.close(), batch.close()


@needs_gl
def test_an_episodes_last_picture_has_its_own_goal():
    env = gym.make_vec("cairn/PointMaze_Open-v3", num_envs=1, max_episode_steps=2, **SMALL)
    env.frame_every = 1
    first = env.reset(seed=0)[1]["frame"]
    env.step(torch.zeros(1, 2))
    info = env.step(torch.zeros(1, 2))[-1]
    near = lambda a, b: float((a.double() - b.double()).abs().mean())  # noqa: E731
    assert near(info["final_frame"], first) < 0.2 < near(info["frame"], first)
    env.close()


@needs_gl
def test_frames_come_before_the_reset():
    env = gym.make_vec("cairn/SparseHopper-v0", num_envs=2, max_episode_steps=6, **SMALL)
    env.frame_every = 4
    _, info = env.reset(seed=0)
    assert info["frame"].shape == (2, 32, 48, 3) and info["_frame"].all()
    first = info["frame"]
    for t in range(1, 7):
        info = env.step(torch.ones(2, 3))[-1]
        assert info["_frame"].tolist() == [t in (4, 6)] * 2  # after six steps the next episode has begun
        assert info["_final_frame"].tolist() == [t == 6] * 2
        assert torch.equal(info["final_frame"].amax(dim=(1, 2, 3)) > 0, info["_final_frame"])
    shown = env.render()
    assert np.array_equal(info["frame"].numpy(), shown)
    assert not torch.equal(info["final_frame"], info["frame"]) and not torch.equal(info["frame"], first)
    env.close()


def test_no_opengl_says_what_to_install(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pictures.sys, "platform", "linux")
    monkeypatch.setattr(pictures, "find_library", lambda name: None)
    with pytest.raises(RuntimeError, match="libegl1"):
        pictures.choose_gl()
    monkeypatch.setattr(pictures, "find_library", lambda name: "lib" if name == "OSMesa" else None)
    pictures.choose_gl()
    assert pictures.os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "egl")
    pictures.choose_gl()
    assert pictures.os.environ["MUJOCO_GL"] == "egl"


def test_every_camera_is_one_that_mujoco_takes():
    import mujoco

    from cairn.envs.physics.model import make_task

    camera = mujoco.MjvCamera()
    for row in PHYSICS_IDS:
        for name in make_task(row[3]["task"], {}).camera:
            assert hasattr(camera, name), (row[0], name)
