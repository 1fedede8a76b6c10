"""The tables of quality-diversity, tried small: the deceptive maze's pay, every method once, cells done once."""

from importlib.util import find_spec

import pytest
import torch

from cairn.benchmarks import qd_ga_maze, qd_gradients, qd_sparse
from cairn.benchmarks.qd_ga_maze import Watched
from cairn.benchmarks.tables import Cells


def test_sparse_rewards_at_each_number_of_evaluations(tmp_path, monkeypatch):
    """Searches by pictures at the small number, one seed after the other; the others at both, seeds side by side."""
    monkeypatch.setattr(qd_sparse, "WORLDS", {**qd_sparse.WORLDS, "arm": (*qd_sparse.WORLDS["arm"][:-1], 600)})
    monkeypatch.setattr(qd_sparse, "PICTURED", 250)
    groups, measure = [], qd_sparse.measure
    monkeypatch.setattr(qd_sparse, "measure", lambda *args: (groups.append(args[1:4]), measure(*args))[1])
    args = ["--worlds", "arm", "--algorithms", "random", "taxons", "--seeds", "2", "--out", str(tmp_path)]
    qd_sparse.main(args)
    assert groups == [("random", [0, 1], 250), ("random", [0, 1], 600), ("taxons", [0], 250), ("taxons", [1], 250)]
    rows = Cells(tmp_path / "cells.csv", ["seed"]).rows()
    assert [int(row["done"]) for row in rows] == [400] * 2 + [600] * 2 + [300] * 2
    assert 0 < float(rows[0]["coverage"]) < float(rows[2]["coverage"]) < 1
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + 3
    qd_sparse.main([*args[:-4], "--seeds", "3", "--out", str(tmp_path), "--evaluations", "250"])
    assert groups[4:] == [("random", [2], 250), ("taxons", [2], 250)]


def test_what_is_watched_of_learners():
    env = Watched(3, max_episode_steps=20)
    env.reset(seed=0)
    wheels = torch.tensor([[1.0, 1.0], [-0.5, -0.5], [1.0, -1.0]])
    for _ in range(20):
        _, _, _, truncated, info = env.step(wheels)
    place, goal = 600 * info["final_facts"]["descriptor"], torch.tensor([60.0, 60.0])
    assert truncated.all() and env.lived == 60 and env.solved_at is None
    assert env.best == pytest.approx(float((390 - (place - goal).norm(dim=-1)).max()) / 600, abs=1e-4)
    env.step(wheels)
    env._s["place"] = torch.tensor([[70.0, 60.0]]).expand(3, 2).clone()
    for _ in range(19):
        env.step(torch.zeros(3, 2))
    assert env.solved_at == 120 and env.best > 0.6


def test_choices_are_wheel_speeds():
    one, two = Watched(5, choices=True), Watched(5)
    for env in (one, two):
        env.reset(seed=0)
    obs = one.step(torch.arange(5))[0]
    assert torch.equal(obs, two.step(torch.tensor(qd_ga_maze.WHEELS))[0]) and len(obs.unique(dim=0)) >= 1
    assert torch.equal(one._s["heading"], two._s["heading"]) and len(one._s["heading"].unique()) > 2


def test_every_method_of_the_maze_runs_and_is_not_run_again(tmp_path, capsys, monkeypatch):
    methods = ["ga-ns", "nsra-es", "dqn", "ppo"]
    args = ["--methods", *methods, "--seeds", "1", "--evaluations", "500", "--learner-moves", "2500"]
    args += ["--out", str(tmp_path)]
    qd_ga_maze.main(args)
    rows = Cells(tmp_path / "cells.csv", ["method"]).rows()
    assert [row["method"] for row in rows] == methods
    assert all(-1 < float(row["best"]) < 1 for row in rows[:2])  # no learner ended an episode
    assert [250_000 <= int(row["lived"]) <= 500_000 for row in rows[:2]] == [True, True]
    assert all(2_500 <= int(row["lived"]) < 40_000 for row in rows[2:])
    assert float(rows[0]["code_bytes"]) > 4 and rows[0]["weight_bytes"] == str(4 * 72)
    table = (tmp_path / "table.md").read_text()
    monkeypatch.setattr(qd_ga_maze, "evolve", None)  # nothing is left to do
    monkeypatch.setattr(qd_ga_maze, "learn", None)
    qd_ga_maze.main(args)
    assert (tmp_path / "table.md").read_text() == table and "| ga-ns | 500 | 1 |" in capsys.readouterr().out


def test_the_maze_in_pictures(tmp_path, capsys):
    args = ["--sees", "view", "--seeds", "1", "--evaluations", "250", "--out", str(tmp_path)]
    qd_ga_maze.main([*args, "--methods", "ga-ns"])
    (row,) = Cells(tmp_path / "cells.csv", ["method"]).rows()
    assert (row["sees"], row["sigma"], row["weight_bytes"], row["lived"]) == ("view", "0.1", str(4 * 1338), "125000")
    assert float(row["code_bytes"]) > 4 and -1 < float(row["best"]) < 1
    with pytest.raises(SystemExit):
        qd_ga_maze.main([*args, "--methods", "dqn"])
    assert "sensors alone" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("ribs") is None, reason="MAP-Elites needs pyribs")
def test_ratios_of_qd_scores(tmp_path, capsys):
    args = ["--worlds", "walker", "--algorithms", "map-elites", "dcrl-me", "--seeds", "1", "--evaluations", "16"]
    args += ["--population", "8", "--hidden", "4", "--episode", "20", "--critic-steps", "2", "--climbs", "2"]
    args += ["--units", "8", "--batch", "8", "--out", str(tmp_path)]
    qd_gradients.main(args)
    rows = Cells(tmp_path / "cells.csv", ["world"]).rows()
    scores = [float(row["qd_score"]) for row in rows]
    assert len(rows) == 2 and min(scores) > 0 and all(0 < float(row["coverage"]) <= 16 / 1024 for row in rows)
    assert f"{scores[1] / scores[0]:.2f} [" in capsys.readouterr().out
    told = {name: float(rows[1][name]) for name in qd_gradients.REPLAYED}
    assert 0 <= told["elites_error"] < 1 and 0 < told["error"] < 1.5 and 0 <= told["kept"] <= 3
    assert rows[0]["error"] == "nan"
    first, second = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert first.endswith("|  |  |") and f"| {told['kept']:.2f} [" in second
    qd_gradients.main(args)
    assert len(Cells(tmp_path / "cells.csv", ["world"]).rows()) == 2
