"""Reads `model.bin` of CTranslate2: tensors, and the content of `config.json` that follows from them.

Format, little endian: u32 version, string specification, u32 revision, u32 number of variables; per variable its name,
u8 rank, u32 per dimension, u8 type, u32 bytes, data; u32 number of aliases; per alias its name and that of a variable.
A string is u16 length, bytes, and a closing NUL that the length includes.
"""

import dataclasses
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import ml_dtypes
import numpy as np

from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError

CTRANSLATE2_FILE = "model.bin"

_VERSION = 6
"""Version of the format since CTranslate2 3.0, the first with Whisper."""

_TYPES: tuple[Any, ...] = (np.float32, np.int8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16)
"""Type numbers 0 to 5."""

_MAX_AXES = 8
_MAX_VARIABLES = 2**17

_FUSED = {
    "self_attention/linear_0": ("query", "key", "value"),
    "attention/linear_1": ("key", "value"),
}
"""Layers of attention -> the projections whose weights they hold one below another."""


@dataclasses.dataclass(frozen=True)
class CTranslate2Model:
    """Content of a `model.bin`; values are still in the file.

    Attributes:
      specification: name of the model's kind, e.g. `WhisperSpec`.
      tensors: variable -> tensor, in PyTorch's layout. Fused projections are divided: `.../linear_0/query/weight`.
      constants: variables without axes, e.g. `encoder/num_heads`.
    """

    specification: str
    tensors: Mapping[str, StoredTensor]
    constants: Mapping[str, StoredTensor]


def read_ctranslate2(file: Path) -> dict[str, StoredTensor]:
    """Reads the tensors of a `model.bin` by variable name, headers only.

    Raises:
      CheckpointError: as `open_ctranslate2`.
    """
    return dict(open_ctranslate2(file).tensors)


def open_ctranslate2(file: Path) -> CTranslate2Model:
    """Reads names, shapes and types of a `model.bin`; every size is compared with the file's before it is used.

    Raises:
      CheckpointError: the file is truncated, of another version, or no file of CTranslate2.
    """
    try:
        size = os.path.getsize(file)
        with open(file, "rb") as stream:
            return _read(stream, file, size)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file}: cannot be read as a CTranslate2 model ({error})") from error


def ctranslate2_config(file: Path) -> dict[str, Any]:
    """Makes the content of a published `config.json` from a `model.bin`, whose own `config.json` has no sizes.

    Raises:
      CheckpointError: as `open_ctranslate2`; the model is of an unsupported kind; or a variable is absent.
    """
    model = open_ctranslate2(file)
    if model.specification not in _CONFIGS:
        raise CheckpointError(f"{file}: must be a {' or '.join(_CONFIGS)}, got {model.specification[:40]!r}")
    try:
        return _CONFIGS[model.specification](model)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{file}: has no variable {error.args[0]} of the expected shape") from error


def _whisper_config(model: CTranslate2Model) -> dict[str, Any]:
    config: dict[str, Any] = {"model_type": "whisper", "activation_function": "gelu"}
    for part, positions in (("encoder", "max_source_positions"), ("decoder", "max_target_positions")):
        layers = {name.split("/")[1] for name in model.tensors if name.startswith(f"{part}/layer_")} - {"layer_norm"}
        config[f"{part}_layers"] = len(layers)
        config[f"{part}_attention_heads"] = int(model.constants[f"{part}/num_heads"].read())
        config[f"{part}_ffn_dim"] = model.tensors[f"{part}/layer_0/ffn/linear_0/weight"].shape[0]
        config[positions] = model.tensors[f"{part}/position_encodings/encodings"].shape[0]
    config["d_model"], config["num_mel_bins"] = model.tensors["encoder/conv1/weight"].shape[:2]
    config["vocab_size"] = model.tensors["decoder/embeddings/weight"].shape[0]
    return config


_CONFIGS: Mapping[str, Callable[[CTranslate2Model], dict[str, Any]]] = {"WhisperSpec": _whisper_config}
"""Specification -> content of `config.json`."""


