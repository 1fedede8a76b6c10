"""The tables of the bonuses' benchmark, from cells written by hand; and that it knows every bonus."""

from pathlib import Path

import pytest

from cairn.benchmarks import bonuses
from cairn.benchmarks.tables import Cells
from cairn.shaping import BONUSES, parse


def cell(bonus: str, seed: int, steps: int | None, budget: int = bonuses.BUDGET) -> dict[str, object]:
    done = steps is not None
    return {
        **bonuses.cell(bonus, seed, budget), "solved": int(done),
        "steps": steps if done else "inf", "seconds_under_load": 9.0, "cpu_seconds": 10.0 + seed,
        "pretraining_steps": 0, "curve": "98304:0.10 196608:0.96" if done else "98304:0.00 196608:0.01",
    }  # fmt: skip


def test_every_bonus_has_a_reward_that_parses() -> None:
    for name, text in bonuses.ALL.items():
        nodes = parse(text).text
        assert nodes is not None and (name in nodes or name in ("none", "first_visits"))
    assert set(BONUSES) <= set(bonuses.ALL)


def test_the_solve_table_by_hand(tmp_path: Path) -> None:
    """Of five seeds the middle three count, and one that did not get there is infinite."""
    cells = Cells(tmp_path / "solve.csv", bonuses.SOLVE)
    for seed, steps in enumerate((300, 100, None, 200, 700)):
        cells.add(cell("noveld", seed, steps))
    for seed in range(2):
        cells.add(cell("none", seed, None))
    cells.add(cell("icm", 0, 500, budget=1))  # another budget
    cells.add({**cell("ride", 0, 500), "reward": "task + 9*ride"})  # an old weight
    cells.add({**cell("e3b", 0, 500), "settings": "num_envs=8"})  # and old settings
    bonuses.render(tmp_path, bonuses.BUDGET)
    text = (tmp_path / "README.md").read_text()
    assert "| noveld | `task + self_scaled(noveld)` | 4 of 5 | 400 |" in text
    assert "| none | `task` | 0 of 2 | > 2,555,904 | > 2,555,904 to > 2,555,904 | - | 0 |" in text
    assert not any(name in text for name in ("ride", "icm", "e3b")) and (tmp_path / "curves.png").stat().st_size > 1000


def test_the_cost_table_by_hand(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cost.csv", bonuses.COST)
    for turn, (alone, both) in enumerate(((1.0, 2.0), (1.0, 1.25), (1.0, 1.6))):
        cells.add({
            "bonus": "count", "reward": bonuses.ALL["count"], "environments": 1024, "threads": 2, "round": turn,
            "steps": 1000, "seconds_without": alone, "seconds_with": both, "cpu_without": 1.0, "cpu_with": 1.1,
            "share_trained_on": "",
        })  # fmt: skip
    bonuses.render(tmp_path, 1)
    assert "| count | 1,000 | 625 | 37.5% | 9.1% | 10 % | - |" in (tmp_path / "README.md").read_text()


def test_cells_that_are_there_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def fake(name: str, seed: int, budget: int) -> dict[str, object]:
        ran.append((name, seed))
        return cell(name, seed, 98304, budget)

    monkeypatch.setattr(bonuses, "solve_cell", fake)
    monkeypatch.setattr(bonuses.torch, "set_num_threads", lambda n: None)
    for seeds in ("1", "2"):
        bonuses.main(["--solve", "--seeds", seeds, "--only", "none", "count", "--out", str(tmp_path)])
    assert ran == [("none", 0), ("count", 0), ("none", 1), ("count", 1)]
