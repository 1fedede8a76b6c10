"""The solving benchmark: one setting for all rows, clocks without trials, tables by hand, a cell from start to end."""

import argparse
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cairn.benchmarks import solve, solve_cell, solve_tables
from cairn.benchmarks.solve_cell import Cell, Done, Spec
from cairn.benchmarks.tables import interval
from cairn.shaping import parse

ARGS = argparse.Namespace(threads=1, budget=None, cap=3600.0, cpu=False, against=None)


def test_nothing_but_the_task_and_its_time_depends_on_the_row() -> None:
    free = ("name", "env", "args", "budget", "clock", "fruitless", "criterion")
    for column in solve.COLUMNS:
        for learner in ("cairn", "sb3"):
            specs = [solve.spec_of(learner, row, column, 3, ARGS) for row in solve.ROWS if not solve.ROWS[row].memory]
            rest = [{name: value for name, value in spec.items() if name not in free} for spec in specs]
            assert all(one == rest[0] for one in rest)


def test_the_budgets_are_those_of_the_issue_where_it_has_one_and_steps_elsewhere() -> None:
    budgets = {row: solve.budget_of(task, "position") for row, task in solve.ROWS.items()}
    assert budgets["DoorKey-8x8"] == (60, "process", True, 0) and budgets["KeyCorridorS6R3"].amount == 900
    assert budgets["ObstructedMaze-Full-v1"] == (1800, "cpu", False, 0)
    assert budgets["FourRooms"] == (30e6, "steps", False, 12_000_000)
    assert {row for row, budget in budgets.items() if budget.amount == 1800} == {
        f"ObstructedMaze-{name}-v1" for name in ("2Dlhb", "1Q", "2Q", "Full")
    }
    assert {solve.budget_of(task, "rnd") for task in solve.ROWS.values()} == {(10e6, "steps", False, 4_000_000)}
    args = argparse.Namespace(threads=2, budget=None, cap=3600.0, cpu=False, against=None)
    assert solve.spec_of("cairn", "DoorKey-8x8", "position", 0, args)["threads"] == 2
    assert solve.spec_of("cairn", "DoorKey-8x8", "rnd", 0, args)["threads"] == 1
    pair = argparse.Namespace(threads=2, budget=None, cap=3600.0, cpu=False, against="sb3")
    for one in (solve.spec_of(who, "DoorKey-8x8", "position", 0, pair) for who in ("cairn", "sb3")):
        assert (one["threads"], one["budget"], one["clock"], one["fruitless"]) == (1, 3600, "training cpu", 0)
    args.budget, args.cpu = 5.0, True
    told = solve.spec_of("cairn", "DoorKey-8x8", "rnd", 0, args)
    assert (told["budget"], told["clock"], told["fruitless"]) == (5.0, "cpu", 0)
    assert solve.GOALS == [
        "DoorKey-8x8", "KeyCorridorS3R3", "KeyCorridorS4R3", "KeyCorridorS6R3", "MultiRoom-N6", "ObstructedMaze-1Dlhb",
        "ObstructedMaze-2Dlh",
    ]  # fmt: skip


def test_every_column_parses_and_only_one_is_privileged() -> None:
    for column in solve.COLUMNS.values():
        parse(column.reward)
        assert column.privileged == ("position" in column.reward)


def test_constructed_rows_are_what_their_names_say() -> None:
    for row, rooms, size in (("MultiRoom-N7-S8", 7, 8), ("MultiRoom-N12-S10", 12, 10)):
        task = solve.ROWS[row]
        env: Any = gym.make(f"cairn/{task.env}", **task.args).unwrapped
        assert (env.minNumRooms, env.maxNumRooms, env.maxRoomSize) == (rooms, rooms, size)
        env.reset(seed=0)
        assert len(env.rooms) == rooms


