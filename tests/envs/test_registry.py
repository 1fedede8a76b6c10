"""Every registered id conforms; registering and importing are light."""

import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import pytest

import cairn
from cairn.envs import BatchEnv, check_batch_env
from cairn.envs.crafter.ids import CRAFTER_IDS
from cairn.envs.multi.ids import BRIDGED_IDS
from cairn.envs.registry import TABLE, register_all

IDS = sorted(name for name in gym.registry if name.startswith("cairn/"))
pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")


@pytest.mark.parametrize("name", IDS)
def test_every_id_conforms(name: str) -> None:
    if name in {row[0] for row in BRIDGED_IDS}:
        pytest.importorskip("highway_env")
    if name in {row[0] for row in CRAFTER_IDS}:
        pytest.importorskip("crafter")

    def make(n: int) -> Any:
        return gym.make_vec(name, num_envs=n, device="cpu", max_episode_steps=5)

    check_batch_env(make, steps=8, lanes=(1, 3))


def test_the_table_is_registered_once() -> None:
    before = dict(gym.registry)
    register_all()
    assert gym.registry == before
    assert {row[0] for row in TABLE} == set(IDS) and len(IDS) > 100


def test_the_specs_are_those_that_gymnasium_s_own_register_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: dict[str, Any] = {}
    monkeypatch.setattr(gym.envs.registration, "registry", theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of an id that is there already
        for name, single, batch, kwargs, limit in TABLE:
            gym.register(
                name, entry_point=single, vector_entry_point=batch, kwargs=dict(kwargs), max_episode_steps=limit
            )
    assert theirs == {name: gym.registry[name] for name in IDS}


def test_make_and_make_vec_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = gym.make("cairn/MiniGrid-DoorKey-8x8-v0")
        batch: Any = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=2)
        other: Any = gym.make_vec("cairn/MiniGrid-DoorKey-8x8-v0", num_envs=2, device="cpu")
    assert isinstance(batch, BatchEnv) and batch.spec is not None and batch.spec.id == "cairn/MiniGrid-DoorKey-8x8-v0"
    assert batch.num_envs == other.num_envs == 2
    single.close()


def test_the_batch_s_space_is_the_single_one_s_but_for_text() -> None:
    name = "cairn/MiniGrid-DoorKey-8x8-v0"
    single: Any = gym.make(name).observation_space
    whole: Any = gym.make_vec(name, num_envs=2).single_observation_space
    assert list(whole.spaces) == list(single.spaces)
    assert whole["image"] == single["image"] and whole["direction"] == single["direction"]


def test_import_is_light_and_silent() -> None:
    code = (
        "import cairn, sys; from cairn import envs; dir(envs)\n"
        "heavy = {'torch', 'warp', 'mujoco', 'ribs', 'minigrid', 'stable_baselines3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""


def test_bridging_does_not_import_stable_baselines3() -> None:
    code = (
        "import gymnasium as gym, cairn, sys; gym.make_vec('cairn/MiniGrid-Empty-5x5-v0', num_envs=2).reset(seed=0)\n"
        "assert 'stable_baselines3' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_names_come_lazily_and_near_misses_are_named() -> None:
    assert cairn.envs.as_sb3 and cairn.envs.from_vector and cairn.envs.check_batch_env
    with pytest.raises(AttributeError, match="did you mean 'as_sb3'"):
        cairn.envs.as_sb4  # noqa: B018
