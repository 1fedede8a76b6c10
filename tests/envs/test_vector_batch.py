"""The bridge from Gymnasium's vector environments, in all three autoreset modes."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from cairn.envs import EpisodeStatistics, TimeLimit, as_sb3, from_vector, lane_seed
from cairn.envs.spaces import Symbols, tree_leaves


class Count(gym.Env[Any, Any]):
    """Observes (steps, episode); action 1 wins, 2 truncates."""

    observation_space = spaces.Dict({"t": spaces.Discrete(100), "e": spaces.Box(0, 99, (1,), np.float32)})
    action_space = spaces.Discrete(3)

    def __init__(self) -> None:
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.episode, self.seed = 0, self.episode + 1, seed if seed is not None else self.__dict__.get("seed")
        return self._obs(), {}

    def _obs(self) -> Any:
        return {"t": self.t, "e": np.array([self.episode], np.float32)}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._obs(), float(action == 1), bool(action == 1), bool(action == 2), {"is_success": bool(action == 1)}


class NextStep(VectorEnv[Any, Any, Any]):
    """A vector environment of its own make, NEXT_STEP, that knows no reset mask."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, n: int) -> None:
        self.num_envs = n
        self.single_observation_space = spaces.Box(-1, 99, (1,), np.float32)
        self.observation_space = spaces.Box(-1, 99, (n, 1), np.float32)
        self.single_action_space, self.action_space = spaces.Discrete(3), spaces.MultiDiscrete([3] * n)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        assert seed is None or isinstance(seed, int)
        self.t, self.done = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        return self.t[:, None].astype(np.float32), {}

    def step(self, actions: Any) -> Any:
        self.t = np.where(self.done, 0, self.t + 1)
        terminated = (actions == 1) & ~self.done
        truncated = (actions == 2) & ~self.done
        reward = np.where(self.done, 7.0, 1.0)  # what a reset pays is nobody's
        self.done = terminated | truncated
        return self.t[:, None].astype(np.float32), reward, terminated, truncated, {}


SCRIPT = [[0, 0, 0], [1, 0, 2], [0, 0, 0], [0, 1, 0], [1, 1, 1]]


def expected() -> list[dict[str, Any]]:
    """What SAME_STEP must show, lane by lane, from the definition."""
    t, e, out = [0, 0, 0], [1, 1, 1], []
    for actions in SCRIPT:
        final_t = [x + 1 for x in t]
        final_e = list(e)
        ended = [a > 0 for a in actions]
        t = [0 if end else x for x, end in zip(final_t, ended)]
        e = [x + end for x, end in zip(e, ended)]
        out.append({"t": t, "e": e, "final_t": final_t, "final_e": final_e, "actions": actions})
    return out


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_all_modes_show_the_same_episodes(mode: AutoresetMode, kind: Any) -> None:
    env = from_vector(kind([Count] * 3, autoreset_mode=mode))
    try:
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and env.always_valid
        obs, _ = env.reset(seed=0)
        assert obs["t"].tolist() == [0, 0, 0] and obs["e"].tolist() == [[1], [1], [1]]
        for row in expected():
            obs, reward, terminated, truncated, info = env.step(row["actions"])
            assert obs["t"].tolist() == row["t"] and obs["e"][:, 0].tolist() == row["e"]
            assert reward.tolist() == [float(a == 1) for a in row["actions"]]
            assert terminated.tolist() == [a == 1 for a in row["actions"]]
            assert truncated.tolist() == [a == 2 for a in row["actions"]]
            mask = info["_final_obs"]
            assert torch.equal(mask, terminated | truncated) and "valid" not in info
            assert info["final_obs"]["t"][mask].tolist() == torch.tensor(row["final_t"])[mask].tolist()
            assert info["final_obs"]["e"][mask, 0].tolist() == torch.tensor(row["final_e"])[mask].tolist()
            if mask.any():
                won = info["final_facts"]["success"]
                assert won[mask].tolist() == terminated[mask].tolist() and not info["facts"]["success"].any()
    finally:
        env.close()


def test_lanes_are_seeded_by_hash() -> None:
    env = from_vector(SyncVectorEnv([Count] * 3))
    env.reset(seed=9)
    assert [single.seed for single in env.envs] == [lane_seed(9, i) for i in range(3)]  # type: ignore[union-attr, attr-defined]


def test_reset_mask() -> None:
    env = from_vector(SyncVectorEnv([Count] * 3))
    env.reset(seed=0)
    env.step([0, 0, 0])
    obs, _ = env.reset(options={"reset_mask": torch.tensor([True, False, False])})
    assert obs["t"].tolist() == [0, 1, 1]
    assert env.step([0, 0, 0])[0]["t"].tolist() == [1, 2, 2]
    assert env.reset(options={"reset_mask": np.zeros(3, bool)})[0]["t"].tolist() == [1, 2, 2]


