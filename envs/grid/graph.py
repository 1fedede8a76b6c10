"""Launches that are captured once and repeated as one: a CUDA graph on a GPU, Warp's own recording on a CPU.

Nothing here waits for the device. On CUDA a step is then one launch instead of three or more; on a CPU it is what the
suite runs of this path (it has not been run on CUDA yet), and ``team`` is faster there.
"""

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp


class Graph:
    """Launches in their order, captured.

    Args:
        launches: Recorded launches, whose kernels are loaded.
        device: Where they run.
    """

    def __init__(self, launches: Sequence[wp.Launch], device: torch.device) -> None:
        self.launches, self.device = launches, device  # the first keep modules and arrays alive
        with wp.ScopedCapture(device=wp.device_from_torch(device), force_module_load=False) as capture:
            for launch in launches:
                launch.launch()
        self._graph: Any = capture.graph

    def __call__(self) -> None:
        """Run them after what torch's current stream has been given, and before what it will be given."""
        stream = None
        if self.device.type == "cuda":
            stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        wp.capture_launch(self._graph, stream=stream)
