"""The Overcooked kitchen: two cooks put three onions into a pot, wait, and serve the soup on a dish.

Carroll et al., "On the utility of learning about humans for human-AI coordination", 2019: its five kitchens and its
rules (a pot with three onions cooks by itself for 20 steps; 20 for everybody when a soup is served; 400 steps). Within
a step the cooks first interact, cook 0 before cook 1, then both move, then the pots cook. Cooks who would end on one
cell, or change places, both stay where they are; they turn in any case.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .pictures import canvas, colour_of, disc
from .team import TeamWorld

# X counter, P pot, O onions, D dishes, S serving; 1 and 2 are where the cooks begin.
KITCHENS: dict[str, tuple[str, ...]] = {
    "cramped_room": ("XXPXX", "O  2O", "X1  X", "XDXSX"),
    "asymmetric_advantages": ("XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX"),
    "coordination_ring": ("XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX"),
    "forced_coordination": ("XXXPX", "O X1P", "O2X X", "D X X", "XXXSX"),
    "counter_circuit": ("XXXPPXXX", "X  2   X", "D XXXX S", "X  1   X", "XXXOOXXX"),
}
SOUP_SIZE, COOKING, SERVED = 3, 20, 20.0
NOTHING, ONION, DISH, SOUP = range(4)
NORTH, SOUTH, EAST, WEST, STAY, INTERACT = range(6)
TILE = 24
_KINDS = "XPODS"
_COLOURS = {
    "X": (170, 130, 90),
    "P": (70, 70, 75),
    "O": (225, 200, 90),
    "D": (220, 225, 230),
    "S": (110, 185, 110),
    " ": (240, 235, 225),
}
_THINGS = {ONION: (200, 160, 30), DISH: (255, 255, 255), SOUP: (215, 105, 45)}


class Kitchen(TeamWorld):
    """One of the kitchens; six actions: north, south, east, west, stay, interact.

    Observations are planes of the kitchen, uint8, flattened ``[C * H * W]``, each cook being shown itself first: where
    I am, where the other is; the way I look (four planes), the way the other looks (four); counters, pots, onions,
    dishes, serving; onions in a pot, steps it has cooked, soups ready; what lies or is carried: onions, dishes, soups.

    The facts ``potted``, ``plated`` and ``delivered`` ``[N]`` count the episode's onions put into pots, soups put on
    dishes and soups served; ``success`` is that one was served.

    Args:
        num_envs: N.
        kitchen: A name in ``KITCHENS``.
        kwargs: ``device``, ``max_episode_steps``, ``render_mode``.

    Raises:
        ValueError: There is no such kitchen.
    """

    def __init__(self, num_envs: int, *, kitchen: str = "cramped_room", **kwargs: Any) -> None:
        if kitchen not in KITCHENS:
            raise ValueError(f"no kitchen is called {kitchen!r}; there are {', '.join(KITCHENS)}")
        rows = self.rows = KITCHENS[kitchen]
        self.height, self.width = len(rows), len(rows[0])
        self.cells = self.height * self.width
        text = "".join(rows)
        observation = spaces.Box(0, COOKING, (21 * self.cells,), np.uint8)
        names = ("agent_0", "agent_1")
        super().__init__(num_envs, names, observation, spaces.Discrete(6), max_steps=400, **kwargs)
        where = {kind: torch.tensor([c == kind for c in text], device=self.device) for kind in _KINDS}
        self._is = where
        self._free = torch.tensor([c in " 12" for c in text], device=self.device)
        self._first = torch.tensor([text.index("1"), text.index("2")], device=self.device)
        self._step = torch.tensor([-self.width, self.width, 1, -1], device=self.device)
        self._static = torch.stack([where[kind] for kind in _KINDS]).to(torch.uint8)

    def _begin(self) -> dict[str, Tensor]:
        n, zero = self.num_envs, torch.zeros_like(self._t)
        grid = zero[:, None].repeat(1, self.cells)
        return {
            "at": self._first.expand(n, 2).clone(),
            "way": torch.full((n, 2), NORTH, device=self.device),
            "held": zero[:, None].repeat(1, 2),
            "lying": grid,
            "onions": grid.clone(),
            "cooked": grid.clone(),
            "potted": zero,
            "plated": zero.clone(),
            "delivered": zero.clone(),
        }

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        s = {name: value.clone() for name, value in self._s.items()}
        served = torch.zeros_like(self._t)
        for cook in range(2):
            served = served + self._interact(s, cook, actions[:, cook] == INTERACT)
        turning = actions < STAY
        s["way"] = torch.where(turning, actions, s["way"])
        ahead = s["at"] + torch.where(turning, self._step[actions.clamp(max=WEST)], 0)
        there = torch.where(self._free[ahead], ahead, s["at"])
        same = there[:, 0] == there[:, 1]
        crossed = (there[:, 0] == s["at"][:, 1]) & (there[:, 1] == s["at"][:, 0])
        s["at"] = torch.where((same | crossed)[:, None], s["at"], there)
        s["cooked"] = torch.where(s["onions"] == SOUP_SIZE, (s["cooked"] + 1).clamp(max=COOKING), s["cooked"])
        s["delivered"] = s["delivered"] + served
        reward = (SERVED * served).float()[:, None].repeat(1, 2)
        return s, reward, torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)

    def _interact(self, s: dict[str, Tensor], cook: int, does: Tensor) -> Tensor:
        """Let one cook act on what is in front of it, in place; returns the soups served, int64 ``[N]``."""
        front = s["at"][:, cook] + self._step[s["way"][:, cook]]
        held, spot = s["held"][:, cook].clone(), front[:, None]
        lying, onions, cooked = (s[name].gather(1, spot)[:, 0] for name in ("lying", "onions", "cooked"))
        counter, pot = does & self._is["X"][front], does & self._is["P"][front]
        empty = held == NOTHING
        puts, takes = counter & ~empty & (lying == NOTHING), counter & empty & (lying != NOTHING)
        fills = pot & (held == ONION) & (onions < SOUP_SIZE)
        plates = pot & (held == DISH) & (cooked >= COOKING)
        serves = does & self._is["S"][front] & (held == SOUP)
        after = torch.where(puts | fills | serves, NOTHING, held)
        after = torch.where(takes, lying, after)
        after = torch.where(plates, SOUP, after)
        after = torch.where(does & self._is["O"][front] & empty, ONION, after)
        after = torch.where(does & self._is["D"][front] & empty, DISH, after)
        s["held"][:, cook] = after
        s["lying"].scatter_(1, spot, torch.where(puts, held, torch.where(takes, NOTHING, lying))[:, None])
        s["onions"].scatter_(1, spot, torch.where(plates, 0, onions + fills)[:, None])
        s["cooked"].scatter_(1, spot, torch.where(plates, 0, cooked)[:, None])
        s["potted"] += fills
        s["plated"] += plates
        return serves.long()

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        n = self.num_envs
        own = torch.zeros(n, 2, 5, self.cells, dtype=torch.uint8, device=self.device)  # a cook's place, its way
        at = state["at"][..., None]
        own[:, :, 0].scatter_(2, at, 1)
        who = (1 + state["way"])[..., None, None].expand(-1, -1, 1, self.cells)
        own.scatter_(2, who, own[:, :, :1])
        things = [self._things(state, thing) for thing in (ONION, DISH, SOUP)]
        ready = state["cooked"] >= COOKING
        world = torch.stack([state["onions"], state["cooked"], ready, *things], 1).to(torch.uint8)
        world = torch.cat([self._static.expand(n, -1, -1), world], 1)
        views = []
        for me in range(2):
            other = 1 - me
            places = torch.stack([own[:, me, 0], own[:, other, 0]], 1)
            views.append(torch.cat([places, own[:, me, 1:], own[:, other, 1:], world], 1).flatten(1))
        return torch.stack(views, 1)

    def _things(self, state: dict[str, Tensor], thing: int) -> Tensor:
        """Where a thing lies or is carried, ``[N, cells]``."""
        carried = (state["held"] == thing).long()
        return (state["lying"] == thing).long().scatter_add(1, state["at"], carried)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        facts = {name: state[name] for name in ("potted", "plated", "delivered")}
        return {**facts, "success": state["delivered"] > 0}

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        picture = canvas(self.num_envs, self.height * TILE, self.width * TILE, self.device)
        for y, row in enumerate(self.rows):
            for x, kind in enumerate(row):
                colour = _COLOURS[" " if kind in "12" else kind]
                tile = picture[:, y * TILE + 1 : (y + 1) * TILE, x * TILE + 1 : (x + 1) * TILE]
                tile[:] = torch.tensor(colour, dtype=torch.uint8, device=self.device)
        away = -10 * TILE

        def middle(cell: Tensor, where: Tensor, dx: float = 0, dy: float = 0) -> Tensor:
            x, y = (cell % self.width + 0.5 + dx) * TILE, (cell // self.width + 0.5 + dy) * TILE
            return torch.where(where[:, None], torch.stack([x, y], -1), float(away))

        always = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        for cell in range(self.cells):
            here = torch.full_like(self._t, cell)
            for thing, colour in _THINGS.items():
                if not bool(self._free[cell]):
                    disc(picture, middle(here, state["lying"][:, cell] == thing), TILE * 0.25, colour)
            if bool(self._is["P"][cell]):
                for k in range(SOUP_SIZE):
                    at = middle(here, state["onions"][:, cell] > k, (k - 1) * 0.25)
                    disc(picture, at, TILE * 0.13, _THINGS[ONION])
                disc(picture, middle(here, state["cooked"][:, cell] >= COOKING), TILE * 0.3, _THINGS[SOUP])
        ways = [(0.0, -0.35), (0.0, 0.35), (0.35, 0.0), (-0.35, 0.0)]
        for cook in range(2):
            at, way = state["at"][:, cook], state["way"][:, cook]
            disc(picture, middle(at, always), TILE * 0.4, colour_of(cook))
            for number, (dx, dy) in enumerate(ways):
                disc(picture, middle(at, way == number, dx, dy), TILE * 0.1, (20, 20, 20))
            for thing, colour in _THINGS.items():
                disc(picture, middle(at, state["held"][:, cook] == thing), TILE * 0.2, colour)
        return picture

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        out = []
        for at in state["at"].tolist():
            cells = list("".join(self.rows).replace("1", " ").replace("2", " "))
            cells[at[0]], cells[at[1]] = "A", "B"
            out.append("\n".join("".join(cells[k : k + self.width]) for k in range(0, self.cells, self.width)))
        return out

    def _check(self, tensors: dict[str, Tensor]) -> None:
        at = tensors["at"]
        if bool(((at < 0) | (at >= self.cells)).any()) or not bool(self._free[at].all()):
            raise ValueError("Kitchen: a saved cook stands where no cook can stand")
        for name, most in (("way", 3), ("held", 3), ("lying", 3), ("onions", SOUP_SIZE), ("cooked", COOKING)):
            if bool(((tensors[name] < 0) | (tensors[name] > most)).any()):
                raise ValueError(f"Kitchen: the saved values of {name} go beyond {most}")
