"""The laws hold for every term of the suite, and each law catches the mutants that break it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cairn.shaping import TERMS, EpisodicCount, Gated, Potential, Task
from cairn.shaping.grammar import term_class
from cairn.shaping.laws import LawBroken, check_term, walk, with_junk
from cairn.shaping.stretch import Stretch
from cairn.shaping.term import Episode, Op, Pure, Stream, Term


def examples() -> list[tuple[str, int]]:
    return [(name, i) for name in TERMS for i in range(len(term_class(name).examples()))]


@pytest.mark.parametrize(("name", "i"), examples())
@pytest.mark.parametrize("dict_obs", [True, False], ids=["dict", "vector"])
def test_every_term_obeys_the_laws(name: str, i: int, dict_obs: bool) -> None:
    for seed in range(2):
        check_term(lambda: term_class(name).examples()[i], seed=seed, dict_obs=dict_obs)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_has_an_example_and_a_line(name: str) -> None:
    cls = term_class(name)
    assert cls.examples() and cls.text_name == name and TERMS[name][1]
    assert (cls.__doc__ or "").strip()


EXPRESSIONS: list[Callable[[], Term]] = [
    lambda: Task() - 0.1 + 2 * EpisodicCount(key="position"),
    lambda: Task() * EpisodicCount() + Potential("distance"),
    lambda: EpisodicCount().clip(0.2, 0.8) - Task().gate(EpisodicCount(mode="first")),
    lambda: Task().normalise() + EpisodicCount().into("curiosity", 0.99, episodic=False),
    lambda: Gated(EpisodicCount(key="position") - 0.5, 0.5) - Task() * EpisodicCount(),
    lambda: Gated(Task(), 0.0, pay="end").clip(-1, 1) * 0.5 + (lambda x: x.reward**2),
    lambda: Gated(Task(), 0.5) * Task() + Gated(Gated(EpisodicCount(), 0.0), 0.25),
]


@pytest.mark.parametrize("make", EXPRESSIONS)
def test_expressions_obey_the_laws(make: Callable[[], Term]) -> None:
    check_term(make)


# Mutants: each breaks one law, and is otherwise a plausible term.


class CentresOnTheBatch(Pure):
    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward - x.reward.mean()


class LooksAtTheNextRow(Pure):
    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return torch.cat([x.reward[1:], x.reward[:1]])


class CountsItsCalls(Pure):
    calls = 0

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        self.calls += 1
        return x.reward * self.calls


class UpdatesWhileScoring(Pure):
    """As RLeXplore's and torchrl's running statistics do."""

    saved = ("scale",)

    def __init__(self) -> None:
        self.scale = torch.ones(())

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        self.scale = 0.9 * self.scale + 0.1 * x.reward[x.valid].std()
        return x.reward.clone()


class ScannedReward(Stream):
    memory = ("total",)

    def __init__(self) -> None:
        self.total = torch.zeros(1)

    def steps(self, x: Stretch) -> list[Tensor]:
        rows, total = [], self.total if self.total.numel() == x.rows[1] else torch.zeros(x.rows[1])
        for t in range(x.rows[0]):
            total = torch.where(x.start[t] & x.valid[t], 0.0, total) + torch.where(x.valid[t], x.reward[t], 0.0)
            rows.append(total)
        self.total = total
        return rows

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return torch.stack(self.steps(x))


class ForgetsAtEveryRollout(ScannedReward):
    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        self.total = torch.zeros(1)
        return super().scan(x)


class IgnoresValid(ScannedReward):
    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        x = x[:]
        x.valid = torch.ones_like(x.valid)
        x.reward = x.reward.nan_to_num(1.0)
        return super().scan(x)


class MixesLanes(ScannedReward):
    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        value = super().scan(x)
        return value + value.mean(1, keepdim=True)


class HidesItsMemory(ScannedReward):
    memory = ()


class PaysPerPadding(Episode):
    def settle(self, ep: Stretch, *inputs: Tensor) -> Tensor:
        return torch.full(ep.shape, float(ep.rows[0]))


class PaysTheRolloutsEnd(Op):
    """Late value that counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        super().__init__(self.count, Gated(Task(), 0.0))

    def count(self, value: Tensor) -> Tensor:
        self.calls += 1
        return value + self.calls


class CountsJunkNeighbours(Pure):
    """A difference along time, wrong at the seams and next to junk."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return x.reward - torch.cat([x.reward[:1], x.reward[:-1]]).nan_to_num(7.0)


class StoresOnlyHalf(ScannedReward):
    memory = ("total",)
    steps_seen = 0

    def scan(self, x: Stretch, *inputs: Tensor) -> Tensor:
        self.steps_seen += x.rows[0]
        return super().scan(x) + float(self.steps_seen > 20)


MUTANTS: list[tuple[type[Term], set[str]]] = [
    (CentresOnTheBatch, {"subset", "chunk"}),
    (LooksAtTheNextRow, {"subset", "chunk"}),
    (CountsItsCalls, {"pure"}),
    (UpdatesWhileScoring, {"pure"}),
    (ForgetsAtEveryRollout, {"chunk", "cut"}),
    (IgnoresValid, {"invalid"}),
    (MixesLanes, {"lanes"}),
    (HidesItsMemory, {"state"}),
    (PaysPerPadding, {"cut"}),
    (PaysTheRolloutsEnd, {"cut", "pure"}),
    (CountsJunkNeighbours, {"subset", "invalid"}),
    (StoresOnlyHalf, {"chunk", "state"}),
]


@pytest.mark.parametrize(("mutant", "laws"), MUTANTS, ids=lambda v: getattr(v, "__name__", ""))
def test_mutants_are_caught(mutant: type[Term], laws: set[str]) -> None:
    with pytest.raises(LawBroken) as caught:
        check_term(mutant, dict_obs=False)
    assert any(f"law {law!r}" in str(caught.value) for law in laws), str(caught.value)


def test_the_healthy_original_of_the_mutants_passes() -> None:
    check_term(ScannedReward, dict_obs=False)


def test_each_law_is_needed() -> None:
    """Every law is broken by some mutant that is caught by it first."""
    named = set()
    for mutant, _ in MUTANTS:
        with pytest.raises(LawBroken) as caught:
            check_term(mutant, dict_obs=False)
        named |= {
            law
            for law in ("pure", "subset", "chunk", "lanes", "cut", "invalid", "state")
            if f"law {law!r}" in str(caught.value)
        }
    assert named >= {"pure", "subset", "chunk", "lanes", "cut", "invalid", "state"}


def test_the_walk_has_all_that_can_happen() -> None:
    world, x = walk(0)
    assert x.terminated.any() and x.truncated.any() and not (x.terminated & x.truncated).any()
    assert bool(x.start[0].all()) and not x.done[:, 1].any() and x.done[-1, 0]
    assert torch.equal(x.start[1:], x.done[:-1])
    inside = ~x.done[:-1]
    assert torch.equal(x.next_facts["position"][:-1][inside], x.facts["position"][1:][inside])
    assert world.lanes == x.rows[1]


def test_junk_is_junk() -> None:
    _, x = walk(0)
    padded, rows = with_junk(x)
    lane = torch.arange(x.rows[1]).expand(x.rows)
    assert torch.equal(padded.reward[rows, lane], x.reward)
    assert padded.reward[~padded.valid].isnan().all() and padded.start[~padded.valid].any()
