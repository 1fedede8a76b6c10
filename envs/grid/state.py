"""The state of a batch in Warp arrays, and the functions on it that every kernel stands on.

Functions that draw random numbers copy :mod:`cairn.envs.grid.stream` draw for draw.
"""

# mypy: disable-error-code="untyped-decorator"

from typing import TYPE_CHECKING, Any, TypeAlias

import warp as wp

from . import layout as L
from .stream import EPISODE_SALT, GAMMA

PARAMS = 16
if TYPE_CHECKING:
    Params: TypeAlias = Any
else:
    Params = wp.types.vector(length=PARAMS, dtype=wp.int32)

_GAMMA = wp.constant(wp.uint64(GAMMA))
_SALT = wp.constant(wp.uint64(EPISODE_SALT))
_MIX1 = wp.constant(wp.uint64(0xBF58476D1CE4E5B9))
_MIX2 = wp.constant(wp.uint64(0x94D049BB133111EB))
_LOW32 = wp.constant(wp.uint64(0xFFFFFFFF))
_TWO32 = wp.constant(wp.uint64(1 << 32))

# Constants by the names that kernels use.
X, Y, DIR, CARRYING = wp.constant(L.X), wp.constant(L.Y), wp.constant(L.DIR), wp.constant(L.CARRYING)
STEPS, MISSION, EPISODE = wp.constant(L.STEPS), wp.constant(L.MISSION), wp.constant(L.EPISODE)
EVENTS, AUX = wp.constant(L.EVENTS), wp.constant(L.AUX)
LANE_KEY, EPISODE_KEY, COUNTER = wp.constant(L.LANE_KEY), wp.constant(L.EPISODE_KEY), wp.constant(L.COUNTER)
EMPTY_CELL, WALL_CELL = wp.constant(L.EMPTY_CELL), wp.constant(L.WALL_CELL)
GOAL_CELL, LAVA_CELL = wp.constant(L.GOAL_CELL), wp.constant(L.LAVA_CELL)
OPAQUE, UNMADE = wp.constant(L.OPAQUE), wp.constant(L.UNMADE)
KEY, BALL, BOX, DOOR = wp.constant(L.KEY), wp.constant(L.BALL), wp.constant(L.BOX), wp.constant(L.DOOR)
# COLOR_NAMES[k] as an index, packed three bits each.
_NAMED = wp.constant(sum(L.COLORS.index(name) << (3 * k) for k, name in enumerate(L.COLOR_NAMES)))


@wp.struct
class World:
    """What a family's functions see: every lane's state, and the numbers that all lanes share."""

    cells: wp.array2d[wp.int16]  # [N, H * W]
    ints: wp.array2d[wp.int32]  # [N, AUX + the family's own]
    rng: wp.array2d[wp.uint64]  # [N, 3]
    width: wp.int32
    height: wp.int32
    params: Params  # the family's own numbers


@wp.func
def mix64(z0: wp.uint64) -> wp.uint64:
    """SplitMix64's finaliser."""
    z1 = (z0 ^ (z0 >> wp.uint64(30))) * _MIX1
    z2 = (z1 ^ (z1 >> wp.uint64(27))) * _MIX2
    return z2 ^ (z2 >> wp.uint64(31))


@wp.func
def bits(w: World, i: wp.int32) -> wp.uint64:
    """Take one draw of lane i: 64 random bits."""
    counter = w.rng[i, COUNTER] + wp.uint64(1)
    w.rng[i, COUNTER] = counter
    return mix64(w.rng[i, EPISODE_KEY] + counter * _GAMMA)


@wp.func
def below(w: World, i: wp.int32, n: wp.int32) -> wp.int32:
    """A whole number in [0, n), exactly uniform; n is at least 1."""
    m = wp.uint64(n)
    product = (bits(w, i) >> wp.uint64(32)) * m
    low = product & _LOW32
    while low < m and low < _TWO32 % m:
        product = (bits(w, i) >> wp.uint64(32)) * m
        low = product & _LOW32
    return wp.int32(product >> wp.uint64(32))


@wp.func
def rand_int(w: World, i: wp.int32, low: wp.int32, high: wp.int32) -> wp.int32:
    """Upstream's ``_rand_int``: a whole number in [low, high)."""
    return low + below(w, i, high - low)


@wp.func
def named_color(k: wp.int32) -> wp.int32:
    """The index of upstream's ``COLOR_NAMES[k]``."""
    return (_NAMED >> (3 * k)) & 7


