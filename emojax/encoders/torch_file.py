"""Reads a `pytorch_model.bin` through PyTorch's restricted unpickler, which runs no code from the file."""

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError, reason


def read_torch(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a PyTorch checkpoint by name, memory-mapped where the file's format allows it.

    Raises:
      CheckpointError: PyTorch is not installed, or the file is truncated, holds something else than tensors, or asks
        for code to be run.
    """
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{file}: reading it needs PyTorch (pip install 'emojax[convert]'); model.safetensors and "
            f"flax_model.msgpack do not"
        ) from error
    try:
        tensors = _load(torch, file)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: refused: it holds more than tensors, or is damaged ({reason(error)})"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{file}: is no PyTorch checkpoint, or truncated ({reason(error)})") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{file}: holds something else than a state dict of tensors")
    return {name: _tensor(torch, tensor) for name, tensor in tensors.items()}


def _load(torch: Any, file: Path) -> Any:
    import zipfile

    # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def _tensor(torch: Any, tensor: Any) -> StoredTensor:
    if tensor.dtype == torch.bfloat16:
        dtype = np.dtype(ml_dtypes.bfloat16)
        return StoredTensor(tuple(tensor.shape), dtype, lambda: tensor.view(torch.uint16).numpy().view(dtype))
    dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
    return StoredTensor(tuple(tensor.shape), dtype, lambda: tensor.detach().numpy())
