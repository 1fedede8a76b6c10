"""Searches with gradients: steps, replay, one TD3 update by its formula, policies that climb, folding, resuming."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cairn.agents.config import ConfigError
from cairn.envs.bridges import make_batch
from cairn.qd import (
    MLP,
    ConditionedPolicy,
    Evaluated,
    Evaluator,
    Grid,
    Problem,
    Search,
    SearchConfig,
    Transitions,
    load_conditioned,
    load_grid,
    load_policies,
    replay,
)
from cairn.qd import running as qd_running
from cairn.qd.critics import Learner, Replay
from cairn.qd.dcrl import DCG, DCRL, folded
from cairn.qd.descriptors import last_observation
from cairn.qd.pga import PGA
from cairn.runs import Run, first_difference

SMALL = {"population": 8, "critic_steps": 3, "steps": 2, "units": 16, "batch": 16, "bins": 10}


def network(hidden=(6,), low=-0.4, high=1.0, inputs=3, outputs=2):
    observation, action = spaces.Box(-np.inf, np.inf, (inputs,)), spaces.Box(low, high, (outputs,))
    return MLP(observation, action, hidden, bias="unit", activation="relu")


def problem(policy, seed=0):
    return Problem(policy.size, torch.tensor([0.0, -2.0]), torch.tensor([1.0, 2.0]), seed=seed, policy=policy)


def evaluated(policy, genomes, measures, seed=0, steps=3, valid=None):
    """Episodes of three steps whose rewards count up."""
    draw, count = torch.Generator().manual_seed(seed), len(genomes)
    none, total = torch.full((count,), -1), count * steps
    obs, after = torch.randn(2, total, 3, generator=draw)
    action = policy.act(policy.unpack(genomes.repeat_interleave(steps, 0)), obs)
    last = torch.arange(total) % steps == steps - 1
    row = torch.arange(count).repeat_interleave(steps)
    lived = Transitions(obs, action, torch.arange(total).float(), after, last, row)
    objective = torch.zeros(count).index_add(0, row, lived.reward)
    good = none < 0 if valid is None else valid
    return Evaluated(genomes, objective, measures, none, torch.full((count,), steps), good, transitions=lived)


# ---- steps ---------------------------------------------------------------------------------------------------


def test_every_step_of_every_episode_once_and_nothing_else():
    """Hoppers that fall sooner or later, in two groups: rewards, lengths and next observations fit together."""
    env = make_batch("cairn/HopperUni-v0", 4, max_episode_steps=40)
    policy = MLP(env.single_observation_space, env.single_action_space, (4,), bias="unit", activation="relu")
    genomes = 4 * policy.first(7, torch.Generator().manual_seed(1))
    found = Evaluator(env, policy, transitions=True)(genomes)
    x = found.transitions
    assert torch.equal(x.row, torch.arange(7).repeat_interleave(found.length)) and len(found.length.unique()) > 2
    assert torch.allclose(torch.zeros(7).index_add(0, x.row, x.reward), found.objective, atol=1e-3)
    inside = x.row[1:] == x.row[:-1]
    assert torch.equal(x.next_obs[:-1][inside], x.obs[1:][inside])
    ends = torch.cat([~inside, torch.tensor([True])])
    assert torch.equal(x.terminated[ends], found.length < 40) and not x.terminated[~ends].any()
    assert torch.allclose(policy.act(policy.unpack(genomes[x.row]), x.obs), x.action, atol=1e-5)
    where = Evaluator(env, policy, measures=last_observation())(genomes).measures
    assert torch.equal(x.next_obs[ends].float(), where)  # the true last ones, not those of the next episodes
    some = found.rows(torch.tensor([5, 2]))
    five, two = (x.row == 5).nonzero()[:, 0], (x.row == 2).nonzero()[:, 0]
    assert torch.equal(some.transitions.obs, x.obs[torch.cat([five, two])])
    assert some.transitions.row.tolist() == [0] * len(five) + [1] * len(two)
    assert len(found.rows(found.length < 0).transitions) == 0


def test_actions_are_scaled_back():
    policy = network()
    actions = torch.tensor([[-0.4, 1.0], [0.3, 0.65]])
    assert torch.allclose(policy.units(actions), torch.tensor([[-1.0, 1.0], [0.0, 0.5]]), atol=1e-6)
    discrete = MLP(spaces.Box(-1, 1, (3,)), spaces.Discrete(4), (2,), bias="unit", activation="relu")
    with pytest.raises(TypeError, match="Box"):
        discrete.units(torch.zeros(1))
    with pytest.raises(TypeError, match="Box"):
        PGA(problem(discrete), **SMALL)
    with pytest.raises(ValueError, match="bias='unit'"):
        PGA(problem(MLP(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))), **SMALL)
    with pytest.raises(ValueError, match="relu"):
        MLP(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), activation="elu")


def test_relu_networks_by_hand():
    policy = network((2,), -1, 1, 1, 1)  # x -> relu(2 x - 1), relu(-x) -> tanh(.5 a - b + .25)
    genome = torch.tensor([[2.0, -1.0, -1.0, 0.0, 0.5, -1.0, 0.25]])
    for x, a, b in ((2.0, 3.0, 0.0), (-1.0, 0.0, 1.0)):
        expected = np.tanh(0.5 * a - b + 0.25)
        assert policy.act(policy.unpack(genome), torch.tensor([[x]])).item() == pytest.approx(expected, abs=1e-6)


# ---- replay --------------------------------------------------------------------------------------------------


def rows(values):
    v = torch.tensor(values)
    return {"obs": v[:, None], "action": -v[:, None], "reward": v, "next_obs": v[:, None] + 0.5,
            "terminated": v > 3, "wanted": torch.zeros(len(v), 0)}  # fmt: skip


def test_the_newest_steps_are_kept():
    replay, draw = Replay(4), torch.Generator().manual_seed(0)
    replay.add(**rows([0.0, 1.0, 2.0]))
    assert len(replay) == 3 and replay.draw(99, draw)["reward"].unique().tolist() == [0, 1, 2]
    replay.add(**rows([3.0, 4.0, 5.0]))
    got = replay.draw(99, draw)
    assert got["reward"].unique().tolist() == [2, 3, 4, 5]
    assert torch.equal(got["next_obs"][:, 0], got["reward"] + 0.5) and torch.equal(got["action"][:, 0], -got["reward"])
    assert torch.equal(got["terminated"], (got["reward"] > 3).float())
    other = Replay(4)
    other.load(replay.state())
    for one in (replay, other):
        one.add(**rows([6.0]))
    one, two = (r.draw(50, torch.Generator().manual_seed(1)) for r in (replay, other))
    assert all(torch.equal(one[k], two[k]) for k in one) and one["reward"].unique().tolist() == [3, 4, 5, 6]
    replay.add(**rows(list(np.arange(10.0, 19.0))))
    assert replay.draw(99, draw)["reward"].unique().tolist() == [15, 16, 17, 18]
    with pytest.raises(ValueError, match="replay buffer"):
        other.load({"total": 3, "columns": rows([1.0])})


# ---- learning ------------------------------------------------------------------------------------------------


def filled(policy, wanted=0, count=40):
    draw, replay = torch.Generator().manual_seed(5), Replay(100)
    obs, after = torch.randn(2, count, 3, generator=draw)
    action, told = 2 * torch.rand(count, 2, generator=draw) - 1, 2 * torch.rand(count, wanted, generator=draw) - 1
    reward, over = torch.randn(count, generator=draw), torch.rand(count, generator=draw) < 0.3
    replay.add(obs=obs, action=action, reward=reward, next_obs=after, terminated=over, wanted=told)
    return replay


@pytest.mark.parametrize("wanted", [0, 2])
def test_two_updates_are_td3s(wanted):
    """The formulas of the paper once more, on copies of the networks, with the same draws."""
    policy = network()
    replay = filled(policy, wanted)
    learner = Learner(policy, wanted=wanted, units=8, batch=16, rate=0.01, seed=3)
    critics, actor = copy.deepcopy(learner.critics), learner.actor.detach().clone().requires_grad_()
    late_critics, late_actor = copy.deepcopy(critics), actor.detach().clone()
    first, second = torch.optim.Adam(critics.parameters(), lr=0.01), torch.optim.Adam([actor], lr=0.01)
    draw = torch.Generator()
    draw.set_state(learner.generator.get_state())

    def act(weights, obs, told):
        x, at = torch.cat([obs, told], -1), 0
        for a, b in ((3 + wanted, 6), (6, 2)):
            weight, bias = weights[0, at : at + a * b].reshape(a, b), weights[0, at + a * b : at + a * b + b]
            x, at = x @ weight + bias, at + a * b + b
            x = torch.relu(x) if b == 6 else torch.tanh(x)
        return x

    def q(critic, obs, action, told):
        return critic(torch.cat([obs, action, told], 1)).squeeze(1)

    learner.learn(replay, 2)
    for step in (1, 2):
        x = replay.draw(16, draw)
        with torch.no_grad():
            noise = (torch.randn(16, 2, generator=draw) * 0.2).clamp(-0.5, 0.5)
            ahead = (act(late_actor, x["next_obs"], x["wanted"]) + noise).clamp(-1, 1)
            least = torch.stack([q(c, x["next_obs"], ahead, x["wanted"]) for c in late_critics]).min(0).values
            target = torch.where(x["terminated"] > 0, x["reward"], x["reward"] + 0.99 * least)
        loss = sum((q(c, x["obs"], x["action"], x["wanted"]) - target).pow(2).mean() for c in critics)
        first.zero_grad()
        loss.backward()
        first.step()
        if step == 2:
            second.zero_grad()
            (-q(critics[0], x["obs"], act(actor, x["obs"], x["wanted"]), x["wanted"]).mean()).backward()
            second.step()
            with torch.no_grad():
                late_actor += 0.005 * (actor - late_actor)
                for late, now in zip(late_critics.parameters(), critics.parameters()):
                    late += 0.005 * (now - late)
    pairs = [(learner.actor, actor), (learner.target_actor, late_actor)]
    pairs += zip(learner.critics.parameters(), critics.parameters())
    pairs += zip(learner.target_critics.parameters(), late_critics.parameters())
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in pairs)
    assert not torch.equal(learner.actor, learner.target_actor)


def test_the_actor_learns_the_best_action_for_what_is_wanted():
    """One step that pays -|a - d|^2 when d is wanted: the actor told d does d, the untold one the mean."""
    policy, draw = network((16,), -1, 1), torch.Generator().manual_seed(0)
    obs, action, told = (torch.randn(2000, 3, generator=draw), *(2 * torch.rand(2, 2000, 2, generator=draw) - 1))
    reward, over = -(action - told).square().sum(-1), torch.ones(2000)
    for wanted in (2, 0):
        replay = Replay(2000)
        replay.add(
            obs=obs, action=action, reward=reward, next_obs=obs, terminated=over, wanted=told[:, :wanted]
        )  # fmt: skip
        learner = Learner(policy, wanted=wanted, units=32, batch=64, rate=5e-3)
        learner.learn(replay, 500)
        did = learner.act(learner.actor, obs, told[:, :wanted]).detach()
        goal = told if wanted else torch.zeros_like(told)
        assert (did - goal).abs().mean() < 0.15
        if not wanted:  # policies that follow its critic get there too, from afar
            start = policy.first(3, draw)
            better = learner.improved(start, told[:3, :0], replay, 80, 0.03)
            acts = policy.outputs(policy.unpack(better), obs.expand(3, -1, -1))
            assert (acts.abs().mean((1, 2)) < 0.15).all()


def test_policies_follow_the_gradient_each_by_itself():
    policy = network()
    replay, draw = filled(policy, 2), torch.Generator().manual_seed(2)
    genomes, told = policy.first(3, draw), torch.tensor([[0.5, 0.5], [-0.5, 0.0], [0.5, 0.5]])
    learner = Learner(policy, wanted=2, units=8, batch=16, seed=1)
    state = learner.generator.get_state()
    together = learner.improved(genomes, told, replay, 4, 0.01)
    for i in range(3):
        learner.generator.set_state(state)
        alone = learner.improved(genomes[i : i + 1], told[i : i + 1], replay, 4, 0.01)
        assert torch.allclose(alone[0], together[i], atol=1e-6)
    learner.generator.set_state(state)
    other = learner.improved(genomes, -told, replay, 4, 0.01)
    assert not torch.allclose(other, together, atol=1e-3)  # what is wanted matters
    assert (together - genomes).abs().max() <= 0.04 * 1.01


# ---- children ------------------------------------------------------------------------------------------------


def test_the_folded_actor_is_the_actor():
    """Issue's claim: an injected actor that is told d equals the policy into whose bias d went, to 1e-6."""
    policy, draw = network((32, 16)), torch.Generator().manual_seed(0)
    wide = policy.widened(2)
    actor, told = 3 * wide.first(1, draw), 2 * torch.rand(64, 2, generator=draw) - 1
    obs = torch.randn(64, 3, generator=draw)
    injected = folded(policy, actor, told)
    assert injected.shape == (64, policy.size)
    ours = policy.act(policy.unpack(injected), obs)
    theirs = wide.act(wide.unpack(actor.expand(64, -1)), torch.cat([obs, told], -1))
    assert (ours - theirs).abs().max() <= 1e-6 and (ours - ours[0]).abs().max() > 0.1
    again = policy.act(policy.unpack(injected.flip(0)), obs)
    assert (again - theirs).abs().max() > 1e-2  # another wish, another policy


