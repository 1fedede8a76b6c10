"""DAgger: learn from what the expert would do where the learner itself comes to.

Ross, Gordon and Bagnell, "A reduction of imitation learning and structured prediction to no-regret online learning",
2011, algorithm 3.1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...envs.spaces import tree_map
from ...shaping.state import pack
from ..data.collecting import Actor
from .bc import BC
from .common import rows_of, with_settings_of_bases


@with_settings_of_bases
class DAgger(BC):
    """Behaviour cloning on the union of all rounds' states, each labelled by the expert.

    Before each round every environment is acted in for ``round_steps`` steps, in each of them by the expert with the
    chance ``beta ** round`` and else by the learner; what the expert would have done is kept of all of them.

    Args:
        policy: As BC's.
        env: The environment to act in.
        expert: ``expert(obs [N, ...], info)`` gives actions ``[N, ...]`` as executed; or "scripted" for the controller
            of a classic task (see ``data.controllers``), or "solver" for the shortest solution of a grid level.
        demonstrations: To begin with, or None.
        round_steps: Steps in every environment, before each round.
        beta: The base of the expert's share; 0 is the learner alone from the second round on.
        rounds: Rounds in which the expert is asked; later ones learn from what there is.
        kwargs: BC's other settings.

    Raises:
        TypeError: There is no expert.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        expert: Actor | str | None = None,
        demonstrations: Any = None,
        round_steps: int = 64,
        beta: float = 0.0,
        rounds: int = 1_000_000,
        **kwargs: Any,
    ) -> None:
        if round_steps < 1 or not 0 <= beta <= 1:
            raise ValueError(f"round_steps={round_steps}, beta={beta}: at least 1, and between 0 and 1")
        self.round_steps, self.beta, self.rounds = round_steps, beta, rounds
        self.asked = 0
        """Rounds in which the expert was asked so far."""
        self.seen: dict[str, Any] = {}
        """All states that were labelled: ``obs`` and ``action [M, ...]``."""
        self._info: Mapping[str, Any] = {}
        super().__init__(policy, env, demonstrations, **kwargs)
        named = expert if isinstance(expert, str) else None
        self._config |= {"expert": named, "round_steps": round_steps, "beta": beta, "rounds": rounds}
        self.teacher = self._find(expert)
        if self.demos is not None:
            x = self.demos.to(self.device)
            self.seen = {"obs": x.obs, "action": x.action}

    def _find(self, expert: Actor | str | None) -> Actor | None:
        if self.batch is None:
            return None
        if callable(expert):
            return expert
        if expert == "scripted":
            from ..data.controllers import scripted

            spec = getattr(self.batch, "spec", None)
            inner = getattr(self.batch, "envs", None)
            spec = spec or (inner[0].spec if inner else None)
            return scripted("" if spec is None else spec.id)
        if expert == "solver":
            return planner(self.batch)
        raise TypeError(
            f"expert={expert!r}: DAgger asks an expert what it would do: give a function of (obs, info), 'scripted' or "
            "'solver'"
        )

    def _begin(self, obs: Any, info: dict[str, Any]) -> None:
        self._last_obs, self._info = tree_map(lambda v: v.clone(), obs), info

    @torch.no_grad()
    def _before_round(self) -> None:
        if self.asked >= self.rounds:
            return
        assert self.batch is not None and self.teacher is not None
        share, self.asked = self.beta**self.asked, self.asked + 1
        self.policy.set_training_mode(False)
        obs, states, labels = self._last_obs, [], []
        for _ in range(self.round_steps):
            label = self.teacher(obs, self._info).to(self.device)
            own = self.policy.act(obs)
            asks = torch.rand(len(own), device=self.device) < share
            states.append(tree_map(lambda v: v.clone(), obs))
            labels.append(label.clone())
            action = torch.where(asks.reshape(-1, *[1] * (own.dim() - 1)), label.to(own.dtype), own)
            obs, *_, self._info = self.batch.step(action.to(self.batch.device))
        self._last_obs = tree_map(lambda v: v.clone(), obs)
        new = {"obs": tree_map(lambda *vs: torch.cat(vs), *states), "action": torch.cat(labels)}
        self.seen = tree_map(lambda a, b: torch.cat([a, b]), self.seen, new) if self.seen else new

    def _draw(self) -> tuple[Any, Tensor]:
        count = len(self.seen["action"])
        index = torch.randint(count, (self.batch_size,), generator=self._drawn).to(self.device)
        return rows_of(self.seen["obs"], index), self.seen["action"][index]

    def training_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, all labelled states included."""
        last = self._last_obs
        more = {"asked": self.asked, "seen": pack(self.seen), "last": last}
        return {**super().training_state(), "dagger": more}

    def load_training_state(self, state: Any) -> None:
        """Put back what :meth:`training_state` gave."""
        super().load_training_state(state)
        own = state["dagger"]
        self.asked = own["asked"]
        self.seen = tree_map(lambda v: v.clone().to(self.device), own["seen"])
        self._last_obs = None if own["last"] is None else tree_map(lambda v: v.clone().to(self.device), own["last"])
        self._info = {} if self.batch is None else dict(getattr(self.batch, "observe", lambda: ({}, {}))()[1])


def planner(env: Any, max_states: int = 200_000) -> Callable[[Any, Mapping[str, Any]], Tensor]:
    """An expert that plans from wherever the learner has come to: the first step of a shortest solution.

    Args:
        env: The ``GridBatch`` that the learner acts in.
        max_states: Budget of a search; where it is not enough the expert turns left.

    Raises:
        TypeError: The environment is not on the grid engine.
    """
    from ...envs.grid.engine import GridBatch
    from ...envs.grid.planner import shortest_plans

    if not isinstance(env, GridBatch):
        raise TypeError(f"the planner needs the native grid engine, and this is a {type(env).__name__}")

    def act(obs: Any, info: Mapping[str, Any]) -> Tensor:
        plans = shortest_plans(env, max_states=max_states)
        return torch.tensor([plan[0] if plan else 0 for plan in plans], dtype=torch.int64, device=env.device)

    return act
