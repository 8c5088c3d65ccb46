"""Columns of a table in one safetensors file that is memory-mapped: opening costs no memory, whatever its length."""

import dataclasses
import json
import math
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from emojax.files import MAX_JSON_BYTES

_NAMES = {"I64": np.int64, "F32": np.float32, "I32": np.int32, "U8": np.uint8}
"""Types of columns by their names in safetensors, in the order of their columns in a file: all are aligned."""

_DTYPES = [np.dtype(dtype) for dtype in _NAMES.values()]

_METADATA = "__metadata__"

_SPOOLED_BYTES = 64 * 2**20
"""Size of a column beyond which it is written to a temporary file."""


class Column(np.memmap):
    """Read-only memory-mapped array; pickled as its position in the file, not as values."""

    def __reduce__(self) -> Any:
        """Pickles a contiguous part of a file as path and offset, anything else as an array."""
        mapped = getattr(self, "_mmap", None)
        if mapped is None or not self.flags.c_contiguous or not self.size:
            return np.array(self).__reduce__()
        first = np.frombuffer(mapped, np.uint8).ctypes.data
        start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping
        offset = start + self.ctypes.data - first
        return _open_column, (os.fspath(self.filename), self.dtype, offset, self.shape)  # type: ignore[arg-type]


def _open_column(path: str, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, dtype)  # nothing can be mapped
    return Column(path, dtype, "r", offset, shape)


def open_columns(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Opens the columns of a file; values are read on access.

    Args:
      path: file of `ColumnsWriter`, or of safetensors with columns of these types.

    Returns:
      Columns by name, and the metadata of the file.

    Raises:
      OSError: the file cannot be read.
      ValueError, KeyError, TypeError: the file is damaged: its header does not describe all of its bytes.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", _exactly(file.read(8), 8))
        size = os.fstat(file.fileno()).st_size
        if length > min(size - 8, MAX_JSON_BYTES):
            raise ValueError(f"header of {length} bytes")
        header = json.loads(_exactly(file.read(length), length))
    metadata = header.pop(_METADATA, {})
    columns, end = {}, 8 + length
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = np.dtype(_NAMES[entry["dtype"]]), tuple(map(int, entry["shape"]))
        first, last = entry["data_offsets"]
        if min(shape) < 0 or first != end - 8 - length or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"column {name!r}")
        if 8 + length + last > size:
            raise ValueError(f"column {name!r} is truncated")
        columns[name] = _open_column(os.fspath(path), dtype, 8 + length + first, shape)
        end = 8 + length + last
    if end != size:
        raise ValueError(f"{size - end} bytes of no column")
    return columns, metadata


@dataclasses.dataclass
class _Growing:
    """Column that is being written: pieces beyond 64 MB are in a temporary file."""

    file: Any
    dtype: np.dtype
    shape: list[int]


class ColumnsWriter:
    """Writes columns piece by piece, in memory independent of their length; a context manager."""

    def __init__(self, folder: Path):
        """Starts a table.

        Args:
          folder: folder of temporary files; the system's folder if it cannot be written.
        """
        self._folder = str(folder) if os.access(folder, os.W_OK) else None
        self._columns: dict[str, _Growing] = {}

    def __enter__(self) -> "ColumnsWriter":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the temporary files."""
        for column in self._columns.values():
            column.file.close()

    def append(self, name: str, values: np.ndarray) -> None:
        """Appends rows to a column, whose type and shape of a row are those of its first piece."""
        if name not in self._columns:
            file = tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, dir=self._folder)  # noqa: SIM115 - see __exit__
            self._columns[name] = _Growing(file, values.dtype, [0, *values.shape[1:]])
        column = self._columns[name]
        assert (values.dtype, list(values.shape[1:])) == (column.dtype, column.shape[1:]), name
        column.file.write(np.ascontiguousarray(values).tobytes())
        column.shape[0] += len(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads the columns into memory."""
        found = {}
        for name, column in self._columns.items():
            column.file.seek(0)
            found[name] = np.frombuffer(column.file.read(), column.dtype).reshape(column.shape)
        return found

    def write(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Writes the file.

        Args:
          path: new file.
          metadata: saved with the columns.

        Raises:
          OSError: it cannot be written.
        """
        names = sorted(self._columns, key=lambda name: _DTYPES.index(self._columns[name].dtype))
        described = {name: (self._columns[name].dtype, tuple(self._columns[name].shape)) for name in names}
        with path.open("wb") as file:
            file.write(columns_header(described, metadata)[0])
            for name in names:
                self._columns[name].file.seek(0)
                shutil.copyfileobj(self._columns[name].file, file, 2**20)


def columns_header(
    columns: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Builds the header of a file of columns.

    Args:
      columns: type and shape of each column, in the order of their values in the file: larger types first.
      metadata: saved with the columns.

    Returns:
      First bytes of the file, and where in the file the values of each column start.
    """
    keys = {np.dtype(dtype): key for key, dtype in _NAMES.items()}
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    starts, offset = {}, 0
    for name, (dtype, shape) in columns.items():
        starts[name] = offset
        offset += math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": keys[dtype], "shape": shape, "data_offsets": [starts[name], offset]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = struct.pack("<Q", len(text)) + text
    return content, {name: len(content) + start for name, start in starts.items()}


class Texts(Sequence[str]):
    """Column of texts in a memory-mapped file, decoded on access.

    Indexing by a number gives a text, by a slice `Texts`, by positions or a mask an array of texts.
    """

    def __init__(self, characters: UInt8[np.ndarray, "C"], ends: Int[np.ndarray, "M"], rows: Any):
        """Wraps the columns.

        Args:
          characters: UTF-8 of all different texts.
          ends: end of each text in `characters`.
          rows: text of each row: a column of numbers, or a range.
        """
        self._characters, self._ends, self._rows = characters, ends, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        """Decodes one text, or several."""
        if isinstance(at, slice):
            return Texts(self._characters, self._ends, self._rows[at])
        if np.ndim(at) == 0:
            return self._text(int(self._rows[int(at)]))
        positions = np.asarray(at)
        if positions.dtype == bool and positions.shape != (len(self),):
            raise IndexError(f"a mask must have {len(self)} rows, got {positions.shape}")
        positions = np.flatnonzero(positions) if positions.dtype == bool else positions.astype(np.int64)
        if not isinstance(self._rows, range):
            return self._decode(np.asarray(self._rows[positions]))
        if positions.size and not (positions.min() >= -len(self) and positions.max() < len(self)):
            raise IndexError(f"positions must be < {len(self)}, got {positions.min()} to {positions.max()}")
        return self._decode(self._rows.start + self._rows.step * (positions % max(len(self), 1)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Decodes all texts."""
        texts = self._decode(np.asarray(self._rows))
        return texts if dtype is None else texts.astype(dtype)

    def tolist(self) -> list[str]:
        """Decodes all texts."""
        return np.asarray(self).tolist()

    def _decode(self, rows: Int[np.ndarray, "M"]) -> np.ndarray:
        different, number_of = np.unique(rows, return_inverse=True)
        return np.array([self._text(row) for row in different.tolist()], dtype=str)[number_of]

    def _text(self, row: int) -> str:
        if not 0 <= row < len(self._ends):
            raise IndexError(row)
        first = int(self._ends[row - 1]) if row else 0
        return self._characters[first : int(self._ends[row])].tobytes().decode()


def _exactly(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise ValueError(f"{len(content)} of {length} bytes")
    return content
