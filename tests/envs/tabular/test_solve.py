"""The exact solvers, against results by hand and by brute force."""

import itertools

import pytest
import torch

from cairn.envs.tabular import MDP, random_mdp
from cairn.envs.tabular.average import best_average, gain_bias, recurrent_classes
from cairn.envs.tabular.soft import soft_value_iteration
from cairn.envs.tabular.solve import (
    backward_induction,
    best_actions,
    epsilon_greedy,
    occupancy,
    policy_evaluation,
    policy_iteration,
    policy_return,
    q_of_policy,
    regret,
    reward_per_step,
    uniform,
    value_iteration,
    visits,
)


def line(length=3, discount=0.5, reward=1.0):
    """States 0 .. length, right (1) leads on, left (0) back; entering the last pays and ends."""
    states = length + 1
    at = torch.arange(states)
    successors = torch.stack([(at - 1).clamp_min(0), (at + 1).clamp_max(length)], -1)[..., None]
    pays = torch.zeros(states, 2, 1)
    pays[length - 1, 1] = reward
    return MDP(torch.ones(states, 2, 1), pays, terminal=at == length, discount=discount, successors=successors)


def deterministic(mdp):
    """All deterministic policies, [A ** S, S, A]."""
    choices = torch.tensor(list(itertools.product(range(mdp.actions), repeat=mdp.states)))
    return torch.nn.functional.one_hot(choices, mdp.actions).double()


def test_values_of_a_line_by_hand():
    best = value_iteration(line())
    assert torch.allclose(best.values, torch.tensor([0.25, 0.5, 1.0, 0.0]).double())
    assert torch.allclose(best.q[:3], torch.tensor([[0.125, 0.25], [0.125, 0.5], [0.25, 1.0]]).double())
    assert best.policy[:3, 1].tolist() == [1.0, 1.0, 1.0]
    exact = policy_iteration(line())
    assert torch.allclose(exact.values, best.values)


def test_evaluation_of_a_coin_flip_by_hand():
    # One step before the end: V(2) = .5 * 1 + .5 * g V(1) and so on, with g = .5, both actions alike.
    values = policy_evaluation(line(), uniform(line()))
    a = 1 / 4  # V0 = a V0 + a V1; V1 = a V0 + a V2; V2 = a V1 + 1/2
    v = torch.linalg.solve(
        torch.tensor([[1 - a, -a, 0], [-a, 1, -a], [0, -a, 1]]).double(), torch.tensor([0, 0, 0.5]).double()
    )
    assert torch.allclose(values[:3], v) and values[3] == 0


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_optimum_is_the_best_of_all_policies(form):
    mdp = random_mdp(5, 3, number=4, successors=3, terminals=1, seed=2)
    mdp = mdp if form == "dense" else mdp.sparse()
    best, exact = value_iteration(mdp), policy_iteration(mdp)
    for i in range(4):
        one = mdp[i]
        policies = deterministic(one)
        many = one.with_reward(one.reward.expand(len(policies), *one.reward.shape))
        values = policy_evaluation(many, policies)
        assert torch.allclose(values.amax(0), best.values[i], atol=1e-9)
    assert torch.allclose(best.values, exact.values, atol=1e-10)
    assert torch.allclose(best.q, exact.q, atol=1e-10)
    assert torch.allclose(policy_evaluation(mdp, best.policy), best.values, atol=1e-9)


def test_200_random_mdps_at_once():
    mdp = random_mdp(16, 4, number=200)
    best = value_iteration(mdp)
    assert best.values.shape == (200, 16)
    alone = value_iteration(mdp[117])
    assert torch.allclose(best.values[117], alone.values, atol=1e-10)
    assert (regret(mdp, uniform(mdp)) > 0).all()
    assert regret(mdp, best.policy).abs().max() < 1e-9


def test_evaluation_matches_a_long_sum():
    mdp, steps = random_mdp(7, 2, seed=8, discount=0.8), 400
    policy = torch.softmax(torch.rand(7, 2).double(), -1)
    flow = visits(mdp, policy, steps)
    discounts = mdp.discount ** torch.arange(steps).double()
    total = (discounts[:, None, None] * flow * mdp.expected_reward()).sum()
    assert torch.allclose(policy_return(mdp, policy), total)
    assert torch.allclose(occupancy(mdp, policy), (discounts[:, None, None] * flow).sum(0))
    assert torch.allclose((policy * q_of_policy(mdp, policy)).sum(-1), policy_evaluation(mdp, policy))


def test_occupancy_by_hand():
    mdp = line(2)
    right = torch.tensor([[0.0, 1.0]] * 3).double()
    assert occupancy(mdp, right).tolist() == [[0.0, 1.0], [0.0, 0.5], [0.0, 0.0]]
    share = occupancy(mdp, right, normalise=True)
    assert torch.allclose(share.sum(), torch.ones(()).double())
    assert visits(mdp, right, 3).sum((1, 2)).tolist() == [1.0, 1.0, 0.0]
    dual = (occupancy(mdp, right) * mdp.expected_reward()).sum()
    assert torch.allclose(dual, policy_return(mdp, right))


