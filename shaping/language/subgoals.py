"""Plans of subgoals for levels of the grid engine: by an oracle with a dial, or by a language model that is asked.

A plan is int64 ``[G, 5]``: verb, type, colour, x, y of each subgoal in order; rows of zeros are no subgoals.
"""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from ...envs.grid import layout as L
from ..hashing import hash_rows, mix
from .ask import Giver, Question

MOST = 8  # G
GO, TAKE, OPEN = 1, 2, 3
VERBS = ("", "go to", "pick up", "open")
_PLAN = {
    "type": "array", "minItems": 1, "maxItems": MOST,
    "items": {
        "type": "object", "required": ["verb", "color", "type", "x", "y"],
        "properties": {
            "verb": {"enum": list(VERBS[1:])}, "color": {"enum": list(L.COLORS)},
            "type": {"enum": ["door", "key", "ball", "box", "goal"]},
            "x": {"type": "integer", "minimum": 0, "maximum": 63},
            "y": {"type": "integer", "minimum": 0, "maximum": 63},
        },
    },
}  # fmt: skip
_TARGET = re.compile(rf"(?:pick up|get|fetch) .*?\b({'|'.join(L.COLORS)}) (key|ball|box)\b")
_LETTERS = {L.WALL: "#", L.DOOR: "D", L.KEY: "K", L.BALL: "B", L.BOX: "X", L.GOAL: "G", L.LAVA: "~"}


class Planner(Protocol):
    """Who makes plans."""

    def plan(self, cells: Tensor, width: int, place: Tensor, missions: list[str]) -> Tensor:
        """The plans ``[M, G, 5]`` of M levels.

        Args:
            cells: int16 ``[M, H * W]``, packed.
            width: W.
            place: int64 ``[M, 2]``, where the agent begins (x, y).
            missions: M texts.
        """
        ...


class OraclePlanner:
    """Keys, locked doors and the target in their order, or closed doors by distance and the goal; with a dial.

    Args:
        accuracy: The share of subgoals that are right. A wrong one names another thing in another place.
        seed: Of the errors, which depend on seed and level alone.
    """

    def __init__(self, accuracy: float = 1.0, seed: int = 0) -> None:
        if not 0 <= accuracy <= 1:
            raise ValueError(f"OraclePlanner(accuracy={accuracy}): a share is between 0 and 1")
        self.accuracy, self.seed = float(accuracy), int(seed)

    def plan(self, cells: Tensor, width: int, place: Tensor, missions: list[str]) -> Tensor:
        """The plans ``[M, G, 5]``."""
        right = route(cells, width, place, missions)
        return right if self.accuracy == 1 else self.spoilt(right, cells, width, place)

    def spoilt(self, right: Tensor, cells: Tensor, width: int, place: Tensor) -> Tensor:
        """Plans with errors."""
        level = hash_rows([cells, place])[:, None] + torch.arange(MOST, device=cells.device) + (self.seed << 20)
        draws = [mix(mix(level) + k) >> 1 & ((1 << 62) - 1) for k in range(4)]
        bad = (draws[0].double() / 2**62 >= self.accuracy) & (right[..., 0] > 0)
        wrong = right.clone()
        # One of the other five colours, so that it is never right by chance; and a place elsewhere.
        wrong[..., 2] = (right[..., 2] + 1 + draws[1] % 5) % 6
        spots = cells.shape[1]
        spot = (right[..., 4] * width + right[..., 3] + 1 + draws[2] % (spots - 1)) % spots
        wrong[..., 3], wrong[..., 4] = spot % width, spot // width
        return torch.where(bad[..., None], wrong, right)


