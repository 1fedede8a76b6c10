"""Reward machines: rewards with a memory of finitely many states, over labelled facts.

Toro Icarte, Klassen, Valenzano and McIlraith, "Reward machines: exploiting reward function structure in
reinforcement learning", 2022, section 3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..envs.spaces import Tree, tree_map
from .formulas import truth_table
from .stretch import FactError, Stretch
from .term import Stream, Term, World

Label = str | Callable[[Any], Tensor]
Edge = tuple[str, str, str, float]
MAX_LABELS, MAX_STATES = 12, 1000


class RewardMachine:
    """States, and edges between them that are taken when a formula over labels holds, and pay a reward.

    Args:
        edges: ``(from, formula, to, reward)``; states are named here, and the first one named is the initial one.
        labels: Name of each proposition -> what says whether it holds in a state: the name of a boolean fact, or a
            function of the dict of facts (with ``on="obs"``, of a batch of observations), returning bool ``[B]``.
        final: States in which the task is over.
        on: ``"facts"`` or ``"obs"``.
        otherwise: Where no edge's formula holds: ``"stay"`` in the state for no reward, or ``"error"`` here and now.

    Attributes:
        states: Names, the initial state first.
        target: Int64 ``[U, letters]``, the state reached.
        reward: Float32 ``[U, letters]``, what is paid.
        final: Bool ``[U]``.

    Raises:
        ValueError: Two edges of a state can be taken at once, a transition is undefined, or a name is unknown.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        labels: Mapping[str, Label],
        final: Sequence[str] = (),
        on: str = "facts",
        otherwise: str = "stay",
    ) -> None:
        if on not in ("facts", "obs") or otherwise not in ("stay", "error"):
            raise ValueError(f"RewardMachine(on={on!r}, otherwise={otherwise!r}): 'facts' or 'obs'; 'stay' or 'error'")
        if len(labels) > MAX_LABELS:
            raise ValueError(f"{len(labels)} labels make 2^{len(labels)} letters; a machine has at most {MAX_LABELS}")
        self.labels, self.on, self.edges = dict(labels), on, [(u, f, v, float(r)) for u, f, v, r in edges]
        self.states = list(dict.fromkeys([s for u, _, v, _ in edges for s in (u, v)] + list(final)))
        if not 1 <= len(self.states) <= MAX_STATES:
            raise ValueError(f"a machine with {len(self.states)} states; between 1 and {MAX_STATES} can be had")
        letters = 1 << len(labels)
        index = {name: i for i, name in enumerate(self.states)}
        self.target = torch.arange(len(self.states))[:, None].repeat(1, letters)
        self.reward = torch.zeros(len(self.states), letters)
        self.final = torch.tensor([name in final for name in self.states])
        defined = self.final[:, None].repeat(1, letters)
        for u, formula, v, reward in self.edges:
            row, holds = index[u], truth_table(formula, list(labels))
            clash = holds & defined[row] & ((self.target[row] != index[v]) | (self.reward[row] != reward))
            if bool(clash.any()):
                what = "it is final" if bool(self.final[row]) else "another edge holds there too"
                raise ValueError(f"the edge {(u, formula, v, reward)} clashes at {self._letter(clash)}: {what}")
            self.target[row, holds], self.reward[row, holds] = index[v], reward
            defined[row] |= holds
        if otherwise == "error" and not bool(defined.all()):
            row = int((~defined).any(1).nonzero()[0, 0])
            raise ValueError(
                f"the machine has no transition from {self.states[row]!r} at {self._letter(~defined[row])}; add an "
                "edge, or take otherwise='stay'"
            )

    def _letter(self, mask: Tensor) -> str:
        """The first letter of a mask ``[letters]``, in words."""
        letter = int(mask.nonzero()[0, 0])
        return "{" + ", ".join(n if letter >> p & 1 else f"!{n}" for p, n in enumerate(self.labels)) + "}"

    def __len__(self) -> int:
        return len(self.states)

    def letters(self, seen: Any) -> Tensor:
        """The letter of each state, from its facts (or observation) ``[B, ...]``: int64 ``[B]``.

        Raises:
            ValueError: A label has the wrong shape.
        """
        total: Tensor | None = None
        for p, (name, label) in enumerate(self.labels.items()):
            if isinstance(label, str) and label not in seen:
                raise FactError(f"label {name!r} reads the fact {label!r}; there are {', '.join(seen) or 'none'}")
            holds = torch.as_tensor(seen[label] if isinstance(label, str) else label(seen))
            if holds.dim() != 1:
                raise ValueError(
                    f"the label {name!r} gave shape {tuple(holds.shape)}: it is one truth value for each row, [B]; "
                    "index from the right, as in obs[..., 0] > 0.5"
                )
            bit = holds.bool().long() << p
            total = bit if total is None else total + bit
        if total is None:
            raise ValueError("a machine without labels has nothing to read")
        return total

    def step(self, state: Tensor, letter: Tensor) -> tuple[Tensor, Tensor]:
        """The next states and rewards of states ``[...]`` at letters ``[...]``."""
        target, reward = self.target.to(state.device), self.reward.to(state.device)
        return target[state, letter], reward[state, letter]

    def letters_after(self, x: Stretch) -> Tensor:
        """The letter of each row's next state, of any leading shape ``[*]``."""
        lead = len(x.rows)
        seen: Tree | dict[str, Tensor] = x.next_facts if self.on == "facts" else x.next_obs
        flat = tree_map(lambda v: v.reshape(x.rows.numel(), *v.shape[lead:]), seen)
        return self.letters(flat).to(x.device).reshape(x.rows)


class MachineReward(Stream):
    """What a reward machine pays along an episode; its state is the term's own memory.

    The agent does not see the state: where the reward depends on it, put it into the observation with ``MachineEnv``.
    In a final state the machine stays and pays nothing more.
    """

    memory = ("now",)

    def __init__(self, machine: RewardMachine) -> None:
        if not isinstance(machine, RewardMachine):
            raise TypeError(f"MachineReward takes a RewardMachine, and not {type(machine).__name__}")
        self.machine = machine
        self.now = torch.zeros(1, dtype=torch.int64)

    def bind(self, world: World) -> None:
        """Every lane in the initial state."""
        self.now = torch.zeros(world.lanes, dtype=torch.int64, device=world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward of each step ``[T, N]``. The loop is over time: a machine is sequential."""
        letters = torch.where(x.valid, self.machine.letters_after(x), 0)
        start = x.start & x.valid
        target, reward = self.machine.target.to(x.device), self.machine.reward.to(x.device)
        state, paid = self.now, []
        for t in range(x.rows[0]):
            state = torch.where(start[t], 0, state)
            paid.append(torch.where(x.valid[t], reward[state, letters[t]], 0.0))
            state = torch.where(x.valid[t], target[state, letters[t]], state)
        self.now = state
        return torch.stack(paid)

    @classmethod
    def examples(cls) -> list[Term]:
        """First one place, then another."""
        labels: dict[str, Label] = {
            "low": lambda facts: facts["position"].sum(-1) <= 1,
            "high": lambda facts: facts["position"].sum(-1) >= 4,
        }
        edges = [("begin", "high", "half", 0.5), ("half", "low", "end", 1.0)]
        return [cls(RewardMachine(edges, labels, final=["end"]))]
