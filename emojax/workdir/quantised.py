"""Weights as 8-bit integers in one small file, in place of checkpoints: what a phone carries.

Every matrix (and convolution kernel) is stored as int8 with one float32 scale per output channel, its last axis: the
value is integer times scale, rounded to nearest, symmetric, -127 to 127. Vectors and statistics stay float32. The file
is safetensors: reading it runs nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
from jaxtyping import Float, Int8

from emojax.errors import CheckpointError, TrainingError, reason
from emojax.files import atomic_write

QUANTISED = "weights_int8.safetensors"
"""File of a workdir that has quantised weights in place of checkpoints."""

_SCALE = ".scale"
_LARGEST = 127


def quantise(values: Float[np.ndarray, "*D C"]) -> tuple[Int8[np.ndarray, "*D C"], Float[np.ndarray, "C"]]:
    """Integers and scales of a matrix; the error of a value is at most half its channel's scale."""
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    scale = np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)
    return np.clip(np.rint(values / scale), -_LARGEST, _LARGEST).astype(np.int8), scale


def write_quantised(variables: Mapping[str, Any], workdir: Path) -> Path:
    """Writes `weights_int8.safetensors` of variables and returns its path.

    Raises:
      TrainingError: it cannot be written (full disk).
    """
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for name, leaf in flax.traverse_util.flatten_dict(dict(variables), sep="/").items():
        values = np.asarray(leaf, np.float32)
        if values.ndim >= 2:
            tensors[name], tensors[name + _SCALE] = quantise(values)
        else:
            tensors[name] = values
    path = workdir / QUANTISED
    try:
        with atomic_write(path) as temporary:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, temporary)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def read_quantised(workdir: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as float32 NumPy arrays.

    Args:
      workdir: that has the file.
      like: tree of arrays or shapes that is expected.

    Raises:
      CheckpointError: the file is damaged, or of another model.
    """
    from safetensors.numpy import load_file

    path = workdir / QUANTISED
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors has its own kind for damaged files
        raise CheckpointError(f"{path}: cannot be read ({reason(error)})") from error
    found = {}
    for name, wanted in flax.traverse_util.flatten_dict(dict(like), sep="/").items():
        if name not in tensors or tensors[name].shape != wanted.shape:
            raise CheckpointError(f"{path}: {name} is not there in shape {wanted.shape}")
        values = tensors[name]
        found[name] = values.astype(np.float32) * tensors[name + _SCALE] if values.dtype == np.int8 else values
    return flax.traverse_util.unflatten_dict(found, sep="/")
