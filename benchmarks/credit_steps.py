"""A step reward learned from a planner's labels: the chance that an action is a step of a shortest plan.

What a process reward model is to a solution in words, this is to an episode: 64 levels side by side are lived by a
planner that is disturbed (by actions at random, in half of the levels mostly such), every state is planned from, and an
action is labelled right if the shortest plan is shorter after it. A network learns the label from what the agent sees
and does. Its output is a chance, above 0 for any action: a sum of it is larger for whoever goes on for longer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cairn.envs.grid.engine import GridBatch
from cairn.envs.grid.planner import _SPREAD, Engines, _among, _expand, _first_of_each, shortest_plans
from cairn.envs.spaces import Tree, tree_map
from cairn.shaping.networks import Encoder, Whitening, mlp
from cairn.shaping.stretch import Stretch

ACTIONS = (0, 1, 2, 3, 5)  # that the planner needs in DoorKey: turns, forward, pickup, toggle
WALKING = ACTIONS[:3]  # where there is nothing to handle
STATES = 20_000  # to look at for a plan, on average
KEPT = (0.6, 0.2)  # how often the planner has its way, in either half of the levels
PASSES, ROWS, HIDDEN = 20, 128, 64


class Lessons(NamedTuple):
    """What a planner labelled: observations ``[B, ...]``, actions and labels ``[B]``."""

    obs: Tree
    action: Tensor
    right: Tensor
    """1 where the action was a step of a shortest plan, else 0."""


@dataclass(frozen=True)
class StepReward:
    """The learned reward, and how well it does on a tenth of the rows that it was not trained on."""

    network: nn.Module
    whitening: Whitening
    rows: int
    accuracy: float

    def right(self, x: Stretch) -> Tensor:
        """The chance that each action was right, in [0, 1]."""
        lead = len(x.rows)
        obs = tree_map(lambda part: part.reshape(-1, *part.shape[lead:]), x.obs)
        assert isinstance(x.action, Tensor)
        out: Tensor = self.network(self.whitening(obs)).gather(1, x.action.reshape(-1, 1).long())[:, 0]
        return out.sigmoid().reshape(x.rows)


def plans(envs: GridBatch) -> tuple[Tensor, Tensor]:
    """The length of each level's shortest plan from here (infinite: none), and its first action (-1: none)."""
    found = shortest_plans(envs, max_states=STATES, actions=ACTIONS)
    lengths = torch.tensor([float("inf") if plan is None else float(len(plan)) for plan in found])
    return lengths, torch.tensor([plan[0] if plan else -1 for plan in found])


