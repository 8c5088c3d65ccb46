"""8-bit quantisation of weights, and the file that stores them."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
from jaxtyping import Float, Int8

from emojax.errors import CheckpointError, reason
from emojax.files import DIGEST, atomic_write

QUANTISED = "weights_int8.safetensors"
"""File of quantised weights in a workdir without checkpoints."""

_SCALE = ".scale"
_LARGEST = 127


def quantise(values: Float[np.ndarray, "*D C"]) -> tuple[Int8[np.ndarray, "*D C"], Float[np.ndarray, "C"]]:
    """Quantises a matrix symmetrically per output channel; the error is at most half the channel's scale."""
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    scale = np.where(largest > 0, largest / _LARGEST, 1.0).astype(np.float32)
    return np.clip(np.rint(values / scale), -_LARGEST, _LARGEST).astype(np.int8), scale


def write_quantised(variables: Mapping[str, Any], workdir: Path) -> Path:
    """Writes variables to `weights_int8.safetensors` with a digest, and returns its path.

    Matrices of the parameters become integers; vectors and statistics stay float32.

    Raises:
      EmojaxError: the file cannot be written (full disk, no permission).
    """
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    for name, leaf in flax.traverse_util.flatten_dict(dict(variables), sep="/").items():
        values = np.asarray(leaf, np.float32)
        if values.ndim >= 2 and name.startswith("params/"):
            tensors[name], tensors[name + _SCALE] = quantise(values)
        else:
            tensors[name] = values
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    path = workdir / QUANTISED
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {DIGEST: _digest(tensors)})
    return path


def quantised_shapes(workdir: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the arrays by path, without reading them.

    Raises:
      CheckpointError: the file is damaged.
    """
    with _open(workdir / QUANTISED) as file:
        names = [name for name in file.keys() if not name.endswith(_SCALE)]  # noqa: SIM118
        return {name: tuple(file.get_slice(name).get_shape()) for name in names}


def read_quantised(workdir: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads and dequantises variables as float32 NumPy arrays.

    Args:
      workdir: folder of the quantised model.
      like: tree of arrays or shapes with the expected structure.

    Raises:
      CheckpointError: the file is damaged, or of another model.
    """
    path = workdir / QUANTISED
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = (file.metadata() or {}).get(DIGEST)  # absent from the first files
    if digest is not None and digest != _digest(tensors):
        raise CheckpointError(f"{path}: is damaged (SHA-256 does not match)")
    found = {
        name: _values(tensors, name, wanted.shape, path)
        for name, wanted in flax.traverse_util.flatten_dict(dict(like), sep="/").items()
    }
    return flax.traverse_util.unflatten_dict(found, sep="/")


def _values(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """Dequantises an array.

    Raises:
      CheckpointError: the array is missing, has another shape or dtype, or has invalid scales.
    """
    if name not in tensors:
        raise CheckpointError(f"{path}: {name} is missing")
    values = tensors[name]
    if values.shape != shape or values.dtype not in (np.int8, np.float32):
        raise CheckpointError(
            f"{path}: {name} must be int8 or float32 of shape {shape}, got {values.dtype} of shape {values.shape}"
        )
    if values.dtype == np.float32:
        return values
    scale = tensors.get(name + _SCALE)
    if scale is None or scale.dtype != np.float32 or scale.shape != shape[-1:]:
        found = "none" if scale is None else f"{scale.dtype} of shape {scale.shape}"
        raise CheckpointError(f"{path}: {name}{_SCALE} must be float32 of shape {shape[-1:]}, got {found}")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise CheckpointError(f"{path}: {name}{_SCALE} must be finite and > 0 throughout")
    return values.astype(np.float32) * scale


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Computes the SHA-256 of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            yield file
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # damaged; a dtype NumPy does not have
        raise CheckpointError(f"{path}: cannot be read ({reason(error)})") from error
