"""Tabular learners: exact limits on small worlds, independence of lanes, hooks."""

from dataclasses import replace

import pytest
import torch

from cairn.agents.tabular import REINFORCE, SARSA, QLearning
from cairn.envs.tabular import TabularBatch, build, grid, policy_evaluation, value_iteration, with_tasks
from cairn.envs.tabular.solve import q_of_policy
from cairn.envs.tabular.tasks import in_order
from cairn.shaping import EpisodicCount, Potential, RewardError, Task

RIGHT = {"right": 3, "left": 1, "slip": 0.0, "max_steps": 12}


def batch(lanes=4, **kwargs):
    return TabularBatch(build("chain", **{**RIGHT, **kwargs}), lanes)


def test_one_step_by_hand():
    env = batch(1)
    agent = QLearning(env, learning_rate=0.5, gamma=0.9, initial=2.0, epsilon=0.0)
    agent.learn(1)
    moved = (agent.q != 2.0).nonzero()
    assert moved.shape == (1, 3) and moved[0, 1] == 1  # the start is state 1
    action = moved[0, 2].item()
    # No reward on the way: 2 + .5 (0 + .9 * 2 - 2).
    assert agent.q[0, 1, action].item() == pytest.approx(1.9)


def test_q_learning_reaches_the_exact_values():
    env = batch()
    agent = QLearning(env, learning_rate=1.0, epsilon=0.5, gamma=0.9).learn(1200)
    exact = value_iteration(env.scene.mdp.with_discount(0.9))
    alive = ~env.scene.mdp.terminal
    # Truncation bootstraps: the values are of the endless chain, though episodes have 12 steps.
    assert torch.allclose(agent.q[:, alive], exact.q[alive].expand(4, -1, -1), atol=1e-6)


def test_q_learning_with_visits_converges_in_a_slippery_chain():
    env = batch(60, slip=0.3)
    agent = QLearning(env, learning_rate=lambda n: n**-0.7, epsilon=0.7, gamma=0.6).learn(1500)
    exact = value_iteration(env.scene.mdp.with_discount(0.6)).q[:5]
    assert (agent.q[:, :5].mean(0) - exact).abs().max() < 0.05


def test_sarsa_values_its_own_exploration():
    env = batch(60)
    agent = SARSA(env, learning_rate=lambda n: n**-0.7, epsilon=0.4, gamma=0.6).learn(1500)
    greedy = torch.nn.functional.one_hot(torch.ones(6, dtype=torch.int64), 2).double()
    policy = 0.6 * greedy + 0.4 / 2
    exact = q_of_policy(env.scene.mdp.with_discount(0.6), policy)[:5]
    assert (agent.q[:, :5].mean(0) - exact).abs().max() < 0.05
    optimal = value_iteration(env.scene.mdp.with_discount(0.6)).q[:5]
    assert (optimal - exact).abs().max() > 0.3  # which are not the same


def test_sarsa_expects_after_a_truncation():
    agent = SARSA(batch(30, max_steps=1), learning_rate=1.0, epsilon=0.5, gamma=0.5)
    agent.q[:, :5] = torch.tensor([0.0, 8.0]).double()
    agent.learn(1)
    # Nothing is paid; the next state is worth .5 * 8 + .5 * 4 = 6, half of it now, but going left from 1 leads to 0.
    assert set(agent.q[:, 1].flatten().tolist()) == {0.0, 3.0, 8.0}


@pytest.mark.parametrize("kind", [QLearning, SARSA, REINFORCE])
def test_lanes_do_not_depend_on_their_number(kind):
    few, many = kind(batch(2, slip=0.2), seed=3).learn(150), kind(batch(5, slip=0.2), seed=3).learn(150)
    for name, table in few.tables().items():
        lanes_second = name == "ring"
        other = many.tables()[name]
        assert torch.allclose(table, other[:, :2] if lanes_second else other[:2])
    another = kind(batch(2, slip=0.2), seed=4).learn(150)
    assert not all(torch.equal(a, b) for a, b in zip(few.tables().values(), another.tables().values()))


