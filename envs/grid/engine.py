"""The batch: MiniGrid levels in Warp arrays that torch sees without a copy."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import warp as wp
from torch import Tensor

from ..batch import BatchEnv, check_actions, check_reset_mask
from ..kinds import Symbols, Tokens, declare
from . import facts as more_facts
from . import layout as L
from . import runtime, single
from .arrays import Arrays, pack
from .camera import Camera
from .family import Family, Plan, family_of
from .inout import StateInOut
from .kernels import Rules, kernels
from .launches import Programs
from .levels import Ground, Levels, LevelSet
from .state import PARAMS
from .stream import check_seed, fresh_seed, lane_keys

_INTEGERS = (torch.int64, torch.int32)


def plan_of(upstream: str, **kwargs: Any) -> tuple[gym.Env[Any, Any], Family | None, Plan | None]:
    """An upstream instance, its native family and its plan; the latter are None where the engine does not have it."""
    example = single.make(upstream, **kwargs)
    family = family_of(type(example).__name__)
    plan = family.plan(example) if family is not None else None
    view, cells = int(example.agent_view_size), int(example.width) * int(example.height)  # type: ignore[attr-defined]
    if view > 15 or cells > 2**15 or (plan is not None and len(plan.params) > PARAMS):
        plan = None
    return example, family, plan


def _find_device(device: torch.device | str) -> torch.device:
    """The device as its tensors name it ("cuda" is "cuda:0").

    Raises:
        ValueError: If the engine does not run on it, or it is not there.
    """
    try:
        where = torch.empty(0, device=device).device
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device={str(device)!r} is not there: {error}") from error
    if where.type not in ("cpu", "cuda"):
        raise ValueError(f"device={str(device)!r}: the grid engine runs on 'cpu' and on 'cuda'")
    return where


class GridBatch(StateInOut, BatchEnv):
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

    Nothing is allocated in a step: the tensors that it returns are the same ones every time, filled anew. On a CPU an
    action out of range raises before anything has changed. On CUDA, where nobody waits for the device in a step, it
    stops the batch instead: no lane moves any more, and ``check_actions`` raises, which ``reset``, ``state_dict``,
    ``get_state``, ``render`` and whatever else waits for the device call first. (Captured as a CUDA graph; the suite
    runs that code on Warp's CPU device, and it has not been run on CUDA yet.)

    Args:
        upstream: Upstream's id.
        num_envs: N, at least 1.
        device: "cpu" or "cuda".
        max_episode_steps: Truncate after so many steps, where that is before upstream's ``max_steps``.
        threads: Threads that step the batch on a CPU; None for as many cores as are worth waking.
        facts: Names of more facts that are wanted, any of "objects", "doors", "room" and "hash" (see ``facts``).
        levels: None for levels without end, else a fixed set: a count, keys, ``upstream(seeds)``, a ``Levels``
            or the path of its file (see ``levels``).
        kwargs: Arguments of upstream's class.

    Raises:
        ValueError: If the engine does not have this id, or not with these arguments (``make_vec`` bridges it), or if
            the levels do not fit, or the device is not there.
    """

    keyed = True
    exact_state = True  # the state is integers, and all of it is saved
    _graph_on_cpu = False  # the suite runs the GPU's way of launching so

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
        self.highlight = bool(env.highlight)
        for name, most in (("max_steps", env.max_steps), ("max_episode_steps", max_episode_steps)):
            if most is not None and most < 1:
                raise ValueError(f"{name}={most!r}: an episode has at least 1 step")
        cap = int(env.max_steps) if max_episode_steps is None else min(int(env.max_steps), max_episode_steps)
        where = _find_device(device)
        super().__init__(
            num_envs,
            declare(env.observation_space, symbols=True),
            env.action_space,
            device=where,
            max_steps=cap,
            render_mode=env.render_mode,
        )
        self._example, self._kwargs = env, kwargs
        self._actions_of_one = int(env.action_space.n)
        runtime.start()
        space = self.single_observation_space
        assert isinstance(space, gym.spaces.Dict) and isinstance(space["image"], Symbols)
        mission = space["mission"]
        assert isinstance(mission, Tokens)
        size = self.width, self.height, self.view, plan.aux, mission.shape[0]
        self.arrays = Arrays(num_envs, *size, more_facts.check_names(facts), where)
        # What must agree for one batch's levels, or its state, to make sense in another.
        self.world = f"{upstream} {self.width}x{self.height} {plan.params}"
        another = partial(type(self), upstream, device=where, **kwargs)
        ground = Ground(self.world, upstream, kwargs, family, plan, self.arrays, cap, another)
        self._level_set = LevelSet(ground, levels)
        self._capped = f"{self.world} {cap}/{env.max_steps} steps{self._level_set.name}"
        self.programs = self._programs(mission, cap, threads)
        self._seed: int | None = None
        self._camera = Camera(self.arrays, self.programs, int(env.tile_size), bool(env.agent_pov), self.highlight)

    def _programs(self, mission: Tokens, cap: int, threads: int | None) -> Programs:
        """Show the memory to Warp, and record what a step and a reset launch."""
        most = int(self._example.max_steps)
        # Upstream's float64 expression, rounded once: in float32 arithmetic it would differ.
        rewards = np.array([1 - 0.9 * (k / most) for k in range(most + 1)]).astype(np.float32)
        tokens = np.stack([mission.encode(text) for text in self.plan.missions])
        self._rewards, self._missions = (torch.from_numpy(a).to(self.device) for a in (rewards, tokens))
        rules = Rules()
        rules.through, rules.cap = int(self._example.see_through_walls), cap
        rules.rewards, rules.missions = wp.from_torch(self._rewards), wp.from_torch(self._missions)
        fixed = self._level_set.levels
        graph = self.device.type != "cpu" or self._graph_on_cpu
        with runtime.announced(f"{self.family.name} ({self.device})"):
            return Programs(
                self.arrays,
                kernels(self.family, self.view),
                rules,
                self.plan.params,
                None if fixed is None else pack(fixed.cells, fixed.ints, fixed.keys),
                self._actions_of_one,
                self.device,
                threads,
                graph,
            )

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
        if self._seed is None and not chosen.all():
            raise ValueError("the first reset of a batch is of all lanes: leave reset_mask out")
        self.check_actions()
        self.arrays.mask.copy_(torch.from_numpy(chosen))
        if seed is not None or numbers is not None:
            state = self.arrays.state
            rows = torch.from_numpy(np.flatnonzero(chosen)).to(self.device)
            if numbers is not None:
                state["lanes"][rows] = torch.from_numpy(numbers).to(self.device)[rows]
            self._seed = seed if seed is not None else self._seed
            assert self._seed is not None
            keys = lane_keys(self._seed, state["lanes"].cpu().numpy().astype(np.uint64)).view(np.int64)
            state["rng"][rows, L.LANE_KEY] = torch.from_numpy(keys).to(self.device)[rows]
            state["ints"][rows, L.EPISODE] = -1
            self._level_set.reseed(self._seed)
        self.programs.reset()
        info: dict[str, Any] = {"facts": self.arrays.facts}
        if self._frame_every:
            info["frame"], info["_frame"] = self._camera.begun()
        return self.arrays.obs, info

    def _check_lanes(self, lanes: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        array = lanes.detach().cpu().numpy() if isinstance(lanes, Tensor) else np.asarray(lanes)
        if array.shape != (self.num_envs,) or array.dtype.kind not in "iu" or (array < 0).any():
            raise ValueError(f"options['lanes'] is {self.num_envs} whole numbers from 0 on, got {lanes!r}")
        return array.astype(np.int64)

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every lane; see :class:`BatchEnv`."""
        if self._seed is None:
            raise RuntimeError("step was called before reset: call reset(seed=...) first")
        arrays = self.arrays
        self._take(actions)
        self.programs.step()
        result = arrays.result
        info = {
            "final_obs": arrays.final_obs,
            "_final_obs": result["done"],
            "facts": arrays.facts,
            "final_facts": arrays.final_facts,
        }
        if self._frame_every:
            info["final_frame"], info["_final_frame"] = self._camera.last()
            info["frame"], info["_frame"] = self._camera.due(self._frame_every)
        return arrays.obs, result["reward"], result["terminated"], result["truncated"], info

    def _take(self, actions: Any) -> None:
        """Take the actions over and check them: ValueError before anything has changed (on CUDA: see the class)."""
        if isinstance(actions, Tensor) and actions.device != self.device:
            raise ValueError(f"the actions are on {actions.device}, and the batch is on {self.device}: move them first")
        like = self.arrays.actions
        fits = isinstance(actions, Tensor) and actions.dtype in _INTEGERS and actions.shape == like.shape
        like.copy_(actions if fits else check_actions(self.single_action_space, actions, self.num_envs, self.device))
        self.programs.check()
        if self.device.type == "cpu" and self._bad.item():
            self._bad.fill_(0)
            check_actions(self.single_action_space, like, self.num_envs)  # says which

    @property
    def _bad(self) -> Tensor:
        return self.arrays.result["bad"]

    def check_actions(self) -> None:
        """Wait for the device and raise where an action was out of range (on a CPU ``step`` itself has done so).

        Raises:
            ValueError: If it was. The lanes are as they were before that step, and go on.
        """
        if self._bad.item():
            self._bad.fill_(0)
            try:
                check_actions(self.single_action_space, self.arrays.actions, self.num_envs, self.device)
            except ValueError as error:
                raise ValueError(f"the last step, and maybe steps before it, did nothing: {error}") from error
            raise ValueError(
                f"an action of an earlier step was not in {self.single_action_space}, and no lane has moved since: "
                "check the actions on the device, or call check_actions() after a step to find which"
            )

    @property
    def levels(self) -> Levels | None:
        """The fixed set of levels (a count's is that of the seed in force), or None; ``levels.save`` writes it."""
        return self._level_set.levels

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and facts."""
        return self.arrays.obs, {"facts": self.arrays.facts}

    def render(self) -> tuple[Any, ...] | None:
        """A picture of each lane, uint8 ``[H, W, 3]``, equal to what upstream's ``render()`` gives for it.

        None where the batch was not made with ``render_mode="rgb_array"``.
        """
        if self.render_mode != "rgb_array":
            return None
        if self._seed is None:
            raise RuntimeError("render was called before reset: call reset(seed=...) first")
        self.check_actions()
        return tuple(self._camera.everyone().cpu().numpy().copy())

    def grid(self) -> Tensor:
        """The whole grids as upstream's ``Grid.encode()`` has them, uint8 ``[N, W, H, 3]`` (a copy, on the CPU)."""
        cells = self.arrays.state["cells"].cpu().numpy()
        return torch.from_numpy(L.decode(cells, self.width, self.height).copy())

    def missions(self) -> list[str]:
        """The mission texts of all lanes."""
        return [self.plan.missions[k] for k in self.arrays.state["ints"][:, L.MISSION].tolist()]
