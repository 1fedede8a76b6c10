"""Searches as runs: the folder, going on after a kill, the archive as a file, one elite on film, the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cairn.agents.config import ConfigError
from cairn.cli import main
from cairn.envs.areas import arm
from cairn.envs.areas.make import make, make_vec
from cairn.qd import MLP, Constant, ElitePolicy, SearchConfig, load_grid, load_policies
from cairn.qd import running as qd_running
from cairn.qd.config import from_json, to_json
from cairn.qd.pictures import heat_map
from cairn.qd.rollout import Evaluator
from cairn.runs import CheckpointError, Run, first_difference

ARM = "cairn/RedundantArm-v0"


def config(run: Path, **kwargs):
    made = {"env": ARM, "algorithm": "ns", "evaluations": 120, "seed": 3, "lanes": 32, "run": str(run)}
    made |= {"env_args": {"max_episode_steps": 12}, "algorithm_args": {"population": 10}}
    return SearchConfig(**{**made, **kwargs})


def last(run):
    step, _, state = Run.open(run).latest()
    return step, state


def test_a_run_that_was_killed_comes_to_the_same_bits(tmp_path, monkeypatch):
    whole = qd_running.search(config(tmp_path / "whole"))
    assert whole.why == "evaluations" and whole.evaluations == 130  # the first population, then generations of 20

    real, calls = Evaluator.__call__, []

    def dies(self, genomes):
        calls.append(len(genomes))
        if len(calls) == 5:
            raise MemoryError("as if killed")
        return real(self, genomes)

    monkeypatch.setattr(Evaluator, "__call__", dies)
    with pytest.raises(MemoryError):
        qd_running.search(config(tmp_path / "killed", checkpoint_seconds=0.0))
    monkeypatch.setattr(Evaluator, "__call__", real)
    assert last(tmp_path / "killed")[0] == 70

    again = qd_running.resume(tmp_path / "killed")
    assert again.scores == whole.scores
    (step, one), (other_step, two) = last(tmp_path / "whole"), last(tmp_path / "killed")
    assert step == other_step == 130 and first_difference(one["search"], two["search"]) is None
    assert one["ledger"] == two["ledger"]
    assert first_difference(*(load_grid(tmp_path / name).state_dict() for name in ("whole", "killed"))) is None
    rows = [Run.open(tmp_path / name).metrics() for name in ("whole", "killed")]
    assert rows[0] == rows[1] and rows[0][-1]["coverage"] == whole.scores["coverage"]


def test_more_evaluations_than_at_first(tmp_path):
    qd_running.search(config(tmp_path / "short"))
    qd_running.search(config(tmp_path / "long", evaluations=200))
    more = qd_running.resume(tmp_path / "short", evaluations=200)
    assert more.evaluations == 210
    assert last(tmp_path / "short")[1]["search"]["digest"] == last(tmp_path / "long")[1]["search"]["digest"]


def test_time_is_kept(tmp_path):
    outcome = qd_running.search(config(tmp_path / "r", evaluations=10**9), max_seconds=0.3)
    assert outcome.why == "time" and 0 < outcome.evaluations < 10**6
    assert last(tmp_path / "r")[0] == outcome.evaluations


def test_the_archive_is_policies_and_pictures(tmp_path):
    qd_running.search(config(tmp_path / "r"))
    grid, policies = load_grid(tmp_path / "r"), load_policies(tmp_path / "r")
    assert len(policies) == grid.occupied.sum() >= 5
    env = make("arm", max_episode_steps=12)
    for cell, elite in list(policies.items())[:5]:
        obs, _ = env.reset(seed=0)
        done, total = False, 0.0
        while not done:
            action, _ = elite.predict(obs)
            assert env.action_space.contains(action)
            obs, reward, terminated, truncated, info = env.step(action)
            done, total = terminated or truncated, total + reward
        number = cell[0] * 50 + cell[1]
        assert total == pytest.approx(grid.objective[number].item(), abs=1e-3)
        assert info["facts"]["descriptor"] == pytest.approx(grid.measures[number].numpy(), abs=1e-4)
    rows = elite.predict(np.stack([obs, obs]))[0]
    assert rows.shape == (2, 20) and np.allclose(rows[0], elite.predict(torch.from_numpy(obs))[0], atol=1e-6)
    assert elite.predict(obs[None])[0].shape == (1, 20)  # a batch of one is a batch
    for name in ("archive.png", "curve.png"):
        assert (tmp_path / "r" / name).stat().st_size > 5000
    assert json.loads((tmp_path / "r" / "config.json").read_text())


@pytest.mark.parametrize("world", ["arm", "repertoire"])
def test_elites_are_stable_baselines_models(monkeypatch, world):
    """SB3's evaluation, which puts one environment into a batch of one, gets the return that the evaluator got."""
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    monkeypatch.setattr(arm, "AREAS", ((0.5, 0.5, 1.0),))  # every arm is paid
    env = make(world)
    kind = MLP if world == "arm" else Constant
    policy = kind(env.observation_space, env.action_space)
    genomes = torch.randn(40, policy.size, generator=torch.Generator().manual_seed(0))
    paid = Evaluator(make_vec(world, 40), policy)(genomes).objective
    best = int(paid.argmax())
    mean, deviation = evaluate_policy(ElitePolicy(policy, genomes[best]), Monitor(env), 2)
    assert mean == pytest.approx(float(paid[best]), abs=1e-2) and mean > 0 and deviation < 1e-6


