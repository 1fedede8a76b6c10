"""Auto MC-Reward in Crafter: who reads causes of death off an episode's text, what is counted, and what is stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cairn.benchmarks import design_crafter, scripted
from cairn.benchmarks.design_rounds import rounds_table
from cairn.benchmarks.tables import Cells
from cairn.shaping.language.search import Recorded, Trial
from cairn.shaping.language.search.prompts import opening
from cairn.shaping.language.search.trajectories import compact
from cairn.shaping.stretch import Stretch


def episode(*steps: dict[str, int], terminated: bool = True) -> Stretch:
    """One episode with these facts before its first step and after each."""
    usual = {"health": 9, "food": 9, "drink": 9, "energy": 9, "to_lava": 8, "to_zombie": 8, "to_arrow": 8}
    rows = [dict(usual)]
    rows += [usual := {**usual, **step} for step in steps]
    n = len(steps)
    facts = {name: torch.tensor([row[name] for row in rows]) for name in usual}
    ends = torch.arange(n) == n - 1
    return Stretch(
        obs=torch.zeros(n, 1), action=torch.ones(n, dtype=torch.int64), reward=torch.zeros(n),
        next_obs=torch.zeros(n, 1), terminated=ends & terminated, truncated=ends & (not terminated),
        start=torch.arange(n) == 0, valid=torch.ones(n, dtype=torch.bool), lane=torch.zeros(n, dtype=torch.int64),
        episode=torch.zeros(n, dtype=torch.int64), t=torch.arange(n),
        facts={name: fact[:-1] for name, fact in facts.items()},
        next_facts={name: fact[1:] for name, fact in facts.items()},
    )  # fmt: skip


def named(*steps: dict[str, int], terminated: bool = True) -> str:
    text = compact(episode(*steps, terminated=terminated))
    (answer,) = scripted.Analyser(scripted.DEATHS).propose(f"Episode 1: {text}", 1)
    return answer.splitlines()[0].partition(": ")[2]


def test_the_cause_of_a_death_is_read_off_its_last_steps() -> None:
    said = scripted.NAMED
    assert named({"to_lava": 1}, {"to_lava": 0, "health": 0}) == said["lava"]
    assert named({"health": 2, "to_zombie": 1}, {"to_lava": 1}, {"health": 0}) == said["zombie"]
    assert named({"health": 2}, {"to_arrow": 1}, {"to_arrow": 8, "health": 0}) == said["arrow"]
    assert named({"drink": 0, "health": 1}, {"to_arrow": 7}, {"health": 0}) == said["neglect"]
    assert named({"drink": 0, "health": 1}, {"to_zombie": 1}, {"health": 0}) == said["neglect"], "none strikes for one"
    struck = ({"food": 0, "health": 2}, {"to_zombie": 1}, {"health": 0})
    assert named(*struck) == said["zombie"], "no need takes two at once"
    assert named({"to_lava": 0}, {"to_lava": 1}, terminated=False) not in said.values(), "it lives"


def test_shares_of_deaths_in_lava_of_all_deaths_and_of_successes() -> None:
    parts = [episode({"to_lava": 0}), episode({"health": 0}), episode({"to_lava": 0}, terminated=False), episode({})]
    for k, part in enumerate(parts):
        part.episode = torch.full_like(part.episode, k)
    success = torch.tensor([False, False, False, True])
    trial = Trial(0.25, episodes=Recorded(Stretch.cat(parts), success, success.float()))
    assert design_crafter.lived(trial) == {"lava": "0.250", "deaths": "0.500", "success": "0.250"}
    assert design_crafter.lived(None) == dict.fromkeys(("lava", "deaths", "success"), "")
    row = {"seed": "0", "outcome": "trained", **design_crafter.lived(trial)}
    rows = [{**row, "round": str(r), **{f"best_{k}": row[k] for k in ("lava", "deaths", "success")}} for r in (0, 1)]
    lines = rounds_table(
        [*rows, {**rows[1], "outcome": "repeat", "lava": ""}], 1, design_crafter.MEASURES
    ).splitlines()[2:]
    assert lines[0].startswith("| task alone | 1 of 1 | 0.25 ") and lines[1].startswith("| 1 | 1 of 2 | 0.25 ")


def test_the_first_draft_is_the_one_that_was_given_and_advice_adds_a_price_of_dying() -> None:
    designer = scripted.Designer(0, mistakes=False, first=(design_crafter.NEAR,))
    prompt = opening("collect the diamond", "x", (), {}, True, signs=True)
    (first,) = designer.propose(prompt, 1)
    assert "near = -1.0 * (where(next_success, 0, next_to_diamond) - where(success, 0, to_diamond))" in first
    advice = f"advice: mostly {scripted.NAMED['lava']}; do something about it"
    (second,) = designer.propose("\n\n".join([prompt, f"The best program so far:\n{first}\n", advice]), 1)
    assert "near = -1.0" in second and "lost = 1.0 * (where(terminated & ~next_success, -1.0, 0.0))" in second


def test_labels_are_the_game_s_and_the_analyser_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("crafter")
    prompts = []

    class Spy(scripted.Analyser):
        def propose(self, prompt: str, n: int) -> list[str]:
            prompts.append(prompt)
            return super().propose(prompt, n)

    monkeypatch.setattr(scripted, "Analyser", Spy)
    ways = design_crafter.playing()
    monkeypatch.setattr(design_crafter, "playing", lambda: [ways[1]])
    arguments = ["--parts", "causes", "--players", "8", "--out", str(tmp_path)]
    design_crafter.main(arguments)
    rows = Cells(tmp_path / "crafter_causes.csv", ("way", "episode")).rows()
    assert len(prompts) == len([r for r in rows if r["label"]]) > 0
    assert not any("death" in prompt for prompt in prompts)
    design_crafter.main(arguments)
    assert len(prompts) == len(rows) - 1, "what is there is not measured again"


def test_seeded_faults_are_stopped_and_sound_programs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("crafter")
    make: Any = design_crafter.make
    monkeypatch.setattr(design_crafter, "make", lambda lanes: make(lanes, worlds=4))
    design_crafter.main(["--parts", "faults", "--out", str(tmp_path)])
    assert "17 of 17 seeded faults are stopped, and 0 of 3 sound programs" in capsys.readouterr().out
