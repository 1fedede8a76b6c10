"""SARSA with arbitrary advice turned into a potential while it learns (DPBA).

Harutyunyan, Devlin, Vrancx and Nowe, "Expressing arbitrary reward functions as potential-based advice", 2015.
"""

from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor

from ..envs.batch import BatchEnv
from ..shaping.reward import as_reward
from ..shaping.stretch import Stretch
from ..shaping.term import World
from .tabular import SARSA


class DPBA(SARSA):
    """SARSA that is given any reward as advice, without its becoming the aim.

    A second table learns, on policy, the value of minus the advice: ``phi(s, a) += beta (-R + gamma phi(s', a') -
    phi(s, a))`` (equation 9), so that ``F = gamma phi_new(s', a') - phi_old(s, a)`` (equation 7) tends to R itself.
    Q then learns ``Q* - phi``. The paper acts by Q alone, which leaves the advice in for good; Behboudian et al.,
    "Policy invariant explicit shaping", 2020, show that it may change the best policy, and let it fade. Here actions
    are chosen by ``Q + w phi``, w going from 0 to 1 over ``fade`` steps; from then on the greedy policy is the task's.

    Args:
        env: As in ``TabularAgent``.
        guide: The advice R: a reward expression of pure terms, or a function of a ``Stretch``.
        guide_rate: beta.
        fade: Steps of each lane until the advice has gone from the choice of actions; None never (as in the paper).
        kwargs: Of ``SARSA``.
    """

    def __init__(
        self,
        env: BatchEnv | gym.Env[Any, Any] | str,
        guide: Any,
        *,
        guide_rate: float = 0.5,
        fade: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("advice") is not None:
            raise ValueError("DPBA learns its own potential: take SARSA with advice=, or leave advice= out")
        super().__init__(env, **kwargs)
        if not 0 < guide_rate <= 1 or (fade is not None and fade < 1):
            raise ValueError(f"guide_rate={guide_rate}, fade={fade}: a rate above 0 and at most 1, and steps")
        self.guide, self.guide_rate, self.fade = as_reward(guide), guide_rate, fade
        late = [node.name for node in self.guide.order if node.kind != "pure"]
        if late:
            raise ValueError(f"{', '.join(late)} remembers: the guide of DPBA has pure terms only")
        self.guide.bind(
            World(
                self.env.single_observation_space, self.env.single_action_space, lanes=self.lanes,
                max_steps=self.env.max_steps, gamma=self.gamma, device=self.device, seed=self.seed,
            )
        )  # fmt: skip
        self.potential = torch.zeros_like(self.q)
        """phi, float64 ``[N, S, A]``."""

    def tables(self) -> dict[str, Tensor]:
        """``q``, the visits, the next actions and the learned potential."""
        return {**super().tables(), "potential": self.potential}

    def _weigh(self) -> None:
        """How much of phi stands in the choice of actions: what it takes away from Q, when the advice has faded."""
        weight = 0.0 if self.fade is None else min(self.steps / self.fade, 1.0)
        self.phi = weight * self.potential

    def _act(self, obs: Tensor) -> Tensor:
        return self._next.clone()

    def _start_learning(self, obs: Tensor) -> None:
        self._weigh()
        super()._start_learning(obs)

    def _learn(self, x: Stretch) -> None:
        obs = self._obs
        assert obs is not None
        self._weigh()
        at = (self._lane, cast(Tensor, x.obs), cast(Tensor, x.action))
        after = cast(Tensor, x.next_obs)
        chosen = self._greedy_or_not(self._choices(self._lane, obs), self.epsilon)
        # Of a truncated episode no next action is taken: its expectation, for phi as for Q.
        greedy = self._choices(self._lane, after).argmax(-1, keepdim=True)
        mixed = torch.full_like(self.q[self._lane, after], self.epsilon / self.actions)
        mixed = mixed.scatter_add(1, greedy, torch.full_like(greedy, 1 - self.epsilon, dtype=mixed.dtype))
        taken = torch.nn.functional.one_hot(chosen, self.actions).to(mixed.dtype)
        probs = torch.where(x.truncated[:, None], mixed, taken)
        before = self.potential[at]
        guide = self.guide.combine(self.guide.parts(x, self.guide.evaluate(x)), 0).sum(-1).double()
        there = torch.where(x.terminated, 0.0, (probs * self.potential[self._lane, after]).sum(-1))
        change = torch.where(x.valid, self.guide_rate * (-guide + self.gamma * there - before), 0.0)
        self.potential.index_put_(at, change, accumulate=True)
        later = torch.where(x.terminated, 0.0, (probs * self.potential[self._lane, after]).sum(-1))
        x.reward = x.reward + torch.where(x.valid, self.gamma * later - before, 0.0).float()
        self._towards(x, (probs * self.q[self._lane, after]).sum(-1))
        self._next.copy_(chosen)