def test_the_heat_map_shows_elites_where_they_are(tmp_path):
    import imageio.v3 as iio

    from cairn.qd import Evaluated, Grid

    grid = Grid(torch.zeros(2), torch.ones(2), 2, genome=1)
    one = torch.ones(1, dtype=torch.int64)
    grid.add(Evaluated(torch.zeros(1, 1), torch.ones(1), torch.tensor([[0.9, 0.1]]), one, one, one > 0))
    heat_map(grid, tmp_path / "map.png", "one elite")
    picture = iio.imread(tmp_path / "map.png")[..., :3].astype(int)
    inked = np.argwhere((picture.max(-1) - picture.min(-1) > 60)[:, :550]).mean(0) / picture.shape[:2]
    assert inked[0] > 0.5 and inked[1] > 0.4  # below and to the right
    with pytest.raises(ValueError, match="two measures"):
        heat_map(Grid(torch.zeros(3), torch.ones(3), 2, genome=1), tmp_path / "x.png", "")


def test_damage_is_named(tmp_path):
    qd_running.search(config(tmp_path / "r"))
    tensors = tmp_path / "r" / "archive" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="archive"):
        load_grid(tmp_path / "r")
    with pytest.raises(ConfigError, match="no quality-diversity"):
        from_json({"kind": "qd"})
    values = to_json(config(tmp_path / "r"))
    assert from_json(json.loads(json.dumps(values))) == config(tmp_path / "r")
    for name, wrong in (("hidden", ["5"]), ("bins", "many"), ("seed", -1), ("env", "os:X-v0"), ("lanes", 10**12)):
        with pytest.raises(ConfigError):
            from_json({**values, name: wrong})


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--algorithm-args", "population=10", "--env-args", "max_episode_steps=12", "--lanes", "32"]
    assert main(["qd", ARM, "--evaluations", "1e2", "--run", "r", *small]) == 0
    out = capsys.readouterr().out
    assert "110 evaluations" in out and "best in each reward area: 0" in out and "coverage" in out
    assert main(["resume", "r", "--steps", "120"]) == 0
    assert "130 evaluations" in capsys.readouterr().out
    assert main(["play", "r", "--video", "elite.mp4"]) == 0
    assert (tmp_path / "elite.mp4").stat().st_size > 1000
    assert main(["play", "r", "--cell", "0,0"]) == 2
    said = capsys.readouterr().err
    there = said.rsplit(" ", 1)[1].strip()
    assert "nearest elite" in said and main(["play", "r", "--cell", there]) == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["cairn/RedundantAm-v0"], "did you mean 'cairn/RedundantArm-v0'?"),
        (["cairn/Chain-v0"], "tells no descriptor"),
        ([ARM, "--algorithm", "serenne"], "did you mean 'serene'?"),
        ([ARM, "--algorithm-args", "popularity=3"], "population=100"),
        ([ARM, "--env-args", "pixel=3"], "pixel"),
        ([ARM, "--bins", "9999"], "10 million"),
        ([ARM, "--evaluations", "0"], "at least 1"),
        ([ARM, "--run", "."], "cairn resume"),
    ],
    ids=str,
)
def test_a_mistake_gets_one_line(args, says, capsys, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["qd", *args]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and says in printed.err, printed.err
    assert [p.name for p in tmp_path.iterdir()] == ["here"]
