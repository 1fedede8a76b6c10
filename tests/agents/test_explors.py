"""EXPLORS: its updates by hand, its ablations, and its terms in the seats."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.agents.explors import TEACHERS, Episodes, Explors
from cairn.envs.tabular import TabularBatch, build
from cairn.envs.tabular.line import LineKeyBatch
from cairn.envs.tabular.solve import occupancy
from cairn.shaping import ExplorationBonus, RewardError, SelfReward, ShapedReward, Stretch, Task


def batch(lanes: int = 1, **kwargs: float) -> TabularBatch:
    return TabularBatch(build("chain", **{"right": 3, "left": 1, "slip": 0.2, "max_steps": 12, **kwargs}), lanes)


def two_steps(
    agent: Explors, task: tuple[float, float], shaped: tuple[float, float], actions: tuple[int, int]
) -> Episodes:
    """One episode through states 0 and 1 with a policy of .75 for action 1."""
    probs = torch.tensor([0.25, 0.75], dtype=torch.float64).expand(1, 1, 2, 2)
    return Episodes(
        torch.tensor([[[0, 1]]]), torch.tensor([[list(actions)]]), torch.tensor([[list(shaped)]]).double(),
        torch.tensor([[list(task)]]).double(), torch.ones(1, 1, 2, dtype=torch.float64), probs,
    )  # fmt: skip


def test_the_self_made_reward_by_hand() -> None:
    agent = Explors(batch(), "selfrs", gamma=0.5, reward_rate=0.1, critic_rate=0.2)
    agent.values[0, 1] = 1.0
    agent._make_reward(two_steps(agent, (0.0, 4.0), (9.0, 9.0), (1, 0)))
    # G = (2, 4); G - V = (2, 3); state 0, action 1: .75 * 2 * (onehot - pi) = 1.5 * (-.25, .25).
    assert agent.phi[0, 0].tolist() == pytest.approx([0.1 * 1.5 * -0.25, 0.1 * 1.5 * 0.25])
    # State 1, action 0: .25 * 3 * (.75, -.75).
    assert agent.phi[0, 1].tolist() == pytest.approx([0.1 * 0.75 * 0.75, 0.1 * 0.75 * -0.75])
    # V moves by rate * (G - V) / steps.
    assert agent.values[0, :2].tolist() == pytest.approx([0.2 * 2 / 2, 1 + 0.2 * 3 / 2])


def test_the_made_reward_is_held_within_its_limit() -> None:
    agent = Explors(batch(), "selfrs", gamma=0.5, reward_rate=10.0, limit=0.1)
    agent._make_reward(two_steps(agent, (0.0, 4.0), (9.0, 9.0), (1, 0)))
    assert agent.phi[0, 0].tolist() == [-0.1, 0.1] and float(agent.phi.abs().max()) == 0.1


def test_the_learner_by_hand() -> None:
    agent = Explors(batch(), "orig", gamma=0.5, actor_rate=1.0)
    agent._improve(two_steps(agent, (0.0, 0.0), (0.0, 4.0), (1, 1)))
    # G^ = (2, 4), two steps, a uniform policy of now.
    assert agent.theta[0, :2].tolist() == [[-0.5, 0.5], [-1.0, 1.0]]


def test_the_ranking_by_hand() -> None:
    """Two episodes, the first earns more: its steps go up and the other's down, by 1 - P."""
    agent = Explors(batch(), "sors", gamma=0.5, reward_rate=1.0)
    good, bad = (two_steps(agent, (0.0, g), (0.0, 0.0), a) for g, a in ((1.0, (1, 1)), (0.0, (0, 1))))
    both = Episodes(*(torch.cat(pair) for pair in zip(good, bad)))
    agent.phi[0, 0, 1] = 0.5
    p = 1 / (1 + torch.tensor(-0.5).exp().item())
    before = agent.phi.clone()
    agent._make_reward(both)
    change = agent.phi - before
    assert change[0, 0].tolist() == pytest.approx([-(1 - p), 1 - p])
    assert change[0, 1].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)  # both took it
    agent._make_reward(Episodes(*(torch.cat([e, e]) for e in good)))  # nothing to rank
    assert torch.equal(agent.phi, before + change)


