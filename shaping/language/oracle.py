"""An oracle behind the same face as a server, with a dial: how often it is right.

What a reward learns from labels of known quality is a curve over the dial; the subgoals of published code were made so
too (Words as Beacons: "errors are simulated"). It also lets examples and tests run where there is no model.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from .ask import Answer, Question, Sample, canonical, sample_of


class Oracle:
    """Answers by a rule, wrongly in a known share of the questions.

    Args:
        rule: From a question to the right value (any JSON value, or text where the question has no schema); None for "I
            cannot tell", which is the outcome "refused".
        wrong: From a question and the right value to the wrong ones; one of them is drawn. Left out, the schema's
            other words where it is an enum, or an object of one.
        accuracy: The share of questions that are answered rightly.
        seed: Of the errors. Each depends on seed, question and sample index alone: asked again, the same answer comes.

    Raises:
        ValueError: The accuracy is no share.
    """

    def __init__(
        self,
        rule: Callable[[Question], Any],
        wrong: Callable[[Question, Any], list[Any]] | None = None,
        accuracy: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= accuracy <= 1:
            raise ValueError(f"Oracle(accuracy={accuracy}): a share is between 0 and 1")
        self.rule, self.wrong, self.accuracy, self.seed = rule, wrong or other_words, float(accuracy), seed
        self.asked = 0

    def ask(self, question: Question) -> Answer:
        """Answer each sample by itself."""
        self.asked += 1
        samples = [self.sample(question, k) for k in range(question.n)]
        outcomes = tuple(s.outcome for s in samples)
        return Answer(
            tuple(s.text for s in samples), "ok" if "ok" in outcomes else outcomes[0],
            tuple(s.value for s in samples), outcomes, tuple(s.rung for s in samples),
            next((s.why for s in samples if s.why), ""),
        )  # fmt: skip

    def sample(self, question: Question, k: int = 0) -> Sample:
        """Sample ``k`` of a question."""
        value = self.rule(question)
        if value is None:
            return Sample("I cannot tell.", "refused", why="it declines")
        draw = unit(self.seed, question.key("oracle"), k)
        if draw >= self.accuracy:
            others = self.wrong(question, value)
            if others:
                # What is left of the draw says which, so that one number does both.
                share = (draw - self.accuracy) / (1 - self.accuracy)
                value = others[min(int(share * len(others)), len(others) - 1)]
        return sample_of(value if isinstance(value, str) and question.schema is None else json.dumps(value), question)


def unit(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.sha256(canonical(list(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def other_words(question: Question, value: Any) -> list[Any]:
    """The other words of a schema that is an enum, or an object whose only required part is one."""
    schema = question.schema or {}
    if "enum" in schema:
        return [w for w in schema["enum"] if w != value]
    required = list(schema.get("required", ()))
    if len(required) == 1 and isinstance(value, dict):
        words = schema.get("properties", {}).get(required[0], {}).get("enum", [])
        return [{required[0]: w} for w in words if w != value[required[0]]]
    return []
