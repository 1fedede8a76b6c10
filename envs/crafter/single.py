"""Crafter as a Gymnasium environment and as a batch (extra ``crafter``): an open world of 22 achievements.

Hafner, "Benchmarking the Spectrum of Agent Capabilities", 2021; the game is that of the package ``crafter`` 1.8.3.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from ..batch import lane_seed
from ..grid.stream import check_seed, fresh_seed
from ..kinds import Symbols
from .symbols import BELOW, HIGH, SYMBOLS, WIDE, Look

if TYPE_CHECKING:
    import torch

    from ..gymnasium_batch import GymnasiumBatch

OBSERVATIONS = ("picture", "symbols")
STARTS = ("surface", "underground")
MORE_FACTS = ("death",)
SHOWN = (576, 576)  # pixels of a picture for people


class CrafterEnv(gym.Env[Any, Any]):
    """One world.

    It terminates when the player dies, or with the goal; 10,000 steps, upstream's ``length``, are a time limit and
    truncate it (``gym.make`` sees to that). Upstream pays 1 for the first of each of the 22 achievements and 0.1 for a
    point of health; with a goal, only the goal pays, and ends the episode.

    ``info`` has what upstream's has, ``level`` (``crafter.Env(seed=level)`` begins in this world, unless underground),
    ``died_of`` where the player is dead, and ``facts`` (``cairn.shaping.programs.inputs`` says what each means).

    Worlds are told by (seed, lane, episode), as those of a batch are: ``reset(seed=s, options={"lane": i})``.

    Args:
        render_mode: ``"rgb_array"`` or None. Looking changes nothing.
        observation: ``"picture"``, upstream's own; or ``"symbols"``, a number for each of its 81 tiles, which no dark
            hides, and for which nothing is drawn: some three times as fast.
        area: Width and height of the world in tiles.
        size: Width and height of the observed picture in pixels.
        reward: False pays nothing, as upstream's ``CrafterNoReward``.
        goal: An achievement, such as ``"collect_diamond"``: the whole task. None is upstream's.
        start: ``"surface"``, or ``"underground"``: on a path in the mountains, 2 to 5 steps from a diamond and 2 to 5
            from lava, in worlds that have such a place.
        items: What the player has at the start beyond upstream's, such as ``{"iron_pickaxe": 1}``.
        actions: Those of upstream's 17 actions that there are, by name and in this order; None for all.
        worlds: None for a new world at every episode. K: each seed has K, and an episode is in one of them, mirrored or
            turned, with creatures that act anew and, underground, one of its places to begin at: to make a world takes
            as long as some hundred steps, and those made lately are not made again.
        facts: More facts: ``"death"``, what the player died of, a number of ``upstream.DEATHS``.

    Raises:
        ImportError: The package ``crafter`` is missing.
        ValueError: An argument that is none of these.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
    keyed = True

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        observation: str = "picture",
        area: Sequence[int] = (64, 64),
        size: Sequence[int] = (64, 64),
        reward: bool = True,
        goal: str | None = None,
        start: str = "surface",
        items: Mapping[str, int] | None = None,
        actions: Sequence[str] | None = None,
        worlds: int | None = None,
        facts: Sequence[str] = (),
    ) -> None:
        try:
            from . import upstream
        except ImportError as error:
            raise ImportError("Crafter needs the package crafter: pip install 'cairn-rl[crafter]'") from error
        facts = (facts,) if isinstance(facts, str) else tuple(facts)
        self.action_names = upstream.ACTIONS if actions is None else tuple(actions)
        for name, value, known in (
            ("render_mode", render_mode, (None, "rgb_array")), ("observation", observation, OBSERVATIONS),
            ("start", start, STARTS), ("goal", goal, (None, *upstream.ACHIEVEMENTS)),
            *(("facts", fact, MORE_FACTS) for fact in facts),
            *(("items", item, upstream.ITEMS) for item in items or {}),
            *(("actions", name, upstream.ACTIONS) for name in self.action_names),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"{name}={value!r}: there are {', '.join(map(repr, known))}")
        if wrong := {name: n for name, n in (items or {}).items() if type(n) is not int or not 0 <= n <= 9}:
            raise ValueError(f"items={wrong}: of each item a player has 0 to 9")
        if worlds is not None and (type(worlds) is not int or worlds < 1):
            raise ValueError(f"worlds={worlds!r}: None, or at least one")
        self.render_mode, self.goal, self.worlds, self.more = render_mode, goal, worlds, facts
        self.deaths, self.symbols = upstream.DEATHS, observation == "symbols"
        self.game = upstream.Game(
            _pair("area", area, 12), _pair("size", size, WIDE), bool(reward), not self.symbols,
            start == "underground", items or {},
        )  # fmt: skip
        self.observation_space: spaces.Space[Any] = (
            Symbols((HIGH + BELOW, WIDE, 1), (len(SYMBOLS),))
            if self.symbols
            else spaces.Box(0, 255, (*self.game.observation_space.shape[1::-1], 3), np.uint8)
        )
        self.action_space = spaces.Discrete(len(self.action_names))
        self._numbers = [upstream.ACTIONS.index(name) for name in self.action_names]
        self.stream_key: tuple[int, int, int] | None = None  # (seed, lane, episode)
        self._running = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: that of a seed and ``options``' lane and episode, or the next one."""
        self.stream_key = key = self._key(seed, options or {})
        if seed is not None or self._np_random is None:
            super().reset(seed=lane_seed(key[0], key[1]))
        own = lane_seed(lane_seed(key[0], key[1]), key[2])
        if self.worlds is None:
            picture = self.game.begin(own & 0x7FFFFFFF)
        else:
            picture = self.game.begin(lane_seed(key[0], own % self.worlds) & 0x7FFFFFFF, turn=own // self.worlds)
        self._running = True
        look = Look(self.game)
        return (look.symbols() if self.symbols else picture), {"level": self.game.level, "facts": self._facts(look)}

    def _key(self, seed: int | None, options: Mapping[str, Any]) -> tuple[int, int, int]:
        for name in ("lane", "episode"):
            value = options.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
                raise ValueError(f"options[{name!r}] is a whole number from 0 on, got {value!r}")
        lane, episode = int(options.get("lane", 0)), int(options.get("episode", 0))
        old = self.stream_key
        if seed is not None or old is None:
            return (fresh_seed() if seed is None else check_seed(seed)), lane, episode
        if "lane" in options and lane != old[1]:
            return old[0], lane, episode
        return old[0], old[1], int(options.get("episode", old[2] + 1))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act once.

        Raises:
            ValueError: There is no such action.
            gymnasium.error.ResetNeeded: There is no episode to go on with.
        """
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over, or none has begun: call reset()")
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r}: there are 0 to {len(self.action_names) - 1}")
        picture, paid, dead, told = self.game.step(self._numbers[int(action)])
        look = Look(self.game)
        facts = self._facts(look)
        if self.goal is not None:
            paid = float(facts["success"])
        over = bool(dead) or bool(facts.get("success", False))
        self._running = not over
        info = {**told, "player_pos": told["player_pos"].copy(), "level": self.game.level, "facts": facts}
        if dead:
            info["died_of"] = self.game.player.hurt_by
        return (look.symbols() if self.symbols else picture), float(paid), over, False, info

    def _facts(self, look: Look) -> dict[str, Any]:
        facts = look.facts()
        if self.goal is not None:
            facts["success"] = self.game.player.achievements[self.goal] > 0
        if "death" in self.more:
            facts["death"] = self.deaths.index(self.game.player.hurt_by) if facts["health"] == 0 else 0
        return facts

    def render(self) -> Any:
        """The player's surroundings and belongings, uint8 ``[576, 576, 3]``."""
        if self.render_mode is None:
            gym.logger.warn("there is nothing to render: make the environment with render_mode='rgb_array'")
            return None
        if self.game.player is None:
            raise gym.error.ResetNeeded("there is nothing to see before the first reset()")
        return self.game.picture(SHOWN)


def _pair(name: str, value: Sequence[int], least: int) -> tuple[int, int]:
    pair = tuple(int(n) for n in value)
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{name}={value!r}: a width and a height of at least {least}")
    return pair[0], pair[1]


def make(**kwargs: Any) -> CrafterEnv:
    """What ``gym.make`` calls."""
    return CrafterEnv(**kwargs)


def make_vec(
    num_envs: int, *, device: "torch.device | str" = "cpu", max_episode_steps: int | None = None, **kwargs: Any
) -> "GymnasiumBatch":
    """What ``gym.make_vec`` calls: worlds that step one after the other in this process.

    Args:
        num_envs: N.
        device: Where the tensors go.
        max_episode_steps: Truncate after so many steps.
        kwargs: Arguments of ``CrafterEnv``.
    """
    from ..gymnasium_batch import GymnasiumBatch

    def one(lane: int) -> gym.Env[Any, Any]:
        env = CrafterEnv(**kwargs)
        return env if max_episode_steps is None else gym.wrappers.TimeLimit(env, max_episode_steps)

    return GymnasiumBatch(one, num_envs, device=device)
