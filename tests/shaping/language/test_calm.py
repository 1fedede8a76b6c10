"""CALM: options that end where a verdict says so, by hand; F1 of verdicts; a server that fails."""

import copy
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from cairn.shaping import CALM, RolloutSeat, Stretch, World
from cairn.shaping.language import Answer, LanguageError, Oracle, Question, decompose
from cairn.shaping.language.calm import f1

WORLD = World(spaces.Box(0, 1, ()), spaces.Discrete(2), lanes=1)


def row(values: list[int], starts: tuple[int, ...] = (0,)) -> Stretch:
    """One lane that walks through values of the fact "place", ``[T, 1]``; the values include the first state's."""
    steps = len(values) - 1
    facts = [{"place": torch.tensor(v)[:, None]} for v in (values[:-1], values[1:])]
    start = torch.zeros(steps, 1, dtype=torch.bool)
    start[list(starts)] = True
    zero = torch.zeros(steps, 1)
    return Stretch.make(
        obs=zero, next_obs=zero, reward=zero, terminated=zero.bool(), start=start, facts=facts[0], next_facts=facts[1]
    )


def rule(question: Question) -> Any:
    """The subgoal "Be at 3." is reached by the caption "place: 3"."""
    text = question.messages[0]["content"]
    goal, event = text.split("subgoal: Be at ")[1].split(".")[0], text.split("event: place: ")[1].split("\n")[0]
    return {"reached": "yes" if goal == event else "no"}


def lived(term: CALM, x: Stretch, rounds: int = 3) -> tuple[RolloutSeat, dict[str, Tensor]]:
    seat = RolloutSeat(term, WORLD)
    for step in range(1, rounds + 1):
        assert step > 1 or not seat(x, step)[0].any()
        seat(x, step) if step > 1 else None
        logs = seat.update(step)
    return seat, logs


def calm(giver: Any, **settings: Any) -> CALM:
    settings = {"schedule": "barrier", "every": 1, "workers": 1, **settings}
    return CALM(("Be at 3.", "Be at 1."), giver, "place", **settings)


def test_options_by_hand() -> None:
    oracle = Oracle(rule)
    x = row([0, 1, 2, 3, 2, 1, 2, 3, 1])
    seat, logs = lived(calm(oracle), x)
    assert oracle.asked == 6 and logs["reward/calm/verdicts"] == 6  # three captions, two subgoals, each once
    # The 1 at first is not yet wanted; 3 ends the first option, the 1 after it the second; then all is done.
    paid = seat(x, 9)[0].flatten()
    assert paid.tolist() == pytest.approx([0, 0, 0.1, 0, 0.1, 0, 0, 0])
    # Two episodes, the first left in its second option.
    paid = seat(row([0, 3, 2, 1, 3, 1], (0, 2)), 10)[0].flatten()
    assert paid.tolist() == pytest.approx([0.1, 0, 0, 0.1, 0.1])
    # What nobody has judged yet ends nothing, whatever stands next to it in the table.
    assert not seat(row([0, *range(4, 60)]), 10)[0].any()
    # An option goes on over the cut of a rollout.
    seat(row([0, 3]), 11)
    assert seat(row([3, 2, 1], ()), 12)[0].flatten().tolist() == pytest.approx([0, 0.1])


def test_no_verdict_ends_nothing() -> None:
    class Giver:
        asked = 0
        up = False

        def ask(self, question: Question) -> Answer:
            self.asked += 1
            if "place: 3" in question.messages[0]["content"]:
                return Answer(("I'd rather not.",), "refused")
            return Oracle(rule).ask(question) if self.up else Answer(outcome="error", why="nobody")

    giver = Giver()
    term = calm(giver, retry=3)
    x = row([0, 3, 1])
    seat, _ = lived(term, x, 2)
    assert giver.asked == 4 and not seat(x, 3)[0].any()
    giver.up = True
    for step in range(3, 9):
        seat(x, step)
        seat.update(step)
    assert giver.asked == 6  # those that nobody answered once more, and what was refused not again
    assert sorted(term.verdicts.values()) == [-1, -1, 0, 1] and not seat(x, 9)[0].any()


def test_it_goes_on_from_its_state() -> None:
    x = row([0, 1, 2, 3, 2, 1])
    seat, _ = lived(calm(Oracle(rule)), x)
    seat(x[:3], 4)  # in the second option
    other = RolloutSeat(calm(Oracle(rule)), WORLD)
    other.load(copy.deepcopy(seat.state()))
    one, two = seat(x[3:], 5)[0], other(x[3:], 5)[0]
    assert one.flatten().tolist() == pytest.approx([0, 0.1]) and torch.equal(one, two)


def test_a_task_is_split() -> None:
    goals = ["Take the key.", "Open the door."]
    assert decompose(Oracle(lambda q: goals), "leave the room") == tuple(goals)
    with pytest.raises(LanguageError, match="no subgoals for 'leave': the answer is refused"):
        decompose(Oracle(lambda q: None), "leave")


def test_f1_by_hand() -> None:
    score = f1([True, True, False, None, True], [True, False, True, True, True])
    assert score == pytest.approx({"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7})
    assert f1([False], [False])["f1"] == 0
    with pytest.raises(ValueError, match="1 verdicts for 2"):
        f1([True], [True, False])


def test_mistakes() -> None:
    for bad in ((), ("",), ("a goal",) * 9):
        with pytest.raises(ValueError, match="1 to 8 sentences"):
            CALM(bad, Oracle(rule))
    with pytest.raises(ValueError, match="bonus"):
        CALM("One goal.", Oracle(rule), bonus=0.0)
