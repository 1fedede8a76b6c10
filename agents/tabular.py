"""Tabular learners, many seeds at once: Q-learning, SARSA and REINFORCE.

Each lane of the batch is a run of its own, with its own table: 20 seeds are 20 lanes, and cost little more than one.
Lane i of seed s depends on (s, i) alone, exploration included. These are small exact tools for small worlds, not SB3
models.
"""

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor

from ..envs.batch import BatchEnv
from ..shaping.advice import LookAhead
from ..shaping.reward import Reward, as_reward
from ..shaping.stretch import Stretch
from ..shaping.term import ExperienceMap, World
from .tabular_base import TabularAgent


class QLearning(TabularAgent):
    """Q-learning (Watkins and Dayan, 1992), epsilon-greedy, every lane on its own.

    Q(s, a) += alpha (r + gamma max Q(s', .) - Q(s, a)), without the bootstrap where the task terminated.

    Args:
        env: As in ``TabularAgent``.
        learning_rate: alpha, one for each lane ``[N]``, or a function of N(s, a), the visits so far, a float64 tensor
            (``lambda n: 1 / n``).
        epsilon: Chance of an action drawn uniformly.
        gamma: The discount.
        initial: Q before learning; above what can be earned, it makes the learner try everything.
        reward: As in ``TabularAgent``.
        experience: An ``ExperienceMap`` that makes more transitions from each lived one (counterfactuals of reward
            machines); all of them are learned from at once. With it, ``reward`` may have only pure terms, which are
            scored on the mapped rows.
        advice: A ``LookAhead`` potential of states and actions: its F is learned from, and actions are chosen by
            Q + phi, where Q* - phi is what is learned (Wiewiora et al. 2003).
        seed: Of the environments and of exploration.

    Attributes:
        q: Float64 ``[N, S, A]``.
    """

    def __init__(
        self,
        env: BatchEnv | gym.Env[Any, Any] | str,
        *,
        learning_rate: float | Tensor | Callable[[Tensor], Tensor] = 0.1,
        epsilon: float = 0.1,
        gamma: float = 0.99,
        initial: float = 0.0,
        reward: Any = None,
        experience: ExperienceMap | None = None,
        advice: LookAhead | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(env, gamma=gamma, reward=reward if experience is None else None, seed=seed)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon}: it is a probability")
        if isinstance(learning_rate, Tensor):
            learning_rate = learning_rate.double().to(self.device).expand(self.lanes)
            low, high = float(learning_rate.min()), float(learning_rate.max())
        elif not callable(learning_rate):
            low = high = learning_rate
        if not callable(learning_rate) and not (low > 0 and high <= 1):
            raise ValueError(f"learning_rate={learning_rate}: it is above 0 and at most 1")
        self.learning_rate, self.epsilon = learning_rate, epsilon
        shape = (self.lanes, self.states, self.actions)
        self.q = torch.full(shape, float(initial), dtype=torch.float64, device=self.device)
        self._visits = torch.zeros(shape if callable(learning_rate) else 0, dtype=torch.float64, device=self.device)
        world = World(
            self.env.single_observation_space, self.env.single_action_space, lanes=self.lanes,
            max_steps=self.env.max_steps, gamma=gamma, device=self.device, seed=seed,
            gives=frozenset({"next_action"}),
        )  # fmt: skip
        self.advice = advice
        self.phi = torch.zeros(self.states, self.actions, dtype=torch.float64, device=self.device)
        """What is added to Q where actions are chosen, ``[S, A]`` or ``[N, S, A]``."""
        if advice is not None:
            advice.bind(world)
            self.phi = advice.table(self.states, self.actions).to(self.device)
        self.experience = experience
        self._rescore: Reward | None = None
        if experience is not None:
            experience.bind(world)
            if reward is not None:
                self._rescore = as_reward(reward)
                late = [node.name for node in self._rescore.order if node.kind != "pure"]
                if late:
                    raise ValueError(
                        f"{', '.join(late)} remembers what was lived, and mapped transitions were not: with "
                        "experience=, the reward has pure terms only"
                    )
                self._rescore.bind(world)

    def tables(self) -> dict[str, Tensor]:
        """``q``, and the visits where the learning rate depends on them."""
        return {"q": self.q, "visits": self._visits}

    def policy(self, deterministic: bool = False) -> Tensor:
        """Epsilon-greedy, or greedy, probabilities ``[N, S, A]``; ties are shared evenly by the former."""
        value = self.q + self.phi
        if deterministic:
            return torch.nn.functional.one_hot(value.argmax(-1), self.actions).to(value.dtype)
        best = (value == value.amax(-1, keepdim=True)).to(value.dtype)
        return (1 - self.epsilon) * best / best.sum(-1, keepdim=True) + self.epsilon / self.actions

    def _choices(self, lane: Tensor, obs: Tensor) -> Tensor:
        """What actions are chosen by, ``[*, A]``."""
        return self.q[lane, obs] + (self.phi[obs] if self.phi.ndim == 2 else self.phi[lane, obs])

    def _act(self, obs: Tensor) -> Tensor:
        return self._greedy_or_not(self._choices(self._lane, obs), self.epsilon)

    def _learn(self, x: Stretch) -> None:
        if self.experience is not None:
            x, _ = self.experience(x)
            if self._rescore is not None:
                parts = self._rescore.parts(x, self._rescore.evaluate(x))
                x.reward = self._rescore.combine(parts, self.steps * self.lanes).sum(-1)
        after = cast(Tensor, x.next_obs)
        best = self._choices(x.lane, after).argmax(-1)
        self._advise(x, best)
        self._towards(x, self.q[x.lane, after, best])

    def _advise(self, x: Stretch, next_action: Tensor) -> None:
        """Add the advice's F to the rewards; ``next_action`` is the one that the target is of."""
        if self.advice is not None:
            x.extra["next_action"] = next_action
            x.reward = x.reward + torch.where(x.valid, self.advice.score(x), 0.0)

    def _towards(self, x: Stretch, next_value: Tensor) -> None:
        """Move Q towards the targets, all rows at once; rows of one lane, state and action add up."""
        at = (x.lane, cast(Tensor, x.obs), cast(Tensor, x.action))
        target = x.reward.double() + torch.where(x.terminated, 0.0, self.gamma * next_value)
        valid = x.valid.double()
        rate: Any = self.learning_rate
        if callable(rate):
            self._visits.index_put_(at, valid, accumulate=True)
            rate = rate(self._visits[at])
        elif isinstance(rate, Tensor):
            rate = rate[x.lane]
        self.q.index_put_(at, rate * valid * (target - self.q[at]), accumulate=True)


