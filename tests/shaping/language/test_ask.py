"""Questions and answers, the ladder that reads them, keys, budgets, the cache: everything short of a server."""

import json
import os
import random
import subprocess
import sys
import threading
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from cairn.shaping.language import Answer, Budget, Cache, Oracle, Question, fenced, image, read
from cairn.shaping.language.ask import Sample, sample_of
from cairn.shaping.language.health import Breaker, pause
from cairn.shaping.language.keys import key_named, struck
from cairn.shaping.language.ladder import check_schema, fits, is_refusal

from .givers import Recorded, Tiny, recordings

LABEL = {"type": "object", "properties": {"label": {"enum": ["yes", "no"]}}, "required": ["label"]}


def test_a_question_is_checked() -> None:
    assert Question("hello").messages == ({"role": "user", "content": "hello"},)
    for bad in (
        {"messages": []}, {"messages": [{"role": "robot", "content": "x"}]}, {"messages": [{"role": "user"}]},
        {"messages": "x", "n": 0}, {"messages": "x", "temperature": -1.0}, {"messages": "x", "max_tokens": 0},
        {"messages": "x", "template": "no version"}, {"messages": "x", "schema": {"pattern": "a+"}},
        {"messages": "x", "schema": {"type": "text"}},
        {"messages": [{"role": "user", "content": {"a": float("nan")}}]},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Question(**bad)


def test_the_key_is_of_the_request_and_not_of_how_many() -> None:
    one = Question([{"role": "user", "content": "a"}], schema=LABEL, template="t@1")
    same = Question([{"content": "a", "role": "user"}], n=5, schema=dict(reversed(LABEL.items())), template="t@1")
    assert one.key("m") == same.key("m") and len(one.key("m")) == 64
    others = [
        Question("a", schema=LABEL, template="t@2"), Question("b", schema=LABEL, template="t@1"),
        Question("a", template="t@1"), Question("a", schema=LABEL, template="t@1", seed=1),
        Question("a", schema=LABEL, template="t@1", temperature=0.5),
    ]  # fmt: skip
    assert len({q.key("m") for q in [one, *others]} | {one.key("other")}) == 7
    assert Question(**json.loads(json.dumps(one.to_json()))).key("m") == one.key("m")


def test_answers_go_through_json() -> None:
    answer = Answer(("a", "b"), "ok", ({"label": "yes"}, None), ("ok", "refused"), ("json", ""), "it declines", 3, 4, 1)
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer
    assert answer.text == "a" and answer.value == {"label": "yes"}
    assert Answer(("x",)).outcomes == ("ok",) and Answer(outcome="late").value is None
    with pytest.raises(ValueError, match="one of ok"):
        Answer(outcome="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 texts and 1 values"):
        Answer(("a", "b"), values=(1,))
    with pytest.raises(ValueError, match="not an answer"):
        Answer.from_json({"words": []})


@pytest.mark.parametrize(
    ("text", "rung"),
    [
        ('{"label": "yes"}', "json"), ('  {"label":"yes", "note": 1}\n', "json"),
        ('Fine.\n```json\n{"label": "no"}\n```\nor rather\n```json\n{"label": "yes"}\n```', "fence"),
        ('It {may} be: {"note": "a } in a \\" string", "label": "yes"}', "braces"), ("I say YES.", "pattern"),
        ('{"label": "maybe"}', ""), ("yes and no", ""), ("yesterday", ""), ('{"label": NaN}', ""), ("", ""),
        ('{"label": "no", "label": "maybe so"}', ""), ("[" * 100_000, ""), ('"yes"', "pattern"),
        ("x" * (1 << 20) + "y", ""),
    ],
)  # fmt: skip
def test_the_ladder(text: str, rung: str) -> None:
    reading = read(text, LABEL)
    assert reading.rung == rung and (reading.value is None) == (rung == "") and bool(reading.why) == (rung == "")
    if rung and rung != "pattern":
        assert reading.value["label"] == "yes"


def test_schemas_by_hand() -> None:
    schema = {
        "type": "array", "minItems": 1, "maxItems": 2,
        "items": {
            "type": "object", "required": ["x"], "additionalProperties": False,
            "properties": {
                "x": {"type": "integer", "minimum": 0, "maximum": 3}, "s": {"type": "string", "maxLength": 2},
            },
        },
    }  # fmt: skip
    check_schema(schema)
    assert fits([{"x": 0}, {"x": 3, "s": "ab"}], schema) == ""
    for bad, why in (
        ([], "out of range"), ([{"x": 1}] * 3, "out of range"), ({"x": 1}, "type array"), ([{"s": "a"}], "lacks 'x'"),
        ([{"x": 4}], r"[0].x is out of range"), ([{"x": True}], "type integer"), ([{"x": 1, "y": 2}], "has more than"),
        ([{"x": 1, "s": "abc"}], "out of range"), ([{"x": 1.5}], "type integer"),
    ):  # fmt: skip
        assert why in fits(bad, schema), bad
    assert fits(2, {"const": 3}) and not fits(True, {"type": "boolean"}) and fits(True, {"type": "number"})


def test_blocks_of_code() -> None:
    text = "a\n```python\none\ntwo\n```\nb\n```\nthree\n```\nc\n```python\nnot closed"
    assert fenced(text) == ["one\ntwo", "three", "not closed"]
    assert fenced(text, "python") == ["one\ntwo", "not closed"] and fenced(text, "rust") == fenced(text)
    assert fenced("no block") == []


def test_third_outcomes_are_not_zero() -> None:
    """The fault of published labellers: a refusal counted as the label 0."""
    question = Question("?", schema=LABEL)
    for text, finish, outcome in (
        ("I'm sorry, I can't help with that.", "stop", "refused"), ("I cannot say.", "stop", "refused"),
        ("", "content_filter", "refused"), ("It depends.", "stop", "unparsable"),
        ('{"label": "y', "length", "unparsable"), ('{"label": "no"}', "stop", "ok"),
    ):  # fmt: skip
        sample = sample_of(text, question, finish)
        assert sample.outcome == outcome and (sample.value is None) == (outcome != "ok"), text
    assert "max_tokens" in sample_of('{"label": "y', question, "length").why
    free = Question("write")
    assert sample_of("def f(): ...", free, "length").outcome == "unparsable"
    assert sample_of("I can't do better than:\n```python\nx\n```", free).outcome == "ok"
    assert sample_of(" ", free).outcome == "unparsable" and sample_of("no", free, refusal="policy").outcome == "refused"
    assert is_refusal("As an AI, I") and not is_refusal("The key is sorry, I think")


def test_recorded_completions_of_every_kind() -> None:
    giver = Recorded()
    for kind in ("good", "buggy", "hostile", "off-task"):
        rows = recordings(kind)
        assert len(rows) >= 2
        for row in rows:
            answer = giver.ask(Question(**row["question"]))
            labels = row["question"]["schema"] is not None
            if labels:
                assert answer.ok == (kind == "good"), row
            assert answer.texts == tuple(row["texts"])
    assert giver.ask(Question("never asked")).outcome == "error"


def test_a_random_network_held_to_a_schema() -> None:
    """Random weights give valid labels at about the level of chance: the path is tested, not the model."""
    giver = Tiny()
    answer = giver.ask(Question("Is it?", n=24, schema=LABEL, seed=1))
    assert answer.outcomes == ("ok",) * 24 and set(answer.rungs) == {"json"}
    assert {v["label"] for v in answer.values} == {"yes", "no"}
    assert giver.ask(Question("Is it?", n=24, schema=LABEL, seed=1)) == answer
    wider = {
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 8, "maximum": 11}, "b": {"type": "boolean"}},
    }
    assert all(8 <= v["x"] <= 11 for v in giver.ask(Question("Where?", n=8, schema=wider)).values)
    assert not giver.ask(Question("Say yes.", n=1)).texts[0].startswith("{")


