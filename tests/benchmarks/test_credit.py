"""The benchmark of the credit transforms: blocks and tables by hand, and one small run that goes on where it was."""

from pathlib import Path

import pytest
import torch

from cairn.agents import PPO
from cairn.benchmarks import credit
from cairn.benchmarks.tables import Cells
from cairn.shaping import Delta, Gated, Stretch, Task, as_reward


def test_blocks_keep_the_sum_and_leave_out_what_is_not_there() -> None:
    valid = torch.tensor([[True, True]] * 3 + [[True, False]] * 2)
    flags = torch.zeros_like(valid)
    obs = flags.float()
    ep = Stretch.make(obs=obs, next_obs=obs, start=flags, terminated=flags, reward=obs, valid=valid)
    steps = torch.tensor([[1.0, 4.0], [3.0, 0.0], [5.0, 7.0], [1.0, 9.0], [-2.0, 9.0]])
    found = credit.Blocks(lambda x: x.reward, 2).settle(ep, steps)
    assert found.T.tolist() == [[2.0, 2.0, 3.0, 3.0, -2.0], [2.0, 2.0, 7.0, 0.0, 0.0]]
    assert torch.equal(found.sum(0), (steps * valid).sum(0))


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


@pytest.mark.parametrize("name", list(credit.STUDIES))
def test_a_small_run_that_goes_on_where_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = credit.STUDIES[name]
    methods = dict(list(study.methods.items())[-2:])
    monkeypatch.setitem(credit.STUDIES, name, study._replace(methods=methods))
    for what, value in (("LIMIT", 12), ("LANES", 4), ("LEVELS", 4), ("LESSONS", 200), ("ROLLOUT", 16), ("EVERY", 64)):
        monkeypatch.setattr(credit, what, value)
    made = []

    def base(seed: int) -> PPO:
        made.append(seed)
        return PPO("MlpPolicy", credit.worlds(4), seed=seed)

    monkeypatch.setattr(credit, "base_policy", base)
    arguments = ["--only", name, "--seeds", "1", "--budget", "64", "--out", str(tmp_path)]
    credit.main(arguments)
    rows = Cells(tmp_path / "cells.csv", credit.KEY).rows()
    assert [r["method"] for r in rows] == list(methods) and rows[0]["steps"] == "0 64"
    credit.main(arguments)
    assert made == [0] and Cells(tmp_path / "cells.csv", credit.KEY).rows() == rows
