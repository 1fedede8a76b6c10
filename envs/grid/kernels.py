"""The kernels: every lane steps, the lanes whose episodes ended are renewed, every lane is observed.

They are launched one after the other. On a CPU one fused kernel was slower (the renewal, which is rare, kept the
compiler from a tight loop); on a GPU it would hold the registers of the renewal in every thread. The observation does
not depend on the family, so it is compiled once for all. Every array is the engine's; a launch allocates nothing.
"""

# mypy: disable-error-code="untyped-decorator"

from dataclasses import dataclass
from functools import cache
from typing import Any

import warp as wp

from . import layout as L
from .family import Family
from .observe import observer
from .state import (
    CARRYING,
    COUNTER,
    DIR,
    EPISODE,
    EPISODE_KEY,
    EVENTS,
    MISSION,
    STEPS,
    World,
    X,
    Y,
    below,
    copy_cells,
    copy_ints,
    copy_tokens,
    next_episode,
)
from .step import PENALTY, REWARD, TERMINATED, base_step

_OPTIONS = {"enable_backward": False, "fuse_fp": False}


@wp.struct
class Shown:
    """Observations of all lanes, and the facts that are not columns of the state."""

    image: wp.array4d[wp.uint8]  # [N, V, V, 3]
    direction: wp.array[wp.int64]  # [N]
    mission: wp.array2d[wp.int64]  # [N, L]
    position: wp.array2d[wp.int64]  # [N, 2]
    carrying: wp.array2d[wp.int64]  # [N, 2], type and colour, or -1 and -1


@wp.struct
class Rules:
    """What all lanes share beside the world."""

    through: wp.int32  # upstream's see_through_walls
    cap: wp.int32  # truncate after so many steps
    rewards: wp.array[wp.float32]  # by number of steps
    missions: wp.array2d[wp.int64]  # tokens by mission, [M, L]


@wp.struct
class Result:
    """What a step says about its transition."""

    reward: wp.array[wp.float32]  # [N]
    terminated: wp.array[wp.bool]
    truncated: wp.array[wp.bool]
    done: wp.array[wp.bool]
    bad: wp.array[wp.int32]  # [1], not 0 where an action was out of range: then nothing moves


@wp.struct
class Last:
    """The last state of ended episodes."""

    success: wp.array[wp.bool]  # [N]
    ints: wp.array2d[wp.int32]
    cells: wp.array2d[wp.int16]


@wp.struct
class Pack:
    """A fixed set of levels."""

    cells: wp.array2d[wp.int16]  # [K, H * W]
    ints: wp.array2d[wp.int32]
    keys: wp.array2d[wp.uint64]  # [K, 2]: stream key (0 for the lane's own) and counter


@wp.func
def write_facts(ints: wp.array2d[wp.int32], s: Shown, i: wp.int32) -> None:
    """Write lane i's facts in the integer type that torch indexes with."""
    s.direction[i] = wp.int64(ints[i, DIR])
    s.position[i, 0] = wp.int64(ints[i, X])
    s.position[i, 1] = wp.int64(ints[i, Y])
    held = ints[i, CARRYING]
    kind = held & 15
    color = (held >> 4) & 7
    if held == 0:
        kind = -1
        color = -1
    s.carrying[i, 0] = wp.int64(kind)
    s.carrying[i, 1] = wp.int64(color)


@cache
def observe_kernel(view: int) -> Any:
    """The kernel ``(world, rules, shown)`` that observes every lane."""
    observe = observer(view)

    def show(w: World, r: Rules, s: Shown) -> None:
        i = wp.tid()
        observe(w.cells, w.ints, w.width, w.height, r.through, s.image, i)
        write_facts(w.ints, s, i)

    return wp.kernel(show, name=f"grid_observe_{view}", module="unique", module_options=_OPTIONS)


@wp.func_native(
    """
    unsigned long long wrong = 0;
    for (long long k = first; k < first + span; ++k)
        wrong |= (unsigned long long)actions.data[k] >= (unsigned long long)count;
    if (wrong != 0)
        bad.data[0] = 1;
    """
)
def find_bad(
    actions: wp.array[wp.int64], count: wp.int32, first: wp.int32, span: wp.int32, bad: wp.array[wp.int32]
) -> None:
    """Note whether one of ``actions[first : first + span]`` is not within [0, count)."""
    ...


@cache
def check_kernel() -> Any:
    """The kernel ``(actions, count, span, bad)``, each of whose threads looks at ``span`` actions."""

    def check(actions: wp.array[wp.int64], count: wp.int32, span: wp.int32, bad: wp.array[wp.int32]) -> None:
        find_bad(actions, count, wp.tid() * span, span, bad)

    return wp.kernel(check, name="grid_check", module="unique", module_options=_OPTIONS)


# What an observation is about to read is asked for when its lane has stepped: beyond some thousand lanes the levels
# are no longer in a core's cache, and waiting for them was two thirds of a step's time. The view's rows lie side by
# side, so it is one stretch of memory; an address beyond the levels does no harm.
_ASK_FOR_VIEW = """
#if !defined(__CUDA_ARCH__)
    const int* agent = (const int*)((const char*)ints.data + (long long)lane * ints.strides[0]);
    const int reach = (agent[%(dir)d] & 1) ? (agent[%(dir)d] == 1 ? 0 : 1 - view) : -(view / 2);
    const char* line = (const char*)cells.data + (long long)lane * cells.strides[0]
        + 2 * (long long)((agent[%(y)d] + reach) * width);
    for (int k = 0; k <= 2 * view * width; k += 64)
        __builtin_prefetch(line + k);
#endif
"""


