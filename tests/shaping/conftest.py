"""Shared by the tests of compiled loops."""

from typing import Any

import pytest

from cairn.shaping import fast


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a function with and without compiled loops."""

    def both(f: Any) -> tuple[Any, Any]:
        compiled = f()
        with monkeypatch.context() as patch:
            patch.setattr(fast, "LEAST", 1 << 60)
            return compiled, f()

    return both
