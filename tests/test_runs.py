"""Run folders and checkpoints in good times: what goes in comes out, bit for bit."""

import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cairn import runs
from cairn._store import tensors, versions
from cairn.runs import (
    CheckpointError,
    Constant,
    Cosine,
    Linear,
    Run,
    RunBusy,
    first_difference,
    name_of,
    pack,
    read_checkpoint,
    register,
    resolve,
    schedule_from_json,
    schedule_to_json,
    unpack,
    version_note,
    write_checkpoint,
)


def round_trip(folder: Path, state: Any) -> Any:
    write_checkpoint(folder, {}, state)
    return read_checkpoint(folder)[1]


# ---- leaves --------------------------------------------------------------------------------------------------

TORCH_DTYPES = [getattr(torch, names[2]) for names in tensors._DTYPES.values()]
NUMPY_DTYPES = [names[1] for names in tensors._DTYPES.values() if names[1]]


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_dtype_of_torch(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (6 * dtype.itemsize,), dtype=torch.uint8)
    value = raw.view(dtype).reshape(2, 3)  # every bit pattern, NaNs with payloads among them
    state = {"a": value, "scalar": value[0, 0], "none": value[:0], "columns": value.T, "every other": value[:, ::2]}
    back = round_trip(tmp_path / "c", state)
    assert first_difference(state, back) is None
    assert back["a"].dtype == dtype and back["scalar"].shape == () and back["none"].shape == (0, 3)
    assert back["columns"].is_contiguous() and back["a"].device.type == "cpu"


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_every_dtype_of_numpy(tmp_path: Path, dtype: str) -> None:
    value = np.arange(6).reshape(2, 3).astype(dtype)
    state = {"a": value, "scalar": value[1, 2, ...], "none": value[:0], "columns": value.T, "back": value[::-1]}
    back = round_trip(tmp_path / "c", state)
    assert first_difference(state, back) is None
    assert all(type(array) is np.ndarray for array in back.values()) and back["a"].dtype == np.dtype(dtype)
    back["a"][0, 0] = 1  # it can be written to


def test_tensors_in_odd_storage(tmp_path: Path) -> None:
    base = torch.randn(4, 4)
    state = {
        "shared": torch.arange(5).share_memory_(),
        "parameter": torch.nn.Parameter(base),
        "graph": (torch.nn.Parameter(base) * 2),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
        "negative": torch._neg_view(torch.randn(3)),
        "same": base,
        "same again": base,
        "other end": np.arange(3, dtype=">i4"),
        "read only": np.broadcast_to(np.float32(3), (2, 2)),
    }
    back = round_trip(tmp_path / "c", state)
    for key, value in state.items():
        assert type(back[key]) in (torch.Tensor, np.ndarray) and back[key].tolist() == value.tolist(), key
    assert not back["parameter"].requires_grad and type(back["parameter"]) is torch.Tensor
    assert back["other end"].dtype == np.dtype("<i4")
    back["same"].zero_()
    assert torch.equal(back["same again"], base)


def test_plain_leaves(tmp_path: Path) -> None:
    state = {
        "ints": [0, -1, 2**63 - 1, -(2**63), 2**63, 2**128 + 1, -(10**5000)],
        "floats": [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 1e22],
        "rest": [None, True, False, "", "ü\n\0\ud800", [], {}, [[]], [{}]],
        "$tensor": {"$$": 1, "$float": "nan", "": 2},
        "a.b": torch.ones(1),
        "a": {"b": torch.zeros(1)},
        "#0": torch.ones(2),
        "ö": torch.ones(3),
        "__metadata__": torch.ones(4),
        "x" * 300: torch.ones(5),
    }
    back = round_trip(tmp_path / "c", state)
    assert first_difference(state, back) is None
    assert type(back["rest"][1]) is bool and type(back["ints"][0]) is int
    assert math.copysign(1, back["floats"][1]) == -1


