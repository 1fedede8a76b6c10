"""The three searches on scripts: what is asked, what is kept, and what a resumed search does."""

from pathlib import Path
from typing import Any

import pytest

from cairn.shaping.language.search import JournalError, Recorded, Trial, Workshop, auto_mc, eureka, text2reward
from cairn.shaping.language.search.workshop import NobodyError

from . import made
from .made import Scores, Script, answer, program

P = [program(1.0 + k) for k in range(8)]
SIGNS = """def reward(place, next_place, terminated):
    dense = {} * (next_place - place)
    sparse = where(terminated, 1.0, 0.0)
    return sparse + dense, {{"sparse": sparse, "dense": dense}}
"""


def weight(text: str) -> float:
    return float(text.split("near = ")[1].split(" *")[0]) / 10


def shop(folder: Path | None = None, trials: Any = None, **given: Any) -> Workshop:
    settings = {"in_process": True, **given}
    trials = trials or Scores(weight)
    return Workshop("made/Walk-v0", made.TASK, made.recorded(), trials, folder=folder, **settings)


def test_eureka_shows_the_best_program_and_its_course() -> None:
    script = Script([answer(P[2]), "sorry"], [answer(P[0]), answer(P[1])], [answer(P[5])])
    trials = Scores(weight)
    found = eureka(shop(trials=trials), script, samples=2, rounds=3)
    assert found.scores == pytest.approx([0.3, 0.3, 0.6]) and found.best is not None and found.best.name == "r3c1"
    first, second, third = script.prompts
    assert "best program so far" not in first
    # Greedy: round 2 made worse ones, so round 3 is shown round 1's program again.
    for prompt in (second, third):
        assert "near = 3.0 *" in prompt and "near = 1.0 *" not in prompt
        assert "- near: 0.1, 0.2, 0.3, 0.4 (largest 0.4, mean 0.25, smallest 0.1)" in prompt
        assert "- success: 0, 0.1, 0.1, 0.2" in prompt and "fresh levels: 0.3" in prompt
    assert "Rejected before training: the answer holds no fenced block" in second and "Rejected" not in third
    assert [c.parent for c in found.candidates] == ["", "", "r1c1", "r1c1", "r1c1"]
    assert trials.calls == [[P[2]], [P[0], P[1]], [P[5]]]


def test_without_reflection_only_program_and_score_are_shown() -> None:
    script = Script([answer(P[2]), "sorry"], [answer(P[0])])
    eureka(shop(), script, samples=2, rounds=2, reflect=False)
    assert "near = 3.0 *" in script.prompts[1] and "measure: 0.3" in script.prompts[1]
    assert "(largest" not in script.prompts[1] and "Rejected" not in script.prompts[1]


def test_a_persons_reward_and_words() -> None:
    script = Script([answer(P[4])])
    asked = []

    def words(best: Any) -> str:
        asked.append(best.name)
        return "It walks backwards."

    found = eureka(shop(), script, samples=1, rounds=1, start=P[1], feedback=words)
    assert asked == ["start"] and "It walks backwards." in script.prompts[0] and "near = 2.0 *" in script.prompts[0]
    assert [c.name for c in found.candidates] == ["start", "r1c1"]
    with pytest.raises(ValueError, match="to start from"):
        eureka(shop(), Script(), samples=1, rounds=1, start="def reward(nowhere):\n    return nowhere\n")


def test_a_round_where_all_fail_is_asked_again_with_the_reasons() -> None:
    script = Script(["no", answer(program(-5.0))], [answer(P[0])])
    found = eureka(shop(), script, samples=2, rounds=2)
    assert found.scores == pytest.approx([float("-inf"), 0.1])
    assert "it does not place recorded successes" in script.prompts[1] and "near = -5.0 *" in script.prompts[1]