def test_children_of_pga():
    policy = network()
    search = PGA(problem(policy), **{**SMALL, "population": 10}, iso=0.0, line=0.0)
    first = next(search)
    asked = search.send(evaluated(policy, first, torch.rand(10, 2)))
    assert asked.shape == first.shape and torch.equal(asked[0], search.learner.actor.detach()[0])
    elites = search.archive.elites()["genomes"]
    away = torch.cdist(asked, elites).min(-1).values
    assert away[5:].max() == 0 and (away[1:5] > 1e-4).all()  # without noise, mixed ones are elites
    assert (asked[1:5, None] - elites[None]).abs().amax(-1).min(-1).values.max() <= 2 * 1e-3 * 1.01  # two steps of Adam
    assert len(search.replay) == 30 and search.learner.steps == 3 and search.wanted.isnan().all()


def test_the_line_operator():
    policy = network()
    search = PGA(problem(policy), **SMALL, iso=0.0, line=0.5)
    pair, spots = policy.first(2, torch.Generator().manual_seed(9)), torch.tensor([[0.05, 0.0], [0.95, 0.0]])
    search.send(evaluated(policy, torch.cat([pair] * 4), torch.cat([spots] * 4)))
    children = search.mixed(200)
    along = pair[1] - pair[0]
    share = (children - pair[0]) @ along / along.dot(along)
    assert torch.allclose(children, pair[0] + share[:, None] * along, atol=1e-5)  # all on the line
    assert ((share - share.round()).abs() > 1e-4).float().mean() > 0.3
    search.line, search.iso = 0.0, 0.1
    assert torch.cdist(search.mixed(200), pair).min(-1).values.mean() == pytest.approx(0.1 * policy.size**0.5, rel=0.1)