class SARSA(QLearning):
    """SARSA (Rummery and Niranjan, 1994): as ``QLearning``, towards the value of the action that is taken next.

    After a truncation, where no action is taken in the last state, its expectation under the policy stands in.
    """

    def __init__(self, env: BatchEnv | gym.Env[Any, Any] | str, **kwargs: Any) -> None:
        if kwargs.get("experience") is not None:
            raise ValueError("SARSA learns about what it does: mapped experience is for QLearning, which is off-policy")
        super().__init__(env, **kwargs)
        self._next = torch.zeros(self.lanes, dtype=torch.int64, device=self.device)

    def tables(self) -> dict[str, Tensor]:
        """``q``, the visits, and the action that comes next in each lane."""
        return {**super().tables(), "next": self._next}

    def _start_learning(self, obs: Tensor) -> None:
        self._next.copy_(self._greedy_or_not(self._choices(self._lane, obs), self.epsilon))

    def _act(self, obs: Tensor) -> Tensor:
        return self._next.clone()

    def _learn(self, x: Stretch) -> None:
        obs = self._obs
        assert obs is not None
        chosen = self._greedy_or_not(self._choices(self._lane, obs), self.epsilon)
        after = cast(Tensor, x.next_obs)
        taken = self.q[self._lane, after, chosen]
        there = self._choices(self._lane, after)
        expected = (1 - self.epsilon) * there.amax(-1) + self.epsilon * there.mean(-1)
        # F has gamma phi(s', chosen) in it already.
        expected = expected - (there.gather(1, chosen[:, None])[:, 0] - taken)
        self._advise(x, chosen)
        self._towards(x, torch.where(x.truncated, expected, taken))
        self._next.copy_(chosen)


