"""Potentials of time and action: each telescopes, and leaves the best policy alone by exact solution."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn

from cairn.agents.dpba import DPBA
from cairn.agents.tabular import SARSA, QLearning
from cairn.envs import from_vector
from cairn.envs.tabular import MDP, Scene, TabularBatch, TabularEnv, build, random_mdp, value_iteration
from cairn.envs.tabular.solve import backup, best_actions, q_of_policy
from cairn.envs.tabular.solve import uniform as uniform_policy
from cairn.shaping import (
    TERMS,
    DynamicPotential,
    LookAhead,
    LookBack,
    RolloutSeat,
    ShapedReward,
    Stretch,
    Task,
    TimedPotential,
    ValuePotential,
    World,
)
from cairn.shaping.advice import Remembered
from cairn.shaping.checks import check_shaping
from cairn.shaping.grammar import term_class
from cairn.shaping.laws import LawBroken, check_potential, check_term
from cairn.shaping.potential import Potential, Telescopes

GAMMA, EXACT = 0.875, 1e-9
FAMILIES = [made for made in map(term_class, TERMS) if made.telescopes]  # a new one is found by itself


def test_every_potential_of_the_table_is_tried() -> None:
    assert {Potential, TimedPotential, DynamicPotential, LookAhead, LookBack, ValuePotential} <= set(FAMILIES)
    assert all(issubclass(made, Telescopes) for made in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:Potential.gamma")
def test_each_telescopes(family: type[Telescopes]) -> None:
    for i in range(len(family.examples())):
        for seed in range(3):
            check_potential(lambda i=i: family.examples()[i], seed=seed, gamma=0.95)  # type: ignore[arg-type, return-value]


class AsksAgain(Remembered):
    """Pays the change of the potential: wrong."""

    def begin(self, x: Stretch) -> Tensor:
        return torch.zeros(x.shape)

    def arrive(self, x: Stretch) -> Tensor:
        return x.fact("distance", of_next=True)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return float(self.gamma or 0) * torch.where(x.terminated, 0.0, self.arrive(x)) - x.fact("distance")


class NotSettled(LookBack):
    """Keeps phi(s, a) where the task has ended: the paper's equation without its absorbing state."""

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        y = x[:]
        y.terminated = torch.zeros_like(x.terminated)
        return super().scan(y)


@pytest.mark.parametrize("mutant", [lambda: AsksAgain(), lambda: NotSettled(LookBack.examples()[0].phi)])  # type: ignore[attr-defined]
def test_telescoping_catches_what_the_laws_cannot(mutant: Callable[[], Telescopes]) -> None:
    check_term(mutant)
    with pytest.raises(LawBroken, match="does not telescope"):
        check_potential(mutant)


def worlds(terminals: int = 1, states: int = 6, actions: int = 3, seed: int = 0) -> MDP:
    return random_mdp(states, actions, number=12, seed=seed, terminals=terminals, sparsity=0.5, discount=GAMMA)


def eighths(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-64, 65, shape, generator=torch.Generator().manual_seed(seed)) / 8


def rows(mdp: MDP, **columns: Tensor) -> Stretch:
    """All transitions of dense MDPs, in the shape of their tables [B, S, A, S]; observations name MDP and state."""
    shape = mdp.prob.shape
    states = torch.arange(mdp.batch[0] * mdp.states).reshape(mdp.batch[0], mdp.states)
    return Stretch.make(
        obs=states[..., :, None, None].expand(shape), next_obs=states[..., None, None, :].expand(shape),
        action=torch.arange(mdp.actions)[:, None].expand(shape), reward=torch.zeros(shape),
        terminated=mdp.terminal[..., None, None, :].expand(shape), **columns,
    )  # fmt: skip


def seat_world(mdp: MDP, lanes: int = 1, **kwargs: Any) -> World:
    return World(gym.spaces.Discrete(999), gym.spaces.Discrete(mdp.actions), lanes=lanes, gamma=mdp.discount, **kwargs)


