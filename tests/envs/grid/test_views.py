"""Full, one-hot and pixel observations against upstream's wrappers."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401  (registers the ids)
from cairn.envs.check import check_batch_env
from cairn.envs.grid.views import GridView

VIEWS = ("full", "onehot", "rgb", "rgb_full")


@pytest.mark.parametrize("observation", VIEWS)
@pytest.mark.parametrize(
    "name", ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-RedBlueDoors-6x6-v0", "MiniGrid-ObstructedMaze-1Dlhb-v0"]
)
def test_views_are_upstream_s(name, observation):
    kwargs = {"observation": observation, "observation_tile": 5, "max_steps": 12}
    batch = gym.make_vec(f"cairn/{name}", num_envs=3, **kwargs)
    assert isinstance(batch, GridView)
    envs = [gym.make(f"cairn/{name}", **kwargs) for _ in range(3)]
    first, _ = batch.reset(seed=1)
    for i, env in enumerate(envs):
        assert (env.reset(seed=1, options={"lane": i})[0]["image"] == first["image"][i].numpy()).all()
    assert first["image"].shape[1:] == envs[0].observation_space["image"].shape
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(40):
        actions = torch.from_numpy(rng.integers(0, 7, size=3))
        obs, _, _, _, info = batch.step(actions)
        for i, env in enumerate(envs):
            expected, _, end, cut, _ = env.step(int(actions[i]))
            if end or cut:
                ends += 1
                assert (info["final_obs"]["image"][i].numpy() == expected["image"]).all()
                expected, _ = env.reset()
            assert (obs["image"][i].numpy() == expected["image"]).all()
    assert ends >= 9
    assert torch.equal(batch.observe()[0]["image"], obs["image"])


@pytest.mark.parametrize("observation", VIEWS)
def test_contract(observation):
    name = "cairn/MiniGrid-Empty-Random-5x5-v0"
    check_batch_env(lambda n: gym.make_vec(name, num_envs=n, observation=observation, max_steps=9), steps=40)


def test_unknown_views():
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match="observation"):
            make("cairn/MiniGrid-Empty-5x5-v0", observation="smell")
