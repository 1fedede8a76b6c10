"""``PhysicsBatch``: many environments of a physics task as a ``BatchEnv``, on the CPU."""

import secrets
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray
from torch import Tensor

from ..batch import BatchEnv, check_actions, check_like, check_reset_mask, lane_seed
from . import exchange
from .dynamics import DynamicsRanges, apply, copies
from .engine import CpuEngine, default_threads
from .generators import pack, unpack
from .memory import Memory, observation_space, option_rows, split
from .model import load_model, set_solver
from .pictures import Painter, check_pictures
from .task import State, Task


class PhysicsBatch(BatchEnv):
    """N environments of a physics task on the CPU, stepped by threads.

    Lane i of seed s is the single environment after ``reset(seed=s, options={"lane": i})``, and so is upstream's class
    after ``reset(seed=lane_seed(s, i))``: every draw is upstream's. Inside all is float64 and equal to upstream's bits;
    ``reward`` is float32 by the contract, and ``info["task_reward"]`` has it in float64 ``[N]``, beside upstream's own
    ``info`` (``reward_forward``, ``x_velocity``, ...).

    Facts, ``[N, ...]``: ``qpos``, ``qvel``, ``xpos`` (body positions ``[N, nbody, 3]``, m), ``touching`` bool
    ``[N, P]`` (``touching_pairs`` and ``touching_names`` say which geoms the P pairs are), ``feet`` bool ``[N, F]``
    (each foot on the ground), ``unstable``, and what the task has to say: ``success`` and ``distance`` where it has a
    goal (the locomotion tasks of Gymnasium have none, so there they are absent), ``descriptor``, ``score``.

    An environment whose simulation breaks down (NaN, or numbers that MuJoCo finds absurd) ends its episode: terminated,
    reward 0, ``final_facts["unstable"]``, and for its last state the one before the step, which is finite.

    Args:
        task: The task; this batch binds it to its model.
        num_envs: N.
        max_episode_steps: The time limit, in steps.
        threads: How many threads step.
        dtype: Of the observations, ``"float64"`` or ``"float32"``.
        render_mode: None or ``"rgb_array"``.
        pictures: Upstream's arguments for pictures (``width``, ``height``, ``camera_id``, ...).
        dynamics: Each environment then has a model of its own, and each episode its own mass, friction and gravity,
            drawn from the lane's generator before the start; the factors are ``facts["dynamics"] [N, 3]``.
        solver: ``"newton"``, ``"cg"`` or ``"pgs"``; None for the model file's, which is upstream's.
    """

    exact_state = True
    metadata = {**BatchEnv.metadata, "render_modes": ["rgb_array"]}

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        max_episode_steps: int | None = None,
        threads: int | None = None,
        dtype: str = "float64",
        render_mode: str | None = None,
        pictures: Mapping[str, Any] | None = None,
        dynamics: DynamicsRanges | None = None,
        solver: str | None = None,
    ) -> None:
        check_counts(num_envs=num_envs, max_episode_steps=max_episode_steps, threads=threads)
        if dtype not in ("float64", "float32"):
            raise ValueError(f"dtype={dtype!r}: observations are 'float64', as upstream's, or 'float32'")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}: a batch has None or 'rgb_array'")
        self.model, self.pairs = load_model(task)
        self.task, self._parts = task, task.parts()
        set_solver(self.model, solver)
        check_pictures(self.model, pictures or {})
        self.dynamics = dynamics
        models = [self.model] * num_envs if dynamics is None else copies(self.model, num_envs)
        self._factors = np.ones((num_envs, 3))
        threads = threads or default_threads()
        self.engine = CpuEngine(
            models, self.pairs, task.reads, task.frame_skip, threads, task.velocity_limit, task.aside
        )
        self.memory = Memory(task, num_envs, self.engine.now, self.engine.before)
        bounds = self.model.actuator_ctrlrange.copy().astype(np.float32)
        width = task.observe(self.engine.now.rows(slice(0, 1))).shape[1]
        super().__init__(
            num_envs,
            observation_space(self._parts, width, np.dtype(dtype)),
            spaces.Box(bounds[:, 0], bounds[:, 1], dtype=np.float32),
            device="cpu",
            max_steps=task.limit(max_episode_steps),
            render_mode=render_mode,
        )
        self._actions_shape = (num_envs, len(bounds))
        limit = np.finfo(np.float32).max  # an infinite bound allows no infinite action
        self._narrow = (max(-limit, *bounds[:, 0]), min(limit, *bounds[:, 1]))
        self._dtype = np.dtype(dtype)
        self._pictures = dict(pictures or {})
        self._painter: Painter | None = None
        self._rngs: list[np.random.Generator] = []
        self._elapsed = np.zeros(num_envs, np.int64)
        self._obs = np.zeros((num_envs, width), self._dtype)
        self._none = np.zeros(num_envs, np.bool_)
        self._resting = self._none

    @property
    def touching_pairs(self) -> Tensor:
        """Geom ids of the pairs of ``facts["touching"]``: int64 ``[P, 2]``."""
        return torch.from_numpy(self.pairs.geoms)

    @property
    def touching_names(self) -> tuple[tuple[str, str], ...]:
        """Geom names of the pairs of ``facts["touching"]``."""
        return self.pairs.names

    @property
    def descriptor_bounds(self) -> Tensor | None:
        """Lowest and highest values of ``facts["descriptor"]``: float64 ``[2, D]``; None where there is none."""
        bounds = self.task.descriptor_bounds
        return None if bounds is None else torch.tensor(bounds, dtype=torch.float64)

    @property
    def areas(self) -> Tensor:
        """Centre and radius of the areas that pay, m: float32 ``[A, 3]``; of most tasks there are none."""
        return torch.tensor(self.task.areas, dtype=torch.float32).reshape(-1, 3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; ``info`` has upstream's reset info and the facts.

        Of ``options`` the task takes those that its ``options`` names, such as a maze's ``goal_cell``: one value for
        all environments, or one row for each.
        """
        mask = (options or {}).get("reset_mask")
        chosen = ~self._none if mask is None else check_reset_mask(mask, self.num_envs)
        if not self._rngs and not chosen.all():
            raise gym.error.ResetNeeded("the first reset is of all environments: leave out options['reset_mask']")
        lanes = np.flatnonzero(chosen)
        if len(lanes) == self.num_envs:
            self._resting = self._none
        given = option_rows(self.task, options, self.num_envs)
        if seed is not None or not self._rngs:
            main = secrets.randbits(62) if seed is None else seed
            fresh = [np_random(lane_seed(main, i))[0] for i in lanes.tolist()]
            if not self._rngs:
                self._rngs = fresh
            else:
                for lane, rng in zip(lanes.tolist(), fresh):
                    self._rngs[lane] = rng
            self.memory.moving[lanes] = False
        self._start(lanes, given)
        now = self.engine.now
        info: dict[str, Any] = {
            name: torch.from_numpy(array.copy()) for name, array in self.task.start_info(now).items()
        }
        info["facts"] = self.present_facts(self._none)
        if self._frame_every:
            info["frame"], info["_frame"] = self._frames(self._elapsed % self._frame_every == 0)
        return split(self._parts, torch.from_numpy(self._obs)), info

    def rest(self, lanes: Tensor) -> None:
        """Leave ``lanes`` (bool ``[N]``) as they are, or were a step before, until a reset of all or a loaded state."""
        self._resting = check_reset_mask(lanes, self.num_envs).copy()

    def _renew(self, chosen: NDArray[np.bool_] | None = None) -> None:
        """Draw anew what the last step left behind, such as the next goal; upstream draws it with that step."""
        if not self.memory.moving.any():
            return
        moving = self.memory.moving if chosen is None else self.memory.moving & chosen
        for lane in np.flatnonzero(moving).tolist():
            now = self.engine.now.rows(np.array([lane]))
            self.memory.put(lane, self.task.renew(self._rngs[lane], now))

    def _start(self, lanes: NDArray[np.intp], options: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Begin an episode in ``lanes``."""
        if self.memory.moving.any():
            self._renew(np.isin(np.arange(self.num_envs), lanes))
        if self.dynamics is not None:
            for lane in lanes.tolist():
                self._factors[lane] = self.dynamics.draw(self._rngs[lane])
                apply(self.engine.models[lane], self.model, self._factors[lane])
        starts = []
        for lane in lanes.tolist():
            mine = {name: rows[lane] for name, rows in (options or {}).items()}
            state, memory = self.task.draw(self._rngs[lane], mine)
            starts.append(state)
            self.memory.begin(lane, memory)
        if starts:
            self.engine.start(lanes, np.stack([qpos for qpos, _ in starts]), np.stack([qvel for _, qvel in starts]))
            self._elapsed[lanes] = 0
            self._look(lanes)

    def _look(self, lanes: NDArray[np.intp]) -> None:
        """Observe ``lanes`` anew."""
        self._obs = self._obs.copy()  # what was returned stays as it is
        self._obs[lanes] = self.task.observe(self.engine.now.rows(lanes))

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once: ``actions`` float32 ``[N, nu]``."""
        if not self._rngs:
            raise gym.error.ResetNeeded("call reset() before step()")
        action = self._checked(actions)
        final_obs, reward, terminated, unstable, info = self.advance(action)
        truncated = self._none if self.max_steps is None else self._elapsed >= self.max_steps
        if self._resting is not self._none:
            terminated, truncated = terminated & ~self._resting, truncated & ~self._resting
        ended = terminated | truncated
        facts = self._facts(self.engine.now, unstable)
        final_facts = self._tensors(facts)
        self._obs = final_obs
        lanes = np.flatnonzero(ended)
        if self._frame_every:
            info["final_frame"], info["_final_frame"] = self._frames(ended)
        if len(lanes):
            final_facts = self._tensors({name: array.copy() for name, array in facts.items()})
            self._start(lanes)
        info.update(
            final_obs=split(self._parts, torch.from_numpy(final_obs)),
            _final_obs=torch.from_numpy(ended),
            facts=self.present_facts(self._none) if len(lanes) else dict(final_facts),
            final_facts=final_facts,
        )
        if self._frame_every:
            info["frame"], info["_frame"] = self._frames(self._elapsed % self._frame_every == 0)
        return (
            split(self._parts, torch.from_numpy(self._obs)),
            torch.from_numpy(reward.astype(np.float32)),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated.copy()),
            info,
        )

    def _checked(self, actions: Any) -> NDArray[np.float32]:
        """What ``check_actions`` gives, quickly for float32 within the narrowest bounds."""
        if type(actions) is Tensor and not actions.requires_grad and actions.is_cpu:
            action: NDArray[np.float32] = actions.numpy()
            if action.dtype == np.float32 and action.shape == self._actions_shape:
                low, high = self._narrow
                if action.min() >= low and action.max() <= high:  # NaN compares false
                    return action
        return check_actions(self.single_action_space, actions, self.num_envs).numpy()

    def advance(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step without resets: observations, rewards in float64, terminated, unstable, and upstream's info."""
        engine = self.engine
        self._renew()
        engine.step(action, None if self._resting is self._none else np.flatnonzero(~self._resting))
        unstable = engine.unstable()
        broken = np.flatnonzero(unstable)
        if len(broken):
            engine.hold(broken)
        outcome = self.task.outcome(engine.before, action, engine.now)
        reward = np.where(unstable, 0.0, outcome.reward) if len(broken) else outcome.reward.astype(np.float64)
        self.memory.write(outcome.memory, outcome.renew)
        self._elapsed += 1
        # What is a view of the engine's arrays is copied: resets write into those.
        info: dict[str, Any] = {
            name: torch.from_numpy(array if array.base is None else array.copy())
            for name, array in outcome.info.items()
        }
        info["task_reward"] = torch.from_numpy(reward)
        obs = self.task.observe(engine.now).astype(self._dtype, copy=False)
        return obs, reward, outcome.terminated | unstable, unstable, info

    def present_facts(self, unstable: NDArray[np.bool_]) -> dict[str, Tensor]:
        """The facts of the present states."""
        return self._tensors(self._facts(self.engine.now, unstable))

    def _facts(self, state: State, unstable: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        own = {} if self.dynamics is None else {"dynamics": self._factors.copy()}
        return {
            "qpos": state.qpos,
            "qvel": state.qvel,
            "xpos": state.xpos,
            "touching": state.touching,
            "feet": self.task.foot_contact(state),
            "unstable": unstable.copy(),
            **{name: array.copy() for name, array in self.memory.names.items()},
            **own,
            **self.task.facts(state),
        }

    @staticmethod
    def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and the facts, without a step."""
        if not self._rngs:
            raise gym.error.ResetNeeded("call reset() before observe()")
        return split(self._parts, torch.from_numpy(self._obs)), {"facts": self.present_facts(self._none)}

    def state_dict(self) -> dict[str, Any]:
        """Physics with warm start, what was read of it, generators and counters."""
        return {
            "task": type(self.task).__name__,
            "begun": bool(self._rngs),
            "physics": torch.from_numpy(self.engine.states),
            "fields": torch.from_numpy(self.engine.fields.copy()),
            "touching": torch.from_numpy(self.engine.touching.copy()),
            "generators": torch.from_numpy(pack(self._rngs, self.num_envs)),
            "elapsed": torch.from_numpy(self._elapsed.copy()),
            "obs": torch.from_numpy(self._obs.copy()),
            "dynamics": torch.from_numpy(self._factors.copy()),
            "memory": torch.from_numpy(self.memory.packed.copy()),
            "moving": torch.from_numpy(self.memory.moving.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave; what follows is then the same, bit for bit.

        Raises:
            ValueError: The state is of another task, model or number of environments.
        """
        present = self.state_dict()
        check_like(state, present, type(self).__name__)
        if state["task"] != present["task"]:
            raise ValueError(f"this is the state of {state['task']!r} environments, and these are {present['task']!r}")
        if self.dynamics is None and not bool((state["dynamics"] == 1).all()):
            raise ValueError("the state is of randomised dynamics: make the batch with the same dynamics=...")
        self._rngs = unpack(state["generators"].numpy()) if state["begun"] else []
        self.engine.load_states(state["physics"].numpy())
        self._factors = state["dynamics"].numpy().copy()
        if self.dynamics is not None:
            for model, factors in zip(self.engine.models, self._factors):
                apply(model, self.model, factors)
        self.engine.fields[:] = state["fields"].numpy()
        self.engine.touching[:] = state["touching"].numpy()
        self.memory.packed[:], self.memory.moving[:] = state["memory"].numpy(), state["moving"].numpy()
        self._elapsed = state["elapsed"].numpy().copy()
        self._obs = state["obs"].numpy().copy()
        self._resting = self._none

    def set_state(self, lanes: Any, qpos: Any, qvel: Any) -> None:
        """Put some lanes at other positions and velocities, within their episodes, as upstream's ``set_state`` does.

        Args:
            lanes: Indices ``[k]``.
            qpos: ``[k, nq]``.
            qvel: ``[k, nv]``.

        Raises:
            ValueError: A wrong shape, or numbers that are not finite.
            gymnasium.error.ResetNeeded: This batch has not been reset.
        """
        if not self._rngs:
            raise gym.error.ResetNeeded("call reset() before states go in or out")
        index, model = np.asarray(lanes), self.model
        if index.ndim != 1 or index.dtype.kind not in "iu" or not np.isin(index, np.arange(self.num_envs)).all():
            raise ValueError(f"lanes={lanes!r}: they are indices below {self.num_envs}")
        arrays = []
        for name, array, width in (("qpos", qpos, model.nq), ("qvel", qvel, model.nv)):
            arrays.append(np.asarray(array, np.float64))
            if arrays[-1].shape != (len(index), width) or not np.isfinite(arrays[-1]).all():
                raise ValueError(f"{name} is a finite array of shape ({len(index)}, {width})")
        if len(index):
            self.engine.move(index, *arrays)
            self.memory.moving[index] = False
            self._look(index)

    def import_env(self, lane: int, env: gym.Env[Any, Any]) -> None:
        """Make ``lane`` go on where a live environment of upstream's class is: physics, generator and time limit.

        Raises:
            ValueError: The environment is of another model, or no MuJoCo environment.
            gymnasium.error.ResetNeeded: This batch has not been reset.
        """
        self._elapsed[lane] = exchange.import_env(self, self._rngs, lane, env)
        self.memory.moving[lane] = False
        self._look(np.array([lane]))

    def export_env(self, lane: int, env: gym.Env[Any, Any]) -> None:
        """Make a live environment of upstream's class go on where ``lane`` is; it must have been reset once.

        Raises:
            ValueError: The environment is of another model, or no MuJoCo environment.
            gymnasium.error.ResetNeeded: This batch has not been reset.
        """
        self._renew(np.arange(self.num_envs) == lane)
        exchange.export_env(self, self._rngs, lane, env, int(self._elapsed[lane : lane + 1].sum()))

    def _frames(self, chosen: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Pictures uint8 ``[N, H, W, 3]`` of some lanes, black elsewhere, and the mask of these."""
        height, width = (int(self._pictures.get(name) or 480) for name in ("height", "width"))
        frames = np.zeros((self.num_envs, height, width, 3), np.uint8)
        for lane in np.flatnonzero(chosen).tolist():
            frames[lane] = self._paint(lane)
        return torch.from_numpy(frames), torch.from_numpy(chosen.copy())

    def _paint(self, lane: int) -> NDArray[np.uint8]:
        if self._painter is None:
            self._painter = Painter(self.model, self.task.camera, self._pictures)
        self.show(lane, self._painter)
        return self._painter.rgb()

    def show(self, lane: int, painter: Painter) -> None:
        """Put what a painter paints where ``lane`` is."""
        now = self.engine.now.rows(np.array([lane]))
        for model in {id(m): m for m in (self.model, self.engine.models[lane])}.values():
            self.task.show(model, now)
        self.engine.give(lane, painter.data)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One picture for each lane, uint8 ``[H, W, 3]``; None without a ``render_mode``.

        Raises:
            RuntimeError: There is no OpenGL.
        """
        return None if self.render_mode is None else tuple(self._paint(lane) for lane in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self.engine.close()
        if self._painter is not None:
            self._painter.close()
            self._painter = None


def check_counts(**counts: Any) -> None:
    """Raise ValueError where one of them, None apart, is no whole number of at least 1."""
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise ValueError(f"{name}={value!r}: it is a whole number of at least 1")
