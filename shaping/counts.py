"""Counts: a bonus for what is new or rare, within the episode or in all that has been seen.

The inverse square root is that of Strehl and Littman ("An analysis of model-based interval estimation", 2008); the
first-visit indicator is NovelD's (Zhang et al. 2021, equation 2). No step here loops over environments.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import tree_leaves, tree_map
from . import fast
from .hashing import hash_rows, mix
from .learned import valid_rows
from .stretch import Stretch
from .table import CountTable
from .term import Pure, Source, Stream, Term, World

_LANE, _EPISODE = 0x632BE59BD9B4E019, 0x1F123BB5159A55E5  # odd, arbitrary


def _all_text(names: Sequence[object]) -> bool:
    return all(isinstance(name, str) for name in names)


class _Keyed(Term):
    """A term that tells states apart by a key: None, names of facts, or a function of observations."""

    key: tuple[str, ...] | Callable[[Any], Tensor] | None

    def _take_key(self, key: str | Sequence[str] | Callable[[Any], Tensor] | None) -> None:
        if key is None or (callable(key) and not isinstance(key, str)):
            self.key = key
            return
        names = (key,) if isinstance(key, str) else key
        if not (isinstance(names, Sequence) and names and _all_text(names)):
            who = type(self).__name__
            raise TypeError(f"{who}(key={key!r}): None, names of facts, or a function of observations")
        self.key = tuple(names)

    def hashes(self, x: Stretch, *, of_next: bool) -> Tensor:
        """The 64-bit hash of each row's state ``[B]``, given flat experience."""
        if self.key is None:
            return hash_rows(tree_leaves(x.next_obs if of_next else x.obs))
        if callable(self.key):
            keys = torch.as_tensor(self.key(x.next_obs if of_next else x.obs))
            if keys.shape[:1] != x.rows:
                raise ValueError(
                    f"{type(self).__name__}'s key gave shape {tuple(keys.shape)} for a batch of {x.rows[0]}: it is a "
                    "function of a batch [B, ...] that returns [B] or [B, k]"
                )
            return hash_rows([keys])
        return hash_rows([x.fact(name, of_next=of_next) for name in self.key])

    @classmethod
    def examples(cls) -> list[Term]:
        """By observation, by facts, by a function."""

        def parity(obs: Any) -> Tensor:
            leaves = tree_leaves(tree_map(lambda v: v.reshape(len(v), -1)[:, 0], obs))
            total: Tensor = leaves[0].long() % 2
            return total

        make: Callable[..., Term] = cls
        return [make(), make(key="position"), make(("position", "carrying")), make(parity)]


class Count(_Keyed, Pure):
    """``1 / sqrt(n + 1)``, where n counts the visits of the next state in all lanes and episodes up to the last update.

    The visit that is paid makes the one. Counts are exact, and change only in ``update``: within a rollout a state is
    paid the same in all lanes, and a replay buffer pays what it is worth now. An episode's first state counts too.

    Args:
        key: What tells states apart, as in ``EpisodicCount``. In worlds of generated levels a whole observation says
            little about where it was seen; ``"hash"`` is that of the whole state, where the environment gives the fact.

    Keys are hashed to 64 bits, and kept for good: a distinct state takes 64 to 128 bytes.
    """

    saved = ("table",)

    def __init__(self, key: str | Sequence[str] | Callable[[Any], Tensor] | None = None) -> None:
        self._take_key(key)
        self.table = CountTable()

    def bind(self, world: World) -> None:
        """Begin with nothing counted."""
        self.table = CountTable(device=world.device)

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row."""
        counts = self.table.get(self.hashes(valid_rows(x), of_next=True))
        return torch.zeros(x.shape, device=x.device).masked_scatter(x.valid, (counts + 1).float().rsqrt())

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Count the states of the rows since the last time."""
        x = valid_rows(source.recent)
        first = x.start.nonzero()[:, 0]
        keys = self.hashes(x, of_next=True)
        if len(first):
            keys = torch.cat([keys, self.hashes(x[first], of_next=False)])
        nobody = torch.zeros_like(keys)
        self.table.add(keys, nobody, nobody)
        return {"states": torch.tensor(float(self.table.used))}


