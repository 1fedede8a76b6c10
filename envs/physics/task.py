"""What a physics task is: observation, reward, end and start of an episode, written once for all engines.

A task is a dataclass whose fields are upstream's arguments. ``bind`` tells it the model; then an engine calls
``observe``, ``outcome`` and ``facts`` with batches of states ``[N, ...]``, and ``draw`` (for most that is ``start``)
for new episodes. The CPU engine does so for one at a time, with a NumPy generator: ``draw`` and ``renew`` then give
arrays ``[D]``. MuJoCo Warp does so for all at once: ``torch_ops.LaneDraws`` has ``[N, D]`` where NumPy has ``[D]``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import or_
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .ops import NumpyOps

Array: TypeAlias = Any  # the engine's arrays: NumPy's on the CPU
Spec: TypeAlias = Any  # mujoco.MjSpec
Bounds: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]  # lowest and highest values
Start: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]  # qpos [nq], qvel [nv]


class State:
    """Fields of ``mjData`` of N environments, ``[N, ...]`` each, as they are right after the step.

    ``qpos``, ``qvel`` and ``xpos`` are always there, of the others those that the task's ``reads`` names. As in
    Gymnasium, positions of bodies are those of the last substep's start: MuJoCo integrates after its kinematics.
    """

    qpos: Array  # [N, nq]
    qvel: Array  # [N, nv]
    xpos: Array  # [N, nbody, 3], m
    xipos: Array  # [N, nbody, 3], centres of mass, m
    cinert: Array  # [N, nbody, 10]
    cvel: Array  # [N, nbody, 6]
    cfrc_ext: Array  # [N, nbody, 6], N m and N
    qfrc_actuator: Array  # [N, nv]
    qfrc_constraint: Array  # [N, nv]
    site_xpos: Array  # [N, nsite, 3], m
    ten_length: Array  # [N, ntendon]
    ten_velocity: Array  # [N, ntendon]
    ctrl: Array  # [N, nu]
    geom_xpos: Array  # [N, ngeom, 3], m
    touching: Array  # bool [N, P]: which of the model's geom pairs are in contact
    # What the task's ``memory`` names stands here too, float64:
    goal: Array  # [N, 2], m
    contacts: Array  # [N, F]: in how many states of the episode each foot was on the ground, the present one left out
    steps: Array  # [N]: how many states these are

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.__dict__.update(arrays)

    def rows(self, index: Array) -> "State":
        """The states of some environments, copied."""
        return State({name: array[index] for name, array in self.__dict__.items()})


@dataclass(frozen=True)
class Outcome:
    """What a transition gave.

    Attributes:
        reward: float64 ``[N]``.
        terminated: bool ``[N]``.
        info: Upstream's ``info`` of the transition, ``[N, ...]`` each: reward components, positions, velocities.
        memory: New values of what the task remembers, ``[N, ...]`` each; what is not named stays.
        renew: bool ``[N]``: which environments call ``Task.renew`` before their next step; None for none.
    """

    reward: Array
    terminated: Array
    info: dict[str, Array]
    memory: dict[str, Array] = field(default_factory=dict)
    renew: Array | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a task may know of its model.

    Attributes:
        name: The model file, for error messages.
        timestep: Seconds of one substep.
        init_qpos, init_qvel: The state after a reset without noise, ``[nq]`` and ``[nv]``.
        body_mass: kg, ``[nbody]``.
        sizes: nq, nv, nu, nbody, nsite.
        body: Index of a body by its name; raises ValueError where there is none.
        site: Index of a site by its name.
        geom: Index of a geom by its name.
        joint: Index in qpos of a joint by its name.
        foot_pairs: For each of the task's feet the indices of its pairs with the ground, in ``State.touching``.
    """

    name: str
    timestep: float
    init_qpos: NDArray[np.float64]
    init_qvel: NDArray[np.float64]
    body_mass: NDArray[np.float64]
    sizes: dict[str, int]
    body: Callable[[str], int]
    site: Callable[[str], int]
    geom: Callable[[str], int]
    joint: Callable[[str], int]
    foot_pairs: tuple[tuple[int, ...], ...] = ()


