"""Checkpoints and runs that someone made to harm: each is refused, nothing is imported, nothing is run.

Forgeries are signed again, so that what stands behind the sha256 is tested, too: whoever can change a file can
change the manifest.
"""

import io
import json
import os
import pickle
import random
import re
import struct
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from cairn._store import checkpoint, files, tensors
from cairn.runs import (
    CheckpointError,
    Run,
    check_env_id,
    check_env_kwargs,
    first_difference,
    pack,
    read_checkpoint,
    resolve,
    schedule_from_json,
    unpack,
    write_checkpoint,
)

STATE = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "count": np.arange(4),
    "mask": torch.tensor([True, False]),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "big": 2**100,
    "list": [1, 0.5, None, "text", float("inf")],
}

_events: list[str] | None = None
FORBIDDEN = (
    "import",
    "exec",
    "compile",
    "pickle.find_class",
    "marshal.loads",
    "os.",
    "subprocess.",
    "ctypes.",
    "socket.",
)
HARMLESS = ("os.listdir", "os.scandir")


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _events is not None and event.startswith(FORBIDDEN) and event not in HARMLESS:
        _events.append(f"{event} {args!r:.200}")


sys.addaudithook(_audit)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """No import, no code, no process, no link, no deletion, and little memory."""
    global _events
    modules = set(sys.modules)
    tracemalloc.start()
    _events = []
    try:
        yield
    finally:
        seen, _events = _events, None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seen == []
    assert set(sys.modules) == modules
    assert peak < 4 << 20, f"{peak} bytes were taken"


def refused(path: Path, match: str) -> None:
    """Reading ``path`` raises one line that names the file, and does nothing else."""
    with nothing_runs():
        try:
            read_checkpoint(path)
            error = None
        except CheckpointError as caught:
            error = caught
    assert error is not None, "it was accepted"
    assert re.search(match, str(error)), error
    assert path.name in str(error) and "\n" not in str(error) and len(str(error)) < 600, error


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {MARK}",)


MARK = Path(tempfile.gettempdir()) / f"cairn-bomb-{os.getpid()}"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    write_checkpoint(path, {"step": 1}, STATE)
    return path


def sign(path: Path) -> None:
    """Make the manifest true again."""
    lines = {}
    for name in ("tensors.safetensors", "state.json"):
        data = (path / name).read_bytes()
        lines[name] = {"size": len(data), "sha256": sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps({"format": "cairn-checkpoint", "version": 1, "files": lines}))


