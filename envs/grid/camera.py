"""Pictures of a batch as upstream's ``render()`` draws them: of all lanes, or of those whose turn it is."""

# mypy: disable-error-code="untyped-decorator"

from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .arrays import Arrays
from .launches import Programs, Run
from .pictures import Images
from .state import STEPS


def find_due(ints: wp.array2d[wp.int32], every: wp.int32, mask: wp.array[wp.bool]) -> None:
    """Mark the lanes whose episode has lasted a multiple of ``every`` steps."""
    i = wp.tid()
    mask[i] = ints[i, STEPS] % every == 0


@cache
def _kernel() -> Any:
    return wp.kernel(find_due, name="grid_due", module="unique", module_options={"enable_backward": False})


class Camera:
    """Draws as upstream's arguments (highlight, tile_size, agent_pov) ask; memory is taken where it is first wanted.

    Args:
        arrays: The memory of a batch made with ``render_mode="rgb_array"``.
        programs: What it runs.
        tile: Pixels of a cell's side.
        pov: Show what the agent sees instead of the whole level.
        highlight: Show in the whole level what the agent sees.
    """

    def __init__(self, arrays: Arrays, programs: Programs, tile: int, pov: bool, highlight: bool) -> None:
        self._arrays, self._programs = arrays, programs
        self._tile, self._kind, self._highlight = tile, "rgb" if pov else "rgb_full", highlight
        self._all: Images | None = None
        self._now: Images | None = None
        self._last: Images | None = None
        self._due = torch.zeros_like(arrays.mask)
        self._finders: dict[int, Run] = {}

    def _images(self, mask: Tensor, last: bool = False) -> Images:
        shown: dict[str, Any] = {"tile": self._tile, "highlight": self._highlight}
        return Images(self._arrays, self._programs, self._kind, mask, last=last, **shown)

    def everyone(self) -> Tensor:
        """Pictures of all lanes, ``[N, H, W, 3]``."""
        if self._all is None:
            self._all = self._images(self._arrays.everyone)
        return self._all()

    def begun(self) -> tuple[Tensor, Tensor]:
        """Pictures of the lanes that the last reset was of, and which these are."""
        self._due.copy_(self._arrays.mask)
        return self._frames()

    def due(self, every: int) -> tuple[Tensor, Tensor]:
        """Pictures of the lanes whose episode has lasted a multiple of ``every`` steps, and which these are."""
        if every not in self._finders:
            arrays, programs = self._arrays, self._programs
            self._finders = {
                every: programs.program(
                    [
                        [
                            programs.record(
                                _kernel(),
                                part.stop - part.start,
                                wp.from_torch(arrays.state["ints"][part]),
                                every,
                                wp.from_torch(self._due[part]),
                            )
                        ]
                        for part in programs.chunks
                    ]
                )
            }
        self._finders[every]()
        return self._frames()

    def _frames(self) -> tuple[Tensor, Tensor]:
        if self._now is None:
            self._now = self._images(self._due)
        return self._now(), self._due

    def last(self) -> tuple[Tensor, Tensor]:
        """Last pictures of the episodes that have just ended, and which these are."""
        done = self._arrays.result["done"]
        if self._last is None:
            self._last = self._images(done, last=True)
        return self._last(), done