def spec(**changes: Any) -> Spec:
    found: Any = {
        "name": "a cell", "env": "MiniGrid-Empty-5x5-v0", "args": {}, "reward": "task", "seed": 0, "threads": 1,
        "settings": {"num_envs": 16, "n_steps": 32, "batch_size": 256, "n_epochs": 2}, "learner": "cairn",
        "every": 1000, "levels": 20, "criterion": 0.95, "near": 0.1, "budget": 100.0, "clock": "process",
        "fruitless": 0, "began": time.monotonic(), **changes,
    }  # fmt: skip
    return found  # type: ignore[no-any-return]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(solve_cell.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(solve_cell.time, "process_time", lambda: 2 * self.now)


def test_trials_come_on_a_fixed_schedule_and_off_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 400, a trial each 1,000 where the training episodes are near, each of them 5 seconds long."""
    clock, tried, recent = Clock(monkeypatch), list[str](), [0.0]
    success = {"1200": 0.5, "3200": 0.94, "4000": 0.96, "4000 again": 0.9}

    def trial(name: str) -> Any:
        tried.append(name)
        clock.now += 5
        return SimpleNamespace(success=success[name], return_mean=0.8)

    clock.now = 12.0
    cell = Cell(spec(began=10.0), trial, lambda _: recent[0])
    for steps in range(0, 4400, 400):
        recent[0] = 0.84 if 2000 <= steps < 3000 else 0.85  # 0.1 below the criterion is far enough for a trial
        try:
            cell.boundary(steps)
        except Done:
            break
        clock.now += 1
    assert tried == ["1200", "3200", "4000"] and cell.passed and steps == 4000
    result = cell.result(steps)
    assert tried[-1] == "4000 again"
    # Ten steps of a second; the process is two seconds older; the trials took 15, and 30 of the processors.
    assert (result["training_seconds"], result["process_seconds"], result["trial_seconds"]) == (10, 12, 15)
    assert result["cpu_seconds"] == 2 * (12 + 25) - 30 and result["training_cpu_seconds"] == 2 * 25 - 30
    assert (result["solved"], result["success"], result["again"], result["return"]) == (1, 0.96, 0.9, 0.8)
    assert result["curve"] == "1200:0.500 3200:0.940 4000:0.960"


def test_the_schedule_widens_with_the_steps() -> None:
    """A trial each 10 steps to 200, and from then on a twentieth later each time."""
    tried: list[int] = []
    result = SimpleNamespace(success=0.0, return_mean=0.0)
    cell = Cell(spec(every=10), lambda name: tried.append(int(name)) or result, lambda _: 1.0)
    for steps in range(0, 260, 5):
        cell.boundary(steps)
    assert tried == [*range(10, 211, 10), 220, 235, 245, 255] and cell.due == 254 + 12


@pytest.mark.parametrize(
    ("which", "steps"), [("process", 500), ("training", 600), ("cpu", 200), ("training cpu", 300), ("steps", 100)]
)
def test_a_cell_gives_up_when_its_budget_is_spent_and_is_tried_once(
    which: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    clock.now = 1.0
    cell = Cell(
        spec(began=0.0, budget=6.0, clock=which), lambda _: SimpleNamespace(success=0.5, return_mean=0), lambda _: None
    )
    with pytest.raises(Done):
        for at in range(0, 1000, 100):
            cell.boundary(at)
            clock.now += 1
    assert cell.curve == [(steps, 0.5)] and not cell.passed


def test_a_cell_gives_up_where_next_to_no_training_episode_succeeds_for_long() -> None:
    """The last hundred may all have failed together: the last two thousand tell."""
    many = [0.0]
    tried = SimpleNamespace(success=0.1, return_mean=0.0)
    cell = Cell(
        spec(clock="steps", budget=1e6, fruitless=400), lambda _: tried, lambda n: many[0] if n == 2000 else 0.0
    )
    many[0] = 0.01
    cell.boundary(400)
    many[0] = 0.0
    cell.boundary(300)
    with pytest.raises(Done):
        cell.boundary(500)
    assert cell.curve == [(500, 0.1)]
    never = Cell(spec(clock="steps", budget=1e6), lambda _: tried, lambda _: 0.0)
    never.boundary(900_000)


def test_one_hot_views_are_upstreams() -> None:
    import minigrid  # noqa: F401
    from minigrid.wrappers import OneHotPartialObsWrapper

    env = gym.make("MiniGrid-KeyCorridorS3R3-v0")
    flat, theirs = solve_cell.one_hot(env), OneHotPartialObsWrapper(env)
    obs, _ = env.reset(seed=3)
    mine = flat.observation(obs)
    assert mine in flat.observation_space
    assert np.array_equal(mine[:-4], theirs.observation(dict(obs))["image"].reshape(-1))
    assert mine[-4:].argmax() == obs["direction"] and mine[-4:].sum() == 1


@pytest.mark.parametrize("learner", ["cairn", "sb3"])
def test_a_cell_from_start_to_end(learner: str, tmp_path: Path) -> None:
    settings = {"num_envs": 4, "n_steps": 64, "batch_size": 128, "n_epochs": 1}
    reward = 'task + self_scaled(episodic_count(mode="first"))'
    given = spec(learner=learner, settings=settings, reward=reward, criterion=1.01, budget=1e-3, clock="training")
    (tmp_path / "spec.json").write_text(json.dumps(given))
    solve_cell.main([str(tmp_path / "spec.json"), str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 256 and result["solved"] == 0 and 0 <= result["success"] <= 1
    assert result["curve"] == f"256:{result['success']:.3f}" and result["training_seconds"] > 0


def test_successes_do_not_count_before_failures_can() -> None:
    """Sixteen lanes, episodes of at most 100 steps: before 1,600 steps only successes have ended."""
    seen: list[tuple[int, bool]] = []
    model, recent, _ = solve_cell.ours(spec(reward="task"))
    from stable_baselines3.common.callbacks import BaseCallback

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            seen.append((self.model.num_timesteps, recent(100) is not None))

    model.learn(2560, Look())
    assert model.ep_success_buffer and seen == [(0, False), (512, False), (1024, False), (1536, False), (2048, True)]
    model.ep_success_buffer.extend([False] * 100 + [True] * 100)
    assert recent(100) == 1.0 and recent(200) == 0.5 and len(model.ep_success_buffer) > 200


def cell(
    row: str, column: str, seed: int, at: float | None, learner: str = "cairn", pair: bool = False
) -> dict[str, Any]:
    args = argparse.Namespace(**{**vars(ARGS), "against": pair})
    given = solve.spec_of(learner, row, column, seed, args)
    return {
        **solve.key_of(row, column, given), "goal": solve.ROWS[row].goal or "", "criterion": 0.95,
        "solved": int(at is not None), "steps": int((at or 50) * 1e5), "process_seconds": at or 180.0,
        "training_seconds": (at or 180.0) / 2, "trial_seconds": 3.0, "cpu_seconds": 9.0,
        "training_cpu_seconds": (at or 180.0) / 2,
        "success": 0.96 if at else 0.5, "again": 0.95 if at else 0.5, "return": 0.8, "curve": "",
    }  # fmt: skip


def test_the_tables_by_hand(tmp_path: Path) -> None:
    """Of five seeds the middle three count; what was not solved is infinite; old settings are left out."""
    cells = solve.Cells(tmp_path / "cells.csv", solve.KEY)
    for seed, at in enumerate((3.0, 1.0, None, 2.0, 7.0)):
        cells.add(cell("KeyCorridorS3R3", "position", seed, at))
    for seed in range(2):
        cells.add(cell("KeyCorridorS3R3", "none", seed, None))
        for learner, at in (("sb3", 40.0), ("cairn", 4.0)):
            cells.add(cell("KeyCorridorS3R3", "position", seed, at, learner, pair=True))
    cells.add({**cell("FourRooms", "none", 0, 4.0), "settings": "num_envs=1"})
    cells.add({**cell("FourRooms", "none", 0, 4.0), "reward": "task + 1"})
    cells.add({**cell("FourRooms", "none", 0, 4.0), "budget": "1"})
    cells.add({**cell("FourRooms", "none", 0, 4.0), "clock": "cpu"})
    cells.add({**cell("FourRooms", "none", 0, 4.0), "threads": 9})
    cells.add({**cell("FourRooms", "position", 0, 4.0, pair=True), "budget": "900"})
    cells.add({**cell("KeyCorridorS3R3", "none", 2, None), "steps": 9_000_000})
    solve.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| KeyCorridorS3R3 | > 5.00 M (0/3) | 0.40 M, 9 s (4/5) |" in text
    low, high = interval([3.0, 1.0, math.inf, 2.0, 7.0])
    assert math.isfinite(low) and math.isinf(high)
    line = (
        f"EpisodicCount (position) * | 4 of 5 | 0.40 M ({low / 10:.2f} M to not solved) | 9 s | 4 s ({low:.3g} s to -)"
    )
    assert line in text
    assert "| KeyCorridorS3R3 | no bonus | 0 of 3 | > 5.00 M | - |  |  | 0.500 |" in text
    assert "| 12 s: median 3 s |" in text and "FourRooms" not in text
    assert "| KeyCorridorS3R3 | 2 s | 20 s | 10.0x | 0.40 M | 4.00 M | 2 of 2, 2 of 2 |" in text
    figures = json.loads((tmp_path / "summary.json").read_text())["figures"]
    assert figures["cairn"]["KeyCorridorS3R3/none"]["process_seconds"] is None
    assert figures["cairn"]["KeyCorridorS3R3/position"]["process_seconds"] == 4
    assert (tmp_path / "solve.png").stat().st_size > 1000
    assert "| KeyCorridorS3R3 | > 5.00 M (0/3) | 0.40 M, 9 s (4/5) |" in solve.short_table(tmp_path)
    assert "cairn bench solve" in solve.short_table(tmp_path / "nowhere")


def test_the_threads_of_the_table_are_those_of_cells_that_were_alone(tmp_path: Path) -> None:
    """A cell of a processor's seconds, with its one thread, may be the last that was added."""
    cells = solve.Cells(tmp_path / "cells.csv", solve.KEY)
    cells.add({**cell("DoorKey-8x8", "position", 0, 4.0), "threads": 2})
    cells.add(cell("ObstructedMaze-1Q-v1", "position", 0, 4.0))
    assert [one["row"] for one in solve.current(tmp_path)] == ["DoorKey-8x8", "ObstructedMaze-1Q-v1"]


