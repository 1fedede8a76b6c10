"""The benchmark of the credit transforms: labels and tables by hand, and one small run that goes on where it was."""

from pathlib import Path

import pytest
import torch

from cairn.agents import PPO
from cairn.benchmarks import credit, credit_steps, credit_studies, credit_tables
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
    assert credit_tables.goal_of(rows) == 0.7
    assert [credit_tables.steps_to(row, 0.7) for row in rows] == [float("inf"), 100, 100]
    assert "steps to 70%" in credit_tables.table("gates", [{**row, "proxy": "1 2 3", "loop": "0"} for row in rows])


def test_a_planner_labels_what_it_does_as_right_and_turning_back_as_wrong() -> None:
    """One that always has its way takes steps of a shortest plan and no others."""
    envs = credit_studies.worlds(4)
    assert isinstance(envs, GridBatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credit_steps, "KEPT", (1.0, 0.0))
        obs, action, label = credit_steps.labelled(envs, 4)
    assert len(label) == len(action) == len(obs["image"]) == 16
    label, action = label.reshape(4, 4), action.reshape(4, 4)  # [T, N]
    assert label[:, :2].all() and 0 < float(label[:, 2:].mean()) < 1
    assert not label[action == 6].any(), "to wait brings nobody nearer"


def test_a_chart_knows_the_length_of_every_plan() -> None:
    """As a search from each state says, over ends, and where an action led that the planner does not use (drop)."""
    levels = credit_studies.DOORKEY._replace(task="cairn/MiniGrid-DoorKey-5x5-v0", limit=30)
    envs = credit_studies.made(levels, 8, facts=("hash",))
    assert isinstance(envs, GridBatch)
    envs.reset(seed=0)
    chart, ends = credit_steps.Chart(envs, levels.actions), 0
    lengths, first = chart()
    for t in range(45):
        if t in (0, 20, 44):
            wanted, _ = credit_steps.plans(envs)
            assert torch.equal(lengths[wanted.isfinite()], wanted[wanted.isfinite()]) and wanted.isfinite().any()
        before, odd = lengths, (t + torch.arange(8)) % 3 == 0
        action = torch.where(odd, (torch.arange(8) + t // 3) % 7, first)  # every action at some time, the way between
        _, reward, terminated, truncated, _ = envs.step(action)
        lengths, first = chart(terminated | truncated)
        going = ~odd & ~terminated & ~truncated
        assert torch.equal(lengths[going], before[going] - 1) and (before[terminated & (reward > 0)] == 1).all()
        ends += int(terminated.sum() + truncated.sum())
    assert ends > 2
    known = len(chart.states)
    again, _ = chart(torch.ones(8, dtype=torch.bool))
    assert torch.equal(again, lengths) and len(chart.states) > known, "what a new episode looks like is not what it is"


def test_a_clone_does_what_the_planner_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one labelled state; success is what stops it, and here that is the third measurement."""
    told, small = [], credit_studies.STUDIES["cloned"]._replace(lanes=2)
    envs = credit_studies.worlds(2)
    obs, _ = envs.reset(seed=0)
    lessons = credit_steps.Lessons(obs, torch.tensor([3, 5]), torch.tensor([1.0, 0.0]))
    monkeypatch.setattr(credit, "lessons", lambda *_: lessons)

    def success(model: PPO, *_: object) -> tuple[float, float, float]:
        chances = model.policy.get_distribution(obs).distribution.probs  # type: ignore[attr-defined]
        told.append(float(chances[0, 3].detach()))
        assert float(chances[1, 5].detach()) < 0.2, "what was not right is not cloned"
        return (0.1 * len(told), 0.0, 0.0)

    monkeypatch.setattr(credit, "measure", success)
    credit.cloned_policy(0, small._replace(base=0.25))
    assert len(told) == 3 and told[0] < 0.2 and told[2] > 0.5, "20 updates towards the right action alone"


def test_where_time_up_is_the_end_no_episode_is_cut() -> None:
    study = credit_studies.STUDIES["cloned"]._replace(limit=5)
    envs = credit_studies.worlds(2, study)
    envs.reset(seed=0)
    ends = [envs.step(torch.zeros(2, dtype=torch.int64))[2:5] for _ in range(5)]
    assert [bool(terminated.all()) for terminated, _, _ in ends] == [False] * 4 + [True]
    assert not any(bool(truncated.any()) for _, truncated, _ in ends) and bool(ends[-1][2]["_final_obs"].all())


def test_success_over_a_window() -> None:
    row = {"method": "outcome", "steps": "0 1 2 3", "success": "0 0.6 0.3 0.9"}
    assert credit_tables.successes(row, 3) == pytest.approx([0, 0.3, 0.3, 0.6])
    assert [credit_tables.steps_to(row, 0.5, window) for window in (1, 2, 3)] == [1, 3, 3]
    assert credit_tables.goal_of([row], 3) == 0.6


def test_the_minimum_is_timed_to_the_outcomes_own_end() -> None:
    runs = {
        ("cloned", "outcome"): "0 0.6 0.6 0.6 0.6", ("cloned", "outcome + minimum"): "0 0 0.3 0.6 0.9",
        ("cloned_fast", "outcome"): "0 0 0 0 0", ("cloned_fast", "outcome + minimum"): "0 0.9 0.9 0.9 0.9",
    }  # fmt: skip
    rows = [
        {"study": study, "method": method, "steps": "0 100 200 300 400", "success": success}
        for (study, method), success in runs.items() for _ in range(3)
    ]  # fmt: skip
    text = credit_tables.verdict(rows)
    assert "To the 60%" in text and "the outcome alone 300; " in text  # the first mean of three that is 0.6
    assert "; outcome + minimum 400 (133%); outcome + minimum, twice the step size 200 (67%)." in text


def test_seed_by_seed_the_goal_is_what_the_outcome_came_to_with_that_seed() -> None:
    runs = {
        ("outcome", 0): "0.1 0.1 0.2 0.3 0.4", ("minimum", 0): "0.1 0.4 0.2 0.2 0.2",
        ("outcome", 1): "0.1 0.2 0.8 0.9 0.8", ("minimum", 1): "0.1 0.1 0.1 0.1 0.9",
        ("outcome", 2): "0.1 0.2 0.3 0.4 0.5", ("minimum", 2): "0.1 0.2 0.3 0.4 0.4",
        ("outcome", 3): "0.1 0 0 0 0", ("minimum", 3): "0.1 0.9 0.9 0.9 0.9",  # that fell: there was nothing to learn
        ("outcome", 4): "0.1 0.2 0.3 0.4 0.5",  # and this has not been run yet
    }  # fmt: skip
    rows = [
        {"method": method, "seed": str(seed), "steps": "0 100 200 300 400", "success": success}
        for (method, seed), success in runs.items()
    ]
    assert credit_tables.paired(rows, "minimum") == [0.25, 2.0, float("inf")]
    text = credit_tables.seed_by_seed(rows[:6], 1)
    assert text.startswith("To the 57%") and ": outcome 400; " in text, "IQMs 0.1, 0.17, 0.43, 0.53, 0.57"
    assert "; minimum not reached (never; by seed IQM never; 25%, 200%, never)." in text
    assert credit_tables.middle(rows[:6], "minimum")[1] == (100.0, pytest.approx(0.7 / 3))
    text = credit_tables.seed_by_seed(rows[:4], 1)
    assert text.startswith("To the 60%") and ": outcome 300; minimum not reached" in text
    more = [{**row, "method": "outcome, 0.1"} for row in rows[2:3]]
    assert credit_tables.best_alone([*rows[:4], *more], 1) == "outcome", "one seed is not enough to be the best"
    assert credit_tables.best_alone([*rows[:4], *more, *more], 1) == "outcome, 0.1"
    assert "outcome, 0.1 200; " in credit_tables.seed_by_seed([*rows[:4], *more], 1, "outcome, 0.1")


def test_a_study_has_its_own_levels_and_step_sizes() -> None:
    study = credit_studies.STUDIES["long"]
    assert study.at("outcome").settings["learning_rate"] == 2e-3
    assert study.at("outcome, 0.0005").settings == {"n_steps": 4 * study.limit, "learning_rate": 5e-4}
    envs = credit_studies.worlds(2, study)
    envs.reset(seed=0)
    assert isinstance(envs, credit_studies.TimeIsUp) and isinstance(envs.env, GridBatch)
    assert envs.env.max_steps == study.limit and envs.env.get_state([0])["lanes"]["cells"].shape == (1, 19 * 19)


@pytest.mark.parametrize("name", list(credit_studies.STUDIES))
def test_a_small_run_that_goes_on_where_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = credit_studies.STUDIES[name]
    methods = dict(list(study.methods.items())[-2:])
    small = study._replace(methods=methods, lanes=4, settings={"n_steps": 16}, limit=40, every=64, base=0.0)
    monkeypatch.setitem(credit_studies.STUDIES, name, small)
    for what, value in (("LIMIT", 40), ("LANES", 4), ("LEVELS", 4), ("LESSONS", 200), ("PLANNED", 3)):
        monkeypatch.setattr(credit, what, value)
    made = []

    def base(seed: int, _: object) -> PPO:
        made.append(seed)
        return clone(seed, small) if study.cloned else PPO("MlpPolicy", credit_studies.worlds(4), seed=seed)

    clone = credit.cloned_policy
    monkeypatch.setattr(credit, "cloned_policy" if study.cloned else "base_policy", base)
    arguments = ["--only", name, "--seeds", "1", "--budget", "64", "--out", str(tmp_path)]
    credit.main(arguments)
    rows = Cells(tmp_path / "cells.csv", credit.KEY).rows()
    assert [r["method"] for r in rows] == list(methods) and rows[0]["steps"] == "0 64"
    credit.main(arguments)
    assert made == [0] and Cells(tmp_path / "cells.csv", credit.KEY).rows() == rows