@wp.func
def rand_color(w: World, i: wp.int32) -> wp.int32:
    """Upstream's ``_rand_color``, as an index."""
    return named_color(below(w, i, 6))


@wp.func
def draw_named_color(w: World, i: wp.int32, free: wp.int32) -> wp.int32:
    """Upstream's ``_rand_elem(sorted(colors))``: a colour whose place in ``COLOR_NAMES`` is among the bits of ``free``.

    Returns:
        ``place * 8 + index``.
    """
    count = wp.int32(0)
    for k in range(6):
        count = count + ((free >> k) & 1)
    left = below(w, i, count)
    place = wp.int32(0)
    while ((free >> place) & 1) == 0 or left > 0:
        left = left - ((free >> place) & 1)
        place = place + 1
    return place * 8 + named_color(place)


@wp.func
def thing(kind: wp.int32, color: wp.int32) -> wp.int32:
    """The cell of a key, a ball, an empty box or a floor."""
    return kind | (color << 4)


@wp.func
def door(color: wp.int32, state: wp.int32) -> wp.int32:
    """The cell of a door."""
    cell = DOOR | (color << 4) | (state << 7)
    if state != 0:
        cell = cell | OPAQUE
    return cell


@wp.func
def box_with(color: wp.int32, held: wp.int32) -> wp.int32:
    """The cell of a box that holds a key, a ball or an empty box."""
    inside = 1 + 6 * ((held & 15) - KEY) + ((held >> 4) & 7)
    return BOX | (color << 4) | (inside << 9)


