"""Who answers in tests: recorded completions, and a small random transformer held to a schema while it writes."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cairn.shaping.language import Answer, Cache, Question
from cairn.shaping.language.ask import sample_of

RECORDED = Path(__file__).parent / "recorded.jsonl"


def recordings(kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of the fixture: good, buggy, hostile and off-task completions."""
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [row for row in rows if kind in (None, row["kind"])]


class Recorded:
    """Answers from the fixture, and says so where it has nothing."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.cache.load_lines(RECORDED, "recorded")

    def ask(self, question: Question) -> Answer:
        found = self.cache.get(question.key("recorded"), question.n)
        if not found:
            return Answer(outcome="error", why="not recorded")
        samples = [found[k] for k in sorted(found)]
        outcomes = tuple(s.outcome for s in samples)
        return Answer(
            tuple(s.text for s in samples), "ok" if "ok" in outcomes else outcomes[0],
            tuple(s.value for s in samples), outcomes, tuple(s.rung for s in samples),
        )  # fmt: skip


class TinyTransformer(nn.Module):
    """Two causal layers over bytes, 32 wide, with weights from a seed: nobody has trained it."""

    def __init__(self, seed: int = 0, width: int = 32, context: int = 256) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.context = context
        self.embed, self.place = nn.Embedding(257, width), nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 257)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
        self.eval()

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of the next byte (256 is the end), ``[257]``, after tokens ``[L]``."""
        tokens = tokens[-self.context :]
        x = self.embed(tokens) + self.place(torch.arange(len(tokens)))
        mask = nn.Transformer.generate_square_subsequent_mask(len(tokens))
        return self.head(self.layers(x[None], mask=mask, is_causal=True))[0, -1]


def sentences(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Every value that a finite schema allows."""
    if "enum" in schema:
        yield from schema["enum"]
    elif schema.get("type") == "boolean":
        yield from (False, True)
    elif schema.get("type") == "integer":
        yield from range(schema["minimum"], schema["maximum"] + 1)
    elif schema.get("type") == "object":
        names = list(schema["properties"])
        for values in itertools.product(*(list(sentences(schema["properties"][n])) for n in names)):
            yield dict(zip(names, values))
    else:
        raise ValueError(f"{schema} allows too much to be listed")


class Tiny:
    """A giver around the transformer; with a schema, only bytes that lead to a value which fits it are drawn."""

    def __init__(self, seed: int = 0) -> None:
        self.model, self.seed = TinyTransformer(seed), seed

    def ask(self, question: Question) -> Answer:
        allowed = None if question.schema is None else [json.dumps(v) for v in sentences(question.schema)]
        texts = tuple(self._write(question, k, allowed) for k in range(question.n))
        samples = [sample_of(t, question) for t in texts]
        return Answer(
            texts, samples[0].outcome, tuple(s.value for s in samples), tuple(s.outcome for s in samples),
            tuple(s.rung for s in samples),
        )  # fmt: skip

    def _write(self, question: Question, k: int, allowed: list[str] | None) -> str:
        generator = torch.Generator().manual_seed((question.seed or 0) * 1009 + 31 * k + self.seed)
        prompt = "\n".join(str(m["content"]) for m in question.messages)
        tokens, out = list(prompt.encode())[-200:], b""
        left = None if allowed is None else [t.encode() for t in allowed]
        for _ in range(40 if left is None else 400):
            logits = self.model(torch.tensor(tokens + list(out))) / max(question.temperature, 1e-3)
            if left is not None:
                following = {t[len(out)] if len(t) > len(out) else 256 for t in left}
                mask = torch.full((257,), -torch.inf)
                mask[list(following)] = 0.0
                logits = logits + mask
            byte = int(torch.multinomial(logits.softmax(-1), 1, generator=generator))
            if byte == 256:
                break
            out += bytes([byte])
            if left is not None:
                left = [t for t in left if t.startswith(out)]
        return out.decode("utf-8", "replace")