@pytest.mark.parametrize("state", [None, 3, "x", [], {}, [torch.ones(2)]], ids=repr)
def test_any_tree_is_a_state(tmp_path: Path, state: Any) -> None:
    assert first_difference(state, round_trip(tmp_path / "c", state)) is None
    assert round_trip(tmp_path / "d", torch.ones(2)).tolist() == [1, 1]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$int", "$"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(trees)
def test_any_plain_tree(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    assert first_difference(state, round_trip(tmp_path_factory.mktemp("tree") / "c", state)) is None


def test_generators_of_every_kind(tmp_path: Path) -> None:
    twister = np.random.Generator(np.random.MT19937(3))
    streams = [np.random.default_rng(1), twister, np.random.Generator(np.random.Philox(2))]
    torch_stream = torch.Generator().manual_seed(7)
    back = round_trip(
        tmp_path / "c",
        {"numpy": [s.bit_generator.state for s in streams], "torch": torch_stream.get_state()},
    )
    for stream, state in zip(streams, back["numpy"]):
        copy = np.random.Generator(type(stream.bit_generator)())
        copy.bit_generator.state = state
        assert np.array_equal(copy.random(5), stream.random(5))
    other = torch.Generator()
    other.set_state(back["torch"])
    assert torch.equal(torch.rand(5, generator=other), torch.rand(5, generator=torch_stream))


class Odd:
    pass


@pytest.mark.parametrize(
    ("leaf", "advice"),
    [
        ((1, 2), "make it a list"),
        ({1}, "sorted list"),
        (b"x", "np.frombuffer"),
        (np.float32(1), r"\.item\(\)"),
        (np.float64(1), r"\.item\(\)"),
        (np.bool_(True), r"\.item\(\)"),
        (torch.float32, "str"),
        (torch.device("cpu"), "str"),
        (Path("x"), "str"),
        (np.random.default_rng(0), "bit_generator.state"),
        (torch.Generator(), r"get_state\(\)"),
        (torch.nn.Tanh, "pack"),
        (len, "pack"),
        (Odd(), "numbers, text"),
        (np.array(["x"]), "safetensors lacks"),
        (np.array([object()]), "safetensors lacks"),
        (np.zeros(1, np.complex128), "safetensors lacks"),
        (np.ma.masked_array([1]), "numbers, text"),
        (torch.zeros(1, dtype=torch.complex128), "safetensors lacks"),
        (torch.zeros(2, 2).to_sparse(), "dense"),
        (torch.zeros(2, device="meta"), "dense"),
        ({1: 2}, r"key 1.*str\(key\)"),
    ],
    ids=lambda leaf: type(leaf).__name__,
)
def test_what_cannot_be_saved_is_named_with_its_place(tmp_path: Path, leaf: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=r"policy\.layers\[3\]\.x.*" + advice):
        write_checkpoint(tmp_path / "c", {}, {"policy": {"layers": [0, 1, 2, {"x": leaf}]}})
    assert list(tmp_path.iterdir()) == []


def test_circles_and_depths(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="break the circle"):
        write_checkpoint(tmp_path / "c", {}, circle)
    deep: Any = 1
    for _ in range(50):
        deep = {"a": [deep]} if isinstance(deep, int) else [deep]
    assert first_difference(deep, round_trip(tmp_path / "d", deep)) is None


def test_a_meta_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="meta.a.b is an array"):
        write_checkpoint(tmp_path / "c", {"a": {"b": torch.ones(1)}}, {})
    write_checkpoint(tmp_path / "c", OrderedDict(b=1, a=[math.inf]), OrderedDict(z=1))
    assert read_checkpoint(tmp_path / "c") == ({"b": 1, "a": [math.inf]}, {"z": 1})


# ---- files ---------------------------------------------------------------------------------------------------


