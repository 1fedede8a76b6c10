"""HRM, differential Q-learning, and the exact solutions that several rewards are weighed with."""

from itertools import product
from typing import Any

import gymnasium as gym
import pytest
import torch

from cairn.agents.differential import DifferentialQ, reward_rate
from cairn.agents.hrm import HRM
from cairn.agents.tabular import QLearning
from cairn.envs.tabular import (
    MDP,
    Scene,
    TabularBatch,
    best_average,
    best_chebyshev,
    best_lexicographic,
    best_linear,
    best_max_min,
    gain_bias,
    grid,
    long_run,
    policy_return,
    random_mdp,
    value_iteration,
)
from cairn.envs.tabular.objectives import deterministic_policies, returns
from cairn.shaping import (
    CounterfactualMachine,
    MachineEnv,
    MachinePotential,
    Regulariser,
    RewardMachine,
    RolloutSeat,
    Stretch,
    Task,
    World,
    chebyshev,
    lexicographic,
    machine_mdp,
    max_min,
)
from cairn.shaping.scalarise import Return, linear

SETTINGS: dict[str, Any] = {"learning_rate": 0.5, "epsilon": 0.2, "gamma": 0.9, "initial": 1.0}


def fetch() -> tuple[Scene, RewardMachine]:
    """To one end of a corridor, and then to the other."""
    scene = grid(["a..S..b"], goals={}, max_steps=100)
    labels: dict[str, Any] = {name: ("events", i) for i, name in enumerate(scene.propositions)}
    edges = [("out", "a", "back", 0.0), ("back", "b", "home", 1.0)]
    return scene, RewardMachine(edges, labels, final=["home"])


@pytest.mark.parametrize("shaped", [False, True])
def test_hrm_finds_the_way(shaped: bool) -> None:
    scene, machine = fetch()
    shaping = MachinePotential(machine) if shaped else None
    agent = HRM(MachineEnv(TabularBatch(scene, 5), machine), shaping=shaping, **SETTINGS).learn(1500)
    whole = machine_mdp(scene, machine, discount=0.9)
    best = value_iteration(whole)
    for policy in agent.policy(deterministic=True):
        assert float(policy_return(whole, policy)) == pytest.approx(float((whole.start * best.values).sum()))


def test_options_learn_their_own_optimum() -> None:
    """Off-policy, from every step: each option's table is the optimal one of its own task, solved exactly."""
    scene, machine = fetch()
    agent = HRM(MachineEnv(TabularBatch(scene, 3), machine), bonus=1.0, **{**SETTINGS, "epsilon": 1.0}).learn(3000)
    cells = scene.mdp.successors[..., 0]
    labels = scene.labels
    for o, (u, v) in enumerate(machine.pairs):
        there = labels[:, list(scene.propositions).index("a" if u == 0 else "b")]
        reward = torch.where(there[cells], 1.0 + (1.0 if v == 2 else 0.0), 0.0).double()
        value = torch.zeros(len(cells), dtype=torch.float64)
        for _ in range(200):
            q = reward + 0.9 * torch.where(there[cells], 0.0, value[cells])
            value = q.amax(-1)
        assert torch.allclose(agent.q[:, o], q.expand_as(agent.q[:, o]), atol=1e-3)


def test_the_controller_learns_over_whole_options() -> None:
    """One option by hand: three steps to ``a``, a reward of 0.5 on arrival, and what the next state is worth."""
    scene, _ = fetch()
    labels: dict[str, Any] = {name: ("events", i) for i, name in enumerate(scene.propositions)}
    machine = RewardMachine([("out", "a", "back", 0.5), ("back", "b", "home", 1.0)], labels, final=["home"])
    agent = HRM(MachineEnv(TabularBatch(scene, 1), machine), **{**SETTINGS, "epsilon": 0.0, "initial": 0.0})
    agent.q[:, 0, :, 3] = 5.0  # to the left
    agent.controller[0, 0, 1, 1] = 2.0
    agent.learn(3)
    assert float(agent.controller[0, 3, 0, 0]) == pytest.approx(0.5 * (0.9**2 * 0.5 + 0.9**3 * 2.0))


def test_crm_and_shaping_reach_the_same_optimum() -> None:
    scene, machine = fetch()
    whole = machine_mdp(scene, machine, discount=0.9)
    best = float((whole.start * value_iteration(whole).values).sum())
    for sign in (1, -1):
        env = MachineEnv(TabularBatch(scene, 4), machine)
        reward = Task() + MachinePotential(machine, sign=sign)
        agent = QLearning(env, experience=CounterfactualMachine(machine), reward=reward, **SETTINGS).learn(1500)
        for policy in agent.policy(deterministic=True):
            assert float(policy_return(whole, policy)) == pytest.approx(best)


