"""A program as a term: in expressions, in seats, in checkpoints; and what happens when it goes wrong in mid-run."""

import copy
import os
import pickle
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import cairn  # noqa: F401
from cairn.shaping import Program, RolloutSeat, ShapedReward, Task, as_reward, parse
from cairn.shaping.laws import walk
from cairn.shaping.programs import BehaviourError, Jail, ProgramError, inputs_of
from cairn.shaping.programs import runners as runners_module
from cairn.shaping.reward import RewardError

GOOD = """
def reward(position, next_position, next_distance, terminated):
    near = 1.0 / (1.0 + next_distance)
    moved = norm(next_position - position, dim=-1)
    return near + where(terminated, 1.0, 0.0), {"near": near, "moved": moved}
"""


def by_hand(x: cairn.shaping.Stretch) -> torch.Tensor:
    return 1 / (1 + x.next_facts["distance"]) + x.terminated.float()


@pytest.mark.parametrize("make", [Program, Program.in_process])
def test_it_is_the_reward_that_it_says(make: type[Program]) -> None:
    world, x = walk(0)
    seat = RolloutSeat(as_reward(0.5 * make(GOOD, name="near") + Task()), world)
    reward, logs = seat(x, 0)
    torch.testing.assert_close(reward[..., 0], 0.5 * by_hand(x) + x.reward)
    torch.testing.assert_close(logs["reward/near"], 0.5 * by_hand(x).mean())
    learned = seat.update(0)
    torch.testing.assert_close(learned["reward/near/near"], (1 / (1 + x.next_facts["distance"])).mean())
    moved = (x.next_facts["position"] - x.facts["position"]).float().norm(dim=-1)
    torch.testing.assert_close(learned["reward/near/moved"], moved.mean())
    assert learned["reward/near/faults"] == 0


def test_the_text_is_in_the_state_and_comes_back_from_an_expression() -> None:
    world, x = walk(0)
    lived = RolloutSeat(as_reward(Task() + 0.1 * Program(GOOD, name="near")), world)
    first = lived(x[:10], 0)[0]
    text = lived.reward.text
    assert text == 'task + 0.1*program("near")' and lived.reward.unwritten == ()
    resumed = RolloutSeat(as_reward(parse(text)), world)
    resumed.load(lived.state())
    assert torch.equal(resumed(x[:10], 0)[0], first)
    assert {"source": GOOD} in resumed.reward.state().values()


def test_a_saved_agent_brings_its_program_along(tmp_path: Path) -> None:
    """No reward= and no file: the expression names the program, and the checkpoint holds it."""
    from cairn.agents import PPO

    text = "def reward(next_position, next_carrying):\n    return sum(next_position, dim=-1) * 0.01\n"

    def envs() -> gym.vector.VectorEnv:
        return gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=8, device="cpu")

    model = PPO("MlpPolicy", envs(), reward=Task() + Program(text, name="hints"), n_steps=8, batch_size=32, seed=0)
    model.learn(64)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=envs())
    term = loaded.reward.summands[1].term
    assert isinstance(term, Program) and term.source == text and term.text == 'program("hints")'
    ours, theirs = (m.policy.state_dict() for m in (model, loaded))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    loaded.learn(64, reset_num_timesteps=False)
    assert term.outcomes["ok"] > 0


def test_texts_of_another_reward_are_refused() -> None:
    from cairn.shaping import as_reward

    reward = as_reward(Task() + Program(GOOD, name="near"))
    (key,) = reward.sources
    other = as_reward(Task() + Program("far"))
    with pytest.raises(ValueError, match="another reward"):
        other.put_sources({key: GOOD})
    with pytest.raises(ValueError, match="another reward"):
        reward.put_sources({key: 3})  # type: ignore[dict-item]
    reward.put_sources({key: "def reward(t):\n    return t"})
    assert reward.sources == {key: "def reward(t):\n    return t"}


def test_settings_are_written_and_read() -> None:
    term = Program(GOOD, name="near", timeout=3.5, require="kernel", bound=10.0, faults="zero")
    assert term.text == 'program("near", timeout=3.5, require="kernel", bound=10.0, faults="zero")'
    again = parse(term.text)
    assert isinstance(again, Program) and again.text == term.text
    assert (again.timeout, again.require, again.bound, again.faults) == (3.5, "kernel", 10.0, "zero")


