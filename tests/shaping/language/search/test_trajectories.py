"""Episodes in few words, and what is read from an analyser's answer."""

import torch

from cairn.shaping.language.search.trajectories import compact, failures, read_analysis

from . import made


def test_an_episode_in_few_words() -> None:
    seen = made.recorded([(0, 1, 2, 3), (0, 1, 0, 1)])
    assert compact(seen.rows(0), steps=2) == (
        "3 steps; it ended by itself; the task paid 1\n"
        "at the start: lamp (-1, 7); place 0\n"
        "... 1 steps ...\n"
        "step 1: action 0 -> place 2\n"
        "step 2: action 0 -> lamp (5, 7); place 3"
    )
    assert "it was cut off by the time limit; the task paid 0" in compact(seen.rows(1))


def test_failures_are_spread_over_all() -> None:
    seen = made.recorded([(0, 3), *[(0, 1)] * 9])
    assert failures(seen, 3) == [1, 5, 9] and failures(seen, 20) == list(range(1, 10))
    seen.knows_success, seen.returns = False, torch.arange(10.0).flip(0)
    assert failures(seen, 20) == [5, 6, 7, 8, 9]


def test_answers_are_read_line_by_line() -> None:
    found = read_analysis(
        "Well.\n- Episode 2: fell into lava\n* episode 3 cause: got lost\nAdvice: look ahead\nadvice: x"
    )
    assert found.causes == {2: "fell into lava", 3: "** got lost"} or found.causes == {
        2: "fell into lava",
        3: "got lost",
    }
    assert found.advice == "look ahead x" and not found.unusable
    assert read_analysis("I do not know.").unusable
    assert read_analysis("cause: too slow").causes == {1: "too slow"}
