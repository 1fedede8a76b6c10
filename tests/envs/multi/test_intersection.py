"""The crossing: upstream's simulator underneath, who is paid what, its facts, the scripted drivers, and learning."""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import cairn  # noqa: F401
from cairn.agents import MAMQL
from cairn.agents.data import collect
from cairn.agents.evaluation import evaluate_batch
from cairn.envs import check_batch_env
from cairn.envs.multi import Joint


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highway_env.envs.intersection_env", None)
    with pytest.raises(ImportError, match=r"cairn-rl\[bench\]"):
        gym.make_vec("cairn/Intersection-v0", num_envs=1)


def crossing(n: int = 2, **kwargs: Any) -> Any:
    pytest.importorskip("highway_env")
    return gym.make_vec("cairn/Intersection-v0", num_envs=n, device="cpu", **kwargs)


def test_it_conforms() -> None:
    pytest.importorskip("highway_env")
    check_batch_env(lambda n: crossing(n, max_episode_steps=4), steps=6, lanes=(1, 2))
    check_env(gym.make("cairn/Intersection-v0", render_mode="rgb_array").unwrapped, skip_render_check=True)


def test_a_step_is_upstream_s() -> None:
    batch = crossing(1)
    obs, info = batch.reset(seed=3)
    assert obs.shape == (1, 4, 36) and set(info["facts"]) == {"crashed", "arrived", "success"}
    upstream = batch.teams[0].env
    from highway_env.envs.intersection_env import MultiAgentIntersectionEnv

    from cairn.envs.multi.intersection import CONFIG

    twin: Any = MultiAgentIntersectionEnv(config=CONFIG)
    twin.reset(seed=0)
    for mine, theirs in zip(twin.controlled_vehicles, upstream.controlled_vehicles):
        assert theirs.route[-1][1] != theirs.route[0][0], "nobody turns back"
        mine.position, mine.heading, mine.speed = theirs.position.copy(), theirs.heading, theirs.speed
        mine.plan_route_to(theirs.route[-1][1])
        mine.target_speed, mine.speed_index = theirs.target_speed, theirs.speed_index
    acts = [2, 0, 1, 0]
    for _ in range(4):
        want, *_, told = twin.step(tuple(acts))
        obs, reward, terminated, _, info = batch.step(torch.tensor([acts]))
        seen = info["final_obs"] if terminated[0] else obs
        np.testing.assert_allclose(seen[0].numpy(), np.stack([np.ravel(row) for row in want]).clip(-2, 2), atol=1e-6)
        assert reward[0].tolist() == pytest.approx(list(told["agents_rewards"]))
        if terminated[0]:
            break


def test_crashes_end_it_and_the_facts_say_so() -> None:
    batch = crossing(4)
    batch.reset(seed=0)
    crashed = torch.zeros(4, dtype=torch.bool)
    for _ in range(13):
        *_, reward, terminated, truncated, info = batch.step(torch.full((4, 4), 2))
        final = info["final_facts"]
        assert not (final["crashed"] & final["success"]).any() and torch.equal(
            terminated | truncated, info["_final_obs"]
        )
        assert torch.equal((reward == -4).any(1), final["crashed"]), "only a crash costs"
        assert (terminated == (final["crashed"] | final["success"])).all()
        assert not info["facts"]["crashed"].any(), "a new episode has begun where one crashed"
        crashed |= final["crashed"]
    assert crashed.any(), "who never gives way crashes in the end"


def test_the_script_gives_way_and_is_imitated() -> None:
    from cairn.envs.multi.intersection import give_way

    batch = crossing(3)
    demos = collect(give_way(batch), Joint(batch), 6, seed=0)
    assert float(demos.returns.mean()) / 4 > 2 and not demos.terminated.any(), "without a crash, 2 each at least"
    model = MAMQL("MlpPolicy", batch, demos, online=False, values="expert", alpha=10.0, seed=0).learn(3 * 200)
    shown = demos.stretch()
    assert (model.act_team(shown.obs, True) == shown.action).float().mean() > 0.9
    fast = evaluate_batch(lambda obs: torch.full(obs.shape[:2], 2), batch, 6, 1)
    assert fast.return_mean < float(demos.returns.mean()) / 4 and set(fast.agents or {}) == set(batch.agents)
