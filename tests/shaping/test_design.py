"""Designed rewards: the matrices against exact solutions, and with cvxpy what every design promises."""

import builtins
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from cairn.agents.tabular import REINFORCE
from cairn.agents.teacher import AdaptiveTeacher
from cairn.envs.tabular import MDP, TabularBatch, policy_evaluation, random_mdp, value_iteration
from cairn.envs.tabular.solve import backup, best_actions, q_of_policy
from cairn.envs.tabular.worlds import chain, room
from cairn.shaping import Stretch, World
from cairn.shaping.design import (
    DesignedReward,
    DesignError,
    advantages,
    design_expadard,
    design_exprd,
    informativeness,
    invariant,
    teacher,
)


def worlds() -> list[MDP]:
    return [random_mdp(6, 3, seed=s, terminals=s % 2, sparsity=0.5, discount=0.8) for s in range(6)]


def rewards(mdp: MDP, seed: int) -> Tensor:
    shape = (mdp.states, mdp.actions)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(matrix: Tensor, mdp: MDP, reward: Tensor) -> Tensor:
    found = (matrix @ reward.flatten()).reshape(mdp.states, mdp.actions)
    return found[~mdp.terminal]


def test_the_matrix_gives_the_exact_advantages_of_any_reward() -> None:
    for seed, mdp in enumerate(worlds()):
        policy = teacher(mdp).policy
        reward = rewards(mdp, seed)
        other = mdp.with_reward(reward)
        exact = (policy_evaluation(other, policy)[:, None] - q_of_policy(other, policy))[~mdp.terminal]
        assert torch.allclose(of(advantages(mdp, policy), mdp, reward), exact, atol=1e-9)


@pytest.mark.parametrize("horizon", [0, 1, 4])
def test_the_matrix_of_a_horizon(horizon: int) -> None:
    """Q over h more steps of the policy, by backing up h times."""
    for seed, mdp in enumerate(worlds()):
        policy, reward = teacher(mdp).policy, rewards(mdp, seed)
        other = mdp.with_reward(reward)
        values = torch.zeros(mdp.states, dtype=torch.float64)
        for _ in range(horizon + 1):
            q = backup(other, values)
            values = torch.where(mdp.terminal, 0.0, (policy * q).sum(-1))
        exact = ((policy * q).sum(-1, keepdim=True) - q)[~mdp.terminal]
        assert torch.allclose(of(advantages(mdp, policy, horizon), mdp, reward), exact, atol=1e-9)


def test_a_teacher_knows_the_gaps() -> None:
    for mdp in worlds():
        known, best = teacher(mdp), value_iteration(mdp)
        for s in range(mdp.states):
            others = [float(best.values[s] - q) for q, good in zip(best.q[s], known.optimal[s]) if not good]
            assert float(known.gaps[s]) == pytest.approx(min(others, default=0.0))
        # The original reward meets its own constraints, by exactly the gap in the closest action.
        worse = (advantages(mdp, known.policy) @ mdp.expected_reward().flatten()).reshape(known.q.shape)
        need = torch.where(known.optimal, 0.0, known.gaps[:, None])
        assert bool((worse[~mdp.terminal] >= need[~mdp.terminal] - 1e-9).all())
    with pytest.raises(ValueError, match="one MDP"):
        teacher(random_mdp(4, 2, number=2))


