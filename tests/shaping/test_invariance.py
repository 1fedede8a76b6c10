"""Potential shaping leaves the best policy alone: proved on random tabular MDPs by their exact solutions.

Ng, Harada and Russell (1999), theorem 1: with F = gamma phi(s') - phi(s), and phi 0 where the task has ended,
V' = V - phi and Q' = Q - phi for every policy. The potential's values here are eighths and the discounts have few
binary digits, so that what the term pays in float32 is exact, and the solutions agree to rounding in float64.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from torch import Tensor

from cairn.envs import from_vector
from cairn.envs.batch import BatchEnv
from cairn.envs.tabular import (
    MDP,
    Scene,
    TabularBatch,
    TabularEnv,
    policy_evaluation,
    random_mdp,
    regret,
    value_iteration,
)
from cairn.envs.tabular.solve import backup, best_actions, q_of_policy, uniform
from cairn.shaping import (
    Potential,
    RolloutSeat,
    ShapedReplayBuffer,
    ShapedReward,
    Stretch,
    Task,
    World,
    as_reward,
)

MANY = 40
EXACT = 1e-9  # of solutions in float64


class Unmasked(Potential):
    """Keeps phi(s') where the task has ended."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return self.gamma * self.value(x, of_next=True) - self.value(x)


class MaskedWhereCut(Potential):
    """Takes a truncated episode for one that has ended."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return self.gamma * torch.where(x.done, 0.0, self.value(x, of_next=True)) - self.value(x)


def potentials(mdp: MDP, seed: int = 0) -> Tensor:
    """Phi of every state, terminal ones included: float32 [*B, S], eighths from -8 to 8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-64, 65, (*mdp.batch, mdp.states), generator=generator) / 8


def alive(mdp: MDP, phi: Tensor) -> Tensor:
    """Phi with 0 in terminal states, float64."""
    return torch.where(mdp.terminal, 0.0, phi.double())


def bound(make: Callable[..., Potential], phi: Tensor, discount: float, **kwargs: Any) -> Any:
    reward = as_reward(make(lambda obs: phi.flatten()[obs], **kwargs))
    reward.bind(World(gym.spaces.Discrete(phi.numel()), gym.spaces.Discrete(2), gamma=discount))
    return reward


def paid(mdp: MDP, phi: Tensor, make: Any = Potential, cut: bool = False, **kwargs: Any) -> Tensor:
    """What the term pays for every transition of dense MDPs, [B, S, A, S]; ``cut``: it was the episode's last."""
    shape = mdp.prob.shape
    states = torch.arange(phi.numel()).reshape(phi.shape)
    obs, after = states[..., :, None, None].expand(shape), states[..., None, None, :].expand(shape)
    ends = mdp.terminal[..., None, None, :].expand(shape)
    x = Stretch.make(
        obs=obs, next_obs=after, reward=torch.zeros(shape), terminated=ends,
        truncated=~ends if cut else torch.zeros_like(ends),
    )  # fmt: skip
    reward = bound(make, phi, mdp.discount, **kwargs)
    return reward.evaluate(x.flat())[reward.order[0]].reshape(shape).double()


def shaped(mdp: MDP, phi: Tensor, make: Any = Potential, **kwargs: Any) -> MDP:
    return mdp.with_reward(mdp.reward + paid(mdp, phi, make, **kwargs))


def worlds(discount: float, terminals: int = 2, seed: int = 0) -> MDP:
    return random_mdp(9, 3, number=MANY, seed=seed, terminals=terminals, sparsity=0.5, discount=discount)