@wp.func_native(_ASK_FOR_VIEW % {"dir": L.DIR, "y": L.Y})
def ask_for_view(
    cells: wp.array2d[wp.int16], ints: wp.array2d[wp.int32], width: wp.int32, view: wp.int32, lane: wp.int32
) -> None:
    """Have a processor fetch what the observation of ``lane`` will read, if its view has ``view`` rows."""
    ...


@cache
def step_kernel(family: Family, view: int) -> Any:
    """The kernel ``(world, rules, result, actions)`` that steps every lane."""
    before, after, remap = family.before, family.after, family.remap

    def step(w: World, r: Rules, out: Result, actions: wp.array[wp.int64]) -> None:
        i = wp.tid()
        terminated = wp.bool(False)
        truncated = wp.bool(False)
        reward = wp.float32(0.0)
        if out.bad[0] == 0:
            action = remap(w, i, wp.int32(actions[i]))
            memo = before(w, i, action)
            steps = w.ints[i, STEPS] + 1
            w.ints[i, STEPS] = steps
            bits = base_step(w, i, action)
            bits = after(w, i, action, memo, bits)
            w.ints[i, EVENTS] = bits & 0xFFFF
            terminated = (bits & TERMINATED) != 0
            truncated = steps >= r.cap
            if (bits & PENALTY) != 0:
                reward = wp.float32(-1.0)
            elif (bits & REWARD) != 0:
                reward = r.rewards[steps]
        out.reward[i] = reward
        out.terminated[i] = terminated
        out.truncated[i] = truncated
        out.done[i] = terminated or truncated
        ask_for_view(w.cells, w.ints, w.width, wp.static(view), i)

    return wp.kernel(step, name=f"grid_{family.name}_step_{view}", module="unique", module_options=_OPTIONS)


@cache
def last_keeper(view: int) -> Any:
    """Make the Warp function that stores a lane's last state and its observation."""
    observe = observer(view)

    @wp.func
    def keep_last(w: World, r: Rules, now: Shown, last: Last, shown: Shown, out: Result, i: wp.int32) -> None:
        last.success[i] = out.terminated[i] and out.reward[i] > wp.float32(0.0)
        copy_ints(last.ints, i, w.ints, i)
        copy_cells(last.cells, i, w.cells, i)
        copy_tokens(shown.mission, i, now.mission, i)
        observe(w.cells, w.ints, w.width, w.height, r.through, shown.image, i)
        write_facts(w.ints, shown, i)

    return keep_last


@cache
def renew_kernel(family: Family, view: int) -> Any:
    """The kernel ``(world, rules, now, mask, keep, last, last_shown, result)`` that begins masked lanes' next episodes.

    Where ``keep`` is not 0 it first stores the last state and its observation.
    """
    generate, keep_last = family.generate, last_keeper(view)

    def renew(
        w: World,
        r: Rules,
        now: Shown,
        mask: wp.array[wp.bool],
        keep: wp.int32,
        last: Last,
        shown: Shown,
        out: Result,
    ) -> None:
        i = wp.tid()
        if mask[i]:
            if keep != 0:
                keep_last(w, r, now, last, shown, out, i)
            next_episode(w, i)
            generate(w, i)
            copy_tokens(now.mission, i, r.missions, w.ints[i, MISSION])

    return wp.kernel(renew, name=f"grid_{family.name}_renew_{view}", module="unique", module_options=_OPTIONS)


@cache
def pick_kernel(view: int) -> Any:
    """The kernel that does what ``renew_kernel``'s does with a level of a fixed set instead of a new one."""
    keep_last = last_keeper(view)

    def pick(
        w: World,
        r: Rules,
        now: Shown,
        mask: wp.array[wp.bool],
        keep: wp.int32,
        last: Last,
        shown: Shown,
        out: Result,
        pack: Pack,
    ) -> None:
        i = wp.tid()
        if mask[i]:
            if keep != 0:
                keep_last(w, r, now, last, shown, out, i)
            next_episode(w, i)
            level = below(w, i, pack.cells.shape[0])
            episode = w.ints[i, EPISODE]
            copy_cells(w.cells, i, pack.cells, level)
            copy_ints(w.ints, i, pack.ints, level)
            w.ints[i, EPISODE] = episode
            w.ints[i, STEPS] = 0
            if pack.keys[level, 0] != wp.uint64(0):
                w.rng[i, EPISODE_KEY] = pack.keys[level, 0]
                w.rng[i, COUNTER] = pack.keys[level, 1]
            copy_tokens(now.mission, i, r.missions, w.ints[i, MISSION])

    return wp.kernel(pick, name=f"grid_pick_{view}", module="unique", module_options=_OPTIONS)


@dataclass(frozen=True)
class Kernels:
    """The three kernels of a family and a view size."""

    step: Any
    renew: Any
    observe: Any


def kernels(family: Family, view: int) -> Kernels:
    """Make the kernels of a family for a view of ``view`` x ``view`` cells; Warp compiles them when recorded."""
    return Kernels(step_kernel(family, view), renew_kernel(family, view), observe_kernel(view))
