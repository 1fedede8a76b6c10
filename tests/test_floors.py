"""The floors of the house: nothing imports upward, and there are no circles between rooms, nor between files."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each room may import itself and the rooms named here.
STANDS_ON: dict[str, set[str]] = {
    "_lazy": set(),
    "_store": {"envs"},
    "runs": {"_store", "envs"},
    "envs": {"_lazy"},
    "shaping": {"_lazy", "envs"},
    "agents": {"_lazy", "envs", "shaping", "runs"},
    "qd": {"_lazy", "envs", "shaping", "runs", "agents"},
    "pages": {"_lazy", "envs", "shaping", "runs", "agents", "qd", "benchmarks"},
    "cli": {"_lazy", "envs", "shaping", "runs", "agents", "qd", "pages", "benchmarks"},
    "__init__": {"envs"},
    "__main__": {"cli"},
}
# Files that import each other, later or sooner, because one makes the other: the batch's view of itself in NumPy wraps
# the batch; terms are added and multiplied into terms, which read their operands from text and write themselves as it.
MAKES: set[tuple[str, str]] = {
    ("envs.batch", "envs.numpy_view"),
    ("shaping.term", "shaping.ops"),
    ("shaping.term", "shaping.grammar"),
    ("shaping.ops", "shaping.grammar"),
}


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def modules() -> list[Path]:
    # Benchmarks are scripts that use the package from outside, as a user does.
    outside = ("tests", "benchmarks")
    folders = [p for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists() and p.name not in outside]
    return sorted([*ROOT.glob("*.py"), *(f for d in folders for f in d.rglob("*.py"))])


def rooms_imported(path: Path) -> set[str]:
    """Rooms that a module imports relatively, at its top or inside functions, type-only imports included."""
    package = ("cairn", *path.relative_to(ROOT).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = (*base, *(node.module.split(".") if node.module else []))
            if len(target) == 1:
                rooms |= {alias.name for alias in node.names}
            else:
                rooms.add(target[1])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cairn":
            raise AssertionError(f"{path}: inside the package imports are relative")
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    assert room in STANDS_ON, f"say in STANDS_ON which floor {room} is on"
    assert rooms_imported(path) - {room} <= STANDS_ON[room]


def files_imported(path: Path) -> set[str]:
    """Files that a module imports relatively, type-only imports and those inside functions included."""
    package = ("cairn", *path.relative_to(ROOT).parts[:-1])
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[1 : len(package) - node.level + 1], *(node.module.split(".") if node.module else []))
            for alias in node.names:
                inner = (*base, alias.name)
                files.add(".".join(inner if ROOT.joinpath(*inner).with_suffix(".py").exists() else base))
    return files


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_circles_between_files() -> None:
    graph = {name_of(path): files_imported(path) - {name_of(path)} for path in modules()}
    for maker, made in MAKES:
        assert made in graph[maker], f"{maker} imports {made} no more: take the pair out of MAKES"
        graph[maker].discard(made)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        raise AssertionError(f"{circle}: move what both need to where both can have it") from None
