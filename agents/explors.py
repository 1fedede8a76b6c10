"""EXPLORS: a learner that makes its own reward while it learns, and the methods it was compared with.

Devidze, Kamalaruban and Singla, "Exploration-Guided Reward Shaping for Reinforcement Learning under Sparse Rewards",
NeurIPS 2022: REINFORCE on the task's reward, plus a learned ``R_phi(s, a)``, plus a bonus for rare states.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from gymnasium import spaces
from torch import Tensor

from ..envs.batch import BatchEnv
from ..envs.tabular.mdp import MDP
from ..shaping.checks import check_shaping
from ..shaping.reward import RewardError

TEACHERS = ("explors", "selfrs", "explob", "sors", "lirpg", "orig")


class Episodes(NamedTuple):
    """The last M episodes of N lanes, T steps at most."""

    state: Tensor  # int64 [M, N, T]
    action: Tensor  # int64 [M, N, T]
    shaped: Tensor  # [M, N, T], what was paid
    task: Tensor  # [M, N, T], the task's reward
    real: Tensor  # [M, N, T], 1 where a step was taken and 0 after the end
    probs: Tensor  # [M, N, T, A], the policy that took it


class Explors:
    """Tabular REINFORCE with a reward of its own making; each lane is a run by itself, with a method of its own.

    * ``"explors"``: ``r + R_phi(s, a) + B(s')``; ``"selfrs"`` without the bonus B, ``"explob"`` without ``R_phi``,
      ``"orig"`` without either;
    * ``"sors"``: ``r + R_phi``, phi ranking episodes as the task's return does (Memarian et al. 2021);
    * ``"lirpg"``: ``r + R_phi``, phi by the gradient of what the learner will earn (Zheng et al. 2018), in the paper's
      form without a meta-gradient, ``E`` over the policy's discounted visits being exact here; needs ``mdp``.

    The bonus is ``B(s) = scale / sqrt((scale / cap)^2 + N(s))``, N being how often the run has left s; 0 where the task
    ended. ``R_phi`` ascends ``sum pi(a|s) (G - V(s)) (R_phi(s, a) - E_b R_phi(s, b))`` over the last ``buffer``
    episodes, G being the task's return and V its running mean; the learner ascends ``G^ log pi`` on the last
    ``recent``. The defaults are the paper's for Chain and Room.

    Args:
        env: A ``BatchEnv`` with a time limit; its lanes are the runs.
        teachers: One method for all lanes, or one for each (``TEACHERS``).
        cells: A function of observations ``[N, ...]`` that numbers them, int64 ``[N]``; None where they are numbers.
        states: How many cells there are; None where observations are numbers.
        mdp: The exact MDP, for ``"lirpg"``; None takes ``env.scene.mdp`` where there is one.
        gamma: The discount.
        actor_rate: Step size of the policy.
        reward_rate: Step size of phi.
        critic_rate: Step size of V.
        scale: lambda of the bonus.
        cap: B_max of the bonus.
        limit: Holds phi within -limit and limit; None for no bound (the paper has 0.1 for networks, on LineK).
        reward_every: Episodes between updates of phi.
        actor_every: Episodes between updates of the policy.
        buffer: Episodes that phi learns from.
        recent: Episodes that the policy learns from.
        seed: Of environments and actions.

    Attributes:
        theta: Preferences ``[N, S, A]``; ``phi``: the made reward ``[N, S, A]``; ``values``: V ``[N, S]``;
            ``counts``: N(s) ``[N, S]``.
        returns: The task's discounted return of each episode so far, a list of ``[N]``.
    """

    def __init__(
        self,
        env: BatchEnv,
        teachers: str | Sequence[str] = "explors",
        *,
        cells: Callable[[Any], Tensor] | None = None,
        states: int | None = None,
        mdp: MDP | None = None,
        gamma: float = 0.99,
        actor_rate: float = 0.1,
        reward_rate: float = 0.01,
        critic_rate: float = 0.01,
        scale: float = 1.0,
        cap: float = 1.0,
        limit: float | None = None,
        reward_every: int = 5,
        actor_every: int = 2,
        buffer: int = 10,
        recent: int = 5,
        seed: int = 0,
    ) -> None:
        space, actions = env.single_observation_space, env.single_action_space
        if env.max_steps is None:
            raise ValueError("Explors learns from whole episodes: give the environment a time limit (TimeLimit)")
        if cells is None and isinstance(space, spaces.Discrete):
            states = int(space.n)
        if states is None or not isinstance(actions, spaces.Discrete):
            raise TypeError(f"a table needs numbered states and actions, not {space} and {actions}: give cells, "
                            "a function that numbers observations, and states, how many there are")  # fmt: skip
        names = [teachers] * env.num_envs if isinstance(teachers, str) else list(teachers)
        unknown = set(names) - set(TEACHERS)
        if unknown or len(names) != env.num_envs:
            raise ValueError(
                f"teachers={teachers!r}: one of {', '.join(TEACHERS)}, or one of them for each of {env.num_envs} lanes"
            )
        if min(reward_every, actor_every, recent) < 1 or buffer < recent or scale <= 0 or cap <= 0 or limit == 0:
            raise ValueError(
                f"reward_every={reward_every}, actor_every={actor_every}, buffer={buffer}, recent={recent}, "
                f"scale={scale}, cap={cap}, limit={limit}: all above 0, and the buffer holds the recent episodes"
            )
        self.env, self.teachers, self.cells, self.gamma = env, names, cells, gamma
        self.actor_rate, self.reward_rate, self.critic_rate = actor_rate, reward_rate, critic_rate
        self.scale, self.cap, self.reward_every, self.actor_every = scale, cap, reward_every, actor_every
        self.buffer, self.recent, self.limit, self.seed = buffer, recent, limit, seed
        check_shaping(env, gamma)
        lanes, self.actions, self.states = env.num_envs, int(actions.n), states
        self.mdp = mdp if mdp is not None else getattr(getattr(env, "scene", None), "mdp", None)
        if "lirpg" in names and self.mdp is None:
            raise ValueError("the method 'lirpg' needs the world's MDP: pass mdp=, or leave the method out")

        def of(*kinds: str) -> Tensor:
            return torch.tensor([name in kinds for name in names])

        self._explores, self._selfmade = of("explors", "explob"), of("explors", "selfrs")
        self._ranks, self._plans = of("sors"), of("lirpg")
        shape = (lanes, states, self.actions)
        self.theta, self.phi = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
        self.values, self.counts = (torch.zeros(lanes, states, dtype=torch.float64) for _ in range(2))
        steps = int(env.max_steps)
        ring = (buffer, lanes, steps)
        self._state, self._action = (torch.zeros(ring, dtype=torch.int64) for _ in range(2))
        self._shaped, self._task, self._real = (torch.zeros(ring, dtype=torch.float64) for _ in range(3))
        self._probs = torch.zeros(*ring, self.actions, dtype=torch.float64)
        self.generator = torch.Generator().manual_seed(seed)
        self.episodes, self._begun = 0, False
        """Episodes that each lane has had."""
        self.returns: list[Tensor] = []
        self._lane = torch.arange(lanes)
        self._powers = gamma ** torch.arange(steps, dtype=torch.float64)

    def policy(self) -> Tensor:
        """Probabilities of the actions, ``[N, S, A]``."""
        return torch.softmax(self.theta, -1)

    def bonus(self, states: Tensor) -> Tensor:
        """B of cells ``[N]``, one for each lane."""
        return self.scale / ((self.scale / self.cap) ** 2 + self.counts[self._lane, states]).sqrt()

    def learn(self, episodes: int, callback: Callable[[Self], Any] | None = None) -> Self:
        """Live ``episodes`` episodes in every lane; the callback, after each, may end it by returning False."""
        for _ in range(episodes):
            self._live(self.episodes % self.buffer)
            self.episodes += 1
            if self.episodes % self.reward_every == 0:
                self._make_reward(self._last(self.buffer))
            if self.episodes % self.actor_every == 0:
                self._improve(self._last(self.recent))
            if callback is not None and callback(self) is False:
                break
        return self

    def _live(self, slot: int) -> None:
        """One episode in each lane, into place ``slot`` of the ring."""
        obs, _ = self.env.reset(seed=None if self._begun else self.seed)
        self._begun = True
        steps, lanes = self._state.shape[2], self.env.num_envs
        draws = torch.rand(steps, lanes, generator=self.generator, dtype=torch.float64)
        probs = self.policy()
        bounds = probs.cumsum(-1)[..., :-1]
        for ring in (self._state, self._action, self._shaped, self._task, self._real, self._probs):
            ring[slot] = 0
        state, alive = self._number(obs), torch.ones(lanes, dtype=torch.bool)
        for t in range(steps):
            action = (draws[t, :, None] >= bounds[self._lane, state]).sum(-1)
            obs, reward, terminated, _, info = self.env.step(action)
            done = info["_final_obs"]
            after = self._number(obs)
            if bool(done.any()):
                after = torch.where(done, self._number(info["final_obs"]), after)
            real = alive.double()
            reward = torch.where(alive, reward, 0.0)  # what lives on after its episode's end is no part of it
            extra = torch.where(self._explores & ~terminated, self.bonus(after), 0.0)
            self.counts[self._lane, state] += real
            self._state[slot, :, t], self._action[slot, :, t] = state, action
            self._task[slot, :, t] = reward
            self._shaped[slot, :, t] = (reward + extra + self.phi[self._lane, state, action]) * real
            self._real[slot, :, t], self._probs[slot, :, t] = real, probs[self._lane, state]
            alive, state = alive & ~done, after
            if not bool(alive.any()):
                break
        if not bool(torch.isfinite(self._task[slot]).all()):
            lane, t = (int(i) for i in (~torch.isfinite(self._task[slot])).nonzero()[0])
            raise RewardError(
                f"the environment's reward is {float(self._task[slot, lane, t])} in environment {lane}, step {t} of "
                f"episode {self.episodes}; nothing was learned from it"
            )
        self.returns.append(self._task[slot] @ self._powers)

    def _number(self, obs: Any) -> Tensor:
        return obs.clone() if self.cells is None else self.cells(obs)

    def _last(self, number: int) -> Episodes:
        """The last episodes, at most ``number``."""
        have = min(number, self.episodes)
        rows = torch.arange(self.episodes - have, self.episodes) % self.buffer
        columns = (self._state, self._action, self._shaped, self._task, self._real, self._probs)
        return Episodes(*(column[rows] for column in columns))

    def _improve(self, e: Episodes) -> None:
        """Theta: plus rate / steps * sum of G^ grad log pi, for the policy of now (REINFORCE)."""
        gain = returns(e.shaped, self.gamma) * e.real
        lane = self._lane[None, :, None].expand_as(e.state)
        now = self.policy()[lane, e.state]
        score = torch.nn.functional.one_hot(e.action, self.actions) - now
        size = self.actor_rate / e.real.sum((0, 2)).clamp_min(1.0)
        self.theta.index_put_((lane, e.state), size[None, :, None, None] * gain[..., None] * score, accumulate=True)

    def _make_reward(self, e: Episodes) -> None:
        """Learn phi and V on the last episodes, each lane by its own method."""
        lane = self._lane[None, :, None].expand_as(e.state)
        gain = returns(e.task, self.gamma)
        ahead = (gain - self.values[lane, e.state]) * e.real
        chosen = e.probs.gather(-1, e.action[..., None])[..., 0]
        change = torch.zeros_like(self.phi)
        if bool(self._selfmade.any()):
            score = torch.nn.functional.one_hot(e.action, self.actions) - e.probs
            change.index_put_((lane, e.state), (chosen * ahead)[..., None] * score, accumulate=True)
            change *= self._selfmade[:, None, None]
        if bool(self._plans.any()):
            change += self._plans[:, None, None] * self._planned(e, lane, chosen * ahead)
        if bool(self._ranks.any()):
            change += self._ranks[:, None, None] * self._ranked(e, lane)
        self.phi += self.reward_rate * change
        if self.limit is not None:
            self.phi.clamp_(-self.limit, self.limit)
        shares = ahead / e.real.sum((0, 2)).clamp_min(1.0)[None, :, None]
        self.values.index_put_((lane, e.state), self.critic_rate * shares, accumulate=True)

    def _planned(self, e: Episodes, lane: Tensor, weight: Tensor) -> Tensor:
        """LIRPG: what a change of phi(s, a) does to Q^(s, a) - V^(s) under the policy of now: visits of (s, a)."""
        assert self.mdp is not None
        policy = self.policy()
        prob = torch.where(self.mdp.terminal[:, None, None], 0.0, self.mdp.dense().prob)
        chain = torch.einsum("nsa,sak->nsk", policy, prob)
        eye = torch.eye(self.states, dtype=torch.float64)
        visits = torch.linalg.inv(eye - self.gamma * chain)  # [N, S, S]: of state k, from s
        back = self.gamma * torch.einsum("sak,nks->nsa", prob, visits)  # of s itself, once (s, a) was done
        # Doing a in s counts (s, a) once, and again pi(a|s) times each return to s.
        ours = policy * (back - (policy * back).sum(-1, keepdim=True)) + 1 - policy
        out = torch.zeros_like(self.phi)
        out.index_put_((lane, e.state, e.action), weight, accumulate=True)
        return out * ours / len(e.state)

    def _ranked(self, e: Episodes, lane: Tensor) -> Tensor:
        """SORS: the gradient of log P(i above j) over the pairs that the task's return orders (Bradley and Terry)."""
        weight = self._powers[: e.real.shape[-1]] * e.real
        made = (self.phi[lane, e.state, e.action] * weight).sum(-1)  # [M, N]
        total = (e.task * weight).sum(-1)
        above = (total[:, None] > total[None]).double()  # [M, M, N]
        pull = above * torch.sigmoid(made[None] - made[:, None])
        each = (pull.sum(1) - pull.sum(0)) / above.sum((0, 1)).clamp_min(1.0)
        out = torch.zeros_like(self.phi)
        out.index_put_((lane, e.state, e.action), each[..., None] * weight, accumulate=True)
        return out

    def training_state(self) -> dict[str, Any]:
        """Everything that the next episode depends on."""
        ring = ("theta", "phi", "values", "counts", "_state", "_action", "_shaped", "_task", "_real", "_probs")
        return {
            "tables": {name: getattr(self, name).clone() for name in ring},
            "generator": self.generator.get_state(), "env": self.env.state_dict(),
            "episodes": self.episodes, "begun": self._begun,
        }  # fmt: skip

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Put back what ``training_state`` gave; the record of returns begins anew."""
        for name, value in state["tables"].items():
            getattr(self, name).copy_(value)
        self.generator.set_state(state["generator"])
        self.env.load_state_dict(state["env"])
        self.episodes, self._begun, self.returns = state["episodes"], state["begun"], []


def returns(rewards: Tensor, gamma: float) -> Tensor:
    """Discounted sums to the end, along the last axis."""
    out = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[..., 0])
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + gamma * following
        out[..., t] = following
    return out
