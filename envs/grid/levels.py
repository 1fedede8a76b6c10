"""Fixed sets of levels, as papers on generalisation use them: of a count, of keys, of upstream's seeds, of a file.

What ``levels=`` of a batch takes:

- a whole number K: level k of seed s is that of ``gym.make("cairn/" + id).reset(seed=s, options={"lane": k})``;
- keys: a list of seeds, or of (seed, lane, episode), each naming the level of the single environment with that key;
- ``upstream(range(10_000))``: the levels that upstream's own class makes of its own seeds;
- a :class:`Levels`, or the path of a file that one was saved to.

Episode e of lane i plays level ``Stream.of(seed, i, e).below(K)``. What moves at random within an episode goes on as it
does in the single environment for the first two; for upstream's levels, whose generator is NumPy's, it takes the
lane's own stream from its second draw on.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import layout as L
from . import live, single
from .arrays import Arrays
from .checks import check_lanes
from .family import Family, Plan
from .stream import check_seed

FORMAT = "cairn-levels-1"
_TYPES = {"cells": torch.int16, "ints": torch.int32, "keys": torch.int64}


@dataclass(frozen=True)
class Seeds:
    """Upstream's seeds, of which a batch makes levels when it is made."""

    seeds: tuple[int, ...]


def upstream(seeds: Iterable[int]) -> Seeds:
    """For ``levels=``: what upstream's own class, with its own generator, makes of these seeds.

    Raises:
        ValueError: If there are none.
    """
    given = tuple(check_seed(seed) for seed in seeds)
    if not given:
        raise ValueError("levels=upstream(seeds) needs at least one seed")
    return Seeds(given)


@dataclass(frozen=True)
class Levels:
    """K levels of one world as plain arrays.

    Attributes:
        world: What they are levels of: id, size and rules, as the batch that they fit has it.
        cells: int16 ``[K, H * W]``, packed (see ``layout``).
        ints: int32 ``[K, AUX + a]``: agent, mission and the family's own numbers.
        keys: int64 ``[K, 2]``: the stream's key and counter with which the level's episode goes on; key 0 for the
            lane's own stream.
    """

    world: str
    cells: Tensor
    ints: Tensor
    keys: Tensor

    def __len__(self) -> int:
        return len(self.cells)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, aside and then renamed, so that there is never half of one."""
        from safetensors.torch import save_file

        aside = f"{os.fspath(path)}.part"
        arrays = {name: getattr(self, name).contiguous() for name in _TYPES}
        save_file(arrays, aside, metadata={"format": FORMAT, "world": self.world})
        os.replace(aside, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Levels":
        """Read what ``save`` wrote.

        Raises:
            ValueError: If the file is cut short, damaged, or no file of levels. (Whether its numbers make sense is
                checked by the batch that they are given to.)
            OSError: If it cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), "pt") as file:
                metadata, names = file.metadata() or {}, set(file.keys())
                if metadata.get("format") != FORMAT or names != set(_TYPES):
                    raise ValueError(f"{path} is no file of levels ({FORMAT}): it has {sorted(names)} and {metadata}")
                arrays = {name: file.get_tensor(name) for name in _TYPES}
        except SafetensorError as error:
            raise ValueError(f"{path} is cut short or damaged: {error}; save the levels again") from error
        for name, dtype in _TYPES.items():
            if arrays[name].dtype != dtype or arrays[name].dim() != 2:
                raise ValueError(f"{path} is damaged: {name} is {arrays[name].dtype} {list(arrays[name].shape)}")
        if not len(arrays["cells"]) == len(arrays["ints"]) == len(arrays["keys"]) > 0:
            raise ValueError(f"{path} is damaged: its arrays have {[len(a) for a in arrays.values()]} levels")
        return cls(metadata.get("world", ""), **arrays)

    def digest(self) -> str:
        """A short hash of all levels."""
        total = hashlib.blake2b(self.world.encode(), digest_size=8)
        for name in _TYPES:
            total.update(getattr(self, name).cpu().numpy().tobytes())
        return total.hexdigest()


def check_keys(levels: Any) -> list[tuple[int, int, int]] | int | Seeds | Levels:
    """What ``levels=`` was given, in one of four forms.

    Raises:
        ValueError: If it is none of them.
    """
    if isinstance(levels, (Levels, Seeds)):
        return levels
    if isinstance(levels, (str, os.PathLike)):
        return Levels.load(levels)
    if isinstance(levels, int) and not isinstance(levels, bool):
        if levels < 1:
            raise ValueError(f"levels={levels}: a set has at least one level")
        return levels
    try:
        keys = [key if isinstance(key, tuple) else (key, 0, 0) for key in levels]
        checked = [(check_seed(s), check_seed(lane), check_seed(episode)) for s, lane, episode in keys]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"levels is a count, seeds, (seed, lane, episode) keys, upstream(seeds), Levels or a file: {error}"
        ) from error
    if not checked or any(lane >= 2**63 or episode >= 2**31 - 1 for _, lane, episode in checked):
        raise ValueError("levels needs at least one key, with lanes below 2**63 and episodes below 2**31 - 1")
    return checked