@dataclass
class Task:
    """Base of the tasks. Subclasses add upstream's arguments as fields."""

    xml_file: str
    frame_skip: int

    reads: ClassVar[tuple[str, ...]] = ()  # fields of State besides qpos, qvel, xpos
    feet: ClassVar[tuple[str, ...]] = ()  # names of the geoms that are feet
    needs: ClassVar[dict[str, int]] = {}  # least sizes of a model, such as {"nq": 3}
    xml: ClassVar[str | None] = None  # the model itself, where it is not a file
    camera: ClassVar[dict[str, Any]] = {}  # mujoco.MjvCamera's attributes for pictures
    settled: ClassVar[tuple[str, ...]] = ()  # fields that are no arguments of this task's
    options: ClassVar[tuple[str, ...]] = ()  # options of ``reset`` that go to ``draw``
    aside: ClassVar[tuple[str, ...]] = ()  # names of walls that are out of reach for the most part; see walls.py
    velocity_limit: ClassVar[float | None] = None  # joint velocities are cut to this before each step
    descriptor_bounds: ClassVar[Bounds | None] = None  # of ``facts["descriptor"]``
    areas: ClassVar[tuple[tuple[float, float, float], ...]] = ()  # that pay at an end: x, y and radius, m
    xp: ClassVar[type[NumpyOps]] = NumpyOps

    def bind(self, model: ModelFacts) -> None:
        """Take what depends on the model.

        Raises:
            ValueError: The model lacks what the task needs.
        """
        if isinstance(self.frame_skip, bool) or not isinstance(self.frame_skip, int) or self.frame_skip < 1:
            raise ValueError(f"frame_skip={self.frame_skip!r}: it is the number of substeps of a step, at least 1")
        for name, least in self.needs.items():
            if model.sizes[name] < least:
                raise ValueError(
                    f"the model {model.name} has {name}={model.sizes[name]}, and {type(self).__name__} needs at least "
                    f"{least}: xml_file names the model of another task"
                )
        self.model = model
        self.dt = model.timestep * self.frame_skip

    def limit(self, steps: int | None) -> int | None:
        """The time limit of an episode for which the caller asked for ``steps``, None for none."""
        return steps

    def memory(self) -> dict[str, tuple[int, ...]]:
        """What an environment remembers besides its physics, such as a goal: names and shapes, float64.

        ``State`` has it under these names. It is 0 after a start, but for what ``draw`` says.
        """
        return {}

    def furnish(self, spec: Spec) -> tuple[str, ...]:
        """Add to the model what the task needs, such as walls; returns the names of the geoms added."""
        return ()

    def show(self, model: Any, now: State) -> None:
        """Move what is only for the eye, such as a goal's marker, to where the one environment in ``now`` has it."""

    def parts(self) -> dict[str, int] | None:
        """The keys of a Dict observation and how many of the D numbers each has, in order; None for one Box."""
        return None

    def observe(self, now: State) -> Array:
        """The observation, ``[N, D]`` in float64, its ``parts`` side by side."""
        raise NotImplementedError

    def outcome(self, before: State, action: Array, now: State) -> Outcome:
        """What the transition gave; ``action`` is ``[N, nu]`` in the dtype of the action space."""
        raise NotImplementedError

    def start(self, rng: np.random.Generator) -> Start:
        """Draw the state in which one episode starts, with upstream's own calls in upstream's order."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, options: dict[str, Any]) -> tuple[Start, dict[str, Any]]:
        """``start``, and what the episode begins with in ``memory``; ``options`` has those of ``reset`` for it."""
        return self.start(rng), {}

    def renew(self, rng: np.random.Generator, now: State) -> dict[str, Any]:
        """Draw new values of what one environment remembers, such as its next goal; ``now`` has one row."""
        return {}

    def start_info(self, now: State) -> dict[str, Array]:
        """Upstream's ``info`` of a reset."""
        return {}

    def foot_contact(self, state: State) -> Array:
        """Whether each foot touches the ground: bool ``[N, F]``."""
        touching = state.touching
        never = self.xp.never(touching)
        feet = [reduce(or_, (touching[:, pair] for pair in pairs), never) for pairs in self.model.foot_pairs]
        return self.xp.columns(feet) if feet else state.touching[:, :0]

    def facts(self, now: State) -> dict[str, Array]:
        """Facts of this task alone, such as ``success`` bool ``[N]`` and ``distance`` ``[N]``."""
        return {}

    @classmethod
    def arguments(cls) -> dict[str, Any]:
        """The arguments that the task takes, with their defaults."""
        return {f.name: f.default for f in fields(cls) if f.name not in cls.settled}


def uniform_noise(task: Task, rng: np.random.Generator, scale: float, *, normal_velocity: bool = False) -> Start:
    """The start that most tasks share: uniform noise on qpos, uniform or normal noise on qvel."""
    model = task.model
    qpos = model.init_qpos + rng.uniform(low=-scale, high=scale, size=model.sizes["nq"])
    if normal_velocity:
        qvel = model.init_qvel + scale * rng.standard_normal(model.sizes["nv"])
    else:
        qvel = model.init_qvel + rng.uniform(low=-scale, high=scale, size=model.sizes["nv"])
    return qpos, qvel