def test_informativeness_by_hand() -> None:
    """Two actions, one step from the end: the original reward tells at once, and none tells nothing."""
    prob = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = MDP(prob, torch.tensor([[1.0, 4.0], [0.0, 0.0]]), terminal=torch.tensor([False, True]), discount=0.5)
    assert informativeness(mdp, torch.tensor([[1.0, 4.0], [0.0, 0.0]]), (1,)) == 0.0
    # delta is 3; a reward of 1 for the better action leaves 2 missing, in one of two states.
    assert informativeness(mdp, torch.tensor([[0.0, 1.0], [0.0, 0.0]]), (1, 4)) == pytest.approx(-1.0)
    assert invariant(mdp, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert not invariant(mdp, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert not invariant(mdp, torch.zeros(2, 2))  # then every policy is optimal


def test_a_designed_reward_in_a_seat() -> None:
    table = torch.arange(6.0).reshape(3, 2)
    x = Stretch.make(
        obs=torch.tensor([[0, 2], [1, 9]]), next_obs=torch.zeros(2, 2, dtype=torch.int64),
        action=torch.tensor([[1, 0], [1, 7]]), reward=torch.ones(2, 2),
        terminated=torch.zeros(2, 2, dtype=torch.bool), valid=torch.tensor([[True, True], [True, False]]),
    )  # fmt: skip
    assert DesignedReward(table).score(x).tolist() == [[1.0, 4.0], [3.0, 0.0]]
    both = torch.stack([table, 10 * table])
    assert DesignedReward(both).score(x).tolist() == [[1.0, 40.0], [3.0, 0.0]]
    from cairn.shaping.laws import check_term

    world = World(gym.spaces.Discrete(3), gym.spaces.Discrete(2), lanes=2, gamma=0.9)
    lived = Stretch.make(
        obs=torch.randint(0, 3, (24, 2)), next_obs=torch.randint(0, 3, (24, 2)), action=torch.randint(0, 2, (24, 2)),
        reward=torch.zeros(24, 2), terminated=torch.zeros(24, 2, dtype=torch.bool),
        start=torch.arange(24)[:, None].expand(24, 2) == 0, t=torch.arange(24)[:, None].expand(24, 2),
    )  # fmt: skip
    check_term(lambda: DesignedReward(table), experience=(world, lived))
    with pytest.raises(ValueError, match="finite table"):
        DesignedReward(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(ValueError, match="for each"):
        AdaptiveTeacher(worlds()[0], DesignedReward(torch.zeros(6, 3)), r_max=1.0, every=5)


def test_without_cvxpy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cvxpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"cairn-rl\[design\]"):
        design_exprd(worlds()[0], r_max=1.0)
    for bad in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="finite and above 0"):
            design_exprd(worlds()[0], r_max=bad)


# With cvxpy: pip install 'cairn-rl[design]'.


def largest(mdp: MDP) -> float:
    return float(mdp.expected_reward().abs().max())


def two_rooms() -> MDP:
    """0 leads to 1 leads to the end, which pays 1; the other action ends at once with nothing. Gaps 0.5 and 1."""
    prob = torch.zeros(3, 2, 3)
    prob[:, :, 2] = 1.0
    prob[0, 1] = torch.tensor([0.0, 1.0, 0.0])
    reward = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    return MDP(prob, reward, terminal=torch.tensor([False, False, True]), discount=0.5)


def test_designs_by_hand() -> None:
    """With h = 0, what is missing in state 0 is 0.5 - (R(0, on) - R(0, off)), over three states."""
    pytest.importorskip("cvxpy")
    mdp = two_rooms()
    assert teacher(mdp).gaps.tolist() == [0.5, 1.0, 0.0]
    # Silent in 0, where 0.5 R(1, on) >= 0.5 is then the constraint: R(1, on) is 1, and 0.5 / 3 stays missing.
    silent = design_exprd(mdp, r_max=1.0, active=[1], horizons=(0,), sparsity=0.01)
    assert silent.reward.flatten().tolist() == pytest.approx([0, 0, 0, 1, 0, 0], abs=1e-4)
    assert silent.objective == pytest.approx(-1 / 6 - 0.01, abs=1e-4)
    # A point of reward in 0 saves a third of what is missing: paid for where C_2 is below a third, and not above. (By
    # either action: +0.5 for going on or -0.5 for ending.)
    cheap = design_exprd(mdp, r_max=1.0, horizons=(0,), sparsity=0.2)
    assert cheap.objective == pytest.approx(-0.2 * 1.5, abs=1e-4)
    assert float(cheap.reward[0, 1] - cheap.reward[0, 0]) == pytest.approx(0.5, abs=1e-4)
    dear = design_exprd(mdp, r_max=1.0, horizons=(0,), sparsity=0.5)
    assert dear.objective == pytest.approx(-1 / 6 - 0.5, abs=1e-4)
    # One state that may pay: 0 alone cannot make 1 right, so the choice is 1; with two, nothing is missing.
    assert design_exprd(mdp, r_max=1.0, budget=1, active=[], horizons=(0,)).active == (1,)
    two = design_exprd(mdp, r_max=1.0, budget=2, active=[], horizons=(0,))
    assert two.active == (1, 0) and two.objective == pytest.approx(0.0, abs=1e-4)
    # The bound is where it says: a gap of 1 between -0.5 and 0.5, and not a hair below.
    tight = design_exprd(mdp, r_max=0.5, horizons=(0,))
    assert tight.reward[1].tolist() == pytest.approx([-0.5, 0.5], abs=1e-4)
    with pytest.raises(DesignError, match="infeasible"):
        design_exprd(mdp, r_max=0.49, horizons=(0,))
    # EXPADARD tells a learner that knows nothing as loudly as it may.
    even = torch.full((3, 2), 0.5, dtype=torch.float64)
    loud = design_expadard(mdp, even, r_max=1.0).reward[:2]
    assert loud.flatten().tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-4)


