"""Each fault is found where it is made, and not where it is not."""

import torch

from cairn.shaping.language.search.findings import KINDS, diagnose, hacked, misread
from cairn.shaping.programs.inputs import gather

from . import made

SEEN = made.recorded([(0, 1, 2, 3), *[(0,) * 31] * 3])  # a success of 3 steps, failures of 30
PLACE = SEEN.x.next_facts["place"]


def kinds(parts: dict[str, torch.Tensor], **given: float) -> list[tuple[str, str]]:
    value = torch.stack(list(parts.values())).sum(0)
    return [(f.kind, f.part) for f in diagnose(SEEN, value + SEEN.x.reward, parts, **given)]


def test_a_good_reward_has_no_findings() -> None:
    moved = 0.1 * (PLACE - SEEN.x.facts["place"])
    assert kinds({"moved": moved, "there": (PLACE == 3).float()}, bonus=1.0) == []


def test_pay_for_every_step_is_flooding_and_constant() -> None:
    found = kinds({"alive": torch.full(PLACE.shape, 0.1), "moved": (PLACE - SEEN.x.facts["place"]).float()})
    assert found == [("constant", "alive"), ("flooding", "alive")]


def test_so_is_the_whole_where_failing_pays_more() -> None:
    found = kinds({"alive": 1.0 + 0.1 * PLACE})
    assert ("flooding", "alive") in found and ("flooding", "") in found


def test_a_state_that_pays_as_long_as_it_lasts_floods_where_it_outweighs_the_task() -> None:
    stay = torch.zeros(len(PLACE))
    stay[3:15] = 0.1  # twelve steps of one failure: 1.2 in all, and not most of the failures' steps
    stay[2] = 1.0
    assert kinds({"stay": stay}, bonus=1.0) == [("flooding", "stay")]
    assert kinds({"stay": stay}, bonus=2.0) == []
    assert kinds({"stay": stay}) == []
    # The way to the goal pays a failure that dies beside it less than a success: nobody stays for that.
    stay[2] = 1.3
    assert kinds({"stay": stay}, bonus=1.0) == []


def test_a_part_for_failing_speaks_against_the_task() -> None:
    part = torch.zeros(len(PLACE))
    part[[3, 33, 63]] = 1.0
    assert ("against", "part") in kinds({"part": part})


def test_a_part_that_dwarfs_the_others() -> None:
    moved = (PLACE - SEEN.x.facts["place"]).float()
    assert kinds({"small": moved, "large": 101 * moved}) == [("dominant", "large")]
    assert kinds({"small": moved, "large": 99 * moved}) == []


def test_a_test_for_a_value_that_never_comes() -> None:
    inputs = gather(SEEN.x, ["next_lamp", "next_place", "obs"])
    text = (
        "def reward(next_lamp, next_place, obs):\n"
        "    lit = next_lamp[:, 0] == 6\n"
        "    there = 9 == next_place\n"
        "    right = (next_lamp[:, 0] == 5) and (next_place == 3)\n"
        "    exact = obs[:, 0] == 17.5\n"
        "    return where(lit or there or right or exact, 1.0, 0.0)\n"
    )
    found = list(misread(text, inputs))
    assert [f.kind for f in found] == ["misread", "misread"]
    assert found[0].text == (
        "line 2: next_lamp[:, 0] == 6 is never true; on 93 recorded transitions next_lamp[:, 0] is -1 (98.9%), 5 (1.1%)"
    )
    assert found[1].text.startswith("line 3: next_place == 9 is never true")
    assert list(misread("this is no program", inputs)) == []


def test_a_reward_that_rises_while_the_task_does_not_is_hacked() -> None:
    rising, falling = [0.0, 0.1, 0.2, 0.3], [0.0, 0.2, 0.1, 0.0]
    found = hacked({"part": rising, "success": falling})
    assert found is not None and found.kind == "hacked"
    assert hacked({"part": rising, "success": [0.0, 0.1, 0.2, 0.3]}) is None
    assert hacked({"part": rising[::-1], "success": falling}) is None
    assert hacked({"part": rising, "success": [1.0, 1.0, 0.9, 0.9]}) is None  # solved
    assert hacked({"part": rising, "task return": [5.0, 5.0, 4.0, 4.0]}) is not None
    assert hacked({"success": falling}) is None


def test_kinds_are_named() -> None:
    assert {f.kind for f in diagnose(SEEN, torch.ones(len(PLACE)), {"a": torch.ones(len(PLACE))})} <= set(KINDS)
