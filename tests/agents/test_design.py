"""Agents trained side by side are those that would have been trained alone."""

from typing import Any

import gymnasium as gym
import pytest
import torch

import cairn  # noqa: F401
from cairn.agents.design import SideBySide, course_of
from cairn.shaping import Program, Task

SIZE = {"n_steps": 16, "batch_size": 64, "n_epochs": 2}
NEAR = """def reward(position, next_position):
    near = 0.1 * sum(next_position - position, dim=-1)
    return near, {"near": near}
"""


def make(size: int = 5) -> Any:
    return gym.make_vec(f"cairn/MiniGrid-Empty-{size}x{size}-v0", num_envs=8, device="cpu")


def trials(**given: Any) -> SideBySide:
    settings = {"steps": 512, "agent_args": SIZE, "moments": 2, "episodes": 8, "keep_episodes": 4, **given}
    return SideBySide(make, **settings)


def near() -> Any:
    return Task() + Program.in_process(NEAR, name="c")


def test_a_training_does_not_depend_on_what_is_trained_beside_it() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    alone = trials().train([near()], seed=3)[0]
    beside = trials().train([Task(), near()], seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert beside[1].course == alone.course and beside[1].score == alone.score and alone.steps == 512
    assert set(alone.course) >= {"near"} and "near" not in beside[0].course
    assert len(alone.course["near"]) == 2
    assert alone.episodes is not None and beside[1].episodes is not None
    assert torch.equal(alone.episodes.x.action, beside[1].episodes.x.action) and len(alone.episodes) == 4
    other = trials().train([near()], seed=4)[0]
    assert other.course != alone.course


def test_a_reward_that_breaks_loses_its_training_and_no_other() -> None:
    faulty = "def reward(step):\n    return 1.0 / (step - 8)\n"
    broken = Task() + Program.in_process(faulty, name="faulty", bound=0.9)
    found = trials().train([broken, near(), Task() + Program.in_process("no program", name="x")], seed=3)
    assert "faulty" in found[0].error and not found[1].error
    assert found[1].course == trials().train([near()], seed=3)[0].course
    assert found[0].score != found[0].score and found[2].error


def test_a_trained_agent_is_tried_by_draws_or_by_its_likeliest_action() -> None:
    """The training is the same, and so are the levels; an agent that hardly learned draws differently every step."""
    drawn, likeliest = trials().train([near()], seed=3)[0], trials(deterministic=True).train([near()], seed=3)[0]
    assert drawn.course == likeliest.course
    assert drawn.episodes is not None and likeliest.episodes is not None
    same = [len(x.action.unique()) for x in (drawn.episodes.rows(0), likeliest.episodes.rows(0))]
    assert same[0] > same[1]


def test_a_curriculum_goes_from_batch_to_batch() -> None:
    made = []

    def agent(env: Any, reward: Any, seed: int) -> Any:
        from cairn.agents import PPO

        made.append(PPO("MlpPolicy", env, reward=reward, seed=seed, **SIZE))
        return made[-1]

    shared = trials(curriculum=(lambda: make(6),), make_agent=agent, steps=1024)
    (trial,) = shared.train([near()], seed=0)
    assert trial.steps == 1024 and len(trial.course["near"]) == 4 and not trial.error
    easier, last = made
    assert easier.batch.max_steps == make(6).max_steps != make().max_steps == last.batch.max_steps


def test_what_a_reflection_shows_of_the_log() -> None:
    row = {"reward/c/near": 1.0, "reward/c/faults": 0.0, "reward/c": 2.0, "rollout/ep_rew_mean": 3.0,
           "rollout/success_rate": 0.5, "train/loss": 4.0}  # fmt: skip
    assert course_of(row) == {"near": 1.0, "task return": 3.0, "success": 0.5}


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        trials(steps=0)
