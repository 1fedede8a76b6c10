"""The CPU engine: the whole state of every environment in one array, and one ``MjData`` for each thread.

A thread takes a few environments at a time. For each it puts the state into its ``MjData`` (warm start included),
steps, and reads the state and every field that the task needs back at once; the data stay in the processor's cache,
and ten thousand environments need no more memory than their states. ``mj_step`` releases the GIL, so the threads run
side by side; the loop over environments in here is Python's, and costs a few microseconds each.

MuJoCo's integration state is all that the next step depends on (``mjSTATE_INTEGRATION``), so the trajectories are those
of one ``MjData`` for each environment, which is what Gymnasium has, bit for bit. ``mujoco.rollout`` leaves the warm
start to the caller and does not give the fields.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .mjdata import SLOTS, STATE, Contacts, reader, state_image
from .model import Pairs
from .task import State

_UNSTABLE = [int(w) for w in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL,
                              mujoco.mjtWarning.mjWARN_BADQACC)]  # fmt: skip
_FULL = [int(w) for w in (mujoco.mjtWarning.mjWARN_CONTACTFULL, mujoco.mjtWarning.mjWARN_CNSTRFULL)]
_MEMORY = 'give the model file more: <size memory="100M"/>'
_BEFORE_CTRL = int(mujoco.mjtState.mjSTATE_CTRL) - 1  # the components that come before the controls in a state
_CHUNK = 8  # environments that make it worth waking a thread


def default_threads() -> int:
    """As many threads as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """What a thread steps with: one ``MjData``, and its memory."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        self.data = mujoco.MjData(model)
        self.take, self.index = reader(self.data, [getattr(self.data, name).reshape(-1) for name in names])
        self.image = state_image(model, self.data)
        self.contacts = Contacts(model, self.data)
        self.warnings = self.data.warning.number
        self.quiet = bytes(self.warnings.nbytes)


def _portions(total: int, threads: int) -> list[tuple[int, int]]:
    """How threads share ``total`` environments: first a fourth of what is left for each, in the end two by two.

    Large portions cost less, and small ones at the end have the threads finish together.
    """
    bounds = [0]
    while (left := total - bounds[-1]) > 0:
        bounds.append(bounds[-1] + min(left, max(2, left // (4 * threads))))
    return list(itertools.pairwise(bounds))


class _States:
    """MuJoCo's states of N environments: images of memory with the time beside, or as MuJoCo packs them."""

    def __init__(self, num_envs: int, width: int) -> None:
        self.values, self.time = np.zeros((num_envs, width)), np.zeros(num_envs)
        self.rows = list(self.values)


class _Side:
    """What is read of N environments: columns of one array ``[N, W]``, so that one copy fills a row of all of them."""

    def __init__(self, names: tuple[str, ...], data: Any, num_envs: int, pairs: int) -> None:
        shapes = [getattr(data, name).shape for name in names]
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
        self.packed = np.zeros((num_envs, ends[-1]))
        self.rows = list(self.packed)
        self.touching = np.zeros((num_envs, pairs), np.bool_)
        self.slots = np.zeros((num_envs, 2 * SLOTS), np.int32)
        arrays: dict[str, NDArray[Any]] = {
            name: self.packed[:, low:high].reshape(num_envs, *shape)
            for name, shape, low, high in zip(names, shapes, ends, ends[1:])
        }
        self.state = State({**arrays, "touching": self.touching})


class _Found:
    """Contacts that were found: lanes and counts of those in slots; and lanes and geoms of the others."""

    def __init__(self) -> None:
        self.lanes: list[int] = []
        self.counts: list[int] = []
        self.owners: list[int] = []
        self.geoms: list[NDArray[np.int32]] = []
        self.lists: tuple[list[Any], ...] = (self.lanes, self.counts, self.owners, self.geoms)

    def lengths(self) -> list[int]:
        """How much there is."""
        return [len(some) for some in self.lists]

    def shorten(self, lengths: list[int]) -> None:
        """Forget what came after."""
        for some, length in zip(self.lists, lengths):
            del some[length:]


