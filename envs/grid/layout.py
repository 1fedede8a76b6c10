"""How a level lies in memory: the packed cell, the numbers of a lane, the events. Plain integers; no heavy import.

A *cell* is one int16: upstream's type in bits 0-3, colour in 4-6, door state in 7-8, the contents of a box in 9-13, and
in bit 14 whether it hides what is behind it (walls and doors that are not open), so that the observation need not
ask. A level of 25 x 25 cells takes 1,250 bytes. The contents of a box are 0 for none, else 1 + 6 * (type - KEY) +
colour of a key, a ball or a box that itself holds nothing; that is more than any level of upstream's needs.

Cell (x, y) of a level of width W is ``cells[lane, y * W + x]``, which is upstream's own order.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

# Upstream's minigrid.core.constants: OBJECT_TO_IDX, COLOR_TO_IDX, STATE_TO_IDX, COLOR_NAMES, Actions. A test compares.
EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA, AGENT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = 0, 1, 2, 3, 4, 5
OPEN, CLOSED, LOCKED = 0, 1, 2
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = 0, 1, 2, 3, 4, 5, 6
COLORS: Final = ("red", "green", "blue", "purple", "yellow", "grey")  # by index
COLOR_NAMES: Final = ("blue", "green", "grey", "purple", "red", "yellow")  # the order in which upstream draws them
TYPES: Final = ("unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent")

OPAQUE: Final = 1 << 14

# Columns of the int32 array of a lane: ``ints[lane, ...]``. The family's own numbers follow from AUX on.
X, Y, DIR, CARRYING, STEPS, MISSION, EPISODE, EVENTS, AUX = 0, 1, 2, 3, 4, 5, 6, 7, 8

# Columns of the uint64 array of a lane: ``rng[lane, ...]``.
LANE_KEY, EPISODE_KEY, COUNTER = 0, 1, 2

# What a transition did, as bits of ``ints[lane, EVENTS]`` (the low 16 of a step's result).
PICKED, DROPPED, OPENED, CLOSED_DOOR, UNLOCKED, UNBOXED, REACHED_GOAL, ENTERED_LAVA, COLLIDED, FAILED = (
    1 << i for i in range(10)
)
EVENT_NAMES: Final = (
    "picked", "dropped", "opened", "closed", "unlocked", "unboxed", "goal", "lava", "collided", "failed",
)  # fmt: skip
UNMADE: Final = 1 << 15  # upstream would have raised RecursionError while it made this level (never seen)
# The rest of a step's result.
TERMINATED: Final = 1 << 16
REWARD: Final = 1 << 17  # pay 1 - 0.9 * steps / max_steps
PENALTY: Final = 1 << 18  # pay -1


def pack(kind: int, color: int = 0, state: int = 0, contents: int = 0) -> int:
    """Pack one cell.

    Args:
        kind: Upstream's type index.
        color: Upstream's colour index.
        state: A door's state.
        contents: The packed cell that a box holds, or 0.

    Raises:
        ValueError: If the contents are not a plain key, ball or empty box.
    """
    inside = 0
    if contents:
        held, shade, rest = contents & 15, contents >> 4 & 7, contents >> 7
        if held not in (KEY, BALL, BOX) or rest:
            raise ValueError(f"a box can hold a key, a ball or an empty box, not {unpack(contents)}")
        inside = 1 + 6 * (held - KEY) + shade
    opaque = kind == WALL or (kind == DOOR and state != OPEN)
    return kind | color << 4 | state << 7 | inside << 9 | (OPAQUE if opaque else 0)


def unpack(cell: int) -> tuple[int, int, int]:
    """The (type, colour, state) of a packed cell, as upstream encodes it."""
    return cell & 15, cell >> 4 & 7, cell >> 7 & 3


def contents(cell: int) -> int:
    """The packed cell that a box holds, or 0."""
    inside = (cell >> 9 & 31) - 1
    return 0 if inside < 0 else pack(KEY + inside // 6, inside % 6)


def decode(cells: npt.NDArray[Any], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Turn packed cells ``[..., H * W]`` into upstream's ``Grid.encode()``, ``[..., W, H, 3]``."""
    image = np.stack([cells & 15, cells >> 4 & 7, cells >> 7 & 3], axis=-1).astype(np.uint8)
    return np.swapaxes(image.reshape(*cells.shape[:-1], height, width, 3), -3, -2)


def every_cell() -> npt.NDArray[np.int16]:
    """All packed cells that a level can have."""
    plain = [pack(kind, color) for kind in (WALL, FLOOR, KEY, BALL, BOX, GOAL, LAVA) for color in range(6)]
    doors = [pack(DOOR, color, state) for color in range(6) for state in (OPEN, CLOSED, LOCKED)]
    held = [pack(kind, color) for kind in (KEY, BALL, BOX) for color in range(6)]
    boxes = [pack(BOX, color, contents=inside) for color in range(6) for inside in held]
    return np.array([pack(EMPTY), *plain, *doors, *boxes], dtype=np.int16)


EMPTY_CELL: Final = pack(EMPTY)
WALL_CELL: Final = pack(WALL, GREY)
GOAL_CELL: Final = pack(GOAL, GREEN)
LAVA_CELL: Final = pack(LAVA, RED)
