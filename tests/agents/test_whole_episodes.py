"""PPO(whole_episodes=True): only rows of episodes that began and ended within the rollout are learned from."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.shaping import MinForm, Task

ID, LANES = "cairn/MiniGrid-Empty-5x5-v0", 4


def model(n_steps: int, limit: int, **settings: Any) -> PPO:
    envs = gym.make_vec(ID, num_envs=LANES, max_episode_steps=limit)
    reward = Task() + MinForm(Task() - 0.1)
    sizes = {"n_steps": n_steps, "batch_size": 16, "n_epochs": 2}
    return PPO("MlpPolicy", envs, reward=reward, seed=0, whole_episodes=True, **sizes, **settings)


def by_hand(done: Tensor, open_before: Tensor) -> Tensor:
    """Row by row: an episode counts from its first step to its end, if both are in ``done [T, N]``."""
    out = torch.zeros_like(done)
    for lane in range(done.shape[1]):
        begin = None if open_before[lane] else 0
        for t in range(len(done)):
            if done[t, lane]:
                if begin is not None:
                    out[begin : t + 1, lane] = True
                begin = t + 1
    return out


@pytest.mark.parametrize("memory", [None, 16])
def test_the_rows_that_are_learned_from(memory: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {} if memory is None else {"policy_kwargs": {"memory": memory, "window": 8}}
    ppo = model(16, 7, **kwargs)  # 16 steps: two episodes of 7 and a part of the next
    seen: list[Tensor] = []
    minibatch = ppo._minibatch

    def watched(rows: Any, index: Tensor, weights: Any) -> Tensor:
        used = index.flatten()
        seen.append(used[rows["keep"][used]] if "keep" in rows else used)
        numbers = minibatch(rows, index, weights)
        assert numbers.isfinite().all()
        return numbers

    def passed(rows: Any, order: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(order)
        numbers = run(rows, order, *args, **kwargs)
        assert numbers.isfinite().all()
        return numbers

    if ppo._epochs is None:
        monkeypatch.setattr(ppo, "_minibatch", watched)
    else:
        run = ppo._epochs.run
        monkeypatch.setattr(ppo._epochs, "run", passed)
    open_before = torch.zeros(LANES, dtype=torch.bool)
    for turn in range(3):
        seen.clear()
        ppo.learn(16 * LANES, reset_num_timesteps=turn == 0)
        done = (ppo.rollout.terminated | ppo.rollout.truncated).clone()
        expected = by_hand(done, open_before).flatten().nonzero()[:, 0].tolist()
        assert 0 < len(expected) < 16 * LANES
        assert sorted(torch.cat(seen).tolist()) == sorted(2 * expected)
        open_before = ~done[-1]


def test_a_rollout_without_a_whole_episode_teaches_nothing() -> None:
    ppo = model(4, 50)
    before = [p.clone() for p in ppo.policy.parameters()]
    ppo.learn(8 * LANES)
    assert ppo.num_timesteps == 8 * LANES
    assert all(torch.equal(a, b) for a, b in zip(before, ppo.policy.parameters()))


def test_it_needs_a_reward(tmp_path: Path) -> None:
    envs = gym.make_vec(ID, num_envs=LANES, max_episode_steps=7)
    with pytest.raises(ValueError, match=r"no reward expression: pass it as reward= \(Task\(\)"):
        PPO("MlpPolicy", envs, whole_episodes=True)
    ppo = PPO("MlpPolicy", envs, reward=Task(), whole_episodes=True, n_steps=16, batch_size=16, seed=0)
    ppo.learn(16 * LANES)
    assert ppo._rows_used is not None and not ppo._rows_used.all()  # what the message says is true
    ppo.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")  # without environments, to predict
    obs = gym.make(ID).reset(seed=0)[0]
    assert loaded.predict(obs, deterministic=True)[0] == ppo.predict(obs, deterministic=True)[0]
    loaded.set_env(envs)
    with pytest.raises(ValueError, match="no reward expression"):
        loaded.learn(16)
    assert PPO.load(tmp_path / "model", env=envs).learn(16 * LANES).num_timesteps > 0
