"""The command line as a newcomer meets it: fast help, one-line errors, and runs that survive being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from cairn.cli import COMMANDS, main
from cairn.runs import Run, first_difference
from cairn.shaping.vision import ModelError

EMPTY = "cairn/MiniGrid-Empty-5x5-v0"
SMALL = ["--num-envs", "4", "--agent-args", "n_steps=32", "batch_size=64", "n_epochs=2", "--threads", "1"]


def python(*code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "args",
    [["--help"], ["envs"], ["train", "cairn/MiniGrid-DorKey-8x8-v0"], ["train", "--help"], ["eval", "/no/such/run"]],
    ids=" ".join,
)
def test_what_needs_no_torch_does_not_wait_for_it(args: list[str]) -> None:
    code = f"import sys; from cairn.cli import main\ntry: main({args!r})\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    assert python("-c", code).stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"] if command else ["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "cairn train cairn/MiniGrid-DoorKey-8x8-v0" in text or command not in ("", "train")
    lines = [line.strip("│ \n") for line in text.splitlines()]
    for i, line in enumerate(lines):
        if line.startswith("--"):  # an option's help stands beside it or below it
            assert "  " in line.strip() or (lines[i + 1] and not lines[i + 1].startswith("--")), line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train", "cairn/MiniGrid-DorKey-8x8-v0"], "did you mean 'cairn/MiniGrid-DoorKey-8x8-v0'?"),
        (["train", "MiniGrid-DoorKey-8x8-v0"], "did you mean 'cairn/MiniGrid-DoorKey-8x8-v0'?"),
        (["train", "CartPol-v1"], "did you mean 'CartPole-v1'?"),
        (["train", "os:CartPole-v1"], "names a module to import"),
        (["train", EMPTY, "--agent", "pppo"], "did you mean 'ppo'?"),
        (["train", EMPTY, "--reward", "task + 0.1*episodic_cont"], "episodic_count"),
        (["train", EMPTY, "--reward", "task +"], "reward expression"),
        (["train", EMPTY, "--agent-args", "learning_rat=1"], "did you mean 'learning_rate'?"),
        (["train", EMPTY, "--agent-args", "batch_size=1"], "at least two rows"),
        (["train", EMPTY, "--agent-args", "learning_rate=fast"], "learning rate"),
        (["train", EMPTY, "--env-args", "sise=4"], "sise"),
        (["train", EMPTY, "--env-args", "upstream=MiniGrid-Empty-6x6-v0"], "fixes it"),
        (["train", "Blackjack-v1", "--env-args", "path=/etc/passwd"], "path"),
        (["train", EMPTY, "--steps", "0"], "at least 1"),
        (["train", EMPTY, "--stop-success", "95"], "0.95"),
        (["train", "CartPole-v1", "--stop-success", "0.95"], "does not tell success"),
        (["train", EMPTY, "--device", "gpu"], "cpu, cuda"),
        (["train", EMPTY, "--run", "."], "cairn resume"),
        (["design", EMPTY, "--task", "go", "--stand-in", "--server", "http://x"], "not both"),
        (["design", EMPTY, "--task", "go"], "who writes the rewards"),
        (["design", EMPTY, "--task", " ", "--stand-in"], "in a sentence"),
        (["design", EMPTY, "--task", "go", "--server", "http://x"], "--model"),
        (["design", EMPTY, "--task", "go", "--stand-in", "--gate", "75"], "between 0 and 1"),
        (["design", EMPTY, "--task", "go", "--stand-in", "--agent-args", "learning_rat=1"], "did you mean"),
        (["design", "cairn/MiniGrid-Empty-5x6-v0", "--task", "go", "--stand-in"], "did you mean 'cairn/"),
        (["compare", "task", "task"], "--env"),
        (["compare", "task", "task +", "--env", "cairn/Chain-v0"], "reward expression"),
        (["compare", "task", "task", "--env", "cairn/Chan-v0"], "did you mean 'cairn/Chain-v0'?"),
        (["resume", "no-run"], "no-run"),
        (["eval", "no-run"], "no-run"),
        (["play", "no-run"], "no-run"),
        (["envs", "zzz"], "cairn envs"),
        (["bench", "gird"], "cairn bench"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_a_mistake_gets_one_line_and_exit_code_2(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    # A fresh process has no upstream ids; this one may have imported minigrid, and would then train on it.
    monkeypatch.delitem(gymnasium.registry, "MiniGrid-DoorKey-8x8-v0", raising=False)
    assert main(args) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and says in printed.err, printed.err
    assert printed.out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["here"]  # nothing was written


def test_a_benchmark_without_its_server_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("httpx")
    assert main(["bench", "behaviours", "--server", "http://127.0.0.1:9", "--model", "any"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cairn: no server answers at http://127.0.0.1:9") and "Traceback" not in said


def test_bench_lists_and_runs_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """Each file of the folder is in the table, and reads its own options."""
    from cairn.benchmarks import BENCHMARKS

    folder = Path(__file__).parents[1] / "benchmarks"
    assert {p.stem for p in folder.glob("*.py")} - {
        "__init__",
        "behaviours_recorded",
        "behaviours_shown",
        "credit_steps",
        "credit_studies",
        "credit_tables",
        "design_rounds",
        "dials",
        "linear_experts",
        "multi_imitate",
        "multi_teams",
        "nethack",
        "office_reference",
        "oni_rate",
        "tables",
        "render_readme",
        "render_stubs",
        "scripted",
        "solve_cell",
        "solve_tables",
    } == set(BENCHMARKS)
    assert main(["bench"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
    called = sys.argv[0]
    for name in BENCHMARKS:
        with pytest.raises(SystemExit) as exit_:
            main(["bench", name, "--help"])
        assert exit_.value.code == 0 and f"usage: cairn bench {name} " in capsys.readouterr().out
    assert sys.argv[0] == called


def test_envs_lists_and_searches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    everything = capsys.readouterr().out.splitlines()
    assert EMPTY in everything and len(everything) == len(set(everything)) > 50
    assert main(["envs", "DOORKEY"]) == 0
    some = capsys.readouterr().out.splitlines()
    assert set(some) == {name for name in everything if "DoorKey" in name}


def test_train_eval_play_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["train", EMPTY, "--steps", "1e3", "--run", "r", "--eval-every", "500", "--eval-episodes", "5", *SMALL])
        == 0
    )
    out = capsys.readouterr().out
    assert "frozen agent on fresh levels: success" in out and "run folder r" in out
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert {"config.json", "metrics.jsonl", "curve.png", "checkpoints", "latest"} <= names

    assert main(["eval", "r", "--episodes", "7", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["episodes"] == 7 and 0 <= result["success_low"] <= result["success"] <= result["success_high"] <= 1
    assert main(["eval", "r", "--episodes", "7"]) == 0
    assert f"success {result['successes']}/7" in capsys.readouterr().out

    assert main(["play", "r", "--episodes", "1"]) == 0
    assert (tmp_path / "r" / "play.mp4").stat().st_size > 1000
    assert main(["play", "r", "--video", "nowhere/x.mp4"]) == 2

    assert main(["resume", "r"]) == 0  # nothing is left to do
    assert "1,024 steps" in capsys.readouterr().out
    assert main(["resume", "r", "--steps", "1500"]) == 0
    assert "1,536 steps" in capsys.readouterr().out
    assert Run.open("r").metrics()[-1]["step"] == 1536


def train(*args: str, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cairn.cli", "train", EMPTY, *SMALL, *args]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(run: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Wait until a checkpoint past ``step`` has been named the latest one."""
    for _ in range(6000):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        latest = run / "latest"
        if latest.exists() and int((latest.read_text().strip() or "0").split(".")[0]) > step:
            return
        time.sleep(0.01)
    raise AssertionError("no checkpoint in a minute")