def test_a_learning_rate_for_each_lane() -> None:
    scene, machine = fetch()
    both = QLearning(
        MachineEnv(TabularBatch(scene, 2), machine), **{**SETTINGS, "learning_rate": torch.tensor([0.1, 0.9])}
    ).learn(200)
    for lane, rate in enumerate((0.1, 0.9)):
        one = QLearning(MachineEnv(TabularBatch(scene, 2), machine), **{**SETTINGS, "learning_rate": rate}).learn(200)
        assert torch.allclose(both.q[lane], one.q[lane])


def test_what_hrm_refuses() -> None:
    scene, machine = fetch()
    with pytest.raises(TypeError, match="MachineEnv"):
        HRM(TabularBatch(scene, 2))
    with pytest.raises(ValueError, match="at most 1"):
        HRM(MachineEnv(TabularBatch(scene, 2), machine), learning_rate=2.0)
    lonely = RewardMachine([("u", "a", "u", 1.0)], dict(machine.labels))
    with pytest.raises(ValueError, match="no options"):
        HRM(MachineEnv(TabularBatch(scene, 2), lonely))


# The long run.


@pytest.mark.parametrize("rule", ["differential", "r"])
def test_the_rate_is_the_best_reward_per_step(rule: str) -> None:
    mdp = random_mdp(5, 3, seed=3)
    best = best_average(mdp)
    agent = DifferentialQ(
        TabularBatch(Scene(mdp, 500), 10), epsilon=0.2, eta=0.1, rule=rule, learning_rate=lambda n: n**-0.6
    ).learn(12_000)
    assert float(agent.rate.mean()) == pytest.approx(float(best.gain), rel=0.05)
    assert float((agent.rate - best.gain).abs().max()) < 0.3 * float(best.gain.abs())
    policy = agent.policy(deterministic=True)
    assert all(float(gain_bias(mdp, p).gain) > float(best.gain) - 1e-3 for p in policy)
    measured = reward_rate(TabularBatch(Scene(mdp), 64), lambda obs: best.policy.argmax(-1)[obs], 1500, skip=50, seed=0)
    assert float(measured.mean()) == pytest.approx(float(best.gain), abs=0.02)


def test_the_toll_is_paid_where_discounting_would_not() -> None:
    prob = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    mdp = MDP(prob, torch.tensor([[0.0, -3.0], [1.0, 0.0]])[..., None], discount=0.5)
    assert value_iteration(mdp).policy[0].tolist() == [1.0, 0.0]  # stays
    agent = DifferentialQ(TabularBatch(Scene(mdp), 4), epsilon=0.2, learning_rate=0.1, eta=0.1).learn(6000)
    assert (agent.policy(deterministic=True)[:, 0] == torch.tensor([0.0, 1.0])).all()
    with pytest.raises(ValueError, match="no gamma="):
        DifferentialQ(TabularBatch(Scene(mdp), 1), gamma=0.9)


