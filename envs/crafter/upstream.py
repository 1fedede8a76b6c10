"""The game of the package ``crafter``, with what a run needs that it lacks: an order, a memory of worlds, a coroner.

Upstream keeps the creatures of a chunk in a set, whose order is that of their addresses in memory, and lets the next
random number pick one of them: the same seed gives other episodes in another process. Here they are in the order in
which they came; all else that happens is upstream's own code.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import crafter
import numpy as np
from crafter import constants, engine, objects
from numpy.typing import NDArray

from ..batch import lane_seed

DEATHS = ("none", "lava", "zombie", "arrow", "hunger", "thirst", "tiredness")
"""What a player can die of. Where several needs have run out, the first in this order."""
DIAMOND, LAVA = (2, 5), (2, 5)  # steps from an underground start to the nearest of each
_TRIES, _KEPT = 1000, 2048

Kept = tuple[NDArray[np.uint8], Any, NDArray[np.int64], list[tuple[Any, Any]]]
_worlds: OrderedDict[tuple[Any, ...], Kept] = OrderedDict()


class _Ordered(dict[Any, None]):
    """As much of a set as upstream uses, in the order of coming."""

    def add(self, item: Any) -> None:
        """Put an item last, if it is not there."""
        self.setdefault(item)

    def remove(self, item: Any) -> None:
        """Take an item out."""
        del self[item]


class _World(engine.World):  # type: ignore[misc]
    """Upstream's world, in which it can be told whose turn it is."""

    acting: Any = None

    def reset(self, seed: int | None = None) -> None:
        """Empty it."""
        super().reset(seed)
        self._chunks: defaultdict[Any, _Ordered] = defaultdict(_Ordered)

    @property
    def objects(self) -> Iterator[Any]:
        """Every object that was there at the beginning."""
        for item in [item for item in self._objects if item]:
            self.acting = item
            yield item
        self.acting = None


class _Player(objects.Player):  # type: ignore[misc]
    """Upstream's player, who remembers what hurt it last."""

    hurt_by = "none"

    def distance(self, target: Any) -> int:
        """Steps to a place or an object; upstream's way of counting them is a sixth of a step's time."""
        x, y = getattr(target, "pos", target)
        return abs(int(x) - int(self.pos[0])) + abs(int(y) - int(self.pos[1]))

    @property
    def health(self) -> int:
        """From 0, dead, to 9."""
        return int(self.inventory["health"])

    @health.setter
    def health(self, value: int) -> None:
        if max(0, value) < self.inventory["health"]:
            self.hurt_by = self._cause()
        self.inventory["health"] = max(0, value)

    def _cause(self) -> str:
        other = self.world.acting
        if other is not self:
            return {objects.Zombie: "zombie", objects.Arrow: "arrow"}.get(type(other), "none")
        if self.world[self.pos][0] == "lava":
            return "lava"
        needs = ("food", "hunger"), ("drink", "thirst"), ("energy", "tiredness")
        return next((cause for need, cause in needs if self.inventory[need] <= 0), "none")