def forge_state(path: Path, text: str | bytes) -> None:
    (path / "state.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    sign(path)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    data = (path / "tensors.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def forge_tensors(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = struct.pack("<Q", len(text) if length is None else length)
    (path / "tensors.safetensors").write_bytes(start + text + data)
    sign(path)


def test_the_forger_makes_what_the_writer_makes(saved: Path) -> None:
    header, data = parts(saved)
    forge_tensors(saved, header, data)
    forge_state(saved, (saved / "state.json").read_bytes())
    assert first_difference(STATE, read_checkpoint(saved)[1]) is None


def test_the_guard_sees_what_it_forbids() -> None:
    with pytest.raises(AssertionError, match="pickle.find_class"), nothing_runs():
        pickle.loads(pickle.dumps(os.getcwd))
    with pytest.raises(AssertionError, match="bytes were taken"), nothing_runs():
        bytearray(8 << 20)


# ---- pickles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
def test_pickled_data_in_place_of_a_file(saved: Path, name: str) -> None:
    (saved / name).write_bytes(pickle.dumps(Bomb()))
    refused(saved, name.replace(".", r"\."))
    if name != "manifest.json":
        sign(saved)
        refused(saved, name.replace(".", r"\."))
    assert not MARK.exists()


def test_pickled_data_beside_the_files(saved: Path) -> None:
    (saved / "data.pkl").write_bytes(pickle.dumps(Bomb()))
    refused(saved, r"data\.pkl: does not belong")


def test_archives_of_torch_and_stable_baselines(tmp_path: Path, saved: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, buffer)
    (tmp_path / "model.pt").write_bytes(buffer.getvalue())
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", pickle.dumps(Bomb()))
    refused(tmp_path / "model.pt", "pickled code and are never opened")
    refused(tmp_path / "model.zip", "pickled code and are never opened")
    (saved / "tensors.safetensors").write_bytes(buffer.getvalue())
    sign(saved)
    refused(saved, "header")


# ---- the manifest --------------------------------------------------------------------------------------------

GOOD = {"size": 1, "sha256": "0" * 64}
LISTS = {"tensors.safetensors": GOOD, "state.json": GOOD}


def manifest(**changes: Any) -> str:
    return json.dumps({"format": "cairn-checkpoint", "version": 1, "files": LISTS, **changes})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not the JSON"),
        ("[]", "not the manifest"),
        ("null", "not the manifest"),
        ("NaN", "NaN is not JSON"),
        ('{"format": "cairn-checkpoint", "format": "cairn-checkpoint"}', "twice"),
        ("[" * 5000 + "]" * 5000, "nested more than"),
        (" " * (1 << 17), "more than the"),
        (manifest(format="other"), "not the manifest"),
        (manifest(version=2), "version 2, and this Cairn reads 1"),
        (manifest(version=True), "version True"),
        (manifest(version="1"), "version"),
        (manifest(extra=1), "nothing else"),
        (manifest(files=[]), "must list"),
        (manifest(files={**LISTS, "../../x": GOOD}), "must list"),
        (manifest(files={"/etc/passwd": GOOD, "state.json": GOOD}), "must list"),
        (manifest(files={**LISTS, "state.json": "x"}), "a size and a sha256"),
        (manifest(files={**LISTS, "state.json": {**GOOD, "link": "x"}}), "a size and a sha256"),
        (manifest(files={**LISTS, "state.json": {"size": 1, "sha256": None}}), "a size and a sha256"),
        *(
            (manifest(files={**LISTS, "state.json": {**GOOD, "size": size}}), "a size that is none")
            for size in (-1, True, 1.0, "1", 1 << 40)
        ),
        (manifest(files={**LISTS, "tensors.safetensors": {**GOOD, "size": 1 << 60}}), "cannot hold"),
        (manifest(files={**LISTS, "state.json": {**GOOD, "size": 10**30}}), "not the JSON|a size that is none"),
    ],
)
def test_a_manifest_that_lies(saved: Path, text: str, match: str) -> None:
    (saved / "manifest.json").write_text(text)
    refused(saved, r"manifest\.json.*" + match)


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("change", ["size", "sha256", "cut", "longer", "missing", "empty"])
def test_a_manifest_and_a_file_that_disagree(saved: Path, name: str, change: str) -> None:
    where, data = saved / name, (saved / name).read_bytes()
    plain = json.loads((saved / "manifest.json").read_text())
    if change == "size":
        plain["files"][name]["size"] += 1
    elif change == "sha256":
        plain["files"][name]["sha256"] = "0" * 64
    elif change == "missing":
        where.unlink()
    else:
        where.write_bytes({"cut": data[:-1], "longer": data + b"\0", "empty": b""}[change])
    (saved / "manifest.json").write_text(json.dumps(plain))
    refused(saved, re.escape(name))


# ---- the state -----------------------------------------------------------------------------------------------


