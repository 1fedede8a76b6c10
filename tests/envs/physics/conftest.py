"""What every test of the physics shares."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes MUJOCO_LOG.TXT into the working directory, for upstream's half_cheetah.xml among others."""
    monkeypatch.chdir(tmp_path)
