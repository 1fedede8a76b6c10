"""Steps of environments that are far from every wall, in which MuJoCo does not look for walls.

Where there are several boxes in the world, MuJoCo descends a tree of them for every body in every evaluation of the
forces: a third of a step's time in the ant maze, most of which is open ground. Walls that are hidden touch nothing, and
a wall that is out of reach touches nothing either: the same numbers come out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

ROOM = 1.0  # m that an environment may move in a step before a wall is within reach
_NO_TREE = int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)


class Walls:
    """The walls of a model whose only tree begins with a free joint and has hinges after it.

    Attributes:
        reach: How far the tree can reach from its first body, m.

    Args:
        model: The ``mujoco.MjModel``.
        names: Geoms of the world: boxes along the axes.

    Raises:
        ValueError: The model or a wall is of another kind.
    """

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        self._model = model
        self._geoms = np.array([mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in names])
        joints, kinds = model.jnt_type, mujoco.mjtJoint
        if model.ntree != 1 or joints[0] != kinds.mjJNT_FREE or (joints[1:] != kinds.mjJNT_HINGE).any():
            raise ValueError("walls can be left aside where one free joint with hinges after it is all that moves")
        box, along = mujoco.mjtGeom.mjGEOM_BOX, np.array([1.0, 0, 0, 0])
        for name, geom in zip(names, self._geoms):
            at_rest = geom >= 0 and model.geom_bodyid[geom] == 0 and model.geom_type[geom] == box
            if not (at_rest and np.array_equal(model.geom_quat[geom], along)):
                raise ValueError(f"{name!r} is no box of the world's along its axes")
        self.reach = _reach(model)
        middle, half = model.geom_pos[self._geoms, :2], model.geom_size[self._geoms, :2]
        around = half + self.reach + float(model.geom_margin.max()) + ROOM
        self._low, self._high = middle - around, middle + around

    def near(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a wall may be within reach in the next step of bodies at x and y ``places [N, 2]``: bool ``[N]``."""
        inside = (places[:, None] >= self._low) & (places[:, None] <= self._high)
        near: NDArray[np.bool_] = inside.all(-1).any(-1) | ~np.isfinite(places).all(-1)
        return near

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Have the model without them, and as it was at the end."""
        model, geoms = self._model, self._geoms
        were = model.geom_contype[geoms], model.geom_conaffinity[geoms], model.opt.disableflags
        try:
            model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0
            model.opt.disableflags |= _NO_TREE
            yield
        finally:
            model.geom_contype[geoms], model.geom_conaffinity[geoms], model.opt.disableflags = were


def _reach(model: Any) -> float:
    """An upper bound: the lengths from body to body, and twice that from a body to where its hinge is, added up."""
    far = np.zeros(model.nbody)
    for body in range(2, model.nbody):
        first, count = model.body_jntadr[body], model.body_jntnum[body]
        hinges = np.linalg.norm(model.jnt_pos[first : first + count], axis=-1).sum() if count else 0.0
        far[body] = far[model.body_parentid[body]] + np.linalg.norm(model.body_pos[body]) + 2 * hinges
    moving = model.geom_bodyid > 0
    ends = far[model.geom_bodyid] + np.linalg.norm(model.geom_pos, axis=-1) + model.geom_rbound
    return float(ends[moving].max())