@pytest.mark.parametrize("dynamic", [False, True], ids=["of the step", "of the training"])
@pytest.mark.parametrize("terminals", [1, 0])
def test_a_potential_that_changes_with_time(dynamic: bool, terminals: int) -> None:
    """Values t steps into an episode shift by phi_t, and the best actions stay; cut after H with any critic."""
    mdp, horizon = worlds(terminals), 5
    level = eighths(horizon + 1, *mdp.batch, mdp.states)
    alive = torch.where(mdp.terminal, 0.0, level.double())
    critic = torch.randn(*mdp.batch, mdp.states, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, shifted = (torch.where(mdp.terminal, 0.0, v) for v in (critic, critic - alive[horizon]))
    now = {"t": 0}
    term: Telescopes
    if dynamic:
        term = DynamicPotential(lambda obs: level[now["t"]].flatten()[obs])
    else:
        term = TimedPotential(lambda obs, t: level.reshape(horizon + 1, -1)[t, obs])
    flat = rows(mdp).flat()
    term.bind(seat_world(mdp, len(flat.obs)))
    for t in reversed(range(horizon)):
        x = flat[:]
        x.t = torch.full_like(x.t, t)
        if isinstance(term, Remembered):
            now["t"] = t
            term.kept = term.begin(x)  # what it arrived with, one step before
            now["t"] = t + 1
            paid = term.scan(x.map(lambda v: v[None]))[0]
        else:
            assert isinstance(term, Potential)
            paid = term.score(x)
        plain = backup(mdp, values)
        shaped = backup(mdp.with_reward(mdp.reward + paid.reshape(mdp.prob.shape).double()), shifted)
        running = ~mdp.terminal
        assert torch.allclose(shaped[running], (plain - alive[t][..., None])[running], atol=EXACT)
        assert torch.equal(best_actions(shaped, 1e-8)[running], best_actions(plain, 1e-8)[running])
        values = torch.where(mdp.terminal, 0.0, plain.amax(-1))
        shifted = torch.where(mdp.terminal, 0.0, shaped.amax(-1))


@pytest.mark.parametrize("settled", [True, False])
def test_look_back_on_the_mdp_with_a_memory(settled: bool) -> None:
    """The exact solution over (what was done last, state): values shift by phi of the former, best actions stay."""
    for seed in range(6):
        mdp = random_mdp(4, 2, seed=seed, terminals=1, sparsity=0.5, discount=GAMMA)
        phi = eighths(mdp.states, mdp.actions, seed=seed)
        s_, a_, pasts = mdp.states, mdp.actions, mdp.states * mdp.actions + 1  # the last past is none at all
        psi = torch.cat([phi.flatten() / GAMMA, torch.zeros(1)])
        prob = torch.zeros(pasts, s_, a_, pasts, s_, dtype=torch.float64)
        pays = torch.zeros_like(prob)
        state, action, after = (v.flatten() for v in torch.meshgrid(*map(torch.arange, (s_, a_, s_)), indexing="ij"))
        done = state * a_ + action
        for past in range(pasts):
            prob[past, state, action, done, after] = mdp.prob[state, action, after]
            term = (LookBack if settled else NotSettled)(lambda obs, action: phi[obs, action])  # noqa: B023
            x = Stretch.make(
                obs=state[None], action=action[None], next_obs=after[None], reward=torch.zeros(1, len(state)),
                terminated=mdp.terminal[after][None], start=torch.full((1, len(state)), past == pasts - 1),
            )  # fmt: skip
            term.bind(seat_world(mdp, len(state)))
            term.kept = psi[past].expand(len(state))
            paid = term.scan(x)[0].double()
            pays[past, state, action, done, after] = mdp.reward[state, action, after] + paid
        terminal = mdp.terminal.repeat(pasts)
        size = (pasts * s_, a_, pasts * s_)
        big = MDP(prob.reshape(size), pays.reshape(size), terminal=terminal, discount=GAMMA)
        q = value_iteration(big).q.reshape(pasts, s_, a_)
        plain = value_iteration(mdp).q
        running = ~mdp.terminal
        shifted = (plain - psi[:, None, None].double())[:, running]
        if settled:
            assert torch.allclose(q[:, running], shifted, atol=1e-5)  # psi is divided by gamma in float32
            assert torch.equal(best_actions(q, 1e-4)[:, running], best_actions(plain, 1e-4)[running].expand_as(shifted))
        else:
            assert not torch.allclose(q[:, running], shifted, atol=0.1)


def test_look_ahead_is_solved_by_acting_on_the_sum() -> None:
    """Q' = Q* - phi exactly; the greedy policy of Q' + phi is the best one, and that of Q' alone is not."""
    mdp = worlds()
    phi = eighths(*mdp.batch, mdp.states, mdp.actions)
    term = LookAhead(lambda obs, action: phi.reshape(-1, mdp.actions)[obs, action])
    term.bind(seat_world(mdp, gives=frozenset({"next_action"})))
    q = torch.zeros(phi.shape, dtype=torch.float64)
    running = ~mdp.terminal
    for _ in range(400):
        choice = (q + phi).argmax(-1)
        next_action = choice[..., None, None, :].expand(mdp.prob.shape)
        x = rows(mdp, extra={"next_action": next_action}).flat()  # type: ignore[arg-type]
        paid = term.score(x).reshape(mdp.prob.shape).double()
        values = torch.where(mdp.terminal, 0.0, q.gather(-1, choice[..., None])[..., 0])
        q = backup(mdp.with_reward(mdp.reward + paid), values)
    best = value_iteration(mdp)
    assert torch.allclose(q[running], (best.q - phi)[running], atol=1e-6)
    assert torch.equal((q + phi).argmax(-1)[running], best.q.argmax(-1)[running])
    assert not torch.equal(q.argmax(-1)[running], best.q.argmax(-1)[running])


PHI = eighths(6, 2, seed=4)


def advised(obs: Tensor, action: Tensor) -> Tensor:
    return PHI[obs, action]


def chain(lanes: int = 3) -> TabularBatch:
    return TabularBatch(build("chain", right=3, left=1, slip=0.2, max_steps=12), lanes)


@pytest.mark.parametrize("kind", [QLearning, SARSA])
def test_look_ahead_is_a_beginning_at_phi(kind: type[QLearning]) -> None:
    """Wiewiora (2003): Q + phi of the advised learner is, all along, Q of one that began at phi."""
    settings = {"learning_rate": 0.25, "epsilon": 0.3, "gamma": GAMMA, "seed": 2}
    with_advice = kind(chain(), advice=LookAhead(advised), **settings).learn(300)
    other = kind(chain(), **settings)
    other.q += PHI.double()
    other.learn(300)
    assert torch.allclose(with_advice.q + PHI, other.q, atol=1e-4)
    assert torch.equal(with_advice.episodes["reward"], other.episodes["reward"])
    assert torch.equal(with_advice.policy(True), other.policy(True))


def test_look_ahead_is_refused_where_nobody_acts_by_the_sum() -> None:
    for seat in (lambda: ShapedReward(chain(), Task() + LookAhead(advised), gamma=GAMMA), lambda: RolloutSeat(
        LookAhead(advised), World(gym.spaces.Discrete(6), gym.spaces.Discrete(2), gamma=GAMMA)
    )):  # fmt: skip
        with pytest.raises(ValueError, match="needs next_action"):
            seat()
    with pytest.raises(TypeError, match="function phi"):
        LookAhead("distance")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pairs of state and action"):
        QLearning(chain(), advice=LookAhead(lambda obs, action: obs[:1]))
    with pytest.raises(ValueError, match="discount, which is 0"):
        RolloutSeat(LookBack(advised), World(gym.spaces.Discrete(6), gym.spaces.Discrete(2), gamma=0.0))


def misleading(x: Stretch) -> Tensor:
    """Go left."""
    assert isinstance(x.action, Tensor)
    return 0.5 * (x.action == 0).float()


def test_dpba_expresses_any_reward() -> None:
    """Where phi is minus the advice's value under the policy, F is the advice in the mean; that is where it settles."""
    mdp = build("chain", right=3, left=1, slip=0.2).mdp.dense()
    advice = torch.tensor([0.5, 0.0]).double().expand(mdp.states, 2)
    guide = mdp.with_reward(advice[..., None].expand(mdp.prob.shape), GAMMA)
    phi = -q_of_policy(guide, uniform_policy(mdp))
    following = torch.where(mdp.terminal, 0.0, phi.mean(-1))
    mean = GAMMA * (mdp.prob * following).sum(-1) - phi
    assert torch.allclose(mean[~mdp.terminal], advice[~mdp.terminal], atol=EXACT)
    agent = DPBA(chain(60), misleading, guide_rate=0.2, epsilon=1.0, gamma=GAMMA).learn(2500)
    assert (agent.potential[:, :5].mean(0) - phi[:5]).abs().max() < 0.1


def test_dpba_comes_back_to_the_task_when_the_advice_has_faded() -> None:
    """The sum Q + phi is that of a learner which phi only starts; by Q alone the advice would stay for good."""
    settings = {"learning_rate": 0.1, "epsilon": 0.3, "gamma": GAMMA}
    best = value_iteration(chain().scene.mdp.with_discount(GAMMA))

    def strongly(x: Stretch) -> Tensor:
        return 8 * misleading(x)

    faded = DPBA(chain(10), strongly, guide_rate=0.1, fade=1000, **settings).learn(2500)  # type: ignore[arg-type]
    kept = DPBA(chain(10), strongly, guide_rate=0.1, **settings).learn(2500)  # type: ignore[arg-type]
    right = torch.equal(best.policy[1:5, 1], torch.ones(4, dtype=torch.float64))
    assert right and float(faded.policy(True)[:, 1:5, 1].mean()) > 0.9
    assert float(kept.policy(True)[:, 1:5, 1].mean()) < 0.5
    for bad in ({"guide_rate": 0.0}, {"fade": 0}, {"advice": LookAhead(advised)}):
        with pytest.raises(ValueError):
            DPBA(chain(), misleading, **bad)


def test_dpba_goes_on_from_a_training_state() -> None:
    whole = DPBA(chain(), misleading, fade=60).learn(90)
    half = DPBA(chain(), misleading, fade=60).learn(47)
    rest = DPBA(chain(), misleading, fade=60, seed=9)
    rest.load_training_state(half.training_state())
    rest.learn(43)
    assert all(torch.equal(v, rest.tables()[k]) for k, v in whole.tables().items())


# Along lived paths, through ends, cuts and resets, while the potential changes.

SCENE = Scene(random_mdp(6, 2, seed=5, terminals=1, successors=4, discount=GAMMA), max_steps=5)
LANES, STEPS = 4, 120
BATCHES = {
    "native": lambda: TabularBatch(SCENE, LANES),
    "same step": lambda: from_vector(SyncVectorEnv([lambda: TabularEnv(SCENE)] * LANES,
                                                   autoreset_mode=AutoresetMode.SAME_STEP)),
    "next step": lambda: from_vector(SyncVectorEnv([lambda: TabularEnv(SCENE)] * LANES,
                                                   autoreset_mode=AutoresetMode.NEXT_STEP)),
}  # fmt: skip
CHANGING = {"k": 0}
SEATED: dict[str, Callable[[], Telescopes]] = {
    "timed": lambda: TimedPotential(lambda obs, t: PHI[obs, 0] * (t + 1)),
    "dynamic": lambda: DynamicPotential(lambda obs: PHI[obs, 0] + CHANGING["k"]),
    "look back": lambda: LookBack(advised),
    "learned": lambda: ValuePotential(learning_rate=0.05, hidden=16),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", SEATED)
def test_sums_along_lived_episodes_while_the_potential_changes(name: str, batch: str) -> None:
    term = SEATED[name]()
    env = ShapedReward(BATCHES[batch](), term, gamma=GAMMA, update_every=7)
    generator = torch.Generator().manual_seed(0)
    CHANGING["k"] = 0
    obs, _ = env.reset(seed=3)
    obs = obs.clone()
    begin, total = torch.zeros(LANES), torch.zeros(LANES, dtype=torch.float64)
    age, fresh = torch.zeros(LANES, dtype=torch.int64), torch.ones(LANES, dtype=torch.bool)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(STEPS):
        action = torch.randint(0, 2, (LANES,), generator=generator)
        CHANGING["k"] += 1
        before = obs
        state = term.state() if isinstance(term, ValuePotential) else None
        obs, reward, terminated, truncated, info = env.step(action)
        obs = obs.clone()
        done = info["_final_obs"]
        after = torch.where(done, info["final_obs"], obs)
        x = Stretch.make(
            obs=before, next_obs=after, action=action, reward=reward, terminated=terminated, truncated=truncated,
            start=fresh, t=age,
        )  # fmt: skip
        if state is not None:  # it may have learned since it paid
            now = term.state()
            term.load(state)
        with torch.no_grad():
            first, last = term.begin(x), term.arrive(x)
        if state is not None:
            term.load(now)
        begin = torch.where(fresh, first, begin)
        total = torch.where(fresh, 0.0, total) + GAMMA**age * reward
        age = age + 1
        expected = torch.where(terminated, 0.0, GAMMA**age * last) - begin
        assert torch.allclose(total[done].float(), expected[done], atol=1e-3)
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int(truncated.sum())
        fresh, age = done, torch.where(done, 0, age)
    assert min(ends.values()) > 10


def test_a_learned_potential_learns_the_values() -> None:
    scene = build("chain", right=3, left=1, slip=0.2, max_steps=12)
    term = ValuePotential(learning_rate=3e-3, epochs=20, hidden=32)
    env = ShapedReward(TabularBatch(scene, 16), Task() + term, gamma=0.5, update_every=32)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(32 * 30):
        env.step(torch.randint(0, 2, (16,), generator=generator))
    mdp = scene.mdp.with_discount(0.5)
    exact = (uniform_policy(mdp) * q_of_policy(mdp, uniform_policy(mdp))).sum(-1)
    states = torch.arange(5)
    x = Stretch.make(obs=states, next_obs=states, reward=torch.zeros(5), terminated=torch.zeros(5, dtype=torch.bool))
    learned = term.begin(x).detach().double()
    assert (learned - exact[:5]).abs().max() < 0.25 and bool((learned.diff() > 0).all())


def test_modules_are_state() -> None:
    for make in (DynamicPotential, lambda net: LookBack(lambda obs, action: net(obs))):
        net = nn.Linear(3, 1)
        assert (make(net).saved == ("phi",)) == (make is DynamicPotential)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TimedPotential(lambda obs, t: t, 0.9).given_gamma == 0.9


def test_what_stands_outside_of_a_potential_is_warned_of() -> None:
    import stable_baselines3 as sb3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    def make(gamma: float = 0.99) -> gym.Env[Any, Any]:
        return ShapedReward(gym.make("CartPole-v1"), Task() + Potential(lambda obs: obs[:, 0], gamma=gamma))

    assert check_shaping(make(), 0.99) == []
    assert check_shaping(gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), 0.99) == []
    with pytest.warns(UserWarning, match="NormalizeReward stands outside of potential"):
        check_shaping(gym.wrappers.NormalizeReward(make()))
    with pytest.warns(UserWarning, match="gamma=0.9 for an agent with gamma=0.99"):
        assert len(check_shaping(make(0.9), 0.99)) == 1
    venv = VecNormalize(DummyVecEnv([make]))
    with pytest.warns(UserWarning, match="VecNormalize stands"):
        check_shaping(sb3.PPO("MlpPolicy", venv, n_steps=8, batch_size=8, gamma=0.99))
    assert check_shaping(VecNormalize(DummyVecEnv([make]), norm_reward=False), 0.99) == []
    with pytest.warns(UserWarning, match="gamma=0.8 for an agent with gamma=0.99"):
        QLearning(ShapedReward(chain(), Potential(lambda obs: obs), gamma=0.8), gamma=0.99)


@pytest.mark.parametrize("agent", ["PPO", "DQN", "BARFI", "Explors"])
def test_every_agent_asks_for_its_own_discount(agent: str) -> None:
    from cairn.agents import DQN, PPO
    from cairn.agents.barfi import BARFI
    from cairn.agents.explors import Explors

    makers: dict[str, Callable[[Any], Any]] = {
        "PPO": lambda env: PPO("MlpPolicy", env, gamma=0.99),
        "DQN": lambda env: DQN("MlpPolicy", env, gamma=0.99),
        "BARFI": lambda env: BARFI(env, lambda x: x.reward, gamma=0.99),
        "Explors": lambda env: Explors(env, gamma=0.99),
    }
    env = TabularBatch(build("chain", right=2, left=2, max_steps=9), 2)
    with pytest.warns(UserWarning, match="gamma=0.8 for an agent with gamma=0.99"):
        makers[agent](ShapedReward(env, Potential(lambda obs: obs), gamma=0.8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        makers[agent](ShapedReward(env, Potential(lambda obs: obs), gamma=0.99))
