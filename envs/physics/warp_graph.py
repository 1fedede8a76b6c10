"""One function of tensors as one CUDA graph, torch's work and Warp's in the same recording; on the CPU, just called."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class StepGraph:
    """Runs ``work``, recorded on the first call where the device is a GPU.

    Warp records, since MuJoCo Warp's solver puts loops into the graph that only Warp's recording has. Torch's
    temporaries come from a memory pool of their own then, so that nobody else gets their memory between two runs.

    Args:
        work: Takes and changes tensors that keep their place; returns tensors, which the next run overwrites.
        save: Gives all the state that ``work`` changes.
        restore: Takes that state back: the runs before the recording, which load kernels, are undone.
        device: Where.
    """

    def __init__(
        self,
        work: Callable[[], dict[str, Tensor]],
        save: Callable[[], Mapping[str, Any]],
        restore: Callable[[Mapping[str, Any]], None],
        device: torch.device,
    ) -> None:
        self._work, self._save, self._restore, self._device = work, save, restore, device
        self._graph: Any = None
        self._pool: Any = None
        self._out: dict[str, Tensor] = {}

    def run(self) -> dict[str, Tensor]:
        """Do the work once."""
        if self._device.type != "cuda":
            return self._work()
        import warp

        if self._graph is None:
            self._record(warp)
        stream = torch.cuda.current_stream(self._device)
        warp.capture_launch(self._graph, stream=warp.stream_from_torch(stream))
        return self._out

    def _record(self, warp: Any) -> None:
        before = self._save()
        side: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        self._pool = torch.cuda.MemPool()
        with torch.cuda.stream(side), warp.ScopedStream(warp.stream_from_torch(side)):
            with torch.cuda.use_mem_pool(self._pool, self._device):
                for _ in range(2):  # kernels are loaded, libraries make their handles
                    self._work()
                self._restore(before)
                side.synchronize()
                # Relaxed: torch asks the driver for memory during the recording, which the stricter modes forbid.
                mode, stream = warp.CaptureMode.RELAXED, warp.stream_from_torch(side)
                with warp.ScopedCapture(stream=stream, force_module_load=False, capture_mode=mode) as capture:
                    self._out = self._work()
        self._graph = capture.graph
        torch.cuda.current_stream(self._device).wait_stream(side)

    def close(self) -> None:
        """Free the graph; the next run records it anew."""
        self._graph = None
        self._out = {}
        self._pool = None
