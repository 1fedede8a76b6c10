"""From a task to its MuJoCo model: upstream's own files, or one of the caller's."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from os import path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .ids import DEFAULTS, TASKS
from .task import ModelFacts, Task

# Arguments of upstream's classes that concern pictures only.
RENDER_ARGUMENTS = (
    "default_camera_config", "width", "height", "camera_id", "camera_name", "max_geom", "visual_options"
)  # fmt: skip


def make_task(name: str, arguments: dict[str, Any]) -> Task:
    """Build the task of an id with upstream's arguments.

    Raises:
        ValueError: No task has that name, or an argument is not of its default's kind.
        TypeError: An argument is not one of the task's.
    """
    if name not in TASKS:
        raise ValueError(f"there is no physics task {name!r}; there are {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    cls: type[Task] = getattr(import_module(f".{module}", __name__.rpartition(".")[0]), attribute)
    known = cls.arguments()
    if cls.xml is not None:
        known.pop("xml_file", None)
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise TypeError(f"{name} has no argument {', '.join(map(repr, unknown))}; it takes {', '.join(known)}")
    for argument, value in arguments.items():
        _check_argument(argument, value, known[argument])
    return cls(**{**DEFAULTS.get(name, {}), **arguments})


def _check_argument(name: str, value: Any, default: Any) -> None:
    """Refuse a value that is not of its default's kind: a number, a range, or a truth value."""
    if name in ("frame_skip", "main_body", "length"):  # the tasks look at these
        return

    def number(x: Any) -> bool:
        return isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool) and x == x

    if isinstance(default, bool):
        if not isinstance(value, bool | np.bool_) and value not in (0, 1):
            raise ValueError(f"{name}={value!r}: it is True or False")
    elif isinstance(default, int | float):
        if not number(value) or (np.isinf(value) and not np.isinf(default)):
            raise ValueError(f"{name}={value!r}: it is a finite number")
        if name == "reset_noise_scale" and value < 0:
            raise ValueError(f"{name}={value!r}: it is at least 0")
    elif isinstance(default, tuple) and len(default) == 2 and all(map(number, default)):
        pair = tuple(value) if isinstance(value, tuple | list | np.ndarray) else ()
        if len(pair) != 2 or not all(map(number, pair)) or not pair[0] <= pair[1]:
            raise ValueError(f"{name}={value!r}: it is a range, (lowest, highest)")


def load_model(task: Task) -> tuple[Any, "Pairs"]:
    """Read the task's model file, furnish it, and bind the task to it.

    A bare name is a file of Gymnasium's; a path begins with ``/``, ``.`` or ``~``.

    Returns:
        The ``mujoco.MjModel``, and the geom pairs that can touch.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: MuJoCo cannot read the file, or the model is not one that the task can use.
    """
    name = type(task).__name__ if task.xml is not None else _full_path(task.xml_file)
    try:
        with model_warnings():
            if type(task).furnish is not Task.furnish:
                spec: Any = mujoco.MjSpec
                spec = spec.from_file(name) if task.xml is None else spec.from_string(task.xml)
                added = task.furnish(spec)
                model = spec.compile()
            else:
                added, load = (), mujoco.MjModel
                model = load.from_xml_path(name) if task.xml is None else load.from_xml_string(task.xml)
    except ValueError as error:
        raise ValueError(f"MuJoCo cannot read the model file {name}: {error}") from error
    pairs = contact_pairs(model, task.feet, added)
    task.bind(_facts(name, model, pairs))
    return model, pairs


def set_solver(model: Any, solver: str | None, *, pgs: bool = True) -> None:
    """Have ``model`` use another solver than its file says; None keeps the file's.

    Args:
        model: The ``mujoco.MjModel``, changed in place.
        solver: ``"newton"``, ``"cg"``, ``"pgs"`` or None.
        pgs: Whether the engine has PGS. One that has not uses Newton where the file says PGS.

    Raises:
        ValueError: There is no such solver, or the engine does not have it.
    """
    kinds = {
        "newton": mujoco.mjtSolver.mjSOL_NEWTON,
        "cg": mujoco.mjtSolver.mjSOL_CG,
        "pgs": mujoco.mjtSolver.mjSOL_PGS,
    }
    if solver is None:
        if not pgs and model.opt.solver == kinds["pgs"]:
            model.opt.solver = kinds["newton"]
        return
    if solver not in kinds or (solver == "pgs" and not pgs):
        have = ", ".join(map(repr, kinds if pgs else list(kinds)[:2]))
        hint = "" if pgs else "; MuJoCo Warp has no PGS: compare with a CPU engine made with solver='newton'"
        raise ValueError(f"solver={solver!r}: this engine has {have}{hint}")
    model.opt.solver = kinds[solver]


@contextmanager
def model_warnings() -> Iterator[None]:
    """Turn what MuJoCo complains of while it reads a model into Python warnings.

    By itself it prints, and writes a file MUJOCO_LOG.TXT into the working directory. That Gymnasium's half_cheetah.xml
    uses a deprecated attribute is nothing that a user could change, so it is not repeated.
    """
    heard: list[str] = []
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)
    for message in heard:
        if "settotalmass" not in message:
            warnings.warn(f"MuJoCo: {message}", stacklevel=4)