class Game(crafter.Env):  # type: ignore[misc]
    """Upstream's environment without a limit of time, whose worlds are told by a seed.

    Args:
        area: Width and height of the world, in tiles.
        size: Width and height of the picture, in pixels.
        reward: Whether achievements and health pay.
        drawn: Whether every step draws the picture; the dark's noise in it takes random numbers of the world.
        underground: Begin on a path in the mountains near a diamond and lava, instead of on the grass in the middle.
        items: What the player has in addition at the start.
    """

    def __init__(
        self, area: tuple[int, int], size: tuple[int, int], reward: bool, drawn: bool, underground: bool,
        items: Mapping[str, int],
    ) -> None:  # fmt: skip
        super().__init__(area=area, size=size, reward=reward, length=None, seed=0)
        self._world.__class__ = _World
        numbers = self._sem_view._obj_ids
        numbers[_Player] = numbers[objects.Player]
        self._drawn, self._underground, self._items = drawn, underground, dict(items)
        self.level = 0

    @property
    def player(self) -> Any:
        """The player."""
        return self._player

    @property
    def world(self) -> Any:
        """The world."""
        return self._world

    def begin(self, seed: int, turn: int | None = None) -> Any:
        """Begin an episode in the world of ``seed``, as ``crafter.Env(seed=seed).reset()`` does.

        Underground, it is the first world with a place to begin at, of a row of worlds that the seed tells. With a
        ``turn`` the world is one of its eight mirrored forms, and what happens in it and where it begins are drawn
        anew: the noise that makes worlds prefers no side, and to make one takes as long as some hundred steps.

        Raises:
            RuntimeError: No world has such a place.
        """
        key = (seed, *self._area, self._underground)
        kept = _worlds.pop(key, None)
        for k in range(_TRIES if self._underground else 1):
            if kept is not None:
                break
            self._generate(lane_seed(seed, k) & 0x7FFFFFFF if self._underground else seed)
            kept = self._keep()
        if kept is None:
            raise RuntimeError(
                f"none of {_TRIES} worlds of area={self._area} has a path near a diamond and lava: make it larger"
            )
        _worlds[key] = kept
        if len(_worlds) > _KEPT:
            _worlds.popitem(last=False)
        self._restore(*kept, turn)
        self.level = seed
        return self._obs()

    def _generate(self, seed: int) -> None:
        self._seed, self._episode = seed, 0
        drawn, self._drawn = self._drawn, False
        super().reset()
        self._drawn = drawn

    def _keep(self) -> Kept | None:
        """Materials, random state, places to begin at and creatures; None where there is no such place."""
        world = self._world
        places = _places(world) if self._underground else self._player.pos[None]
        if not len(places):
            return None
        creatures = [(type(item), item.pos) for item in world.objects if item is not self._player]
        return world._mat_map.copy(), world.random.get_state(), places, creatures

    def _restore(self, materials: Any, random: Any, places: Any, creatures: Any, turn: int | None) -> None:
        """Put the player and the creatures into a world that was made before."""
        world, turn, fixed = self._world, turn or 0, turn is None
        self._step = 0
        world.reset(None if fixed else turn & 0xFFFFFFFF)
        world._mat_map[...] = _turned(materials, turn)
        if fixed:
            world.random.set_state(random)
        self._update_time()
        place = places[world.random.randint(len(places))] if self._underground else places[0]
        self._player = _Player(world, self._moved(place, turn))
        self._player.inventory.update(self._items)
        self._last_health = self._player.health
        self._unlocked: set[str] = set()
        world.add(self._player)
        for kind, at in creatures:
            who = () if kind is objects.Cow else (self._player,)
            world.add(kind(world, self._moved(at, turn), *who))

    def _moved(self, place: Any, turn: int) -> tuple[int, int]:
        """Where a tile is in a world that ``_turned`` gives."""
        (x, y), (width, height) = place, self._area
        x, y = (width - 1 - x if turn & 1 else x), (height - 1 - y if turn & 2 else y)
        return (int(y), int(x)) if turn & 4 and width == height else (int(x), int(y))

    def _obs(self) -> Any:
        return super()._obs() if self._drawn else None

    def picture(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """What is to be seen, uint8 ``[height, width, 3]``; looking changes nothing."""
        before = self._world.random.get_state()
        drawn: NDArray[np.uint8] = self.render(size)
        self._world.random.set_state(before)
        return drawn


def _turned(materials: Any, turn: int) -> Any:
    """One of a world's eight mirrored forms; four where it is not square."""
    if turn & 1:
        materials = materials[::-1]
    if turn & 2:
        materials = materials[:, ::-1]
    return materials.T if turn & 4 and materials.shape[0] == materials.shape[1] else materials


def _places(world: Any) -> NDArray[np.int64]:
    """Free tiles of path ``[P, 2]`` that are as far from a diamond and from lava as an underground start is."""
    here = np.argwhere((world._mat_map == world._mat_ids["path"]) & (world._obj_map == 0))
    for name, (least, most) in (("diamond", DIAMOND), ("lava", LAVA)):
        there = np.argwhere(world._mat_map == world._mat_ids[name])
        if not len(here) or not len(there):
            return here[:0]
        steps = np.abs(here[:, None] - there).sum(-1).min(1)
        here = here[(least <= steps) & (steps <= most)]
    return here


ACTIONS: tuple[str, ...] = tuple(constants.actions)
ACHIEVEMENTS: tuple[str, ...] = tuple(constants.achievements)
ITEMS: tuple[str, ...] = tuple(constants.items)
MATERIALS: tuple[str, ...] = tuple(constants.materials)
