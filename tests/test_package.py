"""The package as a user gets it: what the wheel holds, that it installs, and what importing it costs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The root of the repository is the package, so a module that strays there would ship with it.
ROOT_MODULES = {"__init__.py", "__main__.py", "_lazy.py", "runs.py"}
NOT_SHIPPED = {"tests", "examples", "build", "dist", "docs"}


def tracked_code() -> list[Path]:
    """Every Python file of the tree that git tracks or would track, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listing.stdout.splitlines() if (ROOT / line).exists()]


def shipped() -> list[Path]:
    return [path for path in tracked_code() if path.parts[0] not in NOT_SHIPPED]


def test_every_folder_of_code_is_a_listed_package() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(["cairn", *path.parent.parts]) for path in shipped()}
    assert found == listed, "add the folder to [tool.setuptools] packages in pyproject.toml (or remove it)"


def test_no_stray_module_at_the_root() -> None:
    at_root = {path.name for path in shipped() if len(path.parts) == 1}
    assert at_root <= ROOT_MODULES, f"move {at_root - ROOT_MODULES} into a room, or name it in ROOT_MODULES"


def test_constraints_pin_every_requirement_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[name.lower().replace("_", "-")] = version
    wanted = [*project["dependencies"], *(r for rs in project["optional-dependencies"].values() for r in rs)]
    names = {r.split("[")[0].split(">")[0].split("=")[0].split("<")[0].lower() for r in wanted} - {"cairn-rl"}
    assert names - set(pins) == set()
    assert pins["torch"] == "2.13.0"


def test_version_is_told_once() -> None:
    import cairn

    assert cairn.__version__ == (ROOT / "VERSION").read_text().strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: a build folder beside the sources would be picked up by the next build.
    source = tmp_path_factory.mktemp("source") / "cairn-rl"
    for path in [
        *tracked_code(),
        *map(Path, ("pyproject.toml", "README.md", "LICENSE", "VERSION")),
    ]:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    for path in shipped_data():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    (source / "stray_notes").mkdir()
    (source / "stray_notes" / "left_over.py").write_text("raise ImportError('not a part of the package')\n")
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("cairn_rl-*.whl"))


def shipped_data() -> list[Path]:
    """Data files that the package list names."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = []
    for named, patterns in setup["package-data"].items():
        for package in setup["packages"] if named == "*" else [named]:
            folder = ROOT.joinpath(*package.split(".")[1:])
            files += [path.relative_to(ROOT) for pattern in patterns for path in folder.glob(pattern)]
    return files


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {f"cairn/{path.as_posix()}" for path in [*shipped(), *shipped_data()]}
    assert inside == expected


def test_wheel_installs_and_imports_elsewhere(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next((venv / "lib").glob("python3*/site-packages"))
    # The new environment sees this one's packages, but not its editable install of cairn: a folder that a
    # .pth file adds has its own .pth files ignored.
    here = Path(pytest.__file__).resolve().parents[1]
    (site / "outer.pth").write_text(f"{here}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-warn-script-location", str(wheel)], check=True)
    code = "import cairn, gymnasium; print(cairn.__file__); gymnasium.spec('cairn/MiniGrid-DoorKey-8x8-v0')"
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
    tool = subprocess.run([str(venv / "bin" / "cairn"), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert tool.returncode == 0 and "train" in tool.stdout, tool.stderr


def test_import_is_light_and_silent() -> None:
    code = (
        "import sys, cairn\n"
        "heavy = {'torch', 'warp', 'mujoco', 'ribs', 'minigrid', 'stable_baselines3', 'matplotlib', 'pygame'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""


def test_an_unknown_name_is_met_with_the_nearest_one() -> None:
    import cairn.agents

    with pytest.raises(AttributeError, match="did you mean 'PPO'"):
        cairn.agents.PPOO  # noqa: B018