def test_the_planned_gradient_is_exact() -> None:
    """LIRPG: d/dphi(s, a) of Q^(s, a) - V^(s) under the policy, against occupancies of the MDP."""
    agent = Explors(batch(), "lirpg", gamma=0.9, reward_rate=1.0)
    agent.theta[:] = torch.randn(agent.theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    e = two_steps(agent, (0.0, 4.0), (0.0, 0.0), (1, 0))
    state, action = 1, 0
    mdp = build("chain", right=3, left=1, slip=0.2).mdp.dense().with_discount(0.9)
    policy = agent.policy()[0]

    def visits(policy: Tensor) -> float:
        start = torch.zeros(mdp.states, dtype=torch.float64)
        start[state] = 1.0
        from cairn.envs.tabular import MDP

        world = MDP(mdp.prob, mdp.reward, start=start, terminal=mdp.terminal, discount=0.9)
        return float(occupancy(world, policy)[state, action])

    # Q: once, and then as the policy goes on from where (s, a) leads.
    after = mdp.prob[state, action]
    onward = 0.0
    for k in range(mdp.states):
        if not bool(mdp.terminal[k]):
            start = torch.zeros(mdp.states, dtype=torch.float64)
            start[k] = 1.0
            from cairn.envs.tabular import MDP

            world = MDP(mdp.prob, mdp.reward, start=start, terminal=mdp.terminal, discount=0.9)
            onward += float(after[k]) * float(occupancy(world, policy)[state, action])
    exact = 1 + 0.9 * onward - visits(policy)
    agent._make_reward(e)
    assert agent.phi[0, state, action].item() == pytest.approx(0.25 * 4.0 * exact)


def test_the_bonus_and_what_is_paid() -> None:
    """One episode of each method with the same draws: rewards differ by what each adds."""
    agent = Explors(batch(6), list(TEACHERS), seed=0)
    agent.phi[:] = torch.arange(6 * 6 * 2).reshape(6, 6, 2).double() / 100
    agent.learn(1)
    e = agent._last(1)
    counts = torch.zeros(6, 6, dtype=torch.float64)
    for t in range(12):
        for lane, name in enumerate(TEACHERS):
            if not e.real[0, lane, t]:
                continue
            state, action = int(e.state[0, lane, t]), int(e.action[0, lane, t])
            paid = e.shaped[0, lane, t] - e.task[0, lane, t] - agent.phi[lane, state, action]
            going = t + 1 < 12 and bool(e.real[0, lane, t + 1])
            if name not in ("explors", "explob"):
                assert float(paid) == pytest.approx(0.0, abs=1e-6)
            elif going:
                after = int(e.state[0, lane, t + 1])
                assert float(paid) == pytest.approx(float((1 + counts[lane, after]) ** -0.5), abs=1e-6)
            counts[lane, state] += 1
    assert torch.equal(agent.counts, counts)


@pytest.mark.parametrize("world", ["chain", "line"])
def test_learning_goes_on_from_a_training_state_and_lanes_are_apart(world: str) -> None:
    def make(seed: int = 1, methods: tuple[str, ...] = ("explors", "sors", "orig")) -> Explors:
        if world == "chain":
            return Explors(batch(len(methods)), methods, seed=seed)
        cells = lambda obs: (obs[:, 0] * 10).long().clamp(0, 9) + 10 * obs[:, 1].long()  # noqa: E731
        return Explors(LineKeyBatch(len(methods)), methods, cells=cells, states=20, seed=seed)

    whole, half, rest = make().learn(13), make().learn(8), make(7)
    rest.load_training_state(half.training_state())
    rest.learn(5)
    for name, table in whole.training_state()["tables"].items():
        assert torch.equal(table, rest.training_state()["tables"][name]), name
    assert float(whole.theta.abs().max()) > 0


def test_explors_finds_what_its_ablations_do_not() -> None:
    methods = ["explors"] * 3 + ["explob"] * 3 + ["orig"] * 3
    agent = Explors(batch(9, right=10, left=6, slip=0.05, max_steps=16), methods, actor_rate=0.5, reward_rate=0.05)
    agent.learn(420)
    late = torch.stack(agent.returns[-60:]).mean(0).reshape(3, 3).mean(1).tolist()
    assert late[0] > 1.5 > 0.5 > late[1] and late[2] < 0.1


def test_bad_arguments_are_explained() -> None:
    with pytest.raises(ValueError, match="one of explors, selfrs"):
        Explors(batch(), "explor")
    with pytest.raises(ValueError, match="for each of 3 lanes"):
        Explors(batch(3), ["orig", "explors"])
    with pytest.raises(TypeError, match="give cells"):
        Explors(LineKeyBatch(1))
    with pytest.raises(ValueError, match="needs the world's MDP"):
        Explors(LineKeyBatch(1), "lirpg", cells=lambda obs: obs[:, 0].long(), states=2)
    with pytest.raises(ValueError, match="the buffer holds"):
        Explors(batch(), buffer=3, recent=5)


def test_the_bonus_as_a_term_counts_departures_of_a_life() -> None:
    env = ShapedReward(batch(3), 0.0 * Task() + ExplorationBonus(scale=0.5, cap=2.0))
    obs, _ = env.reset(seed=1)
    counts = torch.zeros(3, 6)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        before = obs.clone()
        obs, reward, terminated, _, info = env.step(torch.randint(0, 2, (3,), generator=generator))
        after = torch.where(info["_final_obs"], info["final_obs"], obs)
        expected = 0.5 / (0.0625 + counts[torch.arange(3), after]).sqrt()
        assert torch.allclose(reward, torch.where(terminated, 0.0, expected))
        counts[torch.arange(3), before] += 1
    with pytest.raises(ValueError, match="above 0"):
        ExplorationBonus(cap=0.0)


def test_the_self_made_reward_in_ppo_pays_for_what_was_better() -> None:
    """Right earns: after some rollouts its made reward is above that of left, where the policy has seen both."""
    envs = batch(8, right=2, left=2, slip=0.0, max_steps=8)
    term = SelfReward(hidden=32, learning_rate=1e-2, buffer=40)
    model = PPO("MlpPolicy", envs, n_steps=32, batch_size=128, learning_rate=1e-5, reward=Task() + term, seed=0)
    model.learn(32 * 8 * 25)
    x = Stretch.make(
        obs=torch.tensor([2, 3, 4]), next_obs=torch.tensor([2, 3, 4]), reward=torch.zeros(3),
        terminated=torch.zeros(3, dtype=torch.bool),
    )  # fmt: skip
    made = term.made(x).detach()
    assert bool((made[:, 1] > made[:, 0]).all()) and float(made.abs().max()) <= 0.1


def test_the_self_made_reward_needs_a_policy() -> None:
    env = ShapedReward(batch(2), Task() + SelfReward(), gamma=0.9, update_every=4)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="no policy"):
        for _ in range(4):
            env.step(torch.zeros(2, dtype=torch.int64))


def test_a_reward_that_is_no_number_is_named_and_not_learned_from() -> None:
    env = batch()
    agent = Explors(env, gamma=0.5)
    agent.learn(3)
    before, inner = {k: v.clone() for k, v in vars(agent).items() if k in ("theta", "phi", "values")}, env.step

    def broken(action: Any) -> Any:
        obs, reward, *rest = inner(action)
        return obs, torch.where(torch.arange(len(reward)) == 0, torch.nan, reward), *rest

    env.step = broken  # type: ignore[method-assign]
    with pytest.raises(RewardError, match="nan in environment 0, step 0 of episode 3"):
        agent.learn(9)
    assert agent.episodes == 3 and all(torch.equal(getattr(agent, k), v) for k, v in before.items())