def test_safetensors_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    state = {
        "a": torch.randn(3, 2),
        "b": torch.tensor(True),
        "c": torch.ones(5, dtype=torch.bfloat16),
        "d": torch.empty(0),
    }
    write_checkpoint(tmp_path / "c", {}, state)
    where = tmp_path / "c" / "tensors.safetensors"
    assert first_difference(state, {key: load_file(where)[key] for key in state}) is None
    save_file(state, tmp_path / "theirs")
    file, size = runs.files.open_regular(tmp_path / "theirs", "theirs")
    with file:
        found, _ = tensors.read_tensors(file, size, dict.fromkeys(state, "$tensor"), where)
    assert first_difference(state, {key: found[key] for key in state}) is None


def test_equal_trees_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, {"x": 1}, {"w": torch.arange(6).reshape(2, 3).T, "n": [1.5]})
    for name in ("manifest.json", "state.json", "tensors.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_checkpoint_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "deep" / "model", {"n": 1}, {})
    with pytest.raises(FileExistsError, match="model exists"):
        write_checkpoint(tmp_path / "deep" / "model", {"n": 2}, {})
    write_checkpoint(tmp_path / "deep" / "model", {"n": 2}, {}, replace=True)
    assert read_checkpoint(tmp_path / "deep" / "model") == ({"n": 2}, {})
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "model")
    for name in ("precious", "precious/file", "link"):
        with pytest.raises(FileExistsError, match="no checkpoint"):
            write_checkpoint(tmp_path / name, {}, {}, replace=True)
    assert (tmp_path / "precious" / "file").exists()
    assert sorted(os.listdir(tmp_path / "deep")) == ["model"]


def test_first_difference_names_the_place() -> None:
    state = {"a": [torch.zeros(2), {"b": 1.0}]}
    cases: list[tuple[Any, str]] = [
        ({"a": [torch.tensor([0.0, -0.0]), {"b": 1.0}]}, r"a\[0\]: other values"),
        ({"a": [torch.zeros(2, dtype=torch.int64), {"b": 1.0}]}, r"a\[0\]: .*int64"),
        ({"a": [np.zeros(2, np.float32), {"b": 1.0}]}, r"a\[0\]: Tensor and ndarray"),
        ({"a": [torch.zeros(2), {"b": 1}]}, r"a\[1\]\.b: float and int"),
        ({"a": [torch.zeros(2), {"b": 1.0, "c": 2}]}, r"a\[1\]: other keys \(\['c'\]\)"),
        ({"a": [torch.zeros(2)]}, "a: 2 and 1 items"),
        ([1], "the tree"),
    ]
    for other, match in cases:
        assert re.search(match, str(first_difference(state, other)))
    assert first_difference({"a": 1, "b": 2}, {"b": 2, "a": 1}) is not None
    nan = float("nan")
    assert first_difference([nan, torch.tensor(nan)], [nan, torch.tensor(nan)]) is None
    assert first_difference([0.0], [-0.0]) is not None


def test_import_without_torch() -> None:
    code = "import sys, cairn.runs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- runs ----------------------------------------------------------------------------------------------------


def test_a_run_from_its_making_to_its_resuming(tmp_path: Path) -> None:
    config = {"env": "CartPole-v1", "gamma": 0.99, "clip": math.inf, "kwargs": {"a": [1, None]}}
    with Run.create(tmp_path / "deep" / "run", config) as run:
        assert run.latest() is None and run.metrics() == []
        for step in (0, 100):
            run.log(
                step, {"return": torch.tensor(1.5), "loss": np.float32(0.5), "ok": True, "nan": math.nan, "note": "x"}
            )
            run.save(step, {"agent": "ppo"}, {"w": torch.ones(2) * step})
        run.log(150, {"return": 2})
    again = Run.open(tmp_path / "deep" / "run")
    assert again.config == config and again.versions["torch"] == torch.__version__
    loaded = again.latest()
    assert loaded is not None
    step, meta, state = loaded
    assert step == 100 and meta["agent"] == "ppo" and torch.equal(state["w"], torch.full((2,), 100.0))
    assert [row["step"] for row in again.metrics()] == [0, 100, 150]
    again.resume_metrics(meta)
    assert again.metrics()[1] == {"step": 100, "return": 1.5, "loss": 0.5, "ok": True, "nan": None, "note": "x"}
    assert [row["step"] for row in again.metrics()] == [0, 100]
    again.log(120, {})
    again.save(120, {}, {})
    assert (tmp_path / "deep" / "run" / "latest").read_text() == "120\n"
    again.close()


