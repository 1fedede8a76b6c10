"""Crossing: rivers of lava or walls from side to side, and openings on one way through."""

# mypy: disable-error-code="untyped-decorator"

from typing import TYPE_CHECKING, Any, TypeAlias

import warp as wp

from .. import layout as L
from ..family import Family, Plan
from ..state import EMPTY_CELL, GOAL_CELL, World, below, horz_wall, put, rand_int, set_agent, vert_wall, wall_rect

_MOST = 32  # rivers that can be drawn from, and the size from which positions no longer fit in a mask
if TYPE_CHECKING:
    _Deck: TypeAlias = Any
else:
    _Deck = wp.types.vector(length=_MOST, dtype=wp.int32)


@wp.func
def shuffled(w: World, i: wp.int32, deck0: _Deck, count: wp.int32) -> _Deck:
    """Upstream's ``np_random.shuffle`` of the first ``count`` entries."""
    deck = deck0
    last = count - 1
    while last > 0:
        other = below(w, i, last + 1)
        kept = deck[last]
        deck[last] = deck[other]
        deck[other] = kept
        last = last - 1
    return deck


@wp.func
def next_river(mask: wp.int32, after: wp.int32, end: wp.int32) -> wp.int32:
    """The next river beyond ``after``, or ``end``."""
    at = after + 1
    while at < end and ((mask >> at) & 1) == 0:
        at = at + 1
    return at


@wp.func
def generate(w: World, i: wp.int32) -> None:
    """Make rivers and openings; params are the number of crossings and the obstacle's cell."""
    wall_rect(w, i, 0, 0, w.width, w.height)
    set_agent(w, i, 1, 1, 0)
    put(w, i, w.width - 2, w.height - 2, GOAL_CELL)
    # Vertical rivers are their x, horizontal ones 64 + their y. (Upstream swaps width and height; levels are square.)
    deck = _Deck()
    count = wp.int32(0)
    for k in range(2, w.height - 2, 2):
        deck[count] = k
        count = count + 1
    for k in range(2, w.width - 2, 2):
        deck[count] = 64 + k
        count = count + 1
    deck = shuffled(w, i, deck, count)
    columns = wp.int32(0)
    rows = wp.int32(0)
    vertical = wp.int32(0)
    horizontal = wp.int32(0)
    for k in range(wp.min(count, w.params[0])):
        river = deck[k]
        if river >= 64:
            rows = rows | (1 << (river - 64))
            horizontal = horizontal + 1
            horz_wall(w, i, 1, river - 64, w.width - 2, w.params[1])
        else:
            columns = columns | (1 << river)
            vertical = vertical + 1
            vert_wall(w, i, river, 1, w.height - 2, w.params[1])
    # The way to the goal: 1 crosses a vertical river, 0 a horizontal one.
    for k in range(vertical):
        deck[k] = 1
    for k in range(horizontal):
        deck[vertical + k] = 0
    deck = shuffled(w, i, deck, vertical + horizontal)
    left = wp.int32(0)
    right = next_river(columns, 0, w.height - 1)
    top = wp.int32(0)
    bottom = next_river(rows, 0, w.width - 1)
    for k in range(vertical + horizontal):
        if deck[k] == 1:
            y = rand_int(w, i, top + 1, bottom)
            put(w, i, right, y, EMPTY_CELL)
            left = right
            right = next_river(columns, left, w.height - 1)
        else:
            x = rand_int(w, i, left + 1, right)
            put(w, i, x, bottom, EMPTY_CELL)
            top = bottom
            bottom = next_river(rows, top, w.width - 1)


def plan(env: Any) -> Plan | None:
    """Read number and kind of the rivers off upstream's instance."""
    obstacle = env.obstacle_type().encode()
    if obstacle[0] not in (L.WALL, L.LAVA) or env.width % 2 == 0 or env.width >= _MOST or env.num_crossings < 0:
        return None
    return Plan((int(env.num_crossings), L.pack(*obstacle)), (env.mission,))


FAMILY = Family("crossing", generate, plan)
