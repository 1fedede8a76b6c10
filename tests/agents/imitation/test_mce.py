"""Maximum causal entropy IRL: occupancies matched exactly, the dual's gradient, recovered rewards, bad input."""

import pytest
import torch
from gymnasium import spaces

from cairn.agents.data import collect
from cairn.agents.imitation import TableReward, empirical_occupancy, mce_irl
from cairn.envs.tabular import TabularBatch, build, occupancy
from cairn.envs.tabular.soft import soft_value_iteration
from cairn.envs.tabular.solve import visits
from cairn.envs.tabular.worlds import random_mdp
from cairn.shaping import as_reward


def discounted(mdp, policy, horizon):
    each = visits(mdp, policy, horizon)
    return (mdp.discount ** torch.arange(horizon, dtype=torch.float64)[:, None, None] * each).sum(0)


def test_one_state_two_actions_by_hand():
    """With one state the policy is the softmax of the reward: 3 : 1 is a difference of log 3."""
    from cairn.envs.tabular.mdp import MDP

    mdp = MDP(torch.ones(1, 2, 1), torch.zeros(1, 2), discount=0.5)
    found = mce_irl(mdp, torch.tensor([[1.5, 0.5]]))  # 1 / (1 - 0.5) = 2 visits
    assert found.policy[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)
    assert float(found.reward[0, 0] - found.reward[0, 1]) == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-5)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("horizon", [None, 6])
def test_occupancies_are_matched_to_1e_6(seed, horizon):
    mdp = random_mdp(states=8, actions=3, discount=0.8, seed=seed)
    expert = soft_value_iteration(mdp, 0.3, horizon=horizon).policy
    target = occupancy(mdp, expert) if horizon is None else discounted(mdp, expert, horizon)
    # A policy that is no soft optimum under this temperature: with a feature for each pair it is matched all the same.
    found = mce_irl(mdp, target, horizon=horizon)
    assert float((found.occupancy - target).abs().max()) < 1e-6 and found.gap < 1e-6
    if horizon is None:
        assert float((found.policy - expert).abs().max()) < 1e-4


def test_state_rewards_are_found_up_to_what_cannot_be_known():
    mdp = random_mdp(states=10, actions=3, discount=0.8, seed=4)
    true = torch.randn(10, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64).expand(10, 3)
    expert = soft_value_iteration(mdp.with_reward(true)).policy
    found = mce_irl(mdp, occupancy(mdp, expert), features="state")
    assert found.gap < 1e-6 and float((found.policy - expert).abs().max()) < 1e-5
    # Rewards of states that give the same soft optimum: here they differ by a constant at most.
    apart = (found.reward - true)[:, 0]
    assert float(apart.max() - apart.min()) < 1e-3


def test_features_match_where_visits_cannot():
    mdp = random_mdp(states=9, actions=2, discount=0.9, seed=2)
    target = occupancy(mdp, torch.rand(9, 2, dtype=torch.float64).softmax(-1))
    features = torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0))
    found = mce_irl(mdp, target, features=features)
    have = torch.einsum("sa,saf->f", found.occupancy - target, features.double())
    assert float(have.abs().max()) < 1e-6 and found.weights.shape == (3,)
    assert float((found.occupancy - target).abs().max()) > 1e-3


def test_arrival_rewards_lead_to_a_goal():
    """The goal is terminal: only a reward for arriving can tell it."""
    scene = build("four_rooms", discount=0.95)
    mdp = scene.mdp
    expert = soft_value_iteration(mdp, 0.05).policy
    found = mce_irl(mdp, occupancy(mdp, expert), features="next_state", l2=1e-4, max_iterations=40)
    reach = lambda policy: float(occupancy(mdp, policy).sum())  # noqa: E731  (the fewer, the sooner it ends)
    assert reach(found.policy) < 1.3 * reach(expert)
    goal = mdp.terminal.nonzero()[0, 0]
    assert float(found.weights[goal]) == float(found.weights.max())


def test_demonstrations_and_the_term():
    env = TabularBatch(build("chain", slip=0.0, max_steps=10), 8)
    mdp = env.scene.mdp.with_discount(0.8)
    demos = collect(lambda obs, info: torch.ones(8, dtype=torch.int64), env, 8, seed=0)
    target = empirical_occupancy(mdp, demos)
    assert float(target[:, 0].sum()) == 0.0 and float(target.max()) == pytest.approx(1.0)
    found = mce_irl(mdp, demos, l2=1e-2, max_iterations=40)
    term = found.term()
    x = demos.stretch()
    assert torch.allclose(term.score(x), found.reward[x.obs, x.action].float())
    assert torch.allclose((2 * term).inputs[0].score(x), term.score(x))  # usable in an expression
    assert as_reward(1.0 + term).text is None
    been = target[:, 1] > 0
    assert int(been.sum()) >= 3 and bool((found.policy[been, 1] > 0.5).all())


def test_bad_input():
    mdp = random_mdp(states=5, actions=2, seed=0)
    with pytest.raises(ValueError, match="visits are"):
        mce_irl(mdp, torch.ones(5, 3))
    with pytest.raises(ValueError, match="visits are"):
        mce_irl(mdp, torch.full((5, 2), float("nan")))
    with pytest.raises(ValueError, match="one of state"):
        mce_irl(mdp, torch.ones(5, 2), features="pixel")
    with pytest.raises(ValueError, match="features are finite"):
        mce_irl(mdp, torch.ones(5, 2), features=torch.ones(4, 2, 3))
    demos = collect(lambda o, i: torch.ones(2, dtype=torch.int64), TabularBatch(build("chain", max_steps=5), 2), 2)
    with pytest.raises(ValueError, match="another world"):
        mce_irl(mdp, demos)
    from cairn.shaping.term import World

    with pytest.raises(ValueError, match="another world"):
        TableReward(torch.ones(3, 2)).bind(World(spaces.Discrete(4), spaces.Discrete(2)))
