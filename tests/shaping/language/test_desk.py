"""Schedules and the journal: what arrives when, and that a run can be lived again without a server."""

import copy
import gc
import json
import threading
import time
from pathlib import Path

import pytest

from cairn.shaping.language import Answer, Budget, Desk, JournalError, Question


class Gate:
    """A giver that holds its answers back until it is told; the order of arrival is the test's."""

    def __init__(self, shut: bool = True) -> None:
        self.events: dict[str, threading.Event] = {}
        self.lock, self.asked, self.shut = threading.Lock(), list[str](), shut
        self.budget = Budget()

    def event(self, text: str) -> threading.Event:
        with self.lock:
            return self.events.setdefault(text, threading.Event())

    def ask(self, question: Question) -> Answer:
        text = str(question.messages[0]["content"])
        self.asked.append(text)
        if self.shut:
            self.event(text).wait(10)
        if text == "bad":
            raise RuntimeError("a giver that breaks its promise")
        return Answer((f"to {text}",), "refused" if text == "no" else "ok")


def until(condition: object, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def arrived(desk: Desk) -> int:
    return 0 if desk._room is None else len(desk._room.done)


def test_async_takes_what_is_there_and_does_not_wait() -> None:
    gate = Gate()
    desk = Desk(gate, workers=3)
    for name in "abc":
        desk.post(name, Question(name))
    desk.post("a", Question("a"))  # it is out already
    assert len(desk) == 3 and desk.collect(10) == [] and "a" in desk
    for name in "cab":
        until(lambda name=name: name in gate.asked)
        gate.event(name).set()
        until(lambda name=name: arrived(desk) == "cab".index(name) + 1)
    assert [a.key for a in desk.collect(20)] == ["c", "a", "b"] and len(desk) == 0
    assert desk.counts["posted"] == 3 and desk.counts["ok"] == 3
    desk.close()


def test_async_asks_the_newest_first_and_gives_up_the_oldest() -> None:
    gate = Gate()
    desk = Desk(gate, workers=1, queue=3)
    desk.post("a", Question("a"))
    until(lambda: gate.asked == ["a"])  # the worker is busy with it
    for name in "bcde":
        desk.post(name, Question(name))
    assert desk.counts["dropped"] == 2 and list(desk._pending) == ["c", "d", "e"]
    for name in "aedc":
        gate.event(name).set()
    until(lambda: arrived(desk) == 3)
    assert gate.asked == ["a", "e", "d", "c"]
    assert sorted(a.key for a in desk.collect(1)) == ["c", "d", "e"]  # a was given up, whatever became of it
    desk.close()


def test_a_barrier_gives_the_order_of_asking() -> None:
    gate = Gate()
    desk = Desk(gate, "barrier", every=100, workers=3)
    for name in "abc":
        desk.post(name, Question(name))
    until(lambda: len(gate.asked) == 3)
    for name in "cba":
        gate.event(name).set()
    until(lambda: arrived(desk) == 3)
    assert desk.collect(60) == [] == desk.collect(99)  # nothing before its step
    assert [a.key for a in desk.collect(130)] == ["a", "b", "c"]
    desk.post("d", Question("d"))
    began = time.monotonic()
    threading.Timer(0.2, gate.event("d").set).start()
    assert desk.collect(199) == [] and [a.key for a in desk.collect(200)] == ["d"]  # it waited
    assert 0.1 < time.monotonic() - began < 5
    desk.close()


def test_a_barrier_does_not_wait_for_ever() -> None:
    gate = Gate()
    desk = Desk(gate, "barrier", every=10, wait=0.2, workers=2)
    for name in "ab":
        desk.post(name, Question(name))
    gate.event("b").set()
    arrivals = desk.collect(10)
    assert [(a.key, a.answer.outcome) for a in arrivals] == [("a", "late"), ("b", "ok")]
    gate.event("a").set()
    time.sleep(0.05)
    assert desk.collect(20) == [] and desk.counts["late"] == 1
    desk.close()


def test_a_giver_that_raises_is_an_outcome() -> None:
    desk = Desk(Gate(shut=False), "barrier", every=1, workers=1)
    for name in ("bad", "no", "a"):
        desk.post(name, Question(name))
    assert [a.answer.outcome for a in desk.collect(1)] == ["error", "refused", "ok"]
    assert desk.health()["error"] == 1 and desk.health()["pending"] == 0
    desk.close()


def lived(desk: Desk, steps: range, names: str = "abcdefgh") -> list[tuple[int, str, str]]:
    """A run that asks something at each step, and more where something arrives."""
    out = []
    for step in steps:
        desk.post(names[step % len(names)] + str(step), Question(names[step % len(names)]))
        time.sleep(0.002)
        for key, answer in desk.collect(step):
            out.append((step, key, answer.texts[0]))
            desk.post(key + "+", Question(key)) if len(key) < 5 else None
    return out


def test_a_run_is_lived_again_from_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    first = Desk(Gate(shut=False), journal=path)
    once = lived(first, range(1, 40))
    first.close()
    assert len(once) > 20
    dead = Gate()  # nobody answers
    again = Desk(dead, journal=path)
    assert lived(again, range(1, 40)) == once and dead.asked == []
    # Where the journal ends, it goes on live, and asks what was still out.
    dead.shut = False
    out = len(again)
    again.post("new", Question("new"))
    until(lambda: arrived(again) == out + 1)
    assert "new" in [a.key for a in again.collect(40)]
    assert json.loads(path.read_text().splitlines()[-1])["step"] == 40
    again.close()


def test_a_run_that_was_killed_goes_through_what_the_journal_has(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    desk = Desk(Gate(shut=False), journal=path)
    head = lived(desk, range(1, 20))
    state = json.loads(json.dumps(desk.state()))
    tail = lived(desk, range(20, 40))
    desk.close()
    with path.open("a") as file:
        file.write('{"step": 40, "arriv')  # the kill
    resumed = Desk(Gate(), journal=path)
    resumed.load(state)
    assert lived(resumed, range(20, 40)) == tail and resumed.counts == desk.counts and head
    assert not path.read_text().endswith("arriv")


def test_a_replay_can_be_interrupted_too(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    desk = Desk(Gate(shut=False), journal=path)
    once = lived(desk, range(1, 40))
    desk.close()
    half = Desk(Gate(), journal=path)
    head = lived(half, range(1, 20))
    rest = Desk(Gate(), journal=path)
    rest.load(half.state())
    assert head + lived(rest, range(20, 40)) == once


def test_without_a_journal_what_was_out_is_asked_again() -> None:
    gate = Gate()
    desk = Desk(gate, workers=1)
    desk.post("a", Question("a"))
    gate.budget.load({"in": 5, "out": 7})
    state = desk.state()
    other = Gate(shut=False)
    resumed = Desk(other)
    resumed.load(state)
    assert other.budget.spent_out == 7
    assert resumed.collect(1) == []  # it goes live here
    until(lambda: arrived(resumed) == 1)
    assert [a.key for a in resumed.collect(2)] == ["a"]


def test_a_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    desk = Desk(Gate(shut=False), "barrier", every=1, journal=path)
    desk.post("a", Question("a"))
    desk.collect(1)
    other = Desk(Gate(), journal=path)
    other.post("a", Question("a"))
    with pytest.raises(JournalError, match="another run's: at step 5 of this one it is at step 1"):
        other.collect(5)
    third = Desk(Gate(), journal=path)
    with pytest.raises(JournalError, match="'a' arrives, which this run has not asked"):
        third.collect(1)
    path.write_text('{"title": "a book"}\n')
    with pytest.raises(JournalError, match="line 1"):
        Desk(Gate(), journal=path)
    with pytest.raises(ValueError, match="does not exist"):
        Desk(Gate(), journal=tmp_path / "no" / "x")


def test_settings_and_copies() -> None:
    for bad in (
        {"schedule": "soon"},
        {"schedule": "barrier"},
        {"every": 5},
        {"workers": 0},
        {"queue": 0},
        {"wait": 0.0},
    ):
        with pytest.raises(ValueError):
            Desk(Gate(), **bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be asked"):
        Desk("http://127.0.0.1")  # type: ignore[arg-type]
    desk = Desk(Gate())
    desk.post("a", Question("a"))
    twin = copy.deepcopy(desk)
    twin.post("b", Question("b"))
    assert len(desk) == 1 and len(twin) == 2 and twin.giver is desk.giver


def test_workers_end_when_the_desk_is_gone() -> None:
    def workers() -> int:
        return sum(t.name == "cairn-desk" for t in threading.enumerate())

    gc.collect()
    before = workers()
    desk = Desk(Gate(shut=False), workers=3)
    desk.post("a", Question("a"))
    assert workers() == before + 3
    del desk
    gc.collect()
    until(lambda: workers() <= before)
