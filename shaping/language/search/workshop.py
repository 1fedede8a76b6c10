"""What every search does with answers: screen them before any training, train what is left, write all of it down."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...ops import Task
from ...programs.checks import BehaviourError
from ...programs.host import JailError
from ...programs.inputs import Input, gather, inputs_of
from ...programs.limits import ProgramError
from ...programs.term import Program
from . import prompts
from .candidate import Candidate, Designer, Trial, Trials, over_seeds
from .findings import diagnose, hacked
from .gate import rank_gate
from .journal import Journal
from .page import write_page
from .reading import program_in
from .recorded import Recorded

MOST_EPISODES = 512  # that the gate looks at; of more, the newest


class NobodyError(RuntimeError):
    """The designer does not answer."""


@dataclass
class Workshop:
    """The tools that the searches share.

    Args:
        env: The environment's id, for prompts and the page.
        task: What the agent shall do, in a sentence.
        recorded: Episodes to screen candidates on, failures and (where there are any) successes.
        trials: Trains agents.
        folder: Where the record, the page and the best program are written; None for nowhere.
        with_task: Pay the task's own reward too.
        gate: Share of pairs that a candidate must rank rightly; 0 opens the gate to all.
        gamma: Discount of the returns that it ranks by.
        in_process: Run programs without the jail: only for programs that you wrote.
        require: "kernel" refuses to run programs where the kernel's layers are missing.
        signs: Combine ``sparse`` and ``dense`` by their signs (Auto MC-Reward).
        docs: What the environment's own facts mean, by name, where Cairn does not know.
        seeds: Agents trained on each candidate, with the search's seed and those after it. Its score is their mean,
            and what is told of it is of all of them. One agent may owe its score to luck, and the luckiest of many
            programs is then taken for the best.
        say: Is told each step, a line at a time.
    """

    env: str
    task: str
    recorded: Recorded
    trials: Trials
    folder: Path | None = None
    with_task: bool = True
    gate: float = 0.75
    gamma: float = 0.99
    in_process: bool = False
    require: str = "process"
    signs: bool = False
    docs: dict[str, str] = field(default_factory=dict)
    seeds: int = 1
    say: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        if not len(self.recorded):
            raise ValueError("there are no recorded episodes to screen candidates on: see record()")
        if not 0 <= self.gate <= 1:
            raise ValueError(f"gate={self.gate} is a share of pairs: between 0 and 1")
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds}: at least one agent is trained on a candidate")
        self.folder = None if self.folder is None else Path(self.folder)
        self.journal = Journal(None if self.folder is None else self.folder / "search.jsonl")
        self.candidates: list[Candidate] = []
        self.known: dict[str, str] = {}  # program -> the first candidate with it
        self.lived: list[Recorded] = []  # what trained agents did
        self.inputs: tuple[Input, ...] = inputs_of(self.recorded.x, self.docs)
        hidden = {"task_reward"} if self.with_task else set()
        self.shown = tuple(i for i in self.inputs if i.name not in hidden)

    # What is said.

    def opening(self) -> str:
        """The part of a prompt that stays."""
        seen = gather(self.recorded.x, [i.name for i in self.shown])
        return prompts.opening(self.task, self.env, self.shown, seen, self.with_task, self.signs)

    def ask(self, designer: Designer, prompt: str, n: int, role: str = "designer") -> list[str]:
        """Ask for n answers, or take them from the record.

        Raises:
            NobodyError: The designer gave none. That is not written down, so that a resumed search asks again.
        """

        def make() -> list[str]:
            answers = [str(a) for a in designer.propose(prompt, n)][:n]
            if not answers and role == "designer":
                raise NobodyError(
                    "the designer gave no answer at all (no server, no money, a refusal): the search stops here, and "
                    "goes on from its record when it is started again"
                )
            return answers

        return [str(a) for a in self.journal.remember("answers", [prompts.VERSION, role, prompt, n], make)]

    def hear(self, feedback: Callable[[Candidate], str], candidate: Candidate) -> str:
        """A person's words on a candidate, or those of the record."""
        key = [candidate.name, candidate.program]
        return str(self.journal.remember("words", key, lambda: str(feedback(candidate))))

    # Screening.

    def term(self, program: str, name: str) -> Program:
        """A program as it is trained on."""
        combine = "sign" if self.signs else "sum"
        if self.in_process:
            return Program.in_process(program, name=name, combine=combine)
        return Program(program, name=name, require=self.require, combine=combine)

    def reward(self, term: Program) -> Any:
        """The whole reward of an agent."""
        return Task() + term if self.with_task else term

    def screen(self, name: str, answer: str, parent: str = "") -> Candidate:
        """Make a candidate of an answer, and try it on the recorded episodes; no agent is trained."""
        found = Candidate(name, answer, program_in(answer), parent=parent)
        if found.program is None:
            return replace(found, outcome="empty", why="the answer holds no fenced block with a reward function")
        first = self.known.setdefault(found.program, name)
        if first != name:
            return replace(found, outcome="repeat", why=f"it is the same program as {first}")
        term = self.term(found.program, name)
        try:
            term.check(self.recorded.x)
            bank = self.bank()
            value, parts = term.score(bank.x), term.components(bank.x)
            if self.signs:  # only these are paid: whatever the program's scales, they flood nothing and dwarf nothing
                parts = {"sparse": torch.sign(parts["sparse"]), "dense": 0.1 * torch.sign(parts["dense"])}
            inputs = gather(bank.x, term.reads)
        except ProgramError as error:
            return replace(found, outcome="compiler", why=str(error))
        except BehaviourError as error:
            return replace(found, outcome="behaviour", why=str(error))
        except (JailError, ValueError) as error:
            return replace(found, outcome="behaviour", why=f"it failed on recorded episodes: {error}")
        return self._judged(found, bank, value.detach().cpu(), {n: p.detach().cpu() for n, p in parts.items()}, inputs)

    def _judged(
        self, found: Candidate, bank: Recorded, value: Tensor, parts: dict[str, Tensor], inputs: dict[str, Tensor]
    ) -> Candidate:
        paid = value + bank.x.reward if self.with_task else value
        bonus = float(bank.returns.max()) if self.with_task and bank.knows_success else 0.0
        gate = rank_gate(bank, paid, parts, self.gate, self.gamma)
        findings = diagnose(bank, paid, parts, found.program or "", inputs, self.gamma, bonus)
        found = replace(found, gate=gate, findings=findings)
        if gate.passed:
            return found
        why = "\n".join([prompts.ranking(gate), *(f"- {f}" for f in findings)])
        return replace(found, outcome="gate", why=why)

    def bank(self) -> Recorded:
        """What candidates are screened on: the episodes recorded first, and those of trained agents."""
        episodes = Recorded.cat([self.recorded, *self.lived])
        if len(episodes) <= MOST_EPISODES:
            return episodes
        return episodes.pick(torch.arange(len(episodes) - MOST_EPISODES, len(episodes)))

    # Training.

    def train(self, candidates: Sequence[Candidate], seed: int = 0, seeds: int | None = None) -> list[Candidate]:
        """Train agents on each candidate that is still new; the others are given back as they are.

        Args:
            candidates: Those of a round. They are trained side by side, one seed after the other.
            seed: The first.
            seeds: How many; None is the workshop's.
        """
        new = [c for c in candidates if c.outcome == "new"]
        if new:
            self.say(f"training {len(new)} of {len(candidates)} candidates: {', '.join(c.name for c in new)}")
        each, count = list[list[Trial]](), self.seeds if seeds is None else seeds
        for k in range(count if new else 0):
            each.append(self._trials(new, seed + k))
            if count > 1:
                told = ", ".join(f"{c.name} {trial.error or f'{trial.score:.4g}'}" for c, trial in zip(new, each[-1]))
                self.say(f"with seed {seed + k}, {k + 1} of {count}: {told}")
        trials = {c.name: over_seeds(of_seeds) for c, of_seeds in zip(new, zip(*each))}
        done = [self._tried(c, trials[c.name]) if c.name in trials else c for c in candidates]
        for c in done:
            told = f", score {c.trial.told}" if c.outcome == "trained" and c.trial is not None else ""
            self.say(f"{c.name}: {c.outcome}{told}")
        return done

    def _tried(self, candidate: Candidate, trial: Trial) -> Candidate:
        if trial.error or not math.isfinite(trial.score):
            why = trial.error or "its score is no number"
            return replace(candidate, outcome="failed", why=why, trial=trial)
        finding = hacked(trial.course)
        findings = (*candidate.findings, *([finding] if finding is not None else []))
        return replace(candidate, outcome="trained", why="", trial=trial, findings=findings)

    def _trials(self, candidates: Sequence[Candidate], seed: int) -> list[Trial]:
        if not candidates:
            return []
        made: list[Trial] = []

        def make() -> list[dict[str, Any]]:
            terms = [self.reward(self.term(c.program or "", c.name)) for c in candidates]
            made.extend(self.trials.train(terms, seed))
            for candidate, trial in zip(candidates, made):
                if trial.episodes is not None and self.folder is not None:
                    trial.episodes.save(self._episodes(candidate.name, seed))
            return [
                {**trial.to_json(), "episodes": trial.episodes is not None and self.folder is not None}
                for trial in made
            ]

        key = [seed, self.with_task, self.signs, [[c.name, c.program] for c in candidates]]
        told = self.journal.remember("trials", key, make)
        if made:
            return made
        found = []
        for candidate, tree in zip(candidates, told):
            kept = Recorded.load(self._episodes(candidate.name, seed)) if tree.pop("episodes") else None
            found.append(Trial.from_json(tree, kept))
        return found

    def _episodes(self, name: str, seed: int) -> Path:
        assert self.folder is not None
        return self.folder / "episodes" / f"{name}-{seed}.safetensors"

    # The record.

    def keep(self, candidates: Sequence[Candidate], best: Candidate | None) -> None:
        """Note finished candidates, and write page and best program anew."""
        for c in candidates:
            self.journal.remember("candidate", [c.name, c.program], lambda c=c: c.to_json())  # type: ignore[misc]
            if c.trial is not None and c.trial.episodes is not None:
                self.lived.append(c.trial.episodes)
        self.candidates += candidates
        if self.folder is not None:
            write_page(self.folder / "report.html", self.env, self.task, self.candidates, best)
            if best is not None and best.program is not None:
                (self.folder / "rewards").mkdir(exist_ok=True)
                (self.folder / "rewards" / "best.py").write_text(best.program, encoding="utf-8")


def best_of(candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the highest score, the newest of equals; None where no agent was trained.

    Of equals the newest: where nothing is solved yet all are equal, and a search that stays with the first never builds
    on what it mended.
    """
    trained = [c for c in candidates if c.outcome == "trained" and c.score > float("-inf")]
    return max(reversed(trained), key=lambda c: c.score) if trained else None
