"""Reward machines: rewards with a memory of finitely many states, over labelled facts.

Toro Icarte, Klassen, Valenzano and McIlraith, "Reward machines: exploiting reward function structure in
reinforcement learning", 2022, section 3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ..envs.spaces import Tree, tree_map
from ..envs.tabular.tasks import Task as TabularTask
from .formulas import formula_of, truth_table
from .stretch import FactError, Stretch
from .term import Stream, Term, World

Label = str | tuple[str, int] | Callable[[Any], Tensor]
Edge = tuple[str, str, str, float]
MAX_LABELS, MAX_STATES = 12, 1000
FAILED = "failed"


class RewardMachine:
    """States, and edges between them that are taken when a formula over labels holds, and pay a reward.

    Args:
        edges: ``(from, formula, to, reward)``; states are named here, and the first one named is the initial one.
        labels: Name of each proposition -> what says whether it holds in a state: the name of a boolean fact, a fact
            and a column of it (``("events", 3)``), or a function of the dict of facts (with ``on="obs"``, of a batch of
            observations), returning bool ``[B]``. ``shaping.labels`` has some for grids and for MuJoCo.
        final: States in which the task is over.
        on: ``"facts"`` or ``"obs"``.
        otherwise: Where no edge's formula holds: ``"stay"`` in the state for no reward, ``"fail"`` (the episode ends
            in a state "failed", for no reward, as the paper says; its code pays falls from the last stage), or
            ``"error"`` here and now.

    Attributes:
        states: Names, the initial state first.
        target: Int64 ``[U, letters]``, the state reached. Letter i has the labels whose bits are set in i.
        reward: Float32 ``[U, letters]``, what is paid.
        final: Bool ``[U]``.
        starts: Int64 ``[E]``: episode e of a lane begins in ``starts[e % E]``; several where machines take turns.
        pairs: ``(u, v)`` of the edges that lead to another state, each once: the options of ``agents.hrm``.

    Raises:
        ValueError: Two edges of a state can be taken at once, a transition is undefined (with ``otherwise="error"``,
            or a state that is not final and has no edges at all), or a name is unknown.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        labels: Mapping[str, Label],
        final: Sequence[str] = (),
        on: str = "facts",
        otherwise: str = "stay",
    ) -> None:
        if on not in ("facts", "obs") or otherwise not in ("stay", "fail", "error"):
            raise ValueError(
                f"RewardMachine(on={on!r}, otherwise={otherwise!r}): 'facts' or 'obs'; 'stay', 'fail' or 'error'"
            )
        _check_labels(labels)
        self.labels, self.on = dict(labels), on
        given = [(u, f, v, float(r)) for u, f, v, r in edges]
        self.states = list(dict.fromkeys([s for u, _, v, _ in given for s in (u, v)] + list(final)))
        if otherwise == "fail" and FAILED not in self.states:
            self.states.append(FAILED)
        if not 1 <= len(self.states) <= MAX_STATES:
            raise ValueError(f"a machine with {len(self.states)} states; between 1 and {MAX_STATES} can be had")
        letters = 1 << len(labels)
        index = {name: i for i, name in enumerate(self.states)}
        self.target = torch.arange(len(self.states))[:, None].repeat(1, letters)
        self.reward = torch.zeros(len(self.states), letters)
        ends = {*final, FAILED} if otherwise == "fail" else set(final)
        self.final = torch.tensor([name in ends for name in self.states])
        self.starts = torch.zeros(1, dtype=torch.int64)
        defined = self.final[:, None].repeat(1, letters)
        for u, formula, v, reward in given:
            row, holds = index[u], truth_table(formula, list(labels))
            clash = holds & defined[row] & ((self.target[row] != index[v]) | (self.reward[row] != reward))
            if bool(clash.any()):
                what = "it is final" if bool(self.final[row]) else "another edge holds there too"
                raise ValueError(f"the edge {(u, formula, v, reward)} clashes at {self._letter(clash)}: {what}")
            self.target[row, holds], self.reward[row, holds] = index[v], reward
            defined[row] |= holds
        self._check_defined(defined, otherwise, {u for u, _, _, _ in given})
        if otherwise == "fail":
            self.target[~defined] = index[FAILED]
        self.pairs = list(dict.fromkeys((index[u], index[v]) for u, _, v, _ in given if u != v))

    def _check_defined(self, defined: Tensor, otherwise: str, leave: set[str]) -> None:
        if otherwise == "error" and not bool(defined.all()):
            row = int((~defined).any(1).nonzero()[0, 0])
            raise ValueError(
                f"the machine has no transition from {self.states[row]!r} at {self._letter(~defined[row])}; add an "
                "edge, or take otherwise='stay'"
            )
        stuck = [s for s, end in zip(self.states, self.final.tolist()) if not end and s not in leave]
        if stuck:
            raise ValueError(
                f"the machine has no transition at all from {stuck[0]!r}, and it is not final: name it in final=, or "
                f"say that it goes on for ever with an edge ({stuck[0]!r}, 'true', {stuck[0]!r}, 0)"
            )

    @classmethod
    def of_tables(
        cls,
        states: Sequence[str],
        target: Tensor,
        reward: Tensor,
        labels: Mapping[str, Label],
        final: Tensor,
        *,
        on: str = "facts",
        starts: Sequence[int] = (0,),
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> Self:
        """A machine from its tables: ``target`` and ``reward`` ``[U, 2 ** P]``, ``final`` bool ``[U]``.

        Args:
            states: U names.
            target: Of each state at each letter.
            reward: Likewise.
            labels: As above.
            final: Rows of final states are ignored: they stay, for no reward.
            on: As above.
            starts: As above.
            pairs: As above; all changes of state, by default.

        Raises:
            ValueError: The tables do not fit together, or lead out of them.
        """
        _check_labels(labels)
        shape = (len(states), 1 << len(labels))
        if tuple(target.shape) != shape or tuple(reward.shape) != shape or tuple(final.shape) != shape[:1]:
            raise ValueError(
                f"tables of shapes {tuple(target.shape)}, {tuple(reward.shape)}, {tuple(final.shape)}: {len(states)} "
                f"states and {len(labels)} labels want {shape}, {shape} and {shape[:1]}"
            )
        bad = (target < 0) | (target >= len(states)) | ~torch.isfinite(reward)
        self = cls.__new__(cls)
        self.labels, self.on, self.states = dict(labels), on, list(states)
        self.final = final.bool().clone()
        if bool((bad & ~self.final[:, None]).any()):
            row = int((bad & ~self.final[:, None]).any(1).nonzero()[0, 0])
            raise ValueError(f"the machine has no transition from {states[row]!r} at {self._letter(bad[row])}")
        if not 1 <= len(states) <= MAX_STATES:
            raise ValueError(f"a machine with {len(states)} states; between 1 and {MAX_STATES} can be had")
        here = torch.arange(len(states))[:, None].expand(shape)
        self.target = torch.where(self.final[:, None], here, target.long())
        self.reward = torch.where(self.final[:, None], 0.0, reward.float())
        self.starts = torch.tensor(list(starts), dtype=torch.int64)
        moves = (self.target != here).any(1)
        self.pairs = (
            [(u, v) for u in range(len(states)) if moves[u] for v in sorted(set(self.target[u].tolist())) if u != v]
            if pairs is None
            else list(pairs)
        )
        return self

    @classmethod
    def of_task(cls, task: TabularTask, propositions: Sequence[str], fact: str = "events") -> Self:
        """A task of ``envs.tabular`` as a machine over the columns of a fact bool ``[B, P]``."""
        labels: dict[str, Label] = {name: (fact, i) for i, name in enumerate(propositions)}
        edges = [(str(e.source), _quoted(e.guard), str(e.target), e.reward) for e in task.edges]
        return cls(edges, labels, final=[str(task.end)], otherwise="fail")

    @classmethod
    def in_turn(cls, machines: Sequence["RewardMachine"], names: Sequence[str] | None = None) -> Self:
        """Several machines over the same labels as one: each episode begins in the next one's initial state.

        Raises:
            ValueError: They read different labels.
        """
        first = machines[0]
        if any(list(m.labels.items()) != list(first.labels.items()) or m.on != first.on for m in machines):
            raise ValueError("machines that take turns read the same labels, in the same order")
        names = [str(i) for i in range(len(machines))] if names is None else list(names)
        offsets = [sum(len(m) for m in machines[:i]) for i in range(len(machines))]
        return cls.of_tables(
            [f"{name}:{s}" for name, m in zip(names, machines) for s in m.states],
            torch.cat([m.target + o for m, o in zip(machines, offsets)]), torch.cat([m.reward for m in machines]),
            first.labels, torch.cat([m.final for m in machines]), on=first.on,
            starts=[int(m.starts[0]) + o for m, o in zip(machines, offsets)],
            pairs=[(u + o, v + o) for m, o in zip(machines, offsets) for u, v in m.pairs],
        )  # fmt: skip

    @property
    def edges(self) -> list[Edge]:
        """``(from, formula, to, reward)``: what the tables say, each formula as short as was found; loops included."""
        out: list[Edge] = []
        for u in range(len(self)):
            if bool(self.final[u]):
                continue
            kinds = dict.fromkeys(zip(self.target[u].tolist(), self.reward[u].tolist()))
            for v, r in kinds:
                holds = (self.target[u] == v) & (self.reward[u] == r)
                out.append((self.states[u], formula_of(holds, list(self.labels)), self.states[v], r))
        return out

    def values(self, gamma: float, tolerance: float = 1e-9) -> Tensor:
        """V(u) of the machine by itself, float64 ``[U]``: the best return if any letter could be had at will.

        Value iteration as in Toro Icarte et al. 2022, section 4.3: V(u) = max over letters of r + gamma V(u').

        Raises:
            ValueError: The discount is 1 or more, under which a machine that pays for ever has no values.
        """
        if not 0 <= gamma < 1:
            raise ValueError(f"values(gamma={gamma}): a discount is at least 0 and below 1 here")
        value = torch.zeros(len(self), dtype=torch.float64)
        reward = self.reward.double()
        while True:
            new = torch.where(self.final, 0.0, (reward + gamma * value[self.target]).amax(1))
            change = float((new - value).abs().max())
            value = new
            if change <= tolerance * max(1.0, float(value.abs().max())):
                return value

    def _letter(self, mask: Tensor) -> str:
        """The first letter of a mask ``[letters]``, in words."""
        letter = int(mask.nonzero()[0, 0])
        return "{" + ", ".join(n if letter >> p & 1 else f"!{n}" for p, n in enumerate(self.labels)) + "}"

    def __len__(self) -> int:
        return len(self.states)

    def first(self, episode: Tensor) -> Tensor:
        """The state in which episodes of these numbers ``[*]`` begin."""
        return self.starts.to(episode.device)[episode % len(self.starts)]

    def letters(self, seen: Any) -> Tensor:
        """The letter of each state, from its facts (or observation) ``[B, ...]``: int64 ``[B]``.

        Raises:
            ValueError: A label has the wrong shape.
        """
        columns: dict[str, list[tuple[int, int]]] = {}
        total: Tensor | None = None
        for p, (name, label) in enumerate(self.labels.items()):
            fact = label[0] if isinstance(label, tuple) else label
            if isinstance(fact, str) and fact not in seen:
                raise FactError(f"label {name!r} reads the fact {fact!r}; there are {', '.join(seen) or 'none'}")
            if isinstance(label, tuple):
                columns.setdefault(label[0], []).append((label[1], p))
                continue
            holds = torch.as_tensor(seen[label] if isinstance(label, str) else label(seen))
            if holds.dim() != 1:
                raise ValueError(
                    f"the label {name!r} gave shape {tuple(holds.shape)}: it is one truth value for each row, [B]; "
                    "index from the right, as in obs[..., 0] > 0.5"
                )
            bit = holds.bool().long() << p
            total = bit if total is None else total + bit
        for fact, places in columns.items():  # all columns of a fact at once
            table = torch.as_tensor(seen[fact])
            at, bits = torch.tensor(places, device=table.device).T
            if table.dim() != 2 or int(at.max()) >= table.shape[1]:
                raise ValueError(f"labels read columns of the fact {fact!r}, which has shape {tuple(table.shape)}")
            part = (table[:, at].bool().long() << bits).sum(1)
            total = part if total is None else total + part
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

    def save_picture(self, path: str, **kwargs: Any) -> None:
        """Draw the machine into a PNG, SVG or PDF file; see ``machine_picture.draw``."""
        from .machine_picture import draw

        draw(self, path, **kwargs)


def _check_labels(labels: Mapping[str, Label]) -> None:
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels make 2^{len(labels)} letters; a machine has at most {MAX_LABELS}")


def _quoted(guard: str) -> str:
    """A guard of ``envs.tabular.tasks`` in the grammar of formulas: an empty one is always true."""
    return guard or "true"


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
        self.now = self.machine.starts[0].repeat(world.lanes).to(world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward of each step ``[T, N]``. The loop is over time: a machine is sequential."""
        letters = torch.where(x.valid, self.machine.letters_after(x), 0)
        start = x.start & x.valid
        target, reward = self.machine.target.to(x.device), self.machine.reward.to(x.device)
        first = self.machine.first(torch.where(x.valid, x.episode, 0))
        state, paid = self.now, []
        for t in range(x.rows[0]):
            state = torch.where(start[t], first[t], state)
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
