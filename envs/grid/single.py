"""One MiniGrid environment: upstream's own class, with its random numbers taken from the shared stream.

Everything but the source of randomness is upstream's: rendering, ``minigrid.wrappers``, human play and gymnasium's
``check_env`` work as they do there. The level is a function of the key (seed, lane, episode) alone, and lane i of a
batch with the same seed is the same world, episode after episode.
"""

import builtins
import os
import threading
from functools import cache
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np

from ..._lazy import collector_at_rest
from .ids import BABYAI_IDS, GRID_IDS
from .stream import Stream, check_seed, fresh_seed

# What an image can show, and upstream's wrapper that shows it.
OBSERVATIONS = {
    "partial": "",
    "full": "FullyObsWrapper",
    "onehot": "OneHotPartialObsWrapper",
    "rgb": "RGBImgPartialObsWrapper",
    "rgb_full": "RGBImgObsWrapper",
}

_quiet = threading.local()


def upstream_class(upstream: str) -> tuple[type[gym.Env[Any, Any]], dict[str, Any]]:
    """Upstream's class of an id and the arguments with which it is registered.

    Raises:
        gymnasium.error.NameNotFound: If the id is not one of ours.
    """
    if upstream not in GRID_IDS and upstream not in BABYAI_IDS:
        why = "; the WFC ids are left out, since minigrid 3.2 ships without the patterns they read" * (
            "WFC" in upstream
        )
        raise gym.error.NameNotFound(f"no MiniGrid or BabyAI id {upstream!r} in cairn.envs.grid.ids{why}")
    # pygame greets on stdout when minigrid imports it, unless it is told not to.
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with collector_at_rest():
        import minigrid  # noqa: F401  (registers upstream's ids)

    spec = gym.registry[upstream]
    module, name = str(spec.entry_point).split(":")
    return getattr(import_module(module), name), dict(spec.kwargs)


def make(upstream: str, *, observation: str = "partial", observation_tile: int = 8, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make one environment of upstream's class, keyed by (seed, lane, episode).

    ``reset(seed=s)`` begins episode 0 of (s, lane 0); ``options={"lane": i}`` chooses lane i and ``{"episode": e}`` the
    episode; a ``reset()`` without any of these is the next episode. The key in force is ``env.unwrapped.stream_key``.

    Args:
        upstream: Upstream's id, such as ``"MiniGrid-DoorKey-8x8-v0"``.
        observation: What ``image`` shows: "partial", "full", "onehot", "rgb" or "rgb_full" (upstream's wrappers
            FullyObs, OneHotPartialObs, RGBImgPartialObs and RGBImgObs).
        observation_tile: Pixels of a cell's side in "rgb" and "rgb_full".
        kwargs: Arguments of upstream's class, such as ``render_mode``, ``max_steps`` or ``agent_view_size``.

    Raises:
        gymnasium.error.NameNotFound: If the id is unknown.
        ValueError: If the observation is not one of these.
    """
    if observation not in OBSERVATIONS:
        raise ValueError(f"observation={observation!r}: it is one of {', '.join(OBSERVATIONS)}")
    base, arguments = upstream_class(upstream)
    env = keyed_class(base)(**{**arguments, **kwargs})  # type: ignore[arg-type]
    # Upstream's text has no shape, for which Stable-Baselines3's DummyVecEnv and with it evaluate_policy fail on a
    # MiniGrid environment. With this they keep it whole, in an array of N strings, which our agents' predict takes.
    mission: Any = env.observation_space["mission"]  # type: ignore[index]
    mission._shape, mission.dtype = (), np.dtype(object)
    if observation == "partial":
        return env
    wrapper = getattr(import_module("minigrid.wrappers"), OBSERVATIONS[observation])
    return wrapper(env, observation_tile) if observation.startswith("rgb") else wrapper(env)  # type: ignore[no-any-return]


@cache
def keyed_class(base: Any) -> type[gym.Env[Any, Any]]:
    """Make the subclass of an upstream class whose ``np_random`` is our stream."""
    if base.__module__.startswith("minigrid.envs.babyai"):
        _silence_rejections()

    class Keyed(base):  # type: ignore[misc]
        """Upstream's environment on the shared stream."""

        keyed = True
        stream_key: tuple[int, int, int] | None = None  # (seed, lane, episode) of the present level

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            """Begin an episode: a new key where seed or lane is given, else the next episode of the present one."""
            self._rekey(seed, options or {})
            _quiet.on = True
            try:
                # No seed: gymnasium would put NumPy's generator in our stream's place.
                observation, info = super().reset(seed=None, options=options)
            finally:
                _quiet.on = False
            return observation, info

        def _rekey(self, seed: int | None, options: dict[str, Any]) -> None:
            old = self.stream_key
            for name in ("lane", "episode"):
                value = options.get(name, 0)
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise ValueError(f"options[{name!r}] is a whole number from 0 on, got {value!r}")
            if seed is not None:
                key = (check_seed(seed), options.get("lane", 0), options.get("episode", 0))
            elif old is None:
                key = (fresh_seed(), options.get("lane", 0), options.get("episode", 0))
            elif "lane" in options and options["lane"] != old[1]:
                key = (old[0], options["lane"], options.get("episode", 0))
            else:
                key = (old[0], old[1], options.get("episode", old[2] + 1))
            self.stream_key = key
            self._np_random = Stream.of(*key)
            self._np_random_seed = key[0]

        @property
        def np_random(self) -> Stream:
            """The shared stream in its present state; before the first reset, one with a fresh seed."""
            if self._np_random is None:
                self._np_random_seed = fresh_seed()
                self._np_random = Stream.of(self._np_random_seed)
            return self._np_random

        @np_random.setter
        def np_random(self, value: Any) -> None:
            self._np_random = value
            self._np_random_seed = -1

        @property
        def np_random_seed(self) -> int:
            """The seed in force."""
            assert self.np_random is not None  # draws a seed where there is none yet
            return int(self._np_random_seed)

    Keyed.__name__ = Keyed.__qualname__ = base.__name__
    Keyed.__doc__ = base.__doc__
    return Keyed


@cache
def _silence_rejections() -> None:
    """Keep BabyAI's "Sampling rejected" from the terminal while one of *our* environments makes a level.

    Upstream prints it from one module, so that module's ``print`` gets a version that asks a flag of the calling
    thread; redirecting ``sys.stdout`` would swallow what other threads print, and cost more.
    """
    module: Any = import_module("minigrid.envs.babyai.core.roomgrid_level")

    def quiet_print(*args: Any, **kwargs: Any) -> None:
        if not getattr(_quiet, "on", False):
            builtins.print(*args, **kwargs)

    module.print = quiet_print
