"""Reads tensors of a safetensors file one at a time, with plain reads instead of a memory map of the whole file.

Pages of a memory map count towards the process, so a mapped checkpoint would take twice its size while it is loaded.
Format: https://huggingface.co/docs/safetensors (length of the header, header as JSON, values).
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError

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
    size = os.path.getsize(file)
    with open(file, "rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        if not 0 < header_size <= size - 8:
            raise CheckpointError(f"{file}: is no safetensors file, or truncated within its header")
        try:
            header = json.loads(stream.read(header_size))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            return {name: _tensor(file, 8 + header_size, size, name, entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: its header cannot be read ({error})") from error


def _tensor(file: Path, start: int, size: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    if entry["dtype"] not in _TYPES:
        raise CheckpointError(f"{file}: {name} has the unknown dtype {entry['dtype']}; allowed: {', '.join(_TYPES)}")
    dtype = np.dtype(_TYPES[entry["dtype"]])
    shape = tuple(int(length) for length in entry["shape"])
    begin, end = (start + int(offset) for offset in entry["data_offsets"])
    if end > size:
        raise CheckpointError(f"{file}: truncated: {name} ends at byte {end}, the file at {size}")
    if begin < start or end - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{file}: {name} has shape {shape} and dtype {dtype.name} but {end - begin} bytes")

    def read() -> np.ndarray:
        return np.fromfile(file, dtype, math.prod(shape), offset=begin).reshape(shape)

    return StoredTensor(shape, dtype, read)