def state(inner: str, meta: str = "{}") -> str:
    return f'{{"meta": {meta}, "state": {inner}}}'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not the JSON"),
        ("{}", "must hold meta"),
        (state("1", "[]"), "must hold meta"),
        ('{"meta": {}, "state": 1, "code": "x"}', "must hold meta"),
        ('{"meta": {}, "state": 1, "state": 2}', "twice"),
        (state('{"a": 1, "a": 2}'), "twice"),
        (state("NaN"), "NaN"),
        (state("Infinity"), "Infinity"),
        (state("-Infinity"), "Infinity"),
        (state("1e999"), "too large"),
        (state("9" * 100_000), "digits"),
        (state("[" * 65 + "]" * 65), "nested more than"),
        (state("[" * 500_000), "nested more than"),
        (state('{"a":' * 100_000), "nested more than"),
        (state('"' + '\\"[' * 1000), "not the JSON"),
        (b'{"meta": {}, "state": "\xff"}', "not the JSON"),
        (b"\xff\xfe" + state("1").encode("utf-16-le"), "not the JSON"),
        (state('{"$import": "os"}'), r"mark '\$import'"),
        (state('{"$pickle": "gASV"}'), r"mark '\$pickle'"),
        (state('{"$float": "1.5"}'), r"mark '\$float'"),
        (state('{"$float": 1}'), r"mark '\$float'"),
        (state('{"$int": "12"}'), r"mark '\$int'"),
        (state('{"$int": "0xzz"}'), r"mark '\$int'"),
        (state('{"$int": "0x1", "b": 1}'), r"mark '\$int'"),
        (state('{"b": 1, "$int": "0x1"}'), r"among other keys"),
        (state('{"$tensor": 5}'), "not by text"),
        (state('[{"$tensor": "weight"}, {"$tensor": "weight"}]'), "twice"),
        (state('[{"$tensor": "weight"}, {"$array": "weight"}]'), "twice"),
        (state('{"$tensor": "weight"}'), "disagree about the tensor"),
        (state('{"$tensor": "no such"}'), "disagree about the tensor"),
        (state("1"), "disagree about the tensor"),
    ],
)
def test_a_state_that_is_none(saved: Path, text: str | bytes, match: str) -> None:
    if "mark" in match or "among" in match:
        forge_tensors(saved, {}, b"")  # or the tensors it does not name are found first
    forge_state(saved, text)
    refused(saved, match)


def test_a_tensor_in_the_meta(saved: Path) -> None:
    plain = json.loads((saved / "state.json").read_text())
    for inner in ({"$tensor": "weight"}, {"$array": "../weight"}, {"$tensor": ["weight"]}):
        forge_state(saved, json.dumps({"meta": {"x": inner}, "state": plain["state"]}))
        refused(saved, "mark")


def test_more_values_than_a_state_may_have(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_JSON_NODES", 1000)
    forge_state(saved, state("[" + "1," * 2000 + "1]"))
    refused(saved, "more than the 1000 JSON values")
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 300)
    refused(saved, "manifest.json: gives state.json a size")
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 100)
    with pytest.raises(ValueError, match="more than the 100 allowed"):  # a writer makes no file it cannot read
        write_checkpoint(saved.with_name("other"), {}, STATE)


def test_an_array_of_what_numpy_lacks(saved: Path) -> None:
    forge_state(saved, (saved / "state.json").read_text().replace('{"$tensor": "half"}', '{"$array": "half"}'))
    refused(saved, "dtype that NumPy lacks")


# ---- tensors -------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def changed(key: str, **values: Any) -> Change:
    return lambda header: header[key].update(values)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (changed("weight", dtype="F128"), "unknown dtype"),
        (changed("weight", dtype="object"), "unknown dtype"),
        (changed("weight", dtype=["F32"]), "unknown dtype"),
        (changed("weight", dtype=None), "unknown dtype"),
        (changed("weight", dtype="F64"), "spans 24 bytes, but its shape takes 48"),
        (changed("weight", dtype="U8"), "spans 24 bytes, but its shape takes 6"),
        (changed("weight", shape=[2, 4]), "spans 24 bytes, but its shape takes 32"),
        (changed("weight", shape=[-2, -3]), "a shape that is none"),
        (changed("weight", shape=[2.0, 3]), "a shape that is none"),
        (changed("weight", shape=[True, 6]), "a shape that is none"),
        (changed("weight", shape="23"), "a shape that is none"),
        (changed("weight", shape=[1] * 33 + [6]), "a shape that is none"),
        (changed("weight", shape=[2**61, 2**61]), "elements"),
        (changed("weight", shape=[0, 2**61]), "elements"),
        (changed("weight", shape=[2**62]), "a shape that is none"),
        (changed("weight", data_offsets=[0, 24, 48]), "two whole numbers"),
        (changed("weight", data_offsets=[-24, 0]), "two whole numbers"),
        (changed("weight", data_offsets=[0.0, 24.0]), "two whole numbers"),
        (changed("weight", data_offsets=[0, 24]), "overlaps"),
        (changed("weight", data_offsets=[24, 0]), "spans"),
        (changed("weight", data_offsets=[40, 64]), "gap|overlaps"),
        (changed("weight", data_offsets=[10**12, 10**12 + 24]), "gap"),
        (changed("mask", data_offsets=[100, 102]), "gap"),
        (changed("weight", code="import os"), "lacks dtype, shape or data_offsets, or has more"),
        (lambda header: header.update(weight=[]), "lacks dtype"),
        (lambda header: header["weight"].pop("dtype"), "lacks dtype"),
        (lambda header: header.pop("mask"), "describes"),
        (lambda header: header.pop("weight"), "gap"),
        (lambda header: header.update(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}), "disagree"),
        (lambda header: header.update(a=1), "lacks dtype"),
    ],
)
def test_headers_that_lie(saved: Path, change: Change, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*args: Any) -> Any:
        raise AssertionError("memory was taken before the header was checked")

    monkeypatch.setattr(tensors, "_empty", taken)
    header, data = parts(saved)
    change(header)
    forge_tensors(saved, header, data)
    refused(saved, r"tensors\.safetensors.*" + f"({match})")