def test_next_step_resets_that_cannot_be_advanced_are_marked() -> None:
    env = EpisodeStatistics(from_vector(NextStep(3)))
    assert not env.always_valid
    assert env.reset(seed=0)[0][:, 0].tolist() == [0, 0, 0]
    rows: list[Any] = []
    for actions in ([1, 0, 2], [0, 0, 0], [0, 1, 0], [2, 1, 0]):
        obs, reward, terminated, truncated, info = env.step(actions)
        rows.append((obs[:, 0].tolist(), reward.tolist(), info["valid"].tolist(), info["_final_obs"].tolist()))
        if info["_episode"].any():
            assert torch.equal(info["episode"]["r"][info["_episode"]], info["episode"]["l"][info["_episode"]].double())
            rows[-1] += (info["episode"]["l"][info["_episode"]].tolist(),)
    assert rows[0] == ([1, 1, 1], [1, 1, 1], [True] * 3, [True, False, True], [1, 1])
    assert rows[1] == ([0, 2, 0], [7, 1, 7], [False, True, False], [False] * 3)  # the resets of lanes 0 and 2
    assert rows[2] == ([1, 3, 1], [1, 1, 1], [True] * 3, [False, True, False], [3])
    # lane 1 resets and its action is ignored; lane 0's second episode has two steps, the reset not among them
    assert rows[3] == ([2, 0, 2], [1, 7, 1], [True, False, True], [True, False, False], [2])


def test_who_cannot_leave_rows_out_refuses() -> None:
    env = from_vector(NextStep(2))
    with pytest.raises(ValueError, match="Stable-Baselines3 has no way"):
        as_sb3(env)
    with pytest.raises(ValueError, match="without autoreset"):
        env.numpy()
    with pytest.raises(ValueError, match="time limit"):
        TimeLimit(env, 3)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="cannot do it"):
        env.reset(options={"reset_mask": np.array([True, False])})


def test_wrapped_next_step_environments_keep_their_own_record() -> None:
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv([Count] * 2))
    env = from_vector(wrapped)
    assert not env.always_valid
    env.reset(seed=0)
    env.step([1, 0])
    obs, reward, *_, info = env.step([1, 0])  # lane 0 resets, and its action is ignored
    assert info["valid"].tolist() == [False, True] and reward.tolist() == [0, 0] and obs["t"].tolist() == [0, 2]


def test_gymnasium_s_own_batched_cartpole() -> None:
    env = from_vector(gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point"))
    assert env.max_steps == 500 and not env.always_valid
    env.reset(seed=0)
    invalid = 0
    for _ in range(60):
        *_, info = env.step(torch.randint(0, 2, (4,)))
        invalid += int((~info["valid"]).sum())
    assert invalid > 0


def test_minigrid_vector_environments_are_symbols() -> None:
    import minigrid  # noqa: F401

    env = from_vector(gym.make_vec("MiniGrid-Empty-5x5-v0", 2, vectorization_mode="sync"))
    assert isinstance(env.single_observation_space["image"], Symbols)  # type: ignore[index]
    obs, _ = env.reset(seed=0)
    assert obs["mission"].shape == (2, 24) and obs["mission"].dtype == torch.int64
    out = env.step([2, 1])
    assert all(leaf.shape[0] == 2 for leaf in tree_leaves(out[0]))


def test_state_cannot_be_restored_and_says_so() -> None:
    env = from_vector(SyncVectorEnv([Count] * 2))
    env.reset(seed=0)
    env.step([0, 0])
    assert not env.exact_state
    with pytest.warns(RuntimeWarning, match="not bit for bit"):
        env.load_state_dict(env.state_dict())
    assert env.observe()[0]["t"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="not the state"):
        env.load_state_dict({"format": "vector-inexact-1", "num_envs": 5})


def test_refusals() -> None:
    bare = NextStep(2)
    bare.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode"):
        from_vector(bare)
    env = from_vector(SyncVectorEnv([Count] * 2))
    with pytest.raises(RuntimeError, match="reset"):
        env.step([0, 0])
    env.reset(seed=0)
    for bad in ([0, 3], [0], [0.5, 1]):
        with pytest.raises(ValueError):
            env.step(bad)
    with pytest.raises(ValueError, match="from_gymnasium"):
        env.render_mode = "rgb_array"
        env.frame_every = 1
    assert from_vector(env) is env


def test_step_takes_actions_of_every_kind() -> None:
    box = from_vector(gym.make_vec("Pendulum-v1", 2, vectorization_mode="sync"))
    box.reset(seed=0)
    assert box.step(torch.zeros(2, 1))[0].shape == (2, 3)
