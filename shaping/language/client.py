"""A client of any server that speaks OpenAI's chat protocol: OpenAI, vLLM, llama.cpp, Ollama, LM Studio.

``ask`` never raises and never waits longer than its deadline: what goes wrong is an outcome, and counted. It may be
called by several threads.
"""

import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, NamedTuple

from .ask import Answer, LanguageError, Outcome, Question, Sample, sample_of
from .budget import Budget, estimate
from .cache import Cache
from .health import Breaker, Tally, pause
from .keys import struck
from .ladder import RUNGS, instruction
from .transport import TRANSPORTS, NoReply, Reply, Transport, check_url

_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
# Fields that a server may refuse, the most unusual first.
_FIELDS = ("response_format", "seed", "n", "max_tokens", "temperature")
_RARE = _FIELDS[:3]


class _Failure(NamedTuple):
    outcome: Outcome
    why: str


class _Able(NamedTuple):
    """How far down the ladder requests begin, and which fields are left out."""

    rung: int
    without: frozenset[str]


class _Nobody:
    """The transport of a client that answers from its cache alone."""

    def send(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Reply:
        raise NoReply("only the cache is asked")

    def close(self) -> None:
        """Nothing to close."""


class Client:
    """Asks a server.

    Args:
        base_url: Up to and with the version: ``http://127.0.0.1:8000/v1``.
        model: As the server calls it.
        key_env: Name of the environment variable that holds the key. The key is read when the first request is sent and
            taken out of this process's environment then, so that children do not inherit it.
        cache: Answers on disk; a path, or a ``Cache`` that several clients share. None keeps nothing.
        only_cache: Ask nobody; what is not in the cache is an outcome "error" (an exact rerun, offline).
        budget: Most tokens and money.
        timeout: Seconds for one try.
        deadline: Seconds for a question, waits and all tries included; then the outcome is "late".
        retries: How many more tries after the first.
        parallel: Most requests under way at once.
        rung: Where the ladder of structured answers begins: "schema", "json" or "words".
        transport: "httpx", "openai" (the SDK), or an object of your own.
        seed: Of the jitter; the global random streams are left alone.

    Raises:
        ValueError: A setting is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_env: str | None = "OPENAI_API_KEY",
        cache: Cache | str | Path | None = None,
        only_cache: bool = False,
        budget: Budget | None = None,
        timeout: float = 60.0,
        deadline: float = 300.0,
        retries: int = 4,
        parallel: int = 4,
        rung: str = "schema",
        transport: str | Transport = "httpx",
        breaker: Breaker | None = None,
        seed: int | None = None,
    ) -> None:
        if not (timeout > 0 and deadline > 0 and retries >= 0 and parallel >= 1):
            raise ValueError("Client: timeout and deadline are above 0, retries not below 0, parallel at least 1")
        if rung not in RUNGS:
            raise ValueError(f"Client(rung={rung!r}): one of {', '.join(RUNGS)}")
        if not isinstance(model, str) or not model:
            raise ValueError("Client: model is the name that the server has for it (see Client.models())")
        if only_cache and cache is None:
            raise ValueError("Client(only_cache=True) answers from a cache: say which, cache=")
        if isinstance(transport, str):
            if transport not in TRANSPORTS:
                raise ValueError(f"Client(transport={transport!r}): one of {', '.join(TRANSPORTS)}")
            check_url(base_url)
            transport = _Nobody() if only_cache else TRANSPORTS[transport](base_url, key_env)
        self.base_url, self.model, self.key_env, self.only_cache = base_url, model, key_env, only_cache
        self.cache = Cache(cache) if isinstance(cache, str | Path) else cache
        self.budget, self.timeout, self.deadline, self.retries = budget or Budget(), timeout, deadline, retries
        self.breaker, self.tally, self.last_error = breaker or Breaker(), Tally(), ""
        self.able = _Able(RUNGS.index(rung), frozenset())  # what the server takes, as far as it has complained
        self._transport = transport
        self._slots = threading.BoundedSemaphore(parallel)
        self._draw = random.Random(seed)
        self._closed = threading.Event()
        self._running: dict[tuple[str, int], Future[Answer]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Client({self.base_url!r}, {self.model!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Client":
        """A client is shared: its connections, budget and cache are one."""
        return self

    # ---- asking --------------------------------------------------------------------------------------------

    def ask(self, question: Question) -> Answer:
        """Answer from the cache where it can, else from the server; the same question is never asked twice at once."""
        key = question.key(self.model)
        with self._lock:
            future = self._running.get((key, question.n))
            mine = future is None
            if future is None:
                future = self._running[key, question.n] = Future()
        if not mine:
            try:
                return future.result(timeout=self.deadline)
            except FutureTimeout:
                return Answer(outcome="late", why="the same question was under way, and took too long")
        answer = Answer(outcome="error", why="interrupted")
        try:
            answer = self._answer(question, key)
        except Exception as error:  # a fault of ours or of the transport's must not end a run
            answer = Answer(outcome="error", why=f"{type(error).__name__}: {struck(str(error))}")
        finally:
            with self._lock:
                del self._running[key, question.n]
            future.set_result(answer)
        if answer.outcome in ("late", "error"):
            self.last_error = answer.why
        self.tally.add(
            asked=1, samples=len(answer.texts), cached=answer.cached, tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out, **{answer.outcome: 1},
        )  # fmt: skip
        return answer

    def _answer(self, question: Question, key: str) -> Answer:
        found = {} if self.cache is None else self.cache.get(key, question.n)
        cached, failure, empty = len(found), None, 0
        end = time.monotonic() + self.deadline
        fresh: list[Sample] = []
        while len(found) < question.n:
            missing = [k for k in range(question.n) if k not in found]
            # A server that gives fewer than were asked for is asked for the rest, as long as it gives any.
            samples = self._samples(question, missing, end)
            if isinstance(samples, _Failure):
                failure = samples
                break
            empty = empty + 1 if not samples else 0
            if empty > self.retries:
                failure = _Failure("error", "the server answers without a choice in it")
                break
            for k, sample in zip(missing, samples):
                found[k] = sample
                fresh.append(sample)
                if self.cache is not None:
                    self.cache.put(key, k, sample, self.model, question.template)
        used = [found[k] for k in sorted(found)]
        outcomes = tuple(s.outcome for s in used)
        outcome: Outcome = "ok" if "ok" in outcomes else outcomes[0] if outcomes else "error"
        why = next((s.why for s in used if s.why), "")
        if failure is not None:
            outcome, why = ("ok" if outcome == "ok" and used else failure.outcome), failure.why
        return Answer(
            tuple(s.text for s in used), outcome, tuple(s.value for s in used), outcomes, tuple(s.rung for s in used),
            why, sum(s.tokens_in for s in fresh), sum(s.tokens_out for s in fresh), cached,
        )  # fmt: skip

    def _samples(self, question: Question, missing: list[int], end: float) -> list[Sample] | _Failure:
        """One request that is answered, after tries and after leaving out what the server does not take."""
        if self.only_cache:
            return _Failure(
                "error", f"not in the cache {self.cache.path if self.cache else ''}, and only that is asked"
            )
        attempt, able = 0, self.able
        for _ in range(16 + self.retries):
            if self._closed.is_set():
                return _Failure("error", "the client was closed")
            left = end - time.monotonic()
            if left <= 0:
                return _Failure("late", f"no answer within {self.deadline:.3g} s")
            if not self.breaker.admits():
                return _Failure("error", f"the server is given a rest for {self.breaker.wait:.0f} s: {self.last_error}")
            body, count = self._body(question, missing, able)
            ticket = self.budget.admit(_guess(question), question.max_tokens * count)
            if ticket is None:
                self.breaker.tell(self.breaker.up)
                return _Failure("error", f"the budget is spent: {self.budget.line}")
            headers: Mapping[str, str] = {}
            try:
                with self._slots:
                    reply = self._transport.send("/chat/completions", body, min(self.timeout, left))
            except NoReply as none:
                self.budget.settle(ticket, None if none.late else (0, 0))
                problem = _Failure("late" if none.late else "error", str(none))
            except BaseException:
                self.budget.settle(ticket, (0, 0))
                self.breaker.tell(False)
                raise
            else:
                headers, choices = reply.headers, _choices(reply)
                if choices is not None:
                    self.breaker.tell(True)
                    self.able = able  # what had to be left out was the trouble
                    used = _usage(reply.payload)
                    self.budget.settle(ticket, used)
                    return _judged(choices[:count], question, used)
                self.budget.settle(ticket, (0, 0) if reply.status >= 400 else None)
                less = _without(able, reply, body) if reply.status in (400, 404, 415, 422, 501) else None
                if less is not None:
                    self.breaker.tell(True)
                    able = less
                    continue
                problem = self._problem(reply, question)
                if not (reply.status in _AGAIN or reply.status < 400) or "insufficient_quota" in reply.text:
                    hopeless = reply.status in (401, 402, 403, 404, 429) or reply.status < 400
                    self.breaker.tell(not hopeless, at_once=True)  # it is up, and does not like this one question
                    return problem
            self.breaker.tell(False)
            self.last_error = problem.why
            if attempt >= self.retries:
                return problem
            wait = pause(attempt, headers, self._draw)
            if time.monotonic() + wait >= end:
                return _Failure("late", f"{problem.why}; the next try would be after the deadline")
            self._closed.wait(wait)
            attempt += 1
            self.tally.add(retries=1)
        return _Failure("error", "the server takes none of the requests that it is offered")

    def _body(self, question: Question, missing: list[int], able: _Able) -> tuple[dict[str, Any], int]:
        """The request, and how many samples it asks for."""
        count = len(missing) if "n" not in able.without else 1
        messages: list[Any] = [dict(m) for m in question.messages]
        rung = RUNGS[able.rung] if question.schema is not None else ""
        if rung in ("json", "words"):
            assert question.schema is not None
            messages[-1]["content"] = _with_text(messages[-1]["content"], instruction(question.schema))
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        limit = "max_tokens" if "max_tokens" not in able.without else "max_completion_tokens"
        body[limit] = question.max_tokens
        if "temperature" not in able.without:
            body["temperature"] = question.temperature
        if count > 1:
            body["n"] = count
        if question.seed is not None and "seed" not in able.without:
            # Samples that are asked for one by one must differ.
            body["seed"] = question.seed + missing[0]
        if rung == "schema":
            form = {"name": "answer", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif rung == "json":
            body["response_format"] = {"type": "json_object"}
        return body, count

    def _problem(self, reply: Reply, question: Question) -> _Failure:
        """What a reply without an answer means, in words."""
        said = f"{reply.status}: {reply.text}" if reply.text else str(reply.status)
        if reply.status in (401, 403):
            return _Failure("error", f"the key in {self.key_env} is not accepted at {self.base_url} ({said})")
        if reply.status == 404:
            return _Failure("error", f"{self.base_url} has no model {self.model!r}, or is no such server ({said})")
        if 300 <= reply.status < 400:
            return _Failure("error", f"{self.base_url} sends elsewhere, and is not followed ({said})")
        if reply.status in (400, 415, 422) and question.pictures:
            return _Failure("error", f"the server does not take this request with images ({said})")
        if reply.status < 400:
            return _Failure("error", f"the reply is not a chat completion, or was cut off ({said})")
        return _Failure("error", f"the server says {said}")

    # ---- looking -------------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """Names of the server's models.

        Raises:
            LanguageError: No server, a wrong key, or no such list.
        """
        try:
            reply = self._transport.send("/models", None, min(self.timeout, 20.0))
        except NoReply as none:
            raise LanguageError(
                f"{none}. Start the server, or correct the base URL (it ends in /v1 with most)"
            ) from None
        listed = reply.payload.get("data") if isinstance(reply.payload, Mapping) else None
        if reply.status in (401, 403):
            raise LanguageError(
                self._problem(reply, Question("?")).why + ". Set the variable before the program starts"
            )
        if reply.status != 200 or not isinstance(listed, list):
            raise LanguageError(f"{self.base_url}/models gives no list of models ({reply.status}: {reply.text})")
        return [str(m.get("id")) for m in listed if isinstance(m, Mapping)]

    def check(self) -> None:
        """Find out before training whether this can work.

        Raises:
            LanguageError: No server, a wrong key or a wrong model name; the message has the way out.
        """
        names = self.models()
        if names and self.model not in names:
            shown = ", ".join(names[:20])
            raise LanguageError(f"the server at {self.base_url} has no model {self.model!r}; it has {shown}")

    def health(self) -> dict[str, float]:
        """Counts for the log; ``server_up`` is 0 while the breaker keeps requests back."""
        spent = {"money": self.budget.spent} if self.budget.price_in + self.budget.price_out else {}
        return {**{k: float(v) for k, v in self.tally.counts.items()}, **spent, "server_up": float(self.breaker.up)}

    @property
    def line(self) -> str:
        """The health, in words."""
        c = self.tally.counts
        bad = ", ".join(f"{c[name]} {name}" for name in ("refused", "unparsable", "late", "error") if c[name])
        up = "" if self.breaker.up else f"; NOT ANSWERING: {self.last_error}"
        return f"{c['asked']} asked, {c['ok']} ok{', ' + bad if bad else ''}, {c['cached']} from the cache{up}"

    def close(self) -> None:
        """Stop waiting and let go of connections; the cache's file too."""
        self._closed.set()
        self._transport.close()
        if self.cache is not None:
            self.cache.close()


def _without(able: _Able, reply: Reply, body: Mapping[str, Any]) -> _Able | None:
    """Go without a field that the server refuses: the one it names, else the most unusual; None if it is no field."""
    words = reply.text.lower().replace("json_schema", "response_format").replace('"', "'").replace("`", "'")
    if "model" in words and reply.status == 404 or "image" in words:
        return None
    sent = [f for f in _FIELDS if f in body]
    named = [f for f in sent if f"'{f}'" in words or (f != "n" and f in words)]
    # Without a name it may be any of the three that servers lack most often.
    for field in [*named, *(f for f in sent if f in _RARE)]:
        if field == "response_format":
            return _Able(min(able.rung + 1, len(RUNGS) - 1), able.without)
        return _Able(able.rung, able.without | {field})
    return None


def _guess(question: Question) -> int:
    """Tokens of a prompt before anybody has counted them; an image is taken for 1,500."""
    parts = [p for m in question.messages for p in (m["content"] if isinstance(m["content"], list) else [m["content"]])]
    texts = [p if isinstance(p, str) else str(p.get("text", "")) for p in parts]
    return sum(map(estimate, texts)) + 1500 * sum(1 for p in parts if not isinstance(p, str) and "image_url" in p)


def _with_text(content: Any, text: str) -> Any:
    return content + text if isinstance(content, str) else [*content, {"type": "text", "text": text}]


def _choices(reply: Reply) -> list[Mapping[str, Any]] | None:
    """The choices of a reply, or None where it is no chat completion."""
    if reply.status != 200 or not isinstance(reply.payload, Mapping):
        return None
    choices = reply.payload.get("choices")
    if not isinstance(choices, list) or not all(isinstance(c, Mapping) for c in choices):
        return None
    return choices


def _usage(payload: Mapping[str, Any]) -> tuple[int, int] | None:
    usage = payload.get("usage")
    if not isinstance(usage, Mapping):
        return None
    try:
        return max(int(usage["prompt_tokens"]), 0), max(int(usage.get("completion_tokens", 0)), 0)
    except (KeyError, TypeError, ValueError):
        return None


def _judged(choices: list[Mapping[str, Any]], question: Question, used: tuple[int, int] | None) -> list[Sample]:
    """Each choice as a sample; the usage goes with the first."""
    samples = []
    for i, choice in enumerate(choices):
        message = choice.get("message")
        content = message.get("content") if isinstance(message, Mapping) else None
        refusal = message.get("refusal") if isinstance(message, Mapping) else None
        if isinstance(content, list):  # parts
            content = "".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
        text = content if isinstance(content, str) else ""
        judged = sample_of(text, question, str(choice.get("finish_reason")), struck(str(refusal)) if refusal else "")
        tokens = used if i == 0 and used is not None else (0, 0)
        samples.append(Sample(judged.text, judged.outcome, judged.value, judged.rung, judged.why, *tokens))
    return samples