def test_steps_pay_by_how_near_the_outcome_is():
    """Wanted (0, 1) of the scaled outcome: at (.1, .8) a step pays exp(-|(.1, -.2)| / .5) of its reward."""
    policy = network()
    search = DCRL(problem(policy), **SMALL, length=0.5)
    search.asked = search.asked[:3]
    search.wanted = torch.tensor([[0.0, 1.0], [torch.nan, torch.nan], [0.0, 1.0]])
    measures = torch.tensor([[0.55, 1.6], [0.25, 0.0], [torch.nan, 0.0]])
    found = evaluated(policy, search.asked, measures, valid=torch.tensor([True, True, False]))
    search._remember(found)
    held = search.replay.state()["columns"]
    pay = np.exp(-np.hypot(0.1, 0.2) / 0.5)
    assert held["reward"].tolist() == pytest.approx([0.0, pay, 2 * pay, 3.0, 4.0, 5.0], abs=1e-5)
    assert torch.allclose(held["wanted"], torch.tensor([[0.0, 1.0]] * 3 + [[-0.5, 0.0]] * 3), atol=1e-6)
    assert torch.allclose(held["action"], policy.units(found.transitions.action[:6]), atol=1e-6)
    assert held["terminated"].tolist() == [0, 0, 1] * 2
    plain = PGA(problem(policy), **SMALL)
    plain._remember(evaluated(policy, plain.asked, torch.rand(8, 2)))
    assert torch.equal(plain.replay.state()["columns"]["reward"], torch.arange(24.0))
    with pytest.raises(ValueError, match="transitions=True"):
        found.transitions = None
        search.send(found)


