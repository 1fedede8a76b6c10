"""Pictures without a screen: which OpenGL to use, and frames of the lanes of a batch."""

import os
import sys
from collections.abc import Mapping
from ctypes.util import find_library
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

_HELP = (
    "pictures of MuJoCo need OpenGL; without a screen install EGL (apt-get install libegl1 libgl1-mesa-dri) or OSMesa "
    "(apt-get install libosmesa6) and set MUJOCO_GL=egl or MUJOCO_GL=osmesa"
)


def choose_gl() -> None:
    """Set ``MUJOCO_GL``, which MuJoCo and Gymnasium read, where there is no screen and nobody has set it.

    Gymnasium would take GLFW, which does not work without a screen.

    Raises:
        RuntimeError: There is neither EGL nor OSMesa.
    """
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.environ.get("MUJOCO_GL") or screen or not sys.platform.startswith("linux"):
        return
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library):
            os.environ["MUJOCO_GL"] = backend
            return
    raise RuntimeError(_HELP)


def check_pictures(model: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments for pictures that no picture can be made with; MuJoCo would end the process for some.

    Raises:
        ValueError: A size is no whole number of at least 1, or the model has no such camera.
    """
    for name in ("width", "height", "max_geom"):
        size = arguments.get(name)
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
            raise ValueError(f"{name}={size!r}: it is a whole number of at least 1")
    index, wanted = arguments.get("camera_id"), arguments.get("camera_name")
    cameras = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_CAMERA, i) for i in range(model.ncam)]
    if index is not None and (
        isinstance(index, bool) or not isinstance(index, int | np.integer) or not -1 <= index < model.ncam
    ):
        raise ValueError(f"camera_id={index!r}: the model has {model.ncam} cameras, from 0 on; -1 is the free camera")
    if wanted is not None and wanted not in cameras:
        raise ValueError(f"camera_name={wanted!r}: the model's cameras are named {cameras}")


class Painter:
    """Pictures as Gymnasium makes them, of one ``MjData`` at a time.

    Args:
        model: The ``mujoco.MjModel``.
        camera: Attributes of the camera.
        arguments: Upstream's arguments for pictures (``width``, ``height``, ``camera_id``, ...).

    Raises:
        RuntimeError: There is no OpenGL.
    """

    def __init__(self, model: Any, camera: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        choose_gl()
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        settings = {"width": 480, "height": 480, "default_camera_config": dict(camera), **arguments}
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, settings["width"])
        model.vis.global_.offheight = max(model.vis.global_.offheight, settings["height"])
        names = {"default_camera_config": "default_cam_config"}
        self.data = mujoco.MjData(model)
        self._renderer: Any = MujocoRenderer(model, self.data, **{names.get(k, k): v for k, v in settings.items()})

    def paint(self, mode: str) -> Any:
        """A picture of ``data``: uint8 ``[H, W, 3]`` for ``"rgb_array"``."""
        try:
            return self._renderer.render(mode)
        except (ImportError, AttributeError, mujoco.FatalError) as error:
            raise RuntimeError(f"{_HELP} ({error})") from error

    def rgb(self) -> NDArray[np.uint8]:
        """A picture of ``data``: uint8 ``[H, W, 3]``."""
        picture: NDArray[np.uint8] = self.paint("rgb_array")
        return picture

    def close(self) -> None:
        """Free the context."""
        self._renderer.close()