def test_a_peer_that_never_gets_there_gives_a_lower_bound() -> None:
    made = [cell("MultiRoom-N6", "position", 0, *how, pair=True) for how in ((20.0, "cairn"), (None, "sb3"))]
    texts = [{name: str(value) for name, value in one.items()} for one in made]
    assert "| > 360.0x |" in solve_tables.against(texts, list(solve.ROWS))
    assert not math.isfinite(solve_tables.summary(texts[1:])["steps"])


def test_cells_that_are_there_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def fake(given: Spec) -> dict[str, Any]:
        ran.append(given["name"])
        names = ("solved", "steps", "process_seconds", "training_seconds", "trial_seconds", "cpu_seconds")
        return {**dict.fromkeys(names, 1), "success": 1.0, "again": 1.0, "return": 1.0, "curve": ""}

    monkeypatch.setattr(solve, "live", fake)
    monkeypatch.setattr(solve.os, "cpu_count", lambda: 1)
    for seeds in (["0"], ["0", "1"]):
        solve.main(["--rows", "FourRooms", "--columns", "none", "--seeds", *seeds, "--out", str(tmp_path)])
    assert ran == ["FourRooms, none, warming up", "FourRooms, none, seed 0"] + [
        "FourRooms, none, warming up", "FourRooms, none, seed 1",
    ]  # fmt: skip
