"""Text2Reward: one program over a typed abstraction of the world, mended by rounds of feedback."""

from dataclasses import dataclass

from . import prompts
from .candidate import Candidate, Designer
from .evolution import Feedback, Found, retrained
from .workshop import Workshop, best_of


@dataclass(frozen=True)
class Exchange:
    """A round: the program, what was seen of it, and what was asked for."""

    program: str
    seen: str
    wish: str


def text2reward(
    shop: Workshop, designer: Designer, rounds: int = 3, feedback: Feedback | None = None, repairs: int = 5,
    examples: tuple[tuple[str, str], ...] = (), final_seeds: int = 0, seed: int = 0,
) -> Found:  # fmt: skip
    """Write a reward, train, ask for feedback, write again.

    Xie et al., "Text2Reward: Reward Shaping with Language Models for Reinforcement Learning" (2024), sections 3.1 to
    3.4. The whole exchange stays in the prompt. A program that is refused goes back to the designer with the reason, at
    most ``repairs`` times a round (the published code asks for ever).

    Args:
        shop: Environment, task, recorded episodes, trials.
        designer: Who writes.
        rounds: Trainings: the first without feedback.
        feedback: A person's words on what a trained agent does; "" ends the search. None: what was found by rule.
        repairs: How often a refused program may be written anew in a round.
        examples: Pairs (a task, its reward program) to learn from: the few-shot setting.
        final_seeds: Train so many agents anew on the best reward.
        seed: Of the trainings.
    """
    if rounds < 1 or repairs < 0:
        raise ValueError(f"text2reward(rounds={rounds}, repairs={repairs}): at least one round, repairs not below 0")
    everything: list[Candidate] = []
    scores: list[float] = []
    history: list[Exchange] = []
    opening = shop.opening()
    if examples:
        shown = [f"Task: {task}\n{prompts.quoted(program, 'python')}" for task, program in examples]
        opening = "\n\n".join([opening, "Rewards for other tasks:", *shown])
    best: Candidate | None = None
    for r in range(rounds):
        tries: list[Candidate] = []
        for attempt in range(repairs + 1):
            told = [prompts.exchange(k + 1, h.program, h.seen, h.wish) for k, h in enumerate(history)]
            refused = [prompts.rejects(tries[-1:])] if tries else []
            answers = shop.ask(designer, "\n\n".join([opening, *told, *refused, prompts.ASK]), 1)
            parent = everything[-1].name if everything else ""
            tries.append(shop.screen(f"r{r + 1}a{attempt + 1}", answers[0] if answers else "", parent))
            if tries[-1].outcome == "new":
                break
        tries = shop.train(tries, seed)
        everything += tries
        best, last = best_of(everything), tries[-1]
        scores.append(best.score if best is not None else float("-inf"))
        shop.keep(tries, best)
        shop.say(f"round {r + 1} of {rounds}: {last.outcome}, best score {scores[-1]:.4g}")
        if last.outcome != "trained" or last.program is None or last.trial is None:
            break  # nothing new can be shown to a person
        if r + 1 < rounds:
            words = "\n".join(f"- {f}" for f in last.findings) if feedback is None else shop.hear(feedback, last)
            if not words.strip():
                break
            history.append(Exchange(last.program, prompts.seen_of(last), words))
    return Found(best, everything, scores, retrained(shop, best, final_seeds, seed))
