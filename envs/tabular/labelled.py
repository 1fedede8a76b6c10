"""Office world and Craft world, labelled grids for reward machines.

Toro Icarte, Klassen, Valenzano and McIlraith, "Reward Machines: Exploiting Reward Function Structure in Reinforcement
Learning", JAIR 2022. Maps and tasks are those of the authors' published code. That code pays a fall from a task's last
stage as the task's end: its Office agents, and the paper's figures, so have it that mail on the way to the office may
as well be carried onto a plant (``OFFICE_TASKS_AS_RUN``; the shortest successes take 11, 23, 23 and 25 steps then, and
15, 29, 29 and 30 as the tasks are written). Moves are up, right, down, left and never slip; bumping into a wall stands
still. Without a task the worlds pay nothing and never end but by the cut at 1,000 steps: a reward machine on
``facts["events"]`` gives them their reward.
"""

from collections.abc import Sequence

import torch

from ..grid.stream import Stream
from .mdp import MDP
from .scene import Scene
from .tasks import Task, falls_paid, in_order, with_tasks

ACTIONS = ("up", "right", "down", "left")
MAX_STEPS = 1000
DISCOUNT = 0.9

OFFICE_WIDTH, OFFICE_HEIGHT = 12, 9  # twelve rooms of 3 x 3; (0, 0) is the lower left cell
OFFICE_START = (2, 1)
OFFICE_PROPOSITIONS = ("A", "B", "C", "D", "mail", "coffee", "office", "plant")
OFFICE_OBJECTS: dict[str, tuple[tuple[int, int], ...]] = {
    "A": ((1, 1),),
    "B": ((1, 7),),
    "C": ((10, 7),),
    "D": ((10, 1),),
    "mail": ((7, 4),),
    "coffee": ((8, 2), (3, 6)),
    "office": ((4, 4),),
    "plant": ((4, 1), (7, 1), (4, 7), (7, 7), (1, 4), (10, 4)),
}
OFFICE_TASKS: dict[str, Task] = {
    "coffee": in_order("coffee", {"coffee": (), "office": ("coffee",)}, ("plant",)),
    "mail": in_order("mail", {"mail": (), "office": ("mail",)}, ("plant",)),
    "coffee-mail": in_order("coffee-mail", {"mail": (), "coffee": (), "office": ("mail", "coffee")}, ("plant",)),
    "patrol": in_order("patrol", {"A": (), "B": ("A",), "C": ("A", "B"), "D": ("A", "B", "C")}, ("plant",)),
}
"""The paper's four, in its order: coffee to the office, mail to the office, both, and the round of A, B, C and D."""
OFFICE_TASKS_AS_RUN: dict[str, Task] = {name: falls_paid(task, ("plant",)) for name, task in OFFICE_TASKS.items()}
"""The same as the authors' code steps them, which is not as it writes them: in the last stage a plant pays too."""

CRAFT_SIDE = 39
CRAFT_PROPOSITIONS = ("wood", "toolshed", "workbench", "grass", "factory", "iron", "bridge", "axe")
CRAFT_COUNTS = (5, 2, 2, 5, 2, 5, 2, 2)  # how many cells of each
_FROM_WOOD = {"wood": (), "workbench": ("wood",)}
CRAFT_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        in_order("plank", {"wood": (), "toolshed": ("wood",)}),
        in_order("stick", {"wood": (), "workbench": ("wood",)}),
        in_order("cloth", {"grass": (), "factory": ("grass",)}),
        in_order("rope", {"grass": (), "toolshed": ("grass",)}),
        in_order("bridge", {"wood": (), "iron": (), "factory": ("wood", "iron")}),
        in_order("bed", {"wood": (), "toolshed": ("wood",), "grass": (), "workbench": ("toolshed", "grass")}),
        in_order("axe", {**_FROM_WOOD, "iron": (), "toolshed": ("workbench", "iron")}),
        in_order("shears", {"wood": (), "iron": (), "workbench": ("wood", "iron")}),
        in_order("gold", {"wood": (), "iron": (), "factory": ("wood", "iron"), "bridge": ("factory",)}),
        in_order("gem", {**_FROM_WOOD, "iron": (), "toolshed": ("workbench", "iron"), "axe": ("toolshed",)}),
    )
}
"""The paper's ten (after Andreas, Klein and Levine, "Modular Multitask Reinforcement Learning", 2017), in its order."""


