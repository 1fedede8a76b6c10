"""The benchmark of designed rewards: why EXPRD's hinge is for Q-learning, and which cells are run and shown."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("cvxpy")

from cairn.agents.tabular import REINFORCE, QLearning
from cairn.benchmarks import reward_design
from cairn.benchmarks.tables import Cells
from cairn.envs.tabular import TabularBatch, policy_return, value_iteration
from cairn.shaping.design import DesignedReward, design_exprd, informativeness, invariant


def test_on_linek_the_hinge_pays_only_who_is_nearly_always_right() -> None:
    mdp = reward_design.WORLDS["linek"]().mdp
    tables = reward_design.tables_of(mdp)
    for name in ("exprd", "exprd_sparse", "exprd_linear"):
        assert informativeness(mdp, tables[name]) > -1e-4 and invariant(mdp, tables[name])
    share = {name: reward_design.break_even(mdp, table) for name, table in tables.items()}
    assert share["original"] == share["exprd_sparse"] == 0.33
    assert 0.4 < share["exprd_linear"] < 0.6 and 0.7 < share["exprd"] < 1
    assert share["potential"] >= 1, "at best it pays 0"
    assert float(tables["exprd_sparse"].abs().sum()) < 0.3 * float(tables["exprd"].abs().sum())


def test_on_linek_the_hinge_teaches_q_learning_and_the_linear_loss_a_policy_gradient() -> None:
    """From the same table one learner goes to the goal, and the other out by the wrong end."""
    scene = reward_design.WORLDS["linek"]()
    mdp = scene.mdp
    best = float((mdp.start * value_iteration(mdp).values).sum())
    hinge = design_exprd(mdp, r_max=10.0).reward
    linear = design_exprd(mdp, r_max=10.0, loss="linear").reward
    for table in (hinge, linear):
        assert invariant(mdp, table)
    q = QLearning(TabularBatch(scene, 4), learning_rate=0.5, gamma=0.95, reward=DesignedReward(hinge), seed=3)
    q.learn(60 * 30)
    assert min(float(policy_return(mdp, p)) / best for p in reward_design.greedy(q)) > 0.9
    term = DesignedReward(torch.stack([hinge, linear]).repeat_interleave(3, 0))
    policy = REINFORCE(TabularBatch(scene, 6), learning_rate=0.1, gamma=0.95, every=2, memory=5, reward=term, seed=3)
    policy.learn(150 * 30)
    shares = [float(policy_return(mdp, p)) / best for p in policy.policy()]
    assert max(shares[:3]) < 0.1 and min(shares[3:]) > 0.4


def test_only_what_is_missing_is_run_and_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def fake(learner: str, world: str, keys: list[dict[str, object]], cells: Cells, episodes: int) -> None:
        assert all(key["learner"] == learner for key in keys)
        measured.append([(world, key["method"], key["seed"]) for key in keys])
        for key in keys:
            cells.add(key | {"final": 0.5, "area": 0.25, "to_90": "inf", "cpu_s": 1.0, "curve": "0.0 0.5"})

    monkeypatch.setattr(reward_design, "measure", fake)
    arguments = ["--worlds", "linek", "--learners", "reinforce", "--seeds", "2", "--out", str(tmp_path)]
    reward_design.main([*arguments, "--methods", "exprd"])
    reward_design.main([*arguments, "--methods", "exprd", "exprd_sparse"])
    assert measured == [[("linek", m, s) for s in range(2)] for m in ("exprd", "exprd_sparse")]
    text = (tmp_path / "README.md").read_text()
    assert "| linek | exprd_sparse | 2 | 0.25 (0.25 to 0.25) | 0.50 (0.50 to 0.50) | inf (inf to inf) |" in text
    assert "## reinforce, episodes: 2,000 on linek" in text and "## q" not in text
    reward_design.main([*arguments[:2], *arguments[4:], "--learners", "q", "--methods", "exprd", "expadard"])
    assert measured[2:] == [[("linek", "exprd", s) for s in range(2)]], "EXPADARD teaches a policy gradient"
    text = (tmp_path / "README.md").read_text()
    assert text.index("## q, episodes: 400 on linek") < text.index("## reinforce") and text.count("| exprd |") == 2
    assert (tmp_path / "reward_design.png").stat().st_size > 1000