class EpisodicCount(_Keyed, Stream):
    """``1 / sqrt(n)``, where n counts the visits of the next state in its episode, the present one included.

    The episode's first state counts as visited once, so standing still earns ``1 / sqrt(2)`` and less. Lanes do
    not see each other.

    Args:
        key: What tells states apart. None: the whole observation. A name, or several: facts such as ``"position"``,
            ``("position", "carrying")``. A function: of a batch of observations ``[B, ...]``, returning ``[B]`` or
            ``[B, k]`` of integers or floats.
        mode: ``"sqrt"``, or ``"first"``: 1 at the first visit, 0 afterwards.

    Keys are hashed to 64 bits: two states of a million in one run are taken for one with a chance of about 3e-8.
    """

    memory: tuple[str, ...] = ("epoch", "table")

    def __init__(self, key: str | Sequence[str] | Callable[[Any], Tensor] | None = None, mode: str = "sqrt") -> None:
        if mode not in ("sqrt", "first"):
            raise ValueError(f"EpisodicCount(mode={mode!r}): it is 'sqrt' or 'first'")
        self._take_key(key)
        self.mode = mode
        self.epoch = torch.zeros(1, dtype=torch.int64)  # episodes begun in each lane
        self.table = CountTable()

    def bind(self, world: World) -> None:
        """Make room for the lanes."""
        self.epoch = torch.zeros(world.lanes, dtype=torch.int64, device=world.device)
        self.table = CountTable(device=world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each row of the next ``[T, N]``."""
        return self.bonus(self.visits(x), x)

    def bonus(self, visits: Tensor, x: Stretch) -> Tensor:
        """From visits ``[T, N]`` to the bonus."""
        if self.mode == "first":
            return (visits == 1).float()
        return visits.clamp(min=1).float().rsqrt()

    def visits(self, x: Stretch) -> Tensor:
        """How often each row's next state has been visited in its episode by then, int64 ``[T, N]``; 0 if not valid."""
        lanes = x.rows[1]
        start = x.start & x.valid
        if fast.fits(x.valid.numel(), x.device):
            return self._visits_compiled(x, start)
        epoch = self.epoch + start.cumsum(0)
        tag = epoch * _EPISODE + torch.arange(lanes, device=x.device) * _LANE
        flat, flat_tag = x.flat(), tag.flatten()
        # The first states come before all next states: within an episode they are the earliest.
        first = start.flatten().nonzero()[:, 0]
        rows = x.valid.flatten().nonzero()[:, 0]
        whole = len(rows) == x.valid.numel()
        after = self.hashes(flat if whole else flat[rows], of_next=True)
        keys = mix(after + (flat_tag if whole else flat_tag[rows]))
        if len(first):
            keys = torch.cat([mix(self.hashes(flat[first], of_next=False) + flat_tag[first]), keys])
            owners = torch.cat([first, rows])
        else:
            owners = rows
        # Lane and episode of each key, to forget the keys of episodes that are over.
        counts = self.table.add(keys, owners % lanes, epoch.flatten()[owners])
        self.epoch = epoch[-1]
        self.table.forget(self.epoch)
        out = torch.zeros(x.valid.numel(), dtype=torch.int64, device=x.device)
        out[rows] = counts[len(first) :]
        return out.reshape(x.rows)

    def _visits_compiled(self, x: Stretch, start: Tensor) -> Tensor:
        """The same in two loops, which do not look at the hashes of other rows."""
        flat, (steps, lanes) = x.flat(), x.rows
        first = start.flatten().nonzero()[:, 0]
        before = torch.empty(steps * lanes, dtype=torch.int64)
        if len(first):
            before[first] = self.hashes(flat[first], of_next=False)
        if bool(x.valid.all()):
            after = self.hashes(flat, of_next=True)
        else:
            rows, after = x.valid.flatten().nonzero()[:, 0], torch.empty_like(before)
            after[rows] = self.hashes(flat[rows], of_next=True)
        factors = torch.tensor([_LANE, _EPISODE])
        keys, epochs, self.epoch = fast.visit_keys(before, after, start, x.valid, self.epoch, factors)
        counts = self.table.add_each(keys.flatten(), lanes, epochs.flatten())
        self.table.forget(self.epoch)
        return counts[steps * lanes :].reshape(x.rows)

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back counts and episodes."""
        if state["epoch"].shape != self.epoch.shape:
            raise ValueError(
                f"the saved counts are of {state['epoch'].numel()} environments, and there are {self.epoch.numel()}"
            )
        super().load(state)

    @classmethod
    def examples(cls) -> list[Term]:
        """All kinds of key, and first visits."""
        return [*super().examples(), cls(mode="first"), cls(("position", "carrying"), "first")]
