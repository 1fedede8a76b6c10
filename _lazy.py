"""Packages that import their public names on first use (PEP 562), so that ``import cairn`` stays light."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep Python's collector from walking through large packages again and again while they are imported.

    Torch, Stable-Baselines3, Warp and minigrid together take a fifth less time so. Next to nothing dies meanwhile.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def exports(package: str, table: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make a package's ``__getattr__``, ``__dir__`` and ``__all__`` from a table.

    Args:
        package: The package's ``__name__``.
        table: Public name to the submodule (relative, without the dot) that defines it.

    Returns:
        The functions and the list to bind in the package.
    """

    def __getattr__(name: str) -> Any:
        if name in table:
            with collector_at_rest():
                module = import_module(f"{package}.{table[name]}")
            return getattr(module, name)
        if name.startswith("_"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        near = get_close_matches(name, table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")

    return __getattr__, lambda: sorted(table), sorted(table)