@pytest.mark.parametrize(
    ("header", "length", "match"),
    [
        (b"{}", 2**63, "says its header has"),
        (b"{}", 2**64 - 1, "says its header has"),
        (b"{}", 3, "says its header has"),
        (b"", 0, "not the JSON"),
        (b"[]", None, "not an object"),
        (b"NaN", None, "NaN"),
        (b"[" * 100_000, None, "nested"),
        (b'{"weight": ' * 100_000, None, "nested"),
        (pickle.dumps(Bomb()), None, "not the JSON"),
        (b'{"weight": {}, "weight": {}}', None, "twice"),
    ],
    # Named here: a name made of the pickle would hold this process's number, and xdist wants the same names in each.
    ids=["2**63", "2**64-1", "short", "empty", "list", "nan", "deep list", "deep dict", "pickle", "twice"],
)
def test_headers_that_are_none(saved: Path, header: bytes, length: int | None, match: str) -> None:
    forge_tensors(saved, header, b"", length)
    refused(saved, r"tensors\.safetensors.*" + match)


def test_a_file_too_short_for_a_header(saved: Path) -> None:
    for size in (0, 1, 7):
        (saved / "tensors.safetensors").write_bytes(b"\0" * size)
        sign(saved)
        refused(saved, "too few for a header")


