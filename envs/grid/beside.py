"""Upstream's environments beside a batch: the same keys, the same actions, and everything compared at every step.

The suite plays every id so for a while (``tests/envs/grid/test_exact_*.py``), ``benchmarks/grid_exact.py`` for long.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from minigrid.core.world_object import Wall

from . import layout as L
from . import single
from .engine import GridBatch
from .live import pack_object

COUNTED = (*L.EVENT_NAMES, "success", "timeout")
_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))  # by direction


class Wanderer:
    """Plays upstream's environment so that things happen: walks to things and does something to them.

    Random play seldom opens a door, and what never happens is not compared.
    """

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        self.env, self.rng = env, rng
        self.plan: deque[int] = deque()

    def __call__(self) -> int:
        """The next action."""
        if self.rng.random() < 0.15:
            self.plan.clear()
            return int(self.rng.integers(self.env.action_space.n))
        if not self.plan:
            self.plan.extend(self._errand())
        return self.plan.popleft()

    def _errand(self) -> list[int]:
        """Go next to a random thing by a shortest way, face it, and act."""
        env, cells = self.env, self.env.grid.grid
        things = [k for k, obj in enumerate(cells) if obj is not None and obj.type != "wall"]
        if not things:
            return [int(self.rng.integers(env.action_space.n))]
        goal = things[int(self.rng.integers(len(things)))]
        start = int(env.agent_pos[1]) * env.width + int(env.agent_pos[0])
        # From the thing to the agent, so that each cell knows the next one on its way.
        onward = {goal: goal}
        queue = deque([goal])
        while queue and start not in onward:
            at = queue.popleft()
            for dx, dy in _AHEAD:
                x, y = at % env.width + dx, at // env.width + dy
                near = y * env.width + x
                if 0 <= x < env.width and 0 <= y < env.height and near not in onward:
                    obj = cells[near]
                    if near == start or obj is None or (obj.can_overlap() and obj.type != "lava"):
                        onward[near] = at
                        queue.append(near)
        if start not in onward or start == goal:
            return [int(self.rng.integers(env.action_space.n))]
        actions, at, direction = [], start, int(env.agent_dir)
        while True:
            step = onward[at] - at
            wanted = {1: 0, env.width: 1, -1: 2, -env.width: 3}[step]
            actions += {0: [], 1: [L.RIGHT], 2: [L.RIGHT, L.RIGHT], 3: [L.LEFT]}[(wanted - direction) % 4]
            direction, at = wanted, onward[at]
            if at == goal:
                return [*actions, *self._act(cells[goal])]
            actions.append(L.FORWARD)

    def _act(self, obj: Any) -> list[int]:
        if self.env.action_space.n <= 3 or obj.type in ("goal", "lava", "floor"):
            return [L.FORWARD]
        if obj.type == "door":
            if self.rng.random() < 0.2:
                return [L.DONE]
            return [L.FORWARD, L.FORWARD] if obj.is_open else [L.TOGGLE, L.FORWARD]
        choice = self.rng.random()
        if self.env.carrying is not None and choice < 0.7:  # make room in the hands first
            return [L.LEFT, L.LEFT, L.DROP, L.LEFT, L.LEFT, L.PICKUP]
        return [L.PICKUP] if choice < 0.75 else [L.TOGGLE] if choice < 0.9 else [L.DONE]


class Beside:
    """A batch of N lanes of one id, and N of upstream's environments with the same keys.

    Args:
        upstream: The id.
        lanes: N.
        seed: Of the batch's streams, and of the play.
        kwargs: Arguments of upstream's class.
    """

    def __init__(self, upstream: str, lanes: int = 16, seed: int = 0, **kwargs: Any) -> None:
        self.upstream, self.seed, self.lanes = upstream, seed, range(lanes)
        self.batch = GridBatch(upstream, lanes, **kwargs)
        self.envs: list[Any] = [single.make(upstream, **kwargs) for _ in self.lanes]
        self.counts: Counter[str] = Counter({name: 0 for name in COUNTED})
        self._tokens: dict[str, list[int]] = {}
        rng = np.random.default_rng(seed)
        self._rng, self._players = rng, [Wanderer(env, rng) for env in self.envs]

    def levels(self, count: int) -> None:
        """Compare at least ``count`` levels, cell by cell, and the number of draws that each took.

        Raises:
            AssertionError: If one differs.
        """
        for episode in range(-(-count // len(self.envs))):
            self._reset(episode)
            counters = self.batch.arrays.state["rng"][:, L.COUNTER].tolist()
            self._same(f"level, episode {episode}", "draws", counters, [env.np_random.counter for env in self.envs])

    def _reset(self, episode: int) -> None:
        """Begin the first episode of every key, or the next."""
        seed = self.seed if episode == 0 else None
        obs, info = self.batch.reset(seed=seed)
        theirs = [
            env.reset(seed=seed, options={"lane": i} if episode == 0 else None)[0] for i, env in enumerate(self.envs)
        ]
        self._compare(f"reset, episode {episode}", self.lanes, theirs, obs, info["facts"])

    def play(self, steps: int) -> None:
        """Compare at least ``steps`` steps of all lanes together; every fourth lane plays at random.

        The events of what was played are added to ``counts``.

        Raises:
            AssertionError: If observation, reward, ends, agent, carried object or grid differ at any step.
        """
        self._reset(0)
        for t in range(-(-steps // len(self.envs))):
            actions = [
                int(self._rng.integers(self.envs[i].action_space.n)) if i % 4 == 0 else player()
                for i, player in enumerate(self._players)
            ]
            where = f"step {t}, actions {actions}"
            obs, reward, terminated, truncated, info = self.batch.step(torch.tensor(actions))
            results = [env.step(action) for env, action in zip(self.envs, actions, strict=True)]
            self._same(where, "reward", reward.tolist(), [float(np.float32(pay)) for _, pay, *_ in results])
            self._same(where, "terminated", terminated.tolist(), [bool(end) for _, _, end, _, _ in results])
            self._same(where, "truncated", truncated.tolist(), [bool(cut) for *_, cut, _ in results])
            done = [i for i, (_, _, end, cut, _) in enumerate(results) if end or cut]
            self._same(where, "_final_obs", info["_final_obs"].nonzero()[:, 0].tolist(), done)
            last, facts = info["final_facts"], info["facts"]
            observed = [result[0] for result in results]
            self._compare(f"{where}, last", done, [observed[i] for i in done], info["final_obs"], last)
            won = [bool(results[i][2]) and results[i][1] > 0 for i in done]
            self._same(where, "success", last["success"][done].tolist(), won)
            self._count(facts["events"].tolist() + last["events"][done].tolist(), won, truncated.tolist())
            for i in done:
                self._players[i].plan.clear()
                observed[i] = self.envs[i].reset()[0]
            self._compare(where, self.lanes, observed, obs, facts)

    def _count(self, events: list[int], won: list[bool], truncated: list[bool]) -> None:
        for event in events:
            for bit, name in enumerate(L.EVENT_NAMES if event else ()):
                self.counts[name] += event >> bit & 1
        self.counts["success"] += sum(won)
        self.counts["timeout"] += sum(truncated)

    def _encode(self, mission: str) -> list[int]:
        if mission not in self._tokens:
            space: Any = self.batch.single_observation_space
            self._tokens[mission] = space["mission"].encode(mission).tolist()
        return self._tokens[mission]

    def _compare(self, where: str, rows: Sequence[int], theirs: list[Any], obs: Any, facts: Any) -> None:
        """Some rows of the batch's tensors against the environments (which have not gone on since)."""
        if not rows:
            return
        envs, pick = [self.envs[i] for i in rows], list(rows)
        image, images = obs["image"][pick].numpy(), np.stack([seen["image"] for seen in theirs])
        if not np.array_equal(image, images):
            self._same(where, "image", image.tolist(), images.tolist())
        for name, values in (
            ("mission", [self._encode(seen["mission"]) for seen in theirs]),
            ("direction", [int(seen["direction"]) for seen in theirs]),
        ):
            self._same(where, name, obs[name][pick].tolist(), values)
        for name, values in (
            ("position", [[int(env.agent_pos[0]), int(env.agent_pos[1])] for env in envs]),
            ("carrying", [[-1, -1] if env.carrying is None else [*env.carrying.encode()[:2]] for env in envs]),
            ("steps", [env.step_count for env in envs]),
            ("cells", [_cells(env.grid.grid) for env in envs]),
        ):
            self._same(where, name, facts[name][pick].tolist(), values)

    def _same(self, where: str, name: str, ours: list[Any], theirs: list[Any]) -> None:
        if ours != theirs:
            bad = next((k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), "a missing one")
            raise AssertionError(
                f"{self.upstream}, seed {self.seed}, {where}: {name} differs first in row {bad}:\n{ours}\n"
                f"and upstream has\n{theirs}"
            )


def _cells(objects: list[Any]) -> list[int]:
    """A grid's cells as the batch keeps them; most are empty or grey walls, which is told here without a call."""
    return [
        L.EMPTY_CELL if obj is None
        else L.WALL_CELL if type(obj) is Wall and obj.color == "grey"
        else pack_object(obj)
        for obj in objects
    ]  # fmt: skip
