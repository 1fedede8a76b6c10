"""Behaviour cloning and DAgger: likelihoods by hand, what they learn, resuming, files, errors."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

import cairn  # noqa: F401  (registers the ids)
from cairn.agents import PPO
from cairn.agents.data import Demonstrations, collect
from cairn.agents.data.controllers import scripted
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.imitation import BC, DAgger
from cairn.envs import from_gymnasium
from cairn.envs.grid.engine import GridBatch

TINY = {"net_arch": [16]}


@pytest.fixture(scope="module")
def cartpole():
    return collect(scripted("CartPole-v1"), from_gymnasium("CartPole-v1", 1), 1, seed=0)


def two_ways(rows=256):
    """At any state the demonstrator goes fully left or fully right, never between."""
    space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    side = torch.tensor([-0.8, 0.8]).repeat(rows // 2)[:, None]
    ends = torch.zeros(rows, dtype=torch.bool)
    ends[-1] = True
    return space, Demonstrations(
        space, space, torch.zeros(rows + 1, 1), side, torch.zeros(rows), ends, ~ends & ends, [rows]
    )


class Still:
    """Makes an environment whose spaces are those of ``two_ways``."""

    def __new__(cls):
        import gymnasium as gym

        class Env(gym.Env):
            observation_space = action_space = two_ways()[0]

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return np.zeros(1, np.float32), {}

            def step(self, action):
                return np.zeros(1, np.float32), 0.0, False, False, {}

        return Env()


def test_the_loss_is_the_negative_likelihood(cartpole):
    model = BC("MlpPolicy", "CartPole-v1", cartpole, ent_coef=0.3, l2=0.2, seed=0)
    x = cartpole.rows(torch.arange(5))
    loss, likelihood = model.cloning_loss(x.obs, x.action)
    log_p = model.policy.get_distribution(x.obs).distribution.logits.log_softmax(-1)
    by_hand = log_p[torch.arange(5), x.action].mean()
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    square = sum(float(p.detach().square().sum()) for p in model.policy.parameters())
    assert likelihood.item() == pytest.approx(by_hand.item())
    assert loss.item() == pytest.approx((-by_hand - 0.3 * entropy).item() + 0.1 * square, rel=1e-4)


def test_cartpole_from_one_demonstration(cartpole):
    model = BC("MlpPolicy", "CartPole-v1", cartpole, seed=0).learn(60_000)
    act = lambda obs: model.policy.act(obs, True)  # noqa: E731
    assert evaluate_batch(act, from_gymnasium("CartPole-v1", 10), 10, seed=1).return_mean > 400
    ppo = PPO("MlpPolicy", "CartPole-v1", seed=1)
    ppo.policy.load_state_dict(model.policy.state_dict())  # PPO goes on from there
    assert model.num_timesteps == 64_000


def test_a_mixture_keeps_both_ways_where_a_gaussian_goes_between():
    space, demos = two_ways()
    plain = BC("MlpPolicy", Still(), demos, policy_kwargs=TINY, seed=0).learn(100_000)
    both = BC("MlpPolicy", Still(), demos, mixture=3, policy_kwargs=TINY, seed=0).learn(100_000)
    obs = torch.zeros(400, 1)
    between = lambda model: float((model.policy.act(obs).abs() < 0.5).float().mean())  # noqa: E731
    assert between(plain) > 0.2 and between(both) < 0.05
    drawn = both.policy.act(obs)
    assert 0.3 < float((drawn > 0).float().mean()) < 0.7
    assert abs(float(both.policy.act(obs[:1], True))) == pytest.approx(0.8, abs=0.05)


def test_the_mixtures_likelihood_by_hand():
    _, demos = two_ways()
    policy = BC("MlpPolicy", Still(), demos, mixture=2, policy_kwargs=TINY, seed=3).policy
    _, weight, mean, log_std = policy.heads(torch.zeros(1, 1))
    p = sum(
        float(weight[0, k].exp()) * math.exp(-0.5 * ((0.3 - float(mean[0, k])) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        for k in range(2)
        for s in [float(log_std[0, k].exp())]
    )
    _, log_prob, _ = policy.evaluate_actions(torch.zeros(1, 1), torch.tensor([[0.3]]))
    assert float(log_prob) == pytest.approx(math.log(p), rel=1e-4)
    action, _, own = policy(torch.zeros(5, 1))
    assert torch.allclose(own, policy.evaluate_actions(torch.zeros(5, 1), action)[1], atol=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(cartpole):
    make = lambda: BC("MlpPolicy", "CartPole-v1", cartpole, policy_kwargs=TINY, batch_size=32, round_updates=5, seed=2)  # noqa: E731
    whole = make().learn(640)
    half = make().learn(320)
    state, other = half.training_state(), make()
    other.load_training_state(state)
    other.learn(320, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), other.policy.parameters()):
        assert torch.equal(a, b)


def test_saving_and_the_command_line(cartpole, tmp_path, monkeypatch):
    from cairn.cli import main

    monkeypatch.chdir(tmp_path)
    cartpole.save("data")
    args = ["--agent-args", "demonstrations=data", "batch_size=32", "round_updates=5"]
    assert (
        main(["train", "CartPole-v1", "--agent", "bc", "--steps", "320", "--num-envs", "2", "--run", "r", *args]) == 0
    )
    (tmp_path / "data").rename(tmp_path / "moved")  # a run can be looked at without what it learned from
    assert main(["eval", "r", "--episodes", "2"]) == 0
    model = BC("MlpPolicy", "CartPole-v1", "moved", policy_kwargs=TINY)
    model.save("m")
    assert BC.load("m").predict(np.zeros(4, np.float32), deterministic=True)[0] in (0, 1)
    BC.load("m", env="CartPole-v1").learn(10)
    held = BC("MlpPolicy", "CartPole-v1", cartpole, policy_kwargs=TINY)
    held.save("n")
    with pytest.raises(ValueError, match="pass them again"):
        BC.load("n", env="CartPole-v1")
    BC.load("n", env="CartPole-v1", demonstrations=cartpole).learn(10)


def test_bad_input(cartpole):
    with pytest.raises(ValueError, match="another environment"):
        BC("MlpPolicy", "Acrobot-v1", cartpole)
    with pytest.raises(ValueError, match="no demonstrations to learn from"):
        BC("MlpPolicy", "CartPole-v1").learn(10)
    with pytest.raises(ValueError, match="nowhere is not there"):
        BC("MlpPolicy", "CartPole-v1", "nowhere").learn(10)
    with pytest.raises(TypeError, match="give a cairn.agents.data.Demonstrations"):
        BC("MlpPolicy", "CartPole-v1", 3)
    with pytest.raises(ValueError, match="for a Box"):
        BC("MlpPolicy", "CartPole-v1", cartpole, mixture=2)
    with pytest.raises(TypeError, match="asks an expert"):
        DAgger("MlpPolicy", "CartPole-v1")


def test_dagger_labels_the_learners_own_states():
    asked = []

    def expert(obs, info):
        asked.append(obs.clone())
        return scripted("CartPole-v1")(obs, info)

    model = DAgger("MlpPolicy", from_gymnasium("CartPole-v1", 4), expert, round_steps=8, batch_size=32, round_updates=4,
                   policy_kwargs=TINY, seed=0)  # fmt: skip
    model.learn(32 * 4 * 3)
    assert model.asked == 3 and len(model.seen["action"]) == 3 * 8 * 4
    assert torch.equal(model.seen["obs"], torch.cat(asked))
    assert torch.equal(model.seen["action"], scripted("CartPole-v1")(model.seen["obs"], {}))


def test_daggers_first_round_is_the_experts():
    model = DAgger("MlpPolicy", from_gymnasium("CartPole-v1", 4), "scripted", round_steps=100, policy_kwargs=TINY,
                   round_updates=1, seed=0)  # fmt: skip
    model.learn(1)
    assert float(model.seen["obs"][:, 2].abs().max()) < 0.2  # the pole never fell


def test_daggers_resumed_run_is_the_uninterrupted_one():
    make = lambda: DAgger("MlpPolicy", from_gymnasium("CartPole-v1", 2), "scripted", round_steps=8, batch_size=16,  # noqa: E731
                          round_updates=2, beta=0.5, policy_kwargs=TINY, seed=5)  # fmt: skip
    whole = make().learn(128)
    state, other = make().learn(64).training_state(), make()
    other.load_training_state(state)
    other.learn(64, reset_num_timesteps=False)
    assert torch.equal(whole.seen["obs"], other.seen["obs"])
    for a, b in zip(whole.policy.parameters(), other.policy.parameters()):
        assert torch.equal(a, b)


def test_a_planning_expert():
    model = DAgger("MlpPolicy", GridBatch("MiniGrid-Empty-5x5-v0", 4), "solver", round_steps=4, batch_size=64,
                   round_updates=20, seed=0)  # fmt: skip
    model.learn(64 * 20 * 4)
    result = evaluate_batch(lambda obs: model.policy.act(obs, True), GridBatch("MiniGrid-Empty-5x5-v0", 4), 4, seed=3)
    assert result.success == 1.0
