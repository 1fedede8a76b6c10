"""All environments' steps in one call of MuJoCo's batch API (``mjbatch.h``, MuJoCo 4), with no Python between them.

``mjb_apply`` runs a C function on each environment: it loads the environment's state into the ``MjData`` of a thread,
calls the function and stores the state, in threads of its own, and catches MuJoCo's errors. ``mujoco.batch`` does
not reach it, and what that does reach knows neither contacts nor ``mj_rnePostConstraint``; so the function is a few
lines of C++ here, which Warp's compiler translates for this processor. It calls nothing but MuJoCo's public functions.
What it has to know of ``mjData`` comes from ``mujoco.introspect`` and is compared with a live one.

MuJoCo solves each island of constraints that touch no others alone, on a copy of its part of the problem. A model of
one kinematic tree has one island at most, with all joints and all constraints in their own order: the same numbers go
through the same solver, and the copying is a twentieth of a step's time. Such a model has islands disabled while it is
visited, and is as it was thereafter.
"""

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from glob import glob
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

# mypy: disable-error-code="untyped-decorator"

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)  # all that the next step depends on
_NO_ISLANDS = int(getattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND", 0))
# What the C++ below is given, one 64-bit number each: addresses, counts, and places in bytes.
_WORDS = (
    "step", "forward", "reset", "set_state", "post",  # MuJoCo's functions; post is 0 where it is not wanted
    "begin", "substeps", "states", "state_size", "signature", "models", "qpos", "pieces", "count", "rows", "width",
    "ncon", "contact", "geom", "stride", "touching", "pairs", "table", "ngeom",
)  # fmt: skip
_VISIT = """
typedef long long word;
enum { WORDS };
auto visit = [](const void* shared, void* data, int lane, void* given) {
    const word* g = (const word*)given;
    typedef void (*Run)(const void*, void*);
    typedef void (*Set)(const void*, void*, const double*, int);
    const void* model = ((const void**)g[MODELS])[lane];
    char* memory = *(char**)((char*)data + g[QPOS]);
    if (g[BEGIN]) {
        ((Run)g[RESET])(model, data);
        ((Set)g[SET_STATE])(model, data, (const double*)g[STATES] + lane * g[STATE_SIZE], (int)g[SIGNATURE]);
        ((Run)g[FORWARD])(model, data);
    }
    for (word k = 0; k < g[SUBSTEPS]; ++k) ((Run)g[STEP])(model, data);
    if (g[POST]) ((Run)g[POST])(model, data);
    double* row = (double*)g[ROWS] + lane * g[WIDTH];
    const word* piece = (const word*)g[PIECES];
    for (word p = 0; p < g[COUNT]; ++p) {
        const double* from = (const double*)(memory + piece[2 * p]);
        for (word k = 0; k < piece[2 * p + 1]; ++k) *row++ = from[k];
    }
    bool* touching = (bool*)g[TOUCHING] + lane * g[PAIRS];
    for (word k = 0; k < g[PAIRS]; ++k) touching[k] = false;
    const int contacts = *(const int*)((const char*)data + g[NCON]);
    const char* geom = *(const char**)((const char*)data + g[CONTACT]) + g[GEOM];
    for (int c = 0; c < contacts; ++c, geom += g[STRIDE]) {
        const int a = ((const int*)geom)[0], b = ((const int*)geom)[1];
        if (a < 0 || b < 0) continue;
        const word pair = ((const word*)g[TABLE])[a * g[NGEOM] + b];
        if (pair >= 0) touching[pair] = true;
    }
};
void (*address)(const void*, void*, int, void*) = visit;
*(word*)argument = (word)address;
""".replace("WORDS", ", ".join(word.upper() for word in _WORDS))


class _Config(ctypes.Structure):
    _fields_ = (("nthread", ctypes.c_int), ("persistent", ctypes.c_bool))


@cache
def _library() -> ctypes.CDLL | None:
    """MuJoCo's library with its batch API; None for a MuJoCo that has none."""
    folder = os.path.dirname(mujoco.__file__)
    names = ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll")
    for path in (path for name in names for path in sorted(glob(os.path.join(folder, name)))):
        try:
            library = ctypes.CDLL(path)
            address, number = ctypes.c_void_p, ctypes.c_int
            library.mjb_makeBatch.argtypes = [address, number, address, ctypes.c_char_p, number]
            library.mjb_apply.argtypes = [address, address, number, address, address, number]
            for name in ("mjb_makeBatch", "mjb_state", "mjb_warning", "mjb_status"):
                getattr(library, name).restype = address
            library.mjb_error.restype = ctypes.c_char_p
            library.mjb_error.argtypes = [address, number]
            for name in ("mjb_state", "mjb_warning", "mjb_status", "mjb_nstate", "mjb_deleteBatch"):
                getattr(library, name).argtypes = [address]
            return library
        except (OSError, AttributeError):
            continue
    return None


@cache
def _offsets() -> dict[str, int] | None:
    """Where ``mjData`` has ``qpos``, ``ncon`` and ``contact``, bytes; None where that cannot be said for sure."""
    try:
        from mujoco.introspect import structs

        numbers: dict[str, Any] = {
            "int": ctypes.c_int,
            "mjtNum": ctypes.c_double,
            "mjtSize": ctypes.c_int64,
            "size_t": ctypes.c_size_t,
            "uintptr_t": ctypes.c_size_t,
            "mjtBool": ctypes.c_bool,
            "mjtByte": ctypes.c_uint8,
        }

        def kind(text: str) -> Any:
            base, _, rest = text.partition("[")
            base = base.strip()
            if base.endswith("*"):
                return ctypes.c_void_p
            found: Any = numbers.get(base) or layout(base)
            for size in reversed([int(part.strip(" ]")) for part in rest.split("[")] if rest else []):
                found = found * size
            return found

        def layout(name: str) -> Any:
            fields: list[Any] = []
            for field in structs.STRUCTS[name].fields:
                fields.append((field.name, kind(field.type.decl())))
                if name == "mjData" and field.name == "contact":
                    break
            return type(name, (ctypes.Structure,), {"_fields_": fields})

        whole = layout("mjData")
        return {name: getattr(whole, name).offset for name in ("qpos", "ncon", "contact")}
    except (ImportError, AttributeError, KeyError, TypeError, ValueError):
        return None


_PROBE = """<mujoco><worldbody><geom type="plane" size="1 1 1"/>
<body pos="0 0 .09"><freejoint/><geom size=".1"/></body><body pos="1 0 .09"><freejoint/><geom size=".1"/></body>
</worldbody></mujoco>"""


@cache
def _places() -> dict[str, int] | None:
    """``_offsets`` where a live ``MjData`` agrees, and how the geoms of its contacts lie."""
    offsets = _offsets()
    if offsets is None:
        return None
    model = mujoco.MjModel.from_xml_string(_PROBE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start, geom = data._address, data.contact.geom
    at = {name: ctypes.c_void_p.from_address(start + offsets[name]).value or 0 for name in ("qpos", "contact")}
    count = ctypes.c_int.from_address(start + offsets["ncon"]).value
    inside = geom.ctypes.data - at["contact"]
    fits = at["qpos"] == data.qpos.ctypes.data and count == data.ncon == 2 and 0 <= inside < geom.strides[0]
    if not fits or geom.strides[1] != 4 or geom.dtype != np.int32:
        return None
    return {**offsets, "geom": inside, "stride": geom.strides[0]}


_TREE = """<mujoco><worldbody><geom type="plane" size="1 1 1"/><body pos="0 0 .09"><freejoint/><geom size=".1"/>
<body pos=".2 0 0"><joint axis="0 1 0"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".1"/></body></body></worldbody>
</mujoco>"""


@cache
def _one_island_changes_nothing() -> bool:
    """Whether this MuJoCo's solvers go the same way with one island as with islands disabled.

    MuJoCo 3 divided by the island's own inertia before it looked whether to go on: that shows in the
    improvement and the gradient of each iteration, long before it leads to other forces.
    """
    model = mujoco.MjModel.from_xml_string(_TREE)
    for solver in mujoco.mjtSolver.__members__.values():
        ways = []
        for flag in (0, _NO_ISLANDS):
            model.opt.solver, model.opt.disableflags = int(solver), flag
            data = mujoco.MjData(model)
            data.qpos[7], data.qvel[:] = 0.3, np.arange(7) - 3.0  # bent: the inertia is not that of the model at rest
            mujoco.mj_forward(model, data)
            if data.nisland != (not flag):
                return False
            iterations = [(one.improvement, one.gradient) for one in data.solver[: int(data.solver_niter[0])]]
            ways.append([data.qacc.tolist(), data.efc_force.tolist(), *iterations])
        if ways[0] != ways[1] or len(ways[0]) < 3:
            return False
    return True


@cache
def _visitor() -> int | None:
    """The address of the compiled function; None where Warp cannot compile it."""
    import warp as wp

    from ..grid import runtime

    runtime.start()

    @wp.func_native(f"#if !defined(__CUDA_ARCH__)\n{_VISIT}\n#endif\n")
    def tell(argument: wp.uint64) -> None: ...

    def physics_visit(argument: wp.uint64) -> None:
        tell(argument)

    told = ctypes.c_int64(0)
    try:
        kernel: Any = wp.kernel(physics_visit, module="unique", module_options={"enable_backward": False})
        with runtime.announced("physics"):
            launch = wp.launch(kernel, 1, inputs=[ctypes.addressof(told)], device="cpu", record_cmd=True)
            launch.launch()
    except Exception:  # whatever a compiler may say: there is another way
        return None
    _kept.append(launch)
    return told.value or None


_kept: list[Any] = []  # the compiled code lives as long as what launched it


class Shards:
    """N environments of one model: their states, and what visits them all.

    Attributes:
        states: MuJoCo's integration states ``[N, S]``; what is written there is the state of the next visit.

    Args:
        models: The ``mujoco.MjModel`` of each environment, of one layout.
        threads: How many threads, the caller's included.
        names: Fields of ``mjData`` to read at each visit.
        table: int64 ``[ngeom, ngeom]``: the index of a pair of geoms, -1 for none.

    Raises:
        NotImplementedError: This MuJoCo, model or processor has to do with Python's loop.
    """

    def __init__(self, models: list[Any], threads: int, names: tuple[str, ...], table: NDArray[np.int64]) -> None:
        library, places, visitor = _library(), _places(), None
        if library is not None and places is not None and not _python_callbacks():
            visitor = _visitor()
        if library is None or places is None or visitor is None:
            raise NotImplementedError("no batch API, another mjData, or no compiler")
        model, self.num_envs = models[0], len(models)
        data = mujoco.MjData(model)
        base = data.qpos.ctypes.data
        views = [getattr(data, name) for name in names]
        views = [view for view in views if view.size]
        if any(v.dtype != np.float64 or not 0 <= v.ctypes.data - base <= data.nbuffer - v.nbytes for v in views):
            raise NotImplementedError("a field that is no piece of mjData's buffer")
        self._library, self._visitor, self._models, self._threads = library, visitor, models, threads
        single = model.ntree == 1 and _one_island_changes_nothing()
        self._trees = list({id(each): each for each in models}.values()) if single else []
        self._open()
        pieces = [(view.ctypes.data - base, view.size) for view in views]
        self._pieces = np.array(pieces, np.int64)
        self._addresses = np.array([m._address for m in models], np.int64)
        self._table = np.ascontiguousarray(table, np.int64)
        self._words = np.zeros(len(_WORDS), np.int64)
        self._argument = self._words.ctypes.data
        self._post = _function(library, "mj_rnePostConstraint")
        self._put(
            step=_function(library, "mj_step"), forward=_function(library, "mj_forward"),
            reset=_function(library, "mj_resetData"), set_state=_function(library, "mj_setState"),
            state_size=self.states.shape[1], signature=STATE, models=self._addresses.ctypes.data,
            pieces=self._pieces.ctypes.data, count=len(pieces), width=sum(view.size for view in views),
            table=self._table.ctypes.data, ngeom=model.ngeom, **places,
        )  # fmt: skip

    def _open(self) -> None:
        """Have MuJoCo make its part: states, threads and their data."""
        library, model, error = self._library, self._models[0], ctypes.create_string_buffer(1000)
        config = _Config(self._threads, False)
        batch = library.mjb_makeBatch(model._address, self.num_envs, ctypes.byref(config), error, len(error))
        if not batch:
            raise NotImplementedError(error.value.decode(errors="replace"))
        self._end, self._batch = weakref.finalize(self, library.mjb_deleteBatch, batch), batch
        self.states = _array(library.mjb_state(batch), ctypes.c_double, (self.num_envs, library.mjb_nstate(batch)))
        kinds = 2 * int(mujoco.mjtWarning.mjNWARNING)  # lastinfo and number of each kind
        self._warnings = _array(library.mjb_warning(batch), ctypes.c_int32, (self.num_envs, kinds))
        self._status = _array(library.mjb_status(batch), ctypes.c_int32, (self.num_envs,))

    def _put(self, **words: int) -> None:
        for name, value in words.items():
            self._words[_WORDS.index(name)] = value

    def visit(
        self,
        lanes: NDArray[np.intp] | None,
        fields: NDArray[np.float64],
        touching: NDArray[np.bool_],
        *,
        begin: bool = False,
        substeps: int = 0,
        post: bool = False,
    ) -> NDArray[np.int32] | None:
        """Visit ``lanes`` (None: all), in this order: begin, substeps, post; then read.

        Args:
            lanes: Indices ``[k]``.
            fields: Float64 ``[N, W]``, contiguous: where the fields go, side by side.
            touching: Bool ``[N, P]``, contiguous: which pairs touch.
            begin: Clear everything but the state, and compute the forces at it.
            substeps: How many times ``mj_step``.
            post: Whether ``mj_rnePostConstraint``, which fills ``cfrc_ext``.

        Returns:
            How many of each of MuJoCo's warnings each environment had, ``[N, kinds]``; None for none at all.

        Raises:
            mujoco.FatalError: MuJoCo gave up.
        """
        if not self._end.alive:  # closed, and used again
            states = self.states
            self._open()
            self.states[:] = states
        if _python_callbacks():
            raise RuntimeError(
                "a Python function was given to mujoco.set_mjcb_... after this batch was made: set it before, or give "
                "MuJoCo a C function"
            )
        self._put(
            begin=begin, substeps=substeps, post=self._post if post else 0,
            states=self.states.ctypes.data,
            rows=fields.ctypes.data, touching=touching.ctypes.data, pairs=touching.shape[1],
        )  # fmt: skip
        ids = None if lanes is None else np.unique(lanes).astype(np.int32)  # mjb_apply ends the process for others
        count, place = (self.num_envs, None) if ids is None else (len(ids), ids.ctypes.data)
        with self._without_islands():
            failures = self._library.mjb_apply(self._batch, place, count, self._visitor, self._argument, 1)
        if failures:
            failed = int(self._status.nonzero()[0][0])
            raise mujoco.FatalError((self._library.mjb_error(self._batch, failed) or b"").decode(errors="replace"))
        if not self._warnings.any():
            return None
        counts: NDArray[np.int32] = self._warnings[:, 1::2].copy()
        self._warnings[:] = 0
        return counts if counts.any() else None

    @contextmanager
    def _without_islands(self) -> Iterator[None]:
        """Disable islands, where that changes nothing, and have the models as they were at the end."""
        options = [model.opt for model in self._trees]
        flags = [option.disableflags for option in options]
        try:
            for option, flag in zip(options, flags):
                option.disableflags = flag | _NO_ISLANDS
            yield
        finally:
            for option, flag in zip(options, flags):
                option.disableflags = flag

    def close(self) -> None:
        """End the threads; the states stay readable."""
        if self._end.alive:
            self.states = self.states.copy()
            self._warnings = self._status = np.zeros((0, 0), np.int32)
            self._end()


def _array(address: int, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array over memory that MuJoCo owns."""
    whole: Any = (kind * int(np.prod(shape))).from_address(address)
    return np.frombuffer(whole, dtype=np.dtype(kind)).reshape(shape)


def _function(library: ctypes.CDLL, name: str) -> int:
    """The address of a function of MuJoCo's."""
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _python_callbacks() -> bool:
    """Whether someone has MuJoCo call back into Python, which only Python's own loop may do."""
    return any(get() is not None for get in _GETTERS)


_GETTERS: list[Callable[[], Any]] = [getattr(mujoco, name) for name in dir(mujoco) if name.startswith("get_mjcb_")]
