"""Serialisation of the arrays of one utterance in a feature store."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import ml_dtypes
import numpy as np

from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Le, MaxLen, MinLen, settings

DTYPES: Mapping[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
"""Types of stored values."""

_MAX_BYTES_PER_ROW = 2**26
"""Limit on the declared shape, by which batches are allocated; all layers of the largest encoders need 1% of it."""


@settings
class ArraySpec:
    """Name, dtype and row shape of a stored array.

    Attributes:
      name: name, e.g. `states`.
      dtype: key of `DTYPES`.
      shape: shape of one row; the number of rows (frames, tokens) differs between utterances and may be 0.
    """

    name: Annotated[str, MinLen(1)]
    dtype: Literal["float16", "bfloat16", "float32"]
    shape: Annotated[tuple[Annotated[int, Ge(1), Le(2**20)], ...], MaxLen(4)]

    def __post_init__(self):
        if self.bytes_per_row > _MAX_BYTES_PER_ROW:
            raise ConfigError(f"shape: a row must have at most {_MAX_BYTES_PER_ROW} bytes, got {self.shape}")

    @property
    def bytes_per_row(self) -> int:
        """Size of one row."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


def to_record(id: str, arrays: Mapping[str, np.ndarray], specs: Sequence[ArraySpec]) -> bytes:
    """Serialises the arrays of one utterance.

    Args:
      id: utterance id.
      arrays: arrays of shape (rows, *shape) by name, of any float type.
      specs: arrays to store, in order.
    """
    encoded = id.encode()
    parts = [struct.pack("<H", len(encoded)), encoded]
    for spec in specs:
        array = np.ascontiguousarray(arrays[spec.name], DTYPES[spec.dtype])
        if array.shape[1:] != spec.shape:
            raise ValueError(f"{id}: {spec.name} has rows of shape {array.shape[1:]}, expected {spec.shape}")
        parts += [struct.pack("<I", len(array)), array.tobytes()]
    return b"".join(parts)


def from_record(record: bytes, specs: Sequence[ArraySpec], context: str) -> tuple[str, dict[str, np.ndarray]]:
    """Deserialises id and arrays of one utterance; the arrays are views of the record.

    Args:
      record: from `to_record`.
      specs: specs that it was written with.
      context: name of the store in error messages.

    Raises:
      CheckpointError: the length of the record does not match its header fields.
    """
    try:
        (length,) = struct.unpack_from("<H", record)
        start = 2 + length
        id = record[2:start].decode()
        arrays = {}
        for spec in specs:
            (rows,) = struct.unpack_from("<I", record, start)
            values = math.prod(spec.shape)
            flat = np.frombuffer(record, DTYPES[spec.dtype], rows * values, start + 4)
            arrays[spec.name] = flat.reshape(rows, *spec.shape)
            start += 4 + rows * spec.bytes_per_row
    except (struct.error, ValueError) as error:
        raise CheckpointError(f"{context}: a record is truncated or damaged ({error})") from error
    if start != len(record):
        raise CheckpointError(f"{context}: a record has {len(record)} bytes, expected {start}")
    return id, arrays
