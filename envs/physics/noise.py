"""Noise on what is observed and on what is done: wrappers of any BatchEnv with vector observations or actions.

Each lane has its own stream of random numbers, a function of (seed, lane) alone: draw number c of a lane is the
finaliser of SplitMix64 at key + (c + 1) * gamma (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
Generators", 2014),
and two draws make a normal number (Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958).
"""

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ..batch import BatchEnv, BatchWrapper, check_actions, check_reset_mask, lane_seed
from ..spaces import children

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class LaneNormals:
    """Standard normal numbers, ``width`` for each lane at a time.

    Args:
        num_envs: N.
        width: How many numbers a draw gives each lane.
        salt: Keeps the streams of different wrappers apart.
    """

    def __init__(self, num_envs: int, width: int, salt: int) -> None:
        self.width, self._salt = width, salt
        self.keys = np.zeros(num_envs, np.uint64)
        self.counts = np.zeros(num_envs, np.uint64)
        self.seeded = False

    def seed(self, seed: int | None, rows: NDArray[np.bool_]) -> None:
        """Begin new streams in ``rows``, where there is a seed or there was none before."""
        if seed is None and self.seeded:
            return
        main = secrets.randbits(62) if seed is None else seed
        for lane in np.flatnonzero(rows).tolist():
            self.keys[lane] = lane_seed(lane_seed(main, lane), self._salt)
            self.counts[lane] = 0
        self.seeded = True

    def draw(self, rows: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """The next ``[N, width]`` numbers; lanes outside of ``rows`` are not advanced."""
        pairs = (self.width + 1) // 2
        steps = np.arange(1, 2 * pairs + 1, dtype=np.uint64)
        bits = _mix(self.keys[:, None] + (self.counts[:, None] + steps) * _GAMMA)
        self.counts += np.uint64(2 * pairs) * (np.uint64(1) if rows is None else rows.astype(np.uint64))
        uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never 0
        radius, angle = np.sqrt(-2 * np.log(uniform[:, :pairs])), 2 * np.pi * uniform[:, pairs:]
        normals: NDArray[np.float64] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return normals[:, : self.width]

    def state(self) -> dict[str, Any]:
        """Keys and counters."""
        return {
            "keys": torch.from_numpy(self.keys.view(np.int64).copy()),
            "counts": torch.from_numpy(self.counts.view(np.int64).copy()),
            "seeded": self.seeded,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take ``state`` back."""
        self.keys = state["keys"].cpu().numpy().view(np.uint64).copy()
        self.counts = state["counts"].cpu().numpy().view(np.uint64).copy()
        self.seeded = state["seeded"]


class _Noise(BatchWrapper):
    """What both wrappers share: a scale and the streams."""

    def __init__(self, env: BatchEnv, scale: Any, space: Any, what: str, salt: int) -> None:
        super().__init__(env)
        if not isinstance(space, spaces.Box) or space.dtype.kind != "f" or len(space.shape) != 1:
            raise ValueError(f"noise goes on vectors of real numbers, and the {what} are of {space}")
        width = space.shape[0]
        array = np.broadcast_to(np.asarray(scale, np.float64), (width,))
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError(f"scale={scale!r}: standard deviations are at least 0")
        self._scale = array.copy()
        self._dtype = torch.float64 if space.dtype == np.float64 else torch.float32
        self._normals = LaneNormals(self.num_envs, width, salt)

    def _seed(self, seed: int | None, options: dict[str, Any] | None) -> NDArray[np.bool_]:
        """Begin the streams of the lanes that a reset is about, and say which these are."""
        mask = (options or {}).get("reset_mask")
        rows = np.ones(self.num_envs, np.bool_) if mask is None else check_reset_mask(mask, self.num_envs)
        self._normals.seed(seed, rows)
        return rows

    def _draw(self, like: Tensor, rows: NDArray[np.bool_] | None = None) -> Tensor:
        return torch.from_numpy(self._normals.draw(rows) * self._scale).to(like)

    def _own_state(self) -> dict[str, Any]:
        return self._normals.state()

    def _load_own(self, state: Mapping[str, Any]) -> None:
        self._normals.load(state)


class ObservationNoise(_Noise):
    """Add normal noise to every observation, final ones included; facts stay as they are.

    ``encode`` is the environment's own, without noise.

    Args:
        env: A batch with a vector observation, or a Dict of vectors.
        scale: Standard deviation, one number or one for each feature. Of a Dict it goes on every part but
            ``desired_goal``, which is told and not sensed; or it is a mapping from names of parts to scales.

    Raises:
        ValueError: Another kind of observation, a part that there is not, or a negative scale.
    """

    def __init__(self, env: BatchEnv, scale: Any) -> None:
        space, parts = env.single_observation_space, children(env.single_observation_space)
        self._parts: dict[str, int] | None = None
        if parts is not None:
            wanted = scale if isinstance(scale, Mapping) else {n: scale for n in parts if n != "desired_goal"}
            if set(wanted) - set(parts):
                raise ValueError(f"scale has {sorted(set(wanted) - set(parts))}, and the observation {sorted(parts)}")
            if any(not isinstance(child, spaces.Box) or len(child.shape) != 1 for child in parts.values()):
                raise ValueError(f"noise goes on vectors of real numbers, and the observations are of {space}")
            widths = {name: int(np.prod(child.shape or ())) for name, child in parts.items()}
            rows = [np.broadcast_to(np.asarray(wanted.get(n, 0.0), np.float64), (w,)) for n, w in widths.items()]
            scale, self._parts = np.concatenate(rows), widths
            first: Any = next(iter(parts.values()))
            space = spaces.Box(-np.inf, np.inf, scale.shape, first.dtype.type)
        super().__init__(env, scale, space, "observations", 1)
        self._noisy: Tensor | None = None  # flat

    def _flat(self, obs: Any) -> Tensor:
        """Observations as ``[N, D]``, the parts of a Dict side by side."""
        flat: Tensor = obs if self._parts is None else torch.cat([obs[name] for name in self._parts], dim=1)
        return flat

    def _tree(self, flat: Tensor) -> Any:
        if self._parts is None:
            return flat
        return dict(
            zip(self._parts, (part.contiguous() for part in torch.split(flat, list(self._parts.values()), dim=1)))
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; lanes that go on keep the noisy observation that they have."""
        obs, info = self.env.reset(seed=seed, options=options)
        rows = self._seed(seed, options)
        flat = self._flat(obs)
        fresh = flat + self._draw(flat, rows)
        if self._noisy is not None:
            fresh = torch.where(torch.from_numpy(rows).to(flat.device)[:, None], fresh, self._noisy)
        self._noisy = fresh
        return self._tree(fresh), info

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step; the last observation of an episode and the first of the next have noise of their own."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        flat = self._flat(obs)
        noise = self._draw(flat)
        final = self._flat(info["final_obs"]) + noise
        ended = (terminated | truncated)[:, None]
        # Every lane draws twice at every step: how much a lane has drawn then depends on its age alone.
        self._noisy = torch.where(ended, flat + self._draw(flat), flat + noise)
        return self._tree(self._noisy), reward, terminated, truncated, {**info, "final_obs": self._tree(final)}

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation, with the noise that it was returned with."""
        obs, info = self.env.observe()
        return obs if self._noisy is None else self._tree(self._noisy), info

    def _own_state(self) -> dict[str, Any]:
        blank = torch.zeros((self.num_envs, self._normals.width), dtype=self._dtype)
        noisy = blank if self._noisy is None else self._noisy.clone()
        return {**super()._own_state(), "noisy": noisy}

    def _load_own(self, state: Mapping[str, Any]) -> None:
        super()._load_own(state)
        self._noisy = state["noisy"].clone() if state["seeded"] else None


class ActionNoise(_Noise):
    """Add normal noise to every action, and cut it to the bounds; ``info["executed_action"]`` is what was done.

    Args:
        env: A batch with vector actions.
        scale: Standard deviation, one number or one for each actuator, in the action's own units.

    Raises:
        ValueError: Another kind of action, or a negative scale.
    """

    def __init__(self, env: BatchEnv, scale: Any) -> None:
        super().__init__(env, scale, env.single_action_space, "actions", 2)
        space: Any = env.single_action_space
        self._low, self._high = (torch.as_tensor(bound, device=self.device) for bound in (space.low, space.high))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes."""
        out = self.env.reset(seed=seed, options=options)
        self._seed(seed, options)
        return out

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step with noisy actions."""
        wanted = check_actions(self.single_action_space, actions, self.num_envs, self.device)
        done = torch.clamp(wanted + self._draw(wanted), self._low, self._high)
        obs, reward, terminated, truncated, info = self.env.step(done)
        return obs, reward, terminated, truncated, {**info, "executed_action": done}
