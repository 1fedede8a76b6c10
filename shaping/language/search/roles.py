"""Auto MC-Reward: a designer, a critic and a trajectory analyser, and a reward that is bounded by construction."""

import re
from dataclasses import replace

from . import prompts
from .candidate import Candidate, Designer
from .evolution import Found, retrained
from .trajectories import Analysis, compact, failures, read_analysis
from .workshop import Workshop, best_of

_VERDICT = re.compile(r"\b(accept|reject)(?:ed)?\b", re.IGNORECASE)


def auto_mc(
    shop: Workshop, designer: Designer, critic: Designer | None = None, analyser: Designer | None = None,
    rounds: int = 3, retries: int = 3, episodes: int = 6, final_seeds: int = 0, seed: int = 0,
) -> Found:  # fmt: skip
    """Write a reward of a sparse and a dense part, have it criticised, train, have the failures read, write again.

    Li et al., "Auto MC-Reward: Automated Dense Reward Design with Large Language Models for Minecraft" (2024), sections
    3.2 to 3.4; no code was published. The shop must combine by signs (``Workshop(signs=True)``). A program is written
    from the best so far: one that came out worse is told as such, and not built upon.

    Args:
        shop: Environment, task, recorded episodes, trials.
        designer: Who writes.
        critic: Who reviews a program that the compiler, the behaviour checks and the rank gate let pass; None leaves it
            to these. An answer without "accept" or "reject" is asked for once more, and then counts as no objection.
        analyser: Who reads failed episodes; None tells the designer the findings alone.
        rounds: Trainings.
        retries: How often a program that was rejected may be written anew in a round.
        episodes: Failed episodes that the analyser reads.
        final_seeds: Train so many agents anew on the best reward.
        seed: Of the trainings.
    """
    if not shop.signs:
        raise ValueError("auto_mc combines a sparse and a dense part by their signs: make the Workshop with signs=True")
    if rounds < 1 or retries < 0:
        raise ValueError(f"auto_mc(rounds={rounds}, retries={retries}): at least one round, retries not below 0")
    everything: list[Candidate] = []
    scores: list[float] = []
    best: Candidate | None = None
    found = Analysis({}, "")  # of the best one's failures
    worse: list[str] = []  # what was tried since it
    opening, lessons = shop.opening(), ""
    for r in range(rounds):
        tries: list[Candidate] = []
        for attempt in range(retries + 1):
            prompt = [opening, lessons] if lessons else [opening]
            if tries:
                prompt.append(prompts.rejects(tries[-1:]))
            answers = shop.ask(designer, "\n\n".join([*prompt, prompts.ASK]), 1)
            parent = everything[-1].name if everything else ""
            made = shop.screen(f"r{r + 1}a{attempt + 1}", answers[0] if answers else "", parent)
            tries.append(reviewed(shop, made, critic))
            if tries[-1].outcome == "new":
                break
        tries = shop.train(tries, seed)
        everything += tries
        best, last = best_of(everything), tries[-1]
        scores.append(best.score if best is not None else float("-inf"))
        shop.keep(tries, best)
        shop.say(f"round {r + 1} of {rounds}: {last.outcome}, best score {scores[-1]:.4g}")
        if last.outcome != "trained" or best is None or r + 1 == rounds:
            continue
        read = analysed(shop, last, analyser, episodes)
        if last is best:
            found, worse = read, []
        else:
            worse = [*worse, prompts.worse(last, read, best)][-3:]
        lessons = "\n\n".join([prompts.lessons(best, found), *worse])
    return Found(best, everything, scores, retrained(shop, best, final_seeds, seed))


def reviewed(shop: Workshop, candidate: Candidate, critic: Designer | None) -> Candidate:
    """The candidate, rejected if the critic does."""
    if candidate.outcome != "new" or critic is None or candidate.program is None:
        return candidate
    prompt = prompts.review(shop.opening(), candidate)
    for again in ("", "\nBegin your answer with the word ACCEPT or the word REJECT."):
        answers = shop.ask(critic, prompt + again, 1, role="critic")
        match = _VERDICT.search(answers[0]) if answers else None
        if match is not None:
            if match.group(1).lower() == "accept":
                return candidate
            return replace(candidate, outcome="critic", why=f"the critic rejects it\n{answers[0][:2000]}")
    shop.say(f"{candidate.name}: the critic gave no verdict")
    return candidate


def analysed(shop: Workshop, candidate: Candidate, analyser: Designer | None, most: int) -> Analysis:
    """What the analyser makes of the trained agent's failures."""
    lived = candidate.trial.episodes if candidate.trial is not None else None
    if analyser is None or lived is None:
        return Analysis({}, "")
    failed = failures(lived, most)
    if not failed:
        return Analysis({}, "")
    answers = shop.ask(analyser, analysis_prompt(shop, [compact(lived.rows(e)) for e in failed]), 1, role="analyser")
    found = read_analysis(answers[0]) if answers else Analysis({}, "")
    if found.unusable:
        shop.say(f"{candidate.name}: the analyser's answer could not be read")
    return found


def analysis_prompt(shop: Workshop, told: list[str]) -> str:
    """What the analyser is asked about episodes in few words."""
    return prompts.analysis(shop.task, shop.env, shop.shown, told)
