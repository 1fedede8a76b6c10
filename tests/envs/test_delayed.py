"""Delayed and episodic reward: the same return, paid later."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.batch import BatchEnv
from cairn.envs.check import check_batch_env
from cairn.envs.delayed import DelayedReward, EpisodicReward


class Count(BatchEnv):
    """Pays the episode's step number; lane i ends every 3 + i steps, by turns with a termination and a truncation."""

    exact_state = True

    def __init__(self, num_envs=3):
        box = gym.spaces.Box(0, 1000, (1,), np.float32)
        super().__init__(num_envs, box, gym.spaces.Discrete(2))
        self.lengths = 3 + torch.arange(num_envs)
        self.age, self.episode = torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs, dtype=torch.int64)

    def reset(self, *, seed=None, options=None):
        mask = torch.as_tensor((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        self.age[mask] = 0
        return self.age[:, None].float(), {"facts": {}}

    def step(self, actions):
        self.age += 1
        reward, last = self.age.float(), self.age[:, None].float()
        ended = self.age == self.lengths
        terminated = ended & (self.episode % 2 == 0)
        self.episode += ended
        self.age = self.age.masked_fill(ended, 0)
        info = {"final_obs": last, "_final_obs": ended, "facts": {}, "final_facts": {}}
        return self.age[:, None].float(), reward, terminated, ended & ~terminated, info

    def state_dict(self):
        return {"age": self.age.clone(), "episode": self.episode.clone()}

    def load_state_dict(self, state):
        self.age, self.episode = state["age"].clone(), state["episode"].clone()


def paid(env, steps):
    return [env.step(torch.zeros(env.num_envs, dtype=torch.int64))[1].tolist() for _ in range(steps)]


def test_pays_at_the_end():
    env = EpisodicReward(Count())
    env.reset(seed=0)
    assert paid(env, 6) == [[0, 0, 0], [0, 0, 0], [6, 0, 0], [0, 10, 0], [0, 0, 15], [6, 0, 0]]


def test_pays_every_k_steps_and_the_rest_at_the_end():
    env = DelayedReward(Count(), 2)
    env.reset(seed=0)
    assert paid(env, 6) == [[0, 0, 0], [3, 3, 3], [3, 0, 0], [0, 7, 7], [3, 0, 5], [3, 3, 0]]
    every = DelayedReward(Count(), 1)
    every.reset(seed=0)
    assert paid(every, 5) == paid_plain(5)


def paid_plain(steps):
    env = Count()
    env.reset(seed=0)
    return paid(env, steps)


def test_undelayed_reward_stays_visible():
    env = EpisodicReward(Count())
    env.reset(seed=0)
    assert env.step(torch.zeros(3, dtype=torch.int64))[4]["undelayed_reward"].tolist() == [1, 1, 1]


def test_a_partial_reset_drops_what_was_owed():
    env = EpisodicReward(Count())
    env.reset(seed=0)
    paid(env, 2)
    env.reset(options={"reset_mask": np.array([True, False, False])})
    assert paid(env, 3) == [[0, 0, 0], [0, 10, 0], [6, 0, 15]]


def test_state_resumes():
    env = DelayedReward(Count(), 2)
    env.reset(seed=0)
    paid(env, 3)
    state = env.state_dict()
    expected = paid(env, 7)
    again = DelayedReward(Count(), 2)
    again.reset(seed=1)
    again.load_state_dict(state)
    assert paid(again, 7) == expected
    with pytest.raises(ValueError, match="every"):
        DelayedReward(Count(), 3).load_state_dict(state)


def test_returns_are_the_environments_own():
    plain, late = gym.make_vec("cairn/Hopper-v5", num_envs=5, max_episode_steps=40), None
    late = EpisodicReward(gym.make_vec("cairn/Hopper-v5", num_envs=5, max_episode_steps=40))
    plain.reset(seed=0)
    late.reset(seed=0)
    rng, total, ends = np.random.default_rng(0), np.zeros(5), 0
    for _ in range(80):
        action = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
        _, r, term, trunc, _ = plain.step(action)
        _, p, *_ = late.step(action)
        total += r.numpy()
        ended = (term | trunc).numpy()
        assert np.allclose(p.numpy(), np.where(ended, total, 0), rtol=1e-6)
        total[ended] = 0
        ends += ended.sum()
    assert ends > 5


def test_keeps_the_contract():
    check_batch_env(lambda n: DelayedReward(gym.make_vec("cairn/Hopper-v5", num_envs=n, max_episode_steps=7), 3))


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_bad_every(every):
    with pytest.raises(ValueError, match="every"):
        DelayedReward(Count(), every)
    with pytest.raises(TypeError):
        EpisodicReward(gym.make("CartPole-v1"))
