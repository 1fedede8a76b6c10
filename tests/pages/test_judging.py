"""Flags on lived episodes: each fires on a planted fault, and none on twenty rewards that have none."""

from typing import Any

import pytest
from torch import Tensor

from cairn.pages import seeing
from cairn.pages.flags import TITLES, Flag
from cairn.pages.judging import judge, role_of
from cairn.pages.subjects import of_expression
from cairn.shaping import Potential, Stretch, Task, as_reward

ROOMS, EMPTY, KEY = "cairn/FourRooms-v0", "cairn/MiniGrid-Empty-5x5-v0", "cairn/MiniGrid-DoorKey-5x5-v0"
POINT, CHEETAH = "cairn/PointMaze_UMaze-v3", "cairn/HalfCheetah-v5"


def flags(what: Any, env: str, episodes: int = 3, rows: list[dict[str, Any]] | None = None) -> list[Flag]:
    subject = of_expression(what, env, "random", None, {}, False)
    episodes = 1 if env == CHEETAH else episodes
    subject.rows, subject.trained = rows or [], rows is not None
    make = subject.make
    if env in (CHEETAH, POINT):  # pictures are not what is tested here, and take their time
        subject.make = lambda lanes, pictures: make(lanes, False)
    return seeing.look(subject, episodes, 0).flags


def faults(found: list[Flag]) -> set[tuple[str, str]]:
    return {(flag.name, flag.term) for flag in found if flag.verdict == "fault"}


def corner(facts: dict[str, Tensor]) -> Tensor:
    """Nearness to the goal of an empty room."""
    return facts["position"].float().sum(-1)


def nearer(x: Stretch) -> Tensor:
    """Paid for steps towards the goal, and nothing taken for steps away: the cyclist's circles."""
    return (corner(x.next_facts) - corner(x.facts)).clamp(min=0)


class Unmasked(Potential):
    """A potential that forgets that terminal states have none."""

    def score(self, x: Stretch, *inputs: Tensor) -> Tensor:
        return 0.99 * self.arrive(x) - self.begin(x)

    @classmethod
    def examples(cls) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("what", "env", "fault"),
    [
        ("task + 0.01", ROOMS, ("loop", "constant")),
        (Task() + 0.1 * as_reward(nearer).term, EMPTY, ("loop", "nearer")),
        (Task() + Potential(corner, on="facts").clip(0, None), EMPTY, ("loop", "potential")),
        (Task() + Potential(corner, on="facts").clip(0, None), EMPTY, ("telescopes", "potential")),
        ("task + potential('distance').clip(-1, 0.001)", POINT, ("telescopes", "potential")),
        (Task() + Unmasked(corner, on="facts"), EMPTY, ("telescopes", "unmasked")),
        ("task + 10*episodic_count(key='state')", ROOMS, ("drowns", "episodic_count")),
        ("task - 1", ROOMS, ("drowns", "constant")),
    ],
    ids=str,
)
def test_a_planted_fault_is_found(what: Any, env: str, fault: tuple[str, str]) -> None:
    assert fault in faults(flags(what, env, 16))


def rows(*pays: float, task: float = 0.1) -> list[dict[str, Any]]:
    """Metrics of a run whose bonus paid so much an episode."""
    base = {"rollout/ep_len_mean": 10.0, "rollout/ep_rew_mean": task}
    return [{"step": i, **base, "reward/episodic_count": pay / 10} for i, pay in enumerate(pays)]


def test_a_bonus_that_never_decays() -> None:
    text = "task + 0.001*episodic_count(key='state')"
    always, falls = rows(*[0.5] * 10), rows(*[0.5] * 5, *[0.2] * 5)
    assert ("decays", "episodic_count") in faults(flags(text, ROOMS, rows=always))
    found = flags(text, ROOMS, rows=falls)
    assert not faults(found)
    assert any(flag.name == "decays" and flag.verdict == "clear" and "40%" in flag.what for flag in found)
    # Where the task pays more, the bonus is let be; and what pays nothing at first cannot be judged.
    assert not faults(flags(text, ROOMS, rows=rows(*[0.5] * 10, task=0.9)))
    found = flags(text, ROOMS, rows=rows(*[0.0] * 5, *[0.5] * 5))
    assert {flag.verdict for flag in found if flag.name == "decays"} == {"unjudged"}


def test_an_agent_with_another_discount_is_told() -> None:
    text = "task + potential('distance', gamma=0.9)"
    subject = of_expression(text, POINT, "random", 0.9, {}, False)
    batch = subject.make(2, False)
    lived = seeing._live_all(subject, batch, 2, 0)
    reward = seeing._bound(subject, batch)
    assert not faults(judge(reward, lived, gamma=0.9))
    assert faults(judge(reward, lived, gamma=0.99)) == {("telescopes", "potential")}


CLEAN = [
    ("task", ROOMS), ("task", EMPTY), ("task", KEY), ("task", CHEETAH), ("task", "CartPole-v1"),
    ("task - 0.001", ROOMS), ("task - 0.0001", EMPTY),
    ("task + 0.1*potential('distance')", POINT), ("task - potential('distance')", POINT),
    (Task() + Potential(corner, on="facts"), EMPTY), (Task() - 3 * Potential(corner, on="facts"), KEY),
    (Task() + Potential(lambda obs: obs[..., 0]), "MountainCar-v0"),
    ("task + 0.002*episodic_count(mode='first')", KEY), ("task + 0.002*episodic_count(mode='first')", ROOMS),
    ("task + 0.001*count", ROOMS), ("task + 0.01*noveld", KEY), ("task + 0.01*rnd", CHEETAH),
    ("task + 0.01*rnd", EMPTY), ("task + 0.002*e3b", EMPTY), ("task + 0.001*pseudo_counts", EMPTY),
]  # fmt: skip


@pytest.mark.parametrize(("what", "env"), CLEAN, ids=str)
def test_no_flag_fires_on_a_clean_reward(what: Any, env: str) -> None:
    assert not faults(flags(what, env))


def test_roles() -> None:
    text = "task + 0.1 + 0.1*rnd + potential('distance').clip(0, 1) + 0.1*noveld*task"
    assert [role_of(s) for s in as_reward(text).summands] == ["task", "hint", "bonus", "potential", "bonus"]
    assert set(TITLES) == {"loop", "drowns", "telescopes", "decays"}