def test_too_many_tensors(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_TENSORS", 50)
    forge_tensors(saved, {str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(51)}, b"")
    refused(saved, "names 51 tensors")


def test_a_huge_sparse_file_takes_no_memory(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of holes costs its maker nothing."""
    monkeypatch.setattr(checkpoint, "_memory", lambda: 1 << 30)
    plain = json.loads((saved / "manifest.json").read_text())
    plain["files"]["tensors.safetensors"]["size"] = 1 << 40
    (saved / "manifest.json").write_text(json.dumps(plain))
    os.truncate(saved / "tensors.safetensors", 1 << 40)
    refused(saved, "cannot hold")
    plain["files"]["tensors.safetensors"]["size"] = 1 << 29  # allowed, but the header describes less
    (saved / "manifest.json").write_text(json.dumps(plain))
    os.truncate(saved / "tensors.safetensors", 1 << 29)
    refused(saved, "the header describes")


def test_a_truth_value_that_is_neither(saved: Path) -> None:
    header, data = parts(saved)
    begin = header["mask"]["data_offsets"][0]
    forge_tensors(saved, header, data[:begin] + b"\x02" + data[begin + 1 :])
    refused(saved, "truth value")


# ---- the folder ----------------------------------------------------------------------------------------------


def test_links_are_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    refused(tmp_path / "link", "is a link")
    for name in ("manifest.json", "state.json", "tensors.safetensors"):
        (saved / name).rename(tmp_path / name)
        (saved / name).symlink_to(tmp_path / name)
        refused(saved, rf"{name}: is a link")
        (saved / name).unlink()
        (tmp_path / name).rename(saved / name)
    read_checkpoint(saved)


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
def test_pipes_and_folders_in_place_of_files(saved: Path, name: str) -> None:
    (saved / name).unlink()
    os.mkfifo(saved / name)  # opening it for reading would wait for ever
    refused(saved, "not a regular file")
    (saved / name).unlink()
    (saved / name).mkdir()
    refused(saved, "not a regular file")


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"manifest\.json: is missing")
    Run.create(tmp_path / "run", {}).close()
    refused(tmp_path / "run", "is a run, not a checkpoint")


# ---- at random -----------------------------------------------------------------------------------------------

NAMES = ["manifest.json", "state.json", "tensors.safetensors"]


def damaged(data: bytes, dice: random.Random) -> bytes:
    data = bytearray(data)
    kind = dice.randrange(4)
    at = dice.randrange(len(data))
    if kind == 0:
        data[at] ^= 1 << dice.randrange(8)
    elif kind == 1:
        data[at] = dice.choice(b'0129-{}[]",:\\ $eE.')
    elif kind == 2:
        del data[at : at + dice.randrange(1, 20)]
    else:
        data[at:at] = bytes(dice.choices(b'[]{}",:0123456789e-. $\0\xff', k=dice.randrange(1, 5)))
    return bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_random_damage_is_seen_or_harmless(saved: Path, name: str) -> None:
    dice, original = random.Random(0), (saved / name).read_bytes()
    seen = 0
    for _ in range(400):
        (saved / name).write_bytes(damaged(original, dice))
        try:
            meta, found = read_checkpoint(saved)
        except CheckpointError:
            seen += 1
        else:
            assert meta == {"step": 1} and first_difference(STATE, found) is None
    assert seen > 200


@pytest.mark.parametrize("name", NAMES[1:])
def test_random_forgeries_raise_nothing_else(saved: Path, name: str) -> None:
    """Signed again, damage reaches the parsers: they answer with a CheckpointError or a tree of plain values."""
    dice, original = random.Random(1), (saved / name).read_bytes()
    seen = 0
    for _ in range(600):
        # The header, where the file's structure is, more often than the data behind it.
        (saved / name).write_bytes(damaged(original, dice))
        sign(saved)
        try:
            read_checkpoint(saved)
        except CheckpointError as error:
            seen += 1
            assert str(saved) in str(error)
    assert seen > 100


# ---- names ---------------------------------------------------------------------------------------------------


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a mark when it is imported."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists() and "evil" not in sys.modules


@pytest.mark.parametrize(
    ("env_id", "match"),
    [
        ("evil:CartPole-v1", "names a module to import"),
        ("evil:cairn/MiniGrid-DoorKey-8x8-v0", "names a module to import"),
        (":CartPole-v1", "names a module to import"),
        ("evil.sub:CartPole-v1", "names a module to import"),
        ("CartPole-v9", "did you mean 'CartPole-v1'"),
        ("MiniGrid-DorKey-8x8-v0", "did you mean '.*MiniGrid-DoorKey-8x8-v0'"),
        ("../CartPole-v1", "is not registered"),
        ("/etc/passwd", "not an environment's id"),
        ("CartPole-v1\n", "not an environment's id"),
        ("", "not an environment's id"),
        ("a" * 10_000, "not an environment's id"),
        (["CartPole-v1"], "not an environment's id"),
        (None, "not an environment's id"),
    ],
)
def test_ids_that_are_none(evil: Path, env_id: Any, match: str) -> None:
    with nothing_runs(), pytest.raises(CheckpointError, match=match):
        check_env_id(env_id)


def test_the_evil_module_would_have_been_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why ids with a colon are refused: without the check, this is what happens."""
    (tmp_path / "evil_twin.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    gymnasium.make("evil_twin:CartPole-v1").close()
    assert (tmp_path / "mark").exists()
    sys.modules.pop("evil_twin")


def test_ids_that_are_there() -> None:
    assert check_env_id("CartPole-v1") == "CartPole-v1"
    assert check_env_id("cairn/MiniGrid-DoorKey-8x8-v0") == "cairn/MiniGrid-DoorKey-8x8-v0"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"xml_file": "/etc/passwd"},
        {"xml_file": "ant.xml"},
        {"xml_file": "ANT.XML"},
        {"model": "..\\evil"},
        {"model": "C:evil"},
        {"model": "~root"},
        {"model": "a\0b"},
        {"entry": "evil:make"},
        {"url": "http://example.org"},
        {"deep": [{"a": ["x/y"]}]},
        {"deep": {"x/y": 1}},
        {"entry_point": "evil"},
        {"vector_entry_point": 1},
        {"__class__": 1},
        {"a b": 1},
        {"a": b"x"},
        {"a": list(range(2000))},
        {"a": [[[[[[[[[[1]]]]]]]]]]},
        ["x"],
        "x",
    ],
)
def test_arguments_that_read_as_paths(evil: Path, kwargs: Any) -> None:
    with nothing_runs(), pytest.raises(CheckpointError):
        check_env_kwargs(kwargs)