def policies(mdp: MDP, seed: int = 0) -> Tensor:
    """A random stochastic policy for each MDP."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(*mdp.batch, mdp.states, mdp.actions, generator=generator, dtype=torch.float64)
    return weights / weights.sum(-1, keepdim=True)


CASES = pytest.mark.parametrize(
    ("discount", "terminals"), [(0.875, 2), (0.96875, 1), (0.5, 0), (0.0, 2), (1.0, 2)], ids=str
)


@CASES
def test_optimal_values_and_greedy_policies(discount: float, terminals: int) -> None:
    mdp = worlds(discount, terminals)
    phi = potentials(mdp)
    plain, with_shaping = value_iteration(mdp), value_iteration(shaped(mdp, phi))
    level = alive(mdp, phi)
    assert float((with_shaping.values - (plain.values - level)).abs().max()) < EXACT
    running = ~mdp.terminal
    gap = with_shaping.q - (plain.q - level[..., None])
    assert float(gap[running].abs().max()) < EXACT
    assert torch.equal(best_actions(with_shaping.q, 1e-8)[running], best_actions(plain.q, 1e-8)[running])
    # Which of several best actions comes first is rounding's business; that it is one of the best is not.
    assert float(regret(mdp, with_shaping.policy).max()) < EXACT
    assert float(regret(shaped(mdp, phi), plain.policy).max()) < EXACT


@CASES
def test_values_of_any_policy_and_its_regret(discount: float, terminals: int) -> None:
    mdp = worlds(discount, terminals)
    phi = potentials(mdp)
    other, level = shaped(mdp, phi), alive(mdp, phi)
    for policy in (uniform(mdp), policies(mdp, 1), policies(mdp, 2)):
        assert torch.allclose(policy_evaluation(other, policy), policy_evaluation(mdp, policy) - level, atol=EXACT)
        q, plain = q_of_policy(other, policy), q_of_policy(mdp, policy) - level[..., None]
        assert torch.allclose(q[~mdp.terminal], plain[~mdp.terminal], atol=EXACT)
        assert torch.allclose(regret(other, policy), regret(mdp, policy), atol=EXACT)


@pytest.mark.parametrize(
    ("make", "kwargs"), [(Unmasked, {}), (Potential, {"gamma": 0.5}), (Potential, {"gamma": 1.0})], ids=str
)
@pytest.mark.filterwarnings("ignore:Potential.gamma")
def test_a_wrong_potential_changes_the_best_policy(make: Any, kwargs: Any) -> None:
    """Without the mask at termination, or with another discount than the agent's, the proof above fails."""
    mdp = worlds(0.875)
    phi = potentials(mdp)
    plain, other = value_iteration(mdp), value_iteration(shaped(mdp, phi, make, **kwargs))
    assert float((other.values - (plain.values - alive(mdp, phi))).abs().max()) > 1.0
    changed = (other.policy != plain.policy).any(-1) & ~mdp.terminal
    assert int(changed.any(-1).sum()) > MANY // 2
    assert float(regret(mdp, other.policy).max()) > 0.1


def cut_after(mdp: MDP, last: Tensor, critic: Tensor, steps: int, policy: Tensor | None) -> tuple[Tensor, Tensor]:
    """Values and action values, ``steps`` before an episode is truncated and a critic says what would have come.

    ``last`` are the rewards of the truncated step; those before it are the MDP's.
    """
    values = torch.where(mdp.terminal, 0.0, critic)
    q = values[..., None]
    for step in range(steps):
        q = backup(mdp.with_reward(last) if step == 0 else mdp, values)
        values = q.amax(-1) if policy is None else (policy * q).sum(-1)
    return values, q