def test_of_equals_the_newest_is_built_on() -> None:
    script = Script([answer(P[0])], [answer(P[1])], [answer(P[2])])
    found = eureka(shop(trials=Scores(lambda text: 0.0)), script, samples=1, rounds=3)
    assert [c.parent for c in found.candidates] == ["", "r1c1", "r2c1"] and "near = 2.0 *" in script.prompts[2]


def test_more_answers_than_asked_for_and_fewer() -> None:
    found = eureka(shop(), Script([answer(p) for p in P[:4]], [answer(P[5])]), samples=2, rounds=2)
    assert [c.name for c in found.candidates] == ["r1c1", "r1c2", "r2c1"]


def test_a_designer_that_falls_silent_stops_the_search_and_is_asked_again(tmp_path: Path) -> None:
    with pytest.raises(NobodyError, match="started again"):
        eureka(shop(tmp_path), Script([answer(P[0])], []), samples=1, rounds=2)
    script = Script([answer(P[3])])
    assert eureka(shop(tmp_path), script, samples=1, rounds=2).scores == pytest.approx([0.1, 0.4])
    assert len(script.prompts) == 1


def test_the_best_is_trained_anew_with_other_seeds() -> None:
    class Seeds(Scores):
        seeds: list[int] = []

        def train(self, rewards: Any, seed: int = 0) -> list[Trial]:
            self.seeds.append(seed)
            return [Trial(float(seed)) for _ in rewards]

    found = eureka(shop(trials=Seeds(weight)), Script([answer(P[0])]), samples=1, rounds=1, final_seeds=2, seed=7)
    assert Seeds.seeds == [7, 1007, 1008] and found.final == [1007.0, 1008.0]


class Killed(Exception):
    pass


class Mortal(Scores):
    """Dies in the training of some round."""

    def __init__(self, dies: int, episodes: Recorded | None = None) -> None:
        super().__init__(weight, episodes)
        self.dies = dies

    def train(self, rewards: Any, seed: int = 0) -> list[Trial]:
        if len(self.calls) == self.dies:
            raise Killed
        return super().train(rewards, seed)


