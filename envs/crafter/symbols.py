"""What the player sees and what can be said of it, in numbers: the tiles of upstream's picture, and the facts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE, HIGH, BELOW = 9, 7, 2  # tiles of the map in view, and rows of the inventory below it
FAR = 8  # steps to what is not in view: beyond the farthest tile that is
MATERIALS = (
    "water", "grass", "stone", "path", "sand", "tree", "lava", "coal", "iron", "diamond", "table", "furnace",
)  # fmt: skip
SYMBOLS = (
    "nothing", *MATERIALS, "cow", "zombie", "skeleton", "arrow right", "arrow down", "arrow left", "arrow up",
    "sapling", "ripe plant", "player right", "player down", "player left", "player up", "player asleep",
)  # fmt: skip
"""What a tile of the view can be; upstream's materials have upstream's own numbers."""
CODES = {name: code for code, name in enumerate(SYMBOLS)}
NEAR = ("lava", "water", "tree", "coal", "iron", "diamond", "table", "cow", "zombie", "skeleton")
PACK = ("sapling", "wood", "stone", "coal", "iron", "diamond")
TOOLS = ("wood_pickaxe", "stone_pickaxe", "iron_pickaxe", "wood_sword", "stone_sword", "iron_sword")
_DIRECTIONS = {(1, 0): 0, (0, 1): 1, (-1, 0): 2, (0, -1): 3}
_CENTRE = (WIDE // 2, HIGH // 2)
_NEAR_CODES = np.array([CODES[name] for name in NEAR])
_ARROWS = slice(CODES["arrow right"], CODES["arrow up"] + 1)
_STEPS = (abs(np.arange(WIDE) - _CENTRE[0])[:, None] + abs(np.arange(HIGH) - _CENTRE[1])).ravel()
_FARTHEST_FIRST = np.argsort(-_STEPS, kind="stable")


def symbol(thing: Any) -> int:
    """The number of an object of upstream's."""
    name = type(thing).__name__
    if name in ("Cow", "Zombie", "Skeleton"):
        return CODES[name.lower()]
    if name == "Plant":
        return CODES["ripe plant" if thing.ripe else "sapling"]
    if getattr(thing, "sleeping", False):
        return CODES["player asleep"]
    first = CODES["arrow right" if name == "Arrow" else "player right"]
    return first + _DIRECTIONS[int(thing.facing[0]), int(thing.facing[1])]


class Look:
    """The tiles in view.

    Attributes:
        ground: Materials uint8 ``[9, 7]``, x before y; 0 beyond the world's edge.
        things: Objects in view, the player too: (x, y) in the view, and symbol.
    """

    def __init__(self, game: Any) -> None:
        world, self.player, self.game = game.world, game.player, game
        corner = np.subtract(self.player.pos, _CENTRE)
        first = np.maximum(corner, 0)
        last = np.minimum(corner + (WIDE, HIGH), world.area)
        inside = tuple(slice(a, b) for a, b in zip(first, last))
        self.ground: NDArray[np.uint8] = np.zeros((WIDE, HIGH), np.uint8)
        x, y = first - corner
        whole = world._mat_map[inside]
        self.ground[x : x + whole.shape[0], y : y + whole.shape[1]] = whole
        numbers = world._obj_map[inside]
        self.things: list[tuple[int, int, int]] = []
        for i, j in zip(*numbers.nonzero()):
            self.things.append((int(i + x), int(j + y), symbol(world._objects[numbers[i, j]])))

    def symbols(self) -> NDArray[np.uint8]:
        """Upstream's picture, a number for each of its tiles: uint8 ``[9, 9, 1]``, rows first.

        Seven rows of the map, with the player in the middle, as ``SYMBOLS``; then the inventory, how much of each item
        from 0 to 9, in upstream's order. The last tile has the daylight, from 0 to 9: the dark hides nothing here.
        """
        seen = np.zeros((HIGH + BELOW, WIDE, 1), np.uint8)
        seen[:HIGH, :, 0] = self.ground.T
        for x, y, code in self.things:
            seen[y, x] = code
        amounts = list(self.player.inventory.values())
        seen[HIGH:].ravel()[: len(amounts)] = amounts
        seen[-1, -1] = round(9 * float(self.game.world.daylight))
        return seen

    def facts(self) -> dict[str, Any]:
        """What reward programs and analysers read."""
        player, items = self.player, self.player.inventory
        steps = np.full(len(SYMBOLS), FAR)
        steps[self.ground.ravel()[_FARTHEST_FIRST]] = _STEPS[_FARTHEST_FIRST]  # of equal ones the last, the nearest
        for x, y, code in self.things:
            steps[code] = min(steps[code], abs(x - _CENTRE[0]) + abs(y - _CENTRE[1]))
        ahead = _CENTRE[0] + int(player.facing[0]), _CENTRE[1] + int(player.facing[1])
        facing = next((code for x, y, code in self.things if (x, y) == ahead), int(self.ground[ahead]))
        return {
            "position": (int(player.pos[0]), int(player.pos[1])),
            "direction": _DIRECTIONS[int(player.facing[0]), int(player.facing[1])],
            "facing": facing,
            "health": items["health"], "food": items["food"], "drink": items["drink"], "energy": items["energy"],
            "sleeping": bool(player.sleeping),
            "daylight": float(self.game.world.daylight),
            "pack": tuple(items[name] for name in PACK),
            "tools": tuple(items[name] for name in TOOLS),
            "unlocked": tuple(count > 0 for count in player.achievements.values()),
            **{f"to_{name}": int(n) for name, n in zip(NEAR, steps[_NEAR_CODES])},
            "to_arrow": int(steps[_ARROWS].min()),
        }  # fmt: skip
