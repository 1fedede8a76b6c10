"""What every test of the physics shares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cairn.envs.physics import engine, native
from cairn.envs.physics.loop import Loop
from cairn.envs.physics.native import Shards


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes MUJOCO_LOG.TXT into the working directory, for upstream's half_cheetah.xml among others."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def without_batch_api(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and engines made from then on step in Python, as with a MuJoCo that has no batch API."""

    def unavailable(*args: Any) -> None:
        raise NotImplementedError

    return lambda: monkeypatch.setattr(engine, "Shards", unavailable)


@pytest.fixture(params=["compiled", "python"])
def way(request: pytest.FixtureRequest, without_batch_api: Callable[[], None]) -> type[Loop | Shards]:
    """Engines made in this test take one of the two ways: the class that steps them."""
    if request.param == "python":
        without_batch_api()
        return Loop
    if native._library() is None:
        pytest.skip("this MuJoCo has no batch API")
    return Shards
