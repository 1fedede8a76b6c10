"""Temporal formulas: against the definition on every trace, and what is refused."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.shaping import MachineReward, RewardMachine, RolloutSeat, Stretch, World, ltl_machine
from cairn.shaping.automata import minimised
from cairn.shaping.formulas import FormulaError
from cairn.shaping.ltl import FormulaTooLarge
from cairn.shaping.ltl_syntax import NotCoSafe

AB: dict[str, Any] = {"a": "fact_a", "b": "fact_b"}
ABC: dict[str, Any] = {**AB, "c": "fact_c"}


def holds(tree: Any, trace: list[set[str]], i: int = 0) -> bool:
    """The definition of LTLf (De Giacomo and Vardi 2013, section 2), on trees of the test's own, at step i."""
    n, op, *args = len(trace), *tree
    if op == "true":
        return True
    if op == "name":
        return args[0] in trace[i]
    if op == "!":
        return not holds(args[0], trace, i)
    if op == "&":
        return holds(args[0], trace, i) and holds(args[1], trace, i)
    if op == "|":
        return holds(args[0], trace, i) or holds(args[1], trace, i)
    if op == "->":
        return not holds(args[0], trace, i) or holds(args[1], trace, i)
    if op == "<->":
        return holds(args[0], trace, i) == holds(args[1], trace, i)
    if op == "X":
        return i + 1 < n and holds(args[0], trace, i + 1)
    if op == "N":
        return i + 1 >= n or holds(args[0], trace, i + 1)
    if op == "F":
        return any(holds(args[0], trace, j) for j in range(i, n))
    if op == "G":
        return all(holds(args[0], trace, j) for j in range(i, n))
    if op == "U":
        return any(holds(args[1], trace, j) and all(holds(args[0], trace, k) for k in range(i, j)) for j in range(i, n))
    if op == "R":
        return all(holds(args[1], trace, j) or any(holds(args[0], trace, k) for k in range(i, j)) for j in range(i, n))
    assert op == "W"
    return holds(("U", *args), trace, i) or holds(("G", args[0]), trace, i)


def write(tree: Any) -> str:
    op, *args = tree
    if op in ("true", "name"):
        return str(args[0]) if args else "true"
    if len(args) == 1:
        return f"{op} ({write(args[0])})" if op != "!" else f"!({write(args[0])})"
    return f"({write(args[0])}) {op} ({write(args[1])})"


def trees(unary: str, binary: list[str], leaves: int = 6) -> Any:
    leaf = st.sampled_from([("name", "a"), ("name", "b"), ("true",), ("!", ("name", "a"))])
    return st.recursive(
        leaf,
        lambda t: st.one_of(
            st.tuples(st.sampled_from(list(unary)), t), st.tuples(st.sampled_from(binary), t, t)
        ),
        max_leaves=leaves,
    ).filter(lambda t: "name" in str(t))  # fmt: skip


LETTERS: list[set[str]] = [set(), {"a"}, {"b"}, {"a", "b"}]


def number(letter: set[str], machine: RewardMachine) -> int:
    return sum(1 << p for p, name in enumerate(machine.labels) if name in letter)


def paid(machine: RewardMachine, trace: list[set[str]]) -> tuple[list[float], bool]:
    """Rewards along a trace, up to where the machine ends, and whether it did."""
    u, out = int(machine.starts[0]), []
    for letter in trace:
        if bool(machine.final[u]):
            break
        i = number(letter, machine)
        out.append(float(machine.reward[u, i]))
        u = int(machine.target[u, i])
    return out, bool(machine.final[u])


@settings(max_examples=150, deadline=None)
@given(trees("!XNFG", ["&", "|", "->", "<->", "U", "R", "W"]))
def test_ltlf_machines_agree_with_the_definition_on_every_trace(tree: Any) -> None:
    machine = ltl_machine(write(tree), AB, logic="ltlf")
    for length in range(1, 5):
        for trace in product(LETTERS, repeat=length):
            rewards, over = paid(machine, list(trace))
            assert sum(rewards) == float(holds(tree, list(trace))), (write(tree), trace)
    # A state that is not final can still change: nothing is ended too late, nor too early (above).
    for u in range(len(machine)):
        if not bool(machine.final[u]) and u != int(machine.starts[0]):
            seen, todo = {u}, [u]
            while todo:
                at = todo.pop()
                for v in set(machine.target[at].tolist()) - seen:
                    seen.add(v)
                    todo.append(v)
            assert any(bool((machine.reward[v] != 0).any()) for v in seen)


@settings(max_examples=150, deadline=None)
@given(trees("XF", ["&", "|", "U"], leaves=5))
def test_cosafe_machines_pay_at_the_first_good_prefix(tree: Any) -> None:
    """Good: every continuation satisfies the formula, and a co-safe one is satisfied by a finite beginning."""
    machine = ltl_machine(write(tree), AB)
    depth = write(tree).count("X") + 1

    def good(trace: list[set[str]]) -> bool:
        for more in product(LETTERS, repeat=min(depth, 4)):
            longer = trace + list(more)
            if not any(holds(tree, longer[:n]) for n in range(1, len(longer) + 1)):
                return False
        return True

    if depth > 4:
        return
    for trace in product(LETTERS, repeat=3):
        rewards, over = paid(machine, list(trace))
        first = next((n for n in range(1, 4) if good(list(trace[:n]))), None)
        assert rewards == ([0.0] * (first - 1) + [1.0] if first else [0.0] * len(rewards)), (write(tree), trace)
        assert over == (first is not None) or over and first is None


