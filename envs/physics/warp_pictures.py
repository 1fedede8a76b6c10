"""Pictures of all lanes of a Warp batch: by MuJoCo Warp's ray caster, where the model has a camera.

MuJoCo Warp has the model's own cameras only, and paints no sites, such as the marker of a maze's goal. So pendulums,
Reacher, Pusher and mazes are painted as on the CPU, one after the other, by OpenGL.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mujoco
import torch
from torch import Tensor

from .pictures import Painter
from .task import State, Task

if TYPE_CHECKING:
    from .warp_engine import WarpEngine


class BatchPainter:
    """Pictures of the present states.

    Args:
        engine: The engine whose states are painted.
        model: Its ``mujoco.MjModel``.
        task: Its task, whose camera is that of the pictures where the model has none.
        arguments: ``width`` and ``height``, pixels; ``camera_id`` or ``camera_name``, by default the camera ``track``.

    Raises:
        ValueError: There is no such camera.
        RuntimeError: The model has no camera, and there is no OpenGL.
    """

    def __init__(self, engine: "WarpEngine", model: Any, task: Task, arguments: Mapping[str, Any]) -> None:
        self._engine, self._model, self._task = engine, model, task
        width, height = (int(arguments.get(name) or 480) for name in ("width", "height"))
        self._shape = (engine.num_envs, height, width)
        self._painter: Painter | None = None
        self._context: Any = None
        chosen = _camera(model, arguments)
        if chosen is None or type(task).show is not Task.show:
            self._painter = Painter(model, task.camera, arguments)
            return
        wp, mjw = engine.wp, engine.mjw
        with engine.here():
            self._context = mjw.create_render_context(
                model,
                nworld=engine.num_envs,
                cam_res=(width, height),
                render_rgb=True,
                render_depth=False,
                cam_active=[chosen],
            )
            self._colours = wp.zeros(self._shape, dtype=wp.vec3)

    def paint(self) -> Tensor:
        """Pictures uint8 ``[N, H, W, 3]`` on the engine's device."""
        engine = self._engine
        if self._painter is not None:
            return self._paint_on_host(self._painter)
        with engine.here():
            engine.mjw.refit_bvh(engine.m, engine.d, self._context)
            engine.mjw.render(engine.m, engine.d, self._context)
            engine.mjw.get_rgb(self._context, 0, self._colours)
            colours: Tensor = engine.wp.to_torch(self._colours)
            return (colours.clamp(0, 1) * 255).round().to(torch.uint8)

    def _paint_on_host(self, painter: Painter) -> Tensor:
        frames = torch.zeros(*self._shape, 3, dtype=torch.uint8)
        now = State({name: array.double().cpu().numpy() for name, array in self._engine.now.__dict__.items()})
        for lane in range(len(frames)):
            self._task.show(self._model, now.rows(slice(lane, lane + 1)))
            painter.data.qpos[:], painter.data.qvel[:] = now.qpos[lane], now.qvel[lane]
            mujoco.mj_forward(self._model, painter.data)
            frames[lane] = torch.from_numpy(painter.rgb().copy())
        return frames.to(self._engine.device)

    def close(self) -> None:
        """Free the OpenGL context, where there is one."""
        if self._painter is not None:
            self._painter.close()


def _camera(model: Any, arguments: Mapping[str, Any]) -> int | None:
    """Index of the camera, None where the model has none."""
    if not model.ncam:
        return None
    index, name = arguments.get("camera_id"), arguments.get("camera_name")
    if index is None:
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name or "track")
        if index < 0 and name is None:
            index = 0
    if not 0 <= index < model.ncam:
        raise ValueError(f"camera_id={index}, camera_name={name!r}: the model has cameras 0 to {model.ncam - 1}")
    return int(index)
