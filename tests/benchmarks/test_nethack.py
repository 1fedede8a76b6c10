"""NetHack for ONI: the labeller's rule, captions, the crop and new games, on a game made by hand; nle where it is."""

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from cairn.benchmarks import nethack, oni
from cairn.benchmarks.nethack import BUDGET, KEY, SIDE, Messages, OldFace, Seen, judge, worth
from cairn.benchmarks.tables import Cells
from cairn.envs import from_gymnasium
from cairn.shaping import Stretch
from cairn.shaping.language.labels import about, between

WITHOUT = importlib.util.find_spec("nle") is None


def test_the_rule_of_the_labeller() -> None:
    said = {
        "There is a staircase down here.": 3, "A trap door opens up under you!": 3, "You kill the newt!": 2,
        "$ - 9 gold pieces.": 1, "You swap places with your kitten.  $ - a gold piece.": 1, "l - a scroll.": 1,
        "This orange is delicious!": 1, "It's a wall.": 0, "The kitten drops a gold piece.": 0,
        "You can't go down here.": 0,
        "A trap door in the ceiling opens and a rock falls on your head!": 0, "The newt bites!": 0,
    }  # fmt: skip
    assert {text: worth(text) for text in said} == said


def test_labels_and_preferences_follow_it() -> None:
    assert judge(about("You kill the newt!", "t")) == {"label": "helpful"}
    assert judge(about("It's a wall.", "t")) == {"label": "not helpful"}
    assert judge(between("It's a wall.", "You kill the newt!", "t")) == {"better": "second"}
    assert judge(between("You kill the newt!", "$ - 2 gold pieces.", "t")) == {"better": "first"}
    assert judge(between("It's a wall.", "The newt bites!", "t")) == {"better": "neither"}


class Game(gym.Env[Any, Any]):
    """A hero in the corner of a map, with the old face: a method ``seed``, and an end status."""

    said = (b"Hello.", b"$ - 12 gold pieces.", b"$ - 12 gold pieces.", b"", b"$ - 7 gold pieces.")

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(
            chars=gym.spaces.Box(0, 255, (21, 79), np.uint8), blstats=gym.spaces.Box(-9e9, 9e9, (27,), np.int64),
            message=gym.spaces.Box(0, 255, (256,), np.uint8),
        )  # fmt: skip
        self.action_space = gym.spaces.Discrete(3)
        self.seeds: list[tuple[int, int]] = []

    def seed(self, core: int, disp: int, reseed: bool) -> None:
        self.seeds.append((core, disp))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t = 0
        return self._obs(), {"end_status": 0}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._obs(), 0.5, self.t == 4, False, {"end_status": 2 * (self.t == 4)}

    def _obs(self) -> Any:
        chars = np.full((21, 79), ord(" "), np.uint8)
        chars[0, :3] = list(b"@>d")
        said = np.zeros(256, np.uint8)
        said[: len(self.said[self.t])] = list(self.said[self.t])
        stats = np.zeros(27, np.int64)
        stats[[10, 11, 12, 13, 18, 21]] = 14, 15, 1, 30, 1, 1
        return {"chars": chars, "blstats": stats, "message": said}


def test_a_batch_sees_the_crop_and_tells_new_messages_and_success() -> None:
    env = from_gymnasium(lambda: Seen(OldFace(Game())), 2, facts=lambda env: {"message": env.told})
    obs, info = env.reset(seed=0)
    crop, half = obs["crop"][0, :, :, 0].clone(), SIDE // 2
    assert crop[half, half : half + 3].tolist() == [7, 5, 7]  # the hero in the middle, a staircase down, a dog
    assert int((crop != 0).sum()) == 3
    # Health 14 of 15 is past 25, 50 and 75 %; depth 1 and level 1 past nothing, 30 gold past 1, 10 and 30; not hungry.
    assert obs["status"][0].tolist() == [0, 0, 3, 0, 3, 0, 1]
    facts, rewards, success = [info["facts"]], 0.0, False
    for _ in range(4):
        obs, reward, terminated, _, info = env.step(torch.zeros(2, dtype=torch.int64))
        facts.append(info["final_facts"])
        rewards, success = rewards + float(reward[0]), bool(info["final_facts"]["success"][0])
    assert rewards == 2.0 and success and bool(terminated.all())
    x = Stretch.make(
        obs=torch.zeros(4, 1), next_obs=torch.zeros(4, 1), reward=torch.zeros(4), terminated=torch.zeros(4).bool(),
        facts={"message": torch.stack([f["message"][0] for f in facts[:-1]])},
        next_facts={"message": torch.stack([f["message"][0] for f in facts[1:]])},
    )  # fmt: skip
    codes = Messages().codes(x).tolist()
    # What still stands on the screen is not said again; another number is the same caption.
    assert codes[0] != 0 and codes[1] == codes[2] == 0 and codes[3] != 0
    assert Messages().text(codes[0], x[:1]) == "$ - 0 gold pieces."
    lanes = [e.unwrapped.seeds for e in env.envs]  # type: ignore[attr-defined]
    drawn = [seeds for lane in lanes for seeds in lane]
    assert len(set(drawn[1:])) >= len(drawn) - 2  # every game is another