@pytest.mark.parametrize("discount", [0.875, 1.0])
@pytest.mark.parametrize("best", [True, False])
def test_truncation_keeps_the_potential(discount: float, best: bool) -> None:
    """Cut after any number of steps, with any critic: values differ by phi, and actions rank as they did."""
    mdp = worlds(discount, seed=3)
    phi = potentials(mdp)
    level = alive(mdp, phi)
    critic = torch.randn(level.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    policy = None if best else policies(mdp)
    other = shaped(mdp, phi)
    running = ~mdp.terminal
    for steps in (1, 2, 7):
        values, q = cut_after(mdp, mdp.reward, critic, steps, policy)
        last = mdp.reward + paid(mdp, phi, cut=True)
        new_values, new_q = cut_after(other, last, critic - level, steps, policy)
        assert torch.allclose(new_values, values - level, atol=EXACT)
        assert torch.allclose(new_q[running], (q - level[..., None])[running], atol=EXACT)
        assert torch.equal(best_actions(new_q, 1e-8)[running], best_actions(q, 1e-8)[running])
    # A truncated end taken for a real one is another task.
    wrong = mdp.reward + paid(mdp, phi, MaskedWhereCut, cut=True)
    _, wrong_q = cut_after(other, wrong, critic - level, 1, policy)
    _, q = cut_after(mdp, mdp.reward, critic, 1, policy)
    assert not torch.equal(best_actions(wrong_q)[running], best_actions(q)[running])


# In the seats: what they pay is the reward of the MDP solved above, at ends, cuts and resets too.

GAMMA, LANES, STEPS = 0.875, 6, 90
SCENE = Scene(random_mdp(9, 3, seed=5, terminals=2, successors=4, discount=GAMMA), max_steps=5)
PHI = potentials(SCENE.mdp, 7)


def vector(mode: AutoresetMode) -> Any:
    return SyncVectorEnv([lambda: TabularEnv(SCENE)] * LANES, autoreset_mode=mode)


BATCHES: dict[str, Callable[[], BatchEnv]] = {
    "native": lambda: TabularBatch(SCENE, LANES),
    "same step": lambda: from_vector(vector(AutoresetMode.SAME_STEP)),
    "next step": lambda: from_vector(vector(AutoresetMode.NEXT_STEP)),
    "next step, its resets kept": lambda: from_vector(VectorWrapper(vector(AutoresetMode.NEXT_STEP))),
    "disabled": lambda: from_vector(vector(AutoresetMode.DISABLED)),
}


def live(env: BatchEnv) -> Stretch:
    """Random actions; the stretch ``[T, N]`` of what happened, with the rewards that the environment gave."""
    generator = torch.Generator().manual_seed(0)
    obs, _ = env.reset(seed=3)
    rows: list[dict[str, Any]] = []
    start = torch.ones(LANES, dtype=torch.bool)
    for _ in range(STEPS):
        action = torch.randint(0, SCENE.mdp.actions, (LANES,), generator=generator)
        before = obs.clone()
        obs, reward, terminated, truncated, info = env.step(action)
        done = info["_final_obs"]
        valid = info.get("valid", torch.ones_like(done))
        after = torch.where(done, info["final_obs"], obs)
        rows.append(
            {
                "obs": before, "action": action, "reward": reward, "next_obs": after, "terminated": terminated,
                "truncated": truncated, "start": start, "valid": valid,
            }
        )  # fmt: skip
        rows[-1] = {name: v.clone() for name, v in rows[-1].items()}
        start = torch.where(valid, done, start)
    return Stretch.make(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def tables() -> tuple[MDP, MDP, Tensor]:
    mdp = SCENE.mdp.dense()
    one = MDP(mdp.prob[None], mdp.reward[None], start=mdp.start, terminal=mdp.terminal, discount=GAMMA)
    return mdp, shaped(one, PHI[None])[0], alive(mdp, PHI)


def from_the_tables(mdp: MDP, x: Stretch) -> Tensor:
    return torch.where(x.valid, mdp.reward[x.obs, x.action, x.next_obs], 0.0).float()


def returns(x: Stretch, values: Tensor) -> Tensor:
    """Discounted return of each row to its episode's end, with ``values [S]`` of the state where it was truncated."""
    follow, out = torch.zeros(LANES, dtype=torch.float64), torch.zeros(x.rows, dtype=torch.float64)
    for t in reversed(range(len(out))):
        ahead = torch.where(x.terminated[t], 0.0, torch.where(x.truncated[t], values[x.next_obs[t]], follow))
        follow = torch.where(x.valid[t], x.reward[t].double() + GAMMA * ahead, follow)
        out[t] = follow
    return out


@pytest.mark.parametrize("name", BATCHES)
def test_the_seat_in_a_batch_pays_the_solved_mdp_through_autoreset(name: str) -> None:
    plain = live(BATCHES[name]())
    x = live(ShapedReward(BATCHES[name](), Task() + Potential(PHI.__getitem__), gamma=GAMMA))
    assert torch.equal(x.obs, plain.obs) and int(x.terminated.sum()) > 10 and int(x.truncated.sum()) > 10
    assert (~x.valid).any() == (name == "next step, its resets kept") and not x.reward[~x.valid].any()
    mdp, other, level = tables()
    assert torch.allclose(plain.reward, from_the_tables(mdp, x), atol=1e-6)
    assert torch.allclose(x.reward, from_the_tables(other, x), atol=1e-5)
    # And so along every path that was lived: the return from each row differs by phi of that row alone.
    values = policy_evaluation(mdp, uniform(mdp))
    complete = (x.done & x.valid).flip(0).cumsum(0).flip(0) > 0
    gap = returns(x, values - level) - (returns(plain, values) - level[x.obs])
    assert float(gap[complete & x.valid].abs().max()) < 1e-4
    wrong = live(ShapedReward(BATCHES[name](), Task() + MaskedWhereCut(PHI.__getitem__), gamma=GAMMA))
    gap = returns(wrong, values - level) - (returns(plain, values) - level[x.obs])
    assert float(gap[complete & x.valid].abs().max()) > 0.1


@pytest.mark.parametrize("length", [1, 7, STEPS])
def test_the_seat_in_a_rollout_pays_the_solved_mdp(length: int) -> None:
    x = live(TabularBatch(SCENE, LANES))
    world = World(gym.spaces.Discrete(9), gym.spaces.Discrete(3), lanes=LANES, max_steps=5, gamma=GAMMA)
    seat = RolloutSeat(as_reward(Task() + Potential(PHI.__getitem__)), world)
    paid_ = torch.cat([seat(x[a : a + length], 0)[0][..., 0] for a in range(0, STEPS, length)])
    _, other, _ = tables()
    assert torch.allclose(paid_, from_the_tables(other, x), atol=1e-5)


def test_the_seat_in_a_single_environment_pays_the_solved_mdp() -> None:
    x = live(TabularBatch(SCENE, LANES))
    _, other, _ = tables()
    expected = from_the_tables(other, x)
    env = ShapedReward(TabularEnv(SCENE), Task() + Potential(PHI.__getitem__), gamma=GAMMA)
    state, _ = env.reset(seed=3)  # lane 0 of the batch
    for t in range(STEPS):
        assert int(state) == int(x.obs[t, 0])
        state, reward, terminated, truncated, _ = env.step(int(x.action[t, 0]))
        assert reward == pytest.approx(float(expected[t, 0]), abs=1e-5)
        if terminated or truncated:
            state, _ = env.reset()


def test_the_seat_in_a_replay_buffer_pays_the_solved_mdp() -> None:
    x = live(TabularBatch(SCENE, LANES))
    buffer = ShapedReplayBuffer(
        LANES * STEPS, gym.spaces.Discrete(9), gym.spaces.Discrete(3), "cpu", LANES,
        reward=Task() + Potential(PHI.__getitem__), gamma=GAMMA,
    )  # fmt: skip
    for t in range(STEPS):
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in x.truncated[t]]
        row = x[t]
        assert isinstance(row.obs, Tensor) and isinstance(row.next_obs, Tensor) and isinstance(row.action, Tensor)
        buffer.add(
            row.obs.numpy(), row.next_obs.numpy(), row.action.numpy(), row.reward.numpy(), row.done.numpy(), infos
        )
    batch = buffer.sample(2000)
    state, action, after = (v.flatten().long() for v in (batch.observations, batch.actions, batch.next_observations))
    _, other, _ = tables()
    assert torch.allclose(batch.rewards[:, 0], other.reward[state, action, after].float(), atol=1e-5)
    # What is bootstrapped: all but the ends of the task, so that V' = V - phi there too.
    assert torch.equal(batch.dones[:, 0] > 0, other.terminal[after]) and bool(other.terminal[after].any())
