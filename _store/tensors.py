"""Tensors in the safetensors format (https://github.com/huggingface/safetensors), written and read in place.

The library is not used: a writer here announces each step to the disk, a reader knows every size before it
takes memory, and takes it once, for each tensor by itself. The files are the library's, byte for byte readable.
"""

import struct
from collections.abc import Iterator, Mapping
from hashlib import sha256
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .files import CHUNK, dump_json, fault, parse_json, read_into

MAX_TENSORS = 100_000
MAX_HEADER_BYTES = 64 << 20
MAX_DIMENSIONS = 32
MAX_ELEMENTS = 1 << 48

# safetensors' name -> bytes per element, NumPy's name where it has one, torch's name
_DTYPES: dict[str, tuple[int, str | None, str]] = {
    "BOOL": (1, "bool", "bool"),
    "U8": (1, "uint8", "uint8"),
    "I8": (1, "int8", "int8"),
    "U16": (2, "uint16", "uint16"),
    "I16": (2, "int16", "int16"),
    "U32": (4, "uint32", "uint32"),
    "I32": (4, "int32", "int32"),
    "U64": (8, "uint64", "uint64"),
    "I64": (8, "int64", "int64"),
    "F8_E4M3": (1, None, "float8_e4m3fn"),
    "F8_E5M2": (1, None, "float8_e5m2"),
    "F16": (2, "float16", "float16"),
    "BF16": (2, None, "bfloat16"),
    "F32": (4, "float32", "float32"),
    "F64": (8, "float64", "float64"),
    "C64": (8, "complex64", "complex64"),
}
_BY_NUMPY = {names[1]: key for key, names in _DTYPES.items() if names[1]}
_BY_TORCH = {f"torch.{names[2]}": key for key, names in _DTYPES.items()}


