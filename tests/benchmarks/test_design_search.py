"""The table of lava by rounds: what trained nobody is left out of its means, the best until then is not."""

from types import SimpleNamespace
from typing import Any

from cairn.benchmarks.design_rounds import rounds_of, rounds_table
from cairn.benchmarks.design_search import MEASURES, feedback_table, lived
from cairn.shaping.language.search import Trial


def test_rounds_that_trained_nobody_leave_the_best_as_it_was() -> None:
    names = ("seed", "round", "outcome", "deaths", "success", "best_deaths", "best_success")
    cells = [
        ("0", "0", "trained", "0.5", "0.0", "0.5", "0.0"),
        ("0", "1", "trained", "0.2", "0.8", "0.2", "0.8"),
        ("1", "1", "trained", "0.1", "0.9", "0.1", "0.9"),
        ("0", "2", "trained", "0.0", "0.4", "0.2", "0.8"),
        ("1", "2", "repeat", "", "", "0.1", "0.9"),
    ]
    lines = rounds_table([dict(zip(names, cell)) for cell in cells], 2, MEASURES).splitlines()[2:]
    assert [line.split(" |")[0] for line in lines] == ["| task alone", "| 1", "| 2"]
    assert "| 1 of 2 | 0.00 (0.00 to 0.00) | 0.40 (0.40 to 0.40) | 0.15 " in lines[2] and "0.85" in lines[2]


def test_without_a_trial_there_is_nothing_to_tell() -> None:
    assert lived(None) == lived(Trial(0.5)) == {"deaths": "", "success": "", "steps": 0}


def test_rounds_of_feedback_by_designer() -> None:
    scores = {"told": ("0.0", "1.0"), "blind": ("0.0", "0.2")}
    rows = [{"designer": who, "round": str(r + 1), "score": s} for who in scores for r, s in enumerate(scores[who])]
    lines = feedback_table(rows * 2, 2).splitlines()[2:]
    assert lines[0] == "| told | 2 | 0.00 (0.00 to 0.00) | 1.00 (1.00 to 1.00) |" and "0.20" in lines[1]


def test_a_round_is_told_with_what_was_known_by_then() -> None:
    """The first round's second draft, none in the second, a better one in the third."""

    def candidate(name: str, score: float | None) -> Any:
        outcome = "trained" if score is not None else "gate"
        return SimpleNamespace(name=name, outcome=outcome, score=score, trial=None if score is None else Trial(score))

    tried = [candidate("r1a1", None), candidate("r1a2", 0.2), candidate("r3a1", 0.6)]
    alone = Trial(0.1)
    told = rounds_of(SimpleNamespace(candidates=tried), alone, 3)
    assert told == {
        0: ("trained", alone, alone), 1: ("trained", Trial(0.2), Trial(0.2)), 2: ("none", None, Trial(0.2)),
        3: ("trained", Trial(0.6), Trial(0.6)),
    }  # fmt: skip
