"""One tensor of a checkpoint file: its shape and type are known, its values are read when asked for."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor that still lies in its file.

    Attributes:
      shape: shape in PyTorch's layout, whatever the file format.
      dtype: NumPy (or ml_dtypes) type of the values in the file.
      read: reads the values, a fresh array on each call; only one such array needs to exist at a time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
