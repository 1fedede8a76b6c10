"""Counting machines: reward machines with counters, for tasks that no finite memory can hold.

Bester, Rosman, James and Nangue Tasse, "Counting Reward Automata: Sample Efficient Reinforcement Learning Through the
Exploitation of Reward Function Structure" (2023): transitions read the labels and the counters, and change both.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .formulas import FormulaError, truth_table
from .machines import FAILED, MAX_STATES, Label, RewardMachine
from .stretch import Stretch
from .term import Stream, Term, World

CountingEdge = tuple[str, str, str, str, Mapping[str, int], float]
_COMPARISON = re.compile(r"\s*([A-Za-z_]\w*)\s*(==|>=|<=|>|<)\s*(\d{1,6})\s*", re.ASCII)
_MOST = 1 << 40


class CountingMachine:
    """States, counters from 0 upwards, and edges that are taken where a formula and a guard hold.

    Args:
        edges: ``(from, formula, guard, to, changes, reward)``. The guard compares counters with numbers, joined by
            ``&``: ``"n > 0 & m == 0"``; empty is always true. Changes are added to the counters: ``{"n": -1}``.
        labels: As in ``RewardMachine``, of which a counting machine without counters is one.
        counters: Names; all begin at 0.
        final: States in which the task is over.
        on: ``"facts"`` or ``"obs"``.
        otherwise: Where no edge can be taken: ``"stay"``, or ``"fail"``: the task ends in the state "failed".

    Raises:
        ValueError: Two edges can be taken at once, an edge could take a counter below 0, or a name is unknown.
        FormulaError: A guard does not parse; the position is marked.
    """

    def __init__(
        self,
        edges: Sequence[CountingEdge],
        labels: Mapping[str, Label],
        counters: Sequence[str],
        final: Sequence[str] = (),
        on: str = "facts",
        otherwise: str = "stay",
    ) -> None:
        if otherwise not in ("stay", "fail"):
            raise ValueError(f"CountingMachine(otherwise={otherwise!r}): 'stay' or 'fail'")
        plain = [(u, "true", v, 0.0) for u, _, _, v, _, _ in edges]
        names = list(dict.fromkeys([s for u, _, v, _ in plain for s in (u, v)] + list(final)))
        self.counters, self.on, self.labels = tuple(counters), on, dict(labels)
        if otherwise == "fail" and FAILED not in names:
            names.append(FAILED)
        self.states, self.otherwise = names, otherwise
        ends = {*final, FAILED} if otherwise == "fail" else set(final)
        self.final = torch.tensor([name in ends for name in names])
        # What reads letters is a plain machine of one state over the same labels.
        self._reader = RewardMachine([("u", "true", "u", 0.0)], labels, on=on)
        rows = [self._edge(edge, names) for edge in edges]
        self._check_pairs(rows, edges)
        self.source = torch.tensor([r[0] for r in rows])
        self.target = torch.tensor([r[1] for r in rows])
        self.holds = torch.stack([r[2] for r in rows])
        """Bool ``[E, letters]``."""
        self.low = torch.tensor([r[3] for r in rows], dtype=torch.int64).reshape(len(rows), -1)
        self.high = torch.tensor([r[4] for r in rows], dtype=torch.int64).reshape(len(rows), -1)
        self.change = torch.tensor([r[5] for r in rows], dtype=torch.int64).reshape(len(rows), -1)
        self.reward = torch.tensor([r[6] for r in rows])

    def _edge(
        self, edge: CountingEdge, names: list[str]
    ) -> tuple[int, int, Tensor, list[int], list[int], list[int], float]:
        u, formula, guard, v, changes, reward = edge
        unknown = set(changes) - set(self.counters)
        if unknown:
            raise ValueError(f"the edge {edge} changes {sorted(unknown)[0]!r}; the counters are {self.counters}")
        low, high = _bounds(guard, self.counters)
        change = [int(changes.get(name, 0)) for name in self.counters]
        for name, least, by in zip(self.counters, low, change):
            if least + by < 0:
                raise ValueError(f"the edge {edge} could take {name} below 0: guard it with '{name} >= {-by}'")
        if bool(self.final[names.index(u)]):
            raise ValueError(f"the edge {edge} leaves {u!r}, which is final")
        table = truth_table(formula, list(self.labels))
        return names.index(u), names.index(v), table, low, high, change, float(reward)

    def _check_pairs(self, rows: list[tuple[int, int, Tensor, list[int], list[int], list[int], float]],
                     edges: Sequence[CountingEdge]) -> None:  # fmt: skip
        for i, a in enumerate(rows):
            for j, b in enumerate(rows[:i]):
                both = all(max(x, y) <= min(p, q) for x, y, p, q in zip(a[3], b[3], a[4], b[4]))
                if a[0] == b[0] and both and bool((a[2] & b[2]).any()):
                    raise ValueError(f"the edges {edges[j]} and {edges[i]} can be taken at once")

    def __len__(self) -> int:
        return len(self.states)

    def step(self, state: Tensor, counts: Tensor, letter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of states ``[B]`` and counters ``[B, K]`` at letters ``[B]``: the same after it, and the reward."""
        device = state.device
        taken = (state[:, None] == self.source.to(device)) & self.holds.to(device)[:, letter].T
        inside = (counts[:, None] >= self.low.to(device)) & (counts[:, None] <= self.high.to(device))
        taken = taken & inside.all(-1)  # [B, E], at most one
        some, which = taken.any(1), taken.to(torch.uint8).argmax(1)
        over = self.final.to(device)[state]
        stay = state if self.otherwise == "stay" else torch.full_like(state, self.states.index(FAILED))
        after = torch.where(some, self.target.to(device)[which], torch.where(over, state, stay))
        counts = torch.where(some[:, None], counts + self.change.to(device)[which], counts)
        return after, counts, torch.where(some, self.reward.to(device)[which], 0.0)

    def letters_after(self, x: Stretch) -> Tensor:
        """As in ``RewardMachine``."""
        return self._reader.letters_after(x)

    def unrolled(self, limit: int) -> RewardMachine:
        """The reward machine whose states are this one's with the counters up to ``limit``, those that can be reached.

        All that works with reward machines then works with counters: ``MachineEnv``, counterfactual experience (every
        lived step in every state and count), potentials, options. Counting beyond the limit ends the task, without
        reward, in the state "overflow": set the limit above what an episode can need.

        Raises:
            ValueError: There are more than 1,000 such states.
        """
        if limit < 0:
            raise ValueError(f"unrolled(limit={limit}): it is at least 0")
        letters = torch.arange(self.holds.shape[1])
        first = (0, (0,) * len(self.counters))
        index = {first: 0}
        todo, rows, paid = [first], list[Tensor](), list[Tensor]()
        for u, counts in todo:  # grows while it is read
            many = len(letters)
            after, more, reward = self.step(
                torch.full((many,), u), torch.tensor(counts, dtype=torch.int64).reshape(1, -1).repeat(many, 1), letters
            )
            row = []
            for v, c in zip(after.tolist(), more.tolist()):
                there = (v, tuple(c)) if max(c, default=0) <= limit else (-1, ())
                if there not in index:
                    index[there] = len(todo)
                    todo.append(there)
                    if len(todo) > MAX_STATES:
                        raise ValueError(
                            f"with counters up to {limit} there are more than {MAX_STATES} states; lower the limit"
                        )
                row.append(index[there])
            rows.append(torch.tensor(row))
            paid.append(reward)
            if u < 0:
                rows[-1], paid[-1] = torch.full((many,), len(rows) - 1), torch.zeros(many)
        names = ["overflow" if u < 0 else ",".join([self.states[u], *map(str, c)]) for u, c in todo]
        final = torch.tensor([u < 0 or bool(self.final[u]) for u, _ in todo])
        over = {index.get((-1, ())), *(i for i, (u, _) in enumerate(todo) if u >= 0 and self.states[u] == FAILED)}
        machine = RewardMachine.of_tables(
            names, torch.stack(rows), torch.stack(paid), self.labels, final, on=self.on
        )  # fmt: skip
        machine.pairs = [(u, v) for u, v in machine.pairs if v not in over]
        return machine


