"""ONI's training rate with labels, beside the same life without any: what ``cairn bench oni --rate`` measures.

An agent that is paid for what labels say lives otherwise than one that is not: it moves less, opens more doors, and
ends and begins more episodes, each of which has a price of its own. What labels cost is therefore measured against an
agent that lives the same life, to the bit: in every round three agents of one seed take turns,

* one whose labels arrive over HTTP while it trains;
* one that is given the same answers at the same updates, and asks, takes them in and learns from them, without a
  server, a connection or a thread;
* one that is given what came of it alone, the table of what each caption pays after each update: no question, no
  label, no learning.

After every turn their policies must be equal in every bit. Beside them stand ONI before any label and PPO alone,
which live lives of their own. Questions rest while others have their turn, and what is under way then is charged to
the agent that asked.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cairn.agents import PPO
from cairn.agents.randomness import random_state, set_random_state
from cairn.benchmarks.dials import model_for
from cairn.benchmarks.tables import Cells, interval, iqm
from cairn.shaping import ONI, Source, Task
from cairn.shaping.language import Answer, Giver, Question
from cairn.shaping.language.desk import Arrival, Desk
from cairn.shaping.language.oni import CaptionReward

ARRIVING, GIVEN, PLAYED = "ONI, labels arriving", "same life, labels given", "same life, no labels"
UNPAID, ALONE = "ONI, no labels", "PPO alone"
LABELLED = (ARRIVING, GIVEN, PLAYED)
KINDS = ("seconds", "cpu_seconds", "thread_seconds")


class Nobody:
    """A labeller that never answers: ONI as it is before any label."""

    def ask(self, question: Question) -> Answer:
        """Wait for ever."""
        time.sleep(1e6)
        return Answer(outcome="late")


class Gated:
    """A giver that is asked only while its gate is open."""

    def __init__(self, giver: Giver) -> None:
        self.giver, self.gate = giver, threading.Event()

    def ask(self, question: Question) -> Answer:
        """Wait for the gate, and ask."""
        self.gate.wait()
        return self.giver.ask(question)


class Pays(NamedTuple):
    """All that decides what captions pay until the next update."""

    step: int
    labelled: int
    known: Tensor
    value: Tensor
    scale: tuple[float, float, float]
    judge: Mapping[str, Tensor] | None
    """None where it has not learned."""


class Tape:
    """What an agent's labels were and what came of them, an entry an update, for those that live after it."""

    def __init__(self) -> None:
        self.arrivals: deque[list[Arrival]] = deque()
        self.pays: deque[Pays] = deque()


class HeardDesk(Desk):
    """A desk whose arrivals are kept."""

    tape: Tape

    def collect(self, step: int) -> list[Arrival]:
        """Take what has arrived."""
        arrivals = super().collect(step)
        self.tape.arrivals.append(arrivals)
        return arrivals


class GivenDesk(Desk):
    """A desk to which the kept answers come, and from which no question goes out."""

    tape: Tape

    def _taken(self, step: int) -> list[Arrival]:
        return self.tape.arrivals.popleft()

    def _go_live(self) -> None:
        pass


class Recorded(CaptionReward):
    """Labels' rewards, and after each update what they are from then on."""

    text_name = "labels"
    tape: Tape

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Learn, and keep what came of it: tables are made anew by every change, the judge is not."""
        logs = super().update(source, step)
        judge = {k: v.clone() for k, v in self.judge.state_dict().items()} if "loss" in logs else None
        scale = self.centre, self.spread, self.floor
        self.tape.pays.append(Pays(step, self.labelled, self.known, self.value, scale, judge))
        return logs


class Played(CaptionReward):
    """The same rewards, without labels."""

    text_name = "labels"
    tape: Tape

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Pay as the other does from now on."""
        now = self.tape.pays.popleft()
        if now.step != step:
            raise ValueError(f"what was recorded at step {now.step} is played at step {step}")
        self.labelled, self.known, self.value = now.labelled, now.known, now.value
        self.centre, self.spread, self.floor = now.scale
        if now.judge is not None:
            self.judge.load_state_dict(now.judge)
        self.told.forget()
        return {}


def labelled_by(giver: Giver, mode: str, workers: int, tape: Tape, who: str) -> ONI:
    """ONI as one of ``LABELLED`` has it."""
    desk_of = {ARRIVING: HeardDesk, GIVEN: GivenDesk, PLAYED: Desk}[who]
    reward_of = {ARRIVING: Recorded, GIVEN: CaptionReward, PLAYED: Played}[who]
    term = ONI(giver, mode, workers=workers)
    plain, count = term.inputs
    assert isinstance(plain, CaptionReward)
    desk: Any = desk_of(giver, workers=workers)
    reward: Any = reward_of(
        desk, plain.told, mode, plain.task, plain.limit, plain.pairs_each, plain.retry, plain.learning_rate
    )
    desk.tape = reward.tape = tape
    term.set_inputs(reward, count)
    return term


def same(first: PPO, second: PPO) -> bool:
    """Whether policies are equal in every bit."""
    pairs = zip(first.policy.parameters(), second.policy.parameters())
    return all(torch.equal(a, b) for a, b in pairs)