def test_exprd_keeps_the_best_policies_and_tells_more() -> None:
    pytest.importorskip("cvxpy")
    for mdp in worlds():
        design = design_exprd(mdp, r_max=1.5 * largest(mdp))
        original = informativeness(mdp, mdp.expected_reward())
        assert informativeness(mdp, design.reward) >= original - 1e-6
        assert design.objective == pytest.approx(informativeness(mdp, design.reward), abs=1e-3)
        assert invariant(mdp, design.reward) and float(design.reward.abs().max()) <= 1.5 * largest(mdp) + 1e-6
        known = teacher(mdp)
        worse = (advantages(mdp, known.policy) @ design.reward.flatten()).reshape(known.q.shape)
        need = torch.where(known.optimal, 0.0, known.gaps[:, None] / (1 + 1e-4))
        assert bool((worse[~mdp.terminal] >= need[~mdp.terminal] - 1e-5).all())


def test_a_linear_loss_makes_margins_as_large_as_is_allowed() -> None:
    pytest.importorskip("cvxpy")
    # One step from the end, delta 3: the hinge is content with a margin of 3, and linearly 2 r_max is better.
    prob = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = MDP(prob, torch.tensor([[1.0, 4.0], [0.0, 0.0]]), terminal=torch.tensor([False, True]), discount=0.5)
    loud = design_exprd(mdp, r_max=10.0, horizons=(0,), loss="linear")
    assert loud.reward[0].tolist() == pytest.approx([-10.0, 10.0], abs=1e-4)
    assert loud.objective == pytest.approx((20 - 3) / 2, abs=1e-3)  # one of two states has a margin
    assert design_exprd(mdp, r_max=10.0, horizons=(0,)).objective == pytest.approx(0.0, abs=1e-4)
    for mdp in [*worlds(), random_mdp(5, 2, seed=4, discount=0.8)]:
        bound = 1.5 * largest(mdp)
        design = design_exprd(mdp, r_max=bound, loss="linear")
        assert invariant(mdp, design.reward) and float(design.reward.abs().max()) <= bound + 1e-6
        assert float(design.reward.abs().sum()) > float(design_exprd(mdp, r_max=bound).reward.abs().sum())
    with pytest.raises(ValueError, match="'hinge' or 'linear'"):
        design_exprd(mdp, r_max=1.0, loss="square")


def test_exprd_on_a_chain_is_explicable() -> None:
    pytest.importorskip("cvxpy")
    mdp = chain(6, 2, slip=0.1).mdp.with_discount(0.9)
    original = informativeness(mdp, mdp.expected_reward())
    last = original
    for budget in (1, 2, 4):
        design = design_exprd(mdp, r_max=1.0, budget=budget)
        assert len(design.active) == budget and 8 in design.active
        silent = [s for s in range(mdp.states) if s not in design.active]
        assert not bool(design.reward[silent].any()) and invariant(mdp, design.reward)
        assert informativeness(mdp, design.reward) >= last - 1e-6
        last = informativeness(mdp, design.reward)
    # The second state is the best of all second states.
    two = design_exprd(mdp, r_max=1.0, budget=2)
    others = [design_exprd(mdp, r_max=1.0, active=[8, s]).objective for s in range(1, 8)]
    assert two.objective == pytest.approx(max(others), abs=1e-9) and max(others) > min(others) + 1e-3
    everywhere = design_exprd(mdp, r_max=1.0)
    assert informativeness(mdp, everywhere.reward) > original + 0.01
    assert informativeness(mdp, everywhere.reward) >= last - 1e-6
    flat = design_exprd(mdp, r_max=5.0, state_only=True)
    assert torch.allclose(flat.reward[:, 0], flat.reward[:, 1], atol=1e-6) and invariant(mdp, flat.reward)
    sparse = design_exprd(mdp, r_max=1.0, sparsity=0.05)
    assert float(sparse.reward.abs().sum()) < float(everywhere.reward.abs().sum())
    with pytest.raises(ValueError, match="active states already"):
        design_exprd(mdp, r_max=1.0, budget=1, active=[1, 2])
    with pytest.raises(ValueError, match="the states are 0 to"):
        design_exprd(mdp, r_max=1.0, active=[99])


