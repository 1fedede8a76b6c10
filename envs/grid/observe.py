"""What an agent sees: upstream's ``gen_obs``, its cropping, turning and shadow casting, one row at a time.

Upstream cuts a V x V square out of the grid, turns it until the agent looks up from the middle of the bottom row, and
spreads sight from the agent's cell: row by row from the bottom, first left to right and then right to left, each
visible cell that does not block sight lights its neighbour in the sweep's direction, the cell above it and the one
above that neighbour. Here a row's cells are bits of an integer, and a sweep is a carry through a run of clear cells.
"""

# mypy: disable-error-code="untyped-decorator"

from functools import cache
from typing import Any

import warp as wp

from .state import CARRYING, DIR, EMPTY_CELL, WALL_CELL, X, Y

# Warp's own indexing multiplies every subscript by a stride that the compiler cannot know: 1.4 times the whole
# observation's time. These two take a lane's row as the contiguous memory that it is.


@wp.func_native("return ((const short*)((const char*)cells.data + (long long)lane * cells.strides[0]))[at];")
def load_cell(cells: wp.array2d[wp.int16], lane: wp.int32, at: wp.int32) -> wp.int16:
    """``cells[lane, at]``."""
    ...


@wp.func_native(
    """
    unsigned char* pixel = image.data + (long long)lane * image.strides[0] + at;
    pixel[0] = (unsigned char)(cell & 15);
    pixel[1] = (unsigned char)((cell >> 4) & 7);
    pixel[2] = (unsigned char)((cell >> 7) & 3);
    """
)
def store_cell(image: wp.array4d[wp.uint8], lane: wp.int32, at: wp.int32, cell: wp.int32) -> None:
    """Write a cell as upstream encodes it at byte ``at`` of a lane's image."""
    ...


@cache
def observer(view: int) -> Any:
    """Make the Warp function that writes a lane's partial image for a view of ``view`` x ``view`` cells.

    It writes ``image[i, vi, vj, :]``, vi from left to right and vj from far to near, as upstream has it.
    """
    size = wp.constant(view)
    half = wp.constant(view // 2)
    full = wp.constant((1 << view) - 1)
    not_last = wp.constant((1 << (view - 1)) - 1)  # every cell but the rightmost
    not_first = wp.constant((1 << view) - 2)  # every cell but the leftmost
    column = wp.constant(3 * view)  # bytes of the image between a cell and its neighbour to the right
    doublings = wp.constant((view - 1).bit_length())
    Row = wp.types.vector(length=view, dtype=wp.int32)

    @wp.func
    def sweep_right(seen: wp.int32, clear: wp.int32) -> wp.int32:
        """Light what lies to the right of seen cells, through clear ones: addition carries through a run of ones."""
        passing = clear & not_last
        return ((((seen & passing) + passing) ^ passing) | seen) & full

    @wp.func
    def sweep_left(seen0: wp.int32, clear: wp.int32) -> wp.int32:
        """The same to the left, by doubling distances (no arithmetic carries downwards)."""
        passing = clear & not_first
        seen = seen0
        for k in range(doublings):
            seen = seen | ((seen & passing) >> (1 << k))
            passing = passing & (passing << (1 << k))
        return seen

    @wp.func
    def observe(
        cells: wp.array2d[wp.int16],
        ints: wp.array2d[wp.int32],
        width: wp.int32,
        height: wp.int32,
        through: wp.int32,
        image: wp.array4d[wp.uint8],
        i: wp.int32,
    ) -> None:
        """Write lane i's image; ``through`` is upstream's ``see_through_walls``."""
        direction = ints[i, DIR]
        # Ahead (fx, fy) and right (rx, ry) in the grid; directions 0 to 3 are right, down, left, up.
        fx = (1 - direction) * ((direction + 1) & 1)
        fy = (2 - direction) * (direction & 1)
        rx = -fy
        ry = fx
        # The left end of the agent's own row, and the steps from cell to cell, in the grid and in memory.
        x = ints[i, X] - rx * half
        y = ints[i, Y] - ry * half
        across = ry * width + rx
        ahead = fy * width + fx
        at = y * width + x
        # Which of a row's cells are within the grid, by the coordinate that changes along it.
        start = x * rx * rx + y * ry * ry
        limit = width * rx * rx + height * ry * ry
        within = wp.int32(0)
        for k in range(size):
            u = start + (rx + ry) * k
            if u >= 0 and u < limit:
                within = within | (1 << k)
        # The coordinate that changes from row to row.
        depth = x * fx * fx + y * fy * fy
        bottom = width * fx * fx + height * fy * fy
        seen = wp.int32(1) << half
        out = 3 * (size - 1)
        row_number = wp.int32(0)
        rows = wp.int32(size)  # a variable, so that Warp does not unroll the loop over rows
        while row_number < rows:
            if through != 0:
                seen = full
            inside = within
            if depth < 0 or depth >= bottom:
                inside = 0
            row = Row()
            clear = wp.int32(0)
            for k in range(size):
                cell = WALL_CELL
                if ((inside >> k) & 1) != 0:
                    cell = wp.int32(load_cell(cells, i, at + across * k))
                row[k] = cell
                clear = clear | ((1 - (cell >> 14)) << k)
            above = wp.int32(0)
            if through == 0:
                seen = sweep_right(seen, clear)
                source = seen & clear & not_last
                above = source | (source << 1)
                seen = sweep_left(seen, clear)
                source = seen & clear & not_first
                above = above | source | (source >> 1)
            if row_number == 0:  # the agent's own cell shows what it carries
                held = ints[i, CARRYING]
                if held == 0:
                    held = EMPTY_CELL
                row[half] = held
            for k in range(size):
                store_cell(image, i, out + column * k, row[k] & -((seen >> k) & 1))  # (0, 0, 0) where unseen
            seen = above
            at += ahead
            depth += fx + fy
            out -= 3
            row_number += 1
            if seen == 0 and through == 0:  # nothing beyond is seen: half of the time in small rooms
                while row_number < rows:
                    for k in range(size):
                        store_cell(image, i, out + column * k, 0)
                    out -= 3
                    row_number += 1

    return observe