@wp.func
def box_contents(cell: wp.int32) -> wp.int32:
    """What a box leaves behind when it is opened: its contents, or an empty cell."""
    inside = ((cell >> 9) & 31) - 1
    left = EMPTY_CELL
    if inside >= 0:
        left = (KEY + inside // 6) | ((inside % 6) << 4)
    return left


# Warp's own indexing multiplies every subscript by a stride that the compiler cannot know. Here a lane's row is taken
# as the contiguous memory that it is, and can be filled and copied as a whole.


@wp.func_native("return ((const short*)((const char*)cells.data + (long long)lane * cells.strides[0]))[at];")
def load_cell(cells: wp.array2d[wp.int16], lane: wp.int32, at: wp.int32) -> wp.int16:
    """``cells[lane, at]``."""
    ...


@wp.func_native("((short*)((char*)cells.data + (long long)lane * cells.strides[0]))[at] = (short)cell;")
def store_cell(cells: wp.array2d[wp.int16], lane: wp.int32, at: wp.int32, cell: wp.int32) -> None:
    """``cells[lane, at] = cell``."""
    ...


@wp.func_native(
    """
    short* row = (short*)((char*)cells.data + (long long)lane * cells.strides[0]) + at;
    for (int k = 0; k < count; ++k)
        row[k] = (short)cell;
    """
)
def fill_cells(cells: wp.array2d[wp.int16], lane: wp.int32, at: wp.int32, count: wp.int32, cell: wp.int32) -> None:
    """``cells[lane, at : at + count] = cell``."""
    ...


def _copier(dtype: Any) -> Any:
    @wp.func_native(
        """
        const char* from = (const char*)source.data + (long long)there * source.strides[0];
        char* to = (char*)target.data + (long long)here * target.strides[0];
        memcpy(to, from, (size_t)target.shape[1] * target.strides[1]);
        """
    )
    def copy_row(target: wp.array2d[dtype], here: wp.int32, source: wp.array2d[dtype], there: wp.int32) -> None: ...

    return copy_row


# (target, i, source, j): ``target[i] = source[j]``, of rows of the same length.
copy_cells, copy_ints, copy_tokens = _copier(wp.int16), _copier(wp.int32), _copier(wp.int64)


@wp.func
def get(w: World, i: wp.int32, x: wp.int32, y: wp.int32) -> wp.int32:
    """The cell (x, y) of lane i."""
    return wp.int32(load_cell(w.cells, i, y * w.width + x))


@wp.func
def peek(w: World, i: wp.int32, at: wp.int32) -> wp.int32:
    """The cell at an index that came out of the lane's own numbers: a wall where it is beyond the grid."""
    cell = WALL_CELL
    if at >= 0 and at < w.width * w.height:
        cell = wp.int32(load_cell(w.cells, i, at))
    return cell


@wp.func
def put(w: World, i: wp.int32, x: wp.int32, y: wp.int32, cell: wp.int32) -> None:
    """Set the cell (x, y) of lane i."""
    store_cell(w.cells, i, y * w.width + x, cell)


@wp.func
def horz_wall(w: World, i: wp.int32, x: wp.int32, y: wp.int32, length: wp.int32, cell: wp.int32) -> None:
    """Upstream's ``Grid.horz_wall``, of any cell."""
    fill_cells(w.cells, i, y * w.width + x, length, cell)


@wp.func
def vert_wall(w: World, i: wp.int32, x: wp.int32, y: wp.int32, length: wp.int32, cell: wp.int32) -> None:
    """Upstream's ``Grid.vert_wall``, of any cell."""
    for k in range(length):
        put(w, i, x, y + k, cell)


@wp.func
def wall_rect(w: World, i: wp.int32, x: wp.int32, y: wp.int32, width: wp.int32, height: wp.int32) -> None:
    """Upstream's ``Grid.wall_rect``."""
    horz_wall(w, i, x, y, width, WALL_CELL)
    horz_wall(w, i, x, y + height - 1, width, WALL_CELL)
    vert_wall(w, i, x, y, height, WALL_CELL)
    vert_wall(w, i, x + width - 1, y, height, WALL_CELL)


@wp.func
def set_agent(w: World, i: wp.int32, x: wp.int32, y: wp.int32, direction: wp.int32) -> None:
    """Put the agent of lane i somewhere."""
    w.ints[i, X] = x
    w.ints[i, Y] = y
    w.ints[i, DIR] = direction


@wp.func
def find_place(
    w: World,
    i: wp.int32,
    x0: wp.int32,
    y0: wp.int32,
    width: wp.int32,
    height: wp.int32,
    near: wp.int32,
    tries: wp.int32,
) -> wp.int32:
    """Upstream's ``place_obj`` up to the placing: draw until an empty cell without the agent comes up.

    Args:
        w: The world.
        i: The lane.
        x0: Left of the rectangle (less than 0 counts as 0).
        y0: Its top.
        width: Its width; what sticks out of the grid is cut off.
        height: Its height.
        near: Refuse cells nearer to the agent than this, in steps (2 is upstream's ``reject_next_to``; 0 is none).
        tries: Upstream's ``max_tries``, or -1 for no end.

    Returns:
        ``y * w.width + x``, or -1 after ``tries + 1`` failures, where upstream raises RecursionError.
    """
    left = wp.max(x0, 0)
    top = wp.max(y0, 0)
    right = wp.min(left + width, w.width)
    bottom = wp.min(top + height, w.height)
    found = wp.int32(-1)
    tried = wp.int32(0)
    while found < 0 and (tries < 0 or tried <= tries):
        tried = tried + 1
        x = rand_int(w, i, left, right)
        y = rand_int(w, i, top, bottom)
        distance = wp.abs(w.ints[i, X] - x) + wp.abs(w.ints[i, Y] - y)
        if get(w, i, x, y) == EMPTY_CELL and distance > 0 and distance >= near:
            found = y * w.width + x
    return found


@wp.func
def place(
    w: World, i: wp.int32, cell: wp.int32, x0: wp.int32, y0: wp.int32, width: wp.int32, height: wp.int32
) -> wp.int32:
    """Upstream's ``place_obj(obj, top, size)``: put a cell at a random free place; returns ``y * w.width + x``."""
    at = find_place(w, i, x0, y0, width, height, 0, -1)
    store_cell(w.cells, i, at, cell)
    return at


@wp.func
def place_agent(w: World, i: wp.int32, x0: wp.int32, y0: wp.int32, width: wp.int32, height: wp.int32) -> None:
    """Upstream's ``place_agent(top, size)``: a random free place and a random direction."""
    set_agent(w, i, -1, -1, 0)
    at = find_place(w, i, x0, y0, width, height, 0, -1)
    direction = below(w, i, 4)
    set_agent(w, i, at % w.width, at // w.width, direction)


@wp.func
def next_episode(w: World, i: wp.int32) -> None:
    """Begin lane i's next episode up to the level: its key, its counters, an empty grid, no agent."""
    episode = w.ints[i, EPISODE] + 1
    w.ints[i, EPISODE] = episode
    w.rng[i, EPISODE_KEY] = mix64(w.rng[i, LANE_KEY] + wp.uint64(episode) * _GAMMA + _SALT)
    w.rng[i, COUNTER] = wp.uint64(0)
    set_agent(w, i, -1, -1, -1)
    w.ints[i, CARRYING] = 0
    w.ints[i, STEPS] = 0
    w.ints[i, MISSION] = 0
    w.ints[i, EVENTS] = 0
    fill_cells(w.cells, i, 0, w.width * w.height, EMPTY_CELL)
