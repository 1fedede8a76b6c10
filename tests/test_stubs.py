"""Lazy exports have stubs, which type checkers read, and each stub says what its table says.

That a wrong call is then caught is `make types`' business: it gives tests/typed_user.py to mypy.
"""

import ast
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from cairn.benchmarks.render_stubs import lazy_packages, render

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [".".join(["cairn", *path.relative_to(ROOT).parts[:-1]]) for path in lazy_packages(ROOT)]


def stub_of(package: str) -> Path:
    return ROOT.joinpath(*package.split(".")[1:], "__init__.pyi")


def test_every_package_that_exports_lazily_is_found() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    files = [stub_of(package).with_suffix(".py") for package in packages]
    lazy = {path for path in files if "_lazy import exports" in path.read_text()}
    assert lazy and {ROOT / "__init__.py", *lazy} == set(lazy_packages(ROOT))
    assert {"cairn", "cairn.agents", "cairn.envs", "cairn.shaping"} <= set(PACKAGES)
    assert (ROOT / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_stub_is_made_from_the_table(package: str) -> None:
    stub = stub_of(package)
    assert stub.exists() and stub.read_text() == render(stub.with_suffix(".py").read_text()), (
        f"{stub.relative_to(ROOT)} is out of date: run python benchmarks/render_stubs.py"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_what_the_stub_says_is_what_the_package_gives(package: str) -> None:
    """By the stub's own imports, and not by the script that wrote them."""
    made, told = import_module(package), {}
    for node in ast.parse(stub_of(package).read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1
            for name in node.names:
                assert name.asname == name.name, "without `as`, a stub does not export a name"
                home = import_module(f"{package}.{node.module or name.name}")
                told[name.name] = getattr(home, name.name) if node.module else home
        else:
            assert isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            assert hasattr(made, node.target.id)
    assert set(told) == set(made.__all__)
    assert all(getattr(made, name) is thing for name, thing in told.items())


def test_a_stub_by_hand() -> None:
    source = '''
"""Doc."""
from .._lazy import exports
TABLE: dict[str, int] = {"a": 1}
VERSION = "1"
__getattr__, __dir__, __all__ = exports(__name__, {"b": "x.y", "B": "x.y", "BE": "x.y", "a": "w"})
'''
    assert render(source).splitlines()[2:] == [
        "from .w import a as a",
        "from .x.y import BE as BE",
        "from .x.y import B as B",
        "from .x.y import b as b",
        "",
        "TABLE: dict[str, int]",
        "VERSION: str",
    ]
    with pytest.raises(ValueError, match="put it in a module"):
        render(source + "def helper() -> None: ...\n")
    with pytest.raises(ValueError, match="literal table"):
        render("def __getattr__(name: str) -> int: ...\n")


def test_mypy_is_given_a_users_file() -> None:
    assert "mypy --explicit-package-bases tests/typed_user.py" in (ROOT / "Makefile").read_text()
    assert (ROOT / "tests" / "typed_user.py").exists()
