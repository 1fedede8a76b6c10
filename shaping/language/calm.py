"""CALM: subgoals from a language model as options, and its verdicts on transitions as an auxiliary reward, online.

Pignatelli, Ferret, Rocktaeschel, Grefenstette, Paglieri, Coward and Toni, "Assessing the Zero-Shot Capabilities of LLMs
for Action Evaluation in RL", 2024: a model splits a task into subgoals, and says of a transition whether it ends the
option of one. There the verdicts were judged on annotated transitions alone; here an agent trains on them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..learned import valid_rows
from ..stretch import Stretch
from ..term import Source, Stream, Term, World
from .ask import Giver, LanguageError, Question
from .captions import FactCaptions, captioner
from .desk import Desk
from .environment import giver_of
from .oracle import Oracle

MOST = 8
_VERDICT = {"type": "object", "required": ["reached"], "properties": {"reached": {"enum": ["yes", "no"]}}}
_SUBGOALS = {
    "type": "array", "minItems": 1, "maxItems": MOST, "items": {"type": "string", "minLength": 3, "maxLength": 200},
}  # fmt: skip


def split(task: str) -> Question:
    """Ask for a task's subgoals."""
    text = (
        f"An agent in a small world has this task: {task}\nSplit it into at most {MOST} subgoals, in the order in "
        "which they are to be reached. Each is one short sentence that can be checked on a single event."
    )
    return Question(text, schema=_SUBGOALS, temperature=0.0, seed=0, template="cairn-split@1", max_tokens=400)


def verdict(subgoal: str, caption: str) -> Question:
    """Ask whether a transition reaches a subgoal."""
    text = (
        f"An agent pursues this subgoal: {subgoal}\nThe event: {caption}\n\n"
        "Has the subgoal been reached by this event? Say yes or no."
    )
    return Question(text, schema=_VERDICT, temperature=0.0, seed=0, template="cairn-verdict@1", max_tokens=64)


def decompose(giver: Giver, task: str) -> tuple[str, ...]:
    """A task's subgoals, asked for once, before training.

    Raises:
        LanguageError: No usable answer came; there is nothing to train towards.
    """
    answer = giver.ask(split(task))
    if not answer.ok:
        raise LanguageError(
            f"no subgoals for {task!r}: the answer is {answer.outcome} ({answer.why}). Pass subgoals=(...) yourself, "
            "or ask another model"
        )
    return tuple(str(goal) for goal in answer.value)


