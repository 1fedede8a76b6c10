"""The table of lava by rounds: what trained nobody is left out of its means, the best until then is not."""

from cairn.benchmarks.design_search import lava_table, lived
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
    lines = lava_table([dict(zip(names, cell)) for cell in cells], 2).splitlines()[2:]
    assert [line.split(" |")[0] for line in lines] == ["| task alone", "| 1", "| 2"]
    assert "| 1 of 2 | 0.00 (0.00 to 0.00) | 0.40 (0.40 to 0.40) | 0.15 " in lines[2] and "0.85" in lines[2]


def test_without_a_trial_there_is_nothing_to_tell() -> None:
    assert lived(None) == lived(Trial(0.5)) == {"deaths": "", "success": "", "steps": 0}
