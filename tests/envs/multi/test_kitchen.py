"""The kitchen against a plain loop, and a soup cooked by hand."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.envs.multi.ids import MULTI_IDS
from cairn.envs.multi.kitchen import KITCHENS

N, S, E, W, STAY, DO = range(6)
STEP = {N: (0, -1), S: (0, 1), E: (1, 0), W: (-1, 0)}
IDS = {kwargs["kitchen"]: name for name, _, _, kwargs in MULTI_IDS if kwargs["world"] == "kitchen"}


class Loop:
    """One kitchen, cook by cook."""

    def __init__(self, rows: tuple[str, ...]) -> None:
        self.grid = [list(row) for row in rows]
        where = {c: (x, y) for y, row in enumerate(rows) for x, c in enumerate(row)}
        self.at, self.way, self.held = [where["1"], where["2"]], [N, N], ["", ""]
        self.lying: dict[tuple[int, int], str] = {}
        self.pots = {(x, y): [0, 0] for y, row in enumerate(rows) for x, c in enumerate(row) if c == "P"}
        self.t = 0

    def kind(self, at: tuple[int, int]) -> str:
        kind = self.grid[at[1]][at[0]]
        return " " if kind in "12" else kind

    def step(self, actions: Any) -> float:
        paid = 0.0
        for a in range(2):
            if actions[a] == DO:
                paid += self.interact(a)
        to = []
        for a in range(2):
            x, y = self.at[a]
            if actions[a] in STEP:
                self.way[a] = int(actions[a])
                dx, dy = STEP[self.way[a]]
                if self.kind((x + dx, y + dy)) == " ":
                    x, y = x + dx, y + dy
            to.append((x, y))
        if to[0] != to[1] and not (to[0] == self.at[1] and to[1] == self.at[0]):
            self.at = to
        for pot in self.pots.values():
            if pot[0] == 3:
                pot[1] = min(pot[1] + 1, 20)
        self.t += 1
        return paid

    def interact(self, a: int) -> float:
        dx, dy = STEP[self.way[a]]
        front = (self.at[a][0] + dx, self.at[a][1] + dy)
        kind, held = self.kind(front), self.held[a]
        if kind == "X" and held and front not in self.lying:
            self.lying[front], self.held[a] = held, ""
        elif kind == "X" and not held and front in self.lying:
            self.held[a] = self.lying.pop(front)
        elif kind == "O" and not held:
            self.held[a] = "onion"
        elif kind == "D" and not held:
            self.held[a] = "dish"
        elif kind == "P" and held == "onion" and self.pots[front][0] < 3:
            self.pots[front][0] += 1
            self.held[a] = ""
        elif kind == "P" and held == "dish" and self.pots[front][1] == 20:
            self.pots[front] = [0, 0]
            self.held[a] = "soup"
        elif kind == "S" and held == "soup":
            self.held[a] = ""
            return 20.0
        return 0.0

    def seen(self, me: int) -> Any:
        height, width = len(self.grid), len(self.grid[0])
        planes = np.zeros((21, height, width), int)
        for k, a in enumerate((me, 1 - me)):
            x, y = self.at[a]
            planes[k, y, x] = 1
            planes[2 + 4 * k + self.way[a], y, x] = 1
            for j, thing in enumerate(("onion", "dish", "soup")):
                planes[18 + j, y, x] += self.held[a] == thing
        for y in range(height):
            for x in range(width):
                if self.kind((x, y)) != " ":
                    planes[10 + "XPODS".index(self.kind((x, y))), y, x] = 1
                if (x, y) in self.lying:
                    planes[18 + ("onion", "dish", "soup").index(self.lying[x, y]), y, x] += 1
        for (x, y), (onions, cooked) in self.pots.items():
            planes[15:18, y, x] = onions, cooked, cooked == 20
        return planes.reshape(-1)

    def busy(self, a: int, rng: Any) -> int:
        """Mostly does something sensible with what is in front, so that soups come about."""
        dx, dy = STEP[self.way[a]]
        front = (self.at[a][0] + dx, self.at[a][1] + dy)
        kind, held = self.kind(front), self.held[a]
        full = any(p[0] == 3 for p in self.pots.values())
        good = (
            (kind == "O" and not full) or (kind == "D" and full) or (kind == "P" and held) or kind == "S"
            or (kind == "X" and rng.random() < 0.1)
        )  # fmt: skip
        return DO if good and rng.random() < 0.8 else int(rng.integers(0, 6 if rng.random() < 0.2 else 4))


@pytest.mark.parametrize("kitchen", KITCHENS)
def test_a_batch_lives_what_a_plain_loop_lives(kitchen: str) -> None:
    lanes, steps = 2, 1200
    batch: Any = gym.make_vec(IDS[kitchen], num_envs=lanes, device="cpu")
    obs, _ = batch.reset(seed=0)
    loops, rng, paid = [Loop(KITCHENS[kitchen]) for _ in range(lanes)], np.random.default_rng(1), 0.0
    for t in range(steps):
        if t % 5 == 0:
            for lane, loop in enumerate(loops):
                for a in range(2):
                    np.testing.assert_array_equal(obs[lane, a], loop.seen(a))
        action = [[loop.busy(a, rng) for a in range(2)] for loop in loops]
        obs, reward, terminated, truncated, info = batch.step(torch.tensor(action))
        for lane, loop in enumerate(loops):
            served = loop.step(action[lane])
            assert reward[lane].tolist() == [served, served] and not bool(terminated[lane])
            assert bool(truncated[lane]) == (loop.t == 400)
            paid += served
            if loop.t == 400:
                np.testing.assert_array_equal(info["final_obs"][lane, 1], loop.seen(1))
                loops[lane] = Loop(KITCHENS[kitchen])
    if kitchen in ("cramped_room", "asymmetric_advantages"):
        assert paid > 0, "a soup was served, or the test has seen little"


def test_a_soup_by_hand() -> None:
    batch: Any = gym.make_vec("cairn/Overcooked-CrampedRoom-v0", num_envs=1, device="cpu")
    batch.reset(seed=0)
    total = 0.0

    def do(*actions: int, other: int = STAY) -> None:
        nonlocal total
        for action in actions:
            # Cook 0 begins below on the left, cook 1 above on the right, who waits there.
            total += float(batch.step(torch.tensor([[action, other]]))[1][0, 0])

    for _ in range(3):
        do(N, W, DO, E, N, DO, S, W)  # up, to the onions, take one; to the pot, put it in; back
    facts = batch.observe()[1]["facts"]
    assert int(facts["potted"]) == 3
    pot = batch._s["cooked"][0].max()
    assert int(pot) == 3, "it cooks in the step in which the third onion goes in, and two steps have passed since"
    do(*[STAY] * 16)
    do(S, DO, N, E, N, DO)  # a dish; the pot is not ready a step too early
    assert total == 0 and int(batch.observe()[1]["facts"]["plated"]) == 1
    do(S, E, S, DO)
    assert total == 20.0 and int(batch.observe()[1]["facts"]["delivered"]) == 1


def test_cooks_do_not_pass_through_each_other() -> None:
    batch: Any = gym.make_vec("cairn/Overcooked-CrampedRoom-v0", num_envs=1, device="cpu")
    batch.reset(seed=0)
    batch._s["at"] = torch.tensor([[6, 7]])
    batch.step(torch.tensor([[E, W]]))
    assert batch._s["at"].tolist() == [[6, 7]] and batch._s["way"].tolist() == [[E, W]], "they turn and stay"
    batch.step(torch.tensor([[E, STAY]]))
    assert batch._s["at"].tolist() == [[6, 7]], "nor onto one another"
    batch._s["at"] = torch.tensor([[6, 8]])
    batch.step(torch.tensor([[E, W]]))
    assert batch._s["at"].tolist() == [[6, 8]], "nor both onto one cell"


def test_an_unknown_kitchen_is_refused() -> None:
    with pytest.raises(ValueError, match="cramped_room"):
        gym.make_vec("cairn/Overcooked-CrampedRoom-v0", num_envs=1, kitchen="bistro")