def _bounds(guard: str, counters: Sequence[str]) -> tuple[list[int], list[int]]:
    """The least and the greatest value of each counter under a guard."""
    low, high, at = [0] * len(counters), [_MOST] * len(counters), 0
    while guard.strip():
        match = _COMPARISON.match(guard, at)
        if match is None or match[1] not in counters:
            what = f"no counter is called {match[1]!r}" if match else "a comparison such as n > 0 should stand here"
            place = match.start(1) if match else at + len(guard[at:]) - len(guard[at:].lstrip())
            raise FormulaError(f"{what}, at character {place + 1} of the guard:\n  {guard}\n  {' ' * place}^")
        k, op, number = counters.index(match[1]), match[2], int(match[3])
        least = number + (op == ">") if op in ("==", ">=", ">") else 0
        most = number - (op == "<") if op in ("==", "<=", "<") else _MOST
        low[k], high[k] = max(low[k], least), min(high[k], most)
        at = match.end()
        if at == len(guard):
            break
        if guard[at] != "&":
            raise FormulaError(
                f"& or the end should stand at character {at + 1} of the guard:\n  {guard}\n  {' ' * at}^"
            )
        at += 1
    if any(a > b for a, b in zip(low, high)):
        raise FormulaError(f"the guard {guard!r} never holds: counters are whole numbers from 0")
    return low, high


class CountingReward(Stream):
    """What a counting machine pays along an episode; state and counters, without a limit, are the term's memory."""

    memory = ("now", "counts")

    def __init__(self, machine: CountingMachine) -> None:
        if not isinstance(machine, CountingMachine):
            raise TypeError(f"CountingReward takes a CountingMachine, and not {type(machine).__name__}")
        self.machine = machine
        self.now, self.counts = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)

    def bind(self, world: World) -> None:
        """Every lane in the initial state, all counters at 0."""
        self.now = torch.zeros(world.lanes, dtype=torch.int64, device=world.device)
        self.counts = torch.zeros(world.lanes, len(self.machine.counters), dtype=torch.int64, device=world.device)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The reward of each step ``[T, N]``."""
        letters = torch.where(x.valid, self.machine.letters_after(x), 0)
        start, paid = x.start & x.valid, []
        for t in range(x.rows[0]):
            state = torch.where(start[t], 0, self.now)
            counts = torch.where(start[t][:, None], 0, self.counts)
            after, more, reward = self.machine.step(state, counts, letters[t])
            paid.append(torch.where(x.valid[t], reward, 0.0))
            self.now = torch.where(x.valid[t], after, self.now)
            self.counts = torch.where(x.valid[t][:, None], more, self.counts)
        return torch.stack(paid)

    @classmethod
    def examples(cls) -> list[Term]:
        """As often to one place as to another before."""
        labels: dict[str, Label] = {"low": "success", "high": "carrying"}
        edges: list[CountingEdge] = [
            ("up", "high & !low", "", "up", {"n": 1}, 0.0), ("up", "low", "n > 0", "down", {"n": -1}, 0.5),
            ("down", "low", "n > 0", "down", {"n": -1}, 0.5), ("down", "!low", "n == 0", "end", {}, 1.0),
        ]  # fmt: skip
        return [cls(CountingMachine(edges, labels, ["n"], final=["end"]))]
