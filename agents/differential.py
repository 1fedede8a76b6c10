"""Learning for the long run, in tables: reward per step instead of discounted return."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..envs.batch import BatchEnv
from ..shaping.stretch import Stretch
from .tabular import QLearning


class DifferentialQ(QLearning):
    """Differential Q-learning, or R-learning, for tasks that go on for ever; every lane on its own.

    delta = r - rate + max Q(s', .) - Q(s, a); Q(s, a) += alpha delta; rate += eta alpha delta (Wan, Naik and Sutton,
    "Learning and planning in average-reward Markov decision processes", 2021, equations 5 and 6): the rate learns from
    every step, and converges to the best reward per step where the MDP is communicating. With ``rule="r"``, Schwartz,
    "A reinforcement learning method for maximizing undiscounted rewards" (1993): the rate follows ``r + max Q(s', .) -
    max Q(s, .)`` on greedy steps alone, by the step size ``eta * alpha``.

    There are no ends here: where an episode terminates, the step is taken to lead into the next one's first state;
    where it is only cut, to the state that was reached.

    Args:
        env: As in ``QLearning``.
        eta: Step size of the rate over that of the table.
        rule: ``"differential"`` or ``"r"``.
        kwargs: As in ``QLearning``, without ``gamma``.

    Attributes:
        rate: The estimate of the best reward per step, float64 ``[N]``.
    """

    def __init__(self, env: BatchEnv | Any, *, eta: float = 0.1, rule: str = "differential", **kwargs: Any) -> None:
        if "gamma" in kwargs or kwargs.get("experience") is not None:
            raise ValueError("DifferentialQ has no discount and learns from what is lived: no gamma=, no experience=")
        if rule not in ("differential", "r"):
            raise ValueError(f"DifferentialQ(rule={rule!r}): 'differential', or 'r' for R-learning")
        if not eta > 0:
            raise ValueError(f"DifferentialQ(eta={eta}): it is above 0")
        super().__init__(env, gamma=1.0, **kwargs)
        self.eta, self.rule = float(eta), rule
        self.rate = torch.zeros(self.lanes, dtype=torch.float64, device=self.device)

    def tables(self) -> dict[str, Tensor]:
        """The table, the visits, and the rate."""
        return {**super().tables(), "rate": self.rate}

    def _learn(self, x: Stretch) -> None:
        fresh = self._obs
        assert fresh is not None
        state, action = cast(Tensor, x.obs), cast(Tensor, x.action)
        after = torch.where(x.terminated, fresh, cast(Tensor, x.next_obs))
        at = (self._lane, state, action)
        step: Any = self.learning_rate
        if callable(step):
            self._visits[at] += 1
            step = step(self._visits[at])
        value, best = self.q[at], self.q[self._lane, state].amax(-1)
        there = self.q[self._lane, after].amax(-1)
        error = x.reward.double() - self.rate + there - value
        self.q[at] = value + step * error
        if self.rule == "differential":
            self.rate += self.eta * step * error
        else:
            gap = x.reward.double() + there - best - self.rate
            self.rate += torch.where(value == best, self.eta * step * gap, 0.0)


def reward_rate(
    env: BatchEnv, act: Callable[[Any], Tensor], steps: int, skip: int = 0, seed: int | None = None
) -> Tensor:
    """The mean reward per step of a policy, measured: float64 ``[N]``, for each lane.

    Args:
        env: It is reset.
        act: A batch of observations to a batch of actions, such as ``lambda obs: agent.predict(obs)[0]``.
        steps: Steps that count.
        skip: Steps before them that do not, for the beginning to be forgotten.
        seed: Of the reset.
    """
    if steps < 1 or skip < 0:
        raise ValueError(f"steps={steps}, skip={skip}: at least one step counts")
    obs, _ = env.reset(seed=seed)
    total = torch.zeros(env.num_envs, dtype=torch.float64, device=env.device)
    for t in range(skip + steps):
        obs, reward, _, _, _ = env.step(act(obs))
        if t >= skip:
            total += reward
    return total / steps
