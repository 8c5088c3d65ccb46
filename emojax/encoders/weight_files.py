"""Reads weight files: safetensors, PyTorch, Flax; one tensor at a time."""

import dataclasses
import itertools
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from emojax.errors import CheckpointError, reason
from emojax.files import parse_json


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor whose values are still in their file.

    Attributes:
      shape: shape in PyTorch's layout, whatever the file format.
      dtype: NumPy (or ml_dtypes) type of the values in the file.
      read: reads the values, a fresh array on each call; only one such array needs to exist at a time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


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
    """Reads the tensors of a safetensors file by name, headers only.

    Raises:
      CheckpointError: the file is truncated or no safetensors file, or a tensor has an unknown type.
    """
    try:
        size = os.path.getsize(file)
        with open(file, "rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            if not 0 < header_size <= size - 8:
                raise CheckpointError(f"{file}: is not a safetensors file, or truncated within its header")
            if header_size > _MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{file}: its header must have at most {_MAX_HEADER_BYTES} bytes, claims {header_size}"
                )
            header = parse_json(stream.read(header_size).decode(), f"{file}: its header", CheckpointError)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: its header must be a JSON object, found {type(header).__name__}")
    tensors, ranges = {}, []
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], span = _safetensors_tensor(file, 8 + header_size, size, name, entry)
            ranges.append((*span, name))
    for (_, end, name), (begin, _, other) in itertools.pairwise(sorted(ranges)):
        if begin < end:
            raise CheckpointError(f"{file}: {name} and {other} share bytes")
    return tensors


def _safetensors_tensor(
    file: Path, start: int, size: int, name: str, entry: Any
) -> tuple[StoredTensor, tuple[int, int]]:
    """Reads one entry of the header: the tensor, and its first byte and the one after its last."""
    values: list[Any] = [entry.get(key) if isinstance(entry, dict) else None for key in _ENTRY]
    kind, shape, offsets = values
    if not _are_sizes(shape) or not _are_sizes(offsets, 2):
        raise CheckpointError(f"{file}: its header cannot be read: {name} must have {', '.join(_ENTRY)}")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise CheckpointError(f"{file}: {name} dtype must be one of {', '.join(_TYPES)}, got {kind}")
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


_MAX_SHARING = 4
"""Most bytes of a file's tensors relative to its storages: tied weights share one."""

# Types that NumPy lacks: PyTorch's name -> an integer type of the same size, and the type the bits are read as.
_WITHOUT_NUMPY = {
    "bfloat16": ("uint16", ml_dtypes.bfloat16),
    "float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
}


def read_torch(file: Path) -> dict[str, StoredTensor]:
    """Reads the tensors of a PyTorch checkpoint by name, memory-mapped where the file's format allows it.

    Raises:
      CheckpointError: PyTorch is not installed, or the file is truncated, holds something else than dense tensors by
        name, or asks for code to be run.
    """
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{file}: needs PyTorch, which is not installed (pip install torch); model.safetensors and "
            f"flax_model.msgpack do not"
        ) from error
    try:
        tensors = _load(torch, file)
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends switching the restriction off.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        asked = f" (it asks for {named[1]})" if named else ""
        raise CheckpointError(f"{file}: refused: holds more than tensors, or is damaged{asked}") from error
    except CheckpointError:
        raise
    except Exception as error:  # PyTorch raises many kinds for damaged files
        raise CheckpointError(f"{file}: is not a PyTorch checkpoint, or truncated ({reason(error)})") from error
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"{file}: must hold a state dict of tensors, found a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        _check(torch, file, name, tensor)
    _check_sharing(file, tensors)
    return {name: _torch_tensor(torch, tensor) for name, tensor in tensors.items()}


def _load(torch: Any, file: Path) -> Any:
    # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
    zipped = zipfile.is_zipfile(file)
    if zipped:
        with zipfile.ZipFile(file) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > file.stat().st_size:  # PyTorch never compresses
            raise CheckpointError(f"{file}: is compressed to less than the {claimed} bytes it holds; it must not be")
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)


