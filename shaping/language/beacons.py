"""Words as Beacons: subgoals in the observation, and a bonus for reaching them in order.

Ruiz-Gonzalez, Andres, Bascoy and Del Ser, "Words as Beacons: Guiding RL Agents with High-Level Language Prompts", 2024.
The agent sees its present subgoal in one of three forms: where it is (relative), what it is (verb, type and colour), or
its sentence's embedding; reaching it pays ``alpha * (1 - steps / max_steps)``. The subgoals are the curriculum.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ...envs.batch import BatchEnv, BatchWrapper
from ...envs.grid import layout as L
from ..stretch import Stretch
from ..term import Pure, Source, Term, World
from .subgoals import MOST, OPEN, TAKE, VERBS, OraclePlanner, Planner, sentences

FORMS = ("position", "object", "language")
KEY = "subgoal"
_TOUCHED = sum(1 << L.EVENT_NAMES.index(n) for n in ("opened", "unlocked", "unboxed"))


class SubgoalEnv(BatchWrapper):
    """A batch of the grid engine whose observation holds the present subgoal, and whose facts say what was reached.

    Facts: ``subgoal`` int64 ``[N]``, the number of the present one (G when the plan is done), and ``subgoal_reached``
    int64 ``[N]``, 1 + the number of the one that this step reached, or 0.

    A position is seen as the columns and rows from the agent to it, each 0 where there is no subgoal and ``offset + S``
    else (S the greater of the level's sides); an object as verb, type and colour, of which the verb 0 is none. Both are
    MultiDiscrete, so that a network for symbols sums them up with the view.

    A form only tells the agent what it says, and a subgoal is reached in its form's sense: a position when the agent
    stands there or what was there has changed, of two at one place the first; an object when it is taken, opened or
    stood on. A subgoal that nobody can reach does not end the plan: reaching a later one takes its place.

    Args:
        env: The batch; its observation is a Dict.
        planner: Who makes the plan of each level; None is the oracle.
        form: "position", "object" or "language".
        embed: A sentence's embedding ``[D]`` ("language"); None takes a fixed random vector for each word.

    Raises:
        TypeError: The batch is not the grid engine's.
        ValueError: No such form.
    """

    def __init__(
        self,
        env: BatchEnv,
        planner: Planner | None = None,
        form: str = "object",
        embed: Callable[[str], Tensor] | None = None,
    ) -> None:
        super().__init__(env)
        space = env.single_observation_space
        inner: Any = env.unwrapped
        if not isinstance(space, spaces.Dict) or not hasattr(inner, "width") or not hasattr(inner, "missions"):
            raise TypeError(f"subgoals are made from levels of the grid engine, and {env!r} is none")
        if form not in FORMS:
            raise ValueError(f"SubgoalEnv(form={form!r}): one of {', '.join(FORMS)}")
        self.planner, self.form = planner or OraclePlanner(), form
        self.width: int = inner.width
        self.size = max(inner.width, inner.height)
        self._table = sentences(embed or words) if form == "language" else torch.zeros(0)
        part: spaces.Space[Any]
        if form == "language":
            part = spaces.Box(-np.inf, np.inf, (self._table.shape[-1],), np.float32)
        else:
            sides = [2 * self.size] * 2
            part = spaces.MultiDiscrete(sides if form == "position" else [len(VERBS), len(L.TYPES), len(L.COLORS)])
        self._blank = torch.zeros(part.shape or (), dtype=torch.float32 if form == "language" else torch.int64)
        self.single_observation_space = spaces.Dict({**space.spaces, KEY: part})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.plans = torch.zeros(self.num_envs, MOST, 5, dtype=torch.int64, device=self.device)
        self.now = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._cells = torch.zeros(0)
        self._place = torch.zeros(0)

    # ---- episodes ------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, with new plans."""
        obs, info = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        rows = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        self._begin(rows.to(self.device), info["facts"])
        reached = torch.zeros_like(self.now)
        return self._shown(obs, info["facts"]), {**info, "facts": self._told(info["facts"], self.now, reached)}

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step, and see which subgoals that has reached."""
        before = self._cells
        obs, reward, terminated, truncated, info = self.env.step(actions)
        done = terminated | truncated
        facts, last = info["facts"], info["final_facts"]
        true = facts
        if bool(done.any()):
            true = {k: torch.where(done.reshape(-1, *[1] * (v.dim() - 1)), last[k], v) for k, v in facts.items()}
        reached = self._reached(before, true)
        now = torch.where(reached > 0, reached, self.now)
        self.now = now
        final_obs = {**info["final_obs"], KEY: self._view(true)}
        final_facts = self._told(last, now, reached)
        if bool(done.any()):
            self._begin(done, facts)
        else:
            self._cells = facts["cells"].clone()
        here = self._told(facts, self.now, torch.where(done, 0, reached))
        info = {**info, "final_obs": final_obs, "final_facts": final_facts, "facts": here}
        return self._shown(obs, facts), reward, terminated, truncated, info

    def _begin(self, rows: Tensor, facts: Mapping[str, Tensor]) -> None:
        which = rows.nonzero()[:, 0]
        missions = self.env.unwrapped.missions()  # type: ignore[attr-defined]
        texts = [missions[i] for i in which.tolist()]
        self.plans[which] = self.planner.plan(facts["cells"][which], self.width, facts["position"][which], texts)
        self.now = torch.where(rows, 0, self.now)
        self._cells = facts["cells"].clone()

    def _reached(self, before: Tensor, facts: Mapping[str, Tensor]) -> Tensor:
        """1 + the number of the last subgoal not before the present one that this step has reached, 0 for none."""
        verb, kind, color, x, y = self.plans.unbind(-1)
        after, place = facts["cells"], facts["position"]
        number = torch.arange(MOST, device=verb.device)
        if self.form == "position":
            spot = y * self.width + x
            changed = (before.gather(1, spot) != after.gather(1, spot)) & (facts["events"] != 0)[:, None]
            hit = changed | ((place[:, :1] == x) & (place[:, 1:] == y))
            # A key stands where its box stood: to unbox it is not to have taken it.
            hit[:, 1:] &= (spot[:, 1:] != spot[:, :-1]) | (number[:-1] < self.now[:, None])
        else:
            held, events = facts["carrying"], facts["events"].long()
            picked = (events >> L.EVENT_NAMES.index("picked") & 1 > 0)[:, None]
            take = picked & (held[:, :1] == kind) & (held[:, 1:] == color)
            # What was opened is in the cell that has changed, as it was before.
            where = (before != after).to(torch.uint8).argmax(1, keepdim=True)
            thing = before.gather(1, where).long()
            opened = (events & _TOUCHED > 0)[:, None] & (thing & 15 == kind) & (thing >> 4 & 7 == color)
            under = after.gather(1, (place[:, 1] * self.width + place[:, 0])[:, None]).long()
            stood = (under & 15 == kind) & (under >> 4 & 7 == color)
            hit = torch.where(verb == TAKE, take, torch.where(verb == OPEN, opened, stood))
        hit &= (verb > 0) & (number >= self.now[:, None])
        return torch.where(hit, number + 1, 0).amax(1)

    # ---- what is shown -------------------------------------------------------------------------------------

    def _view(self, facts: Mapping[str, Tensor]) -> Tensor:
        """The present subgoal as the agent sees it ``[N, ...]``; zeros where there is none."""
        at = self.now.clamp(max=MOST - 1)
        goal = self.plans[torch.arange(self.num_envs, device=self.device), at]
        there = ((self.now < MOST) & (goal[:, 0] > 0))[:, None]
        if self.form == "position":
            seen: Tensor = (goal[:, 3:] - facts["position"] + self.size) * there
            return seen
        if self.form == "object":
            return goal[:, :3] * there
        return self._table.to(self.device)[goal[:, 0], goal[:, 1], goal[:, 2]] * there

    def _shown(self, obs: Any, facts: Mapping[str, Tensor]) -> Any:
        return {**obs, KEY: self._view(facts)}

    @staticmethod
    def _told(facts: Mapping[str, Tensor], now: Tensor, reached: Tensor) -> dict[str, Tensor]:
        return {**facts, "subgoal": now, "subgoal_reached": reached}

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        obs, info = self.env.observe()
        told = self._told(info["facts"], self.now, torch.zeros_like(self.now))
        return self._shown(obs, info["facts"]), {**info, "facts": told}

    def encode(self, obs: Any) -> Any:
        """Observations of the single environment, which have no subgoal."""
        tree = self.env.encode({k: v for k, v in obs.items() if k != KEY} if isinstance(obs, Mapping) else obs)
        rows = next(iter(tree.values())).shape[0]
        return {**tree, KEY: self._blank.to(self.device).expand(rows, -1)}

    def _own_state(self) -> dict[str, Any]:
        return {"plans": self.plans.clone(), "now": self.now.clone()}

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self.plans.copy_(state["plans"])
        self.now = state["now"].clone().to(self.device)
        self._cells = self.env.observe()[1]["facts"]["cells"].clone()


class SubgoalBonus(Pure):
    """``alpha * (1 - steps / max_steps)`` at each step that reaches a subgoal, over ``SubgoalEnv``.

    Args:
        alpha: The size; 0.2 in the paper.
        curriculum: Pay a subgoal less the more often it is reached: times the share of episodes that have not reached
            it lately. What is mastered pays nothing, and the bonus moves on to what is not.
        fact: Which fact says what was reached.
    """

    saved = ("missed",)

    def __init__(self, alpha: float = 0.2, curriculum: bool = False, fact: str = "subgoal_reached") -> None:
        if not alpha > 0:
            raise ValueError(f"SubgoalBonus(alpha={alpha}): above 0")
        self.alpha, self.curriculum, self.fact = float(alpha), bool(curriculum), fact
        self.missed = torch.ones(MOST + 1)
        self.max_steps = 1

    def bind(self, world: World) -> None:
        """Learn how long episodes may be."""
        if world.max_steps is None:
            raise ValueError("SubgoalBonus pays less the later it is: the environment has to say its longest episode")
        self.max_steps = world.max_steps
        self.missed = torch.ones(MOST + 1, device=world.device)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row."""
        reached = x.fact(self.fact, of_next=True).long()
        bonus = self.alpha * (1 - (x.t + 1).float() / self.max_steps).clamp(min=0)
        if self.curriculum:
            bonus = bonus * self.missed[reached.clamp(0, MOST)]
        return torch.where(x.valid & (reached > 0), bonus, 0.0)

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Follow how often each subgoal is reached, over the episodes that have ended."""
        x = source.recent
        ended = (x.done & x.valid).sum().clamp(min=1)
        reached = torch.where(x.valid, x.fact(self.fact, of_next=True).long(), 0).flatten().clamp(0, MOST)
        times = torch.bincount(reached, minlength=MOST + 1).float()[1:]
        share = (times / ended).clamp(max=1)
        rate = 0.1 if bool((x.done & x.valid).any()) else 0.0
        self.missed = torch.cat([self.missed[:1], self.missed[1:] + rate * (1 - share - self.missed[1:])])
        return {"reached": times.sum() / ended}

    @classmethod
    def examples(cls) -> list[Term]:
        """Over any fact that is 0 or 1."""
        return [cls(fact="carrying"), cls(1.0, curriculum=True, fact="carrying")]


def words(text: str, width: int = 64) -> Tensor:
    """A sentence as the sum of fixed random vectors of its words, ``[width]``: no model, but sentences that differ."""
    total = torch.zeros(width)
    for word in text.split():
        generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
        total += torch.randn(width, generator=generator) / width**0.5
    return total