def test_visits_take_a_policy_for_each_step():
    mdp = line(3)
    policy = torch.tensor([[[0.0, 1.0]] * 4, [[1.0, 0.0]] * 4, [[0.0, 1.0]] * 4]).double()
    assert visits(mdp, policy, 3).sum(-1).argmax(-1).tolist() == [0, 1, 0]


def test_backward_induction_by_brute_force():
    mdp = random_mdp(3, 2, seed=3, discount=0.9)
    best = backward_induction(mdp, 3)

    def value(s, left):
        if not left:
            return 0.0
        return max(
            sum(mdp.prob[s, a, n].item() * (mdp.reward[s, a, n].item() + 0.9 * value(n, left - 1)) for n in range(3))
            for a in range(2)
        )

    for s in range(3):
        assert abs(best.values[0, s].item() - value(s, 3)) < 1e-12
    assert best.policy.shape == (3, 3, 2) and best.values.shape == (4, 3)


def test_undiscounted_episodes_and_endless_ones():
    mdp = line(3, discount=1.0, reward=1.0).with_reward(torch.full((4, 2, 1), -1.0))
    right = torch.tensor([[0.0, 1.0]] * 4).double()
    assert policy_evaluation(mdp, right).tolist() == [-3.0, -2.0, -1.0, 0.0]
    assert value_iteration(mdp).values.tolist() == [-3.0, -2.0, -1.0, 0.0]
    left = torch.tensor([[1.0, 0.0]] * 4).double()
    with pytest.raises(ValueError, match="value is infinite"):
        policy_evaluation(mdp, left)
    with pytest.raises(RuntimeError, match="discount 1"):
        value_iteration(mdp.with_reward(torch.ones(4, 2, 1)), max_iterations=500)


def test_regret_is_normalised_by_the_worst():
    mdp = random_mdp(4, 2, number=3, seed=9)
    worst = value_iteration(mdp.with_reward(-mdp.reward)).policy
    assert torch.allclose(regret(mdp, worst, normalise=True), torch.ones(3).double())
    flat = mdp.with_reward(torch.ones(4, 2))
    assert regret(flat, worst, normalise=True).abs().max() == 0


def test_ties_are_all_best():
    mdp = MDP(torch.eye(2).expand(3, 2, 2).transpose(0, 1), [[1.0, 1.0, 0.5], [0.0, 0.0, 0.0]])
    assert best_actions(value_iteration(mdp).q).tolist() == [[True, True, False], [True, True, True]]


def test_policies_are_checked():
    mdp = random_mdp(3, 2)
    with pytest.raises(ValueError, match=r"policy\[state 1\]"):
        policy_evaluation(mdp, torch.tensor([[0.5, 0.5], [0.5, 0.6], [1.0, 0.0]]).double())
    with pytest.raises(ValueError, match=r"it is \[S, A\]"):
        policy_evaluation(mdp, torch.ones(2, 3).double() / 3)
    with pytest.raises(ValueError, match="at least 1"):
        visits(mdp, uniform(mdp), 0)


def test_evaluation_is_differentiable_in_the_reward():
    base = random_mdp(4, 2, seed=1)
    policy = uniform(base)
    reward = base.expected_reward().clone().requires_grad_()
    policy_return(base.with_reward(reward), policy).backward()
    assert torch.allclose(reward.grad, occupancy(base, policy))  # J is linear, and its slope the occupancy


def test_soft_values_by_hand():
    # One state that ends: Q = r, V = tau log sum exp(r / tau).
    mdp = MDP(torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]), [[1.0, 3.0], [0, 0]],
              terminal=torch.tensor([False, True]))  # fmt: skip
    soft = soft_value_iteration(mdp, 2.0)
    expected = 2 * torch.log(torch.exp(torch.tensor(0.5)) + torch.exp(torch.tensor(1.5)))
    assert torch.allclose(soft.values[0].float(), expected) and soft.values[1] == 0
    assert torch.allclose(soft.policy[0], torch.softmax(torch.tensor([0.5, 1.5]).double(), -1))
    assert torch.allclose(soft.log_policy.exp(), soft.policy)


def test_soft_values_are_reward_plus_entropy():
    mdp, tau = random_mdp(6, 3, number=2, seed=4), 0.7
    soft = soft_value_iteration(mdp, tau)
    entropy = -(soft.policy * soft.log_policy).sum(-1)
    with_bonus = mdp.with_reward(mdp.expected_reward() + tau * entropy[..., None])
    assert torch.allclose(policy_evaluation(with_bonus, soft.policy), soft.values, atol=1e-9)
    other = torch.softmax(torch.rand(2, 6, 3).double(), -1)
    bonus = tau * -(other * other.log()).sum(-1)
    worse = policy_evaluation(mdp.with_reward(mdp.expected_reward() + bonus[..., None]), other)
    assert (worse <= soft.values + 1e-9).all()


