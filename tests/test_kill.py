"""``kill -9`` and a full disk in front of every step of the checkpoint writer: the old state or the new, exactly.

The killing is done by this file run as a script: it imports torch once and forks a child for each step, which
kills itself there. The full disk needs no child.
"""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cairn._store import files
from cairn.runs import CheckpointError, Run, first_difference, read_checkpoint, write_checkpoint

SPACE = {"mkdir", "create", "write", "fsync", "rename"}  # steps that a full disk can refuse


def tree(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(5, 7, generator=generator),
        "mask": torch.arange(9) % 2 == 0,
        "stream": generator.get_state(),
        "key": np.arange(20, dtype=np.uint32) * seed,
        "position": 2**127 + seed,
        "log": [0.1 * seed, float("inf"), None, "x"],
    }


def stop_at(k: int, stop: Callable[[str, str], None]) -> list[str]:
    """Call ``stop`` in front of step k from here; the returned list fills with the steps taken."""
    taken: list[str] = []

    def hook(what: str, path: str) -> None:
        taken.append(f"{what} {Path(path).name}")
        if len(taken) == k + 1:
            stop(what, path)

    files.on_step = hook
    return taken


def die(what: str, path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(act: Callable[[], None], k: int) -> bool:
    """Do ``act`` in a child that dies in front of its step k; whether it died."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            stop_at(k, die)
            act()
            code = 0
        except BaseException as error:
            print(f"step {k}: {error!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the child failed in front of step {k}"
    return os.WIFSIGNALED(status)


def every_step(act: Callable[[Path], None], check: Callable[[Path, bool], str], base: Path | None) -> list[str]:
    """Kill ``act`` in front of each of its steps, each time on a fresh copy of ``base``; what ``check`` made of it."""
    found = []
    for k in range(10_000):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "run"
            if base is not None:
                shutil.copytree(base, folder)
            died = forked(lambda folder=folder: act(folder), k)
            found.append(check(folder, died))
            if not died:
                return found
    raise AssertionError("no end of steps")


def base_run(folder: Path) -> None:
    with Run.create(folder, {"seed": 3}, keep=2) as run:
        for step in (10, 20, 30):
            run.log(step, {"return": step / 7})
            run.save(step, {"note": step}, tree(step))
        run.log(35, {"return": 5.0})  # past the checkpoint


def save_forty(folder: Path) -> None:
    with Run.open(folder, keep=2) as run:
        run.log(40, {"return": 40 / 7})
        run.save(40, {"note": 40}, tree(40))


def check_run(folder: Path, died: bool) -> str:
    """The run is at 30 or 40, exactly, without a warning, and goes on."""
    with Run.open(folder, keep=2) as run:
        loaded = run.latest()
        assert loaded is not None
        step, meta, state = loaded
        assert step in (30, 40) and meta["note"] == step
        assert first_difference(tree(step), state) is None
        assert died or step == 40
        run.resume_metrics(meta)
        for whole in (folder / "checkpoints").glob("[0-9]*"):  # also those on their way out
            read_checkpoint(whole)
        rows = [{"step": s, "return": s / 7} for s in (10, 20, 30)]
        if step == 40:
            rows += [{"step": 35, "return": 5.0}, {"step": 40, "return": 40 / 7}]
        assert run.metrics() == rows
        left = [p.name for p in [*folder.iterdir(), *(folder / "checkpoints").iterdir()]]
        assert not [name for name in left if name.startswith(".tmp")], left
        run.save(50, {"note": 50}, tree(50))
        again = run.latest()
        assert again is not None and again[0] == 50 and first_difference(tree(50), again[2]) is None
        assert len(list((folder / "checkpoints").iterdir())) == 2
    return "new" if step == 40 else "old"


def make_run(folder: Path) -> None:
    Run.create(folder, {"seed": 3, "list": [1, 2.5]}).close()


def check_made(folder: Path, died: bool) -> str:
    if (folder / "config.json").exists():
        assert Run.open(folder).config == {"seed": 3, "list": [1, 2.5]}
        with pytest.raises(FileExistsError):
            Run.create(folder, {})
        return "new"
    assert died
    make_run(folder)
    return "old"


def first_save(folder: Path) -> None:
    with Run.open(folder) as run:
        run.save(0, {}, tree(1))


def check_first(folder: Path, died: bool) -> str:
    with Run.open(folder) as run:
        loaded = run.latest()
        assert loaded is not None or died
        assert loaded is None or first_difference(tree(1), loaded[2]) is None
        run.resume_metrics(loaded and loaded[1])
        run.save(0, {}, tree(2))
        again = run.latest()
        assert again is not None and first_difference(tree(2), again[2]) is None
    return "old" if loaded is None else "new"


def replace_model(folder: Path) -> None:
    write_checkpoint(folder / "model", {"n": 2}, tree(2), replace=True)


def check_model(folder: Path, died: bool) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between the two renames it says that it reads the old one
        meta, state = read_checkpoint(folder / "model")
    assert meta["n"] in (1, 2) and first_difference(tree(meta["n"]), state) is None
    assert died or meta["n"] == 2
    write_checkpoint(folder / "model", {"n": 3}, tree(3), replace=True)
    assert read_checkpoint(folder / "model")[0] == {"n": 3}
    assert not (folder / ".old-model").exists()
    return "old" if meta["n"] == 1 else "new"


def train(folder: Path, until: int) -> None:
    """A training in small: its noise, weights and log depend on everything before."""
    run = Run.open(folder, keep=2) if (folder / "config.json").exists() else Run.create(folder, {}, keep=2)
    with run:
        loaded = run.latest()
        generator, weight, step = torch.Generator().manual_seed(5), torch.zeros(4), 0
        if loaded is not None:
            step, _, state = loaded
            generator.set_state(state["stream"])
            weight = state["weight"]
        run.resume_metrics(loaded and loaded[1])
        while step < until:
            step += 1
            weight = 0.9 * weight + torch.randn(4, generator=generator)
            run.log(step, {"weight": float(weight.sum())})
            if step % 3 == 0 or step == until:
                run.save(step, {}, {"stream": generator.get_state(), "weight": weight})


def whole(folder: Path) -> tuple[Any, bytes]:
    return Run.open(folder).latest(), (folder / "metrics.jsonl").read_bytes()


def random_kills(folder: Path) -> int:
    """Kill a training again and again, a few steps further each time; the end is the undisturbed one's."""
    train(folder / "whole", 20)
    expected, rows = whole(folder / "whole")
    kills = 0
    for stride in (61, 71, 83, 97, 131):  # a save takes about forty steps
        killed = folder / f"killed-{stride}"
        while forked(lambda killed=killed: train(killed, 20), stride):
            kills += 1
            assert kills < 100, "the training does not get on"
        found, found_rows = whole(killed)
        assert first_difference(list(expected), list(found)) is None
        assert rows == found_rows
    return kills


def disk_limit(folder: Path) -> None:
    """The kernel itself stops a write half way: ``RLIMIT_FSIZE`` cuts it short, then refuses."""
    base_run(folder)
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            files.CHUNK = 1 << 20
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
            try:
                with Run.open(folder, keep=2) as run:
                    run.save(40, {}, tree(40))
            except OSError as error:
                code = 0 if error.errno == errno.EFBIG and "intact" in str(error) else 2
        os._exit(code)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
    assert check_run(folder, True) == "old"


def main(folder: Path) -> None:
    files.CHUNK = 512  # so that a file takes several writes, and can be torn between them
    warnings.simplefilter("error")
    report: dict[str, Any] = {}
    base_run(folder / "base")
    report["save"] = every_step(save_forty, check_run, folder / "base")
    report["create"] = every_step(make_run, check_made, None)
    make_run(folder / "fresh")
    report["first save"] = every_step(first_save, check_first, folder / "fresh")
    write_checkpoint(folder / "models" / "model", {"n": 1}, tree(1))
    report["replace"] = every_step(replace_model, check_model, folder / "models")
    report["random kills"] = random_kills(folder)
    disk_limit(folder / "limit")
    print(json.dumps(report))


def test_kill_at_every_step(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for act, least in {"save": 35, "create": 6, "first save": 25, "replace": 25}.items():
        found = report[act]
        assert len(found) >= least, f"{act} has only {len(found)} steps: are they still announced?"
        turn = found.index("new")  # before one step it is all old, after it all new
        assert found == ["old"] * turn + ["new"] * (len(found) - turn), found
        assert 0 < turn < len(found)
    assert report["random kills"] >= 10


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(files, "on_step", None)
    monkeypatch.setattr(files, "CHUNK", 512)
    return monkeypatch


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from there on"])
def test_full_disk_at_every_step(tmp_path: Path, hooked: pytest.MonkeyPatch, lasting: bool) -> None:
    base_run(tmp_path / "base")
    outcomes = []
    for k in range(10_000):
        folder = tmp_path / str(k)
        shutil.copytree(tmp_path / "base", folder)
        count, refused = 0, 0

        def full(what: str, path: str, k: int = k) -> None:
            nonlocal count, refused
            count += 1
            if count == k + 1 or (lasting and count > k and what in SPACE):
                refused += 1
                raise OSError(errno.ENOSPC, "No space left on device", path)

        with Run.open(folder, keep=2) as run:
            run.claim()
            files.on_step = full
            try:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    run.log(40, {"return": 40 / 7})
                    run.save(40, {"note": 40}, tree(40))
                outcome = "saved" if not said else "saved, not tidied"
            except OSError as error:
                outcome = "refused"
                assert error.errno == errno.ENOSPC and "intact" in str(error), error
            files.on_step = None
            loaded = run.latest()
            assert loaded is not None and first_difference(tree(loaded[0]), loaded[2]) is None
            assert loaded[0] == 40 if outcome != "refused" else loaded[0] in (30, 40)
            if outcome == "refused":  # the same run goes on once there is space
                if run.metrics()[-1]["step"] != 40:
                    run.log(40, {"return": 40 / 7})
                run.save(40, {"note": 40}, tree(40))
        assert check_run(folder, False) == "new"
        outcomes.append(outcome)
        shutil.rmtree(folder)
        if not refused:
            break
    assert outcomes.count("refused") >= 30 and "saved, not tidied" in outcomes and outcomes[-1] == "saved"


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, hooked: pytest.MonkeyPatch) -> None:
    hooked.setattr(files, "CHUNK", 8)

    def full(what: str, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with Run.create(tmp_path / "run", {}) as run:
        run.log(1, {"x": 1.0})
        stop_at(1, full)  # in front of the row's second eight bytes
        with pytest.raises(OSError, match="rows before"):
            run.log(2, {"x": 2.0})
        files.on_step = None
        run.log(3, {"x": 3.0})
        assert run.metrics() == [{"step": 1, "x": 1.0}, {"step": 3, "x": 3.0}]


def test_full_disk_while_a_run_is_made(tmp_path: Path, hooked: pytest.MonkeyPatch) -> None:
    for k in range(100):
        folder = tmp_path / str(k)

        def full(what: str, path: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", path)

        taken = stop_at(k, full)
        try:
            make_run(folder)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        files.on_step = None
        check_made(folder, True)
        if len(taken) <= k:
            return
    raise AssertionError("no end of steps")


def test_everything_is_on_the_disk_before_it_is_named(tmp_path: Path, hooked: pytest.MonkeyPatch) -> None:
    """What a power cut would take: a file without fsync, a name without its folder's fsync."""
    base_run(tmp_path / "run")
    steps: list[tuple[str, Path]] = []
    hooked.setattr(files, "on_step", lambda what, path: steps.append((what, Path(path))))
    with Run.open(tmp_path / "run", keep=2) as run:
        run.log(40, {})
        run.save(40, {}, tree(40))
    for i, (what, path) in enumerate(steps):
        if what in ("create", "write"):  # a later fsync of the same file, before any rename to a lasting name
            rest = steps[i + 1 :]
            synced = rest.index(("fsync", path))
            lasting = [n for n, (w, p) in enumerate(rest) if w == "rename" and not p.name.startswith(".tmp")]
            assert synced < lasting[0], (what, path)
    names = [(what, path.name) for what, path in steps]
    folder = next(path for what, path in steps if what == "mkdir")
    order = [
        names.index(("fsync", "metrics.jsonl")),
        names.index(("create", "manifest.json")),
        names.index(("fsync", folder.name)),
        names.index(("rename", "40")),
        names.index(("fsync", "checkpoints")),
        names.index(("rename", "latest")),
        names.index(("fsync", "run")),
        names.index(("unlink", "manifest.json")),  # the oldest goes last
    ]
    assert order == sorted(order), names


def test_an_interrupted_save_leaves_nothing(tmp_path: Path, hooked: pytest.MonkeyPatch) -> None:
    base_run(tmp_path / "run")

    def interrupt(what: str, path: str) -> None:
        raise KeyboardInterrupt

    with Run.open(tmp_path / "run", keep=2) as run:
        run.claim()
        stop_at(12, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.save(40, {"note": 40}, tree(40))
        files.on_step = None
        assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["20", "30"]
    assert check_run(tmp_path / "run", True) == "old"


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker forked by a trainer that is then killed must not stop anyone from resuming."""
    run = Run.create(tmp_path / "run", {})
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go[1])
        os.write(ready[1], b".")
        os.read(go[0], 1)  # alive until the parent closes its end
        os._exit(0)
    os.read(ready[0], 1)
    assert run._lock is not None
    os.close(run._lock)  # as the kernel does for a killed process, which says nothing before
    run._lock = None
    try:
        with Run.open(tmp_path / "run") as again:
            again.claim()
    finally:
        for fd in (*ready, *go):
            os.close(fd)
        os.waitpid(pid, 0)


def test_kill_script_sees_a_writer_that_is_not_atomic(tmp_path: Path, hooked: pytest.MonkeyPatch) -> None:
    """The checks above can fail: a writer that renames before it writes is caught."""
    base_run(tmp_path / "run")
    target = tmp_path / "run" / "checkpoints" / "40"
    target.mkdir()
    (target / "manifest.json").write_text("{")
    (tmp_path / "run" / "latest").write_text("40\n")
    with pytest.raises((AssertionError, CheckpointError, RuntimeWarning)), warnings.catch_warnings():
        warnings.simplefilter("error")
        check_run(tmp_path / "run", True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