@pytest.mark.parametrize("kind", [QLearning, SARSA, REINFORCE])
def test_learning_goes_on_from_a_training_state(kind):
    whole = kind(batch(slip=0.2), seed=1).learn(90)
    half = kind(batch(slip=0.2), seed=1).learn(47)
    rest = kind(batch(slip=0.2), seed=9)
    rest.load_training_state(half.training_state())
    rest.learn(43)
    for name, table in whole.tables().items():
        assert torch.equal(table, rest.tables()[name]), name


@pytest.mark.parametrize("kind", [QLearning, SARSA, REINFORCE])
def test_saved_tables_come_back(kind, tmp_path):
    agent = kind(batch(slip=0.2)).learn(60)
    agent.save(str(tmp_path / "tables"))
    other = kind(batch(slip=0.2)).load(str(tmp_path / "tables"))
    assert all(torch.equal(table, other.tables()[name]) for name, table in agent.tables().items())
    wrong = QLearning(batch(2)) if kind is QLearning else QLearning(batch())
    with pytest.raises(ValueError):
        wrong.load(str(tmp_path / "tables"))


def test_reinforce_learns_the_way():
    env = batch(6, right=2)
    agent = REINFORCE(env, learning_rate=0.5, gamma=0.9, every=2, memory=5).learn(12 * 150)
    episodes = agent.episodes
    early = episodes["reward"][episodes["episode"] < 10].mean()
    late = episodes["reward"][episodes["episode"] > episodes["episode"].max() - 20].mean()
    assert late > early + 2 and agent.policy()[:, 1, 1].min() > 0.8


def test_reinforce_update_by_hand():
    env = batch(1, right=1, left=0, max_steps=2)
    agent = REINFORCE(env, learning_rate=1.0, gamma=0.5)
    agent._ring[0, 0] = torch.tensor([[0.0, 1, 0, 1], [1.0, 1, 4, 1]])
    agent._update(torch.tensor([0]))
    # G = (2, 4); n = 2; uniform policy: onehot - .5.
    assert agent.theta[0, 0].tolist() == pytest.approx([-0.5, 0.5])
    assert agent.theta[0, 1].tolist() == pytest.approx([-1.0, 1.0])


def test_reinforce_baseline_tracks_the_returns():
    env = batch(1, right=1, left=0, max_steps=2)
    agent = REINFORCE(env, baseline_rate=1.0, gamma=0.5)
    agent._ring[0, 0] = torch.tensor([[0.0, 1, 0, 1], [1.0, 1, 4, 1]])
    agent._update(torch.tensor([0]))
    assert agent.values[0, :2].tolist() == pytest.approx([1.0, 2.0])


def test_episodes_are_recorded():
    env = batch(3, right=1, left=0, max_steps=5)
    agent = QLearning(env, epsilon=1.0).learn(40)
    e = agent.episodes
    for lane in range(3):
        mine = e["lane"] == lane
        assert e["episode"][mine].tolist() == list(range(int(mine.sum())))
        assert torch.equal(e["length"][mine].cumsum(0), e["step"][mine])
    assert (e["length"] <= 5).all() and e["reward"].max() > 0


def test_predict():
    agent = QLearning(batch(3))
    agent.q[:, 2] = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert agent.predict(2) == (1, None)
    assert agent.predict(2, lane=1)[0] == 0
    assert agent.predict(torch.tensor([2, 2, 2]))[0].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="say whose table"):
        agent.predict([1, 2])


def test_a_reward_expression_takes_the_tasks_place():
    def phi(obs):
        return obs.float()

    plain = QLearning(batch(slip=0.2), epsilon=1.0, gamma=0.9, seed=2).learn(300)
    shaped = QLearning(batch(slip=0.2), epsilon=1.0, gamma=0.9, seed=2, reward=Task() + Potential(phi)).learn(300)
    # Potentials shift Q by phi (Wiewiora, 2003): with the same experience, all along, from shifted beginnings.
    other = QLearning(batch(slip=0.2), epsilon=1.0, gamma=0.9, seed=2)
    other.q += torch.where(other.env.scene.mdp.terminal, 0.0, torch.arange(6).double())[None, :, None]
    other.learn(300)
    assert torch.allclose(other.q[:, :5], shaped.q[:, :5] + torch.arange(5).double()[:, None], atol=1e-4)
    assert torch.equal(plain.episodes["reward"], shaped.episodes["reward"])  # the record is of the task


