"""``cairn inspect``: what the page holds, that nothing in it can run but its own script, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from cairn.agents.config import ConfigError
from cairn.cli import main
from cairn.pages import inspect
from cairn.pages.document import document, embedded, safe
from cairn.pages.film import data_uri, film
from cairn.pages.inspecting import correlations
from cairn.pages.seeing import ROUTES
from cairn.runs import CheckpointError, Run
from cairn.shaping import Task

from .reading import check_page

ROOMS = "cairn/FourRooms-v0"
EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def test_a_run(run: Path) -> None:
    path = inspect(run, episodes=5)
    text = path.read_text()
    assert path == run / "inspect.html" and len(text) < 400_000
    data = check_page(text)
    assert data["names"] == ["task", "episodic_count"] and data["raw"] is None
    assert len(data["shares"]) == 2 and {len(v) for v in data["shares"]} == {data["steps"]}
    assert [step for step, _ in data["film"]["frames"]] == list(range(data["steps"] + 1))
    assert len(data["map"]["path"]) == data["steps"] + 1 and data["map"]["width"] == data["map"]["height"] == 5
    # The bonus is 0.02 for each new cell: what the plot shows adds up to what the path visits.
    cells = {tuple(cell) for cell in data["map"]["path"]}
    assert sum(data["shares"][1]) == pytest.approx(0.02 * (len(cells) - 1), abs=1e-4)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and "Totals over 5 episodes" in text
    assert "get to the green goal square" in text
    again = inspect(run, episodes=5).read_text()
    assert again == text, "the same run gives the same page"


def test_late_terms_stand_at_the_steps_they_are_for(tmp_path: Path) -> None:
    def one(x: Any) -> torch.Tensor:
        return torch.ones(x.shape)

    from cairn.shaping import Return

    path = inspect(Task() + Return(one), ROOMS, tmp_path / "late.html", episodes=2)
    data = check_page(path.read_text())
    assert data["shares"][1] == [0.0] * (data["steps"] - 1) + [data["steps"]]


def test_names_that_are_markup_do_no_harm(tmp_path: Path) -> None:
    def term(x: Any) -> torch.Tensor:
        return 0.1 * x.reward

    term.__name__ = EVIL + "<b>&amp;\u2028"
    text = inspect(Task() + term, "Evil-v0", tmp_path / "evil.html", episodes=2).read_text()
    data = check_page(text)
    assert data["names"][1] == term.__name__ and EVIL not in text and "&lt;/script&gt;" in text
    assert "Mission: <q>&lt;/script&gt;" in text


class Evil(gym.Env[Any, Any]):
    """Its mission is markup, and it has no pictures."""

    metadata: dict[str, Any] = {"render_modes": []}
    render_mode = None

    def __init__(self, **kwargs: Any) -> None:
        letters = "".join(sorted(set(EVIL)))
        self.observation_space = gym.spaces.Dict({"mission": gym.spaces.Text(len(EVIL), charset=letters)})
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return {"mission": EVIL}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return {"mission": EVIL}, float(self.np_random.random()), bool(self.np_random.random() < 0.2), False, {}


gym.register("Evil-v0", Evil)


def test_a_bridged_environment_without_pictures_or_facts(tmp_path: Path) -> None:
    text = inspect("task", "Evil-v0", tmp_path / "evil.html", episodes=2).read_text()
    data = check_page(text)
    assert data["film"] is None and data["map"] is None and "No pictures" in text


@pytest.mark.parametrize(
    ("env", "place"), [("cairn/LineKey-v0", True), ("cairn/HardMaze-v0", True), ("CartPole-v1", False), (ROOMS, True)]
)
def test_worlds_have_a_map_where_there_is_a_floor(env: str, place: bool, tmp_path: Path) -> None:
    data = check_page(inspect("task - 0.5", env, tmp_path / "page.html", episodes=2).read_text())
    assert (data["map"] is not None) == place and data["film"] is not None
    if place:
        counts = [count for _, _, count in data["map"]["cells"]]
        assert sum(counts) >= data["steps"] and all(m[1] == -0.5 for m in data["map"]["means"])


def test_a_grids_map_is_of_the_level_that_is_shown(tmp_path: Path) -> None:
    path = inspect("task", "cairn/MiniGrid-SimpleCrossingS9N1-v0", tmp_path / "page.html", episodes=2)
    data = check_page(path.read_text())
    visited = {(x, y) for x, y, _ in data["map"]["cells"]}
    assert {tuple(cell) for cell in data["map"]["path"]} - {tuple(data["map"]["path"][0])} <= visited
    assert data["map"]["episodes"] == 1 + ROUTES


def test_json_and_text_by_hand() -> None:
    assert embedded({"a": "</script>&\u2028"}) == '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    with pytest.raises(ValueError, match="JSON"):
        embedded([float("nan")])
    assert safe('<a href="x">\x00\'') == "&lt;a href=&quot;x&quot;&gt;&#x27;"
    text = document(EVIL, "<p>one</p>", {"name": EVIL}, [])
    assert check_page(text) == {"name": EVIL} and EVIL not in text


def test_film_keeps_equal_pictures_once() -> None:
    a, b = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)
    made = film([(0, a), (2, b), (4, a)], width=48)
    assert len(made["pictures"]) == 2 and made["frames"] == [[0, 0], [2, 1], [4, 0]]
    assert (made["width"], made["height"]) == (48, 32)
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    assert data_uri(noise).startswith("data:image/webp;base64,") and data_uri(a) != data_uri(b)


def test_correlations_by_hand() -> None:
    values = np.array([[1.0, 2.0, 5.0, 0.0], [2.0, 1.0, 5.0, 0.0], [3.0, 0.0, 5.0, 1.0]])
    found = correlations(values)
    assert found[0][1] == pytest.approx(-1.0) and found[0][2] is None and found[2][2] is None
    assert found[0][3] == pytest.approx(np.sqrt(3) / 2)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["inspect", "no-run"], "no-run"),
        (["inspect", "task +", "--env", ROOMS], "reward expression"),
        (["inspect", "task + 0.1*episodic_cont", "--env", ROOMS], "episodic_count"),
        (["inspect", "task", "--env", "cairn/FourRoms-v0"], "did you mean 'cairn/FourRooms-v0'?"),
        (["inspect", "task + 0.1*potential('distance')", "--env", ROOMS], "gives no fact 'distance'"),
        (["inspect", "task + 0.1*regulariser(temperature=1)", "--env", ROOMS], "log_prob"),
        (["inspect", "task", "--env", ROOMS, "--to", "no/folder/page.html"], "folder that exists"),
        (["inspect", "task", "--env", ROOMS, "--to", "."], "must be a file"),
        (["inspect", "task", "--env", ROOMS, "--actor", "robot"], "random, solver and scripted"),
        (["inspect", "task", "--env", ROOMS, "--episodes", "0"], "1 to 1000"),
        (["inspect", "task", "--env", "cairn/SimpleSpread-v0"], "team"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_a_mistake_gets_one_line(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and says in printed.err, printed.err
    assert not list(tmp_path.iterdir())


def test_broken_and_unfinished_runs(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --env"):
        inspect(run, ROOMS)
    broken = shutil.copytree(run, tmp_path / "broken")
    for file in broken.glob("checkpoints/*/*"):
        file.write_bytes(b"{")
    with pytest.raises(CheckpointError), pytest.warns(RuntimeWarning):
        inspect(broken)
    begun = shutil.copytree(run, tmp_path / "begun")
    shutil.rmtree(begun / "checkpoints")
    (begun / "latest").unlink()
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        inspect(begun)
    linked = shutil.copytree(run, tmp_path / "linked")
    (linked / "inspect.html").unlink(missing_ok=True)
    (linked / "inspect.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="link"):
        inspect(linked)


def test_the_random_streams_of_the_caller_are_left_alone(run: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state().clone()
    inspect("task", ROOMS, tmp_path / "page.html", episodes=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_runs_terms_come_with_what_they_learned(run: Path, tmp_path: Path) -> None:
    from cairn.agents.training import TrainConfig, train

    folder = tmp_path / "counted"
    settings = {"n_steps": 32, "batch_size": 64, "n_epochs": 1}
    train(TrainConfig(env=ROOMS, reward="task + count", steps=512, num_envs=4, run=str(folder), agent_args=settings))
    data = check_page(inspect(folder, episodes=2).read_text())
    pays = data["shares"][data["names"].index("count")]
    assert min(pays) < 0.5, "states that training saw are worth less"
    assert Run.open(folder).latest() is not None
