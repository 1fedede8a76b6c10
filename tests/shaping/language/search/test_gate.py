"""The rank gate, by hand."""

import pytest
import torch

from cairn.shaping.language.search import rank_gate
from cairn.shaping.language.search.gate import ranked

from . import made


def test_pairs_are_counted_and_ties_are_a_half() -> None:
    # Pairs (better, worse) by score 1 > 0: returns 3 over 1 right, 3 over 3 a tie, 2 over 1 right, 2 over 3 wrong.
    share, pairs = ranked(torch.tensor([3.0, 2.0, 1.0, 3.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert (share, pairs) == (2.5 / 4, 4)


def test_graded_scores_count_every_pair() -> None:
    share, pairs = ranked(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 1.0]))
    assert pairs == 3 and share == pytest.approx(2 / 3)


def test_without_a_pair_there_is_no_share_and_the_gate_is_open() -> None:
    assert ranked(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])) == (None, 0)
    seen = made.recorded([(0, 1), (0, 0)])
    gate = rank_gate(seen, torch.zeros(2), {})
    assert gate.passed and gate.rank is None and "could not be tried" in str(gate)


def test_a_reward_for_what_the_task_asks_passes_and_its_opposite_does_not() -> None:
    seen = made.recorded()
    moved = (seen.x.next_facts["place"] - seen.x.facts["place"]).float()
    gate = rank_gate(seen, moved, {"moved": moved, "back": -moved})
    assert gate.passed and gate.rank == 1.0 and gate.parts == {"moved": 1.0, "back": 0.0}
    assert not rank_gate(seen, -moved, {}).passed
    assert "0%" in str(rank_gate(seen, -moved, {}))


def test_returns_are_discounted_by_the_step_of_the_episode() -> None:
    seen = made.recorded()
    total = seen.total(torch.ones(9), 0.5)
    assert total.tolist() == [1.75, 1.75, 1.75]
    assert seen.total(seen.x.reward, 0.5).tolist() == [0.25, 0.0, 0.0]


def test_the_threshold_and_what_is_not_finite() -> None:
    seen = made.recorded()
    tie = torch.zeros(9)
    assert rank_gate(seen, tie, {}).rank == 0.5 and not rank_gate(seen, tie, {}).passed
    assert rank_gate(seen, tie, {}, threshold=0.5).passed
    lost = torch.where(seen.x.reward > 0, torch.inf, 0.0)
    assert not rank_gate(seen, lost, {}).passed


def test_it_goes_through_json() -> None:
    seen = made.recorded()
    gate = rank_gate(seen, seen.x.reward, {"a": seen.x.reward})
    assert type(gate).from_json(gate.to_json()) == gate
    assert gate.better == pytest.approx(0.99**2) and gate.worse == 0.0
