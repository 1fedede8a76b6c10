"""What ``native.Shards`` does, in Python: for a MuJoCo without the batch API, and where nothing can be compiled.

``mj_step`` releases Python's lock, so the threads run side by side, as far as the Python between them lets them.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .model import mark_contacts
from .native import STATE

_PORTION = 4  # environments that a thread takes at a time


class Loop:
    """N environments of one model; arguments, ``states`` and ``visit`` are those of ``native.Shards``."""

    def __init__(self, models: list[Any], threads: int, names: tuple[str, ...], table: NDArray[np.int64]) -> None:
        self._models, self._table = models, table
        self.num_envs = len(models)
        self.states = np.zeros((self.num_envs, mujoco.mj_stateSize(models[0], STATE)))
        self._datas = [mujoco.MjData(models[0]) for _ in range(threads)]
        self._views = [[getattr(data, name).reshape(-1) for name in names] for data in self._datas]
        self._warnings = np.zeros((self.num_envs, len(self._datas[0].warning.number)), np.int32)
        self._pool: ThreadPoolExecutor | None = None

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
        """As ``native.Shards.visit``."""
        chosen = list(range(self.num_envs)) if lanes is None else lanes.tolist()
        portions = iter([chosen[low : low + _PORTION] for low in range(0, len(chosen), _PORTION)])  # next() is atomic
        self._warnings[:] = 0

        def one(lane: int, data: Any, views: list[Any]) -> None:
            model, state = self._models[lane], self.states[lane]
            if begin:
                mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, state, STATE)
            if begin:
                mujoco.mj_forward(model, data)
            if substeps:
                mujoco.mj_step(model, data, substeps)
            if post:
                mujoco.mj_rnePostConstraint(model, data)
            mujoco.mj_getState(model, data, state, STATE)
            np.concatenate(views, out=fields[lane])
            mark_contacts(self._table, data, touching[lane])

        def run(data: Any, views: list[Any]) -> None:
            for portion in portions:
                for lane in portion:
                    try:
                        one(lane, data, views)
                    finally:
                        if data.warning.number.any():
                            self._warnings[lane] = data.warning.number
                            mujoco.mj_resetData(self._models[lane], data)  # nothing of it reaches the next one

        others = []
        if len(chosen) > 2 * _PORTION and len(self._datas) > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(len(self._datas) - 1, thread_name_prefix="cairn-physics")
            others = [self._pool.submit(run, *pair) for pair in zip(self._datas[1:], self._views[1:])]
        try:
            run(self._datas[0], self._views[0])
        finally:
            for other in others:
                other.result()
        return self._warnings.copy() if self._warnings.any() else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
