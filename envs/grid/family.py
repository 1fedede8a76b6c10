"""A family: what one class of upstream's adds to the common rules, as Warp functions and a plan.

How to add a family
===================

Write one file ``families/<name>.py`` after the pattern of ``families/doorkey.py`` (levels), ``families/fetch.py`` (a
rule and missions of its own) or ``families/keycorridor.py`` (on upstream's RoomGrid), and add its classes to the
table ``FAMILIES`` below. The file holds

1. ``generate(w, i)``, a ``wp.func`` that makes lane i's next level: upstream's ``_gen_grid``, draw for draw. When it is
   called, ``next_episode`` has given the lane its key and an empty grid, and the agent is at (-1, -1). It sets cells
   with ``put`` (also ``horz_wall``, ``place``, ...), the agent with ``set_agent`` or ``place_agent``, the mission's
   number in ``w.ints[i, MISSION]``, and what its rule needs later in ``w.ints[i, AUX + k]``, of which the plan's
   ``aux`` says how many. The rules of drawing: ``rand_int(w, i, low, high)`` is ``_rand_int``, ``np_random.integers``
   and (of a range) ``np_random.choice``; ``below(w, i, n)`` is the index that ``_rand_elem`` draws; ``_rand_pos`` and
   ``place_obj`` draw x, then y; ``shuffle`` of n things draws ``below(w, i, k + 1)`` for k from n - 1 down to 1 and
   swaps k with it. Colours are drawn by place in ``COLOR_NAMES``: ``rand_color``, ``draw_named_color``.
2. at most three more ``wp.func``, where upstream's class overrides ``step``:
   ``remap(w, i, action) -> action``, ``before(w, i, action) -> memo`` and
   ``after(w, i, action, memo, result) -> result``. ``action`` is what ``remap`` returned; ``result`` has the bits of
   ``layout`` (TERMINATED, REWARD for upstream's ``self._reward()``, PENALTY for -1, and the events; set FAILED where an
   end is the agent's fault). Compare upstream's identities (``self.carrying == self.obj``) by what tells the object
   from all others in a level.
3. ``plan(env) -> Plan | None``: the numbers that the functions read in ``w.params``, and the missions by number, read
   off an instance of upstream's own class (so defaults and checks of arguments are upstream's); None where the
   arguments ask for what the functions cannot do, which sends this environment through the bridge.
4. ``FAMILY = Family("<name>", generate, plan, ...)``.

Warp is not Python: a variable keeps the type of its first value (write ``wp.int32(0)`` for one that changes in a loop),
``//`` and ``%`` round towards zero, there are no lists (use bit masks, or ``wp.types.vector``) and no recursion, and a
function's changes to its arguments are lost, but for those to arrays. A loop over a ``range`` that is known when the
module is compiled is unrolled.

``tests/envs/grid/test_engine.py`` compares every id of the table with upstream: there is nothing to add.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from . import step


@dataclass(frozen=True)
class Plan:
    """What the engine must know of one environment beside its family.

    Attributes:
        params: At most 16 whole numbers, ``w.params[k]`` in the family's functions.
        missions: The mission texts by number.
        aux: How many whole numbers of its own a lane needs, in ``w.ints[i, AUX : AUX + aux]``.
    """

    params: tuple[int, ...] = ()
    missions: tuple[str, ...] = ("",)
    aux: int = 0


@dataclass(frozen=True)
class Family:
    """The functions of one class of upstream's.

    Attributes:
        name: A short name, used in messages and as the name of the compiled module.
        generate: Warp function ``(w, i)``: make lane i's level.
        plan: Read an upstream instance; None where the functions cannot do what it asks for.
        after: Warp function ``(w, i, action, memo, result) -> result``, after the common rules.
        before: Warp function ``(w, i, action) -> memo``, before them.
        remap: Warp function ``(w, i, action) -> action``, before everything.
    """

    name: str
    generate: Any
    plan: Callable[[Any], Plan | None]
    after: Any = field(default=step.same_result)
    before: Any = field(default=step.nothing_before)
    remap: Any = field(default=step.same_action)


# Upstream's class (its name) -> the file in families/ that has it, and the name that it has there.
FAMILIES: dict[str, tuple[str, str]] = {
    "BlockedUnlockPickupEnv": ("unlock", "FAMILY"),
    "CrossingEnv": ("crossing", "FAMILY"),
    "DistShiftEnv": ("distshift", "FAMILY"),
    "DoorKeyEnv": ("doorkey", "FAMILY"),
    "DynamicObstaclesEnv": ("dynamicobstacles", "FAMILY"),
    "EmptyEnv": ("empty", "FAMILY"),
    "FetchEnv": ("fetch", "FAMILY"),
    "FourRoomsEnv": ("fourrooms", "FAMILY"),
    "GoToDoorEnv": ("goto", "DOORS"),
    "GoToObjectEnv": ("goto", "OBJECTS"),
    "KeyCorridorEnv": ("keycorridor", "FAMILY"),
    "LavaGapEnv": ("lavagap", "FAMILY"),
    "LockedRoomEnv": ("lockedroom", "FAMILY"),
    "MemoryEnv": ("memory", "FAMILY"),
    "MultiRoomEnv": ("multiroom", "FAMILY"),
    "ObstructedMaze_1Dlhb": ("obstructedmaze", "FAMILY"),
    "ObstructedMaze_Full": ("obstructedmaze", "FAMILY"),
    "ObstructedMaze_Full_V1": ("obstructedmaze", "FAMILY"),
    "PlaygroundEnv": ("playground", "FAMILY"),
    "PutNearEnv": ("putnear", "FAMILY"),
    "RedBlueDoorEnv": ("redbluedoors", "FAMILY"),
    "UnlockEnv": ("unlock", "FAMILY"),
    "UnlockPickupEnv": ("unlock", "FAMILY"),
}


def family_of(upstream_class: str) -> Family | None:
    """The native family of an upstream class, or None where there is none."""
    if upstream_class not in FAMILIES:
        return None
    file, name = FAMILIES[upstream_class]
    family: Family = getattr(import_module(f".families.{file}", __package__), name)
    return family
