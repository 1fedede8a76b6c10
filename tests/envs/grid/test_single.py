"""One environment: upstream's class on the shared stream."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence

from cairn.envs.grid import single
from cairn.envs.grid.ids import BABYAI_IDS, GRID_IDS
from cairn.envs.grid.stream import Stream, episode_key


def level(env):
    """All that upstream's level is: the grid, the agent and the mission."""
    inner = env.unwrapped
    return inner.grid.encode().tolist(), tuple(int(v) for v in inner.agent_pos), int(inner.agent_dir), inner.mission


def test_tables_are_upstreams_registry():
    import minigrid  # noqa: F401

    ours = set(GRID_IDS) | set(BABYAI_IDS)
    theirs = {i for i in gym.registry if i.startswith(("MiniGrid-", "BabyAI-"))}
    assert len(GRID_IDS) == len(set(GRID_IDS)) == 76
    assert ours <= theirs
    assert {i.split("-")[1] for i in theirs - ours} == {"WFC"}
    assert len(theirs - ours) == 6


def test_wfc_ids_are_refused_with_the_reason():
    with pytest.raises(gym.error.NameNotFound, match="patterns"):
        single.make("MiniGrid-WFC-MazeSimple-v0")
    with pytest.raises(gym.error.NameNotFound, match="no MiniGrid or BabyAI id"):
        single.make("MiniGrid-DoorKeyhole-8x8-v0")


@pytest.mark.parametrize("upstream", [*GRID_IDS, *BABYAI_IDS])
def test_key_decides_the_level(upstream, capsys):
    a, b = single.make(upstream), single.make(upstream)
    assert a.keyed is True
    a.reset(seed=7)
    first = level(a)
    a.reset()
    second = level(a)
    assert a.stream_key == (7, 0, 1)
    b.reset(seed=7, options={"lane": 3})
    b.reset(seed=7)
    assert level(b) == first
    b.reset(options={"episode": 1})
    assert level(b) == second
    observation, *_ = b.step(b.action_space.sample())
    assert observation["image"].dtype == np.uint8
    if "BabyAI" in upstream:
        for _ in range(3):
            a.reset()
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == ""


def test_lanes_and_seeds_differ():
    env = single.make("MiniGrid-FourRooms-v0")
    seen = set()
    for seed in range(5):
        for lane in range(5):
            env.reset(seed=seed, options={"lane": lane})
            seen.add(str(level(env)))
            env.reset()
            seen.add(str(level(env)))
    assert len(seen) == 50


@pytest.mark.parametrize(
    "upstream", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-LavaCrossingS9N2-v0", "MiniGrid-Dynamic-Obstacles-6x6-v0",
                 "MiniGrid-KeyCorridorS3R3-v0", "BabyAI-GoToLocal-v0"],
)  # fmt: skip
def test_check_env(upstream):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(single.make(upstream), skip_render_check=True)


def test_stream_state_resumes_an_episode_that_draws():
    env = single.make("MiniGrid-Dynamic-Obstacles-8x8-v0")
    env.reset(seed=1)
    env.step(0)
    saved = json.loads(json.dumps(env.np_random.bit_generator.state))
    after = env.np_random.integers(0, 1000, size=8)
    env.np_random.bit_generator.state = saved
    assert (env.np_random.integers(0, 1000, size=8) == after).all()
    assert saved["key"] == episode_key(1, 0, 0)


def test_unseeded_environments_differ_and_report_their_seed():
    a, b = single.make("MiniGrid-FourRooms-v0"), single.make("MiniGrid-FourRooms-v0")
    a.reset()
    b.reset()
    assert a.np_random_seed != b.np_random_seed
    first = level(a)
    b.reset(seed=a.np_random_seed)
    assert level(b) == first


def test_wrappers_and_rendering_are_upstreams():
    from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper, RGBImgPartialObsWrapper

    ours = single.make("MiniGrid-DoorKey-5x5-v0", render_mode="rgb_array")
    ours.reset(seed=3)
    theirs = gym.make("MiniGrid-DoorKey-5x5-v0", render_mode="rgb_array")
    theirs.reset(seed=3)
    theirs.unwrapped._np_random = Stream.of(3)
    theirs.reset()
    assert (ours.render() == theirs.render()).all()
    for wrapper in (FullyObsWrapper, ImgObsWrapper, RGBImgPartialObsWrapper):
        theirs.unwrapped._np_random = Stream.of(3)
        assert data_equivalence(wrapper(ours).reset(seed=3)[0], wrapper(theirs).reset()[0])


@pytest.mark.parametrize("bad, error", [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_seeds(bad, error):
    with pytest.raises(error, match="seed"):
        single.make("MiniGrid-Empty-5x5-v0").reset(seed=bad)


@pytest.mark.parametrize("options", [{"lane": -1}, {"lane": 1.0}, {"episode": True}])
def test_bad_options(options):
    with pytest.raises(ValueError, match="whole number"):
        single.make("MiniGrid-Empty-5x5-v0").reset(seed=0, options=options)
