"""The batch: MiniGrid levels in Warp arrays that torch sees without a copy."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import warp as wp
from torch import Tensor

from ..batch import BatchEnv, check_actions, check_like, check_reset_mask
from ..kinds import Symbols, Tokens, declare
from . import layout as L
from . import runtime, single, team
from .family import Family, Plan, family_of
from .kernels import Last, Result, Rules, Shown, kernels
from .state import PARAMS, Params, World
from .stream import GAMMA, LANE_SALT, MASK, SEED_SALT, check_seed, fresh_seed, mix64

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
        kwargs: Arguments of upstream's class.

    Raises:
        ValueError: If the engine does not have this id, or not with these arguments (``make_vec`` bridges it).
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
        # What must agree for one batch's state to make sense in another.
        self._world = f"{upstream} {self.width}x{self.height} {plan.params} {cap}/{env.max_steps} steps"
        runtime.start()
        self._actions_of_one = int(env.action_space.n)
        self._example = example
        self._allocate()
        self._bind(bool(env.see_through_walls), int(env.max_steps), cap, threads)
        self._seed: int | None = None

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
        self._facts = {
            **self._where,
            "direction": self._obs["direction"],
            **self._columns(self._state["ints"], self._state["cells"], self._no_success),
        }
        self._final_facts = {
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
                renew = record(made.renew, [world, rules, now, done, 1, last, shown, result])
                begin = record(made.renew, [world, rules, now, mask, 0, last, shown, result])
                self._steps.append(_Sequence(step, renew, look))
                self._resets.append(_Sequence(begin, look))
                self._looks.append(_Sequence(look))

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
        self._run(self._resets)
        return self._obs, {"facts": self._facts}

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
        return {"format": STATE_FORMAT, "world": self._world, "seed": f"{self._seed:#x}", "lanes": lanes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back a state of a batch of the same world and size; on another, raise ValueError and change nothing."""
        check_like(state, {"format": "", "world": "", "seed": "", "lanes": self._state}, "GridBatch")
        if state["format"] != STATE_FORMAT or state["world"] != self._world:
            raise ValueError(
                f"the state is {state['format']} of {state['world']}, and this batch is {STATE_FORMAT} of {self._world}"
            )
        try:
            seed = check_seed(int(state["seed"], 16))
        except ValueError as error:
            raise ValueError(f"the state is damaged: its seed is {state['seed']!r}") from error
        self._check_state(state["lanes"])
        for name, tensor in self._state.items():
            tensor.copy_(state["lanes"][name])
        self._seed = seed
        self._obs["mission"].copy_(self._missions[self._state["ints"][:, L.MISSION].long()])
        self._run(self._looks)

    def _check_state(self, lanes: Mapping[str, Tensor]) -> None:
        """Refuse numbers that no episode has: a kernel would read beyond its arrays, or show what is in no space."""
        ints = lanes["ints"]
        missions = len(self.plan.missions)
        limits = {L.X: self.width, L.Y: self.height, L.DIR: 4, L.MISSION: missions, L.STEPS: self.max_steps}
        for column, limit in limits.items():
            low, high = torch.aminmax(ints[:, column])
            if int(low) < 0 or int(high) >= int(limit or 0):
                raise ValueError(f"the state is damaged: column {column} of its numbers is not within [0, {limit})")
        known = torch.from_numpy(L.every_cell()).to(ints.device)
        held = ints[:, L.CARRYING]
        if not bool(torch.isin(lanes["cells"], known).all()):
            raise ValueError("the state is damaged: it has cells that are no cells")
        if not bool(((held == 0) | (torch.isin(held, known) & ((held & 15) >= L.KEY) & ((held & 15) <= L.BOX))).all()):
            raise ValueError("the state is damaged: an agent carries what cannot be carried")

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
