"""MAMQL: losses by hand, imitation of a scripted pair, rewards recovered, saving, and bad demonstrations."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import cairn  # noqa: F401
from cairn.agents import MADDPG, MAMQL
from cairn.agents.data import Demonstrations, collect, command
from cairn.agents.evaluation import evaluate_batch
from cairn.agents.multi.networks import TeamMLP
from cairn.agents.training import TrainConfig, acting, evaluate, resume, train
from cairn.envs.multi import Joint, TeamEnv
from cairn.envs.multi.team import joint_space


def gems(n: int = 32, **kwargs: Any) -> Any:
    return gym.make_vec("cairn/Gems-v0", num_envs=n, device="cpu", **kwargs)


def collector(obs: torch.Tensor, info: Any = None) -> torch.Tensor:
    """Each goes for its own nearest gem, across first."""
    dx, dy = (obs[..., 4] * 14).round(), (obs[..., 5] * 14).round()
    across = torch.where(dx > 0, 1, 3)
    down = torch.where(dy > 0, 0, torch.where(dy < 0, 2, 4))
    return torch.where(dx != 0, across, down)


def learner(env: Any, demos: Any, **kwargs: Any) -> MAMQL:
    return MAMQL("MlpPolicy", env, demos, **{"seed": 0, **kwargs})


@pytest.fixture(scope="module")
def demos() -> Demonstrations:
    return collect(collector, Joint(gems()), 160, seed=1)


def rows_of(demos: Demonstrations, at: Any) -> tuple[Any, ...]:
    """What the loss takes of demonstrations, as rows of the expert."""
    x = demos.stretch()
    return x.obs[at].clone(), x.action[at].clone(), x.next_obs[at].clone(), x.terminated[at].float()


def by_hand(model: MAMQL, obs: Any, action: Any, after: Any, ends: Any, expert: Any, start: Any = None) -> float:
    """The loss, number by number."""
    t = model.temperature

    def soft(q: list[float]) -> float:
        return t * math.log(sum(math.exp(x / t) for x in q))

    def q_of(obs: torch.Tensor) -> list[list[list[float]]]:
        return model.policy.values(obs).tolist()  # type: ignore[no-any-return]

    total, shown = 0.0, int(expert.sum())
    q, then = q_of(obs), q_of(after)
    for c in range(len(q)):
        for b in range(len(obs)):
            a = action[b].tolist()
            pick = a[0] + 5 * a[1] if model.method == "joint" else a[c]
            ahead = 0.0 if ends[b] else model.gamma * soft(then[c][b])
            r, step = q[c][b][pick] - ahead, soft(q[c][b]) - ahead
            if expert[b]:
                total -= r / shown
            square = len(obs) if model.regularise_all else shown * bool(expert[b])
            total += r * r / 4 / model.alpha / square if square else 0
            counts = {"own": not expert[b], "expert": bool(expert[b]), "all": True, "start": False}[model.values]
            weight = {"own": len(obs) - shown, "expert": shown, "all": len(obs), "start": 1}[model.values]
            total += step / weight if counts else 0
        if start is not None:
            total += (1 - model.gamma) * sum(soft(row) for row in q_of(start)[c]) / len(start)
    return total


@pytest.mark.parametrize("method", ["marginal", "joint"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"online": False},
        {"online": False, "values": "expert", "alpha": 10.0},
        {"values": "all", "regularise_all": True, "alpha": 0.5, "temperature": 0.3, "gamma": 0.9},
    ],
)
def test_the_losses_by_hand(method: str, settings: dict[str, Any], demos: Demonstrations) -> None:
    model = learner(gems(2), demos, method=method, policy_kwargs={"net_arch": (16,)}, **settings)
    obs, action, after, ends = rows_of(demos, slice(0, 16))
    ends[::3] = 1.0
    expert = torch.arange(16) < (9 if model.online else 16)
    start = demos.first_states()[:5] if model.values == "start" else None
    assert (model.values == "own") == (settings == {}), "the paper's online estimate is the default"
    loss, _ = model.loss(obs, action, after, ends, expert, start)
    assert float(loss.detach()) == pytest.approx(by_hand(model, obs, action, after, ends, expert, start), rel=1e-4)


@pytest.mark.parametrize("method", ["marginal", "joint"])
def test_the_reward_by_hand(method: str, demos: Demonstrations) -> None:
    model = learner(gems(2), demos, method=method, temperature=0.5, gamma=0.9, policy_kwargs={"net_arch": (16,)})
    obs, action, after, ends = rows_of(demos, slice(0, 4))
    ends[1] = 1.0
    with torch.no_grad():
        found = model.recovered(obs, action, after, ends.bool())
        q, then = model.policy.values(obs), model.policy.values(after)
    assert found.shape == (4, 2 if method == "marginal" else 1)
    for b in range(4):
        for c in range(found.shape[1]):
            a = action[b].tolist()
            own = float(q[c, b, a[0] + 5 * a[1] if method == "joint" else a[c]])
            ahead = 0.5 * math.log(sum(math.exp(x / 0.5) for x in then[c, b].tolist()))
            assert float(found[b, c]) == pytest.approx(own - (0 if b == 1 else 0.9 * ahead), abs=1e-5)


def test_rows_of_both_kinds_lie_as_the_loss_wants_them(demos: Demonstrations) -> None:
    model = learner(gems(4), demos, policy_kwargs={"net_arch": (16,)}).learn(160)
    batch = model.replay_buffer.sample(40)
    obs, action, after, ends, expert = model._rows(batch, 50)
    assert obs.shape == (90, 2, 22) and expert.tolist() == [True] * 50 + [False] * 40
    shown = demos.stretch()
    alike = (obs[:50, None] == shown.obs).flatten(2).all(-1)
    assert alike.any(1).all() and torch.equal(collector(obs[:50]), action[:50]), "the expert's rows are demonstrated"
    assert torch.equal(obs[50:], batch.observations) and torch.equal(ends[50:], batch.dones[:, 0])
    assert torch.equal(2.0 * torch.nn.functional.one_hot(action[50:], 5).flatten(1) - 1, batch.actions)
    assert torch.equal(after[50:], batch.next_observations)


class Spaces(TeamEnv):
    """Two agents, three states seen as one-hots, two actions: nothing but the spaces."""

    agents = ("a", "b")

    def __init__(self) -> None:
        super().__init__(1, joint_space(spaces.Box(0, 1, (3,), np.float32), 2), spaces.MultiDiscrete([2, 2]))
        self.agent_observation_space, self.agent_action_space = spaces.Box(0, 1, (3,), np.float32), spaces.Discrete(2)


def two_steps() -> Demonstrations:
    """From state 0 equal actions lead to state 1 and unequal ones to state 2, whatever is done there ends it.

    The agents choose together: 40 times (0, 0), 10 times (0, 1), 20 times (1, 0), 30 times (1, 1).
    """
    state, action = [], []
    for (a, b), count in {(0, 0): 40, (0, 1): 10, (1, 0): 20, (1, 1): 30}.items():
        for k in range(count):
            then = 1 if a == b else 2
            state += [0, then, 0]  # the last observation of an episode that has ended is never looked at
            action += [(a, b), (int(k % 4 == 0), int(k % 5 > 0)) if then == 1 else (int(k % 10 > 2), int(k % 2))]
    seen = torch.eye(3)[torch.tensor(state)][:, None].expand(-1, 2, -1).clone()
    last = torch.arange(len(action)) % 2 == 1
    env = Spaces()
    return Demonstrations(
        env.single_observation_space, env.single_action_space, seen, torch.tensor(action), torch.zeros(len(action)),
        last, torch.zeros_like(last), [2] * (len(action) // 2),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["marginal", "joint"])
@pytest.mark.parametrize("online", [True, False])
def test_the_fixed_point_of_a_game_of_two_steps(method: str, online: bool) -> None:
    """Where the loss is least, its derivative by each Q(s, a) is 0: by hand, with phi'(r) = 1 - r / 2.

        Q(s, a) = gamma E[V(s') | s, a] + 2 (1 - w(s) pi(a | s) / p(a | s)),

    with p what the demonstrations do and the mean over what the *others* do in them. w(s) is the first part of the loss
    in s (visits less gamma times arrivals; offline (1 - gamma) of the starts) plus gamma times the phi' of all that
    arrive there, over the demonstrations in s.
    """
    demos = two_steps()
    kwargs: dict[str, Any] = {"method": method, "online": online, "gamma": 0.9, "penalty": 0.0}
    model = learner(Spaces(), demos, policy_kwargs={"net_arch": ()}, **kwargs)
    policy = model.policy.double()
    obs, action, after, terminated = (column.double() for column in rows_of(demos, slice(None)))
    action, n, start = action.long(), len(obs), demos.first_states().double()
    if method == "joint":  # one-hot of the state instead of both agents' views of it
        policy.critic = TeamMLP(1, (3, 4)).double()
    see = lambda obs: obs[:, 0][None] if policy.joint else obs.transpose(0, 1)  # noqa: E731
    policy.values = lambda obs: policy.critic(see(obs))  # type: ignore[method-assign]  # in double precision
    expert = torch.ones(n, dtype=torch.bool)
    rows = [obs, action, after, terminated, expert]
    if online:  # one's own life is as the demonstrations are
        rows = [torch.cat([row, row]) for row in rows[:4]] + [torch.cat([expert, ~expert])]
    solver = torch.optim.LBFGS(
        policy.critic.parameters(),
        max_iter=400,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss, _ = model.loss(*rows, None if online else start)
        torch.autograd.backward(loss)
        return loss

    solver.step(closure)
    where, goes, done = obs[:, 0].argmax(-1), after[:, 0].argmax(-1), terminated.bool()
    q = policy.values(torch.eye(3).double()[:, None].expand(-1, 2, -1)).detach()  # [C, 3, actions]
    value, pi = q.logsumexp(-1), q.softmax(-1)
    taken = policy.taken(action)
    arrived = torch.tensor([0.0, 70.0, 30.0])
    for c in range(len(q)):
        r = q[c][where, taken[c]] - 0.9 * value[c][goes] * ~done
        for s in range(3):
            count = float((where == s).sum())
            first = count - 0.9 * float(arrived[s]) if online else (0.1 * n if s == 0 else 0.0)
            comes = (goes == s) & ~done
            weight = (first + 0.9 * float((1 - r[comes] / 2).sum())) / count
            for a in range(q.shape[2]):
                here = (where == s) & (taken[c] == a)
                p = float(here.sum()) / count
                ahead = float((0.9 * value[c][goes[here]] * ~done[here]).mean())
                want = ahead + 2 * (1 - weight * float(pi[c, s, a]) / p)
                assert float(q[c, s, a]) == pytest.approx(want, abs=1e-5), (c, s, a)
    if method == "marginal":
        # By hand: agent 0's action 0 meets an equal one in 40 of 50 demonstrations, its action 1 in 30 of 50.
        gap = q[0, 0, 0] - q[0, 0, 1]
        w = 1.0 if online else 0.2
        more = 0.9 * (0.8 - 0.6) * (value[0, 1] - value[0, 2])
        assert float(gap) == pytest.approx(float(more - 2 * w * (pi[0, 0, 0] - pi[0, 0, 1]) / 0.5), abs=1e-5)


def test_joint_actions_go_there_and_back(demos: Demonstrations) -> None:
    policy = learner(gems(2), demos, method="joint").policy
    action = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    assert torch.equal(policy.split(policy.taken(action)), action)
    assert sorted(policy.taken(action)[0].tolist()) == list(range(25))


def test_actions_are_drawn_by_the_softmax(demos: Demonstrations) -> None:
    policy = learner(gems(2), demos, temperature=0.5).policy
    q = torch.tensor([[1.0, 0, 0, 0, -1], [0, 0, 2.0, 0, 0]])
    policy.values = lambda obs: q[:, None].expand(2, len(obs), 5)  # type: ignore[method-assign]
    torch.manual_seed(0)
    drawn = policy.act(torch.zeros(20_000, 2, 22)).argmax(-1)
    shares = torch.nn.functional.one_hot(drawn, 5).double().mean(0)
    assert torch.allclose(shares, (q.double() / 0.5).softmax(-1), atol=0.015)
    assert policy.act(torch.zeros(1, 2, 22), True).argmax(-1).tolist() == [[0, 2]]


@pytest.mark.parametrize(
    "settings",
    [{}, {"online": False}, {"online": False, "values": "expert", "alpha": 10.0}, {"method": "clone"}],
)
def test_it_imitates(settings: dict[str, Any], demos: Demonstrations) -> None:
    model = learner(gems(8), demos, batch_size=128, **settings).learn(8 * 300)
    assert model.replay_buffer.clock == (300 if settings == {} else 0), "offline nothing is lived"
    fresh = collect(collector, Joint(gems(64)), 64, seed=77).stretch()
    right = (model.act_team(fresh.obs, deterministic=True) == fresh.action).float().mean()
    assert right > 0.75, right
    played = evaluate_batch(acting(model, True), gems(100), 100, 5)
    nobody = evaluate_batch(lambda obs: torch.randint(0, 5, obs.shape[:2]), gems(100), 100, 5)
    assert played.return_mean > nobody.return_mean + 0.5
    if model.method == "marginal":
        shown = model.recovered(fresh.obs, fresh.action, fresh.next_obs, fresh.terminated)
        other = model.recovered(fresh.obs, (fresh.action + 2) % 5, fresh.next_obs, fresh.terminated)
        assert shown.shape == (len(fresh.reward), 2)
        assert shown.mean() > other.mean() + 0.5, "what experts do is worth more"


def test_the_reward_is_a_term_for_other_agents(demos: Demonstrations) -> None:
    model = learner(gems(2), demos, policy_kwargs={"net_arch": (16,)})
    paid = MADDPG("MlpPolicy", gems(2), model.recovered_reward(), learning_starts=8, batch_size=8, seed=0).learn(64)
    batch = paid.replay_buffer.sample(32)
    wanted = model.inner_reward(batch.observations, batch.actions, batch.next_observations, batch.dones[:, 0])
    assert torch.allclose(batch.rewards[:, 0], wanted.detach(), atol=1e-5)


@pytest.mark.parametrize("online", [True, False])
def test_it_goes_on_where_it_was(online: bool, demos: Demonstrations, tmp_path: Path) -> None:
    kwargs: dict[str, Any] = {"online": online, "policy_kwargs": {"net_arch": (16,)}}
    whole = learner(gems(4), demos, **kwargs).learn(160)
    state = learner(gems(4), demos, **kwargs).learn(80).training_state()
    again = learner(gems(4), demos, **kwargs)
    again.load_training_state(state)
    again.learn(80, reset_num_timesteps=False)
    for a, b in zip(whole.policy.critic.parameters(), again.policy.critic.parameters()):
        assert torch.equal(a, b)
    whole.save(tmp_path / "model")
    loaded = MAMQL.load(tmp_path / "model")
    obs = demos.first_states()[:5]
    assert np.array_equal(loaded.predict(obs.numpy(), deterministic=True)[0], whole.act_team(obs, True).numpy())


def test_it_is_trained_by_command(demos: Demonstrations, tmp_path: Path) -> None:
    demos.save(tmp_path / "demos")
    args = {"demonstrations": str(tmp_path / "demos"), "policy_kwargs": {"net_arch": [16]}}
    config = TrainConfig(
        env="cairn/Gems-v0", agent="mamql", steps=320, num_envs=8, run=str(tmp_path / "run"), agent_args=args, threads=1
    )
    assert train(config).steps == 320
    result = evaluate(tmp_path / "run", 10)
    assert result.agents is not None and set(result.agents) == {"agent_0", "agent_1"}
    assert resume(tmp_path / "run", steps=640).steps == 640
    offline = dataclasses.replace(config, run=str(tmp_path / "offline"), agent_args=args | {"online": False})
    assert train(offline).steps == 320
    (tmp_path / "demos").rename(tmp_path / "gone")
    assert evaluate(tmp_path / "offline", 4).episodes == 4, "a run can be looked at without its demonstrations"


def test_a_team_is_collected_as_one_row(tmp_path: Path) -> None:
    command.write("random", tmp_path / "demos", "cairn/Gems-v0", 3, seed=1, num_envs=3)
    demos = Demonstrations.load(tmp_path / "demos")
    assert demos.action.shape[1:] == (2,) and demos.states.shape[1:] == (2, 22) and demos.episodes == 3
    learner(gems(2), tmp_path / "demos", online=False).learn(16)


def test_bad_demonstrations_are_refused(demos: Demonstrations) -> None:
    with pytest.raises(ValueError, match="of another environment"):
        learner(gym.make_vec("cairn/Overcooked-CrampedRoom-v0", num_envs=2, device="cpu"), demos)
    with pytest.raises(ValueError, match="of another environment"):
        learner(gems(2, view="planes"), demos)
    with pytest.raises(ValueError, match="there are no demonstrations to learn from"):
        learner(gems(2), None).learn(16)
    with pytest.raises(ValueError, match="marginal, joint, clone"):
        learner(gems(2), demos, method="gail")
    with pytest.raises(ValueError, match="above 0"):
        learner(gems(2), demos, temperature=0)
    with pytest.raises(ValueError, match="offline take 'expert' or 'start'"):
        learner(gems(2), demos, online=False, values="own")
    with pytest.raises(ValueError, match="observe vectors and choose; these"):
        learner("cairn/Spread-v0", demos)
    with pytest.raises(TypeError, match="agent axis"):
        learner("CartPole-v1", demos)
