"""The batch's pictures against upstream's, pixel for pixel."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.check import check_batch_env
from cairn.envs.grid import layout as L
from cairn.envs.grid import single
from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.ids import GRID_IDS
from cairn.envs.grid.pictures import _drawn, image_shape

FIRST = {single.upstream_class(name)[0].__name__: name for name in reversed(GRID_IDS)}  # one id of each class


@pytest.mark.parametrize("tile, sample", [(8, 200), (5, 40), (32, 6)])
def test_tiles_are_upstream_s(tile, sample):
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    tiles, place = _drawn(tile)
    looks = sorted({int(cell) & 511 for cell in L.every_cell()})
    cases = [(look, agent, lit) for look in looks for agent in (None, 0, 1, 2, 3) for lit in (False, True)]
    for k in np.random.default_rng(0).choice(len(cases), size=sample, replace=False):
        look, agent, lit = cases[k]
        theirs = Grid.render_tile(WorldObj.decode(*L.unpack(look)), agent, lit, tile).astype(np.uint8)
        ours = tiles[(place[look] * 5 + (4 if agent is None else agent)) * 2 + lit].reshape(tile, tile, 3)
        assert (ours == theirs).all(), (L.unpack(look), agent, lit)


def steps_beside_upstream(name, steps, **kwargs):
    """Yield (batch, info, environments, frames of the episodes that ended) after each step."""
    batch = gym.make_vec(f"cairn/{name}", num_envs=2, render_mode="rgb_array", **kwargs)
    assert isinstance(batch, GridBatch)
    envs = [single.make(name, render_mode="rgb_array", **kwargs) for _ in range(2)]
    batch.frame_every = 3
    _, info = batch.reset(seed=4)
    for i, env in enumerate(envs):
        env.reset(seed=4, options={"lane": i})
    yield batch, info, envs, {}
    rng = np.random.default_rng(0)
    for _ in range(steps):
        actions = torch.from_numpy(rng.integers(0, batch._actions_of_one, size=2))
        *_, info = batch.step(actions)
        ended = {}
        for i, env in enumerate(envs):
            _, _, end, cut, _ = env.step(int(actions[i]))
            if end or cut:
                ended[i] = env.render()
                env.reset()
        yield batch, info, envs, ended


@pytest.mark.parametrize(
    "name, kwargs",
    [
        *((name, {"tile_size": 6, "max_steps": 8}) for name in FIRST.values()),
        ("MiniGrid-DoorKey-6x6-v0", {"tile_size": 7, "highlight": False}),
        ("MiniGrid-DoorKey-6x6-v0", {"tile_size": 5, "agent_pov": True, "max_steps": 7}),
        ("MiniGrid-KeyCorridorS3R1-v0", {"tile_size": 5, "agent_view_size": 3}),
        ("MiniGrid-DistShift1-v0", {"tile_size": 5, "agent_pov": True}),
    ],
)
def test_frames_are_upstream_s(name, kwargs):
    for batch, info, envs, ended in steps_beside_upstream(name, 12, **kwargs):
        pictures = batch.render()
        for i, env in enumerate(envs):
            picture = env.render()
            assert pictures[i].dtype == np.uint8 and (pictures[i] == picture).all()
            assert bool(info["_frame"][i]) == (env.unwrapped.step_count % 3 == 0)
            if info["_frame"][i]:
                assert (info["frame"][i].numpy() == picture).all()
            if "_final_frame" in info:
                assert bool(info["_final_frame"][i]) == (i in ended)
        for i, picture in ended.items():
            assert (info["final_frame"][i].numpy() == picture).all()


def test_contract():
    check_batch_env(
        lambda n: GridBatch("MiniGrid-DoorKey-5x5-v0", n, max_steps=9, render_mode="rgb_array", tile_size=4), steps=40
    )


def test_pictures_are_asked_for():
    batch = GridBatch("MiniGrid-Empty-5x5-v0", 1)
    batch.reset(seed=0)
    assert batch.render() is None
    with pytest.raises(ValueError, match="rgb_array"):
        batch.frame_every = 1
    with pytest.raises(RuntimeError, match="before reset"):
        GridBatch("MiniGrid-Empty-5x5-v0", 1, render_mode="rgb_array").render()
    for tile in (0, 257, 2.0, True):
        with pytest.raises(ValueError, match="pixels a side"):
            image_shape(batch.arrays, "rgb", tile)