class REINFORCE(TabularAgent):
    """REINFORCE (Williams, 1992) with a softmax over preferences, every lane on its own.

    theta += alpha / n * sum_t G_t grad log pi(a_t | s_t), over the n steps of the last episodes; G_t is the discounted
    return from t on. The defaults of ``every`` and ``memory`` are one episode; EXPLORS (NeurIPS 2022) updates every 2
    episodes on the last 5, with alpha 0.1.

    Args:
        env: As in ``TabularAgent``; it must cut its episodes (``max_steps``).
        learning_rate: alpha.
        baseline_rate: Step size of a table of values that is subtracted from G_t; 0 for none.
        gamma: The discount.
        every: Episodes between updates.
        memory: How many of the last episodes an update uses.
        reward: As in ``TabularAgent``.
        seed: Of the environments and of the actions.

    Attributes:
        theta: Preferences, float64 ``[N, S, A]``.
        values: The baseline, float64 ``[N, S]``.
    """

    def __init__(
        self,
        env: BatchEnv | gym.Env[Any, Any] | str,
        *,
        learning_rate: float = 0.1,
        baseline_rate: float = 0.0,
        gamma: float = 0.99,
        every: int = 1,
        memory: int = 1,
        reward: Any = None,
        seed: int = 0,
    ) -> None:
        super().__init__(env, gamma=gamma, reward=reward, seed=seed)
        if self.env.max_steps is None:
            raise ValueError("REINFORCE keeps whole episodes: give the environment a time limit (cairn.envs.TimeLimit)")
        if every < 1 or memory < 1:
            raise ValueError(f"every={every}, memory={memory}: numbers of episodes, at least 1")
        self.learning_rate, self.baseline_rate, self.every, self.memory = learning_rate, baseline_rate, every, memory
        lead = (self.lanes, self.states)
        self.theta = torch.zeros(*lead, self.actions, dtype=torch.float64, device=self.device)
        self.values = torch.zeros(lead, dtype=torch.float64, device=self.device)
        # Columns: state, action, reward, real. The last place of the ring is the open episode's.
        self._ring = torch.zeros(memory, self.lanes, self.env.max_steps, 4, dtype=torch.float64, device=self.device)
        self._slot = torch.zeros(self.lanes, dtype=torch.int64, device=self.device)

    def tables(self) -> dict[str, Tensor]:
        """``theta``, the baseline, and the episodes that the next update will use."""
        return {"theta": self.theta, "values": self.values, "ring": self._ring, "slot": self._slot}

    def policy(self, deterministic: bool = False) -> Tensor:
        """Softmax of the preferences, or the best action alone, ``[N, S, A]``."""
        if deterministic:
            return torch.nn.functional.one_hot(self.theta.argmax(-1), self.actions).to(self.theta.dtype)
        return torch.softmax(self.theta, -1)

    def _act(self, obs: Tensor) -> Tensor:
        bounds = torch.softmax(self.theta[self._lane, obs], -1).cumsum(-1)
        # A draw above the last bound (1 up to rounding) is the last action's.
        return (self._draws(1) >= bounds[:, :-1]).sum(-1)

    def _learn(self, x: Stretch) -> None:
        columns = (cast(Tensor, x.obs), cast(Tensor, x.action), x.reward, x.valid)
        self._ring[self._slot, self._lane, x.t] = torch.stack([column.double() for column in columns], -1)
        done = x.done
        if not bool(done.any()):
            return
        due = (done & ((x.episode + 1) % self.every == 0)).nonzero()[:, 0]
        if len(due):
            self._update(due)
        self._slot = torch.where(done, (self._slot + 1) % self.memory, self._slot)
        ended = done.nonzero()[:, 0]
        self._ring[self._slot[ended], ended] = 0.0

    def _update(self, lanes: Tensor) -> None:
        kept = self._ring[:, lanes]  # [M, L, T, 4]
        returns = torch.zeros_like(kept[..., 2])
        following = torch.zeros_like(returns[..., 0])
        for t in reversed(range(kept.shape[2])):
            following = kept[:, :, t, 2] + self.gamma * following
            returns[..., t] = following
        real, state, action = kept[..., 3], kept[..., 0].long(), kept[..., 1].long()
        lane = lanes[None, :, None].expand_as(state)
        advantage = (returns - self.values[lane, state]) * real
        # d log pi(a|s) / d theta(s, .) = onehot(a) - pi(.|s), for the present policy, as in the published experiments.
        score = torch.nn.functional.one_hot(action, self.actions) - torch.softmax(self.theta[lane, state], -1)
        size = self.learning_rate / real.sum((0, 2)).clamp_min(1.0)
        step = size[None, :, None, None] * advantage[..., None] * score
        self.theta.index_put_((lane, state), step, accumulate=True)
        if self.baseline_rate:
            share = self.baseline_rate / real.sum((0, 2)).clamp_min(1.0)
            self.values.index_put_((lane, state), share[None, :, None] * advantage, accumulate=True)
