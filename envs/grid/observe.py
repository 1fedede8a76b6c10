"""What an agent sees: upstream's ``gen_obs``, its cropping, turning and shadow casting, one row at a time.

Upstream cuts a V x V square out of the grid, turns it until the agent looks up from the middle of the bottom row, and
spreads sight from the agent's cell: row by row from the bottom, first left to right and then right to left, each
visible cell that does not block sight lights its neighbour in the sweep's direction, the cell above it and the one
above that neighbour. Here a row's cells are bits of an integer, and a sweep is a carry through a run of clear cells.

It is written in C++ for speed (1.8 times that of the same in Warp's Python, whose indexing multiplies every subscript
by a stride that the compiler cannot know), of which the same text serves CPU and GPU. A row is read as a whole, also
where it sticks out of the grid: what lies there is not used, and ``margin`` keeps the reading within the memory.
"""

# mypy: disable-error-code="untyped-decorator"

from functools import cache
from typing import Any

import warp as wp

from . import layout as L

_OBSERVE = """
    constexpr int V = %(view)d, HALF = V / 2, FULL = (1 << V) - 1;
    constexpr int NOT_LAST = FULL >> 1, NOT_FIRST = FULL - 1;  // every cell but the rightmost, but the leftmost
    const short* level = (const short*)((const char*)cells.data + (long long)lane * cells.strides[0]);
    const int* agent = (const int*)((const char*)ints.data + (long long)lane * ints.strides[0]);
    unsigned char* pixel = image.data + (long long)lane * image.strides[0];
    // Ahead (fx, fy) and right (rx, ry) in the grid; directions 0 to 3 are right, down, left, up.
    const int direction = agent[%(dir)d];
    const int fx = (1 - direction) * ((direction + 1) & 1), fy = (2 - direction) * (direction & 1);
    const int rx = -fy, ry = fx;
    // The left end of the agent's own row, and the steps from cell to cell, in the grid and in memory.
    const int x = agent[%(x)d] - rx * HALF, y = agent[%(y)d] - ry * HALF;
    const int across = ry * width + rx, ahead = fy * width + fx;
    long long at = y * width + x;
    // Which of a row's cells are within the grid, by the coordinate that changes along it.
    const int start = rx != 0 ? x : y, limit = rx != 0 ? width : height;
    const int before = rx + ry > 0 ? -start : start - limit + 1, after = V - before - limit;
    const int within = FULL & (FULL << (before > 0 ? before : 0)) & (FULL >> (after > 0 ? after : 0));
    // The coordinate that changes from row to row.
    int depth = fx != 0 ? x : y;
    const int bottom = fx != 0 ? width : height;
    unsigned short shown[V * V];  // in the image's order: from left to right, and there from far to near
    for (int k = 0; k < V * V; ++k)
        shown[k] = 0;
    int seen = through != 0 ? FULL : 1 << HALF;
    for (int row = V - 1; row >= 0 && seen != 0; --row) {  // often nothing is seen beyond a wall
        const int inside = (unsigned)depth < (unsigned)bottom ? within : 0;
        int line[V], opaque = 0;
        for (int k = 0; k < V; ++k) {
            line[k] = level[at + across * k];
            opaque |= ((line[k] >> 14) & 1) << k;
        }
        int above = FULL;
        if (through == 0) {
            const int clear = inside & ~opaque;
            int passing = clear & NOT_LAST;  // to the right: addition carries through a run of ones
            seen = ((((seen & passing) + passing) ^ passing) | seen) & FULL;
            int source = seen & passing;
            above = source | (source << 1);
            passing = clear & NOT_FIRST;  // to the left, by doubling distances: no addition carries downwards
            for (int k = 1; k < V; k *= 2) {
                seen |= (seen & passing) >> k;
                passing &= passing << k;
            }
            source = seen & clear & NOT_FIRST;
            above |= source | (source >> 1);
        }
        if (row == V - 1)  // the agent's own cell shows what it carries
            line[HALF] = agent[%(carrying)d] != 0 ? agent[%(carrying)d] : %(empty)d;
        const int lit = seen & inside;
        for (int k = 0; k < V; ++k)
            shown[k * V + row] = (unsigned short)(line[k] & -((lit >> k) & 1));  // (0, 0, 0) where unseen
        if (lit != seen)  // upstream shows walls beyond the grid
            for (int k = 0; k < V; ++k)
                if (((seen & ~inside) >> k) & 1)
                    shown[k * V + row] = %(wall)d;
        seen = above;
        at += ahead;
        depth += fx + fy;
    }
    for (int k = 0; k < V * V; ++k) {
        pixel[3 * k] = (unsigned char)(shown[k] & 15);
        pixel[3 * k + 1] = (unsigned char)((shown[k] >> 4) & 7);
        pixel[3 * k + 2] = (unsigned char)((shown[k] >> 7) & 3);
    }
"""


def margin(view: int, width: int) -> int:
    """How many cells beyond the first and the last of all levels an observation may read."""
    return view * (width + 1)


@cache
def observer(view: int) -> Any:
    """Make the Warp function that writes a lane's partial image for a view of ``view`` x ``view`` cells, an odd number.

    It writes ``image[lane, vi, vj, :]``, vi from left to right and vj from far to near, as upstream has it; ``through``
    is upstream's ``see_through_walls``. The memory of ``cells`` must go on for ``margin`` cells at both ends.
    """
    names = {"dir": L.DIR, "x": L.X, "y": L.Y, "carrying": L.CARRYING, "empty": L.EMPTY_CELL, "wall": L.WALL_CELL}

    @wp.func_native(_OBSERVE % {"view": view, **names})
    def observe(
        cells: wp.array2d[wp.int16],
        ints: wp.array2d[wp.int32],
        width: wp.int32,
        height: wp.int32,
        through: wp.int32,
        image: wp.array4d[wp.uint8],
        lane: wp.int32,
    ) -> None: ...

    return observe