def test_plain_arguments_pass() -> None:
    kwargs = {"max_steps": 100, "render_mode": "rgb_array", "sizes": [1, 2.5, None], "flag": True, "o": {"k": "v1.5"}}
    assert check_env_kwargs(kwargs) is kwargs


@pytest.mark.parametrize(
    "name",
    ["os.system", "os:system", "torch.nn.Tanh", "tanh", "__import__", "", "../Tanh", None, ["Tanh"], {"a": 1}, "eval"],
)
def test_names_that_are_none(evil: Path, name: Any) -> None:
    with nothing_runs():
        for kind in ("activation", "optimizer", "no such kind", "__class__"):
            with pytest.raises(CheckpointError, match="is not known"):
                resolve(kind, name)


@pytest.mark.parametrize(
    "packed",
    [
        {"$name": ["object", "evil"]},
        {"$name": ["activation", "evil:Tanh"]},
        {"$name": "Tanh"},
        {"$name": ["activation"]},
        {"$name": [["activation"], ["Tanh"]]},
        {"$import": "evil"},
        {"$tuple": "evil"},
        {"$tuple": [1], "more": 1},
        {"$schedule": {"schedule": "lambda", "value": 1}},
        {"$schedule": {"schedule": "constant", "value": "1"}},
        {"$schedule": {"schedule": "constant", "value": True}},
        {"$schedule": {"schedule": "constant", "value": float("nan")}},
        {"$schedule": {"schedule": "linear", "start": 1, "end": 0, "fraction": 0}},
        {"$schedule": {"schedule": "constant", "value": 1, "code": 1}},
        {"$schedule": ["constant", 1]},
    ],
)
def test_arguments_that_cannot_be_unpacked(evil: Path, packed: Any) -> None:
    with nothing_runs(), pytest.raises(CheckpointError):
        unpack({"x": [packed]})


def test_a_name_from_a_file_finds_only_what_it_was_given() -> None:
    class Mine:
        pass

    packed = pack({"features_extractor_class": Mine})
    with pytest.raises(CheckpointError, match=r"custom_objects=\{'Mine'"):
        unpack(packed)
    assert unpack(packed, {"Mine": Mine}) == {"features_extractor_class": Mine}
    with pytest.raises(CheckpointError, match="constant, linear, cosine"):
        schedule_from_json({"schedule": "exec"})


# ---- runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Run.create(tmp_path / "run", {"env": "CartPole-v1"}) as made:
        for step in (10, 20):
            made.log(step, {"x": 1})
            made.save(step, {}, {"w": torch.full((3,), float(step))})
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not the JSON"),
        ("[]", "not the configuration"),
        ('{"format": "cairn-run", "version": 9, "config": {}, "versions": {}}', "version 9"),
        ('{"format": "cairn-run", "version": 1, "config": {}}', "must hold"),
        ('{"format": "cairn-run", "version": 1, "config": [], "versions": {}}', "must hold"),
        ('{"format": "cairn-run", "version": 1, "config": {"$tensor": "x"}, "versions": {}}', "mark"),
        ('{"format": "cairn-run", "version": 1, "config": {"$int": "0x1"}, "versions": {}}', "not an object"),
        ('{"format": "cairn-run", "format": "cairn-run"}', "twice"),
        ("[" * 1000, "nested"),
        (" " * (2 << 20), "more than the"),
    ],
)
def test_configurations_that_are_none(run: Path, text: str, match: str) -> None:
    (run / "config.json").write_text(text)
    with nothing_runs(), pytest.raises(CheckpointError, match=r"config\.json.*" + match):
        Run.open(run)


def test_a_linked_configuration(run: Path, tmp_path: Path) -> None:
    (run / "config.json").rename(tmp_path / "elsewhere.json")
    (run / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match="is a link"):
        Run.open(run)