@pytest.mark.parametrize("made", [DCG, DCRL])
def test_children_that_are_told(made):
    policy = network()
    search = made(problem(policy), **SMALL, length=0.1, **({"actors": 5} if made is DCG else {}))
    measures = torch.rand(8, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 4.0]) - torch.tensor(
        [0.0, 2.0]
    )
    asked = search.send(evaluated(policy, search.asked, measures))
    points = search.scaled(search.archive.elites()["measures"])
    told = slice(8, 13) if made is DCG else slice(2, 4)
    assert len(asked) == len(search.wanted) == (13 if made is DCG else 8)
    assert torch.equal(asked[told], folded(policy, search.learner.actor.detach(), search.wanted[told]))
    near = torch.cdist(search.wanted[told], points).min(-1).values
    plain = search.wanted.isnan().all(-1)
    if made is DCG:
        assert plain.tolist() == [True] * 8 + [False] * 5
        assert 0 < near.max() < 0.6 and search.wanted[told].abs().max() <= 1
        before = search.archive.occupied.sum()
        corners = torch.tensor([[0.0, -2.0]]).expand(13, -1).clone()
        corners[8:] = torch.tensor([1.0, 2.0])
        search.send(evaluated(policy, asked, corners))
        assert search.archive.occupied.sum() == before + 1  # the actor's own corner is not taken
    else:
        assert plain.tolist() == [False] * 4 + [True] * 4 and near.max() == 0
        assert torch.cdist(search.wanted[:2], points).min(-1).values.max() == 0


