"""The benchmark of the memory: both policies have the same of everything else, and the table is right by hand."""

from pathlib import Path
from typing import Any

import pytest

from cairn.benchmarks import memory
from cairn.benchmarks.solve_cell import Spec


def test_the_policies_differ_in_their_memory_alone() -> None:
    ours, theirs = (memory.spec_of(memory.ENV, policy, 1, 60.0) for policy in ("gru", "none"))
    kwargs: dict[str, Any] = ours["settings"].pop("policy_kwargs")
    assert kwargs["memory"] and theirs["settings"].pop("policy_kwargs") == {}
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    assert (ours["criterion"], ours["levels"], ours["clock"], ours["budget"]) == (0.95, 1000, "cpu", 60.0)
    steps, batch = ours["settings"]["n_steps"], ours["settings"]["batch_size"]
    assert steps % kwargs["window"] == 0 and batch % kwargs["window"] == 0


def test_cells_that_are_there_are_not_run_again_and_the_table_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def fake(spec: Spec) -> dict[str, Any]:
        ran.append(spec["name"])
        remembers = "memory" in spec["settings"]["policy_kwargs"]
        return {
            "solved": int(remembers), "steps": (2 + spec["seed"]) * 10**6, "process_seconds": 99.0,
            "training_seconds": 90.0, "trial_seconds": 1.0, "cpu_seconds": 40.0 + 10 * spec["seed"],
            "success": 0.96 if remembers else 0.5, "again": 0.951 if remembers else 0.52, "return": 0.9, "curve": "",
        }  # fmt: skip

    monkeypatch.setattr(memory, "live", fake)
    memory.main(["--seeds", "0", "1", "--policies", "gru", "--out", str(tmp_path)])
    memory.main(["--seeds", "0", "1", "--out", str(tmp_path)])
    memory.main(["--seeds", "2", "--budget", "7", "--policies", "none", "--out", str(tmp_path)])
    env = memory.ENV
    assert ran == [
        "gru, warming up", f"{env}, gru, seed 0", f"{env}, gru, seed 1",
        "none, warming up", f"{env}, none, seed 0", f"{env}, none, seed 1",
        "none, warming up", f"{env}, none, seed 2",
    ]  # fmt: skip
    text = memory.short_table(tmp_path)
    assert text in (tmp_path / "README.md").read_text() and text in capsys.readouterr().out
    figures = "2/2 | 2.50 (2.00 to 3.00) | 45 (40 to 50) | 0.960 (0.960 to 0.960) | 0.951 (0.951 to 0.951) |"
    assert f"| MemoryS13-v0 | GRU of 64, gradients through 32 steps | {figures}" in text
    # Another budget is another cell, and not of this table.
    assert "| MemoryS13-v0 | no memory | 0/2 | 2.50" in text
    assert "cairn bench memory" in memory.short_table(tmp_path / "nowhere")
