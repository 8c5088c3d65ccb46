"""Reads tensors of a `flax_model.msgpack` (transformers v4), one at a time, under their PyTorch names and layouts.

The file is one MessagePack map of maps whose leaves are of extension type 1: shape, type name and values of an array.
`flax.serialization`, which writes it, would read the whole file at once; this walks over the headers.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError

# https://github.com/msgpack/msgpack/blob/master/spec.md: (first byte, mask of the bits that hold the number) where the
# number is small, and first byte -> bytes of the number where it is not.
_Header = tuple[int, int, Mapping[int, int]]
_MAP: _Header = (0x80, 0x0F, {0xDE: 2, 0xDF: 4})
_ARRAY: _Header = (0x90, 0x0F, {0xDC: 2, 0xDD: 4})
_STRING: _Header = (0xA0, 0x1F, {0xD9: 1, 0xDA: 2, 0xDB: 4})
_INTEGER: _Header = (0x00, 0x7F, {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8})
_BYTES: _Header = (-1, 0, {0xC4: 1, 0xC5: 2, 0xC6: 4})
_EXTENSION_SIZES = {0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD4: 0, 0xD5: 0, 0xD6: 0, 0xD7: 0, 0xD8: 0}
_EXTENSION_OF_ARRAYS = 1

_TYPES: Mapping[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    **{name: name for name in ("float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")},
}
_MAX_NAME_BYTES, _MAX_AXES = 1024, 32


def read_flax(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a Flax checkpoint by PyTorch name; values stay in the file.

    Raises:
      CheckpointError: the file is truncated, no MessagePack, or holds something else than arrays.
    """
    try:
        with open(file, "rb") as stream:
            tensors = {_torch_name(path): tensor for path, tensor in _walk(stream, file, ())}
            rest = os.path.getsize(file) - stream.tell()
        if rest:
            raise ValueError(f"{-rest} bytes are missing" if rest < 0 else f"{rest} bytes too many")
    except (ValueError, TypeError, IndexError, KeyError, RecursionError, OSError) as error:
        kind = type(error).__name__
        raise CheckpointError(f"{file}: is no flax_model.msgpack, or truncated ({kind}: {error})") from error
    return tensors


def _walk(stream: BinaryIO, file: Path, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], StoredTensor]]:
    for _ in range(_number(stream, _MAP)):
        name = _string(stream)
        first = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        if first in _EXTENSION_SIZES:
            yield (*path, name), _array(stream, file, reverse=name == "kernel")
        else:
            yield from _walk(stream, file, (*path, name))


def _torch_name(path: tuple[str, ...]) -> str:
    """Flax's `kernel`, `scale` and `embedding` are all called `weight` in PyTorch."""
    return re.sub(r"(^|\.)(kernel|scale|embedding)$", r"\1weight", ".".join(path))


def _array(stream: BinaryIO, file: Path, reverse: bool) -> StoredTensor:
    """An array at the stream's position, which moves behind it; `reverse` for kernels, whose axes PyTorch reverses."""
    stream.read(_EXTENSION_SIZES[stream.read(1)[0]])
    if stream.read(1)[0] != _EXTENSION_OF_ARRAYS or _number(stream, _ARRAY) != 3:
        raise ValueError(f"the value before byte {stream.tell()} is no array")
    axes = _number(stream, _ARRAY)
    if axes > _MAX_AXES:
        raise ValueError(f"an array of {axes} axes")
    shape = tuple(_number(stream, _INTEGER) for _ in range(axes))
    type_name = _string(stream)
    if type_name not in _TYPES:
        raise ValueError(f"an array of type {type_name[:40]}")
    dtype = np.dtype(_TYPES[type_name])
    num_bytes = _number(stream, _BYTES)
    offset = stream.tell()
    if num_bytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} of {type_name} does not fill {num_bytes} bytes")
    stream.seek(num_bytes, os.SEEK_CUR)

    def read() -> np.ndarray:
        array = np.fromfile(file, dtype, math.prod(shape), offset=offset).reshape(shape)
        return array.transpose() if reverse else array

    return StoredTensor(shape[::-1] if reverse else shape, dtype, read)


def _string(stream: BinaryIO) -> str:
    length = _number(stream, _STRING)
    if length > _MAX_NAME_BYTES:
        raise ValueError(f"a name of {length} bytes")
    return stream.read(length).decode()


def _number(stream: BinaryIO, header: _Header) -> int:
    """The number a header holds: entries of a map or array, bytes of a string, or the integer itself."""
    small, mask, sizes = header
    first = stream.read(1)[0]
    if first & ~mask == small:
        return first & mask
    return int.from_bytes(stream.read(sizes[first]), "big")
