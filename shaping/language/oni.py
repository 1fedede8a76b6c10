"""ONI: an intrinsic reward from a language model's labels of captions, which arrive while the agent trains.

Zheng, Henaff, Zhang, Grover and Amos, "Online Intrinsic Rewards for Decision Making Agents from Large Language Model
Feedback", 2024; the ranking variant is Motif's (Klissarov et al. 2023, section 3). Three ways from labels to rewards:

* "retrieval": a caption that was labelled helpful pays 1, any other 0;
* "classification": a model trained on the labels says so for captions that nobody has labelled;
* "ranking": a model trained on preferences between two captions; its value, normalised over the captions known, where
  it is above their median.

The reward is divided by ``count ** power``, the count of the caption in its episode.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adam import Adam
from ..counts import EpisodicCount
from ..hashing import mix
from ..learned import valid_rows
from ..stretch import Stretch
from ..term import Op, Pure, Source, Term, World
from . import labels as ask_for
from .ask import Answer, Giver, Question
from .captions import Captioner, FactCaptions, captioner, written
from .desk import Arrival, Desk
from .environment import giver_of
from .oracle import Oracle

MODES = ("retrieval", "classification", "ranking")
_BATCH, _STEPS = 512, 8


class Told:
    """A captioner, and the codes of the last stretch: what pays, what counts and what asks look at the same one."""

    def __init__(self, captions: Captioner) -> None:
        self.captions = captions
        self._last: tuple[Stretch, Tensor] | None = None
        self._texts: dict[int, str] = {}

    def bind(self, world: World) -> None:
        """Learn the seat's spaces; what codes say may depend on them."""
        self.captions.bind(world)
        self._texts = {}

    def codes(self, x: Stretch, anew: bool = False) -> Tensor:
        """The code of each row of any stretch, flat ``[B]``; 0 where it is not valid."""
        if anew or self._last is None or self._last[0] is not x:
            valid = x.valid.flatten()
            whole = bool(valid.all())
            codes = self.captions.codes(x.flat() if whole else valid_rows(x))
            self._last = x, codes if whole else torch.zeros_like(valid, dtype=torch.int64).masked_scatter(valid, codes)
        return self._last[1]

    def texts(self, codes: Tensor, x: Stretch, rows: Tensor) -> list[str]:
        """What codes ``[B]`` say, given the row of the flat ``x`` that has each; each is written out once."""
        names = codes.tolist()
        new = [i for i, code in enumerate(names) if code not in self._texts]
        if new:
            codes_of = [names[i] for i in new]
            self._texts.update(zip(codes_of, written(self.captions, codes_of, x[rows[new]])))
        return [self._texts[code] for code in names]

    def forget(self) -> None:
        """Let go of the stretch."""
        self._last = None


class CaptionCount(EpisodicCount):
    """``1 / n ** power``, where n counts the caption of the step in its episode, this one included."""

    text_name = "caption_count"

    def __init__(self, told: Told, power: float = 3.0) -> None:
        super().__init__(None)
        self.told, self.power = told, float(power)

    def bind(self, world: World) -> None:
        """Make room for the lanes."""
        super().bind(world)
        self.told.bind(world)

    def visits(self, x: Stretch) -> Tensor:
        """How often each row's caption has come in its episode by then, int64 ``[T, N]``; 0 where there is none."""
        start = x.start & x.valid
        epoch = self.epoch + start.cumsum(0)
        codes = self.told.codes(x)
        rows = codes.nonzero()[:, 0]
        lanes = rows % x.rows[1]
        # Most steps have no caption: only those that have one are counted.
        episode = epoch.flatten()[rows]
        counts = self.table.add(mix(codes[rows] + mix(mix(episode) + lanes)), lanes, episode)
        self.epoch = epoch[-1]
        self.table.forget(self.epoch)
        out = torch.zeros_like(codes)
        out[rows] = counts
        return out.reshape(x.rows)

    def bonus(self, visits: Tensor, x: Stretch) -> Tensor:
        """From visits ``[T, N]`` to the factor."""
        return visits.clamp(min=1).float() ** -self.power

    @classmethod
    def examples(cls) -> list[Term]:
        """It is shown by ONI."""
        return []


