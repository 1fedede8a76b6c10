"""``Demonstrations``: whole episodes in memory, as learners, rewards and files take them.

States lie as Minari has them: an episode of L steps has L + 1 observations, so that none is kept twice and the last
one is there. Row i of episode e acts on state i + e and leads to state i + e + 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from ...envs import spaces as kinds
from ...envs.spaces import Tree, tree_leaves, tree_map
from ...runs import CheckpointError, read_checkpoint, write_checkpoint
from ...shaping.stretch import Stretch

FORMAT = "cairn-demonstrations"
_PARTS = ("states", "action", "reward", "terminated", "truncated", "lengths")


class Demonstrations:
    """E episodes of M steps in all.

    Args:
        observation_space: A batch's single observation space (text as tokens).
        action_space: Its single action space.
        states: Observations, a tree ``[M + E, ...]``: of each episode its steps' and the last one.
        action: As the environment executed it, ``[M, ...]``.
        reward: The task's own, ``[M]``.
        terminated: Bool ``[M]``: the task ended here.
        truncated: Bool ``[M]``: the episode was cut here.
        lengths: Steps of each episode, int64 ``[E]``.
        about: Plain values that go with them: the environment's id, who acted, the seed.

    Raises:
        ValueError: There is no episode, sizes do not fit, a number is not finite, an action is not in its space, or an
            episode has its end elsewhere than in its last row.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        states: Tree,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        lengths: Tensor | Sequence[int],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.states, self.action = states, action
        self.reward = torch.as_tensor(reward).float()
        self.terminated, self.truncated = (torch.as_tensor(flag).bool() for flag in (terminated, truncated))
        self.lengths = torch.as_tensor(lengths, dtype=torch.int64)
        self.about: dict[str, Any] = dict(about or {})
        self._check()
        self.episode = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        """Int64 ``[M]``: which episode a step belongs to."""
        first = self.lengths.cumsum(0) - self.lengths
        self.t = torch.arange(len(self.reward)) - first[self.episode]
        """Int64 ``[M]``: its step within the episode."""

    def _check(self) -> None:
        steps, episodes = len(self.reward), len(self.lengths)
        if not episodes or not steps:
            raise ValueError("there are no demonstrations: not one whole episode (was the collection cut short?)")
        if bool((self.lengths < 1).any()) or int(self.lengths.sum()) != steps:
            raise ValueError(
                f"the episodes have {self.lengths.tolist()[:8]} steps, and there are {steps} rewards: each episode has "
                "at least 1 step, and together they have all rows (is the dataset cut?)"
            )
        for name, rows, wanted in (
            ("states", len(tree_leaves(self.states)[0]), steps + episodes),
            ("action", len(self.action), steps),
            ("terminated", len(self.terminated), steps),
            ("truncated", len(self.truncated), steps),
        ):
            if rows != wanted:
                extra = " (one more than steps for each episode)" if name == "states" else ""
                raise ValueError(
                    f"{name} has {rows} rows, and {steps} steps in {episodes} episodes need {wanted}{extra}"
                )
        _fit(self.observation_space, self.states, "observations")
        _fit(self.action_space, self.action, "actions")
        for name, leaf in (*((f"observation {i}", v) for i, v in enumerate(tree_leaves(self.states))),
                           ("action", self.action), ("reward", self.reward)):  # fmt: skip
            if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
                row = int((~torch.isfinite(leaf.reshape(len(leaf), -1)).all(1)).nonzero()[0])
                raise ValueError(f"{name} of row {row} is NaN or infinite: leave that episode out, or mend it")
        done, last = self.terminated | self.truncated, torch.zeros(steps, dtype=torch.bool)
        last[self.lengths.cumsum(0) - 1] = True
        if bool((done & ~last).any()):
            row = int((done & ~last).nonzero()[0])
            raise ValueError(f"row {row} ends an episode and is not the last of its own: lengths and ends do not fit")
        if bool((last & ~done).any()):
            row = int((last & ~done).nonzero()[0])
            raise ValueError(
                f"the episode that ends with row {row} neither terminated nor was truncated: it is cut. Mark its last "
                "row truncated if the task could have gone on, or leave the episode out"
            )

    # ---- sizes ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """M, the number of steps."""
        return len(self.reward)

    @property
    def episodes(self) -> int:
        """E."""
        return len(self.lengths)

    @property
    def returns(self) -> Tensor:
        """Undiscounted return of each episode, float64 ``[E]``."""
        return torch.zeros(self.episodes, dtype=torch.float64).index_add_(0, self.episode, self.reward.double())

    def __repr__(self) -> str:
        total = self.returns
        return f"Demonstrations({self.episodes} episodes, {len(self)} steps, mean return {float(total.mean()):.4g})"

    # ---- rows ----------------------------------------------------------------------------------------------

    def rows(self, index: Tensor) -> Stretch:
        """Some steps as rewards see them, in any order: int64 ``[*]`` to a stretch ``[*]``."""
        at, which = index + self.episode[index], self.episode[index]
        return Stretch(
            obs=tree_map(lambda v: v[at], self.states),
            action=self.action[index],
            reward=self.reward[index],
            next_obs=tree_map(lambda v: v[at + 1], self.states),
            terminated=self.terminated[index],
            truncated=self.truncated[index],
            start=self.t[index] == 0,
            valid=torch.ones_like(index, dtype=torch.bool),
            lane=torch.zeros_like(index),
            episode=which,
            t=self.t[index],
        )

    def stretch(self) -> Stretch:
        """All steps, ``[M]``."""
        return self.rows(torch.arange(len(self)))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Stretch:
        """Draw ``n`` steps with replacement, ``[n]``."""
        return self.rows(torch.randint(len(self), (n,), generator=generator))

    def first_states(self) -> Tree:
        """The first observation of each episode, ``[E, ...]``."""
        at = self.lengths.cumsum(0) - self.lengths + torch.arange(self.episodes)
        tree: Tree = tree_map(lambda v: v[at], self.states)
        return tree

    # ---- choosing episodes ---------------------------------------------------------------------------------

    def select(self, episodes: Any) -> "Demonstrations":
        """The episodes of an index (numbers, in their order, or a bool mask ``[E]``)."""
        chosen = torch.as_tensor(episodes)
        chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen.reshape(-1).long()
        first = self.lengths.cumsum(0) - self.lengths

        def spans(extra: int) -> Tensor:
            parts = [
                torch.arange(int(first[e]) + e * extra, int(first[e] + self.lengths[e]) + (e + 1) * extra)
                for e in chosen.tolist()
            ]
            return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

        rows, states = spans(0), spans(1)
        return Demonstrations(
            self.observation_space, self.action_space, tree_map(lambda v: v[states], self.states), self.action[rows],
            self.reward[rows], self.terminated[rows], self.truncated[rows], self.lengths[chosen], self.about,
        )  # fmt: skip

    def take(self, episodes: int, seed: int = 0) -> "Demonstrations":
        """So many episodes, drawn without replacement.

        Raises:
            ValueError: There are not so many.
        """
        if not 1 <= episodes <= self.episodes:
            raise ValueError(f"{episodes} episodes asked of {self.episodes}")
        return self.select(torch.randperm(self.episodes, generator=torch.Generator().manual_seed(seed))[:episodes])

    def split(self, parts: int = 3) -> "list[Demonstrations]":
        """Split by quality: ``parts`` sets of equally many episodes, by return, the worst first.

        Equal returns go by length, the longer being the worse.

        Raises:
            ValueError: There are fewer episodes than parts.
        """
        if not 1 <= parts <= self.episodes:
            raise ValueError(f"{self.episodes} episodes cannot be split into {parts} parts")
        keys = zip(self.returns.tolist(), (-self.lengths).tolist(), range(self.episodes))
        order = torch.tensor([number for *_, number in sorted(keys)])
        return [self.select(part.sort()[0]) for part in torch.tensor_split(order, parts)]

    @classmethod
    def cat(cls, parts: "Sequence[Demonstrations]") -> Self:
        """Join demonstrations of the same spaces; what they are about is the first one's.

        Raises:
            ValueError: The spaces differ.
        """
        first = parts[0]
        for other in parts[1:]:
            other.check_spaces(first.observation_space, first.action_space)

        def join(name: str) -> Any:
            return tree_map(lambda *vs: torch.cat(vs), *(getattr(p, name) for p in parts))

        return cls(first.observation_space, first.action_space, **{n: join(n) for n in _PARTS}, about=first.about)

    # ---- fitting -------------------------------------------------------------------------------------------

    def check_spaces(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        """Raise ValueError unless the demonstrations are of these spaces."""
        for what, ours, theirs in (
            ("observations", self.observation_space, observation_space),
            ("actions", self.action_space, action_space),
        ):
            if ours != theirs:
                raise ValueError(
                    f"the demonstrations have {what} of {ours}, and they are wanted of {theirs}: they are of another "
                    f"environment ({self.about.get('env', 'unnamed')}), or of another view of it"
                )

    def to(self, device: torch.device | str) -> Stretch:
        """All steps on a device, ``[M]``."""
        return self.stretch().map(lambda v: v.to(device))

    # ---- files ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write them as a folder of JSON and safetensors; nothing is pickled.

        Raises:
            FileExistsError: The folder exists, and ``replace`` is off.
        """
        meta = {
            "format": FORMAT,
            "observation_space": kinds.to_json(self.observation_space),
            "action_space": kinds.to_json(self.action_space),
            "about": self.about,
        }
        write_checkpoint(path, meta, {name: getattr(self, name) for name in _PARTS}, replace=replace)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, whoever wrote it: no code in it is run, and nothing is imported.

        Raises:
            CheckpointError: The folder is no demonstrations, or is damaged.
        """
        meta, state = read_checkpoint(path)
        if meta.get("format") != FORMAT:
            raise CheckpointError(f"{path}: these are no demonstrations but a {str(meta.get('format'))[:80]!r}")
        try:
            seen, acts = kinds.from_json(meta["observation_space"]), kinds.from_json(meta["action_space"])
            return cls(seen, acts, **{name: state[name] for name in _PARTS}, about=meta["about"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise CheckpointError(f"{path}: the demonstrations in it are damaged: {error}") from error


def demonstrations(given: Any) -> Demonstrations:
    """What an agent may be given: demonstrations, or the folder that they are in.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(given, Demonstrations):
        return given
    if isinstance(given, str | Path):
        return Demonstrations.load(given)
    raise TypeError(
        f"demonstrations={given!r}: give a cairn.agents.data.Demonstrations, or the folder that one was saved in "
        "(`cairn collect` makes one)"
    )


def _fit(space: gym.Space[Any], tree: Any, what: str) -> None:
    """Raise ValueError where a tree of values is not of a space."""
    parts = kinds.children(space)
    if parts is not None:
        if not isinstance(tree, Mapping) or set(tree) != set(parts):
            raise ValueError(f"{what} have {sorted(tree) if isinstance(tree, Mapping) else 'no'} parts, and {space}")
        for name, child in parts.items():
            _fit(child, tree[name], f"{what}[{name!r}]")
        return
    if not isinstance(tree, Tensor) or tuple(tree.shape[1:]) != tuple(space.shape or ()):
        got = tuple(tree.shape[1:]) if isinstance(tree, Tensor) else type(tree).__name__
        raise ValueError(f"{what} have the shape {got}, and they are of another space than {space}")
    if tree.dtype != kinds.torch_dtype(space):
        raise ValueError(f"{what} are {tree.dtype}, and {space} has {kinds.torch_dtype(space)}")
    low, high = _bounds(space)
    if low is not None and len(tree):
        wide = tree.double() if tree.is_floating_point() else tree.long()
        # NaN passes here, and is told by its row below; float rounding may lead out of the bounds by a hair.
        spare = 1e-4 * max(1.0, float((high - low).abs().max())) if tree.is_floating_point() else 0
        bad = (wide < low - spare) | (wide > high + spare)
        if bool(bad.any()):
            row = int(bad.reshape(len(tree), -1).any(1).nonzero()[0])
            raise ValueError(f"{what}: row {row} is {tree[row].tolist()}, which is not in {space}")


def _bounds(space: gym.Space[Any]) -> tuple[Any, Any]:
    """Least and largest values, or None where they are not bounded throughout."""
    if isinstance(space, spaces.Discrete):
        return torch.tensor(int(space.start)), torch.tensor(int(space.start + space.n - 1))
    if isinstance(space, spaces.MultiDiscrete):
        low = torch.as_tensor(space.start)
        return low, low + torch.as_tensor(space.nvec) - 1
    if isinstance(space, spaces.MultiBinary):
        return torch.tensor(0), torch.tensor(1)
    if isinstance(space, kinds.Symbols):
        return torch.zeros(len(space.sizes), dtype=torch.int64), torch.tensor(space.sizes) - 1
    if isinstance(space, spaces.Box) and bool((abs(space.low) < 1e30).all() and (abs(space.high) < 1e30).all()):
        return torch.as_tensor(space.low), torch.as_tensor(space.high)
    return None, None
