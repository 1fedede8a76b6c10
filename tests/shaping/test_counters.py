"""Counting machines: by hand, against the language they count, unrolled, and what is refused."""

from itertools import product
from typing import Any

import gymnasium as gym
import pytest
import torch

from cairn.shaping import CountingMachine, CountingReward, RolloutSeat, Stretch, World
from cairn.shaping.formulas import FormulaError

LABELS: dict[str, Any] = {"a": "fact_a", "b": "fact_b"}
A, B, NOTHING = 1, 2, 0  # letters


def as_many() -> CountingMachine:
    """a^n b^n, n > 0: no reward machine can tell for all n."""
    edges: list[Any] = [
        ("as", "a & !b", "", "as", {"n": 1}, 0.0),
        ("as", "b & !a", "n == 1", "done", {"n": -1}, 1.0),
        ("as", "b & !a", "n > 1", "bs", {"n": -1}, 0.0),
        ("bs", "b & !a", "n > 1", "bs", {"n": -1}, 0.0),
        ("bs", "b & !a", "n == 1", "done", {"n": -1}, 1.0),
    ]
    return CountingMachine(edges, LABELS, ["n"], final=["done"], otherwise="fail")


def total(machine: CountingMachine, word: tuple[int, ...]) -> float:
    state, counts, out = torch.tensor([0]), torch.zeros(1, 1, dtype=torch.int64), 0.0
    for letter in word:
        state, counts, reward = machine.step(state, counts, torch.tensor([letter]))
        out += float(reward)
    return out


def test_it_knows_the_language() -> None:
    machine = as_many()
    for length in range(1, 7):
        for word in product((A, B), repeat=length):
            good = any(word[: 2 * n] == (A,) * n + (B,) * n for n in range(1, length // 2 + 1))
            assert total(machine, word) == float(good), word
    assert total(machine, (A,) * 40 + (B,) * 40) == 1.0 and total(machine, (A,) * 40 + (B,) * 39) == 0.0


def test_unrolled_it_pays_the_same_up_to_the_limit() -> None:
    machine, limit = as_many(), 2
    plain = machine.unrolled(limit)
    for length in range(1, 6):
        for word in product((NOTHING, A, B, A | B), repeat=length):
            u, paid = 0, 0.0
            for letter in word:
                paid += float(plain.reward[u, letter])
                u = int(plain.target[u, letter])
            beyond = word[: limit + 1] == (A,) * (limit + 1)
            assert paid == (0.0 if beyond else total(machine, word))
            assert (plain.states[u] == "overflow") == beyond
    assert not any(plain.states[v] == "overflow" or "failed" in plain.states[v] for _, v in plain.pairs)
    with pytest.raises(ValueError, match="more than 1000 states"):
        machine.unrolled(2000)


def test_as_a_term_over_two_lanes_and_episodes() -> None:
    a = torch.tensor([[1, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 0]]).T
    b = 1 - a
    start = torch.zeros(6, 2, dtype=torch.bool)
    start[0], start[4, 0], start[2, 1] = True, True, True
    facts = {"fact_a": a, "fact_b": b}
    none = torch.zeros(6, 2, dtype=torch.bool)
    x = Stretch.make(
        obs=torch.zeros(6, 2, 1), next_obs=torch.zeros(6, 2, 1), reward=torch.zeros(6, 2), terminated=none, start=start,
        facts=facts, next_facts=facts,
    )  # fmt: skip
    world = World(gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2), lanes=2)
    paid = RolloutSeat(CountingReward(as_many()), world)(x, 0)[0]
    assert paid[..., 0].T.tolist() == [[0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 0, 1]]


def test_mistakes() -> None:
    def one(guard: str = "", changes: dict[str, int] | None = None, formula: str = "a") -> CountingMachine:
        return CountingMachine([("u", formula, guard, "u", changes or {}, 0.0)], LABELS, ["n", "m"])

    with pytest.raises(ValueError, match="below 0: guard it with 'n >= 2'"):
        one("n > 0", {"n": -2})
    one("n >= 2 & m == 0", {"n": -2})
    with pytest.raises(ValueError, match="changes 'k'"):
        one("", {"k": 1})
    for guard, place in (("n > ", 1), ("k > 0", 1), ("n > 0 | m > 0", 7), ("n > 0 & 3", 9)):
        with pytest.raises(FormulaError, match=f"at character {place} of"):
            one(guard)
    with pytest.raises(FormulaError, match="never holds"):
        one("n > 2 & n < 2")
    with pytest.raises(ValueError, match="at once"):
        CountingMachine([("u", "a", "n > 0", "u", {}, 0.0), ("u", "a | b", "n < 3", "u", {"n": 1}, 0.0)], LABELS, ["n"])
    with pytest.raises(TypeError, match="takes a CountingMachine"):
        CountingReward("task")  # type: ignore[arg-type]
