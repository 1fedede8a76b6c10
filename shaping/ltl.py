"""Temporal formulas as reward machines: co-safe LTL, and LTL on finite traces, by progression.

Bacchus and Kabanza, "Planning for temporally extended goals" (1998), progression; De Giacomo and Vardi, "Linear
temporal logic and linear dynamic logic on finite traces" (2013), LTLf; Camacho et al., "LTL and beyond: formal
languages for reward function specification in reinforcement learning" (2019), formulas as reward machines.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from .automata import minimised
from .formulas import FormulaError
from .ltl_syntax import FALSE, TRUE, Tree, parse
from .machines import MAX_STATES, Label, RewardMachine

Clause = frozenset[Tree]
State = frozenset[Clause]
"""What remains to be made true: a disjunction of conjunctions, none of which contains another. As a monotone function
of its atoms it has one such form only, so there are finitely many, and equal remainders are found equal."""

YES: State = frozenset([frozenset()])
NO: State = frozenset()
MAX_CLAUSES = 4096


class FormulaTooLarge(FormulaError):
    """A formula needs more states than a machine may have."""


def ltl_machine(
    formula: str,
    labels: Mapping[str, Label],
    *,
    logic: str = "cosafe",
    reward: float = 1.0,
    on: str = "facts",
) -> RewardMachine:
    """Compile a formula into the smallest reward machine for it.

    The trace is what the labels say after each step: the first letter is that of the state after the first step.

    ``logic="cosafe"``: ``reward`` is paid, and the task is over, as soon as whatever may follow would satisfy the
    formula; where nothing that may follow could, the task is over without it (states "accept" and "reject").

    ``logic="ltlf"``: time ends with the episode. ``reward`` is paid when the trace so far satisfies the formula and did
    not before, and taken back when it no longer does: at whatever step the episode ends, the undiscounted sum is
    ``reward`` if its trace satisfies the formula and 0 if not. The task is over once nothing can change that.

    Args:
        formula: See ``shaping.ltl_syntax``.
        labels: As in ``RewardMachine``; only those that the formula names are read.
        logic: ``"cosafe"`` or ``"ltlf"``.
        reward: What satisfying it is worth.
        on: ``"facts"`` or ``"obs"``.

    Raises:
        FormulaError: It does not parse (``NotCoSafe``: or is not co-safe); the position is marked.
        FormulaTooLarge: Progression finds more than 1,000 states.
    """
    if logic not in ("cosafe", "ltlf"):
        raise ValueError(f"ltl_machine(logic={logic!r}): 'cosafe', or 'ltlf' for traces that end with the episode")
    tree = parse(formula, labels, co_safe=logic == "cosafe")
    words = set(re.findall(r"\w+", formula, re.ASCII))  # also those that dropped out, as in "a | true"
    names = [name for name in labels if name in words]
    if not names:
        raise FormulaError(f"the formula {formula!r} names no label: it says nothing about what happens")
    first, states, target = _explore(tree, names, formula)
    now = torch.tensor([_at_the_end(s) for s in states])
    # Verdicts that nothing can change, whatever comes: on every infinite way, or on none.
    settled_yes, settled_no = _settled(now, target, logic)
    pays = settled_yes if logic == "cosafe" else now
    before = pays & (torch.arange(len(states)) != first)  # nothing has been paid before the first step
    paid = reward * (pays[target].float() - before.float()[:, None])
    # The first state is left at the first step even where the verdict is clear from the beginning.
    final = (settled_yes | settled_no) & (torch.arange(len(states)) != first)
    chosen = {name: labels[name] for name in names}
    machine = RewardMachine.of_tables(
        [str(i) for i in range(len(states))], target, paid, chosen, final, on=on, starts=[first]
    )
    keep = torch.where(final, torch.where(settled_yes, 1, 2), 0)  # accept and reject stay apart
    machine, of = minimised(machine, keep)
    ends = {int(of[i]): "accept" if bool(settled_yes[i]) else "reject" for i in range(len(states)) if bool(final[i])}
    count = iter(range(len(machine)))
    machine.states = [ends[u] if u in ends else f"q{next(count)}" for u in range(len(machine))]
    lost = {u for u, name in ends.items() if name == "reject"}
    machine.pairs = [(u, v) for u, v in machine.pairs if v not in lost]
    return machine


def _names(tree: Tree) -> set[str]:
    if tree[0] == "lit":
        return {str(tree[1])}
    return set().union(*(_names(part) for part in tree[1:] if isinstance(part, tuple)), set())


def _explore(tree: Tree, names: list[str], formula: str) -> tuple[int, list[State], Tensor]:
    """All remainders, and where each letter leads: int64 ``[S, 2 ** P]``. The first is a state that is not returned to.

    A formula may come back to itself; its beginning is kept apart, since no verdict stands before the first step.
    """
    bit = {name: 1 << p for p, name in enumerate(names)}
    begin = _clauses(tree)
    states: list[State] = [begin]
    index: dict[State, int] = {}
    rows: list[Tensor] = []
    letters = torch.arange(1 << len(names))
    for state in states:  # grows while it is read
        support = sorted(set().union(*(_names(atom) for clause in state for atom in clause), set()))
        row = torch.empty(len(letters), dtype=torch.int64)
        mask = sum(bit[name] for name in support)
        for part in _subsets([bit[name] for name in support]):
            true = {name for name in support if part & bit[name]}
            after = _progress(state, true)
            if after not in index:
                index[after] = len(states)
                states.append(after)
                if len(states) > MAX_STATES + 1:
                    raise FormulaTooLarge(
                        f"the formula {formula!r} grows past {MAX_STATES} machine states; split it into tasks, or say "
                        "in which order things come"
                    )
            row[(letters & mask) == part] = index[after]
        rows.append(row)
    return 0, states, torch.stack(rows)


def _subsets(bits: list[int]) -> Iterator[int]:
    for i in range(1 << len(bits)):
        yield sum(b for p, b in enumerate(bits) if i >> p & 1)


# Remainders.


def _absorbed(clauses: set[Clause]) -> State:
    """Without clauses that contain another."""
    if len(clauses) > MAX_CLAUSES:
        raise FormulaTooLarge(f"the formula grows past {MAX_CLAUSES} ways to go on; split it into tasks")
    by_size = sorted(clauses, key=len)
    out: list[Clause] = []
    for clause in by_size:
        if not any(other <= clause for other in out):
            out.append(clause)
    return frozenset(out)


def _or(a: State, b: State) -> State:
    return _absorbed({*a, *b})


def _and(a: State, b: State) -> State:
    return _absorbed({x | y for x in a for y in b})


def _clauses(tree: Tree) -> State:
    """A formula as a remainder: literals and temporal subformulas are its atoms."""
    if tree == TRUE:
        return YES
    if tree == FALSE:
        return NO
    if tree[0] in ("and", "or"):
        a, b = _clauses(tree[1]), _clauses(tree[2])  # type: ignore[arg-type]
        return _and(a, b) if tree[0] == "and" else _or(a, b)
    return frozenset([frozenset([tree])])


_SOME, _NONE = ("U", TRUE, TRUE), ("R", FALSE, FALSE)  # there is a step yet; there is none


def _progress(state: State, true: set[str]) -> State:
    """What remains after one more letter."""
    out: State = NO
    for clause in state:
        rest = YES
        for atom in clause:
            rest = _and(rest, _progress_tree(atom, true))
            if rest == NO:
                break
        out = _or(out, rest)
    return out


def _progress_tree(tree: Tree, true: set[str]) -> State:
    op = tree[0]
    if tree == TRUE or tree == FALSE:
        return YES if tree == TRUE else NO
    if op == "lit":
        return YES if (tree[1] in true) == tree[2] else NO
    a: Tree = tree[1]  # type: ignore[assignment]
    if op == "X":
        return _and(_clauses(a), _clauses(_SOME))
    if op == "N":
        return _or(_clauses(a), _clauses(_NONE))
    b: Tree = tree[2]  # type: ignore[assignment]
    left, right = _progress_tree(a, true), _progress_tree(b, true)
    if op == "and":
        return _and(left, right)
    if op == "or":
        return _or(left, right)
    again = frozenset([frozenset([tree])])
    return _or(right, _and(left, again)) if op == "U" else _and(right, _or(left, again))


def _at_the_end(state: State) -> bool:
    """Whether a remainder is met if nothing more comes: "release" is, "until" and "next" are not.

    Where a literal or a boolean combination stands at the end, the atoms beside it (there is a step yet, there is none)
    decide, so that its own value plays no part.
    """
    return any(all(atom[0] in ("R", "N") for atom in clause) for clause in state)


def _settled(now: Tensor, target: Tensor, logic: str) -> tuple[Tensor, Tensor]:
    """States whose verdict is yes, or no, whatever comes: bool ``[S]`` each."""
    if logic == "ltlf":
        return _invariant(now, target), _invariant(~now, target)
    yes = now.clone()
    while True:  # every way leads to yes in the end
        more = yes | yes[target].all(1)
        if torch.equal(more, yes):
            break
        yes = more
    return yes, _invariant(~yes, target)


def _invariant(holds: Tensor, target: Tensor) -> Tensor:
    """States from which ``holds`` is true now and for ever, wherever one goes."""
    while True:
        fewer = holds & holds[target].all(1)
        if torch.equal(fewer, holds):
            return holds
        holds = fewer