@dataclasses.dataclass(frozen=True)
class _Variable:
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    def tensor(self, file: Path) -> StoredTensor:
        def read() -> np.ndarray:
            return np.fromfile(file, self.dtype, math.prod(self.shape), offset=self.offset).reshape(self.shape)

        return StoredTensor(self.shape, self.dtype, read)

    def part(self, index: int, parts: int) -> "_Variable":
        """One of `parts` equal divisions of the first axis."""
        shape = (self.shape[0] // parts, *self.shape[1:])
        return _Variable(shape, self.dtype, self.offset + index * math.prod(shape) * self.dtype.itemsize)


def _read(stream: BinaryIO, file: Path, size: int) -> CTranslate2Model:
    version = _number(stream, "I")
    if version != _VERSION:
        raise ValueError(f"its version must be {_VERSION}, got {version}")
    specification, _ = _string(stream), _number(stream, "I")
    variables: dict[str, _Variable] = {}
    for _ in range(_count(stream)):
        name = _string(stream)
        if name in variables:
            raise ValueError(f"{name} is stored twice")
        variables[name] = _variable(stream, size, name)
    for _ in range(_count(stream)):
        alias, name = _string(stream), _string(stream)
        if alias in variables or name not in variables:
            raise ValueError(f"the alias {alias} of {name} must be a new name of a variable")
        variables[alias] = variables[name]
    if stream.tell() != size:
        raise ValueError(f"{size - stream.tell()} bytes follow its last alias")
    divided = {part: each for name, variable in variables.items() for part, each in _divide(name, variable).items()}
    tensors = {name: variable.tensor(file) for name, variable in divided.items()}
    return CTranslate2Model(
        specification,
        {name: tensor for name, tensor in tensors.items() if tensor.shape},
        {name: tensor for name, tensor in tensors.items() if not tensor.shape},
    )


def _variable(stream: BinaryIO, size: int, name: str) -> _Variable:
    """Reads the header of a variable and moves behind its data."""
    axes = _number(stream, "B")
    if axes > _MAX_AXES:
        raise ValueError(f"{name} must have at most {_MAX_AXES} axes, got {axes}")
    shape = tuple(_number(stream, "I") for _ in range(axes))
    kind, num_bytes, offset = _number(stream, "B"), _number(stream, "I"), stream.tell()
    if kind >= len(_TYPES):
        raise ValueError(f"the type of {name} must be at most {len(_TYPES) - 1}, got {kind}")
    dtype = np.dtype(_TYPES[kind])
    if num_bytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has shape {shape} and type {dtype.name} but {num_bytes} bytes")
    if offset + num_bytes > size:
        raise ValueError(f"truncated: {name} ends at byte {offset + num_bytes}, the file at {size}")
    stream.seek(num_bytes, os.SEEK_CUR)
    return _Variable(shape, dtype, offset)


def _divide(name: str, variable: _Variable) -> dict[str, _Variable]:
    """Divides a fused projection; any other variable keeps its name."""
    layer, _, leaf = name.rpartition("/")
    for fused, parts in _FUSED.items():
        if layer.endswith(f"/{fused}") and variable.shape and variable.shape[0] % len(parts) == 0:
            return {f"{layer}/{part}/{leaf}": variable.part(i, len(parts)) for i, part in enumerate(parts)}
    return {name: variable}


def _count(stream: BinaryIO) -> int:
    count = _number(stream, "I")
    if count > _MAX_VARIABLES:
        raise ValueError(f"it must have at most {_MAX_VARIABLES} variables and aliases, got {count}")
    return count


def _string(stream: BinaryIO) -> str:
    text = _bytes(stream, _number(stream, "H"))
    return text.removesuffix(b"\0").decode()


def _number(stream: BinaryIO, code: Literal["B", "H", "I"]) -> int:
    (value,) = struct.unpack(f"<{code}", _bytes(stream, struct.calcsize(f"<{code}")))
    return int(value)


def _bytes(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise ValueError(f"truncated at byte {stream.tell()}")
    return found
