"""Evaluation beside one environment at a time in a plain loop."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.envs import from_gymnasium
from cairn.envs.areas.make import make, make_vec
from cairn.envs.batch import lane_seed
from cairn.envs.tabular.line import LineKey, LineKeyBatch
from cairn.envs.wrappers import TimeLimit
from cairn.qd import MLP, Constant, Evaluator
from cairn.qd.descriptors import fact, last_observation, share


def forward(policy, genome, obs):
    """One network, its genome taken apart by hand."""
    x, at = np.asarray(obs, np.float64).reshape(-1), 0
    for a, b in zip(policy.sizes, policy.sizes[1:]):
        weight = genome[at : at + a * b].reshape(a, b)
        at += a * b
        wide = 1 if policy.bias == "layer" else b
        x = 2 / (1 + np.exp(-(x @ weight + genome[at : at + wide]))) - 1
        at += wide
    assert at == len(genome) == policy.size
    return x


def genomes(policy, count, seed=0, scale=1.0):
    return scale * torch.randn(count, policy.size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("compiled", [True, False])
def test_episodes_that_end_early_or_are_cut_beside_a_plain_loop(compiled):
    """The arm: some collide, some reach the cap, and lanes go on with their next episode meanwhile."""
    one = make("arm", max_episode_steps=60)
    policy = MLP(one.observation_space, one.action_space, (5, 5))
    population = genomes(policy, 21, scale=2.0)
    evaluator = Evaluator(make_vec("arm", 8, max_episode_steps=60), policy, seed=3, compiled=compiled)
    found = evaluator(population)
    lengths, ended = [], []
    for i, genome in enumerate(population.double().numpy()):
        obs, _ = one.reset(seed=0)
        total, length, done = 0.0, 0, False
        while not done:
            action = forward(policy, genome, obs).astype(np.float32)
            obs, reward, terminated, truncated, info = one.step(action)
            total, length, done = total + reward, length + 1, terminated or truncated
        assert found.objective[i].item() == pytest.approx(total, abs=1e-3)
        assert found.measures[i].tolist() == pytest.approx(info["facts"]["descriptor"].tolist(), abs=1e-4)
        assert found.area[i].item() == info["facts"]["area"]
        assert found.length[i].item() == length
        lengths.append(length)
        ended.append(terminated)
    assert any(ended) and not all(ended)
    assert evaluator.ledger.evaluations == 21 and evaluator.ledger.steps == sum(lengths)
    assert evaluator.ledger.batches == 3 and found.valid.all()


@pytest.mark.parametrize("bias", ["layer", "unit"])
def test_chance_and_discrete_actions_beside_a_plain_loop(bias):
    """LineKey: random starts and slips; lane i of group b is episode 0 of lane i under that group's seed."""
    policy = MLP(spaces.Box(0.0, 1.0, (5,), np.float32), spaces.Discrete(3), (4,), bias=bias)
    population = genomes(policy, 10, seed=1, scale=3.0)
    found = Evaluator(LineKeyBatch(4), policy, seed=9, measures=fact("x"))(population)
    for i, genome in enumerate(population.double().numpy()):
        one = LineKey()
        obs, _ = one.reset(seed=lane_seed(9, i // 4), options={"lane": i % 4})
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, info = one.step(int(forward(policy, genome, obs).argmax()))
            total, done = total + reward, terminated or truncated
        assert found.objective[i].item() == pytest.approx(total)
        assert found.measures[i, 0].item() == pytest.approx(info["facts"]["x"])
        assert found.length[i].item() == 60


def test_what_comes_after_an_end_is_not_counted():
    """CartPole pays 1 a step, and lanes that have fallen go on with their next episode while others stand."""
    env = from_gymnasium("CartPole-v1", 8)
    policy = MLP(env.single_observation_space, env.single_action_space)
    found = Evaluator(env, policy, measures=last_observation([0, 2]))(genomes(policy, 8, scale=2.0))
    assert len(set(found.length.tolist())) > 2
    assert found.objective.tolist() == found.length.tolist()


def test_the_size_of_the_batch_changes_nothing():
    one = make_vec("arm", 1)
    policy = MLP(one.single_observation_space, one.single_action_space)
    population = genomes(policy, 40)
    made = []
    wide = Evaluator(make_vec("arm", 64), policy, compiled=False)(population)
    grown = Evaluator(lambda n: made.append(n) or make_vec("arm", n), policy, lanes=24, compiled=False)
    for other in (Evaluator(make_vec("arm", 7), policy, compiled=False)(population), grown(population)):
        assert torch.allclose(wide.measures, other.measures, atol=1e-5)
        assert torch.equal(wide.length, other.length)
    grown(population[:3])
    assert made == [16, 24]


class Recorder(LineKeyBatch):
    """Remembers what it showed and paid."""

    def __init__(self, lanes):
        super().__init__(lanes)
        self.tape = []

    def step(self, actions):
        out = super().step(actions)
        self.tape.append((actions.clone(), *(v.clone() for v in out[:4]), out[4]["final_obs"].clone()))
        return out


def test_trajectories_are_the_episodes():
    """Lanes cut after 60 steps; a cap of 20 cuts before, and the last observation is the true one."""
    policy = MLP(spaces.Box(0.0, 1.0, (5,), np.float32), spaces.Discrete(3), (4,))
    kept = []

    def keep(x):
        kept.append(x)
        return last_observation([0])(x)

    for cap in (None, 20):
        env = Recorder(3)
        found = Evaluator(env, policy, measures=keep, cap=cap)(genomes(policy, 3, seed=4))
        x = kept.pop()
        steps = cap or 60
        assert x.valid.shape == (steps, 3) and x.valid.all() and x.obs.shape == (steps + 1, 3, 5)
        for t, (actions, obs, reward, _, _, final) in enumerate(env.tape):
            assert torch.equal(x.action[t], actions) and torch.equal(x.reward[t], reward)
            assert torch.equal(x.obs[t + 1], final if t == 59 else obs)
        assert torch.equal(found.measures[:, 0], x.obs[-1, :, 0])
        assert found.length.tolist() == [steps] * 3


def test_masks_end_with_the_episodes():
    one = make_vec("arm", 1)
    policy = MLP(one.single_observation_space, one.single_action_space)
    seen = []
    evaluator = Evaluator(make_vec("arm", 16), policy, measures=lambda x: seen.append(x) or last_observation()(x))
    found = evaluator(genomes(policy, 12, scale=3.0))
    (x,) = seen
    assert torch.equal(x.valid.sum(0), found.length) and len(set(found.length.tolist())) > 2
    for i, length in enumerate(found.length.tolist()):
        assert x.valid[:length, i].all() and not x.valid[length:, i].any()
        assert (x.obs[length:, i] == x.obs[length, i]).all()
    half = share(lambda obs: obs[..., :2] > 0)(x)
    by_hand = [(x.obs[1 : n + 1, i, :2] > 0).float().mean(0).tolist() for i, n in enumerate(found.length.tolist())]
    assert half.tolist() == [pytest.approx(row) for row in by_hand]


def test_pictures_of_the_end():
    env = make_vec("arm", 4, max_episode_steps=30, render_mode="rgb_array", pixels=32)
    policy = MLP(env.single_observation_space, env.single_action_space)
    population = genomes(policy, 6, scale=2.0)
    found = Evaluator(env, policy, frames=True)(population)
    assert found.frames.shape == (6, 32, 32, 3)
    one = make("arm", max_episode_steps=30, render_mode="rgb_array", pixels=32)
    obs, _ = one.reset(seed=0)
    for _ in range(found.length[5]):
        obs = one.step(forward(policy, population[5].double().numpy(), obs).astype(np.float32))[0]
    assert (one.render() != found.frames[5].numpy()).mean() < 0.01


class Broken(LineKeyBatch):
    """Pays NaN in lane 1, and its descriptor is infinite in lane 2."""

    def step(self, actions):
        obs, reward, terminated, truncated, info = super().step(actions)
        reward[1] = torch.nan
        for facts in (info["facts"], info["final_facts"]):
            facts["descriptor"] = facts["x"][:, None].clone()
            facts["descriptor"][2] = torch.inf
        return obs, reward, terminated, truncated, info


def test_what_is_not_finite_is_named_and_counted():
    policy = MLP(spaces.Box(0.0, 1.0, (5,), np.float32), spaces.Discrete(3), (4,))
    population = genomes(policy, 4)
    population[3, 0] = torch.nan
    evaluator = Evaluator(Broken(4), policy)
    found = evaluator(population)
    assert found.valid.tolist() == [True, False, False, False]
    ledger = evaluator.ledger
    assert (ledger.invalid_genomes, ledger.invalid_objectives, ledger.invalid_measures) == (1, 1, 1)
    assert ledger.evaluations == 4


def test_constant_policies():
    env = make_vec("repertoire", 4, joints=2)
    policy = Constant(env.single_observation_space, env.single_action_space)
    found = Evaluator(env, policy)(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    assert found.measures.tolist() == [pytest.approx([2, 0]), pytest.approx([-2, 0], abs=1e-5)]  # 9 is cut to pi


def test_actions_reach_the_bounds_of_their_space():
    policy = MLP(spaces.Box(-1, 1, (1,), np.float32), spaces.Box(np.float32([-1, 0]), np.float32([1, 6])), ())
    genome = torch.tensor([[50.0, -50.0, 0.0], [0.0, 0.0, 0.0]])
    actions = policy.act(policy.unpack(genome), torch.ones(2, 1))
    assert actions.tolist() == [[1.0, 0.0], [0.0, 3.0]]


def test_mistakes_are_named():
    env = make_vec("arm", 2)
    policy = MLP(env.single_observation_space, env.single_action_space)
    with pytest.raises(ValueError, match="228"):
        Evaluator(env, policy)(torch.zeros(3, 7))
    with pytest.raises(TypeError, match="bounded"):
        MLP(env.single_observation_space, spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(TypeError, match="Box"):
        MLP(spaces.Discrete(3), env.single_action_space)
    line = LineKeyBatch(2)
    with pytest.raises(ValueError, match="descriptor"):
        network = MLP(line.single_observation_space, line.single_action_space)
        Evaluator(line, network)(torch.zeros(2, network.size))
    endless = make_vec("arm", 2)
    endless.max_steps = None
    with pytest.raises(ValueError, match="cap"):
        Evaluator(endless, policy)
    with pytest.raises(ValueError, match="one row"):
        Evaluator(TimeLimit(env, 3), policy, measures=lambda x: torch.zeros(1, 2))(torch.zeros(2, policy.size))


def test_lanes_whose_policy_is_done_rest(monkeypatch):
    """Hoppers that fall sooner or later: the same numbers as when all lanes are stepped to the end, for less."""
    from cairn.envs.bridges import make_batch
    from cairn.envs.physics.batch import PhysicsBatch
    from cairn.envs.physics.engine import CpuEngine

    env = make_batch("cairn/HopperUni-v0", 8, max_episode_steps=60, threads=1)
    policy = MLP(env.single_observation_space, env.single_action_space, (4,), bias="unit", activation="relu")
    genomes = 4 * policy.first(13, torch.Generator().manual_seed(1))
    real, visited = CpuEngine._visit, []

    def visit(self, lanes, **what):
        visited.append(self.num_envs if lanes is None else len(lanes))
        real(self, lanes, **what)

    monkeypatch.setattr(CpuEngine, "_visit", visit)
    resting = Evaluator(env, policy, transitions=True)(genomes)
    awake_after_all = len(visited), sum(visited)
    env.reset(seed=3)
    obs = env.step(torch.zeros(8, 3))[0]
    assert visited[-1] == 8 and len(obs.unique(dim=0)) == 8  # a reset wakes them
    env.rest(torch.arange(8) == 2)  # it neither moves nor ends, while the others reach the cap
    told = [env.step(torch.zeros(8, 3)) for _ in range(59)]
    still = [obs[2] for obs, *_ in told]
    assert torch.equal(still[0], still[-1]) and not torch.equal(told[0][0][3], told[1][0][3])
    ended = torch.stack([info["_final_obs"].clone() for *_, info in told])
    assert ended.any(0).tolist() == [True, True, False, True, True, True, True, True]
    for lanes in (7, 8):
        visited.clear()
        env.step(torch.zeros(8, 3))
        assert visited[0] == lanes
        env.load_state_dict(env.state_dict())  # this wakes them too
    visited.clear()
    monkeypatch.setattr(PhysicsBatch, "rest", lambda self, lanes: None)
    stepped = Evaluator(env, policy, transitions=True)(genomes)
    for name in ("objective", "measures", "length", "valid"):
        assert torch.equal(getattr(resting, name), getattr(stepped, name))
    assert all(torch.equal(v, getattr(stepped.transitions, k)) for k, v in vars(resting.transitions).items())
    assert len(stepped.length.unique()) > 3
    # Steps, the two resets, and the starts of lanes that went on with an episode of their own before they rested.
    assert awake_after_all[1] <= int(resting.length.sum()) + 2 * 8 + 13 < sum(visited) - 50