def test_no_text_turns_the_jail_off() -> None:
    assert Program.in_process(GOOD).text is None
    reward = as_reward(Task() + Program.in_process(GOOD, name="mine"))
    assert reward.text is None and reward.unwritten == ("mine",)
    for text in ('program("near", jailed=false)', 'program("near", in_process=true)', 'program("near", where="here")'):
        with pytest.raises(ValueError, match="has no setting"):
            parse(text)


def test_a_named_program_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world, x = walk(0)
    with pytest.raises(ProgramError, match="rewards/near.py"):
        RolloutSeat(as_reward('program("near")'), world)(x, 0)
    Path("rewards").mkdir()
    Path("rewards/near.py").write_text(GOOD)
    torch.testing.assert_close(RolloutSeat(as_reward('program("near")'), world)(x, 0)[0][..., 0], by_hand(x))
    for name in ("../near", "a/b", "near.py", ".near"):
        with pytest.raises((ValueError, ProgramError)):
            RolloutSeat(as_reward(f'program("{name}")'), world)(x, 0)


def test_copies_share_a_worker_and_nothing_else() -> None:
    world, x = walk(0)
    runners_module._workers.clear()
    reward = as_reward(Program(GOOD))
    seat = RolloutSeat(reward, world)
    first = seat(x, 0)[0]
    twin = copy.deepcopy(seat)
    other = RolloutSeat(pickle.loads(pickle.dumps(reward)), world)
    assert torch.equal(twin(x, 0)[0], first) and torch.equal(other(x, 0)[0], first)
    terms = [s.reward.summands[0].term for s in (seat, twin, other)]
    assert len({id(t._compiled.runner) for t in terms}) == 1 and len({id(t._compiled) for t in terms}) == 3


def test_a_program_that_is_none_stops_before_training() -> None:
    world, x = walk(0)
    for make in (Program, Program.in_process):
        with pytest.raises(ProgramError) as caught:
            RolloutSeat(as_reward(make("def reward(distance):\n    return distence\n")), world)(x, 0)
        assert caught.value.line == 2 and caught.value.layer == "types"
        with pytest.raises(RewardError, match="not trained on.*nan"):
            RolloutSeat(as_reward(make("def reward(distance):\n    return log(distance - 99)\n")), world)(x, 0)
    with pytest.raises(BehaviourError) as caught_too:
        Program("def reward(distance):\n    return distance * 1000000\n").check(x)
    assert caught_too.value.problem == "bounded"


LATER = "def reward(distance):\n    return 1.0 / (distance - 3.0)\n"


@pytest.mark.parametrize("make", [Program, Program.in_process])
def test_a_fault_in_mid_run_stops_it_or_is_counted(make: type[Program]) -> None:
    world, x = walk(0)
    x.facts["distance"] = torch.full_like(x.facts["distance"], 1.0)
    seat = RolloutSeat(as_reward(make(LATER)), world)
    assert seat(x[:5], 0)[0].unique().tolist() == [-0.5]
    x.facts["distance"][7, 2] = 3.0
    with pytest.raises(RewardError, match="environment 2, episode .*, step .*nothing was trained on it"):
        seat(x[5:], 0)
    kind = {"faults": "zero"}
    counted = RolloutSeat(as_reward(make(LATER, **kind)), world)
    counted(x[:5], 0)
    reward = counted(x[5:], 0)[0]
    assert reward[2, 2] == 0 and (reward == 0).sum() == 1
    assert counted.update(0)["reward/program/faults"] == 1


def test_junk_in_rows_that_are_not_valid_is_no_fault() -> None:
    world, x = walk(0)
    x.facts["distance"][3, 1] = torch.nan
    x.valid[3, 1] = False
    reward, _ = RolloutSeat(as_reward(Program("def reward(distance):\n    return distance\n")), world)(x, 0)
    assert reward[3, 1, 0] == 0 and torch.isfinite(reward).all()


def test_nothing_valid_yet_is_nothing_to_check() -> None:
    world, x = walk(0)
    x.valid[:] = False
    term = Program(GOOD)
    reward = as_reward(term)
    assert not RolloutSeat(reward, world)(x, 0)[0].any() and term.behaviour is None


