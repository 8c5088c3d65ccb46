"""Reads a `pytorch_model.bin` through PyTorch's restricted unpickler, which runs no code from the file."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError, reason

_MAX_SHARING = 4
"""A file's tensors may have so many times the bytes of its storages: tied weights share one, nothing shares many."""

# Types that NumPy lacks: PyTorch's name -> an integer type of the same size, and the type the bits are read as.
_WITHOUT_NUMPY = {
    "bfloat16": ("uint16", ml_dtypes.bfloat16),
    "float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
}


def read_torch(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a PyTorch checkpoint by name, memory-mapped where the file's format allows it.

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
        # PyTorch's own message proposes to switch the restriction off.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        asked = f" (it asks for {named[1]})" if named else ""
        raise CheckpointError(f"{file}: refused: holds more than tensors, or is damaged{asked}") from error
    except CheckpointError:
        raise
    except Exception as error:  # PyTorch raises many kinds for damaged files
        raise CheckpointError(f"{file}: is no PyTorch checkpoint, or truncated ({reason(error)})") from error
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"{file}: must hold a state dict of tensors, found a {type(tensors).__name__}")
    for name, tensor in tensors.items():
        _check(torch, file, name, tensor)
    _check_sharing(file, tensors)
    return {name: _tensor(torch, tensor) for name, tensor in tensors.items()}


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
    """Refuses tensors that are larger than what lies in the file, as strides of 0 make them."""
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > _MAX_SHARING * sum(held.values()):
        raise CheckpointError(f"{file}: its tensors claim {claimed} bytes, it holds {sum(held.values())}")


def _tensor(torch: Any, tensor: Any) -> StoredTensor:
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind in _WITHOUT_NUMPY:
        integers, same_bits = _WITHOUT_NUMPY[kind]
        dtype = np.dtype(same_bits)
        return StoredTensor(
            tuple(tensor.shape), dtype, lambda: tensor.detach().view(getattr(torch, integers)).numpy().view(dtype)
        )
    dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
    return StoredTensor(tuple(tensor.shape), dtype, lambda: tensor.detach().resolve_neg().numpy())
