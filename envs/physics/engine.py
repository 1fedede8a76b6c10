"""The CPU engine: the whole state of every environment in one array, and one ``MjData`` for each thread.

A thread takes a few environments at a time. For each it puts the state into its ``MjData`` (warm start included),
steps, and reads the state and every field that the task needs back at once; the data stay in the processor's cache,
and ten thousand environments need no more memory than their states. ``mj_step`` releases the GIL, so the threads run
side by side; the loop over environments in here is Python's, and costs a few microseconds each.

MuJoCo's integration state is all that the next step depends on (``mjSTATE_INTEGRATION``), so the trajectories are those
of one ``MjData`` for each environment, which is what Gymnasium has, bit for bit. ``mujoco.rollout`` leaves the warm
start to the caller and does not give the fields.
"""

import ctypes
import itertools
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .model import Pairs
from .task import State

_UNSTABLE = [int(w) for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
                              mujoco.mjtWarning.mjWARN_BADQACC)]  # fmt: skip
_FULL = [int(w) for w in (mujoco.mjtWarning.mjWARN_CONTACTFULL, mujoco.mjtWarning.mjWARN_CNSTRFULL)]
_MEMORY = 'give the model file more: <size memory="100M"/>'
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_BEFORE_CTRL = int(mujoco.mjtState.mjSTATE_CTRL) - 1  # the components that come before the controls in a state
_CHUNK = 8  # environments that make it worth waking a thread


def default_threads() -> int:
    """As many threads as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """What a thread steps with: one ``MjData``, and views of the fields to read."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        self.data = mujoco.MjData(model)
        self.views = [getattr(self.data, name).reshape(-1) for name in names]
        self.take, self.index = _reader(self.data, self.views)
        self.warnings = self.data.warning.number
        self.quiet = bytes(self.warnings.nbytes)