def test_an_infeasible_design_is_an_error() -> None:
    pytest.importorskip("cvxpy")
    mdp = chain(6, 2, slip=0.1).mdp.with_discount(0.9)
    with pytest.raises(DesignError, match="infeasible.*Raise r_max"):
        design_exprd(mdp, r_max=0.01)
    with pytest.raises(DesignError, match="1 active states"):
        design_exprd(mdp, r_max=1.0, active=[0])
    with pytest.raises(DesignError, match="1 active states"):
        design_exprd(mdp, r_max=1.0, active=[0], budget=1)
    with pytest.raises(DesignError):
        design_expadard(mdp, torch.full((mdp.states, 2), 0.5, dtype=torch.float64), r_max=0.01)
    # Nothing is learned from it: the table stays, and the error comes out of learn().
    env = TabularBatch(chain(6, 2, slip=0.1), 2)
    term = DesignedReward(torch.zeros(2, mdp.states, 2))
    agent = REINFORCE(env, reward=term, gamma=0.9)
    with pytest.raises(DesignError):
        agent.learn(50, callback=AdaptiveTeacher(mdp, term, r_max=0.01, every=10))
    assert agent.steps == 10 and not bool(term.table.any())


def test_expadard_against_every_other_feasible_reward() -> None:
    """Its objective, computed here from its definition, is not beaten by EXPRD's design or the original reward."""
    pytest.importorskip("cvxpy")
    for seed, mdp in enumerate(worlds()):
        learner = torch.softmax(rewards(mdp, seed + 50), -1)
        bound = 1.5 * largest(mdp)
        known = teacher(mdp)
        design = design_expadard(mdp, learner, r_max=bound)
        assert invariant(mdp, design.reward)
        from cairn.envs.tabular import occupancy

        reach = occupancy(mdp, 0.6 * known.policy + 0.4 / mdp.actions, normalise=True).sum(-1)
        visits, ahead = occupancy(mdp, learner), known.q - known.q.amax(-1, keepdim=True)

        def worth(reward: Tensor, mdp: MDP = mdp) -> float:
            total = 0.0
            for s in range(mdp.states):
                if bool(mdp.terminal[s]):
                    continue
                mean_a = float((learner[s] * ahead[s]).sum())  # noqa: B023
                mean_r = float((learner[s] * reward[s]).sum())  # noqa: B023
                for a in range(mdp.actions):
                    weight = float(reach[s] * visits[s, a] * learner[s, a])  # noqa: B023
                    total += weight * (float(ahead[s, a]) - mean_a) * (float(reward[s, a]) - mean_r)  # noqa: B023
            return total

        assert design.objective == pytest.approx(worth(design.reward), rel=1e-6, abs=1e-9)
        others = [mdp.expected_reward(), design_exprd(mdp, r_max=bound).reward]
        assert all(worth(design.reward) >= worth(r) - 1e-6 for r in others)
        tied = torch.eye(mdp.states * mdp.actions, dtype=torch.float64)
        same = design_expadard(mdp, learner, r_max=bound, features=tied)
        assert same.objective == pytest.approx(design.objective, rel=1e-3, abs=1e-6)


def test_a_learner_is_taught_anew_as_it_learns() -> None:
    pytest.importorskip("cvxpy")
    scene = chain(6, 2, slip=0.1, max_steps=14)
    mdp = scene.mdp.with_discount(0.9)
    term = DesignedReward(torch.zeros(4, mdp.states, 2))
    agent = REINFORCE(TabularBatch(scene, 4), learning_rate=0.5, gamma=0.9, reward=term, every=2, memory=5)
    taught = AdaptiveTeacher(mdp, term, r_max=1.0, every=140, lanes=range(2))
    taught.teach(agent)
    first = term.table.clone()
    agent.learn(14 * 120, callback=taught)
    assert bool((term.table[:2] != first[:2]).any()) and not bool(term.table[2:].any())
    taught.teach(agent)
    policy = agent.policy().double()
    own = [design_expadard(mdp, policy[lane], r_max=1.0).reward.float() for lane in range(2)]
    assert torch.equal(term.table[:2], torch.stack(own)) and not torch.equal(own[0], own[1])
    best = value_iteration(mdp).values[2]
    earned = [float(policy_evaluation(mdp, policy)[2] / best) for policy in agent.policy()]
    assert min(earned[:2]) > 0.6 and max(earned[2:]) < 0.2
    assert best_actions(value_iteration(mdp.with_reward(term.table[0].double())).q)[1:9, 1].all()


def test_room_can_be_designed() -> None:
    pytest.importorskip("cvxpy")
    mdp = room(reward=10.0, goal_ends=True, discount=0.95).mdp
    design = design_exprd(mdp, r_max=10.0)
    assert invariant(mdp, design.reward)
    assert informativeness(mdp, design.reward) > informativeness(mdp, mdp.expected_reward()) + 0.1
