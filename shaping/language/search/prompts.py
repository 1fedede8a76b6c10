"""Everything that is said to a designer. Whoever changes the meaning of a text counts up ``VERSION``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...programs.describe import describe
from ...programs.inputs import Input
from .candidate import Candidate
from .course import advice, told
from .findings import listed
from .gate import Gate
from .trajectories import Analysis

VERSION = "reward-design@3"
_TYPES = {"f": "float32", "i": "int64", "b": "bool"}
_COLUMNS = 16  # of an input, so many are told one by one
_QUOTED = 6000  # characters of what a program, an error or a person said that go into a prompt


def quoted(text: str, language: str = "") -> str:
    """Text that somebody else wrote, in a fence that it cannot end, cut and without control characters."""
    plain = "".join(c for c in text[:_QUOTED] if c in "\n\t" or c.isprintable())
    return f"```{language}\n{plain.replace('```', '` ` `').rstrip()}\n```"


def abstraction(inputs: Sequence[Input], seen: Mapping[str, Tensor]) -> str:
    """The world as typed attributes, each with its shape, meaning and the values that recorded episodes show.

    Text2Reward's idea (Xie et al., "Text2Reward: Reward Shaping with Language Models for Reinforcement Learning", 2024,
    section 3.2), written from the table that the compiler checks a program against, so that the two cannot drift.

    Args:
        inputs: What a program may take.
        seen: Recorded values ``[B, ...]`` of the inputs, by name.
    """
    groups: dict[str, list[str]] = {"State": [], "NextState": [], "Step": []}
    names = {i.name for i in inputs}
    for i in inputs:
        group = "NextState" if i.name.startswith("next_") else "State" if f"next_{i.name}" in names else "Step"
        shape = ", ".join(["B", *map(str, i.shape)])
        line = f"    {i.name}: {_TYPES[i.kind]}[{shape}]"
        notes = [i.doc] if i.doc else []
        if i.name in seen and seen[i.name].numel():
            notes.append(_range(i, seen[i.name]))
        groups[group].append(f"{line}  # {'; '.join(notes)}" if notes else line)
    about = {"State": "before the step", "NextState": "after the step", "Step": "of the step itself"}
    return "\n".join("\n".join([f"class {name}:  # {about[name]}", *lines]) for name, lines in groups.items() if lines)


def _range(i: Input, values: Tensor) -> str:
    if i.kind == "f" and len(i.shape) == 1 and 1 < i.shape[0] <= _COLUMNS:
        each = [f"{float(a):.3g} to {float(b):.3g}" for a, b in zip(values.amin(0), values.amax(0))]
        return "seen: " + "; ".join(f"[:, {k}] {text}" for k, text in enumerate(each))
    if i.kind == "f":
        return f"seen between {float(values.min()):.4g} and {float(values.max()):.4g}"
    if i.kind == "b":
        return f"true on {float(values.float().mean()):.1%} of recorded steps"
    if values[0].numel() == 1:
        return f"seen: {listed(values)}"
    last = values.reshape(-1, values.shape[-1])
    if i.shape[-1] <= 4 and len(i.shape) == 1:
        return "seen: " + "; ".join(f"[:, {k}] is {listed(last[:, k])}" for k in range(i.shape[-1]))
    return f"seen between {int(values.min())} and {int(values.max())}"


def opening(
    task: str, env: str, inputs: Sequence[Input], seen: Mapping[str, Tensor], with_task: bool, signs: bool = False
) -> str:
    """The first part of every prompt: the role, the task, the language, the world."""
    paid = (
        "The agent is paid the task's own sparse reward (task_reward) plus what your function returns; do not add "
        "task_reward again."
        if with_task
        else "The agent is paid what your function returns, and nothing else."
    )
    form = (
        "\nReturn two parts called 'sparse' and 'dense': sparse is 1 on the steps that achieve something (or -1 on "
        "what must not happen) and 0 elsewhere, dense is positive on a step that makes progress and negative on one "
        "that loses it. Only their signs count: the agent is paid sign(sparse) + 0.1 * sign(dense)."
        if signs
        else ""
    )
    stay = "" if with_task else ", unless to stay is the task"
    return f"""You write reward functions for reinforcement learning. A good one leads an agent step by step to what the
task asks for, and never pays more for anything else.

Environment: {env}
Task: {task}

{paid}{form}
What usually makes a dense reward: distances that shrink, changes of the state towards the goal, stages of the task each
paid once, small costs. Give every part a name in the returned dict, and to every part that is squashed (by exp, tanh)
a temperature of its own. Pay for changes rather than for states that an agent can stay in{stay}.

{describe()}