class CaptionReward(Pure):
    """What labels say of each step's caption; labels are asked for and taken in ``update`` alone."""

    text_name = "labels"
    saved = (
        "known", "value", "verdict", "texts", "pairs", "again", "labelled", "fresh", "judge", "optimiser", "generator",
        "desk", "centre", "spread", "floor",
    )  # fmt: skip

    def __init__(
        self,
        desk: Desk,
        told: Told,
        mode: str,
        task: str,
        limit: int,
        pairs: int,
        retry: int,
        learning_rate: float,
    ) -> None:
        self.desk, self.told, self.mode, self.task = desk, told, mode, task
        self.limit, self.pairs_each, self.retry, self.learning_rate = limit, pairs, retry, learning_rate
        self._start(0, torch.device("cpu"))

    def _start(self, seed: int, device: torch.device) -> None:
        self.known = torch.zeros(0, dtype=torch.int64, device=device)  # codes, sorted
        self.value = torch.zeros(0, device=device)  # and what each pays
        self.verdict: dict[str, float] = {}  # code -> label 0 or 1; -1 where the labeller gave none
        self.texts: dict[str, str] = {}
        self.pairs = torch.zeros(0, 3, dtype=torch.float64)  # rows of ``texts`` and which was preferred
        self.again: dict[str, int] = {}  # code -> the step from which it may be asked about again
        self.labelled = self.fresh = 0  # labels, and how many of them the judge has not been trained on
        self.generator = torch.Generator().manual_seed(seed)
        self.judge = ask_for.Judge(self.generator).to(device)
        self.optimiser = Adam(self.judge.parameters(), self.learning_rate, fused=True)
        self.centre, self.spread, self.floor = 0.0, 1.0, 0.0
        self._features: dict[str, Tensor] = {}
        self.device = device

    def bind(self, world: World) -> None:
        """Begin with nothing labelled."""
        self._start(world.seed, world.device)
        self.told.bind(world)

    # ---- paying --------------------------------------------------------------------------------------------

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        """What each row's caption is worth, before it is divided by its count."""
        codes = self.told.codes(x, anew=True)
        out = torch.zeros(codes.shape, device=x.device)
        rows = codes.nonzero()[:, 0]
        if len(rows) and (len(self.known) or self.mode != "retrieval") and self.labelled:
            out[rows] = self._worth(codes[rows], x.flat(), rows)
        return out.reshape(x.rows)

    def _worth(self, codes: Tensor, x: Stretch, rows: Tensor) -> Tensor:
        place = torch.searchsorted(self.known, codes).clamp(max=max(len(self.known) - 1, 0))
        found = self.known[place] == codes if len(self.known) else torch.zeros_like(codes, dtype=torch.bool)
        worth = torch.where(found, self.value[place], 0.0) if len(self.known) else torch.zeros(codes.shape)
        if self.mode == "retrieval" or bool(found.all()):
            return worth
        new, of = torch.unique(codes[~found], return_inverse=True)
        texts = self.told.texts(new, x, rows[(~found).nonzero()[:, 0][_first_rows(of, len(new))]])
        worth[~found] = self._paid(self.judge([self._bag(text) for text in texts]).detach())[of]
        return worth

    def _paid(self, score: Tensor) -> Tensor:
        """From the model's numbers to what is paid."""
        if self.mode == "classification":
            return (score > 0).float()
        normal = (score - self.centre) / self.spread
        return torch.where(normal > self.floor, normal, 0.0)

    # ---- learning ------------------------------------------------------------------------------------------

    def update(self, source: Source, step: int) -> dict[str, Tensor]:
        """Take the labels that have arrived, learn from them, and ask about captions that are new."""
        arrivals = self.desk.collect(step)
        fresh = sum([self._take(arrival, step) for arrival in arrivals])
        seen = self._meet(source.recent)
        if self.mode != "ranking":
            self._ask_about(seen, step)
        else:
            self._ask_pairs()
        logs: dict[str, float] = {}
        self.fresh += fresh
        # Not for every label that trickles in: when an eighth is new.
        learned = self.mode != "retrieval" and self.fresh > self.labelled // 8
        if learned:
            logs["loss"], self.fresh = self._train(), 0
        # What captions pay changes with the labels where these pay, and else with the judge or with a new caption.
        if fresh if self.mode == "retrieval" else learned or len(self.known) < len(self.texts):
            self._refresh(learned)
        logs |= {"captions": len(self.texts), "labelled": self.labelled, **self.desk.health()}
        return {name: torch.tensor(float(number)) for name, number in logs.items()}

    def _meet(self, recent: Stretch) -> list[str]:
        """Write out the captions that are new; returns the codes of all that were seen and have no verdict."""
        codes, x = self.told.codes(recent), recent.flat()
        self.told.forget()
        rows = codes.nonzero()[:, 0]
        if not len(rows):
            return []
        unique, of = torch.unique(codes[rows], return_inverse=True)
        first = rows[_first_rows(of, len(unique))]
        names = [str(code) for code in unique.tolist()]
        new = [i for i, name in enumerate(names) if name not in self.texts]
        if new:
            told = self.told.texts(unique[new], x, first[new])
            self.texts.update(zip([names[i] for i in new], told))
        return [name for name in names if name not in self.verdict]

    def _ask_about(self, codes: list[str], step: int) -> None:
        for code in self.desk.new(codes):
            if self.labelled + len(self.desk) >= self.limit:
                break
            if step >= self.again.get(code, 0):
                self.desk.post(code, ask_for.about(self.texts[code], self.task))

    def _ask_pairs(self) -> None:
        names = list(self.texts)
        if len(names) < 2:
            return
        for _ in range(self.pairs_each):
            # In both orders, as labellers like what stands first.
            a, b = torch.randint(len(names), (2,), generator=self.generator).tolist()
            key = f"{names[a]} {names[b]}"
            if a == b or key in self.verdict or key in self.desk or self.labelled + len(self.desk) >= self.limit:
                continue
            self.desk.post(key, ask_for.between(self.texts[names[a]], self.texts[names[b]], self.task))

    def _take(self, arrival: Arrival, step: int) -> int:
        """Take one answer in; returns whether there is something to learn from."""
        key, answer = arrival
        if answer.outcome in ("late", "error"):
            self.again[key] = step + self.retry  # nobody has judged it yet
            return 0
        self.again.pop(key, None)
        if not answer.ok:
            self.verdict[key] = -1.0  # it was judged, and there is no label: not 0, and not asked again
            return 0
        self.labelled += 1
        if self.mode != "ranking":
            self.verdict[key] = float(ask_for.label_of(answer.value))
            return 1
        preferred = ask_for.preference_of(answer.value)
        self.verdict[key] = preferred
        names = {name: i for i, name in enumerate(self.texts)}
        a, b = (names[name] for name in key.split(" "))
        self.pairs = torch.cat([self.pairs, torch.tensor([[a, b, preferred]], dtype=torch.float64)])
        return 1

    def _bag(self, text: str) -> Tensor:
        if text not in self._features:
            self._features[text] = ask_for.features(text)
        return self._features[text]

    def _train(self) -> float:
        """Some steps over all labels so far, or a random part of them; the mean loss."""
        if self.mode == "ranking":
            rows = self._part(len(self.pairs))
            # Each caption once, however many pairs it stands in.
            ends, of = torch.unique(self.pairs[rows, :2].long(), return_inverse=True)
            names = list(self.texts)
            chosen = [names[i] for i in ends.tolist()]
            first, second = of.T.to(self.device)
            target = self.pairs[rows, 2].float().to(self.device)
        else:
            labelled = [name for name, label in self.verdict.items() if label >= 0]
            chosen = [labelled[i] for i in self._part(len(labelled)).tolist()]
            target = torch.tensor([self.verdict[name] for name in chosen], device=self.device)
        bags = ask_for.joined([self._bag(self.texts[name]) for name in chosen])
        counts, used = (part.to(self.device) for part in ask_for.counted(*bags))
        total = torch.zeros((), device=self.device)
        for _ in range(_STEPS):
            if self.mode == "ranking":
                score = self.judge.backward(counts, used, lambda s: ask_for.pair_slope(s, first, second, target))
                total += ask_for.pair_loss(score[first], score[second], target)
            else:
                score = self.judge.backward(counts, used, lambda s: ask_for.label_slope(s, target))
                total += ask_for.label_loss(score, target)
            self.optimiser.step()
        return float(total) / _STEPS

    def _part(self, count: int) -> Tensor:
        """At most a batch of ``count`` rows, in random order."""
        return torch.randperm(count, generator=self.generator)[:_BATCH]

    @torch.no_grad()
    def _refresh(self, learned: bool) -> None:
        """What every known caption pays from now on; where the judge is as it was, it is asked of new ones alone."""
        if self.mode == "retrieval":
            pays = {int(name): label for name, label in self.verdict.items() if label >= 0}
            codes = torch.tensor(list(pays), dtype=torch.int64, device=self.device)
            value = torch.tensor(list(pays.values()), dtype=torch.float32, device=self.device)
        else:
            # What pays already are the texts that came first, all of them.
            begin = len(self.known) if self.mode == "classification" and not learned else 0
            names = list(self.texts)[begin:]
            score = self.judge([self._bag(self.texts[name]) for name in names])
            if self.mode == "ranking" and len(score) > 1:
                self.centre, self.spread = float(score.mean()), max(float(score.std()), 1e-6)
                self.floor = float(((score - self.centre) / self.spread).median())
            codes = torch.tensor([int(name) for name in names], dtype=torch.int64, device=self.device)
            value = self._paid(score)
            if begin:
                codes, value = torch.cat([self.known, codes]), torch.cat([self.value, value])
        self.known, order = codes.sort()
        self.value = value[order]

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back labels, model, and what is still out."""
        super().load(state)
        self._features = {}

    @classmethod
    def examples(cls) -> list[Term]:
        """It is shown by ONI."""
        return []


class ONI(Op):
    """A language model's labels of captions, over the caption's count in its episode to a power.

    Labels are asked for in the background: training never waits for them, and where no server answers it goes on
    without (``reward/labels/server_up`` is 0 then, and the progress line says so). With ``schedule="barrier"`` it waits
    every ``every`` steps. ``journal`` keeps what arrived when, and an existing journal replays its run to the bit.

    Args:
        giver: Who labels: a ``language.Client``, an ``Oracle``, any ``Giver``. None asks the server that the variables
            ``CAIRN_LANGUAGE_URL`` and ``CAIRN_LANGUAGE_MODEL`` name (so it does in a text expression).
        mode: "retrieval", "classification" or "ranking".
        captions: Names of facts, or a captioner; None is the grid engine's (``GridCaptions``).
        task: What the task is, in words, where captions do not say it.
        power: Of the count; 0 pays a caption every time.
        limit: Most labels.
        pairs: How many pairs an update asks about ("ranking").
        retry: Environment steps until a caption is asked about again that nobody has judged (no server, too late).
        learning_rate: Of the model of the labels.
        schedule: "async" or "barrier".
        every: Environment steps between barriers.
        wait: Most seconds at a barrier.
        workers: Questions under way at once.
        queue: Most questions out.
        journal: Where arrivals are written, and read from if the file is there.

    Raises:
        ValueError: A setting is none, or no server is named.
    """

    text_name = "oni"

    def __init__(
        self,
        giver: Giver | None = None,
        mode: str = "retrieval",
        captions: Any = None,
        task: str = "",
        power: float = 3.0,
        limit: int = 25_000,
        pairs: int = 10,
        retry: int = 100_000,
        learning_rate: float = 3e-3,
        schedule: str = "async",
        every: int = 0,
        wait: float = 60.0,
        workers: int = 2,
        queue: int = 1000,
        journal: str | Path | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"ONI(mode={mode!r}): one of {', '.join(MODES)}")
        if not (power >= 0 and limit >= 1 and pairs >= 1 and retry >= 0 and learning_rate > 0):
            raise ValueError("ONI: power and retry are not below 0; limit, pairs and learning_rate above 0")
        desk = Desk(giver_of(giver, "ONI"), schedule, int(every), wait, int(workers), int(queue), journal)
        told = Told(captioner(captions))
        reward = CaptionReward(desk, told, mode, task, int(limit), int(pairs), int(retry), float(learning_rate))
        self.set_inputs(reward, CaptionCount(told, power))

    @property
    def desk(self) -> Desk:
        """Where questions go out and answers come in."""
        reward = self.inputs[0]
        assert isinstance(reward, CaptionReward)
        return reward.desk

    def apply(self, *inputs: Tensor) -> Tensor:
        """Label over count."""
        return inputs[0] * inputs[1]

    @property
    def name(self) -> str:
        """One name for both."""
        return type(self).text_name

    @classmethod
    def examples(cls) -> list[Term]:
        """All modes, over captions of facts, labelled by an oracle that likes high places."""

        def rule(question: Question) -> Any:
            return {"label": "helpful", "better": "first"}

        facts = FactCaptions("position", "carrying")
        return [cls(Oracle(rule), mode, facts, schedule="barrier", every=100) for mode in MODES]


def _first_rows(of: Tensor, kinds: int) -> Tensor:
    """The first row of each kind, given each row's kind ``[B]``."""
    rows = torch.arange(len(of), device=of.device)
    return torch.full((kinds,), len(of), device=of.device).scatter_reduce(0, of, rows, "amin")


__all__ = ["MODES", "ONI", "Answer", "CaptionCount", "CaptionReward"]
