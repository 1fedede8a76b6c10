"""Teams: the contract, the view as lanes, as one agent, and PettingZoo in both directions."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import cairn  # noqa: F401
from cairn.envs import check_batch_env
from cairn.envs.multi import AgentLanes, Joint
from cairn.envs.multi.ids import MULTI_IDS
from cairn.envs.multi.make import make

IDS = [row[0] for row in MULTI_IDS]


def team(name: str = "cairn/Gems-v0", n: int = 3, **kwargs: Any) -> Any:
    return gym.make_vec(name, num_envs=n, device="cpu", **kwargs)


@pytest.mark.parametrize("name", IDS)
def test_worlds_conform_and_a_lane_is_the_single_environment(name: str) -> None:
    check_batch_env(lambda n: team(name, n), steps=40, lanes=(2, 3))
    batch = team(name, 2, max_episode_steps=7)
    kwargs = next(row[3] for row in MULTI_IDS if row[0] == name)
    single = make(**kwargs, max_episode_steps=7)
    check_env(gym.make(name, render_mode="rgb_array").unwrapped)
    obs, _ = batch.reset(seed=4)
    first, _ = single.reset(seed=4, options={"lane": 1})
    np.testing.assert_array_equal(obs[1], first)
    for _ in range(10):
        action = np.stack([batch.single_action_space.sample() for _ in range(2)])
        obs, reward, terminated, truncated, info = batch.step(torch.from_numpy(action))
        one, paid, term, trunc, _ = single.step(action[1])
        np.testing.assert_array_equal(info["final_obs"][1] if term or trunc else obs[1], one)
        assert paid == pytest.approx(float(reward[1].sum()), abs=1e-5)
        assert (term, trunc) == (bool(terminated[1]), bool(truncated[1]))
        if term or trunc:
            first, _ = single.reset()
            np.testing.assert_array_equal(obs[1], first)


def test_symmetric_seeds() -> None:
    """Whoever swaps the agents' actions swaps what happens to them, in a kitchen and on the board."""
    batch = team("cairn/Gems-v0", 2)
    batch.reset(seed=1)
    for name in ("agent", "gem"):
        batch._s[name][1] = batch._s[name][0]
    gem = batch._s["gem"][0].reshape(3, 3, 2)
    batch._s["agent"][1], batch._s["gem"][1] = batch._s["agent"][0].flip(0), gem[[1, 0, 2]].reshape(9, 2)
    batch._key[1] = batch._key[0]
    for _ in range(20):
        action = torch.randint(0, 5, (2,))
        obs, reward, *_ = batch.step(torch.stack([action, action.flip(0)]))
        if bool((reward != 0).any()):
            break  # new gems are drawn for colours, which have changed hands
        assert torch.equal(obs[0], obs[1].flip(0)) and torch.equal(reward[0], reward[1].flip(0))


def test_lanes_are_the_agents() -> None:
    both, flat = team(), AgentLanes(team(), ids=True, state=True)
    obs, _ = both.reset(seed=2)
    seen, _ = flat.reset(seed=2)
    assert flat.num_envs == 6 and flat.single_action_space == spaces.Discrete(5)
    assert torch.equal(seen["obs"][3, :22], obs[1, 1]) and seen["obs"][3, 22:].tolist() == [0, 1]
    assert torch.equal(seen["state"][3, :44], obs[1].flatten()) and seen["state"][3, 44:].tolist() == [0, 1]
    assert torch.equal(seen["state"][2, :44], obs[1].flatten()) and seen["state"][2, 44:].tolist() == [1, 0]
    for t in range(50):
        action = torch.randint(0, 5, (3, 2))
        obs, reward, terminated, truncated, info = both.step(action)
        seen, paid, over, cut, told = flat.step(action.flatten())
        assert torch.equal(paid.view(3, 2), reward) and torch.equal(seen["obs"][:, :22], obs.flatten(0, 1))
        assert torch.equal(over.view(3, 2), terminated[:, None].expand(3, 2))
        assert torch.equal(cut.view(3, 2), truncated[:, None].expand(3, 2)), t
        assert torch.equal(told["final_obs"]["obs"][:, :22], info["final_obs"].flatten(0, 1))
        assert torch.equal(told["facts"]["own"], info["facts"]["own"].flatten()), "an agent's own fact"
        assert torch.equal(told["facts"]["collected"].view(3, 2)[:, 1], info["facts"]["collected"]), "the team's"
    with pytest.raises(ValueError, match="part of a team"):
        flat.reset(options={"reset_mask": torch.arange(6) == 1})
    flat.reset(options={"reset_mask": torch.arange(6) < 2})
    with pytest.raises(ValueError, match="6 agents want"):
        flat.step(torch.zeros(3, 2, dtype=torch.long))


def test_a_team_as_one_agent() -> None:
    check_batch_env(lambda n: Joint(team(n=n)), steps=50)
    with pytest.raises(TypeError, match="agent axis"):
        Joint(gym.make_vec("cairn/Chain-v0", num_envs=2))


@pytest.mark.parametrize("name", IDS)
def test_pettingzoo_accepts_them(name: str) -> None:
    pytest.importorskip("pettingzoo")
    from pettingzoo.test import parallel_api_test, parallel_seed_test

    from cairn.envs.multi import parallel_env

    parallel_api_test(parallel_env(name), 60)
    parallel_seed_test(lambda: parallel_env(name), 60)
    shown = parallel_env(name, render_mode="rgb_array", max_episode_steps=3)
    shown.reset(seed=0)
    first = shown.render()
    assert first.dtype == np.uint8 and first.ndim == 3 and len(np.unique(first.reshape(-1, 3), axis=0)) >= 4
    for _ in range(3):
        shown.step({agent: shown.action_space(agent).sample() for agent in shown.agents})
    assert shown.agents == [] and shown.render().shape == first.shape
    assert shown.step({}) == ({}, {}, {}, {}, {})


def test_a_picture_says_who_is_who() -> None:
    from cairn.envs.multi.pictures import colour_of

    batch = team("cairn/Spread-v0", 1, render_mode="rgb_array")
    batch.reset(seed=0)
    batch._s["pos"] = torch.tensor([[[-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [0, 0], [0, 0.9], [0, -0.9]]]).double()
    picture = batch.render()[0]
    for a, (x, y) in enumerate(((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5))):
        at = (round((y / 1.1 + 1) * 96), round((x / 1.1 + 1) * 96))
        assert tuple(picture[at]) == colour_of(a)
