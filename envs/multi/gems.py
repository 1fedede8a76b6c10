"""Gems: two agents on a board who collect their own gems alone and purple ones together.

From Haynam et al., "Multi-agent inverse Q-learning from demonstrations", 2025; sizes and payments are those of its
published code. Two things differ from that code, where they look like slips: both agents move before anything is
collected, and gems appear again anywhere on the board.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..tabular.draws import uniform
from .pictures import canvas, colour_of, disc
from .team import TeamWorld

BOARD, GEMS, ENOUGH, TOGETHER = 15, 3, 7, 6.0
TILE, PURPLE = 12, (150, 60, 190)
_MOVES = [[0, 1], [1, 0], [0, -1], [-1, 0], [0, 0]]  # down, right, up, left, stay; places are (across, down)


class Gems(TeamWorld):
    """A board of 15 x 15 with three gems of each agent's colour and three purple ones.

    An agent that steps on a gem of its own colour is paid 1. When each stands on a purple gem (the same, or two), both
    are paid 6. Gems that are collected appear elsewhere. The episode terminates when seven gems have been collected
    and is truncated after 45 steps. Agents may stand on one cell.

    The fact ``collected`` ``[N]`` counts the gems, ``own`` ``[N, A]`` each agent's own and ``together`` ``[N]`` the
    times both were on purple. ``success`` is that seven were collected.

    Args:
        num_envs: N.
        view: ``"places"``: own place and the way to the other agent and to each gem (own, the other's, purple; the
            nearest of each colour first), 22 numbers in [-1, 1]. ``"planes"``: the board in five planes (me, the
            other, my gems, the other's, purple), uint8, flattened.
        kwargs: ``device``, ``max_episode_steps``, ``render_mode``.

    Raises:
        ValueError: ``view`` is neither.
    """

    agent_facts = ("own",)

    def __init__(self, num_envs: int, *, view: str = "places", **kwargs: Any) -> None:
        if view not in ("places", "planes"):
            raise ValueError(f"view={view!r}: it is 'places' or 'planes'")
        self.view = view
        seen = (
            spaces.Box(-1, 1, (22,), np.float32)
            if view == "places"
            else spaces.Box(0, 1, (5 * BOARD * BOARD,), np.uint8)
        )
        super().__init__(num_envs, ("agent_0", "agent_1"), seen, spaces.Discrete(5), max_steps=45, **kwargs)
        self._ways = torch.tensor(_MOVES, device=self.device)

    def _cells(self, first: Tensor | int, count: int) -> Tensor:
        """Cells drawn from number ``first`` on, int64 ``[N, count, 2]``."""
        counters = torch.arange(2 * count, device=self.device) + (first if isinstance(first, int) else first[:, None])
        return (uniform(self._key[:, None], counters) * BOARD).long().reshape(-1, count, 2)

    def _begin(self) -> dict[str, Tensor]:
        places, zero = self._cells(1, 2 + 3 * GEMS), torch.zeros_like(self._t)
        own = zero[:, None].repeat(1, 2)
        # The gems: three of agent 0, three of agent 1, three purple.
        return {"agent": places[:, :2], "gem": places[:, 2:], "collected": zero, "own": own, "together": zero.clone()}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        s = self._s
        agent = (s["agent"] + self._ways[actions]).clamp(0, BOARD - 1)
        on = (agent[:, :, None] == s["gem"][:, None]).all(-1)  # [N, 2, 9]
        both = on[:, :, 2 * GEMS :].any(-1).all(-1)
        taken = torch.cat([on[:, 0, :GEMS], on[:, 1, GEMS : 2 * GEMS], on[:, :, 2 * GEMS :].any(1) & both[:, None]], 1)
        # One's own gems that lie on one cell are collected, and paid, as one.
        own = torch.stack([taken[:, :GEMS].any(1), taken[:, GEMS : 2 * GEMS].any(1)], 1)
        fresh = self._cells(23 + 18 * self._t, 3 * GEMS)
        purple = _distinct(s["gem"][:, 2 * GEMS :], taken[:, 2 * GEMS :])
        collected = s["collected"] + own.sum(1) + purple
        state = {
            "agent": agent,
            "gem": torch.where(taken[..., None], fresh, s["gem"]),
            "collected": collected,
            "own": s["own"] + own,
            "together": s["together"] + both,
        }
        reward = own.float() + TOGETHER * both.float()[:, None]
        return state, reward, collected >= ENOUGH

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        agent, gem = state["agent"], state["gem"].reshape(-1, 3, GEMS, 2)
        by_agent = torch.stack([gem, gem[:, [1, 0, 2]]], 1)  # [N, 2, own / other's / purple, 3, 2]
        if self.view == "planes":
            return self._planes(agent, by_agent)
        way = by_agent - agent[:, :, None, None]
        nearest = torch.argsort(way.abs().sum(-1), dim=-1, stable=True)
        way = way.gather(3, nearest[..., None].expand_as(way)).flatten(2)
        here = 2 * agent / (BOARD - 1) - 1
        return torch.cat([here, (agent.flip(1) - agent) / (BOARD - 1), way / (BOARD - 1)], -1).float()

    def _planes(self, agent: Tensor, gem: Tensor) -> Tensor:
        out = torch.zeros(self.num_envs, 2, 5, BOARD * BOARD, dtype=torch.uint8, device=self.device)
        cell = agent[..., 1] * BOARD + agent[..., 0]
        gems = gem[..., 1] * BOARD + gem[..., 0]
        places = torch.cat([torch.stack([cell, cell.flip(1)], 2)[..., None].expand(-1, -1, -1, GEMS), gems], 2)
        return out.scatter_(3, places, 1).flatten(2)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        facts = {name: state[name] for name in ("collected", "own", "together")}
        return {**facts, "success": state["collected"] >= ENOUGH}

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        picture = canvas(self.num_envs, BOARD * TILE, BOARD * TILE, self.device, 30)
        middle = state["gem"] * TILE + TILE / 2
        for k in range(3 * GEMS):
            colour = PURPLE if k >= 2 * GEMS else colour_of(k // GEMS)
            disc(picture, middle[:, k], TILE * 0.28, colour)
        for a in range(2):
            at = state["agent"][:, a] * TILE + TILE / 2
            disc(picture, at, TILE * (0.5 - 0.08 * a), (235, 235, 235))
            disc(picture, at, TILE * (0.42 - 0.08 * a), colour_of(a))
        return picture

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        out = []
        for agent, gem in zip(state["agent"].tolist(), state["gem"].tolist()):
            rows = [["."] * BOARD for _ in range(BOARD)]
            for k, (x, y) in enumerate(gem):
                rows[y][x] = "abp"[k // GEMS]
            for name, (x, y) in zip("AB", agent):
                rows[y][x] = name
            out.append("\n".join("".join(row) for row in rows))
        return out

    def _check(self, tensors: dict[str, Tensor]) -> None:
        for name in ("agent", "gem"):
            if bool(((tensors[name] < 0) | (tensors[name] >= BOARD)).any()):
                raise ValueError(f"Gems: the saved places of {name}s go beyond the board")


def _distinct(places: Tensor, taken: Tensor) -> Tensor:
    """How many of the ``places [N, K, 2]`` that are ``taken [N, K]`` are different ones, ``[N]``.

    Two agents on one cell collect one gem, even where two gems lie there.
    """
    same = (places[:, :, None] == places[:, None]).all(-1)
    before = torch.ones(places.shape[1], places.shape[1], device=places.device).tril(-1).bool()
    again = (same & taken[:, None] & before).any(-1)
    return (taken & ~again).sum(1)
