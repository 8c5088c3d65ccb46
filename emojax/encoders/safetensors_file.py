"""Reads tensors of a safetensors file one at a time, with plain reads instead of a memory map of the whole file.

Pages of a memory map count towards the process, so a mapped checkpoint would take twice its size while it is loaded.
Format: https://huggingface.co/docs/safetensors (length of the header, header as JSON, values).
"""

import itertools
import math
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError
from emojax.files import parse_json

_MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""

_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "U16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
    "U64": np.uint64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}


def read_safetensors(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a safetensors file by name; only the header is read.

    Raises:
      CheckpointError: the file is truncated or no safetensors file, or a tensor has an unknown type.
    """
    try:
        size = os.path.getsize(file)
        with open(file, "rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            if not 0 < header_size <= size - 8:
                raise CheckpointError(f"{file}: is no safetensors file, or truncated within its header")
            if header_size > _MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{file}: its header must have at most {_MAX_HEADER_BYTES} bytes, claims {header_size}"
                )
            header = parse_json(stream.read(header_size).decode(), f"{file}: its header", CheckpointError)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: its header must be a JSON object, found {type(header).__name__}")
    tensors, places = {}, []
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], place = _tensor(file, 8 + header_size, size, name, entry)
            places.append((*place, name))
    for (_, end, name), (begin, _, other) in itertools.pairwise(sorted(places)):
        if begin < end:
            raise CheckpointError(f"{file}: {name} and {other} share bytes")
    return tensors


def _tensor(file: Path, start: int, size: int, name: str, entry: Any) -> tuple[StoredTensor, tuple[int, int]]:
    """A tensor, and where its first byte and the byte after its last are."""
    values: list[Any] = [entry.get(key) if isinstance(entry, dict) else None for key in _ENTRY]
    kind, shape, offsets = values
    if not _are_sizes(shape) or not _are_sizes(offsets, 2):
        raise CheckpointError(f"{file}: its header cannot be read: {name} must have {', '.join(_ENTRY)}")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise CheckpointError(f"{file}: {name} has the unknown dtype {kind}; allowed: {', '.join(_TYPES)}")
    dtype = np.dtype(_TYPES[kind])
    begin, end = (start + offset for offset in offsets)
    if end > size:
        raise CheckpointError(f"{file}: truncated: {name} ends at byte {end}, the file at {size}")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{file}: {name} has shape {tuple(shape)} and dtype {dtype.name} but {end - begin} bytes")

    def read() -> np.ndarray:
        return np.fromfile(file, dtype, math.prod(shape), offset=begin).reshape(shape)

    return StoredTensor(tuple(shape), dtype, read), (begin, end)


_ENTRY = ("dtype", "shape", "data_offsets")
_MAX_AXES = 32


def _are_sizes(values: Any, count: int | None = None) -> bool:
    if not isinstance(values, list) or len(values) > _MAX_AXES or (count is not None and len(values) != count):
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)