def test_broken_results_stop_nobody():
    policy = network()
    for name in ("pga-me", "dcg-me", "dcrl-me"):
        search = Search(name, problem(policy), SMALL)
        for _ in range(2):
            asked = search.ask()
            search.tell(evaluated(policy, asked, torch.rand(len(asked), 2), valid=torch.zeros(len(asked), dtype=bool)))
        assert not search.grid.occupied.any() and len(search.ask()) == 8
        search.tell(evaluated(policy, search.ask(), torch.rand(8, 2)))
        assert search.grid.occupied.any() and torch.isfinite(search.ask()).all()


# ---- runs ----------------------------------------------------------------------------------------------------


def config(run, name, evaluations, **kwargs):
    args = {**SMALL, **({"actors": 2} if name == "dcg-me" else {})}
    return SearchConfig(
        env="cairn/HopperUni-v0", algorithm=name, evaluations=evaluations, algorithm_args=args, lanes=16, hidden=(4,),
        env_args={"max_episode_steps": 15}, run=str(run), seed=1, **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["pga-me", "dcg-me", "dcrl-me"])
def test_runs_resume_to_the_same_bits(tmp_path, name):
    whole = qd_running.search(config(tmp_path / "whole", name, 40))
    qd_running.search(config(tmp_path / "part", name, 20))
    again = qd_running.resume(tmp_path / "part", evaluations=40)
    assert again.scores == whole.scores and again.evaluations == whole.evaluations >= 40
    one, two = (Run.open(tmp_path / run).latest()[2] for run in ("whole", "part"))
    assert first_difference(one, two) is None
    assert first_difference(*(load_grid(tmp_path / run).state_dict() for run in ("whole", "part"))) is None
    policies = load_policies(tmp_path / "whole")
    assert len(policies) == load_grid(tmp_path / "whole").occupied.sum()
    assert next(iter(policies.values())).predict(np.zeros(11, np.float32))[0].shape == (3,)


# ---- one policy for the archive --------------------------------------------------------------------------------


def direct(genomes):
    """A world of one step without observations: the outcome is the two actions, which begin at the bias."""
    out = torch.tanh(genomes[:, -2:])
    none = torch.full((len(out),), -1)
    good = torch.isfinite(out).all(-1)
    return Evaluated(genomes, 1 + out[:, 0], torch.stack([out[:, 0], 2 * out[:, 1]], -1), none, none, good)


