"""The behaviour checks, each caught by a program that breaks it: plain functions here, since the language cannot."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from cairn.shaping.programs import BehaviourError, check_program, compile_program
from cairn.shaping.programs.tape import Output

from .corpus import INPUTS, batch

Batch = Mapping[str, Any]


def reward(f: Callable[[Batch], Any]) -> Callable[[Batch], Output]:
    return lambda b: Output(f(b), ())


def calls() -> Callable[[Batch], Any]:
    count = [0]

    def run(b: Batch) -> Any:
        count[0] += 1
        return b["distance"] + np.float32(count[0])

    return run


def writes(b: Batch) -> Any:
    b["distance"][0] = 7
    return b["distance"] * 2


def fails(b: Batch) -> Any:
    raise ZeroDivisionError("oh")


def nan_in_one(b: Batch) -> Any:
    out = b["distance"].copy()
    out[b["distance"] == b["distance"].max()] = np.nan
    return out


BREACHES: list[tuple[str, Callable[[Batch], Any]]] = [
    ("finite", nan_in_one),
    ("finite", lambda b: b["distance"] / np.float32(0)),
    ("bounded", lambda b: b["distance"] * np.float32(1e6)),
    ("dtype", lambda b: b["distance"].astype(np.float64)),
    ("dtype", lambda b: b["carrying"]),
    ("shape", lambda b: b["qpos"]),
    ("shape", lambda b: b["distance"][:, None]),
    ("shape", lambda b: b["distance"].sum()),
    ("shape", lambda b: b["distance"][:-1]),
    ("shape", lambda b: "a string"),
    ("shape", lambda b: 1.0),
    ("deterministic", lambda b: b["distance"] + np.random.rand(len(b["distance"])).astype(np.float32)),
    ("deterministic", calls()),
    ("inputs", writes),
    ("inputs", lambda b: b["distance"]),
    ("inputs", lambda b: b["qpos"][:, 0]),
    ("leak", lambda b: b["distance"] - b["distance"].mean()),
    ("leak", lambda b: np.cumsum(b["distance"]) / 100),
    ("leak", lambda b: np.roll(b["distance"], 1)),
    ("leak", lambda b: b["distance"] + np.float32(len(b["distance"]))),
    ("leak", lambda b: np.arange(len(b["distance"]), dtype=np.float32)),
    ("raised", fails),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "program"), BREACHES)
def test_each_breach_is_found(problem: str, program: Callable[[Batch], Any]) -> None:
    with np.errstate(all="ignore"), pytest.raises(BehaviourError) as caught:
        check_program(reward(program), batch())
    assert caught.value.problem == problem


def test_components_are_held_to_the_same() -> None:
    good = np.zeros(64, np.float32)
    for part, problem in ((good + np.inf, "finite"), (good[:, None], "shape"), (good.astype(int), "dtype")):
        with pytest.raises(BehaviourError, match="component 'a'") as caught:
            check_program(lambda b, p=part: Output(b["distance"] * 2, (p,)), batch(), ("a",))
        assert caught.value.problem == problem
    with pytest.raises(BehaviourError, match="0 components, and 1 names"):
        check_program(lambda b: Output(b["distance"] * 2, ()), batch(), ("a",))


def test_what_was_seen_of_a_good_one() -> None:
    tape = compile_program("def r(distance, carrying):\n    return distance * 2, {'a': carrying, 'b': 3}\n", INPUTS)
    given = batch()
    seen = check_program(tape.numpy, given, tape.names)
    assert seen.rows == 64 and seen.notes == ("the component 'b' is 3 for all 64 transitions",)
    np.testing.assert_allclose([seen.low, seen.high], [given["distance"].min() * 2, given["distance"].max() * 2])
    assert seen.components["a"][:2] == (0.0, 1.0) and seen.components["b"] == (3.0, 3.0, 3.0)


def test_a_single_transition_can_be_checked_and_none_cannot() -> None:
    tape = compile_program("def r(distance):\n    return distance * 2\n", INPUTS)
    assert check_program(tape.numpy, batch(1)).notes == ()
    with pytest.raises(ValueError, match="no experience"):
        check_program(tape.numpy, batch(0))
