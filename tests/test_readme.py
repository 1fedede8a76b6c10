"""The README and the page of results tell the truth: tables are the suite's own, links lead somewhere, code runs."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "results" / "README.md"]


def renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_readme", ROOT / "benchmarks" / "render_readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_what_the_suite_has() -> None:
    render = renderer()
    assert [page.resolve() for page in render.PAGES] == [page.resolve() for page in PAGES]
    for page in PAGES:
        assert "<!-- table:" in page.read_text()
        assert render.render(page.read_text()) == page.read_text(), "run python benchmarks/render_readme.py"


@pytest.mark.parametrize("page", PAGES, ids=["readme", "results"])
def test_links_and_pictures_are_there(page: Path) -> None:
    found = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", page.read_text())
    places = [one or other for one, other in found if not (one or other).startswith("http")]
    assert places and [place for place in places if not (page.parent / place).exists()] == []


def test_a_stale_table_is_seen() -> None:
    stale = README.replace("| `task` |", "| `tusk` |")
    assert stale != README and renderer().render(stale) == README


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_blocks_of_code_run_and_the_agent_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks run in order, as a reader would type them; the first one's agent solves fresh levels."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    first, *others = blocks()
    exec(compile(first, "README.md", "exec"), scope)
    model, env = scope["model"], scope["env"]
    assert (tmp_path / "doorkey").is_dir()
    assert 0 <= int(scope["action"]) < 7

    import gymnasium as gym

    from cairn.agents.evaluation import evaluate_batch

    fresh = gym.make_vec(env.spec.id, num_envs=100, device="cpu")
    result = evaluate_batch(lambda obs: model.policy(obs)[0], fresh, 100, seed=987654321)
    assert result.return_mean >= 0.9 and result.success >= 0.95, result
    for block in others:
        exec(compile(block, "README.md", "exec"), scope)