class CALM(Stream):
    """``bonus`` at each transition that ends the present option, which is that of the next subgoal in order.

    Verdicts are asked for in the background on captions that are new, and enter in ``update`` alone; a caption that
    nobody has judged ends nothing, nor does an answer that is refused or cannot be read. An option that is over is not
    paid again in its episode. The policy does not see the option: where the observation does not tell, add memory or
    ``SubgoalEnv``.

    Args:
        subgoals: In their order; ``decompose`` asks for a task's.
        giver: Who judges, as in ``ONI``.
        captions: Names of facts, or a captioner; None is the grid engine's.
        bonus: The auxiliary reward.
        limit: Most verdicts.
        retry: Environment steps until a question is asked again that nobody has answered.
        schedule: As in ``ONI``, like the rest.
        every: The same.
        wait: The same.
        workers: The same.
        queue: The same.
        journal: The same.

    Raises:
        ValueError: A setting is none, or no server is named.
    """

    text_name = "calm"
    saved = ("known", "ends", "verdicts", "texts", "again", "desk")
    memory = ("now",)

    def __init__(
        self,
        subgoals: Sequence[str],
        giver: Giver | None = None,
        captions: Any = None,
        bonus: float = 0.1,
        limit: int = 25_000,
        retry: int = 100_000,
        schedule: str = "async",
        every: int = 0,
        wait: float = 60.0,
        workers: int = 2,
        queue: int = 3000,
        journal: str | Path | None = None,
    ) -> None:
        goals = (subgoals,) if isinstance(subgoals, str) else tuple(subgoals)
        if not 1 <= len(goals) <= MOST or not all(isinstance(g, str) and g.strip() for g in goals):
            raise ValueError(f"CALM: subgoals are 1 to {MOST} sentences, and not {subgoals!r}")
        if not (bonus > 0 and limit >= 1 and retry >= 0):
            raise ValueError("CALM: bonus and limit are above 0, retry not below 0")
        self.goals, self.bonus, self.limit, self.retry = goals, float(bonus), int(limit), int(retry)
        self.captions = captioner(captions)
        self.desk = Desk(giver_of(giver, "CALM"), schedule, int(every), wait, int(workers), int(queue), journal)
        self._start(torch.device("cpu"), 1)

    def _start(self, device: torch.device, lanes: int) -> None:
        self.known = torch.zeros(0, dtype=torch.int64, device=device)  # captions' codes, sorted
        self.ends = torch.zeros(0, len(self.goals), dtype=torch.bool, device=device)  # and which options each ends
        self.verdicts: dict[str, int] = {}  # "goal code" -> 1, 0, or -1 for no verdict
        self.texts: dict[str, str] = {}
        self.again: dict[str, int] = {}
        self.now = torch.zeros(lanes, dtype=torch.int64, device=device)

    def bind(self, world: World) -> None:
        """Every lane in its first option, and nothing judged."""
        self._start(world.device, world.lanes)
        self.captions.bind(world)

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """The bonus of each step ``[T, N]``. The loop is over time: options follow each other."""
        ended = self._ended(x)
        start, count = x.start & x.valid, len(self.goals)
        now, paid = self.now, []
        for t in range(x.rows[0]):
            now = torch.where(start[t], 0, now)
            hit = ended[t].gather(-1, now.clamp(max=count - 1)[:, None])[:, 0] & (now < count)
            paid.append(hit)
            now = now + hit.long()
        self.now = now
        return torch.stack(paid).float() * self.bonus

    def _ended(self, x: Stretch) -> Tensor:
        """Which options each transition ends, bool ``[T, N, G]``."""
        out = torch.zeros(*x.rows, len(self.goals), dtype=torch.bool, device=x.device)
        if not len(self.known) or not bool(x.valid.any()):
            return out
        codes = self.captions.codes(valid_rows(x))
        place = torch.searchsorted(self.known, codes).clamp(max=len(self.known) - 1)
        found = (self.known[place] == codes) & (codes != 0)
        out[x.valid] = self.ends[place] & found[:, None]
        return out

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Take the verdicts that have arrived, and ask about transitions that are new."""
        arrivals = self.desk.collect(step)
        for key, answer in arrivals:
            if answer.outcome in ("late", "error"):
                self.again[key] = step + self.retry
            else:
                self.verdicts[key] = -1 if not answer.ok else int(answer.value["reached"] == "yes")
        x = valid_rows(source.recent)
        codes = self.captions.codes(x)
        rows = codes.nonzero()[:, 0]
        unique, of = torch.unique(codes[rows], return_inverse=True)
        index = torch.arange(len(of), device=of.device)
        first = rows[torch.full_like(unique, len(of)).scatter_reduce(0, of, index, "amin")]
        for code, row in zip(unique.tolist(), first.tolist()):
            if str(code) not in self.texts:
                self.texts[str(code)] = self.captions.text(code, x[row : row + 1])
            self._ask(str(code), step)
        if arrivals:
            self._refresh()
        logs = {"captions": len(self.texts), "verdicts": len(self.verdicts), **self.desk.health()}
        return {name: torch.tensor(float(number)) for name, number in logs.items()}

    def _ask(self, code: str, step: int) -> None:
        for g, goal in enumerate(self.goals):
            key = f"{g} {code}"
            full = len(self.verdicts) + len(self.desk) >= self.limit
            if not full and key not in self.verdicts and key not in self.desk and step >= self.again.get(key, 0):
                self.desk.post(key, verdict(goal, self.texts[code]))

    def _refresh(self) -> None:
        pairs = [(*map(int, key.split(" ")), said) for key, said in self.verdicts.items()]
        order = sorted({code for _, code, _ in pairs})
        place = {code: i for i, code in enumerate(order)}
        ends = torch.zeros(len(order), len(self.goals), dtype=torch.bool)
        for g, code, said in pairs:
            ends[place[code], g] = said == 1
        self.known = torch.tensor(order, dtype=torch.int64, device=self.now.device)
        self.ends = ends.to(self.now.device)

    @classmethod
    def examples(cls) -> list[Term]:
        """Two options over captions of facts."""
        yes = Oracle(lambda question: {"reached": "yes"})
        facts = FactCaptions("position", "carrying")
        return [cls(("Move.", "Move on."), yes, facts, schedule="barrier", every=100)]


def f1(said: Sequence[bool | None], right: Sequence[bool]) -> dict[str, float]:
    """Precision, recall and F1 of verdicts against annotations; None (no verdict) counts as "no".

    Raises:
        ValueError: They are not of one length.
    """
    if len(said) != len(right):
        raise ValueError(f"{len(said)} verdicts for {len(right)} annotated transitions")
    hits = sum(bool(s) and r for s, r in zip(said, right))
    precision = hits / max(sum(bool(s) for s in said), 1)
    recall = hits / max(sum(right), 1)
    return {"precision": precision, "recall": recall, "f1": 2 * hits / max(sum(map(bool, said)) + sum(right), 1)}