def measure(
    cells: Cells,
    ask: Callable[[], Giver],
    names: Mapping[str, object],
    rounds: int,
    turns: int,
    rollouts: int,
    weight: float = 0.1,
    workers: int = 2,
    seed: int = 0,
    make: Callable[[Any, int], PPO] = model_for,
) -> list[dict[str, str]]:
    """Let the agents take turns, and add a row for each turn.

    Args:
        cells: The table.
        ask: Makes the labeller.
        names: Columns of the table that say what was set; "mode" is ONI's.
        rounds: How many times to begin anew, with another seed.
        turns: Of each agent in a round.
        rollouts: A turn.
        weight: Of ONI's reward.
        workers: Questions under way at once.
        seed: Of the first round.
        make: From a reward and a seed to an agent.

    Returns:
        The rows added.

    Raises:
        RuntimeError: Lives that must be the same are not.
    """
    mode, before = str(names["mode"]), len(cells.rows())
    for number in range(rounds):
        tape, giver = Tape(), Gated(ask())
        givers: dict[str, Giver] = {ARRIVING: giver, GIVEN: Nobody(), PLAYED: Nobody()}
        terms = {who: labelled_by(givers[who], mode, workers, tape, who) for who in LABELLED}
        rewards: dict[str, Any] = {who: Task() + weight * term for who, term in terms.items()}
        rewards |= {UNPAID: Task() + weight * ONI(Nobody(), mode), ALONE: Task()}
        models, streams = {}, {}
        for who, reward in rewards.items():
            models[who] = make(reward, seed + number)
            streams[who] = random_state(models[who].device)
        for turn in range(turns):
            for who, model in models.items():
                set_random_state(streams[who], model.device)  # each draws as if it were alone
                row = _turn(model, rollouts, giver if who == ARRIVING else None)
                streams[who] = random_state(model.device)
                labelled = terms[who].inputs[0].labelled if who in terms else 0  # type: ignore[attr-defined]
                row |= {"round": seed + number, "turn": turn, "who": who, **names, "labelled": labelled}
                cells.add(row)
                if who in (GIVEN, PLAYED) and not same(model, models[ARRIVING]):
                    raise RuntimeError(f"round {number}, turn {turn}: {who!r} is not the same life as {ARRIVING!r}")
            print(f"\rround {number + 1} of {rounds}, turn {turn + 1} of {turns}: {labelled_of(terms)} labels", end="")
            sys.stdout.flush()
        terms[ARRIVING].desk.close()
        giver.gate.set()  # lets its workers end
    print()
    return cells.rows()[before:]


def labelled_of(terms: Mapping[str, ONI]) -> int:
    """How many labels have arrived."""
    count: int = terms[ARRIVING].inputs[0].labelled  # type: ignore[attr-defined]
    return count


def _turn(model: PPO, rollouts: int, giver: Gated | None) -> dict[str, object]:
    """Train for some rollouts; what that took."""
    steps = rollouts * model.n_steps * model.n_envs
    if giver is not None:
        giver.gate.set()
    wall, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    for _ in range(rollouts):
        model.learn(model.n_steps * model.n_envs, reset_num_timesteps=model.num_timesteps == 0)
    wall, own = time.perf_counter() - wall, time.thread_time() - own
    if giver is not None:
        giver.gate.clear()
        time.sleep(0.3)  # until what is under way has come
    cpu = time.process_time() - cpu
    spent = zip(KINDS, (wall, cpu, own))
    return {"steps": steps, **{kind: round(seconds, 4) for kind, seconds in spent}}


def ratios(rows: Sequence[Mapping[str, str]], who: str, other: str, kind: str, skip: int = 1) -> list[float]:
    """What ``who`` reaches of the rate of ``other``, a number a round; the first turns of a round warm up."""
    found = []
    for number in dict.fromkeys(row["round"] for row in rows):
        mine, theirs = (
            sum(float(r[kind]) for r in rows if (r["round"], r["who"]) == (number, w) and int(r["turn"]) >= skip)
            for w in (who, other)
        )
        found.append(theirs / mine)
    return found


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Ratios of rates by CPU seconds, IQM over rounds with its interval, in Markdown."""
    pairs = (
        (ARRIVING, PLAYED, "labels, in all"), (GIVEN, PLAYED, "asking, taking and learning"),
        (ARRIVING, GIVEN, "the server's answers on their way"), (PLAYED, UNPAID, "another life, and paying"),
        (UNPAID, ALONE, "captions, and ONI before any label"),
    )  # fmt: skip
    lines = ["| who | of the rate of | what differs | all threads | the thread that trains | by the clock |"]
    lines.append("|---" * 6 + "|")
    for who, other, what in pairs:
        told = []
        for kind in ("cpu_seconds", "thread_seconds", "seconds"):
            values = ratios(rows, who, other, kind)
            low, high = interval(values)
            told.append(f"{iqm(values):.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {who} | {other} | {what} | {' | '.join(told)} |")
    return "\n".join(lines)