def test_an_oracle_with_a_dial() -> None:
    def rule(question: Question) -> object:
        return {"label": "yes"} if question.messages[-1]["content"] != "?" else None

    questions = [Question(f"number {i}", schema=LABEL) for i in range(1000)]
    for accuracy in (0.0, 0.7, 1.0):
        right = sum(Oracle(rule, accuracy=accuracy, seed=1).ask(q).value["label"] == "yes" for q in questions)
        assert right == pytest.approx(1000 * accuracy, abs=45)
    oracle = Oracle(rule, accuracy=0.7)
    assert [oracle.ask(q) for q in questions[:50]] == [oracle.ask(q) for q in questions[:50]]
    assert oracle.ask(Question("?", schema=LABEL)).outcome == "refused" and oracle.asked == 101
    with pytest.raises(ValueError, match="a share"):
        Oracle(rule, accuracy=1.5)


def test_pictures() -> None:
    part = image(np.zeros((2, 3, 3), np.uint8))
    assert part["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    question = Question([{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}])
    assert question.pictures and not Question("a").pictures
    for bad in (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3)), b"GIF89a"):
        with pytest.raises(ValueError):
            image(bad)


def test_keys_leave_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_TEST_KEY", "sk-secret-123456")
    assert key_named("CAIRN_TEST_KEY") == "sk-secret-123456" == key_named("CAIRN_TEST_KEY")
    assert "CAIRN_TEST_KEY" not in os.environ
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(sorted(os.environ))"], capture_output=True, text=True
    )
    assert "CAIRN_TEST_KEY" not in child.stdout and child.returncode == 0
    assert struck("wrong key sk-secret-123456\x1b[2J\n!" + "x" * 999, 40) == "wrong key [key] [2J !" + "x" * 16 + "..."
    if hasattr(os, "fork"):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, b"0" if key_named("CAIRN_TEST_KEY") is None else b"1")
            os._exit(0)
        assert os.read(reader, 1) == b"0"
        os.wait()
        os.close(reader)
        os.close(writer)
    monkeypatch.setenv("CAIRN_TEST_KEY", "two words")
    with pytest.raises(ValueError, match="holds no key"):
        key_named("CAIRN_TEST_KEY")
    assert key_named("CAIRN_NO_SUCH_KEY") is None