def test_rejection_is_final_and_exact() -> None:
    machine = ltl_machine("!b U a", AB)
    assert paid(machine, [set(), {"b"}]) == ([0.0, 0.0], True)
    assert paid(machine, [set(), set(), {"a", "b"}]) == ([0.0, 0.0, 1.0], True)
    assert sorted(machine.states) == ["accept", "q0", "reject"] and machine.pairs == [
        (0, machine.states.index("accept"))
    ]
    assert len(ltl_machine("F (a & X F b)", AB)) == 3


@pytest.mark.parametrize(
    ("formula", "states"),
    [
        ("F a", 2), ("F a & F b", 4), ("F (a & F b)", 3), ("X X a", 5), ("a U b", 3), ("F a | F a", 2),
        ("F (a | !a)", 2), ("X (a | !a)", 2), ("(F a & F b) | F a", 2),
    ],
)  # fmt: skip
def test_machines_are_the_smallest(formula: str, states: int) -> None:
    machine = ltl_machine(formula, AB)
    assert len(machine) == states, machine.states
    apart = torch.tensor([name == "accept" for name in machine.states])
    assert len(minimised(machine, apart)[0]) == states


def test_binding_strength() -> None:
    def same(a: str, b: str) -> bool:
        one, other = (ltl_machine(f"({f}) | (c & !c & a & b)", ABC, logic="ltlf") for f in (a, b))
        words = [[{n for n in "abc" if w >> i & 1} for w in word] for word in product(range(8), repeat=3) for i in [0]]
        words = [[{n for i, n in enumerate("abc") if w >> i & 1} for w in word] for word in product(range(8), repeat=3)]
        return all(paid(one, w)[0] == paid(other, w)[0] for w in words)

    assert same("a & b | c", "(a & b) | c") and same("a -> b -> c", "a -> (b -> c)")
    assert same("!a U b", "(!a) U b") and same("a U b U c", "a U (b U c)") and same("F a & b", "(F a) & b")
    assert same("a | b -> c", "(a | b) -> c") and same("a U b & c", "(a U b) & c")
    assert same("a <-> b -> c", "a <-> (b -> c)") and not same("a -> b -> c", "(a -> b) -> c")


@pytest.mark.parametrize(
    ("formula", "message", "place"),
    [
        ("F (a & ", "should stand here", 8), ("F (a", "not closed", 5), ("a b", "should end here", 3),
        ("F z", "no label", 3),
        ("a ^ b", "no meaning", 3), ("U a", "should stand here, and not 'U'", 1), ("", "should stand here", 1),
        ("a U", "should stand here", 4), ("!" * 60 + "a", "40 levels", 39), ("a ->", "should stand here", 5),
    ],
)  # fmt: skip
def test_formulas_that_do_not_parse_are_marked(formula: str, message: str, place: int) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        ltl_machine(formula, AB, logic="ltlf")
    assert f"at character {place} of" in str(caught.value)
    assert str(caught.value).splitlines()[-1].index("^") == place + 1  # two spaces stand before the formula


@pytest.mark.parametrize(
    ("formula", "place"), [("F a & G b", 7), ("!F a", 2), ("a -> F b", None), ("F a -> b", 1), ("N a", 1), ("a R b", 3)]
)
def test_what_is_not_cosafe_is_refused(formula: str, place: int | None) -> None:
    if place is None:
        ltl_machine(formula, AB)
        return
    with pytest.raises(NotCoSafe, match="ltlf") as caught:
        ltl_machine(formula, AB)
    assert f"at character {place} of" in str(caught.value)
    ltl_machine(formula, AB, logic="ltlf")


def test_formulas_that_grow_too_large() -> None:
    labels: dict[str, Any] = {f"p{i}": "x" for i in range(11)}
    with pytest.raises(FormulaTooLarge, match="past 1000 machine states"):
        ltl_machine(" & ".join(f"F p{i}" for i in range(11)), labels)
    assert len(ltl_machine(" & ".join(f"F p{i}" for i in range(6)), labels)) == 64
    with pytest.raises(FormulaError, match="names no label"):
        ltl_machine("F true", AB)
    with pytest.raises(FormulaError, match="cannot name a label"):
        ltl_machine("F a", {"a": "x", "F": "y"})
    with pytest.raises(FormulaError, match="1001 characters"):
        ltl_machine("a" * 1001, AB)
    with pytest.raises(ValueError, match="'cosafe', or 'ltlf'"):
        ltl_machine("F a", AB, logic="ctl")


def test_a_formula_as_a_term() -> None:
    """Over a lane of facts, in a seat: paid once, at the step at which it is settled."""
    machine = ltl_machine("F (a & X F b)", AB)
    a, b = torch.tensor([1, 0, 1, 0, 0, 1.0]), torch.tensor([1, 0, 0, 0, 1, 1.0])
    no = torch.zeros(6, 1, dtype=torch.bool)
    x = Stretch.make(
        obs=torch.zeros(6, 1, 1), next_obs=torch.zeros(6, 1, 1), reward=torch.zeros(6, 1), terminated=no,
        start=torch.arange(6)[:, None] == 0, next_facts={"fact_a": a[:, None], "fact_b": b[:, None]},
        facts={"fact_a": a[:, None], "fact_b": b[:, None]},
    )  # fmt: skip
    import gymnasium as gym

    world = World(gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2))
    assert RolloutSeat(MachineReward(machine), world)(x, 0)[0].flatten().tolist() == [0, 0, 0, 0, 1, 0]