class _Entry(NamedTuple):
    """One tensor's line in the header."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * _DTYPES[self.dtype][0]


def dtype_name(value: Any, path: str) -> str:
    """The safetensors name of an array's or tensor's dtype.

    Raises:
        TypeError: It has none, or the tensor is not dense.
    """
    if isinstance(value, np.ndarray):
        found = _BY_NUMPY.get(value.dtype.name)
    elif value.is_quantized or value.is_meta or str(value.layout) != "torch.strided":
        raise TypeError(f"{path} is a tensor without plain dense data: make it dense first")
    else:
        found = _BY_TORCH.get(str(value.dtype))
    if found is None:
        raise TypeError(f"{path} has the dtype {value.dtype}, which safetensors lacks: cast it, or save a view of it")
    return found


def octets(value: Any) -> memoryview:
    """The bytes of an array or tensor, row by row, little end first."""
    if isinstance(value, np.ndarray):
        plain = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
        return plain.reshape(-1).view(np.uint8).data
    import torch

    dense = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat: np.ndarray[Any, Any] = dense.reshape(-1).view(torch.uint8).numpy()
    return flat.data


def serialize(arrays: Mapping[str, Any]) -> tuple[int, int, Iterator[bytes | memoryview]]:
    """Lay arrays and tensors out as a safetensors file.

    Wide dtypes come first, then by name, so that each is aligned and equal contents make equal files.

    Returns:
        The bytes of the header and of the data, and an iterator over the pieces of the file.
    """
    entries = [_Entry(key, dtype_name(v, key), tuple(int(n) for n in v.shape)) for key, v in arrays.items()]
    entries.sort(key=lambda entry: (-_DTYPES[entry.dtype][0], entry.key))
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.nbytes
        table[entry.key] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = dump_json(table).strip()
    text += b" " * (-len(text) % 8)  # so that the data begin on a multiple of 8

    def pieces() -> Iterator[bytes | memoryview]:
        yield struct.pack("<Q", len(text)) + text
        for entry in entries:
            yield octets(arrays[entry.key])

    return len(text), offset, pieces()


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _entry(key: str, line: Any, where: Path) -> tuple[int, int, _Entry]:
    name = f"the header's tensor {key[:80]!r}"
    if not isinstance(line, dict) or sorted(line) != ["data_offsets", "dtype", "shape"]:
        raise fault(where, f"{name} lacks dtype, shape or data_offsets, or has more")
    dtype, shape, offsets = line["dtype"], line["shape"], line["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise fault(where, f"{name} has the unknown dtype {str(dtype)[:20]!r}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_size(n) for n in shape):
        raise fault(where, f"{name} has a shape that is none")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise fault(where, f"{name} has data_offsets that are not two whole numbers")
    if prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise fault(where, f"{name} has a shape of more than {MAX_ELEMENTS} elements")
    entry = _Entry(key, dtype, tuple(shape))
    if offsets[1] - offsets[0] != entry.nbytes:
        raise fault(where, f"{name} spans {offsets[1] - offsets[0]} bytes, but its shape takes {entry.nbytes}")
    return offsets[0], offsets[1], entry


def _parse_header(text: bytes, room: int, where: Path) -> list[_Entry]:
    """Check a header against the ``room`` bytes of data behind it: one tensor after the other, no gap, no overlap."""
    table = parse_json(text, where)
    if not isinstance(table, dict):
        raise fault(where, "has a header that is not an object")
    table.pop("__metadata__", None)
    if len(table) > MAX_TENSORS:
        raise fault(where, f"names {len(table)} tensors, more than the {MAX_TENSORS} allowed")
    spans = sorted((_entry(key, line, where) for key, line in table.items()), key=lambda span: span[:2])
    reached = 0
    for begin, end, entry in spans:
        if begin != reached:
            what = "overlaps the one before it" if begin < reached else "leaves a gap before it"
            raise fault(where, f"the header's tensor {entry.key[:80]!r} {what}")
        reached = end
    if reached != room:
        raise fault(where, f"the header describes {reached} bytes of data, but {room} are there")
    return [entry for _, _, entry in spans]


def _empty(entry: _Entry, kind: str) -> tuple[Any, memoryview]:
    """Take the memory for one tensor: the tensor, and a view of its bytes to read into."""
    _, numpy_name, torch_name = _DTYPES[entry.dtype]
    if kind == "$array":
        array: np.ndarray[Any, Any] = np.empty(prod(entry.shape), numpy_name)
        return array.reshape(entry.shape), array.view(np.uint8).data
    import torch

    flat = torch.empty(prod(entry.shape), dtype=getattr(torch, torch_name))
    view: np.ndarray[Any, Any] = flat.view(torch.uint8).numpy()
    return flat.reshape(entry.shape), view.data


def read_tensors(file: FileIO, size: int, kinds: Mapping[str, str], where: Path) -> tuple[dict[str, Any], str]:
    """Read an untrusted safetensors file of ``size`` bytes.

    Args:
        file: The raw file, at its start.
        size: How long it is.
        kinds: The keys it must have, and whether each comes back as an ``$array`` or a ``$tensor``.
        where: The file's name for errors.

    Returns:
        The tensors, and the sha256 of what was read. Hold that against the expected one before using them.
    """
    if size < 8:
        raise fault(where, f"has {size} bytes, too few for a header")
    start = bytearray(8)
    read_into(file, memoryview(start), where)
    (length,) = struct.unpack("<Q", start)
    limit = min(MAX_HEADER_BYTES, size - 8)
    if length > limit:
        raise fault(where, f"says its header has {length} bytes, but at most {limit} are there or allowed")
    text = bytearray(length)
    read_into(file, memoryview(text), where)
    entries = _parse_header(bytes(text), size - 8 - length, where)
    odd = {entry.key for entry in entries} ^ kinds.keys()
    if odd:
        raise fault(where, f"and the state disagree about the tensor {min(odd)[:80]!r}")
    if any(kinds[entry.key] == "$array" and _DTYPES[entry.dtype][1] is None for entry in entries):
        raise fault(where, "has an array of a dtype that NumPy lacks")
    running = sha256(start + text)
    arrays: dict[str, Any] = {}
    for entry in entries:
        arrays[entry.key], view = _empty(entry, kinds[entry.key])
        for begin in range(0, len(view), CHUNK):
            part = view[begin : begin + CHUNK]
            read_into(file, part, where)
            running.update(part)
        if entry.dtype == "BOOL" and len(view) and np.frombuffer(view, np.uint8).max() > 1:
            raise fault(where, f"has a truth value other than 0 and 1 in the tensor {entry.key[:80]!r}")
    return arrays, running.hexdigest()
