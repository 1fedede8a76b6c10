"""The imitation benchmark: a cell of each part, and going on where it was."""

import gymnasium as gym
import pytest
import torch

from cairn.agents.imitation import DemoPPO
from cairn.benchmarks import imitation, linear_experts


@pytest.mark.parametrize(
    ("part", "task", "setting", "file", "line"),
    [
        ("iq", "CartPole-v1", "iq_offline", "cells", "| iq | CartPole-v1 | iq_offline | 64 | 1 |"),
        ("adversarial", "Pendulum-v1", "purple", "adversarial", "| Pendulum-v1 | purple | 64 | sac, 16, 32 | 1 |"),
        (
            "demos", "cairn/MiniGrid-Empty-5x5-v0", "pretrain-2-middle", "cells",
            "| demos | cairn/MiniGrid-Empty-5x5-v0 | pretrain-2-middle | 64 | 1 |",
        ),
    ],
)  # fmt: skip
def test_a_cell_of_each_part_is_done_once(tmp_path, capsys, monkeypatch, part, task, setting, file, line):
    monkeypatch.setattr(imitation, "RESULTS", tmp_path)
    monkeypatch.setitem(imitation.BESIDE, "pretrain", {"pretrain": 3})
    args = [part, "--tasks", task, "--settings", setting, "--seeds", "1", "--steps", "64", "--trials", "2"]
    args += ["--units", "16", "--rows", "32", "--agent", "sac"]
    imitation.main(args)
    cells = tmp_path / "imitation" / f"{file}.csv"
    first = cells.read_text()
    imitation.main(args)
    assert cells.read_text() == first and len(first.splitlines()) == 2
    assert line in capsys.readouterr().out and line in (cells.parent / "table.md").read_text()


def test_random_search_keeps_the_best_controller_and_what_it_saw_then():
    """Hopper: 36 lanes of episodes that are short at first; the best of the turns does better than none at all."""
    none = linear_experts.search("cairn/Hopper-v5", 1)
    found, best = linear_experts.search("cairn/Hopper-v5", 20_000)
    assert best > none[1] + 50 and not bool(none[0].weight.any()) and bool(found.weight.any())
    again = linear_experts.search("cairn/Hopper-v5", 20_000)[0]
    obs = torch.randn(5, 11)
    assert torch.equal(found(obs), again(obs)) and found(obs).shape == (5, 3)
    by_hand = ((obs[0].double() - found.centre) / found.unit).clamp(-10, 10) @ found.weight.T
    torch.testing.assert_close(found(obs)[0], by_hand.clamp(-1, 1).float())


def test_the_table_of_adversarial_imitation():
    row = {"task": "X", "steps": "8", "agent": "td3", "units": "16", "rows": "32", "expert_steps": "9", "expert": "70",
           "return_mean": "1", "cpu_seconds": "3"}  # fmt: skip
    rows = [{**row, "setting": setting, "return": back} for setting, back in (("penalty", "60"), ("none", "2"))]
    lines = imitation.adversarial_table([*rows, {**rows[0], "return": "60"}]).splitlines()[2:]
    assert lines == [
        "| X | none | 8 | td3, 16, 32 | 1 | 70 | 2 (2 to 2) | 1 | 3 |",
        "| X | penalty | 8 | td3, 16, 32 | 2 | 70 | 60 (60 to 60) | 1 | 3 |",
    ]


def test_success_is_told_where_there_is_one():
    row = {"part": "iq", "setting": "bc", "seed": "0", "steps": "8", "return": "2", "success": "0.5",
           "return_mean": "1", "cpu_seconds": "3"}  # fmt: skip
    lines = imitation.table([{**row, "task": "CartPole-v1"}, {**row, "task": "cairn/MiniGrid-X"}]).splitlines()[2:]
    assert [line.split("|")[7].strip() for line in lines] == ["", "50%"]


def test_low_trajectories_waste_their_time():
    returns = [
        float(imitation.trajectories("cairn/MiniGrid-Empty-8x8-v0", 4, quality, 0).returns.mean())
        for quality in ("optimal", "middle", "low")
    ]
    assert returns[0] > 0.9 > returns[1] > returns[2] > 0
    assert set(imitation.BESIDE) <= {"pretrain", "beside", "fixed_balance", "learned_balance"} and DemoPPO


def test_low_trajectories_leave_time_for_the_longest_way():
    """MultiRoom-N6's ways take half of its time: a share of the whole time would leave none of them enough."""
    low = imitation.trajectories("cairn/MiniGrid-MultiRoom-N6-v0", 2, "low", 0)
    assert len(low.returns) == 2 and low.returns.min() > 0


def test_the_table_of_trajectories():
    row = {"part": "demos", "steps": "8", "return": "2"}
    rows = [
        {**row, "task": f"cairn/MiniGrid-{task}-v0", "setting": setting, "seed": str(seed), "success": success}
        for task, setting, seed, success in (
            ("Y", "beside-2-optimal", 0, "0.5"), ("Y", "ppo", 0, "0"), ("X", "beside-2-optimal", 0, "0.25"),
            ("Y", "beside-2-optimal", 1, "0.75"),
        )
    ]  # fmt: skip
    assert imitation.demos_table([*rows, {**rows[0], "part": "iq"}]).splitlines() == [
        "| PPO | X | Y |", "|---|---:|---:|", "| alone |  | 0.00 |",
        "| cloning beside, 2 optimal | 0.25 | 0.62 (0.50 to 0.75) |",
    ]  # fmt: skip


def test_tasks_are_there_and_settings_that_are_not_are_named(capsys):
    assert all(task in gym.registry for task in imitation.GRIDS)
    with pytest.raises(SystemExit):
        imitation.main(["demos", "--settings", "beside-3-great"])
    assert "demos has no setting 'beside-3-great'; there are ppo, pretrain-2-optimal" in capsys.readouterr().err