def _full_path(xml_file: str) -> str:
    if not isinstance(xml_file, str) or not xml_file:
        raise ValueError(f"xml_file={xml_file!r}: it is the name of a model file")
    if xml_file.startswith((".", "/")):
        full = xml_file
    elif xml_file.startswith("~"):
        full = path.expanduser(xml_file)
    else:
        import gymnasium.envs.mujoco as upstream

        full = path.join(path.dirname(upstream.__file__), "assets", xml_file)
    if not path.isfile(full):
        raise FileNotFoundError(
            f"there is no model file {full}; a bare name is a file of Gymnasium's, others begin with '/', './' or '~'"
        )
    return full


def _facts(name: str, model: Any, pairs: "Pairs") -> ModelFacts:
    def index(kind: Any, what: str) -> Callable[[str], int]:
        def find(wanted: str) -> int:
            i = int(mujoco.mj_name2id(model, kind, wanted))
            if i < 0:
                raise ValueError(f"the model {name} has no {what} named {wanted!r}")
            return i

        return find

    data, joint = mujoco.MjData(model), index(mujoco.mjtObj.mjOBJ_JOINT, "joint")
    return ModelFacts(
        name=name,
        timestep=float(model.opt.timestep),
        init_qpos=data.qpos.copy(),
        init_qvel=data.qvel.copy(),
        body_mass=model.body_mass.copy(),
        sizes={size: int(getattr(model, size)) for size in ("nq", "nv", "nu", "nbody", "nsite")},
        body=index(mujoco.mjtObj.mjOBJ_BODY, "body"),
        site=index(mujoco.mjtObj.mjOBJ_SITE, "site"),
        geom=index(mujoco.mjtObj.mjOBJ_GEOM, "geom"),
        joint=lambda wanted: int(model.jnt_qposadr[joint(wanted)]),
        foot_pairs=tuple(tuple(np.flatnonzero(row).tolist()) for row in pairs.feet),
    )


@dataclass(frozen=True)
class Pairs:
    """The geom pairs of a model that MuJoCo may bring into contact.

    Attributes:
        geoms: int64 ``[P, 2]``, geom ids, the smaller first.
        names: ``[P]`` of two geom names each; an unnamed geom is ``#id``.
        table: int64 ``[ngeom, ngeom]``: the pair's index, -1 where the two cannot touch.
        feet: bool ``[F, P]``: the pairs of each foot with the ground.
    """

    geoms: NDArray[np.int64]
    names: tuple[tuple[str, str], ...]
    table: NDArray[np.int64]
    feet: NDArray[np.bool_]

    def mark(self, data: Any, touching: NDArray[np.bool_]) -> None:
        """Set in ``touching [P]`` which pairs are in contact in ``data``."""
        mark_contacts(self.table, data, touching)


def mark_contacts(table: NDArray[np.int64], data: Any, touching: NDArray[np.bool_]) -> None:
    """Set in ``touching [P]`` the pairs, numbered by ``table``, that are in contact in an ``MjData``."""
    touching[:] = False
    if data.ncon:
        geoms = data.contact.geom
        geoms = geoms[(geoms >= 0).all(axis=1)]  # a flexible body has no geom
        pairs = table[geoms[:, 0], geoms[:, 1]]
        touching[pairs[pairs >= 0]] = True


def contact_pairs(model: Any, feet: tuple[str, ...], walls: tuple[str, ...] = ()) -> Pairs:
    """List the pairs that the contact masks allow; MuJoCo's other filters only take pairs away from these.

    The ground is what does not move, without ``walls``. A foot that the model lacks (a model file of the caller's) is a
    foot that never touches.
    """
    n = int(model.ngeom)
    first, second = np.triu_indices(n, 1)
    kinds, with_kinds = model.geom_contype, model.geom_conaffinity
    allowed = ((kinds[first] & with_kinds[second]) | (kinds[second] & with_kinds[first])) != 0
    weld = model.body_weldid[model.geom_bodyid]
    allowed &= weld[first] != weld[second]
    for a, b in zip(model.pair_geom1, model.pair_geom2):  # explicit pairs ignore the masks
        allowed |= (first == min(a, b)) & (second == max(a, b))
    geoms = np.stack([first[allowed], second[allowed]], axis=1).astype(np.int64)
    table = np.full((n, n), -1, np.int64)
    table[geoms[:, 0], geoms[:, 1]] = table[geoms[:, 1], geoms[:, 0]] = np.arange(len(geoms))

    name_of = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, g) or f"#{g}" for g in range(n)]
    names = tuple((name_of[a], name_of[b]) for a, b in geoms)
    fixed = (weld == 0) & ~np.isin(name_of, walls)
    ids = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, foot) for foot in feet]
    rows = [((geoms == foot) & fixed[geoms][:, ::-1]).any(axis=1) for foot in ids]
    return Pairs(geoms, names, table, np.stack(rows) if rows else np.zeros((0, len(geoms)), np.bool_))