def _check(torch: Any, file: Path, name: Any, tensor: Any) -> None:
    if not isinstance(name, str):
        raise CheckpointError(f"{file}: names of tensors must be text, found {str(name)[:40]}")
    if not isinstance(tensor, torch.Tensor):
        raise CheckpointError(f"{file}: {name} must be a tensor, found a {type(tensor).__name__}")
    kind = str(tensor.dtype).removeprefix("torch.")
    strange = {
        "quantised": tensor.is_quantized,
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "without values": tensor.device.type != "cpu",
        kind: kind not in _WITHOUT_NUMPY and not _in_numpy(torch, tensor.dtype),
    }
    found = next((word for word, is_so in strange.items() if is_so), None)
    if found is not None:
        raise CheckpointError(f"{file}: {name} must be a dense floating-point tensor, is {found}")


def _in_numpy(torch: Any, dtype: Any) -> bool:
    try:
        return bool(torch.empty(0, dtype=dtype).numpy().size == 0)
    except TypeError:
        return False


def _check_sharing(file: Path, tensors: Mapping[str, Any]) -> None:
    """Checks that tensors are not larger than the data in the file, as strides of 0 make them."""
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > _MAX_SHARING * sum(held.values()):
        raise CheckpointError(f"{file}: its tensors claim {claimed} bytes, it holds {sum(held.values())}")


def _torch_tensor(torch: Any, tensor: Any) -> StoredTensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind in _WITHOUT_NUMPY:
        integers, same_bits = _WITHOUT_NUMPY[kind]
        dtype = np.dtype(same_bits)
        return StoredTensor(
            tuple(tensor.shape), dtype, lambda: tensor.detach().view(getattr(torch, integers)).numpy().view(dtype)
        )
    dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
    return StoredTensor(tuple(tensor.shape), dtype, lambda: tensor.detach().resolve_neg().numpy())


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

_FLAX_TYPES: Mapping[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    **{name: name for name in ("float16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")},
}
_MAX_NAME_BYTES, _MAX_FLAX_AXES = 1024, 32


def read_flax(file: Path) -> dict[str, StoredTensor]:
    """Reads the tensors of a Flax checkpoint by PyTorch name; values stay in the file.

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
        raise CheckpointError(f"{file}: is not a flax_model.msgpack, or truncated ({kind}: {error})") from error
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
    """Renames Flax's `kernel`, `scale` and `embedding` to PyTorch's `weight`."""
    return re.sub(r"(^|\.)(kernel|scale|embedding)$", r"\1weight", ".".join(path))


def _array(stream: BinaryIO, file: Path, reverse: bool) -> StoredTensor:
    """Reads the header of an array and moves behind it; `reverse` for kernels, whose axes PyTorch reverses."""
    stream.read(_EXTENSION_SIZES[stream.read(1)[0]])
    if stream.read(1)[0] != _EXTENSION_OF_ARRAYS or _number(stream, _ARRAY) != 3:
        raise ValueError(f"the value before byte {stream.tell()} is not an array")
    axes = _number(stream, _ARRAY)
    if axes > _MAX_FLAX_AXES:
        raise ValueError(f"an array of {axes} axes")
    shape = tuple(_number(stream, _INTEGER) for _ in range(axes))
    type_name = _string(stream)
    if type_name not in _FLAX_TYPES:
        raise ValueError(f"an array of type {type_name[:40]}")
    dtype = np.dtype(_FLAX_TYPES[type_name])
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
    """Reads a number: entries of a map or array, bytes of a string, or the integer itself."""
    small, mask, sizes = header
    first = stream.read(1)[0]
    if first & ~mask == small:
        return first & mask
    return int.from_bytes(stream.read(sizes[first]), "big")
