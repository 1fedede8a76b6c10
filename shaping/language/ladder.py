"""Structured answers from servers of all kinds: a ladder from a schema that the server holds to, down to a pattern.

Servers refuse different fields (LM Studio JSON mode, transformers' server ``response_format``), and models wrap JSON
in prose. So a request begins on the highest rung and goes down where the server refuses it, and a text is read as
JSON, then as a fenced block, then as the first balanced braces, then, for a choice among words, as the one word that
stands in it. The value always has to fit the schema: a part of JSON Schema whose keywords are in ``KEYWORDS``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# What a request may ask the server for, the strictest first. The last asks in words alone.
RUNGS = ("schema", "json", "words")
KEYWORDS = frozenset({
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "minimum", "maximum", "minLength", "maxLength", "title", "description",
})  # fmt: skip
MOST_TEXT = 1 << 20  # characters of an answer that are read
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_FENCE = re.compile(r"```[ \t]*([A-Za-z0-9_+-]*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry[,.]|i can(no|['’])t |i cannot|i can not|i['’]?m (unable|not able)|"
    r"i am (unable|not able)|i (won['’]t|will not|must decline|decline)|as an ai\b)",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """What was made of a text."""

    value: Any
    rung: str
    """Where the value was found: "json", "fence", "braces", "pattern"; "" where it was not."""
    why: str
    """Why there is none."""


def check_schema(schema: Any, where: str = "schema") -> None:
    """Refuse what ``fits`` would silently ignore.

    Raises:
        ValueError: A keyword is not among ``KEYWORDS``, or a type is unknown.
    """
    if not isinstance(schema, Mapping):
        raise ValueError(f"{where} is a dict of JSON Schema's keywords, and not {schema!r}")
    odd = set(schema) - KEYWORDS
    if odd:
        raise ValueError(
            f"{where}: {', '.join(sorted(odd))} is not checked here; there are {', '.join(sorted(KEYWORDS))}"
        )
    if "type" in schema and schema["type"] not in _TYPES:
        raise ValueError(f"{where}: no type is called {schema['type']!r}; there are {', '.join(_TYPES)}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{where}[]")


def fits(value: Any, schema: Mapping[str, Any], where: str = "the answer") -> str:
    """Say why a value does not fit a schema, or "" where it does."""
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return f"{where} is not of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is not one of {json.dumps(schema['enum'])[:200]}"
    if "const" in schema and value != schema["const"]:
        return f"{where} is not {json.dumps(schema['const'])[:200]}"
    for low, high, size in (
        ("minimum", "maximum", value if isinstance(value, int | float) else None),
        ("minLength", "maxLength", len(value) if isinstance(value, str) else None),
        ("minItems", "maxItems", len(value) if isinstance(value, list) else None),
    ):
        if size is not None and not schema.get(low, size) <= size <= schema.get(high, size):
            return f"{where} is out of range ({low} {schema.get(low)}, {high} {schema.get(high)})"
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                return f"{where} lacks {name!r}"
        if schema.get("additionalProperties") is False and set(value) - set(parts):
            return f"{where} has more than {', '.join(parts)}"
        return next((w for n, p in parts.items() if n in value if (w := fits(value[n], p, f"{where}.{n}"))), "")
    if isinstance(value, list) and "items" in schema:
        return next((w for i, v in enumerate(value) if (w := fits(v, schema["items"], f"{where}[{i}]"))), "")
    return ""


def read(text: str, schema: Mapping[str, Any]) -> Reading:
    """Find the value that a schema asks for in a model's text, by the strictest way that works."""
    why = "there is no JSON in it"
    if len(text) > MOST_TEXT:
        return Reading(None, "", f"it is longer than {MOST_TEXT} characters")
    for rung, piece in _pieces(text):
        try:
            value = json.loads(piece, parse_constant=_no_constant, object_pairs_hook=_no_twice)
        except (ValueError, RecursionError):
            continue
        why = fits(value, schema)
        if not why:
            return Reading(value, rung, "")
    value = _word(text, schema)
    return Reading(None, "", why) if value is None else Reading(value, "pattern", "")


def fenced(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a text, in order; with ``languages``, those of them where there are any.

    A block that is not closed goes to the end of the text.
    """
    blocks = [(tag.lower(), body) for tag, body in _FENCE.findall(text[:MOST_TEXT])]
    wanted = [body for tag, body in blocks if tag in languages]
    return wanted or [body for _, body in blocks]


def is_refusal(text: str) -> bool:
    """Whether a text that is not what was asked for begins as refusals do."""
    return bool(_REFUSAL.match(text[:200]))


def instruction(schema: Mapping[str, Any]) -> str:
    """What a prompt says where the server does not hold the model to the schema."""
    return (
        "\n\nAnswer with one JSON value that fits this JSON schema, in a ```json block, and nothing after it:\n"
        + json.dumps(schema, sort_keys=True)
    )


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    yield "json", text.strip()
    # The last block first: models that think aloud answer at the end.
    for block in reversed(fenced(text, "json", "")):
        yield "fence", block
    yield from (("braces", piece) for piece in _braces(text))


def _braces(text: str) -> Iterator[str]:
    """The first few balanced pieces ``{...}`` and ``[...]``; braces within JSON strings do not count."""
    begin, depth, quoted, found, skip = -1, 0, False, 0, False
    for at, c in enumerate(text):
        if skip:
            skip = False
        elif quoted and c == "\\":
            skip = True
        elif c == '"' and depth:
            quoted = not quoted
        elif not quoted and c in "{[":
            begin, depth = (at, 1) if not depth else (begin, depth + 1)
        elif not quoted and c in "}]" and depth:
            depth -= 1
            if not depth:
                yield text[begin : at + 1]
                found += 1
                if found == 8:
                    return


def _word(text: str, schema: Mapping[str, Any]) -> Any:
    """The one word of an enum that stands in prose; also for an object whose only required part is an enum.

    Where there are braces the model meant JSON, and what is wrong with it is not guessed away.
    """
    required = list(schema.get("required", ()))
    if schema.get("type") == "object" and len(required) == 1:
        inner = _word(text, schema["properties"].get(required[0], {}))
        return None if inner is None else {required[0]: inner}
    words = schema.get("enum", ())
    if not words or not all(isinstance(w, str) for w in words) or "{" in text:
        return None
    there = []
    for word in sorted(words, key=len, reverse=True):  # "not helpful" has "helpful" in it
        text, found = re.subn(rf"(?<!\w){re.escape(word)}(?!\w)", " ", text, flags=re.IGNORECASE)
        there += [word] * bool(found)
    return there[0] if len(there) == 1 else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
