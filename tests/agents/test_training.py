"""Training into run folders: the config and its checks, resuming, trials, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cairn.agents.config import ConfigError, TrainConfig, check, from_json, named_values, to_json, whole_number
from cairn.agents.table import AGENTS, agent_class, nearest
from cairn.agents.training import evaluate, free_folder, play, resume, train
from cairn.runs import CheckpointError, Run, RunBusy, first_difference

EMPTY = "cairn/MiniGrid-Empty-5x5-v0"
ARGS = {"n_steps": 32, "batch_size": 64, "n_epochs": 2}


def small(run: Path, **changes: Any) -> TrainConfig:
    return replace(TrainConfig(env=EMPTY, steps=512, num_envs=4, run=str(run), agent_args=ARGS, threads=1), **changes)


def final(run: Path) -> Any:
    latest = Run.open(run).latest()
    assert latest is not None
    return latest[2]["model"]


def rows(run: Path) -> list[dict[str, Any]]:
    """Metrics without what the clock said and what trials added."""
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "eval/"))} for row in Run.open(run).metrics()]


# ---- config --------------------------------------------------------------------------------------------


def test_a_config_survives_json() -> None:
    config = TrainConfig(env=EMPTY, steps=5, agent_args={"a": [1, 2.5]}, stop_success=1, env_args={"size": 6})
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"env": "os:CartPole-v1"}, {"env": "No-v0"}, {"env": 3}, {"agent": "os:system"}, {"steps": "5"},
        {"steps": True},
        {"steps": 0}, {"num_envs": -1}, {"num_envs": 10**12}, {"agent_args": []}, {"env_args": {"path": "/etc/passwd"}},
        {"device": "cpu; rm"},
        {"env_args": {"upstream": "MiniGrid-Empty-6x6-v0"}}, {"seed": -1}, {"stop_success": 0}, {"threads": 0},
        {"extra": 1}, {"checkpoint_seconds": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_a_foreign_config_is_refused(change: dict[str, Any]) -> None:
    values = to_json(TrainConfig(env=EMPTY))
    from_json(values)
    with pytest.raises(ConfigError):
        from_json({**values, **change})
    with pytest.raises(ConfigError):
        from_json({k: v for k, v in values.items() if k != "seed"})


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'cairn/MiniGrid-DoorKey-8x8-v0'"):
        check(TrainConfig(env="minigrid-doorkey-8x8"))
    assert nearest("PPPO", AGENTS) == "; did you mean 'ppo'?"
    assert nearest("xxxxxxxx", AGENTS) == ""
    with pytest.raises(ValueError, match="did you mean 'ppo'"):
        agent_class("ppoo")


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_of_the_table_is_there(name: str) -> None:
    assert isinstance(agent_class(name), type) and AGENTS[name].summary.endswith(".")


def test_what_the_command_line_reads() -> None:
    assert [whole_number(text) for text in ("2e6", "1_000", "7")] == [2_000_000, 1000, 7]
    assert named_values(["a=1", "b=x", "c=[1, 2]", "d=true", "e=1e-3"]) == {
        "a": 1, "b": "x", "c": [1, 2], "d": True, "e": 1e-3,
    }  # fmt: skip
    for wrong in ("2.5", "nan", "1e999", "x"):
        with pytest.raises((ValueError, OverflowError)):
            whole_number(wrong)
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            named_values([wrong])


def test_free_folder(tmp_path: Path) -> None:
    first = free_folder(tmp_path / "demo")
    assert first == str(tmp_path / "demo")
    Path(first).mkdir()
    assert free_folder(tmp_path / "demo") == str(tmp_path / "demo-2")


# ---- runs ----------------------------------------------------------------------------------------------


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    reward = "task + 0.02*episodic_count(key='position', mode='first')"
    whole = train(small(tmp_path / "whole", reward=reward))
    assert (whole.steps, whole.why) == (512, "steps")
    for n in (128, 256, 300):  # 300: in the middle of a rollout, so that the run ends at 384
        assert train(small(tmp_path / f"{n}", reward=reward, steps=n)).steps == -(-n // 128) * 128
        torch.rand(17)  # whatever the process did meanwhile
        assert resume(tmp_path / f"{n}", steps=512).steps == 512
        assert first_difference(final(tmp_path / "whole"), final(tmp_path / f"{n}")) is None
        assert rows(tmp_path / "whole") == rows(tmp_path / f"{n}")


def test_a_run_killed_before_its_first_checkpoint_begins_again_to_the_same_bits(tmp_path: Path) -> None:
    train(small(tmp_path / "whole"))
    train(small(tmp_path / "cut"))
    shutil.rmtree(tmp_path / "cut" / "checkpoints")  # what a kill during start-up leaves: a config, maybe some rows
    (tmp_path / "cut" / "latest").unlink()
    resume(tmp_path / "cut")
    assert first_difference(final(tmp_path / "whole"), final(tmp_path / "cut")) is None
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(small(tmp_path / f"{seed}", seed=seed, steps=128))
    assert first_difference(final(tmp_path / "0"), final(tmp_path / "1")) is not None


def test_trials_leave_no_trace_in_training(tmp_path: Path) -> None:
    train(small(tmp_path / "plain"))
    outcome = train(small(tmp_path / "tried", eval_every=128, eval_episodes=3))
    assert outcome.trial is not None and outcome.trial.episodes == 3
    assert first_difference(final(tmp_path / "plain"), final(tmp_path / "tried")) is None
    assert rows(tmp_path / "plain") == rows(tmp_path / "tried")
    assert [row["step"] for row in Run.open(tmp_path / "tried").metrics() if "eval/success" in row] == [
        128,
        256,
        384,
        512,
    ]


def test_the_goal_is_judged_on_fresh_levels_and_ends_the_run(tmp_path: Path) -> None:
    outcome = train(small(tmp_path / "r", steps=100_000, stop_success=0.1, eval_every=128, eval_episodes=10))
    assert outcome.why == "success" and outcome.steps < 100_000
    assert outcome.trial is not None and outcome.trial.success is not None and outcome.trial.success >= 0.1
    again = resume(tmp_path / "r")
    assert (again.why, again.steps) == ("success", outcome.steps)


def test_time_runs_out_saved(tmp_path: Path) -> None:
    outcome = train(small(tmp_path / "r", steps=10**9), max_seconds=0.0)
    assert outcome.why == "time" and outcome.steps == 0
    assert resume(tmp_path / "r", steps=128).steps == 128


def test_a_reward_without_text_must_be_passed_again(tmp_path: Path) -> None:
    from cairn.shaping import Task

    def reward() -> Any:
        return Task() + (lambda x: 0.1 * x.terminated.float())

    train(small(tmp_path / "whole"), reward=reward())
    train(small(tmp_path / "cut", steps=256), reward=reward())
    with pytest.raises(ConfigError, match=r"reward=\.\.\."):
        resume(tmp_path / "cut", steps=512)
    resume(tmp_path / "cut", steps=512, reward=reward())
    assert first_difference(final(tmp_path / "whole"), final(tmp_path / "cut")) is None
    assert evaluate(tmp_path / "cut", 2).episodes == 2


def test_config_json_holds_what_was_resolved(tmp_path: Path) -> None:
    train(small(tmp_path / "r", steps=1, threads=None, agent_args={"n_steps": 16}))
    run = Run.open(tmp_path / "r")
    config = from_json(run.config["train"])
    assert config.threads == torch.get_num_threads()
    assert config.agent_args["n_steps"] == 16 and config.agent_args["batch_size"] > 1
    assert {"learning_rate", "n_epochs", "gamma"} <= set(config.agent_args)
    assert run.versions["torch"] == torch.__version__


def test_nothing_is_written_over(tmp_path: Path) -> None:
    train(small(tmp_path / "r", steps=1))
    with pytest.raises(FileExistsError, match="cairn resume"):
        train(small(tmp_path / "r"))
    with Run.open(tmp_path / "r") as held:
        held.claim()
        with pytest.raises(RunBusy):
            resume(tmp_path / "r", steps=256)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path: Path) -> None:
    train(small(tmp_path / "whole"))
    train(small(tmp_path / "cut", steps=256, checkpoint_steps=128))
    (tensors,) = (tmp_path / "cut" / "checkpoints" / "256").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-5])
    with pytest.warns(RuntimeWarning, match="256"):
        resume(tmp_path / "cut", steps=512)
    assert first_difference(final(tmp_path / "whole"), final(tmp_path / "cut")) is None
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")


def test_no_run_and_a_tampered_config(tmp_path: Path) -> None:
    for call in (resume, evaluate, play):
        with pytest.raises(CheckpointError, match="no run"):
            call(tmp_path / "none")
    train(small(tmp_path / "r", steps=1))
    path = tmp_path / "r" / "config.json"
    path.write_text(path.read_text().replace(EMPTY, "os:CartPole-v1"))
    for call in (resume, evaluate, play):
        with pytest.raises(ConfigError, match="module"):
            call(tmp_path / "r")


def test_an_error_of_the_first_update_is_one_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        train(small(tmp_path / "r", reward="episodic_count(key='nowhere')"))


def test_any_gymnasium_id_trains(tmp_path: Path) -> None:
    outcome = train(small(tmp_path / "r", env="CartPole-v1", steps=256, eval_every=256, eval_episodes=2))
    assert outcome.trial is not None and outcome.trial.success is None and outcome.trial.return_mean > 5
    assert play(tmp_path / "r", episodes=1).stat().st_size > 1000 if pygame() else True


def pygame() -> bool:
    from importlib.util import find_spec

    return find_spec("pygame") is not None
