"""Records of a feature store: the arrays of one utterance as bytes."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import ml_dtypes
import numpy as np

from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Le, MaxLen, MinLen, settings

DTYPES: Mapping[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
"""Types that values are stored as."""

_MAX_BYTES_PER_ROW = 2**26
"""Batches are allocated by the declared shape; all layers of the largest encoders need a hundredth of this."""


@settings
class ArraySpec:
    """What is the same for all utterances about one stored array.

    Attributes:
      name: e.g. `states`.
      dtype: key of `DTYPES`.
      shape: of one row; the number of rows (frames, tokens) differs between utterances and may be 0.
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
    """Bytes of one utterance.

    Args:
      id: of the utterance.
      arrays: (rows, *shape) by name, of any float type.
      specs: what is stored, in order.
    """
    encoded = id.encode()
    parts = [struct.pack("<H", len(encoded)), encoded]
    for spec in specs:
        array = np.ascontiguousarray(arrays[spec.name], DTYPES[spec.dtype])
        if array.shape[1:] != spec.shape:
            raise ValueError(f"{id}: {spec.name} has rows of shape {array.shape[1:]}, expected {spec.shape}")
        parts += [struct.pack("<I", len(array)), array.tobytes()]
    return b"".join(parts)


def from_record(record: bytes, specs: Sequence[ArraySpec], place: str) -> tuple[str, dict[str, np.ndarray]]:
    """The id and arrays of one utterance; the arrays are views of the record.

    Args:
      record: from `to_record`.
      specs: the same as there.
      place: what to call it in messages.

    Raises:
      CheckpointError: the record does not have the length its numbers say.
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
        raise CheckpointError(f"{place}: a record is cut short or damaged ({error})") from error
    if start != len(record):
        raise CheckpointError(f"{place}: a record has {len(record)} bytes, expected {start}")
    return id, arrays
