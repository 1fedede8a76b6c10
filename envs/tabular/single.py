"""One tabular world as a Gymnasium environment, in NumPy."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..grid.stream import Stream, check_seed, fresh_seed
from .scene import Scene, draw


class Keyed:
    """Which episode of which lane of which seed: the rule of ``reset`` that all of Cairn's own worlds share."""

    stream_key: tuple[int, int, int] | None = None

    def rekey(self, seed: int | None, options: dict[str, Any] | None) -> tuple[int, int, int]:
        """The (seed, lane, episode) that ``reset(seed=seed, options=options)`` begins.

        A seed begins episode 0 of lane 0, or of ``options["lane"]``; without one it is the next episode.

        Raises:
            ValueError: A lane or episode that is not a whole number from 0 on.
        """
        options = options or {}
        for name in ("lane", "episode"):
            value = options.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"options[{name!r}] is a whole number from 0 on, got {value!r}")
        old = self.stream_key
        if seed is not None or old is None:
            first = fresh_seed() if seed is None else check_seed(seed)
            key = (first, options.get("lane", 0), options.get("episode", 0))
        elif options.get("lane", old[1]) != old[1]:
            key = (old[0], options["lane"], options.get("episode", 0))
        else:
            key = (old[0], old[1], options.get("episode", old[2] + 1))
        self.stream_key = key
        return key


class TabularEnv(Keyed, gym.Env[Any, Any]):
    """A ``Scene`` one episode at a time: lane i of a batch with the same seed, bit for bit.

    Observations are the number of the state, actions the number of the action. ``info["facts"]`` has the structured
    facts of the new state; ``scene`` has the exact MDP.

    Args:
        scene: The world.
        max_episode_steps: Truncate after so many steps, where that is before the world's own cap.
        render_mode: ``"ansi"``, ``"rgb_array"`` or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}

    def __init__(self, scene: Scene, *, max_episode_steps: int | None = None, render_mode: str | None = None) -> None:
        check_render_mode(render_mode, self.metadata)
        self.scene, self.render_mode = scene, render_mode
        self.max_steps = shorter(scene.max_steps, max_episode_steps)
        self.observation_space = spaces.Discrete(scene.mdp.states)
        self.action_space = spaces.Discrete(scene.mdp.actions)
        mdp = scene.mdp.sparse().to("cpu")
        assert mdp.successors is not None
        self._next: NDArray[np.int64] = mdp.successors.numpy()
        self._reward: NDArray[np.float64] = mdp.reward.numpy()
        self._bounds: NDArray[np.float64] = cumulative(mdp.prob.numpy())
        self._start: NDArray[np.float64] = cumulative(mdp.start.numpy())
        self._terminal: NDArray[np.bool_] = mdp.terminal.numpy()
        self._facts: dict[str, NDArray[Any]] = {name: t.cpu().numpy() for name, t in scene.fact_tables().items()}
        self._state, self._t, self._stream = 0, 0, Stream(0)
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode: a new key where seed or lane is given, else the next episode of the present one."""
        key = self.rekey(seed, options)
        super().reset(seed=None if seed is None else seed & 0x7FFFFFFFFFFFFFFF)
        self._stream, self._t, self._running = Stream.of(*key), 0, True
        draw_ = self._stream.random()  # always taken: draw number t + 2 is step t's, whatever the start
        turns = self.scene.turns
        if turns is not None:
            self._state = int(turns[key[2] % len(turns)])
        else:
            self._state = int(np.searchsorted(self._start, draw_, side="right"))
        return np.int64(self._state), self._info()

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Take an action.

        Raises:
            ValueError: The action is not one of the world's.
            gymnasium.error.ResetNeeded: There is no episode to go on with.
        """
        if not self._running:
            raise gym.error.ResetNeeded("the episode is over, or none has begun: call reset()")
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action!r} is not in {self.action_space}")
        draw_ = self._stream.random()
        k = int(np.searchsorted(self._bounds[self._state, action], draw_, side="right"))
        reward = float(self._reward[self._state, action, k])
        self._state = int(self._next[self._state, action, k])
        self._t += 1
        terminated = bool(self._terminal[self._state])
        truncated = not terminated and self.max_steps is not None and self._t >= self.max_steps
        self._running = not (terminated or truncated)
        return np.int64(self._state), reward, terminated, truncated, self._info()

    def _info(self) -> dict[str, Any]:
        return {"facts": {name: table[self._state].copy() for name, table in self._facts.items()}}

    def render(self) -> Any:
        """The world with the agent: text, or uint8 ``[H, W, 3]``."""
        if self.render_mode == "ansi":
            return self.scene.text(self._state)
        if self.render_mode == "rgb_array":
            import torch

            place = self.scene.places()[self._state : self._state + 1]
            return draw(torch.from_numpy(self.scene.background()), place)[0].numpy()
        return None


def cumulative(prob: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper bounds for inverse sampling along the last axis: the pick is how many bounds a draw has reached.

    From the last possible outcome on the bound is infinite, so that rounding never picks an impossible one.
    """
    bounds = np.cumsum(prob, axis=-1)
    possible = prob > 0
    last = prob.shape[-1] - 1 - np.argmax(possible[..., ::-1], axis=-1)
    return np.where(np.arange(prob.shape[-1]) >= last[..., None], np.inf, bounds)


def shorter(own: int | None, asked: int | None) -> int | None:
    """The shorter of two caps on an episode's length."""
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise ValueError(f"max_episode_steps={asked!r}: it is at least 1; leave it out for the world's own cap")
    caps = [cap for cap in (own, asked) if cap is not None]
    return min(caps) if caps else None


def check_render_mode(render_mode: str | None, metadata: dict[str, Any]) -> None:
    """Raise ValueError on a render mode that the metadata does not list."""
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode={render_mode!r}: it is one of {metadata['render_modes']} or None")
