"""The behaviours' predicates on states made by hand, and the whole command against a server on this machine."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cairn.benchmarks import behaviours
from cairn.benchmarks.behaviours import (
    BEHAVIOURS,
    RECORDINGS,
    Searched,
    feedback,
    flip,
    forward,
    lies,
    main,
    stem,
    waves,
    worlds,
)
from cairn.benchmarks.behaviours_recorded import COMPLETION, Recordings, words
from cairn.benchmarks.behaviours_shown import watched
from cairn.benchmarks.standin import Standin
from cairn.benchmarks.tables import RESULTS
from cairn.shaping import Stretch
from cairn.shaping.language import Answer, LanguageError, Question
from cairn.shaping.language.search import Candidate, Recorded, Trial


def lived(qpos: Tensor, feet: Tensor, ended: bool = False) -> Stretch:
    """An episode through states ``[L + 1]``."""
    over = torch.zeros(len(qpos) - 1, dtype=torch.bool)
    over[-1] = ended
    return Stretch.make(
        obs=qpos[:-1], next_obs=qpos[1:], reward=torch.zeros(len(over)), terminated=over, t=torch.arange(len(over)),
        facts={"qpos": qpos[:-1], "feet": feet[:-1]}, next_facts={"qpos": qpos[1:], "feet": feet[1:]},
    )  # fmt: skip


def hopper(turned: float, height: float = 1.25, foot: bool = True, x: float = 0.0) -> Stretch:
    course = torch.linspace(0, 1, 101)
    qpos = torch.stack([x * course, torch.full((101,), height), turned * course, *[0 * course] * 3], 1)
    return lived(qpos, torch.full((101, 1), foot))


def test_a_flip_is_a_whole_turn_and_a_landing() -> None:
    assert flip(hopper(math.tau), 1.0) and flip(hopper(-math.tau), -1.0)
    assert not flip(hopper(math.tau), -1.0) and not flip(hopper(-math.tau), 1.0)
    assert not flip(hopper(math.pi), 1.0) and not flip(hopper(0.0), 1.0)
    assert not flip(hopper(math.tau, height=0.2), 1.0) and not flip(hopper(math.tau, foot=False), 1.0)


def test_forward_is_far_enough_and_on_its_feet() -> None:
    assert forward(hopper(0.0, x=4.5), 4.0) and not forward(hopper(0.0, x=3.5), 4.0)
    assert not forward(hopper(0.0, x=-4.5), 4.0)
    fallen = hopper(0.0, x=4.5)
    fallen.terminated[-1] = True
    assert not forward(fallen, 4.0)


def ant(steps: int, height: float, hip: Tensor | float = 0.0, aloft: bool = False) -> Stretch:
    qpos = torch.zeros(steps + 1, 15)
    qpos[:, 2], qpos[:, 7] = height, hip
    feet = torch.ones(steps + 1, 4, dtype=torch.bool)
    feet[:, 0] = not aloft
    return lived(qpos, feet)


def test_a_leg_is_waved_in_the_air() -> None:
    swing = 0.4 * torch.sin(torch.arange(301) / 10)
    assert waves(ant(300, 0.6, swing, aloft=True))
    assert not waves(ant(300, 0.6, swing)) and not waves(ant(300, 0.6, 0.4, aloft=True))
    assert not waves(ant(300, 0.2, swing, aloft=True)) and not waves(ant(100, 0.6, swing[:101], aloft=True))


def test_lying_is_low_and_still() -> None:
    assert lies(ant(60, 0.28)) and not lies(ant(60, 0.6)) and not lies(ant(20, 0.28))
    rolling = ant(60, 0.28)
    rolling.next_facts["qpos"][-1, 0] = 0.5
    assert not lies(rolling)


def test_an_ant_can_lie_as_the_predicate_asks_for_and_no_lower() -> None:
    """Limp, most come to rest at 0.381 m on legs that are spread; whatever torques are held, none rests lower."""
    env: Any = worlds(BEHAVIOURS["ant-lie-down"], 24)
    env.reset(seed=0)
    torques = torch.rand(24, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torques[:8] = 0.0
    states = torch.stack([env.step(torques)[-1]["facts"]["qpos"] for _ in range(300)])
    env.close()
    limp = [lies(lived(states[:, k], torch.zeros(300, 4, dtype=torch.bool))) for k in range(8)]
    assert sum(limp) >= 4, "others rest on a leg that is folded below them"
    last = states[-50:, :, :3]
    rests = (last[1:] - last[:-1]).norm(dim=-1).amax(0) < 0.02
    assert 0.37 < float(last[:, rests, 2].min()) < 0.39


def test_feedback_ends_where_the_goal_is_reached() -> None:
    assert "40% of fresh episodes" in feedback(Candidate("a", trial=Trial(0.4)))
    assert feedback(Candidate("a", trial=Trial(0.95))) == ""


def test_feedback_on_several_agents_is_of_the_worst() -> None:
    """Each agent's share is told, and what the worst did; the search goes on until every one does it."""
    two = [hopper(math.tau, x=float(k)) for k in range(4)]
    for k, x in enumerate(two):
        x.episode = torch.full((100,), k)
    lived = Recorded(Stretch.cat(two), torch.tensor([True, False, True, True]), torch.zeros(4))
    told = feedback(Candidate("a", trial=Trial(0.75, episodes=lived, scores=(0.5, 1.0))))
    assert "Agents with 2 seeds did what was asked for in 50%, 100% of fresh episodes" in told
    assert "- qpos[:, 0]: 0.00, 0.12, 0.25, 0.38, 0.50 " in told, "of the first agent's two episodes, 0 and 1 m"
    assert feedback(Candidate("a", trial=Trial(0.97, scores=(0.93, 1.0)))) != ""
    assert feedback(Candidate("a", trial=Trial(0.97, scores=(0.95, 1.0)))) == ""


