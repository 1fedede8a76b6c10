"""What is asked of a language model, what comes back, and who may answer.

Rewards see these three and nothing else: a server (``client.Client``), an oracle with a dial (``oracle.Oracle``) and a
recording are one to them. An answer that cannot be used is an outcome of its own, never a label of 0: a refusal
taken for "not helpful" trains an agent on nothing (a fault of published code, see the tests).
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

from .ladder import check_schema, fenced, is_refusal, read

Outcome = Literal["ok", "refused", "unparsable", "late", "error"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_ROLES = ("system", "user", "assistant", "developer")
_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}@[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
MOST_SAMPLES = 256


class LanguageError(RuntimeError):
    """Nobody can be asked: no server, a wrong key, a wrong model; the message says which, and the way out."""


@dataclass(frozen=True, eq=False)
class Question:
    """One request for ``n`` samples.

    Args:
        messages: ``{"role": ..., "content": ...}`` each, the content text or a list of parts (``image`` makes one); a
            plain text is one user message.
        n: How many samples.
        schema: JSON schema of the answer (the part of it that ``ladder`` names); None for free text.
        temperature: Of the sampling.
        seed: Of the sampling, for servers that take one.
        template: Name and version of the prompt, ``"name@version"``. It is part of the cache's key: whoever changes a
            prompt's meaning changes the version.
        max_tokens: Most tokens of each sample.

    Raises:
        ValueError: A field is none of what is said above.
    """

    messages: Any
    n: int = 1
    schema: Mapping[str, Any] | None = None
    temperature: float = 1.0
    seed: int | None = None
    template: str = "plain@1"
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        given = [{"role": "user", "content": self.messages}] if isinstance(self.messages, str) else self.messages
        if not isinstance(given, Sequence) or not given:
            raise ValueError(
                "Question: messages is a text, or a list of {'role': ..., 'content': ...} that is not empty"
            )
        for message in given:
            if not isinstance(message, Mapping) or message.get("role") not in _ROLES or "content" not in message:
                raise ValueError(
                    f"Question: {message!r} is no message; it has a role ({', '.join(_ROLES)}) and content"
                )
        if not 1 <= self.n <= MOST_SAMPLES:
            raise ValueError(f"Question(n={self.n}): between 1 and {MOST_SAMPLES} samples")
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"Question(temperature={self.temperature}): between 0 and 10")
        if self.max_tokens < 1:
            raise ValueError(f"Question(max_tokens={self.max_tokens}): at least 1")
        if not _TEMPLATE.fullmatch(self.template):
            raise ValueError(f"Question(template={self.template!r}): a name and a version, as in 'oni-label@1'")
        if self.schema is not None:
            check_schema(self.schema)
        object.__setattr__(self, "messages", tuple(json.loads(canonical(m)) for m in given))

    @property
    def pictures(self) -> bool:
        """Whether a part of a message is an image."""
        parts = [p for m in self.messages if isinstance(m["content"], list) for p in m["content"]]
        return any(p.get("type") == "image_url" for p in parts if isinstance(p, Mapping))

    def key(self, model: str) -> str:
        """SHA-256 of the canonical request, in hex; the number of samples is not in it, as each has its own index."""
        return hashlib.sha256(canonical({**self.to_json(), "n": None, "model": model}).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which ``Question(**values)`` makes the same question."""
        schema = None if self.schema is None else json.loads(canonical(self.schema))
        return {
            "messages": list(self.messages), "n": self.n, "schema": schema, "temperature": self.temperature,
            "seed": self.seed, "template": self.template, "max_tokens": self.max_tokens,
        }  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back.

    ``outcome`` is "ok" where at least one sample is; else that of the first sample, or of the whole request:
    "refused" (the model would not), "unparsable" (an answer, but not the one asked for, or cut off), "late" (nothing
    within the time), "error" (no server, no money, nothing recorded).
    """

    texts: tuple[str, ...] = ()
    """The samples' texts, at most ``n``."""
    outcome: Outcome = "ok"
    values: tuple[Any, ...] = ()
    """For each text what the schema asked for; None where that text is not ok, or there is no schema."""
    outcomes: tuple[Outcome, ...] = ()
    """For each text its own."""
    rungs: tuple[str, ...] = ()
    """For each text how its value was found: "json", "fence", "braces", "pattern"; "" without a schema."""
    why: str = ""
    """What went wrong, in words; what a server said is cut and stripped in it."""
    tokens_in: int = 0
    """Of the prompt, as the server counted (0 from the cache)."""
    tokens_out: int = 0
    """Of the samples."""
    cached: int = 0
    """How many of the texts came from the cache."""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"Answer(outcome={self.outcome!r}): one of {', '.join(OUTCOMES)}")
        for name, fill in (("outcomes", self.outcome), ("values", None), ("rungs", "")):
            if len(getattr(self, name)) != len(self.texts):
                if getattr(self, name):
                    raise ValueError(f"Answer: {len(self.texts)} texts and {len(getattr(self, name))} {name}")
                object.__setattr__(self, name, (fill,) * len(self.texts))

    @property
    def ok(self) -> bool:
        """Whether there is something to use."""
        return self.outcome == "ok"

    @property
    def text(self) -> str | None:
        """The first text that is ok."""
        return next((t for t, o in zip(self.texts, self.outcomes) if o == "ok"), None)

    @property
    def value(self) -> Any:
        """The value of the first text that is ok; None without a schema, or where none is."""
        return next((v for v, o in zip(self.values, self.outcomes) if o == "ok"), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for journals."""
        return {
            "texts": list(self.texts), "outcome": self.outcome, "values": list(self.values),
            "outcomes": list(self.outcomes), "rungs": list(self.rungs), "why": self.why,
            "tokens_in": self.tokens_in, "tokens_out": self.tokens_out, "cached": self.cached,
        }  # fmt: skip

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """Put together what ``to_json`` took apart.

        Raises:
            ValueError: It is not an answer's.
        """
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in tree.items()}
        try:
            return cls(**parts)
        except TypeError as error:
            raise ValueError(f"this is not an answer that was saved: {error}") from None


@runtime_checkable
class Giver(Protocol):
    """Whoever answers. It must not raise: what goes wrong is an outcome. Several threads may ask at once.

    Optional: ``health() -> dict[str, float]`` for the log.
    """

    def ask(self, question: Question) -> Answer:
        """Answer, or say how it failed."""
        ...


@dataclass(frozen=True)
class Sample:
    """One of an answer's texts with what was made of it; what the cache keeps."""

    text: str
    outcome: Outcome = "ok"
    value: Any = None
    rung: str = ""
    why: str = ""
    tokens_in: int = field(default=0, compare=False)
    tokens_out: int = field(default=0, compare=False)


def sample_of(text: str, question: Question, finish: str = "stop", refusal: str = "") -> Sample:
    """Judge a text that a model gave for a question.

    Args:
        text: What it said.
        question: What it was asked.
        finish: The server's ``finish_reason``: "length" is an answer cut off, "content_filter" one withheld.
        refusal: What the server says where it tells refusals apart.
    """
    if refusal or finish == "content_filter":
        return Sample(text, "refused", why=refusal or "withheld by the server's filter")
    if question.schema is not None:
        value, rung, why = read(text, question.schema)
        if rung:
            return Sample(text, "ok", value, rung)
        if is_refusal(text):
            return Sample(text, "refused", why="it declines")
        cut = f", and it was cut off at max_tokens={question.max_tokens}" if finish == "length" else ""
        return Sample(text, "unparsable", why=why + cut)
    if finish == "length":
        return Sample(text, "unparsable", why=f"cut off at max_tokens={question.max_tokens}")
    if not text.strip():
        return Sample(text, "unparsable", why="it is empty")
    if is_refusal(text) and not fenced(text):
        return Sample(text, "refused", why="it declines")
    return Sample(text)


def canonical(tree: Any) -> str:
    """The one JSON text of a tree: sorted keys, no blanks, no NaN.

    Raises:
        ValueError: It holds what JSON cannot say.
    """
    try:
        return json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a question is made of text, numbers, lists and dicts: {error}") from None


def image(picture: Any, detail: str | None = None) -> dict[str, Any]:
    """A picture as a part of a message: uint8 ``[H, W, 3]`` (array or tensor), or the bytes of a PNG file.

    Raises:
        ValueError: It is no such picture.
    """
    if not isinstance(picture, bytes):
        import imageio.v3 as iio
        import numpy as np

        pixels = np.asarray(picture)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"a picture is uint8 [H, W, 3], and this is {pixels.dtype} {list(pixels.shape)}")
        picture = iio.imwrite("<bytes>", pixels, extension=".png")
    elif not picture.startswith(b"\x89PNG"):
        raise ValueError("these bytes are no PNG file")
    url: dict[str, Any] = {"url": "data:image/png;base64," + base64.b64encode(picture).decode()}
    return {"type": "image_url", "image_url": url if detail is None else {**url, "detail": detail}}