def office(
    task: str | Sequence[str] | None = None,
    *,
    as_run: bool = False,
    discount: float = DISCOUNT,
    max_steps: int = MAX_STEPS,
) -> Scene:
    """Office world: 12 x 9 cells in twelve rooms; ``cell`` is ``y * 12 + x``.

    Args:
        task: One of ``OFFICE_TASKS``, several of them (each episode the next one), ``"all"``, or None for the world
            without rewards. A plant ends the episode.
        as_run: The tasks of ``OFFICE_TASKS_AS_RUN``: in a task's last stage a plant is as good as its end.
        discount: The discount.
        max_steps: Truncates the episode.

    Raises:
        ValueError: The task is unknown.
    """
    width, height = OFFICE_WIDTH, OFFICE_HEIGHT
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    moves = torch.empty(width * height, 4, dtype=torch.int64)
    for y in range(height):
        for x in range(width):
            for a, (dx, dy) in enumerate(steps):
                open_ = 0 <= x + dx < width and 0 <= y + dy < height and _office_open(x, y, x + dx, y + dy)
                moves[y * width + x, a] = (y + dy) * width + x + dx if open_ else y * width + x
    labels = torch.zeros(width * height, len(OFFICE_PROPOSITIONS), dtype=torch.bool)
    for p, name in enumerate(OFFICE_PROPOSITIONS):
        for x, y in OFFICE_OBJECTS[name]:
            labels[y * width + x, p] = True
    # Between rooms the drawing has a line of walls: cell (x, y) is at column x + x // 3, row from the top.
    drawing = [[" "] * (width + 3) for _ in range(height + 2)]
    place = torch.tensor(
        [(height + 1 - y - y // 3, x + x // 3) for y in range(height) for x in range(width)], dtype=torch.int64
    )
    for x in range(width):
        for y in (2, 5):
            if not _office_open(x, y, x, y + 1):
                drawing[place[y * width + x, 0] - 1][x + x // 3] = "-"
    for y in range(height):
        for x in (2, 5, 8):
            if not _office_open(x, y, x + 1, y):
                drawing[place[y * width + x, 0]][x + x // 3 + 1] = "|"
    for cell, (row, column) in enumerate(place.tolist()):
        letters = [n[0].lower() if len(n) > 1 else n for n, on in zip(OFFICE_PROPOSITIONS, labels[cell].tolist()) if on]
        drawing[row][column] = letters[0] if letters else "."
    start = OFFICE_START[1] * width + OFFICE_START[0]
    world = _world(moves, labels, OFFICE_PROPOSITIONS, start, discount, max_steps, drawing, place)
    return _tasked(world, task, OFFICE_TASKS_AS_RUN if as_run else OFFICE_TASKS, "Office", discount)


def _office_open(x: int, y: int, nx: int, ny: int) -> bool:
    """Whether one may step between two neighbouring cells: within a room, or through a door."""
    if nx // 3 != x // 3:
        return y in (1, 7)  # doors to the sides, in the lower and the upper row of rooms
    if ny // 3 != y // 3:
        return x in (1, 4, 7, 10) if max(y, ny) == 6 else x in (1, 10)
    return True


def craft(
    task: str | Sequence[str] | None = None,
    *,
    map_seed: int = 0,
    discount: float = DISCOUNT,
    max_steps: int = MAX_STEPS,
) -> Scene:
    """Craft world: 39 x 39 free cells, 25 of them with materials and tools; ``cell`` is ``row * 39 + column``.

    The start is the middle. Maps are drawn from ``map_seed`` with the counts of the paper's maps, which were drawn too.

    Args:
        task: One of ``CRAFT_TASKS``, several of them (each episode the next one), ``"all"``, or None.
        map_seed: Which map.
        discount: The discount.
        max_steps: Truncates the episode.

    Raises:
        ValueError: The task is unknown.
    """
    side = CRAFT_SIDE
    cell = torch.arange(side * side)
    row, column = cell // side, cell % side
    moves = torch.stack(
        [
            torch.where(row > 0, cell - side, cell),
            torch.where(column < side - 1, cell + 1, cell),
            torch.where(row < side - 1, cell + side, cell),
            torch.where(column > 0, cell - 1, cell),
        ],
        -1,
    )
    start = (side // 2) * side + side // 2
    free = [c for c in range(side * side) if c != start]
    chosen = iter(Stream.of(map_seed).choice(free, size=sum(CRAFT_COUNTS), replace=False).tolist())
    labels = torch.zeros(side * side, len(CRAFT_PROPOSITIONS), dtype=torch.bool)
    drawing = [["."] * side for _ in range(side)]
    for p, count in enumerate(CRAFT_COUNTS):
        for c in (next(chosen) for _ in range(count)):
            labels[c, p] = True
            drawing[c // side][c % side] = "wtbgfiBa"[p]
    place = torch.stack([row, column], -1)
    world = _world(moves, labels, CRAFT_PROPOSITIONS, start, discount, max_steps, drawing, place)
    return _tasked(world, task, CRAFT_TASKS, "Craft", discount)


def _world(
    moves: torch.Tensor,
    labels: torch.Tensor,
    propositions: tuple[str, ...],
    start: int,
    discount: float,
    max_steps: int,
    drawing: list[list[str]],
    place: torch.Tensor,
) -> Scene:
    nothing = torch.zeros(*moves.shape, 1, dtype=torch.float64)
    mdp = MDP(nothing + 1, nothing, start=start, discount=discount, successors=moves[..., None])
    return Scene(
        mdp, max_steps, ACTIONS, propositions=propositions, labels=labels, facts={"cell": torch.arange(len(moves))},
        drawing=tuple("".join(letters) for letters in drawing), place=place,
    )  # fmt: skip


def _tasked(
    world: Scene, task: str | Sequence[str] | None, known: dict[str, Task], where: str, discount: float
) -> Scene:
    if task is None:
        return world
    names = list(known) if task == "all" else [task] if isinstance(task, str) else list(task)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{where} world has no task {unknown[0]!r}; it has {', '.join(known)}, and 'all'")
    return with_tasks(world, [known[name] for name in names], discount)