def test_one_policy_replays_an_archive():
    """An actor whose action is tanh of the wish: what comes, how far that is, and the score, all by hand."""
    policy = network((), -1, 1)
    actor = torch.zeros(1, policy.widened(2).size)
    actor[0, 6], actor[0, 9] = 1.0, 1.0  # after three observations' weights those of the wish, then the bias
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
    one = ConditionedPolicy(policy, actor, low, high)
    wanted = torch.tensor([[0.5, -1.0], [-0.5, 2.0], [0.9, 0.0]])
    done = replay(one.toward(wanted), wanted, direct, Grid(low, high, 4, genome=policy.size))
    came = np.stack([np.tanh([0.5, -0.5, 0.9]), 2 * np.tanh([-0.5, 1.0, 0.0])], -1)
    assert done.error == pytest.approx(np.linalg.norm(came - wanted.numpy(), axis=1).mean(), abs=1e-5)
    assert done.qd_score == pytest.approx((1 + came[:, 0]).sum(), abs=1e-5) and done.grid.occupied.sum() == 3
    assert np.allclose(one.at(0.5, -1.0).predict(np.ones(3))[0], [np.tanh(0.5), np.tanh(-0.5)], atol=1e-6)
    exact = replay(torch.atanh(torch.tensor([[0.0] * 6 + [0.3, 0.2]])), torch.tensor([[0.3, 0.4]]), direct, done.grid)
    assert exact.error < 1e-6
    broken = replay(one.toward(wanted * torch.tensor([[torch.nan], [1.0], [1.0]])), wanted, direct, done.grid)
    assert broken.error == pytest.approx(np.linalg.norm(came - wanted.numpy(), axis=1)[1:].mean(), abs=1e-5)
    for genomes, points in ((torch.zeros(0, 8), torch.zeros(0, 2)), (torch.zeros(2, 8), torch.zeros(3, 2))):
        with pytest.raises(ValueError, match="as many"):
            replay(genomes, points, direct, done.grid)
    with pytest.raises(ValueError, match="finite"):
        replay(torch.full((1, 8), torch.nan), torch.zeros(1, 2), direct, done.grid)
    with pytest.raises(ValueError, match="2 numbers"):
        one.toward(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="numbers"):
        ConditionedPolicy(policy, actor[:, 1:], low, high)


def test_the_actor_of_a_run_is_loaded(tmp_path):
    for name in ("dcg-me", "pga-me"):
        qd_running.search(config(tmp_path / name, name, 20))
    one, grid = load_conditioned(tmp_path / "dcg-me"), load_grid(tmp_path / "dcg-me")
    learned = Run.open(tmp_path / "dcg-me").latest()[2]["search"]["search"]["learner"]["actor"]
    obs = torch.randn(1, 11, generator=torch.Generator().manual_seed(0))
    wide = one.policy.widened(1)
    low, high = grid.low.item(), grid.high.item()
    for place in (low, 0.3 * low + 0.7 * high):
        told = torch.tensor([[2 * (place - low) / (high - low) - 1]])
        expected = wide.act(wide.unpack(learned), torch.cat([obs, told], -1))
        assert np.allclose(one.at(place).predict(obs)[0], expected[0], atol=1e-6)
    with pytest.raises(ConfigError, match="dcrl-me"):
        load_conditioned(tmp_path / "pga-me")


def test_states_that_do_not_fit_are_refused():
    policy = network()
    search = Search("pga-me", problem(policy), SMALL)
    search.tell(evaluated(policy, search.ask(), torch.rand(8, 2)))
    state = search.state_dict()
    for name, options, other in (
        ("pga-me", {**SMALL, "bins": 11}, policy),
        ("pga-me", {**SMALL, "units": 9}, policy),
        ("pga-me", SMALL, network((5,))),
        ("dcrl-me", SMALL, policy),
        ("ns", {}, policy),
    ):
        with pytest.raises(ValueError, match="not the state|other cells"):
            Search(name, problem(other), options).load_state_dict(state)
    broken = {**state, "search": {**state["search"], "replay": {"total": 5, "columns": {"obs": torch.zeros(5)}}}}
    with pytest.raises(ValueError, match="replay"):
        Search("pga-me", problem(policy), SMALL).load_state_dict(broken)
    with pytest.raises(ValueError, match="not the state"):
        Search("pga-me", problem(policy), SMALL).load_state_dict({**state, "search": {}})
