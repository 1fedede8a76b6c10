"""Layouts of the mazes, and where goals and starts may lie in them.

A layout is text, one line for each row: ``#`` wall, ``.`` free, ``r`` start, ``g`` goal, ``c`` both. They are those of
gymnasium-robotics 1.4.2, which has them from Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning"
(2020).
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MEDIUM = """
########
#r.##..#
#..#..g#
##...###
#..#...#
#g#..#.#
#...#g.#
########"""
_LARGE = """
############
#r...#g....#
#.##.#.#.#.#
#....g.#..g#
#.####.###.#
#.g#.#.....#
##.#.#.#.###
#..#g.g#.g.#
############"""
_OPEN = """
#######
#rgggg#
#ggggg#
#ggggg#
#######"""


def _free(layout: str) -> str:
    return layout.replace("r", ".").replace("g", ".")


def _both(layout: str) -> str:
    return layout.replace("r", "c").replace("g", "c")


LAYOUTS: dict[str, str] = {
    "UMaze": "#####\n#...#\n###.#\n#...#\n#####",
    "Open": _free(_OPEN),
    "Open_Diverse_G": _OPEN,
    "Open_Diverse_GR": _both(_OPEN),
    "Medium": _free(_MEDIUM),
    "Medium_Diverse_G": _MEDIUM,
    "Medium_Diverse_GR": _both(_MEDIUM),
    "Large": _free(_LARGE),
    "Large_Diverse_G": _LARGE,
    "Large_Diverse_GR": _both(_LARGE),
}

Cell = tuple[int, int]


class Layout:
    """Where the cells of a maze are.

    Args:
        cells: A name of ``LAYOUTS``; or rows of ``1`` (wall), ``0`` (free), ``"r"``, ``"g"`` and ``"c"``, as upstream.
        scale: The side of a cell, m.

    Attributes:
        rows: The cells, upstream's way.
        walls: Cells (row, column) that are walls.
        goals, starts: Centres of the cells where goals and starts may lie, m, float64 ``[K, 2]``.

    Raises:
        ValueError: No such layout, rows of different lengths, an unknown kind of cell, or no start apart from a goal.
    """

    def __init__(self, cells: str | Sequence[Sequence[Any]], scale: float) -> None:
        if isinstance(cells, str):
            if cells not in LAYOUTS:
                raise ValueError(f"maze_map={cells!r}: there are {', '.join(LAYOUTS)}, or give the rows yourself")
            table: dict[str, Any] = {"#": 1, ".": 0}
            self.rows = [[table.get(c, c) for c in row] for row in LAYOUTS[cells].split()]
        else:
            self.rows = [list(row) for row in cells]
        if not self.rows or {len(row) for row in self.rows} != {len(self.rows[0])} or not self.rows[0]:
            raise ValueError("maze_map: all rows of a maze have the same length, at least 1")
        self.scale, self.height, self.width = scale, len(self.rows), len(self.rows[0])
        found: dict[Any, list[Cell]] = {1: [], 0: [], "r": [], "g": [], "c": []}
        for i, row in enumerate(self.rows):
            for j, kind in enumerate(row):
                if isinstance(kind, bool) or kind not in found:
                    raise ValueError(
                        f"maze_map has {kind!r} at ({i}, {j}); cells are 1 (wall), 0 (free), 'r', 'g', 'c'"
                    )
                found[kind].append((i, j))
        self.walls = found[1]
        # Without a word on starts, or on goals, every free cell is one.
        goals, starts, both = found["g"], found["r"], found["c"]
        if not both:
            goals, starts = goals or found[0], starts or found[0]
        goals, starts = goals + both, starts + both
        if not goals or not starts or any(set(starts) == {goal} for goal in goals):
            raise ValueError("maze_map: a maze needs a cell to start in that is not the goal's")
        self.goals, self.starts = (np.stack([self.center(cell) for cell in cells]) for cells in (goals, starts))

    def center(self, cell: Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
        """The middle of a cell (row, column), m; the maze's own middle is the origin."""
        x = (cell[1] + 0.5) * self.scale - self.width / 2 * self.scale
        y = self.height / 2 * self.scale - (cell[0] + 0.5) * self.scale
        return np.array([x, y])

    def check(self, name: str, cell: Any) -> NDArray[np.int64]:
        """A free cell that a user named.

        Raises:
            ValueError: It is none.
        """
        array = np.asarray(cell)
        if array.shape != (2,) or array.dtype.kind not in "iu":
            raise ValueError(f"{name}={cell!r}: a cell is (row, column)")
        row, column = (int(n) for n in array)
        if not (0 <= row < self.height and 0 <= column < self.width) or self.rows[row][column] == 1:
            raise ValueError(f"{name}=({row}, {column}) is a wall, or outside of the maze")
        return array.astype(np.int64)

    def far_apart(self) -> tuple[Cell, Cell]:
        """The first free cell, and of those farthest from it by steps through the maze the last, in reading order."""
        walls = set(self.walls)
        first = next((i, j) for i in range(self.height) for j in range(self.width) if (i, j) not in walls)
        steps, queue = {first: 0}, deque([first])
        while queue:
            i, j = queue.popleft()
            for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                inside = 0 <= cell[0] < self.height and 0 <= cell[1] < self.width
                if inside and cell not in walls and cell not in steps:
                    steps[cell] = steps[i, j] + 1
                    queue.append(cell)
        most = max(steps.values())
        return first, max(cell for cell, n in steps.items() if n == most)
