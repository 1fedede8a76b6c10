"""IQ-Learn: the objective by hand, exact in a table, CartPole from one demonstration, the reward as a term."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.agents import PPO
from cairn.agents.data import Demonstrations, collect
from cairn.agents.data.controllers import scripted
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.imitation import IQLearn, IQLearnSAC
from cairn.agents.imitation.common import network_action
from cairn.agents.imitation.iq import iq_loss, rest_reward, slope, value_bound
from cairn.envs import from_gymnasium
from cairn.envs.tabular import occupancy
from cairn.envs.tabular.soft import soft_value_iteration
from cairn.envs.tabular.worlds import random_mdp

SMALL = {"policy_kwargs": {"net_arch": [16]}, "learning_rate": 1e-3, "batch_size": 16, "train_freq": 1, "seed": 0}


@pytest.fixture(scope="module")
def cartpole():
    return collect(scripted("CartPole-v1"), from_gymnasium("CartPole-v1", 1), 1, seed=0)


@pytest.fixture(scope="module")
def pendulum():
    return collect(scripted("Pendulum-v1"), from_gymnasium("Pendulum-v1", 2), 2, seed=0)


def test_the_objective_by_hand():
    q, v, ahead = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5]), torch.tensor([3.0, 4.0])
    ends, expert = torch.tensor([0.0, 1.0]), torch.tensor([True, False])
    # Rewards: 1 - .5 * 3 = -.5 of the expert; 2 of the other, whose task ended.
    loss, parts = iq_loss(q, v, ahead, ends, expert, 0.5, alpha=2.0)
    assert float(parts["reward_expert"]) == -0.5
    assert float(loss) == pytest.approx((0.0 + 2.5) / 2 + 0.5 + (0.25 + 4.0) / 2 / 8)
    loss, _ = iq_loss(q, v, ahead, ends, expert, 0.5, alpha=2.0, values="expert", regularise_all=False)
    assert float(loss) == pytest.approx(0.0 + 0.5 + 0.25 / 8)
    loss, _ = iq_loss(q, v, ahead, ends, expert, 0.5, alpha=2.0, values="own", regularise_all=False)
    assert float(loss) == pytest.approx(2.5 + 0.5 + 0.25 / 8)
    loss, _ = iq_loss(q, v, ahead, ends, expert, 0.5, values="start", start=torch.tensor([4.0, 6.0]), divergence="tv")
    assert float(loss) == pytest.approx(0.5 * 5 + 0.5)
    loss, _ = iq_loss(q, v, ahead, ends, expert, 0.5, divergence="kl")
    assert float(loss) == pytest.approx(1.25 + 0.5 * float(torch.tensor(0.5).exp()))
    with pytest.raises(ValueError, match="needs the values of first states"):
        iq_loss(q, v, ahead, ends, expert, 0.5, values="start")
    with pytest.raises(ValueError, match="one of expert, all, own, start"):
        iq_loss(q, v, ahead, ends, expert, 0.5, values="none")


def test_what_follows_an_end_by_hand():
    q, v, ahead = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5]), torch.tensor([3.0, 40.0])
    ends, expert = torch.tensor([1.0, 0.0]), torch.tensor([True, False])
    # The first ends: what follows is -8 at half; the second's 40 is held at 10. Rewards: 1 + 4 = 5 and 2 - 5 = -3.
    loss, parts = iq_loss(q, v, ahead, ends, expert, 0.5, alpha=2.0, rest=torch.tensor([-8.0]), bound=10.0)
    assert float(parts["reward_expert"]) == 5.0
    assert float(loss) == pytest.approx((1.5 + 4.0 + 2.5 - 5.0) / 2 - 5.0 + (25.0 + 9.0) / 2 / 8)


@pytest.mark.parametrize(("values", "everywhere"), [("all", True), ("own", True), ("start", True), ("start", False)])
def test_the_state_after_an_end_has_the_reward_that_minimises_the_loss(values, everywhere):
    """Three of the demonstrations' four rows are in it and one of the learner's, all with the value that is sought."""
    q = torch.zeros(1, requires_grad=True)
    expert, there = torch.arange(8) < 4, torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 0])
    solver = torch.optim.LBFGS([q], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        reward = there * q  # rows elsewhere give 0; what follows is given, as from a target network
        value, ahead, first = there * q, torch.zeros(8), torch.zeros(1)
        loss, _ = iq_loss(reward, value, ahead, torch.zeros(8), expert, 0.5, values=values, alpha=0.7, start=first,
                          regularise_all=everywhere)  # fmt: skip
        loss.backward()
        return loss

    solver.step(closure)
    assert rest_reward(0.75, 0.25, values, 0.7, everywhere) == pytest.approx(q.item(), abs=1e-5)
    assert abs(q.item()) <= value_bound(values, 0.7, 0.5) * 0.5 + 1e-5


def test_ends_that_are_the_learners_alone_are_worth_the_least_there_can_be(cartpole):
    assert rest_reward(0.0, 0.1, "all", 0.5, True) == pytest.approx(-1.0)
    assert (
        rest_reward(0.2, 0.0, "all", 0.5, True) == pytest.approx(1.0) and rest_reward(0.0, 0.0, "all", 1.0, True) == 0
    )
    assert rest_reward(0.2, 0.1, "expert", 0.5, True) == 0.0  # as there is nothing to choose
    model = IQLearn("MlpPolicy", from_gymnasium("CartPole-v1", 2), cartpole, learning_starts=20, **SMALL)
    model.learn(200)
    assert model.rest.item() == pytest.approx(-100.0)  # 500 steps are shown, and the learner falls
    ends = torch.tensor([True, False])
    reward = model.inner_reward(torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 4), ends)
    assert reward[0].item() == pytest.approx(model.q_net(torch.zeros(1, 4))[0, 0].item() + 99.0, abs=1e-4)
    plain = IQLearn(
        "MlpPolicy", from_gymnasium("CartPole-v1", 2), cartpole, absorbing=False, learning_starts=20, **SMALL
    )
    assert plain.learn(60).rest.item() == 0.0


@pytest.mark.parametrize(
    ("name", "phi"),
    [
        ("kl", lambda r: -torch.exp(-r)),
        ("js", lambda r: torch.log(2 - torch.exp(-r))),
        ("hellinger", lambda r: r / (1 + r)),
    ],
)
def test_slopes_are_the_derivatives_of_concave_functions(name, phi):
    r = torch.linspace(-0.4, 2, 9, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(phi(r).sum(), r)
    assert torch.allclose(slope(r.detach(), name), exact)
    assert bool((exact.diff() < 0).all())
    with pytest.raises(ValueError, match="one of chi2"):
        slope(r, "wasserstein")


def test_on_the_experts_states_it_is_likelihood_and_squared_inverse_differences():
    """Wulfmeier et al. 2024: -temperature log pi(a | s) plus r^2 / (4 alpha)."""
    torch.manual_seed(0)
    values, ahead, action, ends = torch.randn(6, 4), torch.randn(6), torch.randint(4, (6,)), torch.zeros(6)
    q, v = values[torch.arange(6), action], 0.7 * torch.logsumexp(values / 0.7, -1)
    loss, _ = iq_loss(q, v, ahead, ends, torch.ones(6, dtype=torch.bool), 0.9, values="expert")
    log_pi = (values / 0.7).log_softmax(-1)[torch.arange(6), action]
    square = (q - 0.9 * ahead).square().mean() / 2
    assert float(loss) == pytest.approx(float(-0.7 * log_pi.mean() + square), rel=1e-5)


def exact_loss(mdp, q, rho, chi):
    """The objective over a whole table: expectations under the expert's visits, no samples."""
    v = torch.where(mdp.terminal, 0.0, torch.logsumexp(q, -1))
    reward = q - mdp.discount * mdp.expect(v)
    weight = rho / rho.sum()
    start = (1 - mdp.discount) * (mdp.start * v).sum()
    return start - (weight * (reward - chi * reward.square())).sum()


