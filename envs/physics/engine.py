"""The CPU engine: the whole state of every environment in one array, and one ``MjData`` for each thread.

For each environment a thread puts the state into its ``MjData`` (warm start included), steps, and reads the state and
every field that the task needs back at once; the data stay in the processor's cache, and ten thousand environments need
no more memory than their states. ``native.Shards`` does that with no Python between the environments, by MuJoCo's own
batch API; where that cannot be, ``loop.Loop`` does the same in Python, which costs some ten microseconds each.

MuJoCo's integration state is all that the next step depends on (``mjSTATE_INTEGRATION``), so the trajectories are those
of one ``MjData`` for each environment, which is what Gymnasium has, bit for bit. ``mujoco.rollout`` leaves the warm
start to the caller and does not give the fields.
"""

import math
import os
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .loop import Loop
from .model import Pairs
from .native import STATE, Shards
from .task import State
from .walls import ROOM, Walls

_UNSTABLE = [int(w) for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
                              mujoco.mjtWarning.mjWARN_BADQACC)]  # fmt: skip
_FULL = [int(w) for w in (mujoco.mjtWarning.mjWARN_CONTACTFULL, mujoco.mjtWarning.mjWARN_CNSTRFULL)]
_MEMORY = 'give the model file more: <size memory="100M"/>'
_CHUNK = 8  # environments that make it worth waking a thread