def test_the_same_message_with_other_numbers_is_one_caption() -> None:
    def coded(text: bytes) -> int:
        row = torch.zeros(1, 256, dtype=torch.uint8)
        row[0, : len(text)] = torch.tensor(list(text))
        one = torch.zeros(1, 1)
        x = Stretch.make(obs=one, next_obs=one, reward=one[0], terminated=one[0].bool(), next_facts={"message": row})
        return int(Messages().codes(x)[0])

    assert coded(b"$ - 7 gold pieces.") == coded(b"$ - 2 gold pieces.") != coded(b"$ - 2 gold chains.")
    assert coded(b"") == 0


def test_the_table_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nethack, "RESULTS", tmp_path)
    cells = Cells(tmp_path / "oni" / "nethack.csv", KEY)
    for seed, (alone, ranked) in enumerate([(1, 7), (3, 7), (5, 7)]):
        for name, found in (("none", alone), ("ranking", ranked)):
            for task in ("NetHackStaircase-v0", "NetHackScore-v0"):
                row = nethack.cell(task, name, seed, BUDGET)
                assert row["weight"] == (0 if name == "none" else 4.0 if task == "NetHackScore-v0" else 0.04)
                if not (seed and name == "ranking" and task == "NetHackStaircase-v0"):
                    cells.add({**row, "return": -found, "success": found / 10})
    cells.add({**nethack.cell("NetHackScore-v0", "none", 9, 5), "return": 1e9, "success": 0})  # of another budget
    other = {**nethack.cell("NetHackScore-v0", "ranking", 9, BUDGET), "weight": 0.1}  # and of another weight
    cells.add({**other, "return": 1e9, "success": 0})
    lines = nethack.short_table().splitlines()
    alone = "-3.00 (-5.00 to -1.00; 3 seeds) | 30% (10% to 50%; 3 seeds) | -3.0 (-5.0 to -1.0; 3 seeds)"
    assert lines[3] == f"| the task alone | {alone} |"
    assert lines[6] == "| with ONI, ranking | -7.00 (one seed) | 70% (one seed) | -7.0 (-7.0 to -7.0; 3 seeds) |"
    assert lines[4] == "| with ONI, retrieval |  |  |  |"
    full = nethack.table(cells.rows(), "NetHackScore-v0", BUDGET).splitlines()
    assert full[2:] == [
        "| none | 3 | -3.000 | -5.000 to -1.000 | 0.30 |", "| ranking | 3 | -7.000 | -7.000 to -7.000 | 0.70 |",
    ]  # fmt: skip
    cells.add({**nethack.cell("NetHackScore-v0", "retrieval", 0, 64), "return": "nan", "success": "nan"})
    short = nethack.table(cells.rows(), "NetHackScore-v0", 64).splitlines()
    assert short[2:] == ["| retrieval | 1 | no episode has ended | | |"]


@pytest.mark.parametrize("name", ["random", "none", "ranking"])
def test_what_is_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting for all, but that random actions learn nothing; without ONI nothing is weighed."""
    monkeypatch.setattr(nethack, "LANES", 2)
    monkeypatch.setattr(nethack, "batch", lambda task: from_gymnasium(lambda: Seen(OldFace(Game())), 2, facts=told))
    made = []
    real = nethack.PPO
    monkeypatch.setattr(nethack, "PPO", lambda *args, **named: made.append(real(*args, **named)) or made[0])
    row = nethack.run("NetHackStaircase-v0", name, 0, 256)
    (model,) = made
    assert row["weight"] == (0.04 if name == "ranking" else 0) and float(str(row["return"])) == 2.0
    assert (
        (int(str(row["captions"])) > 0) == (name == "ranking") == (len(model.reward.order if model.reward else []) > 1)
    )
    settings = {k: getattr(model, k) for k in nethack.PPO_ARGS}
    assert settings == (
        nethack.PPO_ARGS | {"learning_rate": 0.0, "n_epochs": 1} if name == "random" else nethack.PPO_ARGS
    )
    begun = real("MlpPolicy", nethack.batch("NetHackStaircase-v0"), seed=0).policy.parameters()
    same = all(torch.equal(a, b) for a, b in zip(model.policy.parameters(), begun))
    assert same == (name == "random")


def told(env: Any) -> dict[str, Any]:
    return {"message": env.told}


@pytest.mark.skipif(not WITHOUT, reason="nle is there")
def test_without_nle_the_command_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pip install nle"):
        oni.main(["--solve", "--task", "NetHackStaircase-v0", "--out", str(tmp_path)])


@pytest.mark.skipif(WITHOUT, reason="pip install nle, in an environment of its own")
def test_the_command_on_the_game(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--budget", "4096", "--seeds", "1", "--out", str(tmp_path), "--only", "none", "random", "ranking"]
    oni.main(["--solve", "--task", "NetHackScore-v0", *told])
    said = capsys.readouterr().out
    assert "| none | 1 |" in said and "| random | 1 |" in said and "| ranking | 1 |" in said
    env = nethack.batch("NetHackStaircase-v0", 2)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    env.close()