The world, as your function sees it (parameters by these names; there are no others):
{abstraction(inputs, seen)}
"""


ASK = "Explain the reward in a few sentences, then write the whole program in one fenced block of code."


def reflection(best: Candidate, feedback: str = "") -> str:
    """What is said of a program that was trained on: its text, its course, what was found; or a person's words.

    Args:
        best: A candidate that was trained.
        feedback: What a person says of the behaviour; it comes first, and is what the next program must answer to.
    """
    assert best.program is not None and best.trial is not None
    lines = ["The best program so far:", quoted(best.program, "python"), ""]
    if feedback:
        lines += ["A person who watched the agent says:", quoted(feedback), ""]
    agents = f"{len(best.trial.scores)} agents were" if best.trial.scores else "An agent was"
    lines += [
        f"{agents} trained on it for {best.trial.steps} steps. Values over the course of training (each part's "
        "mean over steps; of the task, the mean of recent episodes):",
        told(best.trial.course),
        f"The task's own measure at the end, on fresh levels: {best.trial.told}",
    ]
    remarks = [f"- {finding}" for finding in best.findings] + [f"- {text}" for text in advice(best.trial.course)]
    if remarks:
        lines += ["", "What was found:", *remarks]
    lines += ["", "Write a better program: change what these observations speak against, keep what they speak for."]
    return "\n".join(lines)


def rejects(candidates: Sequence[Candidate]) -> str:
    """What is said of programs that were not trained on, so that the same is not written again."""
    lines = []
    for c in candidates:
        lines.append(f"Rejected before training: {c.why.splitlines()[0] if c.why else c.outcome}")
        if c.program is not None:
            lines.append(quoted(c.program, "python"))
        if "\n" in c.why:
            lines.append(quoted(c.why))
    return "\n".join(lines)


def ranking(gate: Gate) -> str:
    """Why the gate is shut."""
    return f"it does not place recorded successes above recorded failures\n{gate}"


def shown(best: Candidate) -> str:
    """A program and its score, without a reflection."""
    assert best.program is not None and best.trial is not None
    said = f"Its score, by the task's own measure: {best.trial.told}"
    return "\n".join(
        ["The best program so far:", quoted(best.program, "python"), "", said, "", "Write a better program."]
    )


def exchange(number: int, program: str, seen: str, wish: str) -> str:
    """One round of Text2Reward's history."""
    parts = [f"Attempt {number}:", quoted(program, "python"), "What was seen:", quoted(seen), "What to change:"]
    return "\n".join([*parts, quoted(wish)])


def seen_of(candidate: Candidate) -> str:
    """What a trained agent did, in figures."""
    assert candidate.trial is not None
    return f"{told(candidate.trial.course)}\nthe task's own measure at the end: {candidate.trial.told}"


def review(opening_text: str, candidate: Candidate) -> str:
    """What the critic is asked."""
    assert candidate.program is not None
    findings = "\n".join(f"- {f}" for f in candidate.findings) or "- nothing"
    return "\n".join(
        [
            "You review a reward function before an agent is trained on it. What its author was told:",
            quoted(opening_text),
            "The function:",
            quoted(candidate.program, "python"),
            "What was found on recorded episodes:",
            findings,
            "Is it consistent with itself, does it read its inputs as they are documented, does it pay for what the "
            "task asks, and can it not be collected without doing the task? Answer ACCEPT, or REJECT and the reasons.",
        ]
    )


def analysis(task: str, env: str, inputs: Sequence[Input], episodes: Sequence[str]) -> str:
    """What the analyser is asked."""
    known = "\n".join(f"- {i.name}: {i.doc}" for i in inputs if i.doc and not i.name.startswith("next_"))
    listed_ = [f"Episode {k + 1}: {text}" for k, text in enumerate(episodes)]
    return "\n\n".join(
        [
            f"An agent in {env} should do this: {task}\nThese are episodes in which it failed. Say of each why it most "
            "likely failed, and then what a reward should do about it. Write one line for each episode, "
            '"episode 1: the cause", and then one line "advice: what the reward should do".',
            f"The facts:\n{known}",
            *listed_,
        ]
    )


def lessons(last: Candidate, found: Analysis) -> str:
    """What the designer is told after a training: the program, its course, the findings, the analysis."""
    causes = [f"- {cause}" for cause in found.causes.values()]
    parts = [reflection(last)]
    if causes:
        parts.append("Why episodes failed, as an analyst reads them:\n" + quoted("\n".join(causes)))
    if found.advice:
        parts.append("The analyst's advice:\n" + quoted(found.advice))
    return "\n\n".join(parts)


def worse(tried: Candidate, found: Analysis, best: Candidate) -> str:
    """What the designer is told of a program that was written to better the best one and did not."""
    assert tried.program is not None and best.trial is not None and tried.trial is not None
    causes = [f"- {cause}" for cause in found.causes.values()]
    told_ = [f"- {finding}" for finding in tried.findings]
    parts = [
        f"Tried after it, and worse ({tried.trial.told} against {best.trial.told}): do not write this again.",
        quoted(tried.program, "python"),
        *(["Why its episodes failed, as an analyst reads them:", quoted("\n".join(causes))] if causes else []),
        *(["What was found of it:", quoted("\n".join(told_))] if told_ else []),
    ]
    return "\n".join(parts)