def test_a_table_matches_the_experts_occupancy_exactly():
    """Without the square it is maximum causal entropy IRL: visits agree to 1e-6; with it they do not."""
    mdp = random_mdp(states=6, actions=3, discount=0.8, seed=1)
    rho = occupancy(mdp, soft_value_iteration(mdp, 0.5).policy)
    gaps = []
    for chi in (0.0, 0.5):
        q = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [q], max_iter=400, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure(q=q, chi=chi, solver=solver):
            solver.zero_grad()
            loss = exact_loss(mdp, q, rho, chi)
            loss.backward()
            return loss

        solver.step(closure)
        gaps.append(float((occupancy(mdp, q.detach().softmax(-1)) - rho).abs().max()))
    assert gaps[0] < 1e-6 < 1e-3 < gaps[1]


def test_cartpole_from_one_demonstration_offline(cartpole):
    model = IQLearn(
        "MlpPolicy", "CartPole-v1", cartpole, online=False, learning_rate=1e-3, batch_size=32, train_freq=1, seed=0
    )
    model.learn(1500)
    act = lambda obs: model.policy.act(obs, True)  # noqa: E731
    assert evaluate_batch(act, from_gymnasium("CartPole-v1", 10), 10, seed=1).return_mean > 400
    assert model.replay_buffer.count() == 0 and model.num_timesteps > 1499


def test_online_mixes_the_learners_rows(cartpole):
    model = IQLearn("MlpPolicy", from_gymnasium("CartPole-v1", 2), cartpole, learning_starts=20, **SMALL)
    model.learn(60)
    assert model.replay_buffer.count() == 60
    batch = next(model.replay_buffer.batches(1, 16))
    obs, action, after, ends, expert = model._rows(batch, 16)
    assert expert.tolist() == [True] * 16 + [False] * 16 and torch.equal(obs[16:], batch.observations)
    assert action.shape == (32, 1) and torch.equal(after[16:], batch.next_observations) and ends.shape == (32,)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("values", ["start", "expert"])
