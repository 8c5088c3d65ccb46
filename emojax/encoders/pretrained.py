"""Loads and saves pre-trained encoders: files <-> configuration, module, parameters, inputs."""

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from safetensors.numpy import save_file

from emojax.encoders.checkpoint_files import find_folder, read_json_config, read_tensors
from emojax.encoders.encoder import Encoder
from emojax.encoders.families import ComputeOptions, Family, family_of, keep_first_layers
from emojax.encoders.parameters import Axes, parameter_axes
from emojax.encoders.tensor_table import check_layers, convert, first_layers, invert, renamed_names
from emojax.encoders.weight_files import StoredTensor
from emojax.files import atomic_write
from emojax.parallel import check_not_forked

_DEFAULT_OPTIONS = ComputeOptions()


def load_encoder(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    revision: str | None = None,
    to_device: Callable[[np.ndarray, Axes], jax.Array] | None = None,
    params: bool = True,
    keep_layers: int = 0,
) -> Encoder:
    """Loads a pre-trained encoder of any family in `emojax.encoders.families`; heads of task checkpoints are skipped.

    Parameters are float32. They are read one tensor at a time; beside them no more than one further copy of the largest
    one exists (and the memory map of a `pytorch_model.bin`).

    Args:
      name_or_path: a folder, or a name on the Hugging Face hub, looked up in the cache when offline.
      options: how the module computes.
      revision: branch, tag or commit on the hub; the main branch if not given.
      to_device: (values, logical axis names) -> array on its device(s), e.g. with a sharding; default: the default
        device.
      params: False for module and inputs without parameters (`{}`); the folder then needs no weights.
      keep_layers: transformer layers to keep, counted from the input; 0: all. A norm after the last layer is kept, and
        follows the last of these.

    Raises:
      CheckpointError: the checkpoint is absent, damaged, of another kind, or does not fit its own `config.json`.
    """
    check_not_forked()
    folder = find_folder(os.fspath(name_or_path), revision)
    config, family = read_config(folder)
    config = dict(keep_first_layers(config, keep_layers, str(folder / "config.json")))
    if not params:
        module: Any = family.build_module(config, frozenset(), options)
        return Encoder(module, {}, config, family.inputs.read(folder, module.config))
    file, stored = read_tensors(folder)
    if keep_layers:
        stored = first_layers(stored, family.tensor_table(config, options.scan_layers), keep_layers)
    module, values = read_parameters(config, stored, options, to_device, label=str(file))
    return Encoder(module, values, config, family.inputs.read(folder, module.config))


def save_encoder(encoder: Encoder, folder: str | os.PathLike[str], *, weights: bool = True) -> None:
    """Writes `model.safetensors`, `config.json` and the files of the inputs.

    `transformers.AutoModel.from_pretrained(folder)` gives the PyTorch model with the same outputs.

    Args:
      encoder: encoder with parameters on any device; they are written as float32.
      folder: created if absent; files of the same names are replaced.
      weights: whether `model.safetensors` is written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    family = family_of(encoder.config)
    if weights:
        table = family.tensor_table(encoder.config, encoder.module.scan_layers)
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in invert(encoder.params, table)}
        with atomic_write(target / "model.safetensors") as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    config = {**encoder.config, "architectures": [family.architecture]}
    # Both spellings of the type of the original tensors.
    config = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    (target / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    encoder.inputs.save(target)


def read_config(folder: Path) -> tuple[dict[str, Any], Family]:
    """Reads the checked content of a checkpoint's `config.json`, and its family.

    Raises:
      CheckpointError: it is absent, damaged, or not supported.
    """
    file = folder / "config.json"
    config = read_json_config(folder)
    return config, family_of(config, str(file))


def read_sizes(folder: Path) -> tuple[Any, Family]:
    """Reads the module config of a checkpoint from its `config.json` alone, and its family.

    Raises:
      CheckpointError: as `read_config`.
    """
    config, family = read_config(folder)
    module: Any = family.build_module(config, frozenset(), _DEFAULT_OPTIONS)
    return module.config, family


def read_parameters(
    config: Mapping[str, Any],
    stored: Mapping[str, StoredTensor],
    options: ComputeOptions,
    to_device: Callable[[np.ndarray, Axes], jax.Array] | None,
    label: str,
) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the module of an encoder and reads its parameters.

    Args:
      config: checked content of `config.json`.
      stored: tensors by published name.
      options: how the module computes.
      to_device: as in `load_encoder`.
      label: name of the tensors' file in error messages.

    Raises:
      CheckpointError: tensors do not fit the configuration. Its size is compared with theirs before anything is built.
    """
    family = family_of(config)
    table = family.tensor_table(config, options.scan_layers)
    names = renamed_names(stored, table)
    module: Any = family.build_module(config, names, options)
    check_layers(names, table, module.config.num_layers, label)
    put = None
    if to_device is not None:
        put = lambda path, array: to_device(array, parameter_axes(path, array.ndim, family.axes))  # noqa: E731
    return module, convert(stored, table, parameter_shapes(module, family), put, label=label)


# Tracing takes longer than reading a small checkpoint, and a run loads it several times.
@functools.lru_cache(maxsize=8)
def parameter_shapes(module: nn.Module, family: Family) -> Mapping[str, Any]:
    """Computes the tree of shapes and dtypes of a module's parameters, without their values."""
    return jax.eval_shape(module.init, jax.random.key(0), *family.inputs.example())["params"]
