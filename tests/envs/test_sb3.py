"""The bridge to Stable-Baselines3: step-for-step equality with DummyVecEnv, lazy infos, every algorithm, checkers."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import cairn  # noqa: F401
from cairn.envs import (
    EpisodeStatistics,
    TimeLimit,
    as_sb3,
    flat_single,
    from_gymnasium,
    from_sb3,
    from_vector,
    lane_seed,
    make_batch,
)
from cairn.envs.spaces import Tokens


def compare(venv: Any, dummy: Any, steps: int) -> int:
    """Step both with the same actions; returns how many episodes ended."""
    np.testing.assert_array_equal(venv.reset(), dummy.reset())
    venv.action_space.seed(0)
    ends = 0
    for _ in range(steps):
        actions = np.array([venv.action_space.sample() for _ in range(venv.num_envs)])
        a, b = venv.step(actions), dummy.step(actions)
        for x, y in zip(a[:3], b[:3]):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype and x.shape == y.shape
        for lane, done in enumerate(a[2]):
            ours, theirs = a[3][lane], b[3][lane]
            assert ours["TimeLimit.truncated"] == theirs["TimeLimit.truncated"]
            assert ("terminal_observation" in ours) == ("terminal_observation" in theirs) == bool(done)
            if done:
                np.testing.assert_array_equal(ours["terminal_observation"], theirs["terminal_observation"])
                ends += 1
    return ends


def test_vec_env_equals_dummy_vec_env_of_the_flat_single() -> None:
    venv = as_sb3(from_gymnasium("CartPole-v1", 4))
    dummy = DummyVecEnv([lambda: flat_single("CartPole-v1")] * 4)
    assert venv.observation_space == dummy.observation_space and venv.action_space == dummy.action_space
    dummy._seeds = list(venv.seed(3))
    assert dummy._seeds == [lane_seed(3, i) for i in range(4)]
    assert compare(venv, dummy, 120) > 5


def test_minigrid_vec_env_equals_dummy_vec_env_of_the_flat_single() -> None:
    name = "cairn/MiniGrid-DoorKey-5x5-v0"
    venv = as_sb3(gym.make_vec(name, num_envs=3, device="cpu", max_episode_steps=15))  # type: ignore[arg-type]
    dummy = DummyVecEnv([lambda: flat_single(gym.make(name, max_episode_steps=15))] * 3)
    assert venv.observation_space == dummy.observation_space and venv.observation_space.shape == (1033,)
    dummy._seeds = list(venv.seed(5))  # the seed, and the lane as an option
    dummy.set_options([{"lane": i} for i in range(3)])
    assert compare(venv, dummy, 60) >= 12


def test_continuous_vec_env_equals_dummy_vec_env() -> None:
    venv = as_sb3(TimeLimit(from_gymnasium("Pendulum-v1", 2), 7))
    dummy = DummyVecEnv([lambda: flat_single(gym.make("Pendulum-v1", max_episode_steps=7))] * 2)
    dummy._seeds = list(venv.seed(1))
    assert compare(venv, dummy, 30) == 8  # truncated after every 7 steps, in both lanes


@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped|minimum value|maximum value):UserWarning")
@pytest.mark.parametrize("name", ["cairn/MiniGrid-DoorKey-5x5-v0", "CartPole-v1", "cairn/BabyAI-GoToLocal-v0"])
def test_flat_single_passes_both_checkers(name: str) -> None:
    env = flat_single(name)
    sb3_check_env(env)
    assert isinstance(env.observation_space, spaces.Box) and env.observation_space.dtype == np.float32
    gymnasium_check_env(env, skip_render_check=True)


def test_infos_are_lazy() -> None:
    venv = as_sb3(from_gymnasium("CartPole-v1", 500))
    venv.reset()
    infos = venv.step(np.zeros(500, np.int64))[3]
    assert len(infos) == 500 and not infos._built
    assert infos[7] == infos[-493] == {"TimeLimit.truncated": False} and len(infos._built) == 1
    infos[7]["mine"] = 1
    assert infos[7]["mine"] == 1  # what was built is kept
    assert isinstance(infos[:3], list) and len(infos[:3]) == 3 and len(list(infos)) == 500
    assert isinstance(infos.copy(), list)
    with pytest.raises(IndexError):
        infos[500]


def test_infos_of_an_end() -> None:
    venv = as_sb3(gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=2, device="cpu"))  # type: ignore[arg-type]
    venv.seed(0)
    venv.reset()
    for action in (2, 2, 1, 2):
        venv.step(np.array([action, 6]))
    _, rewards, dones, infos = venv.step(np.array([2, 6]))
    assert dones.tolist() == [True, False]
    info = infos[0]
    assert info["is_success"] is True and info["TimeLimit.truncated"] is False
    assert info["episode"]["l"] == 5 and info["episode"]["r"] == pytest.approx(0.955, abs=1e-6)
    assert info["terminal_observation"].shape == (1033,) and "episode" not in infos[1]


def test_an_end_for_both_reasons_is_no_cut() -> None:
    class Both(gym.Env[Any, Any]):
        observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(1, np.float32), {}

        def step(self, action: int) -> Any:
            return np.ones(1, np.float32), 1.0, action == 1, True, {}

    venv = as_sb3(from_gymnasium(Both, 2))
    venv.reset()
    assert [info["TimeLimit.truncated"] for info in venv.step(np.array([0, 1]))[3]] == [True, False]


def test_dict_view() -> None:
    batch = make_batch("cairn/MiniGrid-Empty-5x5-v0", 2)
    venv = as_sb3(batch, flat=False)
    obs = venv.reset()
    assert isinstance(venv.observation_space["mission"], Tokens) and obs["image"].dtype == np.uint8  # type: ignore[index]
    for _ in range(100):
        _, _, dones, infos = venv.step(np.array([6, 6]))
    assert dones.all() and infos[0]["terminal_observation"]["image"].shape == (7, 7, 3)
    assert infos[0]["TimeLimit.truncated"] and infos[0]["is_success"] is False
    assert make_batch(venv) is venv.batch


def test_attributes_methods_and_wrappers() -> None:
    venv = as_sb3(from_gymnasium("CartPole-v1", 3, render_mode="rgb_array"))
    assert venv.get_attr("gravity") == [9.8] * 3 and venv.has_attr("gravity") and not venv.has_attr("nothing")
    assert venv.get_attr("spec", [0])[0].id == "CartPole-v1"
    venv.set_attr("mark", 7, indices=[1])
    assert venv.batch.envs[1].mark == 7 and not hasattr(venv.batch.envs[0], "mark")  # type: ignore[index, attr-defined]
    assert venv.env_method("has_wrapper_attr", "gravity", indices=0) == [True]
    assert venv.env_is_wrapped(gym.wrappers.TimeLimit) == [True] * 3
    assert venv.env_is_wrapped(gym.wrappers.ClipReward) == [False] * 3
    assert venv.env_is_wrapped(Monitor) == [True] * 3 and venv.env_is_wrapped(EpisodeStatistics) == [True] * 3
    assert not any(as_sb3(from_gymnasium("CartPole-v1", 2), statistics=False).env_is_wrapped(Monitor))
    assert venv.render_mode == "rgb_array"
    venv.reset()
    images = venv.get_images()
    assert len(images) == 3 and images[0].shape == (400, 600, 3)
    assert venv.render().shape[2] == 3  # type: ignore[union-attr]  # tiled
    venv.close()
    assert venv.batch.unwrapped.closed


def test_attributes_of_a_batch_without_single_environments() -> None:
    venv = as_sb3(make_batch(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)))
    assert venv.get_attr("max_steps") == [None, None]
    assert venv.get_images() == [None, None]
    assert venv.env_is_wrapped(gym.wrappers.TimeLimit) == [False, False]


def test_seed_and_options() -> None:
    venv = as_sb3(from_gymnasium("CartPole-v1", 2))
    venv.seed(3)
    a = venv.reset()
    b = venv.reset()  # the seed is used once
    venv.seed(3)
    assert np.array_equal(venv.reset(), a) and not np.array_equal(a, b)
    venv.set_options({"low": 0.01, "high": 0.02})
    assert (venv.reset() >= 0.01).all()
    venv.set_options([{"low": 0.0}, {"low": 0.01}])
    with pytest.raises(ValueError, match="same reset options"):
        venv.reset()
    assert len(venv.seed()) == 2


def test_refusals() -> None:
    with pytest.raises(TypeError, match="make_batch"):
        as_sb3(gym.make("CartPole-v1"))  # type: ignore[arg-type]
    venv = as_sb3(from_gymnasium("CartPole-v1", 2))
    venv.reset()
    with pytest.raises(ValueError, match="lane 1"):
        venv.step(np.array([0, 2]))


def test_sb3_s_own_wrappers_work_on_it() -> None:
    venv = VecNormalize(VecMonitor(as_sb3(from_gymnasium("CartPole-v1", 3), statistics=False)))
    venv.reset()
    seen = 0
    for _ in range(60):
        _, _, dones, infos = venv.step(np.random.randint(0, 2, 3))
        for lane in np.flatnonzero(dones):
            assert infos[lane]["episode"]["l"] > 0 and np.abs(infos[lane]["terminal_observation"]).max() <= 10
            seen += 1
    assert seen


@pytest.mark.parametrize(
    "algorithm, kwargs",
    [
        (sb3.DQN, {"learning_starts": 20, "buffer_size": 200, "target_update_interval": 20}),
        (sb3.PPO, {"n_steps": 16, "batch_size": 16, "n_epochs": 1}),
        (sb3.A2C, {}),
    ],
)
def test_discrete_algorithms_train(algorithm: Any, kwargs: dict[str, Any]) -> None:
    batch = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=4, device="cpu", max_episode_steps=10)
    model = algorithm("MlpPolicy", as_sb3(batch), seed=0, policy_kwargs={"net_arch": [8]}, **kwargs)  # type: ignore[arg-type]
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(200)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters()))
    assert len(model.ep_info_buffer) > 0 and len(model.ep_success_buffer) > 0
    single = flat_single("cairn/MiniGrid-Empty-5x5-v0")
    action, _ = model.predict(single.reset(seed=0)[0])
    assert single.action_space.contains(int(action))


@pytest.mark.parametrize("algorithm", [sb3.SAC, sb3.TD3])
def test_continuous_algorithms_train(algorithm: Any) -> None:
    venv = as_sb3(from_gymnasium("Pendulum-v1", 2))
    model = algorithm("MlpPolicy", venv, learning_starts=10, buffer_size=100, policy_kwargs={"net_arch": [8]})
    model.learn(40)
    rewards, lengths = evaluate_policy(model, venv, n_eval_episodes=2, return_episode_rewards=True, warn=True)
    assert lengths == [200, 200] and len(rewards) == 2  # type: ignore[arg-type]


def test_from_sb3_shows_the_same_episodes() -> None:
    def dummy() -> DummyVecEnv:
        return DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1", max_episode_steps=12))] * 3)

    batch, plain = from_sb3(dummy()), dummy()
    obs, _ = batch.reset(seed=4)
    plain.seed(lane_seed(4, 0) % 2**31)
    np.testing.assert_array_equal(obs.numpy(), plain.reset())
    seen = 0
    for _ in range(60):
        actions = np.random.randint(0, 2, 3)
        obs, reward, terminated, truncated, info = batch.step(actions)
        theirs, rewards, dones, infos = plain.step(actions)
        np.testing.assert_array_equal(obs.numpy(), theirs)
        np.testing.assert_array_equal((terminated | truncated).numpy(), dones)
        assert reward.tolist() == rewards.tolist()
        for lane in np.flatnonzero(dones).tolist():
            assert truncated[lane].item() == infos[lane]["TimeLimit.truncated"] != terminated[lane].item()
            np.testing.assert_array_equal(info["final_obs"][lane].numpy(), infos[lane]["terminal_observation"])
            seen += 1
    assert seen > 5 and not batch.exact_state
    with pytest.warns(RuntimeWarning, match="cannot be restored"):
        batch.load_state_dict(batch.state_dict())


def test_from_vector_in_next_step_mode_reaches_sb3_through_sync_only() -> None:
    venv = as_sb3(from_vector(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")))
    venv.reset()
    for _ in range(80):
        obs, _, dones, _ = venv.step(np.zeros(2, np.int64))
        if dones.any():
            assert (np.abs(obs[dones]) <= 0.05).all()  # already the first observation of the next episode
            return
    raise AssertionError("no episode ended")


def test_infos_have_the_facts_before_and_truly_after_a_step() -> None:
    """Against a second copy of the batch, stepped by hand; ends included."""
    batches = [gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=3, device="cpu", max_episode_steps=7) for _ in "ab"]
    view = as_sb3(batches[0])
    view.seed(3)
    view.reset()
    _, info = batches[1].reset(seed=3)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(40):
        before = {name: fact.clone() for name, fact in info["facts"].items()}
        actions = rng.integers(0, 3, 3)
        _, _, _, infos = view.step(actions)
        *_, info = batches[1].step(torch.as_tensor(actions))
        ended = info["_final_obs"]
        ends += int(ended.sum())
        for name in ("position", "direction"):
            assert torch.equal(infos.facts[name], before[name])
            assert torch.equal(infos.next_facts[name][~ended], info["facts"][name][~ended])
            assert torch.equal(infos.next_facts[name][ended], info["final_facts"][name][ended])
    assert ends > 10
