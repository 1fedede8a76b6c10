"""The benchmark of bfloat16: cells differ in the flag alone, and the table is right by hand."""

from pathlib import Path
from typing import Any

import pytest

from cairn.benchmarks import ppo_bf16
from cairn.benchmarks.solve_cell import Spec


def test_cells_differ_in_their_precision_alone() -> None:
    ours, theirs = (ppo_bf16.cell_of("DoorKey-8x8", precision, 3, 500) for precision in ppo_bf16.PRECISIONS)
    assert (ours["settings"].pop("bf16"), theirs["settings"].pop("bf16")) == (False, True)
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    told = ours["criterion"], ours["levels"], ours["clock"], ours["budget"], ours["threads"], ours["fruitless"]
    assert told == (0.95, 1000, "steps", 500, 1, 0) and "position" in ours["reward"]


def test_cells_that_are_there_are_not_run_again_and_the_table_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def fake(spec: Spec) -> dict[str, Any]:
        ran.append(spec["name"])
        solved = not (spec["settings"]["bf16"] and spec["seed"])
        steps = (2 + spec["seed"]) * 10**6
        seconds = dict.fromkeys(("process_seconds", "training_seconds", "trial_seconds", "cpu_seconds"), 1.0)
        return {**seconds, "solved": int(solved), "steps": steps, "success": 0.96, "again": 0.97}

    monkeypatch.setattr(ppo_bf16, "live", fake)
    for seeds in (["0"], ["0", "1"]):
        ppo_bf16.main(["--rows", "DoorKey-8x8", "--seeds", *seeds, "--out", str(tmp_path)])
    assert ran == [f"DoorKey-8x8, {precision}, seed {seed}" for seed in (0, 1) for precision in ppo_bf16.PRECISIONS]
    text = ppo_bf16.short_table(tmp_path)
    assert text in capsys.readouterr().out
    assert "| DoorKey-8x8 | float32 | 2/2 | 2.50 M (2.00 M to 3.00 M) | 0.970 |" in text
    assert "| DoorKey-8x8 | bfloat16 | 1/2 | not solved (2.00 M to not solved) | 0.970 |" in text
    assert "cairn bench ppo_bf16" in ppo_bf16.short_table(tmp_path / "nowhere")