def test_each_program_is_trained_on_with_several_seeds(tmp_path: Path) -> None:
    """Their scores stand beside each other, and recordings of such a search have a name of their own."""
    pytest.importorskip("httpx")
    folder = tmp_path / "recordings"
    with pytest.raises(LanguageError, match="hopper-forward-1000x90-seeds0to1-1.asked.txt"):
        recorded(folder, tmp_path, "--seeds", "2", "--limit", "90")
    asked = folder / "hopper-forward-1000x90-seeds0to1-1.asked.txt"
    assert "a step is 0.008 s, and an episode has 90;" in asked.read_text()
    answered(asked, PROGRAM.format(1.0))
    recorded(folder, tmp_path, "--seeds", "2", "--limit", "90", "--rounds", "1")
    with (tmp_path / "behaviours.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["seeds"], row["limit"], row["rounds"], row["best"]) == ("2", "90", "0.00/0.00", "0.00")
    kept = Recorded.load(tmp_path / "hopper-forward" / "episodes" / "r1a1-1.safetensors")
    assert int(kept.x.t.max()) < 90


PROGRAM = """Pay for metres.

```python
def reward(qpos, next_qpos):
    ahead = {} * (next_qpos[:, 0] - qpos[:, 0])
    return ahead, {{"ahead": ahead}}
```
"""


class Writer:
    """A model that writes one program after the other."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def ask(self, question: Question) -> Answer:
        self.prompts.append(question.messages[-1]["content"])
        text = PROGRAM.format(float(len(self.prompts)))
        return Answer((text,), "ok", (text,), ("ok",), ("text",))


def test_the_command_runs_against_any_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("httpx")
    writer = Writer()
    with Standin(writer) as server:
        told = ["--server", server.url, "--model", "standin", "--key-env", "", "--out", str(tmp_path)]
        main([*SMALL, *told, "--only", "hopper-forward"])
        main([*SMALL, *told, "--only", "hopper-forward"])  # it is there
    first, second = writer.prompts
    # The typed world with what it means, the sentence, and no reward of the environment's own.
    assert "Task: hop forward without falling" in first and "next_qpos: float32[B, 6]" in first
    assert "pitch of the torso" in first and "feet: bool[B, 1]" in first and "task_reward" not in first
    assert "ahead = 1.0 *" in second and "0% of fresh episodes" in second
    with (tmp_path / "behaviours.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["rounds"] == "0.00 0.00" and row["passed"] == "no" and row["expert"] == ""
    assert (tmp_path / "hopper-forward" / "report.html").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert "| hopper-forward | hop forward without falling | 1,000 | 1,000 | 0.00 0.00 | 0.00 | no |  |  |" in lines


SMALL: Any = ["--steps", "1000", "--envs", "8", "--recorded", "8", "--episodes", "4", "--rounds", "2"]


def recorded(folder: Path, out: Path, *more: str) -> None:
    """The command on two rounds of a behaviour with the recordings of a folder."""
    main([*SMALL, "--only", "hopper-forward", "--recordings", str(folder), "--out", str(out), *more])


def answered(asked: Path, completion: str) -> Path:
    """What a person does with a prompt that was written down."""
    path = asked.with_name(asked.name.replace(".asked", ""))
    asked.rename(path).write_text(path.read_text() + completion)
    return path


def test_recorded_completions_go_through_the_whole_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt that nobody has answered stops the search; with an answer it goes on, and anew it needs nobody."""
    pytest.importorskip("httpx")
    folder, first = tmp_path / "recordings", tmp_path / "recordings" / "hopper-forward-1000-seed0-1.asked.txt"
    with pytest.raises(LanguageError, match="hopper-forward: nobody has recorded an answer .*-1000-seed0-1.asked.txt"):
        recorded(folder, tmp_path / "a")
    assert "Task: hop forward without falling" in first.read_text() and not (tmp_path / "a" / "behaviours.csv").exists()
    assert "| hopper-forward | hop forward without falling |  |  | not run here |" in capsys.readouterr().out
    answered(first, PROGRAM.format(1.0))
    with pytest.raises(LanguageError, match="seed0-2.asked.txt"):
        recorded(folder, tmp_path / "a")
    second = answered(folder / "hopper-forward-1000-seed0-2.asked.txt", PROGRAM.format(2.0))
    text = second.read_text()
    assert "ahead = 1.0 *" in text and "0% of fresh episodes" in text and "- qpos[:, 5]: " in text
    recorded(folder, tmp_path / "a")
    recorded(folder, tmp_path / "b")
    for out in ("a", "b"):
        with (tmp_path / out / "behaviours.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert row["model"] == "recorded" and row["rounds"] == "0.00 0.00" and row["prompts"] == "2 of 2"
    # Another processor's training has other numbers; a program with others is another program.
    second.write_text(text.replace("0% of fresh", "3% of fresh"))
    recorded(folder, tmp_path / "c")
    with (tmp_path / "c" / "behaviours.csv").open() as file:
        assert next(csv.DictReader(file))["prompts"] == "1 of 2"
    second.write_text(text.replace("ahead = 1.0 *", "ahead = 7.0 *"))
    with pytest.raises(LanguageError, match="seed0-3.asked.txt"):
        recorded(folder, tmp_path / "d")


def test_a_search_that_is_in_the_table_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To another round and to agents of other seeds, from its folder; its row has them then, and others stay."""
    pytest.importorskip("httpx")
    folder = tmp_path / "recordings"
    for k in (1, 2):
        with pytest.raises(LanguageError):
            recorded(folder, tmp_path)
        answered(folder / f"hopper-forward-1000-seed0-{k}.asked.txt", PROGRAM.format(float(k)))
    recorded(folder, tmp_path)
    path = tmp_path / "behaviours.csv"
    other = "hopper-forward,recorded,0,1,500,1000,1.00,1.00,yes,,1 of 1,"
    path.write_text(path.read_text() + other + "\n")
    before = path.read_text()
    recorded(folder, tmp_path, "--rounds", "3")  # only where it is asked to
    recorded(folder, tmp_path, "--rounds", "1", "--more")  # it has enough
    assert path.read_text() == before
    with pytest.raises(LanguageError, match="1000-seed0-3.asked.txt"):
        recorded(folder, tmp_path, "--rounds", "3", "--more")
    assert path.read_text() == before
    answered(folder / "hopper-forward-1000-seed0-3.asked.txt", PROGRAM.format(3.0))
    recorded(folder, tmp_path, "--rounds", "3", "--again", "1", "--more")
    assert path.read_text().splitlines() == [
        before.splitlines()[0], "hopper-forward,recorded,0,1,1000,1000,0.00 0.00 0.00,0.00,no,0.00,3 of 3,", other
    ]  # fmt: skip
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| hopper-forward |")][-2:]
    assert "| 500 | 1,000 | 1.00 | 1.00 | yes |" in shown[0]
    assert "| 1,000 | 1,000 | 0.00 0.00 0.00 | 0.00 | no | 0.00 |" in shown[1]


@pytest.mark.parametrize(
    ("rounds", "cell"),
    [
        ([(0.0, 0.5, 0.1), (1.0, 0.97, 0.95)], "0.00/0.50/0.10 1.00/0.97/0.95,0.97,yes,"),
        ([(1.0, 1.0, 0.94), (0.9, 0.9, 0.9)], "1.00/1.00/0.94 0.90/0.90/0.90,0.98,no,"),
    ],
)
def test_a_program_passes_where_each_of_its_agents_does(
    rounds: list[tuple[float, ...]], cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behaviours, "search", lambda name, args: Searched(rounds, [], "2 of 2"))
    main(["--recordings", str(tmp_path), "--only", "hopper-forward", "--seeds", "3", "--out", str(tmp_path)])
    (line,) = (tmp_path / "behaviours.csv").read_text().splitlines()[1:]
    assert line == f"hopper-forward,recorded,0,3,600000,1000,{cell},2 of 2,"


def test_every_recorded_search_has_its_recordings() -> None:
    """As many as requests were answered, each program whole in the next prompt, and who wrote it in each head."""
    with (RESULTS / "behaviours" / "behaviours.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "recorded"]
    assert len(rows) >= 7
    for row in rows:
        name = stem(row["behaviour"], *(int(row[what]) for what in ("steps", "limit", "seed", "seeds")))
        count = len(row["rounds"].split())
        assert row["prompts"].split()[-1] == str(count)
        texts = [(RECORDINGS / f"{name}-{k}.txt").read_text(encoding="utf-8") for k in range(1, count + 1)]
        assert all("The completion was written by a large language model (Claude), by hand" in text for text in texts)
        for before, after in zip(texts, texts[1:]):
            program = before.partition(COMPLETION)[2].partition("```python\n")[2].partition("```")[0].strip()
            assert program and program in after.partition(COMPLETION)[0]


def test_a_prompt_is_its_words(tmp_path: Path) -> None:
    program = "```python\nx = 0.5\n```\n"
    assert words(f"{program}seen -1.5e-3, 20%") == words(f"{program}seen 4, 3.25%")
    assert words(f"{program}seen 4") != words(f"{program}found 4") != words(f"{program.replace('5', '6')}found 4")
    (tmp_path / "a-1.txt").write_text("no such lines")
    with pytest.raises(ValueError, match="a-1.txt is no recording"):
        Recordings(tmp_path, "a").ask(Question("?"))


def test_an_agents_episodes_in_words() -> None:
    x = hopper(math.tau, foot=False)
    x.episode = torch.zeros(100, dtype=torch.int64)
    told = watched(Recorded(x, torch.ones(1, dtype=torch.bool), torch.zeros(1)))
    assert told[0] == "The agent's episodes had 100 to 100 steps, 100 on average; 0% ended by terminated."
    assert "- qpos[:, 2]: 0.00, 1.57, 3.14, 4.71, 6.28 (of an episode: 0.00 to 6.28)" in told
    assert told[-1] == "- feet[:, 0]: true on 0% of the steps, on 0% of the last 200"


def test_without_a_server_every_cell_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("| not run here |") == len(BEHAVIOURS) == 7