def default_threads() -> int:
    """As many threads as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Side:
    """What is read of N environments: columns of one array ``[N, W]``."""

    def __init__(self, names: tuple[str, ...], data: Any, num_envs: int, pairs: int) -> None:
        shapes = [getattr(data, name).shape for name in names]
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
        self.packed = np.zeros((num_envs, ends[-1]))
        self.touching = np.zeros((num_envs, pairs), np.bool_)
        arrays: dict[str, NDArray[Any]] = {
            name: self.packed[:, low:high].reshape(num_envs, *shape)
            for name, shape, low, high in zip(names, shapes, ends, ends[1:])
        }
        self.state = State({**arrays, "touching": self.touching})


class CpuEngine:
    """N environments of one model.

    What is read of them is double: arrays of ``now`` stay as they are until the second next step.

    Args:
        models: The ``mujoco.MjModel`` of each environment; the same object N times, or copies with other parameters.
        pairs: The model's geom pairs.
        reads: Fields of ``mjData`` to read besides ``qpos``, ``qvel`` and ``xpos``.
        substeps: ``mj_step`` calls for one step.
        threads: How many threads step, this one included.
        velocity_limit: Joint velocities are cut to -limit..limit before each step, as gymnasium-robotics does with its
            point. (It has the forces computed anew then, of which nothing is left: ``mj_forward`` changes no state.)
        walls: Names of geoms that need not be looked for in environments that are far from them; see ``walls.Walls``.

    Raises:
        ValueError: The model lets bodies sleep, or has IPC contacts: what these remember is in no state.
    """

    def __init__(
        self,
        models: list[Any],
        pairs: Pairs,
        reads: tuple[str, ...],
        substeps: int,
        threads: int,
        velocity_limit: float | None = None,
        walls: tuple[str, ...] = (),
    ) -> None:
        for flag in ("sleep", "ipc"):
            bit = getattr(mujoco.mjtEnableBit, f"mjENBL_{flag.upper()}", None)
            if bit is not None and models[0].opt.enableflags & int(bit):
                raise ValueError(
                    f"the model enables {flag}, which remembers what is in no state of MuJoCo's, so environments could "
                    f'not be told apart: take <flag {flag}="enable"/> out of the model file'
                )
        self.models, self.pairs, self.substeps = models, pairs, substeps
        self._limit = velocity_limit
        self.num_envs = n = len(models)
        self.threads = max(1, min(threads, -(-n // _CHUNK)))
        self._names = ("qpos", "qvel", "xpos", *reads)
        # mj_rnePostConstraint computes cfrc_ext and nothing that the next step reads: without a reader it is left out.
        self._forces = "cfrc_ext" in self._names
        model, data = models[0], mujoco.MjData(models[0])
        self._shards = self._make()
        self._blank = np.zeros(mujoco.mj_stateSize(model, STATE))
        mujoco.mj_getState(model, data, self._blank, STATE)
        self._qpos, self._qvel, self._ctrl = (
            _columns(model, part)
            for part in (mujoco.mjtState.mjSTATE_QPOS, mujoco.mjtState.mjSTATE_QVEL, mujoco.mjtState.mjSTATE_CTRL)
        )
        self._now, self._past = (_Side(self._names, data, n, len(pairs.geoms)) for _ in range(2))
        self._moving = model.nq + model.nv  # qpos and qvel are the first columns of what is read
        self._broken = np.zeros(n, np.bool_)
        one_model = all(other is model for other in models)
        self._walls = Walls(model, walls) if walls and one_model else None
        self.load_states(np.tile(self._blank, (n, 1)))

    def _make(self) -> Shards | Loop:
        """The compiled way, except for a single environment, which does not repay a compiler's start."""
        try:
            if self.num_envs > 1:
                return Shards(self.models, self.threads, self._names, self.pairs.table)
        except NotImplementedError:
            pass
        return Loop(self.models, self.threads, self._names, self.pairs.table)

    @property
    def now(self) -> State:
        """The states after the last step or start."""
        return self._now.state

    @property
    def before(self) -> State:
        """The states before the last step."""
        return self._past.state

    def step(self, ctrl: NDArray[Any], lanes: NDArray[np.intp] | None = None) -> None:
        """Step all environments with ``ctrl [N, nu]``, or ``lanes`` alone: the rest is as it was a step or two before.

        Raises:
            RuntimeError: MuJoCo had no room for all contacts or constraints, and dropped some.
        """
        self._now, self._past = self._past, self._now
        states = self._shards.states
        states[:, self._ctrl] = ctrl
        if self._limit is not None:
            velocities = states[:, self._qvel]
            np.clip(velocities, -self._limit, self._limit, out=velocities)
        self._broken[:] = False
        if self._walls is None:
            self._visit(lanes, substeps=self.substeps, post=self._forces)
        else:
            self._step_by(self._walls, np.arange(self.num_envs) if lanes is None else lanes)

    def _step_by(self, walls: Walls, lanes: NDArray[np.intp]) -> None:
        """Step ``lanes``, those far from walls without them."""
        states, place = self._shards.states, slice(self._qpos.start, self._qpos.start + 2)
        near = walls.near(states[lanes, place])
        near_ones, far = lanes[near], lanes[~near]
        if len(far):
            before = states[far]
            with walls.hidden():
                self._visit(far, substeps=self.substeps, post=self._forces)
            # What moved half the room may have been nearer in between; so does what MuJoCo put back to its start.
            moved = ~(np.abs(states[far, place] - before[:, place]).max(-1) <= ROOM / 2)
            again = far[moved]
            states[again], self._broken[again] = before[moved], False
            near_ones = np.concatenate([near_ones, again])
        self._visit(near_ones, substeps=self.substeps, post=self._forces)

    def start(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Start ``lanes`` anew at ``qpos [k, nq]``, ``qvel [k, nv]``; raises as ``step`` does."""
        states = self._shards.states
        self._broken[:] = False
        states[lanes] = self._blank
        states[lanes, self._qpos], states[lanes, self._qvel] = qpos, qvel
        self._visit(lanes, begin=True)

    def move(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Put ``lanes`` at other positions and velocities in the midst of their episodes; raises as ``step`` does."""
        states = self._shards.states
        self._broken[:] = False
        states[lanes, self._qpos], states[lanes, self._qvel] = qpos, qvel
        self._visit(lanes, begin=True, post=True)

    def take(self, lane: int, source: Any) -> None:
        """Make ``lane`` go on where another ``MjData`` of the same model is."""
        mujoco.mj_getState(self.models[lane], source, self._shards.states[lane], STATE)
        np.concatenate([getattr(source, name).reshape(-1) for name in self._names], out=self._now.packed[lane])
        self.pairs.mark(source, self._now.touching[lane])

    def give(self, lane: int, target: Any) -> None:
        """Make another ``MjData`` of the same model go on where ``lane`` is."""
        model, state = self.models[lane], self._shards.states[lane]
        mujoco.mj_resetData(model, target)
        mujoco.mj_setState(model, target, state, STATE)
        mujoco.mj_forward(model, target)
        # Forward computes positions of the state, and what was read are those of the last substep's start.
        mujoco.mj_setState(model, target, state, STATE)
        for name in self._names:
            getattr(target, name)[:] = getattr(self.now, name)[lane]

    @property
    def states(self) -> NDArray[np.float64]:
        """MuJoCo's integration states ``[N, S]``, a copy; ``load_states`` takes them back."""
        return self._shards.states.copy()

    def load_states(self, states: NDArray[np.float64]) -> None:
        """Put in what ``states`` gave."""
        self._shards.states[:] = states

    def _visit(self, lanes: NDArray[np.intp] | None, **what: Any) -> None:
        """Have ``lanes`` (None: all) visited, and see what MuJoCo warned of."""
        if lanes is not None and not len(lanes):
            return
        try:
            warnings = self._shards.visit(lanes, self._now.packed, self._now.touching, **what)
        except mujoco.FatalError as error:
            raise RuntimeError(f"MuJoCo gave up: {error}\nIf it ran out of memory, {_MEMORY}") from error
        if warnings is None:
            return
        full = warnings[:, _FULL].any(axis=1)
        if full.any():
            lane = int(full.argmax())
            raise RuntimeError(f"MuJoCo had no room for all contacts of environment {lane} and dropped some; {_MEMORY}")
        self._broken |= warnings[:, _UNSTABLE].any(axis=1)

    def unstable(self) -> NDArray[np.bool_]:
        """Which environments' simulation broke down in the last step: bool ``[N]``.

        MuJoCo resets such data by itself in the midst of the step; its warning counters tell.
        """
        broken = self._broken.copy()
        if not math.isfinite(self._now.packed[:, : self._moving].sum()):
            finite = np.isfinite(self.now.qpos).all(axis=1) & np.isfinite(self.now.qvel).all(axis=1)
            broken |= ~finite
        return broken

    def hold(self, lanes: NDArray[np.intp]) -> None:
        """Put what was read before the last step in the place of what was read after it."""
        self._now.packed[lanes] = self._past.packed[lanes]
        self._now.touching[lanes] = self._past.touching[lanes]

    @property
    def fields(self) -> NDArray[np.float64]:
        """All that was read, in one array ``[N, W]``; it cannot be computed again from ``states``.

        After a step, the positions of bodies are those of its last substep's start.
        """
        return self._now.packed

    @property
    def touching(self) -> NDArray[np.bool_]:
        """Which geom pairs touch: ``[N, P]``."""
        return self._now.touching

    def close(self) -> None:
        """End the threads."""
        self._shards.close()


def _columns(model: Any, part: Any) -> slice:
    """Where one component, such as the controls, lies in a state; those before it are the lower bits."""
    low = mujoco.mj_stateSize(model, int(part) - 1)
    return slice(low, low + mujoco.mj_stateSize(model, int(part)))
