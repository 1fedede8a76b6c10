"""The memory of one ``MjData`` as NumPy arrays, so that what a step puts in and reads out is a copy or two.

MuJoCo's own functions for that, and its bindings' attributes, cost two to four times as much, and those functions
release and take Python's lock each time, which threads then wait for. All fields of ``mjData`` are pieces of one
buffer, contacts lie in a second one, the arena (mjdata.h); how they lie is not taken for granted but looked at, and
where it is otherwise MuJoCo's own functions do the work. Arrays are valid as long as the ``MjData`` is.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)  # all that the next step depends on
SLOTS = 8  # contacts that are read at once


def _doubles(address: int, count: int) -> NDArray[np.float64]:
    memory: Any = (ctypes.c_double * count).from_address(address)
    return np.frombuffer(memory, np.float64)


def reader(data: Any, views: list[NDArray[np.float64]]) -> tuple[Callable[..., Any], NDArray[np.intp]]:
    """``take, index``: ``take(index, 0, row, "clip")`` copies what ``views`` of ``data`` show into a row ``[W]``."""
    places = [(view.ctypes.data, view.nbytes) for view in views if view.size]
    low, high = min(at for at, _ in places), max(at + size for at, size in places)
    index = np.concatenate([(at - low) // 8 + np.arange(size // 8) for at, size in places])
    if high - low > data.nbuffer or any((at - low) % 8 for at, _ in places):
        return lambda index, axis, row, mode: np.concatenate(views, out=row), index
    # "clip", since "raise" would copy the row first.
    return _doubles(low, (high - low) // 8).take, index


def state_image(model: Any, data: Any) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """``image, index``: one piece of memory ``[L]`` that has the state; ``image[index]`` is all of it but the time.

    None where it is not so: models with equalities, mocap bodies, plugins and the like.
    """
    first, last = data.qpos, data.xfrc_applied
    low, size = first.ctypes.data, last.ctypes.data + last.nbytes - first.ctypes.data
    if not 0 < size <= min(data.nbuffer, 1 << 16) or size % 8:
        return None
    trial = mujoco.MjData(model)
    image = _doubles(trial.qpos.ctypes.data, size // 8)
    if trial.xfrc_applied.ctypes.data - trial.qpos.ctypes.data + last.nbytes != size:
        return None
    state, found = np.zeros(mujoco.mj_stateSize(model, STATE)), []
    for shift in (1, 1 + len(image)):  # twice: what does not follow is not in there
        image[:] = np.arange(shift, shift + len(image))
        mujoco.mj_getState(model, trial, state, STATE)
        found.append(state[1:] - shift)
    index = found[0].astype(np.intp)
    if not (np.array_equal(found[0], found[1]) and np.array_equal(index, found[0])) or len(np.unique(index)) != len(
        index
    ):
        return None
    if len(index) and not (0 <= index.min() and index.max() < len(image)):
        return None
    return _doubles(low, size // 8), index


class Contacts:
    """The geoms of the contacts of one ``MjData``, which are counted and copied without its attributes.

    Args:
        model: The ``mujoco.MjModel``.
        data: Its ``MjData``.
    """

    def __init__(self, model: Any, data: Any) -> None:
        self._data, self._room = data, int(model.narena)
        self._base = 0
        self.take: Callable[..., Any] | None = None  # take(index, 0, row, "clip") copies the first SLOTS pairs
        self.index: NDArray[np.intp] = np.arange(2 * SLOTS)

    def look(self) -> bool:
        """Whether ``take`` reads what is there now; finds out, at the first contact, where they lie."""
        geom = self._data.contact.geom
        if not len(geom):
            return True
        if self.take is None and len(geom) > 1:
            stride, base = geom.strides[0], geom.ctypes.data
            if stride % 4 or geom.strides[1] != 4 or SLOTS * stride > self._room // 2:
                return False
            memory: Any = (ctypes.c_int32 * (SLOTS * stride // 4)).from_address(base)
            self.index = (np.arange(SLOTS)[:, None] * (stride // 4) + np.arange(2)).reshape(-1)
            self.take, self._base = np.frombuffer(memory, np.int32).take, base
        return bool(geom.ctypes.data == self._base)
