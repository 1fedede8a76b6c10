"""LineK: the continuous line with a key, and keys that open nothing (Devidze et al., EXPLORS, NeurIPS 2022).

The agent starts at x in [0.3, 0.4] of the line [0, 1]. Moves are 0.074 to 0.076 long, and go the other way with
probability 0.05. In [0, 0.1] a pick action takes a key, if none is held. Going right from [0.9, 1] with the right key
pays 1, at every step until the cut at 60.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ..grid.stream import Stream
from .draws import uniform
from .scene import CELL, draw
from .single import Keyed, check_render_mode, shorter
from .vector import KeyedBatch

MAX_STEPS = 60
STEP, SPREAD, SLIP = 0.074, 0.002, 0.05
START = (0.3, 0.1)  # from, and how wide
KEY_ZONE, GOAL_ZONE = 0.1, 0.9
DRAWS = 3  # of each step: slip, length, and what else may be left to chance
PROPOSITIONS = ("key_zone", "goal_zone", "key")
_DRAWING = ("kk" + "." * 17 + "GG",)


def _spaces(picks: int) -> tuple[spaces.Box, spaces.Discrete]:
    if isinstance(picks, bool) or not isinstance(picks, int) or not 1 <= picks <= 16:
        raise ValueError(f"picks={picks!r}: how many keys there are, 1 (the right one) to 16")
    return spaces.Box(0.0, 1.0, (4 + picks,), np.float32), spaces.Discrete(3 if picks == 1 else 4)


def _background() -> NDArray[np.uint8]:
    tiles = np.full((1, len(_DRAWING[0]), 3), 235, np.uint8)
    tiles[0, :2], tiles[0, -2:] = (240, 228, 66), (0, 158, 115)
    return np.kron(tiles, np.ones((CELL, CELL, 1), np.uint8))


def _caption(key: int) -> str:
    return ["no key", "the key"][key] if key < 2 else f"key {key}, which opens nothing"


class LineKey(Keyed, gym.Env[Any, Any]):
    """One line. Lane i of a batch with the same seed is the same, bit for bit.

    Observations are float32 ``[4 + picks]``: x, whether a key is held, whether x is in the key's zone and in the
    goal's, and which key is held (one-hot). Actions: left, right, pick the right key, pick one of the others at random.

    Args:
        picks: How many keys there are; 1 is the plain task, with three actions.
        no_key: Paid for going right from the goal's zone without the right key.
        noise: That payment is ``no_key`` plus or minus this, evenly.
        max_episode_steps: Truncate after so many steps, where that is before 60.
        render_mode: ``"ansi"``, ``"rgb_array"`` or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}

    def __init__(
        self,
        picks: int = 1,
        *,
        no_key: float = 0.0,
        noise: float = 0.0,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode, self.metadata)
        self.observation_space, self.action_space = _spaces(picks)
        self.picks, self.no_key, self.noise, self.render_mode = picks, no_key, noise, render_mode
        self.max_steps = shorter(MAX_STEPS, max_episode_steps)
        self._stream, self._x, self._key, self._paid, self._t = Stream(0), 0.0, 0, False, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode: a new key where seed or lane is given, else the next episode of the present one."""
        self._stream = Stream.of(*self.rekey(seed, options))
        super().reset(seed=None if seed is None else seed & 0x7FFFFFFFFFFFFFFF)
        self._x = START[0] + START[1] * self._stream.random()
        self._key, self._paid, self._t = 0, False, 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            ValueError: The action is not in the space.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action!r} is not in {self.action_space}")
        slip, length, chance = (self._stream.random() for _ in range(DRAWS))
        reward = 0.0
        if action == 1 and self._x >= GOAL_ZONE:
            reward = 1.0 if self._key == 1 else self.no_key + (self.noise if chance >= 0.5 else -self.noise)
            self._paid = self._paid or self._key == 1
        if action < 2:
            right = (action == 1) != (slip < SLIP)
            move = STEP + SPREAD * length
            self._x = min(self._x + move, 1.0) if right else max(self._x - move, 0.0)
        elif self._key == 0 and self._x <= KEY_ZONE:
            self._key = 1 if action == 2 else 2 + int(chance * (self.picks - 1))
        self._t += 1
        truncated = self.max_steps is not None and self._t >= self.max_steps
        return self._observe(), reward, False, truncated, self._info()

    def _observe(self) -> NDArray[np.float32]:
        out = np.zeros(4 + self.picks, np.float32)
        out[:4] = self._x, self._key > 0, self._x <= KEY_ZONE, self._x >= GOAL_ZONE
        if self._key:
            out[3 + self._key] = 1.0
        return out

    def _info(self) -> dict[str, Any]:
        events = np.array([self._x <= KEY_ZONE, self._x >= GOAL_ZONE, self._key == 1])
        x, key, success = np.float64(self._x), np.int64(self._key), np.bool_(self._paid)
        return {"facts": {"x": x, "key": key, "events": events, "success": success}}

    def render(self) -> Any:
        """The line with the agent: text, or uint8 ``[H, W, 3]``."""
        column = min(int(self._x * len(_DRAWING[0])), len(_DRAWING[0]) - 1)
        if self.render_mode == "ansi":
            return _DRAWING[0][:column] + "@" + _DRAWING[0][column + 1 :] + "\n" + _caption(self._key) + "\n"
        if self.render_mode == "rgb_array":
            return draw(torch.from_numpy(_background()), torch.tensor([[0, column]]))[0].numpy()
        return None


class LineKeyBatch(KeyedBatch):
    """N lines that step together; arguments and observations are ``LineKey``'s.

    Facts: ``x`` float64, ``key`` int64 (0 none, 1 the right one), ``events`` bool ``[N, 3]`` (``PROPOSITIONS``) and
    ``success``, whether the reward has been taken.
    """

    def __init__(
        self,
        num_envs: int,
        picks: int = 1,
        *,
        no_key: float = 0.0,
        noise: float = 0.0,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs, *_spaces(picks), device=device, max_steps=shorter(MAX_STEPS, max_episode_steps),
            render_mode=render_mode,
        )  # fmt: skip
        self.picks, self.no_key, self.noise = picks, no_key, noise
        self._background = torch.from_numpy(_background()).to(self.device)

    def _begin(self) -> dict[str, Tensor]:
        x = START[0] + START[1] * uniform(self._key, torch.ones_like(self._t))
        return {"x": x, "held": torch.zeros_like(self._t), "paid": torch.zeros_like(self._t, dtype=torch.bool)}

    def _move(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        x, held, paid = self._s["x"], self._s["held"], self._s["paid"]
        first = self._t * DRAWS + 2  # draw 1 was the start's
        slip, length, chance = (uniform(self._key, first + i) for i in range(DRAWS))
        takes = (actions == 1) & (x >= GOAL_ZONE)
        otherwise = torch.where(chance >= 0.5, self.no_key + self.noise, self.no_key - self.noise)
        reward = torch.where(takes, torch.where(held == 1, 1.0, otherwise), 0.0).to(torch.float32)
        move = STEP + SPREAD * length
        right = (actions == 1) != (slip < SLIP)
        moved = torch.where(right, (x + move).clamp_max(1.0), (x - move).clamp_min(0.0))
        picks = (actions >= 2) & (held == 0) & (x <= KEY_ZONE)
        which = torch.where(actions == 2, 1, 2 + (chance * (self.picks - 1)).to(torch.int64))
        state = {
            "x": torch.where(actions < 2, moved, x),
            "held": torch.where(picks, which, held),
            "paid": paid | (takes & (held == 1)),
        }
        return state, reward, torch.zeros_like(takes)

    def _observe(self, state: dict[str, Tensor]) -> Tensor:
        x, held = state["x"], state["held"]
        keys = held[:, None] == torch.arange(1, self.picks + 1, device=self.device)
        zones = torch.stack([x, held > 0, x <= KEY_ZONE, x >= GOAL_ZONE], -1)
        return torch.cat([zones, keys], -1).to(torch.float32)

    def _facts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        x, held = state["x"], state["held"]
        events = torch.stack([x <= KEY_ZONE, x >= GOAL_ZONE, held == 1], -1)
        return {"x": x, "key": held, "events": events, "success": state["paid"]}

    def _columns(self, state: dict[str, Tensor]) -> Tensor:
        width = len(_DRAWING[0])
        return (state["x"] * width).to(torch.int64).clamp_max(width - 1)

    def _pictures(self, state: dict[str, Tensor]) -> Tensor:
        column = self._columns(state)
        return draw(self._background, torch.stack([torch.zeros_like(column), column], -1))

    def _texts(self, state: dict[str, Tensor]) -> list[str]:
        row = _DRAWING[0]
        columns, keys = self._columns(state).tolist(), state["held"].tolist()
        return [f"{row[:c]}@{row[c + 1 :]}\n{_caption(k)}\n" for c, k in zip(columns, keys)]

    def _check(self, tensors: dict[str, Tensor]) -> None:
        x, held = tensors.get("x"), tensors.get("held")
        if x is None or held is None:
            return
        if not bool(((x >= 0) & (x <= 1) & (held >= 0) & (held <= self.picks)).all()):
            raise ValueError("LineKeyBatch: the saved state has an x outside [0, 1] or an unknown key")
