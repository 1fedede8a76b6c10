"""State out of a batch and into it: of all lanes or some, and of a live environment of upstream's class."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ..batch import check_like
from . import layout as L
from . import live, single
from .arrays import Arrays
from .checks import check_few, check_lanes, check_rows
from .family import Family, Plan
from .launches import Programs
from .levels import LevelSet
from .stream import Stream, check_seed, lane_key

STATE_FORMAT = "cairn-grid-1"


class StateInOut:
    """What a ``GridBatch`` does with states; the attributes are the batch's."""

    num_envs: int
    device: torch.device
    max_steps: int | None
    upstream: str
    family: Family
    plan: Plan
    world: str
    width: int
    height: int
    arrays: Arrays
    programs: Programs
    _seed: int | None
    _capped: str
    _example: Any
    _missions: Tensor
    _level_set: LevelSet

    def observe(self) -> tuple[Any, dict[str, Any]]:  # noqa: D102  (the batch's)
        raise NotImplementedError

    def check_actions(self) -> None:  # noqa: D102  (the batch's)
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """A copy of the whole state; the observation is not in it, since it follows from the rest."""
        if self._seed is None:
            raise RuntimeError("there is no state before the first reset")
        self.check_actions()
        lanes = {name: tensor.clone() for name, tensor in self.arrays.state.items()}
        return {"format": STATE_FORMAT, "world": self._capped, "seed": f"{self._seed:#x}", "lanes": lanes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back a state of a batch of the same world and size; on another, raise ValueError and change nothing."""
        check_like(state, {"format": "", "world": "", "seed": "", "lanes": self.arrays.state}, "GridBatch")
        if state["format"] != STATE_FORMAT or state["world"] != self._capped:
            raise ValueError(
                f"the state is {state['format']} of {state['world']}, "
                f"and this batch is {STATE_FORMAT} of {self._capped}"
            )
        try:
            seed = check_seed(int(state["seed"], 16))
        except ValueError as error:
            raise ValueError(f"the state is damaged: its seed is {state['seed']!r}") from error
        self._check_state(state["lanes"]["cells"], state["lanes"]["ints"], "the state is")
        self.arrays.result["bad"].fill_(0)  # what came before does not matter any more
        for name, tensor in self.arrays.state.items():
            tensor.copy_(state["lanes"][name])
        self._seed = seed
        self._level_set.reseed(seed)
        self._look()

    def get_state(self, lanes: Any = None) -> dict[str, Any]:
        """A copy of the state of some lanes (None for all, a number, or several), for ``set_state`` of any batch alike.

        It holds all that decides the lanes' futures under given actions: level, agent, steps, and the stream with all
        episodes to come. ``lanes`` in it has tensors of ``[M, ...]``, one row for each lane in the order asked for.
        """
        if self._seed is None:
            raise RuntimeError("there is no state before the first reset")
        self.check_actions()
        rows = torch.from_numpy(check_rows(lanes, self.num_envs)).to(self.device)
        kept = {name: self.arrays.state[name][rows] for name in ("cells", "ints", "rng")}
        return {"format": STATE_FORMAT, "world": self._capped, "lanes": kept}

    def set_state(self, state: Mapping[str, Any], lanes: Any = None) -> tuple[Any, dict[str, Any]]:
        """Put the rows of a ``get_state`` into some lanes (one row goes into all of them), and observe.

        The other lanes stay as they are. The lanes keep their numbers, which a ``reset`` with a seed goes by.

        Returns:
            The present observation and ``{"facts": ...}`` of all lanes.

        Raises:
            ValueError: If the state is of another world, damaged, or not of one row or one for each lane; nothing has
                changed then.
        """
        if self._seed is None:
            raise RuntimeError("set_state was called before reset: call reset(seed=...) first")
        self.check_actions()
        numbers = check_rows(lanes, self.num_envs)
        kept = check_few(state, self.arrays.state, len(numbers), STATE_FORMAT, self._capped)
        self._check_state(kept["cells"], kept["ints"], "the state is")
        rows = torch.from_numpy(numbers).to(self.device)
        for name, tensor in kept.items():
            self.arrays.state[name][rows] = tensor.to(self.device)
        self._look()
        return self.observe()

    def import_env(self, lane: int, env: gym.Env[Any, Any]) -> tuple[Any, dict[str, Any]]:
        """Put the state of a live environment of upstream's class into a lane, and observe.

        The lane then does what the environment does. Of an environment of ``gym.make("cairn/...")`` it takes the stream
        as well, so this holds for random moves and the episodes to come; upstream's own has NumPy's generator, and the
        lane keeps its own stream. Environment and batch must have been made with the same arguments.

        Returns:
            The present observation and ``{"facts": ...}`` of all lanes.

        Raises:
            ValueError: If the environment is of another class or size, or has no level; nothing has changed then.
        """
        inner: Any = env.unwrapped
        state = self.get_state(lane)
        plan = self.family.plan(inner) if self._is_alike(inner) else None
        if plan != self.plan or int(inner.max_steps) != int(self._example.max_steps):
            raise ValueError(f"{inner} is not an environment of {self.world}, or not made with this batch's arguments")
        cells, ints = live.read(inner, self.family, self.plan)
        row = state["lanes"]
        row["cells"][0] = torch.from_numpy(cells)
        ints[L.EPISODE] = int(row["ints"][0, L.EPISODE])
        stream, key = inner.np_random, getattr(inner, "stream_key", None)
        if isinstance(stream, Stream) and key is not None:
            seed, number, ints[L.EPISODE] = key
            parts = (lane_key(seed, number), stream.key, stream.counter)
            row["rng"][0] = torch.from_numpy(np.array(parts, np.uint64).view(np.int64))
        row["ints"][0] = torch.from_numpy(ints)
        return self.set_state(state, lane)

    def _is_alike(self, env: Any) -> bool:
        """Whether an environment is of this batch's class (keyed or upstream's own) and size."""
        base: Any = single.upstream_class(self.upstream)[0]
        return type(env) in (base, single.keyed_class(base)) and (env.width, env.height) == (self.width, self.height)

    def begin(self, keys: Sequence[tuple[int, int, int]]) -> None:
        """Begin, in lane i, the level of the i-th (seed, lane, episode) key; N keys."""
        if len(keys) != self.num_envs:
            raise ValueError(f"{len(keys)} keys for {self.num_envs} lanes")
        parts = np.array([lane_key(seed, lane) for seed, lane, _ in keys], np.uint64).view(np.int64)
        self.arrays.state["rng"][:, L.LANE_KEY] = torch.from_numpy(parts).to(self.device)
        episodes = torch.tensor([episode - 1 for *_, episode in keys], dtype=torch.int32)
        self.arrays.state["ints"][:, L.EPISODE] = episodes.to(self.device)
        self._seed = keys[0][0] if self._seed is None else self._seed
        self.arrays.mask.fill_(True)
        self.programs.reset()

    def _look(self) -> None:
        """Show a state that came from elsewhere."""
        self.arrays.obs["mission"].copy_(self._missions[self.arrays.state["ints"][:, L.MISSION].long()])
        self.programs.look()

    def _check_state(self, cells: Tensor, ints: Tensor, what: str) -> None:
        check_lanes(cells, ints, self.width, self.height, len(self.plan.missions), int(self.max_steps or 0), what)
