"""What the benchmarks share: averages by hand, and a table that goes on after a kill."""

import math
from pathlib import Path

import numpy as np
import pytest

from cairn.benchmarks.tables import Cells, interval, iqm, machine


def test_iqm_by_hand() -> None:
    assert iqm([9.0, 1.0, 2.0, 3.0, 100.0]) == (2 + 3 + 9) / 3
    assert iqm([5.0]) == 5.0
    assert iqm([1.0, 2.0, 3.0, math.inf]) == 2.5
    assert iqm([1.0, 2.0, math.inf, math.inf]) == math.inf


@pytest.mark.parametrize("bad", [[], [1.0, math.nan]])
def test_iqm_refuses_what_has_no_mean(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="needs numbers"):
        iqm(bad)


def test_interval_holds_the_statistic_and_repeats() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    low, high = interval(values)
    assert low < iqm(values) < high
    assert (low, high) == interval(values)
    assert interval([2.0] * 5) == (2.0, 2.0)
    narrow = interval(values, confidence=0.5)
    assert low < narrow[0] and narrow[1] < high


def test_interval_is_that_of_every_draw_worked_out_for_itself() -> None:
    values = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    draws = np.random.default_rng(7).integers(0, 5, (400, 5))
    found = sorted(iqm(values[row].tolist()) for row in draws)
    # Of 400 in order the places 0.1 * 399 = 39.9 from either end, rounded outwards.
    assert interval(values.tolist(), confidence=0.8, resamples=400, seed=7) == (found[39], found[360])


def test_interval_with_seeds_that_did_not_get_there() -> None:
    assert interval([1.0, 1.0, 1.0, 1.0, math.inf])[1] == math.inf


def test_cells_go_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    cells = Cells(path, ["task", "seed"])
    assert not cells.done({"task": "a", "seed": 0})
    cells.add({"task": "a, with a comma", "seed": 0, "steps": 10})
    cells.add({"task": "a", "seed": 1, "steps": 20})
    with path.open("a") as file:
        file.write("a,2,3")  # a kill in the middle of a row
    again = Cells(path, ["task", "seed"])
    assert again.done({"task": "a, with a comma", "seed": 0}) and not again.done({"task": "a", "seed": 2})
    again.add({"task": "a", "seed": 2, "steps": 30})
    assert [row["steps"] for row in Cells(path, ["task", "seed"]).rows()] == ["10", "20", "30"]


def test_cells_refuse_other_columns_and_doubles(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "t.csv", ["seed"])
    cells.add({"seed": 0, "steps": 1})
    with pytest.raises(ValueError, match="already"):
        cells.add({"seed": 0, "steps": 2})
    with pytest.raises(ValueError, match="columns"):
        cells.add({"seed": 1, "seconds": 2})


def test_a_cell_is_put_in_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    cells = Cells(path, ["seed"])
    for seed in (0, 1, 2):
        cells.add({"seed": seed, "steps": "1, 2"})
    cells.replace({"seed": 1, "steps": 7})
    assert cells.rows() == Cells(path, ["seed"]).rows()
    assert [row["steps"] for row in cells.rows()] == ["1, 2", "7", "1, 2"] and list(tmp_path.iterdir()) == [path]
    for row in ({"seed": 3, "steps": 1}, {"seed": 1, "seconds": 1}):
        with pytest.raises(ValueError, match="no cell"):
            cells.replace(row)


def test_machine_names_what_figures_depend_on() -> None:
    found = machine()
    assert found["processor"] and int(found["cores"]) >= 1 and found["torch"][0].isdigit()
