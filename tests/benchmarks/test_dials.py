"""Steps to solve by accuracy: the tables by hand, and a cell that is solved, one that is not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest

from cairn.benchmarks import beacons, dials, oni
from cairn.benchmarks.tables import Cells
from cairn.shaping import ONI, Task


def rows(name: str, *steps: float) -> list[dict[str, object]]:
    return [
        {**dials.cell(name, seed, dials.BUDGET), "solved": int(s < float("inf")), "steps": s,
         "cpu_seconds": 8.0 * (1 + seed)}
        for seed, s in enumerate(steps)
    ]  # fmt: skip


def test_tables_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dials, "RESULTS", tmp_path)
    cells = Cells(tmp_path / "oni" / "solve.csv", dials.KEY)
    never = float("inf")
    for row in rows("none", never, never, never) + rows("classification 1", 1e6, 2e6, 3e6):
        cells.add(row)
    for row in rows("classification 0.5", 1e6, never, never):
        cells.add(row)
    cells.add({**rows("classification 0.9", 5e5)[0], "budget": 1})  # of another budget
    cells.add({**rows("classification 0.8", 5e5)[0], "settings": "num_envs=1"})  # of other settings
    lines = dials.short_table().splitlines()
    assert lines[0] == "| reward | no giver | 100% right | 90% right | 80% right | 70% right | 60% right | 50% right |"
    assert lines[2] == "| PPO alone | > 2.5 M (0/3) | | | | | | |"
    assert lines[3:] == ["| ONI, labels classified | | 2.00 M, 16 s (3/3) |  |  |  |  | > 2.5 M (1/3) |"]
    assert {line.count("|") for line in lines} == {9}
    full = dials.solve_table(cells.rows(), dials.BUDGET).splitlines()
    assert full[3] == "| classification 1 | 3 of 3 | 2,000,000 | 1,000,000 to 3,000,000 | 16 |"
    assert full[4] == "| classification 0.5 | 1 of 3 | > 2,457,600 | 1,000,000 to > 2,457,600 | - |"


def test_tasks_and_forms_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacons, "RESULTS", tmp_path)
    never = float("inf")
    for task, found in (
        ("KeyCorridorS3R3-v0", rows("none", never) + rows("language 0.7", 1e6, 2e6) + rows("object 1", 1e6)),
        ("MultiRoom-N4-S5-v0", rows("none", 2e6, 2.2e6) + rows("position 0.5", 1e6, never)),
    ):
        cells = Cells(tmp_path / "beacons" / f"{task}.csv", dials.KEY)
        for row in found:
            cells.add(row)
    assert beacons.short_table().splitlines()[2:] == [
        "| KeyCorridorS3R3-v0 | object | > 2.5 M (0/1) | 1.00 M, 8 s (1/1) |  |  |  |  |  |",
        "| KeyCorridorS3R3-v0 | language | > 2.5 M (0/1) |  |  |  | 1.50 M, 12 s (2/2) |  |  |",
        "| MultiRoom-N4-S5-v0 | position | 2.10 M, 12 s (2/2) |  |  |  |  |  | > 2.5 M (1/2) |",
    ]


@pytest.mark.parametrize("found", [(0.0, 0.96), (0.97, 0.5, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)])
def test_a_cell_ends_when_the_frozen_policy_passes(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``found``: the success in training after each piece; a trial finds 0.01 less."""
    tried = []

    def trial(act: Any, env: Any, episodes: int, seed: int) -> Any:
        assert episodes == dials.LEVELS
        tried.append(model.num_timesteps)
        return SimpleNamespace(success=found[model.num_timesteps // dials.EVERY - 1] - 0.01)

    class Model:
        num_timesteps, ep_success_buffer, reward = 0, list[float](), None

        def learn(self, steps: int, reset_num_timesteps: bool) -> None:
            assert reset_num_timesteps == (self.num_timesteps == 0)
            self.num_timesteps += steps
            self.ep_success_buffer = [found[self.num_timesteps // dials.EVERY - 1]]

    model: Any = Model()
    monkeypatch.setattr(dials, "evaluate_batch", trial)
    monkeypatch.setattr(dials, "acting", lambda model, deterministic: None)
    batch = gym.make_vec("cairn/MiniGrid-Empty-5x5-v0", num_envs=1, device="cpu")
    row = dials.solve_cell("some", model, batch, 0, 4 * dials.EVERY)
    passed = {(0.0, 0.96): 2, (0.97, 0.5, 0.5, 0.5): 1}.get(found)
    assert row["solved"] == int(passed is not None) and row["steps"] == (passed * dials.EVERY if passed else "inf")
    assert tried == [(passed or 4) * dials.EVERY] and row["labels"] == 0


def test_a_real_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece of training on labels, and a trial; the labels are counted."""
    monkeypatch.setattr(dials, "LEVELS", 8)
    reward = Task() + oni.WEIGHT * ONI(oni.oracle(1.0), schedule="barrier", every=1)
    envs, trial = (gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=n, device="cpu") for n in (512, 8))
    row = dials.solve_cell("retrieval 1", dials.model_for(reward, 0, envs), trial, 0, 1)
    assert list(row)[:4] == list(dials.KEY) and int(str(row["labels"])) > 5
    assert str(row["training"]).startswith(f"{dials.EVERY}:") and float(str(row["cpu_seconds"])) > 0