def test_a_budget_is_never_passed() -> None:
    budget = Budget(tokens=100, money=1.0, price_in=1e4, price_out=2e4)  # .01 and .02 a token
    first = budget.admit(20, 30)  # .8 set aside
    assert first is not None and budget.admit(10, 10) is None  # it would fit the tokens, and not the money
    budget.settle(first, (20, 5))
    assert budget.spent == pytest.approx(0.3) and budget.admit(80, 0) is None
    second = budget.admit(10, 10)
    assert second is not None
    budget.settle(second, None)  # nobody has said what was used
    assert (budget.spent_in, budget.spent_out) == (30, 15) and budget.spent == pytest.approx(0.6)
    again = Budget(tokens=100)
    again.load(budget.state())
    assert again.spent_in == 30 and "45 of 100 tokens" in again.line
    with pytest.raises(ValueError, match="price"):
        Budget(money=1.0)
    with pytest.raises(ValueError):
        Budget(tokens=-1)


def test_a_budget_under_many_threads() -> None:
    budget = Budget(tokens=1000)

    def spend() -> None:
        for _ in range(100):
            ticket = budget.admit(1, 2)
            if ticket is not None:
                budget.settle(ticket, (1, 2))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent_in + budget.spent_out == 999


def test_the_breaker_rests_and_tries() -> None:
    now = [0.0]
    breaker = Breaker(failures=3, rest=10.0, most=25.0, clock=lambda: now[0])
    for _ in range(3):
        assert breaker.admits() and breaker.up
        breaker.tell(False)
    assert not breaker.up and not breaker.admits() and breaker.wait == 10.0
    now[0] = 10.0
    assert breaker.admits() and not breaker.admits()  # one try
    breaker.tell(False)
    assert breaker.wait == 20.0
    now[0] = 30.0
    assert breaker.admits()
    breaker.tell(False)
    assert breaker.wait == 25.0  # no longer than that
    now[0] = 55.0
    assert breaker.admits()
    breaker.tell(True)
    assert breaker.up and breaker.admits()
    breaker.tell(False, at_once=True)
    assert not breaker.up


def test_pauses() -> None:
    draw = random.Random(0)
    assert 3.0 <= pause(0, {"retry-after": "3"}, draw) <= 3.5
    assert 0.25 <= pause(0, {"retry-after-ms": "250", "retry-after": "9"}, draw) <= 0.75
    assert 3.0 <= pause(0, {"retry-after": formatdate(formatdate_in(5), usegmt=True)}, draw) <= 6.0
    assert pause(0, {"retry-after": formatdate(0, usegmt=True)}, draw) <= 0.5  # a date that is past
    for text in ("soon", "nan", "inf"):
        assert pause(0, {"retry-after": text}, draw) <= 0.5
    long = [pause(3, {}, draw) for _ in range(200)]
    assert max(long) <= 4.0 and min(long) < 1.0 and max(long) > 3.0  # full jitter
    assert max(pause(20, {}, draw) for _ in range(50)) <= 30.0


def formatdate_in(seconds: float) -> float:
    import time

    return time.time() + seconds


def test_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    cache, question = Cache(path), Question("a", schema=LABEL)
    key = question.key("m")
    cache.put(key, 0, sample_of('{"label": "yes"}', question), "m", question.template)
    cache.put(key, 2, Sample("I can't", "refused"), "m", question.template)
    cache.put(key, 0, Sample("other"), "m", question.template)  # the first stands
    again = Cache(path)
    assert again.get(key, 2) == {0: Sample('{"label": "yes"}', "ok", {"label": "yes"}, "json")}
    assert again.get(key, 3)[2].outcome == "refused" and len(again) == 2
    cache.close()
    again.close()
    (tmp_path / "text").write_text("this is not a database, and long enough to be told from one" * 40)
    with pytest.raises(ValueError, match="cannot be used as a cache"):
        Cache(tmp_path / "text")
    import sqlite3

    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE books (title TEXT)")
    other.commit()
    other.close()
    with pytest.raises(ValueError, match="of another kind"):
        Cache(tmp_path / "other.sqlite")
    with pytest.raises(ValueError, match="does not exist"):
        Cache(tmp_path / "nowhere" / "a.sqlite")
    (tmp_path / "lines").write_text('{"question": {"messages": "a"}}\n')
    with pytest.raises(ValueError, match="line 1"):
        Cache().load_lines(tmp_path / "lines", "m")