@dataclass(frozen=True)
class Ground:
    """What a set of levels knows of the batch that it is for.

    Attributes:
        world: What its levels are levels of.
        upstream: Upstream's id.
        kwargs: The arguments of upstream's class.
        family: Of the id.
        plan: Of the id with these arguments.
        arrays: The batch's memory.
        max_steps: Of an episode.
        batch: Makes one of so many lanes of the same world, with levels without end.
    """

    world: str
    upstream: str
    kwargs: dict[str, Any]
    family: Family
    plan: Plan
    arrays: Arrays
    max_steps: int
    batch: Callable[[int], Any]


class LevelSet:
    """The fixed set of levels of one batch, or none.

    Attributes:
        levels: The set on the batch's device, or None; a count's is that of the seed in force.
        name: What tells one set from another, for the batch's saved states.

    Args:
        ground: The batch.
        given: What ``levels=`` was.

    Raises:
        ValueError: If the levels do not fit the batch, or are damaged.
    """

    def __init__(self, ground: Ground, given: Any) -> None:
        self._ground = ground
        self._count = 0
        self._seed: int | None = None
        self.levels: Levels | None = None
        self.name = ""
        if given is None:
            return
        checked = check_keys(given)
        made: Levels
        if isinstance(checked, int):
            self._count = checked
            made = self._blank(checked)  # a count's levels are those of the seed, so a reset makes them
        elif isinstance(checked, Levels):
            made = checked
            if made.world != ground.world:
                raise ValueError(f"the levels are of {made.world!r}, and this batch is {ground.world!r}")
        else:
            made = self._of_upstream(checked) if isinstance(checked, Seeds) else self._of_keys(checked)
        self._check(made)
        self.name = f", levels {self._count or made.digest()}"
        # Clones: what the caller does with the arrays afterwards must not reach the kernels unchecked.
        where = ground.arrays.mask.device
        self.levels = Levels(made.world, *(t.to(where).clone() for t in (made.cells, made.ints, made.keys)))

    def reseed(self, seed: int) -> None:
        """Fill a count's set with the levels of a seed."""
        if self._count and seed != self._seed:
            assert self.levels is not None
            made = self._of_keys([(seed, k, 0) for k in range(self._count)])
            for name in _TYPES:
                getattr(self.levels, name).copy_(getattr(made, name))
            self._seed = seed

    def _blank(self, count: int) -> Levels:
        state = self._ground.arrays.state
        cells, ints = (torch.zeros(count, state[n].shape[1], dtype=state[n].dtype) for n in ("cells", "ints"))
        return Levels(self._ground.world, cells, ints, torch.zeros(count, 2, dtype=torch.int64))

    def _of_upstream(self, seeds: Seeds) -> Levels:
        """The levels that upstream's own class makes of its seeds."""
        ground = self._ground
        base, arguments = single.upstream_class(ground.upstream)
        env: Any = base(**{**arguments, **ground.kwargs})
        made = self._blank(len(seeds.seeds))
        for k, seed in enumerate(seeds.seeds):
            env.reset(seed=seed)
            cells, ints = live.read(env, ground.family, ground.plan)
            made.cells[k], made.ints[k] = torch.from_numpy(cells), torch.from_numpy(ints)
        return made

    def _of_keys(self, keys: Sequence[tuple[int, int, int]]) -> Levels:
        """The levels of (seed, lane, episode) keys, made by a batch of the same world without a fixed set."""
        maker = self._ground.batch(len(keys))
        maker.begin(keys)
        state = maker.get_state()["lanes"]
        return Levels(
            self._ground.world, state["cells"], state["ints"], state["rng"][:, [L.EPISODE_KEY, L.COUNTER]].contiguous()
        )

    def _check(self, made: Levels) -> None:
        ground = self._ground
        for name in ("cells", "ints"):
            have, want = getattr(made, name), ground.arrays.state[name]
            if have.dtype != want.dtype or have.dim() != 2 or have.shape[1] != want.shape[1] or not len(have):
                raise ValueError(f"the levels are damaged: {name} is {have.dtype} {list(have.shape)}")
        if made.keys.dtype != torch.int64 or tuple(made.keys.shape) != (len(made), 2) or len(made.ints) != len(made):
            raise ValueError(f"the levels are damaged: keys is {made.keys.dtype} {list(made.keys.shape)}")
        if not self._count:
            sizes = ground.arrays.width, ground.arrays.height, len(ground.plan.missions), ground.max_steps
            check_lanes(made.cells, made.ints, *sizes, "the levels are")
