"""The benchmark of designed rewards: why EXPRD needs a price on size where an end without reward is near."""

from pathlib import Path

import pytest

pytest.importorskip("cvxpy")

from cairn.benchmarks import reward_design
from cairn.benchmarks.tables import Cells
from cairn.shaping.design import informativeness, invariant


def test_on_linek_the_design_without_a_price_makes_leaving_attractive_and_the_one_with_it_does_not() -> None:
    mdp = reward_design.WORLDS["linek"]().mdp
    tables = reward_design.tables_of(mdp)
    for name in ("exprd", "exprd_sparse"):
        assert informativeness(mdp, tables[name]) > -1e-4 and invariant(mdp, tables[name])
    plain, priced = (reward_design.leaving(mdp, tables[name]) for name in ("exprd", "exprd_sparse"))
    assert reward_design.leaving(mdp, tables["original"]) == 0
    assert priced < 0.3 < 3 < plain
    assert float(tables["exprd_sparse"].abs().sum()) < 0.3 * float(tables["exprd"].abs().sum())


def test_only_what_is_missing_is_run_and_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def fake(world: str, keys: list[dict[str, object]], cells: Cells, episodes: int) -> None:
        measured.append([(world, key["method"], key["seed"]) for key in keys])
        for key in keys:
            cells.add(key | {"final": 0.5, "area": 0.25, "to_90": "inf", "cpu_s": 1.0, "curve": "0.0 0.5"})

    monkeypatch.setattr(reward_design, "measure", fake)
    arguments = ["--worlds", "linek", "--seeds", "2", "--out", str(tmp_path)]
    reward_design.main([*arguments, "--methods", "exprd"])
    reward_design.main([*arguments, "--methods", "exprd", "exprd_sparse"])
    assert measured == [[("linek", m, s) for s in range(2)] for m in ("exprd", "exprd_sparse")]
    text = (tmp_path / "README.md").read_text()
    assert "| linek | exprd_sparse | 2 | 0.25 (0.25 to 0.25) | 0.50 (0.50 to 0.50) | inf (inf to inf) |" in text
    assert "2,000 on linek" in text and (tmp_path / "reward_design.png").stat().st_size > 1000