@pytest.mark.parametrize(
    "text", ["../../x", "/etc", "20/../10", "", "x" * 1000, "-1", "0020", "20.0", "２０", "20\n10"]
)
def test_a_latest_that_points_elsewhere(run: Path, text: str) -> None:
    (run / "latest").write_text(text)
    with pytest.warns(RuntimeWarning, match="latest"):
        loaded = Run.open(run).latest()
    assert loaded is not None and loaded[0] == 20


def test_linked_folders_and_files(run: Path, tmp_path: Path) -> None:
    (run / "latest").unlink()
    (run / "latest").symlink_to("/etc/hostname")
    with pytest.warns(RuntimeWarning, match="latest: is a link"):
        assert Run.open(run).latest()
    (run / "latest").unlink()
    (run / "checkpoints" / "20").rename(tmp_path / "20")
    (run / "checkpoints" / "20").symlink_to(tmp_path / "20")
    with pytest.warns(RuntimeWarning, match="is a link"):
        loaded = Run.open(run).latest()
    assert loaded is not None and loaded[0] == 10
    (run / "checkpoints").rename(tmp_path / "checkpoints")
    (run / "checkpoints").symlink_to(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="checkpoints: is a link"):
        Run.open(run).latest()
    with Run.open(run) as opened, pytest.raises(CheckpointError, match="is a link"):
        opened.save(30, {}, {})


@pytest.mark.parametrize("name", ["metrics.jsonl", ".lock"])
def test_what_is_written_is_no_link(run: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (run / name).unlink()
    (run / name).symlink_to(precious)
    with Run.open(run) as opened:
        with pytest.raises(CheckpointError, match="is a link"):
            opened.log(30, {})
        with pytest.raises(CheckpointError, match="is a link"):
            opened.resume_metrics(None)
    assert precious.read_text() == "keep me"


def test_leftovers_that_are_links_take_nothing_with_them(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    (run / ".tmp-link").symlink_to(tmp_path / "precious")
    (run / ".tmp-folder").mkdir()
    (run / ".tmp-folder" / "inner").symlink_to(tmp_path / "precious")
    with Run.open(run) as opened:
        opened.claim()
    assert not list(run.glob(".tmp*"))
    assert (tmp_path / "precious" / "file").read_text() == "keep me"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "..", "../x", "a/../../x", "", ".", "a\\b", "a\0b", "checkpoints/../../x", "out/x"]
)
def test_paths_that_lead_out(run: Path, tmp_path: Path, name: str) -> None:
    (run / "out").symlink_to(tmp_path)
    with pytest.raises(CheckpointError):
        Run.open(run).path(name)


def test_paths_that_stay_inside(run: Path) -> None:
    opened = Run.open(run)
    assert opened.path("report/curve.png") == run / "report" / "curve.png"
    assert opened.path("./play.mp4") == run / "play.mp4"


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"run": 1},
        {"run": {"step": 20}},
        {"run": {"step": 20, "metrics": {"bytes": -1, "sha256": ""}}},
        {"run": {"step": 20, "metrics": {"bytes": True, "sha256": ""}}},
        {"run": {"step": 20, "metrics": {"bytes": 10**15, "sha256": ""}}},
        {"run": {"step": 20, "metrics": {"bytes": 0, "sha256": 5}}},
        {"run": {"step": 10, "metrics": {"bytes": 0, "sha256": ""}}},
        {"run": {"step": 20.0, "metrics": {"bytes": 0, "sha256": ""}}},
    ],
)
def test_a_foreign_checkpoint_in_a_run(run: Path, meta: dict[str, Any]) -> None:
    write_checkpoint(run / "checkpoints" / "20", meta, {"evil": 1}, replace=True)
    with pytest.warns(RuntimeWarning, match="20: is .* Trying the checkpoint before it"):
        loaded = Run.open(run).latest()
    assert loaded is not None and loaded[0] == 10


def test_metrics_that_are_none(run: Path) -> None:
    for text, match in (("[1]\n", "not a row"), ("NaN\n", "line 1"), ('{"a": 1}\n[[\n', "line 2")):
        (run / "metrics.jsonl").write_text(text)
        with pytest.raises(CheckpointError, match=match):
            Run.open(run).metrics()
