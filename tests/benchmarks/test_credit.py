"""The benchmark of the credit transforms: labels and tables by hand, and one small run that goes on where it was."""

from pathlib import Path

import pytest

from cairn.agents import PPO
from cairn.benchmarks import credit, credit_steps
from cairn.benchmarks.tables import Cells
from cairn.envs.grid.engine import GridBatch
from cairn.shaping import Delta, Gated, Task, as_reward


def test_what_a_loop_earns() -> None:
    """A constant step reward is the sum of the discounts when added up, and one step's worth as differences."""
    assert credit.loop(as_reward(0.5), 0.9) == pytest.approx(5.0, abs=1e-4)
    assert credit.loop(Delta(0.5), 0.9) == pytest.approx(0.5, abs=1e-4)
    assert credit.loop(Task() + Gated(0.5, 0.5), 0.9) == 0


def row(method: str, seed: int, success: str, loop: float = 0.0) -> dict[str, object]:
    return {
        **credit.cell("gates", method, seed, 200), "base_steps": 10, "loop": loop, "cpu_seconds": 1.0,
        "steps": "0 100 200", "success": success, "proxy": "1 2 5", "length": "9 9 9",
    }  # fmt: skip


def test_the_table_by_hand(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cells.csv", credit.KEY)
    for seed in range(3):
        cells.add(row("outcome", seed, "0.2 0.5 0.91"))
        cells.add(row("delta", seed, "0.2 0.95 1"))
        cells.add(row("steps alone", seed, "0.2 0.1 0", 7.25))
    cells.add({**row("delta", 9, "0 0 0"), "budget": 100})  # an older, smaller budget
    credit.render(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| outcome | 3 | 0.91 (0.91 to 0.91) | 200 | 100% | 1.0 | 5.0 | 0.00 |" in text
    assert "| delta | 3 | 1.00 (1.00 to 1.00) | 100 | 50% |" in text
    assert "| steps alone | 3 | 0.00 (0.00 to 0.00) | not reached | - | 1.0 | 5.0 | 7.25 |" in text
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_where_the_outcome_alone_does_not_come_to_90_percent_its_end_is_the_goal() -> None:
    rows = [{"method": "outcome", "steps": "0 50 100", "success": f"0 0.5 {end}"} for end in (0.6, 0.7, 0.8)]
    assert credit.goal_of(rows) == 0.7
    assert [credit.steps_to(row, 0.7) for row in rows] == [float("inf"), 100, 100]
    assert "steps to 70%" in credit.table("gates", [{**row, "proxy": "1 2 3", "loop": "0"} for row in rows])


def test_a_planner_labels_what_it_does_as_right_and_turning_back_as_wrong() -> None:
    """One that always has its way takes steps of a shortest plan and no others."""
    envs = credit.worlds(4)
    assert isinstance(envs, GridBatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credit_steps, "KEPT", (1.0, 0.0))
        obs, action, label = credit_steps.labelled(envs, 4, seed=0)
    assert len(label) == len(action) == len(obs["image"]) == 16
    label, action = label.reshape(4, 4), action.reshape(4, 4)  # [T, N]
    assert label[:, :2].all() and 0 < float(label[:, 2:].mean()) < 1
    assert not label[action == 6].any(), "to wait brings nobody nearer"


@pytest.mark.parametrize("name", list(credit.STUDIES))
def test_a_small_run_that_goes_on_where_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = credit.STUDIES[name]
    methods = dict(list(study.methods.items())[-2:])
    small = study._replace(methods=methods, lanes=4, settings={"n_steps": 16})
    monkeypatch.setitem(credit.STUDIES, name, small)
    for what, value in (("LIMIT", 40), ("LANES", 4), ("LEVELS", 4), ("LESSONS", 200), ("PLANNED", 3), ("EVERY", 64)):
        monkeypatch.setattr(credit, what, value)
    made = []

    def base(seed: int, least: float) -> PPO:
        made.append(seed)
        return PPO("MlpPolicy", credit.worlds(4), seed=seed)

    monkeypatch.setattr(credit, "base_policy", base)
    arguments = ["--only", name, "--seeds", "1", "--budget", "64", "--out", str(tmp_path)]
    credit.main(arguments)
    rows = Cells(tmp_path / "cells.csv", credit.KEY).rows()
    assert [r["method"] for r in rows] == list(methods) and rows[0]["steps"] == "0 64"
    credit.main(arguments)
    assert made == [0] and Cells(tmp_path / "cells.csv", credit.KEY).rows() == rows
