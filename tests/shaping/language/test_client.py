"""The client against a real server on this machine, which fails in every way that servers do."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx")

from cairn.benchmarks.standin import Standin
from cairn.shaping.language import Answer, Budget, Cache, Client, LanguageError, Oracle, Question, image
from cairn.shaping.language.health import Breaker

from .givers import Tiny

LABEL = {"type": "object", "properties": {"label": {"enum": ["yes", "no"]}}, "required": ["label"]}


class Counting:
    """Answers "sample <how many it has given>"."""

    def __init__(self) -> None:
        self.given = 0

    def ask(self, question: Question) -> Answer:
        texts = tuple(f"sample {self.given + k}" for k in range(question.n))
        self.given += question.n
        return Answer(texts)


def yes(question: Question) -> Any:
    return {"label": "yes"}


def faults(*names: str | None) -> Callable[[int], str | None]:
    return lambda number: names[number] if number < len(names) else None


def client(server: Standin, **settings: Any) -> Client:
    settings = {"key_env": None, "timeout": 2.0, "deadline": 8.0, "seed": 0, **settings}
    return Client(server.url, server.model, **settings)


def test_a_label_over_http() -> None:
    with Standin(Oracle(yes)) as server:
        asker = client(server)
        asker.check()
        answer = asker.ask(Question("Is it?", schema=LABEL, seed=3, temperature=0.0))
        assert answer.value == {"label": "yes"} and answer.rungs == ("json",) and answer.tokens_out == 2
        body = server.requests[0]
        assert body["response_format"]["json_schema"]["schema"] == LABEL and body["seed"] == 3 and "n" not in body
        assert body["model"] == "standin" and body["temperature"] == 0.0 and server.authorizations == [None]
        assert asker.health()["ok"] == 1 and asker.health()["server_up"] == 1 and "1 ok" in asker.line


def test_a_random_network_behind_the_server() -> None:
    with Standin(Tiny()) as server:
        answer = client(server).ask(Question("Is it?", n=6, schema=LABEL, seed=2))
        assert answer.outcomes == ("ok",) * 6 and {v["label"] for v in answer.values} <= {"yes", "no"}


@pytest.mark.parametrize("fault", ["429", "500", "cut", "hang_up", "empty"])
def test_what_passes_is_tried_again(fault: str) -> None:
    with Standin(Oracle(yes), faults=faults(fault, fault)) as server:
        asker = client(server, breaker=Breaker(failures=9))
        assert asker.ask(Question("Is it?", schema=LABEL)).ok
        assert len(server.requests) == 3 and asker.breaker.up


def test_retry_after_is_honoured() -> None:
    with Standin(Oracle(yes), faults=faults("429"), retry_after="0.8") as server:
        began = time.monotonic()
        assert client(server).ask(Question("Is it?", schema=LABEL)).ok
        assert time.monotonic() - began >= 0.8
    with Standin(Oracle(yes), faults=faults("429"), retry_after="3600") as server:
        began = time.monotonic()
        assert client(server).ask(Question("Is it?", schema=LABEL)).outcome == "late"  # and not an hour later
        assert time.monotonic() - began < 5 and len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "outcome"), [("prose", "unparsable"), ("length", "unparsable"), ("filter", "refused")]
)
def test_answers_that_are_no_labels(fault: str, outcome: str) -> None:
    with Standin(Oracle(yes), faults=faults(fault)) as server:
        answer = client(server).ask(Question("Is it?", schema=LABEL))
        assert answer.outcome == outcome and answer.value is None and answer.why


@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_a_server_that_is_slow_is_late(fault: str) -> None:
    with Standin(Oracle(yes), faults=lambda number: fault, stall=30.0) as server:
        asker, began = client(server, timeout=0.3, deadline=1.0, retries=1), time.monotonic()
        answer = asker.ask(Question("Is it?", schema=LABEL))
        assert answer.outcome == "late" and time.monotonic() - began < 3
        assert asker.budget.spent_out > 0  # somebody may have to pay for it


def test_wrong_counts() -> None:
    for fault, requests in (("fewer", 2), ("more", 1)):
        with Standin(Counting(), faults=faults(fault)) as server:
            answer = client(server).ask(Question("Write.", n=4))
            assert len(answer.texts) == 4 == len(set(answer.texts)) and len(server.requests) == requests


def test_nobody_listens_and_the_breaker_opens() -> None:
    with Standin(Oracle(yes)) as server:
        url = server.url
    asker = Client(url, "m", key_env=None, retries=1, deadline=5.0, breaker=Breaker(failures=2, rest=60.0), seed=0)
    assert "no server answers at" in asker.ask(Question("a")).why
    began = time.monotonic()
    for i in range(50):
        answer = asker.ask(Question(f"b{i}"))
        assert answer.outcome == "error" and "given a rest" in answer.why
    assert time.monotonic() - began < 1 and asker.health()["server_up"] == 0 and "NOT ANSWERING" in asker.line
    with pytest.raises(LanguageError, match="Start the server"):
        asker.check()


def test_a_death_and_a_resurrection() -> None:
    first = Standin(Oracle(yes)).start()
    port = int(first.url.rsplit(":", 1)[1].split("/")[0])
    asker = client(first, retries=0, breaker=Breaker(failures=1, rest=0.05))
    assert asker.ask(Question("a", schema=LABEL)).ok
    first.stop()
    assert asker.ask(Question("b", schema=LABEL)).outcome == "error" and not asker.breaker.up
    with Standin(Oracle(yes), port):
        time.sleep(0.1)
        assert asker.ask(Question("b", schema=LABEL)).ok and asker.breaker.up


def test_a_wrong_key_and_a_wrong_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_TEST_WRONG", "sk-wrong-000000")
    with Standin(Oracle(yes), key="sk-right") as server:
        asker = client(server, key_env="CAIRN_TEST_WRONG")
        answer = asker.ask(Question("a"))
        assert "CAIRN_TEST_WRONG is not accepted" in answer.why and "sk-wrong" not in answer.why
        assert not asker.breaker.up and len(server.requests) == 0  # it is not asked again and again
        with pytest.raises(LanguageError, match="CAIRN_TEST_WRONG"):
            asker.check()
    with Standin(Oracle(yes)) as server:
        asker = Client(server.url, "gpt-0", key_env=None)
        assert "no model 'gpt-0'" in asker.ask(Question("a")).why and len(server.requests) == 1
        with pytest.raises(LanguageError, match="it has standin"):
            asker.check()


def test_the_key_is_in_the_header_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-right-111111"
    monkeypatch.setenv("CAIRN_TEST_RIGHT", secret)
    with caplog.at_level(logging.DEBUG), Standin(Oracle(yes), key=secret) as server:
        asker = client(server, key_env="CAIRN_TEST_RIGHT", cache=tmp_path / "c.sqlite")
        assert asker.ask(Question("a", schema=LABEL)).ok and server.authorizations == [f"Bearer {secret}"]
        child = [sys.executable, "-c", "import os; print(dict(os.environ))"]
        assert secret not in subprocess.run(child, capture_output=True, text=True).stdout
        assert "CAIRN_TEST_RIGHT" not in os.environ
        asker.close()
    held = repr(asker) + repr({k: v for k, v in vars(asker).items()}) + repr(vars(asker._transport)) + caplog.text
    assert secret not in held
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("refuses", "rung", "without"),
    [
        (("json_schema",), 1, set()), (("response_format",), 2, set()),
        (("response_format", "n", "seed"), 2, {"n", "seed"}),
        (("max_tokens", "temperature"), 0, {"max_tokens", "temperature"}),
    ],
)  # fmt: skip
def test_fields_that_a_server_lacks(refuses: tuple[str, ...], rung: int, without: set[str]) -> None:
    with Standin(Oracle(yes), refuses=refuses) as server:
        asker = client(server)
        answer = asker.ask(Question("Is it?", n=2, schema=LABEL, seed=5))
        assert answer.outcomes == ("ok", "ok") and (asker.able.rung, set(asker.able.without)) == (rung, without)
        before = len(server.requests)
        assert asker.ask(Question("And this?", schema=LABEL, seed=5)).ok and len(server.requests) == before + 1
        if "seed" not in without and "n" in without:
            assert len({b["seed"] for b in server.requests}) > 1
        if rung == 2:
            assert "```json" in server.requests[-1]["messages"][0]["content"]


def test_a_request_that_is_refused_leaves_the_ladder_alone() -> None:
    with Standin(Oracle(yes), images=False) as server:
        asker = client(server)
        picture = image(np.zeros((2, 2, 3), np.uint8))
        content = [{"type": "text", "text": "Is it?"}, picture]
        answer = asker.ask(Question([{"role": "user", "content": content}], schema=LABEL))
        assert "does not take this request with images" in answer.why and len(server.requests) == 1
        assert asker.able.rung == 0 and asker.breaker.up and asker.ask(Question("a", schema=LABEL)).ok
        server.images = True
        assert asker.ask(Question([{"role": "user", "content": content}], schema=LABEL)).ok
        assert server.requests[-1]["messages"][0]["content"][1] == picture
    with Standin(Oracle(yes), faults=lambda number: "400") as server:  # it does not say what it dislikes
        asker = client(server)
        assert asker.ask(Question("a", n=2, schema=LABEL, seed=0)).outcome == "error"
        assert asker.able.rung == 0 and not asker.able.without and len(server.requests) <= 6


def test_the_cache_spares_the_server(tmp_path: Path) -> None:
    with Standin(Counting()) as server:
        asker = client(server, cache=tmp_path / "c.sqlite")
        two = asker.ask(Question("Write.", n=2, seed=7))
        five = asker.ask(Question("Write.", n=5, seed=7))
        assert five.texts[:2] == two.texts and five.cached == 2 and len(server.requests) == 2
        assert server.requests[1]["n"] == 3
        asker.ask(Question("Write.", n=1, seed=7, template="plain@2"))
        assert len(server.requests) == 3
    offline = Client("http://127.0.0.1:1/v1", server.model, cache=Cache(tmp_path / "c.sqlite"), only_cache=True)
    assert offline.ask(Question("Write.", n=5, seed=7)).texts == five.texts
    assert "not in the cache" in offline.ask(Question("Never asked.")).why


def test_what_did_not_come_is_not_kept() -> None:
    with Standin(Oracle(yes), faults=faults("500")) as server:
        asker = client(server, retries=0, cache=Cache())
        assert asker.ask(Question("a", schema=LABEL)).outcome == "error" and len(asker.cache or ()) == 0
        assert asker.ask(Question("a", schema=LABEL)).ok


def test_the_same_question_is_asked_once_at_a_time() -> None:
    with Standin(Counting(), delay=0.3) as server:
        asker, answers = client(server), []
        threads = [threading.Thread(target=lambda: answers.append(asker.ask(Question("Write.")))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 1 and {a.texts for a in answers} == {("sample 0",)}


def test_a_budget_stops_the_asking() -> None:
    with Standin(Counting()) as server:
        asker = client(server, budget=Budget(tokens=60))
        answers = [asker.ask(Question(f"Write {i}.", max_tokens=10)) for i in range(40)]
        assert answers[0].ok and answers[-1].outcome == "error" and "budget is spent" in answers[-1].why
        assert asker.budget.spent_in + asker.budget.spent_out <= 60 and len(server.requests) < 20 and asker.breaker.up


def test_mistakes_in_the_settings() -> None:
    for bad in (
        {"base_url": "127.0.0.1:80"}, {"base_url": "http://me:secret@host/v1"}, {"base_url": "http://host/v1?key=1"},
        {"model": ""}, {"timeout": 0}, {"rung": "grammar"}, {"transport": "pigeon"}, {"only_cache": True},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Client(**{"base_url": "http://127.0.0.1:1/v1", "model": "m", **bad})
    with Standin(Oracle(yes)) as server:
        with pytest.raises(LanguageError, match="no list of models"):
            Client(server.url.replace("/v1", ""), "m", transport=_Says(200, "<html>")).check()


class _Says:
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text

    def send(self, path: str, body: Any, seconds: float) -> Any:
        from cairn.shaping.language.transport import Reply

        return Reply(self.status, {}, None, self.text)

    def close(self) -> None:
        pass


def test_no_redirect_is_followed() -> None:
    asker = Client("http://127.0.0.1:1/v1", "m", transport=_Says(302, ""), retries=0)
    assert "sends elsewhere" in asker.ask(Question("a")).why


def test_the_sdk_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("CAIRN_TEST_SDK", "sk-sdk-222222")
    with Standin(Oracle(yes), key="sk-sdk-222222", faults=faults("429", "500")) as server:
        asker = client(server, transport="openai", key_env="CAIRN_TEST_SDK")
        asker.check()
        answer = asker.ask(Question("Is it?", n=2, schema=LABEL, seed=3))
        assert answer.outcomes == ("ok", "ok") and len(server.requests) == 3
        plain = client(server, key_env="CAIRN_TEST_SDK")
        assert plain.ask(Question("Is it?", n=2, schema=LABEL, seed=3)).values == answer.values
        assert server.requests[-1] == server.requests[-2]
    gone = Client(server.url, "m", transport="openai", retries=0, key_env=None)
    assert gone.ask(Question("a")).outcome == "error"