class Chart:
    """How far success is from every state that can be reached, for the levels seen so far: exact.

    Cheaper than a plan from every state, by far where levels are long and have hundreds of states. ``envs`` have the
    fact ``hash``.
    """

    def __init__(self, envs: GridBatch, actions: tuple[int, ...]) -> None:
        self.envs, self.actions = envs, actions
        self.level = torch.arange(envs.num_envs)  # a number for every episode: the same hash in two is two states
        self.engines = Engines(envs)
        self.states = torch.zeros(0, dtype=torch.int64)
        self.distance, self.action = torch.zeros(0), torch.zeros(0, dtype=torch.int64)

    def __call__(self, ended: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What ``plans`` says of the present states, where ``ended`` says whose episode is a new one."""
        if ended is not None:
            self.level = torch.where(ended, self.level + len(ended), self.level)
        now = self._now()
        new = (~_among(now, self.states)).nonzero()[:, 0]
        if len(new):
            self._explore(new)
        at = torch.searchsorted(self.states, now)
        return self.distance[at], self.action[at]

    def _now(self) -> Tensor:
        return self.envs.arrays.facts["hash"].cpu() ^ (self.level * _SPREAD)

    def _explore(self, lanes: Tensor) -> None:
        frontier = {name: part.cpu() for name, part in self.envs.get_state(lanes)["lanes"].items()}
        here, level = self._now()[lanes], self.level[lanes]
        known, edges = torch.sort(here)[0], []
        while len(here):
            step = _expand(self.engines, frontier, self.actions)
            level = level[step["row"]]
            there = step["hash"] ^ (level * _SPREAD)
            reward = torch.where(step["success"], 1.0, torch.inf)
            edges.append((here[step["row"]], there, step["action"], reward, ~step["done"]))
            rows = (~step["done"]).nonzero()[:, 0]
            rows = rows[_first_of_each(there[rows])[1]]
            rows = rows[~_among(there[rows], known)]
            here, level = there[rows], level[rows]
            known = torch.sort(torch.cat([known, here]))[0]
            frontier = {name: step[name][rows] for name in frontier}
        self._relax(*(torch.cat(parts) for parts in zip(*edges)))

    def _relax(self, source: Tensor, target: Tensor, action: Tensor, last: Tensor, going: Tensor) -> None:
        """Take the distances in from the steps ``[E]``: ``last`` is 1 where a step succeeds."""
        states = torch.unique(source)
        begin = torch.searchsorted(states, source)
        end = torch.searchsorted(states, target).clamp(max=len(states) - 1)
        distance, through = torch.full((len(states),), torch.inf), last
        while True:
            shorter = torch.full_like(distance, torch.inf).scatter_reduce(0, begin, through, "amin")
            if torch.equal(shorter, distance):
                break
            distance = shorter
            through = torch.where(going, 1 + distance[end], last)
        best = torch.where((through == distance[begin]) & through.isfinite(), action, len(ACTIONS) + 2)
        first = torch.full((len(states),), len(ACTIONS) + 2).scatter_reduce(0, begin, best, "amin")
        fresh = ~_among(states, self.states)
        self.states, order = torch.sort(torch.cat([self.states, states[fresh]]))
        self.distance = torch.cat([self.distance, distance[fresh]])[order]
        self.action = torch.cat([self.action, torch.where(distance.isfinite(), first, -1)[fresh]])[order]


def labelled(
    envs: GridBatch, steps: int, seed: int = 0, look: Callable[[Tensor | None], tuple[Tensor, Tensor]] | None = None
) -> Lessons:
    """Live ``steps`` steps in each level; steps that time cut off have no label and are left out.

    ``look`` says what ``plans`` says, and is told whose episode is a new one.
    """
    look = look or (lambda _: plans(envs))
    generator = torch.Generator().manual_seed(seed)
    obs, _ = envs.reset(seed=seed)
    lanes, count = envs.num_envs, int(envs.single_action_space.n)  # type: ignore[attr-defined]
    share = torch.tensor(KEPT).repeat_interleave(-(-lanes // 2))[:lanes]
    seen, done, right, known = [], [], [], []
    before, planned = look(None)
    for _ in range(steps):
        kept = (torch.rand(lanes, generator=generator) < share) & (planned >= 0)
        action = torch.where(kept, planned, torch.randint(0, count, (lanes,), generator=generator))
        seen.append(tree_map(torch.clone, obs))
        done.append(action)
        obs, reward, terminated, truncated, _ = envs.step(action)
        after, planned = look(terminated | truncated)
        right.append(torch.where(terminated, reward > 0, after < before))
        known.append(~truncated & before.isfinite())
        before = after
    which = torch.cat(known)
    rows = tree_map(lambda *parts: torch.cat(parts)[which], *seen)
    return Lessons(rows, torch.cat(done)[which], torch.cat(right)[which].float())


def learn(envs: GridBatch, lessons: Lessons, seed: int = 0) -> StepReward:
    """Learn the labels by cross-entropy."""
    obs, action, label = lessons
    generator = torch.Generator().manual_seed(seed)
    whitening = Whitening(envs.single_observation_space)
    count = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    network = nn.Sequential(Encoder(whitening.parts, HIDDEN, generator), mlp([HIDDEN, HIDDEN, count], generator))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)

    def said(index: Tensor) -> Tensor:
        out: Tensor = network(whitening(tree_map(lambda part: part[index], obs)))
        return out.gather(1, action[index, None])[:, 0]

    order = torch.randperm(len(label), generator=generator)
    held, rows = order[: len(order) // 10], order[len(order) // 10 :]
    for _ in range(PASSES):
        for index in torch.split(rows[torch.randperm(len(rows), generator=generator)], ROWS):
            loss = nn.functional.binary_cross_entropy_with_logits(said(index), label[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.requires_grad_(False)
    accuracy = float(((said(held) > 0) == (label[held] > 0)).float().mean())
    return StepReward(network, whitening, len(label), accuracy)