def route(cells: Tensor, width: int, place: Tensor, missions: list[str]) -> Tensor:
    """The right plans ``[M, G, 5]``: what there is to take and to open on the way to the target."""
    cells = cells.long()
    kind, color, state, inside = cells & 15, cells >> 4 & 7, cells >> 7 & 3, cells >> 9 & 31
    plan = torch.zeros(len(cells), MOST, 5, dtype=torch.int64, device=cells.device)
    used = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    rows = torch.arange(len(cells), device=cells.device)

    def append(where: Tensor, verb: int, what: Tensor, shade: Tensor, spot: Tensor) -> None:
        """Add a subgoal to the plans of some levels; all ``[M]``."""
        step = torch.stack([torch.full_like(spot, verb), what, shade, spot % width, spot // width], -1)
        at = used.clamp(max=MOST - 1)
        plan[rows, at] = torch.where((where & (used < MOST))[:, None], step, plan[rows, at])
        used.add_((where & (used < MOST)).long())

    def first(mask: Tensor) -> tuple[Tensor, Tensor]:
        return mask.any(1), mask.to(torch.uint8).argmax(1)

    def fill(value: int) -> Tensor:
        return torch.full_like(used, value)

    locked, door = first((kind == L.DOOR) & (state == L.LOCKED))
    shade = color[rows, door]
    lying, key = first((kind == L.KEY) & (color == shade[:, None]))
    boxed, box = first((kind == L.BOX) & (inside == (1 + shade)[:, None]))
    hidden = locked & ~lying & boxed
    append(hidden, OPEN, fill(L.BOX), color[rows, box], box)
    append(locked & (lying | boxed), TAKE, fill(L.KEY), shade, torch.where(lying, key, box))
    append(locked, OPEN, fill(L.DOOR), shade, door)
    # No locked door: the closed ones, the nearest first (MultiRoom's stand in a row).
    away = distances(kind != L.WALL, width, place)
    closed = (kind == L.DOOR) & (state == L.CLOSED) & ~locked[:, None] & (away >= 0)
    far = torch.where(closed, away, 1 << 30)
    for _ in range(MOST - 1):
        near, door = far.min(1)
        append(near < 1 << 30, OPEN, fill(L.DOOR), color[rows, door], door)
        far[rows, door] = 1 << 30
    wanted = torch.tensor([target_of(text) for text in missions], device=cells.device).reshape(len(cells), 2)
    there, spot = first((kind == wanted[:, :1]) & (color == wanted[:, 1:]))
    append(there, TAKE, wanted[:, 0], wanted[:, 1], spot)
    goal, spot = first(kind == L.GOAL)
    append(goal, GO, fill(L.GOAL), color[rows, spot], spot)
    return plan


def distances(free: Tensor, width: int, place: Tensor) -> Tensor:
    """Steps from ``place [M, 2]`` to every cell ``[M, H * W]`` over free cells (doors count as free); -1 for none."""
    away = torch.full(free.shape, -1, dtype=torch.int64, device=free.device)
    reached = torch.zeros_like(free)
    reached.scatter_(1, (place[:, 1] * width + place[:, 0])[:, None], True)
    grid = (len(free), -1, width)
    for step in range(free.shape[1]):
        new = reached & (away < 0)
        if not bool(new.any()):
            break
        away[new] = step
        around = reached.reshape(grid).clone()
        around[:, 1:] |= reached.reshape(grid)[:, :-1]
        around[:, :-1] |= reached.reshape(grid)[:, 1:]
        around[:, :, 1:] |= reached.reshape(grid)[:, :, :-1]
        around[:, :, :-1] |= reached.reshape(grid)[:, :, 1:]
        reached = around.reshape(free.shape) & free
    return away


def target_of(mission: str) -> tuple[int, int]:
    """Type and colour of the thing that a mission wants picked up; (0, 0) for none."""
    found = _TARGET.search(mission.lower())
    return (0, 0) if found is None else (L.TYPES.index(found[2]), L.COLORS.index(found[1]))


class AskedPlanner:
    """Plans by a language model, from the level drawn in text; asked for beforehand, as there is a fixed set of levels.

    A level that was not asked about, or whose answer is no plan, has no subgoals: the agent is on its own there.

    Args:
        giver: Who answers.
        parallel: Questions at once.

    Attributes:
        counts: How many plans came, and how many answers were of each other outcome.
    """

    def __init__(self, giver: Giver, parallel: int = 4) -> None:
        self.giver, self.parallel = giver, parallel
        self.plans: dict[int, Tensor] = {}
        self.counts: dict[str, int] = {}

    def prepare(self, cells: Tensor, width: int, place: Tensor, missions: list[str]) -> None:
        """Ask about levels, as ``plan`` takes them."""
        keys = hash_rows([cells, place]).tolist()
        todo = [i for i, key in enumerate(keys) if key not in self.plans]
        questions = [self.question(draw(cells[i], width, place[i]), missions[i]) for i in todo]
        with ThreadPoolExecutor(self.parallel) as pool:
            for i, answer in zip(todo, pool.map(self.giver.ask, questions)):
                self.counts[answer.outcome] = self.counts.get(answer.outcome, 0) + 1
                if answer.ok:
                    self.plans[keys[i]] = plan_of(answer.value, width, len(cells[i]) // width)

    def plan(self, cells: Tensor, width: int, place: Tensor, missions: list[str]) -> Tensor:
        """The plans ``[M, G, 5]``, zeros where there is none."""
        none = torch.zeros(MOST, 5, dtype=torch.int64)
        found = [self.plans.get(key, none) for key in hash_rows([cells, place]).tolist()]
        return torch.stack(found).to(cells.device)

    @staticmethod
    def question(drawing: str, mission: str) -> Question:
        """Ask for the plan of a level."""
        text = (
            f"A level of a grid world. The first line is y = 0, the first letter of a line is x = 0.\n{drawing}\n"
            f"The agent's task: {mission or 'reach the goal'}.\n"
            f"List at most {MOST} subgoals in the order in which the agent should reach them, each with a verb, the "
            "colour and type of the thing, and the x and y of its cell. A locked door takes a key of its colour."
        )
        return Question(text, schema=_PLAN, temperature=0.0, seed=0, template="cairn-subgoals@1", max_tokens=800)


def plan_of(value: Any, width: int, height: int) -> Tensor:
    """A plan from an answer; subgoals outside of the level are left out."""
    plan = torch.zeros(MOST, 5, dtype=torch.int64)
    kept = [g for g in value if g["x"] < width and g["y"] < height]
    for i, g in enumerate(kept):
        verb, kind, color = VERBS.index(g["verb"]), L.TYPES.index(g["type"]), L.COLORS.index(g["color"])
        plan[i] = torch.tensor([verb, kind, color, g["x"], g["y"]])
    return plan


def draw(cells: Tensor, width: int, place: Tensor) -> str:
    """A level ``[H * W]`` as lines of letters, and what the letters stand for."""
    letters, things = [], []
    for k, cell in enumerate(cells.tolist()):
        kind, color, state = L.unpack(cell)
        letters.append(_LETTERS.get(kind, "."))
        if kind in (L.DOOR, L.KEY, L.BALL, L.BOX, L.GOAL):
            how = ("open ", "closed ", "locked ")[state] if kind == L.DOOR else ""
            things.append(f"({k % width}, {k // width}): {how}{L.COLORS[color]} {L.TYPES[kind]}")
    letters[int(place[1]) * width + int(place[0])] = "A"
    lines = ["".join(letters[y : y + width]) for y in range(0, len(letters), width)]
    return "\n".join([*lines, "A is the agent, # a wall, ~ lava.", *things])


def agreement(plans: Tensor, right: Tensor) -> dict[str, float]:
    """How good plans ``[M, G, 5]`` are: the share of right subgoals at their place, by object and by position."""
    real = right[..., 0] > 0
    same = {
        "object": (plans[..., :3] == right[..., :3]).all(-1),
        "position": (plans[..., 3:] == right[..., 3:]).all(-1),
    }
    return {
        name: float((match & real & (plans[..., 0] > 0)).sum() / real.sum().clamp(min=1))
        for name, match in same.items()
    }


def sentence(verb: int, kind: int, color: int) -> str:
    """A subgoal in words."""
    return f"{VERBS[verb]} the {L.COLORS[color]} {L.TYPES[kind]}" if verb else "no subgoal"


def sentences(embed: Callable[[str], Tensor]) -> Tensor:
    """The embedding of every sentence, float32 ``[verbs, types, colours, D]``."""
    table: Mapping[tuple[int, int, int], Tensor] = {
        (v, k, c): embed(sentence(v, k, c)).float()
        for v in range(len(VERBS)) for k in range(len(L.TYPES)) for c in range(len(L.COLORS))
    }  # fmt: skip
    return torch.stack(list(table.values())).reshape(len(VERBS), len(L.TYPES), len(L.COLORS), -1)
