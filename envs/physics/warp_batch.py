"""``WarpBatch``: many environments of a physics task on MuJoCo Warp, a whole step being one CUDA graph."""

import secrets
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from ..batch import BatchEnv, check_action_form, check_actions, check_like, check_reset_mask, lane_seed
from . import exchange
from .dynamics import DynamicsRanges
from .memory import observation_space, option_rows, split
from .model import load_model, set_solver
from .pictures import check_pictures
from .task import State, Task
from .torch_ops import LaneDraws, bind_torch
from .warp_dynamics import LaneModels
from .warp_engine import WarpEngine, put
from .warp_graph import StepGraph

Tensors = dict[str, Tensor]


class WarpBatch(BatchEnv):
    """N environments of a physics task on one device, observation, reward, end and reset included.

    The task is the one that the CPU engine has. Physics and observations are float32; starts have upstream's
    distribution, and not upstream's draws: lane i of seed s has a stream of its own, a function of (s, i) alone, from
    which goals of mazes are drawn too, on the device (``torch_ops.LaneDraws``).

    On a GPU a step is one CUDA graph, recorded at the first ``step``; nothing in it waits. (The suite runs all but the
    recording, on Warp's CPU device; the graph has not been run on CUDA yet.) What has to be looked at by
    the host is looked at every ``check_every`` steps, in ``reset``, in ``state_dict`` and in ``close``: buffers that
    were too small, and actions that are not in the action space. So a contact is never dropped without an error, and
    the error comes at most ``check_every`` steps late. 1 is the default on the CPU, and then errors come at once, and
    a wrong action changes nothing. A lane with a wrong action has had zeros for it until the error.

    An environment whose simulation breaks down ends its episode as on the CPU: terminated, reward 0,
    ``final_facts["unstable"]``, and for its last state the one before the step. The others go on.

    Facts and ``info`` are those of ``PhysicsBatch``.

    Args:
        task: The task; this batch binds it to its model.
        num_envs: N.
        device: ``"cuda"``, ``"cuda:1"``, or ``"cpu"``.
        max_episode_steps: The time limit, in steps.
        dtype: Of the observations, ``"float32"`` or ``"float64"``.
        render_mode: None or ``"rgb_array"``.
        pictures: Upstream's arguments for pictures; ``width``, ``height``, ``camera_id`` and ``camera_name`` count.
        solver: ``"newton"`` or ``"cg"``; None for the model file's, or Newton where that is PGS.
        nconmax: Room for so many contacts in each environment, on average over the batch.
        njmax: Room for so many rows of constraints in every environment.
        deterministic: The same bits in every run on a GPU, at some cost in speed.
        check_every: How many steps may pass between two looks at errors; 1 on the CPU and 64 on a GPU by default.
        dynamics: As for ``PhysicsBatch``, the factors drawn from the lane's stream before the start.

    Raises:
        ImportError: MuJoCo Warp is not installed.
        ValueError: The model is beyond MuJoCo Warp, or a buffer is too small for the model at rest.
        NotImplementedError: The task can be started for one environment at a time only.
    """

    exact_state = True
    metadata = {**BatchEnv.metadata, "render_modes": ["rgb_array"]}

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        device: torch.device | str,
        max_episode_steps: int | None = None,
        dtype: str = "float32",
        render_mode: str | None = None,
        pictures: Mapping[str, Any] | None = None,
        solver: str | None = None,
        nconmax: int | None = None,
        njmax: int | None = None,
        deterministic: bool = True,
        check_every: int | None = None,
        dynamics: DynamicsRanges | None = None,
    ) -> None:
        place = torch.device(device)
        self.model, self.pairs = load_model(task)
        self.task, self._parts = task, task.parts()
        set_solver(self.model, solver, pgs=False)
        self.engine = WarpEngine(
            self.model,
            self.pairs,
            task.reads,
            task.frame_skip,
            num_envs,
            place,
            nconmax=nconmax,
            njmax=njmax,
            deterministic=deterministic,
            velocity_limit=task.velocity_limit,
        )
        self.dynamics = dynamics
        self._factors = torch.ones(num_envs, 3, dtype=torch.float64, device=place)
        self._models: LaneModels | None = None
        if dynamics is not None:
            self._models = LaneModels(self.engine, self.model, dynamics)
        bind_torch(task, place)
        self._memory = {n: torch.zeros(num_envs, *shape, device=place) for n, shape in task.memory().items()}
        for side in (self.engine.now, self.engine.before):
            side.__dict__.update(self._memory)
        bounds = self.model.actuator_ctrlrange.copy().astype(np.float32)
        width = task.observe(self.engine.now).shape[1]
        super().__init__(
            num_envs,
            observation_space(self._parts, width, np.dtype(dtype)),
            spaces.Box(bounds[:, 0], bounds[:, 1], dtype=np.float32),
            device=place,
            max_steps=task.limit(max_episode_steps),
            render_mode=render_mode,
        )
        self._dtype = torch.float64 if dtype == "float64" else torch.float32
        self._pictures = dict(pictures or {})
        check_pictures(self.model, self._pictures)
        self._renderer: Any = None
        self._low, self._high = (torch.from_numpy(bounds[:, side].copy()).to(place) for side in (0, 1))
        self._none = torch.zeros(num_envs, dtype=torch.bool, device=place)
        self._bad, self._moving = self._none.clone(), self._none.clone()
        self._keys = torch.zeros(num_envs, dtype=torch.int64, device=place)
        self._counts, self._elapsed = self._keys.clone(), self._keys.clone()
        self._action = torch.zeros(num_envs, bounds.shape[0], device=place)
        self._obs = torch.zeros(num_envs, width, dtype=self._dtype, device=place)
        self._begun = self._told = False
        self._check_every = check_every or (64 if place.type == "cuda" else 1)
        self._unchecked = 0
        self._graph = StepGraph(self._tick, self.state_dict, self._restore, place)
        # The task's constants come to be here, not in the graph, which cannot copy from the host.
        self._try_draw()
        self._renews = task.outcome(self.engine.before, self._action, self.engine.now).renew is not None
        self._facts(self.engine.now, self._none)

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
        """Begin new episodes; ``info`` has upstream's reset info and the facts. ``options`` as ``PhysicsBatch``."""
        self.check()
        mask = (options or {}).get("reset_mask")
        rows = np.ones(self.num_envs, np.bool_) if mask is None else check_reset_mask(mask, self.num_envs)
        if not self._begun and not rows.all():
            raise gym.error.ResetNeeded("the first reset is of all environments: leave out options['reset_mask']")
        chosen = torch.from_numpy(rows.copy()).to(self.device)
        if seed is not None or not self._begun:
            main = secrets.randbits(62) if seed is None else seed
            keys = torch.tensor([lane_seed(main, i) for i in range(self.num_envs)], device=self.device)
            self._keys.copy_(torch.where(chosen, keys, self._keys))
            self._counts.masked_fill_(chosen, 0)
        self._begun = True
        with self.engine.here():
            self._obs = self._begin(chosen, self._obs, option_rows(self.task, options, self.num_envs))
        now = self.engine.now
        info: dict[str, Any] = {name: array.clone() for name, array in self.task.start_info(now).items()}
        info["facts"] = self._facts(now, self._none)
        if self._frame_every:
            info["frame"], info["_frame"] = self._frames(self._elapsed % self._frame_every == 0)
        return split(self._parts, self._obs), info

    def _draws(self, rows: Tensor) -> Any:
        """The streams of all lanes; those of ``rows`` go on, those of the others stay."""
        return LaneDraws(self._keys, self._counts, rows)

    def _try_draw(self) -> None:
        """Raise NotImplementedError where the task cannot start all lanes at once."""
        try:
            start: Any = self.task.draw(self._draws(self._none), {})
            qpos, qvel = start[0]
            fits = qpos.shape == (self.num_envs, self.model.nq) and qvel.shape == (self.num_envs, self.model.nv)
        except (TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
            fits, why = False, f" ({error})"
        else:
            why = ""
        if not fits:
            raise NotImplementedError(
                f"{type(self.task).__name__} starts one environment at a time, and MuJoCo Warp all at once{why}: make "
                "it with device='cpu', or write start() with draws [..., size] and the operations of self.xp"
            )

    def _begin(self, rows: Tensor, obs: Tensor, options: Mapping[str, Any] | None = None) -> Tensor:
        """Begin an episode in ``rows``: the new observations there, ``obs`` elsewhere."""
        draws = self._draws(rows)
        if self._models is not None:
            put(rows, self._models.draw(draws), self._factors)
            self._models.write(self._factors)
        start: Any = self.task.draw(draws, dict(options or {}))
        (qpos, qvel), memory = start
        self.engine.start(rows, qpos, qvel)
        for name, array in self._memory.items():
            put(rows, memory.get(name, 0.0), array)
        self._moving.masked_fill_(rows, False)
        self._elapsed.masked_fill_(rows, 0)
        return torch.where(rows[:, None], self._observe(), obs)

    def _observe(self) -> Tensor:
        obs: Tensor = self.task.observe(self.engine.now)
        return obs.to(self._dtype)

    def _tick(self) -> Tensors:
        """The whole step, from ``_action`` to what ``step`` returns, all in tensors: this is what the graph records."""
        out = self._advance()
        obs = self._begin(out["ended"], out["final_obs"])
        return {**out, "obs": obs, **self._named("facts", self._facts(self.engine.now, self._none))}

    def _advance(self) -> Tensors:
        """The step without resets."""
        action = self._action
        wrong = ~((action >= self._low) & (action <= self._high)).all(1)  # NaN compares false
        self._bad |= wrong
        action = torch.where(wrong[:, None], torch.zeros_like(action), action)
        engine = self.engine
        if self._renews:
            for name, value in self.task.renew(self._draws(self._moving), engine.now).items():
                put(self._moving, value, self._memory[name])
        engine.step(action)
        unstable = engine.unstable()
        engine.hold(unstable)
        outcome = self.task.outcome(engine.before, action, engine.now)
        for name, value in outcome.memory.items():
            self._memory[name].copy_(value)
        if outcome.renew is not None:
            self._moving.copy_(outcome.renew)
        self._elapsed.add_(1)
        terminated = outcome.terminated | unstable
        truncated = torch.zeros_like(unstable) if self.max_steps is None else self._elapsed >= self.max_steps
        reward = torch.where(unstable, torch.zeros_like(outcome.reward), outcome.reward)
        return {
            "reward": reward.float(),
            "terminated": terminated,
            "truncated": truncated,
            "ended": terminated | truncated,
            "final_obs": self._observe(),
            **self._named("info", {**outcome.info, "task_reward": reward}),
            **self._named("final_facts", self._facts(engine.now, unstable)),
        }

    @staticmethod
    def _named(group: str, tensors: Tensors) -> Tensors:
        """Copies, since a reset writes into the engine's arrays."""
        return {f"{group}/{name}": tensor.clone() for name, tensor in tensors.items()}

    def step(self, actions: Any) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once: ``actions`` float32 ``[N, nu]``."""
        if not self._begun:
            raise gym.error.ResetNeeded("call reset() before step()")
        form = check_actions if self._check_every == 1 else check_action_form
        self._action.copy_(form(self.single_action_space, actions, self.num_envs, self.device))
        frames: dict[str, Any] = {}
        if self._frame_every:
            with self.engine.here():
                out = self._advance()
                frames["final_frame"], frames["_final_frame"] = self._frames(out["ended"])
                out["obs"] = self._begin(out["ended"], out["final_obs"])
                out.update(self._named("facts", self._facts(self.engine.now, self._none)))
            frames["frame"], frames["_frame"] = self._frames(self._elapsed % self._frame_every == 0)
        else:
            with self.engine.here():
                out = self._graph.run()
        self._unchecked += 1
        if self._unchecked >= self._check_every:
            self.check()
        self._obs = out["obs"]
        info: dict[str, Any] = {"facts": {}, "final_facts": {}, **frames}
        for name, tensor in out.items():
            group, _, key = name.partition("/")
            if key:
                (info if group == "info" else info[group])[key] = tensor
        info.update(final_obs=split(self._parts, out["final_obs"]), _final_obs=out["ended"])
        return split(self._parts, self._obs), out["reward"], out["terminated"], out["truncated"], info

    def check(self) -> None:
        """Look for errors since the last look; waits for the device.

        Raises:
            RuntimeError: A buffer was too small, and contacts or constraints were dropped.
            ValueError: An action was not in the action space.
        """
        self._unchecked = 0
        if self._told:
            return
        self._told = True  # whatever is raised is raised once
        self.engine.check()
        self._told = False
        if bool(self._bad.any()):
            lane = int(self._bad.nonzero()[0, 0])
            self._bad.zero_()
            raise ValueError(
                f"an action of lane {lane} was not in {self.single_action_space}, at most {self._check_every} steps "
                "ago; clip the policy's actions to the bounds first, and make the batch with check_every=1 to see which"
            )

    def _facts(self, state: State, unstable: Tensor) -> Tensors:
        own = {} if self.dynamics is None else {"dynamics": self._factors}
        return {
            "qpos": state.qpos,
            "qvel": state.qvel,
            "xpos": state.xpos,
            "touching": state.touching,
            "feet": self.task.foot_contact(state),
            "unstable": unstable,
            **self._memory,
            **own,
            **self.task.facts(state),
        }

    def observe(self) -> tuple[Any, dict[str, Any]]:
        """The present observation and the facts, without a step."""
        if not self._begun:
            raise gym.error.ResetNeeded("call reset() before observe()")
        return split(self._parts, self._obs), {"facts": self._facts(self.engine.now, self._none)}

    def state_dict(self) -> dict[str, Any]:
        """Physics with warm start, what was read of it, memory, random streams and counters: copies, on the device."""
        self.check()
        return {
            "task": type(self.task).__name__,
            "begun": self._begun,
            "physics": self.engine.state(),
            "keys": self._keys.clone(),
            "counts": self._counts.clone(),
            "elapsed": self._elapsed.clone(),
            "obs": self._obs.clone(),
            "memory": {name: array.clone() for name, array in self._memory.items()},
            "moving": self._moving.clone(),
            "dynamics": self._factors.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave; what follows on the same device is then the same, bit for bit.

        Raises:
            ValueError: The state is of another task, model, engine or number of environments.
        """
        present = self.state_dict()
        check_like(state, present, type(self).__name__)
        if state["task"] != present["task"]:
            raise ValueError(f"this is the state of {state['task']!r} environments, and these are {present['task']!r}")
        if self.dynamics is None and not bool((state["dynamics"] == 1).all()):
            raise ValueError("the state is of randomised dynamics: make the batch with the same dynamics=...")
        self._restore(state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.engine.load(state["physics"])
        for name in ("keys", "counts", "elapsed", "moving"):
            getattr(self, f"_{name}").copy_(state[name])
        self._factors.copy_(state["dynamics"])
        if self._models is not None:
            self._models.write(self._factors)
        for name, array in self._memory.items():
            array.copy_(state["memory"][name])
        self._obs = state["obs"].to(self.device).clone()
        self._begun = state["begun"]

    def set_state(self, lanes: Any, qpos: Any, qvel: Any) -> None:
        """Put some lanes at other positions and velocities, within their episodes.

        Args:
            lanes: Indices ``[k]``.
            qpos: ``[k, nq]``.
            qvel: ``[k, nv]``.

        Raises:
            ValueError: A wrong shape, or numbers that are not finite.
            gymnasium.error.ResetNeeded: This batch has not been reset.
        """
        if not self._begun:
            raise gym.error.ResetNeeded("call reset() before states go in or out")
        index = torch.as_tensor(lanes)
        if index.ndim != 1 or index.is_floating_point() or not bool(((index >= 0) & (index < self.num_envs)).all()):
            raise ValueError(f"lanes={lanes!r}: they are indices below {self.num_envs}")
        index = index.to(self.device)
        rows, whole = self._none.clone(), []
        rows[index] = True
        for name, array, width in (("qpos", qpos, self.model.nq), ("qvel", qvel, self.model.nv)):
            given = torch.as_tensor(array, dtype=torch.float32, device=self.device)
            if given.shape != (len(index), width) or not bool(torch.isfinite(given).all()):
                raise ValueError(f"{name} is a finite array of shape ({len(index)}, {width})")
            whole.append(self.engine.now.__dict__[name].clone())
            whole[-1][index] = given
        with self.engine.here():
            self.engine.move(rows, *whole)
            self._moving.masked_fill_(rows, False)
            self._obs = torch.where(rows[:, None], self._observe(), self._obs)

    def import_env(self, lane: int, env: gym.Env[Any, Any]) -> None:
        """Make ``lane`` go on where a live environment of upstream's class is: physics, goal and time limit.

        Its generator stays behind: a lane has a stream of its own, and draws its next episode from that.

        Raises:
            ValueError: The environment is of another model, or no MuJoCo environment.
            gymnasium.error.ResetNeeded: This batch has not been reset.
        """
        other = exchange.partner(self, self._begun, lane, env)
        self.engine.take(lane, other.data)
        if "goal" in self._memory and hasattr(other, "goal"):
            self._memory["goal"][lane] = torch.as_tensor(other.goal, dtype=torch.float32)
        self._elapsed[lane], self._moving[lane] = exchange.elapsed(env), False
        rows = self._none.clone()
        rows[lane] = True
        self._obs = torch.where(rows[:, None], self._observe(), self._obs)

    def export_env(self, lane: int, env: gym.Env[Any, Any]) -> None:
        """Make a live environment of upstream's class go on where ``lane`` is, with its own generator; raises as above.

        It must have been reset once.
        """
        other = exchange.partner(self, self._begun, lane, env)
        self.engine.give(lane, other.data, other.model)
        if "goal" in self._memory and hasattr(other, "goal"):
            other.goal = self._memory["goal"][lane].double().cpu().numpy()
            other.update_target_site_pos()
        exchange.set_elapsed(env, int(self._elapsed[lane]))

    def _frames(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures uint8 ``[N, H, W, 3]`` of some lanes, black elsewhere, and the mask of these."""
        frames = self._paint()
        return frames * chosen[:, None, None, None], chosen.clone()

    def _paint(self) -> Tensor:
        if self._renderer is None:
            from .warp_pictures import BatchPainter

            self._renderer = BatchPainter(self.engine, self.model, self.task, self._pictures)
        painted: Tensor = self._renderer.paint()
        return painted

    def render(self) -> tuple[Any, ...] | None:
        """One picture for each lane, uint8 ``[H, W, 3]``; None without a ``render_mode``."""
        return None if self.render_mode is None else tuple(self._paint().cpu().numpy())

    def close_extras(self, **kwargs: Any) -> None:
        """Look for errors a last time."""
        self._graph.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.check()
