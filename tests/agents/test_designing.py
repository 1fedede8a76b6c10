"""``cairn design`` from the first recorded episode to the term, and again on its folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import cairn  # noqa: F401
from cairn.agents import PPO
from cairn.agents.config import ConfigError
from cairn.agents.design_config import DesignConfig
from cairn.agents.designing import Asked, Roles, design
from cairn.benchmarks.scripted import Analyser, Critic, Designer
from cairn.benchmarks.standin import Standin
from cairn.cli import main
from cairn.shaping.language import Answer, Client, Question

DOOR = "cairn/MiniGrid-DoorKey-5x5-v0"
TINY: dict[str, Any] = {
    "env": DOOR, "task": "fetch the key, open the door", "stand_in": True, "samples": 2, "rounds": 2, "steps": 256,
    "num_envs": 8, "recorded": 32, "gate": 0.0, "episodes": 4, "env_args": {"facts": "doors"},
    "agent_args": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}  # fmt: skip


def quiet(text: str) -> None:
    pass


@pytest.mark.parametrize("search", ["eureka", "text2reward", "auto-mc"])
def test_a_search_leaves_a_term_a_record_and_a_report(search: str, tmp_path: Path, monkeypatch: Any) -> None:
    config = DesignConfig(**TINY, search=search, run=str(tmp_path))
    roles = Roles(Designer(0), None, Analyser())
    found, folder = design(config, roles, say=quiet)
    assert found.best is not None and folder == tmp_path
    assert (folder / "rewards" / "best.py").read_text() == found.best.program
    assert found.best.name in (folder / "report.html").read_text()
    again, _ = design(config, Roles(Refuses(), None, Refuses()), say=quiet)  # all of it comes from the record
    assert [c.to_json() for c in again.candidates] == [c.to_json() for c in found.candidates]
    with pytest.raises(ConfigError, match="other settings"):
        design(replace(config, steps=1024), roles, say=quiet)
    monkeypatch.chdir(folder)
    text = 'task + program("best", combine="sign")' if search == "auto-mc" else 'task + program("best")'
    envs = gym.make_vec(DOOR, num_envs=8, device="cpu", facts=("doors",))
    PPO("MlpPolicy", envs, reward=text, n_steps=8, batch_size=32, seed=0).learn(64)


def test_several_agents_of_a_candidate(tmp_path: Path) -> None:
    """The first is the one that is trained alone, and the other has a seed of its own."""
    one, _ = design(DesignConfig(**TINY, run=str(tmp_path / "one")), Roles(Designer(0)), say=quiet)
    two, _ = design(DesignConfig(**TINY, run=str(tmp_path / "two"), seeds=2), Roles(Designer(0)), say=quiet)
    alone, both = one.candidates[0].trial, two.candidates[0].trial
    assert alone is not None and both is not None and alone.episodes is not None and both.episodes is not None
    assert len(both.scores) == 2 and both.scores[0] == alone.score and both.score == sum(both.scores) / 2
    assert both.course != alone.course and len(both.episodes) == 2 * len(alone.episodes)
    with pytest.raises(ConfigError, match="seeds is 0"):
        design(DesignConfig(**TINY, seeds=0), Roles(Designer(0)), say=quiet)


class Refuses:
    def propose(self, prompt: str, n: int) -> list[str]:
        raise AssertionError("nobody should be asked")


def test_a_person_at_the_terminal_is_heard(tmp_path: Path) -> None:
    designer, asked = Designer(0), []

    def listen(text: str) -> str:
        asked.append(text)
        return "It never opens the door."

    design(DesignConfig(**TINY, run=str(tmp_path), ask_me=True), Roles(designer), say=quiet, listen=listen)
    assert len(asked) == 1 and "What should change?" in asked[0]
    assert "It never opens the door." in designer.asked[1]


def test_a_reward_to_start_from(tmp_path: Path) -> None:
    start = tmp_path / "mine.py"
    start.write_text("def reward(next_carrying):\n    return where(next_carrying[:, 0] == 5, 0.01, 0.0)\n")
    config = DesignConfig(**TINY, run=str(tmp_path / "a"), start=start)
    found, _ = design(config, Roles(Designer(0)), say=quiet)
    assert found.candidates[0].name == "start" and found.candidates[0].outcome == "trained"
    start.write_text("def reward(nothing):\n    return nothing\n")
    with pytest.raises(ConfigError, match="to start from"):
        design(replace(config, run=str(tmp_path / "b")), Roles(Designer(0)), say=quiet)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    args = ["design", DOOR, "--task", "fetch the key", "--stand-in", "--run", str(folder), "--samples", "1", "--rounds",
            "1", "--steps", "256", "--num-envs", "8", "--recorded", "32", "--gate", "0", "--episodes", "4",
            "--env-args", "facts=doors", "--agent-args", "n_steps=16", "batch_size=64", "n_epochs=1"]  # fmt: skip
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "recorded 32 episodes" in said and f"use it: cd {folder} && cairn train {DOOR} --env-args" in said
    assert main([*args, "--seed", "1"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_giver_is_asked_and_what_is_not_ok_is_left_out() -> None:
    said: list[str] = []

    class Giver:
        def ask(self, question: Question) -> Answer:
            self.question = question
            if question.n == 1:
                return Answer((), "late", why="nothing within 60 s")
            return Answer(("a", "b", "c"), outcomes=("ok", "refused", "ok"))

    giver = Giver()
    asked = Asked(giver, "reward-design@1", say=said.append)
    assert asked.propose("prompt", 3) == ["a", "c"]
    assert giver.question.messages[0]["content"] == "prompt" and giver.question.template == "reward-design@1"
    assert asked.propose("prompt", 1) == [] and "late nothing within 60 s" in said[-1]


def test_the_critic_of_the_stand_in_is_heard(tmp_path: Path) -> None:
    config = DesignConfig(**TINY, search="auto-mc", run=str(tmp_path))
    found, _ = design(config, Roles(Designer(0), Critic(), Analyser()), say=quiet)
    assert "critic" in [c.outcome for c in found.candidates]


class FromDesigner:
    """A giver, for the server, that lets a designer write."""

    def __init__(self, seed: int) -> None:
        self.designer = Designer(seed)

    def ask(self, question: Question) -> Answer:
        return Answer(tuple(self.designer.propose(question.messages[-1]["content"], question.n)))


def test_over_http_with_faults_it_is_the_same_search(tmp_path: Path) -> None:
    """A real server, which is overloaded once and breaks once: the client asks again, and nothing is lost."""
    with Standin(FromDesigner(0), faults={0: "429", 2: "500"}.get) as server:
        client = Client(server.url, "standin", key_env=None, retries=4, seed=0)
        config = DesignConfig(**TINY, run=str(tmp_path / "http"))
        over, _ = design(config, Roles(Asked(client, "reward-design@1", say=quiet)), say=quiet)
    here, _ = design(replace(config, run=str(tmp_path / "here")), Roles(Designer(0)), say=quiet)
    assert [c.to_json()["program"] for c in over.candidates] == [c.to_json()["program"] for c in here.candidates]
    assert [(c.name, c.outcome, c.score) for c in over.candidates] == [
        (c.name, c.outcome, c.score) for c in here.candidates
    ]
    assert len(server.requests) >= 4  # two rounds, and each asked again


def test_a_dead_server_is_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    client = Client("http://127.0.0.1:9", "none", key_env=None, retries=0, timeout=1.0, deadline=2.0)
    with pytest.raises(ConfigError, match="gave no answer"):
        design(DesignConfig(**TINY, run=str(tmp_path)), Roles(Asked(client, "design@1", say=said.append)), say=quiet)
    assert "0 of 2 answers are usable: error" in said[0]