class CpuEngine:
    """N environments of one model.

    What is read of them is double: arrays of ``now`` stay as they are until the second next step.

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
        size, start = (mujoco.mj_stateSize(models[0], spec) for spec in (STATE, _BEFORE_CTRL))
        image = self._workers[0].image
        self._columns = None if image is None else image[1]
        self._states, self._spare = (_States(n, size if image is None else len(image[0])) for _ in range(2))
        if self._columns is not None and models[0].nu:
            start = int(self._columns[start - 1])  # the time comes first, and is not in an image
        self._ctrl = slice(start, start + models[0].nu)
        self._timesteps = np.array([model.opt.timestep for model in models])
        self._now, self._past = (_Side(self._names, data, n, len(pairs.geoms)) for _ in range(2))
        self._moving = models[0].nq + models[0].nv  # qpos and qvel are the first columns of what is read
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
            self._states, self._spare = self._spare, self._states
            self._spare.values[:, self._ctrl] = ctrl
            self._states.time[:] = self._spare.time
            for _ in range(self.substeps):
                self._states.time += self._timesteps
            self._visit(None, None)
            return

        def limited(j: int, lane: int, worker: _Worker) -> None:
            model, data = self.models[lane], worker.data
            self._put(worker, lane, self._states)
            data.qvel.clip(-limit, limit, out=data.qvel)
            # As upstream: the solver starts warm from it. In 18,000 steps of the point nothing depended on it, but that
            # is a property of walls along the axes, not of the engine.
            mujoco.mj_forward(model, data)
            data.ctrl[:] = ctrl[lane]
            mujoco.mj_step(model, data, self.substeps)

        self._visit(None, limited)

    def start(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Start ``lanes`` anew at ``qpos [k, nq]``, ``qvel [k, nv]``; raises as ``step`` does."""

        def begin(j: int, lane: int, worker: _Worker) -> None:
            model, data = self.models[lane], worker.data
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = qpos[j], qvel[j]
            mujoco.mj_forward(model, data)

        self._visit(lanes, begin)

    def move(self, lanes: NDArray[np.intp], qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        """Put ``lanes`` at other positions and velocities in the midst of their episodes; raises as ``step`` does."""

        def put(j: int, lane: int, worker: _Worker) -> None:
            model, data = self.models[lane], worker.data
            mujoco.mj_resetData(model, data)
            self._put(worker, lane, self._states)
            data.qpos[:], data.qvel[:] = qpos[j], qvel[j]
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)

        self._visit(lanes, put)

    def take(self, lane: int, source: Any) -> None:
        """Make ``lane`` go on where another ``MjData`` of the same model is."""

        def copy(j: int, lane: int, worker: _Worker) -> None:
            mujoco.mj_copyData(worker.data, self.models[lane], source)

        self._visit(np.array([lane]), copy)

    def give(self, lane: int, target: Any) -> None:
        """Make another ``MjData`` of the same model go on where ``lane`` is."""
        model, state = self.models[lane], self.states[lane]
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
        states = self._states
        if self._columns is None:
            return states.values.copy()
        out = np.empty((self.num_envs, 1 + len(self._columns)))
        out[:, 0], out[:, 1:] = states.time, states.values[:, self._columns]
        return out

    def load_states(self, states: NDArray[np.float64]) -> None:
        """Put in what ``states`` gave."""
        if self._columns is None:
            self._states.values[:] = states
        else:
            self._states.time[:], self._states.values[:, self._columns] = states[:, 0], states[:, 1:]

    def _put(self, worker: _Worker, lane: int, states: _States) -> None:
        """Put the state of an environment into a thread's data."""
        if worker.image is None:
            mujoco.mj_setState(self.models[lane], worker.data, states.rows[lane], STATE)
        else:
            worker.image[0][:], worker.data.time = states.rows[lane], float(states.time[lane])

    def _get(self, worker: _Worker, lane: int) -> None:
        """Read the state of an environment out of a thread's data."""
        states = self._states
        if worker.image is None:
            mujoco.mj_getState(self.models[lane], worker.data, states.rows[lane], STATE)
        else:
            states.rows[lane][:], states.time[lane] = worker.image[0], worker.data.time

    def _visit(self, lanes: NDArray[np.intp] | None, work: Callable[[int, int, _Worker], None] | None) -> None:
        """Do ``work(j, lane, worker)`` for the j-th of ``lanes`` (None: all) and read it; ``work`` None is a step."""
        total = self.num_envs if lanes is None else len(lanes)
        portions = iter(_portions(total, self.threads))  # next() on it is atomic
        self._broken[:] = self._full[:] = False
        self._now.touching[slice(None) if lanes is None else lanes] = False
        found = _Found()

        def run(worker: _Worker) -> None:
            mine = _Found()
            for low, high in portions:
                if work is None and worker.image is not None:
                    self._step(worker, low, high, mine)
                else:
                    some = range(low, high) if lanes is None else lanes[low:high].tolist()
                    self._chunk(worker, some, low, work, mine)
            for whole, part in zip(found.lists, mine.lists):
                whole.extend(part)

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
        self._mark(found)

    def _step(self, worker: _Worker, low: int, high: int, found: "_Found") -> None:
        """``_chunk`` for a step of the environments from ``low`` to ``high``, quickly: all is well in nearly all."""
        assert worker.image is not None
        mj_step, mj_rne, data, image = mujoco.mj_step, mujoco.mj_rnePostConstraint, worker.data, worker.image[0]
        take, index, substeps, forces = worker.take, worker.index, self.substeps, self._forces
        now, looked, pick, before = self._now, False, None, found.lengths()
        rows = zip(
            range(low, high),
            self.models[low:high],
            self._spare.rows[low:high],
            self._states.rows[low:high],
            now.rows[low:high],
        )
        for lane, model, old, new, fields in rows:
            image[:] = old
            mj_step(model, data, substeps)
            if forces:
                mj_rne(model, data)
            new[:] = image
            take(index, 0, fields, "clip")
            if count := data.ncon:
                if not looked:
                    looked, pick = True, worker.contacts.take if worker.contacts.look() else None
                if pick is None or count > SLOTS:
                    found.owners.append(lane)
                    found.geoms.append(data.contact.geom.copy())
                else:
                    pick(worker.contacts.index, 0, now.slots[lane], "clip")
                    found.lanes.append(lane)
                    found.counts.append(count)
        if worker.warnings.tobytes() != worker.quiet:  # once more, and look which it was
            found.shorten(before)
            mujoco.mj_resetData(self.models[low], data)
            self._chunk(worker, range(low, high), low, None, found)

    def _chunk(
        self,
        worker: _Worker,
        lanes: Iterable[int],
        first: int,
        work: Callable[[int, int, _Worker], None] | None,
        found: "_Found",
    ) -> None:
        """Visit a few environments with one thread's data, and note which geoms touch."""
        data = worker.data
        for j, lane in enumerate(lanes, first):
            model = self.models[lane]
            if work is None:
                self._put(worker, lane, self._spare)
                mujoco.mj_step(model, data, self.substeps)
                if self._forces:
                    mujoco.mj_rnePostConstraint(model, data)
            else:
                work(j, lane, worker)
            self._get(worker, lane)
            worker.take(worker.index, 0, self._now.rows[lane], "clip")
            if data.ncon:
                found.owners.append(lane)
                found.geoms.append(data.contact.geom.copy())
            if worker.warnings.tobytes() != worker.quiet:
                self._broken[lane] = worker.warnings[_UNSTABLE].any()
                self._full[lane] = worker.warnings[_FULL].any()
                mujoco.mj_resetData(model, data)  # nothing of a broken environment reaches the next one

    def _mark(self, found: "_Found") -> None:
        """Set the pairs that touch."""
        if found.lanes:
            lanes, counts = np.array(found.lanes), np.array(found.counts)
            both = self._now.slots[lanes].reshape(-1, SLOTS, 2)[np.arange(SLOTS) < counts[:, None]]
            self._set(np.repeat(lanes, counts), both)
        if found.geoms:
            self._set(np.repeat(found.owners, [len(g) for g in found.geoms]), np.concatenate(found.geoms))

    def _set(self, lanes: NDArray[np.intp], both: NDArray[np.int32]) -> None:
        if self.models[0].nflex:  # a flexible body has no geom
            rigid = (both >= 0).all(axis=1)
            lanes, both = lanes[rigid], both[rigid]
        self._now.touching[lanes, self.pairs.table[both[:, 0], both[:, 1]]] = True

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
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
