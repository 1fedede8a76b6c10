"""The MDP class: its two forms, and what it refuses."""

import pytest
import torch

from cairn.envs.tabular import MDP, random_mdp

TWO = torch.tensor([[[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])  # [S=2, A=2, S=2]


def test_reward_per_action_is_paid_whatever_the_next_state():
    mdp = MDP(TWO, [[1.0, 2.0], [3.0, 4.0]])
    assert mdp.reward.shape == (2, 2, 2)
    assert mdp.expected_reward().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    full = MDP(TWO, [[[2.0, 4.0], [9.0, 1.0]], [[5.0, 0.0], [0.0, 7.0]]])
    assert full.expected_reward().tolist() == [[3.0, 1.0], [5.0, 7.0]]


def test_terminal_rows_become_loops_without_reward():
    junk = TWO.clone()
    junk[1] = 0.7
    mdp = MDP(junk, torch.ones(2, 2), terminal=torch.tensor([False, True]))
    assert mdp.prob[1].tolist() == [[0.0, 1.0]] * 2
    assert mdp.reward[1].abs().sum() == 0


def test_expect_and_push_by_hand():
    mdp = MDP(TWO, torch.zeros(2, 2))
    assert mdp.expect(torch.tensor([10.0, 20.0]).double()).tolist() == [[15.0, 20.0], [10.0, 20.0]]
    flow = mdp.push(torch.tensor([[0.4, 0.1], [0.3, 0.2]]).double())
    assert torch.allclose(flow, torch.tensor([0.2 + 0.3, 0.2 + 0.1 + 0.2]).double())


@pytest.mark.parametrize("number", [None, 3])
def test_sparse_and_dense_agree(number):
    dense = random_mdp(9, 3, number=number, successors=4, terminals=2, seed=1)
    sparse = dense.sparse()
    assert sparse.successors.shape[-1] == 4 and dense.successors is None
    again = sparse.dense()
    assert torch.equal(again.prob, dense.prob)
    assert torch.allclose(again.reward, dense.reward, atol=1e-14)
    values = torch.rand(*dense.batch, 9).double()
    assert torch.allclose(dense.expect(values), sparse.expect(values))
    mass = torch.rand(*dense.batch, 9, 3).double()
    assert torch.allclose(dense.push(mass), sparse.push(mass))


def test_dense_averages_rewards_of_entries_that_name_one_state():
    mdp = MDP([[[0.25, 0.75]]], [[[4.0, 8.0]]], successors=torch.zeros(1, 1, 2, dtype=torch.int64)).dense()
    assert mdp.prob.item() == 1.0 and mdp.reward.item() == 7.0


def test_rewards_broadcast_into_a_batch():
    batch = MDP(TWO, torch.zeros(2, 2)).with_reward(torch.rand(5, 2, 2, 2))
    assert batch.batch == (5,) and batch.prob.shape == (5, 2, 2, 2)
    assert batch[3].batch == () and torch.equal(batch[3].reward, batch.reward[3])


def test_with_reward_gathers_along_successors():
    sparse = random_mdp(6, 2, successors=2, seed=4).sparse()
    reward = torch.rand(6, 2, 6).double()
    assert torch.allclose(sparse.with_reward(reward).expected_reward(), (sparse.dense().prob * reward).sum(-1))


def test_continuing_restarts():
    mdp = MDP(TWO, torch.ones(2, 2), start=[0.25, 0.75], terminal=torch.tensor([False, True])).continuing()
    assert mdp.prob[1, 0].tolist() == [0.25, 0.75]
    assert not mdp.terminal.any() and mdp.reward[1].abs().sum() == 0


def broken(where, value):
    prob = TWO.clone()
    prob[where] = value
    return prob


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: MDP(broken((1, 0, 1), 0.3), torch.zeros(2, 2)), r"prob\[state 1, action 0\] sums to 1.3"),
        (lambda: MDP(broken((0, 1, 0), -0.5), torch.zeros(2, 2)), r"prob\[state 0, action 1, next 0\] = -0.5"),
        (lambda: MDP(broken((0, 1, 0), float("nan")), torch.zeros(2, 2)), "not a probability"),
        (lambda: MDP(TWO, [[0.0, 1.0], [float("inf"), 0.0]]), r"reward\[state 1, action 0, next 0\] is not finite"),
        (lambda: MDP(TWO[:, :, :1], torch.zeros(2, 2)), "order is"),
        (lambda: MDP(TWO, torch.zeros(3, 2)), "reward ends in"),
        (lambda: MDP(TWO, torch.zeros(2, 2), start=[0.5, 0.6]), "not a distribution over states"),
        (lambda: MDP(TWO, torch.zeros(2, 2), start=2), "states are 0 to 1"),
        (lambda: MDP(TWO, torch.zeros(2, 2), discount=1.5), "discount=1.5"),
        (lambda: MDP(TWO, torch.zeros(2, 2), terminal=torch.zeros(2)), "bool mask"),
        (lambda: MDP(TWO, torch.zeros(2, 2), successors=torch.full((2, 2, 2), 2)), "successors lie"),
    ],
)
def test_refusals_name_the_place(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_fault_in_a_batch_names_its_number():
    prob = TWO.expand(4, 2, 2, 2).clone()
    prob[3, 1, 0, 0] = 0.5
    with pytest.raises(ValueError, match=r"prob\[batch 3, state 1, action 0\]"):
        MDP(prob, torch.zeros(2, 2))


def test_random_mdps_do_not_depend_on_their_number():
    few, many = random_mdp(8, 3, number=2, seed=5), random_mdp(8, 3, number=6, seed=5)
    assert torch.equal(few.prob, many.prob[:2]) and torch.equal(few.reward, many.reward[:2])
    assert not torch.equal(many.prob[0], many.prob[1])
    assert not torch.equal(few.prob, random_mdp(8, 3, number=2, seed=6).prob)


def test_random_mdps_have_what_was_asked_for():
    mdp = random_mdp(10, 3, number=20, successors=3, sparsity=0.8, terminals=2)
    alive = mdp.prob[:, :8]
    assert ((alive > 0).sum(-1) == 3).all()
    paying = (mdp.reward[:, :8].abs().sum(-1) > 0).double().mean()
    assert 0.1 < paying < 0.3
    assert mdp.terminal.sum() == 40 and (mdp.start[:, 8:] == 0).all()
    with pytest.raises(ValueError, match="sizes are at least 1"):
        random_mdp(4, 2, successors=5)