def test_soft_values_cool_to_the_optimum_and_run_over_horizons():
    mdp = random_mdp(6, 3, seed=4, discount=0.9)
    assert torch.allclose(soft_value_iteration(mdp, 1e-4).values, value_iteration(mdp).values, atol=0.01)
    finite = soft_value_iteration(mdp, 0.5, horizon=400)
    assert torch.allclose(finite.values[0], soft_value_iteration(mdp, 0.5).values)
    assert finite.policy.shape == (400, 6, 3) and finite.values[-1].abs().sum() == 0
    with pytest.raises(ValueError, match="above 0"):
        soft_value_iteration(mdp, 0.0)
    with pytest.raises(RuntimeError, match="entropy for ever"):
        soft_value_iteration(mdp.with_discount(1.0), max_iterations=200)


def test_soft_horizon_gradient_is_the_occupancy():
    mdp = random_mdp(4, 2, seed=6, discount=1.0)
    reward = mdp.expected_reward().clone().requires_grad_()
    soft = soft_value_iteration(mdp.with_reward(reward), horizon=5)
    (mdp.start * soft.values[0]).sum().backward()
    # dV/dr = expected visits under the soft policy (maximum causal entropy).
    assert torch.allclose(reward.grad, visits(mdp, soft.policy.detach(), 5).sum(0))


def test_gain_and_bias_by_hand():
    # Two states that alternate and pay 0 and 4: gain 2, bias -1 and 1.
    mdp = MDP([[[0.0, 1.0]], [[1.0, 0.0]]], [[0.0], [4.0]])
    long = gain_bias(mdp, torch.ones(2, 1).double())
    assert torch.allclose(long.gain, torch.tensor(2.0).double())
    assert torch.allclose(long.bias, torch.tensor([-1.0, 1.0]).double())


def test_gain_is_the_limit_of_discounted_returns():
    mdp = random_mdp(6, 2, number=3, seed=7, discount=0.99999)
    policy = uniform(mdp)
    long = gain_bias(mdp, policy)
    assert torch.allclose(long.gain, policy_return(mdp, policy) * (1 - mdp.discount), atol=1e-3)
    chain, reward = mdp.under(policy)
    residual = long.gain[:, None] + long.bias - reward - (chain @ long.bias[..., None])[..., 0]
    assert residual.abs().max() < 1e-10


def test_best_average_beats_all_policies():
    mdp = random_mdp(4, 2, seed=11)
    policies = deterministic(mdp)
    gains = [gain_bias(mdp, p).gain.item() for p in policies]
    best = best_average(mdp)
    assert abs(best.gain.item() - max(gains)) < 1e-8
    assert abs(gain_bias(mdp, best.policy).gain.item() - max(gains)) < 1e-8


def test_two_classes_are_refused():
    stay = MDP(torch.eye(2)[:, None], [[0.0], [1.0]])
    assert recurrent_classes(torch.eye(2).double()) == 2
    assert recurrent_classes(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])) == 1
    with pytest.raises(ValueError, match="2 recurrent classes"):
        gain_bias(stay, torch.ones(2, 1).double())
    with pytest.raises(RuntimeError, match="multichain"):
        best_average(stay, max_iterations=100)


def test_a_task_that_starts_anew_has_a_gain():
    loop = line(3).continuing()
    right = torch.tensor([[0.0, 1.0]] * 4).double()
    assert torch.allclose(gain_bias(loop, right).gain, torch.tensor(0.25).double())  # 3 steps and one to begin anew


def test_reward_per_step_by_hand():
    mdp = line(2)
    right = torch.tensor([[0.0, 1.0]] * 3).double()
    assert torch.allclose(reward_per_step(mdp, right, 10), torch.tensor(0.5).double())
    assert reward_per_step(mdp, right, 1) == 0  # cut before the goal
    # Half the time right: done in 2 steps with 1/4; in 3 by LRR and in 3 only; 1/8; cut at 3.
    half = reward_per_step(mdp, uniform(mdp), 3)
    assert torch.allclose(half, torch.tensor(1 / 4 / 2 + 1 / 8 / 3).double())
    assert torch.allclose(half, reward_per_step(mdp.dense(), uniform(mdp), 3))


def test_reward_per_step_by_simulation():
    mdp = random_mdp(5, 2, terminals=1, seed=2)
    policy = epsilon_greedy(value_iteration(mdp).policy, 0.3)
    generator, scores = torch.Generator().manual_seed(0), []
    lanes = 20_000
    s = torch.multinomial(mdp.start, lanes, replacement=True, generator=generator)
    total, length, open_ = torch.zeros(lanes).double(), torch.zeros(lanes), torch.ones(lanes, dtype=torch.bool)
    for _ in range(6):
        a = torch.multinomial(policy[s], 1, generator=generator)[:, 0]
        n = torch.multinomial(mdp.prob[s, a], 1, generator=generator)[:, 0]
        total += torch.where(open_, mdp.reward[s, a, n], 0.0)
        length += open_
        s, open_ = n, open_ & ~mdp.terminal[n]
    scores = total / length
    exact = reward_per_step(mdp, policy, 6)
    assert abs(scores.mean() - exact) < 4 * scores.std() / lanes**0.5
