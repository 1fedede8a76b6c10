"""The benchmark of teams: its tables by hand, and one small cell of each kind."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cairn.benchmarks import multi, multi_imitate, multi_teams


def test_tables_by_hand() -> None:
    rows = [
        {"world": "Spread", "environments": "64", "pettingzoo_per_cpu_s": str(a), "native_per_cpu_s": str(b)}
        for a, b in ((10, 500), (20, 1000), (10, 900))
    ]
    assert multi.speed_table(rows).splitlines()[2] == "| Spread | 64 | 10 | 900 | 50 x |"
    learned = [
        {"task": "chase", "agent": agent, "steps": "1000", "minibatches": "4x8", "return": str(r + more),
         "success": w, "cpu_seconds": "3", "team_error": error, "synchrony": ""}
        for agent, more, error in (("maddpg", 0, ""), ("teamreg", 10, "0.25"))
        for r, w in ((1, "0.2"), (2, "0.4"), (3, "0.6"), (40, "0.8"))
    ]  # fmt: skip
    row, beside = multi.learn_table(learned).splitlines()[2:]
    assert row.startswith("| chase | maddpg | 1,000 | 4x8 | 4 | 2.50 |") and row.endswith("|  | 0.50 |  |  | 3 |"), row
    assert beside.startswith("| chase | teamreg | 1,000 | 4x8 | 4 | 12.50 |") and beside.endswith(
        "| 0.50 | 0.25 |  | 3 |"
    )
    assert "| +10.00 (" in beside
    assert multi.difference([5.0] * 4, [3.0] * 4) == "+2.00 (+2.00 to +2.00)"
    judged = [
        {"world": "Gems", "method": "cloning", "updates": "9", "share": "0.5", "return": r, "expert": "4",
         "random": "0", "correlation": "0.5", "steps": "7", "rows": "50", "greedy": "1", "cpu_seconds": "3"}
        for r in ("1", "3")
    ]  # fmt: skip
    row = multi_imitate.imitate_table(judged).splitlines()[2]
    assert row.startswith("| Gems | cloning | 50 | 9 | 2 | 2.00 |") and "| 50% |" in row, row


def test_small_cells(tmp_path: Path) -> None:
    row: dict[str, Any] = multi.learn_cell("simple_spread", "mappo", 0, 64)
    assert float(row["return"]) < 0
    row = multi_imitate.imitate_cell("Gems", "MAMQL, online", 0, updates=20, share=0.02)
    assert -1 <= float(row["correlation"]) <= 1 and float(row["expert"]) > float(row["random"]) and row["steps"] == 160


def test_seeds_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"learning_starts": 8, "policy_kwargs": {"net_arch": [8, 8]}}
    monkeypatch.setattr(multi_teams, "SETTINGS", {**multi_teams.SETTINGS, **settings})
    for name, value in (("SIDE", 2), ("LANES", 2), ("PARTS", 2)):
        monkeypatch.setattr(multi_teams, name, value)
    rows = multi_teams.teams_cell("compromise", "Compromise", "teamreg", 4, 40, "2x8")
    assert [row["seed"] for row in rows] == [4, 5] and rows[0]["return"] != rows[1]["return"]
    assert all(len(str(row["curve"]).split()) == 2 and float(str(row["team_error"])) > 0 for row in rows)
    assert all(row["synchrony"] == "" for row in rows)
    monkeypatch.setattr(multi, "SIDE", 2)
    args = [
        "--learn",
        "--tasks",
        "chase",
        "--agents",
        "coachreg",
        "--seeds",
        "1",
        "--steps",
        "40",
        "--minibatches",
        "1x8",
        "--out",
        str(tmp_path),
    ]
    multi.main(args)
    with pytest.raises(SystemExit):
        multi.main([*args, "--minibatches", "4of256"])
    kept = (tmp_path / "learn.csv").read_text()
    assert all(row.split(",")[4] == "1x8" for row in kept.splitlines()[1:])
    assert len(kept.splitlines()) == 3, "one seed asked for, two made"
    multi.main([*args, "--agents", "coachreg", "random", "scripted"])
    again = (tmp_path / "learn.csv").read_text()
    assert again.startswith(kept) and len(again.splitlines()) == 5
    synchrony = [float(row.split(",")[9]) for row in kept.splitlines()[1:]]
    assert all(0 <= share <= 1 for share in synchrony)


@pytest.mark.parametrize(("task", "least"), [("spread", 200), ("bounce", 7), ("compromise", 20), ("chase", 10)])
def test_scripted_teams_do_what_chance_does_not(task: str, least: float) -> None:
    scripted, chance = (multi.learn_cell(task, who, 0, 0) for who in ("scripted", "random"))
    assert float(str(scripted["return"])) > least > 1 + float(str(chance["return"]))


def test_what_returns_are_read_beside() -> None:
    """Agents at (0, 0), (1, 0) and (0, 1), a landmark a step to the right of each: nobody crosses another's way."""
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    landmarks = torch.tensor([[0.2, 1.0], [0.2, 0.0], [1.0, -0.2]])
    obs = torch.zeros(1, 3, 18)
    obs[0, :, 4:10] = (landmarks - places[:, None]).reshape(3, 6)
    assert multi.scripted_spread(obs).tolist() == [[2, 3, 2]]
    obs[0, 0, 0] = 1.0  # too fast: it brakes
    assert multi.scripted_spread(obs).tolist() == [[1, 3, 2]]
    obs[0, 0, 4:10] = torch.tensor([9.0, 9, 0.01, 0.01, 9, 9])  # there already
    obs[0, 0, 0] = 0.0
    assert multi.scripted_spread(obs).tolist()[0][0] == 0
    scripted, chance = (multi.learn_cell("simple_spread", who, 0, 0) for who in ("scripted", "random"))
    assert float(str(scripted["success"])) > 0.8 and float(str(chance["success"])) == 0
    assert float(str(scripted["return"])) > -10 > float(str(chance["return"]))
    assert multi.learn_cell("chase", "random", 0, 0)["curve"] == ""


def test_cloning_as_published_is_told_what_it_shall_predict() -> None:
    """So its own demonstrations are no riddle to it, and without the answer it is at a loss."""
    row = multi_imitate.imitate_cell("Kitchen", "cloning, as published", 0, updates=60, share=0.5)
    assert row["greedy"] == 0 and row["expert"] > 40 and row["rows"] == 300 and row["steps"] == 0
