"""The stand-in edits what it is told, and nothing that it is not."""

from typing import Any

import gymnasium as gym
import pytest

import cairn  # noqa: F401
from cairn.benchmarks.scripted import Analyser, Critic, Designer, Part, written
from cairn.shaping.language.search import Recorded, Trial, Workshop, eureka, program_in, record
from cairn.shaping.language.search.trajectories import compact

ID = "cairn/MiniGrid-DoorKey-5x5-v0"


@pytest.fixture(scope="module")
def seen() -> Recorded:
    return record(gym.make_vec(ID, num_envs=128, device="cpu", facts=("doors",)), seed=0)


class Stages:
    """In place of training: a candidate's score is the share of two right stages that it pays for as changes."""

    def train(self, rewards: Any, seed: int = 0) -> list[Trial]:
        found = []
        for reward in rewards:
            (text,) = cairn.shaping.as_reward(reward).sources.values()
            right = (
                "(next_carrying[:, 0] == 5, 1.0, 0.0) - where(",
                "any(next_doors == 0, dim=-1), 1.0, 0.0) - where(",
            )
            found.append(Trial(sum(r in text for r in right) / 2, {"success": [0.0, 0.0]}))
        return found


def search(seen: Recorded, designer: Designer, gate: float = 0.0, **given: Any) -> list[float]:
    shop = Workshop(ID, "fetch the key and open the door", seen, Stages(), gate=gate, in_process=True)
    return eureka(shop, designer, samples=4, rounds=4, **given).scores


def test_told_what_was_found_it_gets_there_and_blind_it_does_not(seen: Recorded) -> None:
    told = [search(seen, Designer(seed))[-1] for seed in range(3)]
    blind = [search(seen, Designer(seed, blind=True), reflect=False)[-1] for seed in range(3)]
    assert min(told) >= 0.5 > max(blind)


def test_with_nothing_said_it_changes_nothing(seen: Recorded) -> None:
    designer = Designer(0)
    shop = Workshop(ID, "t", seen, Stages(), in_process=True)
    draft = program_in(designer.propose(shop.opening(), 1)[0])
    assert draft is not None
    prompt = f"{shop.opening()}\nThe best program so far:\n```python\n{draft}```\nfine"
    assert program_in(designer.propose(prompt, 1)[0]) == draft
    remark = "- [constant] the part 'alive' is 0.05 on all 9 recorded transitions, so it teaches nothing"
    after = program_in(designer.propose(f"{prompt}\n{remark}", 1)[0])
    assert after is not None and "alive" in draft and "alive" not in after


def test_combined_by_signs_it_mends_the_half_that_is_meant(seen: Recorded) -> None:
    goes = Part("goes", 0.1, "sum(next_position, dim=-1)", change=True)
    shop = Workshop(ID, "t", seen, Stages(), in_process=True, signs=True)
    prompt = f"{shop.opening()}\nThe best program so far:\n{written([goes], signs=True)}\n"
    flooded = "- [flooding] the part 'dense' paid 2 in an episode that fails. Pay for a change instead, or much less"
    advised = "advice: mostly it ended without success; do something about it"
    (answer,) = Designer(0).propose(f"{prompt}\n{flooded}\n{advised}", 1)
    # What pays for a change already pays less; it is not thrown away, and the death penalty is none of "dense".
    assert "goes = 0.01" in answer.replace("010000000000000002", "01") and "lost = 1.0 * (" in answer
    flat = "- [constant] the part 'sparse' is 0 on all 9 recorded transitions, so it teaches nothing"
    two = written([goes, Part("more", 0.2, "sum(next_position, dim=-1)", change=True)], signs=True)
    (answer,) = Designer(0).propose(f"{shop.opening()}\nThe best program so far:\n{two}\n{flat}", 1)
    assert "goes = 0.1 *" in answer and "more = 0.2 *" in answer
    # It edits the best program, and none of those that came out worse.
    tried = written([Part("x", 9.0, "step")])
    worse = f"Tried after it, and worse (0.2 against 0.5): do not write this again.\n{tried}"
    (answer,) = Designer(0).propose(f"{prompt}\n{worse}", 1)
    assert "goes = 0.1 *" in answer and "x = 9.0" not in answer


def test_the_critic_rejects_what_was_found_and_nothing_else() -> None:
    said = "What was found on recorded episodes:\n"
    assert Critic().propose(f"[misread] in the prompt above\n{said}- nothing\nIs it?", 1) == ["ACCEPT"]
    (answer,) = Critic().propose(f"{said}- [misread] line 2: x == 3 is never true\nIs it?", 1)
    assert answer.startswith("REJECT") and "line 2" in answer


def test_the_analyser_reads_the_records(seen: Recorded) -> None:
    failed = (~seen.success).nonzero()[:, 0].tolist()[:3]
    prompt = "\n\n".join(f"Episode {k + 1}: {compact(seen.rows(e))}" for k, e in enumerate(failed))
    (answer,) = Analyser().propose(prompt, 1)
    assert [line.partition(":")[0] for line in answer.splitlines()] == ["episode 1", "episode 2", "episode 3", "advice"]
