"""ONI's rate: lives that are the same to the bit with labels and without, one that is not, the ratios by hand."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from cairn.agents import PPO
from cairn.benchmarks import oni_rate
from cairn.benchmarks.oni import judge, others
from cairn.benchmarks.oni_rate import ARRIVING, GIVEN, LABELLED, PLAYED, UNPAID
from cairn.benchmarks.tables import Cells
from cairn.shaping.language import Oracle


def small(reward: Any, seed: int) -> PPO:
    envs = gym.make_vec("cairn/MiniGrid-KeyCorridorS3R1-v0", num_envs=16, device="cpu")
    return PPO("MlpPolicy", envs, reward=reward, seed=seed, n_steps=32, batch_size=128)


def measured(folder: Path, mode: str, rounds: int = 1) -> list[dict[str, str]]:
    cells = Cells(folder / f"{mode}.csv", ["round", "turn", "who", "mode"])
    ask = lambda: Oracle(judge, others, 1.0, 0)  # noqa: E731
    return oni_rate.measure(cells, ask, {"mode": mode}, rounds, 3, 4, workers=1, make=small)


@pytest.mark.parametrize("mode", ["retrieval", "classification", "ranking"])
def test_the_same_life_with_labels_and_without(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lived: dict[str, Any] = {}
    make = oni_rate.labelled_by
    monkeypatch.setattr(oni_rate, "labelled_by", lambda *a: lived.setdefault(a[-1], make(*a)))
    rows = measured(tmp_path, mode)
    assert [r["who"] for r in rows[:5]] == [*LABELLED, UNPAID, oni_rate.ALONE] and len(rows) == 15
    last = {r["who"]: int(r["labelled"]) for r in rows[-5:]}
    assert last[ARRIVING] == last[GIVEN] == last[PLAYED] > 3 and last[UNPAID] == 0
    arriving, given, played = (lived[who].inputs[0] for who in LABELLED)
    assert bool((arriving.value > 0).any()), "labels were worth something"
    assert given.desk.counts["posted"] == arriving.desk.counts["posted"] > 3 and given.desk._room is None
    assert played.desk.counts["posted"] == 0 and played.texts == {} == played.verdict
    assert all(float(r["cpu_seconds"]) > 0 and int(r["steps"]) == 4 * 32 * 16 for r in rows)


def test_another_life_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = oni_rate.Recorded.update

    def wrong(self: oni_rate.Recorded, source: Any, step: int) -> Any:
        logs = record(self, source, step)
        last = self.tape.pays[-1]
        self.tape.pays[-1] = last._replace(value=1 - last.value)
        return logs

    monkeypatch.setattr(oni_rate.Recorded, "update", wrong)
    with pytest.raises(RuntimeError, match="'same life, no labels' is not the same life"):
        measured(tmp_path, "retrieval")


def test_ratios_by_hand() -> None:
    def row(number: int, turn: int, who: str, seconds: float) -> dict[str, str]:
        told = {"round": number, "turn": turn, "who": who} | dict.fromkeys(oni_rate.KINDS, seconds)
        return {name: str(value) for name, value in told.items()}

    spent = {ARRIVING: 2.0, GIVEN: 1.6, PLAYED: 1.0, UNPAID: 0.5, oni_rate.ALONE: 0.25}
    rows = [
        row(n, turn, who, 99.0 if turn == 0 else s) for n in (3, 4) for turn in (0, 1, 2) for who, s in spent.items()
    ]
    rows[-5]["cpu_seconds"] = "6.0"
    assert oni_rate.ratios(rows, ARRIVING, PLAYED, "cpu_seconds") == [0.5, 0.25]
    assert oni_rate.ratios(rows, GIVEN, PLAYED, "seconds") == [0.625, 0.625]
    lines = oni_rate.table(rows).splitlines()
    start = "| ONI, labels arriving | same life, no labels | labels, in all | 0.375 (0.250 to 0.500) | 0.500 (0.500 to"
    assert lines[2].startswith(start) and len(lines) == 7