def clean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_train_2n_equals_train_n_kill_resume(tmp_path: Path) -> None:
    """The promise of run folders: weights, optimiser, counters, random streams, environments and terms, bit for bit."""
    args = ["--reward", "task + 0.01*episodic_count", "--steps", "2560", "--eval-every", "1000", "--eval-episodes", "3"]
    whole = train("--run", "whole", *args, cwd=tmp_path)
    cut = train("--run", "cut", "--checkpoint-steps", "200", *args, cwd=tmp_path)
    wait_for_checkpoint(tmp_path / "cut", 700, cut)
    cut.kill()
    cut.communicate()
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:  # what it may have lived past its last checkpoint
        file.write('{"step": 2432, "rollout/ep_rew_mean": 7.0}\n{"step": 25')
    reached = Run.open(tmp_path / "cut").latest()
    assert reached is not None and 700 < reached[0] < 2560
    resumed = subprocess.run(
        [sys.executable, "-m", "cairn", "resume", "cut"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "bits may differ" not in resumed.stdout
    assert whole.wait(timeout=120) == 0

    a, b = Run.open(tmp_path / "whole"), Run.open(tmp_path / "cut")
    (step_a, _, state_a), (step_b, _, state_b) = a.latest() or (), b.latest() or ()
    assert step_a == step_b == 2560
    assert first_difference(state_a, state_b) is None
    assert clean(a.metrics()) == clean(b.metrics())
    assert any("eval/success" in row for row in a.metrics())


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(signum: int, code: int, tmp_path: Path) -> None:
    process = train("--run", "r", "--steps", "1e8", "--checkpoint-steps", "200", cwd=tmp_path)
    wait_for_checkpoint(tmp_path / "r", 200, process)
    os.kill(process.pid, signum)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code, out
    assert "cairn resume r" in out and "Traceback" not in out
    run = Run.open(tmp_path / "r")
    latest = run.latest()
    assert latest is not None and latest[0] == run.metrics()[-1]["step"]  # nothing was lost
    assert (tmp_path / "r" / "curve.png").exists()


def test_no_terminal_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    from cairn.agents.progress import Lines

    lines = Lines(every=0.0)
    lines.at(0, 100, {})
    lines.at(50, 100, {"rollout/ep_rew_mean": 0.5, "rollout/success_rate": 0.25})
    out = capsys.readouterr().out.splitlines()
    assert "no episode has ended yet" in out[0]
    assert out[1].startswith("50 of 100 steps") and "return 0.5" in out[1] and "success 25%" in out[1]
    assert "\x1b" not in "".join(out) and "\r" not in "".join(out)


def test_a_terminal_gets_a_bar() -> None:
    import io

    from rich.console import Console

    from cairn.agents.progress import Bar

    screen = io.StringIO()
    with Bar(Console(file=screen, force_terminal=True, width=140)) as bar:
        bar.at(2048, 4096, {"rollout/ep_rew_mean": 0.5, "rollout/success_rate": 0.25})
        bar.say("a line [to keep]")
    text = screen.getvalue()
    for part in ("2,048 steps", "50%", "return 0.5", "success 25%", "a line [to keep]", "/s"):
        assert part in text, part


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError("that takes httpx: pip install 'cairn-rl[language]'"), "pip install 'cairn-rl[language]'"),
        (ModelError("/nowhere is no folder"), "/nowhere is no folder"),
    ],
)
def test_what_a_benchmark_lacks_is_told_in_a_line(error, told, monkeypatch, capsys):
    def broken(args):
        raise error

    monkeypatch.setattr("cairn.benchmarks.starc.main", broken)
    assert main(["bench", "starc"]) != 0
    out = capsys.readouterr().err
    assert told in out and "Traceback" not in out


def test_a_bug_in_a_benchmark_is_not_hidden(monkeypatch):
    def broken(args):
        raise ImportError("no module named cairn.typo")

    monkeypatch.setattr("cairn.benchmarks.starc.main", broken)
    with pytest.raises(ImportError, match="typo"):
        main(["bench", "starc"])
