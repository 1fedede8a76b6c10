"""The benchmarks of the grid: what they write, that they go on, and that an absent peer is said to be absent."""

import csv
import json

import pytest

from cairn.benchmarks import grid, grid_exact
from cairn.envs.grid.beside import Beside

FIVE = "MiniGrid-Empty-5x5-v0"


def test_grid_measures_each_cell_once(tmp_path, capsys):
    out = tmp_path / "cells.csv"
    options = ["--ids", FIVE, "--seconds", "0.03", "--cuts", "0", "20", "--out", str(out)]
    grid.main([*options, "--num-envs", "1", "2", "--jax-python", str(tmp_path / "no-python")])
    printed = capsys.readouterr().out
    assert "absent: envpool (no Python was given)" in printed
    rows = list(csv.DictReader(out.open()))
    assert [(r["cut"], r["num_envs"], r["by"]) for r in rows] == [
        (cut, *who)
        for cut in ("0", "20")
        for who in [("1", "cairn"), ("1", "minigrid"), ("2", "cairn"), ("2", "minigrid, SyncVectorEnv")]
    ]
    assert all(int(r["steps_per_second"]) > 0 for r in rows)
    line = json.loads(printed.splitlines()[-1])
    assert line["rows"] == rows == json.loads(out.with_suffix(".json").read_text())["rows"]
    assert line["machine"]["processor"] and line["absent"]["envpool"]
    before = out.read_bytes()
    grid.main([*options, "--num-envs", "1", "2"])
    assert out.read_bytes() == before
    grid.main([*options, "--num-envs", "3", "--no-peers"])
    assert [r["by"] for r in csv.DictReader(out.open())][8:] == ["cairn", "cairn"]


def test_a_peer_s_python_that_does_not_have_it(tmp_path):
    why = grid.ask_peer(str(tmp_path / "no-python"), "envpool", FIVE, 1, 0.1, 0)
    assert isinstance(why, str) and "no-python" in why


def test_grid_exact_goes_on_and_stops_at_a_difference(tmp_path, capsys, monkeypatch):
    out = tmp_path / "steps.csv"
    options = ["--ids", FIVE, "--levels", "20", "--steps", "200", "--out", str(out), "--pieces"]
    grid_exact.main([*options, "1"])
    first = out.read_bytes()
    grid_exact.main([*options, "2"])
    assert out.read_bytes().startswith(first)
    rows = list(csv.DictReader(out.open()))
    assert [(r["piece"], r["levels"], r["steps"]) for r in rows] == [("0", "20", "200"), ("1", "0", "200")]
    assert "1 ids, no difference in 20 levels, 400 steps" in capsys.readouterr().out
    monkeypatch.setattr(Beside, "_encode", lambda self, mission: [1])
    with pytest.raises(AssertionError, match="mission differs first in row 0"):
        grid_exact.main([*options, "3"])
    assert len(list(csv.DictReader(out.open()))) == 2
