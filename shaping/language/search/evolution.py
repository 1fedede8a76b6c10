"""Eureka: samples, trainings, a reflection on the best, and again."""

from collections.abc import Callable
from dataclasses import dataclass, field

from . import prompts
from .candidate import Candidate, Designer
from .workshop import Workshop, best_of


class StartError(ValueError):
    """A person's reward cannot be trained on, so there is nothing to start from."""


Feedback = Callable[[Candidate], str]


@dataclass
class Found:
    """What a search ends with.

    Attributes:
        best: The candidate with the highest score; None where nothing could be trained.
        candidates: All of them, in order.
        scores: The best score after each round (minus infinity before the first trained candidate).
        final: Scores of agents trained anew on the best reward, with other seeds.
    """

    best: Candidate | None
    candidates: list[Candidate]
    scores: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)


def eureka(
    shop: Workshop, designer: Designer, samples: int = 16, rounds: int = 5, start: str | None = None,
    feedback: Feedback | None = None, reflect: bool = True, final_seeds: int = 0, seed: int = 0,
) -> Found:  # fmt: skip
    """Search greedily for a reward program.

    Each round samples ``samples`` programs, screens them, trains on those that pass, and shows the next round the best
    program so far with a reflection on the course of its components. Ma et al., "Eureka: Human-Level Reward Design via
    Coding Large Language Models" (2024), algorithm 1; the defaults are the paper's. Unlike the paper, a candidate's
    score is that of the final agent on fresh levels and not the largest seen in training; what was rejected is told to
    the next round; and the best program stays the best until another beats it.

    Args:
        shop: Environment, task, recorded episodes, trials.
        designer: Who writes.
        samples: K, programs a round.
        rounds: How many.
        start: A person's reward program, which is trained as round 0 and reflected upon first (section 4.4).
        feedback: Gives a person's words on the best candidate's behaviour, for the reflection ("" for none).
        reflect: False shows the best program alone: the ablation.
        final_seeds: Train so many agents anew on the best reward.
        seed: Of the trainings.

    Raises:
        StartError: ``start`` cannot be trained on.
        JournalError: The folder holds the record of another search.
    """
    if samples < 1 or rounds < 0 or (rounds == 0 and start is None):
        raise ValueError(f"eureka(samples={samples}, rounds={rounds}): at least one sample and one round")
    everything: list[Candidate] = []
    scores: list[float] = []
    best: Candidate | None = None
    lost: list[Candidate] = []
    opening = shop.opening()
    if start is not None:
        first = shop.train([shop.screen("start", f"```python\n{start}\n```")], seed)
        if first[0].outcome != "trained":
            raise StartError(f"the reward to start from is not trained on: {first[0].why}")
        best, everything = first[0], first
        shop.keep(first, best)
    for r in range(rounds):
        prompt = [opening]
        if best is not None:
            words = shop.hear(feedback, best) if feedback is not None else ""
            prompt.append(prompts.reflection(best, words) if reflect else prompts.shown(best))
        if lost and reflect:
            prompt.append(prompts.rejects(lost[:3]))
        answers = shop.ask(designer, "\n\n".join([*prompt, prompts.ASK]), samples)
        parent = best.name if best is not None else ""
        batch = [shop.screen(f"r{r + 1}c{k + 1}", answer, parent) for k, answer in enumerate(answers)]
        batch = shop.train(batch, seed)
        lost = [c for c in batch if c.outcome not in ("trained", "failed", "repeat")]
        everything += batch
        best = best_of(everything)
        scores.append(best.score if best is not None else float("-inf"))
        shop.keep(batch, best)
        shop.say(f"round {r + 1} of {rounds}: best {best.name if best else 'none'}, score {scores[-1]:.4g}")
    return Found(best, everything, scores, retrained(shop, best, final_seeds, seed))


def retrained(shop: Workshop, best: Candidate | None, count: int, seed: int) -> list[float]:
    """Scores of ``count`` agents trained on a reward with other seeds than the search's, one after the other."""
    if best is None:
        return []
    fresh = [Candidate(best.name, best.answer, best.program) for _ in range(count)]
    return [shop.train([c], seed + 1000 + k, seeds=1)[0].score for k, c in enumerate(fresh)]