def test_a_worker_that_dies_in_mid_run_is_replaced_once() -> None:
    world, x = walk(0)
    runners_module._workers.clear()
    term = Program(GOOD)
    seat = RolloutSeat(as_reward(term), world)
    first = seat(x, 0)[0]
    jail: Jail = term._compiled.runner.jail  # type: ignore[union-attr]
    os.kill(jail._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    assert torch.equal(seat(x, 0)[0], first)


def test_a_worker_that_hangs_twice_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    world, x = walk(0)
    runners_module._workers.clear()
    term = Program(GOOD)
    seat = RolloutSeat(as_reward(term), world)
    seat(x, 0)
    jail: Jail = term._compiled.runner.jail  # type: ignore[union-attr]
    answers = iter([False, True, False])  # it hangs, its successor compiles, and hangs too
    real = jail._wait

    def hangs(seconds: float) -> bool:
        if seconds == 60.0 or next(answers):
            return real(seconds)
        return False

    monkeypatch.setattr(jail, "_wait", hangs)
    with pytest.raises(RewardError, match="not trained on.*took longer than"):
        seat(x, 0)
    assert jail.outcomes["hung"] == 2 and not jail.running


def test_a_team_is_refused() -> None:
    _, x = walk(0)
    x.reward = x.reward[..., None].expand(*x.reward.shape, 2)
    with pytest.raises(ValueError, match="team"):
        Program(GOOD).score(x)


@pytest.mark.parametrize("settings", [
    {"name": "a b"}, {"name": "../x"}, {"timeout": 0}, {"bound": -1}, {"require": "all"}, {"faults": "ignore"},
])  # fmt: skip
def test_settings_that_are_none_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Program(GOOD, **settings)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Program(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds no program"):
        Program(GOOD).load({"source": 7})


def test_gradients_in_this_process_only() -> None:
    _, x = walk(0)
    x.next_facts["distance"] = x.next_facts["distance"].clone().requires_grad_()
    Program.in_process(GOOD).score(x).sum().backward()
    assert x.next_facts["distance"].grad is not None and x.next_facts["distance"].grad.abs().sum() > 0


def test_on_minigrids_facts_in_a_batch() -> None:
    program = Program(
        "def reward(next_carrying, next_position, success):\n"
        "    key = where(next_carrying[:, 0] == 5, 0.1, 0.0)\n"
        "    return key + sum(next_position, dim=-1) * 0.01, {'key': key}\n", name="hints",
    )  # fmt: skip
    envs = ShapedReward(gym.make_vec("cairn/MiniGrid-DoorKey-5x5-v0", num_envs=16, device="cpu"), Task() + program)
    obs, info = envs.reset(seed=0)
    for _ in range(30):
        before = info["facts"]["position"].clone()
        obs, reward, terminated, truncated, info = envs.step(torch.randint(0, 7, (16,)))
        done = (terminated | truncated)[:, None]
        after = torch.where(done, info["final_facts"]["position"], info["facts"]["position"])
        carrying = torch.where(done, info["final_facts"]["carrying"], info["facts"]["carrying"])[:, 0]
        hints = torch.where(carrying == 5, 0.1, 0.0) + after.sum(-1) * 0.01
        torch.testing.assert_close(reward, info["task_reward"] + hints)
        assert before.shape == (16, 2)
    assert float(program.behaviour.high) > 0  # type: ignore[union-attr]
    envs.close()


def test_the_inputs_of_an_environment_are_typed_and_documented() -> None:
    _, x = walk(0)
    inputs = {i.name: i for i in inputs_of(x, {"distance": "steps to the corner"})}
    assert inputs["position"].kind == "i" and inputs["position"].shape == (2,)
    assert inputs["carrying"].kind == "b" and inputs["next_distance"].doc == "steps to the corner (after the step)"
    assert inputs["obs_image"].shape == (4, 4, 3) and inputs["task_reward"].kind == "f" and inputs["action"].kind == "i"
    assert {"terminated", "truncated", "step"} <= set(inputs)


def test_jailed_and_in_process_agree_on_every_type_of_fact() -> None:
    _, x = walk(0)
    rng = np.random.default_rng(0)
    rows = x.rows
    kinds = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.int16,
        torch.bool,
    )
    for i, kind in enumerate(kinds):
        x.facts[f"f{i}"] = torch.from_numpy(rng.integers(0, 2, (*rows, 2))).to(kind)
    names = ", ".join(f"f{i}" for i in range(len(kinds)))
    total = " + ".join(f"sum(f{i} * {i + 1}, dim=-1)" for i in range(len(kinds)))
    text = f"def reward({names}):\n    return {total}\n"
    expected = sum((i + 1) * x.facts[f"f{i}"].double().sum(-1) for i in range(len(kinds)))
    for make in (Program, Program.in_process):
        torch.testing.assert_close(make(text).score(x).double(), expected)
