"""A candidate on its way from an answer to a trained agent, and who writes and trains them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from .findings import Finding
from .gate import Gate
from .recorded import Recorded

OUTCOMES = {
    "new": "not looked at yet",
    "empty": "the answer held no program (prose, a refusal, or nothing)",
    "repeat": "the same program as one before",
    "compiler": "the compiler refused the program",
    "behaviour": "the program does not behave as a reward must",
    "critic": "the critic rejected it",
    "gate": "it does not place recorded successes above recorded failures",
    "failed": "its training broke off",
    "trained": "an agent was trained on it",
}


class Designer(Protocol):
    """Who writes rewards: a language model, a stand-in, a person."""

    def propose(self, prompt: str, n: int) -> list[str]:
        """Give at most ``n`` answers to a prompt, each as it was said; fewer where some failed."""
        ...


@dataclass
class Trial:
    """How an agent did that was trained on a candidate.

    Attributes:
        score: The task's own measure at the end, on fresh levels: the share of successes, or the mean return.
        scores: Of each agent, where several with seeds of their own were trained; ``score`` is their mean.
        course: Name -> its value at each of some evenly spaced moments of training: each component's mean over steps,
            ``task return`` and, where the environment tells it, ``success``.
        steps: Environment steps of each agent.
        seconds: Of training.
        error: Why it broke off; empty where it did not.
        episodes: What the trained agent did on fresh levels; the next round's gate and the analyser look at them.
    """

    score: float
    course: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    error: str = ""
    episodes: Recorded | None = None
    scores: tuple[float, ...] = ()

    @property
    def told(self) -> str:
        """The score in words; that of each agent too, where there are several."""
        each = ", ".join(f"{score:.4g}" for score in self.scores)
        return f"{self.score:.4g}" + (f" (agent by agent: {each})" if each else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the episodes and the scores of several; a score that is no number is None."""
        score = self.score if abs(self.score) < float("inf") else None
        return {
            "score": score, "course": self.course, "steps": self.steps, "seconds": self.seconds, "error": self.error,
        }  # fmt: skip

    @classmethod
    def from_json(cls, tree: dict[str, Any], episodes: Recorded | None = None) -> Self:
        """What ``to_json`` gave."""
        return cls(**{**tree, "score": float("nan") if tree["score"] is None else tree["score"]}, episodes=episodes)


def over_seeds(trials: Sequence[Trial]) -> Trial:
    """One trial of several on the same candidate, each with a seed of its own: means, and all of their episodes.

    A candidate one of whose trainings broke off is lost, as with one training alone.
    """
    if len(trials) == 1:
        return trials[0]
    courses = [trial.course for trial in trials]
    names = [name for name in courses[0] if all(name in course for course in courses)]
    # A measure that first has a value when an episode has ended may begin later with one seed than with another.
    least = {name: min(len(course[name]) for course in courses) for name in names}
    lived = [trial.episodes for trial in trials if trial.episodes is not None]
    scores = tuple(trial.score for trial in trials)
    return Trial(
        score=sum(scores) / len(scores),
        course={name: _means([c[name][len(c[name]) - least[name] :] for c in courses]) for name in names},
        steps=sum(trial.steps for trial in trials) // len(trials),
        seconds=sum(trial.seconds for trial in trials),
        error=next((trial.error for trial in trials if trial.error), ""),
        episodes=Recorded.cat(lived) if len(lived) == len(trials) else None,
        scores=scores,
    )


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows)]


class Trials(Protocol):
    """Who trains agents on candidates, side by side."""

    def train(self, rewards: Sequence[Any], seed: int = 0) -> list[Trial]:
        """Train one agent on each reward expression; a training that breaks is a ``Trial`` with its error."""
        ...


@dataclass
class Candidate:
    """One answer and what became of it.

    Attributes:
        name: Such as ``r1c3``: round 1, sample 3.
        answer: What was said, whole.
        program: The reward program in it.
        outcome: A key of ``OUTCOMES``.
        why: Of the outcome, in words for a person and for the next prompt.
        parent: The candidate whose program and reflection it was shown.
    """

    name: str
    answer: str = ""
    program: str | None = None
    outcome: str = "new"
    why: str = ""
    parent: str = ""
    gate: Gate | None = None
    findings: tuple[Finding, ...] = ()
    trial: Trial | None = None

    @property
    def score(self) -> float:
        """Of its trial; minus infinity where there is none, or where it is no number (so that it is never best)."""
        score = self.trial.score if self.trial is not None and not self.trial.error else float("-inf")
        return score if score == score else float("-inf")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name, "answer": self.answer, "program": self.program, "outcome": self.outcome,
            "why": self.why, "parent": self.parent, "gate": None if self.gate is None else self.gate.to_json(),
            "findings": [f.to_json() for f in self.findings],
            "trial": None if self.trial is None else self.trial.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """What ``to_json`` gave."""
        gate, trial = tree["gate"], tree["trial"]
        parsed = {
            "gate": None if gate is None else Gate.from_json(gate),
            "findings": tuple(Finding(**f) for f in tree["findings"]),
            "trial": None if trial is None else Trial.from_json(trial),
        }
        return cls(**{**tree, **parsed})
