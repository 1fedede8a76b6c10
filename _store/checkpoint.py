"""Checkpoints: one folder with a manifest, a tree of plain values in JSON, and tensors in safetensors.

::

    manifest.json         format, version; size and sha256 of the other two
    state.json            {"meta": ..., "state": ...}, arrays and tensors named by key
    tensors.safetensors   their values

What may be saved is an allowlist, and nothing in a file can name code to import or run.
"""

import os
import warnings
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import files
from .files import fault
from .tensors import MAX_HEADER_BYTES, read_tensors, serialize
from .tree import Decoder, Encoder

FORMAT, VERSION = "cairn-checkpoint", 1
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
MAX_MANIFEST_BYTES = 1 << 16
_CHANGED = "it was changed after it was saved: use an older checkpoint or a copy"


def _memory() -> int:
    """Bytes of tensors a checkpoint may have: what this machine could hold at all."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _old(path: Path) -> Path:
    """Where the checkpoint lies that is being replaced, between two renames."""
    return path.with_name(f".old-{path.name}")


def write_checkpoint(path: str | Path, meta: dict[str, Any], state: Any, *, replace: bool = False) -> None:
    """Write a checkpoint as a new folder, all of it or nothing.

    It is written aside, each file and the folder fsynced, and renamed once. ``kill -9`` or a full disk at any
    moment leaves what was there before (and at most a ``.tmp-`` folder beside it).

    Args:
        path: The folder to make; its parents are made too.
        meta: JSON values about the checkpoint.
        state: A tree of lists and of dicts with text keys. Its leaves are None, bool, int, float, str,
            ``torch.Tensor`` (any dense one; comes back on the CPU, without gradient or shared storage) and
            ``np.ndarray`` (comes back as one). Equal trees make equal files.
        replace: Take the place of an older checkpoint.

    Raises:
        TypeError: Something else is in the tree; the message has its path, as ``policy.layers[3]``, and what to do.
        ValueError: The tree is deeper or larger than a reader would accept.
        FileExistsError: ``path`` exists, and ``replace`` is off or it is no checkpoint.
        OSError: The disk refused; what was there before is intact.
    """
    path = Path(os.path.abspath(path))
    about, encoder = Encoder(), Encoder()
    text = files.dump_json({"meta": about.encode(meta), "state": encoder.encode(state)})
    if about.arrays:
        raise TypeError(f"meta.{next(iter(about.arrays))} is an array: arrays and tensors belong in the state")
    files.check_json_size(text, STATE)
    header, data, pieces = serialize(encoder.arrays)
    if header > MAX_HEADER_BYTES or data > _memory():
        raise ValueError(f"the state has {data} bytes of tensors and {header} of names: a reader would refuse it")

    temporary, old = files.aside(path), _old(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle(path, old)
        if os.path.lexists(path) and not (replace and (path / MANIFEST).is_file() and not path.is_symlink()):
            why = " and is no checkpoint" if replace else ""
            raise FileExistsError(f"{path} exists{why}: choose another name, or move it away")
        files.make_folder(temporary)
        lines = {}
        for name, chunks in ((TENSORS, pieces), (STATE, [text])):
            size, digest = files.write_new(temporary / name, chunks)
            lines[name] = {"size": size, "sha256": digest}
        manifest = {"format": FORMAT, "version": VERSION, "files": lines}
        files.write_new(temporary / MANIFEST, [files.dump_json(manifest, indent=1)])
        files.sync_folder(temporary)
        if path.exists():
            files.rename(path, old)
        files.rename(temporary, path)
        files.sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            _settle(path, old)
        with suppress(OSError):
            files.remove(temporary)
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            raise files.worded(error, path, "what was saved before is intact") from error
        raise
    with suppress(OSError):  # the next replacement tries again
        files.remove(old)


def _settle(path: Path, old: Path) -> None:
    """Finish what a killed replacement left: either the new one is in place, or the old one goes back."""
    if old.is_dir() and not old.is_symlink():
        if os.path.lexists(path):
            files.remove(old)
        else:
            files.rename(old, path)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], Any]:
    """Read a checkpoint that anyone may have written: nothing in it is believed before it is checked.

    Sizes, counts and depths are bounded before memory is taken, safetensors headers are held against the
    file, every byte against the manifest's sha256; links and foreign files are refused; nothing is imported.
    The values themselves are the writer's: whoever loads them into something checks that they fit.

    Returns:
        The ``meta`` and the ``state`` that were saved.

    Raises:
        CheckpointError: With the file, its fault and the way out.
    """
    path = Path(os.path.abspath(path))
    if not os.path.lexists(path) and _old(path).is_dir():
        warnings.warn(f"{path} was being replaced when its writer was stopped: reading the old one", stacklevel=2)
        path = _old(path)
    folder = _open_folder(path)
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
        if "config.json" in names and MANIFEST not in names:
            raise fault(path, "is a run, not a checkpoint", "read cairn.runs.Run.open(path).latest()")
        for name in sorted(names - {MANIFEST, STATE, TENSORS}):
            raise fault(path / name, "does not belong in a checkpoint", "delete it if you know where it is from")
        text = files.read_bounded(MANIFEST, MAX_MANIFEST_BYTES, path / MANIFEST, folder)
        lines = _check_manifest(text, path / MANIFEST)
        plain = _read_state(path / STATE, folder, lines[STATE])
        decoder = Decoder(path / STATE)
        decoder.collect(plain["state"])
        where = path / TENSORS
        file, size = files.open_regular(TENSORS, where, folder)
        with file:
            _check_size(where, size, lines[TENSORS]["size"])
            arrays, digest = read_tensors(file, size, decoder.kinds, where)
        if digest != lines[TENSORS]["sha256"]:
            raise fault(where, "does not have the manifest's sha256", _CHANGED)
        return decoder.decode(plain["meta"], {}), decoder.decode(plain["state"], arrays)
    finally:
        os.close(folder)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise fault(path, "does not exist", "check the path") from None
    except OSError as error:
        if path.is_symlink():
            raise fault(path, "is a link, and links are refused", "give the folder it points to") from None
        if path.is_file():
            hint = "Stable-Baselines3's .zip and torch's .pt files hold pickled code and are never opened here"
            raise fault(path, "is a file, and a checkpoint is a folder", hint) from None
        raise fault(path, f"cannot be opened ({error.strerror})") from None


def _check_manifest(text: bytes, where: Path) -> dict[str, dict[str, Any]]:
    manifest = files.parse_json(text, where)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise fault(where, "is not the manifest of a Cairn checkpoint")
    version = manifest.get("version")
    if type(version) is not int or version != VERSION:
        raise fault(where, f"has version {str(version)[:20]}, and this Cairn reads {VERSION}", "update Cairn")
    lines = manifest.get("files")
    if len(manifest) != 3 or not isinstance(lines, dict) or sorted(lines) != [STATE, TENSORS]:
        raise fault(where, f"must list {STATE} and {TENSORS} and nothing else")
    limits = {STATE: files.MAX_JSON_BYTES, TENSORS: _memory()}
    for name, line in lines.items():
        if not isinstance(line, dict) or sorted(line) != ["sha256", "size"] or not isinstance(line["sha256"], str):
            raise fault(where, f"must give {name} a size and a sha256")
        if type(line["size"]) is not int or not 0 <= line["size"] <= limits[name]:
            raise fault(where, f"gives {name} a size that is none, or that this machine cannot hold")
    return lines


def _check_size(where: Path, size: int, expected: int) -> None:
    if size != expected:
        way_out = "it was cut: use an older checkpoint or a copy" if size < expected else _CHANGED
        raise fault(where, f"has {size} bytes, and the manifest says {expected}", way_out)


def _read_state(where: Path, folder: int, line: dict[str, Any]) -> dict[str, Any]:
    text = files.read_bounded(STATE, files.MAX_JSON_BYTES, where, folder)
    _check_size(where, len(text), line["size"])
    if sha256(text).hexdigest() != line["sha256"]:
        raise fault(where, "does not have the manifest's sha256", _CHANGED)
    plain = files.parse_json(text, where)
    if not isinstance(plain, dict) or sorted(plain) != ["meta", "state"] or not isinstance(plain["meta"], dict):
        raise fault(where, "must hold meta, an object, and state, and nothing else")
    return plain
