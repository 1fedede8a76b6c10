"""When questions are asked and answers are taken, so that training never waits for a server, or waits at known steps.

Two schedules. "async": questions go out as they come, the newest first, and ``collect`` takes what has arrived; a run
goes at full speed and its labels depend on the server's. "barrier": every N steps ``collect`` waits for all that is
out and takes it in the order of asking; with a server that answers the same, the run is the same to the bit.

Either way the answers enter at ``collect`` alone, and the journal says which came at which step. A run with a journal
that is there already is answered from it, step by step and to the same bits, without a server; where it ends, the run
goes on live. So a run that was killed and resumed from its checkpoint first lives through what the journal has.
"""

import json
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .ask import OUTCOMES, Answer, Giver, Question, canonical
from .keys import struck

SCHEDULES = ("async", "barrier")


class JournalError(ValueError):
    """A journal does not belong to this run."""


class Arrival(NamedTuple):
    """An answer, with the name under which it was asked for."""

    key: str
    answer: Answer


class Desk:
    """Questions out, answers in.

    Args:
        giver: Who answers, in threads of the desk's own.
        schedule: "async" or "barrier".
        every: Environment steps between barriers.
        wait: Most seconds at a barrier; what has not come by then is the outcome "late", and not waited for again.
        workers: How many questions are under way at once.
        queue: Most questions out; beyond it the one asked first is given up (and counted as dropped).
        journal: A JSON Lines file of what arrived when; None keeps none.

    Raises:
        ValueError: A setting is none.
        JournalError: The journal's file is something else.
    """

    def __init__(
        self,
        giver: Giver,
        schedule: str = "async",
        every: int = 0,
        wait: float = 60.0,
        workers: int = 2,
        queue: int = 1000,
        journal: str | Path | None = None,
    ) -> None:
        if schedule not in SCHEDULES or (schedule == "barrier") != (every > 0):
            raise ValueError(
                f"Desk(schedule={schedule!r}, every={every}): 'async', or 'barrier' with every= how many steps"
            )
        if not (wait > 0 and workers >= 1 and queue >= 1):
            raise ValueError("Desk: wait is above 0, workers and queue at least 1")
        if not callable(getattr(giver, "ask", None)):
            raise TypeError(f"{giver!r} cannot be asked: a giver has ask(question), as a language.Client does")
        self.giver, self.schedule, self.every, self.wait = giver, schedule, int(every), float(wait)
        self.workers, self.queue = int(workers), int(queue)
        self.journal = None if journal is None else Path(journal)
        self.counts = dict.fromkeys(("posted", "dropped", *OUTCOMES), 0)
        self._pending: OrderedDict[str, Question] = OrderedDict()
        self._step, self._position = 0, 0
        self._recorded: deque[dict[str, Any]] = deque(self._read())
        self._room: _Room | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Desk":
        """A desk of the same settings, with nothing out yet; it has no journal, of which there is one writer."""
        new = Desk(self.giver, self.schedule, self.every, self.wait, self.workers, self.queue)
        new.counts, new._step = dict(self.counts), self._step
        new._pending = OrderedDict(self._pending)
        return new

    # ---- asking and taking ---------------------------------------------------------------------------------

    def __contains__(self, key: str) -> bool:
        return key in self._pending

    def new(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` under which nothing is out."""
        return [key for key in keys if key not in self._pending]

    def __len__(self) -> int:
        """How many questions are out."""
        return len(self._pending)

    def post(self, key: str, question: Question) -> None:
        """Ask; nothing happens where the key is out already."""
        if key in self._pending:
            return
        self.counts["posted"] += 1
        self._pending[key] = question
        while len(self._pending) > self.queue:
            old, _ = self._pending.popitem(last=False)
            self.counts["dropped"] += 1
            if self._room is not None:
                self._room.forget(old)
        if self._room is not None:
            self._room.put({key: question})
        elif not self._recorded:
            self._go_live()

    def collect(self, step: int) -> list[Arrival]:
        """Take what has arrived by ``step``, in an order that the journal keeps.

        Raises:
            JournalError: The journal was written by another run.
        """
        if self._recorded:
            arrivals = self._replayed(step)
        else:
            arrivals = self._taken(step)
            self._write(step, arrivals)
        for key, answer in arrivals:
            self._pending.pop(key, None)
            self.counts[answer.outcome] += 1
        self._step = step
        return arrivals

    def _taken(self, step: int) -> list[Arrival]:
        if self._pending and self._room is None:
            self._go_live()
        room = self._room
        if room is None:
            return []
        if self.schedule == "async":
            return [Arrival(k, a) for k, a in room.take() if k in self._pending]
        if step // self.every == self._step // self.every:
            return []
        came = room.take_all(list(self._pending), self.wait)
        late = Answer(outcome="late", why=f"not there {self.wait:.3g} s after the barrier")
        return [Arrival(key, came.get(key, late)) for key in self._pending]

    def _go_live(self) -> None:
        """Begin to work on what is out."""
        self._room = _Room(self.giver, newest_first=self.schedule == "async")
        weakref.finalize(self, self._room.close)
        for _ in range(self.workers):
            threading.Thread(target=self._room.work, name="cairn-desk", daemon=True).start()
        self._room.put(self._pending)

    # ---- journal -------------------------------------------------------------------------------------------

    def _read(self) -> list[dict[str, Any]]:
        if self.journal is None:
            return []
        if not self.journal.parent.is_dir():
            raise ValueError(f"journal={str(self.journal)!r}: the folder does not exist; make it first")
        if not self.journal.exists():
            return []
        text = self.journal.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a kill cut the last line short
            self.journal.write_text(whole, encoding="utf-8")
        rows = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append({"step": int(row["step"]), "arrivals": [(str(k), dict(a)) for k, a in row["arrivals"]]})
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{self.journal}, line {number}, is not from a journal of answers: {error}"
                ) from None
        return rows

    def _replayed(self, step: int) -> list[Arrival]:
        row = self._recorded.popleft()
        strange = [key for key, _ in row["arrivals"] if key not in self._pending]
        if row["step"] != step or strange:
            what = (
                f"{strange[0]!r} arrives, which this run has not asked" if strange else f"it is at step {row['step']}"
            )
            raise JournalError(
                f"the journal {self.journal} is another run's: at step {step} of this one {what}. The same seed, "
                "environments and settings replay it; for a new run give another file"
            )
        self._position += 1
        return [Arrival(key, Answer.from_json(answer)) for key, answer in row["arrivals"]]

    def _write(self, step: int, arrivals: list[Arrival]) -> None:
        if self.journal is None:
            return
        line = canonical({"step": step, "arrivals": [[key, answer.to_json()] for key, answer in arrivals]})
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._position += 1

    # ---- state and health ----------------------------------------------------------------------------------

    def health(self) -> dict[str, float]:
        """Counts for the log: what was posted, what came of it, and what the giver says of itself."""
        told = getattr(self.giver, "health", None)
        theirs = told() if callable(told) else {}
        ours = {**{k: float(v) for k, v in self.counts.items()}, "pending": float(len(self._pending))}
        return {**ours, **{k: float(v) for k, v in theirs.items() if k in ("server_up", "money", "tokens_out")}}

    def state(self) -> dict[str, Any]:
        """What is out, and how far the journal goes; what a budget has spent."""
        budget = getattr(self.giver, "budget", None)
        return {
            "pending": canonical([[key, question.to_json()] for key, question in self._pending.items()]),
            "counts": dict(self.counts), "step": self._step, "position": self._position,
            "budget": None if budget is None else budget.state(),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``: what was out is asked again, unless the journal has it.

        Raises:
            JournalError: The journal is shorter than it was.
        """
        pending = [(str(key), Question(**tree)) for key, tree in json.loads(state["pending"])]
        if self._room is not None:
            self._room.close()
            self._room = None
        position = int(state["position"])
        if self.journal is not None:
            rows = self._read()
            if len(rows) < position:
                raise JournalError(f"the journal {self.journal} has {len(rows)} lines, and the run had {position}")
            self._recorded = deque(rows[position:])
        self._pending, self._position = OrderedDict(pending), position
        self.counts, self._step = {**self.counts, **state["counts"]}, int(state["step"])
        budget = getattr(self.giver, "budget", None)
        if budget is not None and state["budget"] is not None:
            budget.load(state["budget"])

    def close(self) -> None:
        """Let the workers end."""
        if self._room is not None:
            self._room.close()
            self._room = None


class _Room:
    """What the desk and its workers share. Workers know the room and not the desk, so that a desk can be let go of."""

    def __init__(self, giver: Giver, newest_first: bool) -> None:
        self.giver, self.newest_first, self.closed = giver, newest_first, False
        self.known: set[str] = set()
        self.todo: OrderedDict[str, Question] = OrderedDict()
        self.done: OrderedDict[str, Answer] = OrderedDict()
        self.changed = threading.Condition()

    def put(self, questions: Mapping[str, Question]) -> None:
        with self.changed:
            for key, question in questions.items():
                if key not in self.known:
                    self.known.add(key)
                    self.todo[key] = question
            self.changed.notify_all()

    def forget(self, key: str) -> None:
        with self.changed:
            self.known.discard(key)
            self.todo.pop(key, None)
            self.done.pop(key, None)

    def work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.todo or self.closed)
                if self.closed:
                    return
                key, question = self.todo.popitem(last=self.newest_first)
            try:
                answer = self.giver.ask(question)
            except Exception as error:  # a giver that breaks its promise must not end the labels for good
                answer = Answer(outcome="error", why=f"{type(error).__name__}: {struck(str(error))}")
            with self.changed:
                if key in self.known:
                    self.done[key] = answer
                self.changed.notify_all()

    def take(self) -> list[tuple[str, Answer]]:
        with self.changed:
            came = list(self.done.items())
            self.known -= set(self.done)
            self.done.clear()
        return came

    def take_all(self, keys: list[str], seconds: float) -> dict[str, Answer]:
        end = time.monotonic() + seconds
        with self.changed:
            self.changed.wait_for(lambda: all(k in self.done for k in keys) or self.closed, end - time.monotonic())
            came = {k: self.done[k] for k in keys if k in self.done}
            for key in keys:
                self.known.discard(key)
                self.todo.pop(key, None)
                self.done.pop(key, None)
        return came

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.todo.clear()
            self.changed.notify_all()