def test_retention(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}, keep=2) as run:
        for step in (0, 9, 10, 100, 100):
            run.save(step, {}, {})
        assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["100", "100.1"]
        assert (tmp_path / "run" / "latest").read_text() == "100.1\n"
    with Run.open(tmp_path / "run", keep=1) as run:
        run.save(50, {}, {})  # earlier than what is there, which is left from another attempt
        assert os.listdir(tmp_path / "run" / "checkpoints") == ["50"]
    with Run.open(tmp_path / "run", keep=2) as run:
        run.save(100, {}, {})
        run.save(70, {}, {})  # 50 is this attempt's, 100 is not
        assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["50", "70"]
    with pytest.raises(ValueError, match="at least one"):
        Run.open(tmp_path / "run", keep=0)


def test_damaged_checkpoints_are_passed_over_and_deleted_first(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        for step in (1, 2, 3):
            run.log(step, {})
            run.save(step, {}, {"w": torch.full((3,), float(step))})
    os.truncate(tmp_path / "run" / "checkpoints" / "3" / "tensors.safetensors", 50)
    (tmp_path / "run" / "checkpoints" / "2" / "state.json").unlink()
    with Run.open(tmp_path / "run") as run:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loaded = run.latest()
        assert loaded is not None and loaded[0] == 1 and loaded[2]["w"].tolist() == [1, 1, 1]
        assert "3/tensors.safetensors: has 50 bytes" in str(said[0].message)
        assert "2/state.json: is missing" in str(said[1].message) and len(said) == 2
        run.resume_metrics(loaded[1])
        assert run.metrics() == [{"step": 1}]
        run.save(2, {}, {"w": torch.zeros(3)})
        run.save(4, {}, {"w": torch.zeros(3)})
        assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["1", "2.1", "4"]
    for step in ("1", "2.1", "4"):
        (tmp_path / "run" / "checkpoints" / step / "manifest.json").write_text("{}")
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        Run.open(tmp_path / "run").latest()


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_metrics_that_no_longer_fit_are_set_aside(tmp_path: Path, damage: str) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.log(1, {"x": 1})
        run.log(2, {"x": 2})
        run.save(2, {}, {})
    where = tmp_path / "run" / "metrics.jsonl"
    text = where.read_text()
    if damage == "missing":
        where.unlink()
    else:
        where.write_text({"cut": text[:-3], "changed": text.replace("1", "7")}[damage])
    for i in (1, 2):
        with Run.open(tmp_path / "run") as run:
            loaded = run.latest()
            assert loaded is not None
            with pytest.warns(RuntimeWarning, match=f"is now metrics-damaged-{i}"):
                run.resume_metrics(loaded[1])
            run.log(3, {"x": 3})
            assert run.metrics() == [{"step": 3, "x": 3}]
    with Run.open(tmp_path / "run") as run:
        run.save(3, {}, {})
        loaded = run.latest()
        assert loaded is not None
        run.log(4, {})
        run.resume_metrics(loaded[1])  # and from there on it fits
        assert [row["step"] for row in run.metrics()] == [3]
        run.resume_metrics(None)
        assert run.metrics() == []


def test_rows_are_there_at_once_and_whole(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.log(1, {"x": 0.1})
        where = tmp_path / "run" / "metrics.jsonl"
        assert json.loads(where.read_text()) == {"step": 1, "x": 0.1}
        with where.open("a") as file:
            file.write('{"step": 2, "x"')  # as a kill leaves it
        assert Run.open(tmp_path / "run").metrics() == [{"step": 1, "x": 0.1}]
        with pytest.raises(ValueError, match="another name"):
            run.log(1, {"step": 2})
        with pytest.raises((TypeError, ValueError)):
            run.log(1, {"x": [1, 2]})


def test_what_create_refuses(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {}).close()
    with pytest.raises(FileExistsError, match=r"cairn resume .*run`, or choose another"):
        Run.create(tmp_path / "run", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        Run.create(tmp_path / "full", {})
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]
    with pytest.raises(FileExistsError, match="is a file"):
        Run.create(tmp_path / "full" / "thesis.tex", {})
    with pytest.raises(TypeError, match="optimizer.betas is a builtins.tuple.*make it a list"):
        Run.create(tmp_path / "other", {"optimizer": {"betas": (1, 2)}})
    with pytest.raises(TypeError, match="weights is an array"):
        Run.create(tmp_path / "other", {"weights": np.ones(2)})
    assert not (tmp_path / "other").exists()
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", {}).close()


def test_what_open_refuses(tmp_path: Path) -> None:
    Run.create(tmp_path / "doorkey", {}).close()
    with pytest.raises(CheckpointError, match=r"is no run.*did you mean .*doorkey'\?"):
        Run.open(tmp_path / "dorkey")
    with pytest.raises(CheckpointError, match="is no run.*cairn train"):
        Run.open(tmp_path)


def test_what_save_refuses(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        for step in (-1, 10**18):
            with pytest.raises(ValueError, match="from 0"):
                run.save(step, {}, {})
        with pytest.raises(ValueError, match="'run' is taken"):
            run.save(1, {"run": 1}, {})
        with pytest.raises(TypeError):
            run.save(1.5, {}, {})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a is a builtins.tuple"):
            run.save(1, {}, {"a": ()})
        assert run.latest() is None


def test_one_trainer_at_a_time_and_any_number_of_readers(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}) as run:
        run.save(1, {}, {"w": 1})
        (tmp_path / "run" / "checkpoints" / ".tmp-being-written").mkdir()
        other = Run.open(tmp_path / "run")
        for act in (
            other.claim,
            lambda: other.log(1, {}),
            lambda: other.save(1, {}, {}),
            lambda: other.resume_metrics(None),
        ):
            with pytest.raises(RunBusy, match=f"by process {os.getpid()}.*close the other Run"):
                act()
        loaded = other.latest()
        assert loaded is not None and loaded[2] == {"w": 1}
        assert (tmp_path / "run" / "checkpoints" / ".tmp-being-written").exists()  # a reader leaves it alone
    code = (
        "import sys; from cairn.runs import Run\n"
        "with Run.open(sys.argv[1]) as run: run.claim(); print('mine', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdin is not None and child.stdout.readline() == "mine\n"
        assert not (tmp_path / "run" / "checkpoints" / ".tmp-being-written").exists()
        with pytest.raises(RunBusy, match=f"by process {child.pid}"):
            other.claim()
        child.kill()  # the kernel lets go of the lock
        child.wait()
        other.claim()
        other.claim()
    other.close()
    other.close()


def test_a_reader_follows_a_trainer_that_prunes(tmp_path: Path) -> None:
    """What ``latest`` named may be gone when it is read: then the new one is taken, not an old one."""
    with Run.create(tmp_path / "run", {}, keep=1) as run:
        run.save(1, {}, {"w": 1})
        reader = Run.open(tmp_path / "run")
        read = reader._read

        def late(name: str) -> Any:
            if name == "1":
                run.save(2, {}, {"w": 2})
            return read(name)

        reader._read = late  # type: ignore[method-assign]
        with pytest.warns(RuntimeWarning, match="1: does not exist"):
            loaded = reader.latest()
        assert loaded is not None and loaded[0] == 2


# ---- names ---------------------------------------------------------------------------------------------------


def test_schedules() -> None:
    from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

    assert [Linear(1.0, 0.5, 0.5)(p) for p in (1.0, 0.75, 0.5, 0.25, 0.0)] == [1.0, 0.75, 0.5, 0.5, 0.5]
    assert [round(Cosine(1.0, 0.0)(p), 12) for p in (1.0, 0.5, 0.0)] == [1.0, 0.5, 0.0]
    assert Constant(0.1)(0.3) == 0.1
    for schedule, made in [
        (3e-4, Constant(3e-4)),
        (1, Constant(1.0)),
        (Linear(1.0, 0.1, 0.7), Linear(1.0, 0.1, 0.7)),
        (Cosine(1.0), Cosine(1.0)),
        (ConstantSchedule(0.2), Constant(0.2)),
        (FloatSchedule(0.2), Constant(0.2)),
        (FloatSchedule(LinearSchedule(1.0, 0.1, 0.5)), Linear(1.0, 0.1, 0.5)),
    ]:
        back = schedule_from_json(json.loads(json.dumps(schedule_to_json(schedule))))
        assert back == made
        if callable(schedule):
            assert all(math.isclose(back(p / 10), schedule(p / 10)) for p in range(11))
    with pytest.raises(TypeError, match="function of your own"):
        schedule_to_json(lambda progress: progress)
    with pytest.raises(TypeError, match="function of your own"):
        schedule_to_json(FloatSchedule(lambda progress: progress))


def test_policy_kwargs_come_back() -> None:
    from stable_baselines3.common.torch_layers import NatureCNN

    kwargs = {
        "net_arch": {"pi": [64, 64], "vf": [32]},
        "activation_fn": torch.nn.Tanh,
        "optimizer_class": torch.optim.AdamW,
        "optimizer_kwargs": {"betas": (0.9, 0.99), "eps": 1e-5},
        "features_extractor_class": NatureCNN,
        "lr": Linear(1e-3),
    }
    packed = pack(kwargs)
    assert packed["activation_fn"] == {"$name": ["activation", "Tanh"]}
    assert unpack(packed) == kwargs
    with pytest.raises(TypeError, match="begin with"):
        pack({"$name": 1})


def test_packed_arguments_pass_through_a_checkpoint(tmp_path: Path) -> None:
    packed = pack({"betas": (0.9, [torch.nn.ReLU]), "w": torch.ones(2)})
    back = unpack(round_trip(tmp_path / "c", packed))
    assert back["betas"] == (0.9, [torch.nn.ReLU]) and torch.equal(back["w"], torch.ones(2))


def test_registered_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from cairn._store import names

    monkeypatch.setattr(names, "_registered", {})
    assert register("extractor", "Odd", Odd) is Odd
    assert register("extractor", "Odd", Odd) is Odd
    assert resolve("extractor", "Odd") is Odd and name_of(Odd) == ("extractor", "Odd")
    assert unpack(pack([Odd])) == [Odd]
    assert "Odd" in runs.names("extractor") and "NatureCNN" in runs.names("extractor")
    with pytest.raises(ValueError, match="registered already"):
        register("extractor", "Odd", int)
    with pytest.raises(ValueError, match="built in"):
        register("activation", "Tanh", Odd)
    with pytest.raises(CheckpointError, match="did you mean 'Tanh'"):
        resolve("activation", "tanh")
    assert resolve("activation", "Tanh", {"Tanh": Odd}) is Odd  # what the user hands over goes first
    assert name_of(int) is None
    fake = type("Tanh", (), {})
    assert name_of(fake) is None  # a namesake is not the built-in one


def test_every_built_in_name_is_there() -> None:
    for kind in ("activation", "optimizer", "extractor"):
        for name in runs.names(kind):
            assert name_of(resolve(kind, name)) == (kind, name)


# ---- versions ------------------------------------------------------------------------------------------------


def test_versions_and_their_note() -> None:
    now = runs.versions()
    assert now["torch"] == torch.__version__ and now["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(now)) == now
    assert version_note(now) is None
    note = version_note({**now, "torch": "1.0", "threads": 64, "mujoco": None})
    assert note is not None and "\n" not in note
    assert f"torch 1.0 -> {torch.__version__}" in note and "threads 64 -> 1" in note and "mujoco" not in note
    assert version_note({}) is None and version_note(None) is None
    assert versions.versions()["cairn"] == now["cairn"]
