"""The batch: MiniGrid levels in Warp arrays that torch sees without a copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import warp as wp
from torch import Tensor

from ..batch import BatchEnv, check_actions, check_like, check_reset_mask
from ..kinds import Symbols, Tokens, declare
from . import facts as more_facts
from . import layout as L
from . import live, runtime, single, team
from .checks import check_few, check_lanes, check_rows
from .family import Family, Plan, family_of
from .kernels import Last, Pack, Result, Rules, Shown, kernels, pick_kernel
from .levels import Levels, Seeds, check_keys, of_keys, of_upstream
from .pictures import Painter
from .state import PARAMS, Params, World
from .stream import GAMMA, LANE_SALT, MASK, SEED_SALT, Stream, check_seed, fresh_seed, lane_key, mix64

STATE_FORMAT = "cairn-grid-1"


def lane_keys(seed: int, lanes: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """``stream.lane_key(seed, lane)`` for many lanes at once."""
    z = np.uint64(mix64((seed + SEED_SALT) & MASK)) + lanes * np.uint64(GAMMA) + np.uint64(LANE_SALT)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def plan_of(upstream: str, **kwargs: Any) -> tuple[gym.Env[Any, Any], Family | None, Plan | None]:
    """An upstream instance, its native family and its plan; the latter are None where the engine does not have it."""
    example = single.make(upstream, **kwargs)
    family = family_of(type(example).__name__)
    plan = family.plan(example) if family is not None else None
    view, cells = int(example.agent_view_size), int(example.width) * int(example.height)  # type: ignore[attr-defined]
    if view > 15 or cells > 2**15 or (plan is not None and len(plan.params) > PARAMS):
        plan = None
    return example, family, plan


class GridBatch(BatchEnv):
    """N MiniGrid environments of one id, stepped by the native engine.

    Lane i of seed s is, level by level and step by step, ``gym.make("cairn/" + upstream)`` after
    ``reset(seed=s, options={"lane": i})``.

    ``facts`` (and ``final_facts``): ``position`` int64 ``[N, 2]`` (x, y), ``direction`` int64 ``[N]``, ``carrying``
    int64 ``[N, 2]`` (type and colour, -1 and -1 for nothing), ``steps`` int32 ``[N]``, ``cells`` int16 ``[N, H * W]``
    (packed, see ``layout``, whose ``decode`` gives upstream's encoding), ``mission_id`` int32 ``[N]``, ``events``
    int32 ``[N]`` (what the step that led here did, as ``layout``'s bits; 0 after a reset) and ``success`` bool
    ``[N]``.

    ``reset`` takes ``options={"reset_mask": bool [N]}`` and ``{"lanes": whole numbers [N]}``: the lane numbers that the
    rows have from now on (0 to N - 1 at first), so that several batches can share one seed.

    Args:
        upstream: Upstream's id.
        num_envs: N, at least 1.
        device: "cpu" or "cuda".
        max_episode_steps: Truncate after so many steps, where that is before upstream's ``max_steps``.
        threads: Threads that step the batch on a CPU; None for as many cores as are worth waking.
        facts: Names of more facts that are wanted, any of "objects", "doors", "room" and "hash" (see ``facts``).
        levels: None for levels without end, else a fixed set: a count, keys, ``levels.upstream(seeds)``, a ``Levels``
            or the path of its file (see ``levels``).
        kwargs: Arguments of upstream's class.

    Raises:
        ValueError: If the engine does not have this id, or not with these arguments (``make_vec`` bridges it), or if
            the levels do not fit.
    """

    keyed = True
    exact_state = True  # the state is integers, and all of it is saved

    def __init__(
        self,
        upstream: str,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        threads: int | None = None,
        levels: Any = None,
        facts: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        example, family, plan = plan_of(upstream, **kwargs)
        if family is None or plan is None:
            raise ValueError(f"the native engine does not have {upstream} with {kwargs}; make_vec bridges it")
        env: Any = example.unwrapped
        self.upstream, self.family, self.plan = upstream, family, plan
        self.width, self.height, self.view = int(env.width), int(env.height), int(env.agent_view_size)
        cap = int(env.max_steps) if max_episode_steps is None else min(int(env.max_steps), max_episode_steps)
        super().__init__(
            num_envs,
            declare(env.observation_space, symbols=True),
            env.action_space,
            device=device,
            max_steps=cap,
            render_mode=env.render_mode,
        )
        # What must agree for one batch's levels, or its state, to make sense in another.
        self.world = f"{upstream} {self.width}x{self.height} {plan.params}"
        self._capped = f"{self.world} {cap}/{env.max_steps} steps"
        self._kwargs, self._more = kwargs, more_facts.check_names(facts)
        runtime.start()
        self._actions_of_one = int(env.action_space.n)
        self._example = example
        self._allocate()
        self._set_levels(levels)
        self._bind(bool(env.see_through_walls), int(env.max_steps), cap, threads)
        self._seed: int | None = None
        self._painter: Painter | None = None

    def _set_levels(self, levels: Any) -> None:
        """Make or check the fixed set, if any; a count's levels are those of the seed, so ``reset`` makes them."""
        self._levels: Levels | None = None
        self._count = 0
        self._levels_seed: int | None = None
        if levels is None:
            return
        given = check_keys(levels)
        if isinstance(given, Levels):
            made = given
            if made.world != self.world:
                raise ValueError(f"the levels are of {made.world!r}, and this batch is {self.world!r}")
        elif isinstance(given, Seeds):
            made = of_upstream(self, given, self._kwargs)
        elif isinstance(given, int):
            self._count = given
            blank = {
                name: torch.zeros(given, t.shape[1], dtype=t.dtype) for name, t in self._state.items() if t.dim() == 2
            }
            made = Levels(self.world, blank["cells"], blank["ints"], blank["rng"][:, :2].contiguous())
        else:
            made = of_keys(self, given, self._another)
        for name in ("cells", "ints"):
            have, want = getattr(made, name), self._state[name]
            if have.dtype != want.dtype or have.dim() != 2 or have.shape[1] != want.shape[1] or not len(have):
                raise ValueError(f"the levels are damaged: {name} is {have.dtype} {list(have.shape)}")
        if made.keys.dtype != torch.int64 or tuple(made.keys.shape) != (len(made), 2) or len(made.ints) != len(made):
            raise ValueError(f"the levels are damaged: keys is {made.keys.dtype} {list(made.keys.shape)}")
        if not self._count:
            self._check_state(made.cells, made.ints, "the levels are")
        self._capped += f", levels {self._count or made.digest()}"
        # Clones: what the caller does with the arrays afterwards must not reach the kernels unchecked.
        self._levels = Levels(made.world, *(t.to(self.device).clone() for t in (made.cells, made.ints, made.keys)))

    def _another(self, lanes: int) -> "GridBatch":
        """A batch of the same world without a fixed set of levels."""
        return GridBatch(self.upstream, lanes, device=self.device, **self._kwargs)

    def _make_levels(self, seed: int) -> None:
        """Fill a count's set with the levels of a seed."""
        if self._count and seed != self._levels_seed:
            assert self._levels is not None
            made = of_keys(self, [(seed, k, 0) for k in range(self._count)], self._another)
            for name in ("cells", "ints", "keys"):
                getattr(self._levels, name).copy_(getattr(made, name))
            self._levels_seed = seed

    @property
    def levels(self) -> Levels | None:
        """The fixed set of levels (a count's is that of the seed in force), or None; ``levels.save`` writes it."""
        return self._levels

    def _allocate(self) -> None:
        """Make every tensor that a step touches."""
        n, where = self.num_envs, self.device
        cells, numbers = self.width * self.height, L.AUX + self.plan.aux

        def zeros(*shape: int, dtype: torch.dtype = torch.bool) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=where)

        self._state = {
            "cells": torch.full((n, cells), L.EMPTY_CELL, dtype=torch.int16, device=where),
            "ints": zeros(n, numbers, dtype=torch.int32),
            "rng": zeros(n, 3, dtype=torch.int64),
            "lanes": torch.arange(n, dtype=torch.int64, device=where),
        }
        self._last = {
            "success": zeros(n),
            "ints": zeros(n, numbers, dtype=torch.int32),
            "cells": zeros(n, cells, dtype=torch.int16),
        }
        space = self.single_observation_space
        assert isinstance(space, gym.spaces.Dict)
        self._mission_space = space["mission"]
        assert isinstance(self._mission_space, Tokens) and isinstance(space["image"], Symbols)
        self._obs, self._final_obs = (
            {
                "direction": zeros(n, dtype=torch.int64),
                "image": zeros(n, self.view, self.view, 3, dtype=torch.uint8),
                "mission": zeros(n, *self._mission_space.shape, dtype=torch.int64),
            }
            for _ in range(2)
        )
        self._where, self._final_where = (
            {"position": zeros(n, 2, dtype=torch.int64), "carrying": zeros(n, 2, dtype=torch.int64)} for _ in range(2)
        )
        self._result = {
            "reward": zeros(n, dtype=torch.float32),
            "terminated": zeros(n),
            "truncated": zeros(n),
            "done": zeros(n),
        }
        self._actions = zeros(n, dtype=torch.int32)
        self._mask = zeros(n)
        self._no_success = zeros(n)
        self._more_now, self._more_last = (more_facts.arrays(self._more, n, where) for _ in range(2))
        self._rooms = zeros(n, cells if "room" in self._more else 0, dtype=torch.int16)
        self._everyone = torch.ones(n, dtype=torch.bool, device=where)
        self._facts = {
            **self._more_now,
            **self._where,
            "direction": self._obs["direction"],
            **self._columns(self._state["ints"], self._state["cells"], self._no_success),
        }
        self._final_facts = {
            **self._more_last,
            **self._final_where,
            "direction": self._final_obs["direction"],
            **self._columns(self._last["ints"], self._last["cells"], self._last["success"]),
        }

    def _columns(self, ints: Tensor, cells: Tensor, success: Tensor) -> dict[str, Tensor]:
        return {
            "steps": ints[:, L.STEPS],
            "mission_id": ints[:, L.MISSION],
            "events": ints[:, L.EVENTS],
            "cells": cells,
            "success": success,
        }

    def _bind(self, through: bool, max_steps: int, cap: int, threads: int | None) -> None:
        """Show the tensors to Warp and record the launches, one set for each thread's share of the lanes."""
        where = wp.device_from_torch(self.device)
        # Upstream's float64 expression, rounded once: in float32 arithmetic it would differ.
        rewards = [1 - 0.9 * (k / max_steps) for k in range(max_steps + 1)]
        self._rewards = torch.tensor(rewards, dtype=torch.float64).to(torch.float32).to(self.device)
        encode = self._mission_space.encode  # type: ignore[attr-defined]
        self._missions = torch.from_numpy(np.stack([encode(m) for m in self.plan.missions])).to(self.device)
        rules = Rules()
        rules.through, rules.cap = int(through), cap
        rules.rewards, rules.missions = wp.from_torch(self._rewards), wp.from_torch(self._missions)
        made = kernels(self.family, self.view)
        parts = team.shares(self.num_envs, threads) if self.device.type == "cpu" else [slice(0, self.num_envs)]
        self._steps, self._resets, self._looks = [], [], []
        with runtime.announced(f"{self.family.name} ({where})"):
            for part in parts:
                world, now, shown, result, last = self._views(part)
                done, mask = result.done, wp.from_torch(self._mask[part])
                actions = wp.from_torch(self._actions[part])
                count = part.stop - part.start

                def record(kernel: Any, inputs: list[Any], dim: int = count) -> Any:
                    return wp.launch(kernel, dim, inputs=inputs, device=where, record_cmd=True)

                look = record(made.observe, [world, rules, now])
                step = record(made.step, [world, rules, result, actions])
                kernel, more = made.renew, []
                if self._levels is not None:
                    kernel, more = pick_kernel(self.view), [self._pack(self._levels)]
                renew = record(kernel, [world, rules, now, done, 1, last, shown, result, *more])
                begin = record(kernel, [world, rules, now, mask, 0, last, shown, result, *more])
                # The last state's facts come before its rooms are numbered anew.
                find_last, number_done, number_all, find_now = self._more_launches(part, done, record)
                self._steps.append(_Sequence(step, renew, *find_last, *number_done, *find_now, look))
                self._resets.append(_Sequence(begin, *number_all, *find_now, look))
                self._looks.append(_Sequence(*number_all, *find_now, look))

    def _more_launches(self, part: slice, done: Any, record: Any) -> tuple[list[Any], ...]:
        """Launches of the facts that were asked for: of the last states, rooms of new and of all levels, of the now."""
        if not self._more:
            return [], [], [], []
        label, find = more_facts.kernels()
        cells, ints, rooms, everyone, last_cells, last_ints = (
            wp.from_torch(tensor[part])
            for tensor in (
                self._state["cells"],
                self._state["ints"],
                self._rooms,
                self._everyone,
                self._last["cells"],
                self._last["ints"],
            )
        )
        names, width = more_facts.wanted(self._more), self.width
        now, last = (more_facts.struct(tensors, part) for tensors in (self._more_now, self._more_last))
        find_last = record(find, [last_cells, last_ints, rooms, done, width, names, last])
        find_now = record(find, [cells, ints, rooms, everyone, width, names, now])
        if "room" not in self._more:
            return [find_last], [], [], [find_now]
        number = [[record(label, [cells, rooms, mask, width])] for mask in (done, everyone)]
        return [find_last], *number, [find_now]

    @staticmethod
    def _pack(levels: Levels) -> Any:
        """Warp's struct over a fixed set of levels."""
        pack = Pack()
        pack.cells, pack.ints = wp.from_torch(levels.cells), wp.from_torch(levels.ints)
        pack.keys = wp.from_torch(levels.keys, dtype=wp.uint64)
        return pack

    def _views(self, part: slice) -> tuple[Any, Any, Any, Any, Any]:
        """Warp's structs over the rows of one share."""
        world = World()
        world.cells = wp.from_torch(self._state["cells"][part])
        world.ints = wp.from_torch(self._state["ints"][part])
        world.rng = wp.from_torch(self._state["rng"][part], dtype=wp.uint64)
        world.width, world.height = self.width, self.height
        world.params = Params(*self.plan.params, *([0] * (PARAMS - len(self.plan.params))))
        result, last = Result(), Last()
        for struct, tensors in ((result, self._result), (last, self._last)):
            for name, tensor in tensors.items():
                setattr(struct, name, wp.from_torch(tensor[part]))
        both = []
        for obs, facts in ((self._obs, self._where), (self._final_obs, self._final_where)):
            shown = Shown()
            for name, tensor in {**obs, **facts}.items():
                setattr(shown, name, wp.from_torch(tensor[part]))
            both.append(shown)
        return world, both[0], both[1], result, last

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes: episode 0 of every key that ``seed`` or ``lanes`` names anew, else each lane's next one."""
        options = options or {}
        mask = options.get("reset_mask")
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else check_reset_mask(mask, self.num_envs)
        lanes = options.get("lanes")
        numbers = None if lanes is None else self._check_lanes(lanes)
        if seed is not None:
            seed = check_seed(seed)
        elif self._seed is None:
            seed = fresh_seed()
        first = self._seed is None
        if first and not chosen.all():
            raise ValueError("the first reset of a batch is of all lanes: leave reset_mask out")
        self._mask.copy_(torch.from_numpy(chosen))
        if seed is not None or numbers is not None:
            rows = torch.from_numpy(np.flatnonzero(chosen)).to(self.device)
            if numbers is not None:
                self._state["lanes"][rows] = torch.from_numpy(numbers).to(self.device)[rows]
            self._seed = seed if seed is not None else self._seed
            assert self._seed is not None
            keys = lane_keys(self._seed, self._state["lanes"].cpu().numpy().astype(np.uint64)).view(np.int64)
            self._state["rng"][rows, L.LANE_KEY] = torch.from_numpy(keys).to(self.device)[rows]
            self._state["ints"][rows, L.EPISODE] = -1
            self._make_levels(self._seed)
        self._run(self._resets)
        info: dict[str, Any] = {"facts": self._facts}
        if self._frame_every:
            info["frame"], info["_frame"] = self._frames(self._mask.clone())
        return self._obs, info

    def _check_lanes(self, lanes: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        array = lanes.detach().cpu().numpy() if isinstance(lanes, Tensor) else np.asarray(lanes)
        if array.shape != (self.num_envs,) or array.dtype.kind not in "iu" or (array < 0).any():
            raise ValueError(f"options['lanes'] is {self.num_envs} whole numbers from 0 on, got {lanes!r}")
        return array.astype(np.int64)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane; see :class:`BatchEnv`."""
        if self._seed is None:
            raise RuntimeError("step was called before reset: call reset(seed=...) first")
        self._actions.copy_(self._checked(actions))
        self._run(self._steps)
        result = self._result
        info = {
            "final_obs": self._final_obs,
            "_final_obs": result["done"],
            "facts": self._facts,
            "final_facts": self._final_facts,
        }
        if self._frame_every:
            info["final_frame"], info["_final_frame"] = self._frames(result["done"].clone(), last=True)
            info["frame"], info["_frame"] = self._frames(self._state["ints"][:, L.STEPS] % self._frame_every == 0)
        return self._obs, result["reward"], result["terminated"], result["truncated"], info

    def _checked(self, actions: Any) -> Tensor:
        """The actions, or ValueError before anything has changed."""
        if isinstance(actions, Tensor) and actions.dtype in (torch.int64, torch.int32) and actions.ndim == 1:
            if len(actions) == self.num_envs and actions.device == self.device:
                low, high = torch.aminmax(actions)
                if int(low) >= 0 and int(high) < self._actions_of_one:
                    return actions
        elif isinstance(actions, Tensor) and actions.device.type != self.device.type:
            raise ValueError(f"the actions are on {actions.device}, and the batch is on {self.device}: move them first")
        return check_actions(self.single_action_space, actions, self.num_envs, self.device)

    def _run(self, works: list["_Sequence"]) -> None:
        if self.device.type == "cpu":
            team.run(works)
        else:
            works[0].launch_on(wp.stream_from_torch(torch.cuda.current_stream(self.device)))

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        return self._obs, {"facts": self._facts}

    def state_dict(self) -> dict[str, Any]:
        """A copy of the whole state; the observation is not in it, since it follows from the rest."""
        if self._seed is None:
            raise RuntimeError("there is no state before the first reset")
        lanes = {name: tensor.clone() for name, tensor in self._state.items()}
        return {"format": STATE_FORMAT, "world": self._capped, "seed": f"{self._seed:#x}", "lanes": lanes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back a state of a batch of the same world and size; on another, raise ValueError and change nothing."""
        check_like(state, {"format": "", "world": "", "seed": "", "lanes": self._state}, "GridBatch")
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
        for name, tensor in self._state.items():
            tensor.copy_(state["lanes"][name])
        self._seed = seed
        self._make_levels(seed)
        self._look()

    def get_state(self, lanes: Any = None) -> dict[str, Any]:
        """A copy of the state of some lanes (None for all, a number, or several), for ``set_state`` of any batch alike.

        It holds all that decides the lanes' futures under given actions: level, agent, steps, and the stream with all
        episodes to come. ``lanes`` in it has tensors of ``[M, ...]``, one row for each lane in the order asked for.
        """
        if self._seed is None:
            raise RuntimeError("there is no state before the first reset")
        rows = torch.from_numpy(check_rows(lanes, self.num_envs)).to(self.device)
        kept = {name: self._state[name][rows] for name in ("cells", "ints", "rng")}
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
        numbers = check_rows(lanes, self.num_envs)
        kept = check_few(state, self._state, len(numbers), STATE_FORMAT, self._capped)
        self._check_state(kept["cells"], kept["ints"], "the state is")
        rows = torch.from_numpy(numbers).to(self.device)
        for name, tensor in kept.items():
            self._state[name][rows] = tensor.to(self.device)
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
        own, _, plan = self._example.unwrapped, self.family, self.family.plan(inner) if self._is_alike(inner) else None
        if plan != self.plan or int(inner.max_steps) != int(own.max_steps):  # type: ignore[attr-defined]
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
        self._state["rng"][:, L.LANE_KEY] = torch.from_numpy(parts).to(self.device)
        episodes = torch.tensor([episode - 1 for *_, episode in keys], dtype=torch.int32)
        self._state["ints"][:, L.EPISODE] = episodes.to(self.device)
        self._seed = keys[0][0] if self._seed is None else self._seed
        self._mask.fill_(True)
        self._run(self._resets)

    def _look(self) -> None:
        """Show a state that came from elsewhere."""
        self._obs["mission"].copy_(self._missions[self._state["ints"][:, L.MISSION].long()])
        self._run(self._looks)

    def _check_state(self, cells: Tensor, ints: Tensor, what: str) -> None:
        cap = int(self.max_steps or 0)
        check_lanes(cells, ints, self.width, self.height, len(self.plan.missions), cap, what)

    def render(self) -> tuple[Any, ...] | None:
        """A picture of each lane, uint8 ``[H, W, 3]``, equal to what upstream's ``render()`` gives for it.

        None where the batch was not made with ``render_mode="rgb_array"``.
        """
        if self.render_mode != "rgb_array":
            return None
        if self._seed is None:
            raise RuntimeError("render was called before reset: call reset(seed=...) first")
        return tuple(self._paint(torch.arange(self.num_envs, device=self.device), False).cpu().numpy())

    def _frames(self, mask: Tensor, last: bool = False) -> tuple[Tensor, Tensor]:
        """Pictures ``[N, H, W, 3]`` of masked lanes (of their last states), and the mask."""
        rows = mask.nonzero()[:, 0]
        some = self._paint(rows, last)
        frames = torch.zeros(self.num_envs, *some.shape[1:], dtype=torch.uint8, device=self.device)
        frames[rows] = some
        return frames, mask

    def _paint(self, rows: Tensor, last: bool) -> Tensor:
        """Pictures of some lanes as upstream's arguments (highlight, tile_size, agent_pov) ask for them."""
        env: Any = self._example.unwrapped
        if self._painter is None:
            self._painter = Painter(self.width, self.height, self.view, int(env.tile_size), self.device)
        facts, obs = (self._final_facts, self._final_obs) if last else (self._facts, self._obs)
        image = obs["image"][rows]
        if env.agent_pov:
            return self._painter.partial(image)
        position, direction = facts["position"][rows], facts["direction"][rows]
        return self._painter.full(facts["cells"][rows], position, direction, image, bool(env.highlight))

    def grid(self) -> Tensor:
        """The whole grids as upstream's ``Grid.encode()`` has them, uint8 ``[N, W, H, 3]`` (a copy, on the CPU)."""
        return torch.from_numpy(L.decode(self._state["cells"].cpu().numpy(), self.width, self.height).copy())

    def missions(self) -> list[str]:
        """The mission texts of all lanes."""
        return [self.plan.missions[k] for k in self._state["ints"][:, L.MISSION].tolist()]


class _Sequence:
    """Recorded launches, one after the other."""

    def __init__(self, *launches: Any) -> None:
        self.launches = launches
        self.calls = [runtime.caller(launch) for launch in launches]

    def __call__(self) -> None:
        for call in self.calls:
            call()

    def launch_on(self, stream: Any) -> None:
        for launch in self.launches:
            launch.launch(stream)