def _reader(data: Any, views: list[NDArray[np.float64]]) -> tuple[Callable[..., Any], NDArray[np.intp]]:
    """``take, index``: ``take(index, 0, row, "clip")`` copies what ``views`` of ``data`` show into a row ``[W]``.

    All fields of ``mjData`` are pieces of one buffer (mjdata.h), so one ``take`` does it, in half the time of
    ``concatenate``, which goes through Python to look for overloads; on a half cheetah that is 3 % of a step.
    """
    places = [(view.ctypes.data, view.nbytes) for view in views if view.size]
    low, high = min(at for at, _ in places), max(at + size for at, size in places)
    index = np.concatenate([(at - low) // 8 + np.arange(size // 8) for at, size in places])
    if high - low > data.nbuffer or any((at - low) % 8 for at, _ in places):
        return lambda index, axis, row, mode: np.concatenate(views, out=row), index
    memory: Any = (ctypes.c_double * ((high - low) // 8)).from_address(low)
    # "clip", since "raise" would copy the row first.
    return np.frombuffer(memory, np.float64).take, index


def _portions(total: int, threads: int) -> list[tuple[int, int]]:
    """How threads share ``total`` environments: first a sixth of what is left for each, in the end one by one.

    Large portions cost less, and small ones at the end have the threads finish together.
    """
    bounds = [0]
    while bounds[-1] < total:
        bounds.append(bounds[-1] + max(1, (total - bounds[-1]) // (6 * threads)))
    return list(itertools.pairwise(bounds))


class _Side:
    """What is read of N environments: columns of one array ``[N, W]``, so that one copy fills a row of all of them."""

    def __init__(self, names: tuple[str, ...], data: Any, num_envs: int, pairs: int) -> None:
        shapes = [getattr(data, name).shape for name in names]
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
        self.packed = np.zeros((num_envs, ends[-1]))
        self.rows = list(self.packed)
        self.touching = np.zeros((num_envs, pairs), np.bool_)
        arrays: dict[str, NDArray[Any]] = {
            name: self.packed[:, low:high].reshape(num_envs, *shape)
            for name, shape, low, high in zip(names, shapes, ends, ends[1:])
        }
        self.state = State({**arrays, "touching": self.touching})


class CpuEngine:
    """N environments of one model.

    What is read of them is double: arrays of ``now`` stay as they are until the second next step.
    ``states [N, S]`` has MuJoCo's integration states.

    Args:
        models: The ``mujoco.MjModel`` of each environment; the same object N times, or copies with other parameters.
        pairs: The model's geom pairs.
        reads: Fields of ``mjData`` to read besides ``qpos``, ``qvel`` and ``xpos``.
        substeps: ``mj_step`` calls for one step.
        threads: How many threads step, this one included.
        velocity_limit: Joint velocities are cut to -limit..limit before each step, and the forces computed anew, with
            the controls of the step before: that is what gymnasium-robotics does with its point.
    """

    def __init__(
        self,
        models: list[Any],
        pairs: Pairs,
        reads: tuple[str, ...],
        substeps: int,
        threads: int,
        velocity_limit: float | None = None,
    ) -> None:
        self.models, self.pairs, self.substeps = models, pairs, substeps
        self._limit = velocity_limit
        self.num_envs = n = len(models)
        self.threads = max(1, min(threads, -(-n // _CHUNK)))
        self._names = ("qpos", "qvel", "xpos", *reads)
        # mj_rnePostConstraint computes cfrc_ext and nothing that the next step reads: without a reader it is left out.
        self._forces = "cfrc_ext" in self._names
        self._workers = [_Worker(models[0], self._names) for _ in range(self.threads)]
        data = self._workers[0].data
        self.states = np.zeros((n, mujoco.mj_stateSize(models[0], _STATE)))
        self._rows = list(self.states)
        start = mujoco.mj_stateSize(models[0], _BEFORE_CTRL)
        self._ctrl = self.states[:, start : start + models[0].nu]
        self._now, self._past = (_Side(self._names, data, n, len(pairs.geoms)) for _ in range(2))
        self._broken = np.zeros(n, np.bool_)
        self._full = np.zeros(n, np.bool_)
        self._pool: ThreadPoolExecutor | None = None

    @property
    def now(self) -> State:
        """The states after the last step or start."""
        return self._now.state

    @property
    def before(self) -> State:
        """The states before the last step."""
        return self._past.state

    def step(self, ctrl: NDArray[Any]) -> None:
        """Step all environments with ``ctrl [N, nu]``.

        Raises:
            RuntimeError: MuJoCo had no room for all contacts or constraints, and dropped some.
        """
        self._now, self._past = self._past, self._now
        limit = self._limit
        if limit is None:
            self._ctrl[:] = ctrl
            self._visit(None, None)
            return

        def limited(j: int, lane: int, data: Any) -> None:
            model = self.models[lane]
            mujoco.mj_setState(model, data, self._rows[lane], _STATE)
            data.qvel.clip(-limit, limit, out=data.qvel)
            # As upstream: the solver starts warm from it. In 18,000 steps of the point nothing depended on it, but that
            # is a property of walls along the axes, not of the engine.
            mujoco.mj_forward(model, data)
            data.ctrl[:] = ctrl[lane]
            mujoco.mj_step(model, data, self.substeps)

        self._visit(None, limited)

    def start(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Start ``lanes`` anew at ``qpos [k, nq]``, ``qvel [k, nv]``; raises as ``step`` does."""

        def begin(j: int, lane: int, data: Any) -> None:
            model = self.models[lane]
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = qpos[j], qvel[j]
            mujoco.mj_forward(model, data)

        self._visit(lanes, begin)

    def move(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Put ``lanes`` at other positions and velocities in the midst of their episodes; raises as ``step`` does."""

        def put(j: int, lane: int, data: Any) -> None:
            model = self.models[lane]
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, self._rows[lane], _STATE)
            data.qpos[:], data.qvel[:] = qpos[j], qvel[j]
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)

        self._visit(lanes, put)

    def take(self, lane: int, source: Any) -> None:
        """Make ``lane`` go on where another ``MjData`` of the same model is."""

        def copy(j: int, lane: int, data: Any) -> None:
            mujoco.mj_copyData(data, self.models[lane], source)

        self._visit(np.array([lane]), copy)

    def give(self, lane: int, target: Any) -> None:
        """Make another ``MjData`` of the same model go on where ``lane`` is."""
        mujoco.mj_resetData(self.models[lane], target)
        mujoco.mj_setState(self.models[lane], target, self._rows[lane], _STATE)
        mujoco.mj_forward(self.models[lane], target)
        # Forward computes positions of the state, and what was read are those of the last substep's start.
        mujoco.mj_setState(self.models[lane], target, self._rows[lane], _STATE)
        for name in self._names:
            getattr(target, name)[:] = getattr(self.now, name)[lane]

    def _visit(self, lanes: NDArray[np.intp] | None, work: Callable[[int, int, Any], None] | None) -> None:
        """Do ``work(j, lane, data)`` for the j-th of ``lanes`` (None: all) and read it; ``work`` None is a step."""
        total = self.num_envs if lanes is None else len(lanes)
        portions = iter(_portions(total, self.threads))  # next() on it is atomic
        self._broken[:] = self._full[:] = False
        self._now.touching[slice(None) if lanes is None else lanes] = False
        owners: list[int] = []
        geoms: list[NDArray[np.int32]] = []

        def run(worker: _Worker) -> None:
            mine: list[int] = []
            found: list[NDArray[np.int32]] = []
            for low, high in portions:
                if lanes is None and work is None:
                    self._step(worker, low, high, mine, found)
                else:
                    some = range(low, high) if lanes is None else lanes[low:high].tolist()
                    self._chunk(worker, some, low, work, mine, found)
            owners.extend(mine)
            geoms.extend(found)

        others = []
        if total > _CHUNK and self.threads > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="cairn-physics")
            others = [self._pool.submit(run, worker) for worker in self._workers[1:]]
        try:
            try:
                run(self._workers[0])
            finally:
                for other in others:
                    other.result()
        except mujoco.FatalError as error:
            raise RuntimeError(f"MuJoCo gave up: {error}\nIf it ran out of memory, {_MEMORY}") from error
        if self._full.any():
            lane = int(self._full.argmax())
            raise RuntimeError(f"MuJoCo had no room for all contacts of environment {lane} and dropped some; {_MEMORY}")
        if geoms:
            self._mark(owners, geoms)

    def _step(self, worker: _Worker, low: int, high: int, owners: list[int], geoms: list[NDArray[np.int32]]) -> None:
        """``_chunk`` for a step of the environments from ``low`` to ``high``, quickly: all is well in nearly all."""
        mj_step, mj_rne = mujoco.mj_step, mujoco.mj_rnePostConstraint
        get_state, set_state = mujoco.mj_getState, mujoco.mj_setState
        data, take, index, substeps, forces = worker.data, worker.take, worker.index, self.substeps, self._forces
        before, contacts = self.states[low:high].copy(), len(owners)
        some = zip(range(low, high), self.models[low:high], self._rows[low:high], self._now.rows[low:high])
        for lane, model, row, fields in some:
            set_state(model, data, row, _STATE)
            mj_step(model, data, substeps)
            if forces:
                mj_rne(model, data)
            get_state(model, data, row, _STATE)
            take(index, 0, fields, "clip")
            if data.ncon:
                geoms.append(data.contact.geom.copy())
                owners.append(lane)
        if worker.warnings.tobytes() != worker.quiet:  # once more, and look which it was
            del owners[contacts:], geoms[contacts:]
            self.states[low:high] = before
            mujoco.mj_resetData(self.models[low], data)
            self._chunk(worker, range(low, high), low, None, owners, geoms)

    def _chunk(
        self,
        worker: _Worker,
        lanes: Iterable[int],
        first: int,
        work: Callable[[int, int, Any], None] | None,
        owners: list[int],
        geoms: list[NDArray[np.int32]],
    ) -> None:
        """Visit a few environments with one thread's data, and note which geoms touch."""
        mj_step, mj_rne = mujoco.mj_step, mujoco.mj_rnePostConstraint
        get_state, set_state = mujoco.mj_getState, mujoco.mj_setState
        models, rows, substeps, forces = self.models, self._rows, self.substeps, self._forces
        data, quiet, fields = worker.data, worker.quiet, self._now.rows
        for j, lane in enumerate(lanes, first):
            model, row = models[lane], rows[lane]
            if work is None:
                set_state(model, data, row, _STATE)
                mj_step(model, data, substeps)
                if forces:
                    mj_rne(model, data)
            else:
                work(j, lane, data)
            get_state(model, data, row, _STATE)
            worker.take(worker.index, 0, fields[lane], "clip")
            if data.ncon:
                geoms.append(data.contact.geom.copy())
                owners.append(lane)
            if worker.warnings.tobytes() != quiet:
                self._broken[lane] = worker.warnings[_UNSTABLE].any()
                self._full[lane] = worker.warnings[_FULL].any()
                mujoco.mj_resetData(model, data)  # nothing of a broken environment reaches the next one

    def _mark(self, owners: list[int], geoms: list[NDArray[np.int32]]) -> None:
        """Set the pairs that touch."""
        lanes, both = np.repeat(owners, [len(g) for g in geoms]), np.concatenate(geoms)
        if self.models[0].nflex:  # a flexible body has no geom
            rigid = (both >= 0).all(axis=1)
            lanes, both = lanes[rigid], both[rigid]
        self._now.touching[lanes, self.pairs.table[both[:, 0], both[:, 1]]] = True

    def unstable(self) -> NDArray[np.bool_]:
        """Which environments' simulation broke down in the last step: bool ``[N]``.

        MuJoCo resets such data by itself in the midst of the step; its warning counters tell.
        """
        finite = np.isfinite(self.now.qpos).all(axis=1) & np.isfinite(self.now.qvel).all(axis=1)
        return self._broken | ~finite  # type: ignore[no-any-return]

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
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