def test_a_killed_search_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    rounds = ([answer(P[2]), "no"], [answer(P[0]), answer(program(-9.0))], [answer(P[5]), answer(P[3])])
    lived = made.recorded([(0, 0, 3), (1, 1)])
    whole = eureka(shop(tmp_path / "whole", Scores(weight, lived)), Script(*rounds), samples=2, rounds=3)
    cut = tmp_path / "cut"
    with pytest.raises(Killed):
        eureka(shop(cut, Mortal(2, lived)), Script(*rounds), samples=2, rounds=3)
    trials, script = Scores(weight, lived), Script([])
    again = eureka(shop(cut, trials), script, samples=2, rounds=3)
    assert script.prompts == [] and trials.calls == [[P[5], P[3]]]
    assert [c.to_json() for c in again.candidates] == [c.to_json() for c in whole.candidates]
    for name in ("search.jsonl", "report.html", "rewards/best.py"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (cut / "rewards" / "best.py").read_text() == P[5]
    with pytest.raises(JournalError, match="other settings"):
        eureka(shop(cut), Script(*rounds), samples=3, rounds=3)


def test_text2reward_mends_what_is_refused_and_then_listens() -> None:
    broken = P[0].replace("next_place -", "next_spot -")
    script = Script([answer(broken)], ["no"], [answer(P[0])], [answer(P[3])])
    said = iter(["It stops half way.", ""])
    found = text2reward(shop(), script, rounds=3, feedback=lambda c: next(said), examples=(("sit", P[7]),))
    assert [c.outcome for c in found.candidates] == ["compiler", "empty", "trained", "trained"]
    assert "next_spot" in script.prompts[1] and "Rejected before training" in script.prompts[1]
    assert "It stops half way." in script.prompts[3] and "near = 1.0 *" in script.prompts[3]
    assert all("Task: sit" in prompt and "near = 8.0 *" in prompt for prompt in script.prompts)
    assert found.scores == pytest.approx([0.1, 0.4])


def test_a_persons_words_are_in_the_record(tmp_path: Path) -> None:
    rounds = ([answer(P[0])], [answer(P[3])])
    first = eureka(shop(tmp_path), Script(*rounds), samples=1, rounds=2, feedback=lambda c: "It stops half way.")
    again = eureka(shop(tmp_path), Script(), samples=1, rounds=2, feedback=lambda c: 1 / 0)  # type: ignore[arg-type,return-value]
    assert [c.to_json() for c in again.candidates] == [c.to_json() for c in first.candidates]


def test_text2reward_stops_asking_after_some_repairs() -> None:
    script = Script(*(["no"] for _ in range(9)))
    found = text2reward(shop(), script, rounds=3, repairs=2)
    assert len(script.prompts) == 3 and found.best is None


def test_auto_mc_has_its_critic_heard_and_its_analyser_read() -> None:
    lived = made.recorded([(0, 0, 3), (1, 1, 0)])
    script = Script([answer(SIGNS.format(1.0))], [answer(SIGNS.format(2.0))], [answer(SIGNS.format(3.0))])
    critic = Script(["REJECT: it pays for standing"], ["I accept this one."], ["Hm."], ["well"])
    analyser = Script(["Episode 1: it walked backwards\nadvice: punish steps backwards\nnonsense"])
    here = shop(trials=Scores(lambda text: 0.5, lived), signs=True)
    found = auto_mc(here, script, critic, analyser, rounds=2)
    assert [c.outcome for c in found.candidates] == ["critic", "trained", "trained"]
    assert "it pays for standing" in script.prompts[1] and "dense = 1.0 *" in script.prompts[1]
    assert "2 steps; it was cut off by the time limit" in analyser.prompts[0] and "Episode 2" not in analyser.prompts[0]
    assert "it walked backwards" in script.prompts[2] and "punish steps backwards" in script.prompts[2]
    # Without a verdict it is asked once more, and then has no objection.
    assert len(critic.prompts) == 4 and "Begin your answer" in critic.prompts[3]


def test_auto_mc_builds_on_the_best_and_says_what_came_out_worse() -> None:
    lived = made.recorded([(0, 0, 3), (1, 1, 0)])
    script = Script(*([answer(SIGNS.format(w))] for w in (5.0, 2.0, 9.0, 1.0)))
    said = (f"Episode 1: cause {k}\nadvice: change {k}" for k in "ABCD")
    analyser = Script(*([text] for text in said))
    trials = Scores(lambda text: float(text.split("dense = ")[1].split(" *")[0]) / 10, lived)
    found = auto_mc(shop(trials=trials, signs=True), script, None, analyser, rounds=4)
    assert found.best is not None and found.best.name == "r3a1" and found.scores == pytest.approx([0.5, 0.5, 0.9, 0.9])
    second, third, fourth = script.prompts[1:]
    assert "dense = 5.0 *" in second and "Tried after it" not in second and "change A" in second
    # Round 2 came out worse: round 3 is written from round 1's program and its failures, and is told of round 2.
    best, _, tried = third.partition("Tried after it, and worse (0.2 against 0.5)")
    assert "dense = 5.0 *" in best and "cause A" in best and "change A" in best and "cause B" not in best
    assert "dense = 2.0 *" in tried and "cause B" in tried and "change B" not in third
    assert "dense = 9.0 *" in fourth and "Tried after it" not in fourth and "dense = 5.0 *" not in fourth


def test_combined_by_signs_what_is_paid_is_judged() -> None:
    # Whatever the scale, a step of progress is paid 0.1: nothing dwarfs anything.
    made_ = shop(signs=True).screen("a", answer(SIGNS.format(1000.0)))
    assert made_.outcome == "new" and "dominant" not in {f.kind for f in made_.findings}
    summed = shop().screen("a", answer(SIGNS.format(1000.0)))
    assert "dominant" in {f.kind for f in summed.findings}


def test_auto_mc_wants_signs() -> None:
    with pytest.raises(ValueError, match="signs=True"):
        auto_mc(shop(), Script())


class Lucky(Scores):
    """Each seed has a score of its own; with seed 0 the first program is the best one."""

    table = {1.0: (1.0, 0.0, 0.2), 2.0: (0.5, 0.7, 0.6)}

    def __init__(self) -> None:
        super().__init__(weight, made.recorded())
        self.seeds: list[int] = []

    def train(self, rewards: Any, seed: int = 0) -> list[Trial]:
        self.seeds.append(seed)
        trials = super().train(rewards, seed)
        for trial in trials:
            trial.score = self.table[round(10 * trial.score, 1)][seed % 3]
            trial.course = {"near": [float(seed)] * 4, "success": [trial.score] * (4 - seed % 3), f"only {seed}": [1.0]}
        return trials


def test_a_candidate_is_judged_by_agents_of_several_seeds(tmp_path: Path) -> None:
    """The mean decides, so that the program that one seed was lucky with is not taken; and prompts tell each."""
    script = Script([answer(P[0]), answer(P[1])], [answer(P[0])])
    one = eureka(shop(trials=Lucky()), script, samples=2, rounds=1)
    assert one.best is not None and one.best.name == "r1c1" and one.best.trial is not None
    assert one.best.trial.scores == () and one.best.trial.told == "1"
    trials = Lucky()
    said: list[str] = []
    several = shop(tmp_path, trials, seeds=3, say=said.append)
    script = Script([answer(P[0]), answer(P[1])], [answer(P[0])])
    found = eureka(several, script, samples=2, rounds=2, final_seeds=2)
    assert found.best is not None and found.best.name == "r1c2" and found.best.trial is not None
    assert found.best.score == pytest.approx(0.6) and found.best.trial.scores == (0.5, 0.7, 0.6)
    assert trials.seeds == [0, 1, 2, 1000, 1001], "the best is trained anew with one seed at a time"
    assert "with seed 1, 2 of 3: r1c1 0, r1c2 0.7" in said and "with seed 1000" not in str(said)
    prompt = script.prompts[1]
    assert "3 agents were trained on it for 100 steps" in prompt
    assert "on fresh levels: 0.6 (agent by agent: 0.5, 0.7, 0.6)" in prompt
    # Means over the agents; a measure that began later with one of them is compared at its end, and what only one
    # agent has a value for is no mean.
    assert "- near: 1, 1, 1, 1 " in prompt and "- success: 0.6, 0.6 (" in prompt and "only" not in prompt
    assert found.best.trial.episodes is not None and len(found.best.trial.episodes) == 9
    assert len(several.lived) == 2 and len(several.lived[0]) == 9
    again = eureka(shop(tmp_path, Lucky(), seeds=3), Script(), samples=2, rounds=2, final_seeds=2)
    assert again.best is not None and again.best.to_json() == found.best.to_json() and again.final == found.final
    with pytest.raises(JournalError, match="other settings"):
        eureka(shop(tmp_path, Lucky(), seeds=2), script, samples=2, rounds=2)


def test_a_candidate_that_breaks_with_one_seed_is_lost() -> None:
    class Breaks(Lucky):
        def train(self, rewards: Any, seed: int = 0) -> list[Trial]:
            trials = super().train(rewards, seed)
            if seed == 2:
                trials[0].error, trials[0].episodes = "it broke", None
            return trials

    found = eureka(shop(trials=Breaks(), seeds=3), Script([answer(P[0]), answer(P[1])]), samples=2, rounds=1)
    assert [(c.outcome, c.why) for c in found.candidates] == [("failed", "it broke"), ("trained", "")]
    with pytest.raises(ValueError, match="at least one agent"):
        shop(seeds=0)