def test_the_long_run_of_any_chain() -> None:
    mdp = random_mdp(6, 2, seed=1)
    for policy in deterministic_policies(mdp)[::9]:
        one = gain_bias(mdp, policy)
        assert torch.allclose(long_run(mdp, policy), one.gain.expand(6), atol=1e-9)
    # Two ways to end up, with 1 and 3 a step; from between, a third and two thirds.
    prob = torch.tensor([[0, 1 / 3, 2 / 3], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    two = MDP(prob[:, None], torch.tensor([[5.0], [1.0], [3.0]]))
    assert long_run(two, torch.ones(3, 1, dtype=torch.float64)).tolist() == pytest.approx([7 / 3, 1, 3])


# Several rewards.


def several(seed: int, k: int = 2) -> MDP:
    base = random_mdp(3, 2, seed=seed)
    return base.with_reward(torch.stack([random_mdp(3, 2, seed=100 + seed + i).reward for i in range(k)]), 0.8)


@pytest.mark.parametrize("seed", range(4))
def test_weighing_returns_against_a_fine_grid_of_policies(seed: int) -> None:
    mdp = several(seed)
    shares = torch.linspace(0, 1, 41, dtype=torch.float64)
    left = torch.tensor(list(product(shares.tolist(), repeat=3)), dtype=torch.float64)
    every = torch.stack([left, 1 - left], -1)
    got = torch.cat([returns(mdp, part) for part in torch.split(every, 8192)])
    weights, utopia = torch.tensor([0.3, 0.7]).double(), got.amax(0) + 0.1
    line, fair, near = best_linear(mdp, weights), best_max_min(mdp), best_chebyshev(mdp, weights, utopia)
    for choice, values in (
        (line, got @ weights), (fair, got.amin(1)), (near, (weights * (got - utopia)).amin(1)),
    ):  # fmt: skip
        assert choice.value >= float(values.max()) - 1e-9  # nothing on the grid is better
        assert choice.value == pytest.approx(float(values.max()), abs=0.05)  # and what is near is not much worse
        assert torch.allclose(returns(mdp, choice.policy), choice.returns)


def test_max_min_of_three_mixes_as_needed() -> None:
    """Three arms, each pays one objective: a third of each is best, and no single arm has more than 0."""
    arms = MDP([[[0.0, 1.0]] * 3] * 2, torch.zeros(2, 3), terminal=[False, True])
    reward = torch.zeros(3, 2, 3, 2)
    for k in range(3):
        reward[k, 0, k] = 1.0
    choice = best_max_min(arms.with_reward(reward))
    assert choice.returns.tolist() == pytest.approx([1 / 3] * 3) and choice.policy[0].tolist() == pytest.approx(
        [1 / 3] * 3
    )


def test_lexicographic_is_the_best_of_the_best() -> None:
    """By enumeration, with a first reward under which several policies are as good."""
    for seed in range(5):
        mdp = several(seed)
        first = torch.zeros_like(mdp.reward[0])
        first[0] = 1.0  # whatever is done in state 0
        mdp = mdp.with_reward(torch.stack([first * 0.0, mdp.reward[1]]) if seed % 2 else mdp.reward)
        policies = deterministic_policies(mdp)
        got = returns(mdp, policies)
        top = got[:, 0] > got[:, 0].max() - 1e-9
        choice = best_lexicographic(mdp)
        assert float(choice.returns[0]) == pytest.approx(float(got[:, 0].max()))
        assert choice.value == pytest.approx(float(got[top, 1].max()))


def rows(*rewards: list[float]) -> Stretch:
    steps = len(rewards[0])
    end = torch.zeros(steps, 1, dtype=torch.bool)
    end[-1] = True
    facts = {f"r{k}": torch.tensor(r)[:, None] for k, r in enumerate(rewards)}
    zero = torch.zeros(steps, 1, 1)
    return Stretch.make(
        obs=zero, next_obs=zero, reward=torch.zeros(steps, 1), terminated=end, start=torch.arange(steps)[:, None] == 0,
        facts=facts, next_facts=facts, t=torch.arange(steps)[:, None], extra={"log_prob": torch.full((steps, 1), -0.5)},
    )  # fmt: skip


def first(x: Stretch) -> torch.Tensor:
    return x.facts["r0"]


def second(x: Stretch) -> torch.Tensor:
    return x.facts["r1"]


def paid(term: Any, x: Stretch) -> list[float]:
    world = World(gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2), gives=frozenset({"log_prob"}))
    return [round(float(v), 4) for v in RolloutSeat(term, world)(x, 0)[0].sum(-1).flatten()]


def test_scalarising_steps_and_returns_by_hand() -> None:
    x = rows([1.0, 0.0, 2.0], [0.0, 3.0, 1.0])
    assert paid(linear([first, second], [1.0, 0.5]), x) == [1.0, 1.5, 2.5]
    assert paid(max_min([first, second]), x) == [0.0, 0.0, 1.0]
    assert paid(chebyshev([first, second], [1.0, 2.0], [2.0, 3.0]), x) == [-6.0, -2.0, -4.0]
    assert paid(Return(first, 0.5), x) == [0.0, 0.0, 1.5]
    assert paid(max_min([Return(first), Return(second)]), x) == [0.0, 0.0, 3.0]  # of the sums 3 and 4
    assert paid(Regulariser(0.2), x) == [0.1] * 3
    assert paid(Regulariser(0.2, lambda x: torch.full(x.shape, -1.0)), x) == [-0.1] * 3
    with pytest.raises(ValueError, match="above 0"):
        chebyshev([first, second], [1.0, 0.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="two terms"):
        max_min([first])


def test_lexicographic_terms_keep_the_order() -> None:
    """Three terms on their whole grids: the number orders as the tuples do."""
    values = [0.0, 1.0, 2.0], [0.0, 0.5, 1.0], [0.0, 0.25, 0.75]
    tuples = sorted(product(*values))
    columns = [list(column) for column in zip(*tuples)]
    x = rows(*columns)
    term = lexicographic([first, second, lambda x: x.facts["r2"]], spans=[2.0, 1.0, 0.75], steps=[1.0, 0.5, 0.25])
    got = paid(term, x)
    assert all(a < b for a, b in zip(got, got[1:]))
    with pytest.raises(ValueError, match="float32"):
        lexicographic([first, second], spans=[1e4, 1e4], steps=[1.0, 1e-3])
