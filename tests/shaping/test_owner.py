"""Owners are not kept alive, and copies of them own what was copied with them."""

import copy
import pickle

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch

from cairn.agents import PPO
from cairn.shaping import RND, Task
from cairn.shaping.owner import Owner
from cairn.shaping.seats_replay import ShapedReplayBuffer


class Agent:
    def __init__(self) -> None:
        self.part = {"back": Owner(self)}


def test_the_owner_is_not_kept() -> None:
    agent = Agent()
    part = agent.part
    assert part["back"]() is agent
    del agent
    with pytest.raises(RuntimeError, match="the Agent .* is gone"):
        part["back"]()
    with pytest.raises(RuntimeError, match="is gone"):
        copy.deepcopy(part)["back"]()


def test_a_copied_owner_owns_its_parts() -> None:
    agent = Agent()
    twin, pickled = copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))
    assert twin.part["back"]() is twin and pickled.part["back"]() is pickled
    part = copy.deepcopy(agent.part)  # without its owner, which is not copied along
    assert part["back"]() is agent


def test_sb3s_pickled_buffer_draws_from_itself() -> None:
    reward = Task() + 0.1 * RND().into("main")
    kwargs = {"replay_buffer_class": ShapedReplayBuffer, "replay_buffer_kwargs": {"reward": reward}}
    model = sb3.DQN("MlpPolicy", "CartPole-v1", learning_starts=10, buffer_size=100, device="cpu", **kwargs)
    model.learn(30)
    buffer = model.replay_buffer
    for other in (pickle.loads(pickle.dumps(buffer)), copy.deepcopy(buffer)):
        other.columns["obs"][:] = 7.0
        assert (other.seat.source.sample(5).obs == 7).all() and not (buffer.seat.source.sample(5).obs == 7).any()


def test_a_copied_model_asks_its_own_policy() -> None:
    env = gym.make_vec("cairn/Room-v0", num_envs=2)
    model = PPO("MlpPolicy", env, reward=Task() + 0.1 * RND().into("main"), n_steps=8, batch_size=16, seed=0)
    model.learn(16)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.policy.action_net.parameters():
            parameter.add_(torch.arange(float(parameter.numel())).reshape(parameter.shape))
    model.rollout.lived = 8  # as before it was closed
    x = model.rollout.stretch(model.rollout.action)
    for one in (model, twin):
        probs = one.policy.get_distribution(x.flat().obs).distribution.probs
        assert torch.equal(one.seat.world.ask.probs(x).flatten(0, 1), probs)
    assert not torch.allclose(model.seat.world.ask.probs(x), twin.seat.world.ask.probs(x))