def test_continuous_actions(pendulum, online, values):
    model = IQLearnSAC("MlpPolicy", "Pendulum-v1", pendulum, online=online, values=values, learning_starts=20, **SMALL)
    before = [p.clone() for p in model.actor.parameters()]
    model.learn(60)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.actor.parameters()))
    assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())


def test_sac_learns_to_do_as_demonstrated():
    """The demonstrator does what it sees; the critics' only source is its rows."""
    box = spaces.Box(-1.0, 1.0, (1,), np.float32)
    states = torch.rand(401, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ends = torch.zeros(400, dtype=torch.bool)
    ends[-1] = True
    demos = Demonstrations(box, box, states, states[:-1].clone(), torch.zeros(400), ~ends & ends, ends, [400])
    import gymnasium as gym

    class Env(gym.Env):
        observation_space = action_space = box

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, False, False, {}

    model = IQLearnSAC("MlpPolicy", Env(), demos, online=False, learning_rate=3e-3, batch_size=64, gamma=0.5, seed=0,
                       policy_kwargs={"net_arch": [32, 32]})  # fmt: skip
    model.learn(800)
    seen = torch.linspace(-0.8, 0.8, 9)[:, None]
    assert float((model.policy.act(seen, True) - seen).abs().mean()) < 0.3


def test_the_reward_is_a_pure_term(cartpole):
    model = IQLearn("MlpPolicy", "CartPole-v1", cartpole, online=False, temperature=0.5, **SMALL).learn(50)
    x = cartpole.rows(torch.tensor([0, 7, 499]))
    reward = model.recovered_reward()
    q, after = model.q_net(x.obs), model.q_net_target(x.next_obs)
    v = 0.5 * torch.logsumexp(after / 0.5, -1) * (1 - x.terminated.float())
    by_hand = q[torch.arange(3), x.action] - 0.99 * v
    assert torch.allclose(reward.score(x), by_hand)
    junk = x.map(lambda t: t.clone())
    junk.valid[1], junk.obs[1] = False, float("nan")
    assert torch.allclose(reward.score(junk)[[0, 2]], by_hand[[0, 2]])  # junk reaches no network
    agent = PPO("MlpPolicy", "CartPole-v1", reward=1.0 + 0.1 * reward, n_steps=16, batch_size=16, n_epochs=1)
    agent.learn(16)  # usable in an expression


def test_a_resumed_run_is_the_uninterrupted_one(cartpole):
    make = lambda: IQLearn("MlpPolicy", from_gymnasium("CartPole-v1", 2), cartpole, learning_starts=10, **SMALL)  # noqa: E731
    whole = make().learn(60)
    state, other = make().learn(30).training_state(), make()
    other.load_training_state(state)
    other.learn(30, reset_num_timesteps=False)
    for a, b in zip(whole.q_net.parameters(), other.q_net.parameters()):
        assert torch.equal(a, b)


def test_actions_go_there_and_back(pendulum):
    model = IQLearnSAC("MlpPolicy", "Pendulum-v1", pendulum, **SMALL)
    inner = network_action(model.form, pendulum.action)
    assert torch.allclose(model.form.executed(inner), pendulum.action, atol=1e-6) and float(inner.abs().max()) <= 1


def test_files_the_command_line_and_bad_input(cartpole, tmp_path, monkeypatch):
    from cairn.cli import main

    monkeypatch.chdir(tmp_path)
    cartpole.save("data")
    args = ["--agent-args", "demonstrations=data", "online=false", "learning_rate=1e-3"]
    assert (
        main(["train", "CartPole-v1", "--agent", "iq_learn", "--steps", "300", "--num-envs", "1", "--run", "r", *args])
        == 0
    )
    assert main(["eval", "r", "--episodes", "2", "--deterministic"]) == 0
    assert main(["resume", "r", "--steps", "400"]) == 0
    IQLearn("MlpPolicy", "CartPole-v1", "data", temperature=0.3, values="start", **SMALL).save("m")
    back = IQLearn.load("m", env="CartPole-v1")
    assert back.temperature == 0.3 and back.values == "start" and back.demos is not None
    assert IQLearn.load("m").demos is None
    with pytest.raises(ValueError, match="one of chi2"):
        IQLearn("MlpPolicy", "CartPole-v1", cartpole, divergence="w")
    with pytest.raises(ValueError, match="offline take"):
        IQLearn("MlpPolicy", "CartPole-v1", cartpole, online=False, values="all")
    with pytest.raises(ValueError, match="another environment"):
        IQLearn("MlpPolicy", "Acrobot-v1", cartpole)
    with pytest.raises(ValueError, match="Box action space"):
        IQLearnSAC("MlpPolicy", "CartPole-v1", cartpole)
    with pytest.raises(ValueError, match="temperature"):
        IQLearn("MlpPolicy", "CartPole-v1", cartpole, temperature=0)