class EveryStage:
    """Counterfactual experience: each lived step, in every stage of the task."""

    def __init__(self, scene):
        self.mdp, self.stages = scene.mdp, int(scene.facts["machine"].max()) + 1

    def bind(self, world):
        assert world.gamma == 0.9

    def __call__(self, x, source=None):
        live = self.stages - 2
        origin = torch.arange(len(x.obs)).repeat_interleave(live)
        y = x[origin]
        obs = y.obs // self.stages * self.stages + torch.arange(live).repeat(len(x.obs))
        after = self.mdp.successors[obs, y.action, 0]
        reward = self.mdp.reward[obs, y.action, 0].float()
        return replace(y, obs=obs, next_obs=after, reward=reward, terminated=self.mdp.terminal[after]), origin


def corridor():
    """Fetch at one end, deliver at the other."""
    world = grid(["a...S...b"], goals={}, max_steps=200)
    return with_tasks(world, [in_order("fetch", {"a": (), "b": ("a",)})], discount=0.9)


def test_experience_maps_multiply_what_is_learned():
    scene = corridor()
    settings = {"learning_rate": 0.5, "epsilon": 0.1, "gamma": 0.9, "initial": 1.0}
    plain = QLearning(TabularBatch(scene, 5), **settings).learn(1)
    agent = QLearning(TabularBatch(scene, 5), **settings, experience=EveryStage(scene)).learn(1)
    assert (plain.q != 1.0).sum() == 5 and (agent.q != 1.0).sum() == 10  # both stages of the task
    agent.learn(1200)
    best = value_iteration(scene.mdp)
    start = int(scene.mdp.start.argmax())
    for policy in agent.policy(deterministic=True):
        assert policy_evaluation(scene.mdp, policy)[start] == pytest.approx(best.values[start].item())


def test_experience_maps_take_pure_terms_only():
    def nothing(obs):
        return 0.0 * obs

    scene = corridor()
    shaped = QLearning(
        TabularBatch(scene, 2), gamma=0.9, experience=EveryStage(scene), reward=Task() + Potential(nothing)
    ).learn(50)
    same = QLearning(TabularBatch(scene, 2), gamma=0.9, experience=EveryStage(scene)).learn(50)
    assert torch.equal(shaped.q, same.q)
    with pytest.raises(ValueError, match="pure terms only"):
        QLearning(TabularBatch(scene, 2), gamma=0.9, experience=EveryStage(scene), reward=Task() + EpisodicCount())


def test_what_is_not_a_table_is_refused():
    with pytest.raises(TypeError, match="needs observations numbered"):
        QLearning("CartPole-v1")
    for bad in ({"epsilon": 2.0}, {"learning_rate": 0.0}, {"gamma": 1.5}):
        with pytest.raises(ValueError):
            QLearning(batch(1), **bad)
    with pytest.raises(ValueError, match="off-policy"):
        SARSA(batch(1), experience=object())
    with pytest.raises(ValueError, match="at least 1"):
        QLearning(batch(1)).learn(0)


@pytest.mark.parametrize("kind", [QLearning, SARSA, REINFORCE])
def test_a_reward_that_is_no_number_is_named_and_not_learned_from(kind):
    env = batch(3)
    agent = kind(env, gamma=0.9).learn(4)
    before, inner = {name: value.clone() for name, value in agent.tables().items()}, env.step

    def broken(action):
        obs, reward, *rest = inner(action)
        return obs, torch.where(torch.arange(3) == 1, torch.inf, reward), *rest

    env.step = broken
    episode, _, t = agent._open[:, 1].long().tolist()
    with pytest.raises(RewardError, match=f"inf in environment 1, episode {episode}, step {t};"):
        agent.learn(1)
    assert agent.steps == 4 and all(torch.equal(value, before[name]) for name, value in agent.tables().items())
