"""Gems against a plain loop, and by hand."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.grid.stream import Stream, episode_key

WAYS = [(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0)]


class Loop:
    def __init__(self, seed: int, lane: int, episode: int) -> None:
        self.key, self.t, self.collected = episode_key(seed, lane, episode), 0, 0
        places = self.cells(1, 11)
        self.agents, self.gems = places[:2], places[2:]

    def cells(self, first: int, count: int) -> list[tuple[int, int]]:
        stream = Stream(self.key, first - 1)
        return [(int(stream.random() * 15), int(stream.random() * 15)) for _ in range(count)]

    def step(self, action: Any) -> tuple[list[float], bool]:
        fresh = self.cells(23 + 18 * self.t, 9)
        for a in range(2):
            x, y = self.agents[a]
            dx, dy = WAYS[int(action[a])]
            self.agents[a] = (min(max(x + dx, 0), 14), min(max(y + dy, 0), 14))
        reward, gone = [0.0, 0.0], set()
        for a in range(2):
            mine = [k for k in range(3 * a, 3 * a + 3) if self.gems[k] == self.agents[a]]
            if mine:
                reward[a] += 1
                self.collected += 1
                gone |= set(mine)
        purple = [[k for k in range(6, 9) if self.gems[k] == self.agents[a]] for a in range(2)]
        if all(purple):
            reward = [r + 6 for r in reward]
            self.collected += len({self.gems[k] for k in purple[0] + purple[1]})
            gone |= set(purple[0] + purple[1])
        for k in gone:
            self.gems[k] = fresh[k]
        self.t += 1
        return reward, self.collected >= 7

    def seen(self, a: int) -> list[float]:
        (x, y), (ox, oy) = self.agents[a], self.agents[1 - a]
        out = [2 * x / 14 - 1, 2 * y / 14 - 1, (ox - x) / 14, (oy - y) / 14]
        for group in (a, 1 - a, 2):
            gems = self.gems[3 * group : 3 * group + 3]
            for gx, gy in sorted(gems, key=lambda g: abs(g[0] - x) + abs(g[1] - y)):
                out += [(gx - x) / 14, (gy - y) / 14]
        return out

    def greedy(self, rng: Any) -> list[int]:
        """Agent 0 goes for its own gems or purple ones, agent 1 likewise, both now and then at random."""
        out = []
        for a in range(2):
            goal = self.gems[6] if self.t < 20 else self.gems[3 * a]
            dx, dy = goal[0] - self.agents[a][0], goal[1] - self.agents[a][1]
            move = (1 if dx > 0 else 3) if dx else (0 if dy > 0 else 2) if dy else 4
            out.append(int(rng.integers(5)) if rng.random() < 0.2 else move)
        return out


@pytest.mark.parametrize("view", ["places", "planes"])
def test_a_batch_lives_what_a_plain_loop_lives(view: str) -> None:
    lanes = 5
    batch: Any = gym.make_vec("cairn/Gems-v0", num_envs=lanes, device="cpu", view=view)
    obs, _ = batch.reset(seed=3)
    loops, episodes = [Loop(3, lane, 0) for lane in range(lanes)], [0] * lanes
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(600):
        for lane, loop in enumerate(loops):
            for a in range(2):
                if view == "places":
                    np.testing.assert_allclose(obs[lane, a], loop.seen(a), atol=1e-6)
                else:
                    planes = obs[lane, a].reshape(5, 15, 15)
                    groups = [
                        [loop.agents[a]],
                        [loop.agents[1 - a]],
                        *(loop.gems[k : k + 3] for k in (3 * a, 3 - 3 * a, 6)),
                    ]
                    for plane, places in zip(planes, groups):
                        assert {(x, y) for y, x in plane.nonzero().tolist()} == set(places) and int(plane.max()) == 1
        action = [loop.greedy(rng) for loop in loops]
        obs, reward, terminated, truncated, info = batch.step(torch.tensor(action))
        for lane, loop in enumerate(loops):
            paid, over = loop.step(action[lane])
            assert reward[lane].tolist() == paid
            assert bool(terminated[lane]) == over and bool(truncated[lane]) == (loop.t == 45 and not over)
            assert int(info["final_facts"]["collected"][lane]) == loop.collected
            kinds |= {*paid, "over"} if over else set(paid)
            if over or loop.t == 45:
                episodes[lane] += 1
                loops[lane] = Loop(3, lane, episodes[lane])
    assert {0.0, 1.0, 6.0, "over"} <= kinds, "all that can be paid was paid"


def world(agents: list[list[int]], gems: list[list[int]]) -> Any:
    batch: Any = gym.make_vec("cairn/Gems-v0", num_envs=1, device="cpu")
    batch.reset(seed=0)
    batch._s["agent"], batch._s["gem"] = torch.tensor([agents]), torch.tensor([gems])
    return batch


def test_payments_by_hand() -> None:
    away = [[14, 14]] * 2
    batch = world([[1, 0], [5, 5]], [[0, 0], *away, [0, 0], *away, [14, 0], *away])
    _, reward, *_, info = batch.step(torch.tensor([[3, 4]]))  # agent 0 steps left, on its own gem and another's
    assert reward.tolist() == [[1, 0]] and info["facts"]["own"].tolist() == [[1, 0]]
    assert batch._s["gem"][0, 3].tolist() == [0, 0], "the other's gem stays"
    batch = world([[1, 0], [1, 0]], [[9, 9]] * 6 + [[0, 0], [0, 0], [9, 9]])
    _, reward, *_, info = batch.step(torch.tensor([[3, 4]]))
    assert reward.tolist() == [[0, 0]], "one on purple is not paid"
    _, reward, *_, info = batch.step(torch.tensor([[4, 3]]))
    assert reward.tolist() == [[6, 6]] and int(info["facts"]["together"]) == 1
    assert int(info["facts"]["collected"]) == 1, "two gems on one cell count as one"


def test_seven_gems_end_it() -> None:
    batch = world([[1, 0], [5, 5]], [[0, 0]] + [[14, 14]] * 8)
    batch._s["collected"] += 6
    _, _, terminated, truncated, info = batch.step(torch.tensor([[3, 4]]))
    assert bool(terminated) and not bool(truncated) and bool(info["final_facts"]["success"])
    assert int(info["facts"]["collected"]) == 0


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="view"):
        gym.make_vec("cairn/Gems-v0", num_envs=1, view="pixels")
